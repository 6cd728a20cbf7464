//! A group of nodes in memory: every message, write and tick happens when the test says so.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use raft_core::{
    Action, Body, Config, Configuration, Digest, Entry, Event, HardState, Incarnation, LogIndex, MemStorage, Message,
    Node, NodeId, Payload, Refusal, RoleName, Snapshot, SnapshotChunk, SnapshotMeta, Status, Storage, StorageError,
    Term, Write, WriteId, WriteOp,
};

use crate::safety::Safety;

/// A storage whose writes become durable when the test says so, and which links entries with a toy digest.
#[derive(Clone, Debug)]
pub struct Disk {
    live: MemStorage,
    durable: MemStorage,
    pending: VecDeque<Write>,
    reported: WriteId,
}

impl Disk {
    pub fn new(storage: MemStorage) -> Self {
        let storage = linked(storage);
        Self { durable: storage.clone(), live: storage, pending: VecDeque::new(), reported: WriteId(0) }
    }

    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Makes the oldest `count` writes durable.
    pub fn persist(&mut self, count: usize) {
        for write in self.pending.drain(..count.min(self.pending.len())).collect::<Vec<_>>() {
            self.reported = write.id;
            self.durable.write(write).unwrap();
        }
    }

    /// What a crash leaves: everything reported, and as many unreported writes as the disk had got to.
    fn crash(mut self, also: usize) -> Self {
        self.persist(also);
        Self::new(self.durable.reopen())
    }

    pub fn durable_hard_state(&self) -> HardState {
        self.durable.hard_state().unwrap()
    }

    pub fn durable_last(&self) -> LogIndex {
        self.durable.last_index()
    }

    pub fn durable_term(&self, index: LogIndex) -> Option<Term> {
        self.durable.term(index).ok()
    }

    /// Whether what was committed at `index`, of this term, is durable here, in the log or in the snapshot.
    pub fn holds(&self, index: LogIndex, term: Term) -> bool {
        self.durable_snapshot() >= index || self.durable_term(index) == Some(term)
    }

    pub fn durable_snapshot(&self) -> LogIndex {
        self.durable.snapshot_meta().unwrap().last_included_index
    }
}

/// The same log with a digest an entry.
fn linked(storage: MemStorage) -> MemStorage {
    let first = storage.first_index();
    let entries = storage.entries(first, storage.last_index(), usize::MAX).unwrap();
    if entries.is_empty() || storage.digest(first).unwrap().is_some() {
        return storage;
    }
    let mut linked = MemStorage::new(storage.snapshot_meta().unwrap().configuration);
    let hard_state = WriteOp::HardState(storage.hard_state().unwrap());
    let mut digest = Digest([0; 32]);
    let link = |entry| {
        digest = toy_link(&digest, entry);
        digest
    };
    let append = WriteOp::Append { digests: Some(entries.iter().map(link).collect()), entries: entries.into() };
    for (op, id) in [hard_state, append].into_iter().zip(1..) {
        linked.write(Write { id: WriteId(id), op }).unwrap();
    }
    linked.reopen()
}

/// 64 bits of FNV-1a over the previous digest and the entry: enough to tell test logs apart.
pub fn toy_link(prev: &Digest, entry: &Entry) -> Digest {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let numbers = [entry.index.0, entry.term.0, u64::from(entry.payload.kind())];
    let bytes = prev.0.iter().copied().chain(numbers.into_iter().flat_map(u64::to_le_bytes));
    for byte in bytes.chain(entry.payload.bytes().iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&hash.to_le_bytes());
    Digest(digest)
}

