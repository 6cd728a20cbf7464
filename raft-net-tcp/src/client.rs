//! A client of any state machine: finds the leader, follows its hints, and tells what failed from what is unknown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::{Digest, LogIndex, NodeId, Refusal, Term};
use raft_kv::proof::Head;

use crate::client_connection::{ClientConnection, Identity};
use crate::frame::CLIENT_FRAME_BYTES_MAX;
use crate::handshake::{HandshakeError, HandshakeRefusal};
use crate::line::{Connections, TooLarge};
use crate::protocol::{Blocks, RequestBody, ResponseBody, ServerStatus};

mod error;
mod history;
mod members;
mod open;
mod options;
mod search;

pub use error::{ClientError, HistoryError, Rewritten, Unfinished};
pub use history::Verified;
pub use members::Members;
use open::{Open, Way};
pub use options::ClientOptions;
use search::Search;

/// A client of a cluster: one request at a time, to whoever leads.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    servers: BTreeMap<NodeId, SocketAddr>,
    options: ClientOptions,
    connections: BTreeMap<NodeId, Open>,
    /// Whose connections it uses, where it has none of its own.
    shared: Option<Connections>,
    /// Whom to ask first: who answered last, or was last said to lead.
    target: Option<NodeId>,
    /// The newest head that it has verified.
    remembered: Option<Head>,
}

/// What the state machine answered, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The server that answered.
    pub server: NodeId,
    /// Of a command: the entry that it is in. Of a query: the last entry applied to the state that answered.
    pub index: LogIndex,
    /// Of a command: that entry's term.
    pub term: Option<Term>,
    /// That entry's chain digest, where the storage links.
    pub hash: Option<Digest>,
    /// The state machine's words.
    pub reply: Bytes,
    /// An earlier copy of this command may have been applied as well: the reply is that of the last copy.
    pub repeated: bool,
}

/// What one server said to one request.
enum Attempt {
    Answered(ResponseBody),
    /// Nothing was sent.
    Unsent(HandshakeError),
    /// Nothing was sent: the server's history is not known to go on from the one that was remembered.
    Distrusted(HistoryError),
    /// It was sent, and no answer came.
    Lost,
}

/// Whether a command may be sent again after one copy of it was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copies {
    One,
    Many,
}

impl Client {
    /// A client that knows these servers. Connects when it is first asked something.
    #[must_use]
    pub fn new(servers: BTreeMap<NodeId, SocketAddr>, identity: Identity, options: ClientOptions) -> Self {
        let connections = BTreeMap::new();
        Self { identity, servers, options, connections, shared: None, target: None, remembered: None }
    }

    /// Has it share these connections with others, who may ask at the same time, in place of connections of its own. So
    /// many clients of one program cost a server one connection; it takes 1,024 requests of it at a time
    /// ([`ConnectionLimits::requests_max`](crate::ConnectionLimits::requests_max)).
    #[must_use]
    pub fn sharing(mut self, connections: Connections) -> Self {
        self.shared = Some(connections);
        self
    }

