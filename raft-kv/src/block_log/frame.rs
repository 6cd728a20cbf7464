//! The bytes of the log file: every width, offset and checksum is here and nowhere else.
//!
//! Numbers are little-endian. The file is a header of 16 bytes, then frames, each one write:
//!
//! ```text
//! file header   magic 8 | version 4 | crc32c 4 (of the 12 before)
//! frame header  magic 4 | body length 4 | synced 8 | body crc32c 4 | header crc32c 4 (of the frame's offset, 8 bytes,
//!               and the 20 before)
//! body          0 genesis     cluster id and configuration: the payload of block 0
//!               1 hard state  term 8 | whether it voted 1 | vote 4
//!               2 truncate    first index removed 8
//!               3 append      blocks, to the end of the body
//!               4 incarnation 8: directly behind the genesis, and nowhere else
//!               5 chunk       snapshot's last block: height 8 | term 8 | hash 32 | whether the state has a digest 1 |
//!                             digest 32 | offset 8 | whether it is the last 1 | configuration length 4 |
//!                             configuration | data crc32c 4 | data, to the end of the body
//!               6 install     height 8 | whether blocks are kept 1 | the first of them 8
//! block         height 8 | term 8 | kind 1 | payload length 4 | hash 32 | payload crc32c 4 | crc32c 4 (of the 57
//!               before) | payload
//! ```
//!
//! A block's `prev_hash` is the hash of the block before, so it is not stored. `synced` is the end
//! of the last frame that was known to be durable when this one was formed. A checksum covers where its frame stands, so that a frame in a wrong
//! place, or one that a client's payload imitates, is none.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, NodeId, SnapshotChunk, SnapshotMeta, Term,
};

use crate::block::{Genesis, payload};

pub(super) const FILE_HEADER_LEN: usize = 16;
pub(super) const FRAME_HEADER_LEN: usize = 24;
pub(super) const BLOCK_HEADER_LEN: usize = 61;

/// A frame with an incarnation.
pub(super) const INCARNATION_LEN: usize = FRAME_HEADER_LEN + 9;

/// The version of this format.
pub(super) const VERSION: u32 = 3;

/// A write with a longer body is refused.
pub(super) const MAX_BODY_LEN: usize = 1 << 30;

/// Begins a frame.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xb1, 0x0c, 0xf7, 0x3d];

const FILE_MAGIC: [u8; 8] = *b"raftblk\n";

/// What the first bytes of a file are.
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
    let mut fields = Fields(bytes);
    match (fields.array(), fields.u32(), fields.u32()) {
        (Some(FILE_MAGIC), Some(version), Some(crc)) if crc32c_of(bytes, 12) == Some(crc) => {
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
    pub len: usize,
    /// The end of the last frame known to be durable when this one was formed: never more than its own offset.
    pub synced: u64,
    body_crc: u32,
}

impl FrameHeader {
    /// The header of a frame at offset `at`; `None` where these bytes are not one that was written there.
    pub(super) fn parse(at: u64, bytes: &[u8; FRAME_HEADER_LEN]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (magic, len, synced) = (fields.array()?, fields.u32()?, fields.u64()?);
        let (body_crc, crc) = (fields.u32()?, fields.u32()?);
        let len = usize::try_from(len).ok()?;
        let written = magic == FRAME_MAGIC && crc == crc32c_append(crc32c(&at.to_le_bytes()), bytes.get(..20)?);
        (written && synced <= at && len <= MAX_BODY_LEN).then_some(Self { len, synced, body_crc })
    }

    /// Whether these are the bytes that the frame was written with.
    pub(super) fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.len && crc32c(body) == self.body_crc
    }
}

/// Appends to `out` a frame for offset `at`; `body` appends the frame's body. `None` where that is too long.
pub(super) fn encode_frame(at: u64, synced: u64, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
    let start = out.len();
    out.extend([0; FRAME_HEADER_LEN]);
    body(out);
    let (header, body) = out.get_mut(start..)?.split_first_chunk_mut::<FRAME_HEADER_LEN>()?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY_LEN)?;
    let fields = FRAME_MAGIC.into_iter().chain(len.to_le_bytes()).chain(synced.to_le_bytes());
    header.iter_mut().zip(fields.chain(crc32c(body).to_le_bytes())).for_each(|(to, from)| *to = from);
    let crc = crc32c_append(crc32c(&at.to_le_bytes()), header.get(..20)?);
    header.iter_mut().skip(20).zip(crc.to_le_bytes()).for_each(|(to, from)| *to = from);
    Some(())
}

pub(super) fn encode_genesis(genesis: &Genesis, out: &mut Vec<u8>) {
    out.push(0);
    out.extend(genesis.to_bytes());
}

pub(super) fn encode_incarnation(incarnation: Incarnation, out: &mut Vec<u8>) {
    out.push(4);
    out.extend(incarnation.0.to_le_bytes());
}

