//! Going through the frames of a log again: each is checked against all before it.

use raft_core::{Digest, Entry, LogIndex, SnapshotMeta, StorageError};

use super::contents::Contents;
use super::frame::{BLOCK_HEADER_LEN, BlockHeader, Body, Checkpoint, Point};
use super::segments::Segments;
use crate::block::link;
use crate::disk::Disk;

/// The log as far as it is read.
pub(super) struct Replay<'a, D> {
    disk: &'a D,
    /// What the first segment that is kept begins with.
    founding: Checkpoint,
    pub contents: Contents,
}

pub(super) enum ReplayFault {
    /// The frame does not follow from those before it.
    Content(&'static str),
    Storage(StorageError),
}

impl<'a, D: Disk> Replay<'a, D> {
    pub(super) fn new(disk: &'a D, checkpoint: Checkpoint) -> Self {
        Self { disk, contents: Contents::of(&checkpoint), founding: checkpoint }
    }

    /// What the next segment must begin with.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.contents.checkpoint(&self.founding.genesis, self.founding.incarnation)
    }

    /// Takes in the frame body that begins at this position of the last segment.
    pub(super) fn apply(&mut self, segments: &Segments, at: u64, body: &[u8]) -> Result<(), ReplayFault> {
        match Body::parse(body).ok_or(ReplayFault::Content("a frame is of an unknown kind"))? {
            Body::Checkpoint(_) => Err(ReplayFault::Content("a second checkpoint")),
            Body::HardState(hard_state) => {
                self.contents.hard_state = hard_state;
                Ok(())
            }
            Body::Truncate(before) => self.truncate(segments, &before),
            Body::Append(blocks) => {
                for block in blocks {
                    let (place, entry, hash) = block.ok_or(ReplayFault::Content("a block is not readable"))?;
                    self.append(at.saturating_add(place as u64), &entry, hash).map_err(ReplayFault::Content)?;
                }
                Ok(())
            }
            Body::Install { meta, keep_from } => self.install(segments, *meta, keep_from),
        }
    }

    fn append(&mut self, position: u64, entry: &Entry, hash: Digest) -> Result<(), &'static str> {
        if self.contents.check_append([entry]).is_err() {
            return Err("a block's height or term does not follow the block before it");
        }
        if link(&self.contents.last().hash, entry) != hash {
            return Err("a block's hash does not link it to the block before it");
        }
        self.contents.append(position, entry, hash);
        Ok(())
    }

    fn truncate(&mut self, segments: &Segments, before: &Point) -> Result<(), ReplayFault> {
        raft_core::mark!(TruncationRead);
        if raft_core::bug!(TruncationForgotten) {
            return Ok(());
        }
        if self.contents.check_truncate(before.height.next()).is_err() {
            return Err(ReplayFault::Content("a truncation of blocks that are not there"));
        }
        if self.known(segments, before.height)?.is_some_and(|known| known != *before) {
            return Err(ReplayFault::Content("a truncation after another block than the one that is there"));
        }
        self.contents.truncate(before);
        Ok(())
    }

    fn install(
        &mut self,
        segments: &Segments,
        meta: SnapshotMeta,
        keep_from: Option<LogIndex>,
    ) -> Result<(), ReplayFault> {
        raft_core::mark!(InstallRead);
        let (index, last) = (meta.last_included_index, self.contents.index.last());
        if index <= self.contents.snapshots.installed().last_included_index {
            return Err(ReplayFault::Content("a snapshot is installed that is not beyond the one before it"));
        }
        let before = match keep_from {
            None => None,
            Some(first) => {
                if index > last || first > index.next() {
                    return Err(ReplayFault::Content("blocks are kept that do not follow the snapshot"));
                }
                let named = Point {
                    height: index,
                    term: meta.last_included_term,
                    hash: meta.digest.unwrap_or(Digest([0; 32])),
                };
                if self.known(segments, index)?.is_some_and(|known| known != named) {
                    return Err(ReplayFault::Content("a snapshot is not of the block at its height"));
                }
                let before = self.known(segments, first.prev())?;
                Some((first.prev(), before.map_or(self.contents.before_hash, |before| before.hash)))
            }
        };
        self.contents.snapshots.follow(meta);
        self.contents.follow_snapshot(before);
        Ok(())
    }

    /// The block at this height: one that was read already, or the one before the first. Nothing of those before, which
    /// were in segments that are not kept.
    fn known(&self, segments: &Segments, height: LogIndex) -> Result<Option<Point>, ReplayFault> {
        let Some((position, term)) = self.contents.index.locate(height) else {
            let (before, term) = self.contents.index.before();
            return Ok((height == before).then_some(Point { height, term, hash: self.contents.before_hash }));
        };
        let mut bytes = [0; BLOCK_HEADER_LEN];
        segments.read(self.disk, position, 0, &mut bytes).map_err(|error| ReplayFault::Storage(error.into()))?;
        let header = BlockHeader::parse(&bytes).filter(|header| header.height == height);
        let hash = header.ok_or(ReplayFault::Content("a block has changed while it was read"))?.hash;
        Ok(Some(Point { height, term, hash }))
    }
}