impl Storage for Disk {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        self.live.hard_state()
    }
    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        let meta = self.live.snapshot_meta()?;
        Ok(SnapshotMeta { digest: meta.digest.or(Some(Digest([0; 32]))), ..meta })
    }
    fn first_index(&self) -> LogIndex {
        self.live.first_index()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        self.live.snapshot_chunk(index, offset, max_bytes)
    }
    fn incarnation(&self) -> Incarnation {
        self.live.incarnation()
    }
    fn last_index(&self) -> LogIndex {
        self.live.last_index()
    }
    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.live.term(index)
    }
    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        if index == LogIndex(0) { Ok(Some(Digest([0; 32]))) } else { self.live.digest(index) }
    }
    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        self.live.entries(first, last, max_bytes)
    }
    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        Some(toy_link(prev, entry))
    }
    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        self.pending.push_back(write.clone());
        self.live.write(write)
    }
    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(self.reported)
    }
}

/// One step of a node, and how it left it.
#[derive(Clone)]
pub struct Step {
    pub id: u32,
    pub actions: Vec<Action>,
    pub after: Status,
}

/// The group, its network and what its clients were told.
pub struct Cluster {
    pub nodes: Vec<Node<Disk>>,
    configs: Vec<Config>,
    pub network: Vec<Message>,
    /// Pairs of ids between which messages vanish.
    pub cut: Vec<(u32, u32)>,
    /// Writes are durable at once, but for those of the nodes whose disk hangs.
    pub sync: bool,
    pub hanging: BTreeSet<u32>,
    /// What is handed out for application is reported applied at once.
    pub apply: bool,
    /// Nodes that have crashed and not started again.
    pub down: BTreeSet<u32>,
    /// Every step since it was last emptied, for those who want to see it.
    pub steps: Option<Vec<Step>>,
    pub safety: Safety,
    pub refusals: Vec<Refusal>,
    /// Every action that is neither a message nor a write, with the node that gave it.
    pub notices: Vec<(u32, Action)>,
    /// Commands applied, a node each.
    pub applied: Vec<Vec<Bytes>>,
    /// Events taken: a test that waits for what never happens must fail, not hang.
    taken: u32,
}

impl Cluster {
    pub fn new(voters: u32) -> Self {
        Self::with_seed(voters, 0)
    }

    /// Nodes whose logs hold entries of these terms; the hard state's term is the last entry's.
    pub fn with_logs(terms: &[&[u64]]) -> Self {
        Self::with_logs_in_term(terms, 0)
    }

    /// A new group whose nodes draw their timeouts from this seed.
    pub fn with_seed(voters: u32, seed: u64) -> Self {
        Self::with_founders(voters, voters, seed)
    }

    /// A new group of which only the first vote; the others are to be added.
    pub fn with_founders(voters: u32, nodes: u32, seed: u64) -> Self {
        let genesis = Configuration::new((1..=voters).map(NodeId));
        let mut cluster = Self::empty();
        for id in 1..=nodes {
            let seed = seed.wrapping_mul(101).wrapping_add(u64::from(id));
            let config = Config { seed, max_inflight: 4, life: Some(1), ..Config::new(NodeId(id)) };
            cluster.add(config, MemStorage::new(genesis.clone()));
        }
        cluster
    }

    /// A new group whose configurations are changed so.
    pub fn with_config(voters: u32, change: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self::with_seed(voters, 0);
        for at in 0..cluster.configs.len() {
            change(&mut cluster.configs[at]);
            let disk = cluster.nodes[at].storage().clone();
            cluster.nodes[at] = Node::new(cluster.configs[at].clone(), disk).unwrap();
        }
        cluster
    }

    /// As [`with_founders`](Self::with_founders), and the disk of each node has an incarnation: ten times its id.
    pub fn with_incarnations(voters: u32, nodes: u32, seed: u64) -> Self {
        let mut cluster = Self::with_founders(voters, nodes, seed);
        for id in 1..=nodes {
            cluster.replace_disk(id, Incarnation(u64::from(id) * 10));
        }
        cluster
    }

