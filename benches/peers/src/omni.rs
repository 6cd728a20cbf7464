//! `omnipaxos` over its own `MemoryStorage`, with a `batch_size` that is the cell's.

use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};

use crate::cluster::{Applied, COMPACT_EVERY, Cell, Cluster, KEPT, least};
use crate::codec;
use crate::network::{Network, Wire};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Command(Bytes);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

pub(crate) struct Omni {
    replicas: Vec<Replica>,
    network: Network<Message<Command>>,
    outgoing: Vec<Message<Command>>,
    /// Entries that all replicas had applied when the log was trimmed last.
    trimmed: u64,
}

struct Replica {
    node: OmniPaxos<Command, MemoryStorage<Command>>,
    applied: Applied,
}

impl Omni {
    pub(crate) fn new(cell: Cell) -> Self {
        let nodes: Vec<u64> = (1..).take(cell.replicas).collect();
        let replica = |pid: &u64| {
            let cluster = ClusterConfig { configuration_id: 1, nodes: nodes.clone(), flexible_quorum: None };
            let server = ServerConfig { pid: *pid, batch_size: cell.batch, ..ServerConfig::default() };
            let node = cluster.build_for_server(server, MemoryStorage::default()).unwrap();
            Replica { node, applied: Applied::new(cell) }
        };
        let replicas = nodes.iter().map(replica).collect();
        let network = Network::new(cell.replicas, cell.encoded);
        let mut omni = Self { replicas, network, outgoing: Vec::new(), trimmed: 0 };
        omni.replicas[0].node.try_become_leader();
        omni.send(0);
        (0..10).for_each(|_| omni.round());
        let leaders: Vec<_> = omni.replicas.iter().map(|replica| replica.node.get_current_leader()).collect();
        assert_eq!(leaders, vec![Some((1, true)); cell.replicas]);
        omni
    }

    fn send(&mut self, at: usize) {
        self.replicas[at].node.take_outgoing_messages(&mut self.outgoing);
        self.outgoing.drain(..).for_each(|message| self.network.send(message));
    }

    /// Where it is time, the leader has all replicas drop what all have applied.
    fn compact(&mut self) {
        let applied = self.applied();
        // It refuses to before it knows that all have them.
        if applied >= self.trimmed + COMPACT_EVERY
            && self.replicas[0].node.trim(Some((applied - KEPT) as usize)).is_ok()
        {
            self.trimmed = applied;
        }
    }
}

impl Replica {
    fn apply(&mut self) {
        let from = self.applied.count() as usize;
        if self.node.get_decided_idx() <= from {
            return;
        }
        for entry in self.node.read_decided_suffix(from).unwrap() {
            let LogEntry::Decided(Command(payload)) = entry else { panic!("{entry:?}") };
            self.applied.apply(&payload);
        }
    }
}

impl Cluster for Omni {
    fn propose(&mut self, batch: Vec<Bytes>) {
        batch.into_iter().for_each(|payload| self.replicas[0].node.append(Command(payload)).unwrap());
        self.send(0);
    }

    fn round(&mut self) {
        self.network.turn();
        for at in 0..self.replicas.len() {
            let mut inbox = self.network.take(at);
            inbox.drain(..).for_each(|message| self.replicas[at].node.handle_incoming(message));
            self.network.give_back(at, inbox);
            self.replicas[at].apply();
            self.send(at);
        }
        self.compact();
    }

    fn tick(&mut self) {
        for at in 0..self.replicas.len() {
            self.replicas[at].node.tick();
            self.send(at);
        }
    }

    fn applied(&self) -> u64 {
        least(self.replicas.iter().map(|replica| &replica.applied))
    }

    fn messages(&self) -> u64 {
        self.network.messages()
    }
}

impl Wire for Message<Command> {
    type Reader = Vec<u8>;

    fn destination(&self) -> usize {
        self.get_receiver() as usize - 1
    }

    fn write(&self, stream: &mut Vec<u8>) {
        codec::write(self, stream);
    }

    fn read(received: &mut Vec<u8>, stream: &[u8], inbox: &mut Vec<Self>) {
        codec::read(received, stream, inbox);
    }
}
