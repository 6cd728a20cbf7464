//! The tree over a chain that goes on, in little memory: what a server proves from.

use std::fmt::Debug;

use raft_core::{Digest, LogIndex};

use super::tree::Hashes;
use super::{BlockProof, Head, PrefixProof, ProofError, Tree};
use crate::block::Block;

/// The tree over the blocks from the genesis on, of which only what is above runs of 256 blocks is kept: 64 bytes a run.
/// What a proof needs below is made again from the hashes of two runs, which whoever has the chain reads.
#[derive(Clone, Debug)]
pub struct Runs(Tree);

impl Default for Runs {
    fn default() -> Self {
        Self(Tree::keeping_from(RUN.ilog2()))
    }
}

impl Runs {
    /// Takes in the next block, of which this is the hash: the genesis first.
    pub fn push(&mut self, hash: &Digest) {
        self.0.push(hash);
    }

    /// The height of the next block.
    #[must_use]
    pub const fn next(&self) -> LogIndex {
        LogIndex(self.0.size())
    }

    /// The chain up to the last block; `None` before the first.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.0.head()
    }

    /// That the block is in the chain up to this height. `read` tells the hash of a block.
    ///
    /// # Errors
    /// It is not, the chain does not go as far, or `read`'s.
    pub fn prove_block<E: From<ProofError>>(
        &self,
        block: &Block,
        head: LogIndex,
        read: impl FnMut(LogIndex) -> Result<Digest, E>,
    ) -> Result<BlockProof, E> {
        if block.height > head {
            return Err(ProofError::NotInChain { height: block.height, head }.into());
        }
        let hashes = self.hashes([block.height, head], head, read)?;
        let head = self.head_at(head, &hashes)?;
        Ok(self.0.prove_block_by(block, &head, &hashes)?)
    }

    /// That the chain up to one height goes on as that up to another. `read` tells the hash of a block.
    ///
    /// # Errors
    /// The two are the wrong way round, the chain does not go as far, or `read`'s.
    pub fn prove_prefix<E: From<ProofError>>(
        &self,
        older: LogIndex,
        newer: LogIndex,
        read: impl FnMut(LogIndex) -> Result<Digest, E>,
    ) -> Result<PrefixProof, E> {
        if older > newer {
            return Err(ProofError::NotOlder { older, newer }.into());
        }
        let hashes = self.hashes([older, newer], newer, read)?;
        let (older, newer) = (self.head_at(older, &hashes)?, self.head_at(newer, &hashes)?);
        Ok(self.0.prove_prefix_by(&older, &newer, &hashes)?)
    }

    fn head_at(&self, height: LogIndex, hashes: &Hashes) -> Result<Head, ProofError> {
        self.0.head_by(height, hashes).ok_or(ProofError::OtherChain { height })
    }

    /// The hashes of the blocks of the runs that these two are in, up to the last that a proof is about.
    fn hashes<E: From<ProofError>>(
        &self,
        of: [LogIndex; 2],
        last: LogIndex,
        mut read: impl FnMut(LogIndex) -> Result<Digest, E>,
    ) -> Result<Hashes, E> {
        let mut hashes = Hashes::new();
        if last >= self.next() {
            return Err(ProofError::OtherChain { height: last }.into());
        }
        for height in of {
            let first = height.0 - height.0 % RUN;
            for height in first..first.saturating_add(RUN).min(last.next().0) {
                if let std::collections::btree_map::Entry::Vacant(unread) = hashes.entry(height) {
                    unread.insert(read(LogIndex(height))?);
                }
            }
        }
        Ok(hashes)
    }
}

/// Blocks in a run.
const RUN: u64 = 256;
