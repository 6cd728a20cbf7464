//! Linearizable reads without log entries (§8; dissertation §6.4, "ReadIndex").
//!
//! A read is safe once (1) this leader has committed an entry of its term, (2) a quorum has answered a heartbeat that
//! was sent after the read arrived, so that no newer leader existed then, and (3) the state machine has applied
//! everything that was committed when that heartbeat left. Reads share rounds: one round is under way, those that
//! arrive meanwhile wait for the next.
//!
//! Invariant: what a quorum confirms is (term, round), both the leader's own; a caller's `ReadId` never travels
//! (fault R2).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::action::Action;
use crate::error::Refusal;
use crate::node::Node;
use crate::role::{Leader, Role};
use crate::storage::Storage;
use crate::types::{LogIndex, NodeId, ReadId};

/// The reads of one leadership.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadRounds {
    /// The last round sent.
    round: u64,
    /// Rounds that no quorum has confirmed yet, oldest first.
    unconfirmed: VecDeque<Round>,
    /// Every read that is not confirmed, oldest first: those of each round, then those that arrived since the last
    /// round left.
    reads: VecDeque<ReadId>,
    /// How many of them wait for the next round.
    waiting: usize,
}

#[derive(Clone, Debug)]
struct Round {
    round: u64,
    /// The commit index when it was sent.
    index: LogIndex,
    /// How many reads share it.
    reads: usize,
}

impl ReadRounds {
    pub(crate) const fn round(&self) -> u64 {
        self.round
    }

    fn into_reads(self) -> impl Iterator<Item = ReadId> {
        self.reads.into_iter()
    }
}

impl<S: Storage> Node<S> {
    pub(crate) fn on_read(&mut self, read: ReadId, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &mut self.role else {
            let reason = Refusal::NotLeader { leader: self.leader() };
            actions.push(Action::ReadFailed { read, reason });
            return;
        };
        leader.reads.reads.push_back(read);
        leader.reads.waiting = leader.reads.waiting.saturating_add(1);
        if leader.reads.unconfirmed.is_empty() {
            self.start_read_round(actions);
        }
    }

    /// Sends one round for every read that waits. Nothing before the first commit of this term: until then this
    /// leader may not know what was committed (fault R1).
    pub(crate) fn start_read_round(&mut self, actions: &mut Vec<Action>) {
        let commit_index = self.log.commit_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        if reads.waiting == 0 || commit_index < leader.first_index {
            return;
        }
        reads.round = reads.round.saturating_add(1);
        let round = Round { round: reads.round, index: commit_index, reads: core::mem::take(&mut reads.waiting) };
        reads.unconfirmed.push_back(round);
        self.broadcast_heartbeat(actions);
        self.confirm_reads(actions);
    }

    /// `from` has answered a heartbeat of this round in this term.
    pub(crate) fn on_round_confirmed(&mut self, from: NodeId, round: u64, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let last_round = leader.reads.round;
        let Some(progress) = leader.follower_mut(from) else { return };
        progress.confirmed_round = progress.confirmed_round.max(round.min(last_round));
        self.confirm_reads(actions);
    }

    pub(crate) fn confirm_reads(&mut self, actions: &mut Vec<Action>) {
        let id = self.config.id;
        let Role::Leader(leader) = &mut self.role else { return };
        let confirmed = |leader: &Leader, round: u64| {
            self.configurations.current().is_quorum(|voter| {
                voter == id || leader.counted(voter).is_some_and(|progress| progress.confirmed_round >= round)
            })
        };
        while let Some(oldest) = leader.reads.unconfirmed.front() {
            if !confirmed(leader, oldest.round) {
                return;
            }
            let Some(Round { index, reads, .. }) = leader.reads.unconfirmed.pop_front() else { return };
            let reads = reads.min(leader.reads.reads.len());
            self.confirmed_reads.extend(leader.reads.reads.drain(..reads).map(|read| (index, read)));
        }
        self.release_reads(actions);
        self.start_read_round(actions);
    }

    /// Answers the confirmed reads whose index has been applied (fault R3).
    pub(crate) fn release_reads(&mut self, actions: &mut Vec<Action>) {
        let applied = self.log.last_applied();
        while let Some((index, read)) = self.confirmed_reads.pop_front_if(|(index, _)| *index <= applied) {
            actions.push(Action::ReadReady { read, index });
        }
    }

    /// Leadership ends: what no quorum has confirmed cannot be served here.
    pub(crate) fn fail_reads(&mut self, rounds: ReadRounds, reason: Refusal, actions: &mut Vec<Action>) {
        actions.extend(rounds.into_reads().map(|read| Action::ReadFailed { read, reason }));
    }
}