    pub fn with_logs_in_term(terms: &[&[u64]], at_least: u64) -> Self {
        let voters = Configuration::new((1..=terms.len() as u32).map(NodeId));
        let mut cluster = Self::empty();
        for (terms, id) in terms.iter().zip(1..) {
            let current_term = Term(terms.last().copied().unwrap_or(0).max(at_least));
            let hard_state = HardState { current_term, voted_for: None };
            let storage = MemStorage::with_log(voters.clone(), hard_state, entries(terms)).unwrap();
            cluster.add(Config { max_inflight: 4, life: Some(1), ..Config::new(NodeId(id)) }, storage);
        }
        cluster
    }

    pub fn empty() -> Self {
        Self {
            nodes: Vec::new(),
            configs: Vec::new(),
            network: Vec::new(),
            cut: Vec::new(),
            sync: true,
            hanging: BTreeSet::new(),
            apply: true,
            down: BTreeSet::new(),
            steps: None,
            safety: Safety::default(),
            refusals: Vec::new(),
            notices: Vec::new(),
            applied: Vec::new(),
            taken: 0,
        }
    }

    pub fn add(&mut self, config: Config, storage: MemStorage) {
        self.nodes.push(Node::new(config.clone(), Disk::new(storage)).unwrap());
        self.configs.push(config);
        self.applied.push(Vec::new());
    }

    pub fn node(&self, id: u32) -> &Node<Disk> {
        &self.nodes[id as usize - 1]
    }

    pub fn node_mut(&mut self, id: u32) -> &mut Node<Disk> {
        &mut self.nodes[id as usize - 1]
    }

    /// Gives a node an event, performs what it asks for, and checks the safety properties.
    pub fn step(&mut self, id: u32, event: impl Into<Event>) -> Vec<Action> {
        let event = event.into();
        self.taken += 1;
        assert!(self.taken <= 20_000, "no end in sight: {:?}", self.nodes.iter().map(Node::status).collect::<Vec<_>>());
        if self.down.contains(&id) {
            return Vec::new();
        }
        if let Event::Read(read) = event {
            self.safety.read_begins(id, read, &self.nodes);
        }
        let actions = self.node_mut(id).step(event);
        if let Some(steps) = &mut self.steps {
            steps.push(Step { id, actions: actions.clone(), after: self.nodes[id as usize - 1].status() });
        }
        for action in &actions {
            self.perform(id, action.clone());
        }
        self.safety.check(&self.nodes);
        if self.sync && !self.hanging.contains(&id) {
            self.persist(id, usize::MAX);
        }
        actions
    }

    fn perform(&mut self, id: u32, action: Action) {
        match action {
            Action::Send(message) => {
                self.safety.sent(&message, &self.nodes[id as usize - 1]);
                self.network.push(message);
            }
            Action::Persist(write) => self.node_mut(id).storage_mut().write(write).unwrap(),
            Action::Apply { first, last } => {
                let mut next = first;
                while next <= last {
                    let entries = self.node(id).entries(next, last).unwrap().into_owned();
                    next = entries.last().unwrap().index.next();
                    for entry in entries {
                        self.safety.applied(self.nodes[id as usize - 1].storage(), &entry);
                        if let Payload::Command(command) = entry.payload {
                            self.applied[id as usize - 1].push(command);
                        }
                    }
                }
                if self.apply {
                    self.step(id, Event::Applied(last));
                }
            }
            Action::Restore(meta) => {
                if self.apply {
                    self.restore(id, &meta);
                } else {
                    self.notices.push((id, Action::Restore(meta)));
                }
            }
            Action::ProposalRefused(refusal) => self.refusals.push(refusal),
            notice => {
                if let Action::ReadReady { read, index, .. } = notice {
                    assert!(self.node(id).last_applied() >= index, "a read is served before its entries are applied");
                    self.safety.read_ready(id, read, index);
                }
                if let Action::ReadFailed { read, .. } = notice {
                    self.safety.read_failed(id, read);
                }
                self.notices.push((id, notice));
            }
        }
    }

