//! What a log holds, as its writes lead to it: known while it is open, found again by reading the segments.

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, Payload, SnapshotMeta, StorageError, Term,
};

use super::frame::{Checkpoint, Point};
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
    /// The hash of the last block.
    last_hash: Digest,
    /// The membership blocks after the snapshot.
    configurations: Vec<(LogIndex, Bytes)>,
}

/// What a new log begins with.
pub(super) fn founding(genesis: &Genesis, incarnation: Incarnation) -> Checkpoint {
    Checkpoint {
        incarnation,
        genesis: genesis.clone(),
        hard_state: HardState::default(),
        last: Point { height: LogIndex(0), term: Term(0), hash: genesis.block().hash },
        snapshot: None,
        configurations: Vec::new(),
    }
}

impl Contents {
    /// What a segment begins with.
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { genesis, hard_state, last, snapshot, configurations, .. } = checkpoint;
        let meta = SnapshotMeta::genesis(genesis.configuration.clone());
        let mut snapshots = Snapshots::new(SnapshotMeta { digest: Some(genesis.block().hash), ..meta });
        snapshot.iter().for_each(|meta| snapshots.follow(meta.clone()));
        Self {
            hard_state: *hard_state,
            index: Index::after(last.height, last.term),
            snapshots,
            before_hash: last.hash,
            last_hash: last.hash,
            configurations: configurations.clone(),
        }
    }

    /// What the next segment begins with.
    pub(super) fn checkpoint(&self, genesis: &Genesis, incarnation: Incarnation) -> Checkpoint {
        let snapshot = self.snapshots.file().map(|_| self.snapshots.installed().clone());
        Checkpoint {
            incarnation,
            genesis: genesis.clone(),
            hard_state: self.hard_state,
            last: self.last(),
            snapshot,
            configurations: self.configurations.clone(),
        }
    }

    /// The last block, or the one before the first where there is none.
    pub(super) fn last(&self) -> Point {
        Point { height: self.index.last(), term: self.index.last_term(), hash: self.last_hash }
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

    /// Takes in a block that stands at this position and was checked.
    pub(super) fn append(&mut self, position: u64, entry: &Entry, hash: Digest) {
        self.index.push(position, entry.term);
        self.last_hash = hash;
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

    /// Removes every block after this one. Where the segments that are kept begin after it, it is the one before the
    /// first from then on.
    pub(super) fn truncate(&mut self, before: &Point) {
        if before.height < self.index.before().0 {
            self.index = Index::after(before.height, before.term);
            self.before_hash = before.hash;
        }
        self.index.truncate(before.height.next());
        self.last_hash = before.hash;
        self.configurations.retain(|(index, _)| *index <= before.height);
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

    /// The log follows the installed snapshot. `before` is the block before the first that is kept: none where none is,
    /// and where the segments that are kept begin after it, it makes no difference.
    pub(super) fn follow_snapshot(&mut self, before: Option<(LogIndex, Digest)>) {
        let SnapshotMeta { last_included_index, last_included_term, digest, .. } = self.snapshots.installed();
        let (index, term, anchor) = (*last_included_index, *last_included_term, *digest);
        match before {
            Some((height, hash)) if height > self.index.before().0 => {
                self.index.keep_from(height.next());
                self.before_hash = hash;
            }
            Some(_) => {}
            None => {
                self.index = Index::after(index, term);
                self.before_hash = anchor.unwrap_or(self.before_hash);
                self.last_hash = self.before_hash;
            }
        }
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
