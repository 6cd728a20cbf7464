//! Blocks that the log does not need any more, in its archive: found again by reading its segments from the first on, a
//! part at a time, and kept by where they stand, 8 bytes a block.
//!
//! Blocks that were removed stand there as well, and those that took their place come later. So what is found is right
//! once everything up to the first block of the log has been read.

use raft_core::{Digest, LogIndex, Storage as _, StorageError};

use super::frame::{BLOCK_HEADER_LEN, BlockHeader, Body, FRAME_HEADER_LEN, SegmentHeader};
use super::segments::{Segment, Segments, archived_name, segment_name};
use super::window::{WINDOW_LEN, Window};
use super::{Block, BlockLog};
use crate::disk::Disk;

/// What has been read of the archive.
#[derive(Debug, Default)]
pub(super) struct Archive {
    /// Where the blocks stand, from height 1 on.
    positions: Vec<u64>,
    /// Those that have been read or begun, the first of all first.
    segments: Vec<Segment>,
    /// The position where reading goes on.
    at: u64,
    /// All below this height is found as it stays.
    found: LogIndex,
    /// Why nothing more is found.
    fault: Option<StorageError>,
}

impl<D: Disk> BlockLog<D> {
    /// Reads some more of what is before the first block. Answers whether there is still more.
    pub(super) fn read_archive(&mut self) -> bool {
        // All before the first block is durable; what is not, nobody may read.
        let (first, until) = (self.first_index(), self.first_needed(self.synced).min(self.synced));
        if !self.options.archive || self.archive.found >= first || first == LogIndex(1) || self.archive.fault.is_some()
        {
            return false;
        }
        match self.archive.read_on(&self.disk, &self.segments, until) {
            Ok(()) if self.archive.at < until => self.archive.fault.is_none(),
            Ok(()) => {
                if self.archive.positions.len() >= place(first.prev()) {
                    self.archive.found = first;
                }
                false
            }
            // A file that was just renamed may not be there yet: it is tried again.
            Err(StorageError::Damaged { place, what }) => {
                self.archive.fault = Some(StorageError::Damaged { place, what });
                false
            }
            Err(_) => false,
        }
    }

    /// The block at this height, which is before the first.
    pub(super) fn archived(&self, height: LogIndex) -> Result<Block, StorageError> {
        let (file, offset, header) = self.archived_header(height)?;
        let mut payload = vec![0; header.len];
        self.disk.read_at(&file, offset.saturating_add(BLOCK_HEADER_LEN as u64), &mut payload)?;
        let prev_hash = self.hash_or_archived(height.prev())?;
        let damaged = || StorageError::Damaged {
            place: format!("{} at byte {offset}", self.disk.place_of(&file)),
            what: format!("block {height} is not as it was written"),
        };
        let entry = header.entry(payload.into()).ok_or_else(damaged)?;
        let (kind, payload) = (entry.payload.kind(), bytes::Bytes::copy_from_slice(entry.payload.bytes()));
        Ok(Block { height, term: entry.term, kind, prev_hash, hash: header.hash, payload })
    }

    /// The hash of the block at this height, wherever it is.
    pub(super) fn hash_or_archived(&self, height: LogIndex) -> Result<Digest, StorageError> {
        if height == LogIndex(0) {
            Ok(self.genesis.block().hash)
        } else if height >= self.first_index().prev() {
            self.hash_at(height)
        } else {
            self.archived_header(height).map(|(.., header)| header.hash)
        }
    }

