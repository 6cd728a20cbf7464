//! The bytes of a snapshot file: every width, offset and checksum is here and nowhere else. `docs/FORMAT.md` draws
//! them.
//!
//! ```text
//! header   magic 8 | version 4 | description length 4 | crc32c 4 (of the 16 before and the description) | description
//! state    its bytes, piece after piece
//! table    of each piece: length 4 | crc32c 4
//! trailer  state length 8 | pieces 4 | table crc32c 4 | crc32c 4 (of the 16 before)
//! ```
//!
//! A piece is what one chunk brought. A file is written from its beginning to its end; one without its trailer is none.

use raft_core::{SnapshotMeta, StorageError};

use super::frame::{VERSION, encode_description, parse_description};
use crate::crc::{crc32c, crc32c_of_both};
use crate::disk::{Disk, DiskError};

const MAGIC: [u8; 8] = *b"raftsnp\n";
const HEADER_LEN: usize = 20;
const TRAILER_LEN: usize = 20;
const TABLE_ENTRY_LEN: usize = 8;

/// A chunk's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where they begin in the state.
    pub offset: u64,
    pub len: usize,
    pub crc: u32,
}

impl Piece {
    pub(super) const fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }
}

/// What a file holds, but for the state.
#[derive(Debug)]
pub(super) struct Layout {
    pub meta: SnapshotMeta,
    /// Where the state begins.
    pub state_at: u64,
    pub pieces: Vec<Piece>,
}

pub(super) fn encode_header(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    let mut description = Vec::new();
    encode_description(meta, &mut description);
    let begin = out.len();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(u32::try_from(description.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = crc32c_of_both(out.get(begin..).unwrap_or_default(), &description);
    out.extend(crc.to_le_bytes());
    out.extend(description);
}

/// The table and the trailer.
pub(super) fn encode_end(pieces: &[Piece], out: &mut Vec<u8>) {
    let begin = out.len();
    for piece in pieces {
        out.extend(u32::try_from(piece.len).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(piece.crc.to_le_bytes());
    }
    let (table_crc, trailer_at) = (crc32c(out.get(begin..).unwrap_or_default()), out.len());
    out.extend(pieces.last().map_or(0, Piece::end).to_le_bytes());
    out.extend(u32::try_from(pieces.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(table_crc.to_le_bytes());
    let crc = crc32c(out.get(trailer_at..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
}

/// Reads what a file holds, but for the state, whose pieces are checked when they are read.
///
/// # Errors
/// It cannot be read, or is not as it was written.
pub(super) fn read(disk: &impl Disk, file: &str) -> Result<Layout, StorageError> {
    let damaged = || StorageError::Damaged {
        place: disk.place_of(file),
        what: String::from("the snapshot is not as it was written"),
    };
    let len = disk.len(file)?;
    let (meta, state_at) = read_header(disk, file, len)?.ok_or_else(damaged)?;
    let (pieces, table_at) = read_table(disk, file, len)?.ok_or_else(damaged)?;
    let state_end = state_at.saturating_add(pieces.last().map_or(0, Piece::end));
    if state_end == table_at { Ok(Layout { meta, state_at, pieces }) } else { Err(damaged()) }
}

fn read_header(disk: &impl Disk, file: &str, len: u64) -> Result<Option<(SnapshotMeta, u64)>, DiskError> {
    let mut header = [0; HEADER_LEN];
    if len < HEADER_LEN as u64 {
        return Ok(None);
    }
    disk.read_at(file, 0, &mut header)?;
    let description_len = u64::from(number(&header, 12));
    let state_at = description_len.saturating_add(HEADER_LEN as u64);
    let (Some(room), true) = (usize::try_from(description_len).ok(), state_at <= len) else { return Ok(None) };
    let mut description = vec![0; room];
    disk.read_at(file, HEADER_LEN as u64, &mut description)?;
    let crc = crc32c_of_both(header.get(..16).unwrap_or_default(), &description);
    let is_ours = header.starts_with(&MAGIC) && number(&header, 8) == VERSION && number(&header, 16) == crc;
    Ok(parse_description(&description).filter(|_| is_ours).map(|meta| (meta, state_at)))
}

/// The pieces, and where their table begins.
fn read_table(disk: &impl Disk, file: &str, len: u64) -> Result<Option<(Vec<Piece>, u64)>, DiskError> {
    let mut trailer = [0; TRAILER_LEN];
    let Some(trailer_at) = len.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
    disk.read_at(file, trailer_at, &mut trailer)?;
    let table_len = u64::from(number(&trailer, 8)).saturating_mul(TABLE_ENTRY_LEN as u64);
    let is_intact = number(&trailer, 16) == crc32c(trailer.get(..16).unwrap_or_default());
    let Some(table_at) = trailer_at.checked_sub(table_len).filter(|_| is_intact) else { return Ok(None) };
    let mut table = vec![0; usize::try_from(table_len).unwrap_or(usize::MAX)];
    disk.read_at(file, table_at, &mut table)?;
    if number(&trailer, 12) != crc32c(&table) {
        return Ok(None);
    }
    let mut offset = 0_u64;
    let piece = |entry: &[u8]| {
        let piece = Piece { offset, len: number(entry, 0) as usize, crc: number(entry, 4) };
        offset = piece.end();
        piece
    };
    Ok(Some((table.chunks_exact(TABLE_ENTRY_LEN).map(piece).collect(), table_at)))
}

/// The number of four bytes at this place of a header; 0 where there are not so many.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
