//! What becomes of a server: it starts, ticks, takes what it is given, writes, and dies.

use raft_core::{Config, Configuration, NodeId, Replica, RequestId, StateMachine, Storage};

use super::server::{Input, Process, config};
use super::{CLUSTER, Due, World};
use crate::network::Outbox;
use crate::report::Failure;
use crate::simulation::Founding;
use crate::story::What;
use crate::time::{Time, exponential};
use crate::workload::{Call, Workload};

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// Starts a server that is down; one that cannot start is retired until it is replaced.
    pub(super) fn start(&mut self, at: usize) -> Result<(), Failure> {
        let (now, shape, seed) = (self.now, &self.plan.shape, self.plan.seed);
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        if server.process.is_some() || server.is_retired {
            return Ok(());
        }
        let (id, incarnation, is_founder) = (server.id, server.incarnation, server.is_founder);
        server.life = server.life.saturating_add(1);
        let life = server.life;
        let configuration = Configuration::new((1..=shape.voters).map(NodeId));
        let segment_bytes = shape.limits.segment_bytes;
        let founding = Founding { server: id, cluster: CLUSTER, configuration, incarnation, segment_bytes };
        let (config, limits) = config(shape, id, seed, life);
        let config = Config { is_founder, ..config };
        let storage = (self.simulation.storage)(server.disk.clone(), &founding);
        if std::mem::take(&mut server.dies_founding) {
            drop(storage);
            server.disk.crash_founding(&mut self.disks);
            self.tell(|| What::Crashed { server: id });
            self.queue.push(now + Time::millis(20), Due::Start(id));
            return Ok(());
        }
        let opened = storage.and_then(|storage| {
            let storage = self.oracle.watch(id, storage);
            let machine = self.oracle.watch_machine(id, (self.simulation.machine)());
            Replica::new(config, limits, storage, Outbox::new(id), machine).map_err(|error| error.to_string())
        });
        match opened {
            Ok(replica) => {
                self.oracle.started(id, &replica)?;
                server.process = Some(Process::new(replica));
                server.is_altered = false;
                if self.operator.replaces(id) {
                    self.operator.spare();
                    server.is_lost = false;
                }
                let tick = Time(shape.tick.0.saturating_mul(1000) / u64::from(server.clock.max(1)));
                self.queue.push(now + tick, Due::Tick(id, life));
                self.tell(|| What::Started { server: id, life });
                self.after(at)
            }
            Err(why) => self.does_not_start(at, why),
        }
    }

    pub(super) fn does_not_start(&mut self, at: usize, why: String) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(at) else { return Ok(()) };
        let (id, is_excused) = (server.id, server.is_excused);
        // A failed opening may have written: what comes next is another life of the disk.
        server.disk.crash(&mut self.disks);
        self.tell(|| What::Halted { server: id, why: why.clone() });
        if !is_excused {
            return Err(Failure::new("starts", format!("server {id} does not start: {why}")));
        }
        if self.operator.replaces(id) {
            self.replace_disk(at);
        }
        self.queue.push(self.now + Time::millis(500), Due::Start(id));
        Ok(())
    }

    /// The process dies.
    pub(super) fn crash(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        if server.process.take().is_some() {
            let id = server.id;
            server.disk.crash(&mut self.disks);
            self.oracle.crashed(id);
            self.tell(|| What::Crashed { server: id });
        }
    }

    pub(super) fn tick(&mut self, id: NodeId, life: u64) -> Result<(), Failure> {
        let (now, tick) = (self.now, self.plan.shape.tick);
        let Some(server) = self.alive_mut(id, life) else { return Ok(()) };
        let next = Time(tick.0.saturating_mul(1000) / u64::from(server.clock.max(1)));
        let is_paused = server.is_paused();
        self.queue.push(now + next, Due::Tick(id, life));
        // Ticks of a process that stands still are not made up for.
        if is_paused { Ok(()) } else { self.give(id, Input::Tick) }
    }

    pub(super) fn turn(&mut self, id: NodeId, life: u64) -> Result<(), Failure> {
        let Some(server) = self.alive_mut(id, life) else { return Ok(()) };
        let Some(process) = &mut server.process else { return Ok(()) };
        process.turn_is_due = false;
        if process.held.is_some() {
            return Ok(());
        }
        process.replica.poll();
        self.place(id).map_or(Ok(()), |at| self.after(at))
    }

    pub(super) fn synced(&mut self, id: NodeId, life: u64) -> Result<(), Failure> {
        let Some(server) = self.alive_mut(id, life) else { return Ok(()) };
        if server.stuck > 0 {
            self.queue.push(self.now + Time::millis(10), Due::Synced(id, life));
            return Ok(());
        }
        server.disk.end_sync();
        let Some(process) = &mut server.process else { return Ok(()) };
        process.syncing = false;
        if process.crash_at.is_some_and(|crash| crash.durable && crash.writes <= server.disk.writes()) {
            return self.crash_now(id);
        }
        self.turn_comes(id);
        Ok(())
    }

    /// The crash that waited for a write.
    pub(super) fn crash_now(&mut self, id: NodeId) -> Result<(), Failure> {
        let crash = self.server_mut(id).and_then(|server| server.process.as_mut()?.crash_at.take());
        if let (Some(crash), Some(at)) = (crash, self.place(id)) {
            self.crash(at);
            self.queue.push(self.now + crash.down, Due::Start(id));
        }
        Ok(())
    }

    pub(super) fn turn_comes(&mut self, id: NodeId) {
        let (now, turn) = (self.now, self.plan.shape.turn);
        if let Some(server) = self.server_mut(id)
            && let Some(process) = &mut server.process
            && !std::mem::replace(&mut process.turn_is_due, true)
        {
            let life = server.life;
            self.queue.push(now + turn, Due::Turn(id, life));
        }
    }

    /// Gives a server an input; one that stands still takes it when it goes on.
    pub(super) fn give(&mut self, id: NodeId, input: Input) -> Result<(), Failure> {
        let Some(at) = self.place(id) else { return Ok(()) };
        let Some(process) = self.servers.get_mut(at).and_then(|server| server.process.as_mut()) else {
            return Ok(());
        };
        if let Some(held) = &mut process.held {
            held.push(input);
            return Ok(());
        }
        match input {
            Input::Tick => process.replica.tick(),
            Input::Message(message) => process.replica.receive(*message),
            Input::Call(caller, call) => {
                process.last_request = process.last_request.saturating_add(1);
                let request = RequestId(process.last_request);
                process.requests.insert(request, caller);
                match call {
                    Call::Command(command) => process.replica.submit(request, &command),
                    Call::Query(query) => process.replica.query(request, query),
                }
            }
        }
        self.turn_comes(id);
        self.after(at)
    }

    pub(super) fn begin_sync(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let (id, life, slowness) = (server.id, server.life, server.slowness);
        if let Some(process) = &mut server.process
            && !process.syncing
            && server.disk.begin_sync().is_some()
        {
            process.syncing = true;
            let shape = &self.plan.shape.disk;
            // Once the world is whole a server that lags far catches up before patience ends.
            let most = if self.phase.has_faults() { shape.sync_mean } else { Time::micros(500) };
            let (min, mean) = (shape.sync_min.min(most), shape.sync_mean.min(most));
            let plain = exponential(&mut self.disks, min, mean);
            // A slow disk is slow until the world is whole again.
            let healed = self.plan.shape.duration - self.now;
            let takes = plain.times(u64::from(slowness)).min(healed + plain);
            self.queue.push(self.now + takes, Due::Synced(id, life));
        }
    }

    pub(super) fn crash_at_write(&mut self, at: usize) -> Result<(), Failure> {
        let Some(server) = self.servers.get(at) else { return Ok(()) };
        let crash = server.process.as_ref().and_then(|process| process.crash_at);
        if crash.is_some_and(|crash| !crash.durable && crash.writes <= server.disk.writes()) {
            return self.crash_now(server.id);
        }
        Ok(())
    }
}
