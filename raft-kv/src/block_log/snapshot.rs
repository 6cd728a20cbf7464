//! The snapshots of a log, by where their bytes stand in the file: the one that it follows, and the one that is being
//! received. In memory are their names and some 32 bytes a chunk.

use bytes::Bytes;
use crc32c::crc32c;
use raft_core::{LogIndex, SnapshotMeta, StorageError};

use crate::disk::Disk;

#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    installed: Stored,
    receiving: Option<Stored>,
}

#[derive(Clone, Debug)]
struct Stored {
    meta: SnapshotMeta,
    /// In the order of their offsets, without a gap.
    pieces: Vec<Piece>,
    /// Bytes in all pieces.
    len: u64,
    /// Whether that is all of it.
    done: bool,
}

/// A chunk's bytes, as a run of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where they begin in the state.
    pub offset: u64,
    /// Where they begin in the file.
    pub at: u64,
    pub len: usize,
    pub crc: u32,
}

impl Snapshots {
    /// The genesis, which has no bytes.
    pub(super) const fn new(genesis: SnapshotMeta) -> Self {
        let installed = Stored { meta: genesis, pieces: Vec::new(), len: 0, done: true };
        Self { installed, receiving: None }
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
        let continues = |it: &Stored| it.meta == *meta && it.len == offset && !it.done;
        if offset == 0 || self.receiving.as_ref().is_some_and(continues) {
            return Ok(());
        }
        Err(String::from("a chunk at offset 0, or one that continues the last"))
    }

    /// Takes in a chunk that was checked.
    pub(super) fn receive(&mut self, meta: SnapshotMeta, piece: Piece, done: bool) {
        if piece.offset == 0 {
            self.receiving = Some(Stored { meta, pieces: Vec::new(), len: 0, done });
        }
        if let Some(receiving) = &mut self.receiving {
            receiving.pieces.push(piece);
            receiving.len = piece.end();
            receiving.done = done;
        }
    }

    /// What was received takes the place of what was installed.
    pub(super) fn install(&mut self) {
        if let Some(received) = self.receiving.take() {
            self.installed = received;
        }
    }

    /// Forgets what was received and not installed: nobody goes on with it in another life.
    pub(super) fn forget_received(&mut self) {
        raft_core::mark!(ReceivedForgotten, self.receiving.is_some());
        self.receiving = None;
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
        let Some((stored, rest)) = found.and_then(|stored| Some((stored, stored.len.checked_sub(offset)?))) else {
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
            let whole = piece.read(disk)?;
            let skip = usize::try_from(offset.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
            bytes.extend(whole.iter().skip(skip).take(missing));
        }
        Ok(bytes.into())
    }
}

impl Piece {
    const fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }

    fn read(&self, disk: &impl Disk) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; self.len];
        disk.read_at(self.at, &mut bytes)?;
        if crc32c(&bytes) == self.crc {
            return Ok(bytes);
        }
        let place = format!("{} at byte {}", disk.place(), self.at);
        Err(StorageError::Damaged { place, what: String::from("a snapshot is not as it was written") })
    }
}

#[cfg(test)]
mod tests;
