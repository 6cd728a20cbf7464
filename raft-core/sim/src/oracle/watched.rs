//! A storage and a state machine that tell the oracle what they do.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use raft_core::{
    Action, Configuration, Digest, Entry, Event, HardState, Incarnation, LogIndex, Position, RestoreError,
    SnapshotMeta, StateMachine, Storage, StorageError, Term, Write, WriteId,
};

use super::Applied;
use super::tap::{STRIDE, Tap};

/// A storage that the [`Oracle`](super::Oracle) watches.
#[derive(Debug)]
pub struct Watched<S> {
    inner: S,
    tap: Rc<RefCell<Tap>>,
}

/// A state machine that the [`Oracle`](super::Oracle) watches.
#[derive(Debug)]
pub struct WatchedMachine<M> {
    inner: M,
    tap: Rc<RefCell<Tap>>,
    /// Which [`STRIDE`] entries the last applied command is of; unknown after a restore.
    stride: Option<u64>,
}

impl<S> Watched<S> {
    pub(super) const fn new(inner: S, tap: Rc<RefCell<Tap>>) -> Self {
        Self { inner, tap }
    }

    /// The storage itself.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The storage itself, for its own care: what is written through this the oracle does not see.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl<M> WatchedMachine<M> {
    pub(super) const fn new(inner: M, tap: Rc<RefCell<Tap>>) -> Self {
        Self { inner, tap, stride: Some(0) }
    }

    /// The machine itself.
    pub const fn inner(&self) -> &M {
        &self.inner
    }
}

impl<S: Storage> Storage for Watched<S> {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        self.inner.hard_state()
    }

    fn incarnation(&self) -> Incarnation {
        self.inner.incarnation()
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        self.inner.snapshot_meta()
    }

    fn first_index(&self) -> LogIndex {
        self.inner.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.inner.last_index()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        self.inner.snapshot_chunk(index, offset, max_bytes)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.inner.term(index)
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        self.inner.digest(index)
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        self.inner.entries(first, last, max_bytes)
    }

    fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        self.inner.configurations()
    }

    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        self.inner.link(prev, entry)
    }

    fn step_begins(&mut self, event: &Event) {
        self.tap.borrow_mut().state.takes(event);
        self.inner.step_begins(event);
    }

    fn step_ends(&mut self, actions: &[Action]) {
        self.tap.borrow_mut().gave(actions);
        self.inner.step_ends(actions);
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        self.tap.borrow_mut().begins(&write, self.inner.has_room());
        self.inner.write(write)
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        let durable = self.inner.persisted()?;
        self.tap.borrow_mut().persisted(durable);
        Ok(durable)
    }

    fn has_room(&self) -> bool {
        self.inner.has_room()
    }

    fn has_room_for_snapshot(&self, bytes: u64) -> bool {
        self.inner.has_room_for_snapshot(bytes)
    }
}

impl<M: StateMachine> StateMachine for WatchedMachine<M> {
    fn apply(&mut self, at: &Position, command: &[u8]) -> Bytes {
        let stride = at.index.0 / STRIDE;
        if self.stride.is_some_and(|before| before != stride) {
            self.tap.borrow_mut().news.states.push((stride, self.inner.digest()));
        }
        self.stride = Some(stride);
        let reply = self.inner.apply(at, command);
        let command = Bytes::copy_from_slice(command);
        self.tap.borrow_mut().applied(Applied { position: *at, command, reply: reply.clone() });
        reply
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.inner.query(query)
    }

    fn snapshot(&self) -> Vec<u8> {
        self.inner.snapshot()
    }

    fn begin_snapshot(&mut self) -> Bytes {
        self.inner.begin_snapshot()
    }

    fn snapshot_piece(&mut self, bytes: usize) -> Option<Bytes> {
        self.inner.snapshot_piece(bytes)
    }

    /// An altered state is not handed on, though the machine cannot tell.
    fn snapshot_digest(&self) -> Option<Digest> {
        let told = self.inner.snapshot_digest();
        told.or_else(|| self.tap.borrow().state.is_altered.then(|| self.inner.digest()))
    }

    fn end_snapshot(&mut self) {
        self.inner.end_snapshot();
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.inner.restore(snapshot)?;
        self.stride = None;
        self.tap.borrow_mut().state.is_altered = false;
        Ok(())
    }

    fn digest(&self) -> Digest {
        let (Digest(mut digest), tap) = (self.inner.digest(), self.tap.borrow());
        if tap.state.is_altered {
            digest.iter_mut().zip(tap.server.0.to_le_bytes()).for_each(|(byte, flipped)| *byte ^= flipped);
        }
        Digest(digest)
    }
}
