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
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use raft_core::{Replica, StartError, StateMachine, Storage};
use raft_kv::proof::Source;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::config::ServerConfig;
use crate::connecting::{Shared, accept, dial_members};
use crate::control::{Control, Job, ServerHandle};
use crate::hub::Hub;
use crate::notice::Notice;
use crate::peers::Peers;
use crate::resp;
use crate::waker::Waker;

/// A server that listens, and is not running yet.
pub struct Server<S, M> {
    hub: Hub<S, M>,
    listener: StdListener,
    /// For Redis clients.
    redis: Option<StdListener>,
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
    /// Leases rest on ticks that keep to a drift bound. This server's fall behind when it is busy, and those that a pause
    /// swallowed are not made up for (fault P1).
    #[error("this server's ticks are not fit for leases: leave raft.lease at None")]
    Lease,
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
        let listener = listen(address)?;
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
        if config.raft.lease.is_some() {
            return Err(BindError::Lease);
        }
        let listen = |source| BindError::Listen { address: config.listen, source };
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        config.peers.remove(&config.raft.id);
        let peers = Peers::new(config.connections);
        let replica = Replica::new(config.raft.clone(), config.requests, storage, peers, machine)?;
        let (handle, jobs) = ServerHandle::new();
        let hub = Hub::new(config, replica, waker, Box::new(notices));
        Ok(Self { hub, listener, redis: None, address, handle, jobs })
    }

    /// Has it answer clients who ask for proofs about the chain in its storage, which `source` is told to find. It is
    /// read from its genesis on, a part with every turn of the loop; where a block of it is gone, nothing is proved.
    #[must_use]
    pub fn proving(mut self, source: fn(&mut S) -> &mut dyn Source) -> Self {
        self.hub.proofs.source = Some(source);
        self.hub.waker.wake();
        self
    }

    /// Has it serve Redis clients as well, on this address: its machine must be a
    /// [`KvMachine`](raft_kv::KvMachine). Whoever connects there may read and write everything.
    ///
    /// # Errors
    /// The address is taken or cannot be listened on.
    pub fn serving_redis(mut self, address: SocketAddr) -> Result<Self, BindError> {
        let listener = listen(address)?;
        listener.set_nonblocking(true).map_err(|source| BindError::Listen { address, source })?;
        self.redis = Some(listener);
        Ok(self)
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
        let Self { hub, listener, redis, handle, jobs, .. } = self;
        let listener = TcpListener::from_std(listener)?;
        let redis = redis.map(TcpListener::from_std).transpose()?;
        let hub = Rc::new(RefCell::new(hub));
        let tasks = LocalSet::new();
        tasks
            .run_until(async move {
                let accepting = start(&hub, listener, jobs);
                let accepting_redis = redis.map(|redis| spawn_local(resp::accept(hub.clone(), redis)));
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
                accepting_redis.inspect(JoinHandle::abort);
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

fn listen(address: SocketAddr) -> Result<StdListener, BindError> {
    StdListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse { address },
        _ => BindError::Listen { address, source },
    })
}

/// Starts every task of a server; returns the one that accepts.
fn start<S: Storage + 'static, M: StateMachine + 'static>(
    hub: &Shared<S, M>,
    listener: TcpListener,
    jobs: mpsc::Receiver<Job<S, M>>,
) -> JoinHandle<()> {
    spawn_local(turns(hub.clone()));
    spawn_local(clock(hub.clone()));
    spawn_local(run_jobs(hub.clone(), jobs));
    spawn_local(dial_members(hub.clone()));
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

/// Hands leadership over, lets the storage finish what it has begun, answers, and says goodbye: each within a deadline. What
/// the storage has finished then is sealed.
async fn settle<S: Storage, M: StateMachine>(hub: &Shared<S, M>) {
    hub.borrow_mut().hand_over();
    until(HANDOVER, || !hub.borrow().is_handing_over()).await;
    until(SETTLE, || hub.borrow().replica.is_settled()).await;
    hub.borrow_mut().close_all();
    until(SETTLE, || hub.borrow_mut().is_deserted()).await;
    hub.borrow_mut().replica.storage_mut().seal();
}

async fn until(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(SETTLE_PAUSE).await;
        }
    };
    drop(timeout(deadline, waiting).await);
}

/// How long a stop waits for another leader: an election takes milliseconds where somebody is there to take over.
const HANDOVER: Duration = Duration::from_millis(300);

/// How long a stop waits for the storage, and then for the sockets.
const SETTLE: Duration = Duration::from_millis(500);

const SETTLE_PAUSE: Duration = Duration::from_millis(1);
