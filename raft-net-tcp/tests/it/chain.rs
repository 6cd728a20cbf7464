//! Servers on a block log in real files: what was answered is still there when all of them come back.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;

use bytes::Bytes;
use raft_core::{Configuration, LogIndex, NodeId};
use raft_kv::{BlockLog, ClusterId, FileDisk, KvMachine, LogOptions};
use raft_net_tcp::{ClientOptions, KvClient, Server, ServerConfig, ServerHandle, Waker, draw_incarnation};

use crate::cluster::{CLUSTER, PATIENCE, identity, key, value};

pub(crate) type Chain = BlockLog<FileDisk>;

pub(crate) struct Running {
    pub(crate) handle: ServerHandle<Chain, KvMachine>,
    thread: JoinHandle<()>,
}

pub(crate) fn start(
    id: NodeId,
    listener: TcpListener,
    addresses: &BTreeMap<NodeId, SocketAddr>,
    dir: &Path,
) -> Running {
    start_with(id, listener, addresses, dir, LogOptions::default(), None)
}

/// With snapshots every so many bytes, and a short tail, where that is asked for.
pub(crate) fn start_with(
    id: NodeId,
    listener: TcpListener,
    addresses: &BTreeMap<NodeId, SocketAddr>,
    dir: &Path,
    options: LogOptions,
    snapshots: Option<usize>,
) -> Running {
    let mut config = ServerConfig::new(id, CLUSTER, addresses[&id], addresses.clone());
    if let Some(bytes) = snapshots {
        (config.requests.snapshot_every_bytes, config.raft.tail_entries) = (Some(bytes), 10);
    }
    let waker = Waker::new();
    let notify = waker.clone();
    let disk = FileDisk::open(dir.join(id.to_string()), move || notify.wake()).unwrap();
    let members = Configuration::new(addresses.keys().copied());
    let storage = BlockLog::open_or_create(disk, ClusterId(CLUSTER), members, draw_incarnation(), options).unwrap();
    let server = Server::with_listener(config, listener, storage, KvMachine::default(), waker, |_| {}).unwrap();
    let server = server.proving(|log| log);
    let handle = server.handle();
    Running { handle, thread: std::thread::spawn(move || server.run_blocking(std::future::pending()).unwrap()) }
}

pub(crate) fn stop(running: Vec<Running>) {
    for server in &running {
        server.handle.stop();
    }
    for server in running {
        server.thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_chain_on_disk_survives_its_servers() {
    let dir = tempfile::tempdir().unwrap();
    let listeners: Vec<_> = (1..=3).map(|id| (NodeId(id), TcpListener::bind("127.0.0.1:0").unwrap())).collect();
    let addresses: BTreeMap<_, _> =
        listeners.iter().map(|(id, listener)| (*id, listener.local_addr().unwrap())).collect();
    let first: Vec<_> =
        listeners.into_iter().map(|(id, listener)| start(id, listener, &addresses, dir.path())).collect();

    let options = ClientOptions { deadline: PATIENCE, ..ClientOptions::default() };
    let mut client = KvClient::new(addresses.clone(), identity(7001), options);
    let put = client.put(key("k"), value("v")).await.unwrap();
    assert!(put.hash.is_some());
    stop(first);

    let listeners = addresses.iter().map(|(id, address)| (*id, TcpListener::bind(address).unwrap()));
    let second: Vec<_> = listeners.map(|(id, listener)| start(id, listener, &addresses, dir.path())).collect();
    let got = client.get(Bytes::from("k")).await.unwrap();
    assert_eq!(got.value, Some(value("v")));
    assert!(got.height > put.height && got.hash.is_some());
    for server in &second {
        let height = LogIndex(put.height);
        let block = server.handle.with(move |control| control.storage().block(height)).await.unwrap().unwrap();
        assert_eq!(Some(block.hash), put.hash, "the block that the client was told");
    }
    // The session is in the log, too: the client goes on in it.
    client.put(key("k"), value("w")).await.unwrap();
    stop(second);
}
