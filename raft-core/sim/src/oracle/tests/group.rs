//! A group of servers in a loop by hand.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    Config, Configuration, Digest, Incarnation, LogIndex, MembershipChange, Message, NodeId, Position, Replica,
    RequestId, RestoreError, RoleName, StateMachine,
};
use raft_kv::{BlockLog, ClusterId, LogOptions, MemDisk};
use rand::RngExt;

use crate::oracle::{Oracle, Watched, WatchedMachine};
use crate::plan::Limits;
use crate::report::Failure;
use crate::time::{Rng, chance, rng};

pub(super) type Server = Replica<Watched<BlockLog<MemDisk>>, Vec<Message>, WatchedMachine<Sum>>;

/// Adds, and on one server wrongly where a test wants it so.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    pub(super) sum: u64,
    pub(super) wrong_from: Option<u64>,
    pub(super) silent: bool,
}

impl StateMachine for Sum {
    fn apply(&mut self, at: &Position, command: &[u8]) -> Bytes {
        self.sum = self.sum.wrapping_mul(31).wrapping_add(u64::from(command[0]));
        let reply = Bytes::from(self.sum.to_string());
        if self.wrong_from.take_if(|from| *from <= at.index.0).is_some() {
            self.sum += 1;
            return if self.silent { Bytes::new() } else { Bytes::from_static(b"wrong") };
        }
        if self.silent { Bytes::new() } else { reply }
    }
    fn query(&self, _query: &[u8]) -> Bytes {
        Bytes::from(self.sum.to_string())
    }
    fn snapshot(&self) -> Vec<u8> {
        self.sum.to_le_bytes().to_vec()
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.sum = u64::from_le_bytes(
            snapshot.try_into().map_err(|_| RestoreError { what: String::from("not eight bytes") })?,
        );
        Ok(())
    }
    fn digest(&self) -> Digest {
        let mut digest = Digest([0; 32]);
        digest.0[..8].copy_from_slice(&self.sum.to_le_bytes());
        digest
    }
}

pub(super) struct Group {
    pub(super) oracle: Oracle,
    pub(super) servers: BTreeMap<u32, Server>,
    pub(super) disks: BTreeMap<u32, MemDisk>,
    pub(super) incarnations: BTreeMap<u32, Incarnation>,
    pub(super) machine: Sum,
    /// Whether servers compare their states, from their next start on, and how often.
    pub(super) state_digest_every: Option<u64>,
    pub(super) network: Vec<Message>,
    pub(super) rng: Rng,
    founders: Configuration,
    all: u32,
    lives: u64,
    requests: u64,
}

pub(super) fn limits() -> Limits {
    Limits {
        max_append_bytes: 256,
        max_inflight: 4,
        max_uncommitted_bytes: 2_000,
        max_apply_bytes: 300,
        window_bytes: 500,
        max_chunk_bytes: 5,
        tail_entries: 8,
        max_batch_bytes: 64,
        snapshot_every_bytes: Some(3_000),
        state_digest_every: Some(16),
        lease_drift: None,
        segment_bytes: 2_000,
    }
}

impl Group {
    pub(super) fn new(seed: u64, voters: u32, others: u32) -> Self {
        let mut group = Self {
            oracle: Oracle::new(&limits()),
            servers: BTreeMap::new(),
            disks: BTreeMap::new(),
            incarnations: (1..=voters + others).map(|id| (id, Incarnation(u64::from(id) + 7))).collect(),
            machine: Sum::default(),
            state_digest_every: limits().state_digest_every,
            network: Vec::new(),
            rng: rng(seed, "group"),
            founders: Configuration::new((1..=voters).map(NodeId)),
            all: voters + others,
            lives: 0,
            requests: 0,
        };
        for id in 1..=voters + others {
            group.start(id);
        }
        group
    }

    /// A server over its disk, or an empty one.
    pub(super) fn start(&mut self, id: u32) {
        self.try_start(id).unwrap();
    }

    pub(super) fn try_start(&mut self, id: u32) -> Result<(), Failure> {
        self.lives += 1;
        let disk = self.disks.remove(&id).unwrap_or_default();
        let options = LogOptions { segment_bytes: limits().segment_bytes, archive: false };
        let (cluster, incarnation) = (ClusterId([7; 16]), self.incarnations[&id]);
        let log = BlockLog::open_or_create(disk, cluster, self.founders.clone(), incarnation, options).unwrap();
        let limits = limits();
        let config = Config {
            is_founder: self.incarnations[&id].0 < 1000,
            election_timeout_ticks: 10,
            heartbeat_ticks: 2,
            max_append_bytes: limits.max_append_bytes,
            max_inflight: limits.max_inflight,
            max_uncommitted_bytes: limits.max_uncommitted_bytes,
            max_apply_bytes: limits.max_apply_bytes,
            window_bytes: limits.window_bytes,
            max_chunk_bytes: limits.max_chunk_bytes,
            tail_entries: limits.tail_entries,
            seed: self.lives,
            life: Some(self.lives),
            ..Config::new(NodeId(id))
        };
        let of_replica = raft_core::Limits {
            max_batch_bytes: limits.max_batch_bytes,
            snapshot_every_bytes: limits.snapshot_every_bytes,
            state_digest_every: self.state_digest_every,
            ..raft_core::Limits::default()
        };
        let storage = self.oracle.watch(NodeId(id), log);
        let machine = self.oracle.watch_machine(NodeId(id), self.machine.clone());
        let replica = Replica::new(config, of_replica, storage, Vec::new(), machine).unwrap();
        self.oracle.started(NodeId(id), &replica)?;
        self.servers.insert(id, replica);
        Ok(())
    }

