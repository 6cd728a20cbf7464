//! The other servers: [`Transport`] over at most one connection to each.
//!
//! Of two servers the one with the higher id dials first, and the other only where that takes too long (the first may
//! not know it yet), so that there is one connection between them and no two that meet half-way. It carries messages
//! both ways. A new one takes the place of the old one: the old one is dead, or the other side would not have dialled.
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
            peer.lost |= peer.connection.as_mut().is_none_or(|connection| !connection.push_message(&message));
        }
    }
}

impl Peers {
    /// Nobody is a peer yet.
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { links: LinkFaults::default(), peers: BTreeMap::new(), limits, discarded_generation: 0 }
    }

    /// From now on these are the peers; others stay only while they are connected, and only if `strangers` may. Answers
    /// whose connections were closed.
    pub(crate) fn keep(&mut self, ids: &[NodeId], strangers: bool) -> Vec<NodeId> {
        let mut closed = Vec::new();
        self.peers.retain(|id, peer| {
            let stays = ids.contains(id) || (strangers && peer.connection.is_some());
            if !stays && peer.connection.is_some() {
                closed.push(*id);
            }
            stays
        });
        for id in ids {
            self.peers.entry(*id).or_default();
        }
        closed
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
        let peer = self.peers.entry(id).or_default();
        peer.lost |= peer.connection.replace(connection).is_some();
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use raft_core::{Body, Entry, LogIndex, Payload, Term};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::frame::PEER_FRAME_BYTES_MAX;
    use crate::output::{Output, Queue};

    const PEER: NodeId = NodeId(2);
    const BUDGET: usize = 1 << 20;

    fn message(bytes: usize) -> Message {
        let payload = Payload::Command(vec![7; bytes].into());
        let entries = [Entry { index: LogIndex(1), term: Term(1), payload }].into();
        let (prev_log_index, prev_log_term, leader_commit) = (LogIndex(0), Term(0), LogIndex(0));
        let append =
            raft_core::AppendEntries { prev_log_index, prev_log_term, prev_log_hash: None, leader_commit, entries };
        Message { from: NodeId(1), to: PEER, term: Term(1), body: Body::AppendEntries(append) }
    }

    fn peers() -> Peers {
        let mut peers = Peers::new(ConnectionLimits::default());
        assert_eq!(peers.keep(&[PEER], false), []);
        peers
    }

    async fn connected() -> (Peers, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let (reading, writing) = near.into_split();
        std::mem::forget(reading);
        let output = Output::new(writing, Queue::new(Duration::ZERO, PEER_FRAME_BYTES_MAX, BUDGET));
        let mut peers = peers();
        peers.connect(PEER, Connection::new(ConnectionId { number: 1, slot: 0 }, output, Instant::now()));
        (peers, far)
    }

    async fn flush(peers: &mut Peers, now: Instant) -> Vec<(NodeId, CloseReason)> {
        poll_fn(|context| Poll::Ready(peers.flush(context, now).1)).await
    }

    #[tokio::test]
    async fn n5_a_server_that_does_not_read_costs_its_budget_and_is_given_up() {
        let (mut peers, _far) = connected().await;
        let now = Instant::now();
        let mut rounds = 0;
        while peers.next_lost().is_none() {
            peers.send(message(100_000));
            assert!(flush(&mut peers, now).await.is_empty());
            rounds += 1;
            assert!(rounds < 1000, "the socket and the budget take no more than this");
        }
        let waiting = peers.peers.get_mut(&PEER).unwrap().connection.as_mut().unwrap().waiting_bytes();
        assert!((BUDGET / 2..=BUDGET).contains(&waiting), "{waiting}");
        let later = now + ConnectionLimits::default().stall_max + Duration::from_secs(1);
        assert_eq!(peers.keep_alive(later), [(PEER, CloseReason::TooSlow)]);
        assert_eq!((peers.next_lost(), peers.next_lost()), (Some(PEER), None));
    }

    #[tokio::test]
    async fn what_waits_for_a_link_that_is_cut_is_thrown_away_once() {
        let (mut peers, _far) = connected().await;
        peers.send(message(10));
        peers.links_mut().cut(Link::Server(PEER)).unwrap();
        assert!(peers.discard_for_cut_links());
        peers.send(message(10));
        let connection = peers.peers.get_mut(&PEER).unwrap().connection.as_mut().unwrap();
        assert_eq!(connection.waiting_bytes(), 0);
        assert!(!peers.discard_for_cut_links());
        assert_eq!(peers.next_lost(), None, "a broken link says so to nobody");
    }

    #[test]
    fn without_a_connection_a_message_is_lost_and_that_is_told() {
        let mut peers = peers();
        peers.send(message(10));
        assert_eq!((peers.next_lost(), peers.next_lost()), (Some(PEER), None));
    }

    #[tokio::test]
    async fn a_stranger_stays_while_it_is_connected_and_may() {
        let (mut peers, _far) = connected().await;
        let other = NodeId(3);
        assert_eq!(peers.keep(&[other], true), []);
        assert_eq!(peers.connected().collect::<Vec<_>>(), [PEER]);
        assert_eq!(peers.keep(&[other], false), [PEER]);
        assert_eq!(peers.connected().count(), 0);
        peers.send(message(10));
        assert_eq!(peers.next_lost(), None, "what is for a stranger is nobody's loss");
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again() {
        let (min, max) = (Duration::from_millis(20), Duration::from_millis(150));
        let mut backoff = Backoff::new(min, max);
        for expected in [20, 40, 80, 150, 150] {
            let (pause, expected) = (backoff.pause(), Duration::from_millis(expected));
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= min);
    }
}
