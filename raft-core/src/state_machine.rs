//! What is replicated: the one trait a newcomer implements.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::types::{Digest, LogIndex, Term};

/// A deterministic machine: equal commands in equal order give equal states and equal replies on every server (§2).
///
/// # Contract
///
/// 1. `apply` depends on the state, `at` and `command` alone: no clock, no entropy, no iteration over a randomly
///    ordered map.
/// 2. `apply` never fails: a command that makes no sense gets a reply that says so.
/// 3. `query` changes nothing.
/// 4. `restore(snapshot())` gives an equal state: replaced, never merged. Equal states have equal digests.
/// 5. What `begin_snapshot` and then `snapshot_piece` give until there is no more is, put together, what `snapshot` gave
///    at the beginning, whatever was applied in between. Another beginning, `end_snapshot` and `restore` end it.
pub trait StateMachine {
    /// Applies a committed command and returns what its client is told.
    fn apply(&mut self, at: &Position, command: &[u8]) -> Bytes;

    /// Answers a question about the state.
    fn query(&self, query: &[u8]) -> Bytes;

    /// The whole state as bytes.
    fn snapshot(&self) -> Vec<u8>;

    /// Begins a snapshot of the state as it is now, and gives its first bytes. Provided: all of them at once, so that the
    /// caller stands still while they are made; a machine with a large state gives few here, and holds on to what it is.
    fn begin_snapshot(&mut self) -> Bytes {
        self.snapshot().into()
    }

    /// The next bytes of the snapshot that was begun: about so many, rather than all, as there may be many more; none where
    /// it took long enough to look for them, and the next ones are rather asked for later; `None` once there are no more,
    /// however often it is asked. Provided: there are no more.
    fn snapshot_piece(&mut self, bytes: usize) -> Option<Bytes> {
        let _ = bytes;
        None
    }

    /// The digest of the state that the pieces give, as they were written down: to be asked once there are no more. Where it
    /// is not what [`digest`](Self::digest) was at the beginning, the state has changed by itself, and the caller halts rather
    /// than hand it on. Provided: this machine cannot tell.
    fn snapshot_digest(&self) -> Option<Digest> {
        None
    }

    /// The snapshot that was begun is done or given up: nothing needs to be held on to for it. Provided: nothing is.
    fn end_snapshot(&mut self) {}

    /// Replaces the state by one that `snapshot` gave.
    ///
    /// # Errors
    /// The bytes are no snapshot of this machine; the state is then what it was before.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;

    /// A digest of the state: replicas that have applied the same entries have equal ones. Asked for once in so many entries
    /// ([`Limits::state_digest_every`](crate::Limits)) and with every snapshot, so it should not take long.
    ///
    /// It is the same in all versions of a program that replay one log: the log holds digests that others have had, and who
    /// has another one halts. So what it is made of does not change with how a snapshot is written down, nor otherwise.
    fn digest(&self) -> Digest;
}

/// Where a command stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of its entry: the height of its block.
    pub index: LogIndex,
    /// Term of its entry.
    pub term: Term,
    /// Its place among the commands of that entry, from 0.
    pub number: u32,
    /// Chain digest of its entry, where the storage links.
    pub digest: Option<Digest>,
}

/// The bytes given to [`StateMachine::restore`] are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot of this state machine: {what}")]
pub struct RestoreError {
    /// What is wrong with them.
    pub what: alloc::string::String,
}
