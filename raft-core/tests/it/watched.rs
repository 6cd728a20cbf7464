//! The two hooks of a storage that records: each step, its event, and exactly its actions.

use raft_core::{
    Action, Bytes, Config, Configuration, Digest, Entry, Event, HardState, LogIndex, MemStorage, Node, NodeId, ReadId,
    SnapshotMeta, Storage, StorageError, Term, Write, WriteId,
};

struct Watching {
    inner: MemStorage,
    under_way: Option<Event>,
    steps: Vec<(Event, Vec<Action>)>,
}

impl Storage for Watching {
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
        self.inner.digest(index)
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        self.inner.entries(first, last, max_bytes)
    }

    fn step_begins(&mut self, event: &Event) {
        assert_eq!(self.under_way.replace(event.clone()), None, "one step at a time");
    }

    fn step_ends(&mut self, actions: &[Action]) {
        let event = self.under_way.take().expect("a step that ends has begun");
        self.steps.push((event, actions.to_vec()));
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        self.inner.write(write)
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        self.inner.persisted()
    }
}

#[test]
fn a_storage_sees_every_step_with_its_own_actions() {
    let inner = MemStorage::new(Configuration::new([NodeId(1)]));
    let storage = Watching { inner, under_way: None, steps: Vec::new() };
    let mut node = Node::new(Config::new(NodeId(1)), storage).unwrap();
    let failed = Event::WriteFailed(StorageError::Io { what: "no space".into() });
    let events = [Event::Tick, Event::Campaign, Event::Persisted(WriteId(1)), failed, Event::Read(ReadId(7))];
    let mut expected = Vec::new();
    let mut all = Vec::new();
    for event in events {
        let before = all.len();
        node.step_into(event.clone(), &mut all);
        expected.push((event, all[before..].to_vec()));
    }
    assert!(node.is_halted() && expected[1..].iter().all(|(_, actions)| !actions.is_empty()));
    assert_eq!(node.storage().steps, expected);
    assert_eq!(node.storage().under_way, None);
}
