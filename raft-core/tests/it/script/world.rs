//! The group that a script speaks of: carries out its commands and keeps the trace.

use raft_core::{
    Action, Config, Event, LogIndex, MembershipChange, Message, Node, NodeId, ReadId, RoleName, Status, Storage,
    StorageError, WriteId,
};

use super::dsl::{Command, Which};
use super::setup::Setup;
use super::trace::{self, Detail};
use super::{expect, notation};
use crate::cluster::{Cluster, Step, all_entries};

pub struct World {
    setup: Setup,
    cluster: Option<Cluster>,
    /// Whether a trace is kept.
    traced: bool,
    /// Each node's status after its last step.
    before: Vec<Status>,
    /// The steps of the last command that was no expectation.
    pub last: Vec<Step>,
    /// The trace of the command under way.
    lines: Vec<String>,
    config: Config,
}

impl World {
    pub fn new(traced: bool) -> Self {
        Self {
            setup: Setup::default(),
            cluster: None,
            traced,
            before: Vec::new(),
            last: Vec::new(),
            lines: Vec::new(),
            config: Config::new(NodeId(1)),
        }
    }

    /// Carries out one command and returns its trace.
    pub fn perform(&mut self, command: &Command) -> Result<Vec<String>, String> {
        if let Command::Expect { not, fact } = command {
            expect::check(self, *not, fact)?;
            return Ok(Vec::new());
        }
        self.last.clear();
        if !self.set_up(command)? {
            self.start()?;
            if !self.disturb(command)? {
                self.carry_out(command)?;
            }
        }
        Ok(std::mem::take(&mut self.lines))
    }

    /// The group, once it has started.
    pub fn cluster(&mut self) -> Result<&mut Cluster, String> {
        self.cluster.as_mut().ok_or_else(|| "there is no group: write nodes 3".to_owned())
    }

    pub fn status(&mut self, node: u32) -> Result<Status, String> {
        Ok(self.node(node)?.node(node).status())
    }

    /// The group, which has this node.
    pub fn node(&mut self, node: u32) -> Result<&mut Cluster, String> {
        let cluster = self.cluster()?;
        if (1..=cluster.nodes.len() as u32).contains(&node) {
            Ok(cluster)
        } else {
            Err(format!("there is no node {node}"))
        }
    }

    /// One node's; all have the same limits.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What speaks of a group that has not started yet. `false` for every other command.
    fn set_up(&mut self, command: &Command) -> Result<bool, String> {
        if matches!(command, Command::Nodes { .. }) {
            self.cluster = None;
        }
        let is_setup = self.setup.note(command);
        if is_setup && self.cluster.is_some() {
            return Err("the group has started: nodes 3 begins another".to_owned());
        }
        Ok(is_setup)
    }

    fn start(&mut self) -> Result<(), String> {
        if self.cluster.is_none() {
            let (mut cluster, config) = self.setup.build()?;
            cluster.steps = self.traced.then(Vec::new);
            self.before = cluster.nodes.iter().map(Node::status).collect();
            self.config = config;
            self.cluster = Some(cluster);
        }
        Ok(())
    }

