//! Every run of three servers within small bounds, explored by a model checker (`stateright`) over the real
//! [`Node`]: not a model of the protocol, but the code that runs.
//!
//! A state is three nodes with their disks, the messages under way, what is left of the bounds, and what has been
//! promised so far (who led, what was committed). From each state the checker takes every step that is possible: any
//! message arrives (so messages are reordered, and lost where they never arrive) or arrives and stays under way
//! (repeated); a server campaigns, takes a command, has its oldest write become durable, crashes with any part of its
//! unreported writes on the disk, or, leading, has its clock tick. [`Bounds`] says how often.
//!
//! What keeps the space small, and why nothing is lost by it:
//! * [`Event::Campaign`] stands for an election timeout, so that no timer is part of a state. Timeouts of two ticks draw
//!   from an interval of one value, so neither is the random generator.
//! * The servers are alike, so the first to campaign is server 1.
//! * An answer that names a term its receiver has durably left is taken off the network; that it does nothing is
//!   tried first.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "part of a test: it fails by panicking"
)]

mod disk;
mod past;
mod properties;
mod state;
mod steps;

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Configuration, Event, MemStorage, NodeId, RoleName};
use stateright::{Model, Property};

use crate::disk::Disk;
use crate::past::Past;
pub use crate::properties::{
    COMMIT_EVIDENCE, ELECTION_SAFETY, LEADER_COMPLETENESS, LOG_MATCHING, PROMISES, STATE_MACHINE_SAFETY,
};
pub use crate::state::State;
use crate::state::{Left, Server, start};

const SERVERS: u32 = 3;

/// How far the exploration goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// No server campaigns for a later term.
    pub max_term: u64,
    /// Election timeouts, over all servers.
    pub campaigns: u8,
    /// Commands given to leaders.
    pub proposals: u8,
    /// Crashes, each followed by a restart.
    pub crashes: u8,
    /// Messages that arrive and stay under way.
    pub repeats: u8,
    /// Ticks of leaders: each a heartbeat, the second in a row without answers the end of the leadership.
    pub ticks: u8,
    /// Writes become durable one by one and late; otherwise at once.
    pub late_writes: bool,
    /// Pre-votes travel like other messages; otherwise everybody grants them at once. They promise nothing, so safety
    /// must not rest on them.
    pub pre_votes: bool,
}

/// A defect outside the node, to show that the checker finds what it looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// None: what is explored is correct.
    Nothing,
    /// Writes are reported durable when they begin.
    ReportsEarly,
    /// A restart finds the term and no vote.
    ForgetsVote,
    /// Refused votes arrive as granted.
    GrantsEverything,
    /// Acceptances arrive for one entry more.
    AcceptsMore,
}

/// What is explored: the three servers, within these bounds.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// How far.
    pub bounds: Bounds,
    /// What is wrong.
    pub plant: Plant,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The message at this place arrives.
    Deliver(usize),
    /// It arrives, and will again.
    Repeat(usize),
    /// This server's election timeout elapses.
    Campaign(usize),
    /// This leader is given a command.
    Propose(usize),
    /// This server's oldest write becomes durable.
    Persist(usize),
    /// This server crashes and restarts; so many writes that it had not reported are on the disk.
    Crash(usize, usize),
    /// This leader's clock ticks.
    Tick(usize),
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let servers = [1, 2, 3].map(|id| {
            let genesis = Configuration::new((1..=SERVERS).map(NodeId));
            Arc::new(Server::new(start(id, Disk::new(MemStorage::new(genesis)))))
        });
        let Bounds { campaigns, proposals, crashes, repeats, ticks, .. } = self.bounds;
        let left = Left { campaigns, proposals, crashes, repeats, ticks };
        vec![State { servers, network: Vec::new(), left, past: Past::default() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let left = state.left;
        for at in 0..state.network.len() {
            if at > 0 && state.network[at].digest == state.network[at - 1].digest {
                continue;
            }
            steps.push(Step::Deliver(at));
            if left.repeats > 0 {
                steps.push(Step::Repeat(at));
            }
        }
        for (at, server) in state.servers.iter().enumerate() {
            let status = server.node.status();
            let leads = status.role == RoleName::Leader;
            let is_first = left.campaigns == self.bounds.campaigns;
            if left.campaigns > 0 && !leads && status.term.0 < self.bounds.max_term && (at == 0 || !is_first) {
                steps.push(Step::Campaign(at));
            }
            if left.proposals > 0 && leads {
                steps.push(Step::Propose(at));
            }
            if left.ticks > 0 && leads {
                steps.push(Step::Tick(at));
            }
            let pending = server.node.storage().pending();
            if pending > 0 && self.plant != Plant::ReportsEarly {
                steps.push(Step::Persist(at));
            }
            if left.crashes > 0 {
                steps.extend((0..=pending).map(|also| Step::Crash(at, also)));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Deliver(at) => {
                let letter = state.network.remove(at);
                self.deliver(&mut state, &letter.message);
            }
            Step::Repeat(at) => {
                state.left.repeats -= 1;
                let letter = state.network[at].clone();
                self.deliver(&mut state, &letter.message);
            }
            Step::Campaign(at) => {
                state.left.campaigns -= 1;
                self.step(&mut state, at, Event::Campaign);
            }
            Step::Propose(at) => {
                let command = Bytes::from(format!("command {}", state.left.proposals));
                state.left.proposals -= 1;
                self.step(&mut state, at, Event::Propose(vec![command]));
            }
            Step::Tick(at) => {
                state.left.ticks -= 1;
                self.step(&mut state, at, Event::Tick);
            }
            Step::Persist(at) => self.persist(&mut state, at),
            Step::Crash(at, also) => {
                state.left.crashes -= 1;
                let disk = state.servers[at].node.storage().clone().crash(also, self.plant == Plant::ForgetsVote);
                state.servers[at] = Arc::new(Server::new(start(at as u32 + 1, disk)));
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(&self.bounds)
    }
}
