//! Reads by lease (dissertation §6.4.1), off unless [`Config::lease`](crate::Config::lease) says otherwise (fault R4): a
//! leader that knows that nobody else can lead yet serves reads at once, without a round.
//!
//! Let T be the election timeout and D the drift bound, in ticks. Write "tick n of s" for the moment at which server s
//! counts its n-th tick.
//!
//! **The leader's rule.** Leader L of term t serves by lease only where all of this holds:
//!
//! 1. A quorum Q of its newest configuration, of both halves where that is joint, has answered in term t a heartbeat that
//!    was sent at tick s of L or later, and L counts less than s + T − D ticks. L itself needs no answer.
//! 2. It has committed an entry of term t (fault R1).
//! 3. It hands leadership to nobody, and has said `TimeoutNow` to nobody in term t (fault R5).
//!
//! **The voters' rule**, where leases are on. A server that hears the leader of its term at its tick h votes for nobody,
//! not even for itself, before its tick h + T. It keeps to that when it forgets its leader, for instance because it
//! learns of a higher term, which the rule of §6 about disturbing servers does not cover. A server that starts does not
//! know what it has promised, so it begins as if it had heard a leader at that moment; not so in term 0, for the term of
//! a leader is durable here before that leader is answered. Only a vote for a leadership transfer is exempt.
//!
//! **The assumption**: in no stretch of time does one server count T ticks while another counts fewer than T − D.
//!
//! **Why no other leader commits anything meanwhile.** Suppose that L serves a read by lease in term t, and that a leader
//! of a higher term has been elected before; take the one of the lowest such term t', X, elected by a quorum Q'.
//!
//! * *Q and Q' share a voter v.* No leader is elected between t and t', so what X's log holds of term t or later is L's,
//!   and includes all that L has committed (2; Figure 3, Leader Completeness). At most one configuration is not committed,
//!   so the one that X was elected in is L's newest or the one before, and quorums of neighbours intersect (§6).
//! * *v did not vote for X before it answered L*: it would have been in term t' then, and have answered with that.
//! * *v is not L*: who leads ignores requests for votes, and what makes it vote otherwise makes it step down.
//! * *v did not vote for X after it answered L*: it heard that heartbeat once it had left, so by its vote it had counted T
//!   ticks since, and where it has started anew T ticks from then on, which is later. L has counted fewer than T − D since
//!   the heartbeat left. This contradicts the assumption.
//! * *X was not elected by a transfer*: who is told to campaign does so in the very next term, and before any pre-vote.
//!   It follows the sender, so that sender led term t or a later one below t'; that is L, which rule 3 excludes. **A
//!   transfer that was given up leaves the lease void until the leadership ends**: the `TimeoutNow` may be delayed for any
//!   time, and its receiver, which may have restarted, cannot tell that it is late. From another term it is dropped.
//!
//! So nothing was committed in a higher term when the read was served, and L's commit index covers every entry that was
//! acknowledged before the read began.
//!
//! The send tick of an answered heartbeat is found by its round, which the answer echoes: with leases on, rounds begin at
//! heartbeats as well, and a round that is sent again counts from the first time. What the answer's sender claims beyond
//! the last round counts as the last.

use alloc::collections::VecDeque;

use crate::node::Node;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::Term;

/// When the rounds of the last election timeout were first sent: the first round of each tick, with that tick. Both
/// ascend.
#[derive(Clone, Debug, Default)]
pub(crate) struct SendTicks(VecDeque<(u64, u64)>);

impl SendTicks {
    /// The tick at which this round was first sent, where a lease may still count from it.
    pub(crate) fn of(&self, round: u64) -> Option<u64> {
        let after = self.0.partition_point(|(first, _)| *first <= round);
        after.checked_sub(1).and_then(|at| self.0.get(at)).map(|(_, tick)| *tick)
    }

    /// This round is sent now. What was sent a timeout ago is forgotten.
    fn sent(&mut self, round: u64, now: u64, timeout: u64) {
        while self.0.pop_front_if(|(_, tick)| tick.saturating_add(timeout) <= now).is_some() {}
        if self.0.back().is_none_or(|(_, tick)| *tick < now) {
            self.0.push_back((round, now));
        }
    }
}

// The leader's side.
impl<S: Storage> Node<S> {
    /// A new round: every heartbeat from now on carries it.
    pub(crate) fn begin_round(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.reads.round = leader.reads.round.saturating_add(1);
        if self.config.lease.is_some() {
            let timeout = u64::from(self.config.election_timeout_ticks);
            leader.reads.sent.sent(leader.reads.round, self.now, timeout);
        }
    }

    /// The heartbeats of a heartbeat interval follow: where a lease counts from them, they are a round.
    pub(crate) fn date_heartbeat(&mut self) {
        if self.config.lease.is_some() {
            self.begin_round();
        }
    }

    /// Ticks for which this leader may serve reads without a round, beginning with the current one; `None` where it may
    /// not.
    pub(crate) fn lease_left(&self) -> Option<u64> {
        let lease = self.config.lease?;
        let Role::Leader(leader) = &self.role else { return None };
        let is_void = (leader.transfer.is_some() || leader.said_timeout_now) && !bug!(LeaseDuringTransfer);
        if is_void || self.log.commit_index() < leader.first_index {
            return None;
        }
        let answered_from = |voter| {
            if voter == self.config.id { Some(self.now) } else { leader.counted(voter)?.answered_from }
        };
        let sent = self.configurations.current().reached(None, answered_from)?;
        let lasts = self.config.election_timeout_ticks.saturating_sub(lease.drift_ticks);
        sent.saturating_add(u64::from(lasts)).checked_sub(self.now).filter(|left| *left > 0)
    }
}

// The voters' side.
impl<S: Storage> Node<S> {
    /// The leader of this term is heard: no vote for an election timeout.
    pub(crate) fn promise(&mut self) {
        if self.config.lease.is_some() {
            self.promised_until = self.now.saturating_add(u64::from(self.config.election_timeout_ticks));
        }
    }

    /// After a start: what was promised before is not known, unless no leader was ever answered.
    pub(crate) fn promise_anew(&mut self) {
        if self.current_term > Term(0) {
            self.promise();
        }
    }

    /// Whether a leader's [lease](crate::Lease) may count on this server's not voting: until an election timeout after it
    /// heard one, or started. Never, where leases are off.
    #[must_use]
    pub const fn is_promised(&self) -> bool {
        self.now < self.promised_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_counts_from_the_tick_of_its_first_sending() {
        let mut ticks = SendTicks::default();
        assert_eq!(ticks.of(1), None);
        for (round, now) in [(1, 3), (2, 3), (3, 4), (4, 7), (5, 7)] {
            ticks.sent(round, now, 5);
        }
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 9].map(|round| ticks.of(round)),
            [None, Some(3), Some(3), Some(4), Some(7), Some(7), Some(7)]
        );
    }

    #[test]
    fn what_was_sent_a_timeout_ago_is_forgotten() {
        let mut ticks = SendTicks::default();
        ticks.sent(1, 3, 5);
        ticks.sent(2, 7, 5);
        assert_eq!((ticks.of(1), ticks.0.len()), (Some(3), 2));
        ticks.sent(3, 8, 5);
        assert_eq!([1, 2, 3].map(|round| ticks.of(round)), [None, Some(7), Some(8)]);
        assert_eq!(ticks.0.len(), 2);
    }
}
