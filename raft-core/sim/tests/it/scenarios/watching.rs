//! The KV clients, watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use raft_core::{NodeId, Outcome, Position};
use raft_kv::{Command, KvMachine, RequestId, SessionLimits};
use raft_sim::plan::Plan;
use raft_sim::{Io, KvWorkload, Time, Workload};

use super::{Told, kv, run_in};

/// What was seen of writes and their answers.
#[derive(Debug, Default)]
pub struct Seen {
    /// Where each write stands in the log.
    pub places: BTreeMap<RequestId, BTreeSet<(u64, u32)>>,
    /// What each server has applied, that began with a snapshot or not.
    by_server: BTreeMap<NodeId, BTreeSet<RequestId>>,
    /// Applications of a write that stands in the log before, by a server that knows of the first from a snapshot only.
    pub from_snapshot: usize,
    /// Who told a client that it does not know what became of a write, and when.
    pub unknown: Vec<(NodeId, Time)>,
}

/// The KV clients, and what comes of what they send.
struct Watching {
    clients: KvWorkload,
    seen: Arc<Mutex<Seen>>,
}

impl Workload for Watching {
    fn wake(&mut self, client: u32, io: &mut Io<'_>) {
        self.clients.wake(client, io);
    }

    fn answer(&mut self, client: u32, server: NodeId, call: u64, outcome: Outcome, io: &mut Io<'_>) {
        if outcome == Outcome::Unknown {
            self.seen.lock().unwrap().unknown.push((server, io.now));
        }
        self.clients.answer(client, server, call, outcome, io);
    }

    fn applied(&mut self, server: NodeId, at: &Position, command: &[u8], reply: &[u8]) -> Result<(), String> {
        if let Ok(Command::Write { request, .. }) = Command::decode(command) {
            let seen = &mut *self.seen.lock().unwrap();
            let places = seen.places.entry(request).or_default();
            places.insert((at.index.0, at.number));
            let came_before = places.first().is_some_and(|first| *first < (at.index.0, at.number));
            let is_new_here = seen.by_server.entry(server).or_default().insert(request);
            seen.from_snapshot += usize::from(came_before && is_new_here);
        }
        self.clients.applied(server, at, command, reply)
    }

    fn finish(&mut self) {
        self.clients.finish();
    }

    fn begin_last(&mut self) {
        self.clients.begin_last();
    }

    fn pending(&self) -> usize {
        self.clients.pending()
    }

    fn completed(&self) -> u64 {
        self.clients.completed()
    }

    fn check(&self) -> Result<(), String> {
        self.clients.check()
    }
}

/// Runs it, and tells what was seen.
pub fn watched(plan: Plan) -> (Told, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let of_clients = Arc::clone(&seen);
    let clients = move |plan: &Plan| Watching {
        clients: KvWorkload::new(plan.seed, plan.shape.clients),
        seen: Arc::clone(&of_clients),
    };
    // Room for all sessions: none expires but by a mistake.
    let machine = || KvMachine::new(SessionLimits::default(), |one, other| one == other);
    (run_in(&kv().state_machine(machine).workload(clients).build(), plan), seen)
}
