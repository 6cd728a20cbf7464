//! After the faults: the world heals but for a minority that stays broken, and everything must come to a good end.
//!
//! ```text
//!   Faults ── duration ──> Leader ── ten election timeouts ──> Pending ── all answered ──> Last ── a fresh write and a
//!                                                               fresh read a client ──> Equal ── logs equal ──> Ended
//! ```

use raft_core::{Configuration, MembershipChange, NodeId, StateMachine, Status, Storage};
use rand::RngExt;

use super::{Due, World};
use crate::report::Failure;
use crate::story::What;
use crate::time::{Time, chance};
use crate::workload::Workload;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Things go wrong.
    Faults,
    /// Somebody is to lead by `until`, or by `at_last` where it is a server that stays broken: it may be some time before
    /// it fails, and then so long until another leads.
    Leader {
        until: Time,
        at_last: Time,
    },
    /// What clients have begun is to end, by this time.
    Pending(Time),
    /// Their last operations are to end, by this time.
    Last(Time),
    /// The logs are to be equal, by this time, which moves on while more than so much is applied by all together: a server
    /// that lags far, and is sent one entry a round trip, may need minutes.
    Equal {
        until: Time,
        applied: u64,
    },
    Ended,
}

impl Phase {
    pub(super) fn has_faults(self) -> bool {
        self == Self::Faults
    }
}

/// For everything that clients wait for: their own patience is up to a few seconds an attempt.
const PATIENCE: Time = Time::secs(60);

/// For logs to come closer to being equal.
const SETTLES: Time = Time::secs(20);

