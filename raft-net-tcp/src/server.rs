//! A server: one replica behind TCP, on one thread.
//!
//! ```no_run
//! # fn storage(_: raft_net_tcp::Waker) -> raft_core::MemStorage { raft_core::MemStorage::new(raft_core::Configuration::new([])) }
//! use std::collections::BTreeMap;
//!
//! use raft_core::NodeId;
//! use raft_kv::KvMachine;
//! use raft_net_tcp::{Server, ServerConfig, Waker};
//!
//! let peers = BTreeMap::from([(NodeId(2), ([127, 0, 0, 1], 8002).into())]);
//! let config = ServerConfig::new(NodeId(1), [7; 16], ([127, 0, 0, 1], 8001).into(), peers);
//! let waker = Waker::new();
//! let storage = storage(waker.clone());
//! let server = Server::bind(config, storage, KvMachine::default(), waker, |notice| println!("{notice}"))?;
//! server.run_blocking(std::future::pending())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use raft_core::{NodeId, Replica, StartError, StateMachine, Storage};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::config::ServerConfig;
use crate::connection::ConnectionId;
use crate::control::{Control, Job, ServerHandle};
use crate::frame::{CLIENT_FRAME_BYTES_MAX, FrameReader, HANDSHAKE_FRAME_BYTES_MAX, Kind, PEER_FRAME_BYTES_MAX};
use crate::handshake::{self, Guest, HandshakeError, Hello, PROTOCOL_VERSION, Role};
use crate::hub::Hub;
use crate::notice::Notice;
use crate::peers::{Backoff, Peers};
use crate::protocol::CloseReason;
use crate::waker::Waker;

/// A server that listens, and is not running yet.
pub struct Server<S, M> {
    hub: Hub<S, M>,
    listener: StdListener,
    address: SocketAddr,
    handle: ServerHandle<S, M>,
    jobs: mpsc::Receiver<Job<S, M>>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("port {} is in use: is this server running already? (address {address})", address.port())]
    AddressInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// A tick of no length.
    #[error("the tick must be longer than 0")]
    ZeroTick,
    /// The replica cannot start.
    #[error("{0}")]
    Start(#[from] StartError),
}

impl<S: Storage + 'static, M: StateMachine + 'static> Server<S, M> {
    /// Listens on the configured address. `machine` is empty; `waker` is the one whose clone `storage` wakes when a
    /// write has become durable; `notices` is called on the loop and must not block.
    ///
    /// # Errors
    /// The address is taken or cannot be listened on, or the replica cannot start.
    pub fn bind(
        config: ServerConfig,
        storage: S,
        machine: M,
        waker: Waker,
        notices: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Self, BindError> {
        let address = config.listen;
        let listener = StdListener::bind(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::AddressInUse { address },
            _ => BindError::Listen { address, source },
        })?;
        Self::with_listener(config, listener, storage, machine, waker, notices)
    }

    /// As [`bind`](Self::bind), on a listener that exists already: its address counts, not the configured one.
    ///
    /// # Errors
    /// The listener cannot be used, or the replica cannot start.
    pub fn with_listener(
        mut config: ServerConfig,
        listener: StdListener,
        storage: S,
        machine: M,
        waker: Waker,
        notices: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Self, BindError> {
        if config.tick.is_zero() {
            return Err(BindError::ZeroTick);
        }
        let listen = |source| BindError::Listen { address: config.listen, source };
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        config.peers.remove(&config.raft.id);
        let peers = Peers::new(config.peers.keys().copied(), config.connections);
        let replica = Replica::new(config.raft.clone(), config.requests, storage, peers, machine)?;
        let (handle, jobs) = ServerHandle::new();
        let hub = Hub::new(config, replica, waker, Box::new(notices));
        Ok(Self { hub, listener, address, handle, jobs })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle by which other threads run commands on the loop.
    #[must_use]
    pub fn handle(&self) -> ServerHandle<S, M> {
        self.handle.clone()
    }

    /// Wakes the loop of this server.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.hub.waker.clone()
    }

    /// Serves until `shutdown` is done, or [`ServerHandle::stop`] is called. Then it accepts no more, lets the storage
    /// finish what it has begun, says goodbye and drops the storage.
    ///
    /// For a current-thread runtime with I/O and time: all of it runs on the calling task.
    ///
    /// # Errors
    /// The runtime does not take the listener.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { hub, listener, handle, jobs, .. } = self;
        let listener = TcpListener::from_std(listener)?;
        let hub = Rc::new(RefCell::new(hub));
        let tasks = LocalSet::new();
        tasks
            .run_until(async move {
                let accepting = start(&hub, listener, jobs);
                let mut shutdown = pin!(shutdown);
                let mut stopped = pin!(handle.stopped());
                poll_fn(|context| {
                    if shutdown.as_mut().poll(context).is_ready() {
                        Poll::Ready(())
                    } else {
                        stopped.as_mut().poll(context)
                    }
                })
                .await;
                accepting.abort();
                settle(&hub).await;
            })
            .await;
        Ok(())
    }

