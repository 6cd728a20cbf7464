//! Beginning a write, and learning that it is durable.

use std::sync::Arc;

use raft_core::{Digest, Entry, LogIndex, Storage, StorageError, Write, WriteOp};

use super::frame::{self, BLOCK_HEADER_LEN, FRAME_HEADER_LEN};
use super::{BlockLog, Unsynced};
use crate::block::link;
use crate::disk::{Disk, DiskError};

/// A frame buffer that grew beyond this many bytes is given back after its write.
const BUFFER_KEPT: usize = 4 << 20;

impl<D: Disk> BlockLog<D> {
    /// Checks and submits a write, then does in memory what it says.
    pub(super) fn begin(&mut self, write: Write) -> Result<(), StorageError> {
        let hashes = self.check(&write)?.unwrap_or_default();
        let (first_block, end) = self.submit(&write.op, &hashes)?;
        match write.op {
            WriteOp::HardState(hard_state) => self.hard_state = hard_state,
            WriteOp::Truncate(from) => {
                self.index.truncate(from);
                while self.unsynced.pop_back_if(|block| block.entry.index >= from).is_some() {}
            }
            WriteOp::Append { entries, .. } => self.append(&entries, &hashes, first_block, end),
            WriteOp::SnapshotChunk(_) | WriteOp::InstallSnapshot { .. } => {}
        }
        self.last_write = write.id;
        self.begun.push_back((write.id, end));
        Ok(())
    }

    /// Contract 1: whether this write continues the log, and for an append the hashes of its entries.
    fn check(&self, write: &Write) -> Result<Option<Arc<[Digest]>>, StorageError> {
        let expected = |what| Err(StorageError::OutOfOrder { what });
        if write.id != self.last_write.next() {
            return expected(format!("write {}", self.last_write.next().0));
        }
        let last = self.last_index();
        match &write.op {
            WriteOp::HardState(_) => Ok(None),
            WriteOp::Truncate(from) if *from == LogIndex(0) || *from > last => {
                expected(format!("a truncation at 1 to {last}"))
            }
            WriteOp::Truncate(_) => Ok(None),
            WriteOp::SnapshotChunk(_) | WriteOp::InstallSnapshot { .. } => expected(String::from("no snapshot")),
            WriteOp::Append { entries, .. } if entries.is_empty() => expected(String::from("at least one entry")),
            WriteOp::Append { entries, digests } => {
                let (mut index, mut term) = (last, self.index.last_term());
                for entry in entries.iter() {
                    if entry.index != index.next() || entry.term < term {
                        return expected(format!("entry {} of term {term} or above", index.next()));
                    }
                    (index, term) = (entry.index, entry.term);
                }
                self.check_digests(entries, digests.as_ref()).map(Some)
            }
        }
    }

    /// Hashes are taken as given, for the caller had them from [`Storage::link`]; where none are given they are made.
    /// A debug build makes them in any case and compares, since a wrong one would read as damage at the next start.
    fn check_digests(&self, entries: &[Entry], given: Option<&Arc<[Digest]>>) -> Result<Arc<[Digest]>, StorageError> {
        if let Some(given) = given
            && given.len() != entries.len()
        {
            return Err(StorageError::OutOfOrder { what: format!("{} digests", entries.len()) });
        }
        if let Some(given) = given
            && !cfg!(debug_assertions)
        {
            return Ok(Arc::clone(given));
        }
        let mut prev = self.hash_at(self.last_index())?;
        let link_next = |entry| {
            prev = link(&prev, entry);
            prev
        };
        let linked: Arc<[Digest]> = entries.iter().map(link_next).collect();
        if given.is_some_and(|given| *given != linked) {
            return Err(StorageError::OutOfOrder { what: String::from("digests that link to the last block") });
        }
        Ok(linked)
    }

    /// Forms the write's frame in the buffer and submits it. Answers where the frame's first block begins, and where
    /// the frame ends.
    fn submit(&mut self, op: &WriteOp, hashes: &[Digest]) -> Result<(u64, u64), StorageError> {
        let start = self.disk.len();
        self.buffer.clear(); // A write that was refused may have left its bytes.
        let formed = frame::encode_frame(start, self.synced, &mut self.buffer, |out| match op {
            WriteOp::HardState(hard_state) => frame::encode_hard_state(*hard_state, out),
            WriteOp::Truncate(from) => frame::encode_truncate(*from, out),
            WriteOp::Append { entries, .. } => {
                frame::encode_append(out);
                entries.iter().zip(hashes).for_each(|(entry, hash)| frame::encode_block(entry, hash, out));
            }
            WriteOp::SnapshotChunk(_) | WriteOp::InstallSnapshot { .. } => {}
        });
        formed.ok_or_else(|| too_long(&self.disk))?;
        let end = self.disk.submit(&self.buffer).map_err(|error| self.poison(&error))?;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        Ok((start.saturating_add(FRAME_HEADER_LEN as u64).saturating_add(1), end))
    }

    fn append(&mut self, entries: &[Entry], hashes: &[Digest], mut offset: u64, end: u64) {
        for (entry, hash) in entries.iter().zip(hashes) {
            self.index.push(offset, entry.term);
            self.unsynced.push_back(Unsynced { entry: entry.clone(), hash: *hash, end });
            offset = offset.saturating_add((BLOCK_HEADER_LEN.saturating_add(entry.payload.bytes().len())) as u64);
        }
    }

    /// Notes the first failure and answers with it.
    fn poison(&mut self, error: &DiskError) -> StorageError {
        StorageError::Poisoned { what: self.poisoned.get_or_insert_with(|| error.to_string()).clone() }
    }

    /// Learns from the disk what has become durable since.
    pub(super) fn refresh(&mut self) -> Result<(), StorageError> {
        if let Some(what) = &self.poisoned {
            return Err(StorageError::Poisoned { what: what.clone() });
        }
        let durable = self.disk.durable().map_err(|error| self.poison(&error))?;
        while let Some((id, end)) = self.begun.pop_front_if(|(_, end)| *end <= durable) {
            (self.persisted, self.synced) = (id, end);
        }
        while self.unsynced.pop_front_if(|block| block.end <= durable).is_some() {}
        Ok(())
    }
}

pub(super) fn too_long(disk: &impl Disk) -> StorageError {
    let what = format!("a write of at most {} bytes to {}", frame::MAX_BODY_LEN, disk.place());
    StorageError::OutOfOrder { what }
}
