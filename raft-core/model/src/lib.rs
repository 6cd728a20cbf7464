//! Every run of three servers within small bounds, explored by a model checker (`stateright`) over the real
//! [`Node`]: not a model of the protocol, but the code that runs.
//!
//! A state is three nodes with their disks, the messages under way, what is left of the bounds, and what has been
//! promised so far (who led, what was committed). From each state the checker takes every step that is possible: any
//! message arrives (so messages are reordered, and lost where they never arrive) or arrives and stays under way
//! (repeated); a server campaigns, takes a command, has its oldest write become durable, crashes with any part of its
//! unreported writes on the disk, or, leading, has its clock tick. [`Bounds`] says how often.
//!
//! What keeps the space small, and why nothing is lost by it:
//! * [`Event::Campaign`] stands for an election timeout, so that no timer is part of a state. Timeouts of two ticks draw
//!   from an interval of one value, so neither is the random generator.
//! * The servers are alike, so the first to campaign is server 1.
//! * An answer that names a term its receiver has durably left is taken off the network; that it does nothing is
//!   tried first.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "part of a test: it fails by panicking"
)]

mod disk;

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Action, AppendEntriesResponse, Body, Config, Configuration, Entry, Event, Incarnation, LogIndex, MemStorage,
    Message, Node, NodeId, Payload, PreVoteResponse, RoleName, Storage, Term,
};
use stateright::{Model, Property};

use crate::disk::Disk;

const SERVERS: u32 = 3;

/// How far the exploration goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// No server campaigns for a later term.
    pub max_term: u64,
    /// Election timeouts, over all servers.
    pub campaigns: u8,
    /// Commands given to leaders.
    pub proposals: u8,
    /// Crashes, each followed by a restart.
    pub crashes: u8,
    /// Messages that arrive and stay under way.
    pub repeats: u8,
    /// Ticks of leaders: each a heartbeat, the second in a row without answers the end of the leadership.
    pub ticks: u8,
    /// Writes become durable one by one and late; otherwise at once.
    pub late_writes: bool,
    /// Pre-votes travel like other messages; otherwise everybody grants them at once. They promise nothing, so safety
    /// must not rest on them.
    pub pre_votes: bool,
}

/// A defect outside the node, to show that the checker finds what it looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// None: what is explored is correct.
    Nothing,
    /// Writes are reported durable when they begin.
    ReportsEarly,
    /// A restart finds the term and no vote.
    ForgetsVote,
    /// Refused votes arrive as granted.
    GrantsEverything,
    /// Acceptances arrive for one entry more.
    AcceptsMore,
}

/// What is explored: the three servers, within these bounds.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// How far.
    pub bounds: Bounds,
    /// What is wrong.
    pub plant: Plant,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The message at this place arrives.
    Deliver(usize),
    /// It arrives, and will again.
    Repeat(usize),
    /// This server's election timeout elapses.
    Campaign(usize),
    /// This leader is given a command.
    Propose(usize),
    /// This server's oldest write becomes durable.
    Persist(usize),
    /// This server crashes and restarts; so many writes that it had not reported are on the disk.
    Crash(usize, usize),
    /// This leader's clock ticks.
    Tick(usize),
}

/// Three servers, the network, and what was promised so far.
#[derive(Clone)]
pub struct State {
    servers: [Arc<Server>; SERVERS as usize],
    /// In the order of their digests: a state is the same whatever the order in which they were sent.
    network: Vec<Letter>,
    left: Left,
    past: Past,
}

#[derive(Clone)]
struct Server {
    node: Node<Disk>,
    digest: u64,
}

#[derive(Clone)]
struct Letter {
    message: Arc<Message>,
    digest: u64,
}

/// What is left of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    campaigns: u8,
    proposals: u8,
    crashes: u8,
    repeats: u8,
    ticks: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Past {
    /// Who has led, in which term.
    leaders: Vec<(Term, NodeId)>,
    /// The first commit seen at each index.
    committed: Vec<(Term, Bytes)>,
    /// Entries were removed from some log.
    replaced: bool,
    broken: Option<&'static str>,
}

