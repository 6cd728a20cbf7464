//! The four roles, each with the data that it alone needs.
//!
//! ```text
//!              times out                quorum of pre-votes          quorum of votes
//!  Follower ───────────────> PreCandidate ───────────────> Candidate ───────────────> Leader
//!     ^  ^                        │  refused, or a leader       │  the same                │
//!     │  └────────────────────────┴─────────────────────────────┘                          │
//!     └────────────────────────────────────────────────────────────────────────────────────┘
//!         a higher term, or for an election timeout no quorum heard, or no write of its own finished
//! ```
//!
//! Figure 4 of the paper with the pre-vote of dissertation §9.6. Only the `become_*` methods of `node.rs` move along
//! these arrows.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::action::RoleName;
use crate::event::MembershipChange;
use crate::progress::Progress;
use crate::read_index::ReadRounds;
use crate::state_digest::StateDigests;
use crate::transfer::Transfer;
use crate::types::{LogIndex, NodeId, WriteId};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower { leader: Option<NodeId> },
    PreCandidate { votes: Votes },
    Candidate { votes: Votes, own_vote: WriteId },
    Leader(Box<Leader>),
}

/// Who has answered, and how; the first answer of each counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Votes(Vec<(NodeId, bool)>);

/// What a leader keeps ("volatile state on leaders", Figure 2).
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// Every other member, ascending by id.
    followers: Vec<(NodeId, Progress)>,
    pub(crate) heartbeat_elapsed: u32,
    /// Ticks for which a write has been under way and none has become durable.
    pub(crate) stalled_elapsed: u32,
    /// Its no-op: an entry is of its term exactly from here on.
    pub(crate) first_index: LogIndex,
    pub(crate) reads: ReadRounds,
    pub(crate) uncommitted: Uncommitted,
    /// A change whose new voters are waited for.
    pub(crate) promotion: Option<Promotion>,
    /// To whom leadership is being handed.
    pub(crate) transfer: Option<Transfer>,
    /// Somebody was told to campaign in this term, and may do so whenever the message arrives.
    pub(crate) said_timeout_now: bool,
    /// Somebody was heard whose incarnation the configuration does not hold yet.
    pub(crate) unpinned: bool,
    /// The states that members have told of.
    pub(crate) state_digests: StateDigests,
}

/// A change whose new voters are learners until they hold the entry that it began with and, if it says so, have caught up
/// in rounds (dissertation §4.2.1): each ends once they have what was committed when it began, and one that took less than
/// an election timeout is the last.
#[derive(Clone, Debug)]
pub(crate) struct Promotion {
    pub(crate) change: MembershipChange,
    /// The entry that the change began with.
    pub(crate) began: LogIndex,
    pub(crate) round_ends: LogIndex,
    pub(crate) round_began: u64,
}

/// What a leader has proposed and not committed. Zero when nothing is under way, and gone with the leadership, so it
/// cannot leak (fault L12).
#[derive(Clone, Debug, Default)]
pub(crate) struct Uncommitted {
    /// Last index of each proposal, and its bytes.
    proposals: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl Uncommitted {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so much more may be proposed: always where nothing is under way.
    pub(crate) fn fits(&self, bytes: usize, max: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= max || bug!(UncommittedUnbounded)
    }

    pub(crate) fn add(&mut self, last: LogIndex, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.proposals.push_back((last, bytes));
    }

    pub(crate) fn remove(&mut self, commit_index: LogIndex) {
        while let Some((_, bytes)) = self.proposals.pop_front_if(|(last, _)| *last <= commit_index) {
            self.bytes = self.bytes.saturating_sub(if bug!(UncommittedLeaks) { 0 } else { bytes });
        }
    }
}

impl Role {
    pub(crate) const fn name(&self) -> RoleName {
        match self {
            Self::Follower { .. } => RoleName::Follower,
            Self::PreCandidate { .. } => RoleName::PreCandidate,
            Self::Candidate { .. } => RoleName::Candidate,
            Self::Leader(_) => RoleName::Leader,
        }
    }
}

impl Votes {
    pub(crate) fn record(&mut self, voter: NodeId, granted: bool) {
        if self.of(voter).is_none() {
            self.0.push((voter, granted));
        }
    }

    pub(crate) fn of(&self, voter: NodeId) -> Option<bool> {
        self.0.iter().find(|(id, _)| *id == voter).map(|(_, granted)| *granted)
    }
}

impl Leader {
    /// A leader of these other members, whose log ends at `last` and whose no-op comes next.
    pub(crate) fn new(others: impl Iterator<Item = NodeId>, last: LogIndex, now: u64) -> Self {
        Self {
            followers: others.map(|id| (id, Progress::new(last.next(), now))).collect(),
            heartbeat_elapsed: 0,
            stalled_elapsed: 0,
            first_index: last.next(),
            reads: ReadRounds::default(),
            uncommitted: Uncommitted::default(),
            promotion: None,
            transfer: None,
            said_timeout_now: false,
            unpinned: false,
            state_digests: StateDigests::default(),
        }
    }