    /// Makes the oldest `count` writes of a node durable and reports them.
    pub fn persist(&mut self, id: u32, count: usize) {
        let disk = self.node_mut(id).storage_mut();
        if disk.pending() > 0 && count > 0 {
            disk.persist(count);
            let persisted = disk.persisted().unwrap();
            self.step(id, Event::Persisted(persisted));
        }
    }

    /// The machine's state becomes the snapshot's, if it is one of its own.
    pub fn restore(&mut self, id: u32, meta: &SnapshotMeta) {
        let index = meta.last_included_index;
        let state = self.node(id).storage().snapshot_chunk(index, 0, usize::MAX).unwrap();
        if meta.state != Some(state_digest(&state)) {
            self.step(id, Event::RestoreFailed(index));
            return;
        }
        self.applied[id as usize - 1] = commands_of(&state);
        self.step(id, Event::Restored(index));
    }

    /// The machine's state after the last entry that was reported applied is written down.
    pub fn take_snapshot(&mut self, id: u32) -> Vec<Action> {
        let state = state_of(&self.applied[id as usize - 1]);
        let meta = self.node(id).describe_snapshot(state_digest(&state)).unwrap();
        let bytes = self.configs[id as usize - 1].max_chunk_bytes;
        pieces(Snapshot { meta, state }, bytes).into_iter().flat_map(|piece| self.step(id, piece)).collect()
    }

    pub fn crash(&mut self, id: u32, also: usize) {
        let at = id as usize - 1;
        let disk = self.nodes[at].storage().clone().crash(also);
        self.configs[at].life = self.configs[at].life.map(|life| life + 1);
        let snapshot = disk.durable_snapshot();
        let state = (snapshot > LogIndex(0)).then(|| disk.snapshot_chunk(snapshot, 0, usize::MAX).unwrap());
        self.nodes[at] = Node::new(self.configs[at].clone(), disk).unwrap();
        self.applied[at] = commands_of(&state.unwrap_or_default());
        self.safety.crashed(id);
    }

    /// The node's disk is lost, and it comes back with an empty one.
    pub fn wipe(&mut self, id: u32, incarnation: u64) {
        self.safety.wiped(self.nodes[id as usize - 1].storage().clone());
        self.replace_disk(id, Incarnation(incarnation));
    }

    /// The same, and the new disk knows that it is no founder's: it waits until it is added.
    pub fn wipe_to_join(&mut self, id: u32, incarnation: u64) {
        self.safety.wiped(self.nodes[id as usize - 1].storage().clone());
        self.configs[id as usize - 1].is_founder = false;
        self.replace_disk(id, Incarnation(incarnation));
    }

    fn replace_disk(&mut self, id: u32, incarnation: Incarnation) {
        let at = id as usize - 1;
        let founding = self.nodes[at].storage().snapshot_meta().unwrap().configuration;
        let disk = Disk::new(MemStorage::new(founding).with_incarnation(incarnation));
        self.nodes[at] = Node::new(self.configs[at].clone(), disk).unwrap();
        self.applied[at].clear();
        self.safety.crashed(id);
    }

    /// Takes a message from the network and delivers it, unless its link is cut.
    pub fn deliver(&mut self, at: usize) {
        let message = self.network.remove(at);
        let ends = (message.from.0, message.to.0);
        if !self.cut.contains(&ends) && message.to.0 as usize <= self.nodes.len() {
            self.step(message.to.0, message);
        }
    }