/// At most one leader can be elected in a given term.
pub const ELECTION_SAFETY: &str = "Election Safety";
/// Equal (index, term), equal prefixes.
pub const LOG_MATCHING: &str = "Log Matching";
/// What is committed is in the log of the leader of the latest term.
pub const LEADER_COMPLETENESS: &str = "Leader Completeness";
/// Nothing else is ever committed at an index.
pub const STATE_MACHINE_SAFETY: &str = "State Machine Safety";
/// At an entry's first commit a majority holds it durably.
pub const COMMIT_EVIDENCE: &str = "Commit evidence";
/// Granted votes and acceptances are durable when they are told; answers of past terms do nothing.
pub const PROMISES: &str = "Promises are kept";

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let servers = [1, 2, 3].map(|id| {
            let genesis = Configuration::new((1..=SERVERS).map(NodeId));
            Arc::new(Server::new(start(id, Disk::new(MemStorage::new(genesis)))))
        });
        let Bounds { campaigns, proposals, crashes, repeats, ticks, .. } = self.bounds;
        let left = Left { campaigns, proposals, crashes, repeats, ticks };
        vec![State { servers, network: Vec::new(), left, past: Past::default() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let left = state.left;
        for at in 0..state.network.len() {
            if at > 0 && state.network[at].digest == state.network[at - 1].digest {
                continue;
            }
            steps.push(Step::Deliver(at));
            if left.repeats > 0 {
                steps.push(Step::Repeat(at));
            }
        }
        for (at, server) in state.servers.iter().enumerate() {
            let status = server.node.status();
            let leads = status.role == RoleName::Leader;
            let is_first = left.campaigns == self.bounds.campaigns;
            if left.campaigns > 0 && !leads && status.term.0 < self.bounds.max_term && (at == 0 || !is_first) {
                steps.push(Step::Campaign(at));
            }
            if left.proposals > 0 && leads {
                steps.push(Step::Propose(at));
            }
            if left.ticks > 0 && leads {
                steps.push(Step::Tick(at));
            }
            let pending = server.node.storage().pending();
            if pending > 0 && self.plant != Plant::ReportsEarly {
                steps.push(Step::Persist(at));
            }
            if left.crashes > 0 {
                steps.extend((0..=pending).map(|also| Step::Crash(at, also)));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Deliver(at) => {
                let letter = state.network.remove(at);
                self.deliver(&mut state, &letter.message);
            }
            Step::Repeat(at) => {
                state.left.repeats -= 1;
                let letter = state.network[at].clone();
                self.deliver(&mut state, &letter.message);
            }
            Step::Campaign(at) => {
                state.left.campaigns -= 1;
                self.step(&mut state, at, Event::Campaign);
            }
            Step::Propose(at) => {
                let command = Bytes::from(format!("command {}", state.left.proposals));
                state.left.proposals -= 1;
                self.step(&mut state, at, Event::Propose(vec![command]));
            }
            Step::Tick(at) => {
                state.left.ticks -= 1;
                self.step(&mut state, at, Event::Tick);
            }
            Step::Persist(at) => self.persist(&mut state, at),
            Step::Crash(at, also) => {
                state.left.crashes -= 1;
                let disk = state.servers[at].node.storage().clone().crash(also, self.plant == Plant::ForgetsVote);
                state.servers[at] = Arc::new(Server::new(start(at as u32 + 1, disk)));
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ELECTION_SAFETY, |_, state: &State| state.election_safety()),
            Property::always(LOG_MATCHING, |_, state: &State| state.log_matching()),
            Property::always(LEADER_COMPLETENESS, |_, state: &State| state.leader_completeness()),
            Property::always(STATE_MACHINE_SAFETY, |_, state: &State| state.state_machine_safety()),
            Property::always(COMMIT_EVIDENCE, |_, state: &State| state.past.broken != Some(COMMIT_EVIDENCE)),
            Property::always(PROMISES, |_, state: &State| state.past.broken != Some(PROMISES)),
            Property::sometimes("a leader is elected", |_, state: &State| !state.past.leaders.is_empty()),
            Property::sometimes("a follower learns of a commit", |_, state: &State| {
                state.servers.iter().filter(|server| server.node.commit_index() > LogIndex(0)).count() > 1
            }),
        ];
        if self.bounds.max_term > 1 {
            properties.extend([
                Property::sometimes("two terms have leaders", |_, state: &State| state.past.leaders.len() > 1),
                Property::sometimes("an entry is replaced", |_, state: &State| state.past.replaced),
            ]);
        }
        if self.bounds.proposals > 0 {
            properties.push(Property::sometimes("all commands are committed", |model: &Self, state: &State| {
                let commands = state.past.committed.iter().filter(|(_, command)| !command.is_empty());
                commands.count() == usize::from(model.bounds.proposals)
            }));
        }
        properties
    }
}

// What a step does.
impl Cluster {
    fn deliver(&self, state: &mut State, message: &Message) {
        let mut message = message.clone();
        match &mut message.body {
            Body::RequestVoteResponse(_, response) if self.plant == Plant::GrantsEverything => {
                response.vote_granted = true;
            }
            Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index })
                if self.plant == Plant::AcceptsMore =>
            {
                *match_index = match_index.next();
            }
            _ => {}
        }
        self.step(state, message.to.0 as usize - 1, message);
    }

    /// Gives a server an event and does what it asks for.
    fn step(&self, state: &mut State, at: usize, event: impl Into<Event>) {
        let mut node = state.servers[at].node.clone();
        let mut sent = Vec::new();
        let mut events = vec![event.into()];
        while let Some(event) = events.pop() {
            for action in node.step(event) {
                match action {
                    Action::Send(message) if !self.bounds.pre_votes && matches!(message.body, Body::PreVote(_)) => {
                        events.push(Event::Message(pre_vote_granted(&message)));
                    }
                    Action::Send(message) => {
                        state.past.check_promise(&message, node.storage());
                        sent.push(Letter::new(message));
                    }
                    Action::Persist(write) => node.storage_mut().write(write).unwrap(),
                    Action::Apply { last, .. } => events.push(Event::Applied(last)),
                    Action::Halt(fault) => panic!("server {} halts: {fault}", at + 1),
                    _ => {}
                }
            }
            let disk = node.storage_mut();
            if events.is_empty() && disk.pending() > 0 {
                if self.plant == Plant::ReportsEarly {
                    events.extend(disk.report_early().map(Event::Persisted));
                } else if !self.bounds.late_writes {
                    events.push(Event::Persisted(disk.persist(usize::MAX)));
                }
            }
        }
        state.past.replaced |= node.storage().truncated();
        state.servers[at] = Arc::new(Server::new(node));
        state.network.extend(sent);
        state.drop_dead_letters(at);
        state.network.sort_by_key(|letter| letter.digest);
        state.note_leaders();
        state.note_commits();
    }

    fn persist(&self, state: &mut State, at: usize) {
        let mut node = state.servers[at].node.clone();
        let written = node.storage_mut().persist(1);
        state.servers[at] = Arc::new(Server::new(node));
        self.step(state, at, Event::Persisted(written));
    }
}

