//! What the processes of one cluster must agree on, and what follows from it: ports, addresses, the cluster's id.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use raft_core::NodeId;
use raft_kv::ClusterId;

/// The options that servers, clients and the demo share.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// How many servers the cluster was founded with
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    pub servers: u16,
    /// Server N listens on 127.0.0.1, at this port plus N
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub base_port: u16,
    /// The cluster's name: servers and clients of another are refused
    #[arg(long, value_name = "NAME", default_value = "example")]
    pub cluster: String,
}

/// The highest id of a client.
pub const CLIENT_MAX: u16 = 999;

impl ClusterArgs {
    /// Every founding server's address.
    ///
    /// # Errors
    /// A server's port is beyond 65535.
    pub fn addresses(&self) -> Result<BTreeMap<NodeId, SocketAddr>, String> {
        let address = |id: u16| Ok((NodeId(u32::from(id)), self.address(id)?));
        (1..=self.servers).map(address).collect()
    }

    /// Where server `id` listens, a founder or not.
    ///
    /// # Errors
    /// Its port is beyond 65535.
    pub fn address(&self, id: u16) -> Result<SocketAddr, String> {
        let port = self
            .base_port
            .checked_add(id)
            .ok_or_else(|| format!("--base-port {} is too high for server {id}: ports end at 65535", self.base_port))?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        ClusterId::from_name(&self.cluster)
    }
}
