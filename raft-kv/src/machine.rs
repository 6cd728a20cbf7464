//! The key-value machine: what every replica makes of the log.
//!
//! The store is an ordered map from canonical keys to values, with the manners of a Python dict: a key that is written
//! again keeps the literal by which it was first written. With each value stands the height of the block that wrote it,
//! which is the one to prove. Beside it stand the sessions, by which every write is applied once. Both together are the
//! state: a snapshot carries both, and the digest covers both.

use bytes::Bytes;
use raft_core::{Digest, Position, RestoreError, StateMachine};

use crate::codec;
use crate::command::{Command, OUTSTANDING_MAX, Operation, Pair, Query, QueryReply, Reply, RequestId, Value};
use crate::session::{Admission, Session, SessionLimits, Sessions};

mod canonical;
mod frozen;
mod queries;
mod snapshot;
mod store;
mod sum;

use frozen::Frozen;
use snapshot::{FORMAT, Header, Shape, parse};
use store::{Store, Stored};

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

/// When the values of these bytes are equal, for [`Operation::CompareAndSwap`]. A function of the two alone, the same on
/// every server.
pub type SameValue = fn(&[u8], &[u8]) -> bool;

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
        self.store.pairs.iter().map(store::pair)
    }

    /// The bytes of the value under the key with these canonical bytes.
    #[must_use]
    pub fn value(&self, canonical: &[u8]) -> Option<&[u8]> {
        self.store.get(canonical).map(Stored::value)
    }

    /// The open sessions with their names, in the order they were opened.
    pub fn sessions(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.sessions.iter()
    }

    fn write(&mut self, at: &Position, request: &RequestId, acknowledged: u64, operation: Operation<&[u8]>) -> Bytes {
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
        match codec::decode::<Command<&[u8]>>(command) {
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
    /// however many there are, and a little for each session that was used of late.
    fn digest(&self) -> Digest {
        self.shape().digest(&self.sessions.sum(), &self.store.sum)
    }
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
