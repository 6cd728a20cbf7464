//! Leader election (§5.2, §5.4.1) with pre-vote (dissertation §9.6): sender, receiver and reply of `PreVote` and of
//! `RequestVote`.
//!
//! Invariants: one vote a term, durable before it is told (§5.2); a vote goes only to a log at least as up-to-date as
//! the voter's (§5.4.1); a server that hears a leader votes for nobody (§6), so a server that was removed or cut off
//! cannot depose it.

use alloc::vec::Vec;

use crate::action::Action;
use crate::error::Fault;
use crate::message::{Body, PreVote, PreVoteResponse, RequestVote, RequestVoteResponse};
use crate::node::Node;
use crate::quorum::{Configuration, VoteResult};
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{Incarnation, LogIndex, NodeId, Term};

impl<S: Storage> Node<S> {
    /// One tick without leading: "If election timeout elapses…" (Followers and Candidates, Figure 2).
    pub(crate) fn tick_election(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        if self.election_elapsed >= self.randomized_election_timeout {
            self.on_campaign(actions)?;
            if let Role::Follower { leader: Some(_) } = self.role {
                // Who may not campaign forgets as well who is not heard any more, and sends nobody there.
                self.become_follower(self.current_term, None, actions);
            }
        }
        Ok(())
    }

    /// Asks for pre-votes. Nothing on a leader (fault E12), on a server that is no voter (fault M6) or lost the disk that
    /// was (M10), in the last term that there is, for its vote may be given, and while a leader's lease may count on this
    /// server's not voting, not even for itself.
    pub(crate) fn on_campaign(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        if !self.may_campaign() || self.is_promised() {
            return Ok(());
        }
        self.become_pre_candidate();
        let last = self.log.last();
        let next_term = self.current_term.next();
        let request = |voter| PreVote { next_term, last_log_index: last.index, last_log_term: last.term, voter };
        self.ask_voters(|voter| Body::PreVote(request(voter)), actions);
        self.record_vote(self.config.id, true, actions)
    }

    /// `PreVote`: would this server vote so? It changes nothing here.
    pub(crate) fn on_pre_vote(&mut self, from: NodeId, request: PreVote, actions: &mut Vec<Action>) {
        let vote_granted = request.next_term > self.current_term
            && !self.hears_leader()
            && !self.is_promised()
            && self.is_meant(request.voter)
            && self.is_up_to_date(request.last_log_term, request.last_log_index);
        mark!(PreVoteRefusedByTerm, request.next_term <= self.current_term);
        mark!(PreVoteRefusedByLeader, self.hears_leader());
        mark!(PreVoteRefusedByPromise, self.is_promised() && !self.hears_leader());
        mark!(PreVoteRefusedByLog, !self.is_up_to_date(request.last_log_term, request.last_log_index));
        // A refusal carries this server's term, so that a candidate that lags behind it catches up (faults E4, E5).
        let response = PreVoteResponse { next_term: request.next_term, vote_granted };
        self.send(from, Body::PreVoteResponse(self.incarnation, response), actions);
    }

    pub(crate) fn on_pre_vote_response(
        &mut self,
        from: NodeId,
        response: PreVoteResponse,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        // Winning, losing and starting anew all end the round, so a late answer counts for nothing (fault E7).
        let is_asking = matches!(self.role, Role::PreCandidate { .. });
        let is_late = bug!(PreVoteCountsAsVote) && response.next_term == self.current_term;
        if is_late || (is_asking && response.next_term == self.current_term.next()) {
            self.record_vote(from, response.vote_granted, actions)?;
        } else {
            mark!(PreVoteLate);
        }
        Ok(())
    }

