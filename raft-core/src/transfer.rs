//! Leadership transfer (dissertation §3.10): sender, receiver and end of it.
//!
//! The leader refuses new proposals, brings the target's log up to its own, and tells it to campaign at once; the
//! target needs no pre-vote, and voters do not hold the leader that they hear against it. What has not happened within
//! an election timeout is given up.
//!
//! Invariants: only a voter whose log equals the leader's is told to campaign (fault E13); leading goes on, proposals
//! aside, until a higher term is heard; a `TimeoutNow` that comes late starts an ordinary election, which is safe.

use alloc::vec::Vec;

use crate::action::Action;
use crate::error::{Fault, Refusal};
use crate::message::Body;
use crate::node::Node;
use crate::progress::Progress;
use crate::role::{Leader, Role};
use crate::storage::Storage;
use crate::types::NodeId;

/// A transfer that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) target: NodeId,
    /// Ticks since it began.
    elapsed: u32,
}

impl<S: Storage> Node<S> {
    pub(crate) fn on_transfer_leadership(&mut self, target: NodeId, actions: &mut Vec<Action>) {
        let id = self.config.id;
        let is_voter = self.configurations.current().is_voter(target);
        let refusal = match &self.role {
            Role::Leader(leader) => match leader.transfer {
                _ if target == id => Some(Refusal::Unchanged),
                _ if !is_voter || leader.follower(target).is_some_and(|progress| !progress.counts()) => {
                    Some(Refusal::NotVoter { id: target })
                }
                Some(Transfer { target: current, .. }) if current != target => {
                    Some(Refusal::TransferInProgress { target: current })
                }
                _ => None,
            },
            _ => Some(Refusal::NotLeader { leader: self.leader() }),
        };
        match refusal {
            Some(reason) => actions.push(Action::TransferRefused { target, reason }),
            None => self.begin_transfer(target, actions),
        }
    }

    /// Hands leadership to the voter whose log is furthest, where there is one. Who is heard and stays, where voters are
    /// about to leave, comes before who would have to hand it on.
    pub(crate) fn hand_over(&mut self, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &self.role else { return };
        let current = self.configurations.current();
        let timeout = u64::from(self.config.election_timeout_ticks);
        let stays = |id: NodeId, progress: &Progress| {
            current.voters().contains(&id) && self.now.saturating_sub(progress.last_ack) < timeout
        };
        let voters = leader.followers().iter().filter(|(id, progress)| progress.counts() && current.is_voter(*id));
        let best =
            voters.max_by_key(|(id, progress)| (stays(*id, progress), progress.match_index(), progress.last_ack));
        if let Some((target, _)) = best {
            self.begin_transfer(*target, actions);
        }
    }

    fn begin_transfer(&mut self, target: NodeId, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.transfer.get_or_insert(Transfer { target, elapsed: 0 });
        self.advance_transfer(target, actions);
    }

    /// `follower` has been heard: if leadership is to go to it and it has everything, it may campaign now. Said again
    /// whenever it is heard again, for the message may be lost.
    pub(crate) fn advance_transfer(&mut self, follower: NodeId, actions: &mut Vec<Action>) {
        let last = self.log.last().index;
        let is_ready = |leader: &Leader| {
            leader.transfer.is_some_and(|transfer| transfer.target == follower)
                && leader.counted(follower).is_some_and(|progress| progress.match_index() == last)
        };
        if let Role::Leader(leader) = &mut self.role
            && is_ready(leader)
        {
            mark!(TimeoutNowSent);
            leader.said_timeout_now = true;
            self.send(follower, Body::TimeoutNow, actions);
        }
    }

    /// One tick of a transfer, and the end of one that has taken an election timeout.
    pub(crate) fn tick_transfer(&mut self, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        transfer.elapsed = transfer.elapsed.saturating_add(1);
        if transfer.elapsed >= self.config.election_timeout_ticks && !bug!(TransferNeverAborted) {
            mark!(TransferAborted);
            let target = transfer.target;
            leader.transfer = None;
            actions.push(Action::TransferAborted { target });
            if !self.configurations.current().is_voter(self.config.id) {
                // A leader that was removed has done what it could.
                self.become_follower(self.current_term, None, actions);
            }
        }
    }

    /// The configuration has changed: a target that is no voter any more could not campaign, and waiting for it would
    /// keep a removed leader from handing over (fault M7).
    pub(crate) fn abort_transfer_to_stranger(&mut self, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let is_stranger = |transfer: &mut Transfer| !self.configurations.current().is_voter(transfer.target);
        if let Some(Transfer { target, .. }) = leader.transfer.take_if(is_stranger) {
            mark!(TransferTargetRemoved);
            actions.push(Action::TransferAborted { target });
        }
    }

    /// `TimeoutNow` from the leader that this server follows: campaign without asking first.
    pub(crate) fn on_timeout_now(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        mark!(TimeoutNowTaken, self.may_campaign());
        if self.may_campaign() { self.request_votes(true, actions) } else { Ok(()) }
    }
}
