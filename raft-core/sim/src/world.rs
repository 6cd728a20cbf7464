//! The world of a run: servers, links, disks, clocks, clients and an operator, in one thread, from one plan.
//!
//! ```text
//!            queue: what happens next, by simulated time
//!               │
//!   tick, message, call ──> Replica ──> outbox ──> Network ──> queue
//!               │              │ └────> replies ─> Network ──> queue ──> Workload
//!               │              └──────> SimDisk ── sync ─────> queue
//!               │              └──────> Oracle: after every input
//!   fault ──────┴──> crashes, cuts, clocks, disks, the operator
//! ```
//!
//! Invariant: everything is a function of the plan. Whatever is random is drawn from a generator of its own part (links,
//! disks, clients, faults), so that taking one fault away leaves the others much as they were.

use std::collections::BTreeMap;

use raft_core::{Action, Fault as NodeFault, Message, NodeId, Outcome, RoleName, StateMachine, Storage};
use raft_kv::ClusterId;

use crate::network::{Network, wire_bytes};
use crate::oracle::Oracle;
use crate::plan::{Plan, Target};
use crate::report::{Failure, Report};
use crate::simulation::Simulation;
use crate::story::{Happening, What, words};
use crate::time::{Rng, Time, rng};
use crate::workload::{Call, Workload};

mod broken;
mod clients;
mod faults;
mod healing;
mod leases;
mod life;
mod operator;
mod queue;
mod server;

use clients::Clients;
use faults::Ending;
use healing::Phase;
use operator::Operator;
use queue::Queue;
use server::{Caller, Input, Process, Server};

/// See the module.
pub(crate) struct World<'a, M, S, W> {
    simulation: &'a Simulation<M, S, W>,
    plan: Plan,
    now: Time,
    queue: Queue<Due>,
    servers: Vec<Server<S, M>>,
    network: Network,
    /// Held back for links that are clogged.
    clogged: Vec<(u64, Box<Message>)>,
    disks: Rng,
    chances: Rng,
    clients: Clients,
    oracle: Oracle,
    workload: W,
    operator: Operator,
    phase: Phase,
    messages: u64,
    story: Option<Vec<Happening>>,
    faults: BTreeMap<&'static str, u64>,
    steps: u64,
    fingerprint: u64,
}

/// What is to happen.
enum Due {
    Tick(NodeId, u64),
    /// A server looks at its disk and proposes what has gathered.
    Turn(NodeId, u64),
    /// The sync of a server's disk has ended.
    Synced(NodeId, u64),
    Start(NodeId),
    Message(u64, Box<Message>),
    Wake(u32),
    Call(NodeId, Caller, Call),
    Answer(NodeId, Caller, Box<Outcome>),
    /// The fault of the plan with this number.
    Fault(usize),
    Ending(Ending),
    Operator,
    Healing,
}

/// The cluster of every run.
const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Clients' numbers on the network begin after this.
const CLIENTS: u32 = 1_000;

/// A run that does so much is not going to end.
const STEPS_MAX: u64 = 20_000_000;

impl<'a, M: StateMachine, S: Storage, W: Workload> World<'a, M, S, W> {
    pub(crate) fn new(simulation: &'a Simulation<M, S, W>, plan: Plan, with_story: bool) -> Self {
        let (seed, shape) = (plan.seed, plan.shape.clone());
        let count = shape.voters.saturating_add(shape.others);
        Self {
            simulation,
            now: Time::ZERO,
            queue: Queue::new(),
            servers: (1..=count).map(|id| Server::new(NodeId(id), id <= shape.voters)).collect(),
            network: Network::new(shape.network.clone(), count, rng(seed, "links")),
            clogged: Vec::new(),
            disks: rng(seed, "disks"),
            chances: rng(seed, "faults"),
            clients: Clients { rng: rng(seed, "clients"), wakes: vec![None; shape.clients as usize] },
            oracle: Oracle::new(&shape.limits),
            workload: (simulation.workload)(&plan),
            operator: Operator::default(),
            phase: Phase::Faults,
            messages: 0,
            story: with_story.then(Vec::new),
            faults: BTreeMap::new(),
            steps: 0,
            fingerprint: 0,
            plan,
        }
    }

