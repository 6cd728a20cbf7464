//! A state machine that is wrong, and what the simulator says of it.
//!
//! This counter also counts how often it was read. But a read is answered by one server, and so the servers' states differ:
//! contract 3 of [`StateMachine`] says that `query` changes nothing.
//!
//! `cargo run --release -p raft-sim --example broken`
#![allow(unreachable_pub, reason = "a test uses it")]

use std::cell::Cell;

use bytes::Bytes;
use raft_core::{Digest, Position, RestoreError, StateMachine};
use raft_sim::plan::Plan;
use raft_sim::{ModelledWorkload, Report, Simulation, minimize, story};

#[allow(dead_code, reason = "it is a program too")]
#[path = "counter.rs"]
mod counter;

use counter::{Clients, Counter};

#[derive(Default)]
struct Broken {
    counter: Counter,
    reads: Cell<u8>,
}

impl StateMachine for Broken {
    fn apply(&mut self, at: &Position, command: &[u8]) -> Bytes {
        self.counter.apply(at, command)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.reads.set(self.reads.get().wrapping_add(1));
        self.counter.query(query)
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = self.counter.snapshot();
        bytes.push(self.reads.get());
        bytes
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let (reads, counter) = snapshot.split_last().ok_or_else(|| RestoreError { what: "empty".into() })?;
        self.counter.restore(counter)?;
        self.reads.set(*reads);
        Ok(())
    }

    fn digest(&self) -> Digest {
        let Digest(mut digest) = self.counter.digest();
        digest[31] = self.reads.get();
        Digest(digest)
    }
}

/// A run that fails, made as small as may be.
pub fn report() -> Report {
    let simulation = Simulation::builder()
        .state_machine(Broken::default)
        .workload(|plan| ModelledWorkload::new(Clients, plan.shape.clients))
        .build();
    let rule = |plan: &Plan| simulation.run_plan(plan.clone(), false).failure.map(|failure| failure.rule);
    // `simulation.plan(seed)` would do as well; a calm world makes a shorter story.
    let plan = Plan::calm(1, 3);
    let broken = rule(&plan);
    let small = minimize(plan, |smaller| rule(smaller) == broken, 30, |_| {});
    simulation.run_plan(small, true)
}

fn main() {
    print!("{}", story::timeline(&report()));
}