pub(super) fn encode_hard_state(hard_state: HardState, out: &mut Vec<u8>) {
    out.push(1);
    out.extend(hard_state.current_term.0.to_le_bytes());
    out.push(u8::from(hard_state.voted_for.is_some()));
    out.extend(hard_state.voted_for.map_or(0, |id| id.0).to_le_bytes());
}

pub(super) fn encode_truncate(from: LogIndex, out: &mut Vec<u8>) {
    out.push(2);
    out.extend(from.0.to_le_bytes());
}

/// Begins the body that [`encode_block`] continues.
pub(super) fn encode_append(out: &mut Vec<u8>) {
    out.push(3);
}

pub(super) fn encode_block(entry: &Entry, hash: &Digest, out: &mut Vec<u8>) {
    let start = out.len();
    let payload = entry.payload.bytes();
    out.extend(entry.index.0.to_le_bytes());
    out.extend(entry.term.0.to_le_bytes());
    out.push(entry.payload.kind());
    // A longer payload makes the frame too long, which refuses the write.
    out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(hash.0);
    out.extend(crc32c(payload).to_le_bytes());
    let crc = crc32c(out.get(start..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
    out.extend_from_slice(payload);
}

/// The data stands last.
pub(super) fn encode_chunk(chunk: &SnapshotChunk, hash: &Digest, out: &mut Vec<u8>) {
    let SnapshotChunk { meta, offset, data, done } = chunk;
    out.push(5);
    out.extend(meta.last_included_index.0.to_le_bytes());
    out.extend(meta.last_included_term.0.to_le_bytes());
    out.extend(hash.0);
    out.push(u8::from(meta.state.is_some()));
    out.extend(meta.state.map_or([0; 32], |digest| digest.0));
    out.extend(offset.to_le_bytes());
    out.push(u8::from(*done));
    let configuration = meta.configuration.to_bytes();
    out.extend(u32::try_from(configuration.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(configuration);
    out.extend(crc32c(data).to_le_bytes());
    out.extend_from_slice(data);
}

pub(super) fn encode_install(index: LogIndex, keep_from: Option<LogIndex>, out: &mut Vec<u8>) {
    out.push(6);
    out.extend(index.0.to_le_bytes());
    out.push(u8::from(keep_from.is_some()));
    out.extend(keep_from.map_or(0, |first| first.0).to_le_bytes());
}

/// A frame's body, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    Genesis(Genesis),
    HardState(HardState),
    Truncate(LogIndex),
    Append(Blocks<'a>),
    Incarnation(Incarnation),
    Chunk(Chunk<'a>),
    Install { index: LogIndex, keep_from: Option<LogIndex> },
}

/// A part of a snapshot: its data is the end of the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub meta: SnapshotMeta,
    pub offset: u64,
    pub done: bool,
    pub crc: u32,
    pub data: &'a [u8],
}

impl<'a> Body<'a> {
    /// `None` where the bytes are not a whole body and nothing else.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let mut fields = Fields(rest);
        let body = match tag {
            0 => return Genesis::from_bytes(rest).map(Self::Genesis),
            1 => {
                let (current_term, voted, id) = (Term(fields.u64()?), fields.u8()?, NodeId(fields.u32()?));
                Self::HardState(HardState { current_term, voted_for: (voted != 0).then_some(id) })
            }
            2 => Self::Truncate(LogIndex(fields.u64()?)),
            3 => return Some(Self::Append(Blocks { rest, at: 1 })),
            4 => Self::Incarnation(Incarnation(fields.u64()?)),
            5 => return Chunk::parse(fields).map(Self::Chunk),
            6 => {
                let (index, keeps, first) = (LogIndex(fields.u64()?), fields.u8()?, LogIndex(fields.u64()?));
                Self::Install { index, keep_from: (keeps != 0).then_some(first) }
            }
            _ => return None,
        };
        fields.0.is_empty().then_some(body)
    }
}

impl<'a> Chunk<'a> {
    fn parse(mut fields: Fields<'a>) -> Option<Self> {
        let (index, term) = (LogIndex(fields.u64()?), Term(fields.u64()?));
        let (hash, has_state, state) = (Digest(fields.array()?), fields.u8()?, Digest(fields.array()?));
        let (offset, done, configuration_len) = (fields.u64()?, fields.u8()?, fields.u32()?);
        let (configuration, rest) = fields.0.split_at_checked(usize::try_from(configuration_len).ok()?)?;
        let mut fields = Fields(rest);
        let crc = fields.u32()?;
        let meta = SnapshotMeta {
            last_included_index: index,
            last_included_term: term,
            digest: Some(hash),
            configuration: Configuration::from_bytes(configuration)?,
            state: (has_state != 0).then_some(state),
        };
        Some(Self { meta, offset, done: done != 0, crc, data: fields.0 })
    }
}

/// The blocks of a body, one after the other, each with its place in the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Iterator for Blocks<'_> {
    /// `None` inside for bytes that are no block, after which there are no more.
    type Item = Option<(usize, Entry, Digest)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.rest);
        let block = bytes.split_first_chunk().and_then(|(header, after)| {
            let header = BlockHeader::parse(header)?;
            let (payload, rest) = after.split_at_checked(header.len)?;
            let entry = header.entry(Bytes::copy_from_slice(payload))?;
            let at = self.at;
            self.rest = rest;
            self.at = at.saturating_add(BLOCK_HEADER_LEN).saturating_add(header.len);
            Some((at, entry, header.hash))
        });
        Some(block)
    }
}

