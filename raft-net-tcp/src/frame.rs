//! Frames: what a connection carries, one behind the other.
//!
//! ```text
//!  0          4          8          12     13
//!  +----------+----------+----------+------+------------------------
//!  | length   | crc32c   | group    | kind | body ...
//!  +----------+----------+----------+------+------------------------
//!    little-endian; `length` counts, and `crc32c` covers, everything from `group` on
//! ```
//!
//! A length is checked against a cap before anything is allocated for it (fault N1), and memory grows with the bytes
//! that have arrived, not with those that were announced. A frame names its group, so that many groups can share a
//! connection one day; today there is group 0.

use bytes::{Buf, Bytes, BytesMut};
use raft_core::Message;
use serde::Serialize;

use crate::{codec, message};

/// One frame, whole and with the right checksum.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What its body is.
    pub kind: Kind,
    /// The encoded value.
    pub body: &'a [u8],
    /// Where parts of it may be kept.
    pub memory: Memory<'a>,
}

/// Where parts of a frame's body are kept by whoever keeps them.
#[derive(Debug, PartialEq, Eq)]
pub enum Memory<'a> {
    /// In the body itself, a server's message of at least [`HANDED_OVER_MIN`] bytes that fills half of the memory it came
    /// in: the reader goes on in other memory.
    Body(&'a Bytes),
    /// In copies, one behind the other: of other frames' too. Large ones are in memory of their own.
    Pool(&'a mut BytesMut),
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Hello`](crate::handshake::Hello): the first frame each way.
    Hello = 1,
    /// [`HandshakeRefusal`](crate::handshake::HandshakeRefusal): instead of a hello; the connection closes.
    Refusal = 2,
    /// A server's [`Message`].
    Message = 3,
    /// A client's [`Request`](crate::protocol::Request).
    Request = 4,
    /// The [`Response`](crate::protocol::Response) to it.
    Response = 5,
    /// The sender lives. No body.
    Ping = 6,
    /// [`CloseReason`](crate::protocol::CloseReason): the connection closes.
    Goodbye = 7,
}

/// Why bytes are no frame. The stream cannot be trusted behind it: the connection must close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is above the cap.
    #[error("a frame of {length} bytes: at most {cap} are taken")]
    TooLong {
        /// As announced.
        length: usize,
        /// The most that is taken here.
        cap: usize,
    },
    /// The announced length does not hold group and kind.
    #[error("a frame of {length} bytes: too short")]
    TooShort {
        /// As announced.
        length: usize,
    },
    /// The bytes are not those that were sent.
    #[error("a frame with a wrong checksum")]
    Checksum,
    /// There is no such kind.
    #[error("a frame of unknown kind {kind}")]
    UnknownKind {
        /// As named.
        kind: u8,
    },
    /// There is no such group.
    #[error("a frame for unknown group {group}")]
    UnknownGroup {
        /// As named.
        group: u32,
    },
}

/// Takes frames out of a stream that arrives in pieces.
///
/// ```
/// use raft_net_tcp::frame::{self, FrameReader, Kind};
///
/// let mut stream = Vec::new();
/// assert!(frame::encode_into(Kind::Ping, &(), frame::PEER_FRAME_BYTES_MAX, &mut stream));
/// let mut frames = FrameReader::new(frame::PEER_FRAME_BYTES_MAX);
/// frames.room().extend_from_slice(&stream);
/// assert_eq!(frames.next_frame()?.map(|frame| frame.kind), Some(Kind::Ping));
/// assert_eq!(frames.next_frame()?, None);
/// # Ok::<(), raft_net_tcp::frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    /// Everything before it has been handed out.
    at: usize,
    cap: usize,
    /// The body that was handed over last.
    body: Option<Bytes>,
    pool: BytesMut,
}

impl FrameReader {
    /// Takes frames of at most `cap` bytes, as `length` counts.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self { buffer: BytesMut::new(), at: 0, cap, body: None, pool: BytesMut::new() }
    }

    /// Changes the cap for the frames that follow.
    pub fn set_cap(&mut self, cap: usize) {
        self.cap = cap;
    }

    /// Where to append what arrives: the stream's unparsed bytes, with room behind them.
    pub fn room(&mut self) -> &mut BytesMut {
        self.body = None;
        if self.at < self.buffer.len() {
            self.buffer.advance(self.at);
        } else {
            self.buffer.clear();
        }
        self.at = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(READ_BYTES_MIN.max(self.buffer.len()));
        &mut self.buffer
    }

    /// The next frame, once all of it is there.
    ///
    /// # Errors
    /// The stream holds no frame here, and cannot be read on.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some((kind, length)) = self.find_frame()? else { return Ok(None) };
        let end = self.at.saturating_add(PREFIX_BYTES).saturating_add(length);
        let start = self.at.saturating_add(PREFIX_BYTES.saturating_add(ADDRESS_BYTES));
        if kind != Kind::Message || length < HANDED_OVER_MIN || length < self.buffer.capacity() / 2 {
            self.at = end;
            let body = self.buffer.get(start..end).unwrap_or_default();
            return Ok(Some(Frame { kind, body, memory: Memory::Pool(&mut self.pool) }));
        }
        self.at = 0;
        let body = &*self.body.insert(self.buffer.split_to(end).freeze().slice(start..));
        Ok(Some(Frame { kind, body, memory: Memory::Body(body) }))
    }

    /// The kind of the next frame, and its length as its head tells it: it is whole and sound.
    fn find_frame(&self) -> Result<Option<(Kind, usize)>, FrameError> {
        let Some((head, rest)) = self.buffer.get(self.at..).and_then(|left| left.split_first_chunk::<PREFIX_BYTES>())
        else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > self.cap {
            return Err(FrameError::TooLong { length, cap: self.cap });
        }
        let Some(checked) = rest.get(..length) else {
            return if length < ADDRESS_BYTES { Err(FrameError::TooShort { length }) } else { Ok(None) };
        };
        let Some((&[g0, g1, g2, g3, kind], _)) = checked.split_first_chunk::<ADDRESS_BYTES>() else {
            return Err(FrameError::TooShort { length });
        };
        if checksum(checked) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(FrameError::Checksum);
        }
        let group = u32::from_le_bytes([g0, g1, g2, g3]);
        if group != GROUP {
            return Err(FrameError::UnknownGroup { group });
        }
        Ok(Some((Kind::named(kind).ok_or(FrameError::UnknownKind { kind })?, length)))
    }
}

