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
    /// A chunk of a snapshot, in bytes.
    pub max_chunk_bytes: usize,
    /// Entries kept in the log beside the snapshot that covers them, for followers that lag a little: they need no
    /// snapshot.
    pub tail_entries: u64,
    /// Seed of the election timeouts: the only randomness there is. Give every server its own.
    pub seed: u64,
}

impl Config {
    /// The defaults: T = 15 ticks, a heartbeat every 3, 512 KiB an append, 32 appends or 8 MiB in flight, 256 MiB
    /// uncommitted, 16 MiB being applied, 4 MiB of window, 256 KiB a chunk of a snapshot, a tail of 4,096 entries.
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
            seed: u64::from(id.0),
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
    fn a_limit_of_zero_is_refused() {
        let config = Config { max_inflight: 0, ..Config::new(NodeId(1)) };
        assert_eq!(config.validate(), Err(ConfigError::Zero { name: "max_inflight" }));
    }
}
