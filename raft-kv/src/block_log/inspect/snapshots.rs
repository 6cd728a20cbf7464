//! Looking at the snapshot files of a directory.

use raft_core::{Digest, LogIndex, SnapshotMeta, StorageError};

use super::super::frame::{BLOCK_HEADER_LEN, BlockHeader};
use super::super::segments::{RECEIVING, is_snapshot, snapshot_name};
use super::super::snapshot_file::{self, Layout};
use super::Severity;
use super::walk::Walk;
use crate::crc::crc32c;
use crate::disk::Disk;

/// What a snapshot's file holds, where every byte of it is as it was written.
pub(in super::super) fn intact(disk: &impl Disk, file: &str) -> Option<SnapshotMeta> {
    let Layout { meta, state_at, pieces } = snapshot_file::read(disk, file).ok()?;
    let is_intact = |piece: &snapshot_file::Piece| {
        let mut bytes = vec![0; piece.len];
        let read = disk.read_at(file, state_at.saturating_add(piece.offset), &mut bytes);
        read.is_ok() && crc32c(&bytes) == piece.crc
    };
    let is_named = snapshot_name(meta.last_included_index) == file;
    (is_named && pieces.iter().all(is_intact)).then_some(meta)
}

impl<P: FnMut(u64, u64)> Walk<'_, P> {
    /// Reads every snapshot, installed or not, and compares it with the log.
    pub(super) fn snapshots(&mut self) {
        let files = self.disk.files();
        let installed = self.installed.clone();
        let wanted = installed.as_ref().map(|meta| snapshot_name(meta.last_included_index));
        for file in files.iter().filter(|file| is_snapshot(file)) {
            let is_wanted = wanted.as_ref() == Some(file);
            self.counts.snapshots = self.counts.snapshots.saturating_add(1);
            if !is_wanted && !self.is_adrift() {
                let what = "a snapshot that is not installed: the next start removes it";
                self.find(Severity::Harmless, file, None, what.into());
            }
            self.snapshot(file, installed.as_ref().filter(|_| is_wanted), is_wanted);
        }
        for file in files.iter().filter(|file| file.starts_with(RECEIVING)) {
            let what = "a snapshot that was being received: the next start removes it";
            self.find(Severity::Harmless, file, None, what.into());
        }
        if let Some(file) = wanted.filter(|file| !files.contains(file)) {
            self.find(Severity::Damage, &file, None, "the installed snapshot is not there".into());
        }
    }

    fn snapshot(&mut self, file: &str, installed: Option<&SnapshotMeta>, is_wanted: bool) {
        // One that nothing needs cannot be damaged.
        let severity = if is_wanted || self.is_adrift() { Severity::Damage } else { Severity::Harmless };
        let Layout { meta, state_at, pieces } = match snapshot_file::read(self.disk, file) {
            Ok(layout) => layout,
            Err(StorageError::Damaged { what, .. }) => return self.find(severity, file, None, what),
            Err(error) => return self.find(severity, file, None, error.to_string()),
        };
        if installed.is_some_and(|installed| *installed != meta) {
            self.find(severity, file, None, "it is not the snapshot that was installed".into());
        }
        let index = meta.last_included_index;
        if is_wanted && self.hash_of(index).is_some_and(|hash| Some(hash) != meta.digest) {
            let what = format!("it is of another block {index} than the one in the log");
            self.find(severity, file, None, what);
        }
        for piece in &pieces {
            let at = state_at.saturating_add(piece.offset);
            let mut bytes = vec![0; piece.len];
            let read = self.disk.read_at(file, at, &mut bytes);
            let len = piece.len;
            match read {
                Ok(()) if crc32c(&bytes) == piece.crc => {}
                Ok(()) => {
                    self.find(severity, file, Some(at), format!("a piece of {len} bytes is not as it was written"))
                }
                Err(error) => self.find(severity, file, Some(at), error.to_string()),
            }
            self.advance(len as u64);
        }
    }

    /// The hash of a block that the segments hold.
    fn hash_of(&self, height: LogIndex) -> Option<Digest> {
        let (position, _) = self.map.locate(height)?;
        let at = self.all.partition_point(|segment| segment.start <= position).checked_sub(1)?;
        let segment = self.all.get(at)?;
        let mut bytes = [0; BLOCK_HEADER_LEN];
        self.disk.read_at(&segment.name(), segment.offset(position), &mut bytes).ok()?;
        Some(BlockHeader::parse(&bytes).filter(|header| header.height == height)?.hash)
    }
}
