//! A server's message as a frame's body: what `codec.rs` writes and reads, but that the two messages which an entry takes
//! are written and read field by field where they stand, without serde between.
//!
//! ```text
//!   every message    from u32 | to u32 | term u64 | what u32 | ...
//!   AppendEntries    prev_log_index u64 | prev_log_term u64 | 0 u8, or 1 u8 and prev_log_hash [32]
//!                    | leader_commit u64 | count u64 | entries
//!   an entry         index u64 | term u64 | kind u32 | but for a no-op: length u64 | bytes
//!   its acceptance   incarnation u64 | 0 u32 | match_index u64
//! ```
//!
//! The payloads of an `AppendEntries` stay where its frame [says](Memory): in the memory that it came in, or, of a short
//! one, in one copy of its bytes, or of the payload's where one entry comes alone; copies lie behind each other in
//! memory of 16 KiB. So a payload that is kept keeps those that came with it or just before. A log keeps and forgets entries
//! as they came, so what its window keeps alive is at most twice its budget (some 28 bytes a payload beside them), and
//! the memory of one frame; who keeps a small payload for longer copies it.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    AppendEntries, AppendEntriesResponse, Body, Digest, Entries, Entry, Incarnation, LogIndex, Message, NodeId,
    Payload, Term,
};

use crate::codec::{self, CodecError};
use crate::frame::{Frame, Memory};

/// Appends the encoding of `message`. `false`, and nothing appended, where it has none.
pub(crate) fn write(message: &Message, buffer: &mut Vec<u8>) -> bool {
    match &message.body {
        Body::AppendEntries(request) => {
            write_head(message, APPEND_ENTRIES, buffer);
            write_append(request, buffer);
        }
        Body::AppendEntriesResponse(incarnation, AppendEntriesResponse::Accepted { match_index }) => {
            write_head(message, APPEND_ENTRIES_RESPONSE, buffer);
            buffer.extend_from_slice(&incarnation.0.to_le_bytes());
            buffer.extend_from_slice(&ACCEPTED.to_le_bytes());
            buffer.extend_from_slice(&match_index.0.to_le_bytes());
        }
        _ => return codec::encode_into(message, buffer),
    }
    true
}

/// The message that the whole of a frame's body encodes.
///
/// # Errors
/// It encodes none, or more than one.
pub(crate) fn read(mut frame: Frame<'_>) -> Result<Message, CodecError> {
    let mut fields = Fields(frame.body);
    let (from, to) = (NodeId(fields.u32()?), NodeId(fields.u32()?));
    let (term, what) = (Term(fields.u64()?), fields.u32()?);
    let body = match what {
        APPEND_ENTRIES => Body::AppendEntries(read_append(&mut fields, &mut frame.memory)?),
        APPEND_ENTRIES_RESPONSE => {
            let incarnation = Incarnation(fields.u64()?);
            if fields.u32()? != ACCEPTED {
                return codec::decode(frame.body);
            }
            let match_index = LogIndex(fields.u64()?);
            Body::AppendEntriesResponse(incarnation, AppendEntriesResponse::Accepted { match_index })
        }
        _ => return codec::decode(frame.body),
    };
    match fields.0.len() {
        0 => Ok(Message { from, to, term, body }),
        bytes => Err(CodecError::Trailing { bytes }),
    }
}

fn write_head(message: &Message, what: u32, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&message.from.0.to_le_bytes());
    buffer.extend_from_slice(&message.to.0.to_le_bytes());
    buffer.extend_from_slice(&message.term.0.to_le_bytes());
    buffer.extend_from_slice(&what.to_le_bytes());
}

fn write_append(request: &AppendEntries, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&request.prev_log_index.0.to_le_bytes());
    buffer.extend_from_slice(&request.prev_log_term.0.to_le_bytes());
    match &request.prev_log_hash {
        None => buffer.push(0),
        Some(hash) => {
            buffer.push(1);
            buffer.extend_from_slice(&hash.0);
        }
    }
    buffer.extend_from_slice(&request.leader_commit.0.to_le_bytes());
    buffer.extend_from_slice(&(request.entries.len() as u64).to_le_bytes());
    for entry in request.entries.iter() {
        buffer.extend_from_slice(&entry.index.0.to_le_bytes());
        buffer.extend_from_slice(&entry.term.0.to_le_bytes());
        // The format counts the kinds as a chain's hash does: the tests hold it.
        buffer.extend_from_slice(&u32::from(entry.payload.kind()).to_le_bytes());
        if !matches!(entry.payload, Payload::Noop) {
            let bytes = entry.payload.bytes();
            buffer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            buffer.extend_from_slice(bytes);
        }
    }
}

