//! The key-value machine: what every replica makes of the log.
//!
//! The store is an ordered map from canonical keys to values, with the manners of a Python dict: a key that is written
//! again keeps the literal by which it was first written. With each value stands the height of the block that wrote it,
//! which is the one to prove. Beside it stand the sessions, by which every write is applied once. Both together are the
//! state: a snapshot carries both, and the digest covers both.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use raft_core::{Digest, LogIndex, Position, RestoreError, StateMachine};

use crate::codec;
use crate::command::{
    Command, Key, OUTSTANDING_MAX, Operation, Outcome, Pair, Query, QueryReply, Reply, RequestId, SCAN_BYTES_MAX,
    SCAN_PAIRS_MAX, Value,
};
use crate::session::{Admission, Session, SessionLimits, Sessions};

mod frozen;
mod queries;
mod snapshot;
mod sum;

use frozen::Frozen;
use snapshot::{FORMAT, Header, Shape, parse};
use sum::PairSum;

/// A key-value store with sessions, as a replicated state machine.
///
/// It is written by encoded [`Command`]s and asked by encoded [`Query`]s:
///
/// ```
/// use bytes::Bytes;
/// use raft_core::{LogIndex, Position, StateMachine, Term};
/// use raft_kv::{Command, Key, KvMachine, Operation, Outcome, Query, QueryReply, Reply, RequestId, Value};
///
/// let mut machine = KvMachine::default();
/// let at = |index| Position { index: LogIndex(index), term: Term(1), number: 0, digest: None };
///
/// let reply = machine.apply(&at(1), &Command::OpenSession { client: 7001 }.encode());
/// let Reply::SessionOpened { session } = Reply::decode(&reply)? else { panic!() };
///
/// let key = Key { canonical: Bytes::from("k"), literal: None };
/// let value = Value(Bytes::from("v"));
/// let write = Command::Write {
///     request: RequestId { client: 7001, session, number: 1 },
///     acknowledged: 0,
///     operation: Operation::Put { key, value: value.clone() },
/// };
/// let first = machine.apply(&at(2), &write.encode());
/// let retried = machine.apply(&at(3), &write.encode());
/// assert_eq!(Reply::decode(&first)?, Reply::Done { outcome: Outcome::Success, height: 2, hash: None });
/// assert_eq!(first, retried);
///
/// let answer = machine.query(&Query::Get { key: Bytes::from("k") }.encode());
/// assert_eq!(QueryReply::decode(&answer)?, QueryReply::Value { value: Some(value) });
/// # Ok::<(), raft_kv::CodecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KvMachine {
    store: Store,
    sessions: Sessions,
    same: SameValue,
}

/// When two values are equal, for [`Operation::CompareAndSwap`]. A function of the two alone, the same on every server.
pub type SameValue = fn(&Value, &Value) -> bool;

impl KvMachine {
    /// An empty store without sessions. Both arguments must be the same on every server: the limits decide who expires,
    /// `same` who swaps.
    #[must_use]
    pub fn new(limits: SessionLimits, same: SameValue) -> Self {
        Self { store: Store::default(), sessions: Sessions::new(limits), same }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.pairs.len()
    }

    /// There are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.pairs.is_empty()
    }

    /// All keys and values, in the order of the canonical keys.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.store.pairs.iter().map(pair)
    }

    /// The value under the key with these canonical bytes.
    #[must_use]
    pub fn value(&self, canonical: &[u8]) -> Option<&Value> {
        self.store.pairs.get(canonical).map(|stored| &stored.value)
    }

    /// The open sessions with their names, in the order they were opened.
    pub fn sessions(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.sessions.iter()
    }

    fn write(&mut self, at: &Position, request: &RequestId, acknowledged: u64, operation: Operation) -> Bytes {
        // Nothing but the command itself decides here, so that all its copies are refused alike.
        match request.number.checked_sub(acknowledged) {
            None | Some(0) => return malformed("the number is acknowledged already, or 0"),
            Some(ahead) if ahead > OUTSTANDING_MAX => return malformed("the number is too far ahead"),
            Some(_) => {}
        }
        if let Some(what) = operation.excess() {
            return malformed(what);
        }
        match self.sessions.admit(at, request, acknowledged) {
            Admission::Fresh(fresh) => {
                let outcome = self.store.perform(operation, at.index, self.same);
                let reply = Reply::Done { outcome, height: at.index.0, hash: at.digest };
                let reply = Bytes::from(reply.encode());
                fresh.record(&reply);
                reply
            }
            Admission::Answered(reply) => reply,
            Admission::Stale => Reply::Stale.encode().into(),
            Admission::Expired => Reply::SessionExpired.encode().into(),
        }
    }

    fn shape(&self) -> Shape {
        Shape {
            limits: self.sessions.limits(),
            opened: self.sessions.opened(),
            sessions: if raft_core::bug!(SessionsNotInSnapshot) { 0 } else { count(self.sessions.len()) },
            pairs: count(self.len()),
        }
    }

    /// What a snapshot begins with.
    fn header(&self) -> Vec<u8> {
        codec::encode(&Header { format: FORMAT, shape: self.shape() })
    }

    /// The state as it is now. Equal states are written down alike: everything is in order, and nothing depends on how
    /// the state came about.
    fn frozen(&self) -> Frozen {
        Frozen::new(self.shape(), self.sessions.shared().filter(|_| !raft_core::bug!(SessionsNotInSnapshot)))
    }
}

