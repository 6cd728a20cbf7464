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

use raft_core::{
    Action, Configuration, Fault as NodeFault, Message, NodeId, Outcome, Replica, RequestId, RoleName, StateMachine,
    Storage,
};
use raft_kv::ClusterId;

use crate::network::{Network, Outbox, wire_bytes};
use crate::oracle::Oracle;
use crate::plan::{Plan, Target};
use crate::report::{Failure, Report};
use crate::simulation::{Founding, Simulation};
use crate::story::{Happening, What, words};
use crate::time::{Rng, Time, exponential, rng};
use crate::workload::{Call, Io, Workload};

mod broken;
mod faults;
mod healing;
mod leases;
mod operator;
mod queue;
mod server;

use faults::Ending;
use healing::Phase;
use operator::Operator;
use queue::Queue;
use server::{Caller, Input, Process, Server, config};

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

/// When each client wants to be woken.
struct Clients {
    rng: Rng,
    wakes: Vec<Option<Time>>,
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

// Servers live.
impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// Starts a server that is down; one that cannot start is retired until it is replaced.
    fn start(&mut self, at: usize) -> Result<(), Failure> {
        let (now, shape, seed) = (self.now, &self.plan.shape, self.plan.seed);
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        if server.process.is_some() || server.is_retired {
            return Ok(());
        }
        let (id, incarnation, is_founder) = (server.id, server.incarnation, server.is_founder);
        server.life = server.life.saturating_add(1);
        let life = server.life;
        let configuration = Configuration::new((1..=shape.voters).map(NodeId));
        let founding = Founding { server: id, cluster: CLUSTER, configuration, incarnation, is_founder };
        let (config, limits) = config(shape, id, seed, life);
        let opened = (self.simulation.storage)(server.disk.clone(), &founding).and_then(|storage| {
            let storage = self.oracle.watch(id, storage);
            let machine = self.oracle.watch_machine(id, (self.simulation.machine)());
            Replica::new(config, limits, storage, Outbox::new(id), machine).map_err(|error| error.to_string())
        });
        match opened {
            Ok(replica) => {
                self.oracle.started(id, &replica)?;
                server.process = Some(Process::new(replica));
                if self.operator.replaces(id) {
                    self.operator.spare();
                    server.is_lost = false;
                }
                let tick = Time(shape.tick.0.saturating_mul(1000) / u64::from(server.clock.max(1)));
                self.queue.push(now + tick, Due::Tick(id, life));
                self.tell(|| What::Started { server: id, life });
                self.after(at)
            }
            Err(why) => self.does_not_start(at, why),
        }
    }

