//! The log that takes a damaged one's place, as it is written: block after block, from this directory and from peers.
//!
//! Blocks go to the file as they come, so that memory holds one frame and what a peer sent at once, however long the log and
//! its gaps are. Fetched ones are right once what comes behind them fits; where it does not, the file goes on again from
//! where it was before the first of them.

use raft_core::{Digest, Entry, LogIndex};

use super::super::frame::{Checkpoint, Point, encode_append, encode_block, encode_frame};
use super::super::inspect::Inspection;
use super::super::recovery::{ZEROS_LEN, begin_segment};
use super::super::{OpenError, SEGMENT_HEADER_LEN, write};
use super::{Misfit, REPAIRING, TakeError};
use crate::block::{link, payload};
use crate::disk::{Change, Disk as _, FileDisk};

/// Blocks that are written in one frame, in bytes; the last of them may go beyond.
const FRAME_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Rewrite {
    found: Inspection,
    /// The segment's.
    pub(super) number: u64,
    start: u64,
    /// The block that the log must end with.
    last: Point,
    /// The last block that is known to be the right one.
    sound: Point,
    /// How long the file is that ends with that block, as long as blocks behind it are not known to be right.
    sound_len: u64,
    /// The last block that was taken.
    at: Point,
    /// Whole frames are in the file, so many bytes with what is before them.
    written: u64,
    /// Blocks of the next frame.
    frame: Vec<u8>,
}

impl Rewrite {
    /// Begins with this checkpoint, and with the blocks behind it that are there.
    pub(super) fn begin(
        disk: &mut FileDisk,
        found: Inspection,
        (number, start): (u64, u64),
        checkpoint: &Checkpoint,
        last: Point,
    ) -> Result<Self, OpenError> {
        let mut bytes = Vec::new();
        begin_segment(number, start, start, checkpoint, &mut bytes).ok_or_else(|| write::too_long(disk))?;
        forget(disk)?;
        disk.settle(&[
            Change::Create { file: REPAIRING },
            Change::Write { file: REPAIRING, offset: 0, bytes: &bytes },
        ])?;
        let (sound, written) = (checkpoint.last, bytes.len() as u64);
        let mut rewrite =
            Self { found, number, start, last, sound, sound_len: written, at: sound, written, frame: Vec::new() };
        rewrite.advance(disk)?;
        Ok(rewrite)
    }

    /// The first heights that are missing.
    pub(super) fn missing(&self) -> Option<(LogIndex, LogIndex)> {
        let first = self.at.height.next();
        let behind = self.found.ranges().map(|(from, to)| (from.max(first.next()), to));
        let next = behind.filter(|(from, to)| from <= to).map(|(from, _)| from).min();
        let last = next.map_or(self.last.height, |next| next.prev().min(self.last.height));
        (self.at.height < self.last.height).then_some((first, last))
    }

    /// Whether no fetched block waits for what comes behind it.
    pub(super) fn is_anchored(&self) -> bool {
        self.at == self.sound
    }

    /// Whether all of it is in the file.
    pub(super) fn is_done(&self) -> bool {
        self.at == self.last && self.is_anchored()
    }

    /// See [`Repair::take`](super::Repair::take).
    pub(super) fn take(&mut self, disk: &mut FileDisk, entries: &[Entry]) -> Result<(), TakeError> {
        let Some((first, last)) = self.missing() else { return Ok(()) };
        for (entry, height) in entries.iter().zip((first.0..=last.0).map(LogIndex)) {
            if entry.index != height || !self.append(disk, entry, None)? {
                return Err(self.misfit(disk, height)?.into());
            }
        }
        match self.advance(disk)? {
            None => Ok(()),
            Some(height) => Err(self.misfit(disk, height)?.into()),
        }
    }

    /// Forgets the fetched blocks that wait for what comes behind them. Zeros take their place in the file: where it ends
    /// before they did, they must not be read again.
    pub(super) fn forget(&mut self, disk: &mut FileDisk) -> Result<(), OpenError> {
        if self.is_anchored() {
            return Ok(());
        }
        self.frame.clear();
        let zeros = vec![0; ZEROS_LEN];
        for offset in (self.sound_len..self.written).step_by(ZEROS_LEN) {
            let len = usize::try_from(self.written.saturating_sub(offset)).unwrap_or(usize::MAX).min(ZEROS_LEN);
            let bytes = zeros.get(..len).unwrap_or(&zeros);
            disk.settle(&[Change::Write { file: REPAIRING, offset, bytes }])?;
        }
        (self.at, self.written) = (self.sound, self.sound_len);
        Ok(())
    }

    fn misfit(&mut self, disk: &mut FileDisk, last: LogIndex) -> Result<Misfit, OpenError> {
        let first = self.sound.height.next();
        self.forget(disk)?;
        Ok(Misfit { first, last })
    }

    /// Goes on with the blocks of this directory, as far as they are there; the height of one that does not follow from
    /// what was fetched. One that does not follow from this directory's own is none.
    fn advance(&mut self, disk: &mut FileDisk) -> Result<Option<LogIndex>, OpenError> {
        while self.at.height < self.last.height {
            let Some((entry, hash)) = self.own(self.at.height.next()) else { break };
            if !self.append(disk, &entry, Some(hash))? {
                if self.is_anchored() {
                    break;
                }
                return Ok(Some(entry.index));
            }
        }
        if self.is_anchored() {
            self.flush(disk)?;
            self.sound_len = self.written;
        }
        Ok(None)
    }

    /// What can be read of this directory's block at this height, and the hash that it has for it.
    fn own(&self, height: LogIndex) -> Option<(Entry, Digest)> {
        let block = self.found.block(height).ok()??;
        let payload = payload(block.kind, block.payload)?;
        Some((Entry { index: block.height, term: block.term, payload }, block.hash))
    }

    /// Takes the next block; whether it fits.
    fn append(&mut self, disk: &mut FileDisk, entry: &Entry, own: Option<Digest>) -> Result<bool, OpenError> {
        let hash = link(&self.at.hash, entry);
        let last = (entry.index == self.last.height).then_some(self.last.hash);
        let mut known = own.into_iter().chain(last);
        if entry.term < self.at.term || known.clone().any(|known| known != hash) {
            return Ok(false);
        }
        encode_block(entry, &hash, &mut self.frame);
        self.at = Point { height: entry.index, term: entry.term, hash };
        if known.next().is_some() {
            self.sound = self.at;
        }
        if self.frame.len() >= FRAME_BYTES {
            self.flush(disk)?;
        }
        Ok(true)
    }

    /// Writes the next frame. Each vouches for those before it: the file has no name before it is durable.
    fn flush(&mut self, disk: &mut FileDisk) -> Result<(), OpenError> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let at = self.start.saturating_add(self.written.saturating_sub(SEGMENT_HEADER_LEN as u64));
        let mut bytes = Vec::with_capacity(self.frame.len().saturating_add(SEGMENT_HEADER_LEN));
        let encoded = encode_frame(at, at, &mut bytes, |out| {
            encode_append(out);
            out.append(&mut self.frame);
        });
        encoded.ok_or_else(|| write::too_long(disk))?;
        disk.settle(&[Change::Write { file: REPAIRING, offset: self.written, bytes: &bytes }])?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// Removes what a mend left that did not come to its end.
pub(super) fn forget(disk: &mut FileDisk) -> Result<(), OpenError> {
    if disk.holds(REPAIRING) {
        disk.settle(&[Change::Remove { file: REPAIRING }])?;
    }
    Ok(())
}
