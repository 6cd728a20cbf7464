//! The log of blocks: a [`Storage`] in segment files, with snapshots in files of their own.
//!
//! Hard state, truncations and blocks are one stream of frames, each with a position in it that only grows. Segment
//! files hold the stream one after the other; each [`Write`] is one frame with a checksum (its bytes are drawn in
//! `block_log/frame.rs`), so after a crash the log holds a prefix of the writes begun, each whole or not at all. One
//! write and one sync make everything durable that waits, in the order written.
//!
//! A segment begins with a *checkpoint*: all that the segments before it lead to, but for their blocks. So a log is
//! read from the first segment that is kept, whatever was before it.
//!
//! # What opening does with bad bytes
//!
//! Every frame that is kept is read, its checksum verified, and every block's hash against the one before. Where a
//! frame is bad at position `x`, there are two cases:
//!
//! * **A torn tail**: it is in the last segment, and no frame after `x` notes that the log was durable beyond `x`. Then
//!   nothing from `x` on was ever reported, and zeros take its place (fault D1).
//! * **Damage**: another segment follows, which only begins when all before it is durable, or some frame notes that it
//!   was. Bytes that were durable have changed, so votes or acknowledged blocks are lost here.
//!   Nothing is changed, and opening fails with [`StorageError::Damaged`] (fault D2). So does a frame whose checksum is
//!   right and whose content does not follow what stands before it, a segment that is missing, and an installed
//!   snapshot that is.
//!
//! # Which disk this is
//!
//! A log is given an incarnation when it is founded and keeps it for good, so that a server that comes back with a new
//! log is not taken for the one that voted (fault M10). A directory that is copied or put back takes its incarnation
//! along.
//!
//! [`repair`] mends such a directory with its peers' help, or has its server start over.
//!
//! # Snapshots
//!
//! Chunks go to a file of their own. When a snapshot is installed, that is synced and named by its height, and only
//! then a frame makes it count; in memory is only where its bytes stand, and each read of them is checked. After an
//! install the chain begins at its anchor, the hash of the block before the first that is kept; chunks that were not
//! installed when the log was closed are not found again.
//!
//! Once an install is durable, what it makes needless is given back: the snapshot before it, and the segments before
//! the first block that is kept. One of these is renamed and written again later, so that a log in use makes few files;
//! with [`archive`](LogOptions::archive) they are moved aside instead, and kept. So the time to open a log is bounded
//! by what was written since the last snapshot, and the snapshot.
//!
//! # A full disk
//!
//! The file of a segment has all its room from the beginning, and the next one is made ahead. Where that finds no room the
//! log says so in time ([`has_room`](Storage::has_room)): while enough is left that terms and votes go on, and what is
//! under way. Nothing has failed then. It is tried again now and then, and there is room again once it succeeds, or a
//! segment is given back. A write that needs room and finds none poisons the log like every failure.
//!
//! # What it cannot tell
//!
//! * Damage in the last frames, those which no later frame or segment vouches for, looks like a torn tail: they are
//!   lost as if never written. That is what was submitted since the write before the last one became known to be
//!   durable: one batch under light load, two under heavy. Not so after a life that ended in order, by
//!   [`seal`](Storage::seal): its last frame vouches for all others, and says nothing new. A file cut short at such a place by something else looks the
//!   same, and so does a directory put back to an earlier state as a whole.
//! * Somebody who can write the files can write another valid chain. The hash of a block that was told to a client, or
//!   that a peer holds, shows it.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, SnapshotMeta, Storage, StorageError, Term, Write,
    WriteId,
};

use crate::block::{Block, ClusterId, Genesis, link};
use crate::disk::{Change, Disk};
use crate::proof::Source;

mod archive;
mod contents;
mod error;
mod frame;
mod index;
pub mod inspect;
mod reclaim;
mod recovery;
pub mod repair;
mod replay;
mod room;
mod scrub;
mod segments;
mod snapshot;
mod snapshot_file;
mod window;
mod write;

pub use error::OpenError;
pub use scrub::{Scrubbed, scrub};

