//! A storage in memory, for tests and examples.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Snapshot, SnapshotChunk, SnapshotMeta, Storage};
use crate::action::{HardState, Write, WriteOp};
use crate::error::StorageError;
use crate::quorum::Configuration;
use crate::types::{Digest, Entry, Incarnation, LogIndex, Term, WriteId};

/// A storage in memory: durable as soon as written, gone with the process.
#[derive(Clone, Debug)]
pub struct MemStorage {
    hard_state: HardState,
    snapshot: Snapshot,
    /// The entry before the first: its index, term and digest.
    before: (LogIndex, Term, Option<Digest>),
    entries: Vec<(Entry, Option<Digest>)>,
    /// The snapshot that is being received, and whether that is all of it.
    receiving: Option<(SnapshotMeta, Vec<u8>, bool)>,
    persisted: WriteId,
    incarnation: Incarnation,
}

impl MemStorage {
    /// A new storage for a cluster founded with this configuration.
    #[must_use]
    pub const fn new(configuration: Configuration) -> Self {
        let snapshot = Snapshot { meta: SnapshotMeta::genesis(configuration), state: Bytes::new() };
        Self {
            hard_state: HardState { current_term: Term(0), voted_for: None },
            snapshot,
            before: (LogIndex(0), Term(0), None),
            entries: Vec::new(),
            receiving: None,
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

    /// A storage that holds this hard state and this snapshot, and no entry after it.
    ///
    /// # Errors
    /// The snapshot's term passes the hard state's.
    pub fn with_snapshot(hard_state: HardState, snapshot: Snapshot) -> Result<Self, StorageError> {
        if snapshot.meta.last_included_term > hard_state.current_term {
            return Err(StorageError::OutOfOrder { what: format!("terms up to {}", hard_state.current_term) });
        }
        let SnapshotMeta { last_included_index, last_included_term, digest, .. } = snapshot.meta;
        let genesis = Self::new(Configuration::new([]));
        Ok(Self { hard_state, snapshot, before: (last_included_index, last_included_term, digest), ..genesis })
    }

    /// The same storage in the server's next life: write ids begin anew, and a snapshot that was being received is gone.
    #[must_use]
    pub fn reopen(self) -> Self {
        Self { persisted: WriteId(0), receiving: None, ..self }
    }

    fn append(&mut self, entries: &[Entry], digests: Option<Arc<[Digest]>>) -> Result<(), StorageError> {
        let mut last_index = self.last_index();
        let mut last_term = self.term(last_index)?;
        for entry in entries {
            if entry.index != last_index.next() || entry.term < last_term {
                return out_of_order(format!("entry {} of term {last_term} or above", last_index.next()));
            }
            (last_index, last_term) = (entry.index, entry.term);
        }
        let digests = digests.iter().flat_map(|digests| digests.iter().copied().map(Some));
        self.entries.extend(entries.iter().cloned().zip(digests.chain(core::iter::repeat(None))));
        Ok(())
    }

    fn receive(&mut self, chunk: SnapshotChunk) -> Result<(), StorageError> {
        let SnapshotChunk { meta, offset, data, done } = chunk;
        if meta.last_included_index <= self.snapshot.meta.last_included_index {
            return out_of_order(format!("a snapshot beyond {}", self.snapshot.meta.last_included_index));
        }
        if offset == 0 {
            self.receiving = Some((meta, data.to_vec(), done));
            return Ok(());
        }
        match &mut self.receiving {
            Some((current, state, all @ false)) if *current == meta && u64::try_from(state.len()) == Ok(offset) => {
                state.extend_from_slice(&data);
                *all = done;
                Ok(())
            }
            _ => out_of_order(String::from("a chunk at offset 0, or one that continues the last")),
        }
    }

    fn install(&mut self, index: LogIndex, keep_from: Option<LogIndex>) -> Result<(), StorageError> {
        let Some((meta, _, true)) = self.receiving.as_ref().filter(|(meta, ..)| meta.last_included_index == index)
        else {
            return out_of_order(String::from("the snapshot that was received"));
        };
        let named = (index, meta.last_included_term, meta.digest);
        if let Some(first) = keep_from {
            let holds = self.term(index) == Ok(meta.last_included_term) && self.digest(index) == Ok(meta.digest);
            if !holds || first < self.first_index() || first > index.next() {
                return out_of_order(format!("entries kept from {} to {}", self.first_index(), index.next()));
            }
            let before = first.prev();
            self.before = (before, self.term(before)?, self.digest(before)?);
            self.entries.retain(|(entry, _)| entry.index >= first);
        } else {
            self.before = named;
            self.entries.clear();
        }
        if let Some((meta, state, _)) = self.receiving.take() {
            self.snapshot = Snapshot { meta, state: state.into() };
        }
        Ok(())
    }

    fn entry(&self, index: LogIndex) -> Result<&(Entry, Option<Digest>), StorageError> {
        let at = self.position(index)?;
        self.entries.get(at).ok_or(StorageError::OutOfRange { index, last: self.last_index() })
    }

    /// Place of `index` in `entries`; only for an index that the log holds.
    fn position(&self, index: LogIndex) -> Result<usize, StorageError> {
        let (first, last) = (self.first_index(), self.last_index());
        if index < first {
            return Err(StorageError::Compacted { index, first });
        }
        let at = usize::try_from(index.0.saturating_sub(first.0)).ok().filter(|_| index <= last);
        at.ok_or(StorageError::OutOfRange { index, last })
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
        Ok(self.snapshot.meta.clone())
    }

    fn first_index(&self) -> LogIndex {
        self.before.0.next()
    }

    fn last_index(&self) -> LogIndex {
        self.entries.last().map_or(self.before.0, |(entry, _)| entry.index)
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        let chunk = |state: &[u8]| {
            let rest = state.get(usize::try_from(offset).ok()?..)?;
            Some(Bytes::copy_from_slice(rest.get(..max_bytes).unwrap_or(rest)))
        };
        let found = match &self.receiving {
            Some((meta, state, _)) if meta.last_included_index == index => chunk(state),
            _ if self.snapshot.meta.last_included_index == index && index.0 > 0 => chunk(&self.snapshot.state),
            _ => None,
        };
        found.ok_or(StorageError::NoSnapshot { index, offset })
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        self.entry(index).map(|(entry, _)| entry.term)
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        if index == self.before.0 {
            return Ok(self.before.2);
        }
        self.entry(index).map(|(_, digest)| *digest)
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        if first > last {
            return Ok(Vec::new());
        }
        let (from, to) = (self.position(first)?, self.position(last)?);
        let mut bytes = 0_usize;
        let mut entries = Vec::new();
        for (entry, _) in self.entries.get(from..=to).unwrap_or_default() {
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
            return out_of_order(format!("write {}", self.persisted.next().0));
        }
        match write.op {
            WriteOp::HardState(hard_state) => self.hard_state = hard_state,
            WriteOp::Truncate(from) => {
                if from <= self.snapshot.meta.last_included_index {
                    let snapshot = self.snapshot.meta.last_included_index;
                    return out_of_order(format!("a truncation beyond the snapshot at {snapshot}"));
                }
                let keep = self.position(from).or_else(|error| out_of_order(error.to_string()))?;
                self.entries.truncate(keep);
            }
            WriteOp::Append { entries, digests } => self.append(&entries, digests)?,
            WriteOp::SnapshotChunk(chunk) => self.receive(*chunk)?,
            WriteOp::InstallSnapshot { index, keep_from } => self.install(index, keep_from)?,
            WriteOp::GiveUpSnapshot => self.receiving = None,
        }
        self.persisted = write.id;
        Ok(())
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(self.persisted)
    }
}

fn out_of_order<T>(what: String) -> Result<T, StorageError> {
    Err(StorageError::OutOfOrder { what })
}
