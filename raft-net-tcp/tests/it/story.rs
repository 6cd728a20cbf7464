//! What a cluster is for, with its servers and links coming and going.

use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::NodeId;
use raft_kv::{Command, Operation, Outcome, Reply, RequestId};
use raft_net_tcp::protocol::{RequestBody, ResponseBody};
use raft_net_tcp::{Client, ClientError, ClientOptions, KvError, Link, LinkError};

use crate::cluster::{Cluster, PATIENCE, identity, key, value};

#[tokio::test]
async fn a_cluster_elects_and_serves() {
    let cluster = Cluster::new(3);
    let mut client = cluster.client(7001);
    let put = client.put(key("k"), value("v")).await.unwrap();
    assert_eq!(put.value, Outcome::Success);
    assert_eq!(put.server, cluster.leader().await);
    let got = client.get(Bytes::from("k")).await.unwrap();
    assert_eq!(got.value, Some(value("v")));
    assert!(got.height >= put.height);

    let swapped = client.compare_and_swap(key("k"), value("v"), value("w")).await.unwrap();
    assert_eq!(swapped.value, Outcome::Swapped);
    let kept = client.compare_and_swap(key("k"), value("v"), value("x")).await.unwrap();
    assert_eq!(kept.value, Outcome::NotSwapped { actual: Some(value("w")) });
    client.put(key("l"), value("1")).await.unwrap();
    let page = client.scan(None, None, 10).await.unwrap().value;
    let names: Vec<_> = page.pairs.iter().map(|pair| pair.key.canonical.clone()).collect();
    assert_eq!((names, page.more), (vec![Bytes::from("k"), Bytes::from("l")], false));
    assert_eq!(client.delete(key("k")).await.unwrap().value, Outcome::Deleted { existed: true });
    assert_eq!(client.get(Bytes::from("k")).await.unwrap().value, None);

    cluster.level().await;
    for (server, status) in client.status().await {
        let status = status.unwrap();
        assert_eq!((status.id, status.connected.len(), status.members.len()), (server, 2, 3));
        assert!(status.last_applied.0 >= put.height);
    }
}

#[tokio::test]
async fn a_leader_cut_off_is_replaced_and_follows_when_its_links_are_mended() {
    let cluster = Cluster::new(3);
    let mut client = cluster.client(7001);
    client.put(key("k"), value("1")).await.unwrap();
    let old = cluster.leader().await;
    let others: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != old).collect();
    for other in &others {
        cluster.cut(old, Link::Server(*other)).await;
    }
    let broken = cluster.with(old, {
        let other = others[0];
        move |control| control.links().cut(Link::Server(other))
    });
    assert_eq!(broken.await, Err(LinkError::AlreadyBroken(Link::Server(others[0]))));

    let new = cluster.leader_among(&others).await;
    let put = client.put(key("k"), value("2")).await.unwrap();
    assert_eq!(put.server, new);
    assert_eq!(client.get(Bytes::from("k")).await.unwrap().value, Some(value("2")));

    for other in &others {
        cluster.mend(old, Link::Server(*other)).await;
    }
    cluster.level().await;
    let seen = cluster.with(old, |control| control.replica().machine().value(b"k").map(Bytes::copy_from_slice)).await;
    assert_eq!(seen, Some(value("2").0));
}

#[tokio::test]
async fn a_follower_cut_off_catches_up_when_its_link_is_mended() {
    let cluster = Cluster::new(3);
    let mut client = cluster.client(7001);
    client.put(key("k"), value("0")).await.unwrap();
    let leader = cluster.leader().await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.cut(leader, Link::Server(follower)).await;
    for number in 1..200 {
        client.put(key("k"), value(&number.to_string())).await.unwrap();
    }
    assert!(cluster.status(follower).await.last_applied < cluster.status(leader).await.commit_index);
    cluster.mend(leader, Link::Server(follower)).await;
    cluster.level().await;
    let seen =
        cluster.with(follower, |control| control.replica().machine().value(b"k").map(Bytes::copy_from_slice)).await;
    assert_eq!(seen, Some(value("199").0));
}

#[tokio::test]
async fn a_client_cut_off_does_not_know_and_its_retry_is_one_write() {
    let cluster = Cluster::new(3);
    cluster.leader().await;
    let short = ClientOptions {
        deadline: Duration::from_millis(400),
        attempt_max: Duration::from_millis(100),
        ..ClientOptions::default()
    };
    let mut client = cluster.client_with(7001, short);
    client.put(key("k"), value("1")).await.unwrap();
    for id in cluster.ids() {
        cluster.cut(id, Link::Client(7001)).await;
    }
    let lost = client.put(key("k"), value("2")).await.unwrap_err();
    assert_eq!(lost, KvError::Client(ClientError::Timeout { unknown: true }));
    let unread = client.get(Bytes::from("k")).await.unwrap_err();
    assert_eq!(unread, KvError::Client(ClientError::Timeout { unknown: false }));
    let other = cluster.client(7002).get(Bytes::from("k")).await.unwrap();
    assert_eq!(other.value, Some(value("1")), "another client's link is whole");
    for id in cluster.ids() {
        cluster.mend(id, Link::Client(7001)).await;
    }
    assert_eq!(client.put(key("k"), value("3")).await.unwrap().value, Outcome::Success);
}