impl Default for KvMachine {
    /// The default limits, and values that are equal where Python says so.
    fn default() -> Self {
        Self::new(SessionLimits::default(), Value::same_literal)
    }
}

impl StateMachine for KvMachine {
    fn apply(&mut self, at: &Position, command: &[u8]) -> Bytes {
        match Command::decode(command) {
            Ok(Command::OpenSession { client }) => {
                Reply::SessionOpened { session: self.sessions.open(at, client) }.encode().into()
            }
            Ok(Command::Write { request, acknowledged, operation }) => {
                self.write(at, &request, acknowledged, operation)
            }
            // The decoder's words are left out: they may be others on the next version.
            Err(_) => malformed("no command"),
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let reply = match Query::decode(query) {
            Ok(Query::Get { key }) => return queries::encoded_value(self.value(&key)),
            Ok(query) => self.answer(query),
            Err(_) => QueryReply::Malformed { what: "no query".into() },
        };
        reply.encode().into()
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut snapshot = self.header();
        self.frozen().write(&self.store.pairs, usize::MAX, &mut snapshot);
        snapshot
    }

    fn begin_snapshot(&mut self) -> Bytes {
        self.store.frozen = Some(self.frozen());
        self.header().into()
    }

    fn snapshot_piece(&mut self, bytes: usize) -> Option<Bytes> {
        let frozen = self.store.frozen.as_mut().filter(|frozen| !frozen.is_written())?;
        let mut piece = Vec::new();
        frozen.write(&self.store.pairs, bytes.max(1), &mut piece);
        Some(piece.into())
    }

    fn snapshot_digest(&self) -> Option<Digest> {
        self.store.frozen.as_ref().map(Frozen::digest)
    }

    fn end_snapshot(&mut self) {
        self.store.frozen = None;
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let (store, sessions) = parse(snapshot).map_err(|what| RestoreError { what })?;
        raft_core::mark!(StateRestored);
        let before = std::mem::replace(&mut self.store, store);
        if raft_core::bug!(RestoreMerges) {
            for (key, stored) in before.pairs {
                if !self.store.pairs.contains_key(&key) {
                    self.store.insert(key, stored);
                }
            }
        }
        self.sessions = sessions;
        Ok(())
    }

    /// SHA-256 of the header without its format, of the sum of the sessions and of the sum of the pairs: it costs the same
    /// however many there are.
    fn digest(&self) -> Digest {
        self.shape().digest(&self.sessions.sum(), &self.store.sum)
    }
}

/// Canonical keys and what is under them.
#[derive(Clone, Debug, Default)]
struct Store {
    pairs: BTreeMap<Bytes, Stored>,
    /// Invariant: the sum of `pairs`.
    sum: PairSum,
    /// For a snapshot that was begun and has not ended.
    frozen: Option<Frozen>,
}

#[derive(Clone, Debug)]
struct Stored {
    literal: Option<Bytes>,
    value: Value,
    /// The block that wrote it last.
    written: LogIndex,
}

impl Store {
    /// Does what the block at this height asks for.
    fn perform(&mut self, operation: Operation, at: LogIndex, same: SameValue) -> Outcome {
        if let (Some(frozen), Some(Key { canonical, .. })) = (&mut self.frozen, operation.key()) {
            frozen.keep(canonical, self.pairs.get(canonical));
        }
        match operation {
            Operation::Put { key, value } => {
                self.put(key, value, at);
                Outcome::Success
            }
            Operation::Delete { key } if raft_core::bug!(DeleteKeepsKey) => {
                Outcome::Deleted { existed: self.pairs.contains_key(&key.canonical) }
            }
            Operation::Delete { key } => Outcome::Deleted { existed: self.remove(&key.canonical) },
            Operation::CompareAndSwap { key, expected, new } => match self.pairs.get_mut(&key.canonical) {
                Some(stored) if same(&stored.value, &expected) || raft_core::bug!(SwapIgnoresExpected) => {
                    self.sum.change(&key.canonical, stored, new, at);
                    Outcome::Swapped
                }
                Some(stored) => {
                    raft_core::mark!(SwapRefused);
                    Outcome::NotSwapped { actual: Some(stored.value.clone()) }
                }
                None => Outcome::NotSwapped { actual: None },
            },
            Operation::Transaction { operations } => self.transact(operations, at, same),
            Operation::Add { key, amount } => {
                let stored = self.pairs.get(&key.canonical);
                let Some((sum, value)) = Value::plus(stored.map(|stored| &stored.value), amount) else {
                    return Outcome::NotAdded;
                };
                self.put(key, value, at);
                Outcome::Added { sum }
            }
        }
    }

