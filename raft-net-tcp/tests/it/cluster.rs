//! A cluster of servers, each on a thread, and what tests ask of it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::{Configuration, NodeId, RoleName};
use raft_kv::{Key, KvMachine, Value};
use raft_net_tcp::handshake::Role;
use raft_net_tcp::protocol::ServerStatus;
use raft_net_tcp::{
    ClientConnection, ClientOptions, Control, Identity, KvClient, Link, Notice, Server, ServerConfig, ServerHandle,
    Waker,
};

use crate::disk::Disk;

pub(crate) const CLUSTER: [u8; 16] = *b"a test's cluster";

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Handle = ServerHandle<Disk, KvMachine>;

pub(crate) struct Cluster {
    pub(crate) addresses: BTreeMap<NodeId, SocketAddr>,
    /// The servers that every server knows when it starts.
    founders: BTreeMap<NodeId, SocketAddr>,
    pub(crate) notices: Arc<Mutex<Vec<(NodeId, Notice)>>>,
    running: BTreeMap<NodeId, (Handle, JoinHandle<()>)>,
    disks: BTreeMap<NodeId, Disk>,
    tune: fn(&mut ServerConfig),
}

impl Cluster {
    pub(crate) fn new(size: u32) -> Self {
        Self::tuned(size, |_| {})
    }

    pub(crate) fn tuned(size: u32, tune: fn(&mut ServerConfig)) -> Self {
        Self::of((1..=size).map(NodeId).collect(), tune)
    }

    /// A cluster of these servers.
    pub(crate) fn founded<const N: usize>(ids: [u32; N]) -> Self {
        Self::of(ids.map(NodeId).into(), |_| {})
    }

    fn of(ids: Vec<NodeId>, tune: fn(&mut ServerConfig)) -> Self {
        let listeners: Vec<_> = ids.iter().map(|id| (*id, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let addresses: BTreeMap<_, _> =
            listeners.iter().map(|(id, listener)| (*id, listener.local_addr().unwrap())).collect();
        let disks = ids.iter().map(|id| (*id, Disk::new(Configuration::new(ids.clone())))).collect();
        let founders = addresses.clone();
        let mut cluster = Self { addresses, founders, notices: Arc::default(), running: BTreeMap::new(), disks, tune };
        for (id, listener) in listeners {
            cluster.start(id, listener);
        }
        cluster
    }

    fn start(&mut self, id: NodeId, listener: TcpListener) {
        let mut config = ServerConfig::new(id, CLUSTER, self.addresses[&id], self.founders.clone());
        (self.tune)(&mut config);
        let notices = self.notices.clone();
        let sink = move |notice| notices.lock().unwrap().push((id, notice));
        let (disk, machine, waker) = (self.disks[&id].clone(), KvMachine::default(), Waker::new());
        let server = Server::with_listener(config, listener, disk, machine, waker, sink).unwrap();
        let handle = server.handle();
        let thread = std::thread::spawn(move || server.run_blocking(std::future::pending()).unwrap());
        self.running.insert(id, (handle, thread));
    }

    /// Starts a server that is no founder, for others to add.
    pub(crate) fn join(&mut self, id: NodeId) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.addresses.insert(id, listener.local_addr().unwrap());
        self.disks.insert(id, Disk::new(Configuration::new(self.founders.keys().copied())));
        self.start(id, listener);
    }

    pub(crate) fn stop(&mut self, id: NodeId) {
        let (handle, thread) = self.running.remove(&id).unwrap();
        handle.stop();
        thread.join().unwrap();
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        let disk = self.disks[&id].reopened();
        self.disks.insert(id, disk);
        let listener = TcpListener::bind(self.addresses[&id]).unwrap();
        self.start(id, listener);
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.running.keys().copied().collect()
    }

    pub(crate) async fn with<R: Send + 'static>(
        &self,
        id: NodeId,
        command: impl FnOnce(&mut Control<'_, Disk, KvMachine>) -> R + Send + 'static,
    ) -> R {
        self.running[&id].0.with(command).await.unwrap()
    }

    pub(crate) async fn status(&self, id: NodeId) -> ServerStatus {
        self.with(id, |control| control.status()).await
    }

    pub(crate) async fn cut(&self, id: NodeId, link: Link) {
        self.with(id, move |control| control.links().cut(link)).await.unwrap();
    }

    pub(crate) async fn mend(&self, id: NodeId, link: Link) {
        self.with(id, move |control| control.links().mend(link)).await.unwrap();
    }

    /// The leader, once it leads a majority: it has committed an entry of its term.
    pub(crate) async fn leader(&self) -> NodeId {
        self.leader_among(&self.ids()).await
    }

    pub(crate) async fn leader_among(&self, ids: &[NodeId]) -> NodeId {
        let begun = Instant::now();
        loop {
            let mut newest = None;
            for id in ids {
                let status = self.status(*id).await;
                if status.role == RoleName::Leader && status.commit_index == status.last_index {
                    newest = newest.max(Some((status.term, *id)));
                }
            }
            if let Some((_, leader)) = newest {
                return leader;
            }
            assert!(begun.elapsed() < PATIENCE, "no leader: {:?}", self.notices.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every running server has applied as much as the leader has in its log.
    pub(crate) async fn level(&self) {
        let begun = Instant::now();
        loop {
            let mut reached = Vec::new();
            for id in self.ids() {
                let status = self.status(id).await;
                reached.push((status.last_index, status.last_applied));
            }
            if reached.iter().all(|(last, applied)| (last, applied) == (&reached[0].0, &reached[0].0)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not level: {reached:?}, {:?}", self.notices.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until this server's status is so.
    pub(crate) async fn until(&self, what: &str, id: NodeId, is_so: impl Fn(&ServerStatus) -> bool) {
        let begun = Instant::now();
        loop {
            let status = self.status(id).await;
            if is_so(&status) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "waited for {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn notice(&self, what: impl Fn(NodeId, &Notice) -> bool) {
        let begun = Instant::now();
        while !self.notices.lock().unwrap().iter().any(|(id, notice)| what(*id, notice)) {
            assert!(begun.elapsed() < PATIENCE, "not among {:?}", self.notices.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn client(&self, id: u64) -> KvClient {
        let options = ClientOptions { deadline: PATIENCE, ..ClientOptions::default() };
        self.client_with(id, options)
    }

    pub(crate) fn client_with(&self, id: u64, options: ClientOptions) -> KvClient {
        KvClient::new(self.addresses.clone(), identity(id), options)
    }

    pub(crate) async fn connect(&self, server: NodeId, client: u64) -> ClientConnection {
        ClientConnection::connect(self.addresses[&server], Some(server), identity(client), PATIENCE).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (handle, _) in self.running.values() {
            handle.stop();
        }
        for (_, thread) in core::mem::take(&mut self.running).into_values() {
            drop(thread.join());
        }
    }
}

pub(crate) fn identity(client: u64) -> Identity {
    Identity { cluster: CLUSTER, client, role: Role::Client }
}

pub(crate) fn key(name: &str) -> Key {
    Key { canonical: Bytes::copy_from_slice(name.as_bytes()), literal: None }
}

pub(crate) fn value(text: &str) -> Value {
    Value(Bytes::copy_from_slice(text.as_bytes()))
}
