//! The bytes of a segment file: every width, offset and checksum is here and nowhere else. `docs/FORMAT.md` draws them.
//!
//! Numbers are little-endian. A segment is a header of 32 bytes, then frames:
//!
//! ```text
//! segment header  magic 8 | version 4 | number 8 | start 8 | crc32c 4 (of the 28 before)
//! frame header    magic 4 | body length 4 | synced 8 | body crc32c 4 | header crc32c 4 (of the frame's position, 8 bytes,
//!                 and the 20 before)
//! body            0 checkpoint  incarnation 8 | hard state 13 | last block: height 8 | term 8 | hash 32 |
//!                               genesis length 4 | genesis: the payload of block 0 |
//!                               whether a snapshot is installed 1 | its description | membership blocks 4 |
//!                               of each: height 8 | length 4 | configuration
//!                 1 hard state  term 8 | whether it voted 1 | vote 4
//!                 2 truncate    first height removed 8 | the block before: term 8 | hash 32
//!                 3 append      blocks, to the end of the body
//!                 4 install     whether blocks are kept 1 | the first of them 8 | description
//! description     last block: height 8 | term 8 | hash 32 | whether the state has a digest 1 | digest 32 |
//!                 configuration length 4 | configuration
//! block           height 8 | term 8 | kind 1 | payload length 4 | hash 32 | payload crc32c 4 | crc32c 4 (of the 57
//!                 before) | payload
//! ```
//!
//! A frame's position is its place in the one stream that the segments hold: a segment's `start`, and then how far
//! behind the header it stands. A block's `prev_hash` is the hash of the block before, so it is not stored. `synced` is
//! the end of the last frame that was known to be durable when this one was formed. A checksum covers its frame's
//! position, so that a frame in a wrong place, one that a client's payload imitates, or one of a file's earlier life,
//! is none.

use bytes::Bytes;
use raft_core::{Configuration, Digest, Entry, HardState, Incarnation, LogIndex, NodeId, SnapshotMeta, Term};

use crate::block::{Genesis, payload};
use crate::crc::{crc32c, crc32c_of_both};

pub(super) const SEGMENT_HEADER_LEN: usize = 32;
pub(super) const FRAME_HEADER_LEN: usize = 24;
pub(super) const BLOCK_HEADER_LEN: usize = 61;

/// The version of this format.
pub(super) const VERSION: u32 = 4;

/// A write with a longer body is refused.
pub(super) const MAX_BODY_LEN: usize = 1 << 30;

/// Begins a frame.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xb1, 0x0c, 0xf7, 0x3d];

const SEGMENT_MAGIC: [u8; 8] = *b"raftseg\n";

/// What the first bytes of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentHeader {
    /// This segment's, whose first frame is at this position.
    Known {
        number: u64,
        start: u64,
    },
    OtherVersion(u32),
    Wrong,
}

impl SegmentHeader {
    pub(super) fn encode(number: u64, start: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend(SEGMENT_MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(number.to_le_bytes());
        out.extend(start.to_le_bytes());
        let crc = crc32c(out.get(begin..).unwrap_or_default());
        out.extend(crc.to_le_bytes());
    }

    /// Any bytes.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        let (magic, version) = (fields.array(), fields.u32());
        match (magic, version, fields.u64(), fields.u64(), fields.u32()) {
            (Some(SEGMENT_MAGIC), Some(version), Some(number), Some(start), Some(crc))
                if crc32c_of(bytes, SEGMENT_HEADER_LEN.saturating_sub(4)) == Some(crc) =>
            {
                if version == VERSION {
                    Self::Known { number, start }
                } else {
                    Self::OtherVersion(version)
                }
            }
            _ => Self::Wrong,
        }
    }
}

/// What stands before a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes in the body.
    pub len: usize,
    /// The end of the last frame known to be durable when this one was formed: never more than its own position.
    pub synced: u64,
    body_crc: u32,
}

impl FrameHeader {
    /// The header of a frame at position `at`; `None` where these bytes are not one that was written there.
    pub(super) fn parse(at: u64, bytes: &[u8; FRAME_HEADER_LEN]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (magic, len, synced) = (fields.array()?, fields.u32()?, fields.u64()?);
        let (body_crc, crc) = (fields.u32()?, fields.u32()?);
        let len = usize::try_from(len).ok()?;
        let written = magic == FRAME_MAGIC && crc == crc32c_of_both(&at.to_le_bytes(), bytes.get(..20)?);
        (written && synced <= at && len <= MAX_BODY_LEN).then_some(Self { len, synced, body_crc })
    }

    /// Whether these are the bytes that the frame was written with.
    pub(super) fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.len && crc32c(body) == self.body_crc
    }
}

