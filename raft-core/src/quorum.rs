//! Majorities, and joint majorities (§6): pure maths over a set of server ids. Knows nothing of Raft's state.
//!
//! Invariant: two quorums of one configuration share a voter. In a joint configuration a quorum is a majority of
//! *each* half, so it also shares a voter with every quorum of the old and of the new configuration.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::member::Member;
use crate::types::{LogIndex, NodeId};

/// Who takes part. Each list is sorted and free of repetition. A voter whose incarnation is known is that disk and no
/// other under its id: who counts holds every answer against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub(crate) voters: Vec<NodeId>,
    pub(crate) voters_outgoing: Vec<NodeId>,
    pub(crate) learners: Vec<NodeId>,
    /// What is known of members beside their ids, ascending: `member.rs` keeps it.
    pub(crate) known: Vec<(NodeId, Member)>,
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// More answers are needed.
    Pending,
    /// A quorum has granted.
    Won,
    /// No quorum can grant any more.
    Lost,
}

impl Configuration {
    /// A configuration of these voters alone.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self::joint(voters, [], [])
    }

    /// Incoming voters, outgoing voters (none outside a membership change), learners.
    #[must_use]
    pub fn joint(
        voters: impl IntoIterator<Item = NodeId>,
        voters_outgoing: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self {
            voters: sorted(voters),
            voters_outgoing: sorted(voters_outgoing),
            learners: sorted(learners),
            known: Vec::new(),
        }
    }

    /// The voters; the incoming half of a joint configuration.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// The outgoing half of a joint configuration; empty otherwise.
    #[must_use]
    pub fn voters_outgoing(&self) -> &[NodeId] {
        &self.voters_outgoing
    }

    /// Those who receive the log and never count.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Whether a membership change is between its two halves.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether this server votes, in either half.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.voters_outgoing.contains(&id)
    }

    /// Whether this server takes part.
    #[must_use]
    pub fn is_member(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Every member once, ascending.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        sorted(self.voters.iter().chain(&self.voters_outgoing).chain(&self.learners).copied())
    }

    /// Whether those for whom `holds` is true form a quorum of each half.
    pub fn is_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        let majority = |half: &[NodeId]| self.counted(half).filter(|id| holds(*id)).count() >= needed(half);
        match (self.voters.is_empty(), self.voters_outgoing.is_empty()) {
            (true, true) => false,
            (false, true) => majority(&self.voters),
            (true, false) => majority(&self.voters_outgoing),
            (false, false) => majority(&self.voters) && majority(&self.voters_outgoing),
        }
    }

    /// How an election stands when each voter has granted, refused or not answered.
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        if self.is_quorum(|id| vote(id) == Some(true)) {
            VoteResult::Won
        } else if self.is_quorum(|id| vote(id) != Some(false)) {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }

    /// The highest index that a quorum of each half has reached; 0 where there are no voters.
    pub fn committed_index(&self, match_index: impl Fn(NodeId) -> LogIndex) -> LogIndex {
        self.reached(LogIndex(0), match_index)
    }

    /// The highest mark that a quorum of each half has reached; `known`, where that is none above it. Free of allocation,
    /// for this runs once an acknowledgement.
    pub(crate) fn reached<M: Ord + Copy>(&self, known: M, mark: impl Fn(NodeId) -> M) -> M {
        let halves = [&self.voters, &self.voters_outgoing].into_iter().filter(|half| !half.is_empty());
        halves.map(|half| self.reached_by(half, known, &mark)).min().unwrap_or(known)
    }

    /// The same for one half. The lowest mark above what is known is what a majority has reached, if so many are above it; as
    /// a rule those are no more than a majority needs, and the half is gone through once.
    fn reached_by<M: Ord + Copy>(&self, half: &[NodeId], known: M, mark: impl Fn(NodeId) -> M) -> M {
        let mut reached = known;
        loop {
            let (mut count, mut lowest) = (0, None);
            for id in self.counted(half) {
                let mark = mark(id);
                if mark > reached {
                    count += 1;
                    lowest = lowest.filter(|lowest| *lowest < mark).or(Some(mark));
                } else if bug!(TwoOfFiveCommit) && self.voters.first() == Some(&id) {
                    count += 1;
                }
            }
            match lowest {
                Some(lowest) if count >= needed(half) => reached = lowest,
                _ => return reached,
            }
            if count == needed(half) {
                return reached;
            }
        }
    }

    /// Those of a half whose answers count.
    fn counted<'a>(&'a self, half: &'a [NodeId]) -> impl Iterator<Item = NodeId> + 'a {
        let learners: &[NodeId] = if bug!(LearnersCount) { &self.learners } else { &[] };
        half.iter().chain(learners).copied()
    }
}

