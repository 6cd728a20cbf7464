//! Who takes part: asking, and changing it.

use std::collections::BTreeMap;
use std::time::Instant;

use raft_core::{NodeId, Refusal, RoleName};
use tokio::net::lookup_host;
use tokio::time::timeout_at;

use super::search::Search;
use super::{Client, ClientError, Copies, Unfinished, later};
use crate::client_connection::Identity;
use crate::handshake::Role;
use crate::protocol::{ChangeRefusal, MemberStatus, RequestBody, ServerStatus, Standing};

/// Who takes part, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Everybody who takes part.
    pub members: Vec<MemberStatus>,
    /// The server that says so: the leader or, where none can be reached, one of those that know most.
    pub server: NodeId,
    /// Who leads, as far as that server knows.
    pub leader: Option<NodeId>,
}

impl Client {
    /// The same client as an operator, who may change the members.
    #[must_use]
    pub fn operator(&self) -> Self {
        let identity = Identity { role: Role::Admin, ..self.identity };
        Self { remembered: self.remembered, ..Self::new(self.servers.clone(), identity, self.options) }
    }

    /// Everybody who takes part, as the leader has it or, where none is found within two attempts' time, as the
    /// others do.
    ///
    /// # Errors
    /// No server can be reached.
    pub async fn members(&mut self) -> Result<Members, ClientError> {
        let patience = self.options.attempt_max.saturating_mul(2).min(self.options.deadline);
        let mut search = self.search(later(patience));
        let mut heard: BTreeMap<NodeId, ServerStatus> = BTreeMap::new();
        loop {
            let statuses = self.ask_all(&mut search).await;
            if let Some(leader) = newest_leader(&statuses) {
                return Ok(Members { members: leader.members.clone(), server: leader.id, leader: Some(leader.id) });
            }
            heard.extend(statuses.into_iter().map(|status| (status.id, status)));
            if search.left().is_zero() {
                return without_leader(&heard).ok_or_else(|| search.give_up());
            }
            search.pause().await;
        }
    }

    /// Has a server take part that listens at `address`, host and port: it catches up first, and votes then. Waits
    /// until it does. For an [`operator`](Self::operator).
    ///
    /// # Errors
    /// It was not begun, [`Waiting`](ClientError::Waiting) or [`Timeout`](ClientError::Timeout) with `unknown` where it
    /// goes on or may, or [`Unfinished`](ClientError::Unfinished).
    pub async fn add_member(&mut self, id: NodeId, address: &str) -> Result<Vec<MemberStatus>, ClientError> {
        let is_done = |status: &ServerStatus| status.standing(id) == Some(Standing::Voter);
        self.change_members(RequestBody::AddMember { id, address }, id, is_done).await
    }

    /// Has a server take part no more, and waits until that is so. For an [`operator`](Self::operator).
    ///
    /// # Errors
    /// It was not begun, [`Timeout`](ClientError::Timeout) with `unknown` where it may go on, or
    /// [`Unfinished`](ClientError::Unfinished).
    pub async fn remove_member(&mut self, id: NodeId) -> Result<Vec<MemberStatus>, ClientError> {
        let is_done = |status: &ServerStatus| status.standing(id).is_none();
        self.change_members(RequestBody::RemoveMember { id }, id, is_done).await
    }

