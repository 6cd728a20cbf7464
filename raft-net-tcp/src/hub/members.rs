//! Who takes part, as the newest configuration in this server's log has it: whom to dial and where, whose connections
//! are taken, and what an operator may change.
//!
//! A server that knows who leads takes connections of members alone. One that knows none may be behind: it is new, or
//! was away while others came and went. It takes whoever belongs to its cluster, or nobody could tell it.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft_core::{Action, Configuration, LogIndex, MembershipChange, NodeId, Refusal, StateMachine, Storage};
use tokio::sync::Notify;

use super::Hub;
use crate::config::ServerConfig;
use crate::handshake::{Doorkeeper, Guest, HandshakeRefusal, Hello, Role};
use crate::notice::Notice;
use crate::protocol::{CloseReason, RequestBody, ResponseBody};

/// What a server knows of the others.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Whose connections are kept: the other members, and who leads.
    wanted: Vec<NodeId>,
    /// Where each other member is to be dialled, where that is known.
    addresses: BTreeMap<NodeId, String>,
    has_leader: bool,
    /// Told with every change of the addresses.
    changed: Arc<Notify>,
}

impl<S: Storage, M: StateMachine> Hub<S, M> {
    /// Takes in who takes part and who leads: a stranger's connection is closed.
    pub(crate) fn meet_members(&mut self) {
        let (this, status) = (self.id(), self.replica.status());
        let configuration = &status.configuration;
        let mut wanted = configuration.members();
        wanted.extend(status.leader.filter(|leader| !configuration.is_member(*leader)));
        wanted.retain(|id| *id != this);
        let (is_member, has_leader) = (configuration.is_member(this), status.leader.is_some());
        // One that is not a member waits until it is spoken to.
        let members = configuration.members().into_iter().filter(|id| is_member && *id != this);
        let addresses = members.filter_map(|id| Some((id, address(&self.config, configuration, id)?))).collect();
        let changed = self.members.changed.clone();
        changed.notify_one();
        self.members = Members { wanted, addresses, has_leader, changed };
        self.close_strangers();
    }

    /// Closes whose connections are not kept.
    pub(super) fn close_strangers(&mut self) {
        let Members { wanted, has_leader, .. } = &self.members;
        for stranger in self.replica.transport_mut().keep(wanted, !has_leader) {
            self.notice(Notice::PeerLost(stranger, CloseReason::NotMember));
        }
    }

    /// Whether this hello is welcome, and as whose.
    pub(crate) fn admit(&mut self, hello: &Hello) -> Result<Guest, HandshakeRefusal> {
        let (this, members) = (self.id(), &self.members);
        let doorkeeper = Doorkeeper { cluster: self.config.cluster, this };
        let guest =
            doorkeeper.admit(hello, |id| id != this && (members.wanted.contains(&id) || !members.has_leader))?;
        match guest {
            Guest::Server(id) if members.wanted.contains(&id) => Ok(guest),
            Guest::Server(_) => {
                let strangers = self.replica.transport_mut().connected().filter(|id| !members.wanted.contains(id));
                if strangers.count() < STRANGERS_MAX { Ok(guest) } else { Err(HandshakeRefusal::TooManyConnections) }
            }
            Guest::Client(_) => self.clients.has_room(Role::Client).map(|()| guest),
            Guest::Admin(_) => self.clients.has_room(Role::Admin).map(|()| guest),
        }
    }

    /// Where each other member is to be dialled, and who tells when that has changed.
    pub(crate) fn addresses(&self) -> (BTreeMap<NodeId, String>, Arc<Notify>) {
        (self.members.addresses.clone(), self.members.changed.clone())
    }

    pub(crate) fn is_connected(&mut self, peer: NodeId) -> bool {
        self.replica.transport_mut().connected().any(|connected| connected == peer)
    }

