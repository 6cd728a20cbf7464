//! The term rule (§5.1; All Servers 2, Figure 2) and who is believed to lead: what is decided of every message before its
//! handler sees it.
//!
//! Invariants: a term is entered only when it is heard of, and left only for a higher one; one leader a term is followed,
//! whatever a second one says (§5.2); a leader that is heard is not deposed by a server that was removed or cut off (§6).

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::action::Action;
use crate::error::PeerFault;
use crate::message::{
    AppendEntriesResponse, Body, HeartbeatResponse, InstallSnapshotResponse, PreVoteResponse, RequestVoteResponse,
};
use crate::node::Node;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{LogIndex, NodeId, Term};

impl<S: Storage> Node<S> {
    /// The term rule (All Servers 2, Figure 2): "If RPC request or response contains term T > currentTerm: set
    /// currentTerm = T, convert to follower". Whether the message is still to be handled.
    pub(crate) fn adopt_term(&mut self, from: NodeId, term: Term, body: &Body, actions: &mut Vec<Action>) -> bool {
        // Pre-votes speak of a term that nobody has entered: they neither raise a term nor are of an old one.
        let is_about_next_term = match body {
            Body::PreVote(_) => true,
            Body::PreVoteResponse(_, response) => response.vote_granted || bug!(RefusalTermIgnored),
            _ => false,
        };
        match term.cmp(&self.current_term) {
            _ if is_about_next_term => true,
            Ordering::Equal => true,
            Ordering::Less if bug!(OldVotesCount) && matches!(body, Body::RequestVoteResponse(..)) => true,
            Ordering::Less if bug!(OldAcknowledgementsCount) && matches!(body, Body::AppendEntriesResponse(..)) => true,
            Ordering::Less => {
                self.answer_old_term(from, body, actions);
                false
            }
            // A server that was removed or cut off must not depose a leader that is heard (§6, fault E11).
            Ordering::Greater if (self.hears_leader() || self.is_promised()) && asks_uncalled(body) => {
                mark!(LeaderProtected);
                false
            }
            Ordering::Greater => {
                // Whether the sender leads this term, its handler says.
                self.become_follower(term, None, actions);
                true
            }
        }
    }

    /// Receiver 1 (Figure 2): reply false if term < currentTerm. The reply's term is what makes the sender step down.
    fn answer_old_term(&mut self, from: NodeId, body: &Body, actions: &mut Vec<Action>) {
        mark!(TimeoutNowStale, matches!(body, Body::TimeoutNow));
        let own = self.incarnation;
        let answer = match body {
            Body::RequestVote(_) => Body::RequestVoteResponse(own, RequestVoteResponse { vote_granted: false }),
            Body::AppendEntries(request) => {
                let prev_log_index = request.prev_log_index;
                let (hint_index, hint_term) = (LogIndex(0), Term(0));
                Body::AppendEntriesResponse(
                    own,
                    AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term },
                )
            }
            Body::InstallSnapshot(chunk) => {
                let (last_included_index, offset) = (chunk.meta.last_included_index, chunk.offset);
                let response = InstallSnapshotResponse { last_included_index, offset, next_offset: 0 };
                Body::InstallSnapshotResponse(own, response)
            }
            // No round: that one was of an old term, and its sender may lead this one as well (fault R2).
            Body::Heartbeat(_) => Body::HeartbeatResponse(own, HeartbeatResponse { round: 0 }),
            Body::PreVote(request) => {
                Body::PreVoteResponse(own, PreVoteResponse { next_term: request.next_term, vote_granted: false })
            }
            Body::ReadIndex(request) => Body::ReadIndexResponse(request.refused()),
            Body::PreVoteResponse(_, _)
            | Body::RequestVoteResponse(_, _)
            | Body::AppendEntriesResponse(_, _)
            | Body::HeartbeatResponse(_, _)
            | Body::InstallSnapshotResponse(_, _)
            | Body::ReadIndexResponse(_)
            | Body::StateDigest(_)
            | Body::TimeoutNow => return,
        };
        mark!(OldTermAnswered);
        self.send(from, answer, actions);
    }

    /// `from` leads this term: follow it (Candidates 3, Figure 2). `false` where that cannot be.
    pub(crate) fn follow(&mut self, from: NodeId, actions: &mut Vec<Action>) -> bool {
        match &mut self.role {
            Role::Follower { leader } if leader.is_none_or(|leader| leader == from) => {
                *leader = Some(from);
                self.election_elapsed = 0;
            }
            Role::PreCandidate { .. } | Role::Candidate { .. } => {
                self.become_follower(self.current_term, Some(from), actions);
            }
            Role::Follower { .. } | Role::Leader(_) => {
                actions.push(Action::MessageDropped { from, reason: PeerFault::SecondLeader });
                return false;
            }
        }
        self.promise();
        true
    }

    /// Whether a leader was heard within the last election timeout, or leads here.
    pub(crate) fn hears_leader(&self) -> bool {
        match self.role {
            Role::Leader(_) => true,
            Role::Follower { .. } if bug!(LeaderNotProtected) => false,
            Role::Follower { leader } => leader.is_some() && self.election_elapsed < self.config.election_timeout_ticks,
            Role::PreCandidate { .. } | Role::Candidate { .. } => bug!(LeaderRemembered),
        }
    }
}

/// Whether this asks for a vote without a leader that wants it so.
const fn asks_uncalled(body: &Body) -> bool {
    matches!(body, Body::RequestVote(request) if !request.leadership_transfer)
}