    async fn change_members(
        &mut self,
        body: RequestBody<'_>,
        id: NodeId,
        is_done: impl Fn(&ServerStatus) -> bool,
    ) -> Result<Vec<MemberStatus>, ClientError> {
        let mut search = self.search(self.deadline());
        let begun = match self.find(body, Copies::Many, &mut search).await {
            Ok(begun) => begun.term,
            // An earlier copy has done it.
            Err(error) if search.unknown && is_so_already(&error) => None,
            Err(error) => return Err(error),
        };
        let mut newest: Option<ServerStatus> = None;
        while !search.left().is_zero() {
            let statuses = self.ask_all(&mut search).await;
            newest = newest_leader(&statuses)
                .filter(|leader| begun.is_none_or(|term| leader.term >= term))
                .cloned()
                .or(newest);
            match &newest {
                Some(leader) if leader.is_settled() && is_done(leader) => return Ok(leader.members.clone()),
                Some(leader) if leader.is_settled() && leader.standing(id) != Some(Standing::CatchingUp) => {
                    let is_other = begun.is_some_and(|term| leader.term > term);
                    let reason = if is_other { Unfinished::OtherLeader(leader.id) } else { Unfinished::OtherChange };
                    return Err(ClientError::Unfinished(reason));
                }
                _ => search.pause().await,
            }
        }
        Err(newest.and_then(|leader| waiting(&leader, id)).unwrap_or(ClientError::Timeout { unknown: true }))
    }

    /// How every server is that answers, each within its share of the time that is left; first whom requests go to.
    async fn ask_all(&mut self, search: &mut Search) -> Vec<ServerStatus> {
        let mut servers: Vec<NodeId> = self.servers().collect();
        servers.sort_by_key(|server| Some(*server) != self.target);
        let mut statuses = Vec::new();
        for (server, left) in servers.iter().zip((1..=servers.len()).rev()) {
            match self.status_by(*server, search.share(left)).await {
                Ok(status) => {
                    search.error = ClientError::NoLeader;
                    statuses.push(status);
                }
                Err(error) if matches!(search.error, ClientError::Unreachable { .. }) => search.error = error,
                Err(_) => {}
            }
        }
        statuses
    }

    /// Members of whom this client was not told are asked from now on, too.
    pub(super) async fn learn(&mut self, members: &[MemberStatus], deadline: Instant) {
        for MemberStatus { id, address, .. } in members {
            if !self.servers.contains_key(id)
                && let Some(address) = address
                && let Ok(Ok(mut found)) = timeout_at(deadline.into(), lookup_host(address)).await
                && let Some(found) = found.next()
            {
                self.servers.insert(*id, found);
            }
        }
    }
}

fn newest_leader(statuses: &[ServerStatus]) -> Option<&ServerStatus> {
    statuses.iter().filter(|status| status.role == RoleName::Leader).max_by_key(|status| status.term)
}

/// What the server says that has most of the log, and the others say of themselves: that their disks are lost, or that
/// they do not lead.
fn without_leader(heard: &BTreeMap<NodeId, ServerStatus>) -> Option<Members> {
    let has_lost = |id| heard.get(&id).is_some_and(|status| status.standing(id) == Some(Standing::Replaced));
    let known = heard.values().max_by_key(|status| (status.commit_index, status.last_index, !has_lost(status.id)))?;
    let seen = |member: &MemberStatus| {
        let standing = if has_lost(member.id) { Standing::Replaced } else { member.standing };
        MemberStatus { standing, ..member.clone() }
    };
    let leader = known.leader.filter(|leader| !heard.contains_key(leader));
    Some(Members { members: known.members.iter().map(seen).collect(), server: known.id, leader })
}

/// For whom the leader waits before `added` votes: rather one that is not connected.
fn waiting(leader: &ServerStatus, added: NodeId) -> Option<ClientError> {
    let is_waited = |member: &&MemberStatus| member.standing == Standing::CatchingUp;
    leader.members.iter().find(|member| member.id == added && is_waited(member))?;
    let is_connected = |member: &MemberStatus| leader.connected.contains(&member.id);
    let member = leader.members.iter().filter(is_waited).min_by_key(|member| is_connected(member))?;
    let (id, address, is_connected) = (member.id, member.address.clone(), is_connected(member));
    Some(ClientError::Waiting { added, id, address, is_connected })
}

const fn is_so_already(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(Refusal::Unchanged) | ClientError::NotChanged(ChangeRefusal::NoMember { .. }))
}
