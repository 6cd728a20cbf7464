//! What a [`Node`](crate::Node) is told once: who it is, its timeouts in ticks, its limits, its seed.

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::types::NodeId;

/// Timeouts are in ticks; limits in bytes or messages. `Config::new` gives values for a tick of 20 ms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// This server.
    pub id: NodeId,
    /// The election timeout T. A follower that has heard no leader for a time drawn from `[T, 1.75 T)` campaigns; a
    /// leader that has heard no quorum for T, or whose disk has hung for T, steps down; votes are refused within T of
    /// a leader's message (§6). Drawing below 2T lets two survivors replace a leader within two election timeouts.
    pub election_timeout_ticks: u32,
    /// A leader's heartbeat interval; below `election_timeout_ticks`.
    pub heartbeat_ticks: u32,
    /// Entries of one `AppendEntries`, in bytes as [`Entry::cost`](crate::Entry::cost) counts them. One entry always
    /// fits.
    pub max_append_bytes: usize,
    /// `AppendEntries` in flight to one follower before the leader waits for an answer.
    pub max_inflight: usize,
    /// Entries in flight to one follower, in bytes, from which on the leader waits for an answer.
    pub max_inflight_bytes: usize,
    /// Entries that a leader has appended and that are not committed, in bytes; beyond it proposals are refused as
    /// [`Busy`](crate::Refusal::Busy). One proposal always fits.
    pub max_uncommitted_bytes: usize,
    /// Entries handed out for application and not reported applied, in bytes. One entry always fits.
    pub max_apply_bytes: usize,
    /// Entries kept in memory once they are durable and applied, in bytes; older ones are read from the storage.
    pub window_bytes: usize,
    /// A chunk of a snapshot that is sent, in bytes. Of one that is taken, the pieces are at most so long, and 64 KiB.
    pub max_chunk_bytes: usize,
    /// Entries kept in the log beside the snapshot that covers them, for followers that lag a little: they need no
    /// snapshot.
    pub tail_entries: u64,
    /// Whether a leader tells followers that wait for nothing at once how far the log is committed. Otherwise they learn it
    /// with the next append, heartbeat or round of reads, and a leader whose clients write one after the other sends half
    /// as many messages.
    pub announce_commits: bool,
    /// Seed of the election timeouts: the only randomness there is. Give every server its own.
    pub seed: u64,
    /// A number that no other life of this server has: drawn at random, or counted, whenever a [`Node`](crate::Node) is
    /// made. With it a follower serves reads, by asking its leader; without it a follower refuses them, as the number is
    /// what tells an answer to this life's request from one to an earlier life's, which may know less (fault R2).
    pub life: Option<u64>,
    /// Whether this server, with the storage that it has, may be the one that a configuration means which names its id and
    /// no disk, as the founding one does. Not so for a server that is added to a running cluster, be it under an id that
    /// it had before it lost its disk: it votes for nobody, and leads nobody, until a configuration names its disk, as
    /// every one does that makes it a voter (fault M10).
    pub is_founder: bool,
    /// Whether a leader serves reads without asking anybody while no other can lead, as clocks have it. Off by default.
    pub lease: Option<Lease>,
}

/// Reads by lease: what a group has to agree on for them. Their safety rests on clocks: see [`drift_ticks`](Self::drift_ticks).
///
/// Every server of the group has to be told of leases, with one election timeout, before any of them leads by one: a
/// voter without them may vote while a leader counts on it. In a running group this takes two rounds of restarts: the
/// first with `drift_ticks` equal to `election_timeout_ticks`, which promises and never serves, the second with the real
/// bound. A restarted voter does not vote for an election timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How far two servers' counts of ticks may drift apart within an election timeout T. **The assumption: in no stretch
    /// of time does one server count T ticks while another counts fewer than `T - drift_ticks`.** 1 is for clocks that run
    /// alike and tick at different moments. Ticks must follow a monotonic clock that runs on while the process or the
    /// machine sleeps, and those that a pause has swallowed must be given before any other event.
    ///
    /// A lease lasts `T - drift_ticks` from the sending of a heartbeat, so it is of use where that is above
    /// `heartbeat_ticks`.
    pub drift_ticks: u32,
}

impl Config {
    /// The defaults: T = 15 ticks, a heartbeat every 3, 512 KiB an append, 32 appends or 8 MiB in flight, 256 MiB
    /// uncommitted, 16 MiB being applied, 4 MiB of window, 256 KiB a chunk of a snapshot, a tail of 4,096 entries;
    /// commits announced; a founder, no reads on followers, no leases.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            election_timeout_ticks: 15,
            heartbeat_ticks: 3,
            max_append_bytes: 512 << 10,
            max_inflight: 32,
            max_inflight_bytes: 8 << 20,
            max_uncommitted_bytes: 256 << 20,
            max_apply_bytes: 16 << 20,
            window_bytes: 4 << 20,
            max_chunk_bytes: 256 << 10,
            tail_entries: 4096,
            announce_commits: true,
            seed: u64::from(id.0),
            life: None,
            is_founder: true,
            lease: None,
        }
    }

    /// # Errors
    /// [`ConfigError`] names the field that cannot work and what it must be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.heartbeat_ticks == 0 || self.heartbeat_ticks >= self.election_timeout_ticks {
            return Err(ConfigError::Timeouts {
                heartbeat: self.heartbeat_ticks,
                election: self.election_timeout_ticks,
            });
        }
        if let Some(Lease { drift_ticks: drift }) = self.lease
            && !(1..=self.election_timeout_ticks).contains(&drift)
        {
            return Err(ConfigError::Drift { drift, election: self.election_timeout_ticks });
        }
        for (name, value) in [
            ("max_append_bytes", self.max_append_bytes),
            ("max_inflight", self.max_inflight),
            ("max_inflight_bytes", self.max_inflight_bytes),
            ("max_uncommitted_bytes", self.max_uncommitted_bytes),
            ("max_apply_bytes", self.max_apply_bytes),
            ("max_chunk_bytes", self.max_chunk_bytes),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { name });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_as_slow_as_the_timeout_is_refused() {
        let mut config = Config::new(NodeId(1));
        assert_eq!(config.validate(), Ok(()));
        config.heartbeat_ticks = config.election_timeout_ticks;
        assert_eq!(config.validate(), Err(ConfigError::Timeouts { heartbeat: 15, election: 15 }));
        config.heartbeat_ticks = 0;
        assert!(config.validate().is_err());
    }

    #[test]
    fn a_drift_bound_is_at_least_one_tick_and_at_most_the_timeout() {
        let with = |drift_ticks| Config { lease: Some(Lease { drift_ticks }), ..Config::new(NodeId(1)) }.validate();
        assert_eq!([1, 15].map(with), [Ok(()), Ok(())]);
        assert_eq!(with(0), Err(ConfigError::Drift { drift: 0, election: 15 }));
        assert_eq!(with(16), Err(ConfigError::Drift { drift: 16, election: 15 }));
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        let config = Config { max_inflight: 0, ..Config::new(NodeId(1)) };
        assert_eq!(config.validate(), Err(ConfigError::Zero { name: "max_inflight" }));
    }
}
