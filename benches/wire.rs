//! Messages, requests and responses as bytes: framed as `raft-net-tcp` frames them, with length, checksum and kind.

use raft_benches::group::Group;
use raft_benches::material;
use raft_core::{Body, Digest, LogIndex, Message, Term};
use raft_kv::{Outcome, Reply};
use raft_net_tcp::frame::{self, FrameReader, Kind};
use raft_net_tcp::fuzzing::{self, read_body};
use raft_net_tcp::protocol::{Request, RequestBody, Response, ResponseBody};
use std::hint::black_box;
use std::sync::Arc;

/// Something that travels.
pub(crate) enum Sent {
    Append(Message),
    /// The command that it submits.
    Request(Vec<u8>),
    Response(Response),
}

impl Sent {
    /// `AppendEntries` of so many blocks, each of so many bytes, chained.
    pub(crate) fn append(blocks: usize, bytes: usize) -> Self {
        let mut message = Group::new(3).append(blocks, bytes);
        if let Body::AppendEntries(append) = &mut message.body {
            append.prev_log_hash = Some(Arc::new(Digest([7; 32])));
        }
        Self::Append(message)
    }

    /// A client's put of a value of so many bytes.
    pub(crate) fn put(bytes: usize) -> Self {
        Self::Request(material::put(1, 1, material::key(1), bytes))
    }

    /// What the client of a put is told.
    pub(crate) fn done() -> Self {
        let hash = Some(Digest([7; 32]));
        let reply = Reply::Done { outcome: Outcome::Success, height: 1, hash }.encode().into();
        let body = ResponseBody::Applied { index: LogIndex(1), term: Term(1), hash, number: 0, reply };
        Self::Response(Response { number: 1, body })
    }

    /// Appends its frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let is_encoded = match self {
            Self::Append(message) => frame::encode_message_into(message, frame::PEER_FRAME_BYTES_MAX, out),
            Self::Request(command) => {
                let request = Request { number: 1, body: RequestBody::Submit(command) };
                frame::encode_into(Kind::Request, &request, frame::CLIENT_FRAME_BYTES_MAX, out)
            }
            Self::Response(response) => {
                frame::encode_into(Kind::Response, response, frame::CLIENT_FRAME_BYTES_MAX, out)
            }
        };
        assert!(is_encoded);
    }
}

/// Reads what arrives on one connection.
pub(crate) struct Reader(FrameReader);

impl Reader {
    pub(crate) fn new() -> Self {
        Self(FrameReader::new(frame::PEER_FRAME_BYTES_MAX))
    }

    /// One frame arrives, and what it holds is read.
    pub(crate) fn read(&mut self, stream: &[u8]) {
        self.0.room().extend_from_slice(stream);
        let frame = self.0.next_frame().unwrap().unwrap();
        let body = read_body(frame).unwrap();
        assert!(!matches!(black_box(&body), fuzzing::Body::Other));
    }
}
