//! A stream in pieces: the frames that are taken out of it do not depend on where the pieces end, and what is read of
//! them is written as what reads the same. A node takes every message.

use bytes::BytesMut;
use raft_core::{
    Action, Config, Configuration, Digest, Event, LogIndex, MemStorage, Message, Node, NodeId, Storage as _,
};
use raft_kv::proof::{NoProof, Tree};
use raft_kv::{ClusterId, Genesis};
use raft_net_tcp::frame::{CLIENT_FRAME_BYTES_MAX, Frame, FrameError, FrameReader, Kind, Memory, encode_into};
use raft_net_tcp::fuzzing::{Body, read_body, read_value, write_body};
use raft_net_tcp::protocol::{Request, RequestBody, Response, ResponseBody};

use crate::input::Input;

/// Whether checksums are mended, how long a piece is, then the stream.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (mends, piece) = (input.number(1) % 2 == 1, 1 + input.number(1) as usize);
    let mut stream = input.0.to_vec();
    if mends {
        mend(&mut stream);
    }
    let whole = take(&stream, stream.len().max(1));
    assert_eq!(take(&stream, piece), whole);
    let mut node = node();
    for (kind, body) in &whole.0 {
        check(*kind, body, &mut node);
    }
}

/// The frames of a stream that comes in pieces of this length, and how it ends.
fn take(stream: &[u8], piece: usize) -> (Vec<(Kind, Vec<u8>)>, Option<FrameError>) {
    let mut reader = FrameReader::new(CLIENT_FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    for piece in stream.chunks(piece) {
        reader.room().extend_from_slice(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push((frame.kind, frame.body.to_vec())),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn check(kind: Kind, body: &[u8], node: &mut Node<MemStorage>) {
    let mut events = Vec::new();
    match read_body(Frame { kind, body, memory: Memory::Pool(&mut BytesMut::new()) }) {
        Ok(Body::Message(message)) => {
            assert_eq!(read_value::<Message>(&write_body(&message)).as_ref(), Ok(&message));
            // Who speaks is who has shaken hands.
            events.push(Event::from(Message { from: NodeId(2), ..message }));
            take_in(node, &mut events);
        }
        Ok(Body::Request(request)) => assert_eq!(read_value::<Request<'_>>(&write_body(&request)), Ok(request)),
        Ok(Body::Response(response)) => {
            let again = read_value::<Response>(&write_body(&response));
            assert_eq!(again.as_ref(), Ok(&*response));
        }
        Ok(Body::Goodbye(_) | Body::Other) | Err(_) => {}
    }
}

/// Steps a node, and writes what it wants to be written.
fn take_in(node: &mut Node<MemStorage>, events: &mut Vec<Event>) {
    while let Some(event) = events.pop() {
        for action in node.step(event) {
            if let Action::Persist(write) = action {
                events.push(Event::Persisted(write.id));
                node.storage_mut().write(write).expect("a write that the node wants");
            }
        }
    }
}

fn node() -> Node<MemStorage> {
    let storage = MemStorage::new(Configuration::new([1, 2, 3].map(NodeId)));
    Node::new(Config::new(NodeId(1)), storage).expect("a new node")
}

/// Of each frame, as far as the lengths lead: the group, and the checksum.
fn mend(mut stream: &mut [u8]) {
    while let Some((prefix, rest)) = stream.split_at_mut_checked(8) {
        let len = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let Some((checked, rest)) = rest.split_at_mut_checked(len).filter(|_| len >= 5) else { return };
        checked[..4].fill(0);
        prefix[4..].copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
        stream = rest;
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut stream = vec![1, 200];
    assert!(encode_into(Kind::Ping, &(), 1 << 20, &mut stream));
    let requests = [
        RequestBody::Status,
        RequestBody::Submit(b"a command"),
        RequestBody::Query(b"a query"),
        RequestBody::Head,
        RequestBody::ProveBlock { height: LogIndex(0), head: LogIndex(1) },
        RequestBody::ProvePrefix { older: LogIndex(0), newer: LogIndex(1) },
    ];
    for (body, number) in requests.into_iter().zip(1..) {
        assert!(encode_into(Kind::Request, &Request { number, body }, 1 << 20, &mut stream));
    }
    for (body, number) in proofs().into_iter().zip(4..) {
        assert!(encode_into(Kind::Response, &Response { number, body }, 1 << 20, &mut stream));
    }
    for message in messages() {
        assert!(encode_into(Kind::Message, &message, 1 << 20, &mut stream));
    }
    let mut plain = stream.clone();
    plain[..2].copy_from_slice(&[0, 0]);
    vec![stream, plain]
}

/// What a server answers about a chain of two blocks.
fn proofs() -> Vec<ResponseBody> {
    let configuration = Configuration::new([1, 2, 3].map(NodeId));
    let block = Genesis { cluster: ClusterId([7; 16]), configuration }.block();
    let mut tree = Tree::keeping_nodes();
    tree.push(&block.hash);
    let older = tree.head().expect("a head");
    tree.push(&Digest([1; 32]));
    let newer = tree.head().expect("a head");
    vec![
        ResponseBody::Head(newer),
        ResponseBody::BlockProof(tree.prove_block(&block, &newer).expect("a proof").into()),
        ResponseBody::PrefixProof(tree.prove_prefix(&older, &newer).expect("a proof").into()),
        ResponseBody::NoProof(NoProof::Gone { height: LogIndex(1) }),
    ]
}

/// What a node of three sends as it campaigns and leads.
fn messages() -> Vec<Message> {
    let mut nodes = [1, 2, 3].map(|id| {
        let storage = MemStorage::new(Configuration::new([1, 2, 3].map(NodeId)));
        Node::new(Config::new(NodeId(id)), storage).expect("a new node")
    });
    let (mut sent, mut waiting) = (Vec::new(), Vec::new());
    let step = |node: &mut Node<MemStorage>, event: Event, waiting: &mut Vec<Message>| {
        for action in node.step(event) {
            match action {
                Action::Send(message) => waiting.push(message),
                Action::Persist(write) => {
                    for action in node.step(Event::Persisted(write.id)) {
                        if let Action::Send(message) = action {
                            waiting.push(message);
                        }
                    }
                }
                _ => {}
            }
        }
    };
    step(&mut nodes[0], Event::Campaign, &mut waiting);
    while sent.len() < 40
        && let Some(message) = waiting.pop()
    {
        let to = &mut nodes[message.to.0 as usize - 1];
        sent.push(message.clone());
        step(to, Event::from(message), &mut waiting);
    }
    assert!(sent.len() > 5, "{sent:?}");
    sent
}
