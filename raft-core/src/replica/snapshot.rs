//! Snapshots of the state machine: taken here, restored at the start, and received from a leader (§7).

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
use crate::storage::{Snapshot, SnapshotMeta, Storage};
use crate::transport::Transport;
use crate::types::LogIndex;

impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    /// Writes the state machine down as it is now and compacts the log to the tail that [`Config`](crate::Config)
    /// keeps. A notice tells what comes of it.
    pub fn take_snapshot(&mut self) {
        self.applied_bytes = 0;
        match self.node.describe_snapshot(self.machine.digest()) {
            Ok(meta) => {
                let state: Bytes = self.machine.snapshot().into();
                if !self.node.storage().has_room_for_snapshot(length_of(state.len())) {
                    // Tried again when half as much again was applied.
                    self.applied_bytes = self.limits.snapshot_every_bytes.unwrap_or(0) / 2;
                    self.notice(Action::SnapshotRefused(Refusal::DiskFull));
                    return;
                }
                self.handle(Event::SnapshotTaken(Snapshot { meta, state }.into()));
            }
            Err(error) => self.handle(Event::WriteFailed(error)),
        }
    }

    /// Whether enough was applied since the last one, here and where the limits ask for it, and no follower is getting
    /// that one.
    pub(super) fn is_snapshot_due(&self) -> bool {
        let every = self.limits.snapshot_every_bytes;
        !self.is_halted()
            && !self.node.is_sending_snapshot()
            && every.is_some_and(|every| self.applied_bytes >= every.max(1))
    }

    /// The state machine becomes what a leader's snapshot holds, where that is a snapshot of it.
    pub(super) fn restore(&mut self, meta: &SnapshotMeta) {
        let index = meta.last_included_index;
        let event = match restore(self.node.storage(), meta, &mut self.machine) {
            Ok(()) => {
                // Nobody waits for what it skips: who proposed it here was answered when another led (fault S7).
                self.applied_bytes = 0;
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
