//! What a fault of the plan does when its time comes, and when it ends.

use raft_core::{MembershipChange, NodeId, StateMachine, Storage};
use raft_kv::DiskError;

use super::server::CrashAt;
use super::{Due, World};
use crate::network::FaultId;
use crate::plan::{Fault, Target};
use crate::report::Failure;
use crate::story::What;
use crate::time::{Time, chance};
use crate::workload::Workload;

/// A fault that lasts is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Links(FaultId),
    Pause(NodeId, u64),
    Clock(NodeId),
    Slow(NodeId),
    Stuck(NodeId),
    Reads(NodeId),
    Full(NodeId),
    /// A process whose disk has failed is started anew.
    Supervise(NodeId),
}

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    pub(super) fn inflict(&mut self, number: usize) -> Result<(), Failure> {
        let Some(fault) = self.plan.faults.get(number).map(|timed| timed.fault.clone()) else { return Ok(()) };
        if !self.phase.has_faults() {
            return Ok(());
        }
        if self.befall(&fault)? {
            *self.faults.entry(fault.kind()).or_default() += 1;
            self.tell(|| What::Fault { words: fault.to_string() });
        }
        Ok(())
    }

    /// Whether it could happen.
    fn befall(&mut self, fault: &Fault) -> Result<bool, Failure> {
        match fault {
            Fault::Partition { lasts, .. }
            | Fault::Chain { lasts }
            | Fault::Clog { lasts, .. }
            | Fault::Detour { lasts, .. } => Ok(self.befall_links(fault, *lasts)),
            Fault::Isolate { target, lasts } => Ok(self.with(*target).is_some_and(|id| {
                let target = Target::Server(id.0);
                self.befall_links(&Fault::Isolate { target, lasts: *lasts }, *lasts)
            })),
            Fault::OneWay { target, says, lasts } => Ok(self.with(*target).is_some_and(|id| {
                let target = Target::Server(id.0);
                self.befall_links(&Fault::OneWay { target, says: *says, lasts: *lasts }, *lasts)
            })),
            Fault::Membership { .. }
            | Fault::Transfer { .. }
            | Fault::HandOver
            | Fault::Snapshot { .. }
            | Fault::NextSnapshot { .. } => self.operator_does(fault),
            Fault::Crash { target, .. }
            | Fault::CrashAtWrite { target, .. }
            | Fault::Pause { target, .. }
            | Fault::Drift { target, .. }
            | Fault::Jump { target, .. }
            | Fault::AlteredState { target } => self.befall_process(*target, fault),
            Fault::SlowDisk { target, .. }
            | Fault::StuckDisk { target, .. }
            | Fault::FailedWrite { target, .. }
            | Fault::FailedReads { target, .. }
            | Fault::FullDisk { target, .. }
            | Fault::BitRot { target, .. }
            | Fault::LostFiles { target, .. } => self.befall_disk(*target, fault),
        }
    }

    /// Who it is, if it is there.
    fn with(&self, target: Target) -> Option<NodeId> {
        self.resolve(target)
    }

    fn befall_links(&mut self, fault: &Fault, lasts: Time) -> bool {
        let Some(id) = self.network.apply(fault) else { return false };
        self.queue.push(self.now + lasts, Due::Ending(Ending::Links(id)));
        true
    }

    fn befall_process(&mut self, target: Target, fault: &Fault) -> Result<bool, Failure> {
        let now = self.now;
        let Some(id) = self.with(target) else { return Ok(false) };
        let Some(at) = self.place(id) else { return Ok(false) };
        let Some(server) = self.servers.get_mut(at) else { return Ok(false) };
        let (life, writes) = (server.life, server.disk.writes());
        let Some(process) = &mut server.process else { return Ok(false) };
        match fault {
            Fault::Crash { down, .. } => {
                self.crash(at);
                self.queue.push(now + *down, Due::Start(id));
            }
            Fault::CrashAtWrite { writes: nth, durable, down, .. } => {
                let writes = writes.saturating_add(u64::from(*nth));
                process.crash_at = Some(CrashAt { writes, durable: *durable, down: *down });
            }
            Fault::Pause { lasts, .. } => {
                if process.held.is_some() {
                    return Ok(false);
                }
                process.held = Some(Vec::new());
                self.queue.push(now + *lasts, Due::Ending(Ending::Pause(id, life)));
                self.tell(|| What::Paused { server: id });
            }
            Fault::Drift { permille, lasts, .. } => {
                server.clock = (*permille).max(1);
                self.queue.push(now + *lasts, Due::Ending(Ending::Clock(id)));
            }
            Fault::AlteredState { .. } => {
                server.is_altered = true;
                self.oracle.alter_state(id);
            }
            Fault::Jump { ticks, .. } => {
                for _ in 0..*ticks {
                    self.tick_once(id)?;
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn tick_once(&mut self, id: NodeId) -> Result<(), Failure> {
        self.give(id, super::Input::Tick)
    }

    fn befall_disk(&mut self, target: Target, fault: &Fault) -> Result<bool, Failure> {
        let now = self.now;
        let Some(id) = self.with(target) else { return Ok(false) };
        let Some(at) = self.place(id) else { return Ok(false) };
        let may_lose = self.may_lose(id);
        let Some(server) = self.servers.get_mut(at) else { return Ok(false) };
        if server.process.is_none() {
            return Ok(false);
        }
        let ending = |ending, lasts: &Time| (now + *lasts, Due::Ending(ending));
        let (when, due) = match fault {
            Fault::SlowDisk { factor, lasts, .. } => {
                server.slowness = (*factor).max(1);
                ending(Ending::Slow(id), lasts)
            }
            Fault::StuckDisk { lasts, .. } => {
                server.stuck = server.stuck.saturating_add(1);
                ending(Ending::Stuck(id), lasts)
            }
            Fault::FailedWrite { down, .. } => {
                server.is_excused = true;
                server.disk.fail(DiskError::Io { what: format!("write {}: injected failure", server.disk.writes()) });
                ending(Ending::Supervise(id), down)
            }
            Fault::FailedReads { lasts, .. } => {
                server.is_excused = true;
                // A bad region of the device, rather than all of it, may show only when the log is opened.
                if chance(&mut self.chances, 500) {
                    server.disk.fail_late_reads();
                } else {
                    server.disk.fail_reads(true);
                }
                ending(Ending::Reads(id), lasts)
            }
            Fault::FullDisk { lasts, .. } => {
                server.is_excused = true;
                server.disk.set_full(true);
                ending(Ending::Full(id), lasts)
            }
            Fault::BitRot { down, .. } if may_lose => {
                if server.disk.rot(&mut self.chances).is_none() {
                    return Ok(false);
                }
                (server.is_excused, server.is_lost) = (true, true);
                self.crash(at);
                self.operator.will_replace(id);
                (now + *down, Due::Start(id))
            }
            Fault::LostFiles { down, torn, .. } if may_lose => {
                server.dies_founding = *torn;
                self.crash(at);
                self.replace_disk(at);
                (now + *down, Due::Start(id))
            }
            _ => return Ok(false),
        };
        self.queue.push(when, due);
        Ok(true)
    }

    pub(super) fn end(&mut self, ending: Ending) -> Result<(), Failure> {
        match ending {
            Ending::Links(fault) => {
                self.network.lift(fault);
                self.release();
            }
            Ending::Pause(id, life) => return self.resume(id, life),
            Ending::Supervise(id) => self.supervise(id),
            Ending::Clock(id) => self.change(id, |server| server.clock = 1000),
            Ending::Slow(id) => self.change(id, |server| server.slowness = 1),
            Ending::Stuck(id) => self.change(id, |server| server.stuck = server.stuck.saturating_sub(1)),
            Ending::Reads(id) => self.change(id, |server| server.disk.fail_reads(false)),
            Ending::Full(id) => self.change(id, |server| server.disk.set_full(false)),
        }
        Ok(())
    }

    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut super::Server<S, M>)) {
        if let Some(server) = self.server_mut(id) {
            change(server);
        }
    }

    /// What was held back for links that are clogged no longer.
    pub(super) fn release(&mut self) {
        for (number, message) in std::mem::take(&mut self.clogged) {
            self.send(number, message);
        }
    }

    pub(super) fn resume(&mut self, id: NodeId, life: u64) -> Result<(), Failure> {
        let Some(server) = self.alive_mut(id, life) else { return Ok(()) };
        let Some(held) = server.process.as_mut().and_then(|process| process.held.take()) else { return Ok(()) };
        self.tell(|| What::Resumed { server: id });
        for input in held {
            self.give(id, input)?;
        }
        self.turn_comes(id);
        Ok(())
    }

    /// Starts a process anew that has halted.
    fn supervise(&mut self, id: NodeId) {
        let halted = |server: &&mut super::Server<S, M>| server.process.as_ref().is_some_and(|process| process.halted);
        if self.server_mut(id).filter(halted).is_some()
            && let Some(at) = self.place(id)
        {
            self.crash(at);
            self.queue.push(self.now + Time::millis(20), Due::Start(id));
        }
    }

    fn operator_does(&mut self, fault: &Fault) -> Result<bool, Failure> {
        let target = match fault {
            Fault::Snapshot { target } | Fault::NextSnapshot { target } => self.with(*target),
            _ => self.leader(),
        };
        let lost: Vec<NodeId> = self.servers.iter().filter(|server| server.is_lost).map(|server| server.id).collect();
        let Some(at) = target.and_then(|id| self.place(id)) else { return Ok(false) };
        let Some(process) = self.servers.get_mut(at).and_then(|server| server.process.as_mut()) else {
            return Ok(false);
        };
        if process.held.is_some() {
            return Ok(false);
        }
        match fault {
            Fault::Snapshot { .. } => process.replica.take_snapshot(),
            Fault::NextSnapshot { .. } => process.snapshot_beyond = Some(process.replica.node().last_applied()),
            Fault::Transfer { to } => process.replica.transfer_leadership(NodeId(*to)),
            Fault::HandOver => process.replica.hand_over(),
            Fault::Membership { voters, learners, catch_up } if lost.is_empty() => {
                let ids = |of: &[u32]| of.iter().copied().map(NodeId).collect();
                let (voters, learners, addresses) = (ids(voters), ids(learners), Vec::new());
                let change = MembershipChange { voters, learners, catch_up: *catch_up, addresses };
                process.replica.change_membership(change);
            }
            _ => return Ok(false),
        }
        self.after(at)?;
        Ok(true)
    }
}