    /// To the end, or to the first thing that must not be.
    pub(crate) fn run(mut self) -> Report {
        let ended = self.begin().and_then(|()| self.go_on());
        let failure = ended.err().map(|failure| Failure { at: self.now, ..failure });
        if let Some(failure) = &failure {
            self.tell(|| What::Violation { words: format!("{}: {}", failure.rule, failure.what) });
        }
        Report {
            simulated: self.now,
            faults: self.faults,
            steps: self.steps,
            operations: self.workload.completed(),
            committed: self.oracle.committed().0,
            fingerprint: self.fingerprint,
            failure,
            story: self.story.unwrap_or_default(),
            plan: self.plan,
        }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        for at in 0..self.servers.len() {
            self.start(at)?;
        }
        for client in 1..=self.plan.shape.clients {
            self.wake_at(client, self.now);
        }
        for number in 0..self.plan.faults.len() {
            if let Some(timed) = self.plan.faults.get(number) {
                self.queue.push(timed.at, Due::Fault(number));
            }
        }
        self.queue.push(self.plan.shape.duration, Due::Healing);
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), Failure> {
        while self.phase != Phase::Ended {
            let Some((at, due)) = self.queue.pop() else { break };
            self.now = at;
            self.happen(due)?;
            if self.steps > STEPS_MAX {
                return Err(Failure::new("traffic", format!("{STEPS_MAX} steps, and no end")));
            }
        }
        Ok(())
    }

    fn happen(&mut self, due: Due) -> Result<(), Failure> {
        match due {
            Due::Tick(id, life) => self.tick(id, life),
            Due::Turn(id, life) => self.turn(id, life),
            Due::Synced(id, life) => self.synced(id, life),
            Due::Start(id) => match self.place(id) {
                Some(at) => self.start(at),
                None => Ok(()),
            },
            Due::Message(number, message) => {
                self.tell(|| What::Delivered { message: number });
                self.give(message.to, Input::Message(message))
            }
            Due::Wake(client) => {
                self.wake(client);
                Ok(())
            }
            Due::Call(id, caller, call) => self.give(id, Input::Call(caller, call)),
            Due::Answer(server, caller, outcome) => {
                self.with_client(caller.client, |workload, io| {
                    workload.answer(caller.client, server, caller.call, *outcome, io);
                });
                Ok(())
            }
            Due::Fault(number) => self.inflict(number),
            Due::Ending(ending) => self.end(ending),
            Due::Operator => self.operate(),
            Due::Healing => self.heal(),
        }
    }

    /// Adds to the story, if somebody wants it.
    fn tell(&mut self, what: impl FnOnce() -> What) {
        if let Some(story) = &mut self.story {
            story.push(Happening { at: self.now, what: what() });
        }
    }

    fn place(&self, id: NodeId) -> Option<usize> {
        let at = usize::try_from(id.0).ok()?.checked_sub(1)?;
        (at < self.servers.len()).then_some(at)
    }

    fn server_mut(&mut self, id: NodeId) -> Option<&mut Server<S, M>> {
        let at = self.place(id)?;
        self.servers.get_mut(at)
    }

    /// A server whose process is the one of this life.
    fn alive_mut(&mut self, id: NodeId, life: u64) -> Option<&mut Server<S, M>> {
        self.server_mut(id).filter(|server| server.life == life && server.process.is_some())
    }

    /// Who leads in the highest term in which anybody does.
    fn leader(&self) -> Option<NodeId> {
        let node = |server: &Server<S, M>| {
            let node = server.process.as_ref()?.replica.node();
            (node.role() == RoleName::Leader && !node.is_halted()).then(|| (node.current_term(), server.id))
        };
        self.servers.iter().filter_map(node).max().map(|(_, id)| id)
    }

    fn resolve(&self, target: Target) -> Option<NodeId> {
        match target {
            Target::Server(id) => self.place(NodeId(id)).map(|_| NodeId(id)),
            Target::Leader => self.leader(),
        }
    }
}