fn read_append(fields: &mut Fields<'_>, memory: &mut Memory<'_>) -> Result<AppendEntries, CodecError> {
    let (prev_log_index, prev_log_term) = (LogIndex(fields.u64()?), Term(fields.u64()?));
    let prev_log_hash = match fields.take()? {
        [0] => None,
        [1] => Some(Arc::new(Digest(fields.take()?))),
        [_] => return Err(malformed("neither a hash nor none")),
    };
    let leader_commit = LogIndex(fields.u64()?);
    let count = fields.u64()?;
    // What is claimed is held against what is there before it is allocated (fault N1).
    let count = usize::try_from(count).ok().filter(|count| count.saturating_mul(ENTRY_BYTES_MIN) <= fields.0.len());
    let count = count.ok_or_else(|| malformed("more entries than bytes"))?;
    let entries = if count > 1 {
        let all = memory.keep(fields.0);
        let mut kept = Fields(&all);
        let entries = read_entries(&mut kept, count, |bytes| all.slice_ref(bytes));
        fields.skip_to(kept.0.len());
        entries
    } else {
        read_entries(fields, count, |bytes| memory.keep(bytes))
    }?;
    Ok(AppendEntries { prev_log_index, prev_log_term, prev_log_hash, leader_commit, entries })
}

/// So many entries, in one allocation: those behind one that cannot be read are none.
fn read_entries<'a>(
    fields: &mut Fields<'a>,
    count: usize,
    mut own: impl FnMut(&'a [u8]) -> Bytes,
) -> Result<Entries, CodecError> {
    let mut failed = None;
    let entries = (0..count).map(|_| {
        read_entry(fields, &mut own).unwrap_or_else(|error| {
            failed = Some(error);
            Entry { index: LogIndex(0), term: Term(0), payload: Payload::Noop }
        })
    });
    let entries = entries.collect();
    failed.map_or(Ok(entries), Err)
}

fn read_entry<'a>(fields: &mut Fields<'a>, own: impl FnOnce(&'a [u8]) -> Bytes) -> Result<Entry, CodecError> {
    let (index, term) = (LogIndex(fields.u64()?), Term(fields.u64()?));
    let payload = match fields.u32()? {
        0 => Payload::Noop,
        1 => Payload::Command(own(fields.bytes()?)),
        2 => Payload::Configuration(own(fields.bytes()?)),
        3 => Payload::StateDigest(own(fields.bytes()?)),
        _ => return Err(malformed("an entry of an unknown kind")),
    };
    Ok(Entry { index, term, payload })
}

/// What is left to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (field, rest) = self.0.split_first_chunk().ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        self.take().map(u64::from_le_bytes)
    }

    /// So many bytes as the number before them says.
    fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = usize::try_from(self.u64()?).map_err(|_| ends_early())?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// All but the last `left` bytes are read.
    fn skip_to(&mut self, left: usize) {
        self.0 = self.0.get(self.0.len().saturating_sub(left)..).unwrap_or_default();
    }
}

fn ends_early() -> CodecError {
    malformed("it ends early")
}

#[cold]
fn malformed(what: &str) -> CodecError {
    CodecError::Malformed { what: what.into() }
}

/// [`Body::AppendEntries`], [`Body::AppendEntriesResponse`] and [`AppendEntriesResponse::Accepted`], as the format counts
/// variants.
const APPEND_ENTRIES: u32 = 4;
const APPEND_ENTRIES_RESPONSE: u32 = 5;
const ACCEPTED: u32 = 0;

