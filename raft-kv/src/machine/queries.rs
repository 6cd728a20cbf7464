//! What the machine answers to each query.

use super::{KvMachine, count};
use crate::command::{QUERIES_MAX, Query, QueryReply, SCAN_BYTES_MAX};

impl KvMachine {
    /// What the state as it is says to it.
    pub(super) fn answer(&self, query: Query) -> QueryReply {
        match query {
            Query::Get { key } => QueryReply::Value { value: self.value(&key).cloned() },
            Query::Scan { prefix, after, limit } => {
                self.store.scan(&prefix.unwrap_or_default(), after.as_deref(), limit)
            }
            Query::Written { key } => {
                QueryReply::Written { height: self.store.pairs.get(&key).map(|stored| stored.written.0) }
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