use archive::Archive;
use contents::Contents;
use frame::{BLOCK_HEADER_LEN, BlockHeader, SEGMENT_HEADER_LEN};
use reclaim::Reclaim;
use room::Room;
use segments::{OLD_FILE, Segment, Segments, is_snapshot, segment_name, segment_number};
use write::Begun;

/// How a log keeps its files. Every life of it may have others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The length of a segment: 64 MiB unless told otherwise. A longer write gets a longer one.
    pub segment_bytes: u64,
    /// Whether segments that a snapshot makes needless are moved to the directory `archive` below, and kept there,
    /// rather than given back.
    pub archive: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, archive: false }
    }
}

/// A [`Storage`] on a [`Disk`], whose entries are hash-chained blocks.
///
/// In memory it keeps 8 bytes a block (of those in its archive, too, where they are proved from), the membership blocks, some 32 bytes a chunk of a snapshot, and those blocks that
/// are not known to be durable yet.
#[derive(Debug)]
pub struct BlockLog<D> {
    disk: D,
    options: LogOptions,
    genesis: Genesis,
    incarnation: Incarnation,
    contents: Contents,
    segments: Segments,
    archive: Archive,
    /// The last blocks of the log, those whose frame was not durable when last asked.
    unsynced: VecDeque<Unsynced>,
    begun: VecDeque<Begun>,
    reclaims: VecDeque<Reclaim>,
    last_write: WriteId,
    persisted: WriteId,
    /// The end of the last frame that was durable when last asked: what a new frame vouches for. Never the inside of a
    /// frame: one that is durable in part may be torn, and must not be taken for damage.
    synced: u64,
    /// Snapshots begun to be received in this life: each has a file of its own.
    received: u64,
    room: Room,
    poisoned: Option<String>,
    /// What is written next is formed in it; kept for its room.
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Unsynced {
    entry: Entry,
    hash: Digest,
    /// The operation that makes it durable.
    ticket: u64,
}

impl<D: Disk> BlockLog<D> {
    /// Founds a log in an empty directory: durable on return. `incarnation` is a number that no other log has, drawn at
    /// random; [`UNKNOWN`](Incarnation::UNKNOWN) is for tests, where nobody loses a disk.
    ///
    /// # Errors
    /// There is a log already, or it could not be written.
    pub fn create(
        mut disk: D,
        cluster: ClusterId,
        configuration: Configuration,
        incarnation: Incarnation,
        options: LogOptions,
    ) -> Result<Self, OpenError> {
        if holds_log(&disk) {
            return Err(OpenError::Exists { place: disk.place() });
        }
        if disk.holds(OLD_FILE) {
            return Err(OpenError::OldFormat { place: disk.place_of(OLD_FILE) });
        }
        let genesis = Genesis { cluster, configuration };
        let bytes = recovery::founding_bytes(&genesis, incarnation).ok_or_else(|| write::too_long(&disk))?;
        let file = segment_name(1);
        disk.settle(&[Change::Create { file: &file }, Change::Write { file: &file, offset: 0, bytes: &bytes }])?;
        let first = (bytes.len().saturating_sub(SEGMENT_HEADER_LEN)) as u64;
        let segments = Segments::new(Segment { number: 1, start: 0, first });
        let contents = Contents::of(&contents::founding(&genesis, incarnation));
        Ok(Self::assemble(disk, options, (genesis, incarnation), contents, segments)?)
    }

    /// Opens a log: verifies all of it that is kept and clears a torn tail. What it holds is durable on return.
    ///
    /// # Errors
    /// The directory holds none, or one of another cluster or founding configuration, of another version of the format,
    /// or one that is damaged or cannot be read. Nothing was changed.
    pub fn open(
        mut disk: D,
        cluster: ClusterId,
        configuration: Configuration,
        options: LogOptions,
    ) -> Result<Self, OpenError> {
        let genesis = Genesis { cluster, configuration };
        let found = recovery::recover(&disk, &genesis)?.ok_or_else(|| OpenError::Missing { place: disk.place() })?;
        found.settle(&mut disk)?;
        let mut log = Self::assemble(disk, options, (genesis, found.incarnation), found.contents, found.segments)?;
        log.prune(log.first_needed(log.segments.end()))?;
        Ok(log)
    }

