//! The bytes of a recording: every width, offset and checksum is here and nowhere else.

use raft_core::Action;

use super::Fingerprint;
use crate::codec;
use crate::crc::{crc32c, crc32c_of_both};

pub(super) const FILE_HEADER_LEN: usize = 16;
pub(super) const FRAME_HEADER_LEN: usize = 12;

/// The version of this format. It rises with every change of what `Start`, `Event`, `Action` or an answer encodes to:
/// a test holds a recording's bytes.
pub(super) const VERSION: u32 = 8;

/// No frame has a longer body: one step of the longest encoding, after as many as a frame gathers.
pub(super) const MAX_BODY_LEN: usize = 2 * codec::ENCODED_BYTES_MAX;

pub(super) const START: u8 = 0;
pub(super) const STEPS: u8 = 1;
pub(super) const ENDING: u8 = 2;

const FILE_MAGIC: [u8; 8] = *b"raftrec\n";

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileHeader {
    Known,
    OtherVersion(u32),
    Wrong,
}

pub(super) fn file_header() -> Vec<u8> {
    let mut bytes = FILE_MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

pub(super) fn parse_file_header(bytes: &[u8; FILE_HEADER_LEN]) -> FileHeader {
    let (covered, crc) = bytes.split_at(12);
    let (magic, version) = covered.split_at(8);
    match number(version) {
        Some(version) if magic == FILE_MAGIC && number(crc) == Some(crc32c(covered)) => {
            if version == VERSION {
                FileHeader::Known
            } else {
                FileHeader::OtherVersion(version)
            }
        }
        _ => FileHeader::Wrong,
    }
}

/// What stands before a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes in the body.
    pub(super) len: usize,
    body_crc: u32,
}

impl FrameHeader {
    /// The header of a frame at offset `at`; `None` where these bytes are not one that was written there.
    pub(super) fn parse(at: u64, bytes: &[u8; FRAME_HEADER_LEN]) -> Option<Self> {
        let (fields, crc) = bytes.split_at(8);
        let (len, body_crc) = fields.split_at(4);
        let len = usize::try_from(number(len)?).ok()?;
        let written = number(crc)? == crc32c_of_both(&at.to_le_bytes(), fields);
        let body_crc = number(body_crc)?;
        (written && len <= MAX_BODY_LEN).then_some(Self { len, body_crc })
    }

    /// Whether these are the bytes that the frame was written with.
    pub(super) fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.len && crc32c(body) == self.body_crc
    }
}

/// The header of a frame with this body at offset `at`. The body is at most [`MAX_BODY_LEN`] long.
pub(super) fn frame_header(at: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    bytes.extend(crc32c(body).to_le_bytes());
    bytes.extend(crc32c_of_both(&at.to_le_bytes(), &bytes).to_le_bytes());
    bytes
}

/// The fingerprint of a step's actions. `scratch` is room, kept between steps.
pub(super) fn fingerprint(actions: &[Action], scratch: &mut Vec<u8>) -> Fingerprint {
    scratch.clear();
    codec::encode_compact_into(actions, scratch);
    let fingerprint = Fingerprint { count: u32::try_from(actions.len()).unwrap_or(u32::MAX), crc: crc32c(scratch) };
    scratch.shrink_to(SCRATCH_KEPT);
    fingerprint
}

/// Room for encoding actions that is kept between steps.
const SCRATCH_KEPT: usize = 1 << 20;

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_le_bytes)
}
