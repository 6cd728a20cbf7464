//! Proofs about a chain of blocks, for whoever does not hold the chain.
//!
//! Over the blocks stands a Merkle tree as in RFC 6962 and RFC 9162: leaf `i` is the hash of block `i`, and block 0 is
//! the genesis. A [`Head`] names a chain up to one block. A [`BlockProof`] shows that a block, with all that it
//! carries, is in the chain of a head; a [`PrefixProof`] shows that the chain of one head goes on as that of another,
//! with nothing before changed or taken away. Both are some 32 bytes for each doubling of the chain, and are verified
//! without it.
//!
//! # What this gives, and what it does not
//!
//! * Whoever keeps a head, its [`id`](Head::id) is enough, can tell later whether a block was in that chain, and
//!   whether a newer chain still begins with it: a file that was corrupted or edited, a server that was put back to an
//!   earlier state, a history that was written anew, all show. It is *tamper evidence*, and finds corruption.
//! * It is **not Byzantine fault tolerance**. Raft trusts its servers: whoever can make a majority of them lie can have
//!   them write another history, with heads and proofs that are all in order. Only a head that somebody kept elsewhere
//!   tells the two apart. A proof against no head that was kept shows only that the proof agrees with itself.
//! * A head says what a log held. The last blocks of a server's log may not be decided yet, and be replaced later, as
//!   Raft has it: a head to keep is that of a block that was decided, like one that a write's answer named. A running
//!   server proves from a [`Prover`], which is told of decided blocks alone.
//!
//! # The bytes
//!
//! ```text
//! leaf     SHA-256(0x00 | hash of the block)
//! node     SHA-256(0x01 | left | right): the left one is over the largest power of two of leaves that leaves some over
//! head id  SHA-256(0x02 | height 8, little-endian | hash of the block at that height | root)
//! ```
//!
//! A root alone does not say how many leaves are under it: one proof may hold for trees of several sizes. The id covers
//! the height, and that is why a head is named by it. A block's own hash covers its height (`block.rs`).
//!
//! # The file
//!
//! JSON; hashes and payloads are lower-case hexadecimal. No byte of it can be changed, but for space between the parts,
//! without the proof being refused, or being one for another head.
//!
//! ```text
//! {"proof": "raft-kv block 1",
//!  "head":  {"height": 9, "hash": "…", "root": "…", "id": "…"},
//!  "block": {"height": 4, "term": 1, "kind": 1, "prev_hash": "…", "hash": "…", "payload": "…"},
//!  "path":  ["…", …]}                      from the leaf's sibling up: PATH of RFC 6962, §2.1.1
//!
//! {"proof": "raft-kv prefix 1",
//!  "older": {…}, "newer": {…},             heads, as above
//!  "path":  ["…", …]}                      PROOF of RFC 6962, §2.1.2
//! ```

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use raft_core::{Digest, LogIndex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::block::Block;

mod prover;
mod runs;
mod text;
mod tree;

pub use prover::{NoProof, Prover, Source};
pub use runs::Runs;
pub use tree::Tree;

/// Names a chain up to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "text::HeadText", into = "text::HeadText")]
pub struct Head {
    /// The height of its last block.
    pub height: LogIndex,
    /// That block's hash.
    pub hash: Digest,
    /// The root of the tree over all its blocks.
    pub root: Digest,
}

/// Shows that a block is in the chain of a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockProof {
    /// The chain.
    pub head: Head,
    /// The block, whole.
    #[serde(with = "text::block")]
    pub block: Block,
    /// The hashes beside the way from the block's leaf up to the root.
    #[serde(with = "text::digests")]
    pub path: Vec<Digest>,
}

/// Shows that the chain of one head is the beginning of another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixProof {
    /// The shorter chain.
    pub older: Head,
    /// The one that goes on from it.
    pub newer: Head,
    /// What leads from the one root to the other.
    #[serde(with = "text::digests")]
    pub path: Vec<Digest>,
}

/// Either proof, as its file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof")]
pub enum Proof {
    /// Of a block.
    #[serde(rename = "raft-kv block 1")]
    Block(BlockProof),
    /// Of a beginning.
    #[serde(rename = "raft-kv prefix 1")]
    Prefix(PrefixProof),
}

