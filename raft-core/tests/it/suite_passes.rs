//! The conformance suites, on what keeps its contract.

use std::collections::VecDeque;

use raft_core::suite::{StorageHarness, TransportHarness, check_storage, check_transport};
use raft_core::{Configuration, MemStorage, Message, NodeId, Transport, suite};

use crate::toy::{Fault, ToyHarness};

#[test]
fn mem_storage_in_one_line() {
    suite::storage(MemStorage::new);
}

/// A crash of a storage that is durable as soon as written loses nothing.
struct Reopening;

impl StorageHarness for Reopening {
    type Storage = MemStorage;

    fn create(&mut self, genesis: Configuration) -> MemStorage {
        MemStorage::new(genesis)
    }

    fn crash_points(&self, _: &MemStorage) -> u64 {
        1
    }

    fn crash(&mut self, storage: MemStorage, _: u64) -> Result<MemStorage, String> {
        Ok(storage.reopen())
    }
}

#[test]
fn mem_storage_reopened() {
    suite::storage(Reopening);
}

#[test]
fn a_storage_that_writes_late_links_takes_snapshots_crashes_and_fails() {
    for links in [false, true] {
        assert_eq!(check_storage(ToyHarness { fault: Fault::None, links }), Ok(()));
    }
}

/// Servers 1 to 3 in one memory, over a network that may lose, repeat and reorder.
#[derive(Default)]
struct Bus {
    under_way: VecDeque<Message>,
    rough: bool,
    count: u64,
}

impl TransportHarness for Bus {
    fn routes(&self) -> Vec<(NodeId, NodeId)> {
        [(1, 2), (2, 1), (1, 3), (3, 2)].map(|(from, to)| (NodeId(from), NodeId(to))).into()
    }

    fn send(&mut self, by: NodeId, message: Message) {
        self.count += 1;
        let message = Message { from: by, ..message };
        if !self.rough || !self.count.is_multiple_of(3) {
            self.under_way.push_back(message.clone());
        }
        if self.rough && self.count.is_multiple_of(5) {
            self.under_way.push_front(message);
        }
    }

    fn receive(&mut self) -> Vec<(NodeId, Message)> {
        let now = if self.rough { self.under_way.len().div_ceil(2) } else { self.under_way.len() };
        let arrived = self.under_way.drain(..now).rev();
        arrived.map(|message| (message.to, message)).filter(|(to, _)| to.0 <= 3).collect()
    }

    fn stranger(&self) -> Option<NodeId> {
        Some(NodeId(9))
    }
}

#[test]
fn a_network_in_memory() {
    suite::transport(Bus::default());
}

#[test]
fn a_network_that_loses_repeats_and_reorders() {
    assert_eq!(check_transport(Bus { rough: true, ..Bus::default() }), Ok(()));
}

/// The transport of one server that collects: the test carries by hand.
#[derive(Default)]
struct ByHand(Vec<Message>);

impl TransportHarness for ByHand {
    fn routes(&self) -> Vec<(NodeId, NodeId)> {
        vec![(NodeId(1), NodeId(2))]
    }

    fn send(&mut self, _: NodeId, message: Message) {
        Transport::send(&mut self.0, message);
    }

    fn receive(&mut self) -> Vec<(NodeId, Message)> {
        self.0.drain(..).map(|message| (message.to, message)).collect()
    }

    fn forges(&self) -> bool {
        false
    }
}

#[test]
fn a_list_of_messages() {
    suite::transport(ByHand::default());
}