/// Appends to `out` a frame for position `at`; `body` appends the frame's body. `None` where that is too long.
pub(super) fn encode_frame(at: u64, synced: u64, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
    let start = out.len();
    out.extend([0; FRAME_HEADER_LEN]);
    body(out);
    let (header, body) = out.get_mut(start..)?.split_first_chunk_mut::<FRAME_HEADER_LEN>()?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY_LEN)?;
    let fields = FRAME_MAGIC.into_iter().chain(len.to_le_bytes()).chain(synced.to_le_bytes());
    header.iter_mut().zip(fields.chain(crc32c(body).to_le_bytes())).for_each(|(to, from)| *to = from);
    let crc = crc32c_of_both(&at.to_le_bytes(), header.get(..20)?);
    header.iter_mut().skip(20).zip(crc.to_le_bytes()).for_each(|(to, from)| *to = from);
    Some(())
}

/// A block by its place in the chain, without what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub height: LogIndex,
    pub term: Term,
    pub hash: Digest,
}

/// What the first frame of each segment holds: all that the segments before it lead to, but for their blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub incarnation: Incarnation,
    pub genesis: Genesis,
    pub hard_state: HardState,
    /// The last block.
    pub last: Point,
    /// The installed snapshot; none in a log that never had one.
    pub snapshot: Option<SnapshotMeta>,
    /// The membership blocks after it.
    pub configurations: Vec<(LogIndex, Bytes)>,
}

/// The length of a hard state's body: the only one so short.
pub(super) const HARD_STATE_LEN: usize = 14;

/// Where a checkpoint's incarnation stands in its body.
pub(super) const INCARNATION_AT: usize = 1;

pub(super) fn encode_checkpoint(checkpoint: &Checkpoint, out: &mut Vec<u8>) {
    let Checkpoint { incarnation, genesis, hard_state, last, snapshot, configurations } = checkpoint;
    out.push(0);
    out.extend(incarnation.0.to_le_bytes());
    hard_state_fields(*hard_state, out);
    out.extend(last.height.0.to_le_bytes());
    point_fields(last, out);
    sized(&genesis.to_bytes(), out);
    out.push(u8::from(snapshot.is_some()));
    snapshot.iter().for_each(|meta| encode_description(meta, out));
    out.extend(length(configurations.len()).to_le_bytes());
    for (height, bytes) in configurations {
        out.extend(height.0.to_le_bytes());
        sized(bytes, out);
    }
}

pub(super) fn encode_hard_state(hard_state: HardState, out: &mut Vec<u8>) {
    out.push(1);
    hard_state_fields(hard_state, out);
}

/// `before` is the block that is the last from then on.
pub(super) fn encode_truncate(before: &Point, out: &mut Vec<u8>) {
    out.push(2);
    out.extend(before.height.next().0.to_le_bytes());
    point_fields(before, out);
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
    out.extend(length(payload.len()).to_le_bytes());
    out.extend(hash.0);
    out.extend(crc32c(payload).to_le_bytes());
    let crc = crc32c(out.get(start..).unwrap_or_default());
    out.extend(crc.to_le_bytes());
    out.extend_from_slice(payload);
}

pub(super) fn encode_install(meta: &SnapshotMeta, keep_from: Option<LogIndex>, out: &mut Vec<u8>) {
    out.push(4);
    out.push(u8::from(keep_from.is_some()));
    out.extend(keep_from.map_or(0, |first| first.0).to_le_bytes());
    encode_description(meta, out);
}

/// Of a snapshot whose last block has a hash; a log that links takes no other.
pub(super) fn encode_description(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    out.extend(meta.last_included_index.0.to_le_bytes());
    out.extend(meta.last_included_term.0.to_le_bytes());
    out.extend(meta.digest.unwrap_or(Digest([0; 32])).0);
    out.push(u8::from(meta.state.is_some()));
    out.extend(meta.state.map_or([0; 32], |digest| digest.0));
    sized(&meta.configuration.to_bytes(), out);
}

/// Reads [`encode_description`] back; `None` where these bytes are not exactly that.
pub(super) fn parse_description(bytes: &[u8]) -> Option<SnapshotMeta> {
    let mut fields = Fields(bytes);
    fields.description().filter(|_| fields.0.is_empty())
}

fn hard_state_fields(hard_state: HardState, out: &mut Vec<u8>) {
    out.extend(hard_state.current_term.0.to_le_bytes());
    out.push(u8::from(hard_state.voted_for.is_some()));
    out.extend(hard_state.voted_for.map_or(0, |id| id.0).to_le_bytes());
}

