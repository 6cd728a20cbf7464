//! The history that a client was told: it remembers the newest head that it has verified, and has servers prove that
//! theirs go on from there.
//!
//! A head is remembered when it is the first, which is taken on trust, or when a [`PrefixProof`] shows that it goes on
//! from the one before. Servers name heads of decided blocks alone: one that has another head at a height that was
//! remembered, or none any more, tells another history.
//!
//! [`PrefixProof`]: raft_kv::proof::PrefixProof

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use raft_core::{LogIndex, NodeId};
use raft_kv::proof::{BlockProof, Head, NoProof, ProofError};

use super::open::Open;
use super::{Attempt, Client, ClientError, HistoryError, Rewritten, Search};
use crate::line::TooLarge;
use crate::protocol::{RequestBody, ResponseBody};

/// A head that goes on from the one that was remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who has it.
    pub server: NodeId,
    /// It; it is remembered from now on.
    pub head: Head,
    /// From which it goes on; `None` where it was the first, and is taken on trust.
    pub since: Option<Head>,
}

impl Client {
    /// The newest head that was verified.
    #[must_use]
    pub const fn remembered(&self) -> Option<Head> {
        self.remembered
    }

    /// From now on histories must go on from this head, which the caller trusts.
    pub const fn remember(&mut self, head: Head) {
        self.remembered = Some(head);
    }

    /// Has a server prove that the history goes on from what is remembered: this one, or another where it cannot.
    /// `floor` is a height that a linearizable read has shown: whoever has the whole history has that.
    ///
    /// # Errors
    /// [`HistoryError::Rewritten`], or nobody could prove it.
    pub async fn verify(
        &mut self,
        server: NodeId,
        floor: LogIndex,
        deadline: Instant,
    ) -> Result<Verified, ClientError> {
        let since = self.remembered;
        let mut search = self.search(deadline);
        let (mut unable, mut next) = (BTreeSet::new(), Some(server));
        search.asks(server);
        while let Some(server) = next {
            match self.verify_by(server, floor, &search).await {
                Ok(head) => return Ok(Verified { server, head, since }),
                Err(error @ ClientError::History(HistoryError::Rewritten(_))) => return Err(error),
                Err(error @ ClientError::History(_)) => {
                    if is_final(&error) {
                        unable.insert(server);
                    }
                    search.error = error;
                }
                Err(error) if !matches!(search.error, ClientError::History(_)) => search.error = error,
                Err(_) => {}
            }
            if search.left().is_zero() || self.servers.keys().all(|id| unable.contains(id)) {
                break;
            }
            search.pause().await;
            next = search.next_turn(&self.servers);
        }
        Err(search.give_up())
    }

    async fn verify_by(&mut self, server: NodeId, floor: LogIndex, search: &Search) -> Result<Head, ClientError> {
        let (remembered, patience) = (self.remembered, search.patience.min(search.left()));
        let now = Instant::now();
        let deadline = now.checked_add(patience).unwrap_or(search.deadline);
        let open = match self.connection(server, now, deadline).await {
            Ok((open, _)) => open,
            Err(Attempt::Distrusted(error)) => return Err(error.into()),
            Err(Attempt::Unsent(error)) => return Err(ClientError::Unreachable { reason: error.to_string() }),
            Err(_) => return Err(ClientError::Timeout { unknown: false }),
        };
        let checked = check(open, remembered, Some(floor), patience).await;
        if checked == Err(HistoryError::Silent { server }) {
            self.connections.remove(&server);
        }
        let head = checked?;
        self.remembered = Some(head);
        Ok(head)
    }

    /// Has a server prove that the block at this height is in the chain of this head, which the caller trusts.
    ///
    /// # Errors
    /// There is no such proof, or none that holds.
    pub async fn prove_block(
        &mut self,
        server: NodeId,
        height: LogIndex,
        head: &Head,
    ) -> Result<BlockProof, ClientError> {
        let body = RequestBody::ProveBlock { height, head: head.height };
        let proof = match self.attempt(server, body, self.options.deadline, self.deadline()).await {
            Attempt::Answered(ResponseBody::BlockProof(proof)) => *proof,
            Attempt::Answered(ResponseBody::NoProof(reason)) => {
                return Err(HistoryError::Unproved { server, reason }.into());
            }
            Attempt::Distrusted(error) => return Err(error.into()),
            _ => return Err(HistoryError::Silent { server }.into()),
        };
        proof.verify_for(&head.id()).map_err(|error| HistoryError::False { server, error })?;
        if proof.block.height != height {
            let error = ProofError::NotInChain { height, head: head.height };
            return Err(HistoryError::False { server, error }.into());
        }
        Ok(proof)
    }

    /// A server whose history is another is a reason to stop; one that cannot show it is left aside.
    pub(super) async fn on_distrust(&mut self, error: HistoryError, search: &mut Search) -> Result<(), ClientError> {
        if matches!(error, HistoryError::Rewritten(_)) && !search.unknown {
            return Err(error.into());
        }
        search.error = error.into();
        self.turn(search);
        search.pause().await;
        Ok(())
    }
}

/// The head of the server at the other end, once it has proved that it goes on from the remembered one. A server that
/// is not known to have got as far is behind.
pub(super) async fn check(
    open: &mut Open,
    remembered: Option<Head>,
    floor: Option<LogIndex>,
    patience: Duration,
) -> Result<Head, HistoryError> {
    let server = open.server();
    let now = Instant::now();
    let deadline = now.checked_add(patience).unwrap_or(now);
    let ResponseBody::Head(head) = tell(open, RequestBody::Head, deadline).await? else {
        return Err(HistoryError::Silent { server });
    };
    let needed = floor.or(remembered.map(|head| head.height)).unwrap_or_default();
    if head.height < needed {
        return Err(HistoryError::Behind { server, found: head.height, needed });
    }
    let Some(older) = remembered else { return Ok(head) };
    let rewritten = |found| HistoryError::Rewritten(Rewritten { server, remembered: older, found }.into());
    if head.height < older.height {
        return Err(rewritten(head));
    }
    let body = RequestBody::ProvePrefix { older: older.height, newer: head.height };
    let ResponseBody::PrefixProof(proof) = tell(open, body, deadline).await? else {
        return Err(HistoryError::Silent { server });
    };
    let held = proof.verify().and(if proof.newer == head && proof.older.height == older.height {
        Ok(())
    } else {
        Err(ProofError::OtherHead { trusted: head.id(), found: proof.newer.id(), height: proof.newer.height })
    });
    held.map_err(|error| HistoryError::False { server, error })?;
    if proof.older == older { Ok(head) } else { Err(rewritten(proof.older)) }
}

async fn tell(open: &mut Open, body: RequestBody<'_>, deadline: Instant) -> Result<ResponseBody, HistoryError> {
    let server = open.server();
    match open.ask(body, Instant::now(), deadline).await {
        Ok(Some(ResponseBody::NoProof(reason))) => Err(HistoryError::Unproved { server, reason }),
        Ok(Some(body)) => Ok(body),
        Ok(None) | Err(TooLarge) => Err(HistoryError::Silent { server }),
    }
}

/// Whether that server will never prove it.
const fn is_final(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::History(HistoryError::Unproved { reason: NoProof::Gone { .. } | NoProof::NotServed, .. })
    )
}
