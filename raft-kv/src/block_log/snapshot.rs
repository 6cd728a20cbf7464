//! The snapshots of a log, each in a file of its own: the one that it follows, and the one that is being received. In
//! memory are their names and some 24 bytes a chunk.

use bytes::Bytes;
use raft_core::{LogIndex, SnapshotChunk, SnapshotMeta, StorageError};

use super::segments::snapshot_name;
use super::snapshot_file::{self, Layout, Piece};
use crate::crc::crc32c;
use crate::disk::Disk;

#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    installed: Stored,
    receiving: Option<Stored>,
}

#[derive(Clone, Debug)]
struct Stored {
    meta: SnapshotMeta,
    file: String,
    /// Where the state begins in the file.
    state_at: u64,
    /// In the order of their offsets, without a gap.
    pieces: Vec<Piece>,
    /// Whether that is all of it.
    done: bool,
}

impl Snapshots {
    /// The genesis, which has no bytes.
    pub(super) const fn new(genesis: SnapshotMeta) -> Self {
        let installed = Stored { meta: genesis, file: String::new(), state_at: 0, pieces: Vec::new(), done: true };
        Self { installed, receiving: None }
    }

    /// The file of what is installed; none of a genesis.
    pub(super) fn file(&self) -> Option<&str> {
        Some(self.installed.file.as_str()).filter(|file| !file.is_empty())
    }

    /// A snapshot is installed that an earlier life received.
    pub(super) fn follow(&mut self, meta: SnapshotMeta) {
        let file = snapshot_name(meta.last_included_index);
        self.installed = Stored { meta, file, state_at: 0, pieces: Vec::new(), done: true };
    }

    /// Reads of the installed snapshot's file where its bytes stand.
    pub(super) fn load(&mut self, disk: &impl Disk) -> Result<(), StorageError> {
        let Some(file) = self.file() else { return Ok(()) };
        let Layout { meta, state_at, pieces } = snapshot_file::read(disk, file)?;
        if meta != self.installed.meta {
            let what = String::from("it is not the snapshot that was installed");
            return Err(StorageError::Damaged { place: disk.place_of(file), what });
        }
        (self.installed.state_at, self.installed.pieces) = (state_at, pieces);
        Ok(())
    }

    /// What the log follows.
    pub(super) const fn installed(&self) -> &SnapshotMeta {
        &self.installed.meta
    }

    /// The snapshot at `index`, where it was received and is all there.
    pub(super) fn received(&self, index: LogIndex) -> Option<&SnapshotMeta> {
        let all = self.receiving.as_ref().filter(|received| received.done);
        all.map(|received| &received.meta).filter(|meta| meta.last_included_index == index)
    }

    /// Contract 6: what a chunk of this snapshot at this offset should have been, where it does not continue.
    pub(super) fn check_chunk(&self, meta: &SnapshotMeta, offset: u64) -> Result<(), String> {
        let installed = self.installed.meta.last_included_index;
        if meta.last_included_index <= installed {
            return Err(format!("a snapshot beyond {installed}"));
        }
        let continues = |it: &Stored| it.meta == *meta && it.len() == offset && !it.done;
        if offset == 0 || self.receiving.as_ref().is_some_and(continues) {
            return Ok(());
        }
        Err(String::from("a chunk at offset 0, or one that continues the last"))
    }

    /// Begins to receive a snapshot into this file. Answers the file of the one that is given up for it.
    pub(super) fn begin(&mut self, meta: SnapshotMeta, file: String) -> Option<String> {
        let begun = Stored { meta, file, state_at: 0, pieces: Vec::new(), done: false };
        self.receiving.replace(begun).map(|given_up| given_up.file)
    }

    /// Forgets what was received. Answers its file.
    pub(super) fn give_up(&mut self) -> Option<String> {
        self.receiving.take().map(|given_up| given_up.file)
    }

    /// Takes in a chunk that was checked, of a snapshot that has begun. Appends to `out` what is to be written for it,
    /// and answers where.
    pub(super) fn receive(&mut self, chunk: &SnapshotChunk, out: &mut Vec<u8>) -> Option<(&str, u64)> {
        let receiving = self.receiving.as_mut()?;
        let at = if chunk.offset == 0 { 0 } else { receiving.state_at.saturating_add(chunk.offset) };
        if chunk.offset == 0 {
            snapshot_file::encode_header(&chunk.meta, out);
            receiving.state_at = out.len() as u64;
        }
        out.extend_from_slice(&chunk.data);
        if !chunk.data.is_empty() {
            let piece = Piece { offset: chunk.offset, len: chunk.data.len(), crc: crc32c(&chunk.data) };
            receiving.pieces.push(piece);
        }
        receiving.done = chunk.done;
        if chunk.done {
            snapshot_file::encode_end(&receiving.pieces, out);
        }
        Some((&receiving.file, at))
    }

    /// The file of what was received, and the name that it has once that is installed.
    pub(super) fn received_file(&self) -> Option<(String, String)> {
        let received = self.receiving.as_ref()?;
        Some((received.file.clone(), snapshot_name(received.meta.last_included_index)))
    }

    /// What was received takes the place of what was installed.
    pub(super) fn install(&mut self) {
        if let Some(received) = self.receiving.take() {
            let file = snapshot_name(received.meta.last_included_index);
            self.installed = Stored { file, ..received };
        }
    }

    /// Reads a part of the state at `index`. A piece is read whole, for its checksum is over all of it.
    pub(super) fn read(
        &self,
        disk: &impl Disk,
        index: LogIndex,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Bytes, StorageError> {
        let mut known = self.receiving.iter().chain([&self.installed]);
        let found = known.find(|stored| stored.meta.last_included_index == index && index > LogIndex(0));
        let Some((stored, rest)) = found.and_then(|stored| Some((stored, stored.len().checked_sub(offset)?))) else {
            return Err(StorageError::NoSnapshot { index, offset });
        };
        let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(max_bytes);
        let mut bytes = Vec::with_capacity(wanted);
        let first = stored.pieces.partition_point(|piece| piece.end() <= offset);
        for piece in stored.pieces.iter().skip(first) {
            let missing = wanted.saturating_sub(bytes.len());
            if missing == 0 {
                break;
            }
            let whole = stored.read(disk, piece)?;
            let skip = usize::try_from(offset.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
            bytes.extend(whole.iter().skip(skip).take(missing));
        }
        Ok(bytes.into())
    }
}

impl Stored {
    fn len(&self) -> u64 {
        self.pieces.last().map_or(0, Piece::end)
    }

    fn read(&self, disk: &impl Disk, piece: &Piece) -> Result<Vec<u8>, StorageError> {
        let at = self.state_at.saturating_add(piece.offset);
        let mut bytes = vec![0; piece.len];
        disk.read_at(&self.file, at, &mut bytes)?;
        if crc32c(&bytes) == piece.crc {
            return Ok(bytes);
        }
        let place = format!("{} at byte {at}", disk.place_of(&self.file));
        Err(StorageError::Damaged { place, what: String::from("a snapshot is not as it was written") })
    }
}

#[cfg(test)]
mod tests;
