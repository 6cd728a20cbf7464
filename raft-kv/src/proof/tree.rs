//! The tree over a chain, built block by block.

use std::collections::BTreeMap;

use ct_merkle::{indices_for_consistency_proof, indices_for_inclusion_proof};
use raft_core::{Digest, LogIndex};
use sha2::{Digest as _, Sha256};

use super::{BlockProof, HEIGHT_END, Head, PrefixProof, ProofError};
use crate::block::Block;

/// The tree over the blocks from the genesis on. It takes the hashes of blocks, in their order.
///
/// In memory it has a hash for each whole subtree beside the others, at most 62. One that is built to prove things
/// keeps all nodes, 64 bytes a block; or those above some level, and is told hashes of blocks where it needs those below
/// (see [`Runs`](super::Runs)).
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Blocks.
    size: u64,
    /// The hash of the last block.
    last: Option<Digest>,
    /// The roots of the largest whole subtrees, from the left: one for each bit of `size`.
    peaks: Vec<Digest>,
    kept: Option<Kept>,
}

/// The nodes that are kept.
#[derive(Clone, Debug)]
struct Kept {
    /// The lowest level of which there are any.
    lowest: u32,
    /// By level, from that one on: the roots of all whole subtrees of 2^level leaves, from the left.
    levels: Vec<Vec<Digest>>,
}

/// The hashes of the blocks that a tree is to know which keeps no leaves.
pub(super) type Hashes = BTreeMap<u64, Digest>;

impl Tree {
    /// Of no block, for heads alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of no block, for proofs.
    #[must_use]
    pub fn keeping_nodes() -> Self {
        Self::keeping_from(0)
    }

    /// Of no block, for proofs that are told the hashes of blocks for what is below this level.
    pub(super) fn keeping_from(lowest: u32) -> Self {
        Self { kept: Some(Kept { lowest, levels: Vec::new() }), ..Self::default() }
    }

