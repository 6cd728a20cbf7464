//! Linearizable reads without log entries (§8; dissertation §6.4, "ReadIndex"): the leader's side, for its own reads and
//! for those that followers ask about.
//!
//! A read is safe once (1) this leader has committed an entry of its term, (2) a quorum has answered a heartbeat that
//! was sent after the read arrived, so that no newer leader existed then, and (3) the state machine has applied
//! everything that was committed when that heartbeat left. Reads share rounds: one round is under way, those that
//! arrive meanwhile wait for the next. A follower's request takes part in a round like a read, and is answered with its
//! index; (3) is the follower's to wait for (`follower_read.rs`). While a lease holds, no round is needed (`lease.rs`).
//!
//! Invariants: what a quorum confirms is (term, round), both the leader's own; a caller's `ReadId` never travels
//! (fault R2). Of each follower one request waits here, the newest.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::action::{Action, ReadKind};
use crate::error::Refusal;
use crate::lease::SendTicks;
use crate::message::{Body, ReadIndex, ReadIndexResponse, ReadToken};
use crate::node::Node;
use crate::role::{Leader, Role};
use crate::storage::Storage;
use crate::types::{LogIndex, NodeId, ReadId};

/// The reads of one leadership.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadRounds {
    /// The last round sent.
    pub(crate) round: u64,
    /// Rounds that no quorum has confirmed yet, oldest first.
    unconfirmed: VecDeque<Round>,
    /// Every read that is not confirmed, oldest first: those of each round, then those that arrived since the last
    /// round left.
    reads: VecDeque<ReadId>,
    /// How many of them wait for the next round.
    waiting: usize,
    /// When the rounds were sent, where a lease counts from it.
    pub(crate) sent: SendTicks,
}

#[derive(Clone, Debug)]
struct Round {
    round: u64,
    /// The commit index when it was sent.
    index: LogIndex,
    /// How many reads share it.
    reads: usize,
}

/// A follower's request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    token: ReadToken,
    /// The round that it shares; `None` while it waits for the next.
    round: Option<u64>,
}

/// A read that may be served once `index` has been applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfirmedRead {
    pub(crate) index: LogIndex,
    pub(crate) read: ReadId,
    pub(crate) kind: ReadKind,
    /// Tick of its confirmation.
    pub(crate) since: u64,
}

impl ReadRounds {
    fn into_reads(self) -> impl Iterator<Item = ReadId> {
        self.reads.into_iter()
    }
}

impl Asked {
    /// Whether this request is newer than that one. Lives have no order: of two, the other was probably before.
    const fn is_newer_than(token: ReadToken, asked: Self) -> bool {
        token.life != asked.token.life || token.sequence > asked.token.sequence
    }
}

impl<S: Storage> Node<S> {
    pub(crate) fn on_read(&mut self, read: ReadId, actions: &mut Vec<Action>) {
        let (has_lease, index, since) = (self.lease_left().is_some(), self.log.commit_index(), self.now);
        let Role::Leader(leader) = &mut self.role else {
            self.read_as_follower(read, actions);
            return;
        };
        if has_lease {
            mark!(ReadByLease);
            self.confirmed_reads.push_back(ConfirmedRead { index, read, kind: ReadKind::Lease, since });
            self.release_reads(actions);
            return;
        }
        leader.reads.reads.push_back(read);
        leader.reads.waiting = leader.reads.waiting.saturating_add(1);
        if leader.reads.unconfirmed.is_empty() {
            self.start_read_round(actions);
        }
    }

    /// A follower asks for its own reads. A request that waits already is not begun anew by another copy of it, or by an
    /// older one.
    pub(crate) fn on_read_index(&mut self, from: NodeId, request: ReadIndex, actions: &mut Vec<Action>) {
        let (has_lease, commit_index, token) = (self.lease_left().is_some(), self.log.commit_index(), request.token);
        let Role::Leader(leader) = &mut self.role else {
            self.send(from, Body::ReadIndexResponse(request.refused()), actions);
            return;
        };
        let Some(progress) = leader.follower_mut(from) else {
            self.send(from, Body::ReadIndexResponse(request.refused()), actions);
            return;
        };
        if has_lease {
            let response = ReadIndexResponse { token, index: Some(commit_index), lease: true };
            self.send(from, Body::ReadIndexResponse(response), actions);
        } else if progress.asked.is_none_or(|asked| Asked::is_newer_than(token, asked)) {
            mark!(ReadForwarded);
            progress.asked = Some(Asked { token, round: None });
            if leader.reads.unconfirmed.is_empty() {
                self.start_read_round(actions);
            }
        }
    }

