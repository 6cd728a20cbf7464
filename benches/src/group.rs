//! Nodes in memory: one thread, no disk and no network.
//!
//! A round hands every node what was sent in the round before. Writes are durable at once and kept nowhere, so what is
//! measured is `Node::step_into` with its own window of recent entries.

use std::hint::black_box;

use raft_core::{
    Action, Body, Bytes, Config, Configuration, Digest, Entry, Event, HardState, LogIndex, Message, Node, NodeId,
    RoleName, SnapshotMeta, Storage, StorageError, Term, Write, WriteId,
};

/// Takes every write and keeps none.
#[derive(Debug)]
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
    fn digest(&self, _index: LogIndex) -> Result<Option<Digest>, StorageError> {
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

/// Some nodes, the first of which leads.
#[derive(Debug)]
pub struct Group {
    nodes: Vec<Node<Nowhere>>,
    arriving: Vec<Message>,
    sent: Vec<Message>,
    actions: Vec<Action>,
    applied: u64,
}

impl Group {
    /// So many nodes, with a leader and nothing under way.
    ///
    /// # Panics
    /// There is no leader: the protocol is wrong.
    #[must_use]
    pub fn new(nodes: u32) -> Self {
        let meta = SnapshotMeta::genesis(Configuration::new((1..=nodes).map(NodeId)));
        let node = |id| Node::new(Config::new(NodeId(id)), Nowhere(meta.clone())).unwrap();
        let nodes: Vec<_> = (1..=nodes).map(node).collect();
        let mut group = Self { nodes, arriving: Vec::new(), sent: Vec::new(), actions: Vec::new(), applied: 0 };
        group.step(0, Event::Campaign);
        group.drain();
        assert_eq!((group.nodes[0].role(), group.applied), (RoleName::Leader, group.nodes.len() as u64));
        group
    }

    /// Hands so many fresh payloads of so many bytes to the leader, in one event.
    pub fn propose(&mut self, batch: usize, bytes: usize) {
        let payloads = (0..batch).map(|_| Bytes::from(vec![7; bytes])).collect();
        self.step(0, Event::Propose(payloads));
    }

    /// What was sent in the round before arrives.
    pub fn round(&mut self) {
        std::mem::swap(&mut self.arriving, &mut self.sent);
        let mut arriving = std::mem::take(&mut self.arriving);
        for message in arriving.drain(..) {
            self.step(message.to.0 as usize - 1, Event::Message(message));
        }
        self.arriving = arriving;
    }

    /// Until every node has applied everything.
    pub fn drain(&mut self) {
        for _ in 0..20 {
            self.round();
            self.step(0, Event::Tick);
        }
    }

    /// Entries applied so far, all nodes together.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Commits so many entries on all nodes, as many at once as `batch` says.
    ///
    /// # Panics
    /// Some node lacks one.
    pub fn commit(&mut self, entries: usize, batch: usize, bytes: usize) {
        let before = self.applied;
        for _ in 0..entries / batch {
            self.propose(batch, bytes);
            self.round();
        }
        self.drain();
        assert_eq!(self.applied - before, (entries / batch * batch * self.nodes.len()) as u64);
    }

    /// The message by which the leader sends entries like these to one follower. It never arrives.
    ///
    /// # Panics
    /// The leader sends none.
    #[must_use]
    pub fn append(mut self, batch: usize, bytes: usize) -> Message {
        self.propose(batch, bytes);
        self.sent.into_iter().find(|message| matches!(message.body, Body::AppendEntries(_))).unwrap()
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_any_size_commits() {
        for nodes in [1, 3, 4, 7] {
            let mut group = Group::new(nodes);
            group.commit(128, 64, 16);
            assert_eq!(group.applied(), 129 * u64::from(nodes));
        }
    }

    #[test]
    fn a_leader_sends_what_it_is_given_in_one_message() {
        let Body::AppendEntries(append) = Group::new(3).append(5, 16).body else { panic!() };
        assert_eq!(append.entries.len(), 5);
    }
}
