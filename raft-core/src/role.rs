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
use alloc::vec::Vec;

use crate::action::RoleName;
use crate::progress::Progress;
use crate::read_index::ReadRounds;
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
        }
    }

    pub(crate) fn followers(&self) -> &[(NodeId, Progress)] {
        &self.followers
    }

    pub(crate) fn follower(&self, id: NodeId) -> Option<&Progress> {
        self.followers.iter().find(|(follower, _)| *follower == id).map(|(_, progress)| progress)
    }

    pub(crate) fn follower_mut(&mut self, id: NodeId) -> Option<&mut Progress> {
        self.followers.iter_mut().find(|(follower, _)| *follower == id).map(|(_, progress)| progress)
    }
}
