//! What clients and servers say to each other once the handshake has agreed.
//!
//! A client may have many requests in flight on a connection; each response names its request. A connection that
//! closes leaves its requests without an answer: each may have happened or not.

use bytes::Bytes;
use raft_core::{Digest, Entry, Fault, LogIndex, MembershipChange, NodeId, Refusal, RoleName, Status, Term};
use raft_kv::proof::{BlockProof, Head, NoProof, PrefixProof};
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
    /// Say what the blocks of these heights hold, committed or not: [`ResponseBody::Blocks`]. For servers that mend their
    /// logs, which check them by hash, and operators ([`Role::Admin`]).
    ///
    /// [`Role::Admin`]: crate::handshake::Role::Admin
    Blocks {
        /// The first.
        first: LogIndex,
        /// The last.
        last: LogIndex,
    },
    /// Have this server take part, as a voter once it has caught up. For operators ([`Role::Admin`]) only.
    ///
    /// [`Role::Admin`]: crate::handshake::Role::Admin
    AddMember {
        /// The server.
        id: NodeId,
        /// Where it listens: host and port.
        address: &'a str,
    },
    /// Have this server take part no more. For operators only.
    RemoveMember {
        /// The server.
        id: NodeId,
    },
    /// Say how far the chain of decided blocks goes here: [`ResponseBody::Head`].
    Head,
    /// Prove that a block is in the chain up to a height: [`ResponseBody::BlockProof`].
    ProveBlock {
        /// The block's.
        height: LogIndex,
        /// The chain's; at most that of the server's head.
        head: LogIndex,
    },
    /// Prove that the chain up to one height goes on as that up to another: [`ResponseBody::PrefixProof`].
    ProvePrefix {
        /// The lower height.
        older: LogIndex,
        /// The higher one; at most that of the server's head.
        newer: LogIndex,
    },
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
        #[serde(with = "raft_kv::codec::digest")]
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
        #[serde(with = "raft_kv::codec::digest")]
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
    /// The entries that were asked for, or why there are none.
    Blocks(Blocks),
    /// The change of the members stands in the log: [`ServerStatus::is_changing`] tells when it is done.
    ChangeBegun {
        /// Its first entry.
        index: LogIndex,
        /// That entry's term.
        term: Term,
    },
    /// The leader does not change the members so.
    ChangeRefused(ChangeRefusal),
    /// The chain up to the last block that this server has applied: all of it is decided.
    Head(Head),
    /// The proof of a block, as this server's chain has it.
    BlockProof(Box<BlockProof>),
    /// The proof of a beginning, with both heads as this server's chain has them.
    PrefixProof(Box<PrefixProof>),
    /// There is no head or proof here.
    NoProof(NoProof),
}

/// What a server has of the blocks that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blocks {
    /// The entries from the first that was asked for on, as many as travel at once.
    Held {
        /// In their order, at least one.
        entries: Vec<Entry>,
        /// Those up to this one are committed, as far as this server knows; others may give way to others yet.
        commit_index: LogIndex,
    },
    /// The first is there no more, and never again: a snapshot has taken its place.
    Compacted {
        /// The first that there is.
        first: LogIndex,
    },
    /// The first is not there yet.
    Behind {
        /// The last that there is.
        last: LogIndex,
    },
    /// The first cannot be read, or this server has halted: its log may be damaged itself.
    Unable,
}

/// Why the leader does not change the members as an operator asks, where it is not the protocol that refuses. Nothing
/// was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeRefusal {
    /// There is no such member to remove.
    #[error("server {id} is no member")]
    NoMember {
        /// Which.
        id: NodeId,
    },
    /// The member to add has lost the disk that it is known by (fault M10).
    #[error("server {id} has lost its disk: remove it, then add it again")]
    DiskLost {
        /// Which.
        id: NodeId,
    },
    /// Another member is reached at the address that was given.
    #[error("{address} is the address of server {holder}: give the one at which the new server listens")]
    AddressTaken {
        /// As given.
        address: String,
        /// Whose it is.
        holder: NodeId,
    },
    /// The leader itself is to be removed while it waits for another to vote, which nobody would do after it.
    #[error("server {id} is waited for by the leader, which is to be removed: start {id}, or give up with remove {id}")]
    Waited {
        /// For whom it waits.
        id: NodeId,
    },
}