    fn carry_out(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Run(times) => {
                for tick in 1..=*times {
                    self.act(Some(&format!("tick {tick}")), Detail::Changes, |cluster| cluster.run(1))?;
                }
            }
            Command::Elect(node) => {
                self.node(*node)?;
                self.act(None, Detail::Changes, |cluster| {
                    cluster.step(*node, Event::Campaign);
                    cluster.settle();
                })?;
                if self.status(*node)?.role != RoleName::Leader {
                    return Err(format!("node {node} is not elected"));
                }
            }
            Command::Sync { on, nodes } => self.set_sync(*on, nodes)?,
            Command::Apply(on) => self.cluster()?.apply = *on,
            Command::Crash { node, also } => {
                self.crash(*node, *also)?;
                self.cluster()?.down.insert(*node);
            }
            Command::Wipe { node, incarnation } => {
                self.node(*node)?.wipe(*node, *incarnation);
                self.before[*node as usize - 1] = self.status(*node)?;
            }
            Command::Restart { node, also } => {
                if !self.node(*node)?.down.remove(node) {
                    self.crash(*node, *also)?;
                }
            }
            Command::Restored { node, index } => {
                let (id, index) = (*node, LogIndex(*index));
                self.node(id)?;
                self.act(None, Detail::Everything, |cluster| restored(cluster, id, index))?;
            }
            Command::Snapshot(node) => {
                self.node(*node)?;
                self.act(None, Detail::Everything, |cluster| drop(cluster.take_snapshot(*node)))?;
            }
            Command::Persist { node, writes } => {
                self.node(*node)?;
                let writes = writes.unwrap_or(usize::MAX);
                self.act(None, Detail::Everything, |cluster| cluster.persist(*node, writes))?;
            }
            Command::Tick { node, times } => {
                self.node(*node)?;
                for tick in 1..=*times {
                    let header = format!("tick {tick}");
                    let header = (*times > 1).then_some(&*header);
                    self.act(header, Detail::Everything, |cluster| cluster.tick(*node, 1))?;
                }
            }
            Command::Report { node, write } => {
                let durable = self.node(*node)?.node_mut(*node).storage_mut().persisted();
                let write = WriteId(*write).min(durable.map_err(|error| error.to_string())?);
                self.act(None, Detail::Everything, |cluster| drop(cluster.step(*node, Event::Persisted(write))))?;
            }
            other => {
                let (node, event) = event(other).ok_or_else(|| format!("\"{other}\" speaks of no event"))?;
                self.node(node)?;
                self.act(None, Detail::Everything, |cluster| answered(cluster, node, event))?;
            }
        }
        Ok(())
    }

    /// What is done to the network. `false` for every other command.
    fn disturb(&mut self, command: &Command) -> Result<bool, String> {
        match command {
            Command::Deliver(which) => self.deliver(which)?,
            Command::Drop(Which::All) => self.cluster()?.network.clear(),
            Command::Drop(which) => drop(self.take(which)?),
            Command::Repeat(which) => {
                let positions = self.positions(which)?;
                let network = &mut self.cluster()?.network;
                let again: Vec<Message> = positions.into_iter().map(|at| network[at].clone()).collect();
                network.extend(again);
            }
            Command::Settle => self.settle()?,
            Command::Cut(links) => self.cluster()?.cut.extend(links),
            Command::Isolate(node) => self.node(*node)?.cut_off(*node),
            Command::Heal => self.cluster()?.mend(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Lets the group do something, and notes the steps that it took for it.
    fn act(&mut self, header: Option<&str>, detail: Detail, act: impl FnOnce(&mut Cluster)) -> Result<(), String> {
        let cluster = self.cluster()?;
        act(cluster);
        let Some(steps) = cluster.steps.as_mut().map(std::mem::take) else { return Ok(()) };
        let mut lines = Vec::new();
        for step in &steps {
            let before = &mut self.before[step.id as usize - 1];
            lines.extend(trace::lines(step, before, &self.config, detail));
            before.clone_from(&step.after);
        }
        match header {
            Some(header) if !lines.is_empty() || detail == Detail::Everything && !header.starts_with("tick") => {
                self.lines.push(header.to_owned());
                self.lines.extend(lines.into_iter().map(|line| format!("  {line}")));
            }
            _ => self.lines.extend(lines),
        }
        self.last.extend(steps);
        Ok(())
    }

    fn deliver(&mut self, which: &Which) -> Result<(), String> {
        match which {
            Which::All => {
                for _ in 0..10_000 {
                    if self.cluster()?.network.is_empty() {
                        return Ok(());
                    }
                    self.deliver_one(0)?;
                }
                Err("the network never falls silent".to_owned())
            }
            which => {
                // What is sent meanwhile comes after what was under way, and removing moves the rest up.
                for (position, removed) in self.positions(which)?.into_iter().zip(0..) {
                    self.deliver_one(position - removed)?;
                }
                Ok(())
            }
        }
    }

    fn deliver_one(&mut self, at: usize) -> Result<(), String> {
        let cluster = self.cluster()?;
        if cluster.steps.is_none() {
            cluster.deliver(at);
            return Ok(());
        }
        let message = &cluster.network[at];
        let (from, to) = (message.from.0, message.to.0);
        let is_lost =
            cluster.cut.contains(&(from, to)) || to as usize > cluster.nodes.len() || cluster.down.contains(&to);
        let lost = if is_lost { " lost" } else { "" };
        let header = format!("{from}->{to} {}{lost}", notation::kind(&message.body));
        self.act(Some(&header), Detail::Everything, |cluster| cluster.deliver(at))
    }

    /// Where the messages are, oldest first.
    fn positions(&mut self, which: &Which) -> Result<Vec<usize>, String> {
        let network = &self.cluster()?.network;
        let is_wanted = |message: &Message| match which {
            Which::All | Which::Round => true,
            Which::At(_) => false,
            Which::Kind(kind) => notation::kind(&message.body) == *kind,
            Which::Link { from, to, kind } => {
                (message.from.0, message.to.0) == (*from, *to)
                    && kind.as_ref().is_none_or(|kind| notation::kind(&message.body) == *kind)
            }
        };
        let found: Vec<usize> = match which {
            Which::At(at) => at.checked_rem(network.len()).into_iter().collect(),
            _ => network.iter().zip(0..).filter(|(message, _)| is_wanted(message)).map(|(_, at)| at).collect(),
        };
        match which {
            Which::Link { .. } | Which::Kind(_) if found.is_empty() => Err("no such message is under way".to_owned()),
            _ => Ok(found),
        }
    }

    fn take(&mut self, which: &Which) -> Result<Vec<Message>, String> {
        let positions = self.positions(which)?;
        let network = &mut self.cluster()?.network;
        Ok(positions.into_iter().zip(0..).map(|(at, removed): (usize, usize)| network.remove(at - removed)).collect())
    }

    /// Everything under way arrives and everything written becomes durable.
    pub fn settle(&mut self) -> Result<(), String> {
        for _ in 0..200 {
            for id in 1..=self.cluster()?.nodes.len() as u32 {
                self.act(None, Detail::Everything, |cluster| cluster.persist(id, usize::MAX))?;
            }
            if self.cluster()?.network.is_empty() {
                return Ok(());
            }
            self.deliver(&Which::All)?;
        }
        Err("the group never falls silent".to_owned())
    }

    pub fn set_sync(&mut self, on: bool, nodes: &[u32]) -> Result<(), String> {
        let cluster = self.cluster()?;
        let is_whole = nodes.is_empty();
        cluster.sync = on || (cluster.sync && !is_whole);
        if on {
            cluster.hanging.clear();
            for id in 1..=cluster.nodes.len() as u32 {
                self.act(None, Detail::Everything, |cluster| cluster.persist(id, usize::MAX))?;
            }
        } else {
            cluster.hanging.extend(nodes);
        }
        Ok(())
    }

    fn crash(&mut self, node: u32, also: usize) -> Result<(), String> {
        let cluster = self.node(node)?;
        cluster.crash(node, also);
        let status = cluster.node(node).status();
        if self.traced {
            let cluster = self.node(node)?;
            let vote = trace::or_none(cluster.node(node).voted_for());
            let log = trace::terms(&status, &all_entries(cluster.node(node)));
            self.lines.push(format!("{node}: keeps t{} vote {vote} log {log}", status.term));
        }
        self.before[node as usize - 1] = status;
        Ok(())
    }
}

/// The event that a command gives to a node.
fn event(command: &Command) -> Option<(u32, Event)> {
    let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect();
    Some(match command {
        Command::Campaign(node) => (*node, Event::Campaign),
        Command::Propose { node, payloads } => (*node, Event::Propose(payloads.clone())),
        Command::Read { node, read } => (*node, Event::Read(ReadId(*read))),
        Command::Change { node, voters, learners, catch_up } => {
            let change = MembershipChange {
                voters: ids(voters),
                learners: ids(learners),
                catch_up: *catch_up,
                addresses: Vec::new(),
            };
            (*node, Event::ChangeMembership(change))
        }
        Command::Transfer { node, to } => (*node, Event::TransferLeadership(NodeId(*to))),
        Command::HandOver(node) => (*node, Event::HandOver),
        Command::Unreachable { node, peer } => (*node, Event::Unreachable(NodeId(*peer))),
        Command::Forge(message) => (message.to.0, Event::Message(message.clone())),
        Command::Fail { node, what } => (*node, Event::WriteFailed(StorageError::Io { what: what.clone() })),
        Command::Applied { node, index } => (*node, Event::Applied(LogIndex(*index))),
        _ => return None,
    })
}

/// A machine that was slow has restored what it was told to, or says that it has restored something else; with index 0,
/// whatever it was told to.
fn restored(cluster: &mut Cluster, node: u32, index: LogIndex) {
    let receiving = cluster.node(node).status().receiving.map(|(index, _)| index);
    let index = if index == LogIndex(0) { receiving.unwrap_or(index) } else { index };
    let told = cluster.notices.iter().rev().find_map(|(id, notice)| match notice {
        Action::Restore(meta) if *id == node && meta.last_included_index == index => Some(meta.clone()),
        _ => None,
    });
    match told {
        Some(meta) => cluster.restore(node, &meta),
        None => drop(cluster.step(node, Event::Restored(index))),
    }
}

/// One event; a proposal and a change are answered exactly once, and at once.
fn answered(cluster: &mut Cluster, node: u32, event: Event) {
    let is_answer: fn(&Action) -> bool = match &event {
        Event::Propose(_) => |action| matches!(action, Action::ProposalAppended { .. } | Action::ProposalRefused(_)),
        Event::ChangeMembership(_) => {
            |action| matches!(action, Action::MembershipAppended { .. } | Action::MembershipRefused(_))
        }
        _ => return drop(cluster.step(node, event)),
    };
    let is_down = cluster.down.contains(&node);
    let answers = cluster.step(node, event).iter().filter(|action| is_answer(action)).count();
    assert!(is_down || answers == 1, "answered {answers} times");
}
