//! A state machine of one's own in the simulator: a counter that counts every request once.
//!
//! `cargo run --release -p raft-sim --example counter`
#![allow(unreachable_pub, reason = "the other example uses it")]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use raft_core::{Digest, Position, RestoreError, StateMachine};
use raft_sim::linearizability::Model;
use raft_sim::{ModelledWorkload, Name, Protocol, Rng, Simulation};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// The machine, as it would run on real servers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counter {
    total: u64,
    /// Of each client: its newest request, and the answer. Requests are sent again until they are answered.
    answered: BTreeMap<u32, (u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Add {
    client: u32,
    number: u64,
    amount: u64,
}

impl StateMachine for Counter {
    fn apply(&mut self, _at: &Position, command: &[u8]) -> Bytes {
        let Ok(add) = serde_json::from_slice::<Add>(command) else { return Bytes::from_static(b"null") };
        let (number, answer) = self.answered.get(&add.client).copied().unwrap_or_default();
        if add.number < number {
            return Bytes::from_static(b"null"); // A copy that comes late: its client has the answer.
        }
        if add.number == number {
            return answer.to_string().into();
        }
        self.total += add.amount;
        self.answered.insert(add.client, (add.number, self.total));
        self.total.to_string().into()
    }

    fn query(&self, _query: &[u8]) -> Bytes {
        self.total.to_string().into()
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        *self = serde_json::from_slice(snapshot).map_err(|error| RestoreError { what: error.to_string() })?;
        Ok(())
    }

    fn digest(&self) -> Digest {
        let mut hasher = DefaultHasher::new();
        self.snapshot().hash(&mut hasher);
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&hasher.finish().to_le_bytes());
        Digest(digest)
    }
}

/// What it is to do, in the plainest words. Every answer is the total then.
#[derive(Debug)]
pub struct Total;

/// See [`Total`].
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Add so much.
    Add(u64),
    /// Tell.
    Read,
}

impl Model for Total {
    type State = u64;
    type Input = Ask;
    type Output = u64;

    fn initial(&self) -> u64 {
        0
    }

    fn step(&self, total: &u64, ask: &Ask, told: Option<&u64>) -> Option<u64> {
        let next = match ask {
            Ask::Add(amount) => total + amount,
            Ask::Read => *total,
        };
        told.is_none_or(|told| *told == next).then_some(next)
    }

    fn only_reads(&self, ask: &Ask, _told: Option<&u64>) -> bool {
        *ask == Ask::Read
    }
}

/// What its clients send.
#[derive(Debug)]
pub struct Clients;

impl Protocol for Clients {
    type Model = Total;

    fn model(&self) -> Total {
        Total
    }

    fn write(&self, rng: &mut Rng) -> Ask {
        Ask::Add(rng.random_range(1..100))
    }

    fn read(&self, _rng: &mut Rng) -> Ask {
        Ask::Read
    }

    fn command(&self, Name { client, number }: Name, ask: &Ask) -> Bytes {
        let amount = if let Ask::Add(amount) = ask { *amount } else { 0 };
        serde_json::to_vec(&Add { client, number, amount }).unwrap_or_default().into()
    }

    fn query(&self, _ask: &Ask) -> Bytes {
        Bytes::new()
    }

    fn reply(&self, _ask: &Ask, reply: &[u8]) -> Result<u64, String> {
        serde_json::from_slice(reply).map_err(|error| error.to_string())
    }
}

fn main() {
    let simulation = Simulation::builder()
        .state_machine(Counter::default)
        .workload(|plan| ModelledWorkload::new(Clients, plan.shape.clients))
        .build();
    for seed in 0..3 {
        let report = simulation.run(seed);
        assert_eq!(report.failure, None, "seed {seed}");
        println!("seed {seed}: {} operations in {} simulated seconds", report.operations, report.simulated);
    }
}