/// One who takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The server.
    pub id: NodeId,
    /// As what.
    pub standing: Standing,
    /// Where it is reached, where whoever says this knows.
    pub address: Option<String>,
}

/// As what a server takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It votes.
    Voter,
    /// It votes until the change of the members that is under way is done.
    Leaving,
    /// It receives the log, and will vote once it has caught up.
    CatchingUp,
    /// It receives the log, and nobody waits for it to vote, as far as whoever says this knows.
    Learner,
    /// It has lost the disk that it is known by: it receives the log and does not count until it is removed and added
    /// again (fault M10).
    Replaced,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Voter => "votes",
            Self::Leaving => "is leaving",
            Self::CatchingUp => "is catching up, votes then",
            Self::Learner => "receives, does not vote",
            Self::Replaced => "has lost its disk, does not count: remove it and add it again",
        })
    }
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
    pub members: Vec<MemberStatus>,
    /// A change of the members is under way, as far as this server knows; that new ones are catching up only the leader
    /// does.
    pub is_changing: bool,
    /// The entry that says who takes part.
    pub configuration_index: LogIndex,
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
    /// Whether its disk has room for commands: no writes are taken until it has (fault D6).
    pub has_room: bool,
    /// What its shell has to say: what was mended, and when.
    pub remarks: Vec<String>,
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
    /// It is no member of the cluster any more.
    #[error("it is no member any more")]
    NotMember,
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
    pub(crate) fn new(
        status: &Status,
        carried: Option<&MembershipChange>,
        connected: Vec<NodeId>,
        cut: Vec<Link>,
        remarks: Vec<String>,
        address: impl Fn(NodeId) -> Option<String>,
    ) -> Self {
        let ids = status.configuration.members().into_iter();
        let is_settled = !status.configuration.is_joint() && status.configuration_index <= status.commit_index;
        let waiting = status.promotion.as_ref().or(carried);
        let member = |id| MemberStatus { id, standing: standing(status, waiting, id), address: address(id) };
        Self {
            id: status.id,
            role: status.role,
            term: status.term,
            leader: status.leader,
            members: ids.map(member).collect(),
            is_changing: !is_settled || waiting.is_some(),
            configuration_index: status.configuration_index,
            last_index: status.last_index,
            persisted_index: status.persisted_index,
            commit_index: status.commit_index,
            last_applied: status.last_applied,
            head: status.head,
            followers: status.followers.iter().map(|(id, progress)| (*id, progress.match_index())).collect(),
            connected,
            cut,
            has_room: status.has_room,
            remarks,
            fault: status.fault.clone(),
        }
    }

    /// Whether the configuration that says who takes part is committed, and no step to another is to follow by itself.
    pub(crate) fn is_settled(&self) -> bool {
        let is_leaving = |member: &MemberStatus| member.standing == Standing::Leaving;
        self.configuration_index <= self.commit_index && !self.members.iter().any(is_leaving)
    }

    /// As what this server takes part; `None` where it does not.
    #[must_use]
    pub fn standing(&self, id: NodeId) -> Option<Standing> {
        self.members.iter().find(|member| member.id == id).map(|member| member.standing)
    }
}

/// As what a member takes part, as far as this server knows, where a change waits for its new voters.
pub(crate) fn standing(status: &Status, waiting: Option<&MembershipChange>, id: NodeId) -> Standing {
    let configuration = &status.configuration;
    let counts = |(_, progress): &(NodeId, raft_core::Progress)| progress.counts();
    let is_replaced = match id == status.id {
        true => status.is_replaced,
        false => status.followers.iter().find(|(follower, _)| *follower == id).is_some_and(|found| !counts(found)),
    };
    if is_replaced {
        Standing::Replaced
    } else if configuration.voters().contains(&id) {
        Standing::Voter
    } else if configuration.is_voter(id) {
        Standing::Leaving
    } else if waiting.is_some_and(|change| change.voters.contains(&id)) {
        Standing::CatchingUp
    } else {
        Standing::Learner
    }
}
