//! What another server is to answer because it leads: one connection for all that this server forwards, many requests
//! in flight on it.

use std::time::{Duration, Instant};

use raft_core::{NodeId, Refusal, StateMachine, Storage};
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::client_connection::Identity;
use crate::connecting::Shared;
use crate::frame::CLIENT_FRAME_BYTES_MAX;
use crate::handshake::Role;
use crate::hub::Ask;
use crate::line::{Connections, Line, TooLarge};
use crate::links::Link;
use crate::protocol::{RequestBody, ResponseBody};

/// Connections to those who lead.
#[derive(Debug)]
pub(super) struct Forwarder(Connections);

impl Forwarder {
    /// It connects as this client of the cluster.
    pub(super) fn new(cluster: [u8; 16], client: u64) -> Self {
        Self(Connections::new(Identity { cluster, client, role: Role::Client }))
    }

    /// Asks `leader`; `None` where no answer comes in time: the request may have happened.
    pub(super) async fn ask<S: Storage, M: StateMachine>(
        &self,
        hub: &Shared<S, M>,
        leader: NodeId,
        ask: &Ask,
        patience: Duration,
    ) -> Option<ResponseBody> {
        let body = match ask {
            Ask::Submit(command) => RequestBody::Submit(command),
            Ask::Query(query) => RequestBody::Query(query),
        };
        let begun = Instant::now();
        let line = match self.0.open(leader) {
            Some(line) => Some(line),
            None => timeout(patience, self.connect(hub, leader)).await.ok().flatten(),
        };
        let Some(line) = line.filter(|_| !is_cut(hub, leader)) else {
            // Nothing was sent.
            return Some(ResponseBody::Refused(Refusal::NotLeader { leader: None }));
        };
        let asked = Instant::now();
        match timeout(patience.saturating_sub(begun.elapsed()), line.ask(body)).await {
            Ok(Ok(response)) => response.filter(|_| !is_cut(hub, leader)),
            Ok(Err(TooLarge)) => {
                let limit = u64::try_from(CLIENT_FRAME_BYTES_MAX).unwrap_or(u64::MAX);
                Some(ResponseBody::Refused(Refusal::TooLarge { limit }))
            }
            Err(_) => {
                line.doubt(asked);
                None
            }
        }
    }

    async fn connect<S: Storage, M: StateMachine>(&self, hub: &Shared<S, M>, leader: NodeId) -> Option<Line> {
        if is_cut(hub, leader) {
            return None;
        }
        let (address, deadline) = {
            let hub = hub.borrow();
            let status = hub.replica.status();
            (hub.address_of(&status.configuration, leader)?, hub.config.connections.handshake_deadline)
        };
        let address = timeout(deadline, lookup_host(address)).await.ok()?.ok()?.next()?;
        self.0.line(leader, address, deadline).await.ok()
    }
}

/// A link that is broken on purpose is broken for what is forwarded as well.
fn is_cut<S: Storage, M: StateMachine>(hub: &Shared<S, M>, leader: NodeId) -> bool {
    hub.borrow_mut().replica.transport_mut().links().is_cut(Link::Server(leader))
}
