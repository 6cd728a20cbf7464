//! Why a client has no answer, with what to do next.

use raft_core::{NodeId, Refusal};

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