/// An entry with no payload: index, term and the payload's kind.
const ENTRY_BYTES_MIN: usize = 20;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Kind;

    fn encode(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(write(message, &mut bytes));
        bytes
    }

    fn read_body(body: &[u8]) -> Result<Message, CodecError> {
        read(Frame { kind: Kind::Message, body, memory: Memory::Pool(&mut BytesMut::new()) })
    }

    fn read_kept(body: &Bytes) -> Result<Message, CodecError> {
        read(Frame { kind: Kind::Message, body, memory: Memory::Body(body) })
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let bytes = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        (any::<u64>(), any::<u64>(), 0..4, bytes).prop_map(|(index, term, kind, bytes)| {
            let payload = match kind {
                0 => Payload::Noop,
                1 => Payload::Command(bytes),
                2 => Payload::Configuration(bytes),
                _ => Payload::StateDigest(bytes),
            };
            Entry { index: LogIndex(index), term: Term(term), payload }
        })
    }

    fn any_append() -> impl Strategy<Value = Message> {
        let hash = prop::option::of(any::<[u8; 32]>().prop_map(|bytes| Arc::new(Digest(bytes))));
        let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        (numbers, hash, prop::collection::vec(any_entry(), 0..5)).prop_map(|(numbers, prev_log_hash, entries)| {
            let (from, to, term, prev_log_index, prev_log_term, leader_commit) = numbers;
            let request = AppendEntries {
                prev_log_index: LogIndex(prev_log_index),
                prev_log_term: Term(prev_log_term),
                prev_log_hash,
                leader_commit: LogIndex(leader_commit),
                entries: entries.into(),
            };
            Message { from: NodeId(from), to: NodeId(to), term: Term(term), body: Body::AppendEntries(request) }
        })
    }

    fn any_acknowledgement() -> impl Strategy<Value = Message> {
        (any::<[u32; 2]>(), any::<[u64; 5]>(), 0..3).prop_map(|([from, to], [term, own, a, b, c], kind)| {
            let (prev_log_index, hint_index, hint_term) = (LogIndex(a), LogIndex(b), Term(c));
            let response = match kind {
                0 => AppendEntriesResponse::Accepted { match_index: LogIndex(a) },
                1 => AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term },
                _ => AppendEntriesResponse::Diverged { prev_log_index },
            };
            let body = Body::AppendEntriesResponse(Incarnation(own), response);
            Message { from: NodeId(from), to: NodeId(to), term: Term(term), body }
        })
    }

    fn any_message() -> impl Strategy<Value = Message> {
        prop_oneof![3 => any_append(), 1 => any_acknowledgement()]
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_codec_writes(message in any_message()) {
            let mut bytes = Vec::new();
            prop_assert!(codec::encode_into(&message, &mut bytes));
            prop_assert_eq!(encode(&message), bytes);
        }

        #[test]
        fn what_was_written_is_read(message in any_message()) {
            let bytes = Bytes::from(encode(&message));
            for read in [read_body(&bytes), read_kept(&bytes)] {
                prop_assert_eq!(read.as_ref(), Ok(&message));
            }
        }

        /// What the codec refuses is refused, and what it reads is read, whatever stands there.
        #[test]
        fn n1_other_bytes_are_read_as_the_codec_reads_them(
            message in any_message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), change in 0..3,
        ) {
            let mut bytes = encode(&message);
            let at = at.index(bytes.len());
            match change {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                _ => bytes.push(byte),
            }
            let bytes = Bytes::from(bytes);
            let decoded = codec::decode::<Message>(&bytes);
            for read in [read_body(&bytes), read_kept(&bytes)] {
                prop_assert_eq!(read.is_ok(), decoded.is_ok(), "{:?}, {:?}", read, decoded);
                if let (Ok(read), Ok(decoded)) = (read, decoded.as_ref()) {
                    prop_assert_eq!(&read, decoded);
                }
            }
        }
    }

    #[test]
    fn n1_a_claimed_number_of_entries_is_refused_before_it_is_allocated() {
        for claimed in [2, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = [0; 8 + 8 + 1 + 8].to_vec();
            bytes.extend(claimed.to_le_bytes());
            bytes.extend([0; 2 * ENTRY_BYTES_MIN - 1]);
            let refused = read_append(&mut Fields(&bytes), &mut Memory::Pool(&mut BytesMut::new()));
            assert_eq!(refused, Err(CodecError::Malformed { what: String::from("more entries than bytes") }));
        }
    }

    #[test]
    fn payloads_that_come_together_share_their_bytes() {
        let payload = |byte| Payload::Command(vec![byte; 7].into());
        let entry = |index, byte| Entry { index: LogIndex(index), term: Term(1), payload: payload(byte) };
        let request = AppendEntries {
            prev_log_index: LogIndex(0),
            prev_log_term: Term(0),
            prev_log_hash: None,
            leader_commit: LogIndex(0),
            entries: [entry(1, b'a'), entry(2, b'b')].into(),
        };
        let sent = Message { from: NodeId(1), to: NodeId(2), term: Term(1), body: Body::AppendEntries(request) };
        let Ok(Message { body: Body::AppendEntries(read), .. }) = read_body(&encode(&sent)) else {
            panic!("no append")
        };
        let [first, second] = [0, 1].map(|at| read.entries[at].payload.bytes().as_ptr_range());
        assert_eq!(second.start.addr() - first.end.addr(), 8 + 8 + 4 + 8, "index, term, kind and length lie between");
    }
}
