//! What clients put in the log, what they ask, and what they are told.
//!
//! A [`Command`] is replicated and applied; its answer is a [`Reply`]. A [`Query`] is answered from the state and
//! leaves no trace; its answer is a [`QueryReply`]. All four travel as bytes: see their `encode` and `decode`.
//!
//! What a command is made of holds its bytes itself, or borrows them from the log, which is how the machine reads it.

mod limits;
mod nested;
mod number;
mod shown;

use std::borrow::Cow;

use bytes::Bytes;
use raft_core::Digest;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Field};
use crate::literal::Literal;

/// The name of a value. Two keys are one where their canonical bytes are equal, whatever their literals.
///
/// For keys that are Python literals: equal Python keys (`1`, `1.0`, `True`) have equal canonical bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Field<'de>"))]
pub struct Key<B = Bytes> {
    /// What the store compares and orders by.
    #[serde(deserialize_with = "codec::bytes")]
    pub canonical: B,
    /// The key as it was written, encoded, for display. `None` where the canonical bytes are as good.
    #[serde(deserialize_with = "codec::optional_bytes")]
    pub literal: Option<B>,
}

/// What is stored: bytes that the store never looks into, other than to compare them for
/// [`Operation::CompareAndSwap`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent, bound(deserialize = "B: Field<'de>"))]
pub struct Value<B = Bytes>(#[serde(deserialize_with = "codec::bytes")] pub B);

/// A key and what is stored under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The key, with the literal by which it was first written.
    pub key: Key,
    /// Its value.
    pub value: Value,
}

/// What goes into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Field<'de>"))]
pub enum Command<B = Bytes> {
    /// Opens a session: [`Reply::SessionOpened`]. Every copy that is applied opens one more; a client that sends it
    /// again uses whichever it hears of, and the others expire.
    OpenSession {
        /// Who opens it. Several sessions of one client are independent.
        client: u64,
    },
    /// Changes the store, once, however often it is applied: [`Reply::Done`].
    Write {
        /// Its name: a retry carries the same.
        request: RequestId,
        /// The client's promise that no request of this session up to this number matters any more: it has the
        /// reply, or gave the request up. Those replies are forgotten, and what still comes of those requests is
        /// not applied. Less than `request.number`, by [`OUTSTANDING_MAX`] at most.
        acknowledged: u64,
        /// What to do.
        operation: Operation<B>,
    },
}

/// Names one write of one client, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The client.
    pub client: u64,
    /// Its session, as [`Reply::SessionOpened`] named it.
    pub session: u64,
    /// Counts from 1 in the session.
    pub number: u64,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Field<'de>"))]
pub enum Operation<B = Bytes> {
    /// Stores `value` under `key`: [`Outcome::Success`]. A key that is there keeps its literal, as in a Python dict.
    Put {
        /// Where.
        key: Key<B>,
        /// What.
        value: Value<B>,
    },
    /// Removes `key` and its value: [`Outcome::Deleted`].
    Delete {
        /// What to remove.
        key: Key<B>,
    },
    /// Stores `new` where `key` is there with a value equal to `expected`: [`Outcome::Swapped`], or else
    /// [`Outcome::NotSwapped`].
    CompareAndSwap {
        /// Where.
        key: Key<B>,
        /// The value that must be there.
        expected: Value<B>,
        /// What to store.
        new: Value<B>,
    },
    /// Does all of these in their order, each on what those before it left, or nothing at all: nothing where a
    /// [`CompareAndSwap`](Self::CompareAndSwap) among them does not swap. [`Outcome::Transaction`].
    Transaction {
        /// At most [`TRANSACTION_OPERATIONS_MAX`], of [`TRANSACTION_BYTES_MAX`] together, none of them a transaction.
        #[serde(deserialize_with = "nested::operations")]
        operations: Vec<Self>,
    },
    /// Adds to the number under `key`, which is 0 where the key is not there: [`Outcome::Added`], or else
    /// [`Outcome::NotAdded`].
    ///
    /// For values that are Python literals. A number is an int, or a str or bytes that spell one as Python prints it, of 64
    /// bits with its sign; it stays what it is, and a new one is bytes.
    Add {
        /// Where.
        key: Key<B>,
        /// What to add.
        amount: i64,
    },
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The session is open; its first write is number 1.
    SessionOpened {
        /// Its name: never used before, nor again.
        session: u64,
    },
    /// The write was applied, now or by an earlier copy: the answer is the same, byte for byte.
    Done {
        /// What came of it.
        outcome: Outcome,
        /// The block that it is in.
        height: u64,
        /// The hash of that block, where blocks have one.
        #[serde(with = "codec::digest")]
        hash: Option<Digest>,
    },
    /// There is no such session of this client: it expired, or never was. This copy was not applied; an earlier one
    /// may have been. Open another session.
    SessionExpired,
    /// This copy was not applied, and no later one will be. An earlier one may have been: the reply is no longer kept,
    /// because the client has acknowledged it, or because the session's replies together were too large.
    Stale,
    /// The command makes no sense. Nothing was changed, and no copy of it will change anything.
    Malformed {
        /// What is wrong with it.
        what: Cow<'static, str>,
    },
}

/// What came of an [`Operation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The value is stored.
    Success,
    /// The key is not there.
    Deleted {
        /// It was.
        existed: bool,
    },
    /// The value was as expected: the new one is stored.
    Swapped,
    /// The value was another: nothing was changed.
    NotSwapped {
        /// The value that is there; `None` where the key is not.
        actual: Option<Value>,
    },
    /// The transaction was done, or nothing of it.
    Transaction {
        /// All of it was done.
        committed: bool,
        /// What came of each operation. Where nothing was done, what would have come of each, up to the one that did
        /// not swap: the last of these.
        #[serde(deserialize_with = "nested::outcomes")]
        outcomes: Vec<Self>,
    },
    /// The sum is stored.
    Added {
        /// The number that is there now.
        sum: i64,
    },
    /// The value is no number, or the sum would be none: nothing was changed.
    NotAdded,
}