/// How many of a half are a majority of it.
fn needed(half: &[NodeId]) -> usize {
    half.len() / 2 + usize::from(!bug!(HalfIsQuorum) || half.len() % 2 == 1)
}

/// `1,2,3`, then what there is of `outgoing 1,2` and `learners 4`.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, ids) in [("", &self.voters), (", outgoing ", &self.voters_outgoing), (", learners ", &self.learners)]
        {
            for (at, id) in ids.iter().enumerate() {
                write!(f, "{}{id}", if at == 0 { name } else { "," })?;
            }
        }
        Ok(())
    }
}

fn sorted(ids: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word: sort what each half has reached and take the majority's place.
    fn naive_committed(halves: [&[NodeId]; 2], reached: &[u64]) -> u64 {
        halves
            .iter()
            .filter(|half| !half.is_empty())
            .map(|half| {
                let mut sorted: Vec<u64> = half.iter().map(|id| reached[id.0 as usize]).collect();
                sorted.sort_unstable_by(|a, b| b.cmp(a));
                sorted[half.len() / 2]
            })
            .min()
            .unwrap_or(0)
    }

    fn ids() -> impl Strategy<Value = Vec<NodeId>> {
        prop::collection::vec((0_u32..9).prop_map(NodeId), 0..9)
    }

    proptest! {
        /// Fault L9: a clever quorum scan commits with 2 of 5.
        #[test]
        fn l9_committed_index_equals_the_naive_count(
            voters in ids(), outgoing in ids(), reached in prop::collection::vec(0_u64..6, 9), known in 0_u64..6,
        ) {
            let configuration = Configuration::joint(voters, outgoing, []);
            let expected = naive_committed([configuration.voters(), configuration.voters_outgoing()], &reached);
            prop_assert_eq!(configuration.committed_index(|id| LogIndex(reached[id.0 as usize])), LogIndex(expected));
            prop_assert_eq!(configuration.reached(known, |id| reached[id.0 as usize]), expected.max(known));
        }

        #[test]
        fn two_quorums_share_a_voter(voters in ids(), outgoing in ids(), a in 0_u16..512, b in 0_u16..512) {
            let configuration = Configuration::joint(voters, outgoing, []);
            let inside = |set: u16| move |id: NodeId| set & (1 << id.0) != 0;
            if configuration.is_quorum(inside(a)) && configuration.is_quorum(inside(b)) {
                let members = configuration.members();
                prop_assert!(members.iter().any(|id| inside(a)(*id) && inside(b)(*id)));
            }
        }

        #[test]
        fn a_vote_is_won_or_lost_once_all_have_answered(voters in ids(), outgoing in ids(), grants in 0_u16..512) {
            let configuration = Configuration::joint(voters, outgoing, []);
            let granted = |id: NodeId| grants & (1 << id.0) != 0;
            let expected = if configuration.is_quorum(granted) { VoteResult::Won } else { VoteResult::Lost };
            prop_assert_eq!(configuration.vote_result(|id| Some(granted(id))), expected);
        }
    }

    #[test]
    fn nobody_is_no_quorum() {
        let nobody = Configuration::new([]);
        assert!(!nobody.is_quorum(|_| true));
        assert_eq!(nobody.committed_index(|_| LogIndex(7)), LogIndex(0));
    }

    #[test]
    fn a_learner_never_counts() {
        let configuration = Configuration::joint([NodeId(1), NodeId(2)], [], [NodeId(3)]);
        assert!(!configuration.is_quorum(|id| id != NodeId(2)));
        assert!(!configuration.is_voter(NodeId(3)));
        assert_eq!(configuration.members(), [NodeId(1), NodeId(2), NodeId(3)]);
    }
}
