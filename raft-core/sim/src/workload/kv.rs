//! Clients of the KV machine.
//!
//! Each opens a session and writes, swaps, deletes, reads, scans and transacts on a few keys that all share. A write is
//! sent again, under its name, until it is answered: to whom a refusal names, or after a while to another server.
//! Every value is written once, so that a read tells which write it saw.
//!
//! What is checked:
//!
//! * Every answer fits its question. A write's answer is what the servers gave when they applied it, byte for byte.
//! * No write is applied at two places (invariant 13).
//! * The history of each key is linearizable (invariant 14). A scan or a transaction counts as one operation on each of
//!   its keys, all of the same interval. That accuses no right server, but it is less than to check the store as a
//!   whole: that the parts happened *together* shows only where replicas are compared by their digests, and in that
//!   a transaction that fails leaves no trace.

mod applications;
mod client;
mod history;
mod mix;
mod words;

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{NodeId, Outcome, Position};

use self::applications::Applications;
use self::client::Client;
use self::history::History;
use self::mix::Mix;
use super::{Io, Workload};
use crate::linearizability::kv::{KvOperation, check_keys};
use crate::time::{Rng, rng};

/// The clients of a [`KvMachine`](raft_kv::KvMachine) and what they know together.
#[derive(Debug)]
pub struct KvWorkload {
    clients: Vec<Client>,
    shared: Shared,
}

/// What is not one client's alone.
#[derive(Debug)]
struct Shared {
    mix: Mix,
    history: History,
    applications: Applications,
    /// Nothing more is begun.
    finishing: bool,
    completed: u64,
    /// The first thing that was wrong.
    wrong: Option<String>,
}

impl KvWorkload {
    /// So many clients, numbered from 1. What they like to do is drawn from the seed.
    #[must_use]
    pub fn new(seed: u64, clients: u32) -> Self {
        let mut rng: Rng = rng(seed, "kv workload");
        let mix = Mix::draw(&mut rng);
        let shared = Shared {
            history: History::new(mix.keys().to_vec()),
            mix,
            applications: Applications::default(),
            finishing: false,
            completed: 0,
            wrong: None,
        };
        Self { clients: (1..=clients).map(Client::new).collect(), shared }
    }

    /// What was done with each key, what is open included.
    #[must_use]
    pub fn histories(&self) -> BTreeMap<Bytes, Vec<KvOperation>> {
        let mut history = self.shared.history.clone();
        for client in &self.clients {
            client.record_open(&mut history);
        }
        history.into_keys()
    }

    fn client(&mut self, number: u32) -> Option<(&mut Client, &mut Shared)> {
        let at = number.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let client = at.and_then(|at| self.clients.get_mut(at));
        if client.is_none() {
            self.shared.fail(|| format!("there is no client {number}"));
        }
        client.map(|client| (client, &mut self.shared))
    }
}

impl Workload for KvWorkload {
    fn wake(&mut self, client: u32, io: &mut Io<'_>) {
        if let Some((client, shared)) = self.client(client) {
            client.wake(shared, io);
        }
    }

    fn answer(&mut self, client: u32, server: NodeId, call: u64, outcome: Outcome, io: &mut Io<'_>) {
        if let Some((client, shared)) = self.client(client) {
            client.answer(server, call, outcome, shared, io);
        }
    }

    fn applied(&mut self, server: NodeId, at: &Position, command: &[u8], reply: &[u8]) -> Result<(), String> {
        self.shared.applications.applied(server, at, command, reply)
    }

    fn finish(&mut self) {
        self.shared.finishing = true;
    }

    fn begin_last(&mut self) {
        self.shared.finishing = true;
        for client in &mut self.clients {
            client.begin_last();
        }
    }

    fn pending(&self) -> usize {
        self.clients.iter().map(Client::pending).sum()
    }

    fn completed(&self) -> u64 {
        self.shared.completed
    }

    fn check(&self) -> Result<(), String> {
        if let Some(wrong) = &self.shared.wrong {
            return Err(wrong.clone());
        }
        check_keys(&self.histories()).map_err(|error| error.to_string())
    }
}

impl Shared {
    fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }
}

#[cfg(test)]
mod tests;