    /// Sends one round for every read and every request that waits. Nothing before the first commit of this term: until
    /// then this leader may not know what was committed (fault R1).
    pub(crate) fn start_read_round(&mut self, actions: &mut Vec<Action>) {
        let index = self.log.commit_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let mut asked = leader.followers().iter().filter_map(|(_, progress)| progress.asked);
        let is_awaited = leader.reads.waiting > 0 || asked.any(|asked| asked.round.is_none());
        let knows_commit = index >= leader.first_index || bug!(ReadBeforeFirstCommit);
        mark!(ReadWaitsForFirstCommit, is_awaited && !knows_commit);
        if !is_awaited || !knows_commit {
            return;
        }
        self.begin_round();
        let Role::Leader(leader) = &mut self.role else { return };
        let (round, reads) = (leader.reads.round, core::mem::take(&mut leader.reads.waiting));
        mark!(ReadsShareRound, reads > 1);
        leader.reads.unconfirmed.push_back(Round { round, index, reads });
        for asked in leader.followers_mut().filter_map(|progress| progress.asked.as_mut()) {
            asked.round.get_or_insert(round);
        }
        self.broadcast_heartbeat(actions);
        self.confirm_reads(actions);
    }

    /// `from` has answered a heartbeat of this round in this term.
    pub(crate) fn on_round_confirmed(&mut self, from: NodeId, round: u64, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let round = if bug!(AnyAnswerConfirms) { leader.reads.round } else { round.min(leader.reads.round) };
        let sent = leader.reads.sent.of(round).map(|sent| if bug!(LeaseFromAnswer) { self.now } else { sent });
        let Some(progress) = leader.follower_mut(from) else { return };
        progress.confirmed_round = progress.confirmed_round.max(round);
        progress.answered_from = progress.answered_from.max(sent);
        self.confirm_reads(actions);
    }

    pub(crate) fn confirm_reads(&mut self, actions: &mut Vec<Action>) {
        let (id, since) = (self.config.id, self.now);
        let confirmed = |leader: &Leader, round: u64| {
            self.configurations.current().is_quorum(|voter| {
                bug!(ReadUnconfirmed)
                    || voter == id
                    || leader.counted(voter).is_some_and(|progress| progress.confirmed_round >= round)
            })
        };
        let Role::Leader(leader) = &mut self.role else { return };
        let mut last = None;
        while let Some(oldest) = leader.reads.unconfirmed.front() {
            if !confirmed(leader, oldest.round) {
                break;
            }
            let Some(Round { round, index, reads }) = leader.reads.unconfirmed.pop_front() else { break };
            let reads = reads.min(leader.reads.reads.len());
            let confirmed = leader.reads.reads.drain(..reads);
            let kind = ReadKind::Quorum;
            self.confirmed_reads.extend(confirmed.map(|read| ConfirmedRead { index, read, kind, since }));
            last = Some((round, index));
        }
        let Some((round, index)) = last else { return };
        self.release_reads(actions);
        self.answer_followers(round, index, actions);
        self.start_read_round(actions);
    }

    /// Answers the requests that share a confirmed round.
    fn answer_followers(&mut self, confirmed: u64, index: LogIndex, actions: &mut Vec<Action>) {
        let shares_it = |asked: &mut Asked| asked.round.is_some_and(|round| round <= confirmed);
        // The closure cannot fail, so neither can the loop.
        let _ = self.for_each_follower(actions, |node, follower, actions| {
            let Role::Leader(leader) = &mut node.role else { return Ok(()) };
            let asked = leader.follower_mut(follower).and_then(|progress| progress.asked.take_if(shares_it));
            if let Some(Asked { token, .. }) = asked {
                let response = ReadIndexResponse { token, index: Some(index), lease: false };
                node.send(follower, Body::ReadIndexResponse(response), actions);
            }
            Ok(())
        });
    }

    /// Answers the confirmed reads whose index has been applied (fault R3).
    pub(crate) fn release_reads(&mut self, actions: &mut Vec<Action>) {
        let applied = self.log.last_applied();
        while let Some(confirmed) =
            self.confirmed_reads.pop_front_if(|confirmed| confirmed.index <= applied || bug!(ReadUnapplied))
        {
            let ConfirmedRead { read, index, kind, .. } = confirmed;
            actions.push(Action::ReadReady { read, index, kind });
        }
        mark!(ReadWaitsForApply, !self.confirmed_reads.is_empty());
    }

    /// Leadership ends: what no quorum has confirmed cannot be served here.
    pub(crate) fn fail_reads(&mut self, rounds: ReadRounds, reason: Refusal, actions: &mut Vec<Action>) {
        mark!(ReadsLostLeadership, !rounds.reads.is_empty());
        actions.extend(rounds.into_reads().map(|read| Action::ReadFailed { read, reason }));
    }
}