#[tokio::test]
async fn c1_a_retry_after_the_leader_died_applies_once() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().await;
    let options = ClientOptions { deadline: PATIENCE, ..ClientOptions::default() };
    let mut client = Client::new(cluster.addresses.clone(), identity(7001), options);
    let opened = client.submit(&Command::OpenSession { client: 7001 }.encode()).await.unwrap();
    let Ok(Reply::SessionOpened { session }) = Reply::decode(&opened.reply) else { panic!("{opened:?}") };
    let write = |number, operation| {
        let request = RequestId { client: 7001, session, number };
        Command::Write { request, acknowledged: number - 1, operation }.encode()
    };
    client.submit(&write(1, Operation::Put { key: key("k"), value: value("a") })).await.unwrap();
    let swap = write(2, Operation::CompareAndSwap { key: key("k"), expected: value("a"), new: value("b") });

    // The leader answers, and dies before anybody has read that.
    let mut connection = cluster.connect(leader, 7001).await;
    connection.enqueue(RequestBody::Submit(&swap)).unwrap();
    connection.flush().await.unwrap();
    let response = connection.receive().await.unwrap();
    let ResponseBody::Applied { index, .. } = response.body else { panic!("{response:?}") };
    cluster.stop(leader);

    let retried = client.submit_repeatedly(&swap, Instant::now() + PATIENCE).await.unwrap();
    assert_ne!(retried.server, leader);
    let reply = Reply::decode(&retried.reply).unwrap();
    assert_eq!(
        reply,
        Reply::Done { outcome: Outcome::Swapped, height: index.0, hash: None },
        "a second copy would not swap"
    );
}

#[tokio::test]
async fn a_counter_counts_every_increment_once_while_leaders_come_and_go() {
    let mut cluster = Cluster::new(3);
    let mut client = cluster.client(7001);
    client.put(key("n"), value("0")).await.unwrap();
    let mut count = 0;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        for _ in 0..10 {
            let (old, new) = (value(&count.to_string()), value(&(count + 1).to_string()));
            let answer = client.compare_and_swap(key("n"), old, new).await.unwrap();
            assert_eq!(answer.value, Outcome::Swapped, "{count}");
            count += 1;
        }
        cluster.stop(leader);
        let (old, new) = (value(&count.to_string()), value(&(count + 1).to_string()));
        let answer = client.compare_and_swap(key("n"), old, new).await.unwrap();
        assert_eq!((answer.value, answer.server != leader), (Outcome::Swapped, true));
        count += 1;
        cluster.restart(leader);
    }
    cluster.level().await;
    for id in cluster.ids() {
        let seen =
            cluster.with(id, |control| control.replica().machine().value(b"n").map(Bytes::copy_from_slice)).await;
        assert_eq!(seen, Some(value("33").0));
    }
}

#[tokio::test]
async fn many_requests_are_in_flight_on_one_connection() {
    let cluster = Cluster::new(3);
    let leader = cluster.leader().await;
    let mut connection = cluster.connect(leader, 7001).await;
    let open = Command::OpenSession { client: 7001 }.encode();
    let mut waiting: Vec<u64> = (0..500).map(|_| connection.enqueue(RequestBody::Submit(&open)).unwrap()).collect();
    connection.flush().await.unwrap();
    while !waiting.is_empty() {
        let response = connection.receive().await.unwrap();
        assert!(matches!(response.body, ResponseBody::Applied { .. }), "{response:?}");
        waiting.retain(|number| *number != response.number);
    }
    // They travelled together: far fewer entries than requests.
    assert!(cluster.status(leader).await.last_index.0 < 250);
}

#[tokio::test]
async fn without_a_majority_nothing_is_written_and_the_client_says_so() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().await;
    let followers: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    cluster.stop(leader);
    cluster.stop(followers[0]);
    let short = ClientOptions { deadline: Duration::from_millis(300), ..ClientOptions::default() };
    let mut client = cluster.client_with(7001, short);
    let error = client.put(key("k"), value("v")).await.unwrap_err();
    assert!(!error.is_unknown(), "{error}");
    cluster.stop(followers[1]);
    let error = client.put(key("k"), value("v")).await.unwrap_err();
    assert!(!error.is_unknown(), "{error}");
    let mut client = cluster.client_with(7002, short);
    let error = client.put(key("k"), value("v")).await.unwrap_err();
    assert!(matches!(error, KvError::Client(ClientError::Unreachable { .. })), "{error}");
}

#[tokio::test]
async fn a_delay_holds_every_message_back_and_keeps_their_order() {
    const DELAY: Duration = Duration::from_millis(20);
    let cluster = Cluster::tuned(3, |config| config.delay = DELAY);
    let mut client = cluster.client(7001);
    client.put(key("k"), value("0")).await.unwrap();
    let begun = Instant::now();
    client.put(key("k"), value("1")).await.unwrap();
    // To a follower, back from it, and to the client.
    assert!(begun.elapsed() >= 3 * DELAY, "{:?}", begun.elapsed());
    for number in 2..10 {
        client.put(key("k"), value(&number.to_string())).await.unwrap();
    }
    assert_eq!(client.get(Bytes::from("k")).await.unwrap().value, Some(value("9")));
}
