//! Beginning a write, and learning that it is durable.

use std::sync::Arc;

use raft_core::{Digest, Entry, LogIndex, SnapshotChunk, Storage, StorageError, Write, WriteId, WriteOp};

use super::frame::{self, BLOCK_HEADER_LEN, FRAME_HEADER_LEN, Point, encode_frame};
use super::recovery::begin_segment;
use super::segments::{RECEIVING, Segment, segment_name};
use super::{BlockLog, Unsynced};
use crate::block::link;
use crate::disk::{Change, Disk, DiskError};

/// A buffer that grew beyond this many bytes is given back after its write.
const BUFFER_KEPT: usize = 4 << 20;

/// A write that was begun and is not reported.
#[derive(Debug)]
pub(super) struct Begun {
    id: WriteId,
    /// The operation that completes it.
    pub(super) ticket: u64,
    /// Where its frame ends; none of a chunk, which has no frame.
    end: Option<u64>,
}

/// A frame that was submitted.
struct Submitted {
    /// The position of its body.
    body: u64,
    end: u64,
    ticket: u64,
}

impl<D: Disk> BlockLog<D> {
    /// Checks and submits a write, then does in memory what it says.
    pub(super) fn begin(&mut self, write: Write) -> Result<(), StorageError> {
        if write.id != self.last_write.next() {
            return expected(format!("write {}", self.last_write.next().0));
        }
        let (ticket, end) = match write.op {
            WriteOp::HardState(hard_state) => {
                let frame = self.submit_frame(|out| frame::encode_hard_state(hard_state, out))?;
                self.contents.hard_state = hard_state;
                (frame.ticket, Some(frame.end))
            }
            WriteOp::Truncate(from) => self.truncate(from)?,
            WriteOp::Append { entries, digests } => self.append(&entries, digests.as_ref())?,
            WriteOp::SnapshotChunk(chunk) => (self.receive(&chunk)?, None),
            WriteOp::InstallSnapshot { index, keep_from } => self.install(index, keep_from)?,
            WriteOp::GiveUpSnapshot => (self.give_up()?, None),
        };
        self.last_write = write.id;
        self.begun.push_back(Begun { id: write.id, ticket, end });
        Ok(())
    }

    fn truncate(&mut self, from: LogIndex) -> Result<(u64, Option<u64>), StorageError> {
        self.contents.check_truncate(from).or_else(expected)?;
        let height = from.prev();
        let before = Point { height, term: self.term(height)?, hash: self.hash_at(height)? };
        let frame = self.submit_frame(|out| frame::encode_truncate(&before, out))?;
        self.contents.truncate(&before);
        raft_core::mark!(TruncatedUnsynced, self.unsynced.back().is_some_and(|block| block.entry.index >= from));
        while self.unsynced.pop_back_if(|block| block.entry.index >= from).is_some() {}
        Ok((frame.ticket, Some(frame.end)))
    }

    fn append(
        &mut self,
        entries: &[Entry],
        digests: Option<&Arc<[Digest]>>,
    ) -> Result<(u64, Option<u64>), StorageError> {
        if entries.is_empty() {
            return expected(String::from("at least one entry"));
        }
        self.contents.check_append(entries).or_else(expected)?;
        let hashes = self.check_digests(entries, digests)?;
        let Submitted { body, end, ticket } = self.submit_frame(|out| {
            frame::encode_append(out);
            entries.iter().zip(hashes.iter()).for_each(|(entry, hash)| frame::encode_block(entry, hash, out));
        })?;
        let mut position = body.saturating_add(1);
        for (entry, hash) in entries.iter().zip(hashes.iter()) {
            self.contents.append(position, entry, *hash);
            self.unsynced.push_back(Unsynced { entry: entry.clone(), hash: *hash, ticket });
            position = position.saturating_add((BLOCK_HEADER_LEN.saturating_add(entry.payload.bytes().len())) as u64);
        }
        Ok((ticket, Some(end)))
    }

