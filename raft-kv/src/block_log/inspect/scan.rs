//! Finding the next frame behind bytes that are none.

use super::super::frame::{FRAME_HEADER_LEN, FRAME_MAGIC, FrameHeader, SEGMENT_HEADER_LEN};
use crate::disk::{Disk, DiskError};

/// Bytes read at once.
const WINDOW_LEN: usize = 1 << 18;

/// The position of the first frame header at position `from` of a segment or behind. A header's checksum covers its
/// position, so bytes that a client wrote or an earlier life left are none.
pub(super) fn next_frame(disk: &impl Disk, file: &str, start: u64, from: u64) -> Result<Option<u64>, DiskError> {
    let len = disk.len(file)?;
    let mut offset = from.saturating_sub(start).saturating_add(SEGMENT_HEADER_LEN as u64);
    let mut bytes = Vec::new();
    loop {
        let rest = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
        bytes.resize(rest.min(WINDOW_LEN), 0);
        disk.read_at(file, offset, &mut bytes)?;
        let position = offset.saturating_sub(SEGMENT_HEADER_LEN as u64).saturating_add(start);
        for (candidate, place) in bytes.windows(FRAME_HEADER_LEN).zip(position..) {
            let header = candidate.first_chunk().filter(|_| candidate.starts_with(&FRAME_MAGIC));
            if header.is_some_and(|bytes| FrameHeader::parse(place, bytes).is_some()) {
                return Ok(Some(place));
            }
        }
        if rest <= WINDOW_LEN {
            return Ok(None);
        }
        // The next window begins with the last bytes of this one that no whole header fitted in.
        offset = offset.saturating_add((WINDOW_LEN.saturating_sub(FRAME_HEADER_LEN - 1)) as u64);
    }
}

/// The header at this position, where one is.
pub(super) fn header_at(disk: &impl Disk, file: &str, start: u64, at: u64) -> Result<Option<FrameHeader>, DiskError> {
    let offset = at.saturating_sub(start).saturating_add(SEGMENT_HEADER_LEN as u64);
    let mut bytes = [0; FRAME_HEADER_LEN];
    if offset.saturating_add(FRAME_HEADER_LEN as u64) > disk.len(file)? {
        return Ok(None);
    }
    disk.read_at(file, offset, &mut bytes)?;
    Ok(FrameHeader::parse(at, &bytes))
}
