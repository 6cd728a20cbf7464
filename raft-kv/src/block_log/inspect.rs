//! Looking at a server's directory without changing it: what it holds, and everything that is wrong with it.
//!
//! Opening a log stops at the first thing that is wrong, because nobody may rely on what follows. An [`Inspection`]
//! goes on where it can: behind a bad frame at the next good one, for a frame's checksum covers its place; behind a bad
//! segment at the next. What it reads there is checked as far as that goes: each block against the one before it, from
//! the second on.
//!
//! The archive is read as what it is, the older part of the same stream.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use raft_core::{Digest, HardState, Incarnation, LogIndex, SnapshotMeta, StorageError, Term};

use super::OpenError;
use super::frame::{BLOCK_HEADER_LEN, BlockHeader, Point};
use super::segments::{ARCHIVE, OLD_FILE, Segment};
use crate::block::{Block, Genesis};
use crate::disk::{Disk, ReadOnlyDisk};

mod map;
mod scan;
pub(super) mod snapshots;
mod walk;

use map::BlockMap;
use walk::Walk;

/// A directory that was read from its beginning to its end, and stays locked while this value lives.
#[derive(Debug)]
pub struct Inspection {
    disk: ReadOnlyDisk,
    /// Those whose place in the stream is known, in their order.
    segments: Vec<Segment>,
    map: BlockMap,
    genesis: Option<Genesis>,
    snapshot: Option<SnapshotMeta>,
    findings: Vec<Finding>,
    counts: Counts,
    salvage: Salvage,
}

/// What the end of a log says of the server, as far as damage leaves that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Salvage {
    pub incarnation: Option<Incarnation>,
    /// None where the last one may have been lost.
    pub hard_state: Option<HardState>,
    /// The last block; none where a later one may have been lost.
    pub last: Option<Point>,
    /// The number of the last segment, and a position that nothing in the stream has reached.
    pub number: u64,
    pub beyond: u64,
}

/// How much a directory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Segments of the log.
    pub segments: u64,
    /// Segments that are kept in the archive.
    pub archived: u64,
    /// Snapshots, installed or not.
    pub snapshots: u64,
    /// Bytes in all of these.
    pub bytes: u64,
}

/// Something in a directory that is not as it would be after a clean stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file's path, or the directory's.
    pub file: String,
    /// Where in the file.
    pub byte: Option<u64>,
    /// What it is.
    pub what: String,
    /// Whether it is in the archive, which the server does not need.
    pub is_archived: bool,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What a crash leaves: nothing that was promised is lost, and the next start tidies it up.
    Harmless,
    /// A part of the history is not there. The server does not need it.
    Incomplete,
    /// Bytes that were durable have changed or are gone.
    Damage,
}

/// A block, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBlock {
    /// Its position, which is its entry's index; 0 for the genesis.
    pub height: LogIndex,
    /// The term of the leader that created it.
    pub term: Term,
    /// What the payload is: 0 no-op, 1 command, 2 configuration, 255 genesis.
    pub kind: u8,
    /// Hash of the block before; `None` where that was lost to damage.
    pub prev_hash: Option<Digest>,
    /// Its own hash.
    pub hash: Digest,
    /// What it carries.
    pub payload: Bytes,
}

impl Inspection {
    /// Reads this directory. `progress` is told now and then how many bytes of how many are read.
    ///
    /// # Errors
    /// There is no log, or one of another version; a server has the directory open; or it cannot be read at all. What
    /// is wrong inside it is no error: see [`findings`](Self::findings).
    pub fn of(dir: impl AsRef<Path>, progress: impl FnMut(u64, u64)) -> Result<Self, OpenError> {
        let disk = ReadOnlyDisk::open(dir.as_ref(), Some(ARCHIVE)).map_err(OpenError::Disk)?;
        let found = Self::look(disk, progress)?;
        found.disk.recheck().map_err(OpenError::Disk)?;
        Ok(found)
    }

    /// The same of a directory that the caller has locked, without its archive.
    pub(super) fn locked(dir: &Path) -> Result<Self, OpenError> {
        Self::look(ReadOnlyDisk::unlocked(dir).map_err(OpenError::Disk)?, |_, _| ())
    }

    fn look(disk: ReadOnlyDisk, progress: impl FnMut(u64, u64)) -> Result<Self, OpenError> {
        if disk.holds(OLD_FILE) {
            return Err(OpenError::OldFormat { place: disk.place_of(OLD_FILE) });
        }
        let mut walk = Walk::new(&disk, progress);
        walk.segments()?;
        walk.snapshots();
        let salvage = walk.salvage();
        let Walk { findings, all: segments, map, genesis, installed: snapshot, counts, .. } = walk;
        Ok(Self { segments, map, genesis, snapshot, findings, counts, salvage, disk })
    }

    pub(super) const fn salvage(&self) -> Salvage {
        self.salvage
    }