// What comes of an input.
impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// What an input has led to: checked, and carried on.
    fn after(&mut self, at: usize) -> Result<(), Failure> {
        self.steps = self.steps.saturating_add(1);
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let id = server.id;
        let Some(process) = &mut server.process else { return Ok(()) };
        if process.snapshot_beyond.take_if(|beyond| process.replica.node().last_applied() > *beyond).is_some() {
            process.replica.take_snapshot();
        }
        self.oracle.stepped(id, &process.replica)?;
        for applied in self.oracle.take_applied(id) {
            self.workload
                .applied(id, &applied.position, &applied.command, &applied.reply)
                .map_err(|what| Failure::new("exactly once", what))?;
        }
        let mut outbox = std::mem::take(process.replica.transport_mut().messages_mut());
        let node = process.replica.node();
        let seen = [self.now.0, u64::from(id.0), node.current_term().0, node.commit_index().0, outbox.len() as u64];
        for word in seen {
            self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
        for message in outbox.drain(..) {
            self.oracle.sent(&message)?;
            self.carry(message);
        }
        if let Some(process) = self.servers.get_mut(at).and_then(|server| server.process.as_mut()) {
            *process.replica.transport_mut().messages_mut() = outbox;
        }
        self.leases_exclude()?;
        self.reply(at)?;
        self.notice(at)?;
        self.begin_sync(at);
        self.crash_at_write(at)
    }

    /// The answers to clients.
    fn reply(&mut self, at: usize) -> Result<(), Failure> {
        loop {
            let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
            let id = server.id;
            let Some(process) = &mut server.process else { return Ok(()) };
            let Some(reply) = process.replica.next_reply() else { return Ok(()) };
            let Some(caller) = process.requests.remove(&reply.request) else {
                let what = format!("server {id} answers {:?}, which nobody awaits", reply.request);
                return Err(Failure::new("answered once", what));
            };
            self.oracle.replied(id, &reply.outcome)?;
            for at in self.network.carry(self.now, id.0, CLIENTS.saturating_add(caller.client), 100) {
                self.queue.push(at, Due::Answer(id, caller, Box::new(reply.outcome.clone())));
            }
        }
    }

    /// What the operator would read.
    fn notice(&mut self, at: usize) -> Result<(), Failure> {
        loop {
            let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
            let (id, is_excused, is_altered) = (server.id, server.is_excused, server.is_altered);
            let Some(process) = &mut server.process else { return Ok(()) };
            let Some(notice) = process.replica.next_notice() else { break };
            match &notice {
                Action::Halt(fault) => {
                    process.halted = true;
                    let what = format!("server {id} halts: {fault}");
                    let is_meant = match fault {
                        NodeFault::Storage(_) => is_excused,
                        NodeFault::Diverged { .. } => false,
                        NodeFault::StateDiverged { .. } | NodeFault::StateRotted { .. } => is_altered,
                    };
                    if !is_meant {
                        return Err(Failure::new("halts only where its disk fails", what));
                    }
                    self.tell(|| What::Halted { server: id, why: fault.to_string() });
                    self.queue.push(self.now + Time::millis(300), Due::Ending(Ending::Supervise(id)));
                }
                Action::PeerDiverged { peer, index } => {
                    let what = format!("server {id} says that {peer} differs at {index}");
                    return Err(Failure::new("log matching", what));
                }
                // An altered state is told of also when its server has started anew.
                Action::StateDiffers { peer, index } if !self.faults.contains_key("altered state") => {
                    let what = format!("server {id} says that {peer} has another state after {index}");
                    return Err(Failure::new("equal states", what));
                }
                Action::RoleChanged { .. } => {}
                notice => {
                    let words = || format!("{notice:?}");
                    self.tell(|| What::Server { server: id, words: words() });
                }
            }
        }
        self.tell_state(at);
        Ok(())
    }

    fn tell_state(&mut self, at: usize) {
        if self.story.is_none() {
            return;
        }
        let Some(server) = self.servers.get_mut(at) else { return };
        let (id, Some(process)) = (server.id, &mut server.process) else { return };
        let node = process.replica.node();
        let (role, term, committed) = (node.role(), node.current_term(), node.commit_index().0);
        let changed = std::mem::replace(&mut process.role, (role, term)) != (role, term);
        let rose = std::mem::replace(&mut process.committed, committed) < committed;
        if changed {
            self.tell(|| What::Role { server: id, role, term });
        }
        if rose {
            self.tell(|| What::Committed { server: id, index: committed });
        }
    }

    /// Sends a message on its way.
    fn carry(&mut self, message: Message) {
        self.messages = self.messages.saturating_add(1);
        let (number, from, to) = (self.messages, message.from, message.to);
        self.tell(|| What::Sent { message: number, from, to, term: message.term, words: words(&message.body) });
        self.send(number, Box::new(message));
    }

    fn send(&mut self, number: u64, message: Box<Message>) {
        let (from, to) = (message.from.0, message.to.0);
        if self.network.is_clogged(from, to) {
            self.clogged.push((number, message));
            return;
        }
        let arrivals = self.network.carry(self.now, from, to, wire_bytes(&message));
        match arrivals.as_slice() {
            [] => self.tell(|| What::Lost { message: number }),
            [at] => self.queue.push(*at, Due::Message(number, message)),
            times => times.iter().for_each(|at| self.queue.push(*at, Due::Message(number, message.clone()))),
        }
    }
}
