//! Allocations of [`Node::step_into`] on each path of a cluster at work, with the caller's buffer warm: three nodes, of
//! which the first leads, replicate batches, commit, apply, read and heartbeat.
//!
//! `cargo test -p raft-core --test allocations -- --nocapture` prints the table.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::alloc::System;
use std::collections::{BTreeMap, VecDeque};

use alloc_tracker::{Allocator, Session};
use raft_core::{
    Action, Body, Bytes, Config, Configuration, Digest, Entry, Event, HardState, LogIndex, MemStorage, Node, NodeId,
    ReadId, RoleName, SnapshotMeta, Storage, StorageError, Term, Write, WriteId,
};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

const WARM_ROUNDS: u64 = 400;
const ROUNDS: u64 = 1000;

/// Payloads in a batch.
const BATCH: usize = 8;

/// Every path of the run with what a step of it allocates, without and with a storage that links entries into a chain.
///
/// What is not at zero: a proposal makes the slice that the log, the write and every message share, and where entries
/// are linked another for their digests and the `prev_log_hash` that all followers share; and so does a
/// follower's append for its digests.
const PATHS: [(&str, u64, u64); 12] = [
    ("leader: Propose", 1, 3),
    ("leader: Persisted", 0, 0),
    ("leader: AppendEntriesResponse", 0, 0),
    ("leader: Applied", 0, 0),
    ("leader: Tick", 0, 0),
    ("leader: HeartbeatResponse", 0, 0),
    ("leader: Read", 0, 0),
    ("follower: AppendEntries", 0, 1),
    ("follower: Persisted", 0, 0),
    ("follower: Heartbeat", 0, 0),
    ("follower: Applied", 0, 0),
    ("follower: Tick", 0, 0),
];

/// A storage in memory that links or not.
#[derive(Debug)]
struct Memory {
    inner: MemStorage,
    links: bool,
}

impl Storage for Memory {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        self.inner.hard_state()
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        self.inner.snapshot_meta()
    }

    fn first_index(&self) -> LogIndex {
        self.inner.first_index()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        self.inner.snapshot_chunk(index, offset, max_bytes)
    }

    fn last_index(&self) -> LogIndex {
        self.inner.last_index()
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.inner.term(index)
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        match index {
            LogIndex(0) => Ok(self.links.then_some(Digest([1; 32]))),
            _ => self.inner.digest(index),
        }
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        self.inner.entries(first, last, max_bytes)
    }

    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        let mut digest = *prev;
        digest.0[(entry.index.0 % 32) as usize] ^= entry.payload.bytes().len() as u8;
        self.links.then_some(digest)
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        self.inner.write(write)
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        self.inner.persisted()
    }
}

struct Cluster {
    nodes: Vec<Node<Memory>>,
    /// What is still to happen, in order, and on which node.
    events: VecDeque<(usize, Event)>,
    actions: Vec<Action>,
    session: Session,
    measures: bool,
    /// Messages to this node are lost.
    cut: Option<NodeId>,
}

impl Cluster {
    fn new(links: bool) -> Self {
        let members = || Configuration::new([1, 2, 3].map(NodeId));
        let node = |id| {
            let inner = MemStorage::new(members());
            let config = Config { window_bytes: 64 << 10, ..Config::new(NodeId(id)) };
            Node::new(config, Memory { inner, links }).unwrap()
        };
        let session = Session::new().no_stdout().no_file();
        let (events, actions) = ([(0, Event::Campaign)].into(), Vec::new());
        let mut cluster =
            Self { nodes: [1, 2, 3].map(node).into(), events, actions, session, measures: false, cut: None };
        cluster.run();
        assert_eq!(cluster.nodes[0].status().role, RoleName::Leader);
        cluster
    }