    /// `RequestVote` in this server's term: the term rule has run.
    pub(crate) fn on_request_vote(&mut self, from: NodeId, request: RequestVote, actions: &mut Vec<Action>) {
        // RequestVote receiver 2 (Figure 2): votedFor is null or candidateId, and candidate's log is at least as
        // up-to-date as receiver's log: grant vote.
        let may_vote = self.leader().is_none() && (!self.is_promised() || request.leadership_transfer);
        let is_left = self.voted_for.is_none() || bug!(VoteGivenTwice);
        let free = self.voted_for == Some(from) || (is_left && may_vote);
        let vote_granted =
            free && self.is_meant(request.voter) && self.is_up_to_date(request.last_log_term, request.last_log_index);
        let is_asked = !bug!(NewVoterRefuses) || self.configurations.current().is_voter(self.config.id);
        let vote_granted = vote_granted && is_asked;
        mark!(VoteGranted, vote_granted);
        mark!(VoteRefusedByVote, !free && self.voted_for.is_some());
        mark!(VoteRefusedByLog, free && !self.is_up_to_date(request.last_log_term, request.last_log_index));
        if vote_granted {
            self.vote_for(from);
            // The candidate may have won since: a repeated request does not unmake the leader that is known.
            self.become_follower(self.current_term, self.leader(), actions);
        }
        self.send(from, Body::RequestVoteResponse(self.incarnation, RequestVoteResponse { vote_granted }), actions);
    }

    pub(crate) fn on_request_vote_response(
        &mut self,
        from: NodeId,
        response: RequestVoteResponse,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        if matches!(self.role, Role::Candidate { .. }) {
            self.record_vote(from, response.vote_granted, actions)?;
        }
        Ok(())
    }

    /// A candidate counts its own vote once it is durable (fault E2).
    pub(crate) fn count_own_vote(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        match &self.role {
            Role::Candidate { own_vote, .. } if self.gate.is_persisted(*own_vote) => {
                self.record_vote(self.config.id, true, actions)
            }
            _ => Ok(()),
        }
    }

    fn record_vote(&mut self, voter: NodeId, granted: bool, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let (Role::PreCandidate { votes } | Role::Candidate { votes, .. }) = &mut self.role else { return Ok(()) };
        if self.configurations.current().is_voter(voter) {
            votes.record(voter, granted);
        }
        match (self.configurations.current().vote_result(|id| votes.of(id)), &self.role) {
            (VoteResult::Pending, _) => Ok(()),
            (VoteResult::Won, Role::PreCandidate { .. }) => self.request_votes(false, actions),
            (VoteResult::Won, _) => self.become_leader(actions),
            (VoteResult::Lost, _) => {
                mark!(ElectionLost);
                self.become_follower(self.current_term, None, actions);
                Ok(())
            }
        }
    }

    /// Whether this server may stand for election.
    pub(crate) fn may_campaign(&self) -> bool {
        let is_last_term = self.current_term.next() == self.current_term;
        let votes = |held: &Configuration| held.is_voter(self.config.id) && self.is_meant_in(held);
        let may_lead = self.configurations.may_lead(votes, self.log.commit_index());
        !matches!(self.role, Role::Leader(_)) && may_lead && !self.is_replaced() && !is_last_term
    }

    pub(crate) fn request_votes(&mut self, leadership_transfer: bool, actions: &mut Vec<Action>) -> Result<(), Fault> {
        // Candidates 1 (Figure 2): increment currentTerm, vote for self, reset election timer, send RequestVote RPCs
        // to all other servers.
        self.become_candidate(actions);
        let last = self.log.last();
        let (last_log_index, last_log_term) = (last.index, last.term);
        let request = |voter| RequestVote { last_log_index, last_log_term, leadership_transfer, voter };
        self.ask_voters(|voter| Body::RequestVote(request(voter)), actions);
        self.count_own_vote(actions)
    }

    fn ask_voters(&mut self, request: impl Fn(Incarnation) -> Body, actions: &mut Vec<Action>) {
        for voter in self.configurations.current().members() {
            let current = self.configurations.current();
            if voter != self.config.id && current.is_voter(voter) {
                let incarnation = current.incarnation(voter);
                self.send(voter, request(incarnation), actions);
            }
        }
    }

    /// §5.4.1: the later last term wins; in one term the longer log.
    fn is_up_to_date(&self, last_log_term: Term, last_log_index: LogIndex) -> bool {
        let last = self.log.last();
        if bug!(LongerLogWins) {
            return last_log_index >= last.index;
        }
        (last_log_term, last_log_index) >= (last.term, last.index) || bug!(AnyLogWins)
    }
}
