//! Making checksums right: `docs/FORMAT.md` says where they stand.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use raft_core::{Digest, Entry, LogIndex, Payload, Term};

const SEGMENT_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const BLOCK_HEADER: usize = 61;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at.checked_add(value.len())?)?.copy_from_slice(value);
    Some(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn digest_at(bytes: &[u8], at: usize) -> Option<Digest> {
    Some(Digest(bytes.get(at..at.checked_add(32)?)?.try_into().ok()?))
}

/// A segment's file: its header, and of each frame, as far as the lengths in it lead, the magic, the blocks' hashes and
/// all checksums. `last` is the hash of the block before, and then of the last.
pub fn segment(bytes: &mut [u8], last: &mut Digest) {
    let _ = segment_header(bytes);
    let Some(start) = u64_at(bytes, 20) else { return };
    let mut at = SEGMENT_HEADER;
    while let Some(next) = frame(bytes, at, start.wrapping_add((at - SEGMENT_HEADER) as u64), last) {
        at = next;
    }
}

fn segment_header(bytes: &mut [u8]) -> Option<()> {
    put(bytes, 0, b"raftseg\n")?;
    let crc = crc32c(bytes.get(..28)?);
    put(bytes, 28, &crc.to_le_bytes())
}

fn frame(bytes: &mut [u8], at: usize, position: u64, last: &mut Digest) -> Option<usize> {
    let end = at.checked_add(FRAME_HEADER)?.checked_add(u32_at(bytes, at + 4)?)?;
    let (header, body) = bytes.get_mut(at..end)?.split_at_mut(FRAME_HEADER);
    match *body.first()? {
        0 => *last = digest_at(body, 38).unwrap_or(*last),
        2 => *last = digest_at(body, 17).unwrap_or(*last),
        3 => blocks(&mut body[1..], last),
        4 if body.get(1) == Some(&0) => *last = digest_at(body, 26).unwrap_or(*last),
        _ => {}
    }
    put(header, 0, &[0xb1, 0x0c, 0xf7, 0x3d])?;
    put(header, 16, &crc32c(body).to_le_bytes())?;
    let crc = crc32c_append(crc32c(&position.to_le_bytes()), &header[..20]);
    put(header, 20, &crc.to_le_bytes())?;
    Some(end)
}

fn blocks(mut bytes: &mut [u8], last: &mut Digest) {
    while let Some((header, rest)) = bytes.split_at_mut_checked(BLOCK_HEADER) {
        let len = u32_at(header, 17).unwrap_or(usize::MAX);
        let Some((payload, rest)) = rest.split_at_mut_checked(len) else { return };
        let carried = Bytes::copy_from_slice(payload);
        let carried = match header[16] {
            0 => Payload::Noop,
            1 => Payload::Command(carried),
            3 => Payload::StateDigest(carried),
            _ => Payload::Configuration(carried),
        };
        let (index, term) = (LogIndex(u64_at(header, 0).unwrap_or(0)), Term(u64_at(header, 8).unwrap_or(0)));
        *last = raft_kv::link(last, &Entry { index, term, payload: carried });
        put(header, 21, &last.0);
        put(header, 53, &crc32c(payload).to_le_bytes());
        let crc = crc32c(&header[..57]);
        put(header, 57, &crc.to_le_bytes());
        bytes = rest;
    }
}

/// A snapshot's file: the checksums of its header, its pieces, its table and its trailer.
pub fn snapshot(bytes: &mut [u8]) {
    let _ = snapshot_header(bytes);
    let _ = snapshot_end(bytes);
}

fn snapshot_header(bytes: &mut [u8]) -> Option<()> {
    put(bytes, 0, b"raftsnp\n")?;
    let description = u32_at(bytes, 12)?;
    let crc = crc32c_append(crc32c(bytes.get(..16)?), bytes.get(20..description.checked_add(20)?)?);
    put(bytes, 16, &crc.to_le_bytes())
}

fn snapshot_end(bytes: &mut [u8]) -> Option<()> {
    let trailer = bytes.len().checked_sub(20)?;
    let table = trailer.checked_sub(u32_at(bytes, trailer + 8)?.checked_mul(8)?)?;
    let mut piece = u32_at(bytes, 12)?.checked_add(20)?;
    for entry in (table..trailer).step_by(8) {
        let end = piece.checked_add(u32_at(bytes, entry)?)?;
        if let Some(crc) = bytes.get(piece..end).map(crc32c) {
            put(bytes, entry + 4, &crc.to_le_bytes())?;
        }
        piece = end;
    }
    let crc = crc32c(bytes.get(table..trailer)?);
    put(bytes, trailer + 12, &crc.to_le_bytes())?;
    let crc = crc32c(bytes.get(trailer..trailer + 16)?);
    put(bytes, trailer + 16, &crc.to_le_bytes())
}