    fn does_not_start(&mut self, at: usize, why: String) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let (id, is_excused) = (server.id, server.is_excused);
        // A failed opening may have written: what comes next is another life of the disk.
        server.disk.crash(&mut self.disks);
        self.tell(|| What::Halted { server: id, why: why.clone() });
        if !is_excused {
            return Err(Failure::new("starts", format!("server {id} does not start: {why}")));
        }
        if self.operator.replaces(id) {
            self.replace_disk(at);
        }
        self.queue.push(self.now + Time::millis(500), Due::Start(id));
        Ok(())
    }

    /// The process dies.
    fn crash(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        if server.process.take().is_some() {
            let id = server.id;
            server.disk.crash(&mut self.disks);
            self.oracle.crashed(id);
            self.tell(|| What::Crashed { server: id });
        }
    }

    fn tick(&mut self, id: NodeId, life: u64) -> Result<(), Failure> {
        let (now, tick) = (self.now, self.plan.shape.tick);
        let Some(server) = self.alive_mut(id, life) else { return Ok(()) };
        let next = Time(tick.0.saturating_mul(1000) / u64::from(server.clock.max(1)));
        let is_paused = server.is_paused();
        self.queue.push(now + next, Due::Tick(id, life));
        // Ticks of a process that stands still are not made up for.
        if is_paused { Ok(()) } else { self.give(id, Input::Tick) }
    }

    fn turn(&mut self, id: NodeId, life: u64) -> Result<(), Failure> {
        let Some(server) = self.alive_mut(id, life) else { return Ok(()) };
        let Some(process) = &mut server.process else { return Ok(()) };
        process.turn_is_due = false;
        if process.held.is_some() {
            return Ok(());
        }
        process.replica.poll();
        self.place(id).map_or(Ok(()), |at| self.after(at))
    }

    fn synced(&mut self, id: NodeId, life: u64) -> Result<(), Failure> {
        let Some(server) = self.alive_mut(id, life) else { return Ok(()) };
        if server.stuck > 0 {
            self.queue.push(self.now + Time::millis(10), Due::Synced(id, life));
            return Ok(());
        }
        server.disk.end_sync();
        let Some(process) = &mut server.process else { return Ok(()) };
        process.syncing = false;
        if process.crash_at.is_some_and(|crash| crash.durable && crash.writes <= server.disk.writes()) {
            return self.crash_now(id);
        }
        self.turn_comes(id);
        Ok(())
    }

    /// The crash that waited for a write.
    fn crash_now(&mut self, id: NodeId) -> Result<(), Failure> {
        let crash = self.server_mut(id).and_then(|server| server.process.as_mut()?.crash_at.take());
        if let (Some(crash), Some(at)) = (crash, self.place(id)) {
            self.crash(at);
            self.queue.push(self.now + crash.down, Due::Start(id));
        }
        Ok(())
    }

    fn turn_comes(&mut self, id: NodeId) {
        let (now, turn) = (self.now, self.plan.shape.turn);
        if let Some(server) = self.server_mut(id)
            && let Some(process) = &mut server.process
            && !std::mem::replace(&mut process.turn_is_due, true)
        {
            let life = server.life;
            self.queue.push(now + turn, Due::Turn(id, life));
        }
    }

    /// Gives a server an input; one that stands still takes it when it goes on.
    fn give(&mut self, id: NodeId, input: Input) -> Result<(), Failure> {
        let Some(at) = self.place(id) else { return Ok(()) };
        let Some(process) = self.servers.get_mut(at).and_then(|server| server.process.as_mut()) else {
            return Ok(());
        };
        if let Some(held) = &mut process.held {
            held.push(input);
            return Ok(());
        }
        match input {
            Input::Tick => process.replica.tick(),
            Input::Message(message) => process.replica.receive(*message),
            Input::Call(caller, call) => {
                process.last_request = process.last_request.saturating_add(1);
                let request = RequestId(process.last_request);
                process.requests.insert(request, caller);
                match call {
                    Call::Command(command) => process.replica.submit(request, &command),
                    Call::Query(query) => process.replica.query(request, query),
                }
            }
        }
        self.turn_comes(id);
        self.after(at)
    }

    /// What an input has led to: checked, and carried on.
    fn after(&mut self, at: usize) -> Result<(), Failure> {
        self.steps = self.steps.saturating_add(1);
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let id = server.id;
        let Some(process) = &mut server.process else { return Ok(()) };
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

    fn begin_sync(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let (id, life, slowness) = (server.id, server.life, server.slowness);
        if let Some(process) = &mut server.process
            && !process.syncing
            && server.disk.begin_sync().is_some()
        {
            process.syncing = true;
            let shape = &self.plan.shape.disk;
            // Once the world is whole a server that lags far catches up before patience ends.
            let most = if self.phase.has_faults() { shape.sync_mean } else { Time::micros(500) };
            let (min, mean) = (shape.sync_min.min(most), shape.sync_mean.min(most));
            let takes = exponential(&mut self.disks, min, mean).times(u64::from(slowness));
            self.queue.push(self.now + takes, Due::Synced(id, life));
        }
    }

    fn crash_at_write(&mut self, at: usize) -> Result<(), Failure> {
        let Some(server) = self.servers.get(at) else { return Ok(()) };
        let crash = server.process.as_ref().and_then(|process| process.crash_at);
        if crash.is_some_and(|crash| !crash.durable && crash.writes <= server.disk.writes()) {
            return self.crash_now(server.id);
        }
        Ok(())
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
            let (id, is_excused) = (server.id, server.is_excused);
            let Some(process) = &mut server.process else { return Ok(()) };
            let Some(notice) = process.replica.next_notice() else { break };
            match &notice {
                Action::Halt(fault) => {
                    process.halted = true;
                    let what = format!("server {id} halts: {fault}");
                    if !is_excused || matches!(fault, NodeFault::Diverged { .. }) {
                        return Err(Failure::new("halts only where its disk fails", what));
                    }
                    self.tell(|| What::Halted { server: id, why: fault.to_string() });
                    self.queue.push(self.now + Time::millis(300), Due::Ending(Ending::Supervise(id)));
                }
                Action::PeerDiverged { peer, index } => {
                    let what = format!("server {id} says that {peer} differs at {index}");
                    return Err(Failure::new("log matching", what));
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

// Clients.
impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    fn wake_at(&mut self, client: u32, at: Time) {
        if let Some(wake) = (client as usize).checked_sub(1).and_then(|place| self.clients.wakes.get_mut(place)) {
            *wake = Some(at);
            self.queue.push(at, Due::Wake(client));
        }
    }

    fn wake(&mut self, client: u32) {
        let now = self.now;
        let wake = (client as usize).checked_sub(1).and_then(|place| self.clients.wakes.get_mut(place));
        // It may have wanted another time since.
        if wake.is_some_and(|wake| wake.take_if(|at| *at == now).is_some()) {
            self.with_client(client, |workload, io| workload.wake(client, io));
        }
    }

    fn with_client(&mut self, client: u32, act: impl FnOnce(&mut W, &mut Io<'_>)) {
        let mut io = Io {
            now: self.now,
            rng: &mut self.clients.rng,
            servers: u32::try_from(self.servers.len()).unwrap_or(u32::MAX),
            think: self.plan.shape.think,
            calls: Vec::new(),
            wake_at: None,
            words: self.story.is_some().then(Vec::new),
        };
        act(&mut self.workload, &mut io);
        let Io { calls, wake_at, words, .. } = io;
        for words in words.unwrap_or_default() {
            self.tell(|| What::Client { client, words });
        }
        for (server, number, call) in calls {
            let caller = Caller { client, call: number };
            for at in self.network.carry(self.now, CLIENTS.saturating_add(client), server.0, 100) {
                self.queue.push(at, Due::Call(server, caller, call.clone()));
            }
        }
        if let Some(at) = wake_at {
            self.wake_at(client, at.max(self.now));
        }
    }
}
