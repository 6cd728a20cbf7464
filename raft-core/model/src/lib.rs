//! Every run of three servers within small bounds, explored by a model checker (`stateright`) over the real
//! [`Node`](raft_core::Node): not a model of the protocol, but the code that runs.
//!
//! A state is three nodes with their disks, the messages under way, what is left of the bounds, and what has been
//! promised so far (who led, what was committed). From each state the checker takes every step that is possible: any
//! message arrives (so messages are reordered, and lost where they never arrive) or arrives and stays under way
//! (repeated); a server campaigns, takes a command or a membership change, has its oldest write become durable, crashes
//! with any part of its unreported writes on the disk, or, leading, has its clock tick. [`Bounds`] says how often.
//!
//! What keeps the space small, and why nothing is lost by it:
//! * [`Event::Campaign`] stands for an election timeout, so that no timer is part of a state. Timeouts of two ticks draw
//!   from an interval of one value, so neither is the random generator.
//! * Servers that found and stay, found and go, or come, are alike among themselves, so of each kind the first to
//!   campaign is the one with the lowest id.
//! * `TimeoutNow` counts as an election timeout: where none is left, it is lost.
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
mod membership;
mod past;
mod properties;
mod state;
mod steps;

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Body, Configuration, Event, MemStorage, MembershipChange, Message, NodeId, RoleName};
use stateright::{Model, Property};

use crate::disk::Disk;
use crate::past::Past;
pub use crate::properties::{
    COMMIT_EVIDENCE, CONSECUTIVE_QUORUMS, ELECTION_SAFETY, LEADER_COMPLETENESS, LOG_MATCHING, ONE_CHANGE, PROMISES,
    STATE_MACHINE_SAFETY,
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
    /// Membership changes given to leaders, and not refused.
    pub changes: u8,
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
    /// Servers that hear a leader refuse others their vote (§6); otherwise every election looks to them like one that
    /// their leader asked for. This too promises nothing.
    pub loyal: bool,
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
    /// A restart finds the log and no configuration in it.
    ForgetsConfigurations,
    /// A joint configuration arrives as the one that it leads to.
    SkipsJoint,
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
    /// Who votes at first.
    pub founders: &'static [u32],
    /// Who votes after a membership change.
    pub wanted: &'static [u32],
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
    /// This leader is told to change who votes.
    Change(usize),
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
            let genesis = Configuration::new(self.founders.iter().copied().map(NodeId));
            Arc::new(Server::new(start(id, Disk::new(MemStorage::new(genesis)))))
        });
        let Bounds { campaigns, proposals, changes, crashes, repeats, ticks, .. } = self.bounds;
        let left = Left { campaigns, proposals, changes, crashes, repeats, ticks };
        vec![State { servers, network: Vec::new(), left, past: Past::default() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let left = state.left;
        for at in 0..state.network.len() {
            let is_again = at > 0 && state.network[at].digest == state.network[at - 1].digest;
            let message = &state.network[at].message;
            let may_campaign = left.campaigns > 0 && message.term.0 < self.bounds.max_term;
            if is_again || (is_timeout_now(message) && !may_campaign) {
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
            if left.campaigns > 0
                && !leads
                && status.term.0 < self.bounds.max_term
                && (!is_first || self.is_first_of_its_kind(at))
            {
                steps.push(Step::Campaign(at));
            }
            if left.proposals > 0 && leads {
                steps.push(Step::Propose(at));
            }
            if left.changes > 0 && leads {
                steps.push(Step::Change(at));
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
                state.left.campaigns -= u8::from(is_timeout_now(&letter.message));
                self.deliver(&mut state, &letter.message);
            }
            Step::Repeat(at) => {
                state.left.repeats -= 1;
                let letter = state.network[at].clone();
                state.left.campaigns -= u8::from(is_timeout_now(&letter.message));
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
            Step::Change(at) => {
                state.left.changes -= 1;
                let voters = self.wanted.iter().copied().map(NodeId).collect();
                let change = MembershipChange { voters, learners: Vec::new(), catch_up: false, addresses: Vec::new() };
                self.step(&mut state, at, Event::ChangeMembership(change));
            }
            Step::Tick(at) => {
                state.left.ticks -= 1;
                self.step(&mut state, at, Event::Tick);
            }
            Step::Persist(at) => self.persist(&mut state, at),
            Step::Crash(at, also) => {
                state.left.crashes -= 1;
                let disk = state.servers[at].node.storage().clone().crash(also, self.plant);
                state.servers[at] = Arc::new(Server::new(start(at as u32 + 1, disk)));
            }
        }
        // What was refused, or did nothing, is no step of its own.
        let is_idle = matches!(step, Step::Campaign(at) | Step::Change(at) if is_unchanged(at, &state, last));
        (!is_idle && state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}

impl Cluster {
    /// Whether no server of a lower id founds, and votes in the end, as this one does.
    fn is_first_of_its_kind(&self, at: usize) -> bool {
        let kind = |id: u32| (self.founders.contains(&id), self.wanted.contains(&id));
        let id = at as u32 + 1;
        (1..id).all(|lower| kind(lower) != kind(id))
    }
}

fn is_unchanged(at: usize, state: &State, last: &State) -> bool {
    state.servers[at].digest == last.servers[at].digest
}

fn is_timeout_now(message: &Message) -> bool {
    matches!(message.body, Body::TimeoutNow)
}