    /// A chunk goes to the file of its snapshot, which has a name of its own until it is installed.
    fn receive(&mut self, chunk: &SnapshotChunk) -> Result<u64, StorageError> {
        if chunk.meta.digest.is_none() {
            return expected(String::from("a snapshot with a hash"));
        }
        self.contents.snapshots.check_chunk(&chunk.meta, chunk.offset).or_else(expected)?;
        if chunk.data.len() > frame::MAX_BODY_LEN {
            return Err(too_long(&self.disk));
        }
        if chunk.offset == 0 {
            self.received = self.received.saturating_add(1);
            let file = format!("{RECEIVING}{}", self.received);
            if let Some(given_up) = self.contents.snapshots.begin(chunk.meta.clone(), file.clone()) {
                self.submit(Change::Remove { file: &given_up })?;
            }
            self.submit(Change::Create { file: &file })?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (file, offset) = match self.contents.snapshots.receive(chunk, &mut buffer) {
            Some((file, offset)) => (String::from(file), offset),
            None => return expected(String::from("a chunk at offset 0")),
        };
        let ticket = self.submit(Change::Write { file: &file, offset, bytes: &buffer })?;
        self.keep_buffer(buffer);
        Ok(ticket)
    }

    /// What was received goes, and its room is free again.
    fn give_up(&mut self) -> Result<u64, StorageError> {
        match self.contents.snapshots.give_up() {
            Some(file) => self.submit(Change::Remove { file: &file }),
            None => Ok(self.begun.back().map_or(0, |begun| begun.ticket)),
        }
    }

    /// The snapshot's file gets its name before the frame is written that makes it count. What it replaces goes when
    /// that is durable.
    fn install(&mut self, index: LogIndex, keep_from: Option<LogIndex>) -> Result<(u64, Option<u64>), StorageError> {
        let meta = self.contents.check_install(index, keep_from).or_else(expected)?.clone();
        if keep_from.is_some() && Some(self.hash_at(index)?) != meta.digest {
            return expected(format!("a snapshot of block {index} as it stands here"));
        }
        let before = match keep_from {
            Some(first) => Some((first.prev(), self.hash_at(first.prev())?)),
            None => None,
        };
        let replaced = self.contents.snapshots.file().map(String::from);
        if let Some((from, to)) = self.contents.snapshots.received_file() {
            self.submit(Change::Rename { from: &from, to: &to })?;
        }
        let frame = self.submit_frame(|out| frame::encode_install(&meta, keep_from, out))?;
        self.contents.snapshots.install();
        self.contents.follow_snapshot(before);
        let first = self.first_index();
        while self.unsynced.pop_front_if(|block| keep_from.is_none() || block.entry.index < first).is_some() {}
        self.will_reclaim(frame.ticket, replaced, frame.body);
        Ok((frame.ticket, Some(frame.end)))
    }

    /// Hashes are taken as given, for the caller had them from [`Storage::link`]; where none are given they are made.
    /// A debug build makes them in any case and compares, since a wrong one would read as damage at the next start.
    fn check_digests(&self, entries: &[Entry], given: Option<&Arc<[Digest]>>) -> Result<Arc<[Digest]>, StorageError> {
        if let Some(given) = given
            && given.len() != entries.len()
        {
            return expected(format!("{} digests", entries.len()));
        }
        if let Some(given) = given
            && !cfg!(debug_assertions)
        {
            return Ok(Arc::clone(given));
        }
        let mut prev = self.contents.last().hash;
        let link_next = |entry| {
            prev = link(&prev, entry);
            prev
        };
        let linked: Arc<[Digest]> = entries.iter().map(link_next).collect();
        if given.is_some_and(|given| *given != linked) {
            return expected(String::from("digests that link to the last block"));
        }
        Ok(linked)
    }

    /// Forms a frame with this body and submits it: to the last segment, or to a new one where it finds no room there.
    fn submit_frame(&mut self, body: impl Fn(&mut Vec<u8>)) -> Result<Submitted, StorageError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear(); // A write that was refused may have left its bytes.
        let start = self.segments.end();
        encode_frame(start, self.synced, &mut buffer, &body).ok_or_else(|| too_long(&self.disk))?;
        let last = *self.segments.last();
        let (offset, len) = (last.offset(start), buffer.len() as u64);
        let is_full = self.is_full(offset.saturating_add(len)) && start > last.first;
        let submitted = if is_full {
            buffer.clear();
            self.submit_to_next(&mut buffer, &body)?
        } else {
            let file = self.segments.last_name();
            let ticket = self.submit(Change::Write { file: &file, offset, bytes: &buffer })?;
            let body = start.saturating_add(FRAME_HEADER_LEN as u64);
            Submitted { body, end: start.saturating_add(len), ticket }
        };
        self.segments.extend(submitted.end);
        self.prepare_spare()?;
        self.keep_buffer(buffer);
        Ok(submitted)
    }

