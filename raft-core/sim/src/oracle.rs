//! The oracle: the seventeen invariants of a run, held over all its servers after every input of one of them.
//!
//! It trusts no server's word. A [`Watched`] storage tells it each write that begins and each that is durable, and from
//! these alone it knows what every server's log and hard state are, now and after a crash; a [`WatchedMachine`] tells it
//! what is applied. What a server says and does is held against that, and against the first of its kind in the run: `C`, the
//! first commit seen at each index; the first leader of a term; the first digest seen under an (index, term).
//!
//! | | invariant | how |
//! |---|---|---|
//! | 1 | election safety | whoever leads, or speaks as a leader, in a term is the first that did; whoever begins to lead has the durable votes of a quorum |
//! | 2 | one durable vote a server and term | every hard state that becomes durable, every vote that is told: durable before |
//! | 3 | what never falls | term, vote, commit and applied within a life; a life begins with what was durable, or a later write |
//! | 4 | leader append-only | no entry is removed, and none of another term appended, by who led before the input and leads after it |
//! | 5 | log matching | every entry appended, by its (index, term): one digest |
//! | 6 | state machine safety | every entry that any server holds for committed is the one in `C`; its commands and replies are equal |
//! | 7 | leader completeness | whoever begins to lead has what was committed in earlier terms, and whoever leads a later term has what an earlier one commits |
//! | 8 | commit evidence | at the first commit of an index the disks of a quorum have it, of the configuration of who commits it; a leader commits up to an entry of its own term |
//! | 9 | order | snapshot <= applied <= commit <= last; match < next; no truncation at or below commit |
//! | 10 | configurations | in no log are two uncommitted; each shares its quorums with the one before, by its form |
//! | 11 | acknowledged is kept | a reply names an entry in `C`, durable where it was given; the rest is 6, 7 and 8 |
//! | 12 | equal states | the machine's digest before every 64th entry; the snapshots'; at the end all, and every byte; whoever had another state than the log says a majority had applies no more |
//! | 13, 14 | exactly once, linearizable | the workload's: [`take_applied`](Oracle::take_applied) |
//! | 15 | budgets | the node's counts at every 64th input; no command begins to be written where there was no room for it |
//! | 16 | nothing unflushed is revealed | terms, votes, acceptances, applications and replies, against what is durable at that moment |
//! | 17 | healing | the world's, and [`settled`](Oracle::settled) |
//!
//! What is no violation: a server that lost its disk knowingly ([`wiped`](Oracle::wiped)) may vote again and lacks what it
//! had, and what it had counts for those who mean that disk; the leader of an old term need not have what was committed in a
//! later one; where the storage does not link, entries are told apart by their terms alone.

mod audit;
mod history;
mod shadow;
mod states;
mod steps;
mod tap;
#[cfg(test)]
mod tests;
mod watched;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use raft_core::{
    Body, Incarnation, LogIndex, Message, Node, NodeId, Outcome, Position, Replica, RoleName, StateMachine, Storage,
    Term, Transport,
};

use crate::plan::Limits;
use crate::report::Failure;
use history::{History, check};
use shadow::{Log, Mark};
use tap::{News, Tap};
pub use watched::{Watched, WatchedMachine};

/// Holds the invariants over the servers of one run. See the module.
#[derive(Debug)]
pub struct Oracle {
    limits: Limits,
    servers: BTreeMap<NodeId, Server>,
    /// Disks that were lost: what they acknowledged, they held then.
    lost: Vec<Lost>,
    history: History,
    /// Room for the news that are looked at.
    news: News,
}

/// A command that a server's state machine has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where it stands in the log.
    pub position: Position,
    /// The command.
    pub command: Bytes,
    /// What the machine answered.
    pub reply: Bytes,
}

