//! Beginning a write, and learning that it is durable.

use std::sync::Arc;

use crc32c::crc32c;
use raft_core::{Digest, Entry, LogIndex, SnapshotChunk, Storage, StorageError, Write, WriteOp};

use super::frame::{self, BLOCK_HEADER_LEN, FRAME_HEADER_LEN};
use super::snapshot::Piece;
use super::{BlockLog, Unsynced};
use crate::block::link;
use crate::disk::{Disk, DiskError};

/// A frame buffer that grew beyond this many bytes is given back after its write.
const BUFFER_KEPT: usize = 4 << 20;

impl<D: Disk> BlockLog<D> {
    /// Checks and submits a write, then does in memory what it says.
    pub(super) fn begin(&mut self, write: Write) -> Result<(), StorageError> {
        if write.id != self.last_write.next() {
            return expected(format!("write {}", self.last_write.next().0));
        }
        let end = match write.op {
            WriteOp::HardState(hard_state) => {
                let (_, end) = self.submit(|out| frame::encode_hard_state(hard_state, out))?;
                self.contents.hard_state = hard_state;
                end
            }
            WriteOp::Truncate(from) => self.truncate(from)?,
            WriteOp::Append { entries, digests } => self.append(&entries, digests.as_ref())?,
            WriteOp::SnapshotChunk(chunk) => self.receive(*chunk)?,
            WriteOp::InstallSnapshot { index, keep_from } => self.install(index, keep_from)?,
        };
        self.last_write = write.id;
        self.begun.push_back((write.id, end));
        Ok(())
    }

    fn truncate(&mut self, from: LogIndex) -> Result<u64, StorageError> {
        self.contents.check_truncate(from).or_else(expected)?;
        let (_, end) = self.submit(|out| frame::encode_truncate(from, out))?;
        self.contents.truncate(from);
        raft_core::mark!(TruncatedUnsynced, self.unsynced.back().is_some_and(|block| block.entry.index >= from));
        while self.unsynced.pop_back_if(|block| block.entry.index >= from).is_some() {}
        Ok(end)
    }

    fn append(&mut self, entries: &[Entry], digests: Option<&Arc<[Digest]>>) -> Result<u64, StorageError> {
        if entries.is_empty() {
            return expected(String::from("at least one entry"));
        }
        self.contents.check_append(entries).or_else(expected)?;
        let hashes = self.check_digests(entries, digests)?;
        let (body, end) = self.submit(|out| {
            frame::encode_append(out);
            entries.iter().zip(hashes.iter()).for_each(|(entry, hash)| frame::encode_block(entry, hash, out));
        })?;
        let mut offset = body.saturating_add(1);
        for (entry, hash) in entries.iter().zip(hashes.iter()) {
            self.contents.append(offset, entry);
            self.unsynced.push_back(Unsynced { entry: entry.clone(), hash: *hash, end });
            offset = offset.saturating_add((BLOCK_HEADER_LEN.saturating_add(entry.payload.bytes().len())) as u64);
        }
        Ok(end)
    }

    fn receive(&mut self, chunk: SnapshotChunk) -> Result<u64, StorageError> {
        let Some(anchor) = chunk.meta.digest else { return expected(String::from("a snapshot with a hash")) };
        self.contents.snapshots.check_chunk(&chunk.meta, chunk.offset).or_else(expected)?;
        let (_, end) = self.submit(|out| frame::encode_chunk(&chunk, &anchor, out))?;
        let SnapshotChunk { meta, offset, data, done } = chunk;
        let at = end.saturating_sub(data.len() as u64);
        self.contents.snapshots.receive(meta, Piece { offset, at, len: data.len(), crc: crc32c(&data) }, done);
        Ok(end)
    }

    fn install(&mut self, index: LogIndex, keep_from: Option<LogIndex>) -> Result<u64, StorageError> {
        let anchor = self.contents.check_install(index, keep_from).or_else(expected)?.digest;
        if keep_from.is_some() && Some(self.hash_at(index)?) != anchor {
            return expected(format!("a snapshot of block {index} as it stands here"));
        }
        let before_hash = keep_from.map(|first| self.hash_at(first.prev())).transpose()?;
        let (_, end) = self.submit(|out| frame::encode_install(index, keep_from, out))?;
        self.contents.install(keep_from, before_hash);
        let first = self.first_index();
        while self.unsynced.pop_front_if(|block| keep_from.is_none() || block.entry.index < first).is_some() {}
        Ok(end)
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
        let mut prev = self.hash_at(self.last_index())?;
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

    /// Forms a frame with this body in the buffer and submits it. Answers where the body begins, and where it ends.
    fn submit(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> Result<(u64, u64), StorageError> {
        let start = self.disk.len();
        self.buffer.clear(); // A write that was refused may have left its bytes.
        let formed = frame::encode_frame(start, self.synced, &mut self.buffer, body);
        formed.ok_or_else(|| too_long(&self.disk))?;
        let end = match self.disk.submit(&self.buffer) {
            Err(DiskError::Full { .. }) if raft_core::bug!(FullDiskCounts) => start,
            answer => answer.map_err(|error| self.poison(&error))?,
        };
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        Ok((start.saturating_add(FRAME_HEADER_LEN as u64), end))
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
            Err(_) if raft_core::bug!(FailedSyncCounts) => self.disk.len(),
            Err(DiskError::Full { .. }) if raft_core::bug!(FullDiskCounts) => self.disk.len(),
            answer => answer.map_err(|error| self.poison(&error))?,
        };
        let durable = if raft_core::bug!(ReportedBeforeSync) { self.disk.len() } else { durable };
        while let Some((id, end)) = self.begun.pop_front_if(|(_, end)| *end <= durable) {
            (self.persisted, self.synced) = (id, end);
        }
        while self.unsynced.pop_front_if(|block| block.end <= durable).is_some() {}
        Ok(())
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
