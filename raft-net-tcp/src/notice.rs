//! What an operator may want to know.

use std::net::SocketAddr;

use raft_core::{Action, NodeId, Refusal, RoleName};

use crate::protocol::CloseReason;

/// What an operator may want to know, as it happens. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// From the protocol: a role change, a diverging peer, a snapshot, a dropped message, a halt.
    Raft(Action),
    /// A server is connected.
    PeerConnected(NodeId),
    /// A server is not connected any more.
    PeerLost(NodeId, CloseReason),
    /// A server that we dial cannot be reached, or refuses. Said once until it changes.
    PeerUnreachable {
        /// The server.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// Somebody connected and was not admitted.
    Refused {
        /// From where.
        from: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A client's connection was closed by this server.
    ClientClosed(u64, CloseReason),
    /// No connection can be accepted for the moment.
    AcceptFailed(String),
}

/// Where notices go. Called on the server's loop: it must not block.
pub type NoticeSink = Box<dyn FnMut(Notice) + Send>;

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raft(Action::RoleChanged { role: RoleName::Leader, term, .. }) => write!(f, "leader of term {term}"),
            Self::Raft(Action::RoleChanged { role, term, leader: Some(leader) }) => {
                write!(f, "{role} in term {term}, server {leader} leads")
            }
            Self::Raft(Action::RoleChanged { role, term, leader: None }) => {
                write!(f, "{role} in term {term}, no leader known")
            }
            Self::Raft(Action::PeerDiverged { peer, index }) => {
                write!(f, "the log of server {peer} differs from ours at {index}: one of the two is damaged")
            }
            Self::Raft(Action::StateDiffers { peer, index }) => write!(
                f,
                "server {peer} had another state than this one after entry {index}: whichever of the two a majority does \
                 not agree with halts"
            ),
            Self::Raft(Action::MessageDropped { from, reason }) => {
                write!(f, "a message of server {from} was dropped: {reason}")
            }
            Self::Raft(Action::Restore(meta)) => {
                write!(f, "a snapshot of entry {} was received: restoring it", meta.last_included_index)
            }
            Self::Raft(Action::SnapshotInstalled { index, first_index }) => {
                write!(f, "the log is compacted: a snapshot of entry {index}, entries from {first_index} on")
            }
            Self::Raft(Action::SnapshotRefused(Refusal::DiskFull)) => {
                write!(f, "a snapshot was given up: there is no room for it")
            }
            Self::Raft(Action::SnapshotRefused(reason)) => write!(f, "a snapshot was not taken: {}", reason),
            Self::Raft(Action::DiskReplaced { id }) => write!(
                f,
                "server {id} has lost the disk that the cluster knows it by: it does not vote until it is removed and \
                 added again"
            ),
            Self::Raft(Action::MembershipChanged(configuration)) => write!(f, "the members are {configuration}"),
            Self::Raft(Action::MembershipAppended { index, .. }) => {
                write!(f, "a change of the members begins with entry {index}")
            }
            Self::Raft(Action::MembershipRefused(reason)) => {
                write!(f, "the members were not changed: {}", reason)
            }
            Self::Raft(Action::Halt(fault)) => write!(f, "halted: {fault}"),
            Self::Raft(action) => write!(f, "{action:?}"),
            Self::PeerConnected(peer) => write!(f, "server {peer} is connected"),
            Self::PeerLost(peer, reason) => write!(f, "server {peer} is lost: {reason}"),
            Self::PeerUnreachable { peer, reason } => write!(f, "server {peer} cannot be reached: {reason}"),
            Self::Refused { from, reason } => write!(f, "a connection from {from} was refused: {reason}"),
            Self::ClientClosed(client, reason) => write!(f, "the connection of client {client} was closed: {reason}"),
            Self::AcceptFailed(reason) => write!(f, "no connection can be accepted for the moment: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use raft_core::{Configuration, LogIndex, SnapshotMeta};

    use super::*;

    #[test]
    fn snapshots_are_told_in_words() {
        let meta =
            SnapshotMeta { last_included_index: LogIndex(9), ..SnapshotMeta::genesis(Configuration::new([NodeId(1)])) };
        for (action, words) in [
            (Action::Restore(Box::new(meta)), "a snapshot of entry 9 was received: restoring it"),
            (
                Action::SnapshotInstalled { index: LogIndex(9), first_index: LogIndex(7) },
                "the log is compacted: a snapshot of entry 9, entries from 7 on",
            ),
            (
                Action::SnapshotRefused(Refusal::SnapshotInProgress),
                "a snapshot was not taken: another snapshot is under way: take one once it is installed",
            ),
        ] {
            assert_eq!(Notice::Raft(action).to_string(), words);
        }
    }
}
