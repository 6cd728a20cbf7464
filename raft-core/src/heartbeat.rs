//! The leader's heartbeats (§5.2) and its liveness: sender, receiver and reply of `Heartbeat`, and when a leader gives up.
//!
//! Invariants: a leader that no quorum has answered for an election timeout stops heartbeating and steps down, and so
//! does one whose disk hangs: it must not hold back a majority that it cannot lead (faults E9, E14); a heartbeat never
//! commits beyond what its receiver has acknowledged (fault L3), and only in a log that ends with the leader's own entry.

use alloc::vec::Vec;

use crate::action::Action;
use crate::error::Fault;
use crate::message::{Body, Heartbeat, HeartbeatResponse};
use crate::node::Node;
use crate::progress::ProgressState;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{LogIndex, NodeId};

impl<S: Storage> Node<S> {
    /// One tick of leading.
    pub(crate) fn tick_leader(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let (hangs, heard) = (self.disk_hangs(), self.hears_quorum());
        mark!(DiskStallStepDown, hangs);
        mark!(CheckQuorumStepDown, !heard);
        if hangs || !heard {
            self.become_follower(self.current_term, None, actions);
            return Ok(());
        }
        self.tick_transfer(actions);
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        leader.heartbeat_elapsed = leader.heartbeat_elapsed.saturating_add(1);
        if leader.heartbeat_elapsed >= self.config.heartbeat_ticks {
            leader.heartbeat_elapsed = 0;
            self.date_heartbeat();
            self.broadcast_heartbeat(actions);
        }
        Ok(())
    }

    /// One tick more without a write of its own becoming durable, and whether it is one too many: a leader whose disk
    /// hangs can answer nobody, and its heartbeats keep others from leading (fault E14).
    fn disk_hangs(&mut self) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        leader.stalled_elapsed = if self.gate.is_idle() { 0 } else { leader.stalled_elapsed.saturating_add(1) };
        leader.stalled_elapsed >= self.config.election_timeout_ticks && !bug!(DiskStallIgnored)
    }

    /// Whether a quorum has answered within the last election timeout. Without one this leader stops heartbeating
    /// and steps down, so that it cannot hold back a majority that it cannot lead (fault E9).
    fn hears_quorum(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let timeout = u64::from(self.config.election_timeout_ticks);
        let recent = |last_ack: u64| self.now.saturating_sub(last_ack) < timeout;
        self.configurations.current().is_quorum(|voter| {
            bug!(NoCheckQuorum)
                || voter == self.config.id
                || leader.counted(voter).is_some_and(|progress| recent(progress.last_ack))
        })
    }

    pub(crate) fn broadcast_heartbeat(&mut self, actions: &mut Vec<Action>) {
        // The closure cannot fail, so neither can the loop.
        let _ = self.for_each_follower(actions, |node, follower, actions| {
            node.send_heartbeat(follower, actions);
            Ok(())
        });
    }

    pub(crate) fn send_heartbeat(&mut self, to: NodeId, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(progress) = leader.follower(to) else { return };
        let reached = if bug!(HeartbeatCommitsBlindly) { self.log.commit_index() } else { progress.match_index() };
        let reached = if bug!(CommitNotAnnounced) { LogIndex(0) } else { reached };
        let leader_commit = self.log.commit_index().min(reached);
        let request = Heartbeat { leader_commit, round: leader.reads.round };
        self.send(to, Body::Heartbeat(request), actions);
    }

    /// The follower is there: let out one append where it lacks something or its log is being probed.
    pub(crate) fn on_heartbeat_response(
        &mut self,
        from: NodeId,
        response: HeartbeatResponse,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let Some(progress) = leader.follower_mut(from) else { return Ok(()) };
        progress.heard(self.now, self.config.heartbeat_ticks.saturating_mul(2));
        if progress.match_index() < last || progress.state() != ProgressState::Replicate {
            self.send_appends(from, true, actions)?;
        }
        self.advance_transfer(from, actions);
        self.on_round_confirmed(from, response.round, actions);
        // A change may have waited for it to answer.
        self.advance_membership(actions)
    }

    pub(crate) fn on_heartbeat(&mut self, from: NodeId, request: Heartbeat, actions: &mut Vec<Action>) {
        // With an entry of the leader's own term the log is a prefix of the leader's (§5.3). What the leader knows of this
        // server may be of a disk that was lost since, and without such an entry this log may be another's.
        if self.log.last().term == self.current_term || bug!(HeartbeatCommitsBlindly) {
            self.log.commit(request.leader_commit);
        } else {
            mark!(HeartbeatCommitsNothing, request.leader_commit > self.log.commit_index());
        }
        self.send(from, Body::HeartbeatResponse(self.incarnation, HeartbeatResponse { round: request.round }), actions);
    }
}
