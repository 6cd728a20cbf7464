//! Clients that remember the head of the chain: proofs, and histories that do not go on from it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::{LogIndex, NodeId, RoleName, Storage as _};
use raft_kv::proof::NoProof;
use raft_kv::{Command, LogOptions};
use raft_net_tcp::protocol::{RequestBody, ResponseBody};
use raft_net_tcp::{
    ClientConnection, ClientError, ClientOptions, HistoryError, KvClient, KvError, Link, Rewritten, Verified,
};

use crate::chain::{Running, start, start_with, stop};
use crate::cluster::{Cluster, PATIENCE, identity, key, value};

type Addresses = BTreeMap<NodeId, SocketAddr>;

fn addresses() -> Addresses {
    let listeners: Vec<_> = (1..=3).map(|id| (NodeId(id), TcpListener::bind("127.0.0.1:0").unwrap())).collect();
    listeners.iter().map(|(id, listener)| (*id, listener.local_addr().unwrap())).collect()
}

fn start_all(addresses: &Addresses, dir: &Path) -> Vec<Running> {
    let bound = addresses.iter().map(|(id, address)| (*id, TcpListener::bind(address).unwrap()));
    bound.map(|(id, listener)| start(id, listener, addresses, dir)).collect()
}

fn client(addresses: &Addresses, check_history: bool) -> KvClient {
    let options = ClientOptions { deadline: PATIENCE, check_history, ..ClientOptions::default() };
    KvClient::new(addresses.clone(), identity(7001), options)
}

async fn put(client: &mut KvClient, count: u32) -> u64 {
    let mut last = 0;
    for n in 0..count {
        last = client.put(key("k"), value(&n.to_string())).await.unwrap().height;
    }
    last
}