    /// Delivers until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.network.is_empty() {
                return;
            }
            self.deliver(0);
        }
        panic!("the network never falls silent: {:?}", self.network.first());
    }

    pub fn tick(&mut self, id: u32, times: u32) {
        for _ in 0..times {
            self.step(id, Event::Tick);
        }
    }

    /// Every node ticks once and all messages arrive, `times` over.
    pub fn run(&mut self, times: u32) {
        for _ in 0..times {
            for id in 1..=self.nodes.len() as u32 {
                self.tick(id, 1);
            }
            self.settle();
        }
    }

    pub fn cut_off(&mut self, id: u32) {
        for other in (1..=self.nodes.len() as u32).filter(|other| *other != id) {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// `id` campaigns and wins.
    pub fn elect(&mut self, id: u32) {
        self.step(id, Event::Campaign);
        self.settle();
        assert_eq!(self.node(id).role(), RoleName::Leader, "node {id} does not lead: {:?}", self.node(id).status());
    }

    pub fn leaders(&self) -> Vec<u32> {
        let leads = |node: &&Node<Disk>| node.role() == RoleName::Leader;
        self.nodes.iter().filter(leads).map(|node| node.status().id.0).collect()
    }

    pub fn propose(&mut self, id: u32, command: &'static str) -> Vec<Action> {
        self.step(id, Event::Propose(vec![Bytes::from_static(command.as_bytes())]))
    }

    pub fn term(&self, id: u32) -> u64 {
        self.node(id).status().term.0
    }

    pub fn commit(&self, id: u32) -> u64 {
        self.node(id).commit_index().0
    }

    /// The terms of a node's log, from index 1.
    pub fn log(&self, id: u32) -> Vec<u64> {
        terms(self.node(id))
    }
}

pub fn terms(node: &Node<Disk>) -> Vec<u64> {
    all_entries(node).iter().map(|entry| entry.term.0).collect()
}

/// What the log holds, from its first entry on.
pub fn all_entries(node: &Node<Disk>) -> Vec<Entry> {
    let (mut next, last) = (node.status().first_index, node.status().last_index);
    let mut all: Vec<Entry> = Vec::new();
    while next <= last {
        all.extend(node.entries(next, last).unwrap().iter().cloned());
        next = all.last().unwrap().index.next();
    }
    all
}

/// A machine's state is what it has applied, in order.
pub fn state_of(commands: &[Bytes]) -> Bytes {
    commands.join(&b","[..]).into()
}

fn commands_of(state: &Bytes) -> Vec<Bytes> {
    if state.is_empty() { Vec::new() } else { state.split(|byte| *byte == b',').map(Bytes::copy_from_slice).collect() }
}

pub fn state_digest(state: &Bytes) -> Digest {
    let entry = Entry { index: LogIndex(0), term: Term(0), payload: Payload::Command(state.clone()) };
    toy_link(&Digest([1; 32]), &entry)
}

pub fn entries(terms: &[u64]) -> Vec<Entry> {
    let command = |index: u64| Payload::Command(Bytes::from(format!("c{index}")));
    terms
        .iter()
        .zip(1..)
        .map(|(term, index)| Entry { index: LogIndex(index), term: Term(*term), payload: command(index) })
        .collect()
}

pub fn message(from: u32, to: u32, term: u64, body: Body) -> Message {
    Message { from: NodeId(from), to: NodeId(to), term: Term(term), body }
}

/// The bodies that an action list sends to `to`.
pub fn sent_to(actions: &[Action], to: u32) -> Vec<Body> {
    let sent = |action: &Action| match action {
        Action::Send(message) if message.to == NodeId(to) => Some(message.body.clone()),
        _ => None,
    };
    actions.iter().filter_map(sent).collect()
}

/// What is given to a node for it to write this snapshot down, so many bytes at a time.
pub fn pieces(Snapshot { meta, state }: Snapshot, bytes: usize) -> Vec<Event> {
    let starts = (0..state.len().max(1)).step_by(bytes);
    let piece = |start: usize| {
        let end = state.len().min(start.saturating_add(bytes));
        let (offset, data, done) = (start as u64, state.slice(start..end), end == state.len());
        Event::SnapshotPiece(SnapshotChunk { meta: meta.clone(), offset, data, done }.into())
    };
    starts.map(piece).collect()
}
