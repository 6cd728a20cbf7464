//! The log of blocks: a [`Storage`] in one append-only file.
//!
//! Hard state, truncations and blocks go to the same file in one stream, so one write and one sync make everything
//! durable that waits, in the order written. Each [`Write`] is one frame with a checksum (its bytes are drawn in
//! `block_log/frame.rs`), so after a crash the log holds a prefix of the writes begun, each whole or not at all.
//!
//! # What opening does with bad bytes
//!
//! Every frame is read, its checksum verified, and every block's hash against the one before, from block 0 on. Where a
//! frame is bad at offset `x`, there are two cases, told apart by the durable length that each frame notes:
//!
//! * **A torn tail**: no frame after `x` notes that the file was durable beyond `x`. Then nothing from `x` on was ever
//!   reported, and it is cut off (fault D1).
//! * **Damage**: some frame does. Bytes that were durable have changed, so votes or acknowledged blocks are lost here.
//!   Nothing is changed, and opening fails with [`StorageError::Damaged`] (fault D2). So does a frame whose checksum is
//!   right and whose content does not follow what stands before it.
//!
//! # Which disk this is
//!
//! A log is given an incarnation when it is founded and keeps it for good, so that a server that comes back with a new
//! log is not taken for the one that voted (fault M10). A file that is copied or put back takes its incarnation along.
//!
//! # Snapshots
//!
//! Chunks and installs are frames of the same stream. A chunk's bytes stay in the file: in memory is only where they
//! stand, and each read of them is checked. After an install the chain begins at its anchor, the hash of the block
//! before the first that is kept; chunks that were not installed when the log was closed are not found again.
//!
//! **Nothing is reclaimed**: removed blocks, replaced snapshots and given up chunks stay in the file, and opening reads
//! and verifies all of it, from block 0 on. So the file, and the time to open it, grow with all that was ever written.
//!
//! # What it cannot tell
//!
//! * Damage in the last frames, those which no later frame vouches for, looks like a torn tail: they are lost as if
//!   never written. That is what was submitted since the write before the last one became known to be durable: one
//!   batch under light load, two under heavy. A file cut short at such a place by something else looks the same, and
//!   so does a file put back to an earlier state as a whole.
//! * Somebody who can write the file can write another valid chain. The hash of a block that was told to a client, or
//!   that a peer holds, shows it.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, SnapshotMeta, Storage, StorageError, Term, Write,
    WriteId,
};

use crate::block::{Block, ClusterId, Genesis, link};
use crate::disk::Disk;

mod contents;
mod error;
mod frame;
mod index;
mod recovery;
mod snapshot;
mod write;

pub use error::OpenError;

use contents::Contents;
use frame::{BLOCK_HEADER_LEN, BlockHeader};

/// A [`Storage`] on a [`Disk`], whose entries are hash-chained blocks.
///
/// In memory it keeps 8 bytes a block, the membership blocks, some 32 bytes a chunk of a snapshot, and those blocks that
/// are not known to be durable yet.
#[derive(Debug)]
pub struct BlockLog<D> {
    disk: D,
    genesis: Genesis,
    incarnation: Incarnation,
    contents: Contents,
    /// The last blocks of the log, those whose frame was not durable when last asked.
    unsynced: VecDeque<Unsynced>,
    /// Writes begun and not reported, each with the durable length that completes it.
    begun: VecDeque<(WriteId, u64)>,
    last_write: WriteId,
    persisted: WriteId,
    /// The end of the last frame that was durable when last asked: what a new frame vouches for. Never the inside of a
    /// frame: one that is durable in part may be torn, and must not be taken for damage.
    synced: u64,
    poisoned: Option<String>,
    /// The frame being formed, kept for its room.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Unsynced {
    entry: Entry,
    hash: Digest,
    /// The end of its frame.
    end: u64,
}

