//! What a server keeps: the trait, its contract numbered, and [`MemStorage`] for tests and examples.
//!
//! A [`Node`](crate::Node) reads; a [`Replica`](crate::Replica), or your own loop, writes. The `Node` keeps in memory
//! every entry that is not durable and applied, so a storage is read only to start (the entries that it held then are
//! applied from it) and for followers that lag.
//!
//! ```text
//!   removed ──┬──── the log ─────────────────────────────────┐
//!             │                                              │
//!        first_index ≤ last_included_index + 1          last_index
//!             └── the tail ──┘ covered by the snapshot as well, and kept for followers that lag a little
//! ```
//!
//! # Contract
//!
//! 1. Writes begin in the order of their ids, each continuing the state that the ones before it leave. One that does
//!    not is refused with [`StorageError::OutOfOrder`] and changes nothing.
//! 2. [`persisted`](Storage::persisted) names the last write such that it and all before it survive a crash. It never
//!    falls, and never names a write whose bytes could still be lost.
//! 3. After a crash the storage holds some prefix of the writes begun, at least up to the last one reported.
//! 4. A read answers for every index that is durable and not removed by a write that has begun. It answers with what
//!    was written or with an error, never with a default: an index below the log is `Compacted` (only the one
//!    directly before `first_index` still has a term and a digest), one above it is `OutOfRange`, wrong bytes are
//!    `Damaged`. The same holds of a snapshot and its chunks.
//! 5. Once a write or a sync has failed, every later write fails with [`StorageError::Poisoned`]. A failed sync is
//!    never tried again: the kernel may have dropped the pages and report success.
//! 6. A snapshot arrives in chunks, each of which continues the one before it, where that was not its last, or begins
//!    another snapshot at offset 0, beyond the installed one; and it is nothing but bytes until it is installed, which
//!    only one that is all there can be. What was received of it is removed where it is given up. Installing is one
//!    write, and so done or not done after a crash: the snapshot replaces the one before, and the entries that it names
//!    are removed. Chunks that were not installed may be gone after a crash (fault S3).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::action::{Action, HardState, Write};
use crate::error::StorageError;
use crate::event::Event;
use crate::quorum::Configuration;
use crate::types::{Digest, Entry, Incarnation, LogIndex, Payload, Term, WriteId};

mod mem;

pub use mem::MemStorage;

/// Where a server keeps its hard state and its log.
pub trait Storage {
    /// Term and vote as last written; term 0 and no vote in a new storage.
    ///
    /// # Errors
    /// The storage cannot be read.
    fn hard_state(&self) -> Result<HardState, StorageError>;

    /// Which disk this is: drawn at random when the storage was made, and the same in every later life of it, so that a
    /// server that comes back with an empty disk is not taken for the one that voted (fault M10). Provided: unknown, and
    /// nothing is checked.
    fn incarnation(&self) -> Incarnation {
        Incarnation::UNKNOWN
    }

    /// What the log follows: the last snapshot, or the genesis (index 0, term 0, the founding configuration).
    ///
    /// # Errors
    /// The storage cannot be read.
    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError>;

    /// Index of the first entry of the log, or of the one that would be: at most the snapshot's index plus one.
    fn first_index(&self) -> LogIndex;

    /// Index of the last entry; the one before `first_index` where there is none, and never below the snapshot's.
    fn last_index(&self) -> LogIndex;

    /// The state that the snapshot at `index` holds, from byte `offset` on: exactly `max_bytes`, fewer only at its end.
    /// That snapshot is the installed one, or the one that is being received.
    ///
    /// # Errors
    /// [`NoSnapshot`](StorageError::NoSnapshot) where this storage has none at `index` or no such offset; contract 4.
    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError>;

    /// Term of the entry at `index`, from the one before `first_index` on.
    ///
    /// # Errors
    /// Contract 4.
    fn term(&self, index: LogIndex) -> Result<Term, StorageError>;

    /// Chain digest of the entry at `index`, from the one before `first_index` on; `None` where this storage does not
    /// link.
    ///
    /// # Errors
    /// Contract 4.
    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError>;

    /// The entries from `first` to `last`, both included, cut after the one that brings their summed
    /// [`cost`](Entry::cost) to `max_bytes` or more: at least one, unless `first > last`.
    ///
    /// # Errors
    /// Contract 4.
    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError>;