/// A question about the store. Keys are given by their canonical bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The value under `key`: [`QueryReply::Value`].
    Get {
        /// Canonical bytes.
        #[serde(deserialize_with = "codec::bytes")]
        key: Bytes,
    },
    /// Pairs in the order of their canonical keys: [`QueryReply::Page`].
    Scan {
        /// Only keys whose canonical bytes begin with these.
        #[serde(deserialize_with = "codec::optional_bytes")]
        prefix: Option<Bytes>,
        /// Only keys behind this one: the last of the page before.
        #[serde(deserialize_with = "codec::optional_bytes")]
        after: Option<Bytes>,
        /// At most so many pairs; 0 counts as 1, and more than [`SCAN_PAIRS_MAX`] as that.
        limit: u32,
    },
    /// How much there is: [`QueryReply::Size`].
    Size,
    /// Which block wrote `key` last: [`QueryReply::Written`].
    Written {
        /// Canonical bytes.
        #[serde(deserialize_with = "codec::bytes")]
        key: Bytes,
    },
    /// All of these about one state: [`QueryReply::Several`].
    Several {
        /// At most [`QUERIES_MAX`], none of them several.
        #[serde(deserialize_with = "nested::queries")]
        queries: Vec<Self>,
    },
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueryReply {
    /// Answers [`Query::Get`]: `None` where the key is not there.
    Value {
        /// What is stored.
        value: Option<Value>,
    },
    /// Answers [`Query::Scan`].
    Page {
        /// At most [`SCAN_BYTES_MAX`] of keys, literals and values, unless the first pair alone has more.
        pairs: Vec<Pair>,
        /// There are more pairs behind the last of these; never true of an empty page.
        more: bool,
    },
    /// Answers [`Query::Size`].
    Size {
        /// Keys in the store.
        keys: u64,
        /// Open sessions.
        sessions: u64,
    },
    /// Answers [`Query::Written`]: `None` where the key is not there.
    Written {
        /// The height of the block.
        height: Option<u64>,
    },
    /// The query makes no sense.
    Malformed {
        /// What is wrong with it.
        what: Cow<'static, str>,
    },
    /// Answers [`Query::Several`], in their order: all of them, or as many from the first on as stay within
    /// [`SCAN_BYTES_MAX`] together, but one at least.
    Several {
        /// One a query.
        #[serde(deserialize_with = "nested::replies")]
        replies: Vec<Self>,
    },
}

/// How far a write's number may be ahead of what it acknowledges: 256. So no session keeps more replies than these.
pub const OUTSTANDING_MAX: u64 = 256;

/// The most bytes in a key's canonical form, and in its literal: 64 KiB each.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// The most bytes in a value: 1 MiB. To compare two literals takes about a hundred times as much memory, for a moment.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// The most operations in a transaction: 128.
pub const TRANSACTION_OPERATIONS_MAX: usize = 128;

/// The most bytes in the keys, literals and values of a transaction together: 2 MiB.
pub const TRANSACTION_BYTES_MAX: usize = 2 << 20;

/// The most queries in [`Query::Several`]: 1024.
pub const QUERIES_MAX: usize = 1024;

/// The most pairs in one page of a scan: 4096.
pub const SCAN_PAIRS_MAX: u32 = 4096;

/// The most bytes in a page of a scan that has more than one pair: 1 MiB.
pub const SCAN_BYTES_MAX: usize = 1 << 20;

/// `encode` and `decode` of a type that travels.
macro_rules! travels {
    ($($name:ident),+) => {$(
        impl $name {
            /// The bytes that it travels as.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                codec::encode(self)
            }

            /// What [`encode`](Self::encode) gave.
            ///
            /// # Errors
            /// The bytes are no encoding of one, or are followed by others.
            pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
                codec::decode(bytes)
            }
        }
    )+};
}

travels!(Command, Reply, Query, QueryReply);

impl Key {
    /// What to show of it: its literal, or its canonical bytes where it has none.
    #[must_use]
    pub fn shown(&self) -> &Bytes {
        self.literal.as_ref().unwrap_or(&self.canonical)
    }

    /// The key that the literal of these bytes is.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { canonical: Literal::key_of_bytes(bytes).into(), literal: Some(Literal::encode_bytes(bytes).into()) }
    }
}

impl From<&Literal> for Key {
    fn from(literal: &Literal) -> Self {
        Self { canonical: literal.key().into(), literal: Some(literal.encode().into()) }
    }
}

impl Value {
    /// The value that the literal of these bytes is.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Literal::encode_bytes(bytes).into())
    }

    /// Whether the values of these bytes are equal as Python says: both are literals and those are `==`. Others are equal
    /// where their bytes are.
    #[must_use]
    pub fn same_literal(one: &[u8], other: &[u8]) -> bool {
        one == other
            || match (Literal::decode(one), Literal::decode(other)) {
                (Ok(a), Ok(b)) => a.key() == b.key(),
                _ => false,
            }
    }
}

impl From<&Literal> for Value {
    fn from(literal: &Literal) -> Self {
        Self(literal.encode().into())
    }
}

impl Pair {
    /// What it counts for in [`SCAN_BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        let literal = self.key.literal.as_ref().map_or(0, Bytes::len);
        self.key.canonical.len().saturating_add(literal).saturating_add(self.value.0.len())
    }
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Value<B> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}
