//! The other servers: [`Transport`] over at most one connection to each.
//!
//! Of two servers the one with the higher id dials, so that there is one connection between them and no two that
//! meet half-way. It carries messages both ways. A new one takes the place of the old one: the old one is dead, or the
//! other side would not have dialled.
//!
//! Memory is bounded by a budget a server: what does not fit, or has no connection, is lost, and the node is told that
//! the server cannot be reached (fault N5).

use std::collections::BTreeMap;
use std::task::Context;
use std::time::{Duration, Instant};

use raft_core::{Message, NodeId, Transport};

use crate::config::ConnectionLimits;
use crate::connection::{Connection, ConnectionId, Next};
use crate::frame::Kind;
use crate::links::{Link, LinkFaults};
use crate::protocol::CloseReason;

/// The connections to the other servers, and the links that are broken on purpose.
#[derive(Debug)]
pub struct Peers {
    links: LinkFaults,
    peers: BTreeMap<NodeId, Peer>,
    limits: ConnectionLimits,
    discarded_generation: u64,
}

#[derive(Debug, Default)]
struct Peer {
    connection: Option<Connection>,
    /// Something for it was lost since the node was last told.
    lost: bool,
}

impl Transport for Peers {
    fn send(&mut self, message: Message) {
        if self.links.is_cut(Link::Server(message.to)) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&message.to) {
            peer.lost |= peer.connection.as_mut().is_none_or(|connection| !connection.push(Kind::Message, &message));
        }
    }
}

impl Peers {
    pub(crate) fn new(ids: impl Iterator<Item = NodeId>, limits: ConnectionLimits) -> Self {
        let peers = ids.map(|id| (id, Peer::default())).collect();
        Self { links: LinkFaults::default(), peers, limits, discarded_generation: 0 }
    }

    /// The links that are broken on purpose.
    #[must_use]
    pub const fn links(&self) -> &LinkFaults {
        &self.links
    }

    /// The same, to break and mend them.
    pub const fn links_mut(&mut self) -> &mut LinkFaults {
        &mut self.links
    }

    /// The servers that are connected.
    pub fn connected(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.connection.is_some()).map(|(id, _)| *id)
    }

    /// Takes a new connection, in place of the old one.
    pub(crate) fn connect(&mut self, id: NodeId, connection: Connection) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.lost |= peer.connection.replace(connection).is_some();
        }
    }

    pub(crate) fn connection_mut(&mut self, id: NodeId, connection: ConnectionId) -> Option<&mut Connection> {
        self.peers.get_mut(&id)?.connection.as_mut().filter(|open| open.id == connection)
    }

    /// Forgets a connection; whether it was still the one in use.
    pub(crate) fn disconnect(&mut self, id: NodeId, connection: ConnectionId) -> bool {
        self.peers.get_mut(&id).is_some_and(|peer| {
            let was_open = peer.connection.take_if(|open| open.id == connection).is_some();
            peer.lost |= was_open;
            was_open
        })
    }

    /// A server for which something was lost since this last named it.
    pub(crate) fn next_lost(&mut self) -> Option<NodeId> {
        self.peers.iter_mut().find_map(|(id, peer)| core::mem::take(&mut peer.lost).then_some(*id))
    }

    /// The links that were cut since this was last asked and are cut still: what waits for them must go.
    pub(crate) fn discard_for_cut_links(&mut self) -> bool {
        if self.discarded_generation == self.links.generation() {
            return false;
        }
        self.discarded_generation = self.links.generation();
        for (id, peer) in &mut self.peers {
            if self.links.is_cut(Link::Server(*id))
                && let Some(connection) = &mut peer.connection
            {
                connection.discard();
            }
        }
        true
    }

    /// Sends what waits. Returns when the earliest of what is held back is due, and who was lost.
    pub(crate) fn flush(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
    ) -> (Option<Instant>, Vec<(NodeId, CloseReason)>) {
        let (mut due, mut gone) = (None, Vec::new());
        for (id, peer) in &mut self.peers {
            let Some(connection) = &mut peer.connection else { continue };
            match connection.flush(context, now) {
                Next::Rest | Next::Again(None) => {}
                Next::Again(Some(then)) => due = Some(due.map_or(then, |due: Instant| due.min(then))),
                Next::Drop(reason) => {
                    peer.connection = None;
                    peer.lost = true;
                    gone.push((*id, reason));
                }
            }
        }
        (due, gone)
    }

    /// Says something to whom nothing was said, and gives up whom nothing was heard from.
    pub(crate) fn keep_alive(&mut self, now: Instant) -> Vec<(NodeId, CloseReason)> {
        let mut gone = Vec::new();
        for (id, peer) in &mut self.peers {
            let Some(connection) = &mut peer.connection else { continue };
            if let Some(reason) = connection.overdue(now, self.limits.peer_idle_max, self.limits.stall_max) {
                peer.connection = None;
                peer.lost = true;
                gone.push((*id, reason));
            } else if connection.is_silent(now, self.limits.ping_interval) {
                connection.push(Kind::Ping, &());
            }
        }
        gone
    }

    /// This process was stopped for so long that what others said is not read yet: nobody is silent.
    pub(crate) fn forgive(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            if let Some(connection) = &mut peer.connection {
                connection.hear(now);
            }
        }
    }

    /// Tells everybody that this server stops.
    pub(crate) fn close(&mut self, reason: &CloseReason) {
        for connection in self.peers.values_mut().filter_map(|peer| peer.connection.as_mut()) {
            connection.close(reason);
        }
    }
}

/// A pause before dialling again: doubling, and shortened by chance so that servers do not dial in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { next: min, min, max }
    }

    pub(crate) const fn reset(&mut self) {
        self.next = self.min;
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = self.next.saturating_mul(2).min(self.max);
        pause
    }
}