#[derive(Debug)]
struct Server {
    tap: Rc<RefCell<Tap>>,
    incarnation: Incarnation,
    /// Counts the disks that it has lost.
    disk: u32,
    /// Its disk has been seen.
    is_known: bool,
    /// What was last seen of its node; `None` while it is down.
    seen: Option<Seen>,
    /// The entry of the configuration that was active then.
    configuration: LogIndex,
    inputs: u64,
}

#[derive(Debug)]
struct Lost {
    server: NodeId,
    incarnation: Incarnation,
    log: Log,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    role: RoleName,
    term: Term,
    voted_for: Option<NodeId>,
    commit: LogIndex,
    applied: LogIndex,
}

impl Seen {
    fn of<S: Storage>(node: &Node<S>) -> Self {
        Self {
            role: node.role(),
            term: node.current_term(),
            voted_for: node.voted_for(),
            commit: node.commit_index(),
            applied: node.last_applied(),
        }
    }

    fn leads(&self) -> bool {
        self.role == RoleName::Leader
    }
}

// Lives.
impl Oracle {
    /// Of a run that has not begun, of servers with these limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            servers: BTreeMap::new(),
            lost: Vec::new(),
            history: History::default(),
            news: News::default(),
        }
    }

    /// The storage for a server's next life.
    pub fn watch<S: Storage>(&mut self, server: NodeId, storage: S) -> Watched<S> {
        Watched::new(storage, self.tap(server))
    }

    /// The empty machine for a server's next life.
    pub fn watch_machine<M: StateMachine>(&mut self, server: NodeId, machine: M) -> WatchedMachine<M> {
        WatchedMachine::new(machine, self.tap(server))
    }

    fn tap(&mut self, id: NodeId) -> Rc<RefCell<Tap>> {
        Rc::clone(&self.servers.entry(id).or_insert_with(|| Server::new(id)).tap)
    }

    /// A server has started, and has taken no input yet.
    ///
    /// # Errors
    /// Its disk does not hold what it must.
    pub fn started<S: Storage, T: Transport, M: StateMachine>(
        &mut self,
        id: NodeId,
        replica: &Replica<Watched<S>, T, WatchedMachine<M>>,
    ) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        let (node, incarnation) = (replica.node(), replica.node().storage().incarnation());
        let is_same = !server.is_known || incarnation == server.incarnation;
        check(is_same, "durable state", || format!("server {id} starts with another disk than its own"))?;
        server.tap.borrow_mut().start(node.storage().inner(), server.is_known)?;
        (server.is_known, server.incarnation) = (true, incarnation);
        server.seen = Some(Seen::of(node));
        server.configuration = LogIndex(0);
        self.stepped(id, replica)
    }

    /// A server has died.
    pub fn crashed(&mut self, server: NodeId) {
        if let Some(server) = self.servers.get_mut(&server) {
            server.seen = None;
        }
    }

    /// A server has lost its files, knowingly: its promises end here, and its next disk is another.
    pub fn wiped(&mut self, id: NodeId) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let log = server.tap.borrow().durable.log.clone();
        self.lost.push(Lost { server: id, incarnation: server.incarnation, log });
        *server = Server { disk: server.disk.saturating_add(1), ..Server::new(id) };
    }

    /// A server's state is another from now on, until it starts anew or restores a snapshot: only its digest shows it, and
    /// only to the servers.
    pub fn alter_state(&mut self, server: NodeId) {
        if let Some(server) = self.servers.get(&server) {
            server.tap.borrow_mut().state.is_altered = true;
        }
    }

    /// What a server has applied since this was last asked, or since it started. To be asked after every input, or it
    /// gathers.
    pub fn take_applied(&mut self, server: NodeId) -> Vec<Applied> {
        self.servers.get(&server).map_or_else(Vec::new, |server| std::mem::take(&mut server.tap.borrow_mut().applied))
    }

    /// The highest index known to be committed.
    #[must_use]
    pub const fn committed(&self) -> LogIndex {
        self.history.last_committed()
    }
}