    fn archived_header(&self, height: LogIndex) -> Result<(String, u64, BlockHeader), StorageError> {
        let Archive { positions, segments, at, found, fault } = &self.archive;
        let first = self.first_index();
        if !self.options.archive {
            return Err(StorageError::Compacted { index: height, first });
        }
        if height >= *found {
            let reading =
                || StorageError::Io { what: format!("the archive is being read, up to byte {at} now: ask again") };
            return Err(fault.clone().unwrap_or_else(reading));
        }
        let place = usize::try_from(height.0.saturating_sub(1)).ok().and_then(|place| positions.get(place));
        let position =
            *place.ok_or_else(|| fault.clone().unwrap_or(StorageError::Compacted { index: height, first }))?;
        let holding = segments.partition_point(|segment| segment.start <= position).checked_sub(1);
        let segment = holding.and_then(|at| segments.get(at)).unwrap_or_else(|| self.segments.last());
        let (file, offset) = (file(&self.segments, segment.number), segment.offset(position));
        let mut bytes = [0; BLOCK_HEADER_LEN];
        self.disk.read_at(&file, offset, &mut bytes)?;
        let header = BlockHeader::parse(&bytes).filter(|header| header.height == height);
        let place = || format!("{} at byte {offset}", self.disk.place_of(&file));
        let damaged =
            || StorageError::Damaged { place: place(), what: format!("block {height} is not as it was written") };
        header.ok_or_else(damaged).map(|header| (file.clone(), offset, header))
    }
}

impl Archive {
    /// Reads on, about a window's length, and not beyond `until`.
    fn read_on<D: Disk>(&mut self, disk: &D, live: &Segments, until: u64) -> Result<(), StorageError> {
        let Some(segment) = self.segments.last().copied() else { return self.begin(disk, live, 1) };
        let mut window = Window::of(disk, file(live, segment.number))?;
        let end = until.min(self.at.saturating_add(WINDOW_LEN as u64));
        while self.at < end && self.fault.is_none() {
            let Some((header, body)) = window.frame(segment.start, self.at)? else {
                return self.begin(disk, live, segment.number.saturating_add(1));
            };
            let body_at = self.at.saturating_add(FRAME_HEADER_LEN as u64);
            self.at = body_at.saturating_add(header.len as u64);
            self.take(body_at, body);
        }
        Ok(())
    }

    /// Goes on to the next segment, which starts where the one before it ends.
    fn begin<D: Disk>(&mut self, disk: &D, live: &Segments, number: u64) -> Result<(), StorageError> {
        let file = file(live, number);
        let next = LogIndex(self.positions.len() as u64).next();
        if !disk.holds(&file) {
            self.fault = Some(StorageError::Compacted { index: next, first: next.next() });
            return Ok(());
        }
        let mut window = Window::of(disk, file.clone())?;
        let found = match window.header()? {
            SegmentHeader::Known { number: found, start } if (found, start) == (number, self.at) => {
                window.checkpoint(start)?.map(|(_, first)| Segment { number, start, first })
            }
            _ => None,
        };
        let what = || format!("it does not begin with what follows byte {} of the log", self.at);
        let segment = found.ok_or_else(|| StorageError::Damaged { place: disk.place_of(&file), what: what() })?;
        self.at = segment.first;
        self.segments.push(segment);
        Ok(())
    }

    /// Takes in a frame whose body stands at this position.
    fn take(&mut self, body_at: u64, body: &[u8]) {
        let gap = |index: LogIndex| Some(StorageError::Compacted { index, first: index.next() });
        match Body::parse(body) {
            Some(Body::Truncate(before)) => self.positions.truncate(place(before.height)),
            Some(Body::Append(blocks)) => {
                for (at, entry, _) in blocks.flatten() {
                    if place(entry.index.prev()) != self.positions.len() {
                        self.fault = gap(LogIndex(self.positions.len() as u64).next());
                        return;
                    }
                    self.positions.push(body_at.saturating_add(at as u64));
                }
            }
            // A snapshot took the place of blocks that never were here.
            Some(Body::Install { keep_from: None, meta }) => self.fault = gap(meta.last_included_index),
            _ => {}
        }
    }
}

/// How many blocks there are up to this height.
fn place(height: LogIndex) -> usize {
    usize::try_from(height.0).unwrap_or(usize::MAX)
}

/// The file of a segment, wherever it is now.
fn file(live: &Segments, number: u64) -> String {
    if number >= live.first().number { segment_name(number) } else { archived_name(number) }
}
