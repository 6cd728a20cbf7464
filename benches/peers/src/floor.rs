//! The floor: append, send, acknowledge, count. No terms, no elections, no checks, no safety: what moving the entries and
//! counting the answers costs by itself.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::{Applied, COMPACT_EVERY, Cell, Cluster, KEPT, least};
use crate::codec;
use crate::network::{Network, Wire};

#[derive(Serialize, Deserialize)]
struct Message {
    from: usize,
    to: usize,
    body: Body,
}

#[derive(Serialize, Deserialize)]
enum Body {
    /// These entries follow, and so many are committed.
    Append { entries: Arc<[Bytes]>, commit: u64 },
    /// So many entries have come.
    Acknowledge(u64),
}

struct Replica {
    /// The runs of entries that came together, and the number of the first entry of the first run.
    log: VecDeque<Arc<[Bytes]>>,
    first: u64,
    last: u64,
    /// The runs of the log that are applied.
    applied_runs: usize,
    applied: Applied,
    /// Of the leader: what each replica holds.
    holds: Vec<u64>,
}

pub(crate) struct Floor {
    replicas: Vec<Replica>,
    commit: u64,
    network: Network<Message>,
}

impl Floor {
    pub(crate) fn new(cell: Cell) -> Self {
        let replica = |_| Replica {
            log: VecDeque::new(),
            first: 0,
            last: 0,
            applied_runs: 0,
            applied: Applied::new(cell),
            holds: vec![0; cell.replicas],
        };
        let network = Network::new(cell.replicas, cell.encoded);
        Self { replicas: (0..cell.replicas).map(replica).collect(), commit: 0, network }
    }

    fn send_to_all(&mut self, entries: &Arc<[Bytes]>) {
        for to in 1..self.replicas.len() {
            let body = Body::Append { entries: Arc::clone(entries), commit: self.commit };
            self.network.send(Message { from: 0, to, body });
        }
    }

    fn take(&mut self, message: Message) {
        let Message { from, to, body } = message;
        match body {
            Body::Append { entries, commit } => {
                let replica = &mut self.replicas[to];
                if !entries.is_empty() {
                    replica.append(entries);
                    let body = Body::Acknowledge(replica.last);
                    self.network.send(Message { from: to, to: from, body });
                }
                replica.apply(commit);
            }
            Body::Acknowledge(last) => {
                let leader = &mut self.replicas[to];
                leader.holds[from] = last;
                let holders = leader.holds.iter().filter(|holds| **holds >= last).count();
                if holders > leader.holds.len() / 2 {
                    self.commit = self.commit.max(last);
                }
                leader.apply(self.commit);
            }
        }
    }
}

impl Replica {
    fn append(&mut self, entries: Arc<[Bytes]>) {
        self.last += entries.len() as u64;
        self.log.push_back(entries);
    }

    fn apply(&mut self, commit: u64) {
        while let Some(run) = self.log.get(self.applied_runs)
            && self.applied.count() + run.len() as u64 <= commit
        {
            run.iter().for_each(|payload| self.applied.apply(payload));
            self.applied_runs += 1;
        }
        if self.applied.count() >= self.first + COMPACT_EVERY + KEPT {
            while let Some(run) = self.log.front()
                && self.first + run.len() as u64 + KEPT <= self.applied.count()
            {
                self.first += run.len() as u64;
                self.log.pop_front();
                self.applied_runs -= 1;
            }
        }
    }
}

impl Cluster for Floor {
    fn propose(&mut self, batch: Vec<Bytes>) {
        let entries: Arc<[Bytes]> = batch.into();
        let leader = &mut self.replicas[0];
        leader.append(Arc::clone(&entries));
        leader.holds[0] = leader.last;
        self.send_to_all(&entries);
    }

    fn round(&mut self) {
        self.network.turn();
        for at in 0..self.replicas.len() {
            let mut inbox = self.network.take(at);
            inbox.drain(..).for_each(|message| self.take(message));
            self.network.give_back(at, inbox);
        }
    }

    fn tick(&mut self) {
        self.send_to_all(&Arc::from([]));
    }

    fn applied(&self) -> u64 {
        least(self.replicas.iter().map(|replica| &replica.applied))
    }

    fn messages(&self) -> u64 {
        self.network.messages()
    }
}

impl Wire for Message {
    type Reader = Vec<u8>;

    fn destination(&self) -> usize {
        self.to
    }

    fn write(&self, stream: &mut Vec<u8>) {
        codec::write(self, stream);
    }

    fn read(received: &mut Vec<u8>, stream: &[u8], inbox: &mut Vec<Self>) {
        codec::read(received, stream, inbox);
    }
}
