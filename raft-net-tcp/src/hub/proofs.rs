//! Proofs about the chain, for clients. The tree follows what is applied, and requests wait here, so that a turn of the
//! loop reads a bounded part of the chain, however much there is and however many ask.

use std::collections::VecDeque;

use raft_core::{LogIndex, RequestId, StateMachine, Storage};
use raft_kv::proof::{NoProof, Prover, Source};

use super::Hub;
use crate::protocol::{RequestBody, ResponseBody};

/// The chain in a storage.
pub(crate) type SourceOf<S> = fn(&mut S) -> &mut dyn Source;

/// See the module.
pub(crate) struct Proofs<S> {
    /// None, where nothing is proved.
    pub(crate) source: Option<SourceOf<S>>,
    prover: Prover,
    waiting: VecDeque<(RequestId, Ask)>,
}

enum Ask {
    Head,
    Block { height: LogIndex, head: LogIndex },
    Prefix { older: LogIndex, newer: LogIndex },
}

impl<S> Default for Proofs<S> {
    fn default() -> Self {
        Self { source: None, prover: Prover::default(), waiting: VecDeque::new() }
    }
}

impl<S> Proofs<S> {
    /// Takes a request, to be answered in a later turn. Of another kind than those about the chain it is none.
    pub(crate) fn ask(&mut self, request: RequestId, body: &RequestBody<'_>) {
        let ask = match *body {
            RequestBody::ProveBlock { height, head } => Ask::Block { height, head },
            RequestBody::ProvePrefix { older, newer } => Ask::Prefix { older, newer },
            _ => Ask::Head,
        };
        self.waiting.push_back((request, ask));
    }

    fn answer(&self, ask: &Ask, source: &dyn Source) -> Result<ResponseBody, NoProof> {
        Ok(match *ask {
            Ask::Head => ResponseBody::Head(self.prover.head()?),
            Ask::Block { height, head } => {
                ResponseBody::BlockProof(self.prover.prove_block(source, height, head)?.into())
            }
            Ask::Prefix { older, newer } => {
                ResponseBody::PrefixProof(self.prover.prove_prefix(source, older, newer)?.into())
            }
        })
    }
}

impl<S: Storage, M: StateMachine> Hub<S, M> {
    /// Takes in some of the blocks that were applied since, and answers one request.
    pub(super) fn prove(&mut self) {
        let (proofs, applied) = (&mut self.proofs, self.replica.node().last_applied());
        let mut source = proofs.source.map(|of| of(self.replica.storage_mut()));
        let mut is_behind = false;
        if let Some(source) = &mut source {
            is_behind = source.read_on() | proofs.prover.follow(*source, applied, BLOCKS_A_TURN);
        }
        let Some((request, ask)) = proofs.waiting.pop_front() else {
            if is_behind {
                self.waker.wake();
            }
            return;
        };
        let source: Option<&dyn Source> = source.map(|source| &*source);
        let body = source.map_or(Err(NoProof::NotServed), |source| proofs.answer(&ask, source));
        let body = body.unwrap_or_else(ResponseBody::NoProof);
        self.waker.wake();
        let closed = self.clients.finish(request, body, self.replica.transport_mut().links());
        self.notice_closed(closed);
    }
}

/// Hashes that one turn reads to follow the chain. A proof reads at most twice as many.
const BLOCKS_A_TURN: usize = 256;
