//! What a log holds, as its writes lead to it: known while it is open, found again by reading the file.

use bytes::Bytes;
use raft_core::{Configuration, Digest, Entry, HardState, LogIndex, Payload, SnapshotMeta, StorageError};

use super::index::Index;
use super::snapshot::Snapshots;
use crate::block::Genesis;

#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub hard_state: HardState,
    pub index: Index,
    pub snapshots: Snapshots,
    /// The hash of the block before the first: the chain's anchor.
    pub before_hash: Digest,
    /// The membership blocks after the snapshot.
    configurations: Vec<(LogIndex, Bytes)>,
}

impl Contents {
    /// A new log.
    pub(super) fn new(genesis: &Genesis) -> Self {
        let before_hash = genesis.block().hash;
        let meta = SnapshotMeta::genesis(genesis.configuration.clone());
        Self {
            hard_state: HardState::default(),
            index: Index::default(),
            snapshots: Snapshots::new(SnapshotMeta { digest: Some(before_hash), ..meta }),
            before_hash,
            configurations: Vec::new(),
        }
    }

    /// What a block with this entry should have been, where it does not follow.
    pub(super) fn check_append<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Result<(), String> {
        let (mut index, mut term) = (self.index.last(), self.index.last_term());
        for entry in entries {
            if entry.index != index.next() || entry.term < term {
                return Err(format!("entry {} of term {term} or above", index.next()));
            }
            (index, term) = (entry.index, entry.term);
        }
        Ok(())
    }

    /// Takes in a block that stands at `offset` and was checked.
    pub(super) fn append(&mut self, offset: u64, entry: &Entry) {
        self.index.push(offset, entry.term);
        if let Payload::Configuration(bytes) = &entry.payload {
            self.configurations.push((entry.index, Bytes::copy_from_slice(bytes)));
        }
    }

    /// What a truncation should have been, where it is none of blocks after the snapshot.
    pub(super) fn check_truncate(&self, from: LogIndex) -> Result<(), String> {
        let (snapshot, last) = (self.snapshots.installed().last_included_index, self.index.last());
        let is_there = snapshot < from && from <= last;
        if is_there { Ok(()) } else { Err(format!("a truncation at {} to {last}", snapshot.next())) }
    }

    pub(super) fn truncate(&mut self, from: LogIndex) {
        self.index.truncate(from);
        self.configurations.retain(|(index, _)| *index < from);
    }

    /// The snapshot that this install is of; or what it should have been. Whether the block there has the snapshot's
    /// hash, where blocks are kept, is left to whoever can read it.
    pub(super) fn check_install(&self, index: LogIndex, keep_from: Option<LogIndex>) -> Result<&SnapshotMeta, String> {
        let meta = self.snapshots.received(index).ok_or_else(|| String::from("the snapshot that was received"))?;
        let first = self.index.first();
        let held = self.index.locate(index).is_some_and(|(_, term)| term == meta.last_included_term);
        if keep_from.is_some_and(|kept| !held || kept < first || kept > index.next()) {
            return Err(format!("blocks kept from {first} to {}", index.next()));
        }
        Ok(meta)
    }

    /// Does what was checked. `before_hash` is that of the block before the first that is kept; none where none is.
    pub(super) fn install(&mut self, keep_from: Option<LogIndex>, before_hash: Option<Digest>) {
        self.snapshots.install();
        let SnapshotMeta { last_included_index, last_included_term, digest, .. } = self.snapshots.installed();
        let (index, term, anchor) = (*last_included_index, *last_included_term, *digest);
        match keep_from {
            Some(first) => self.index.keep_from(first),
            None => self.index = Index::after(index, term),
        }
        self.before_hash = before_hash.or(anchor).unwrap_or(self.before_hash);
        let last = self.index.last();
        self.configurations.retain(|(at, _)| index < *at && *at <= last);
    }

    pub(super) fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        let read = |(index, bytes): &(LogIndex, Bytes)| {
            let damaged = || StorageError::Damaged {
                place: format!("entry {index}"),
                what: String::from("it holds no configuration"),
            };
            Ok((*index, Configuration::from_bytes(bytes).ok_or_else(damaged)?))
        };
        self.configurations.iter().map(read).collect()
    }
}