/// What stands before a block's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub height: LogIndex,
    pub term: Term,
    pub kind: u8,
    /// Bytes in the payload.
    pub len: usize,
    pub hash: Digest,
    payload_crc: u32,
}

impl BlockHeader {
    /// `None` where the bytes are not as they were written.
    pub(super) fn parse(bytes: &[u8; BLOCK_HEADER_LEN]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (height, term, kind) = (LogIndex(fields.u64()?), Term(fields.u64()?), fields.u8()?);
        let (len, hash, payload_crc) = (fields.u32()?, Digest(fields.array()?), fields.u32()?);
        let len = usize::try_from(len).ok()?;
        let intact = crc32c_of(bytes, 57) == Some(fields.u32()?) && len <= MAX_BODY_LEN;
        intact.then_some(Self { height, term, kind, len, hash, payload_crc })
    }

    /// The entry with this payload; `None` where that is not as it was written, or no entry has this kind.
    pub(super) fn entry(&self, bytes: Bytes) -> Option<Entry> {
        let intact = bytes.len() == self.len && crc32c(&bytes) == self.payload_crc;
        let payload = payload(self.kind, bytes).filter(|_| intact)?;
        Some(Entry { index: self.height, term: self.term, payload })
    }
}

fn crc32c_of(bytes: &[u8], len: usize) -> Option<u32> {
    bytes.get(..len).map(crc32c)
}

/// Reads fields of fixed width from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use raft_core::Payload;

    use super::*;

    fn framed(at: u64, synced: u64, entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        let body = |out: &mut Vec<u8>| {
            encode_append(out);
            entries.iter().for_each(|entry| encode_block(entry, &Digest([7; 32]), out));
        };
        encode_frame(at, synced, &mut out, body).unwrap();
        out
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let payload = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        prop::collection::vec((any::<u64>(), any::<u64>(), payload), 0..5).prop_map(|entries| {
            let entry = |(index, term, payload): (u64, u64, Option<Vec<u8>>)| Entry {
                index: LogIndex(index),
                term: Term(term),
                payload: payload.map_or(Payload::Noop, |bytes| Payload::Command(Bytes::from(bytes))),
            };
            entries.into_iter().map(entry).collect()
        })
    }

    #[test]
    fn the_widths_are_the_documented_ones() {
        assert_eq!(file_header().len(), FILE_HEADER_LEN);
        assert_eq!(framed(0, 0, &[]).len(), FRAME_HEADER_LEN + 1);
        let mut incarnation = Vec::new();
        encode_frame(0, 0, &mut incarnation, |out| encode_incarnation(Incarnation(1), out)).unwrap();
        assert_eq!(incarnation.len(), INCARNATION_LEN);
        let noop = Entry { index: LogIndex(1), term: Term(1), payload: Payload::Noop };
        assert_eq!(framed(0, 0, &[noop]).len(), FRAME_HEADER_LEN + 1 + BLOCK_HEADER_LEN);
    }

    proptest! {
        #[test]
        fn a_frame_reads_back(at in 0..u64::MAX, entries in entries()) {
            let bytes = framed(at, at, &entries);
            let (header, body) = bytes.split_first_chunk().unwrap();
            let header = FrameHeader::parse(at, header).unwrap();
            prop_assert!(header.matches(body) && header.synced == at);
            let Some(Body::Append(blocks)) = Body::parse(body) else { panic!("not an append") };
            let mut read = Vec::new();
            for block in blocks {
                let (place, entry, _) = block.unwrap();
                prop_assert_eq!(BlockHeader::parse(body[place..].first_chunk().unwrap()).unwrap().height, entry.index);
                read.push(entry);
            }
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn a_frame_elsewhere_or_with_any_bit_changed_is_none(entries in entries(), bit in any::<prop::sample::Index>()) {
            let mut bytes = framed(5000, 100, &entries);
            let parse = |at, bytes: &[u8]| {
                let (header, body) = bytes.split_first_chunk().unwrap();
                FrameHeader::parse(at, header).is_some_and(|header| header.matches(body))
            };
            prop_assert!(parse(5000, &bytes) && !parse(5001, &bytes));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!parse(5000, &bytes));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(Body::Append(blocks)) = Body::parse(&bytes) {
                prop_assert!(blocks.count() <= bytes.len());
            }
        }
    }
}
