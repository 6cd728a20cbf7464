//! What another server is to answer because it leads: one connection for all that this server forwards, many requests
//! in flight on it.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{NodeId, Refusal, StateMachine, Storage};
use tokio::net::lookup_host;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::client_connection::{ClientConnection, Identity};
use crate::connecting::Shared;
use crate::frame::CLIENT_FRAME_BYTES_MAX;
use crate::handshake::Role;
use crate::hub::Ask;
use crate::links::Link;
use crate::protocol::{RequestBody, Response, ResponseBody};

/// Hands requests to the task that has the connection. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Forwarder {
    jobs: mpsc::Sender<Job>,
}

/// A request for whoever leads. Dropped without an answer, it may have happened.
#[derive(Debug)]
struct Job {
    leader: NodeId,
    ask: Ask,
    answer: oneshot::Sender<ResponseBody>,
}

impl Forwarder {
    /// Starts the task. It ends with the last clone.
    pub(super) fn start<S: Storage + 'static, M: StateMachine + 'static>(hub: Shared<S, M>, client: u64) -> Self {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        spawn_local(run(hub, client, receiver));
        Self { jobs }
    }

    /// Asks `leader`; `None` where no answer comes in time: the request may have happened.
    pub(super) async fn ask(&self, leader: NodeId, ask: &Ask, patience: Duration) -> Option<ResponseBody> {
        let (sender, answer) = oneshot::channel();
        let job = Job { leader, ask: ask.clone(), answer: sender };
        match self.jobs.try_send(job) {
            Ok(()) => timeout(patience, answer).await.ok()?.ok(),
            Err(_) => Some(ResponseBody::Refused(Refusal::Busy)),
        }
    }
}

/// Connects to whom the next request is for, as long as there are any.
async fn run<S: Storage, M: StateMachine>(hub: Shared<S, M>, client: u64, mut jobs: mpsc::Receiver<Job>) {
    let mut next = None;
    loop {
        let job = match next.take() {
            Some(job) => job,
            None => match jobs.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        if job.answer.is_closed() {
            continue;
        }
        match connect(&hub, client, job.leader).await {
            Some(connection) => next = Conversation::new(&hub, connection, job.leader).run(job, &mut jobs).await,
            // Nothing was sent.
            None => refuse(job, Refusal::NotLeader { leader: None }),
        }
    }
}

async fn connect<S: Storage, M: StateMachine>(
    hub: &Shared<S, M>,
    client: u64,
    leader: NodeId,
) -> Option<ClientConnection> {
    if is_cut(hub, leader) {
        return None;
    }
    let (identity, address, deadline) = {
        let hub = hub.borrow();
        let status = hub.replica.status();
        let identity = Identity { cluster: hub.config.cluster, client, role: Role::Client };
        (identity, hub.address_of(&status.configuration, leader)?, hub.config.connections.handshake_deadline)
    };
    let address = timeout(deadline, lookup_host(address)).await.ok()?.ok()?.next()?;
    ClientConnection::connect(address, Some(leader), identity, deadline).await.ok()
}

/// A link that is broken on purpose is broken for what is forwarded as well.
fn is_cut<S: Storage, M: StateMachine>(hub: &Shared<S, M>, leader: NodeId) -> bool {
    hub.borrow_mut().replica.transport_mut().links().is_cut(Link::Server(leader))
}

fn refuse(job: Job, refusal: Refusal) {
    // Who asked may have given up meanwhile.
    let _ = job.answer.send(ResponseBody::Refused(refusal));
}

/// A connection to one leader, and who waits for which answer on it.
struct Conversation<'a, S, M> {
    hub: &'a Shared<S, M>,
    leader: NodeId,
    connection: ClientConnection,
    waiting: BTreeMap<u64, oneshot::Sender<ResponseBody>>,
}

impl<'a, S: Storage, M: StateMachine> Conversation<'a, S, M> {
    const fn new(hub: &'a Shared<S, M>, connection: ClientConnection, leader: NodeId) -> Self {
        Self { hub, leader, connection, waiting: BTreeMap::new() }
    }

    /// Goes on until the connection is lost, or a request is for another server: that one is returned. Whoever waits then
    /// gets no answer.
    async fn run(mut self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let mut next = Some(first);
        loop {
            while let Some(job) = next.take() {
                if job.leader != self.leader {
                    return Some(job);
                }
                self.enqueue(job);
                next = jobs.try_recv().ok();
            }
            timeout(SILENCE_MAX, self.connection.flush()).await.ok()?.ok()?;
            tokio::select! {
                job = jobs.recv() => next = Some(job?),
                response = self.connection.receive() => {
                    self.answer(response.ok()?);
                    while let Some(response) = self.connection.received().ok()? {
                        self.answer(response);
                    }
                }
                () = sleep(SILENCE_MAX), if !self.waiting.is_empty() => return None,
            }
        }
    }

    fn enqueue(&mut self, job: Job) {
        if is_cut(self.hub, self.leader) {
            return refuse(job, Refusal::NotLeader { leader: None });
        }
        let body = match &job.ask {
            Ask::Submit(command) => RequestBody::Submit(command),
            Ask::Query(query) => RequestBody::Query(query),
        };
        match self.connection.enqueue(body) {
            Some(number) => drop(self.waiting.insert(number, job.answer)),
            None => refuse(job, Refusal::TooLarge { limit: u64::try_from(CLIENT_FRAME_BYTES_MAX).unwrap_or(u64::MAX) }),
        }
    }

    fn answer(&mut self, Response { number, body }: Response) {
        if let Some(answer) = self.waiting.remove(&number)
            && !is_cut(self.hub, self.leader)
        {
            let _ = answer.send(body);
        }
    }
}

/// Requests that wait to be sent.
const JOBS_MAX: usize = 1024;

/// A leader that has said nothing for so long, while it was asked something, is not waited for any more.
const SILENCE_MAX: Duration = Duration::from_secs(3);
