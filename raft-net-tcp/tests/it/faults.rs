//! The network's faults (FAULTS.md, N1 to N7): what reaches a server's port is not always a friend, or alive.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use raft_core::{Configuration, MemStorage, NodeId};
use raft_kv::{KvMachine, Query};
use raft_net_tcp::frame::{self, FrameReader, Kind};
use raft_net_tcp::handshake::{HandshakeError, HandshakeRefusal, Hello, PROTOCOL_VERSION, Role};
use raft_net_tcp::protocol::{CloseReason, RequestBody};
use raft_net_tcp::{
    BindError, ClientConnection, ClientError, ClientOptions, ConnectionError, Identity, KvError, Notice, Server,
    ServerConfig, Waker,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{CLUSTER, Cluster, PATIENCE, identity, key, value};

fn hello(sender: u64, role: Role) -> Hello {
    Hello { version: PROTOCOL_VERSION, cluster: CLUSTER, sender, receiver: Some(1), role }
}

fn encoded<T: serde::Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(frame::encode_into(kind, value, frame::PEER_FRAME_BYTES_MAX, &mut bytes));
    bytes
}

/// The kinds of all frames until the other side closes, which it must.
async fn kinds_until_closed(socket: &mut TcpStream) -> Vec<Kind> {
    let (mut frames, mut kinds) = (FrameReader::new(frame::PEER_FRAME_BYTES_MAX), Vec::new());
    let reading = async {
        while socket.read_buf(frames.room()).await.is_ok_and(|count| count > 0) {
            while let Some(frame) = frames.next_frame().unwrap() {
                kinds.push(frame.kind);
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("closed");
    kinds
}

async fn refusal(cluster: &Cluster, identity: Identity, server: NodeId) -> HandshakeRefusal {
    let address = cluster.addresses[&NodeId(1)];
    match ClientConnection::connect(address, Some(server), identity, PATIENCE).await {
        Err(HandshakeError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn n1_an_oversized_frame_is_refused_with_a_reason_and_the_server_lives() {
    let cluster = Cluster::new(1);
    let mut socket = TcpStream::connect(cluster.addresses[&NodeId(1)]).await.unwrap();
    let mut bytes = encoded(Kind::Hello, &hello(7001, Role::Client));
    bytes.extend_from_slice(&[0xff; 64]);
    socket.write_all(&bytes).await.unwrap();
    assert_eq!(kinds_until_closed(&mut socket).await, [Kind::Hello, Kind::Goodbye]);

    // The same before the handshake: nobody is there to say goodbye to.
    let mut socket = TcpStream::connect(cluster.addresses[&NodeId(1)]).await.unwrap();
    socket.write_all(&[0xff; 64]).await.unwrap();
    assert_eq!(kinds_until_closed(&mut socket).await, []);
    cluster.client(7001).put(key("k"), value("v")).await.unwrap();
}

#[tokio::test]
async fn n2_nonsense_is_refused_with_a_reason() {
    let cluster = Cluster::new(1);
    for nonsense in [
        encoded(Kind::Request, &"no request"),
        encoded(Kind::Message, &"clients send no messages"),
        encoded(Kind::Hello, &hello(7001, Role::Client)),
    ] {
        let mut socket = TcpStream::connect(cluster.addresses[&NodeId(1)]).await.unwrap();
        let bytes = [encoded(Kind::Hello, &hello(7001, Role::Client)), nonsense].concat();
        socket.write_all(&bytes).await.unwrap();
        assert_eq!(kinds_until_closed(&mut socket).await, [Kind::Hello, Kind::Goodbye]);
    }
    let mut socket = TcpStream::connect(cluster.addresses[&NodeId(1)]).await.unwrap();
    socket.write_all(&encoded(Kind::Request, &"before the handshake")).await.unwrap();
    assert_eq!(kinds_until_closed(&mut socket).await, [Kind::Refusal]);
}

#[tokio::test]
async fn n3_another_cluster_is_refused() {
    let cluster = Cluster::new(1);
    let stranger = Identity { cluster: *b"another cluster!", ..identity(7001) };
    assert_eq!(refusal(&cluster, stranger, NodeId(1)).await, HandshakeRefusal::WrongCluster);
    assert_eq!(refusal(&cluster, identity(7001), NodeId(2)).await, HandshakeRefusal::NotForMe { this: 1 });
    let server = Identity { role: Role::Server, ..identity(9) };
    cluster.leader().await;
    assert_eq!(refusal(&cluster, server, NodeId(1)).await, HandshakeRefusal::UnknownServer { id: 9 });
    cluster
        .notice(|_, notice| matches!(notice, Notice::Refused { reason, .. } if reason.contains("another cluster")))
        .await;
}

#[tokio::test]
async fn n4_a_half_open_peer_is_given_up_and_dialled_again() {
    // Server 1 is ours: it shakes hands and never says another word. Server 2 dials it, for its id is higher.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses: BTreeMap<NodeId, SocketAddr> = BTreeMap::from([(NodeId(1), listener.local_addr().unwrap())]);
    let mut config = ServerConfig::new(NodeId(2), CLUSTER, ([127, 0, 0, 1], 0).into(), addresses);
    config.connections.peer_idle_max = Duration::from_millis(200);
    let storage = MemStorage::new(Configuration::new([NodeId(1), NodeId(2)]));
    let (sender, mut notices) = tokio::sync::mpsc::unbounded_channel();
    let sink = move |notice| drop(sender.send(notice));
    let server = Server::bind(config, storage, KvMachine::default(), Waker::new(), sink).unwrap();
    let handle = server.handle();
    let thread = std::thread::spawn(move || server.run_blocking(std::future::pending()).unwrap());

    for _ in 0..2 {
        let (mut socket, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let answer = Hello { receiver: Some(2), ..hello(1, Role::Server) };
        socket.write_all(&encoded(Kind::Hello, &answer)).await.unwrap();
        let kinds = kinds_until_closed(&mut socket).await;
        assert_eq!(kinds.first(), Some(&Kind::Hello));
        let lost = async { while notices.recv().await != Some(Notice::PeerLost(NodeId(1), CloseReason::Idle)) {} };
        tokio::time::timeout(PATIENCE, lost).await.unwrap();
    }
    handle.stop();
    thread.join().unwrap();
}

#[tokio::test]
async fn n5_a_client_that_does_not_read_costs_its_budget_and_is_closed() {
    let cluster = Cluster::tuned(1, |config| {
        config.connections.client_queue_bytes_max = 3 << 20;
        config.connections.stall_max = Duration::from_millis(300);
    });
    cluster.client(7001).put(key("k"), value(&"v".repeat(1 << 19))).await.unwrap();
    let mut connection = cluster.connect(NodeId(1), 7002).await;
    let get = Query::Get { key: key("k").canonical }.encode();
    for _ in 0..100 {
        connection.enqueue(RequestBody::Query(&get)).unwrap();
    }
    connection.flush().await.unwrap();
    cluster.notice(|_, notice| *notice == Notice::ClientClosed(7002, CloseReason::TooSlow)).await;
    let error = loop {
        if let Err(error) = connection.receive().await {
            break error;
        }
    };
    assert!(matches!(error, ConnectionError::Io(_)), "{error}");
    cluster.client(7001).put(key("k"), value("v")).await.unwrap();
}

#[tokio::test]
async fn n5_too_many_requests_at_once_are_refused() {
    let cluster = Cluster::tuned(1, |config| config.connections.requests_max = 0);
    cluster.leader().await;
    let mut connection = cluster.connect(NodeId(1), 7001).await;
    connection.enqueue(RequestBody::Query(b"")).unwrap();
    connection.flush().await.unwrap();
    let response = connection.receive().await.unwrap();
    assert_eq!(response.body, raft_net_tcp::protocol::ResponseBody::Refused(raft_core::Refusal::Busy));
}

#[tokio::test]
async fn n6_n7_connections_have_budgets_by_role() {
    let cluster = Cluster::tuned(1, |config| {
        config.connections.clients_max = 2;
        config.connections.handshakes_max = 4;
        config.connections.handshake_deadline = PATIENCE;
    });
    let (_one, _two) = (cluster.connect(NodeId(1), 7001).await, cluster.connect(NodeId(1), 7002).await);
    assert_eq!(refusal(&cluster, identity(7003), NodeId(1)).await, HandshakeRefusal::TooManyConnections);
    // An operator gets in all the same, and through a crowd that says nothing.
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(TcpStream::connect(cluster.addresses[&NodeId(1)]).await.unwrap());
    }
    let admin = Identity { role: Role::Admin, ..identity(1) };
    let address = cluster.addresses[&NodeId(1)];
    ClientConnection::connect(address, None, admin, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn n7_a_client_too_many_is_told_so_and_not_that_nobody_leads() {
    let cluster = Cluster::tuned(3, |config| config.connections.clients_max = 1);
    let leader = cluster.leader().await;
    let _one = cluster.connect(leader, 7001).await;
    let options = ClientOptions { deadline: Duration::from_millis(700), ..ClientOptions::default() };
    let error = cluster.client_with(7002, options).put(key("k"), value("v")).await.unwrap_err();
    let refusal = HandshakeRefusal::TooManyConnections;
    assert_eq!(error, KvError::Client(ClientError::Rejected { server: leader, refusal }));
}

#[tokio::test]
async fn n7_who_says_nothing_is_given_up_at_the_deadline() {
    let cluster = Cluster::tuned(1, |config| config.connections.handshake_deadline = Duration::from_millis(50));
    let mut socket = TcpStream::connect(cluster.addresses[&NodeId(1)]).await.unwrap();
    let begun = Instant::now();
    assert_eq!(kinds_until_closed(&mut socket).await, []);
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = ServerConfig::new(NodeId(1), CLUSTER, address, BTreeMap::new());
    let storage = MemStorage::new(Configuration::new([NodeId(1)]));
    let error = Server::bind(config, storage, KvMachine::default(), Waker::new(), |_| {}).err().unwrap();
    assert!(matches!(error, BindError::AddressInUse { address: named } if named == address));
    assert!(error.to_string().contains(&format!("port {}", address.port())), "{error}");
}