/// Between two looks.
const LOOKS: Time = Time::millis(50);

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// The next step of healing is due.
    pub(super) fn heal(&mut self) -> Result<(), Failure> {
        let now = self.now;
        match self.phase {
            Phase::Faults => {
                self.mend_world()?;
                // What a leader that is gone has said may still be under way, and keeps others from electing one.
                let heard = self.queue.last(|due| matches!(due, Due::Message(..))).unwrap_or(now);
                let until = heard.max(now) + self.elects();
                self.phase = Phase::Leader { until, at_last: until };
            }
            Phase::Leader { until, .. } if now < until && self.leader().is_some_and(|id| self.is_broken(id)) => {
                self.phase = Phase::Leader { until, at_last: now + self.elects() };
            }
            Phase::Leader { until, .. } if now < until => {}
            Phase::Leader { at_last, .. } if self.leader().is_none() => {
                if now >= at_last {
                    return Err(Failure::new("healing", String::from("nobody leads ten election timeouts later")));
                }
            }
            Phase::Leader { .. } => {
                self.hand_to_broken()?;
                self.workload.finish();
                self.phase = Phase::Pending(now + PATIENCE);
            }
            Phase::Pending(until) => {
                if self.is_done(until, "operations that had begun")? {
                    self.workload.begin_last();
                    for client in 1..=self.plan.shape.clients {
                        self.wake_at(client, now);
                    }
                    self.phase = Phase::Last(now + PATIENCE);
                }
            }
            Phase::Last(until) => {
                if self.is_done(until, "fresh operations")? {
                    self.phase = Phase::Equal { until: now + SETTLES, applied: self.applied() };
                }
            }
            Phase::Equal { until, applied } => match self.settled() {
                Ok(()) => {
                    self.workload.check().map_err(|what| Failure::new("linearizable", what))?;
                    self.phase = Phase::Ended;
                }
                Err(_) if self.applied() > applied => {
                    self.phase = Phase::Equal { until: now + SETTLES, applied: self.applied() };
                }
                Err(failure) if now >= until => return Err(failure),
                Err(_) => {}
            },
            Phase::Ended => return Ok(()),
        }
        self.queue.push(now + LOOKS, Due::Healing);
        Ok(())
    }

    /// Ten election timeouts, each as long as it may be.
    fn elects(&self) -> Time {
        let shape = &self.plan.shape;
        shape.tick.times(u64::from(shape.election_ticks).saturating_mul(20))
    }

    fn is_broken(&self, id: NodeId) -> bool {
        self.servers.iter().any(|server| server.id == id && server.is_broken)
    }

    fn is_done(&self, until: Time, what: &str) -> Result<bool, Failure> {
        let pending = self.workload.pending();
        if pending > 0 && self.now >= until {
            let what =
                format!("{pending} {what} have no answer, {} s after the world is whole", PATIENCE.as_secs_f64());
            return Err(Failure::new("healing", what));
        }
        Ok(pending == 0)
    }

    /// Everything that was broken works, but for a minority.
    fn mend_world(&mut self) -> Result<(), Failure> {
        let shape = &mut self.plan.shape.clone();
        let calm = |most: Time, of: Time| Time(of.0.min(most.0));
        let network = &mut shape.network;
        (network.loss, network.duplication, network.late, network.capacity) = (0, 0, 0, None);
        network.latency_min = calm(Time::micros(500), network.latency_min);
        network.latency_mean = calm(Time::micros(500), network.latency_mean);
        self.network.set_shape(network.clone());
        self.network.heal();
        self.release();
        self.tell(|| What::Healed);
        for at in 0..self.servers.len() {
            let Some(server) = self.servers.get_mut(at) else { continue };
            server.mend();
            let (id, life) = (server.id, server.life);
            if server.is_paused() {
                self.resume(id, life)?;
            }
            self.restart_halted(at)?;
        }
        self.break_some();
        Ok(())
    }

    /// Starts who is down, has halted, or has a state that need not be compared any more.
    fn restart_halted(&mut self, at: usize) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let halted = server.process.as_ref().is_some_and(|process| process.replica.is_halted());
        if halted || server.is_altered {
            self.crash(at);
        }
        self.start(at)
    }

    /// Some stay broken, where the others are a quorum in every configuration that anybody knows, or is about to append.
    fn break_some(&mut self) {
        let statuses = self.servers.iter().filter_map(|server| Some(server.process.as_ref()?.replica.status()));
        let known = |status: Status| {
            let awaited = status.promotion.as_ref().map(MembershipChange::configuration);
            [status.configuration].into_iter().chain(awaited)
        };
        let configurations: Vec<Configuration> = statuses.flat_map(known).collect();
        let mut broken: Vec<NodeId> = Vec::new();
        if chance(&mut self.chances, 500) {
            let wanted = self.chances.random_range(0..self.servers.len().max(1));
            for _ in 0..wanted {
                let at = self.chances.random_range(0..self.servers.len());
                // It is the leader whose failure others must notice.
                let leads = self.leader().filter(|_| chance(&mut self.chances, 300)).and_then(|id| self.place(id));
                let at = leads.unwrap_or(at);
                let Some(server) = self.servers.get(at) else { continue };
                let id = server.id;
                let holds = |voter: NodeId| {
                    let works = |server: &super::Server<S, M>| server.id == voter && !server.is_lost;
                    voter != id && !broken.contains(&voter) && self.servers.iter().any(works)
                };
                if configurations.iter().all(|configuration| configuration.is_quorum(holds)) {
                    broken.push(id);
                }
            }
        }
        for id in broken {
            self.stays_broken(id);
        }
    }

    /// How many entries the servers have applied, together.
    fn applied(&self) -> u64 {
        let replicas = self.servers.iter().filter_map(|server| Some(&server.process.as_ref()?.replica));
        replicas.map(|replica| replica.node().last_applied().0).sum()
    }

    /// Whether all who work and are members are equal and quiet.
    fn settled(&mut self) -> Result<(), Failure> {
        let Some(leader) = self.leader().and_then(|id| self.place(id)) else {
            return Err(Failure::new("settled", String::from("nobody leads")));
        };
        let Some(leader) = self.servers.get(leader).and_then(|server| server.process.as_ref()) else { return Ok(()) };
        let current = leader.replica.node().configuration().clone();
        if current.is_joint() {
            return Err(Failure::new("settled", format!("the change to {current} has not ended")));
        }
        let is_whole = |server: &&super::Server<S, M>| !server.is_lost && !server.is_broken;
        let members = self.servers.iter().filter(|server| current.is_member(server.id)).filter(is_whole);
        for (id, process) in members.clone().filter_map(|server| Some((server.id, server.process.as_ref()?))) {
            let unanswered = process.requests.len();
            if unanswered > 0 && !process.replica.is_halted() {
                let what = format!("server {id} has never answered {unanswered} requests");
                return Err(Failure::new("answered once", what));
            }
        }
        let replicas = members.filter_map(|server| Some((&server.id, &server.process.as_ref()?.replica)));
        self.oracle.settled(replicas)
    }
}
