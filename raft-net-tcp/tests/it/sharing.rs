//! Clients that share connections: every answer reaches the one who asked, and what befalls one does not befall the others.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{LogIndex, NodeId};
use raft_kv::Outcome;
use raft_net_tcp::frame::{self, FrameReader, Kind};
use raft_net_tcp::handshake::{Hello, PROTOCOL_VERSION, Role};
use raft_net_tcp::protocol::{Request, RequestBody, Response, ResponseBody};
use raft_net_tcp::{Client, ClientError, ClientOptions, Connections, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{CLUSTER, Cluster, PATIENCE, identity, key, value};

/// A server that shakes hands, and leaves the rest to the test.
struct Guest {
    socket: TcpStream,
    frames: FrameReader,
}

impl Guest {
    async fn welcome(listener: &TcpListener) -> Self {
        let (socket, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("somebody connects").unwrap();
        let mut guest = Self { socket, frames: FrameReader::new(frame::CLIENT_FRAME_BYTES_MAX) };
        assert_eq!(guest.hear().await.0, Kind::Hello);
        let (sender, receiver) = (1, Some(7000));
        guest
            .say(
                Kind::Hello,
                &Hello { version: PROTOCOL_VERSION, cluster: CLUSTER, sender, receiver, role: Role::Server },
            )
            .await;
        guest
    }

    async fn hear(&mut self) -> (Kind, Vec<u8>) {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return (frame.kind, frame.body.to_vec());
            }
            let reading = self.socket.read_buf(self.frames.room());
            assert_ne!(tokio::time::timeout(PATIENCE, reading).await.expect("something comes").unwrap(), 0);
        }
    }

    /// The next query: its number, and what it asks.
    async fn query(&mut self) -> (u64, Bytes) {
        let (kind, body) = self.hear().await;
        assert_eq!(kind, Kind::Request);
        let number = u64::from_le_bytes(body[..8].try_into().unwrap());
        (number, Bytes::copy_from_slice(&body[8..]))
    }

    async fn say<T: serde::Serialize>(&mut self, kind: Kind, value: &T) {
        let mut bytes = Vec::new();
        assert!(frame::encode_into(kind, value, frame::CLIENT_FRAME_BYTES_MAX, &mut bytes));
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// Answers a query with what it asked.
    async fn answer(&mut self, number: u64, reply: Bytes) {
        let body = ResponseBody::Answered { index: LogIndex(1), hash: None, reply };
        self.say(Kind::Response, &Response { number, body }).await;
    }
}

/// So many clients of this one server, on one connection.
fn clients(listener: &TcpListener, count: u64, options: ClientOptions) -> Vec<Client> {
    let servers = BTreeMap::from([(NodeId(1), listener.local_addr().unwrap())]);
    let shared = Connections::new(identity(7000));
    let client = |id| Client::new(servers.clone(), identity(id), options).sharing(shared.clone());
    (7001..).map(client).take(usize::try_from(count).unwrap()).collect()
}

/// What a request looks like behind its number.
fn body_of(query: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    let request = Request { number: 0, body: RequestBody::Query(query) };
    assert!(frame::encode_into(Kind::Request, &request, frame::CLIENT_FRAME_BYTES_MAX, &mut bytes));
    let mut frames = FrameReader::new(frame::CLIENT_FRAME_BYTES_MAX);
    frames.room().extend_from_slice(&bytes);
    Bytes::copy_from_slice(&frames.next_frame().unwrap().unwrap().body[8..])
}

#[tokio::test]
async fn many_ask_on_one_connection_and_each_has_its_own_answer() {
    const COUNT: u64 = 40;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ClientOptions { attempt_max: PATIENCE, ..ClientOptions::default() };
    let asking: Vec<_> = clients(&listener, COUNT, options)
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let query = client.id().to_le_bytes();
                (body_of(&query), client.query(&query).await.unwrap().reply)
            })
        })
        .collect();
    let mut guest = Guest::welcome(&listener).await;
    let mut queries = Vec::new();
    for _ in 0..COUNT {
        queries.push(guest.query().await);
    }
    for (number, query) in queries.into_iter().rev() {
        guest.answer(number, query).await;
    }
    for one in asking {
        let (asked, answered) = one.await.unwrap();
        assert_eq!(asked, answered);
    }
}

