//! Linearizable reads on a follower (dissertation §6.4): it asks its leader for a read index, and serves its reads once it
//! has applied up to that. The leader's side stands in `read_index.rs`.
//!
//! ```text
//!   Read ──> waits ──> asked ──answered──> confirmed ──applied──> ReadReady
//!              │         │                    │
//!              └─────────┴────────────────────┴──> ReadFailed: another leader or term, or no progress for too long
//! ```
//!
//! One request is under way, and the reads that arrive meanwhile wait for the next: so a follower's reads cost its leader
//! a message a round trip, however many they are. A request is sent again every heartbeat interval, for messages are lost.
//!
//! Invariants:
//!
//! * A read is confirmed only by an answer to a request that left after it arrived (fault R2). Requests are told apart by
//!   (life, sequence): the sequence rises within a life, and no two lives share their number. Without it the sequence
//!   would begin anew in the same term, and an answer to the earlier life's request, with its lower index, would confirm a
//!   later read. The same request sent twice does no harm: all its reads arrived before its first copy left.
//! * The request under way is to the leader that is followed, in the current term: with another its reads fail.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::action::{Action, ReadKind};
use crate::error::Refusal;
use crate::message::{Body, ReadIndex, ReadIndexResponse, ReadToken};
use crate::node::Node;
use crate::read_index::ConfirmedRead;
use crate::storage::Storage;
use crate::types::{NodeId, ReadId, Term};

/// The reads of a follower that no leader has confirmed yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardedReads {
    /// That of the last request.
    sequence: u64,
    under_way: Option<Request>,
    /// Oldest first: those of the request under way, then those that wait for the next.
    reads: VecDeque<ReadId>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    token: ReadToken,
    leader: NodeId,
    term: Term,
    /// Tick at which it was first sent.
    since: u64,
    /// How many reads share it.
    reads: usize,
}

impl ForwardedReads {
    /// Whom the request under way is to, and in which term.
    pub(crate) fn addressee(&self) -> Option<(Term, NodeId)> {
        self.under_way.map(|request| (request.term, request.leader))
    }

    #[cfg(debug_assertions)]
    pub(crate) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// The request is over: its reads.
    fn end(&mut self) -> impl Iterator<Item = ReadId> {
        let reads = self.under_way.take().map_or(0, |request| request.reads);
        self.reads.drain(..reads.min(self.reads.len()))
    }
}

impl<S: Storage> Node<S> {
    /// A read where this server does not lead.
    pub(crate) fn read_as_follower(&mut self, read: ReadId, actions: &mut Vec<Action>) {
        if self.leader().is_none() || self.config.life.is_none() {
            let reason = Refusal::NotLeader { leader: self.leader() };
            actions.push(Action::ReadFailed { read, reason });
            return;
        }
        self.forwarded.reads.push_back(read);
        if self.forwarded.under_way.is_none() {
            self.ask_leader(actions);
        }
    }

    /// One request for every read that waits.
    fn ask_leader(&mut self, actions: &mut Vec<Action>) {
        let reads = self.forwarded.reads.len();
        let (Some(leader), Some(life)) = (self.leader().filter(|_| reads > 0), self.config.life) else { return };
        self.forwarded.sequence = self.forwarded.sequence.saturating_add(1);
        let token = ReadToken { life, sequence: self.forwarded.sequence };
        self.forwarded.under_way = Some(Request { token, leader, term: self.current_term, since: self.now, reads });
        self.send(leader, Body::ReadIndex(ReadIndex { token }), actions);
    }

    pub(crate) fn on_read_index_response(
        &mut self,
        from: NodeId,
        response: ReadIndexResponse,
        actions: &mut Vec<Action>,
    ) {
        let ReadIndexResponse { token, index, lease } = response;
        let is_answer =
            |request: Request| request.token == token && request.leader == from && request.term == self.current_term;
        let is_answer = |request| is_answer(request) || bug!(OtherAnswerServes);
        if !self.forwarded.under_way.is_some_and(is_answer) {
            mark!(ForwardedAnswerStale);
            return;
        }
        let Some(index) = index else {
            self.fail_forwarded(Refusal::LeadershipLost, actions);
            return;
        };
        let kind = if lease { ReadKind::ForwardedLease } else { ReadKind::ForwardedQuorum };
        let since = self.now;
        let confirmed = self.forwarded.end().map(|read| ConfirmedRead { index, read, kind, since });
        self.confirmed_reads.extend(confirmed);
        self.release_reads(actions);
        self.ask_leader(actions);
    }

    /// One tick of waiting: the request under way is sent again, or given up; so are reads for which this server lags
    /// behind.
    pub(crate) fn tick_forwarded(&mut self, actions: &mut Vec<Action>) {
        let (now, timeout) = (self.now, u64::from(self.config.election_timeout_ticks));
        let reason = Refusal::ReadTimeout { leader: self.leader() };
        let commit_index = self.log.commit_index();
        // What is committed here waits for this server's own disk and state machine alone.
        let is_late = |read: &mut ConfirmedRead| read.index > commit_index && now.saturating_sub(read.since) >= timeout;
        while let Some(ConfirmedRead { read, .. }) = self.confirmed_reads.pop_front_if(is_late) {
            mark!(ForwardedLags);
            actions.push(Action::ReadFailed { read, reason });
        }
        let Some(request) = self.forwarded.under_way else { return };
        let waited = now.saturating_sub(request.since);
        if waited >= timeout {
            mark!(ForwardedTimedOut);
            actions.extend(self.forwarded.end().map(|read| Action::ReadFailed { read, reason }));
            self.ask_leader(actions);
        } else if waited.is_multiple_of(u64::from(self.config.heartbeat_ticks)) {
            mark!(ForwardedResent);
            self.send(request.leader, Body::ReadIndex(ReadIndex { token: request.token }), actions);
        }
    }

    /// Another leader or another term: whoever was asked does not answer for it any more.
    pub(crate) fn fail_forwarded_to_another(&mut self, actions: &mut Vec<Action>) {
        if let Some((term, leader)) = self.forwarded.addressee()
            && (term, Some(leader)) != (self.current_term, self.leader())
        {
            mark!(ForwardedElsewhere);
            self.fail_forwarded(Refusal::LeadershipLost, actions);
        }
    }

    pub(crate) fn fail_forwarded(&mut self, reason: Refusal, actions: &mut Vec<Action>) {
        self.forwarded.under_way = None;
        actions.extend(self.forwarded.reads.drain(..).map(|read| Action::ReadFailed { read, reason }));
    }
}
