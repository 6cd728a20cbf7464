//! Errors, split by blame: the request came at the wrong place or time ([`Refusal`]), the configuration is wrong
//! ([`ConfigError`]), the storage failed ([`StorageError`]), the node had to stop ([`Fault`]).

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::state_machine::RestoreError;
use crate::types::{LogIndex, NodeId};

/// Why a proposal or a read was not taken. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// This server does not lead.
    #[error("{}", hint(*.leader))]
    NotLeader {
        /// Whom to ask instead, where known.
        leader: Option<NodeId>,
    },
    /// Who led when the request came, this server or the one that it follows, does not any more.
    #[error("leadership was lost: ask again")]
    LeadershipLost,
    /// Leadership is being handed to another server.
    #[error("leadership goes to server {target}: ask it")]
    TransferInProgress {
        /// Which.
        target: NodeId,
    },
    /// A membership change is under way.
    #[error("a membership change is under way: ask again once it is committed")]
    ChangeInProgress,
    /// This leader has not committed an entry of its term yet.
    #[error("this leader has not committed anything yet: ask again")]
    NoCommitInTerm,
    /// A configuration needs a voter.
    #[error("a cluster needs at least one voter")]
    EmptyVoters,
    /// The server does not vote.
    #[error("server {id} is no voter")]
    NotVoter {
        /// Which.
        id: NodeId,
    },
    /// It is so already.
    #[error("it is so already")]
    Unchanged,
    /// The proposal holds no payload.
    #[error("an empty proposal: give at least one payload")]
    Empty,
    /// Too much is waiting already.
    #[error("too much is waiting already: ask again later")]
    Busy,
    /// The request is larger than this server takes.
    #[error("the request is too large: at most {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Another leader's entry took this one's place: it was not applied and never will be.
    #[error("another leader's entry took its place: it was not applied, ask again")]
    Superseded,
    /// Another snapshot is being received, or taken.
    #[error("another snapshot is under way: take one once it is installed")]
    SnapshotInProgress,
    /// The snapshot is not of an entry that was applied here, or not as this server knows it (fault S5).
    #[error("the snapshot is not of what was applied here: describe it when its state is taken")]
    NotApplied,
    /// The node has halted.
    #[error("this server has halted: ask another")]
    Halted,
    /// This server follows, and could not serve the read within an election timeout: its leader did not answer, or it has
    /// not caught up.
    #[error("this server could not serve the read in time: {}", hint(*.leader))]
    ReadTimeout {
        /// Whom to ask instead, where known.
        leader: Option<NodeId>,
    },
    /// As far as the leader has heard, this member has lost its disk (fault M10); and it would be a new voter, or those who
    /// have theirs and answer would be no majority of the voters, so that the change could not be committed.
    #[error("server {id} has lost its disk and cannot count as a voter: remove it first, then add it again")]
    DiskLost {
        /// The first such.
        id: NodeId,
    },
    /// Those of the wanted voters who have answered the leader within an election timeout are no majority of them: were
    /// the others gone for good, so would the cluster be.
    #[error(
        "server {id} does not answer, and without it the voters would be no majority: start it, or remove it first"
    )]
    VoterSilent {
        /// The first who does not answer.
        id: NodeId,
    },
    /// The leader's disk is full (fault D6). Reads are answered; writes are taken again once there is room.
    #[error("the leader's disk is full: make room there, then ask again")]
    DiskFull,
    /// The piece does not continue the snapshot that is being taken, or none is.
    #[error("the piece continues no snapshot that is being taken: begin with the first one")]
    OutOfOrder,
}

fn hint(leader: Option<NodeId>) -> String {
    leader.map_or_else(
        || String::from("no leader is known here: ask another server, or again later"),
        |id| alloc::format!("server {id} is the leader: ask it"),
    )
}