/// Somewhere to listen as server 1, and two clients of it that share a connection: one soon gives up, the other does not.
async fn hasty_and_patient() -> (TcpListener, Client, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hasty = ClientOptions { deadline: Duration::from_millis(100), ..ClientOptions::default() };
    let patient = ClientOptions { attempt_max: PATIENCE, deadline: PATIENCE, ..ClientOptions::default() };
    let servers = BTreeMap::from([(NodeId(1), listener.local_addr().unwrap())]);
    let shared = Connections::new(identity(7000));
    let client = |id, options| Client::new(servers.clone(), identity(id), options).sharing(shared.clone());
    let (first, second) = (client(7001, hasty), client(7002, patient));
    (listener, first, second)
}

#[tokio::test]
async fn who_gives_up_leaves_the_others_their_answers() {
    let (listener, mut first, mut second) = hasty_and_patient().await;
    let gives_up = tokio::spawn(async move { first.query(b"first").await });
    let mut guest = Guest::welcome(&listener).await;
    let (unanswered, asked) = guest.query().await;
    assert_eq!(asked, body_of(b"first"));
    // The second asks as well and is answered, so the connection is known to work when the first gives up.
    let waits = tokio::spawn(async move {
        second.query(b"second").await.unwrap();
        second.query(b"third").await
    });
    let (number, query) = guest.query().await;
    guest.answer(number, query).await;
    let (number, query) = guest.query().await;
    assert_eq!(gives_up.await.unwrap(), Err(ClientError::Timeout { unknown: false }));
    // An answer for which nobody waits any more is dropped.
    guest.answer(unanswered, Bytes::new()).await;
    guest.answer(number, query.clone()).await;
    assert_eq!(waits.await.unwrap().unwrap().reply, query);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_left_for_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options =
        ClientOptions { attempt_max: Duration::from_millis(100), deadline: PATIENCE, ..ClientOptions::default() };
    let asking: Vec<_> = clients(&listener, 3, options)
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.query(b"?").await }))
        .collect();
    let mut silent = Guest::welcome(&listener).await;
    for _ in 0..3 {
        silent.query().await;
    }
    let mut speaking = Guest::welcome(&listener).await;
    for _ in 0..3 {
        let (number, query) = speaking.query().await;
        speaking.answer(number, query).await;
    }
    for one in asking {
        assert_eq!(one.await.unwrap().unwrap().reply, body_of(b"?"));
    }
}

#[tokio::test]
async fn c1_clients_that_share_connections_lose_no_write_to_a_leader_that_fails() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().await;
    let shared = Connections::new(identity(7000));
    let (sender, mut halfway) = tokio::sync::mpsc::unbounded_channel();
    let counting: Vec<_> = (7001..7011)
        .map(|id| {
            let (mut client, halfway) = (cluster.client(id).sharing(shared.clone()), sender.clone());
            tokio::spawn(async move {
                let name = id.to_string();
                client.put(key(&name), value("0")).await.unwrap();
                for step in 0..20 {
                    let [before, after] = [step, step + 1].map(|count: u32| value(&count.to_string()));
                    let swapped = client.compare_and_swap(key(&name), before, after).await.unwrap();
                    assert_eq!(swapped.value, Outcome::Swapped, "a step of {name} is taken twice, or not at all");
                    if step == 5 {
                        halfway.send(()).unwrap();
                    }
                }
            })
        })
        .collect();
    halfway.recv().await.unwrap();
    cluster.stop(leader);
    for one in counting {
        one.await.unwrap();
    }
    let mut reader = cluster.client(7011).sharing(shared);
    for id in 7001..7011 {
        let found = reader.get(key(&id.to_string()).canonical).await.unwrap().value;
        assert_eq!(found, Some(value("20")));
    }
}