    /// Takes every event to its end.
    fn run(&mut self) {
        while let Some((at, event)) = self.events.pop_front() {
            self.step(at, event);
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.perform(at, action);
            }
            self.actions = actions;
        }
    }

    fn step(&mut self, at: usize, event: Event) {
        let operation = self.session.operation(if self.measures { path(at, &event) } else { String::from("warm") });
        let span = operation.measure_thread();
        self.nodes[at].step_into(event, &mut self.actions);
        drop(span.iterations(1));
    }

    fn perform(&mut self, at: usize, action: Action) {
        match action {
            Action::Send(message) if self.cut == Some(message.to) => {}
            Action::Send(message) => self.events.push_back((message.to.0 as usize - 1, message.into())),
            Action::Persist(write) => {
                let id = write.id;
                self.nodes[at].storage_mut().write(write).unwrap();
                self.events.push_back((at, Event::Persisted(id)));
            }
            Action::Apply { last, .. } => self.events.push_back((at, Event::Applied(last))),
            Action::ProposalRefused(_) | Action::ReadFailed { .. } | Action::Halt(_) => panic!("{action:?}"),
            _ => {}
        }
    }

    fn propose(&mut self, batches: u64) {
        let payloads = || vec![Bytes::from_static(b"a payload that is some tens of bytes long"); BATCH];
        self.events.extend((0..batches).map(|_| (0, Event::Propose(payloads()))));
        self.run();
    }

    /// One batch or several at once, a read, and three ticks.
    fn round(&mut self, round: u64) {
        self.propose(1 + round % 4);
        self.events.push_back((0, Event::Read(ReadId(round))));
        self.run();
        for _ in 0..3 {
            self.events.extend((0..3).map(|at| (at, Event::Tick)));
            self.run();
        }
    }
}

/// The name of a path: who steps, and over what.
fn path(at: usize, event: &Event) -> String {
    let what = match event {
        Event::Message(message) => match message.body {
            Body::AppendEntries(_) => "AppendEntries",
            Body::AppendEntriesResponse(_, _) => "AppendEntriesResponse",
            Body::Heartbeat(_) => "Heartbeat",
            Body::HeartbeatResponse(_, _) => "HeartbeatResponse",
            _ => "another message",
        },
        Event::Tick => "Tick",
        Event::Propose(_) => "Propose",
        Event::Read(_) => "Read",
        Event::Persisted(_) => "Persisted",
        Event::Applied(_) => "Applied",
        _ => "another event",
    };
    format!("{}: {what}", if at == 0 { "leader" } else { "follower" })
}

/// Allocations and steps on each path.
fn measure(links: bool) -> BTreeMap<String, (u64, u64)> {
    let mut cluster = Cluster::new(links);
    for round in 0..WARM_ROUNDS {
        cluster.round(round);
    }
    cluster.measures = true;
    for round in 0..ROUNDS {
        cluster.round(WARM_ROUNDS + round);
    }
    let report = cluster.session.to_report();
    let paths = report.operations().filter(|(name, _)| *name != "warm");
    paths.map(|(name, path)| (name.into(), (path.total_allocations_count(), path.total_iterations()))).collect()
}

#[test]
fn a_step_allocates_what_its_path_is_allowed() {
    for links in [false, true] {
        let mut measured = measure(links);
        println!("allocations a step, {}:", if links { "entries linked into a chain" } else { "without digests" });
        for (name, plain, linked) in PATHS {
            let (allocations, steps) = measured.remove(name).unwrap_or_default();
            println!("{:6.3}  {name} ({steps} steps)", allocations as f64 / steps as f64);
            assert!(steps >= ROUNDS, "{name}: {steps} steps");
            assert_eq!(
                allocations,
                steps * if links { linked } else { plain },
                "{name}, {steps} steps, links: {links}"
            );
        }
        assert!(measured.is_empty(), "paths that nothing is said of: {measured:?}");
    }
}

/// A follower that missed some batches is sent them in one append: they are gathered into a list, and that becomes the
/// append's slice (`Log::slice`).
#[test]
fn catching_up_allocates_twice_an_append() {
    let mut cluster = Cluster::new(false);
    (0..WARM_ROUNDS).for_each(|round| cluster.round(round));
    cluster.cut = Some(NodeId(3));
    cluster.events.push_back((0, Event::Unreachable(NodeId(3))));
    (0..4).for_each(|_| cluster.propose(1));
    (cluster.cut, cluster.measures) = (None, true);
    cluster.round(0);
    let report = cluster.session.to_report();
    let mut gathered = 0;
    for (name, path) in report.operations().filter(|(name, path)| *name != "warm" && path.total_allocations_count() > 0)
    {
        println!("{:6}  {name} ({} steps), catching up", path.total_allocations_count(), path.total_iterations());
        if name != "leader: Propose" {
            gathered += path.total_allocations_count();
        }
    }
    assert_eq!(gathered, 2);
}