/// What is wrong with a [`Config`](crate::Config).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A heartbeat interval of zero or one that is not below the election timeout.
    #[error("heartbeat_ticks ({heartbeat}) must be at least 1 and below election_timeout_ticks ({election})")]
    Timeouts {
        /// As given.
        heartbeat: u32,
        /// As given.
        election: u32,
    },
    /// A drift bound that no lease can have.
    #[error("drift_ticks ({drift}) must be at least 1 and at most election_timeout_ticks ({election})")]
    Drift {
        /// As given.
        drift: u32,
        /// As given.
        election: u32,
    },
    /// A limit that would let nothing through.
    #[error("{name} must be at least 1")]
    Zero {
        /// The field.
        name: &'static str,
    },
}

/// Why a [`Node`](crate::Node) cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The storage cannot be read.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// The state machine does not take the state that the storage's snapshot holds: the program, or its version, is another
    /// than the one that wrote it.
    #[error("the snapshot of entry {index}: {error}: start the program that wrote it, or replace this server")]
    Snapshot {
        /// The snapshot's last entry.
        index: LogIndex,
        /// What the machine says.
        error: RestoreError,
    },
}

/// What a storage answers instead of data. A compacted or damaged index is an error, never a zero (faults L7, D9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StorageError {
    /// The entry was removed by compaction.
    #[error("entry {index} is compacted: the log begins at {first}")]
    Compacted {
        /// Asked for.
        index: LogIndex,
        /// First index held.
        first: LogIndex,
    },
    /// The entry was never written.
    #[error("entry {index} does not exist: the log ends at {last}")]
    OutOfRange {
        /// Asked for.
        index: LogIndex,
        /// Last index held.
        last: LogIndex,
    },
    /// There is no such snapshot, or no such place in it.
    #[error("there is no snapshot of entry {index}, or nothing at byte {offset} of it")]
    NoSnapshot {
        /// Its last entry.
        index: LogIndex,
        /// Asked for.
        offset: u64,
    },
    /// The bytes on the disk are not what was written.
    #[error("damaged at {place}: {what}")]
    Damaged {
        /// File and offset.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// A write that does not continue what the storage holds: a caller's error.
    #[error("write out of order: {what}")]
    OutOfOrder {
        /// What was expected.
        what: String,
    },
    /// An earlier write or sync failed: nothing is written any more (fault D3).
    #[error("the storage is poisoned by an earlier failure: {what}")]
    Poisoned {
        /// The first failure.
        what: String,
    },
    /// The device or the file system failed.
    #[error("{what}")]
    Io {
        /// The operation and the system's words.
        what: String,
    },
}

/// Why a peer's message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PeerFault {
    /// It is for another server, or from this one.
    #[error("the message is not for this server")]
    Misrouted,
    /// Its entries do not follow each other, or are of a term that their sender has not reached.
    #[error("the entries do not follow each other")]
    Malformed,
    /// It votes under the id of a member that had another disk (fault M10): remove the member, and add it again.
    #[error("it lost the disk that the configuration knows it by: remove it and add it again")]
    OtherIncarnation,
    /// The state that a snapshot was said to hold is none of this state machine.
    #[error("the snapshot is none of this state machine")]
    BadSnapshot,
    /// Two servers claim to lead one term: Election Safety is broken (§5.2).
    #[error("a second leader in one term")]
    SecondLeader,
}

/// Why a node halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// The storage could not be read or written.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// This node led, and its log differs from those of a majority at an entry that all hold: it is the damaged one.
    #[error("the log differs from a majority's at entry {index}: restore it from a peer")]
    Diverged {
        /// Where.
        index: LogIndex,
    },
    /// The state machine's state is not the one that a majority has: its memory, its disk or its program is at fault.
    #[error(
        "the state differs from a majority's after entry {index}: start this server again, and if that recurs, \
         replace it with an empty directory"
    )]
    StateDiverged {
        /// After which entry.
        index: LogIndex,
    },
    /// The state machine's state was another as it was written down than it was when it was made: it has changed by itself.
    #[error(
        "the state after entry {index} has changed in memory: start this server again, and if that recurs, test its memory"
    )]
    StateRotted {
        /// The last entry of the snapshot that is not taken.
        index: LogIndex,
    },
}