/// Why there is no proof, or why one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProofError {
    /// The tree was built without its nodes.
    #[error("this tree keeps no nodes to prove with: build it with Tree::keeping_nodes")]
    NoNodes,
    /// The chain is not the one that this head names, or does not go as far.
    #[error("the head at block {height} is not of this chain: another block, or another history, is there")]
    OtherChain {
        /// The head's.
        height: LogIndex,
    },
    /// The block is none of the chain up to the head.
    #[error("block {height} is not in the chain up to block {head}: take a newer head")]
    NotInChain {
        /// The block's.
        height: LogIndex,
        /// The head's.
        head: LogIndex,
    },
    /// The older head is beyond the newer one.
    #[error("the head at block {older} is not older than the one at block {newer}: the two are the wrong way round")]
    NotOlder {
        /// The one said to be older.
        older: LogIndex,
        /// The other.
        newer: LogIndex,
    },
    /// The block's hash is not that of its content.
    #[error("block {height} was changed: its hash is not that of its content")]
    BlockChanged {
        /// The block's.
        height: LogIndex,
    },
    /// The path does not lead to the root.
    #[error("the proof does not hold: its path does not lead to the head at block {height}")]
    Path {
        /// The head's.
        height: LogIndex,
    },
    /// It is a proof for another head.
    #[error("the proof is for the head {found} at block {height}, and not for the one that is trusted, {trusted}")]
    OtherHead {
        /// The id of the head that is trusted.
        trusted: Digest,
        /// The id of the one in the proof.
        found: Digest,
        /// Where that one is.
        height: LogIndex,
    },
}

impl Head {
    /// The one hash to keep of it: see the [module](self).
    #[must_use]
    pub fn id(&self) -> Digest {
        let fields = Sha256::new().chain_update([2]).chain_update(self.height.0.to_le_bytes());
        Digest(fields.chain_update(self.hash.0).chain_update(self.root.0).finalize().into())
    }

    /// How many blocks its chain has.
    const fn size(&self) -> u64 {
        self.height.0.saturating_add(1)
    }

    fn merkle_root(&self) -> Result<RootHash<Sha256>, ProofError> {
        if self.height.0 >= HEIGHT_END {
            return Err(ProofError::Path { height: self.height });
        }
        Ok(RootHash::new(self.root.0.into(), self.size()))
    }
}

impl BlockProof {
    /// That it holds for its own head. Whether that head is to be trusted is for the caller to know.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(&self) -> Result<(), ProofError> {
        let Self { head, block, path } = self;
        if block.height > head.height {
            return Err(ProofError::NotInChain { height: block.height, head: head.height });
        }
        if !block.is_intact() {
            return Err(ProofError::BlockChanged { height: block.height });
        }
        let refused = ProofError::Path { height: head.height };
        if block.height == head.height && block.hash != head.hash {
            return Err(refused);
        }
        let proof = InclusionProof::try_from_bytes(concat(path)).map_err(|_| refused)?;
        head.merkle_root()?.verify_inclusion(&block.hash.0, block.height.0, &proof).map_err(|_| refused)
    }

    /// That it holds for the head with this id, which the caller trusts.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify_for(&self, trusted: &Digest) -> Result<(), ProofError> {
        is_trusted(&self.head, trusted)?;
        self.verify()
    }
}

impl PrefixProof {
    /// That it holds for its own heads. Whether the older one is to be trusted is for the caller to know.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(&self) -> Result<(), ProofError> {
        let Self { older, newer, path } = self;
        if older.height > newer.height {
            return Err(ProofError::NotOlder { older: older.height, newer: newer.height });
        }
        let refused = ProofError::Path { height: newer.height };
        if older.height == newer.height && older != newer {
            return Err(refused);
        }
        let proof = ConsistencyProof::try_from_bytes(concat(path)).map_err(|_| refused)?;
        newer.merkle_root()?.verify_consistency(&older.merkle_root()?, &proof).map_err(|_| refused)
    }

    /// That it holds for the older head with this id, which the caller trusts: the newer one can be trusted as much.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify_for(&self, trusted: &Digest) -> Result<(), ProofError> {
        is_trusted(&self.older, trusted)?;
        self.verify()
    }
}

fn is_trusted(head: &Head, trusted: &Digest) -> Result<(), ProofError> {
    let found = head.id();
    if found == *trusted {
        return Ok(());
    }
    Err(ProofError::OtherHead { trusted: *trusted, found, height: head.height })
}

fn concat(path: &[Digest]) -> Vec<u8> {
    path.iter().flat_map(|digest| digest.0).collect()
}

/// No chain is as long: the arithmetic of trees ends at twice as many leaves.
const HEIGHT_END: u64 = 1 << 62;

#[cfg(test)]
mod tests;
