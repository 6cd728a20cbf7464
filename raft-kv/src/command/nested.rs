//! Reads what a transaction and several queries carry: one level of it, and no more.
//!
//! [`Operation`], [`Outcome`], [`Query`] and [`QueryReply`] name themselves in one of their variants, so their bytes can
//! claim any depth. Here the elements are read by types that take that variant's number for an error: what nests is
//! refused before it takes any of the stack.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Key, Operation, Outcome, Pair, Query, QueryReply, Value};
use crate::codec::{self, Field};

pub(super) fn operations<'de, B: Field<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Operation<B>>, D::Error> {
    elements::<OneOperation<B>, _, _>(deserializer)
}

pub(super) fn outcomes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Outcome>, D::Error> {
    elements::<OneOutcome, _, _>(deserializer)
}

pub(super) fn queries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Query>, D::Error> {
    elements::<OneQuery, _, _>(deserializer)
}

pub(super) fn replies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<QueryReply>, D::Error> {
    elements::<OneReply, _, _>(deserializer)
}

/// Every variant of [`Operation`], in its order.
#[derive(Deserialize)]
#[serde(remote = "Operation", bound(deserialize = "B: Field<'de>"))]
enum FlatOperation<B> {
    Put {
        key: Key<B>,
        value: Value<B>,
    },
    Delete {
        key: Key<B>,
    },
    CompareAndSwap {
        key: Key<B>,
        expected: Value<B>,
        new: Value<B>,
    },
    Transaction {
        #[serde(deserialize_with = "refuse")]
        operations: Vec<Operation<B>>,
    },
    Add {
        key: Key<B>,
        amount: i64,
    },
}

/// Every variant of [`Outcome`], in its order.
#[derive(Deserialize)]
#[serde(remote = "Outcome")]
enum FlatOutcome {
    Success,
    Deleted {
        existed: bool,
    },
    Swapped,
    NotSwapped {
        actual: Option<Value>,
    },
    Transaction {
        committed: bool,
        #[serde(deserialize_with = "refuse")]
        outcomes: Vec<Outcome>,
    },
    Added {
        sum: i64,
    },
    NotAdded,
}

/// Every variant of [`Query`], in its order.
#[derive(Deserialize)]
#[serde(remote = "Query")]
enum FlatQuery {
    Get {
        #[serde(deserialize_with = "codec::bytes")]
        key: Bytes,
    },
    Scan {
        #[serde(deserialize_with = "codec::optional_bytes")]
        prefix: Option<Bytes>,
        #[serde(deserialize_with = "codec::optional_bytes")]
        after: Option<Bytes>,
        limit: u32,
    },
    Size,
    Written {
        #[serde(deserialize_with = "codec::bytes")]
        key: Bytes,
    },
    Several {
        #[serde(deserialize_with = "refuse")]
        queries: Vec<Query>,
    },
}

/// Every variant of [`QueryReply`], in its order.
#[derive(Deserialize)]
#[serde(remote = "QueryReply")]
enum FlatReply {
    Value {
        value: Option<Value>,
    },
    Page {
        pairs: Vec<Pair>,
        more: bool,
    },
    Size {
        keys: u64,
        sessions: u64,
    },
    Written {
        height: Option<u64>,
    },
    Malformed {
        what: Cow<'static, str>,
    },
    Several {
        #[serde(deserialize_with = "refuse")]
        replies: Vec<QueryReply>,
    },
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "B: Field<'de>"))]
struct OneOperation<B>(#[serde(with = "FlatOperation")] Operation<B>);

#[derive(Deserialize)]
struct OneOutcome(#[serde(with = "FlatOutcome")] Outcome);

#[derive(Deserialize)]
struct OneQuery(#[serde(with = "FlatQuery")] Query);

#[derive(Deserialize)]
struct OneReply(#[serde(with = "FlatReply")] QueryReply);

impl<B> From<OneOperation<B>> for Operation<B> {
    fn from(one: OneOperation<B>) -> Self {
        one.0
    }
}

impl From<OneOutcome> for Outcome {
    fn from(one: OneOutcome) -> Self {
        one.0
    }
}

impl From<OneQuery> for Query {
    fn from(one: OneQuery) -> Self {
        one.0
    }
}

impl From<OneReply> for QueryReply {
    fn from(one: OneReply) -> Self {
        one.0
    }
}

/// Reads nothing.
fn refuse<'de, T, D: Deserializer<'de>>(_: D) -> Result<Vec<T>, D::Error> {
    Err(D::Error::custom("one that nests in another of its kind"))
}

fn elements<'de, E, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    E: Deserialize<'de> + Into<T>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Elements::<E, T>(PhantomData))
}

struct Elements<E, T>(PhantomData<(E, T)>);

impl<'de, E: Deserialize<'de> + Into<T>, T> Visitor<'de> for Elements<E, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("elements of which none nests")
    }

    /// Reserves nothing by the length that the bytes claim.
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element::<E>()? {
            elements.push(element.into());
        }
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::command::RequestId;

    fn key() -> Key {
        Key { canonical: Bytes::from("k"), literal: None }
    }

    fn write(operation: Operation) -> Command {
        let request = RequestId { client: 1, session: 1, number: 1 };
        Command::Write { request, acknowledged: 0, operation }
    }

    #[test]
    fn every_element_is_read_as_it_is_alone() {
        let value = Value(Bytes::from("v"));
        let operations = vec![
            Operation::Put { key: key(), value: value.clone() },
            Operation::Delete { key: key() },
            Operation::CompareAndSwap { key: key(), expected: value.clone(), new: value.clone() },
            Operation::Add { key: key(), amount: -3 },
        ];
        let command = write(Operation::Transaction { operations });
        assert_eq!(Command::decode(&command.encode()), Ok(command));
        let scan = Query::Scan { prefix: None, after: Some(Bytes::from("a")), limit: 2 };
        let queries =
            vec![Query::Get { key: Bytes::from("k") }, scan, Query::Size, Query::Written { key: Bytes::new() }];
        let query = Query::Several { queries };
        assert_eq!(Query::decode(&query.encode()), Ok(query));
        let replies = vec![
            QueryReply::Value { value: Some(value.clone()) },
            QueryReply::Page { pairs: vec![Pair { key: key(), value }], more: true },
            QueryReply::Size { keys: 1, sessions: 2 },
            QueryReply::Written { height: None },
            QueryReply::Malformed { what: "what".into() },
        ];
        let reply = QueryReply::Several { replies };
        assert_eq!(QueryReply::decode(&reply.encode()), Ok(reply));
    }

    #[test]
    fn what_nests_is_refused() {
        let transaction =
            Operation::Transaction { operations: vec![Operation::Transaction { operations: Vec::new() }] };
        assert!(Command::decode(&write(transaction).encode()).is_err());
        let query = Query::Several { queries: vec![Query::Several { queries: vec![Query::Size] }] };
        assert!(Query::decode(&query.encode()).is_err());
        let reply = QueryReply::Several { replies: vec![QueryReply::Several { replies: Vec::new() }] };
        assert!(QueryReply::decode(&reply.encode()).is_err());
    }
}
