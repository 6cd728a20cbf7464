//! What can be asked of a node without changing it.

use alloc::vec::Vec;

use crate::action::RoleName;
use crate::error::Fault;
use crate::event::MembershipChange;
use crate::node::Node;
use crate::progress::Progress;
use crate::quorum::Configuration;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{Digest, Incarnation, LogIndex, NodeId, Term};

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This server.
    pub id: NodeId,
    /// Its storage's incarnation.
    pub incarnation: Incarnation,
    /// The configuration means another disk by this server's id: it receives the log, and does not vote or lead until it
    /// is removed and added again (fault M10).
    pub is_replaced: bool,
    /// Its role.
    pub role: RoleName,
    /// Its `current_term`.
    pub term: Term,
    /// The leader of that term, where known.
    pub leader: Option<NodeId>,
    /// Who takes part.
    pub configuration: Configuration,
    /// The entry that says so: committed or not; where the snapshot does, its last one.
    pub configuration_index: LogIndex,
    /// Last entry that the snapshot covers; 0 where there is none.
    pub snapshot_index: LogIndex,
    /// First entry that the log still holds, or would.
    pub first_index: LogIndex,
    /// The snapshot that a leader is sending, by its last entry, and how many bytes of it have come.
    pub receiving: Option<(LogIndex, u64)>,
    /// Last entry in the log, durable or not.
    pub last_index: LogIndex,
    /// Last entry that is durable here.
    pub persisted_index: LogIndex,
    /// Last entry known to be committed.
    pub commit_index: LogIndex,
    /// Last entry applied here.
    pub last_applied: LogIndex,
    /// Chain digest of the last entry, where the storage links.
    pub head: Option<Digest>,
    /// On a leader: what it has proposed and not committed, in bytes.
    pub uncommitted_bytes: usize,
    /// On a leader: to whom leadership is being handed.
    pub transfer: Option<NodeId>,
    /// On a leader with a [lease](crate::Lease) that holds: ticks for which it will, if nobody answers any more. Until then
    /// reads are served without a round.
    pub lease: Option<u64>,
    /// On a leader: a change whose new voters are catching up.
    pub promotion: Option<MembershipChange>,
    /// On a leader: what it knows of every other member.
    pub followers: Vec<(NodeId, Progress)>,
    /// Whether its storage has room for commands: writes wait until it has (fault D6).
    pub has_room: bool,
    /// Why the node has halted, if it has.
    pub fault: Option<Fault>,
}

impl<S: Storage> Node<S> {
    /// Everything an operator asks for.
    #[must_use]
    pub fn status(&self) -> Status {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        Status {
            id: self.config.id,
            incarnation: self.incarnation,
            is_replaced: self.is_replaced(),
            role: self.role.name(),
            term: self.current_term,
            leader: self.leader(),
            configuration: self.configurations.current().clone(),
            configuration_index: self.configurations.index(),
            snapshot_index: self.log.snapshot_index(),
            first_index: self.log.start().next(),
            receiving: self.receiving.as_ref().map(|receiving| (receiving.index(), receiving.next_offset())),
            last_index: self.log.last().index,
            persisted_index: self.log.persisted_index(),
            commit_index: self.log.commit_index(),
            last_applied: self.log.last_applied(),
            head: self.log.last().digest,
            uncommitted_bytes: leader.map_or(0, |leader| leader.uncommitted.bytes()),
            transfer: leader.and_then(|leader| leader.transfer).map(|transfer| transfer.target),
            lease: self.lease_left(),
            promotion: leader.and_then(|leader| leader.promotion.as_ref()).map(|promotion| promotion.change.clone()),
            followers: leader.map_or_else(Vec::new, |leader| leader.followers().to_vec()),
            has_room: self.storage.has_room(),
            fault: self.fault.clone(),
        }
    }

    /// The leader of the current term, where known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower { leader } => *leader,
            Role::Leader(_) => Some(self.config.id),
            Role::PreCandidate { .. } | Role::Candidate { .. } => None,
        }
    }

    /// Whether a fault has stopped this node for good.
    #[must_use]
    pub const fn is_halted(&self) -> bool {
        self.fault.is_some()
    }

    /// The configuration in force, committed or not.
    #[must_use]
    pub const fn configuration(&self) -> &Configuration {
        self.configurations.current()
    }

    /// The entry that says so; where the snapshot does, its last one.
    #[must_use]
    pub const fn configuration_index(&self) -> LogIndex {
        self.configurations.index()
    }

    /// Latest term that this node has seen.
    #[must_use]
    pub const fn current_term(&self) -> Term {
        self.current_term
    }

    /// Last entry known to be committed.
    #[must_use]
    pub const fn commit_index(&self) -> LogIndex {
        self.log.commit_index()
    }

    /// Last entry applied here.
    #[must_use]
    pub const fn last_applied(&self) -> LogIndex {
        self.log.last_applied()
    }

    /// Who has this node's vote in its current term.
    #[must_use]
    pub const fn voted_for(&self) -> Option<NodeId> {
        self.voted_for
    }

    /// The current role.
    #[must_use]
    pub const fn role(&self) -> RoleName {
        self.role.name()
    }
}
