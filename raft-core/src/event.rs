//! Every input of a [`Node`](crate::Node).
//!
//! There is no other way in: no clock, no entropy, no callback. So a run is the list of its events, and replaying the
//! list replays the run, byte for byte.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::error::{Refusal, StorageError};
use crate::message::Message;
use crate::quorum::Configuration;
use crate::state_digest::StateReport;
use crate::storage::SnapshotChunk;
use crate::types::{LogIndex, NodeId, ReadId, WriteId};

/// One input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// One unit of time has passed; what a unit is, the caller decides. Timeouts are counted in ticks.
    Tick,
    /// A message from a peer.
    Message(Message),
    /// Append these payloads, an entry each: one disk write, one message a follower. Answered in the same step by
    /// [`ProposalAppended`](crate::Action::ProposalAppended) or [`ProposalRefused`](crate::Action::ProposalRefused).
    Propose(Vec<Bytes>),
    /// A linearizable read. Answered once, now or later, by [`ReadReady`](crate::Action::ReadReady) or
    /// [`ReadFailed`](crate::Action::ReadFailed).
    Read(ReadId),
    /// Start an election now, unless this node leads already (fault E12).
    Campaign,
    /// Change who takes part. Answered in the same step by [`MembershipAppended`](crate::Action::MembershipAppended) or
    /// [`MembershipRefused`](crate::Action::MembershipRefused); active at once, and left by itself where it is joint.
    ChangeMembership(MembershipChange),
    /// Hand leadership to this voter. Refused in the same step by
    /// [`TransferRefused`](crate::Action::TransferRefused); given up after an election timeout by
    /// [`TransferAborted`](crate::Action::TransferAborted); done when another leads.
    TransferLeadership(NodeId),
    /// Hand leadership to the voter that is furthest, and rather one that is heard and stays, where this node leads: before a
    /// shutdown.
    HandOver,
    /// Every write up to this one is durable.
    Persisted(WriteId),
    /// A write failed: the node halts, for after a failed write nobody knows what the disk holds (fault D3).
    WriteFailed(StorageError),
    /// The state machine has applied every entry up to this one.
    Applied(LogIndex),
    /// The next piece of the state machine's state, as it was when
    /// [`Node::describe_snapshot`](crate::Node::describe_snapshot) described it: write it down. The first one, at offset 0,
    /// begins a snapshot, in place of one that was begun before; the last one compacts the log, and is answered in the
    /// same step by [`SnapshotInstalled`](crate::Action::SnapshotInstalled). Pieces are rather of
    /// [`max_chunk_bytes`](crate::Config::max_chunk_bytes), and each is rather given when the one before is durable.
    /// [`SnapshotRefused`](crate::Action::SnapshotRefused) says, in the step of a piece or between two, that the snapshot is
    /// given up.
    SnapshotPiece(Box<SnapshotChunk>),
    /// The state machine's state is that of the snapshot at this index, as [`Restore`](crate::Action::Restore) asked.
    Restored(LogIndex),
    /// That snapshot is none of this state machine: its state is what it was.
    RestoreFailed(LogIndex),
    /// The transport lost messages to this peer or its connection: probe before sending more.
    Unreachable(NodeId),
    /// The state machine has this state after this entry, which is applied: it is compared with the others'.
    StateDigested(StateReport),
    /// The state machine had another state after this entry than a majority, as an entry of the log says: the node halts.
    StateDiverged(LogIndex),
    /// The state machine's state after this entry has changed by itself, as a snapshot of it shows: the node halts.
    StateRotted(LogIndex),
    /// There is no room for the rest of the snapshot that is being taken or received (fault D6): what is there of it is
    /// removed, and it is given up, which [`SnapshotRefused`](crate::Action::SnapshotRefused) says in the same step.
    SnapshotOutgrows,
}

/// Who shall take part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipChange {
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who receives the log and does not count.
    pub learners: Vec<NodeId>,
    /// New voters first catch up as learners, so that they do not hold up commits. Without it they are learners only where
    /// one of them is not known to hold the current configuration, or was not heard of late, and until all hold the entry
    /// that the change began with: that says what disks they have (fault M10; where the leader's storage does not tell disks apart, they count at once).
    /// A change that waits is two: a leader that is lost in between leaves them learners, and another `ChangeMembership`
    /// replaces a wait that is too long.
    pub catch_up: bool,
    /// Where members are reached, in words that the transport understands; a stranger's is ignored. Who is not named here
    /// stays where it was. An address alone is a change too, of one entry.
    pub addresses: Vec<(NodeId, String)>,
}

impl MembershipChange {
    /// The configuration at its end; a voter is not also a learner.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        let learners = self.learners.iter().copied().filter(|id| !self.voters.contains(id));
        let members = Configuration::joint(self.voters.iter().copied(), [], learners);
        self.addresses.iter().fold(members, |members, (id, address)| members.with_address(*id, address.as_str()))
    }
}

impl Event {
    /// What a halted node answers: it does nothing more, but whoever waits for an answer gets one.
    pub(crate) fn refused_by_halted(&self) -> Option<Action> {
        match self {
            Self::Propose(_) => Some(Action::ProposalRefused(Refusal::Halted)),
            Self::Read(read) => Some(Action::ReadFailed { read: *read, reason: Refusal::Halted }),
            Self::SnapshotPiece(_) | Self::SnapshotOutgrows => Some(Action::SnapshotRefused(Refusal::Halted)),
            Self::ChangeMembership(_) => Some(Action::MembershipRefused(Refusal::Halted)),
            Self::TransferLeadership(target) => {
                Some(Action::TransferRefused { target: *target, reason: Refusal::Halted })
            }
            _ => None,
        }
    }
}

impl From<Message> for Event {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}