impl Server {
    fn new(id: NodeId) -> Self {
        Self {
            tap: Rc::new(RefCell::new(Tap::new(id))),
            incarnation: Incarnation::UNKNOWN,
            disk: 0,
            is_known: false,
            seen: None,
            configuration: LogIndex(0),
            inputs: 0,
        }
    }
}

// What leaves a server.
impl Oracle {
    /// A message has left in the input that was [stepped](Self::stepped) last.
    ///
    /// # Errors
    /// It says what is not so, or promises what is not durable.
    pub fn sent(&mut self, message: &Message) -> Result<(), Failure> {
        let Message { from, to, term, body } = message;
        let Some(server) = self.servers.get(from) else { return Ok(()) };
        let disk = server.disk;
        let mut tap = server.tap.borrow_mut();
        tap.sends(message);
        tap.failure.take().map_or(Ok(()), Err)?;
        drop(tap);
        match body {
            Body::RequestVoteResponse(_, response) if response.vote_granted => {
                self.history.votes(*from, disk, *term, *to)
            }
            Body::AppendEntries(request) => self.leader_says(*from, *term, request.leader_commit),
            Body::Heartbeat(request) => self.leader_says(*from, *term, request.leader_commit),
            Body::InstallSnapshot(chunk) => {
                self.leader_says(*from, *term, chunk.meta.last_included_index)?;
                self.is_committed(*from, chunk.meta.last_included_index, Mark::of(&chunk.meta))
            }
            Body::TimeoutNow => self.history.leads(*from, *term),
            _ => Ok(()),
        }
    }

    fn leader_says(&mut self, server: NodeId, term: Term, commit: LogIndex) -> Result<(), Failure> {
        self.history.leads(server, term)?;
        let committed = self.committed();
        let what = || format!("server {server} says in term {term} that {commit} is committed; {committed} is");
        check(commit <= committed, "commit evidence", what)
    }

    /// Whether this entry is the one that is committed there.
    fn is_committed(&self, server: NodeId, index: LogIndex, mark: Mark) -> Result<(), Failure> {
        let first = self.history.committed(index);
        let is_so = index <= self.committed() && first.is_none_or(|first| first.agrees(mark));
        check(is_so, "state machine safety", || {
            let first = first.map_or_else(|| String::from("nothing"), |first| first.to_string());
            format!("server {server} speaks of {mark} at {index}, where {first} is committed")
        })
    }

    /// A server has answered a client.
    ///
    /// # Errors
    /// It is told what is not so, or may be lost.
    pub fn replied(&mut self, id: NodeId, outcome: &Outcome) -> Result<(), Failure> {
        let Some(seen) = self.servers.get(&id).and_then(|server| server.seen) else { return Ok(()) };
        match outcome {
            Outcome::Applied { position, .. } => {
                self.is_committed(id, position.index, Mark { term: position.term, digest: position.digest })?;
                let durable =
                    self.servers.get(&id).map_or(Ok(()), |server| server.tap.borrow().is_durable(position.index));
                let rule = "acknowledged is kept";
                durable
                    .map_err(|what| Failure::new(rule, format!("server {id} answers from {}: {what}", position.index)))
            }
            // Of a snapshot that it has restored and not installed yet nothing need be durable here: others have it.
            Outcome::Answered { index, .. } => {
                check(*index <= self.committed(), "acknowledged is kept", || {
                    format!("server {id} answers from {index}, which is not committed")
                })?;
                let what = || format!("server {id} answers from entry {index} and has applied {}", seen.applied);
                check(*index <= seen.applied, "acknowledged is kept", what)
            }
            Outcome::Refused(_) | Outcome::Unknown => Ok(()),
        }
    }
}

/// For telling apart, not for secrets: eight bytes at a time.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(ODD).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let whole = words.iter().fold(mix(seed, bytes.len() as u64), |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(whole, |hash, byte| mix(hash, u64::from(*byte)))
}
