//! One simulated server: its disk, which outlives it, and its process, which comes and goes.

use std::collections::BTreeMap;

use raft_core::{Config, Incarnation, Lease, Limits, LogIndex, Message, NodeId, Replica, RequestId, RoleName, Term};

use crate::disk::SimDisk;
use crate::network::Outbox;
use crate::oracle::{Watched, WatchedMachine};
use crate::plan::Shape;
use crate::time::Time;
use crate::workload::Call;

pub(super) type Running<S, M> = Replica<Watched<S>, Outbox, WatchedMachine<M>>;

pub(super) struct Server<S, M> {
    pub(super) id: NodeId,
    pub(super) disk: SimDisk,
    pub(super) incarnation: Incarnation,
    pub(super) is_founder: bool,
    /// Starts so far: names the process, so that what was due for one before is not done to this one.
    pub(super) life: u64,
    pub(super) process: Option<Process<S, M>>,
    /// Its file is damaged and it cannot start, or lost: until the operator has replaced it.
    pub(super) is_lost: bool,
    /// It stays down.
    pub(super) is_retired: bool,
    /// It stays broken when the world heals, in some way.
    pub(super) is_broken: bool,
    /// The speed of its clock, in thousandths.
    pub(super) clock: u32,
    /// Its writes take so many times as long.
    pub(super) slowness: u32,
    /// Its writes do not end: as many faults want it so.
    pub(super) stuck: u32,
    /// It may halt or not start, for its device fails.
    pub(super) is_excused: bool,
    /// Its process's state is not what the log makes it: it is to halt.
    pub(super) is_altered: bool,
    /// It crashes while it founds its next file.
    pub(super) dies_founding: bool,
}

/// A process that runs.
pub(super) struct Process<S, M> {
    pub(super) replica: Running<S, M>,
    /// While it stands still: what arrives.
    pub(super) held: Option<Vec<Input>>,
    /// Its turn is coming: it will look at its disk, and propose what has gathered.
    pub(super) turn_is_due: bool,
    pub(super) requests: BTreeMap<RequestId, Caller>,
    pub(super) last_request: u64,
    pub(super) crash_at: Option<CrashAt>,
    /// The operator wants a snapshot once more than this is applied.
    pub(super) snapshot_beyond: Option<LogIndex>,
    /// What was told of it last.
    pub(super) role: (RoleName, Term),
    pub(super) committed: u64,
    pub(super) halted: bool,
    /// Its disk writes and syncs: the end of that is due.
    pub(super) syncing: bool,
}

/// A crash that waits for a write.
#[derive(Clone, Copy)]
pub(super) struct CrashAt {
    /// Once so many were submitted.
    pub(super) writes: u64,
    /// Rather when that one is durable.
    pub(super) durable: bool,
    pub(super) down: Time,
}

/// Who waits for a reply.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub(super) client: u32,
    pub(super) call: u64,
}

/// What a server is given.
pub(super) enum Input {
    Tick,
    Message(Box<Message>),
    Call(Caller, Call),
}

impl<S, M> Server<S, M> {
    pub(super) fn new(id: NodeId, is_founder: bool) -> Self {
        Self {
            id,
            disk: SimDisk::new(format!("the disk of server {id}")),
            incarnation: Incarnation(u64::from(id.0)),
            is_founder,
            life: 0,
            process: None,
            is_lost: false,
            is_retired: false,
            is_broken: false,
            clock: 1000,
            slowness: 1,
            stuck: 0,
            is_excused: false,
            is_altered: false,
            dies_founding: false,
        }
    }

    /// Its files are gone: the next disk is another.
    pub(super) fn lose_files(&mut self) {
        self.disk.wipe();
        self.incarnation = Incarnation(self.incarnation.0.saturating_add(1_000));
        self.is_founder = false;
        self.is_lost = true;
    }

    pub(super) const fn is_paused(&self) -> bool {
        matches!(&self.process, Some(process) if process.held.is_some())
    }

    /// Its device has nothing to do with a fault that has ended.
    pub(super) fn mend(&mut self) {
        (self.clock, self.slowness, self.stuck) = (1000, 1, 0);
        if let Some(process) = &mut self.process {
            process.crash_at = None;
        }
        self.disk.set_full(false);
        self.disk.fail_reads(false);
        self.disk.fail_no_more();
    }
}

impl<S, M> Process<S, M> {
    pub(super) const fn new(replica: Running<S, M>) -> Self {
        Self {
            replica,
            held: None,
            turn_is_due: false,
            requests: BTreeMap::new(),
            last_request: 0,
            crash_at: None,
            snapshot_beyond: None,
            role: (RoleName::Follower, Term(0)),
            committed: 0,
            halted: false,
            syncing: false,
        }
    }
}

/// What a server of this shape is configured with.
pub(super) fn config(shape: &Shape, id: NodeId, seed: u64, life: u64) -> (Config, Limits) {
    let limits = &shape.limits;
    let config = Config {
        election_timeout_ticks: shape.election_ticks,
        heartbeat_ticks: shape.heartbeat_ticks,
        max_append_bytes: limits.max_append_bytes,
        max_inflight: limits.max_inflight,
        max_uncommitted_bytes: limits.max_uncommitted_bytes,
        max_apply_bytes: limits.max_apply_bytes,
        window_bytes: limits.window_bytes,
        max_chunk_bytes: limits.max_chunk_bytes,
        tail_entries: limits.tail_entries,
        seed: seed ^ (u64::from(id.0) << 48) ^ (life << 32),
        life: Some(life),
        // Both manners, in one group.
        announce_commits: id.0 % 2 == 1,
        lease: limits.lease_drift.map(|drift_ticks| Lease { drift_ticks }),
        ..Config::new(id)
    };
    let requests = Limits {
        max_batch_bytes: limits.max_batch_bytes,
        snapshot_every_bytes: limits.snapshot_every_bytes,
        state_digest_every: limits.state_digest_every,
        ..Limits::default()
    };
    (config, requests)
}
