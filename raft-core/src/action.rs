//! Every output of a [`Node`](crate::Node).
//!
//! The contract is one sentence: **perform each action as soon as you like, in the order given, and report each
//! [`Write`] once it is durable.** Nothing that promises durability is handed out before the
//! [`Persisted`](crate::Event::Persisted) that makes it true, so a leader's disk write may overlap its messages without
//! any ordering rule for the caller to get wrong.
//!
//! Invariant: an `Action` is at most 72 bytes (at 136 the prototype lost a third of its speed), so rare large fields
//! are boxed.

use alloc::boxed::Box;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Fault, PeerFault, Refusal};
use crate::message::Message;
use crate::quorum::Configuration;
use crate::storage::{SnapshotChunk, SnapshotMeta};
use crate::types::{Digest, Entries, LogIndex, NodeId, ReadId, Term, WriteId};

/// One output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Send this message, or lose it.
    Send(Message),
    /// Begin this write, and report it with [`Persisted`](crate::Event::Persisted) once durable.
    Persist(Write),
    /// Apply the entries of this range, both ends included, in order; then report
    /// [`Applied`](crate::Event::Applied). [`Node::entries`](crate::Node::entries) lends them.
    Apply {
        /// The first entry to apply.
        first: LogIndex,
        /// The last entry to apply.
        last: LogIndex,
    },
    /// The proposal of this step stands in the log at these positions. Whether it commits, [`Apply`](Self::Apply) tells:
    /// an entry of this term at its index is it, an entry of another term there means that it is lost.
    ProposalAppended {
        /// Position of its first payload.
        first: LogIndex,
        /// Position of its last payload.
        last: LogIndex,
        /// The term they were appended in.
        term: Term,
    },
    /// The proposal of this step was not appended.
    ProposalRefused(Refusal),
    /// This read may be served from the state machine now: it has applied everything that was committed when the read
    /// arrived.
    ReadReady {
        /// The caller's name for it.
        read: ReadId,
        /// The commit index that it waited for.
        index: LogIndex,
        /// How it is known that no newer leader had committed more.
        kind: ReadKind,
    },
    /// This read cannot be served here.
    ReadFailed {
        /// The caller's name for it.
        read: ReadId,
        /// Why.
        reason: Refusal,
    },
    /// Role, term or known leader has changed.
    RoleChanged {
        /// The role now.
        role: RoleName,
        /// The term now.
        term: Term,
        /// The leader of that term, where known.
        leader: Option<NodeId>,
    },
    /// A peer's log and this one differ at an entry that both hold and that should be the same. Neither is changed,
    /// and nothing is acknowledged between them.
    PeerDiverged {
        /// The peer.
        peer: NodeId,
        /// Where it differs.
        index: LogIndex,
    },
    /// The change of this step stands in the log, and is active.
    MembershipAppended {
        /// Where.
        index: LogIndex,
        /// In which term.
        term: Term,
    },
    /// The change of this step was not begun.
    MembershipRefused(Refusal),
    /// This configuration is active from now on: a member's connection is to be opened, a stranger's closed.
    MembershipChanged(Box<Configuration>),
    /// Under this member's id answers another disk than the one that the configuration means (fault M10): it receives the
    /// log, and counts for nothing until the member is removed and added again. Said once, by a leader of a follower and
    /// by that server of itself.
    DiskReplaced {
        /// The member.
        id: NodeId,
    },
    /// Leadership is not handed to this server.
    TransferRefused {
        /// Who should have led.
        target: NodeId,
        /// Why not.
        reason: Refusal,
    },
    /// Leadership was not taken over within an election timeout, or who should have led is no voter any more. This node
    /// leads on and takes proposals again; one that is no voter itself steps down.
    TransferAborted {
        /// Who should have led.
        target: NodeId,
    },
    /// Replace the state machine's state by that of this snapshot, which the storage has received, once every
    /// [`Apply`](Self::Apply) before is done; then report [`Restored`](crate::Event::Restored), or
    /// [`RestoreFailed`](crate::Event::RestoreFailed). [`Storage::snapshot_chunk`](crate::Storage::snapshot_chunk) reads
    /// it.
    Restore(Box<SnapshotMeta>),
    /// The snapshot at this index is the one that the log follows from now on.
    SnapshotInstalled {
        /// Its last entry.
        index: LogIndex,
        /// First entry that the log still holds, or would.
        first_index: LogIndex,
    },
    /// The snapshot that was taken is not installed, or the one that is being taken or received is given up.
    SnapshotRefused(Refusal),
    /// A message was dropped unanswered, for a correct peer does not send it.
    MessageDropped {
        /// Who sent it.
        from: NodeId,
        /// What is wrong with it.
        reason: PeerFault,
    },
    /// The node has stopped for good: every later event is ignored. Start it anew from a storage that can be trusted.
    Halt(Fault),
    /// This leader and a peer had different states after the same entry: one of them is not as the log makes it. A majority
    /// that agrees fences the other; where there is none, that stays open.
    StateDiffers {
        /// The peer.
        peer: NodeId,
        /// The entry.
        index: LogIndex,
    },
}

/// One write to the storage. Writes are begun in the order of their ids and become durable in that order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Names it in [`Persisted`](crate::Event::Persisted).
    pub id: WriteId,
    /// What to write.
    pub op: WriteOp,
}

/// What a [`Write`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteOp {
    /// Replace the hard state.
    HardState(HardState),
    /// Remove the entry at this index and all that follow.
    Truncate(LogIndex),
    /// The next chunk of a snapshot that is being received or taken.
    SnapshotChunk(Box<SnapshotChunk>),
    /// The snapshot that is all there, whose last entry is at `index`, replaces the one before.
    InstallSnapshot {
        /// The snapshot's last entry.
        index: LogIndex,
        /// The log goes on from this entry, all before it are removed: the log holds the snapshot's last entry. Where it
        /// does not, there is no such entry, and the whole log is removed (fault S2).
        keep_from: Option<LogIndex>,
    },
    /// Append these entries: never empty, the first directly after the storage's last.
    Append {
        /// The entries.
        entries: Entries,
        /// The chain digest of each, as the storage's `link` gave it; none where it does not link.
        digests: Option<Arc<[Digest]>>,
    },
    /// Remove what was received of a snapshot that is not installed, where there is something.
    GiveUpSnapshot,
}

/// What must survive a crash besides the log ("persistent state on all servers", Figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term this server has seen.
    pub current_term: Term,
    /// The candidate that received its vote in that term.
    pub voted_for: Option<NodeId>,
}

/// How a read was confirmed, and who serves it. Each kind is linearizable; those by lease rest on clocks as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadKind {
    /// By the leader, after a quorum answered it (dissertation §6.4).
    Quorum,
    /// By the leader, within its [lease](crate::Lease): nobody was asked.
    Lease,
    /// By a follower, whose leader a quorum answered.
    ForwardedQuorum,
    /// By a follower, whose leader was within its lease.
    ForwardedLease,
}

/// The name of a role, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoleName {
    /// Receives entries.
    Follower,
    /// Asks whether it would be elected (dissertation §9.6).
    PreCandidate,
    /// Asks to be elected.
    Candidate,
    /// Sends entries.
    Leader,
}

impl core::fmt::Display for RoleName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_stays_within_72_bytes() {
        assert!(size_of::<Action>() <= 72, "{} bytes", size_of::<Action>());
    }
}