    /// Where a member is reached, this server included.
    pub(crate) fn address_of(&self, configuration: &Configuration, id: NodeId) -> Option<String> {
        let own = || (id == self.id()).then(|| self.config.listen.to_string());
        address(&self.config, configuration, id).or_else(own)
    }

    /// Begins a change of the members; the index of its first entry.
    ///
    /// # Errors
    /// Nothing was changed.
    pub(crate) fn change_members(&mut self, change: MembershipChange) -> Result<LogIndex, Refusal> {
        self.take_notices();
        self.replica.change_membership(change);
        let mut answer = Err(Refusal::Halted);
        while let Some(notice) = self.replica.next_notice() {
            match &notice {
                Action::MembershipAppended { index, .. } => answer = Ok(*index),
                Action::MembershipRefused(refusal) => answer = Err(*refusal),
                _ => {}
            }
            self.take_notice(notice);
        }
        self.waker.wake();
        answer
    }

    /// An operator's request.
    ///
    /// # Errors
    /// Whoever asks is no operator.
    pub(super) fn on_change(&mut self, guest: Guest, body: &RequestBody<'_>) -> Result<ResponseBody, CloseReason> {
        let current = self.replica.status().configuration;
        let change = match (guest, body) {
            (Guest::Admin(_), RequestBody::AddMember { id, address }) => with_member(&current, *id, address),
            (Guest::Admin(_), RequestBody::RemoveMember { id }) => without_member(&current, *id),
            _ => return Err(CloseReason::NotAllowed),
        };
        Ok(match self.change_members(change) {
            Ok(index) => ResponseBody::ChangeBegun { index },
            Err(refusal) => ResponseBody::Refused(refusal),
        })
    }

    /// Hands on what the replica has to tell.
    pub(super) fn take_notices(&mut self) {
        while let Some(notice) = self.replica.next_notice() {
            self.take_notice(notice);
        }
    }

    fn take_notice(&mut self, notice: Action) {
        if matches!(notice, Action::MembershipChanged(_) | Action::RoleChanged { .. }) {
            self.meet_members();
        }
        self.notice(Notice::Raft(notice));
    }
}

/// What the configuration says, and what this server was told when it started where that says nothing.
fn address(config: &ServerConfig, configuration: &Configuration, id: NodeId) -> Option<String> {
    let told = || config.peers.get(&id).map(ToString::to_string);
    configuration.address(id).map(ToOwned::to_owned).or_else(told)
}

/// The same members, and this one as a voter, once it has caught up.
fn with_member(current: &Configuration, id: NodeId, address: &str) -> MembershipChange {
    let voters = current.voters().iter().copied().filter(|voter| *voter != id).chain([id]).collect();
    let learners = current.learners().iter().copied().filter(|learner| *learner != id).collect();
    MembershipChange { voters, learners, catch_up: true, addresses: vec![(id, address.to_owned())] }
}

/// The same members without this one.
fn without_member(current: &Configuration, id: NodeId) -> MembershipChange {
    let without = |ids: &[NodeId]| ids.iter().copied().filter(|member| *member != id).collect();
    let (voters, learners) = (without(current.voters()), without(current.learners()));
    MembershipChange { voters, learners, catch_up: true, addresses: Vec::new() }
}

/// Connections of servers that are no members, of a server that knows no leader.
const STRANGERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_more_and_one_less() {
        let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let current = Configuration::joint(ids(&[1, 2, 3]), [], ids(&[4, 5]));
        let added = with_member(&current, NodeId(4), "there:1");
        assert_eq!((added.voters, added.learners, added.catch_up), (ids(&[1, 2, 3, 4]), ids(&[5]), true));
        assert_eq!(added.addresses, [(NodeId(4), String::from("there:1"))]);
        let removed = without_member(&current, NodeId(2));
        assert_eq!((removed.voters, removed.learners), (ids(&[1, 3]), ids(&[4, 5])));
        let removed = without_member(&current, NodeId(5));
        assert_eq!((removed.voters, removed.learners), (ids(&[1, 2, 3]), ids(&[4])));
    }
}
