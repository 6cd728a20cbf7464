//! Room for what is to be written (fault D6): the rest of the last segment's file, and the file of the next one.
//!
//! ```text
//!   last segment's file  ├── frames ──┤── rest ──┤    spare  ├──────────────────────┤
//!                                     └────────────── room ─────────────────────────┘
//! ```
//!
//! The device is full, as far as the log is concerned, when a file could not be made longer or made ahead, and the room
//! is less than the reserve. The reserve is for terms, votes and memberships, and for entries that were under way. So the
//! owner, who asks [`has_room`](raft_core::Storage::has_room), gives the log no commands before a write could fail.

use raft_core::StorageError;

use super::BlockLog;
use super::segments::{SPARE, Segment};
use crate::disk::{Change, Disk};

/// The reserve is this part of a segment: 16 MiB of 64.
const RESERVE_PART: u64 = 4;

/// What a snapshot leaves free on the device, beside its own bytes, in segments: one to go on with.
const FREE_SEGMENTS: u64 = 1;

/// What the log knows of its files' room.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes in the last segment's file: those that a write needs no more room for.
    held: u64,
    /// The same of the spare, where there is one.
    spare: u64,
    /// Whether the disk was asked for a spare since the last segment began.
    asked: bool,
}

impl<D: Disk> BlockLog<D> {
    /// Whether there is room for commands.
    pub(super) fn has_room(&self) -> bool {
        let spare = if self.disk.holds(SPARE) { self.room.spare } else { 0 };
        let reserve = self.options.segment_bytes / RESERVE_PART;
        self.rest().saturating_add(spare) >= reserve || !self.disk.lacks_room()
    }

    /// Whether a snapshot of so many bytes finds room beside the log.
    pub(super) fn has_room_for_snapshot(&self, bytes: u64) -> bool {
        self.disk.has_free(bytes.saturating_add(self.options.segment_bytes.saturating_mul(FREE_SEGMENTS)))
    }

    /// Opening and founding: the last segment's file is as long as a segment, where there is room for that.
    pub(super) fn reserve(&mut self) -> Result<(), StorageError> {
        let file = self.segments.last_name();
        self.disk.reserve(&file, self.options.segment_bytes);
        self.room.held = self.disk.len(&file)?;
        Ok(())
    }

    /// Whether a frame that ends here belongs to the next segment: this one is long enough. Or its file would have to
    /// grow and cannot, and the next one is there and has its room.
    pub(super) fn is_full(&self, end: u64) -> bool {
        let grows = end.saturating_sub(self.room.held);
        let cannot_grow = || !self.disk.has_free(grows) && self.disk.holds(SPARE);
        end > self.options.segment_bytes || (grows > 0 && cannot_grow())
    }

    /// Begins the file of the next segment.
    pub(super) fn begin_file(&mut self, file: &str) -> Result<(), StorageError> {
        let held = if self.disk.holds(SPARE) {
            raft_core::mark!(SpareTaken);
            self.submit(Change::Rename { from: SPARE, to: file })?;
            self.room.spare
        } else {
            self.submit(Change::Create { file })?;
            0
        };
        self.room = Room { held, spare: 0, asked: false };
        Ok(())
    }

    /// Has the next segment's file made once this one is half full; and again, where there was no room for it. A spare that
    /// was a short segment, and leaves too little, gives way to one once there is room.
    pub(super) fn prepare_spare(&mut self) -> Result<(), StorageError> {
        let is_half_full = self.segments.last().offset(self.segments.end()) > self.options.segment_bytes / 2;
        let is_missing = self.disk.lacks_room();
        if is_missing && !self.has_room() && self.disk.holds(SPARE) && self.disk.has_free(self.options.segment_bytes) {
            self.submit(Change::Remove { file: SPARE })?;
        }
        if (is_half_full && !self.room.asked || is_missing) && !self.disk.holds(SPARE) {
            (self.room.asked, self.room.spare) = (true, self.options.segment_bytes);
            self.disk.prepare(SPARE, self.options.segment_bytes);
        }
        Ok(())
    }

    /// Whether there is a spare, or one is being made.
    pub(super) fn has_spare_coming(&self) -> bool {
        self.disk.holds(SPARE) || (self.room.asked && !self.disk.lacks_room())
    }

    /// A segment that is not needed any more becomes the spare, with the room that it had.
    pub(super) fn keep_as_spare(&mut self, segment: &Segment) -> Result<u64, StorageError> {
        self.room.spare = segment.offset(self.segments.first().start);
        self.submit(Change::Rename { from: &segment.name(), to: SPARE })
    }

    fn rest(&self) -> u64 {
        self.room.held.saturating_sub(self.segments.last().offset(self.segments.end()))
    }
}