/// Appends a frame around the encoding of `value`. `false`, and nothing appended, where it would be above `cap`.
pub fn encode_into<T: Serialize + ?Sized>(kind: Kind, value: &T, cap: usize, buffer: &mut Vec<u8>) -> bool {
    frame_into(kind, cap, buffer, |buffer| codec::encode_into(value, buffer))
}

/// As [`encode_into`], for what servers say to each other.
pub fn encode_message_into(message: &Message, cap: usize, buffer: &mut Vec<u8>) -> bool {
    frame_into(Kind::Message, cap, buffer, |buffer| message::write(message, buffer))
}

fn frame_into(kind: Kind, cap: usize, buffer: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX_BYTES]);
    buffer.extend_from_slice(&GROUP.to_le_bytes());
    buffer.push(kind as u8);
    if encode(buffer)
        && let Some((head, checked)) =
            buffer.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<PREFIX_BYTES>())
        && checked.len() <= cap
        && let Ok(length) = u32::try_from(checked.len())
    {
        let ([l0, l1, l2, l3], [c0, c1, c2, c3]) = (length.to_le_bytes(), checksum(checked).to_le_bytes());
        *head = [l0, l1, l2, l3, c0, c1, c2, c3];
        return true;
    }
    buffer.truncate(start);
    false
}

/// CRC-32C.
fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Bytes of the frame at the front of `stream`, header and all, if its prefix is there. For streams of our own making.
pub(crate) fn front_bytes(stream: &[u8]) -> Option<usize> {
    let (&length, _) = stream.split_first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(length)).ok()?.checked_add(PREFIX_BYTES)
}