    /// The client's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.identity.client
    }

    /// The servers that it knows.
    pub fn servers(&self) -> impl Iterator<Item = NodeId> {
        self.servers.keys().copied()
    }

    /// Has a command applied, once at most.
    ///
    /// # Errors
    /// There is no answer. [`ClientError::Timeout`] with `unknown`: it may have been applied.
    pub async fn submit(&mut self, command: &[u8]) -> Result<Answer, ClientError> {
        let mut search = self.search(self.deadline());
        self.find(RequestBody::Submit(command), Copies::One, &mut search).await
    }

    /// Has a command applied, once at least: it is sent again when an answer was lost. For commands of which a state
    /// machine applies one copy only.
    ///
    /// # Errors
    /// There is no answer until `deadline`. [`ClientError::Timeout`] with `unknown`: it may have been applied.
    pub async fn submit_repeatedly(&mut self, command: &[u8], deadline: Instant) -> Result<Answer, ClientError> {
        let mut search = self.search(deadline);
        self.find(RequestBody::Submit(command), Copies::Many, &mut search).await
    }

    /// Asks the state machine, linearizably.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn query(&mut self, query: &[u8]) -> Result<Answer, ClientError> {
        let mut search = self.search(self.deadline());
        self.find(RequestBody::Query(query), Copies::Many, &mut search).await
    }

    /// Asks one server how it is.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn status(&mut self, server: NodeId) -> Result<ServerStatus, ClientError> {
        self.status_by(server, self.deadline()).await
    }

    /// Asks every server how it is, those of whom others tell included, each within its share of the time.
    pub async fn statuses(&mut self) -> Vec<(NodeId, Result<ServerStatus, ClientError>)> {
        let search = self.search(self.deadline());
        let mut found: BTreeMap<NodeId, _> = BTreeMap::new();
        loop {
            let unasked: Vec<NodeId> = self.servers().filter(|server| !found.contains_key(server)).collect();
            let Some(server) = unasked.first() else { return found.into_iter().collect() };
            found.insert(*server, self.status_by(*server, search.share(unasked.len())).await);
        }
    }

    /// The entries from `first` to `last` in the log of one server, as many as it sends at once, committed or not. For an
    /// [`operator`](Self::operator).
    ///
    /// # Errors
    /// There is no answer.
    pub async fn blocks(&mut self, server: NodeId, first: LogIndex, last: LogIndex) -> Result<Blocks, ClientError> {
        let body = RequestBody::Blocks { first, last };
        match self.attempt(server, body, self.options.attempt_max, self.deadline()).await {
            Attempt::Answered(ResponseBody::Blocks(blocks)) => Ok(blocks),
            Attempt::Unsent(error) => Err(ClientError::Unreachable { reason: error.to_string() }),
            Attempt::Distrusted(error) => Err(error.into()),
            Attempt::Answered(_) | Attempt::Lost => Err(ClientError::Timeout { unknown: false }),
        }
    }

    /// Asks one server how it is, and is done with it at `deadline`.
    async fn status_by(&mut self, server: NodeId, deadline: Instant) -> Result<ServerStatus, ClientError> {
        match self.attempt(server, RequestBody::Status, self.options.attempt_max, deadline).await {
            Attempt::Answered(ResponseBody::Status(status)) => {
                self.learn(&status.members, deadline).await;
                Ok(*status)
            }
            Attempt::Unsent(error) => Err(ClientError::Unreachable { reason: error.to_string() }),
            Attempt::Distrusted(error) => Err(error.into()),
            Attempt::Answered(_) | Attempt::Lost => Err(ClientError::Timeout { unknown: false }),
        }
    }

    /// When a request that begins now is given up.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        later(self.options.deadline)
    }

    fn search(&self, deadline: Instant) -> Search {
        Search::new(&self.options, deadline)
    }

    /// Asks one server after the other until one answers, or the deadline passes.
    async fn find(
        &mut self,
        body: RequestBody<'_>,
        copies: Copies,
        search: &mut Search,
    ) -> Result<Answer, ClientError> {
        loop {
            let is_over = Instant::now() >= search.deadline;
            let Some(server) = self.target().filter(|_| !is_over) else { return Err(search.give_up()) };
            search.asks(server);
            let attempt = self.attempt(server, body, search.patience, search.deadline).await;
            if matches!(attempt, Attempt::Answered(_)) {
                search.answered(server);
            } else {
                search.failed(server);
            }
            match attempt {
                Attempt::Answered(ResponseBody::Applied { index, term, hash, reply, .. }) => {
                    return Ok(Answer { server, index, term: Some(term), hash, reply, repeated: search.unknown });
                }
                Attempt::Answered(ResponseBody::Answered { index, hash, reply }) => {
                    return Ok(Answer { server, index, term: None, hash, reply, repeated: search.unknown });
                }
                Attempt::Answered(ResponseBody::ChangeBegun { index, term }) => {
                    let (term, reply, repeated) = (Some(term), Bytes::new(), search.unknown);
                    return Ok(Answer { server, index, term, hash: None, reply, repeated });
                }
                Attempt::Answered(ResponseBody::ChangeRefused(refusal)) => {
                    return Err(ClientError::NotChanged(refusal));
                }
                Attempt::Answered(ResponseBody::Refused(refusal)) => {
                    self.on_refusal(server, refusal, search).await?;
                }
                Attempt::Answered(_) | Attempt::Lost => {
                    search.patience = search.patience.saturating_mul(2);
                    search.unknown |=
                        !matches!(body, RequestBody::Query(_) | RequestBody::Status | RequestBody::Blocks { .. });
                    search.error = ClientError::Timeout { unknown: false };
                    if search.unknown && copies == Copies::One {
                        return Err(search.give_up());
                    }
                    self.turn(search);
                    search.pause().await;
                }
                Attempt::Unsent(error) => self.on_unsent(server, &error, search).await?,
                Attempt::Distrusted(error) => self.on_distrust(error, search).await?,
            }
        }
    }

    async fn on_refusal(&mut self, server: NodeId, refusal: Refusal, search: &mut Search) -> Result<(), ClientError> {
        if let Refusal::NotLeader { leader: Some(leader) } | Refusal::ReadTimeout { leader: Some(leader) } = refusal
            && !self.servers.contains_key(&leader)
        {
            // It was added later: who names it knows where it is.
            drop(self.status_by(server, search.deadline).await);
        }
        match refusal {
            Refusal::NotLeader { leader } | Refusal::ReadTimeout { leader } => {
                // Who leads has said itself why it takes no connection.
                if !matches!(search.error, ClientError::Rejected { server, .. } if leader == Some(server)) {
                    search.error = ClientError::NoLeader;
                }
                if leader.is_some_and(|leader| leader != server && self.follow(leader, search)) {
                    return Ok(());
                }
                self.turn(search);
            }
            Refusal::Halted => {
                search.error = ClientError::NoLeader;
                self.turn(search);
            }
            Refusal::LeadershipLost | Refusal::Superseded => search.error = ClientError::NoLeader,
            // What is over soon, as a rule: the leader notes whom it hears by changes of its own.
            Refusal::Busy
            | Refusal::DiskFull
            | Refusal::ChangeInProgress
            | Refusal::NoCommitInTerm
            | Refusal::VoterSilent { .. } => {
                search.error = ClientError::Refused(refusal);
            }
            Refusal::TransferInProgress { target } => {
                search.error = ClientError::NoLeader;
                self.follow(target, search);
            }
            // What is refused for good.
            refusal => return Err(ClientError::Refused(refusal)),
        }
        search.pause().await;
        Ok(())
    }

    async fn on_unsent(
        &mut self,
        server: NodeId,
        error: &HandshakeError,
        search: &mut Search,
    ) -> Result<(), ClientError> {
        if let HandshakeError::Refused(refusal) | HandshakeError::Refusing(refusal) = error
            && matches!(refusal, HandshakeRefusal::WrongCluster | HandshakeRefusal::WrongVersion { .. })
            && !search.unknown
        {
            return Err(ClientError::Rejected { server, refusal: *refusal });
        }
        if let HandshakeError::Refused(refusal) = error {
            // It lives, and may lead: that is worth more than what the others said.
            search.error = ClientError::Rejected { server, refusal: *refusal };
        } else if matches!(search.error, ClientError::Unreachable { .. }) {
            search.error = ClientError::Unreachable { reason: format!("server {server}: {error}") };
        }
        self.turn(search);
        search.pause().await;
        Ok(())
    }

    /// Waits for an answer so long, and never beyond `deadline`.
    async fn attempt(
        &mut self,
        server: NodeId,
        body: RequestBody<'_>,
        patience: Duration,
        deadline: Instant,
    ) -> Attempt {
        let until = |now: Instant| now.checked_add(patience).map_or(deadline, |until| until.min(deadline));
        let now = Instant::now();
        let (open, now) = match self.connection(server, now, until(now)).await {
            Ok(found) => found,
            Err(attempt) => return attempt,
        };
        match open.ask(body, now, until(now)).await {
            Ok(Some(body)) => Attempt::Answered(body),
            Ok(None) => {
                // Broken, or as good as that: an answer that comes later would be waited for by nobody.
                self.connections.remove(&server);
                Attempt::Lost
            }
            Err(TooLarge) => {
                let limit = u64::try_from(CLIENT_FRAME_BYTES_MAX).unwrap_or(u64::MAX);
                Attempt::Answered(ResponseBody::Refused(Refusal::TooLarge { limit }))
            }
        }
    }

    /// The connection to this server, a new one where there is none that is open, and when that was known; or the attempt
    /// that this was. A new one is given up at `deadline`.
    async fn connection(
        &mut self,
        server: NodeId,
        mut now: Instant,
        deadline: Instant,
    ) -> Result<(&mut Open, Instant), Attempt> {
        let is_open = match self.connections.get_mut(&server) {
            Some(open) => open.is_open(now).await,
            None => false,
        };
        let unknown =
            || Attempt::Unsent(HandshakeError::Refusing(HandshakeRefusal::UnknownServer { id: u64::from(server.0) }));
        if !is_open {
            self.connections.remove(&server);
            let address = self.servers.get(&server).copied().ok_or_else(unknown)?;
            let connect_max = self.options.connect_max.min(deadline.saturating_duration_since(now));
            let way = match &self.shared {
                None => {
                    ClientConnection::connect(address, Some(server), self.identity, connect_max).await.map(Way::Own)
                }
                Some(shared) => shared.line(server, address, connect_max).await.map(Way::Shared),
            };
            let mut open = Open::new(way.map_err(Attempt::Unsent)?);
            if self.options.check_history {
                let checked = history::check(&mut open, self.remembered, None, connect_max).await;
                self.remembered = Some(checked.map_err(Attempt::Distrusted)?);
            }
            self.connections.insert(server, open);
            now = Instant::now();
        }
        self.connections.get_mut(&server).map(|open| (open, now)).ok_or_else(unknown)
    }

    fn target(&mut self) -> Option<NodeId> {
        self.target = self.target.or_else(|| self.servers.keys().next().copied());
        self.target
    }

    /// To the server whose turn is next.
    fn turn(&mut self, search: &mut Search) {
        self.target = search.next_turn(&self.servers);
    }

    /// To whom a server has named, where that may lead on.
    fn follow(&mut self, leader: NodeId, search: &mut Search) -> bool {
        let follows = self.servers.contains_key(&leader) && search.follows(leader);
        if follows {
            self.target = Some(leader);
        }
        follows
    }
}

fn later(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