    pub(super) fn crash(&mut self, id: u32, unsynced: u64) {
        if let Some(mut server) = self.servers.remove(&id) {
            let disk = server.storage_mut().inner().disk().crash(unsynced, |_, _| true);
            self.disks.insert(id, disk);
            self.oracle.crashed(NodeId(id));
        }
    }

    pub(super) fn wipe(&mut self, id: u32, incarnation: Incarnation) {
        self.crash(id, 0);
        self.disks.remove(&id);
        self.oracle.wiped(NodeId(id));
        self.incarnations.insert(id, incarnation);
        self.start(id);
    }

    /// One input of one server, and everything that comes of it.
    pub(super) fn input(&mut self, id: u32, give: impl FnOnce(&mut Server)) {
        if let Err(failure) = self.try_input(id, give) {
            panic!("{failure}");
        }
    }

    pub(super) fn try_input(&mut self, id: u32, give: impl FnOnce(&mut Server)) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        give(server);
        server.poll();
        self.oracle.stepped(NodeId(id), server)?;
        self.oracle.take_applied(NodeId(id));
        for message in std::mem::take(server.transport_mut()) {
            self.oracle.sent(&message)?;
            self.network.push(message);
        }
        while let Some(reply) = server.next_reply() {
            self.oracle.replied(NodeId(id), &reply.outcome)?;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, id: u32) {
        self.input(id, |server| server.storage_mut().inner_mut().disk_mut().sync());
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, at: usize) {
        let message = self.network.swap_remove(at);
        self.input(message.to.0, |server| server.receive(message));
    }

    pub(super) fn submit(&mut self, id: u32) {
        self.requests += 1;
        let command = [u8::try_from(self.requests % 251).unwrap()];
        let request = RequestId(self.requests);
        self.input(id, |server| server.submit(request, &command));
    }

    pub(super) fn leader(&self) -> Option<u32> {
        let leading = self.servers.iter().filter(|(_, server)| server.node().role() == RoleName::Leader);
        leading.max_by_key(|(_, server)| server.node().current_term()).map(|(id, _)| *id)
    }

    pub(super) fn change(&mut self, change: MembershipChange) {
        if let Some(id) = self.leader() {
            self.input(id, |server| server.change_membership(change));
        }
    }

    /// Whatever the dice say.
    pub(super) fn anything(&mut self) {
        let id = self.rng.random_range(1..=self.all);
        match self.rng.random_range(0..1_000) {
            0..300 => self.input(id, Server::tick),
            300..700 => {
                if self.network.is_empty() {
                    return;
                }
                let at = self.rng.random_range(0..self.network.len());
                if chance(&mut self.rng, 100) {
                    self.network.push(self.network[at].clone());
                }
                if chance(&mut self.rng, 50) {
                    self.network.swap_remove(at);
                } else {
                    self.deliver(at);
                }
            }
            700..850 => self.sync(id),
            850..960 => {
                let to = self.leader().unwrap_or(id);
                self.submit(to);
            }
            960..975 => {
                let unsynced = self.rng.random_range(0..200);
                self.crash(id, unsynced);
            }
            975..990 => {
                let down: Vec<u32> = (1..=self.all).filter(|id| !self.servers.contains_key(id)).collect();
                down.into_iter().for_each(|id| self.start(id));
            }
            990..993 => self.input(id, Server::take_snapshot),
            993..995 => self.input(id, Server::campaign),
            995..997 => self.input(id, Server::hand_over),
            _ => self.change_at_random(),
        }
    }

    fn change_at_random(&mut self) {
        let mut voters: Vec<NodeId> = (1..=self.all).filter(|_| chance(&mut self.rng, 700)).map(NodeId).collect();
        voters.push(NodeId(1));
        let learners = (1..=self.all).filter(|_| chance(&mut self.rng, 300)).map(NodeId).collect();
        let catch_up = chance(&mut self.rng, 500);
        self.change(MembershipChange { voters, learners, catch_up, addresses: Vec::new() });
    }

    /// Nothing goes wrong for a while.
    pub(super) fn settle(&mut self) {
        for round in 0..400 {
            for id in 1..=self.all {
                self.input(id, Server::tick);
                self.sync(id);
                if round % 40 == 0 && round < 300 {
                    self.submit(id);
                }
            }
            while !self.network.is_empty() {
                self.deliver(0);
                (1..=self.all).for_each(|id| self.sync(id));
            }
        }
    }

    /// Everybody runs, and is the same in the end.
    pub(super) fn heal(&mut self) {
        self.network.clear();
        (1..=self.all)
            .filter(|id| !self.servers.contains_key(id))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|id| self.start(id));
        let voters = (1..=self.all).map(NodeId);
        self.settle();
        self.change(MembershipChange {
            voters: voters.collect(),
            learners: vec![],
            catch_up: false,
            addresses: vec![],
        });
        self.settle();
        self.settled().unwrap();
        assert!(self.oracle.committed() > LogIndex(0));
    }

    pub(super) fn settled(&mut self) -> Result<(), Failure> {
        let ids: Vec<NodeId> = self.servers.keys().map(|id| NodeId(*id)).collect();
        self.oracle.settled(ids.iter().zip(self.servers.values()))
    }
}
