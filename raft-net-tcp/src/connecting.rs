//! How connections come about, from either side, and the task that reads each: accept or dial, shake hands, read.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use raft_core::{NodeId, StateMachine, Storage};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::connection::ConnectionId;
use crate::frame::{CLIENT_FRAME_BYTES_MAX, FrameReader, HANDSHAKE_FRAME_BYTES_MAX, Kind, PEER_FRAME_BYTES_MAX};
use crate::handshake::{self, Guest, HandshakeError, HandshakeRefusal, Hello, PROTOCOL_VERSION, Role};
use crate::hub::Hub;
use crate::notice::Notice;
use crate::peers::Backoff;
use crate::protocol::CloseReason;

/// What a server's tasks share.
pub(crate) type Shared<S, M> = Rc<RefCell<Hub<S, M>>>;

/// Accepts connections. Those that have not said who they are have a budget of their own, of which the oldest makes
/// room: a flood of them cannot keep a server out (fault N7).
pub(crate) async fn accept<S: Storage + 'static, M: StateMachine + 'static>(hub: Shared<S, M>, listener: TcpListener) {
    let handshakes_max = hub.borrow().config.connections.handshakes_max;
    let mut greetings = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                greetings.retain(|greeting: &JoinHandle<()>| !greeting.is_finished());
                if greetings.len() >= handshakes_max
                    && let Some(oldest) = greetings.pop_front()
                {
                    oldest.abort();
                }
                greetings.push_back(spawn_local(greet(hub.clone(), socket, from)));
            }
            Err(error) => {
                // Out of file descriptors, as a rule: to try again at once would only burn the processor.
                hub.borrow_mut().notice(Notice::AcceptFailed(error.to_string()));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn greet<S: Storage + 'static, M: StateMachine + 'static>(
    hub: Shared<S, M>,
    mut socket: TcpStream,
    from: SocketAddr,
) {
    let deadline = hub.borrow().config.connections.handshake_deadline;
    let mut frames = FrameReader::new(HANDSHAKE_FRAME_BYTES_MAX);
    let welcomed = timeout(deadline, welcome(&hub, &mut socket, &mut frames)).await;
    match welcomed.unwrap_or(Err(HandshakeError::Deadline)) {
        Ok(guest) => {
            serve(&hub, guest, socket, frames);
        }
        Err(error) => hub.borrow_mut().notice(Notice::Refused { from, reason: error.to_string() }),
    }
}

async fn welcome<S: Storage, M: StateMachine>(
    hub: &Shared<S, M>,
    socket: &mut TcpStream,
    frames: &mut FrameReader,
) -> Result<Guest, HandshakeError> {
    socket.set_nodelay(true)?;
    let hello = handshake::hear(socket, frames).await?;
    let this = hub.borrow().id();
    let admitted = hub.borrow_mut().admit(&hello);
    match admitted {
        Ok(guest) => {
            handshake::send(socket, Kind::Hello, &hello.answer(this)).await?;
            Ok(guest)
        }
        Err(refusal) => handshake::refuse(socket, refusal).await,
    }
}

/// Keeps a connection to every other member, as the members change.
pub(crate) async fn dial_members<S: Storage + 'static, M: StateMachine + 'static>(hub: Shared<S, M>) {
    let mut dialling: BTreeMap<NodeId, (String, JoinHandle<()>)> = BTreeMap::new();
    loop {
        let (wanted, changed) = hub.borrow().addresses();
        dialling.retain(|peer, (address, task)| {
            let stays = wanted.get(peer) == Some(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for (peer, address) in wanted {
            if let Entry::Vacant(free) = dialling.entry(peer) {
                let task = spawn_local(dial(hub.clone(), peer, address.clone()));
                free.insert((address, task));
            }
        }
        changed.notified().await;
    }
}

/// Keeps a connection to one server, for ever. The higher id dials first: the other one only where that takes so long
/// that it may not know of this one.
async fn dial<S: Storage + 'static, M: StateMachine + 'static>(hub: Shared<S, M>, peer: NodeId, address: String) {
    let (this, limits) = (hub.borrow().id(), hub.borrow().config.connections);
    let mut backoff = Backoff::new(limits.redial_min, limits.redial_max);
    let mut told = None;
    loop {
        if !hub.borrow_mut().is_connected(peer) && peer > this {
            sleep(limits.redial_max.saturating_mul(2)).await;
        }
        if hub.borrow_mut().is_connected(peer) {
            sleep(limits.redial_max).await;
            continue;
        }
        let reached = timeout(limits.handshake_deadline, reach(&hub, peer, &address)).await;
        match reached.unwrap_or(Err(HandshakeError::Deadline)) {
            Ok((socket, frames)) => {
                told = None;
                backoff.reset();
                // How it ended, the hub knows.
                drop(serve(&hub, Guest::Server(peer), socket, frames).await);
            }
            Err(error) => {
                let reason = error.to_string();
                if told.as_ref() != Some(&reason) {
                    hub.borrow_mut().notice(Notice::PeerUnreachable { peer, reason: reason.clone() });
                    told = Some(reason);
                }
                if matches!(error, HandshakeError::Refused(HandshakeRefusal::UnknownServer { .. })) {
                    sleep(UNKNOWN_PAUSE).await;
                }
            }
        }
        sleep(backoff.pause()).await;
    }
}

async fn reach<S: Storage, M: StateMachine>(
    hub: &Shared<S, M>,
    peer: NodeId,
    address: &str,
) -> Result<(TcpStream, FrameReader), HandshakeError> {
    let hello = Hello {
        version: PROTOCOL_VERSION,
        cluster: hub.borrow().config.cluster,
        sender: u64::from(hub.borrow().id().0),
        receiver: Some(u64::from(peer.0)),
        role: Role::Server,
    };
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut frames = FrameReader::new(HANDSHAKE_FRAME_BYTES_MAX);
    handshake::dial(&mut socket, &mut frames, &hello).await?;
    Ok((socket, frames))
}

/// Hands a connection whose handshake has agreed to the hub, and starts to read it.
fn serve<S: Storage + 'static, M: StateMachine + 'static>(
    hub: &Shared<S, M>,
    guest: Guest,
    socket: TcpStream,
    mut frames: FrameReader,
) -> JoinHandle<()> {
    frames.set_cap(match guest {
        Guest::Server(_) => PEER_FRAME_BYTES_MAX,
        Guest::Client(_) | Guest::Admin(_) => CLIENT_FRAME_BYTES_MAX,
    });
    let (reading, writing) = socket.into_split();
    let id = hub.borrow_mut().connect(guest, writing);
    let reader = spawn_local(read(hub.clone(), guest, id, reading, frames));
    if let Some(connection) = hub.borrow_mut().connection_mut(guest, id) {
        connection.set_reader(reader.abort_handle());
    }
    reader
}

async fn read<S: Storage, M: StateMachine>(
    hub: Shared<S, M>,
    guest: Guest,
    id: ConnectionId,
    mut socket: OwnedReadHalf,
    mut frames: FrameReader,
) {
    let what = loop {
        // What came right behind the hello is there before the first read.
        let taken = hub.borrow_mut().on_bytes(guest, id, &mut frames);
        if let Err(reason) = taken {
            hub.borrow_mut().close(guest, id, &reason);
            drop(timeout(LINGER, discard(socket)).await);
            return;
        }
        match socket.read_buf(frames.room()).await {
            Ok(0) => break "by the other side".into(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    hub.borrow_mut().disconnect(guest, id, CloseReason::Closed { what });
}

/// Reads on, for a socket that is closed with bytes unread takes back what it has sent: our goodbye.
pub(crate) async fn discard(mut socket: impl AsyncRead + Unpin) {
    let mut scratch = [0; 4096];
    while socket.read(&mut scratch).await.is_ok_and(|count| count > 0) {}
}

/// How long a server rests that is no member where it has dialled: nobody waits for it there.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);

/// How long accepting rests after a failure.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection is read, and what is read thrown away, after our goodbye.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