    /// The membership entries after the snapshot, oldest first. Provided: reads all of the log there; a storage that knows better
    /// should say so.
    ///
    /// # Errors
    /// Contract 4, or bytes that are no configuration.
    fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        /// A read, in bytes.
        const READ: usize = 1_048_576;
        let last = self.last_index();
        let mut next = self.snapshot_meta()?.last_included_index.next();
        let mut found = Vec::new();
        while next <= last {
            let entries = self.entries(next, last, READ)?;
            let Some(end) = entries.last() else { return Err(StorageError::OutOfRange { index: next, last }) };
            next = end.index.next();
            for entry in &entries {
                if let Payload::Configuration(bytes) = &entry.payload {
                    let damaged = || StorageError::Damaged {
                        place: format!("entry {}", entry.index),
                        what: String::from("it holds no configuration"),
                    };
                    found.push((entry.index, Configuration::from_bytes(bytes).ok_or_else(damaged)?));
                }
            }
        }
        Ok(found)
    }

    /// The chain digest of `entry` after an entry with digest `prev`. `None`, always, where this storage does not
    /// link; where it does, every `AppendEntries` is checked against it.
    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        let _ = (prev, entry);
        None
    }

    /// Whether there is room for more commands. Where there is none, it still takes terms, votes and memberships, and what
    /// is under way, from room that it has kept for them (fault D6). A [`Replica`](crate::Replica) asks. Provided: always.
    fn has_room(&self) -> bool {
        true
    }

    /// Whether a snapshot, or a chunk of one, of so many bytes finds room. Provided: always.
    fn has_room_for_snapshot(&self, bytes: u64) -> bool {
        let _ = bytes;
        true
    }

    /// The server stops, and begins no write any more: what is durable is marked as that, where the storage could not tell
    /// its last write from one that a crash tore. Nothing is promised of it. Provided: does nothing.
    fn seal(&mut self) {}

    /// A step of the node over this storage begins: what it reads until [`step_ends`](Self::step_ends) is all that the
    /// step depends on beside its event and the steps before. Does nothing, at no cost, unless a storage that wraps
    /// another and records says otherwise.
    fn step_begins(&mut self, event: &Event) {
        let _ = event;
    }

    /// The step that began last has ended, and gave these actions.
    fn step_ends(&mut self, actions: &[Action]) {
        let _ = actions;
    }

    /// Begins a write. It may be durable on return or later.
    ///
    /// # Errors
    /// Contracts 1 and 5.
    fn write(&mut self, write: Write) -> Result<(), StorageError>;

    /// The last write that is durable with all before it; `WriteId(0)` before the first. Does not wait.
    ///
    /// # Errors
    /// A write failed since: the storage is poisoned (contract 5).
    fn persisted(&mut self) -> Result<WriteId, StorageError>;
}

/// What a snapshot is of: its name, without its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that it covers; 0 for the genesis.
    pub last_included_index: LogIndex,
    /// That entry's term.
    pub last_included_term: Term,
    /// That entry's chain digest, where the storage links: the anchor of the chain that follows.
    pub digest: Option<Digest>,
    /// The configuration exactly there (faults M8, M9).
    pub configuration: Configuration,
    /// [`StateMachine::digest`](crate::StateMachine::digest) of the state, by which whoever restores it checks it (fault
    /// S5); `None` for the genesis, which has no state.
    pub state: Option<Digest>,
}

/// A whole snapshot in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it is of.
    pub meta: SnapshotMeta,
    /// The state machine's bytes.
    pub state: Bytes,
}

/// A part of a snapshot, as it travels and as it is written (§7, Figure 13: `InstallSnapshot`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// Whose part it is: chunks of two snapshots are never mixed (fault S4).
    pub meta: SnapshotMeta,
    /// Where `data` begins in the state, in bytes.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Whether this is the last chunk.
    pub done: bool,
}

impl SnapshotMeta {
    /// The beginning of a cluster of these members.
    #[must_use]
    pub const fn genesis(configuration: Configuration) -> Self {
        Self { last_included_index: LogIndex(0), last_included_term: Term(0), digest: None, configuration, state: None }
    }
}
