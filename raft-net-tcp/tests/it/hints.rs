//! A client whose servers send it to the wrong ones: whatever they say, it goes round all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{LogIndex, NodeId, Refusal};
use raft_net_tcp::frame::{self, FrameReader, Kind};
use raft_net_tcp::handshake::{Hello, PROTOCOL_VERSION, Role};
use raft_net_tcp::protocol::{Response, ResponseBody};
use raft_net_tcp::{Client, ClientOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{CLUSTER, PATIENCE, identity};

const LEADS: ResponseBody =
    ResponseBody::Answered { index: LogIndex(1), hash: None, reply: Bytes::from_static(b"answered") };

fn sends_to(leader: Option<u32>) -> ResponseBody {
    ResponseBody::Refused(Refusal::NotLeader { leader: leader.map(NodeId) })
}

/// A server that says the same to every request, each on a connection that asks once.
async fn parrot(id: u32, says: ResponseBody) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, id, says.clone()));
        }
    });
    address
}

async fn serve(mut socket: TcpStream, id: u32, says: ResponseBody) {
    let mut frames = FrameReader::new(frame::CLIENT_FRAME_BYTES_MAX);
    let mut number = 0;
    while socket.read_buf(frames.room()).await.is_ok_and(|count| count > 0) {
        while let Some(kind) = frames.next_frame().unwrap().map(|frame| frame.kind) {
            let mut bytes = Vec::new();
            if kind == Kind::Hello {
                let (sender, receiver) = (u64::from(id), Some(7001));
                let hello = Hello { version: PROTOCOL_VERSION, cluster: CLUSTER, sender, receiver, role: Role::Server };
                frame::encode_into(Kind::Hello, &hello, frame::CLIENT_FRAME_BYTES_MAX, &mut bytes);
            } else {
                // A client numbers its requests from 1 on.
                number += 1;
                let response = Response { number, body: says.clone() };
                frame::encode_into(Kind::Response, &response, frame::CLIENT_FRAME_BYTES_MAX, &mut bytes);
            }
            socket.write_all(&bytes).await.unwrap();
        }
    }
}

/// Where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn asked(servers: [SocketAddr; 4]) -> NodeId {
    let servers: BTreeMap<NodeId, SocketAddr> = (1..).map(NodeId).zip(servers).collect();
    let options = ClientOptions { deadline: PATIENCE, ..ClientOptions::default() };
    let mut client = Client::new(servers, identity(7001), options);
    let asking = client.query(b"?");
    tokio::time::timeout(Duration::from_secs(5), asking).await.expect("it goes round").unwrap().server
}

/// The server behind the dead leader was removed before it died, and names it for ever.
#[tokio::test]
async fn a_hint_to_a_server_that_has_failed_is_not_followed() {
    for hinting in [2, 3] {
        let hint = parrot(hinting, sends_to(Some(1))).await;
        let (one, other) = (parrot(if hinting == 2 { 3 } else { 2 }, sends_to(None)).await, parrot(4, LEADS).await);
        let servers =
            if hinting == 2 { [nobody().await, hint, one, other] } else { [nobody().await, one, hint, other] };
        assert_eq!(asked(servers).await, NodeId(4));
    }
}

/// The same where the old leader lives and knows that it leads no more, or the two name each other.
#[tokio::test]
async fn servers_that_send_to_each_other_do_not_keep_a_client_from_the_others() {
    for old_leader in [None, Some(2)] {
        let servers = [
            parrot(1, sends_to(old_leader)).await,
            parrot(2, sends_to(Some(1))).await,
            parrot(3, sends_to(Some(2))).await,
            parrot(4, LEADS).await,
        ];
        assert_eq!(asked(servers).await, NodeId(4));
    }
}

/// A server that failed once may lead: it is asked again when its turn comes, and who leads is found through a hint.
#[tokio::test]
async fn a_hint_leads_past_the_servers_between() {
    let servers = [parrot(1, sends_to(Some(4))).await, nobody().await, nobody().await, parrot(4, LEADS).await];
    assert_eq!(asked(servers).await, NodeId(4));
}