    /// See [`Storage::seal`].
    pub(super) fn write_seal(&mut self) {
        if self.refresh().is_ok() {
            let hard_state = self.contents.hard_state;
            // Where it fails the log is as it is without.
            let _ = self.submit_frame(|out| frame::encode_hard_state(hard_state, out));
        }
    }

    /// Begins the next segment, with a frame of this body behind its checkpoint.
    fn submit_to_next(
        &mut self,
        buffer: &mut Vec<u8>,
        body: &impl Fn(&mut Vec<u8>),
    ) -> Result<Submitted, StorageError> {
        let (number, start) = (self.segments.last().number.saturating_add(1), self.segments.end());
        let file = segment_name(number);
        let checkpoint = self.contents.checkpoint(&self.genesis, self.incarnation);
        begin_segment(number, start, self.synced, &checkpoint, buffer).ok_or_else(|| too_long(&self.disk))?;
        let next = Segment { number, start, first: start };
        let position =
            |buffer: &Vec<u8>| start.saturating_add((buffer.len() as u64).saturating_sub(next.offset(start)));
        let first = position(buffer);
        encode_frame(first, self.synced, buffer, body).ok_or_else(|| too_long(&self.disk))?;
        let end = position(buffer);
        raft_core::mark!(SegmentBegun);
        self.begin_file(&file)?;
        let ticket = self.submit(Change::Write { file: &file, offset: 0, bytes: buffer })?;
        self.segments.push(Segment { first, ..next });
        Ok(Submitted { body: first.saturating_add(FRAME_HEADER_LEN as u64), end, ticket })
    }

    /// Submits an operation; answers its ticket.
    pub(super) fn submit(&mut self, operation: Change<'_>) -> Result<u64, StorageError> {
        match self.disk.submit(operation) {
            Err(DiskError::Full { .. }) if raft_core::bug!(FullDiskCounts) => Ok(0),
            answer => answer.map_err(|error| self.poison(&error)),
        }
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT);
        self.buffer = buffer;
    }

    /// Notes the first failure and answers with it.
    fn poison(&mut self, error: &DiskError) -> StorageError {
        raft_core::mark!(LogPoisoned, self.poisoned.is_none());
        StorageError::Poisoned { what: self.poisoned.get_or_insert_with(|| error.to_string()).clone() }
    }

    /// Learns from the disk what has become durable since.
    pub(super) fn refresh(&mut self) -> Result<(), StorageError> {
        if let Some(what) = &self.poisoned {
            return Err(StorageError::Poisoned { what: what.clone() });
        }
        let durable = match self.disk.durable() {
            Err(_) if raft_core::bug!(FailedSyncCounts) => u64::MAX,
            Err(DiskError::Full { .. }) if raft_core::bug!(FullDiskCounts) => u64::MAX,
            answer => answer.map_err(|error| self.poison(&error))?,
        };
        let durable = if raft_core::bug!(ReportedBeforeSync) { u64::MAX } else { durable };
        while let Some(begun) = self.begun.pop_front_if(|begun| begun.ticket <= durable) {
            self.persisted = begun.id;
            self.synced = begun.end.unwrap_or(self.synced);
        }
        while self.unsynced.pop_front_if(|block| block.ticket <= durable).is_some() {}
        self.reclaim(durable)?;
        self.prepare_spare()
    }
}

/// Contract 1: what the write should have been.
fn expected<T>(what: String) -> Result<T, StorageError> {
    Err(StorageError::OutOfOrder { what })
}

pub(super) fn too_long(disk: &impl Disk) -> StorageError {
    let what = format!("a write of at most {} bytes to {}", frame::MAX_BODY_LEN, disk.place());
    StorageError::OutOfOrder { what }
}
