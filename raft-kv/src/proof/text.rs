//! Heads and proofs as the text of a file (see the [module](super)), and in formats that are no text, where hashes and
//! payloads are their bytes.

use bytes::Bytes;
use raft_core::{Digest, LogIndex, Term};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Head;
use crate::block::Block;

/// A head with its id, which must be the one that follows from the rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadText {
    height: u64,
    #[serde(with = "digest")]
    hash: Digest,
    #[serde(with = "digest")]
    root: Digest,
    #[serde(with = "digest")]
    id: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockText {
    height: u64,
    term: u64,
    kind: u8,
    #[serde(with = "digest")]
    prev_hash: Digest,
    #[serde(with = "digest")]
    hash: Digest,
    #[serde(with = "payload")]
    payload: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct DigestText(#[serde(with = "digest")] Digest);

impl From<Head> for HeadText {
    fn from(head: Head) -> Self {
        Self { height: head.height.0, hash: head.hash, root: head.root, id: head.id() }
    }
}

impl TryFrom<HeadText> for Head {
    type Error = String;

    fn try_from(text: HeadText) -> Result<Self, String> {
        let head = Self { height: LogIndex(text.height), hash: text.hash, root: text.root };
        if head.id() == text.id {
            return Ok(head);
        }
        Err(format!("the head at block {} was changed: its id is {}, not {}", head.height, head.id(), text.id))
    }
}

pub(super) mod digest {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(digest) } else { digest.serialize(serializer) }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        if !deserializer.is_human_readable() {
            return Digest::deserialize(deserializer);
        }
        let text = String::deserialize(deserializer)?;
        let bytes = from_hex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Digest)
            .ok_or_else(|| D::Error::custom(format!("no hash in 64 lower-case hexadecimal digits: {text}")))
    }
}

pub(super) mod digests {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(digests: &[Digest], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(digests.iter().copied().map(DigestText))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Digest>, D::Error> {
        Ok(Vec::<DigestText>::deserialize(deserializer)?.into_iter().map(|text| text.0).collect())
    }
}

mod payload {
    use super::*;

    pub(super) fn serialize<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&to_hex(payload))
        } else {
            payload.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        if !deserializer.is_human_readable() {
            return Bytes::deserialize(deserializer);
        }
        let bytes = from_hex(&String::deserialize(deserializer)?).map(Bytes::from);
        bytes.ok_or_else(|| D::Error::custom("a payload that is not lower-case hexadecimal"))
    }
}

pub(super) mod block {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(block: &Block, serializer: S) -> Result<S::Ok, S::Error> {
        let Block { height, term, kind, prev_hash, hash, payload } = block;
        let (prev_hash, hash, payload) = (*prev_hash, *hash, payload.clone());
        BlockText { height: height.0, term: term.0, kind: *kind, prev_hash, hash, payload }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Block, D::Error> {
        let BlockText { height, term, kind, prev_hash, hash, payload } = BlockText::deserialize(deserializer)?;
        let (height, term) = (LogIndex(height), Term(term));
        Ok(Block { height, term, kind, prev_hash, hash, payload })
    }
}

/// Lower-case hexadecimal.
fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16);
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit).collect()
}

/// Reads [`to_hex`] back, and nothing else.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    pairs.iter().map(byte).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}
