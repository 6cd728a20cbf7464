//! The transport between servers, held against its contract by the suite that `raft-core` ships.
//!
//! A server's transport is not for others to call, and it need not be: a follower answers its leader's heartbeat with one
//! message that repeats its number, and a request it cannot match, of any term, with one that names it. So "send this
//! message" is to ask server 1, over a socket, for the answer that is that message. Its peers 2 and 3 are this test, on
//! sockets of their own; what they read is what arrived. The other way, what a peer says has arrived at server 1 under
//! the name of whoever is answered.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raft_core::suite::{self, TransportHarness};
use raft_core::{
    AppendEntries, AppendEntriesResponse, Body, Configuration, Entries, Heartbeat, HeartbeatResponse, Incarnation,
    LogIndex, Message, NodeId, Term,
};
use raft_kv::KvMachine;
use raft_net_tcp::frame::{self, FrameReader, Kind};
use raft_net_tcp::handshake::{Hello, PROTOCOL_VERSION, Role};
use raft_net_tcp::{Server, ServerConfig, ServerHandle, Waker};

use crate::cluster::{CLUSTER, PATIENCE};
use crate::disk::Disk;

const SERVER: NodeId = NodeId(1);
const LEADER: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);

/// The term that server 2 leads; server 3 speaks in one before it, and is answered in this one.
const TERM: Term = Term(5);
const OLD: Term = Term(4);

/// A server of the test's own, on a socket.
struct Peer {
    id: NodeId,
    socket: TcpStream,
    frames: FrameReader,
}

impl Peer {
    fn connect(id: NodeId, server: std::net::SocketAddr) -> Self {
        let mut socket = TcpStream::connect(server).unwrap();
        socket.set_nodelay(true).unwrap();
        let (sender, receiver) = (u64::from(id.0), Some(u64::from(SERVER.0)));
        let hello = Hello { version: PROTOCOL_VERSION, cluster: CLUSTER, sender, receiver, role: Role::Server };
        write(&mut socket, Kind::Hello, &hello);
        let mut peer = Self { id, socket, frames: FrameReader::new(frame::PEER_FRAME_BYTES_MAX) };
        let begun = Instant::now();
        while peer.take(|kind, _| kind == Kind::Hello).is_empty() {
            assert!(begun.elapsed() < PATIENCE, "the server says hello");
            peer.read();
        }
        peer
    }

    /// Reads what is there, without waiting.
    fn read(&mut self) {
        let mut bytes = [0; 1 << 16];
        self.socket.set_nonblocking(true).unwrap();
        let read = self.socket.read(&mut bytes);
        self.socket.set_nonblocking(false).unwrap();
        match read {
            Ok(0) => panic!("the server has closed the connection of {}", self.id),
            Ok(count) => self.frames.room().extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{}: {error}", self.id),
        }
    }

    /// What `pick` makes of each whole frame.
    fn take<T: Default + PartialEq>(&mut self, mut pick: impl FnMut(Kind, &[u8]) -> T) -> Vec<T> {
        let mut taken = Vec::new();
        while let Some(frame) = self.frames.next_frame().unwrap() {
            taken.push(pick(frame.kind, frame.body));
        }
        taken.retain(|picked| *picked != T::default());
        taken
    }
}

fn write(socket: &mut TcpStream, kind: Kind, value: &impl serde::Serialize) {
    let mut bytes = Vec::new();
    assert!(frame::encode_into(kind, value, frame::PEER_FRAME_BYTES_MAX, &mut bytes));
    socket.write_all(&bytes).unwrap();
}

/// Server 1 as it is, between two peers that are sockets.
struct Tcp {
    peers: BTreeMap<NodeId, Peer>,
    handle: ServerHandle<Disk, KvMachine>,
    thread: Option<JoinHandle<()>>,
    begun: Instant,
    /// What was said to server 1 under a name, and is not answered yet: by what its answer will say.
    asked: Vec<(NodeId, Message)>,
}