// The properties.
impl State {
    fn election_safety(&self) -> bool {
        let leaders = &self.past.leaders;
        leaders.iter().all(|(term, id)| leaders.iter().all(|(other, other_id)| term != other || id == other_id))
    }

    fn log_matching(&self) -> bool {
        let logs = self.servers.each_ref().map(|server| server.log());
        let matching = |a: &[Entry], b: &[Entry]| {
            let equal = a.iter().zip(b).rposition(|(a, b)| a.term == b.term);
            equal.is_none_or(|at| a[..=at] == b[..=at])
        };
        matching(&logs[0], &logs[1]) && matching(&logs[0], &logs[2]) && matching(&logs[1], &logs[2])
    }

    fn leader_completeness(&self) -> bool {
        let latest = self.past.leaders.iter().map(|(term, _)| *term).max().unwrap_or_default();
        self.servers.iter().all(|server| {
            let status = server.node.status();
            let leads = status.role == RoleName::Leader && status.term == latest;
            !leads || server.log().len() >= self.past.committed.len() && self.past.agrees(&server.log())
        })
    }

    fn state_machine_safety(&self) -> bool {
        self.servers.iter().all(|server| {
            let commit = server.node.commit_index().0 as usize;
            self.past.agrees(&server.log()[..commit])
        })
    }
}

// What is kept of the past.
impl State {
    fn note_leaders(&mut self) {
        for server in &self.servers {
            let status = server.node.status();
            let led = (status.term, status.id);
            if status.role == RoleName::Leader && !self.past.leaders.contains(&led) {
                self.past.leaders.push(led);
                self.past.leaders.sort_unstable();
            }
        }
    }

    fn note_commits(&mut self) {
        for server in &self.servers {
            let commit = server.node.commit_index().0 as usize;
            if commit <= self.past.committed.len() {
                continue;
            }
            for entry in &server.log()[self.past.committed.len()..commit] {
                let holds = |server: &&Arc<Server>| server.node.storage().durable_term(entry.index) == Some(entry.term);
                if self.servers.iter().filter(holds).count() <= SERVERS as usize / 2 {
                    self.past.broken.get_or_insert(COMMIT_EVIDENCE);
                }
                self.past.committed.push(name(entry));
            }
        }
    }

