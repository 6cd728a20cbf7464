//! What servers say to each other: one struct a remote procedure call of the paper (Figure 2), its reply beside it.
//!
//! A message is plain data and may be lost, repeated, delayed and reordered. Every message carries its sender's
//! `current_term`; the term rule (§5.1, "if RPC request or response contains term T > currentTerm…") stands once, in
//! `node.rs`. Nothing here promises durability by itself: a `Node` hands a message out only when what it promises is
//! durable.

use alloc::boxed::Box;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state_digest::StateReport;
use crate::storage::SnapshotChunk;
use crate::types::{Digest, Entries, Incarnation, LogIndex, NodeId, Term};

/// One message from one server to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it. A transport overwrites it with the peer that it has identified.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's `current_term`.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// The calls and their replies. What a quorum is counted from says first which [`Incarnation`] of its sender it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// "Would you vote for me?", before any term is disturbed (dissertation §9.6).
    PreVote(PreVote),
    /// The answer to it; it promises nothing.
    PreVoteResponse(Incarnation, PreVoteResponse),
    /// `RequestVote` (§5.2, §5.4.1).
    RequestVote(RequestVote),
    /// The answer to it; a grant is durable.
    RequestVoteResponse(Incarnation, RequestVoteResponse),
    /// `AppendEntries` (§5.3).
    AppendEntries(AppendEntries),
    /// The answer to it; an acceptance is durable.
    AppendEntriesResponse(Incarnation, AppendEntriesResponse),
    /// The leader lives, and asks whether it still leads (§5.2, §8). It carries no log position, so that it is the
    /// same few bytes whatever the log holds.
    Heartbeat(Heartbeat),
    /// The answer to it.
    HeartbeatResponse(Incarnation, HeartbeatResponse),
    /// `InstallSnapshot` (§7): what a follower lacks is compacted here.
    InstallSnapshot(Box<SnapshotChunk>),
    /// The answer to it, until the snapshot is installed: then an acceptance of its last entry says so.
    InstallSnapshotResponse(Incarnation, InstallSnapshotResponse),
    /// "Campaign now", from the leader to the server that it hands leadership to (dissertation §3.10).
    TimeoutNow,
    /// "Up to where must I have applied?", from a follower that has reads to serve (dissertation §6.4).
    ReadIndex(ReadIndex),
    /// The answer to it.
    ReadIndexResponse(ReadIndexResponse),
    /// "I have applied so much, and have this state", from a follower.
    StateDigest(Box<StateReport>),
}

impl Body {
    /// The incarnation that answers; `None` for what is no answer.
    #[must_use]
    pub const fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::PreVoteResponse(incarnation, _)
            | Self::RequestVoteResponse(incarnation, _)
            | Self::AppendEntriesResponse(incarnation, _)
            | Self::InstallSnapshotResponse(incarnation, _)
            | Self::HeartbeatResponse(incarnation, _) => Some(*incarnation),
            Self::PreVote(_)
            | Self::RequestVote(_)
            | Self::AppendEntries(_)
            | Self::InstallSnapshot(_)
            | Self::Heartbeat(_)
            | Self::TimeoutNow
            | Self::ReadIndex(_)
            | Self::ReadIndexResponse(_)
            | Self::StateDigest(_) => None,
        }
    }
}

/// Asks for a vote in a term that the sender has not entered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreVote {
    /// The term in which it would campaign: its own plus one.
    pub next_term: Term,
    /// Index of its last log entry.
    pub last_log_index: LogIndex,
    /// Term of its last log entry.
    pub last_log_term: Term,
    /// Which disk its configuration means by the server that it asks.
    pub voter: Incarnation,
}

/// Answers [`PreVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreVoteResponse {
    /// The term that was asked about: names the round, so that a late answer counts for no other.
    pub next_term: Term,
    /// Whether the vote would be granted.
    pub vote_granted: bool,
}

