//! Why a client has no answer, with what to do next.

use raft_core::{LogIndex, NodeId, Refusal};
use raft_kv::proof::{Head, NoProof, ProofError};

use crate::handshake::HandshakeRefusal;
use crate::protocol::ChangeRefusal;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No server could be reached. The request did not happen.
    #[error("no server can be reached, nothing was done: {reason}")]
    Unreachable {
        /// Why the last one could not.
        reason: String,
    },
    /// Servers were reached, and none of them leads. The request did not happen.
    #[error(
        "no leader, nothing was done: a majority of the servers must run, reach each other, and have their disks (try \
         status; members says whose disks are lost)"
    )]
    NoLeader,
    /// The deadline has passed.
    #[error("{}", timeout_text(*.unknown))]
    Timeout {
        /// The command was sent: it may have been applied, or may be yet. Otherwise it did not happen.
        unknown: bool,
    },
    /// A server is added, and the leader waits for it, or for one that is added with it, longer than the client
    /// does. It goes on.
    #[error("{}", waiting_text(*.added, *.id, .address.as_deref(), *.is_connected))]
    Waiting {
        /// The server that was to be added.
        added: NodeId,
        /// Who is waited for.
        id: NodeId,
        /// Where it was said to listen.
        address: Option<String>,
        /// Whether it is there, so that only its log is behind.
        is_connected: bool,
    },
    /// A change of the members was begun, and came to another end.
    #[error("the change was begun and not finished, {0}: look at the members, and try again")]
    Unfinished(Unfinished),
    /// The leader does not change the members so. Nothing was changed.
    #[error("{0}")]
    NotChanged(ChangeRefusal),
    /// The request can be taken by no server. It did not happen.
    #[error("{0}")]
    Refused(Refusal),
    /// The server takes no connection of this client: it speaks another protocol, belongs to another cluster, or has too
    /// many already. The request did not happen.
    #[error("server {server}: {refusal}")]
    Rejected {
        /// Which.
        server: NodeId,
        /// Its words.
        refusal: HandshakeRefusal,
    },
    /// The history is not known to go on from the one that was remembered. The request did not happen.
    #[error("{0}")]
    History(#[from] HistoryError),
}

impl ClientError {
    /// Whether the request may have been done all the same.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Timeout { unknown: true } | Self::Waiting { .. })
    }
}

/// Why a server's history is not known to go on from the head that was remembered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// It does not.
    #[error("{0}")]
    Rewritten(Box<Rewritten>),
    /// The server does not have all of it.
    #[error(
        "server {server} has the chain up to block {found}, and block {needed} was seen already: ask again, or another          server; if all of them stay behind, the cluster was put back to an earlier state"
    )]
    Behind {
        /// Which.
        server: NodeId,
        /// How far it has got.
        found: LogIndex,
        /// How far it should have.
        needed: LogIndex,
    },
    /// The server cannot prove it.
    #[error("server {server}: {reason}")]
    Unproved {
        /// Which.
        server: NodeId,
        /// Its words.
        reason: NoProof,
    },
    /// What the server sent proves nothing.
    #[error("what server {server} sent proves nothing: {error}")]
    False {
        /// Which.
        server: NodeId,
        /// What is wrong with it.
        error: ProofError,
    },
    /// The server gave no answer, or one to something else.
    #[error("server {server} gave no answer about its chain: ask again, or another server")]
    Silent {
        /// Which.
        server: NodeId,
    },
}

/// A history that does not go on from the head that was remembered: it was written anew, or put back to an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the history was rewritten: at block {} the head was {}, and server {server} has {} at block {}. Keep the head \
     that you remember, rely on nothing that this cluster says, and compare its servers' directories with chain",
    .remembered.height, .remembered.id(), .found.id(), .found.height
)]
pub struct Rewritten {
    /// Who has it.
    pub server: NodeId,
    /// What was seen before.
    pub remembered: Head,
    /// What the server has at that height, or its whole chain where that ends before.
    pub found: Head,
}

/// What came between a change of the members and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// Another leader, which does not wait for whom the one before it waited for.
    #[error("for server {0} leads now")]
    OtherLeader(NodeId),
    /// Another change, under the same leader.
    #[error("for another change took its place")]
    OtherChange,
}

const fn timeout_text(unknown: bool) -> &'static str {
    if unknown {
        "no answer in time: it may have been done, or may be yet"
    } else {
        "no answer in time: nothing was done"
    }
}

fn waiting_text(added: NodeId, id: NodeId, address: Option<&str>, is_connected: bool) -> String {
    let place = address.map(|address| format!(" at {address}")).unwrap_or_default();
    let together = if added == id { String::new() } else { format!(", and server {added} with it") };
    if is_connected {
        format!(
            "server {id}{place} is catching up still; it votes once it has{together}: look at the members, or give up \
             with remove {id}"
        )
    } else {
        format!(
            "server {id}{place} has not answered; it votes once it has caught up{together}: start it, or give up with \
             remove {id}"
        )
    }
}
