//! Redis's protocol (RESP2), so that Redis's clients, its command line and its benchmark use a cluster of key-value
//! machines: `Server::serving_redis`.
//!
//! Any server takes any command. Reads are linearizable, wherever they are served; a write is answered once it is
//! committed, durable and applied. A server that follows forwards writes to the leader.
//!
//! * **Keys and values** are bytes: `SET k v` is `put b'k' b'v'` of an ordinary client, and `get b'k'` shows `b'v'`. A value
//!   that an ordinary client stored reads as its bytes, as the text of a str, or as the digits of an int; any other literal
//!   is `WRONGTYPE` (nothing in `MGET`). Keys that are no bytes cannot be named here: `SCAN` leaves them out, `DBSIZE`
//!   counts them.
//! * **Writes happen once**: each is under a number of a session, however often this server has to send it. Where no answer
//!   comes within five seconds, `UNKNOWN` says that nobody knows, and `TRYAGAIN` that nothing was done.
//! * **A pipeline** is carried out in its order. Writes that follow each other in it are one transaction, but for `CAS`,
//!   which has one of its own.
//! * **`CAS key expected new`**, which Redis has not: 1 where the value was `expected` and is `new` now, else 0.
//!
//! There are no databases, expiry, passwords, transactions of several commands, or other types than strings.
//!
//! | file in `resp/` | one concept |
//! |---|---|
//! | `parser.rs` `inline.rs` | commands out of bytes |
//! | `reply.rs` `output.rs` | replies as bytes, and those that wait for the socket |
//! | `table.rs` `command.rs` `glob.rs` | the commands that there are, and what each asks of the machine |
//! | `local.rs` | those that need no machine |
//! | `cursors.rs` | where scans have got to |
//! | `connection.rs` | one connection: batches in their order |
//! | `asking.rs` `forward.rs` | one request: sessions, retries, the leader |

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use raft_core::{StateMachine, Storage};
use raft_kv::{Query, QueryReply};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::connecting::{ACCEPT_PAUSE, Shared};
use crate::notice::Notice;
use crate::writing::Writes;

mod asking;
mod command;
mod connection;
mod cursors;
mod forward;
mod glob;
mod inline;
mod local;
mod output;
pub(crate) mod parser;
mod reply;
mod table;

use connection::Connection;
use cursors::Cursors;
use forward::Forwarder;
use local::Info;

/// What the connections of Redis clients share.
struct Gate<S, M> {
    hub: Shared<S, M>,
    forwarder: Forwarder,
    cursors: RefCell<Cursors>,
    /// Whom the sessions belong to.
    client: u64,
    /// Sessions that no connection uses.
    idle: RefCell<Vec<Writes>>,
    /// Connections that are open.
    open: Cell<usize>,
}

/// Accepts Redis clients, and serves each in a task of its own.
pub(crate) async fn accept<S: Storage + 'static, M: StateMachine + 'static>(hub: Shared<S, M>, listener: TcpListener) {
    let client = CLIENTS | u64::from(hub.borrow().id().0);
    let forwarder = Forwarder::new(hub.borrow().config.cluster, client);
    let gate = Rc::new(Gate {
        forwarder,
        cursors: RefCell::new(Cursors::new(rand::random())),
        client,
        idle: RefCell::default(),
        open: Cell::new(0),
        hub,
    });
    let mut last_id = 0_u64;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                last_id = last_id.saturating_add(1);
                gate.clone().admit(socket, last_id).await;
            }
            Err(error) => {
                gate.hub.borrow_mut().notice(Notice::AcceptFailed(error.to_string()));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl<S: Storage + 'static, M: StateMachine + 'static> Gate<S, M> {
    async fn admit(self: Rc<Self>, mut socket: TcpStream, id: u64) {
        let max = self.hub.borrow().config.connections.redis_clients_max;
        if self.open.get() >= max || socket.set_nodelay(true).is_err() {
            let mut refusal = Vec::new();
            reply::error(&mut refusal, "ERR max number of clients reached");
            // A new socket takes it at once; nobody waits for one who is not admitted.
            drop(timeout(ACCEPT_PAUSE, socket.write_all(&refusal)).await);
            return;
        }
        self.open.set(self.open.get().saturating_add(1));
        spawn_local(async move {
            Connection::new(self.clone(), socket, id).serve().await;
            self.open.set(self.open.get().saturating_sub(1));
        });
    }
}

impl<S: Storage, M: StateMachine> Gate<S, M> {
    /// What `INFO` tells.
    fn info(&self) -> Info {
        let mut hub = self.hub.borrow_mut();
        let size = QueryReply::decode(&hub.replica.machine().query(&Query::Size.encode()));
        let keys = if let Ok(QueryReply::Size { keys, .. }) = size { keys } else { 0 };
        Info { status: hub.status(), keys, clients: self.open.get() }
    }
}

impl<S, M> Gate<S, M> {
    /// A session for a connection's writes.
    fn writes(&self) -> Writes {
        self.idle.borrow_mut().pop().unwrap_or(Writes::new(self.client))
    }

    /// A connection does not write any more. There are as many sessions as connections wrote at once, at most.
    fn give_back(&self, writes: Writes) {
        self.idle.borrow_mut().push(writes);
    }
}

/// The sessions of a server's Redis clients belong to this and its id: above every other client's id.
const CLIENTS: u64 = 1 << 32;