fn point_fields(point: &Point, out: &mut Vec<u8>) {
    out.extend(point.term.0.to_le_bytes());
    out.extend(point.hash.0);
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(length(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A longer one makes the frame too long, which refuses the write.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A frame's body, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    Checkpoint(Box<Checkpoint>),
    HardState(HardState),
    /// The block before the first that is removed.
    Truncate(Point),
    Append(Blocks<'a>),
    Install {
        meta: Box<SnapshotMeta>,
        keep_from: Option<LogIndex>,
    },
}

impl<'a> Body<'a> {
    /// `None` where the bytes are not a whole body and nothing else.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let mut fields = Fields(rest);
        let body = match tag {
            0 => Self::Checkpoint(Box::new(fields.checkpoint()?)),
            1 => Self::HardState(fields.hard_state()?),
            2 => {
                let height = LogIndex(fields.u64()?.checked_sub(1)?);
                Self::Truncate(fields.point(height)?)
            }
            3 => return Some(Self::Append(Blocks { rest, at: 1 })),
            4 => {
                let (keeps, first) = (fields.u8()?, LogIndex(fields.u64()?));
                Self::Install { meta: Box::new(fields.description()?), keep_from: (keeps != 0).then_some(first) }
            }
            _ => return None,
        };
        fields.0.is_empty().then_some(body)
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

impl<'a> Fields<'a> {
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

    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    fn hard_state(&mut self) -> Option<HardState> {
        let (current_term, voted, id) = (Term(self.u64()?), self.u8()?, NodeId(self.u32()?));
        Some(HardState { current_term, voted_for: (voted != 0).then_some(id) })
    }

    fn point(&mut self, height: LogIndex) -> Option<Point> {
        Some(Point { height, term: Term(self.u64()?), hash: Digest(self.array()?) })
    }

    fn description(&mut self) -> Option<SnapshotMeta> {
        let (index, term) = (LogIndex(self.u64()?), Term(self.u64()?));
        let (hash, has_state, state) = (Digest(self.array()?), self.u8()?, Digest(self.array()?));
        Some(SnapshotMeta {
            last_included_index: index,
            last_included_term: term,
            digest: Some(hash),
            configuration: Configuration::from_bytes(self.sized()?)?,
            state: (has_state != 0).then_some(state),
        })
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        let (incarnation, hard_state) = (Incarnation(self.u64()?), self.hard_state()?);
        let height = LogIndex(self.u64()?);
        let (last, genesis) = (self.point(height)?, Genesis::from_bytes(self.sized()?)?);
        let snapshot = if self.u8()? == 0 { None } else { Some(self.description()?) };
        let mut configurations = Vec::new();
        for _ in 0..self.u32()? {
            configurations.push((LogIndex(self.u64()?), Bytes::copy_from_slice(self.sized()?)));
        }
        Some(Checkpoint { incarnation, genesis, hard_state, last, snapshot, configurations })
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
        let mut header = Vec::new();
        SegmentHeader::encode(7, 9, &mut header);
        assert_eq!(header.len(), SEGMENT_HEADER_LEN);
        assert_eq!(SegmentHeader::parse(&header), SegmentHeader::Known { number: 7, start: 9 });
        assert_eq!(framed(0, 0, &[]).len(), FRAME_HEADER_LEN + 1);
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
        fn a_checkpoint_reads_back(height in any::<u64>(), vote in prop::option::of(any::<u32>()), count in 0_usize..3) {
            let configuration = Configuration::new([1, 2].map(NodeId));
            let meta = SnapshotMeta {
                digest: Some(Digest([3; 32])),
                state: vote.map(|_| Digest([4; 32])),
                last_included_index: LogIndex(height),
                ..SnapshotMeta::genesis(configuration.clone())
            };
            let checkpoint = Checkpoint {
                incarnation: Incarnation(height),
                genesis: Genesis { cluster: crate::ClusterId([5; 16]), configuration },
                hard_state: HardState { current_term: Term(height), voted_for: vote.map(NodeId) },
                last: Point { height: LogIndex(height), term: Term(8), hash: Digest([9; 32]) },
                snapshot: (count > 0).then_some(meta),
                configurations: vec![(LogIndex(height), Bytes::from_static(b"any")); count],
            };
            let mut body = Vec::new();
            encode_checkpoint(&checkpoint, &mut body);
            prop_assert_eq!(Body::parse(&body[..body.len() - 1]), None);
            prop_assert_eq!(Body::parse(&body), Some(Body::Checkpoint(Box::new(checkpoint))));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(Body::Append(blocks)) = Body::parse(&bytes) {
                prop_assert!(blocks.count() <= bytes.len());
            }
        }
    }
}