/// Asks for a vote in the message's term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestVote {
    /// Index of the candidate's last log entry.
    pub last_log_index: LogIndex,
    /// Term of the candidate's last log entry.
    pub last_log_term: Term,
    /// The leader itself asked for this election: a voter that hears it votes all the same.
    pub leadership_transfer: bool,
    /// As in [`PreVote`].
    pub voter: Incarnation,
}

/// Answers [`RequestVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestVoteResponse {
    /// Whether the candidate has this server's vote in the message's term.
    pub vote_granted: bool,
}

/// Replicates log entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendEntries {
    /// Index of the entry immediately before the new ones.
    pub prev_log_index: LogIndex,
    /// Term of that entry.
    pub prev_log_term: Term,
    /// Chain digest of that entry, where the storage links entries into a chain.
    pub prev_log_hash: Option<Arc<Digest>>,
    /// The leader's `commit_index`.
    pub leader_commit: LogIndex,
    /// The new entries: consecutive, from `prev_log_index + 1`; empty for a probe.
    pub entries: Entries,
}

/// Answers [`AppendEntries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendEntriesResponse {
    /// Everything up to `match_index` equals the leader's log and is durable here.
    Accepted {
        /// `prev_log_index` plus the number of entries received: what was verified, not the follower's own tail
        /// (fault L4).
        match_index: LogIndex,
    },
    /// There is no entry at `prev_log_index` with `prev_log_term`.
    Rejected {
        /// The `prev_log_index` that was refused: names the request, so that a late answer is known (fault L6).
        prev_log_index: LogIndex,
        /// The highest index, at most `prev_log_index`, at which the follower's term is at most `prev_log_term`:
        /// with its term, enough to skip a whole term a round trip (§5.3).
        hint_index: LogIndex,
        /// The follower's term at `hint_index`.
        hint_term: Term,
    },
    /// Term and index agree and the chain digest does not: the two logs were the same and are not. Nothing is
    /// acknowledged.
    Diverged {
        /// Where they differ: the `prev_log_index`, or an entry after it that both hold.
        prev_log_index: LogIndex,
    },
}

/// Says that the leader lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's `commit_index`, but never beyond what the receiver has acknowledged (fault L3).
    pub leader_commit: LogIndex,
    /// The leader's read round: (term, round) is the token of every read that waits for it.
    pub round: u64,
}

/// Answers [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// The round that was asked about; 0, which is none, where that was in an earlier term than the answer's.
    pub round: u64,
}

/// Asks the leader up to where its sender must have applied to serve the reads that wait there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadIndex {
    /// Names the request. The same one again is the same request, sent again because it or its answer may be lost.
    pub token: ReadToken,
}

impl ReadIndex {
    /// The answer of a server that cannot serve it.
    pub(crate) const fn refused(&self) -> ReadIndexResponse {
        ReadIndexResponse { token: self.token, index: None, lease: false }
    }
}

/// Answers [`ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadIndexResponse {
    /// The request that is answered.
    pub token: ReadToken,
    /// What was committed at some moment after the request came; `None` where its receiver does not lead, or leads and
    /// has no such member.
    pub index: Option<LogIndex>,
    /// The leader's lease vouches for it, and no round of its own.
    pub lease: bool,
}

/// A [`ReadIndex`] of one server: no other request of it, in this life or in another, has the same (fault R2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadToken {
    /// [`Config::life`](crate::Config::life) of who asks.
    pub life: u64,
    /// Its requests of this life, counted from 1.
    pub sequence: u64,
}

/// Answers a chunk of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallSnapshotResponse {
    /// Which snapshot, by its last entry: chunks of another are not meant (fault S4).
    pub last_included_index: LogIndex,
    /// Which chunk is answered, by where it begins: so that a late answer to an earlier one is known.
    pub offset: u64,
    /// The bytes of it that are held from its beginning on: where the next chunk is to begin.
    pub next_offset: u64,
}
