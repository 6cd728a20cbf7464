//! What clients and servers say to each other once the handshake has agreed.
//!
//! A client may have many requests in flight on a connection; each response names its request. A connection that
//! closes leaves its requests without an answer: each may have happened or not.

use bytes::Bytes;
use raft_core::{Digest, Fault, LogIndex, NodeId, Refusal, RoleName, Status, Term};
use serde::{Deserialize, Serialize};

use crate::links::Link;

/// A client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request<'a> {
    /// The client's name for it, echoed in the response.
    pub number: u64,
    /// What is asked.
    #[serde(borrow)]
    pub body: RequestBody<'a>,
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody<'a> {
    /// Replicate and apply this command of the state machine.
    Submit(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    /// Answer this question to the state machine, linearizably.
    Query(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    /// Say how this server is.
    Status,
}

/// A server's response to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The client's name for the request.
    pub number: u64,
    /// What became of it.
    pub body: ResponseBody,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseBody {
    /// The command was committed and applied.
    Applied {
        /// The entry that it is in.
        index: LogIndex,
        /// That entry's term.
        term: Term,
        /// That entry's chain digest, where the storage links.
        hash: Option<Digest>,
        /// Its place among that entry's commands, from 0.
        number: u32,
        /// The state machine's reply.
        reply: Bytes,
    },
    /// The query was answered by a state that held everything committed when it arrived.
    Answered {
        /// The last entry applied to that state.
        index: LogIndex,
        /// That entry's chain digest, where the storage links and the log still holds it.
        hash: Option<Digest>,
        /// The state machine's answer.
        reply: Bytes,
    },
    /// It did not happen and will not; whom to ask instead is in the reason.
    Refused(Refusal),
    /// It may have happened, or may happen yet.
    Unknown,
    /// How the server is.
    Status(Box<ServerStatus>),
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// This server.
    pub id: NodeId,
    /// Its role.
    pub role: RoleName,
    /// Its current term.
    pub term: Term,
    /// The leader of that term, where known.
    pub leader: Option<NodeId>,
    /// Everybody who takes part.
    pub members: Vec<NodeId>,
    /// Last entry in its log, durable or not.
    pub last_index: LogIndex,
    /// Last entry that is durable there.
    pub persisted_index: LogIndex,
    /// Last entry that it knows to be committed.
    pub commit_index: LogIndex,
    /// Last entry that it has applied.
    pub last_applied: LogIndex,
    /// Chain digest of the last entry, where the storage links.
    pub head: Option<Digest>,
    /// On a leader: the last entry that each other member is known to hold.
    pub followers: Vec<(NodeId, LogIndex)>,
    /// The servers that it is connected to.
    pub connected: Vec<NodeId>,
    /// The links that are broken on purpose.
    pub cut: Vec<Link>,
    /// Why it has halted, if it has.
    pub fault: Option<Fault>,
}

/// Why a connection was closed after the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CloseReason {
    /// What was sent makes no sense.
    #[error("what was sent makes no sense: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// What was sent is not for this role to send.
    #[error("that is not for this role to send")]
    NotAllowed,
    /// The server stops.
    #[error("the server stops: ask another")]
    ShuttingDown,
    /// Nothing was said for too long.
    #[error("nothing was said for too long")]
    Idle,
    /// Too much waited to be read, or nothing was read for too long.
    #[error("too much waited to be read")]
    TooSlow,
    /// The other side closed it, or the network did.
    #[error("closed: {what}")]
    Closed {
        /// The system's words.
        what: String,
    },
}

impl ServerStatus {
    pub(crate) fn new(status: Status, connected: Vec<NodeId>, cut: Vec<Link>) -> Self {
        Self {
            id: status.id,
            role: status.role,
            term: status.term,
            leader: status.leader,
            members: status.configuration.members(),
            last_index: status.last_index,
            persisted_index: status.persisted_index,
            commit_index: status.commit_index,
            last_applied: status.last_applied,
            head: status.head,
            followers: status.followers.iter().map(|(id, progress)| (*id, progress.match_index())).collect(),
            connected,
            cut,
            fault: status.fault,
        }
    }
}
