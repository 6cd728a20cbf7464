//! What a server proves from: a tree that follows its chain, and the chain itself.

use raft_core::{Digest, LogIndex, StorageError};
use serde::{Deserialize, Serialize};

use super::{BlockProof, Head, PrefixProof, ProofError, Runs};
use crate::block::Block;

/// A chain that is read to prove from.
pub trait Source {
    /// The hash of the block at this height; the genesis is at 0.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] where it is gone for good.
    fn hash(&self, height: LogIndex) -> Result<Digest, StorageError>;

    /// The block itself.
    ///
    /// # Errors
    /// As for [`hash`](Self::hash).
    fn block(&self, height: LogIndex) -> Result<Block, StorageError>;

    /// Looks for blocks that are not found yet, in a bounded time. Answers whether there is more to look through.
    /// Provided: there is nothing.
    fn read_on(&mut self) -> bool {
        false
    }
}

/// Proves from a chain that goes on: 64 bytes of memory for 256 blocks, and two runs of 256 hashes read a proof.
///
/// It knows no block that it was not told is decided: no head of it is ever taken back.
#[derive(Clone, Debug, Default)]
pub struct Prover {
    runs: Runs,
    /// The chain cannot be followed: this block of it is gone.
    gone: Option<LogIndex>,
}

/// Why a server has no proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoProof {
    /// The server was not told what to prove from.
    #[error("this server proves nothing: ask another")]
    NotServed,
    /// A block is gone that is needed: a snapshot took its place.
    #[error(
        "a proof needs block {height}, which is not on this server any more: ask one that has kept every block since \
         its founding"
    )]
    Gone {
        /// The first one, as far as was looked.
        height: LogIndex,
    },
    /// The chain goes on, but this server has not got there.
    #[error("this server has the chain up to block {} as yet: ask for that, or ask again", .last.unwrap_or_default())]
    NotYet {
        /// The last block that it has a head for.
        last: Option<LogIndex>,
    },
    /// What is asked for cannot be.
    #[error("{0}")]
    Impossible(#[from] ProofError),
    /// The chain is there, and cannot be read.
    #[error("this server cannot read its chain, ask another: {what}")]
    Unreadable {
        /// The storage's words.
        what: String,
    },
}

impl Prover {
    /// Takes in the blocks up to this height, all of them decided: `max` at most. Answers whether there are more.
    ///
    /// One that cannot be read now is tried again the next time.
    pub fn follow(&mut self, source: &dyn Source, decided: LogIndex, max: usize) -> bool {
        for _ in 0..max {
            let next = self.runs.next();
            if next > decided || self.gone.is_some() {
                return false;
            }
            match source.hash(next) {
                Ok(hash) => self.runs.push(&hash),
                Err(StorageError::Compacted { .. }) => self.gone = Some(next),
                Err(_) => return false,
            }
        }
        self.gone.is_none() && self.runs.next() <= decided
    }

    /// The chain up to the last block that was taken in.
    ///
    /// # Errors
    /// There is none yet, or it does not go on.
    pub fn head(&self) -> Result<Head, NoProof> {
        if let Some(height) = self.gone {
            return Err(NoProof::Gone { height });
        }
        self.runs.head().ok_or(NoProof::NotYet { last: None })
    }

    /// That the block at this height is in the chain up to that one.
    ///
    /// # Errors
    /// Why there is no such proof here.
    pub fn prove_block(&self, source: &dyn Source, height: LogIndex, head: LogIndex) -> Result<BlockProof, NoProof> {
        self.reaches(head)?;
        let block = source.block(height).map_err(|error| unread(height, &error))?;
        self.runs.prove_block(&block, head, |height| source.hash(height).map_err(|error| unread(height, &error)))
    }

    /// That the chain up to one height goes on as that up to another.
    ///
    /// # Errors
    /// Why there is no such proof here.
    pub fn prove_prefix(&self, source: &dyn Source, older: LogIndex, newer: LogIndex) -> Result<PrefixProof, NoProof> {
        self.reaches(newer)?;
        self.runs.prove_prefix(older, newer, |height| source.hash(height).map_err(|error| unread(height, &error)))
    }

    fn reaches(&self, height: LogIndex) -> Result<(), NoProof> {
        let last = self.head()?.height;
        if height <= last { Ok(()) } else { Err(NoProof::NotYet { last: Some(last) }) }
    }
}

