//! What a server keeps: the trait, its contract numbered, and [`MemStorage`] for tests and examples.
//!
//! A [`Node`](crate::Node) reads; a [`Replica`](crate::Replica), or your own loop, writes. The `Node` keeps in memory
//! every entry that is not durable and applied, so a storage is read only to start (the entries that it held then are
//! applied from it) and for followers that lag.
//!
//! # Contract
//!
//! 1. Writes begin in the order of their ids, each continuing the state that the ones before it leave. One that does
//!    not is refused with [`StorageError::OutOfOrder`] and changes nothing.
//! 2. [`persisted`](Storage::persisted) names the last write such that it and all before it survive a crash. It never
//!    falls, and never names a write whose bytes could still be lost.
//! 3. After a crash the storage holds some prefix of the writes begun, at least up to the last one reported.
//! 4. A read answers for every index that is durable and not removed by a write that has begun. It answers with what
//!    was written or with an error, never with a default: an index below the log is `Compacted` (only the snapshot's
//!    own index still has a term and a digest), one above it is `OutOfRange`, wrong bytes are `Damaged`.
//! 5. Once a write or a sync has failed, every later write fails with [`StorageError::Poisoned`]. A failed sync is
//!    never tried again: the kernel may have dropped the pages and report success.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{Action, HardState, Write, WriteOp};
use crate::error::StorageError;
use crate::event::Event;
use crate::quorum::Configuration;
use crate::types::{Digest, Entry, Incarnation, LogIndex, Payload, Term, WriteId};

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

    /// Index of the last entry; the snapshot's index where there is none.
    fn last_index(&self) -> LogIndex;

    /// Term of the entry at `index`; the snapshot's at the snapshot's index.
    ///
    /// # Errors
    /// Contract 4.
    fn term(&self, index: LogIndex) -> Result<Term, StorageError>;

    /// Chain digest of the entry at `index`; `None` where this storage does not link.
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

    /// The membership entries of the log, oldest first. Provided: reads the whole log; a storage that knows better
    /// should say so.
    ///
    /// # Errors
    /// Contract 4, or bytes that are no configuration.
    fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        /// A read, in bytes.
        const READ: usize = 1 << 20;
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

/// What a log follows: a snapshot's name, without its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that it covers; 0 for the genesis.
    pub last_included_index: LogIndex,
    /// That entry's term.
    pub last_included_term: Term,
    /// That entry's chain digest, where the storage links: the anchor of the chain that follows.
    pub digest: Option<Digest>,
    /// The configuration exactly there.
    pub configuration: Configuration,
}

impl SnapshotMeta {
    /// The beginning of a cluster of these members.
    #[must_use]
    pub const fn genesis(configuration: Configuration) -> Self {
        Self { last_included_index: LogIndex(0), last_included_term: Term(0), digest: None, configuration }
    }
}

/// A storage in memory: durable as soon as written, gone with the process.
#[derive(Clone, Debug)]
pub struct MemStorage {
    hard_state: HardState,
    meta: SnapshotMeta,
    entries: Vec<Entry>,
    digests: Vec<Digest>,
    persisted: WriteId,
    incarnation: Incarnation,
}

impl MemStorage {
    /// A new storage for a cluster founded with this configuration.
    #[must_use]
    pub const fn new(configuration: Configuration) -> Self {
        Self {
            hard_state: HardState { current_term: Term(0), voted_for: None },
            meta: SnapshotMeta::genesis(configuration),
            entries: Vec::new(),
            digests: Vec::new(),
            persisted: WriteId(0),
            incarnation: Incarnation::UNKNOWN,
        }
    }

    /// The same storage, known by this incarnation: a number that no other storage has.
    #[must_use]
    pub fn with_incarnation(self, incarnation: Incarnation) -> Self {
        Self { incarnation, ..self }
    }

    /// A storage that holds this hard state and these entries, as after an earlier life.
    ///
    /// # Errors
    /// The entries do not run from index 1 on with terms that never fall and never pass the hard state's.
    pub fn with_log(
        configuration: Configuration,
        hard_state: HardState,
        entries: Vec<Entry>,
    ) -> Result<Self, StorageError> {
        let mut storage = Self { hard_state, ..Self::new(configuration) };
        if entries.last().is_some_and(|entry| entry.term > hard_state.current_term) {
            return Err(StorageError::OutOfOrder { what: format!("terms up to {}", hard_state.current_term) });
        }
        storage.append(&entries, None)?;
        Ok(storage)
    }

    /// The same storage in the server's next life: write ids begin anew.
    #[must_use]
    pub fn reopen(self) -> Self {
        Self { persisted: WriteId(0), ..self }
    }

    fn append(&mut self, entries: &[Entry], digests: Option<Arc<[Digest]>>) -> Result<(), StorageError> {
        let mut last_index = self.last_index();
        let mut last_term = self.term(last_index)?;
        for entry in entries {
            if entry.index != last_index.next() || entry.term < last_term {
                let what = format!("entry {} of term {last_term} or above", last_index.next());
                return Err(StorageError::OutOfOrder { what });
            }
            (last_index, last_term) = (entry.index, entry.term);
        }
        self.entries.extend_from_slice(entries);
        self.digests.extend(digests.iter().flat_map(|digests| digests.iter()));
        Ok(())
    }

    /// Place of `index` in `entries`; only for an index that the log holds.
    fn position(&self, index: LogIndex) -> Result<usize, StorageError> {
        let first = self.meta.last_included_index.next();
        if index < first {
            return Err(StorageError::Compacted { index, first });
        }
        if index > self.last_index() {
            return Err(StorageError::OutOfRange { index, last: self.last_index() });
        }
        usize::try_from(index.0.saturating_sub(first.0))
            .map_err(|_| StorageError::OutOfRange { index, last: self.last_index() })
    }
}

impl Storage for MemStorage {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        Ok(self.hard_state)
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(self.meta.clone())
    }

    fn last_index(&self) -> LogIndex {
        self.entries.last().map_or(self.meta.last_included_index, |entry| entry.index)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.meta.last_included_index {
            return Ok(self.meta.last_included_term);
        }
        let at = self.position(index)?;
        self.entries.get(at).map(|entry| entry.term).ok_or(out_of_range(index, self))
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        if index == self.meta.last_included_index {
            return Ok(self.meta.digest);
        }
        let at = self.position(index)?;
        Ok(self.digests.get(at).copied())
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        if first > last {
            return Ok(Vec::new());
        }
        let (from, to) = (self.position(first)?, self.position(last)?);
        let mut bytes = 0_usize;
        let mut entries = Vec::new();
        for entry in self.entries.get(from..=to).unwrap_or_default() {
            entries.push(entry.clone());
            bytes = bytes.saturating_add(entry.cost());
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(entries)
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        if write.id != self.persisted.next() {
            return Err(StorageError::OutOfOrder { what: format!("write {}", self.persisted.next().0) });
        }
        match write.op {
            WriteOp::HardState(hard_state) => self.hard_state = hard_state,
            WriteOp::Truncate(from) => {
                let keep = self.position(from).map_err(|error| StorageError::OutOfOrder { what: error.to_string() })?;
                self.entries.truncate(keep);
                self.digests.truncate(keep);
            }
            WriteOp::Append { entries, digests } => self.append(&entries, digests)?,
        }
        self.persisted = write.id;
        Ok(())
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(self.persisted)
    }
}

fn out_of_range(index: LogIndex, storage: &MemStorage) -> StorageError {
    StorageError::OutOfRange { index, last: storage.last_index() }
}
