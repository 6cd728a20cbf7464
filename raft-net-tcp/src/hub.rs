//! What a server's tasks share: the replica, the connections, and the turn of the loop that drains one into the other.
//!
//! ```text
//!   reading tasks ──> on_peer_bytes, on_client_bytes ──> Replica ──> Peers (messages, at once)
//!   clock task ─────> tick                                  │
//!   storage ────────> waker                                 │
//!                        └──> turn: poll, replies, notices, flush every socket that has something to say
//! ```
//!
//! Reading tasks only wake the turn. It runs after every one of them that was ready, so that what arrived together is
//! proposed, written and sent together.

use std::task::Context;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::{LogIndex, NodeId, Outcome, Refusal, Replica, Reply, StateMachine, Storage, StorageError};

use crate::clients::{Clients, Closed};
use crate::codec;
use crate::config::ServerConfig;
use crate::connection::{Connection, ConnectionId};
use crate::frame::{CLIENT_FRAME_BYTES_MAX, Frame, FrameReader, Kind, PEER_FRAME_BYTES_MAX};
use crate::handshake::{Guest, Role};
use crate::links::Link;
use crate::notice::{Notice, NoticeSink};
use crate::output::{Output, Queue};
use crate::peers::Peers;
use crate::protocol::{Blocks, CloseReason, Request, RequestBody, ResponseBody, ServerStatus};
use crate::waker::Waker;

mod asked;
mod members;
mod proofs;

pub(crate) use asked::Ask;
use asked::Asked;
use members::Members;
use proofs::Proofs;

/// See the module.
pub(crate) struct Hub<S, M> {
    pub(crate) replica: Replica<S, Peers, M>,
    pub(crate) config: ServerConfig,
    pub(crate) waker: Waker,
    clients: Clients,
    asked: Asked,
    members: Members,
    pub(crate) proofs: Proofs<S>,
    notices: NoticeSink,
    last_connection: u64,
    last_tick: Option<Instant>,
    ticks: u64,
}

impl<S: Storage, M: StateMachine> Hub<S, M> {
    pub(crate) fn new(config: ServerConfig, replica: Replica<S, Peers, M>, waker: Waker, notices: NoticeSink) -> Self {
        let clients = Clients::new(config.connections);
        let (asked, members, proofs) = (Asked::default(), Members::default(), Proofs::default());
        let (last_connection, last_tick, ticks) = (0, None, 0);
        let mut hub = Self {
            replica,
            config,
            waker,
            clients,
            asked,
            members,
            proofs,
            notices,
            last_connection,
            last_tick,
            ticks,
        };
        hub.meet_members();
        hub
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.config.raft.id
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        (self.notices)(notice);
    }

    pub(crate) fn status(&mut self) -> ServerStatus {
        let status = self.replica.status();
        let peers = self.replica.transport_mut();
        let (connected, cut) = (peers.connected().collect(), peers.links().iter().collect());
        ServerStatus::new(&status, self.members.carried(), connected, cut, self.config.remarks.clone(), |id| {
            self.address_of(&status.configuration, id)
        })
    }
}

// Connections come and go.
impl<S: Storage, M: StateMachine> Hub<S, M> {
    /// Takes the sending half of a connection whose handshake has agreed.
    pub(crate) fn connect(&mut self, guest: Guest, socket: tokio::net::tcp::OwnedWriteHalf) -> ConnectionId {
        let limits = &self.config.connections;
        let (frame_bytes_max, budget_bytes) = match guest {
            Guest::Server(_) => (PEER_FRAME_BYTES_MAX, limits.peer_queue_bytes_max),
            Guest::Client(_) | Guest::Admin(_) => (CLIENT_FRAME_BYTES_MAX, limits.client_queue_bytes_max),
        };
        let output = Output::new(socket, Queue::new(self.config.delay, frame_bytes_max, budget_bytes));
        self.last_connection = self.last_connection.saturating_add(1);
        let id = ConnectionId { number: self.last_connection, slot: self.clients.next_slot() };
        let connection = Connection::new(id, output, Instant::now());
        match guest {
            Guest::Server(peer) => {
                self.replica.transport_mut().connect(peer, connection);
                self.notice(Notice::PeerConnected(peer));
                // It may have been removed while it shook hands.
                self.close_strangers();
            }
            Guest::Client(name) => self.clients.connect(name, Role::Client, connection),
            Guest::Admin(name) => self.clients.connect(name, Role::Admin, connection),
        }
        self.waker.wake();
        id
    }

    /// The loop's side of a connection, while it lasts.
    pub(crate) fn connection_mut(&mut self, guest: Guest, id: ConnectionId) -> Option<&mut Connection> {
        match guest {
            Guest::Server(peer) => self.replica.transport_mut().connection_mut(peer, id),
            Guest::Client(_) | Guest::Admin(_) => self.clients.connection_mut(id),
        }
    }

