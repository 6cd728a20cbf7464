//! etcd, three members: what is asked of them by gRPC, in the few messages that this needs.

use std::path::Path;

use tokio::process::Command;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use raft_examples::load::Target;

use crate::CLIENTS_A_CONNECTION;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// An answer of which nothing is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {}

/// A client of one member.
pub(crate) struct Etcd(Grpc<Channel>);

impl Etcd {
    async fn ask<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + Default + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.map_err(|error| error.to_string())?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.0.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
    }
}

impl Target for Etcd {
    type Error = String;

    async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let request = PutRequest { key: key.to_vec(), value: value.to_vec() };
        self.ask::<_, Answer>("/etcdserverpb.KV/Put", request).await.map(drop)
    }

    async fn get(&mut self, key: &[u8]) -> Result<(), String> {
        let request = RangeRequest { key: key.to_vec() };
        self.ask::<_, Answer>("/etcdserverpb.KV/Range", request).await.map(drop)
    }
}

/// How each of three members is started.
pub(crate) fn commands(dir: &Path, base_port: u16) -> Vec<Command> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let peer = |id: u16| url(base_port + 10 + id);
    let cluster: Vec<String> = (1..=3).map(|id| format!("m{id}={}", peer(id))).collect();
    let command = |id: u16| {
        let mut command = Command::new("etcd");
        command.arg("--name").arg(format!("m{id}")).arg("--data-dir").arg(dir.join(format!("m{id}")));
        for option in ["--listen-client-urls", "--advertise-client-urls"] {
            command.arg(option).arg(url(base_port + id));
        }
        for option in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.arg(option).arg(peer(id));
        }
        command.arg("--initial-cluster").arg(cluster.join(","));
        command.args(["--initial-cluster-state", "new", "--heartbeat-interval", "300", "--election-timeout", "3000"]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        command
    };
    (1..=3).map(command).collect()
}

/// Clients of the member that leads.
pub(crate) async fn targets(base_port: u16, clients: usize) -> Result<Vec<Etcd>, String> {
    let mut leader = None;
    for id in 1..=3 {
        let StatusResponse { header, leader: leads } =
            connect(base_port + id).await?.ask("/etcdserverpb.Maintenance/Status", StatusRequest {}).await?;
        if header.is_some_and(|header| header.member_id == leads) {
            leader = Some(base_port + id);
        }
    }
    let port = leader.ok_or("no member of etcd leads")?;
    let mut targets = Vec::with_capacity(clients);
    while targets.len() < clients {
        let Etcd(connection) = connect(port).await?;
        let share = CLIENTS_A_CONNECTION.min(clients - targets.len());
        targets.extend((0..share).map(|_| Etcd(connection.clone())));
    }
    Ok(targets)
}

async fn connect(port: u16) -> Result<Etcd, String> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| format!("etcd at port {port}: {error}"))?;
    Ok(Etcd(Grpc::new(channel)))
}