impl Tcp {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Servers with higher ids dial: nothing need be listening at their addresses.
        let addresses: BTreeMap<_, _> = [SERVER, LEADER, OTHER].map(|id| (id, address)).into();
        let mut config = ServerConfig::new(SERVER, CLUSTER, address, addresses);
        // No clock: server 1 only ever answers.
        config.tick = Duration::from_secs(3600);
        let disk = Disk::new(Configuration::new([SERVER, LEADER, OTHER]));
        let server = Server::with_listener(config, listener, disk, KvMachine::default(), Waker::new(), |_| {}).unwrap();
        let handle = server.handle();
        let thread = Some(std::thread::spawn(move || server.run_blocking(std::future::pending()).unwrap()));
        let peers = [LEADER, OTHER].map(|id| (id, Peer::connect(id, address))).into();
        let mut tcp = Self { peers, handle, thread, begun: Instant::now(), asked: Vec::new() };
        // It follows server 2 before anything else is asked.
        tcp.ask(LEADER, LEADER, Body::Heartbeat(Heartbeat { leader_commit: LogIndex(0), round: 0 }));
        while tcp.receive().is_empty() {
            assert!(tcp.begun.elapsed() < PATIENCE, "the server answers");
        }
        tcp
    }

    /// Says something to server 1 on the connection of `by`, in the name of `from`.
    fn ask(&mut self, by: NodeId, from: NodeId, body: Body) {
        let term = if by == LEADER { TERM } else { OLD };
        let message = Message { from, to: SERVER, term, body };
        write(&mut self.peers.get_mut(&by).unwrap().socket, Kind::Message, &message);
        self.asked.push((by, message));
    }

    /// What was asked that `answer`, read by `at`, answers: it has arrived at server 1 as a message from `at`.
    fn answered(&mut self, at: NodeId, answer: &Message) -> Option<Message> {
        let asked = self.asked.iter().position(|(_, asked)| answer_to(&asked.body) == Some(answer.body.clone()))?;
        let (_, message) = self.asked.swap_remove(asked);
        Some(Message { from: at, ..message })
    }
}

/// What server 1 says to this.
fn answer_to(body: &Body) -> Option<Body> {
    match body {
        Body::Heartbeat(request) => {
            Some(Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round: request.round }))
        }
        Body::AppendEntries(AppendEntries { prev_log_index, .. }) => {
            let (prev_log_index, hint_index, hint_term) = (*prev_log_index, LogIndex(0), Term(0));
            Some(Body::AppendEntriesResponse(
                Incarnation::UNKNOWN,
                AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term },
            ))
        }
        _ => None,
    }
}

/// What server 1 must be asked for it to say this.
fn question_for(body: &Body) -> Body {
    match body {
        Body::HeartbeatResponse(_, HeartbeatResponse { round }) => {
            Body::Heartbeat(Heartbeat { leader_commit: LogIndex(0), round: *round })
        }
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Rejected { prev_log_index, .. }) => {
            let (prev_log_index, prev_log_term) = (*prev_log_index, TERM);
            let (prev_log_hash, leader_commit, entries) = (None, LogIndex(0), Entries::default());
            let request = AppendEntries { prev_log_index, prev_log_term, prev_log_hash, leader_commit, entries };
            Body::AppendEntries(request)
        }
        other => other.clone(),
    }
}

impl TransportHarness for Tcp {
    fn routes(&self) -> Vec<(NodeId, NodeId)> {
        vec![(SERVER, LEADER), (SERVER, OTHER), (LEADER, SERVER), (OTHER, SERVER)]
    }

    fn message(&mut self, from: NodeId, to: NodeId, number: u64) -> Message {
        // What answers an old term's heartbeat repeats no number.
        let answer = if number.is_multiple_of(2) && ![from, to].contains(&OTHER) {
            Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round: number })
        } else {
            let (prev_log_index, hint_index, hint_term) = (LogIndex(number), LogIndex(0), Term(0));
            Body::AppendEntriesResponse(
                Incarnation::UNKNOWN,
                AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term },
            )
        };
        if from == SERVER {
            return Message { from, to, term: TERM, body: answer };
        }
        let term = if from == LEADER { TERM } else { OLD };
        Message { from, to, term, body: question_for(&answer) }
    }

    fn send(&mut self, by: NodeId, message: Message) {
        if by == SERVER {
            let question = question_for(&message.body);
            let peer = &mut self.peers.get_mut(&message.to).unwrap().socket;
            let term = if message.to == LEADER { TERM } else { OLD };
            write(peer, Kind::Message, &Message { from: message.to, to: SERVER, term, body: question });
        } else {
            self.ask(by, message.from, message.body);
        }
    }

    fn receive(&mut self) -> Vec<(NodeId, Message)> {
        let mut arrived = Vec::new();
        for id in [LEADER, OTHER] {
            let peer = self.peers.get_mut(&id).unwrap();
            peer.read();
            let decode = |kind, body: &[u8]| (kind == Kind::Message).then(|| decoded(body));
            for message in peer.take(decode).into_iter().flatten() {
                match self.answered(id, &message) {
                    Some(question) => arrived.push((SERVER, question)),
                    None => arrived.push((id, message)),
                }
            }
        }
        if arrived.is_empty() {
            std::thread::sleep(Duration::from_micros(100));
        }
        arrived
    }

    fn clock(&self) -> Duration {
        self.begun.elapsed()
    }
}

fn decoded(body: &[u8]) -> Message {
    bincode::serde::decode_from_slice(body, bincode::config::legacy()).unwrap().0
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.handle.stop();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[test]
fn a_server_s_transport_keeps_its_contract() {
    suite::transport(Tcp::new());
}
