//! What the machine answers to each query.

use bytes::Bytes;
use serde::Serialize;

use super::store::owned_value;
use super::{KvMachine, count};
use crate::codec;
use crate::command::{QUERIES_MAX, Query, QueryReply, SCAN_BYTES_MAX};

impl KvMachine {
    /// What the state as it is says to it.
    pub(super) fn answer(&self, query: Query) -> QueryReply {
        match query {
            Query::Get { key } => QueryReply::Value { value: self.store.get(&key).map(owned_value) },
            Query::Scan { prefix, after, limit } => {
                self.store.scan(&prefix.unwrap_or_default(), after.as_deref(), limit)
            }
            Query::Written { key } => {
                QueryReply::Written { height: self.store.get(&key).map(|stored| stored.written.0) }
            }
            Query::Size => QueryReply::Size { keys: count(self.len()), sessions: count(self.sessions.len()) },
            Query::Several { queries } if queries.len() > QUERIES_MAX => {
                QueryReply::Malformed { what: "too many queries: there may be 1024".into() }
            }
            Query::Several { queries } => self.answer_several(queries),
        }
    }

    fn answer_several(&self, queries: Vec<Query>) -> QueryReply {
        let (mut replies, mut bytes) = (Vec::new(), 0_usize);
        for query in queries {
            let reply = self.answer(query);
            bytes = bytes.saturating_add(reply.bytes());
            if !replies.is_empty() && bytes > SCAN_BYTES_MAX {
                break;
            }
            replies.push(reply);
        }
        QueryReply::Several { replies }
    }
}

/// [`QueryReply::Value`], encoded, with no other copy of the value.
pub(super) fn encoded_value(value: Option<&[u8]>) -> Bytes {
    /// The first variant of [`QueryReply`].
    #[derive(Serialize)]
    enum Borrowed<'a> {
        Value { value: Option<&'a serde_bytes::Bytes> },
    }
    codec::encode(&Borrowed::Value { value: value.map(serde_bytes::Bytes::new) }).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Value;

    #[test]
    fn a_value_is_encoded_as_the_reply_that_has_it() {
        for value in [None, Some(Value(Bytes::new())), Some(Value(vec![7; 300].into()))] {
            assert_eq!(encoded_value(value.as_ref().map(Value::as_ref)), QueryReply::Value { value }.encode());
        }
    }
}