    pub(super) const fn disk(&self) -> &ReadOnlyDisk {
        &self.disk
    }

    /// What is wrong, in the order in which it was found.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }

    /// What the chain is founded on; `None` where damage hides it.
    #[must_use]
    pub const fn genesis(&self) -> Option<&Genesis> {
        self.genesis.as_ref()
    }

    /// The snapshot that the log follows; none in a log that never had one.
    #[must_use]
    pub const fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// How much there is.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The blocks that are there, as ranges of heights without a gap inside, the genesis left out.
    pub fn ranges(&self) -> impl Iterator<Item = (LogIndex, LogIndex)> + '_ {
        self.map.ranges()
    }

    /// The block at this height; `None` where it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn block(&self, height: LogIndex) -> Result<Option<FoundBlock>, StorageError> {
        if height == LogIndex(0) {
            return Ok(self.genesis.as_ref().map(|genesis| genesis.block().into()));
        }
        let Some((position, before)) = self.map.locate(height) else { return Ok(None) };
        let prev_hash = match before {
            map::Before::Known(hash) => hash,
            map::Before::At(position) => Some(self.header(height.prev(), position)?.hash),
        };
        let header = self.header(height, position)?;
        let mut payload = vec![0; header.len];
        self.read(position, BLOCK_HEADER_LEN, &mut payload)?;
        let entry = header.entry(Bytes::from(payload)).ok_or_else(|| self.changed(height, position))?;
        let payload = Bytes::copy_from_slice(entry.payload.bytes());
        let (term, kind, hash) = (header.term, header.kind, header.hash);
        Ok(Some(FoundBlock { height, term, kind, prev_hash, hash, payload }))
    }

    /// The blocks of these heights that are there, in order.
    pub fn blocks(&self, from: LogIndex, to: LogIndex) -> impl Iterator<Item = Result<FoundBlock, StorageError>> + '_ {
        let genesis = self.genesis.iter().map(|_| (LogIndex(0), LogIndex(0)));
        let heights = genesis.chain(self.ranges()).flat_map(move |(first, last)| first.max(from).0..=last.min(to).0);
        heights.filter_map(|height| self.block(LogIndex(height)).transpose())
    }

    fn header(&self, height: LogIndex, position: u64) -> Result<BlockHeader, StorageError> {
        let mut bytes = [0; BLOCK_HEADER_LEN];
        self.read(position, 0, &mut bytes)?;
        let header = BlockHeader::parse(&bytes).filter(|header| header.height == height);
        header.ok_or_else(|| self.changed(height, position))
    }

    fn read(&self, position: u64, skip: usize, buffer: &mut [u8]) -> Result<(), StorageError> {
        let Some(segment) = self.holding(position) else { return Ok(()) };
        let offset = segment.offset(position).saturating_add(skip as u64);
        Ok(self.disk.read_at(&segment.name(), offset, buffer)?)
    }

    fn holding(&self, position: u64) -> Option<&Segment> {
        let at = self.segments.partition_point(|segment| segment.start <= position);
        self.segments.get(at.checked_sub(1)?)
    }

    fn changed(&self, height: LogIndex, position: u64) -> StorageError {
        let place = self.holding(position).map_or_else(String::new, |segment| {
            format!("{} at byte {}", self.disk.place_of(&segment.name()), segment.offset(position))
        });
        StorageError::Damaged { place, what: format!("block {height} has changed since it was checked") }
    }
}

impl FoundBlock {
    /// The block, where the hash before it is known.
    #[must_use]
    pub fn whole(self) -> Option<Block> {
        let Self { height, term, kind, prev_hash, hash, payload } = self;
        Some(Block { height, term, kind, prev_hash: prev_hash?, hash, payload })
    }
}

impl From<Block> for FoundBlock {
    fn from(block: Block) -> Self {
        let Block { height, term, kind, prev_hash, hash, payload } = block;
        Self { height, term, kind, prev_hash: Some(prev_hash), hash, payload }
    }
}

impl Finding {
    /// What to do about it; `None` where nothing needs to be done.
    #[must_use]
    pub const fn advice(&self) -> Option<&'static str> {
        match (self.severity, self.is_archived) {
            (Severity::Damage, true) => Some("put this file back from a copy; the server runs without the archive"),
            (Severity::Damage, false) => Some(
                "put this directory back from a copy that is no older, or remove this server from the cluster and add \
                 it anew with an empty directory",
            ),
            _ => None,
        }
    }
}

/// `damage: data/server-1/segment-0000000000000007 at byte 4133: what is wrong`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, byte, what, .. } = self;
        write!(f, "{severity}: {file}")?;
        byte.iter().try_for_each(|byte| write!(f, " at byte {byte}"))?;
        write!(f, ": {what}")
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Harmless => "harmless",
            Self::Incomplete => "incomplete",
            Self::Damage => "damage",
        })
    }
}

#[cfg(test)]
mod tests;
