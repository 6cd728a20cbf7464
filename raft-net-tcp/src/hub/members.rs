//! Who takes part, as the newest configuration in this server's log has it: whom to dial and where, whose connections
//! are taken, and what an operator may change.
//!
//! A server that knows who leads takes connections of members alone. One that knows none may be behind: it is new, or
//! was away while others came and went. It takes whoever belongs to its cluster, or nobody could tell it.
//!
//! A change that waits for its new voters is not undone by another operator's: who is added is waited for together with
//! them; who is removed is removed first, and the change that waited is begun again then.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use raft_core::{
    Action, Configuration, LogIndex, MembershipChange, NodeId, Refusal, RoleName, StateMachine, Status, Storage, Term,
};
use tokio::sync::Notify;

use super::Hub;
use crate::config::ServerConfig;
use crate::handshake::{Doorkeeper, Guest, HandshakeRefusal, Hello, Role};
use crate::notice::Notice;
use crate::protocol::{ChangeRefusal, CloseReason, RequestBody, ResponseBody, Standing, standing};

/// What a server knows of the others.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Whose connections are kept: the other members, and who leads.
    wanted: Vec<NodeId>,
    /// Where each other member is to be dialled, where that is known.
    addresses: BTreeMap<NodeId, String>,
    has_leader: bool,
    /// On a leader: a change that waited for its new voters, and is to be begun again once the one before it is done.
    carried: Option<MembershipChange>,
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
        let carried = self.members.carried.take().filter(|_| status.role == RoleName::Leader);
        self.members = Members { wanted, addresses, has_leader, carried, changed };
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

    /// Begins a change of the members; its first entry.
    ///
    /// # Errors
    /// Nothing was changed.
    pub(crate) fn change_members(&mut self, change: MembershipChange) -> Result<(LogIndex, Term), Refusal> {
        self.take_notices();
        self.replica.change_membership(change);
        let mut answer = Err(Refusal::Halted);
        while let Some(notice) = self.replica.next_notice() {
            match &notice {
                Action::MembershipAppended { index, term } => answer = Ok((*index, *term)),
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
        let status = self.replica.status();
        let follows = status.role != RoleName::Leader && status.fault.is_none();
        let plan = match (guest, body) {
            // No notice of it: whoever asks goes to the leader.
            (Guest::Admin(_), _) if follows => Err(Refused::Raft(Refusal::NotLeader { leader: status.leader })),
            (Guest::Admin(_), RequestBody::AddMember { id, address }) => self.plan_to_add(&status, *id, address),
            (Guest::Admin(_), RequestBody::RemoveMember { id }) => self.plan_to_remove(&status, *id),
            _ => return Err(CloseReason::NotAllowed),
        };
        let begun = plan.and_then(|Plan { now, then }| {
            let begun = self.change_members(now).map_err(Refused::Raft)?;
            self.members.carried = then;
            Ok(begun)
        });
        Ok(match begun {
            Ok((index, term)) => ResponseBody::ChangeBegun { index, term },
            Err(Refused::Raft(refusal)) => ResponseBody::Refused(refusal),
            Err(Refused::Here(refusal)) => ResponseBody::ChangeRefused(refusal),
        })
    }

    fn plan_to_add(&self, status: &Status, id: NodeId, given: &str) -> Result<Plan, Refused> {
        let current = &status.configuration;
        let waiting = status.promotion.as_ref().or(self.members.carried());
        if standing(status, waiting, id) == Standing::Replaced {
            return Err(Refused::Here(ChangeRefusal::DiskLost { id }));
        }
        let has_it = |member: &NodeId| {
            *member != id && self.address_of(current, *member).is_some_and(|its| is_same(&its, given))
        };
        if let Some(holder) = current.members().into_iter().find(has_it) {
            return Err(Refused::Here(ChangeRefusal::AddressTaken { address: given.to_owned(), holder }));
        }
        if current.voters().contains(&id) && current.address(id) == Some(given) {
            return Err(Refused::Raft(Refusal::Unchanged));
        }
        let wanted = waiting.map_or_else(|| current.clone(), MembershipChange::configuration);
        Ok(Plan { now: with_member(&wanted, id, given), then: None })
    }

    fn plan_to_remove(&self, status: &Status, id: NodeId) -> Result<Plan, Refused> {
        let current = &status.configuration;
        if !current.is_member(id) {
            return Err(Refused::Here(ChangeRefusal::NoMember { id }));
        }
        let waiting = status.promotion.as_ref().or(self.members.carried());
        let then = waiting.map(|change| without_member(&change.configuration(), id));
        let waited = then.as_ref().and_then(|then| then.voters.iter().find(|voter| !current.is_voter(**voter)));
        match waited {
            Some(waited) if id == status.id => Err(Refused::Here(ChangeRefusal::Waited { id: *waited })),
            Some(_) => Ok(Plan { now: without_member(current, id), then }),
            None => Ok(Plan { now: without_member(current, id), then: None }),
        }
    }

    /// Begins the change again that waited when another came before it, once that is done.
    pub(super) fn resume_change(&mut self) {
        let Some(change) = self.members.carried.take() else { return };
        let status = self.replica.status();
        if status.configuration.is_joint() || status.configuration_index > status.commit_index {
            self.members.carried = Some(change);
        } else {
            // Where it is refused, a notice has said so.
            let _ = self.change_members(change);
        }
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

impl Members {
    /// See the field.
    pub(super) const fn carried(&self) -> Option<&MembershipChange> {
        self.carried.as_ref()
    }
}

/// What an operator's request comes to.
struct Plan {
    now: MembershipChange,
    /// Once that is done.
    then: Option<MembershipChange>,
}

/// Who refuses an operator's request: the protocol, or what this server knows of the members.
enum Refused {
    Raft(Refusal),
    Here(ChangeRefusal),
}

/// Whether two addresses are one, as far as their words tell.
fn is_same(one: &str, other: &str) -> bool {
    match (one.parse::<SocketAddr>(), other.parse::<SocketAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
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

    #[test]
    fn one_address_in_other_words_is_the_same() {
        for (one, other) in [("host:1", "HOST:1"), ("127.0.0.1:1", "127.0.0.1:01"), ("[::1]:1", "[0:0::1]:1")] {
            assert!(is_same(one, other), "{one} {other}");
        }
        for (one, other) in [("host:1", "host:2"), ("127.0.0.1:1", "127.0.0.1:2"), ("host:1", "127.0.0.1:1")] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }
}