#[tokio::test]
async fn who_gives_up_where_nothing_came_leaves_the_others_their_answers() {
    let (listener, mut first, mut second) = hasty_and_patient().await;
    let waits = tokio::spawn(async move { (second.submit(b"second").await, second) });
    let mut slow = Guest::welcome(&listener).await;
    let (number, _) = slow.query().await;
    assert_eq!(first.query(b"first").await, Err(ClientError::Timeout { unknown: false }));
    slow.query().await;
    // The answer that comes late reaches who still waits for it.
    let (index, reply) = (LogIndex(1), Bytes::from_static(b"done"));
    let body = ResponseBody::Applied { index, term: raft_core::Term(1), hash: None, number: 0, reply: reply.clone() };
    slow.say(Kind::Response, &Response { number, body }).await;
    let (answer, mut second) = waits.await.unwrap();
    assert_eq!(answer.unwrap().reply, reply);
    // Who asks from now on does so on another, and the doubtful one is closed.
    let asks = tokio::spawn(async move { second.query(b"third").await });
    let mut other = Guest::welcome(&listener).await;
    let (number, query) = other.query().await;
    other.answer(number, query.clone()).await;
    assert_eq!(asks.await.unwrap().unwrap().reply, query);
    let closed = tokio::time::timeout(PATIENCE, slow.socket.read_buf(slow.frames.room())).await;
    assert_eq!(closed.expect("it is closed").unwrap(), 0);
}

#[tokio::test]
async fn n4_a_client_that_waits_for_anothers_connecting_keeps_its_deadline() {
    // Connections are taken, by the system, and nobody shakes hands.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = |millis| {
        let time = Duration::from_millis(millis);
        ClientOptions { deadline: time, attempt_max: time, connect_max: time, ..ClientOptions::default() }
    };
    let servers = BTreeMap::from([(NodeId(1), listener.local_addr().unwrap())]);
    let shared = Connections::new(identity(7000));
    let client = |id, millis| Client::new(servers.clone(), identity(id), options(millis));
    let (mut first, mut second) = (client(7001, 800).sharing(shared.clone()), client(7002, 1000).sharing(shared));
    // Who waits alone for longer shows the time.
    let mut other = client(7003, 1600);
    tokio::select! {
        answers = async { tokio::join!(first.query(b"first"), second.query(b"second")) } => {
            assert!(answers.0.is_err() && answers.1.is_err());
        }
        _ = other.query(b"other") => panic!("the second waits for the first's connecting, and for its own then"),
    }
}

#[tokio::test]
async fn large_answers_to_many_who_share_a_connection_reach_them_all() {
    let cluster = Cluster::new(1);
    let large = value(&"v".repeat(1_000_000));
    cluster.client(7100).put(key("k"), large.clone()).await.unwrap();
    let shared = Connections::new(identity(7000));
    let asking: Vec<_> = (7001..7065)
        .map(|id| {
            let mut client = cluster.client(id).sharing(shared.clone());
            tokio::spawn(async move { client.get(key("k").canonical).await.map(|answer| answer.value) })
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.unwrap(), Ok(Some(large.clone())));
    }
    let closed = |(_, notice): &(NodeId, Notice)| matches!(notice, Notice::ClientClosed(..));
    assert_eq!(cluster.notices.lock().unwrap().iter().filter(|one| closed(one)).count(), 0, "times it was closed");
}

#[tokio::test]
async fn n4_a_silent_connection_is_left_even_by_those_who_wait_for_less_than_the_client_would() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = clients(&listener, 1, ClientOptions::default()).remove(0);
    let asks = tokio::spawn(async move {
        loop {
            if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_millis(100), client.query(b"?")).await {
                return answer.reply;
            }
        }
    });
    let _silent = Guest::welcome(&listener).await;
    let mut speaking = Guest::welcome(&listener).await;
    let (number, query) = speaking.query().await;
    speaking.answer(number, query.clone()).await;
    assert_eq!(asks.await.unwrap(), query);
}
