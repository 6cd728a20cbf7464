//! What a committed entry costs in the protocol alone: three nodes, one thread, no disk and no network.
//!
//! `cargo bench -p raft-benches --bench core`. A measured element is one entry, committed and applied on all three. A
//! round hands one batch to the leader, then every node takes what was sent in the round before, with up to eight
//! batches under way. Writes are durable at once and kept nowhere, so what is measured is `Node::step_into` with its
//! own window of recent entries.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::{
    Action, Bytes, Config, Configuration, Entry, Event, HardState, LogIndex, Message, Node, NodeId, RoleName,
    SnapshotMeta, Storage, StorageError, Term, Write, WriteId,
};

/// Takes every write and keeps none.
struct Nowhere(SnapshotMeta);

impl Storage for Nowhere {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        Ok(HardState::default())
    }
    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(self.0.clone())
    }
    fn first_index(&self) -> LogIndex {
        LogIndex(1)
    }
    fn last_index(&self) -> LogIndex {
        LogIndex(0)
    }
    fn snapshot_chunk(&self, index: LogIndex, offset: u64, _: usize) -> Result<Bytes, StorageError> {
        Err(StorageError::NoSnapshot { index, offset })
    }
    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == LogIndex(0) { Ok(Term(0)) } else { Err(StorageError::OutOfRange { index, last: LogIndex(0) }) }
    }
    fn digest(&self, _index: LogIndex) -> Result<Option<raft_core::Digest>, StorageError> {
        Ok(None)
    }
    fn entries(&self, index: LogIndex, _: LogIndex, _: usize) -> Result<Vec<Entry>, StorageError> {
        Err(StorageError::OutOfRange { index, last: LogIndex(0) })
    }
    fn write(&mut self, _write: Write) -> Result<(), StorageError> {
        Ok(())
    }
    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(WriteId(0))
    }
}

/// Three nodes, the first of which leads.
struct Group {
    nodes: Vec<Node<Nowhere>>,
    arriving: Vec<Message>,
    sent: Vec<Message>,
    actions: Vec<Action>,
    applied: u64,
}

impl Group {
    fn new() -> Self {
        let meta = SnapshotMeta::genesis(Configuration::new([1, 2, 3].map(NodeId)));
        let nodes = (1..=3).map(|id| Node::new(Config::new(NodeId(id)), Nowhere(meta.clone())).unwrap()).collect();
        let mut group = Self { nodes, arriving: Vec::new(), sent: Vec::new(), actions: Vec::new(), applied: 0 };
        group.step(0, Event::Campaign);
        group.drain();
        assert_eq!((group.nodes[0].role(), group.applied), (RoleName::Leader, 3));
        group
    }

    fn step(&mut self, at: usize, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.nodes[at].step_into(event, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Send(message) => self.sent.push(message),
                Action::Persist(write) => self.step(at, Event::Persisted(write.id)),
                Action::Apply { first, last } => {
                    let mut next = first;
                    while next <= last {
                        let entries = self.nodes[at].entries(next, last).unwrap();
                        next = black_box(&entries).last().unwrap().index.next();
                        self.applied += entries.len() as u64;
                    }
                    self.step(at, Event::Applied(last));
                }
                _ => {}
            }
        }
        self.actions = actions;
    }

    /// Until every node has applied everything.
    fn drain(&mut self) {
        for _ in 0..20 {
            self.round();
            self.step(0, Event::Tick);
        }
    }

    fn round(&mut self) {
        std::mem::swap(&mut self.arriving, &mut self.sent);
        let mut arriving = std::mem::take(&mut self.arriving);
        for message in arriving.drain(..) {
            self.step(message.to.0 as usize - 1, Event::Message(message));
        }
        self.arriving = arriving;
    }
}

fn committed_entries(criterion: &mut Criterion) {
    /// Entries handed out a measured pass, so that the rounds that fill and empty the pipeline do not weigh.
    const ENTRIES: usize = 4096;
    let mut benchmark = criterion.benchmark_group("three nodes");
    for bytes in [16_usize, 256] {
        for batch in [1_usize, 16, 256] {
            benchmark.throughput(Throughput::Elements(ENTRIES as u64));
            let name = BenchmarkId::new(format!("{bytes} B payload, batch"), batch);
            benchmark.bench_function(name, |bencher| {
                let mut group = Group::new();
                bencher.iter(|| {
                    let before = group.applied;
                    for _ in 0..ENTRIES / batch {
                        let payloads = (0..batch).map(|_| Bytes::from(vec![7; bytes])).collect();
                        group.step(0, Event::Propose(payloads));
                        group.round();
                    }
                    group.drain();
                    assert_eq!(group.applied - before, 3 * ENTRIES as u64);
                });
            });
        }
    }
    benchmark.finish();
}

criterion_group!(benches, committed_entries);
criterion_main!(benches);
