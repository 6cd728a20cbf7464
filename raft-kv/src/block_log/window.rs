//! A segment's file, read from its beginning to its end through a window of bounded size.

use raft_core::StorageError;

use super::frame::{Body, Checkpoint, FRAME_HEADER_LEN, FRAME_MAGIC, FrameHeader, SEGMENT_HEADER_LEN, SegmentHeader};
use super::segments::segment_name;
use crate::disk::Disk;

/// Bytes that recovery reads at once.
pub(super) const WINDOW_LEN: usize = 1 << 18;

static ZEROS: [u8; WINDOW_LEN] = [0; WINDOW_LEN];

/// A part of a segment's file in memory, moved along as it is read.
pub(super) struct Window<'a, D> {
    disk: &'a D,
    file: String,
    /// Bytes in the file: nothing longer is ever allocated, whatever lengths its bytes claim.
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

/// What stands behind a bad place.
pub(super) struct Evidence {
    /// Why the place was good once, where that is so.
    pub proof: Option<String>,
    /// Whether a frame's header stands there or behind: a crash tore what was being written.
    pub is_torn: bool,
    /// Behind this byte of the file there are only zeros; no sooner than the place.
    pub used: u64,
}

impl<'a, D: Disk> Window<'a, D> {
    pub(super) fn open(disk: &'a D, number: u64) -> Result<Self, StorageError> {
        Self::of(disk, segment_name(number))
    }

    /// Of a segment in this file.
    pub(super) fn of(disk: &'a D, file: String) -> Result<Self, StorageError> {
        let len = disk.len(&file)?;
        Ok(Self { disk, file, len, start: 0, bytes: Vec::new() })
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn header(&mut self) -> Result<SegmentHeader, StorageError> {
        Ok(self.bytes(0, SEGMENT_HEADER_LEN)?.map_or(SegmentHeader::Wrong, SegmentHeader::parse))
    }

    /// The checkpoint that a segment which starts at this position begins with, and where it ends; `None` where none
    /// is.
    pub(super) fn checkpoint(&mut self, start: u64) -> Result<Option<(Checkpoint, u64)>, StorageError> {
        let Some((header, body)) = self.frame(start, start)? else { return Ok(None) };
        let end = start.saturating_add(FRAME_HEADER_LEN as u64).saturating_add(header.len as u64);
        Ok(match Body::parse(body) {
            Some(Body::Checkpoint(checkpoint)) => Some((*checkpoint, end)),
            _ => None,
        })
    }

    /// The whole frame at this position of a segment that starts at `start`; `None` where none is.
    pub(super) fn frame(&mut self, start: u64, at: u64) -> Result<Option<(FrameHeader, &[u8])>, StorageError> {
        let offset = at.saturating_sub(start).saturating_add(SEGMENT_HEADER_LEN as u64);
        let header = self.bytes(offset, FRAME_HEADER_LEN)?.and_then(|bytes| bytes.first_chunk());
        let Some(header) = header.and_then(|bytes| FrameHeader::parse(at, bytes)) else {
            return Ok(None);
        };
        let body = self.bytes(offset.saturating_add(FRAME_HEADER_LEN as u64), header.len)?;
        Ok(body.filter(|body| header.matches(body)).map(|body| (header, body)))
    }

    /// Looks from position `at` on for a frame that was formed when the log was durable beyond `bad`.
    ///
    /// A header alone is evidence, whatever became of its body: its checksum says that it was formed for that place,
    /// and what it says was true then. So this takes time linear in the file's rest, whatever lengths its bytes claim.
    pub(super) fn evidence(&mut self, start: u64, at: u64, bad: u64) -> Result<Evidence, StorageError> {
        let mut offset = at.saturating_sub(start).saturating_add(SEGMENT_HEADER_LEN as u64);
        let mut found = Evidence { proof: None, is_torn: false, used: offset };
        loop {
            let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
            let len = rest.min(WINDOW_LEN);
            let bytes = self.bytes(offset, len)?.unwrap_or_default();
            // Most of a file that was made ahead, in the time that it takes to read it.
            let is_used = bytes != ZEROS.get(..len).unwrap_or_default();
            let bytes = if is_used { bytes } else { &[] };
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                found.used = offset.saturating_add(last as u64).saturating_add(1);
            }
            let position = offset.saturating_sub(SEGMENT_HEADER_LEN as u64).saturating_add(start);
            for (candidate, place) in bytes.windows(FRAME_HEADER_LEN).zip(position..) {
                let header = candidate.first_chunk().filter(|_| candidate.starts_with(&FRAME_MAGIC));
                let Some(header) = header.and_then(|bytes| FrameHeader::parse(place, bytes)) else { continue };
                found.is_torn = true;
                if header.synced > bad {
                    let (file, synced) = (&self.file, header.synced);
                    let byte = place.saturating_sub(start).saturating_add(SEGMENT_HEADER_LEN as u64);
                    let known = format!("says that all before byte {synced} of the log was durable");
                    found.proof = Some(format!("a frame at byte {byte} of {file} {known}, and byte {bad} is bad"));
                    return Ok(found);
                }
            }
            if len < WINDOW_LEN {
                return Ok(found);
            }
            // The next window begins with the last bytes of this one that no whole header fitted in.
            offset = offset.saturating_add((WINDOW_LEN.saturating_sub(FRAME_HEADER_LEN - 1)) as u64);
        }
    }

    /// The `len` bytes from `at` on; `None` where the file ends before.
    fn bytes(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>, StorageError> {
        let rest = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        if at > self.len || len > rest {
            return Ok(None);
        }
        let skip = |start: u64| at.checked_sub(start).and_then(|skip| usize::try_from(skip).ok());
        let held = skip(self.start).is_some_and(|skip| skip.saturating_add(len) <= self.bytes.len());
        if !held {
            self.start = at;
            self.bytes.resize(len.max(WINDOW_LEN.min(rest)), 0);
            match self.disk.read_at(&self.file, at, &mut self.bytes) {
                Err(_) if raft_core::bug!(ReadErrorEndsLog) => return Ok(None),
                answer => answer?,
            }
        }
        Ok(skip(self.start).and_then(|skip| self.bytes.get(skip..)?.get(..len)))
    }
}