impl<D: Disk> BlockLog<D> {
    /// Founds a log in an empty file: durable on return. `incarnation` is a number that no other log has, drawn at random;
    /// [`UNKNOWN`](Incarnation::UNKNOWN) is for tests, where nobody loses a disk.
    ///
    /// # Errors
    /// The file is not empty, or could not be written.
    pub fn create(
        mut disk: D,
        cluster: ClusterId,
        configuration: Configuration,
        incarnation: Incarnation,
    ) -> Result<Self, OpenError> {
        if disk.len() != 0 {
            return Err(OpenError::Exists { place: disk.place() });
        }
        let genesis = Genesis { cluster, configuration };
        let founding = recovery::founding_bytes(&genesis, incarnation).ok_or_else(|| write::too_long(&disk))?;
        disk.settle(0, &founding)?;
        let synced = disk.len();
        let contents = Contents::new(&genesis);
        Ok(Self::assemble(disk, genesis, incarnation, contents, synced))
    }

    /// Opens a log: verifies all of it and cuts off a torn tail. What it holds is durable on return.
    ///
    /// # Errors
    /// The file is empty, of another cluster or founding configuration, of another version of the format, damaged, or
    /// cannot be read. Nothing was changed.
    pub fn open(mut disk: D, cluster: ClusterId, configuration: Configuration) -> Result<Self, OpenError> {
        let genesis = Genesis { cluster, configuration };
        let found = recovery::recover(&disk, &genesis)?.ok_or_else(|| OpenError::Missing { place: disk.place() })?;
        let mut tail = vec![0; usize::try_from(found.end.saturating_sub(found.vouched)).unwrap_or(usize::MAX)];
        disk.read_at(found.vouched, &mut tail)?;
        disk.settle(found.vouched, &tail)?;
        Ok(Self::assemble(disk, genesis, found.incarnation, found.contents, found.end))
    }

    /// [`create`](Self::create)s with the incarnation `new` where the file is empty or where a crash tore its founding,
    /// else [`open`](Self::open)s, and `new` is not used.
    ///
    /// # Errors
    /// As for these two.
    pub fn open_or_create(
        mut disk: D,
        cluster: ClusterId,
        configuration: Configuration,
        new: Incarnation,
    ) -> Result<Self, OpenError> {
        let genesis = Genesis { cluster, configuration };
        if recovery::is_torn_founding(&disk, &genesis)? {
            raft_core::mark!(TornFoundingCut);
            disk.settle(0, &[])?;
        }
        match disk.len() {
            0 => Self::create(disk, genesis.cluster, genesis.configuration, new),
            _ => Self::open(disk, genesis.cluster, genesis.configuration),
        }
    }

    const fn assemble(disk: D, genesis: Genesis, incarnation: Incarnation, contents: Contents, synced: u64) -> Self {
        Self {
            disk,
            genesis,
            incarnation,
            contents,
            unsynced: VecDeque::new(),
            begun: VecDeque::new(),
            last_write: WriteId(0),
            persisted: WriteId(0),
            synced,
            poisoned: None,
            buffer: Vec::new(),
        }
    }

    /// What the chain is founded on.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The block at this height: the genesis at 0, or one that the log holds.
    ///
    /// # Errors
    /// As for [`Storage::entries`].
    pub fn block(&self, height: LogIndex) -> Result<Block, StorageError> {
        if height == LogIndex(0) {
            return Ok(self.genesis.block());
        }
        let (entry, hash) = self.entry(height)?;
        let prev_hash = self.hash_at(height.prev())?;
        let (kind, payload) = (entry.payload.kind(), Bytes::copy_from_slice(entry.payload.bytes()));
        Ok(Block { height, term: entry.term, kind, prev_hash, hash, payload })
    }