fn history<T: std::fmt::Debug>(result: Result<T, KvError>) -> HistoryError {
    match result {
        Err(KvError::Client(ClientError::History(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_head_is_verified_remembered_and_given_to_the_next_client() {
    let (dir, addresses) = (tempfile::tempdir().unwrap(), addresses());
    let servers = start_all(&addresses, dir.path());
    let mut first = client(&addresses, false);
    let told = first.put(key("a"), value("1")).await.unwrap();
    put(&mut first, 300).await;
    let Verified { head: old, since, .. } = first.verify().await.unwrap();
    assert_eq!((since, first.remembered()), (None, Some(old)));
    assert!(old.height >= LogIndex(300), "a read shows how far it goes: {}", old.height);

    stop(servers);
    let servers = start_all(&addresses, dir.path());
    let mut second = client(&addresses, true);
    second.remember(old);
    put(&mut second, 20).await;
    let Verified { head, since, .. } = second.verify().await.unwrap();
    assert!(since.is_some_and(|since| since.height >= old.height) && head.height > old.height);
    let written = second.written(key("a").canonical).await.unwrap().value;
    assert_eq!(written, Some(LogIndex(told.height)));
    let proof = second.prove_block(LogIndex(told.height)).await.unwrap();
    assert_eq!(Some(proof.block.hash), told.hash, "the block that the client was told");
    assert_eq!(proof.verify_for(&second.remembered().unwrap().id()), Ok(()));
    let beyond = history(second.prove_block(LogIndex(1 << 40)).await);
    assert!(matches!(beyond, HistoryError::Unproved { .. }), "{beyond}");
    assert_eq!(second.written(Bytes::from("none")).await.unwrap().value, None);
    stop(servers);
}

#[tokio::test]
async fn a_history_that_was_rewritten_or_taken_back_is_named_by_both_heads() {
    let (dir, addresses) = (tempfile::tempdir().unwrap(), addresses());
    let servers = start_all(&addresses, &dir.path().join("a"));
    let mut first = client(&addresses, false);
    put(&mut first, 12).await;
    let remembered = first.verify().await.unwrap().head;
    stop(servers);

    // Another cluster of that name on the same addresses: every server of it agrees with the others.
    let servers = start_all(&addresses, &dir.path().join("b"));
    let mut checking = client(&addresses, true);
    checking.remember(remembered);
    let short = ClientOptions { deadline: Duration::from_millis(500), check_history: true, ..ClientOptions::default() };
    let mut hasty = KvClient::new(addresses.clone(), identity(7002), short);
    hasty.remember(remembered);
    let mut writer = client(&addresses, false);
    put(&mut writer, 1).await;
    let HistoryError::Rewritten(shorter) = history(first.verify().await) else { panic!() };
    assert!(shorter.found.height < remembered.height && shorter.remembered == remembered, "{shorter}");
    // Without a read nobody knows that a server is not just behind.
    let behind = history(hasty.get(Bytes::from("k")).await);
    assert!(matches!(behind, HistoryError::Behind { needed, .. } if needed == remembered.height), "{behind}");

    put(&mut writer, 30).await;
    let HistoryError::Rewritten(found) = history(checking.put(key("k"), value("v")).await) else { panic!() };
    let Rewritten { remembered: told, found, server } = *found;
    assert!(told == remembered && found.height == remembered.height && found != remembered);
    assert!(addresses.contains_key(&server));
    assert_eq!(checking.remembered(), Some(remembered), "what was seen stays");
    let HistoryError::Rewritten(found) = history(first.verify().await) else { panic!() };
    let text = found.to_string();
    assert!(text.contains(&remembered.id().to_string()) && text.contains(&found.found.id().to_string()), "{text}");
    let height = writer.put(key("k"), value("w")).await.unwrap().height;
    assert!(matches!(history(first.prove_block(LogIndex(height)).await), HistoryError::Rewritten(_)));
    stop(servers);
}

/// Segments that snapshots make needless go to the archive, and are read there by the next life as well; where they are
/// given back, the next life proves nothing.
#[tokio::test]
async fn what_is_in_the_archive_is_proved_and_what_was_given_back_is_not() {
    for archive in [true, false] {
        let (dir, addresses) = (tempfile::tempdir().unwrap(), addresses());
        let options = LogOptions { segment_bytes: 4_000, archive };
        let start_all = || -> Vec<Running> {
            let bound = addresses.iter().map(|(id, address)| (*id, TcpListener::bind(address).unwrap()));
            bound.map(|(id, listener)| start_with(id, listener, &addresses, dir.path(), options, Some(3_000))).collect()
        };
        let mut servers = start_all();
        let mut client = client(&addresses, false);
        let early = client.put(key("early"), value("1")).await.unwrap();
        for _ in 0..2 {
            put(&mut client, 120).await;
            stop(servers);
            servers = start_all();
            let verified = client.verify().await;
            if archive {
                let proof = client.prove_block(LogIndex(early.height)).await.unwrap();
                assert_eq!((Some(proof.block.hash), proof.verify()), (early.hash, Ok(())));
            } else {
                let error = history(verified);
                assert!(matches!(error, HistoryError::Unproved { reason: NoProof::Gone { .. }, .. }), "{error}");
            }
        }
        let first = servers[0].handle.with(|control| control.storage().first_index()).await.unwrap();
        assert!(first > LogIndex(100), "it begins at {first}");
        assert_eq!(dir.path().join("1/archive").exists(), archive);
        stop(servers);
    }
}

#[tokio::test]
async fn servers_that_prove_nothing_say_so_at_once() {
    let cluster = Cluster::new(3);
    let mut client = client(&cluster.addresses, false);
    let error = history(client.verify().await);
    assert!(matches!(error, HistoryError::Unproved { reason: NoProof::NotServed, .. }), "{error}");
    assert_eq!(client.remembered(), None);
}

/// A leader that nobody hears has blocks that may be replaced: no head is of those.
#[tokio::test]
async fn a_head_is_of_decided_blocks_alone() {
    let (dir, addresses) = (tempfile::tempdir().unwrap(), addresses());
    let servers = start_all(&addresses, dir.path());
    let mut writer = client(&addresses, false);
    put(&mut writer, 3).await;
    let leader = writer
        .status()
        .await
        .into_iter()
        .find_map(|(id, status)| status.ok().filter(|status| status.role == RoleName::Leader).map(|_| id));
    let leader = leader.unwrap();
    let handle = &servers[leader.0 as usize - 1].handle;
    for other in addresses.keys().copied().filter(|id| *id != leader) {
        handle.with(move |control| control.links().cut(Link::Server(other)).unwrap()).await.unwrap();
    }
    let mut connection =
        ClientConnection::connect(addresses[&leader], Some(leader), identity(7002), PATIENCE).await.unwrap();
    let open = Command::OpenSession { client: 7002 }.encode();
    connection.enqueue(RequestBody::Submit(&open)).unwrap();
    connection.flush().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        let status = handle.with(|control| control.status()).await.unwrap();
        if status.persisted_index > status.commit_index {
            break status;
        }
        assert!(Instant::now() < deadline, "the block is written: {status:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let asked = connection.enqueue(RequestBody::Head).unwrap();
    let beyond = RequestBody::ProvePrefix { older: LogIndex(1), newer: status.persisted_index };
    let beyond = connection.enqueue(beyond).unwrap();
    connection.flush().await.unwrap();
    let mut answers = BTreeMap::new();
    while !(answers.contains_key(&asked) && answers.contains_key(&beyond)) {
        let response = connection.receive().await.unwrap();
        answers.insert(response.number, response.body);
    }
    let ResponseBody::Head(head) = &answers[&asked] else { panic!("{answers:?}") };
    assert_eq!(head.height, status.commit_index);
    let last = Some(status.commit_index);
    assert_eq!(answers[&beyond], ResponseBody::NoProof(NoProof::NotYet { last }));
    stop(servers);
}

/// More than may wait is refused, and the rest is answered, a proof a turn: the loop goes on meanwhile.
#[tokio::test]
async fn many_proofs_at_once_are_answered_and_nobody_waits_for_them() {
    let (dir, addresses) = (tempfile::tempdir().unwrap(), addresses());
    let servers = start_all(&addresses, dir.path());
    let mut writer = client(&addresses, false);
    let height = LogIndex(put(&mut writer, 5).await);
    let head = writer.verify().await.unwrap();
    let address = addresses[&head.server];
    let mut connection = ClientConnection::connect(address, None, identity(7002), PATIENCE).await.unwrap();
    for _ in 0..1100 {
        connection.enqueue(RequestBody::ProveBlock { height, head: height }).unwrap();
    }
    connection.flush().await.unwrap();
    put(&mut writer, 2).await;
    let (mut proofs, mut refused) = (0, 0);
    while proofs + refused < 1100 {
        match connection.receive().await.unwrap().body {
            ResponseBody::BlockProof(proof) => proofs += u32::from(proof.verify().is_ok()),
            ResponseBody::Refused(raft_core::Refusal::Busy) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(proofs >= 1024, "{proofs} proofs");
    stop(servers);
}