/// The cap between servers: 8 MiB. It admits an `AppendEntries` of 1 MiB that ends with one more batch of 1 MiB and a
/// command of 1 MiB in it, with room to spare.
pub const PEER_FRAME_BYTES_MAX: usize = 8 << 20;

/// The cap of requests and responses: 4 MiB. It admits every command of the key-value machine (the largest compares a
/// value of 1 MiB and swaps it for another) and every page of a scan.
pub const CLIENT_FRAME_BYTES_MAX: usize = 4 << 20;

/// The cap before the handshake has agreed: 512 bytes.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 512;

impl Memory<'_> {
    /// Some bytes of the body, to be kept.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Bytes {
        match self {
            Self::Body(body) => body.slice_ref(bytes),
            // Or what is small would lie in memory that was made for what is large.
            Self::Pool(_) if bytes.len() > POOL_BYTES => Bytes::copy_from_slice(bytes),
            Self::Pool(pool) => {
                if pool.capacity() < bytes.len() {
                    pool.reserve(POOL_BYTES);
                }
                pool.extend_from_slice(bytes);
                pool.split().freeze()
            }
        }
    }
}

impl Kind {
    fn named(kind: u8) -> Option<Self> {
        [Self::Hello, Self::Refusal, Self::Message, Self::Request, Self::Response, Self::Ping, Self::Goodbye]
            .into_iter()
            .find(|known| *known as u8 == kind)
    }
}

/// The only group there is.
const GROUP: u32 = 0;

/// Length and checksum.
const PREFIX_BYTES: usize = 8;

/// Group and kind.
const ADDRESS_BYTES: usize = 5;

/// A shorter message is copied rather than handed over: it would not be worth memory of its own.
pub const HANDED_OVER_MIN: usize = 8 << 10;

/// Copies lie together in so much memory, which is given back when nothing of it is kept.
const POOL_BYTES: usize = 16 << 10;

/// Room for a read.
const READ_BYTES_MIN: usize = 16 << 10;

