//! A connection that many ask on at once: one to each server, however many clients a program has.
//!
//! Who asks puts the request behind those of the others, and waits for the response to its number. A task of the line's own
//! sends what is there and hands out what comes: what is asked in one turn of the runtime is sent with one write, and what
//! has arrived together is read with one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raft_core::NodeId;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::timeout;

use crate::client_connection::{ClientConnection, ConnectionError, Identity, Requests};
use crate::handshake::HandshakeError;
use crate::protocol::{RequestBody, Response, ResponseBody};

/// Connections that clients share, one to each server. Clones share them as well.
///
/// They are opened when the first client needs them, by tasks of the runtime that this client is polled in.
#[derive(Clone, Debug)]
pub struct Connections {
    identity: Identity,
    lines: Arc<Mutex<BTreeMap<NodeId, Slot>>>,
}

/// The line to one server, once there is one. Locked while it is opened, so that one is.
type Slot = Arc<tokio::sync::Mutex<Option<Line>>>;

/// One connection. Clones share it; it is closed with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<End>);

#[derive(Debug)]
struct End {
    server: NodeId,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There are requests to send.
    more: Notify,
}

#[derive(Debug)]
struct State {
    is_open: bool,
    requests: Requests,
    waiting: BTreeMap<u64, oneshot::Sender<ResponseBody>>,
    /// When the last response came.
    heard: Instant,
    /// Since when nothing has come, though something was asked.
    silent_since: Option<Instant>,
}

/// The request is larger than a frame may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Connections {
    /// None yet. The servers see all that use them as this client.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity, lines: Arc::default() }
    }

    /// The connection to this server, where there is one.
    pub(crate) fn open(&self, server: NodeId) -> Option<Line> {
        let slot = locked(&self.lines).get(&server)?.clone();
        slot.try_lock().ok()?.as_ref().filter(|line| line.is_open()).cloned()
    }

    /// The connection to this server: the one that there is, or a new one. Given up at the deadline, whoever else opens it.
    pub(crate) async fn line(
        &self,
        server: NodeId,
        address: SocketAddr,
        deadline: Duration,
    ) -> Result<Line, HandshakeError> {
        let slot = locked(&self.lines).entry(server).or_default().clone();
        let found = async {
            let mut slot = slot.lock().await;
            if let Some(line) = slot.as_ref().filter(|line| line.is_open()) {
                return Ok(line.clone());
            }
            let connection = ClientConnection::connect(address, Some(server), self.identity, deadline).await?;
            Ok(slot.insert(Line::new(connection)).clone())
        };
        timeout(deadline, found).await.unwrap_or(Err(HandshakeError::Deadline))
    }
}

impl Line {
    /// Takes a connection on which nothing was asked yet.
    fn new(connection: ClientConnection) -> Self {
        let (requests, waiting) = (Requests::default(), BTreeMap::new());
        let state = State { is_open: true, requests, waiting, heard: Instant::now(), silent_since: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), more: Notify::new() });
        let server = connection.server();
        let task = tokio::spawn(run(connection, Closing(shared.clone()))).abort_handle();
        Self(Arc::new(End { server, shared, task }))
    }

    /// Who is at the other end.
    pub(crate) fn server(&self) -> NodeId {
        self.0.server
    }

    /// Whether it can be used, as far as one knows. One that has been silent for too long cannot, whoever gave up how soon
    /// (fault N4).
    pub(crate) fn is_open(&self) -> bool {
        self.0.change(|state| {
            state.is_open &= state.silent_since.is_none_or(|since| since.elapsed() < SILENCE_MAX);
            state.is_open
        })
    }

    /// The response to a request; `None` where the connection is lost. Given up, nobody waits for it any more.
    pub(crate) async fn ask(&self, body: RequestBody<'_>) -> Result<Option<ResponseBody>, TooLarge> {
        let shared = &*self.0.shared;
        let (sender, response) = oneshot::channel();
        let number = {
            let mut state = shared.lock();
            if !state.is_open {
                return Ok(None);
            }
            let number = state.requests.add(body).ok_or(TooLarge)?;
            state.waiting.insert(number, sender);
            state.silent_since.get_or_insert_with(Instant::now);
            number
        };
        shared.more.notify_one();
        let _waiting = Waiting { end: &self.0, number };
        Ok(response.await.ok())
    }

    /// A request that was made then had no response in time. Where nothing has come since, nobody asks here from now on: the
    /// next opens another connection. Those who wait may have more patience, and still get their responses; this connection
    /// is closed once nobody waits.
    pub(crate) fn doubt(&self, asked: Instant) {
        self.0.change(|state| state.is_open &= state.heard >= asked);
    }
}

impl End {
    /// Changes the state, and closes the connection where nobody asks any more and nobody waits.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, is_left) = {
            let mut state = self.shared.lock();
            (change(&mut state), !state.is_open && state.waiting.is_empty())
        };
        if is_left {
            self.task.abort();
        }
        result
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.silent_since = (!self.waiting.is_empty()).then_some(now);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Whoever waits gets no response.
    fn close(&self) {
        let mut state = self.lock();
        state.is_open = false;
        state.waiting.clear();
    }

    fn answer(&self, Response { number, body }: Response) {
        if let Some(sender) = self.lock().waiting.remove(&number) {
            // Who asked may have given up meanwhile.
            let _ = sender.send(body);
        }
    }
}

/// A request that somebody waits for. Dropped, nobody does.
struct Waiting<'a> {
    end: &'a End,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.end.change(|state| state.waiting.remove(&self.number));
    }
}

/// Closes the line when its task ends, however it does.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends and receives until the connection is lost.
async fn run(mut connection: ClientConnection, line: Closing) -> Result<(), ConnectionError> {
    let shared = &*line.0;
    loop {
        tokio::select! {
            () = shared.more.notified() => {
                // Whoever else is ready to ask is sent with it.
                yield_now().await;
                connection.take_over(&mut shared.lock().requests);
                connection.flush().await?;
            }
            response = connection.receive() => {
                shared.answer(response?);
                while let Some(response) = connection.received()? {
                    shared.answer(response);
                }
                shared.lock().hear(Instant::now());
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where nothing has come for so long, though something was asked, nobody asks any more.
const SILENCE_MAX: Duration = Duration::from_secs(3);
