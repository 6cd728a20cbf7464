//! What a server is told when it starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use raft_core::{Config, Incarnation, Limits, NodeId};

/// What a server is told when it starts.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The cluster that it belongs to: connections of any other are refused.
    pub cluster: [u8; 16],
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the other founding members are reached, and whoever else the cluster's configuration names no address for.
    /// An entry for the server itself is ignored.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// The protocol's own configuration, with this server's id. Leases are refused: see
    /// [`BindError::Lease`](crate::BindError::Lease).
    pub raft: Config,
    /// What it holds for its clients.
    pub requests: Limits,
    /// How long a tick is.
    pub tick: Duration,
    /// How long every message to a server and every response to a client is held back: a slow network, for trying out.
    pub delay: Duration,
    /// What connections may cost.
    pub connections: ConnectionLimits,
    /// What to say in every status beside how the server is: of damage that was mended, for one.
    pub remarks: Vec<String>,
}

/// What a storage is founded with: drawn from the operating system's entropy, so that no other has it (fault M10).
#[must_use]
pub fn draw_incarnation() -> Incarnation {
    Incarnation(rand::random::<NonZeroU64>().get())
}

/// What connections may cost, in number, memory and time. Servers and clients have budgets of their own (fault N7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections that have not said who they are; one more, and the oldest of them is closed.
    pub handshakes_max: usize,
    /// Connections of clients; 0 admits none.
    pub clients_max: usize,
    /// Connections of Redis clients, where they are served; 0 admits none. With all the others they stay below the 1024
    /// files that a process may have open, as a rule: the storage needs some.
    pub redis_clients_max: usize,
    /// Connections of operators' tools; 0 admits none.
    pub admins_max: usize,
    /// Requests of one connection that wait for their answer; one more is refused.
    pub requests_max: usize,
    /// Bytes that wait to be sent to one server. What does not fit is lost, and Raft sends again.
    pub peer_queue_bytes_max: usize,
    /// Bytes that wait to be sent to one client. Where the answer to a query does not fit, it is refused as busy; where
    /// anything else does not, its connection is closed.
    pub client_queue_bytes_max: usize,
    /// For connecting and for the handshake, each.
    pub handshake_deadline: Duration,
    /// A server says something at least this often.
    pub ping_interval: Duration,
    /// A server that has said nothing for so long is gone, whatever the socket says (fault N4).
    pub peer_idle_max: Duration,
    /// As above, for clients, who need not say anything.
    pub client_idle_max: Duration,
    /// A socket that has taken nothing for so long, while something was there for it, is gone.
    pub stall_max: Duration,
    /// The first pause before a lost connection is tried again; it doubles up to `redial_max`. Each is shortened by
    /// chance, by half at most.
    pub redial_min: Duration,
    /// The longest pause. Below half an election timeout, so that a server that comes back hears its leader in time.
    pub redial_max: Duration,
}

impl ServerConfig {
    /// The defaults: ticks of 20 ms, so that an election times out after 300 ms and a leader is heard every 60; no
    /// delay; election timeouts seeded, and the life named, by the operating system's entropy, so that it serves reads
    /// while it follows.
    #[must_use]
    pub fn new(id: NodeId, cluster: [u8; 16], listen: SocketAddr, peers: BTreeMap<NodeId, SocketAddr>) -> Self {
        Self {
            cluster,
            listen,
            peers,
            raft: Config {
                announce_commits: false,
                seed: rand::random(),
                life: Some(rand::random()),
                ..Config::new(id)
            },
            requests: Limits::default(),
            tick: Duration::from_millis(20),
            delay: Duration::ZERO,
            connections: ConnectionLimits::default(),
            remarks: Vec::new(),
        }
    }

    /// For how long a leader leads at most that no quorum answers.
    #[must_use]
    pub fn election_timeout(&self) -> Duration {
        self.tick.saturating_mul(self.raft.election_timeout_ticks)
    }
}

impl Default for ConnectionLimits {
    /// 64 handshakes, 256 clients of 1024 requests and 8 MiB each, 512 Redis clients, 8 admins, 32 MiB a server; deadlines as documented
    /// in the code.
    fn default() -> Self {
        Self {
            handshakes_max: 64,
            clients_max: 256,
            redis_clients_max: 512,
            admins_max: 8,
            requests_max: 1024,
            peer_queue_bytes_max: 32 << 20,
            client_queue_bytes_max: 8 << 20,
            handshake_deadline: Duration::from_secs(1),
            ping_interval: Duration::from_millis(500),
            peer_idle_max: Duration::from_secs(3),
            client_idle_max: Duration::from_secs(300),
            stall_max: Duration::from_secs(5),
            redial_min: Duration::from_millis(20),
            redial_max: Duration::from_millis(150),
        }
    }
}
