//! `openraft` on a current-thread tokio runtime, in memory. It drives itself: a round gives every task that is ready its
//! turn, and messages are calls from one replica's tasks to another's.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, Config, Raft, ServerState, SnapshotPolicy};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::cluster::{Applied, COMPACT_EVERY, Cell, Cluster, KEPT};
use crate::codec;

mod storage;

use storage::{Log, Machine};

openraft::declare_raft_types!(
    /// What the replicas say to each other about.
    pub(crate) Types: D = Command, R = ()
);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Command(Bytes);

pub(crate) struct Open {
    runtime: Runtime,
    leader: Raft<Types>,
    applied: Vec<Arc<Mutex<Applied>>>,
    wires: Arc<Wires>,
}

/// Every replica, as the others reach it.
#[derive(Default)]
struct Wires {
    replicas: OnceLock<Vec<Raft<Types>>>,
    encoded: bool,
    messages: AtomicU64,
}

impl Open {
    pub(crate) fn new(cell: Cell) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let config = Arc::new(Config {
            // No time passes by itself; what is waited for may take as long as the other peers' turns do.
            enable_tick: false,
            heartbeat_interval: 1_000_000,
            election_timeout_min: 2_000_000,
            election_timeout_max: 3_000_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(COMPACT_EVERY),
            max_in_snapshot_log_to_keep: KEPT,
            ..Config::default()
        });
        let wires = Arc::new(Wires { encoded: cell.encoded, ..Wires::default() });
        let applied: Vec<_> = (0..cell.replicas).map(|_| Arc::new(Mutex::new(Applied::new(cell)))).collect();
        let leader = runtime.block_on(async {
            let mut replicas = Vec::new();
            for (id, applied) in (0..).zip(&applied) {
                let machine = Machine::new(Arc::clone(applied));
                let network = Network(Arc::clone(&wires));
                replicas.push(Raft::new(id, Arc::clone(&config), network, Log::default(), machine).await.unwrap());
            }
            let leader = replicas[0].clone();
            assert!(wires.replicas.set(replicas).is_ok());
            let members: BTreeMap<u64, BasicNode> =
                (0..cell.replicas as u64).map(|id| (id, BasicNode::default())).collect();
            leader.initialize(members).await.unwrap();
            leader.wait(None).state(ServerState::Leader, "the first replica leads").await.unwrap();
            leader
        });
        Self { runtime, leader, applied, wires }
    }
}

impl Cluster for Open {
    fn propose(&mut self, batch: Vec<Bytes>) {
        self.runtime.block_on(async {
            for payload in batch {
                // Its answer is not waited for: that it is applied is seen at every replica.
                drop(self.leader.client_write_ff(Command(payload)).await.unwrap());
            }
        });
    }

    fn round(&mut self) {
        self.runtime.block_on(tokio::task::yield_now());
    }

    fn tick(&mut self) {
        self.runtime.block_on(self.leader.trigger().heartbeat()).unwrap();
    }

    fn applied(&self) -> u64 {
        self.applied.iter().map(|applied| applied.lock().unwrap().count()).min().unwrap_or_default()
    }

    fn messages(&self) -> u64 {
        self.wires.messages.load(Ordering::Relaxed)
    }
}

/// One replica's way to the others.
struct Network(Arc<Wires>);

struct Connection {
    wires: Arc<Wires>,
    to: u64,
}

impl Connection {
    fn target(&self) -> &Raft<Types> {
        &self.wires.replicas.get().unwrap()[self.to as usize]
    }

    /// A message as it arrives on the other side.
    fn sent<T: Serialize + DeserializeOwned>(&self, message: T) -> T {
        self.wires.messages.fetch_add(1, Ordering::Relaxed);
        if self.wires.encoded { codec::sent(&message) } else { message }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Connection {
        Connection { wires: Arc::clone(&self.0), to: target }
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let answer = self.target().append_entries(self.sent(request)).await;
        answer.map(|answer| self.sent(answer)).map_err(|error| RemoteError::new(self.to, error).into())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let answer = self.target().vote(self.sent(request)).await;
        answer.map(|answer| self.sent(answer)).map_err(|error| RemoteError::new(self.to, error).into())
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, BasicNode, RaftError<u64, InstallSnapshotError>>> {
        panic!("no replica lags so far: {request:?}")
    }
}