    /// Takes answers to `at` off the network that name a term which it has durably left.
    fn drop_dead_letters(&mut self, at: usize) {
        let server = Arc::clone(&self.servers[at]);
        let durable = server.node.storage().durable_hard_state().current_term;
        let is_dead = |message: &Message| match &message.body {
            Body::PreVoteResponse(_, response) => response.next_term <= durable && message.term <= durable,
            Body::RequestVoteResponse(_, _) | Body::AppendEntriesResponse(_, _) | Body::HeartbeatResponse(_, _) => {
                message.term < durable
            }
            _ => false,
        };
        let mut alive = true;
        self.network.retain(|letter| {
            let dead = letter.message.to.0 as usize == at + 1 && is_dead(&letter.message);
            if dead {
                let mut node = server.node.clone();
                let actions = node.step(Message::clone(&letter.message));
                alive &= actions.is_empty() && digest(&node) == server.digest;
            }
            !dead
        });
        if !alive {
            self.past.broken.get_or_insert(PROMISES);
        }
    }
}

impl Past {
    fn check_promise(&mut self, message: &Message, disk: &Disk) {
        let hard_state = disk.durable_hard_state();
        let kept = hard_state.current_term >= message.term
            && match &message.body {
                Body::RequestVoteResponse(_, response) => {
                    !response.vote_granted || hard_state.voted_for == Some(message.to)
                }
                Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }) => {
                    disk.durable_term(*match_index).is_some_and(|term| disk.term(*match_index) == Ok(term))
                }
                _ => true,
            };
        if !kept {
            self.broken.get_or_insert(PROMISES);
        }
    }

    /// Whether the log is the same as what was committed, as far as both go.
    fn agrees(&self, log: &[Entry]) -> bool {
        log.iter().zip(&self.committed).all(|(entry, committed)| name(entry) == *committed)
    }
}

impl Server {
    fn new(node: Node<Disk>) -> Self {
        Self { digest: digest(&node), node }
    }

    fn log(&self) -> Vec<Entry> {
        self.node.storage().log()
    }
}

impl Letter {
    fn new(message: Message) -> Self {
        Self { digest: digest(&message), message: Arc::new(message) }
    }
}

fn pre_vote_granted(request: &Message) -> Message {
    let granted = PreVoteResponse { next_term: request.term.next(), vote_granted: true };
    Message {
        from: request.to,
        to: request.from,
        term: request.term,
        body: Body::PreVoteResponse(Incarnation::UNKNOWN, granted),
    }
}

/// A server of this id over its disk. Timeouts of two ticks leave nothing to chance.
fn start(id: u32, disk: Disk) -> Node<Disk> {
    let config = Config { election_timeout_ticks: 2, heartbeat_ticks: 1, max_inflight: 2, ..Config::new(NodeId(id)) };
    Node::new(config, disk).unwrap()
}

fn name(entry: &Entry) -> (Term, Bytes) {
    let command = if let Payload::Command(command) = &entry.payload { command.clone() } else { Bytes::new() };
    (entry.term, command)
}

/// A digest of everything that a `Debug` output shows. A node's shows all of it but the random generator, which decides
/// nothing here.
fn digest(of: &impl fmt::Debug) -> u64 {
    struct Text(DefaultHasher);
    impl fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut text = Text(DefaultHasher::new());
    write!(text, "{of:?}").unwrap();
    text.0.finish()
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for server in &self.servers {
            server.digest.hash(hasher);
        }
        for letter in &self.network {
            letter.digest.hash(hasher);
        }
        self.left.hash(hasher);
        self.past.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let servers = |state: &Self| state.servers.each_ref().map(|server| server.digest);
        servers(self) == servers(other)
            && self.network.iter().map(|letter| letter.digest).eq(other.network.iter().map(|letter| letter.digest))
            && self.left == other.left
            && self.past == other.past
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            let status = server.node.status();
            let log: Vec<u64> = server.log().iter().map(|entry| entry.term.0).collect();
            let (id, term, commit) = (status.id, status.term, status.commit_index);
            let pending = server.node.storage().pending();
            writeln!(f, "{id}: {} of term {term}, log {log:?}, commit {commit}, writes {pending}", status.role)?;
        }
        for Letter { message, .. } in &self.network {
            writeln!(f, "   {} -> {} in term {}: {:?}", message.from, message.to, message.term, message.body)?;
        }
        write!(f, "{:?}", self.past)
    }
}