    /// The blocks from this height to the end, in order.
    pub fn blocks(&self, from: LogIndex) -> impl Iterator<Item = Result<Block, StorageError>> + '_ {
        (from.0..=self.last_index().0).map(|height| self.block(LogIndex(height)))
    }

    /// Bytes written to the disk and not known to be durable: how far the device is behind.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.disk.len().saturating_sub(self.synced)
    }

    /// The disk.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, for those who drive it: a simulator completes or fails its writes. Bytes submitted past the log show
    /// as damage.
    pub const fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the disk back, to shut it down.
    pub fn into_disk(self) -> D {
        self.disk
    }

    fn hash_at(&self, height: LogIndex) -> Result<Digest, StorageError> {
        if height == self.contents.index.before().0 {
            return Ok(self.contents.before_hash);
        }
        match self.unsynced(height) {
            Some(block) => Ok(block.hash),
            None => self.read_header(height).map(|(_, header)| header.hash),
        }
    }

    fn entry(&self, height: LogIndex) -> Result<(Entry, Digest), StorageError> {
        if let Some(block) = self.unsynced(height) {
            return Ok((block.entry.clone(), block.hash));
        }
        let (offset, header) = self.read_header(height)?;
        let mut payload = vec![0; header.len];
        self.disk.read_at(offset.saturating_add(BLOCK_HEADER_LEN as u64), &mut payload)?;
        let entry = header.entry(Bytes::from(payload)).ok_or_else(|| self.damaged(offset, height))?;
        Ok((entry, header.hash))
    }

    /// Reads what stands before the payload of a block that is in the file, and where that is.
    fn read_header(&self, height: LogIndex) -> Result<(u64, BlockHeader), StorageError> {
        let (offset, term) = self.locate(height)?;
        let mut bytes = [0; BLOCK_HEADER_LEN];
        self.disk.read_at(offset, &mut bytes)?;
        BlockHeader::parse(&bytes)
            .filter(|header| header.height == height && header.term == term)
            .map(|header| (offset, header))
            .ok_or_else(|| self.damaged(offset, height))
    }

    fn locate(&self, height: LogIndex) -> Result<(u64, Term), StorageError> {
        let (first, last) = (self.first_index(), self.last_index());
        if height < first {
            return Err(StorageError::Compacted { index: height, first });
        }
        self.contents.index.locate(height).ok_or(StorageError::OutOfRange { index: height, last })
    }

    fn unsynced(&self, height: LogIndex) -> Option<&Unsynced> {
        let first = self.unsynced.front()?.entry.index;
        self.unsynced.get(usize::try_from(height.0.checked_sub(first.0)?).ok()?)
    }

    fn damaged(&self, offset: u64, height: LogIndex) -> StorageError {
        let place = format!("{} at byte {offset}", self.disk.place());
        StorageError::Damaged { place, what: format!("block {height} is not as it was written") }
    }
}

impl<D: Disk> Storage for BlockLog<D> {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        Ok(self.contents.hard_state)
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(self.contents.snapshots.installed().clone())
    }

    fn first_index(&self) -> LogIndex {
        self.contents.index.first()
    }

    fn last_index(&self) -> LogIndex {
        self.contents.index.last()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        self.contents.snapshots.read(&self.disk, index, offset, max_bytes)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        let (before, before_term) = self.contents.index.before();
        if index == before {
            return Ok(before_term);
        }
        self.locate(index).map(|(_, term)| term)
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        self.hash_at(index).map(Some)
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        if first > last {
            return Ok(Vec::new());
        }
        self.locate(first)?;
        self.locate(last)?;
        let mut bytes = 0_usize;
        let mut entries = Vec::new();
        for height in first.0..=last.0 {
            let (entry, _) = self.entry(LogIndex(height))?;
            bytes = bytes.saturating_add(entry.cost());
            entries.push(entry);
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(entries)
    }

    /// From memory.
    fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        self.contents.configurations()
    }

    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        Some(link(prev, entry))
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        self.refresh()?;
        self.begin(write)
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        self.refresh()?;
        Ok(self.persisted)
    }
}

#[cfg(test)]
mod tests;