    /// The members besides it are these now: who stays keeps its progress, who comes is probed from `next` on.
    pub(crate) fn set_followers(&mut self, others: impl Iterator<Item = NodeId>, next: LogIndex, now: u64) {
        let mut before = core::mem::take(&mut self.followers);
        let mut kept = |id: NodeId| {
            let at = before.iter().position(|(follower, _)| *follower == id)?;
            Some(before.swap_remove(at))
        };
        self.followers = others.map(|id| kept(id).unwrap_or_else(|| (id, Progress::new(next, now)))).collect();
    }

    /// These count as heard now.
    pub(crate) fn count_as_heard(&mut self, are_these: impl Fn(NodeId) -> bool, now: u64) {
        for (_, progress) in self.followers.iter_mut().filter(|(id, _)| are_these(*id)) {
            progress.last_ack = now;
        }
    }

    pub(crate) fn followers(&self) -> &[(NodeId, Progress)] {
        &self.followers
    }

    pub(crate) fn followers_mut(&mut self) -> impl Iterator<Item = &mut Progress> {
        self.followers.iter_mut().map(|(_, progress)| progress)
    }

    pub(crate) fn follower(&self, id: NodeId) -> Option<&Progress> {
        self.followers.get(self.place(id)?).map(|(_, progress)| progress)
    }

    /// The same, where it counts: not of a disk that took another's place.
    pub(crate) fn counted(&self, id: NodeId) -> Option<&Progress> {
        self.follower(id).filter(|progress| progress.counts())
    }

    pub(crate) fn follower_mut(&mut self, id: NodeId) -> Option<&mut Progress> {
        let place = self.place(id)?;
        self.followers.get_mut(place).map(|(_, progress)| progress)
    }

    /// Where a follower is. Ids have few gaps as a rule, so it is looked for first where it is if they have none, or none
    /// but this server's own.
    fn place(&self, id: NodeId) -> Option<usize> {
        let is_at = |at: usize| self.followers.get(at).is_some_and(|(follower, _)| *follower == id);
        let (first, _) = self.followers.first()?;
        let guess = usize::try_from(id.0.checked_sub(first.0)?).ok()?;
        if is_at(guess) {
            return Some(guess);
        }
        let before = guess.checked_sub(1)?;
        if is_at(before) { Some(before) } else { self.followers.iter().position(|(follower, _)| *follower == id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_of_each_voter_counts() {
        let mut votes = Votes::default();
        assert_eq!(votes.of(NodeId(2)), None);
        votes.record(NodeId(2), false);
        votes.record(NodeId(2), true);
        votes.record(NodeId(3), true);
        assert_eq!([1, 2, 3].map(|id| votes.of(NodeId(id))), [None, Some(false), Some(true)]);
    }

    #[test]
    fn l12_one_proposal_always_fits_and_what_commits_makes_room() {
        let mut uncommitted = Uncommitted::default();
        assert!(uncommitted.fits(11, 10), "nothing is under way");
        uncommitted.add(LogIndex(3), 4);
        uncommitted.add(LogIndex(5), 3);
        assert_eq!(uncommitted.bytes(), 7);
        assert!(uncommitted.fits(3, 10));
        assert!(!uncommitted.fits(4, 10));
        uncommitted.remove(LogIndex(2));
        assert_eq!(uncommitted.bytes(), 7);
        uncommitted.remove(LogIndex(4));
        assert_eq!(uncommitted.bytes(), 3, "a proposal counts until its last entry commits");
        uncommitted.remove(LogIndex(5));
        assert_eq!(uncommitted.bytes(), 0);
    }

    #[test]
    fn a_follower_is_found_whatever_gaps_the_ids_have() {
        for ids in [&[][..], &[4], &[1, 2, 3, 5, 6], &[2, 3, 4], &[3, 9, 10, 40], &[7, 8, 10, 11, 12, 20]] {
            let leader = Leader::new(ids.iter().copied().map(NodeId), LogIndex(6), 10);
            for id in 0..50 {
                let place = ids.iter().position(|follower| *follower == id);
                assert_eq!(leader.place(NodeId(id)), place, "{id} in {ids:?}");
            }
        }
    }

    #[test]
    fn who_stays_keeps_its_progress_and_who_comes_is_probed() {
        let mut leader = Leader::new([2, 3].map(NodeId).into_iter(), LogIndex(6), 10);
        assert_eq!(leader.first_index, LogIndex(7));
        let fresh = Progress::new(LogIndex(7), 10);
        assert_eq!(leader.followers(), [(NodeId(2), fresh.clone()), (NodeId(3), fresh)]);
        assert!(leader.follower_mut(NodeId(3)).is_some_and(|progress| progress.accepted(LogIndex(5), LogIndex(0))));
        assert!(leader.follower_mut(NodeId(4)).is_none());
        let known = leader.follower(NodeId(3)).cloned().into_iter().map(|progress| (NodeId(3), progress));
        let known: Vec<_> = known.collect();
        leader.set_followers([3, 4].map(NodeId).into_iter(), LogIndex(9), 20);
        assert_eq!(leader.followers(), [known, [(NodeId(4), Progress::new(LogIndex(9), 20))].into()].concat());
    }
}
