//! Blocks: log entries linked by hash.
//!
//! `hash = SHA-256(prev_hash || height || term || kind || payload)`: 32 bytes, then `height` and `term` as 8 bytes
//! each and `kind` as 1, little-endian like every number that this crate stores, then the payload to the end. The
//! fields before the payload have fixed widths, so no two different blocks hash the same bytes.
//!
//! Block 0, the genesis, follows a `prev_hash` of zeros. Its payload is the cluster's id and founding configuration,
//! so every later hash covers both, and the chains of two clusters never meet (fault N3).

use core::fmt;

use bytes::Bytes;
use raft_core::{Configuration, Digest, Entry, LogIndex, Payload, Term};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The kind of block 0. Every other block has its payload's: 0 no-op, 1 command, 2 configuration, 3 state digest.
pub const GENESIS_KIND: u8 = 255;

/// Names a cluster: what block 0 and every handshake carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub [u8; 16]);

/// What a chain is founded on: the content of block 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its first members.
    pub configuration: Configuration,
}

/// One block, as it is shown: whole, with both hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its position, which is its entry's index; 0 for the genesis.
    pub height: LogIndex,
    /// The term of the leader that created it.
    pub term: Term,
    /// What the payload is: 0 no-op, 1 command, 255 genesis.
    pub kind: u8,
    /// Hash of the block before; zeros for the genesis.
    pub prev_hash: Digest,
    /// Its own hash.
    pub hash: Digest,
    /// What it carries.
    pub payload: Bytes,
}

impl Block {
    /// Whether `hash` is the hash of the rest.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.hash == hash(&self.prev_hash, self.height, self.term, self.kind, &self.payload)
    }
}

impl ClusterId {
    /// The id of the cluster with this name: the first 16 bytes of a SHA-256 over it.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let digest: [u8; 32] = Sha256::new().chain_update("raft-kv cluster: ").chain_update(name).finalize().into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

impl Genesis {
    /// Block 0. Its payload is [`to_bytes`](Self::to_bytes).
    #[must_use]
    pub fn block(&self) -> Block {
        let payload = Bytes::from(self.to_bytes());
        let prev_hash = Digest([0; 32]);
        let (height, term, kind) = (LogIndex(0), Term(0), GENESIS_KIND);
        Block { height, term, kind, prev_hash, hash: hash(&prev_hash, height, term, kind, &payload), payload }
    }

    /// The cluster id's 16 bytes, then the configuration's [`to_bytes`](Configuration::to_bytes).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.cluster.0[..], &self.configuration.to_bytes()].concat()
    }

    /// Reads [`to_bytes`](Self::to_bytes) back; `None` where these bytes are not exactly that.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (cluster, rest) = bytes.split_first_chunk::<16>()?;
        Some(Self { cluster: ClusterId(*cluster), configuration: Configuration::from_bytes(rest)? })
    }
}

/// The hash of `entry` as the block after one with hash `prev`.
#[must_use]
pub fn link(prev: &Digest, entry: &Entry) -> Digest {
    hash(prev, entry.index, entry.term, entry.payload.kind(), entry.payload.bytes())
}

/// The payload of this kind; `None` for a kind that no entry has, or a no-op that carries bytes.
pub(crate) fn payload(kind: u8, bytes: Bytes) -> Option<Payload> {
    match kind {
        0 if bytes.is_empty() => Some(Payload::Noop),
        1 => Some(Payload::Command(bytes)),
        2 => Some(Payload::Configuration(bytes)),
        3 => Some(Payload::StateDigest(bytes)),
        _ => None,
    }
}

pub(crate) fn hash(prev: &Digest, height: LogIndex, term: Term, kind: u8, payload: &[u8]) -> Digest {
    // Both numbers as 8 bytes each, little-endian, one behind the other.
    let numbers = u128::from(height.0) | u128::from(term.0) << 64;
    let fields = Sha256::new().chain_update(prev.0).chain_update(numbers.to_le_bytes()).chain_update([kind]);
    Digest(fields.chain_update(payload).finalize().into())
}

/// Lower-case hexadecimal.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `cluster 0123... with servers 1,2,3`.
impl fmt::Display for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {} with servers {}", self.cluster, self.configuration)
    }
}