/// An empty buffer larger than this is given back.
const KEPT_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const CAP: usize = 1 << 20;

    fn frame(kind: Kind, body: &Bytes) -> Vec<u8> {
        let mut buffer = Vec::new();
        assert!(encode_into(kind, body, CAP, &mut buffer));
        buffer
    }

    fn drain(frames: &mut FrameReader) -> Result<Vec<(Kind, Bytes)>, FrameError> {
        let mut found = Vec::new();
        while let Some(frame) = frames.next_frame()? {
            found.push((frame.kind, codec::decode(frame.body).unwrap()));
        }
        Ok(found)
    }

    fn fed(bytes: &[u8]) -> FrameReader {
        let mut frames = FrameReader::new(CAP);
        frames.room().extend_from_slice(bytes);
        frames
    }

    #[test]
    fn the_layout_is_fixed() {
        let bytes = frame(Kind::Message, &Bytes::from_static(b"a"));
        assert_eq!(bytes[..4], [14, 0, 0, 0]);
        assert_eq!(bytes[4..8], checksum(&bytes[8..]).to_le_bytes());
        assert_eq!(checksum(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        assert_eq!(bytes[8..], [0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, b'a']);
        assert_eq!(front_bytes(&bytes), Some(bytes.len()));
    }

    #[test]
    fn n1_a_length_above_the_cap_is_refused_before_it_is_allocated() {
        let mut frames = fed(&[0xff; 8]);
        assert_eq!(frames.next_frame(), Err(FrameError::TooLong { length: 0xffff_ffff, cap: CAP }));
        assert!(frames.buffer.capacity() <= 2 * READ_BYTES_MIN);
    }

    #[test]
    fn n1_memory_follows_what_arrived_not_what_was_announced() {
        let mut frames = fed(&(CAP as u32).to_le_bytes());
        frames.room().extend_from_slice(&[0; 100]);
        assert_eq!(frames.next_frame(), Ok(None));
        assert!(frames.room().capacity() <= 4 * READ_BYTES_MIN);
    }

    #[test]
    fn n2_every_wrong_field_has_its_reason() {
        let good = frame(Kind::Ping, &Bytes::new());
        let reason = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let checksum = checksum(&bytes[8..]).to_le_bytes();
            if at != 4 {
                bytes[4..8].copy_from_slice(&checksum);
            }
            fed(&bytes).next_frame().unwrap_err()
        };
        assert_eq!(reason(0, 4), FrameError::TooShort { length: 4 });
        assert_eq!(reason(4, !good[4]), FrameError::Checksum);
        assert_eq!(reason(8, 9), FrameError::UnknownGroup { group: 9 });
        assert_eq!(reason(12, 99), FrameError::UnknownKind { kind: 99 });
    }

    #[test]
    fn a_message_that_fills_half_of_its_memory_takes_it_along() {
        let bodies = [HANDED_OVER_MIN / 2, 2 * READ_BYTES_MIN, HANDED_OVER_MIN / 2, HANDED_OVER_MIN];
        let kinds = [Kind::Message, Kind::Message, Kind::Message, Kind::Request];
        let bodies = [1, 2, 3, 4].into_iter().zip(bodies).map(|(byte, len)| Bytes::from(vec![byte; len]));
        let sent: Vec<_> = kinds.into_iter().zip(bodies).collect();
        let stream: Vec<u8> = sent.iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
        let (mut frames, mut kept) = (fed(&stream), Vec::new());
        while let Some(mut frame) = frames.next_frame().unwrap() {
            let is_handed_over = matches!(&frame.memory, Memory::Body(body) if *body == frame.body);
            kept.push((is_handed_over, frame.memory.keep(&frame.body[8..])));
        }
        frames.room().extend_from_slice(&[5; 2 * READ_BYTES_MIN]);
        for (at, ((is_handed_over, bytes), (_, body))) in kept.iter().zip(&sent).enumerate() {
            assert_eq!((*is_handed_over, bytes), (at == 1, body));
        }
        assert_eq!(kept.len(), sent.len());
    }

    #[test]
    fn what_is_small_is_not_kept_in_memory_made_for_what_is_large() {
        let mut pool = BytesMut::new();
        drop(Memory::Pool(&mut pool).keep(&vec![1; 1 << 20]));
        let small = Memory::Pool(&mut pool).keep(b"small");
        assert_eq!(small, b"small"[..]);
        assert!(pool.capacity() <= POOL_BYTES, "{} bytes beside a small copy", pool.capacity());
    }

    #[test]
    fn what_is_above_the_cap_is_not_encoded() {
        let mut buffer = vec![1, 2, 3];
        assert!(!encode_into(Kind::Message, &Bytes::from(vec![0; CAP]), CAP, &mut buffer));
        assert_eq!(buffer, [1, 2, 3]);
    }

    fn bodies() -> impl Strategy<Value = Vec<(Kind, Bytes)>> {
        let kind = prop_oneof![Just(Kind::Message), Just(Kind::Request), Just(Kind::Response), Just(Kind::Hello)];
        let body = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop::collection::vec((kind, body), 0..8)
    }

    proptest! {
        #[test]
        fn frames_survive_any_split_of_the_stream(
            sent in bodies(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream: Vec<u8> = sent.iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let (mut frames, mut got) = (FrameReader::new(CAP), Vec::new());
            for piece in cuts.windows(2) {
                frames.room().extend_from_slice(&stream[piece[0]..piece[1]]);
                got.extend(drain(&mut frames).unwrap());
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn n2_garbage_is_refused_and_takes_no_memory(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let mut frames = fed(&bytes);
            while let Ok(Some(_)) = frames.next_frame() {}
            prop_assert!(frames.room().capacity() <= 4 * READ_BYTES_MIN);
        }

        #[test]
        fn n2_a_damaged_frame_is_never_taken(
            body in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bits in 1_u8..,
        ) {
            let mut bytes = frame(Kind::Message, &Bytes::from(body));
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            prop_assert!(!matches!(fed(&bytes).next_frame(), Ok(Some(_))));
        }
    }
}
