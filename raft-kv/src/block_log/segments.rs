//! The segments of a log: which file holds which part of the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use raft_core::LogIndex;

use super::frame::SEGMENT_HEADER_LEN;
use crate::disk::{Disk, DiskError};

/// A file that is ready to become the next segment: zeros, or a segment whose blocks are not needed any more.
pub(super) const SPARE: &str = "spare";

/// Begins the name of a snapshot that is being received.
pub(super) const RECEIVING: &str = "receiving-";

/// What versions before this one kept everything in.
pub(super) const OLD_FILE: &str = "blocks.log";

/// Where segments go that are kept though the log does not need them any more.
pub(super) const ARCHIVE: &str = "archive";

const SEGMENT: &str = "segment-";
const SNAPSHOT: &str = "snapshot-";

pub(super) fn segment_name(number: u64) -> String {
    format!("{SEGMENT}{number:016}")
}

pub(super) fn archived_name(number: u64) -> String {
    format!("{ARCHIVE}/{}", segment_name(number))
}

pub(super) fn snapshot_name(index: LogIndex) -> String {
    format!("{SNAPSHOT}{:016}", index.0)
}

/// The number of the segment with exactly this name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(SEGMENT)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

pub(super) fn is_snapshot(name: &str) -> bool {
    name.strip_prefix(SNAPSHOT).is_some_and(|index| index.parse::<u64>().is_ok())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    /// The position of its first frame, the checkpoint.
    pub start: u64,
    /// Where that one ends.
    pub first: u64,
}

impl Segment {
    pub(super) fn name(&self) -> String {
        segment_name(self.number)
    }

    /// Where a position of this segment is in its file.
    pub(super) const fn offset(&self, position: u64) -> u64 {
        position.saturating_sub(self.start).saturating_add(SEGMENT_HEADER_LEN as u64)
    }
}

/// Invariant: each segment's number is one more than that of the one before, and its start is where that one ends.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    older: VecDeque<Segment>,
    last: Segment,
    /// The last one's file, to which every write goes.
    last_name: Arc<str>,
    /// Where the last frame ends.
    end: u64,
}

impl Segments {
    pub(super) fn new(first: Segment) -> Self {
        Self { older: VecDeque::new(), end: first.first, last: first, last_name: first.name().into() }
    }

    pub(super) const fn last(&self) -> &Segment {
        &self.last
    }

    pub(super) fn last_name(&self) -> Arc<str> {
        Arc::clone(&self.last_name)
    }

    pub(super) fn first(&self) -> &Segment {
        self.older.front().unwrap_or(&self.last)
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn count(&self) -> usize {
        self.older.len().saturating_add(1)
    }

    /// The last segment goes on to here.
    pub(super) const fn extend(&mut self, end: u64) {
        self.end = end;
    }

    /// The next segment begins.
    pub(super) fn push(&mut self, next: Segment) {
        self.older.push_back(std::mem::replace(&mut self.last, next));
        self.last_name = next.name().into();
        self.end = next.first;
    }

    /// Takes the first segment out, where the one behind it begins at or before this position.
    pub(super) fn pop_before(&mut self, position: u64) -> Option<Segment> {
        let next = self.older.get(1).unwrap_or(&self.last);
        if next.start <= position { self.older.pop_front() } else { None }
    }

    /// Fills the buffer with what stands `skip` bytes behind this position, in the same frame.
    pub(super) fn read(
        &self,
        disk: &impl Disk,
        position: u64,
        skip: usize,
        buffer: &mut [u8],
    ) -> Result<(), DiskError> {
        let segment = self.holding(position);
        disk.read_at(&segment.name(), segment.offset(position).saturating_add(skip as u64), buffer)
    }

    /// What to call a position in an error.
    pub(super) fn place(&self, disk: &impl Disk, position: u64) -> String {
        let segment = self.holding(position);
        format!("{} at byte {}", disk.place_of(&segment.name()), segment.offset(position))
    }

    fn holding(&self, position: u64) -> &Segment {
        if self.last.start <= position {
            return &self.last;
        }
        let at = self.older.partition_point(|segment| segment.start <= position);
        at.checked_sub(1).and_then(|at| self.older.get(at)).unwrap_or(&self.last)
    }
}