    /// Takes in the next block, of which this is the hash: the genesis first.
    pub fn push(&mut self, hash: &Digest) {
        let mut node = leaf(hash);
        self.keep(0, node);
        // As a carry goes through the bits of a number that is counted up: each set one is a peak to the left.
        for level in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = parent(&left, &node);
            self.keep(level.saturating_add(1), node);
        }
        self.peaks.push(node);
        self.size = self.size.saturating_add(1);
        self.last = Some(*hash);
    }

    /// How many blocks it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The chain up to the last block; `None` before the first.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let (last, others) = self.peaks.split_last()?;
        let root = others.iter().rfold(*last, |right, left| parent(left, &right));
        Some(Head { height: LogIndex(self.size.saturating_sub(1)), hash: self.last?, root })
    }

    /// That the block is in the chain of this head, which is one of this tree, now or when it was smaller.
    ///
    /// # Errors
    /// It is not, or the head is another's, or the tree keeps no nodes.
    pub fn prove_block(&self, block: &Block, head: &Head) -> Result<BlockProof, ProofError> {
        self.prove_block_by(block, head, &Hashes::new())
    }

    pub(super) fn prove_block_by(&self, block: &Block, head: &Head, hashes: &Hashes) -> Result<BlockProof, ProofError> {
        self.check(head, hashes)?;
        let not_there = ProofError::NotInChain { height: block.height, head: head.height };
        if block.height > head.height
            || self.node(block.height.0.saturating_mul(2), head.size(), hashes) != Some(leaf(&block.hash))
        {
            return Err(not_there);
        }
        let path = self.nodes(&indices_for_inclusion_proof(head.size(), block.height.0), head, hashes)?;
        Ok(BlockProof { head: *head, block: block.clone(), path })
    }

    /// That the chain of one head is the beginning of the other's; both are of this tree.
    ///
    /// # Errors
    /// It is not, or one of the heads is another's, or the tree keeps no nodes.
    pub fn prove_prefix(&self, older: &Head, newer: &Head) -> Result<PrefixProof, ProofError> {
        self.prove_prefix_by(older, newer, &Hashes::new())
    }

    pub(super) fn prove_prefix_by(
        &self,
        older: &Head,
        newer: &Head,
        hashes: &Hashes,
    ) -> Result<PrefixProof, ProofError> {
        if older.height > newer.height {
            return Err(ProofError::NotOlder { older: older.height, newer: newer.height });
        }
        self.check(newer, hashes)?;
        self.check(older, hashes)?;
        let added = newer.size().saturating_sub(older.size());
        let path = self.nodes(&indices_for_consistency_proof(older.size(), added), newer, hashes)?;
        Ok(PrefixProof { older: *older, newer: *newer, path })
    }

    /// The head of this chain at a height that it has.
    pub(super) fn head_by(&self, height: LogIndex, hashes: &Hashes) -> Option<Head> {
        let size = height.0.checked_add(1).filter(|size| *size <= self.size.min(HEIGHT_END))?;
        Some(Head { height, hash: *hashes.get(&height.0)?, root: self.over(0, size, hashes)? })
    }

    /// Whether the head is of this chain.
    fn check(&self, head: &Head, hashes: &Hashes) -> Result<(), ProofError> {
        if self.kept.is_none() {
            return Err(ProofError::NoNodes);
        }
        let is_ours = head.height.0 < self.size.min(HEIGHT_END)
            && self.over(0, head.size(), hashes) == Some(head.root)
            && self.node(head.height.0.saturating_mul(2), head.size(), hashes) == Some(leaf(&head.hash));
        if is_ours { Ok(()) } else { Err(ProofError::OtherChain { height: head.height }) }
    }

    fn nodes(&self, indices: &[u64], head: &Head, hashes: &Hashes) -> Result<Vec<Digest>, ProofError> {
        let nodes: Option<Vec<Digest>> = indices.iter().map(|index| self.node(*index, head.size(), hashes)).collect();
        nodes.ok_or(ProofError::OtherChain { height: head.height })
    }

    /// The node that an array of the tree over the first `size` blocks has at this index: leaves at the even ones, and
    /// each parent between its children.
    fn node(&self, index: u64, size: u64, hashes: &Hashes) -> Option<Digest> {
        let level = index.trailing_ones();
        let first = index.checked_shr(level.saturating_add(1)).unwrap_or(0).checked_shl(level)?;
        self.over(first, first.checked_add(1_u64.checked_shl(level)?)?.min(size), hashes)
    }

    /// The root over these blocks, the first of which begins a subtree.
    fn over(&self, first: u64, end: u64, hashes: &Hashes) -> Option<Digest> {
        let count = end.checked_sub(first).filter(|count| *count > 0)?;
        let (level, kept) = (count.ilog2(), self.kept.as_ref()?);
        if let Some(above) = level.checked_sub(kept.lowest)
            && count.is_power_of_two()
        {
            let at = usize::try_from(first.checked_shr(level)?).ok()?;
            return kept.levels.get(above as usize)?.get(at).copied();
        }
        if count == 1 {
            return hashes.get(&first).map(leaf);
        }
        let middle = first.checked_add(count.checked_next_power_of_two()? / 2)?;
        Some(parent(&self.over(first, middle, hashes)?, &self.over(middle, end, hashes)?))
    }

    fn keep(&mut self, level: u32, node: Digest) {
        let Some(Kept { lowest, levels }) = &mut self.kept else { return };
        let Some(above) = level.checked_sub(*lowest) else { return };
        match levels.get_mut(above as usize) {
            Some(nodes) => nodes.push(node),
            None => levels.push(vec![node]),
        }
    }
}

fn leaf(hash: &Digest) -> Digest {
    Digest(Sha256::new().chain_update([0]).chain_update(hash.0).finalize().into())
}

fn parent(left: &Digest, right: &Digest) -> Digest {
    Digest(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}
