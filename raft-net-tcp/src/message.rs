//! A server's message out of a frame's body: what `codec.rs` reads, but without an allocation and a copy for each entry.
//!
//! The payloads of an `AppendEntries` of many entries are slices of one copy of their bytes; one that comes alone is copied
//! alone. So a payload that is kept keeps those that came with it, a frame at most, and some 28 bytes a payload beside
//! them. A log keeps and forgets entries as they came, so its window's budget holds but for that; who keeps a small payload
//! for longer copies it.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{AppendEntries, Body, Digest, Entries, Entry, LogIndex, Message, NodeId, Payload, Term};
use serde::Deserialize;

use crate::codec::{self, CodecError};

/// The message that the whole of `body` encodes.
///
/// # Errors
/// It encodes none, or more than one.
pub(crate) fn read(body: &[u8]) -> Result<Message, CodecError> {
    let ((from, to, term, kind), rest) = take::<(NodeId, NodeId, Term, u32)>(body)?;
    if kind != APPEND_ENTRIES {
        return codec::decode(body);
    }
    let (head, rest) = take::<Head>(rest)?;
    let request = AppendEntries {
        prev_log_index: head.prev_log_index,
        prev_log_term: head.prev_log_term,
        prev_log_hash: head.prev_log_hash.map(Arc::new),
        leader_commit: head.leader_commit,
        entries: read_entries(rest, head.count)?,
    };
    Ok(Message { from, to, term, body: Body::AppendEntries(request) })
}

/// So many entries, and nothing behind them.
fn read_entries(bytes: &[u8], count: u64) -> Result<Entries, CodecError> {
    // What is claimed is held against what is there before it is allocated (fault N1).
    let count = usize::try_from(count).ok().filter(|count| count.saturating_mul(ENTRY_BYTES_MIN) <= bytes.len());
    let count = count.ok_or_else(|| CodecError::Malformed { what: String::from("more entries than bytes") })?;
    if count == 1 {
        let (entry, rest) = take::<BorrowedEntry<'_>>(bytes)?;
        let entry =
            Entry { index: entry.index, term: entry.term, payload: entry.payload.owned(Bytes::copy_from_slice) };
        return ends(rest).map(|()| -> Entries { Arc::new([entry]) });
    }
    let shared = Bytes::copy_from_slice(bytes);
    let (mut entries, mut rest) = (Vec::with_capacity(count), &shared[..]);
    for _ in 0..count {
        let (entry, behind) = take::<BorrowedEntry<'_>>(rest)?;
        let payload = entry.payload.owned(|bytes| shared.slice_ref(bytes));
        entries.push(Entry { index: entry.index, term: entry.term, payload });
        rest = behind;
    }
    ends(rest).map(|()| entries.into())
}

/// The value at the front, and the bytes behind it.
fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), CodecError> {
    let (value, used) = codec::decode_front(bytes)?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}

const fn ends(rest: &[u8]) -> Result<(), CodecError> {
    if rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing { bytes: rest.len() }) }
}

/// [`Body::AppendEntries`], as the format counts the variants.
const APPEND_ENTRIES: u32 = 4;

/// An entry with no payload: index, term and the payload's kind.
const ENTRY_BYTES_MIN: usize = 20;

/// [`AppendEntries`] up to its entries.
#[derive(Deserialize)]
struct Head {
    prev_log_index: LogIndex,
    prev_log_term: Term,
    prev_log_hash: Option<Digest>,
    leader_commit: LogIndex,
    count: u64,
}

/// An [`Entry`] in a frame.
#[derive(Deserialize)]
struct BorrowedEntry<'a> {
    index: LogIndex,
    term: Term,
    #[serde(borrow)]
    payload: BorrowedPayload<'a>,
}

/// A [`Payload`] in a frame.
#[derive(Deserialize)]
enum BorrowedPayload<'a> {
    Noop,
    Command(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    Configuration(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    StateDigest(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
}

impl<'a> BorrowedPayload<'a> {
    fn owned(self, own: impl FnOnce(&'a [u8]) -> Bytes) -> Payload {
        match self {
            Self::Noop => Payload::Noop,
            Self::Command(bytes) => Payload::Command(own(bytes)),
            Self::Configuration(bytes) => Payload::Configuration(own(bytes)),
            Self::StateDigest(bytes) => Payload::StateDigest(own(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(codec::encode_into(message, &mut bytes));
        bytes
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

    proptest! {
        #[test]
        fn what_was_written_is_read(message in any_append()) {
            prop_assert_eq!(read(&encode(&message)), Ok(message));
        }

        /// What the codec refuses is refused, and what it reads is read, whatever stands there.
        #[test]
        fn n1_other_bytes_are_read_as_the_codec_reads_them(
            message in any_append(), at in any::<prop::sample::Index>(), byte in any::<u8>(), change in 0..3,
        ) {
            let mut bytes = encode(&message);
            let at = at.index(bytes.len());
            match change {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                _ => bytes.push(byte),
            }
            let (read, decoded) = (read(&bytes), codec::decode::<Message>(&bytes));
            prop_assert_eq!(read.is_ok(), decoded.is_ok(), "{:?}, {:?}", read, decoded);
            if let (Ok(read), Ok(decoded)) = (read, decoded) {
                prop_assert_eq!(read, decoded);
            }
        }
    }

    #[test]
    fn n1_a_claimed_number_of_entries_is_refused_before_it_is_allocated() {
        for claimed in [2, u64::from(u32::MAX), u64::MAX] {
            let refused = read_entries(&[0; 2 * ENTRY_BYTES_MIN - 1], claimed);
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
        let Ok(Message { body: Body::AppendEntries(read), .. }) = read(&encode(&sent)) else { panic!("no append") };
        let [first, second] = [0, 1].map(|at| read.entries[at].payload.bytes().as_ptr_range());
        assert_eq!(second.start.addr() - first.end.addr(), 8 + 8 + 4 + 8, "index, term, kind and length lie between");
    }
}