    /// The other side has closed the connection, or the network did.
    pub(crate) fn disconnect(&mut self, guest: Guest, id: ConnectionId, reason: CloseReason) {
        match guest {
            Guest::Server(peer) => {
                if self.replica.transport_mut().disconnect(peer, id) {
                    self.notice(Notice::PeerLost(peer, reason));
                }
            }
            Guest::Client(_) | Guest::Admin(_) => self.clients.disconnect(id),
        }
        self.waker.wake();
    }

    /// What was read cannot be taken: says why, and closes once that is sent.
    pub(crate) fn close(&mut self, guest: Guest, id: ConnectionId, reason: &CloseReason) {
        match guest {
            Guest::Server(peer) => {
                if let Some(connection) = self.replica.transport_mut().connection_mut(peer, id) {
                    connection.close(reason);
                }
            }
            Guest::Client(_) | Guest::Admin(_) => {
                let closed = self.clients.close(id, reason);
                self.notice_closed(closed);
            }
        }
        self.waker.wake();
    }

    /// Says goodbye to everybody.
    pub(crate) fn close_all(&mut self) {
        self.replica.transport_mut().close(&CloseReason::ShuttingDown);
        self.clients.close_all(&CloseReason::ShuttingDown);
        self.waker.wake();
    }

    /// Asks a connected server to lead, where this one does.
    pub(crate) fn hand_over(&mut self) {
        self.replica.hand_over();
        self.waker.wake();
    }

    /// Whether this server still leads and somebody is to take over.
    pub(crate) fn is_handing_over(&self) -> bool {
        self.replica.status().transfer.is_some()
    }

    /// Whether nobody is connected.
    pub(crate) fn is_deserted(&mut self) -> bool {
        self.clients.is_empty() && self.replica.transport_mut().connected().next().is_none()
    }

    fn notice_closed(&mut self, closed: impl IntoIterator<Item = Closed>) {
        for (name, reason) in closed {
            self.notice(Notice::ClientClosed(name, reason));
        }
    }

    fn notice_lost(&mut self, lost: Vec<(NodeId, CloseReason)>) {
        for (peer, reason) in lost {
            self.notice(Notice::PeerLost(peer, reason));
        }
    }
}

// What arrives.
impl<S: Storage, M: StateMachine> Hub<S, M> {
    /// Takes every whole frame that has arrived on a connection.
    ///
    /// # Errors
    /// The connection must close, for this reason.
    pub(crate) fn on_bytes(
        &mut self,
        guest: Guest,
        id: ConnectionId,
        frames: &mut FrameReader,
    ) -> Result<(), CloseReason> {
        if let Some(connection) = self.connection_mut(guest, id) {
            connection.hear(Instant::now());
        }
        self.waker.wake();
        while let Some(frame) = frames.next_frame().map_err(malformed)? {
            match (guest, frame.kind) {
                (Guest::Server(peer), Kind::Message) => self.on_message(peer, frame)?,
                (Guest::Client(_) | Guest::Admin(_), Kind::Request) => self.on_request(guest, id, frame.body)?,
                (_, Kind::Ping) => {}
                (_, Kind::Goodbye) => return Err(codec::decode(frame.body).map_err(malformed)?),
                _ => return Err(CloseReason::NotAllowed),
            }
        }
        Ok(())
    }

    fn on_message(&mut self, peer: NodeId, frame: Frame<'_>) -> Result<(), CloseReason> {
        let mut message = crate::message::read(frame).map_err(malformed)?;
        if !self.replica.transport_mut().links().is_cut(Link::Server(peer)) {
            // Contract 3 of a transport: who speaks is who has shaken hands.
            message.from = peer;
            self.replica.receive(message);
        }
        Ok(())
    }

    fn on_request(&mut self, guest: Guest, id: ConnectionId, body: &[u8]) -> Result<(), CloseReason> {
        let Request { number, body } = codec::decode(body).map_err(malformed)?;
        let is_cut = |link| self.replica.transport_mut().links().is_cut(link);
        if self.clients.link(id).is_none_or(is_cut) {
            return Ok(());
        }
        let response = match body {
            RequestBody::Status => ResponseBody::Status(Box::new(self.status())),
            RequestBody::Blocks { first, last } if matches!(guest, Guest::Admin(_)) => {
                ResponseBody::Blocks(self.blocks(first, last))
            }
            RequestBody::Blocks { .. } => return Err(CloseReason::NotAllowed),
            RequestBody::AddMember { .. } | RequestBody::RemoveMember { .. } => self.on_change(guest, &body)?,
            RequestBody::Submit(command) => match self.clients.begin(id, number) {
                Some(request) => {
                    self.replica.submit(request, command);
                    return Ok(());
                }
                None => ResponseBody::Refused(Refusal::Busy),
            },
            RequestBody::Query(query) => match self.clients.begin(id, number) {
                Some(request) => {
                    self.replica.query(request, Bytes::copy_from_slice(query));
                    return Ok(());
                }
                None => ResponseBody::Refused(Refusal::Busy),
            },
            RequestBody::Head | RequestBody::ProveBlock { .. } | RequestBody::ProvePrefix { .. } => {
                match self.clients.begin(id, number) {
                    Some(request) => {
                        self.proofs.ask(request, &body);
                        return Ok(());
                    }
                    None => ResponseBody::Refused(Refusal::Busy),
                }
            }
        };
        let closed = self.clients.respond(id, number, response, self.replica.transport_mut().links());
        self.notice_closed(closed);
        Ok(())
    }

