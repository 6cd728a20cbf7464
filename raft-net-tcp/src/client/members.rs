//! Who takes part: asking, and changing it.

use std::time::Instant;

use raft_core::{NodeId, RoleName};
use tokio::net::lookup_host;
use tokio::time::timeout_at;

use super::{Client, ClientError, Copies};
use crate::client_connection::Identity;
use crate::handshake::Role;
use crate::protocol::{MemberStatus, RequestBody, ServerStatus, Standing};

impl Client {
    /// The same client as an operator, who may change the members.
    #[must_use]
    pub fn operator(&self) -> Self {
        let identity = Identity { role: Role::Admin, ..self.identity };
        Self::new(self.servers.clone(), identity, self.options)
    }

    /// Everybody who takes part, as the leader has it.
    ///
    /// # Errors
    /// No server leads, or none can be reached.
    pub async fn members(&mut self) -> Result<Vec<MemberStatus>, ClientError> {
        let deadline = self.deadline();
        self.leader_status(deadline, |_| true).await.map(|status| status.members)
    }

    /// Has a server take part that listens at `address`, host and port: it catches up first, and votes then. Waits
    /// until it does. For an [`operator`](Self::operator).
    ///
    /// # Errors
    /// It was not begun, [`Timeout`](ClientError::Timeout) with `unknown` where it may go on, or
    /// [`Unfinished`](ClientError::Unfinished).
    pub async fn add_member(&mut self, id: NodeId, address: &str) -> Result<Vec<MemberStatus>, ClientError> {
        let is_done = |members: &[MemberStatus]| {
            members.iter().any(|member| member.id == id && matches!(member.standing, Standing::Voter))
        };
        self.change_members(RequestBody::AddMember { id, address }, is_done).await
    }

    /// Has a server take part no more, and waits until that is so. For an [`operator`](Self::operator).
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn remove_member(&mut self, id: NodeId) -> Result<Vec<MemberStatus>, ClientError> {
        let is_done = |members: &[MemberStatus]| members.iter().all(|member| member.id != id);
        self.change_members(RequestBody::RemoveMember { id }, is_done).await
    }

    async fn change_members(
        &mut self,
        body: RequestBody<'_>,
        is_done: impl Fn(&[MemberStatus]) -> bool,
    ) -> Result<Vec<MemberStatus>, ClientError> {
        let deadline = self.deadline();
        let begun = self.find(body, Copies::Many, &mut self.search(deadline)).await?;
        let is_over = |status: &ServerStatus| !status.is_changing && status.last_index >= begun.index;
        match self.leader_status(deadline, is_over).await {
            Ok(status) if is_done(&status.members) => Ok(status.members),
            Ok(_) => Err(ClientError::Unfinished),
            Err(_) => Err(ClientError::Timeout { unknown: true }),
        }
    }

    /// How the leader is, once `is_it` is true of that.
    async fn leader_status(
        &mut self,
        deadline: Instant,
        is_it: impl Fn(&ServerStatus) -> bool,
    ) -> Result<ServerStatus, ClientError> {
        let mut search = self.search(deadline);
        loop {
            let mut newest: Option<ServerStatus> = None;
            for server in self.servers().collect::<Vec<_>>() {
                match self.status_by(server, deadline).await {
                    Ok(status) => {
                        search.error = ClientError::NoLeader;
                        if newest.as_ref().is_none_or(|newest| newest.term < status.term)
                            && status.role == RoleName::Leader
                        {
                            newest = Some(status);
                        }
                    }
                    Err(error) if matches!(search.error, ClientError::Unreachable { .. }) => search.error = error,
                    Err(_) => {}
                }
            }
            match newest.filter(&is_it) {
                Some(status) => return Ok(status),
                None if Instant::now() >= deadline => return Err(search.give_up()),
                None => search.pause().await,
            }
        }
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
