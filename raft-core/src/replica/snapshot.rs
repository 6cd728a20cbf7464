//! Snapshots of the state machine: taken here, restored at the start, and received from a leader (§7).
//!
//! One that is taken is written down piece by piece, while the machine goes on: what a piece costs the loop, and the writes of
//! the log behind it, does not depend on how large the state is.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Replica;
use super::room::length_of;
use crate::action::Action;
use crate::error::{Refusal, StartError, StorageError};
use crate::event::Event;
use crate::state_machine::{RestoreError, StateMachine};
use crate::storage::{SnapshotChunk, SnapshotMeta, Storage};
use crate::transport::Transport;
use crate::types::{LogIndex, WriteId};

/// A piece of a snapshot that is taken has no more than this, where a chunk that is sent may have more: clients wait for a
/// piece (twice, as a rule: for its making and for its write), and nobody waits for the whole.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// A snapshot that is being written down, a piece at a time.
#[derive(Debug)]
pub(super) struct Taking {
    meta: SnapshotMeta,
    /// Where `rest` begins in the state, in bytes.
    offset: u64,
    /// What the state machine gave and is not written.
    rest: Bytes,
    /// Durable where the last piece is.
    write: WriteId,
    /// Whether a tick has passed since.
    pub(super) is_paced: bool,
    /// The state machine has given nothing yet when it was asked last.
    is_resting: bool,
}

impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    /// Begins to write the state machine down as it is now, and to compact the log to the tail that
    /// [`Config`](crate::Config) keeps. A notice tells what comes of it, at once where the state fits into one piece: else
    /// one is written with each tick, in later [`poll`](Self::poll)s.
    pub fn take_snapshot(&mut self) {
        if self.taking.is_some() {
            self.notice(Action::SnapshotRefused(Refusal::SnapshotInProgress));
            return;
        }
        self.applied_bytes = 0;
        match self.node.describe_snapshot(self.machine.digest()) {
            Ok(meta) => {
                let rest = self.machine.begin_snapshot();
                self.taking =
                    Some(Taking { meta, offset: 0, rest, write: WriteId(0), is_paced: true, is_resting: false });
                self.write_piece();
            }
            Err(error) => self.handle(Event::WriteFailed(error)),
        }
    }

    /// Whether enough was applied since the last one was begun, here and where the limits ask for it, and no follower is
    /// getting that one.
    pub(super) fn is_snapshot_due(&self) -> bool {
        !self.is_halted() && self.taking.is_none() && !self.node.is_sending_snapshot() && self.is_log_long()
    }

    fn is_log_long(&self) -> bool {
        self.limits.snapshot_every_bytes.is_some_and(|every| self.applied_bytes >= every.max(1))
    }

    /// Whether the last piece is durable, and a tick has passed since. Where the log has grown by as much as the next
    /// snapshot waits for, that is not waited for, unless the state machine rests: the log must not grow faster than a snapshot
    /// is written.
    pub(super) fn is_piece_due(&self) -> bool {
        let Some(taking) = self.taking.as_ref().filter(|taking| taking.write <= self.durable) else { return false };
        mark!(TakingHurried, !taking.is_paced && self.is_log_long());
        taking.is_paced || (!taking.is_resting && self.is_log_long())
    }

    /// Writes the next piece down.
    pub(super) fn write_piece(&mut self) {
        let Some(taking) = &mut self.taking else { return };
        let bytes = self.node.max_chunk_bytes().min(PIECE_BYTES_MAX);
        (taking.is_paced, taking.is_resting) = (false, false);
        // One byte more than the piece, so as to know whether it is the last.
        while taking.rest.len() <= bytes {
            let Some(more) = self.machine.snapshot_piece(bytes) else {
                if self.machine.snapshot_digest().is_some_and(|state| Some(state) != taking.meta.state) {
                    let index = taking.meta.last_included_index;
                    self.end_snapshot();
                    self.handle(Event::StateRotted(index));
                    return;
                }
                break;
            };
            if more.is_empty() {
                taking.is_resting = true;
                return;
            }
            taking.rest = if taking.rest.is_empty() { more } else { [&taking.rest[..], &more].concat().into() };
        }
        let data = taking.rest.split_to(taking.rest.len().min(bytes));
        if !self.node.storage().has_room_for_snapshot(length_of(data.len())) {
            // Tried again when half as much again was applied.
            self.applied_bytes = self.limits.snapshot_every_bytes.unwrap_or(0) / 2;
            self.handle(Event::SnapshotOutgrows);
            return;
        }
        let (meta, offset, done) = (taking.meta.clone(), taking.offset, taking.rest.is_empty());
        taking.offset = offset.saturating_add(length_of(data.len()));
        self.handle(Event::SnapshotPiece(SnapshotChunk { meta, offset, data, done }.into()));
        if let Some(taking) = &mut self.taking {
            taking.write = self.begun;
        }
    }

    /// It is installed, or will not be.
    pub(super) fn end_snapshot(&mut self) {
        if self.taking.take().is_some() {
            self.machine.end_snapshot();
        }
    }

    /// The state machine becomes what a leader's snapshot holds, where that is a snapshot of it.
    pub(super) fn restore(&mut self, meta: &SnapshotMeta) {
        let index = meta.last_included_index;
        let event = match restore(self.node.storage(), meta, &mut self.machine) {
            Ok(()) => {
                // Nobody waits for what it skips: who proposed it here was answered when another led (fault S7).
                self.applied_bytes = 0;
                self.digests.restored();
                Event::Restored(index)
            }
            Err(RestoreFault::Refused(_)) => Event::RestoreFailed(index),
            Err(RestoreFault::Failed(error)) => Event::WriteFailed(error),
        };
        self.events.push_back(event);
    }
}

/// The machine becomes what the storage's snapshot holds; nothing where there is none.
pub(super) fn restore_installed<M: StateMachine>(storage: &impl Storage, machine: &mut M) -> Result<(), StartError> {
    let meta = storage.snapshot_meta()?;
    let index = meta.last_included_index;
    if index == LogIndex(0) {
        return Ok(());
    }
    restore(storage, &meta, machine).map_err(|fault| match fault {
        RestoreFault::Refused(error) => StartError::Snapshot { index, error },
        RestoreFault::Failed(error) => error.into(),
    })
}

enum RestoreFault {
    /// The machine is what it was.
    Refused(RestoreError),
    /// The machine may be another now.
    Failed(StorageError),
}

fn restore<M: StateMachine>(storage: &impl Storage, meta: &SnapshotMeta, machine: &mut M) -> Result<(), RestoreFault> {
    let index = meta.last_included_index;
    let state = read_all(storage, index).map_err(RestoreFault::Failed)?;
    machine.restore(&state).map_err(RestoreFault::Refused)?;
    // A snapshot that is labelled with another index than its data's, or damaged where its format does not tell (S5).
    if meta.state == Some(machine.digest()) {
        return Ok(());
    }
    let what = String::from("the state's digest is not the one that the snapshot names");
    Err(RestoreFault::Failed(StorageError::Damaged { place: format!("the snapshot of entry {index}"), what }))
}

fn read_all(storage: &impl Storage, index: LogIndex) -> Result<Vec<u8>, StorageError> {
    /// A read, in bytes.
    const READ: usize = 1_048_576;
    let mut state = Vec::new();
    loop {
        let chunk = storage.snapshot_chunk(index, u64::try_from(state.len()).unwrap_or(u64::MAX), READ)?;
        state.extend_from_slice(&chunk);
        if chunk.len() < READ {
            return Ok(state);
        }
    }
}
