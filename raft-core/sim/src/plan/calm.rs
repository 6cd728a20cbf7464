//! Plans by hand: begin with a calm world, change its shape, and add what goes wrong.

use super::{Disk, Fault, Limits, Network, Plan, Shape, Timed};
use crate::time::Time;

impl Plan {
    /// So many voters on links that lose nothing and disks that are quick, with four busy clients, for ten seconds. Nothing
    /// fails, and servers are configured as by default.
    ///
    /// ```
    /// use raft_sim::plan::{Fault, Plan, Target};
    /// use raft_sim::{Simulation, Time};
    ///
    /// let pause = Fault::Pause { target: Target::Leader, lasts: Time::secs(1) };
    /// let mut plan = Plan::calm(1, 3).with(Time::secs(2), pause);
    /// plan.shape.network.loss = 100;
    /// plan.shape.duration = Time::secs(4);
    /// let report = Simulation::kv().run_plan(plan, false);
    /// assert_eq!((report.failure, report.faults.get("pause")), (None, Some(&1)));
    /// ```
    #[must_use]
    pub fn calm(seed: u64, voters: u32) -> Self {
        let shape = Shape {
            voters,
            others: 0,
            duration: Time::secs(10),
            tick: Time::millis(20),
            election_ticks: 10,
            heartbeat_ticks: 2,
            turn: Time::micros(50),
            network: Network {
                latency_min: Time::micros(200),
                latency_mean: Time::micros(500),
                loss: 0,
                duplication: 0,
                late: 0,
                late_max: Time::ZERO,
                in_order: true,
                capacity: None,
            },
            disk: Disk { sync_min: Time::micros(100), sync_mean: Time::micros(500) },
            limits: Limits::default(),
            clients: 4,
            think: Time::millis(20),
        };
        Self { seed, shape, faults: Vec::new() }
    }

    /// The same plan, with one thing more that goes wrong.
    #[must_use]
    pub fn with(mut self, at: Time, fault: Fault) -> Self {
        self.faults.push(Timed { at, fault });
        self
    }
}

/// What servers are configured with unless somebody says otherwise.
impl Default for Limits {
    fn default() -> Self {
        let config = raft_core::Config::new(raft_core::NodeId(1));
        let limits = raft_core::Limits::default();
        Self {
            max_append_bytes: config.max_append_bytes,
            max_inflight: config.max_inflight,
            max_uncommitted_bytes: config.max_uncommitted_bytes,
            max_apply_bytes: config.max_apply_bytes,
            window_bytes: config.window_bytes,
            max_chunk_bytes: config.max_chunk_bytes,
            tail_entries: config.tail_entries,
            max_batch_bytes: limits.max_batch_bytes,
            snapshot_every_bytes: limits.snapshot_every_bytes,
            state_digest_every: limits.state_digest_every,
            lease_drift: None,
            segment_bytes: 16 << 10,
        }
    }
}