    /// [`create`](Self::create)s with the incarnation `new` where the directory is empty or where a crash tore its
    /// founding, else [`open`](Self::open)s, and `new` is not used.
    ///
    /// # Errors
    /// As for these two.
    pub fn open_or_create(
        mut disk: D,
        cluster: ClusterId,
        configuration: Configuration,
        new: Incarnation,
        options: LogOptions,
    ) -> Result<Self, OpenError> {
        let genesis = Genesis { cluster, configuration };
        if recovery::is_torn_founding(&disk, &genesis)? {
            raft_core::mark!(TornFoundingCut);
            disk.settle(&[Change::Remove { file: &segment_name(1) }])?;
        }
        let Genesis { cluster, configuration } = genesis;
        if holds_log(&disk) {
            Self::open(disk, cluster, configuration, options)
        } else {
            Self::create(disk, cluster, configuration, new, options)
        }
    }

    fn assemble(
        disk: D,
        options: LogOptions,
        (genesis, incarnation): (Genesis, Incarnation),
        contents: Contents,
        segments: Segments,
    ) -> Result<Self, StorageError> {
        let mut log = Self {
            disk,
            options,
            genesis,
            incarnation,
            contents,
            synced: segments.end(),
            segments,
            archive: Archive::default(),
            unsynced: VecDeque::new(),
            begun: VecDeque::new(),
            reclaims: VecDeque::new(),
            last_write: WriteId(0),
            persisted: WriteId(0),
            received: 0,
            room: Room::default(),
            poisoned: None,
            buffer: Vec::new(),
        };
        log.reserve()?;
        Ok(log)
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

    /// Bytes of frames submitted and not known to be durable: how far the device is behind.
    #[must_use]
    pub const fn unsynced_bytes(&self) -> u64 {
        self.segments.end().saturating_sub(self.synced)
    }

    /// How many segments the log has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.count()
    }

    /// The disk.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, for those who drive it: a simulator completes or fails its writes.
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
        let (position, header) = self.read_header(height)?;
        let mut payload = vec![0; header.len];
        self.segments.read(&self.disk, position, BLOCK_HEADER_LEN, &mut payload)?;
        let entry = header.entry(Bytes::from(payload)).ok_or_else(|| self.damaged(position, height))?;
        Ok((entry, header.hash))
    }

    /// Reads what stands before the payload of a block that is in a segment, and where that is.
    fn read_header(&self, height: LogIndex) -> Result<(u64, BlockHeader), StorageError> {
        let (position, term) = self.locate(height)?;
        let mut bytes = [0; BLOCK_HEADER_LEN];
        self.segments.read(&self.disk, position, 0, &mut bytes)?;
        BlockHeader::parse(&bytes)
            .filter(|header| header.height == height && header.term == term)
            .map(|header| (position, header))
            .ok_or_else(|| self.damaged(position, height))
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

    fn damaged(&self, position: u64, height: LogIndex) -> StorageError {
        let place = self.segments.place(&self.disk, position);
        StorageError::Damaged { place, what: format!("block {height} is not as it was written") }
    }
}

/// With [`archive`](LogOptions::archive), also the blocks that are there, once it has been read.
impl<D: Disk> Source for BlockLog<D> {
    fn hash(&self, height: LogIndex) -> Result<Digest, StorageError> {
        self.hash_or_archived(height)
    }

    fn block(&self, height: LogIndex) -> Result<Block, StorageError> {
        let is_archived = LogIndex(0) < height && height < self.first_index();
        if is_archived { self.archived(height) } else { Self::block(self, height) }
    }

    fn read_on(&mut self) -> bool {
        self.read_archive()
    }
}

/// Whether a log was ever founded there, as far as names tell.
fn holds_log(disk: &impl Disk) -> bool {
    disk.files().iter().any(|name| segment_number(name).is_some() || is_snapshot(name))
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

    fn has_room(&self) -> bool {
        self.has_room()
    }

    fn has_room_for_snapshot(&self, bytes: u64) -> bool {
        self.has_room_for_snapshot(bytes)
    }

    /// Writes a frame that vouches for all before it, and may itself be lost: term and vote as they are.
    fn seal(&mut self) {
        self.write_seal();
    }
}

#[cfg(test)]
mod tests;