    /// Entries for a server that mends its log: it checks them by hash, so they need not be committed.
    fn blocks(&self, first: LogIndex, last: LogIndex) -> Blocks {
        let node = self.replica.node();
        let (storage, commit_index) = (node.storage(), node.commit_index());
        let end = storage.last_index();
        match storage.entries(first, last.min(end), BLOCKS_BYTES) {
            _ if self.replica.is_halted() => Blocks::Unable,
            _ if first > end => Blocks::Behind { last: end },
            Ok(entries) => Blocks::Held { entries, commit_index },
            Err(StorageError::Compacted { first, .. }) => Blocks::Compacted { first },
            Err(_) => Blocks::Unable,
        }
    }

    /// One tick has passed, or more while the process was stopped: those are not made up for.
    pub(crate) fn tick(&mut self, now: Instant) {
        let limits = self.config.connections;
        let since = self.last_tick.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last_tick = Some(now);
        self.replica.tick();
        if since > limits.ping_interval {
            self.replica.transport_mut().forgive(now);
        }
        let lost = self.replica.transport_mut().keep_alive(now);
        self.notice_lost(lost);
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks.is_multiple_of(CLIENT_CHECK_TICKS) {
            let expired = self.clients.expire(now);
            self.notice_closed(expired);
        }
        self.waker.wake();
    }
}

// What leaves.
impl<S: Storage, M: StateMachine> Hub<S, M> {
    /// Drains the replica and flushes every socket that has something to say. Returns when to do so again, if nothing
    /// happens before.
    pub(crate) fn turn(&mut self, context: &mut Context<'_>) -> Option<Instant> {
        self.replica.poll();
        while let Some(peer) = self.replica.transport_mut().next_lost() {
            self.replica.unreachable(peer);
        }
        if self.replica.transport_mut().discard_for_cut_links() {
            self.clients.discard_for_cut_links(self.replica.transport_mut().links());
        }
        // Before the answers are put together: meanwhile the others' disks work.
        self.flush_peers(context);
        let mut answered = 0_usize;
        while answered < TURN_BYTES_MAX
            && let Some(reply) =
                self.replica.next_reply_if(|request| self.clients.awaits(request) || self.asked.awaits(request))
        {
            answered = answered.saturating_add(self.respond(reply));
        }
        if answered >= TURN_BYTES_MAX {
            self.waker.wake();
        }
        self.take_notices();
        self.resume_change();
        self.prove();
        let peers_due = self.flush_peers(context);
        let clients_due = self.clients.flush(context, Instant::now());
        [peers_due, clients_due].into_iter().flatten().min()
    }

    fn flush_peers(&mut self, context: &mut Context<'_>) -> Option<Instant> {
        let (due, lost) = self.replica.transport_mut().flush(context, Instant::now());
        self.notice_lost(lost);
        due
    }

    /// Sends a reply; returns its bytes.
    fn respond(&mut self, Reply { request, outcome }: Reply) -> usize {
        let bytes = match &outcome {
            Outcome::Applied { reply, .. } | Outcome::Answered { reply, .. } => reply.len(),
            Outcome::Refused(_) | Outcome::Unknown => 0,
        };
        let body = match outcome {
            Outcome::Applied { position, reply } => ResponseBody::Applied {
                index: position.index,
                term: position.term,
                hash: position.digest,
                number: position.number,
                reply,
            },
            Outcome::Answered { index, reply, .. } => {
                let hash = self.replica.node().digest(index).ok().flatten();
                ResponseBody::Answered { index, hash, reply }
            }
            Outcome::Refused(refusal) => ResponseBody::Refused(refusal),
            Outcome::Unknown => ResponseBody::Unknown,
        };
        if let Some(body) = self.asked.answer(request, body) {
            let closed = self.clients.finish(request, body, self.replica.transport_mut().links());
            self.notice_closed(closed);
        }
        bytes
    }
}

fn malformed(error: impl std::fmt::Display) -> CloseReason {
    CloseReason::Malformed { what: error.to_string() }
}

/// Replies of one turn, in bytes: more of them wait for the next, so that clients who ask for much at once do not keep
/// the loop from its heartbeats.
const TURN_BYTES_MAX: usize = 4 << 20;

/// Blocks in one response, in bytes: with one more of the largest there are they fit into a frame.
const BLOCKS_BYTES: usize = 512 << 10;

/// How often clients are looked at for those who are gone.
const CLIENT_CHECK_TICKS: u64 = 25;
