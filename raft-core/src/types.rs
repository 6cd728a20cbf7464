//! The words everything else is written in: node ids, terms, log indexes, digests and log entries.
//!
//! Newtypes, so that a term can never be passed where an index is meant. Invariant of the log (§5.3): an entry is
//! named by its (`index`, `term`) pair; two logs that hold the same pair hold the same prefix.

use alloc::sync::Arc;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A server of the cluster. Small and caller-assigned; never reused for another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// One life of a server's disk (fault M10): drawn at random when the storage is made, the same after every restart. A
/// server whose disk was lost has another, so that it is not taken for the one that voted and acknowledged under its id.
/// 0 is [`UNKNOWN`](Self::UNKNOWN): the storage does not tell, and nothing is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// Raft's logical clock (§5.1). 0 is the time before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// A position in the log, from 1. 0 is the position before the first entry: block 0 of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogIndex(pub u64);

/// Names one [`Write`](crate::Write). Handed out in order from 1 and reported cumulatively.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriteId(pub u64);

/// The caller's name for a read, echoed in its answer. The protocol never trusts it: what a quorum confirms is a
/// round number of the leader's own (fault R2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReadId(pub u64);

/// A chain digest: 32 bytes, the hash of an entry and of everything before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

/// One entry of the log. In the block chain it is one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position.
    pub index: LogIndex,
    /// The term of the leader that created it.
    pub term: Term,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// A new leader's first entry, which lets it commit what earlier terms left (§5.4.2, §8).
    Noop,
    /// Bytes for the state machine; a [`Replica`](crate::Replica) packs many commands into one.
    Command(Bytes),
    /// Who takes part from here on (§6): [`Configuration::to_bytes`](crate::Configuration::to_bytes).
    Configuration(Bytes),
    /// What state a majority had after an earlier entry: [`StateDigest::to_bytes`](crate::StateDigest::to_bytes).
    StateDigest(Bytes),
}

/// A run of consecutive entries, shared: a follower more costs a pointer, not a copy.
pub type Entries = Arc<[Entry]>;

impl Entry {
    /// The bytes that this entry counts for in every limit: its payload and a fixed 24 for its header.
    #[must_use]
    pub fn cost(&self) -> usize {
        Self::cost_of(self.payload.bytes())
    }

    /// The bytes that an entry with this payload counts for.
    pub(crate) const fn cost_of(payload: &[u8]) -> usize {
        payload.len().saturating_add(24)
    }
}

impl Payload {
    /// The payload's bytes; empty for a no-op.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Noop => &[],
            Self::Command(bytes) | Self::Configuration(bytes) | Self::StateDigest(bytes) => bytes,
        }
    }

    /// A number for the kind, part of what a chain hashes: 0 no-op, 1 command, 2 configuration, 3 state
    /// digest.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Noop => 0,
            Self::Command(_) => 1,
            Self::Configuration(_) => 2,
            Self::StateDigest(_) => 3,
        }
    }
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl LogIndex {
    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before this one; 0 stays 0.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Incarnation {
    /// Not told, or not heard yet.
    pub const UNKNOWN: Self = Self(0);

    /// Whether it is known.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != Self::UNKNOWN.0
    }

    /// Whether a server that says `other` may be the one meant by this: anybody, where this is unknown.
    #[must_use]
    pub const fn admits(self, other: Self) -> bool {
        !self.is_known() || self.0 == other.0
    }
}

impl WriteId {
    /// The write after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Lower-case hexadecimal, whole; `{:.8}` cuts it to its first 8 digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(64);
        for (byte, at) in self.0.iter().zip((0_usize..).step_by(2)) {
            if at.saturating_add(2) <= digits {
                write!(f, "{byte:02x}")?;
            } else if at < digits {
                write!(f, "{:x}", byte >> 4)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.8}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_digest_prints_as_hexadecimal_and_shortens() {
        let mut digest = Digest([0; 32]);
        digest.0[0] = 0x9f;
        digest.0[1] = 0x01;
        digest.0[31] = 0xee;
        assert_eq!(format!("{digest:.3}"), "9f0");
        assert_eq!(format!("{digest:?}"), "9f010000");
        assert_eq!(format!("{digest}").len(), 64);
        assert!(format!("{digest}").ends_with("ee"));
    }

    #[test]
    fn positions_do_not_wrap() {
        assert_eq!(LogIndex(0).prev(), LogIndex(0));
        assert_eq!(LogIndex(u64::MAX).next(), LogIndex(u64::MAX));
    }
}