/// One line: `block 7 term 2 command 120 bytes hash 9f01... after 77ab...`.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            0 => "no-op",
            2 => "configuration",
            1 => "command",
            3 => "state digest",
            GENESIS_KIND => "genesis",
            _ => "unknown",
        };
        let bytes = self.payload.len();
        write!(
            f,
            "block {} term {} {kind} {bytes} bytes hash {} after {}",
            self.height, self.term, self.hash, self.prev_hash
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use raft_core::NodeId;

    use super::*;

    fn genesis(name: &str, voters: &[u32]) -> Genesis {
        let configuration = Configuration::new(voters.iter().copied().map(NodeId));
        Genesis { cluster: ClusterId::from_name(name), configuration }
    }

    /// Computed apart from this crate (Python's hashlib): the bytes hashed are a format, and must never change.
    #[test]
    fn hashes_are_the_documented_bytes() {
        let entry = Entry { index: LogIndex(7), term: Term(3), payload: Payload::Command(Bytes::from_static(b"abc")) };
        let hash = link(&Digest([0x11; 32]), &entry);
        assert_eq!(hash.to_string(), "83e6f9d226f86b44cb8a85b5c5be6990b4fd7cdd426d222369f9093e4db0df9d");
        let noop = Entry { payload: Payload::Noop, ..entry };
        assert_eq!(
            link(&Digest([0x11; 32]), &noop).to_string(),
            "3a7e24610735f56431ed3b76caffaf5aefb6d61ca06a11932867ab49e980ece2"
        );
        assert_eq!(ClusterId::from_name("demo").to_string(), "fd6dcb9cd0da76c553d5dece9df0cbec");
        assert_eq!(
            genesis("demo", &[1, 2, 3]).block().hash.to_string(),
            "2008ba5380c79370ab527945a059937e0f2652aec698a785c5963ea98f0af884"
        );
    }

    /// Fault N3: nothing of two clusters may ever link.
    #[test]
    fn n3_block_0_differs_with_the_cluster_and_with_each_founding_member() {
        let here = genesis("a", &[1, 2, 3]).block();
        assert!(here.is_intact());
        for other in [genesis("b", &[1, 2, 3]), genesis("a", &[1, 2]), genesis("a", &[1, 2, 4])] {
            assert_ne!(other.block().hash, here.hash);
        }
        let learner = Configuration::joint([NodeId(1), NodeId(2)], [], [NodeId(3)]);
        assert_ne!(Genesis { configuration: learner, ..genesis("a", &[]) }.block().hash, here.hash);
    }

    #[test]
    fn a_genesis_prints_for_an_operator() {
        let text = genesis("demo", &[3, 1, 2]).to_string();
        assert!(text.ends_with("with servers 1,2,3"), "{text}");
    }

    proptest! {
        #[test]
        fn a_genesis_reads_back(name in ".{0,8}", lists in prop::array::uniform3(prop::collection::vec(0_u32..9, 1..5))) {
            let [voters, outgoing, learners] = lists.map(|ids| ids.into_iter().map(NodeId).collect::<Vec<_>>());
            let configuration = Configuration::joint(voters, outgoing, learners);
            let genesis = Genesis { cluster: ClusterId::from_name(&name), configuration };
            prop_assert_eq!(Genesis::from_bytes(&genesis.to_bytes()), Some(genesis));
        }

        #[test]
        fn no_bytes_make_a_genesis_that_writes_others(bytes in prop::collection::vec(0_u8..3, 0..48)) {
            if let Some(genesis) = Genesis::from_bytes(&bytes) {
                prop_assert_eq!(genesis.to_bytes(), bytes);
            }
        }

        #[test]
        fn each_field_changes_the_hash(height in 1_u64..9, term in 1_u64..9, bytes in prop::collection::vec(any::<u8>(), 0..9)) {
            let payload = Payload::Command(Bytes::from(bytes.clone()));
            let entry = Entry { index: LogIndex(height), term: Term(term), payload };
            let of = |prev: u8, entry: &Entry| link(&Digest([prev; 32]), entry);
            let mut longer = bytes;
            longer.push(0);
            for (prev, other) in [
                (1, entry.clone()),
                (0, Entry { index: LogIndex(height + 1), ..entry.clone() }),
                (0, Entry { term: Term(term + 1), ..entry.clone() }),
                (0, Entry { payload: Payload::Noop, ..entry.clone() }),
                (0, Entry { payload: Payload::Command(Bytes::from(longer)), ..entry.clone() }),
            ] {
                prop_assert_ne!(of(prev, &other), of(0, &entry));
            }
        }
    }
}