    /// [`run`](Self::run) on a runtime of its own, on this thread.
    ///
    /// # Errors
    /// There is no runtime to be had.
    pub fn run_blocking(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.run(shutdown))
    }
}

type Shared<S, M> = Rc<RefCell<Hub<S, M>>>;

/// Starts every task of a server; returns the one that accepts.
fn start<S: Storage + 'static, M: StateMachine + 'static>(
    hub: &Shared<S, M>,
    listener: TcpListener,
    jobs: mpsc::Receiver<Job<S, M>>,
) -> JoinHandle<()> {
    spawn_local(turns(hub.clone()));
    spawn_local(clock(hub.clone()));
    spawn_local(run_jobs(hub.clone(), jobs));
    let this = hub.borrow().id();
    for (peer, address) in hub.borrow().config.peers.range(..this) {
        spawn_local(dial(hub.clone(), *peer, *address));
    }
    spawn_local(accept(hub.clone(), listener))
}

/// Turns the loop whenever it is woken: by a reading task, the clock, the storage, a socket that takes more, or a delay
/// that is over.
async fn turns<S: Storage, M: StateMachine>(hub: Shared<S, M>) {
    let waker = hub.borrow().waker.clone();
    let mut woken = pin!(waker.woken());
    let mut held = pin!(sleep(Duration::ZERO));
    poll_fn(|context| {
        while woken.as_mut().poll(context).is_ready() {
            woken.set(waker.woken());
        }
        while let Some(due) = hub.borrow_mut().turn(context) {
            held.as_mut().reset(due.into());
            if held.as_mut().poll(context).is_pending() {
                break;
            }
        }
        Poll::Pending
    })
    .await
}

/// Ticks. A process that was stopped does not make up for the ticks that it missed (fault P1).
async fn clock<S: Storage, M: StateMachine>(hub: Shared<S, M>) {
    let mut ticks = interval(hub.borrow().config.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        hub.borrow_mut().tick(Instant::now());
    }
}

async fn run_jobs<S: Storage, M: StateMachine>(hub: Shared<S, M>, mut jobs: mpsc::Receiver<Job<S, M>>) {
    while let Some(job) = jobs.recv().await {
        let mut hub = hub.borrow_mut();
        job(&mut Control::new(&mut hub));
        hub.waker.wake();
    }
}

/// Accepts connections. Those that have not said who they are have a budget of their own, of which the oldest makes
/// room: a flood of them cannot keep a server out (fault N7).
async fn accept<S: Storage + 'static, M: StateMachine + 'static>(hub: Shared<S, M>, listener: TcpListener) {
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
    let (this, admitted) = (hub.borrow().id(), hub.borrow().admit(&hello));
    match admitted {
        Ok(guest) => {
            handshake::send(socket, Kind::Hello, &hello.answer(this)).await?;
            Ok(guest)
        }
        Err(refusal) => handshake::refuse(socket, refusal).await,
    }
}

/// Keeps a connection to one server of a lower id, for ever.
async fn dial<S: Storage + 'static, M: StateMachine + 'static>(hub: Shared<S, M>, peer: NodeId, address: SocketAddr) {
    let limits = hub.borrow().config.connections;
    let mut backoff = Backoff::new(limits.redial_min, limits.redial_max);
    let mut told = None;
    loop {
        let reached = timeout(limits.handshake_deadline, reach(&hub, peer, address)).await;
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
            }
        }
        sleep(backoff.pause()).await;
    }
}

async fn reach<S: Storage, M: StateMachine>(
    hub: &Shared<S, M>,
    peer: NodeId,
    address: SocketAddr,
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
async fn discard(mut socket: OwnedReadHalf) {
    let mut scratch = [0; 4096];
    while socket.read(&mut scratch).await.is_ok_and(|count| count > 0) {}
}

/// Hands leadership over, lets the storage finish what it has begun, answers, and says goodbye: each within a deadline.
async fn settle<S: Storage, M: StateMachine>(hub: &Shared<S, M>) {
    hub.borrow_mut().hand_over();
    until(HANDOVER, || !hub.borrow().is_handing_over()).await;
    until(SETTLE, || hub.borrow().replica.is_settled()).await;
    hub.borrow_mut().close_all();
    until(SETTLE, || hub.borrow_mut().is_deserted()).await;
}

async fn until(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(SETTLE_PAUSE).await;
        }
    };
    drop(timeout(deadline, waiting).await);
}

/// How long accepting rests after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection is read, and what is read thrown away, after our goodbye.
const LINGER: Duration = Duration::from_secs(1);

/// How long a stop waits for another leader: an election takes milliseconds where somebody is there to take over.
const HANDOVER: Duration = Duration::from_millis(300);

/// How long a stop waits for the storage, and then for the sockets.
const SETTLE: Duration = Duration::from_millis(500);

const SETTLE_PAUSE: Duration = Duration::from_millis(1);