    fn put(&mut self, Key { canonical, literal }: Key, value: Value, at: LogIndex) {
        if let Some(stored) = self.pairs.get_mut(&canonical) {
            self.sum.change(&canonical, stored, value, at);
        } else {
            self.insert(canonical, Stored { literal, value, written: at });
        }
    }

    fn transact(&mut self, operations: Vec<Operation>, at: LogIndex, same: SameValue) -> Outcome {
        let mut outcomes = Vec::with_capacity(operations.len());
        let mut before: Vec<(Bytes, Option<Stored>)> = Vec::with_capacity(operations.len());
        for operation in operations {
            if let Some(key) = operation.key() {
                before.push((key.canonical.clone(), self.pairs.get(&key.canonical).cloned()));
            }
            outcomes.push(self.perform(operation, at, same));
            if let Some(Outcome::NotSwapped { .. }) = outcomes.last() {
                self.put_back(before);
                return Outcome::Transaction { committed: false, outcomes };
            }
        }
        Outcome::Transaction { committed: true, outcomes }
    }

    /// Undoes what was done since these were there: the last first, for a key may stand in several of them.
    fn put_back(&mut self, before: Vec<(Bytes, Option<Stored>)>) {
        for (canonical, stored) in before.into_iter().rev() {
            match stored {
                Some(stored) => self.insert(canonical, stored),
                None => _ = self.remove(&canonical),
            }
        }
    }

    /// In place of what is there.
    fn insert(&mut self, canonical: Bytes, stored: Stored) {
        self.sum.add(&canonical, &stored);
        if let Some(before) = self.pairs.insert(canonical.clone(), stored) {
            self.sum.take(&canonical, &before);
        }
    }

    /// Whether there was something.
    fn remove(&mut self, canonical: &Bytes) -> bool {
        let removed = self.pairs.remove(canonical);
        if let Some(stored) = &removed {
            self.sum.take(canonical, stored);
        }
        removed.is_some()
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> QueryReply {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self.pairs.range::<[u8], _>((start, Bound::Unbounded)).map(pair);
        let pairs_max = usize::try_from(limit.clamp(1, SCAN_PAIRS_MAX)).unwrap_or(usize::MAX);
        let mut pairs = Vec::new();
        let mut bytes = 0_usize;
        let more = loop {
            let Some(pair) = found.next().filter(|pair| pair.key.canonical.starts_with(prefix)) else {
                break false;
            };
            bytes = bytes.saturating_add(pair.bytes());
            if !pairs.is_empty() && (pairs.len() >= pairs_max || bytes > SCAN_BYTES_MAX) {
                break true;
            }
            pairs.push(pair);
        };
        QueryReply::Page { pairs, more }
    }
}

fn pair((canonical, stored): (&Bytes, &Stored)) -> Pair {
    Pair { key: Key { canonical: canonical.clone(), literal: stored.literal.clone() }, value: stored.value.clone() }
}

fn malformed(what: &'static str) -> Bytes {
    Reply::Malformed { what: what.into() }.encode().into()
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