fn unread(height: LogIndex, error: &StorageError) -> NoProof {
    match error {
        StorageError::Compacted { .. } => NoProof::Gone { height },
        error => NoProof::Unreadable { what: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft_core::Term;

    use super::*;
    use crate::block;

    /// Blocks of which those below `first` are gone; one that cannot be read.
    #[derive(Default)]
    struct Chain {
        blocks: Vec<Block>,
        first: u64,
        broken: Option<u64>,
    }

    impl Chain {
        fn new(len: u64) -> Self {
            let mut chain = Self::default();
            let mut prev_hash = Digest([0; 32]);
            for height in 0..len {
                let (height, term, payload) = (LogIndex(height), Term(1), Bytes::from(height.to_string()));
                let hash = block::hash(&prev_hash, height, term, 1, &payload);
                chain.blocks.push(Block { height, term, kind: 1, prev_hash, hash, payload });
                prev_hash = hash;
            }
            chain
        }
    }

    impl Source for Chain {
        fn hash(&self, height: LogIndex) -> Result<Digest, StorageError> {
            self.block(height).map(|block| block.hash)
        }

        fn block(&self, height: LogIndex) -> Result<Block, StorageError> {
            if height.0 < self.first {
                return Err(StorageError::Compacted { index: height, first: LogIndex(self.first) });
            }
            if self.broken == Some(height.0) {
                return Err(StorageError::Io { what: "the disk".into() });
            }
            Ok(self.blocks[height.0 as usize].clone())
        }
    }

    #[test]
    fn it_follows_what_is_decided_a_bounded_part_at_a_time() {
        let (chain, mut prover) = (Chain::new(700), Prover::default());
        assert_eq!(prover.head(), Err(NoProof::NotYet { last: None }));
        assert!(prover.follow(&chain, LogIndex(599), 256) && prover.follow(&chain, LogIndex(599), 256));
        assert_eq!(prover.head().unwrap().height, LogIndex(511));
        let late = prover.prove_prefix(&chain, LogIndex(1), LogIndex(599));
        assert_eq!(late, Err(NoProof::NotYet { last: Some(LogIndex(511)) }));
        assert!(!prover.follow(&chain, LogIndex(599), 256));
        let head = prover.head().unwrap();
        assert_eq!((head.height, head.hash), (LogIndex(599), chain.blocks[599].hash), "and no further");
        let proof = prover.prove_block(&chain, LogIndex(300), LogIndex(599)).unwrap();
        assert_eq!((proof.verify_for(&head.id()), &proof.block), (Ok(()), &chain.blocks[300]));
        let proof = prover.prove_prefix(&chain, LogIndex(0), LogIndex(599)).unwrap();
        assert_eq!((proof.verify(), proof.newer), (Ok(()), head));
        let not_there = ProofError::NotInChain { height: LogIndex(9), head: LogIndex(8) };
        assert_eq!(prover.prove_block(&chain, LogIndex(9), LogIndex(8)), Err(NoProof::Impossible(not_there)));
    }

    #[test]
    fn what_is_gone_is_said_and_what_can_not_be_read_is_tried_again() {
        let (mut chain, mut prover) = (Chain::new(900), Prover::default());
        chain.broken = Some(40);
        assert!(!prover.follow(&chain, LogIndex(899), 256));
        assert_eq!(prover.head().unwrap().height, LogIndex(39));
        chain.broken = None;
        while prover.follow(&chain, LogIndex(899), 256) {}
        // Runs that are gone are proved past, for their roots are kept; not into.
        chain.first = 512;
        let newest = LogIndex(899);
        assert_eq!(prover.prove_prefix(&chain, LogIndex(600), newest).unwrap().verify(), Ok(()));
        let gone = |height| NoProof::Gone { height: LogIndex(height) };
        assert_eq!(prover.prove_prefix(&chain, LogIndex(300), newest), Err(gone(256)));
        assert_eq!(prover.prove_block(&chain, LogIndex(300), newest), Err(gone(300)));
        chain.broken = Some(600);
        assert!(matches!(prover.prove_block(&chain, LogIndex(600), newest), Err(NoProof::Unreadable { .. })));
        let mut late = Prover::default();
        assert!(!late.follow(&chain, LogIndex(899), 256));
        assert_eq!(late.head(), Err(gone(0)));
        assert_eq!(late.prove_block(&chain, LogIndex(700), newest), Err(gone(0)));
    }
}
