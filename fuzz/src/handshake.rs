//! What the other side of a handshake may send, to a server and to a dialer.

use raft_core::NodeId;
use raft_net_tcp::frame::{HANDSHAKE_FRAME_BYTES_MAX, Kind, encode_into};
use raft_net_tcp::fuzzing::{admit, dial};
use raft_net_tcp::handshake::{HandshakeRefusal, Hello, PROTOCOL_VERSION, Role};

use crate::input::Input;

const CLUSTER: [u8; 16] = [7; 16];

const fn hello(sender: u64, receiver: Option<u64>, role: Role) -> Hello {
    Hello { version: PROTOCOL_VERSION, cluster: CLUSTER, sender, receiver, role }
}

/// Whether the bytes are the body of a hello, whose frame is made right, or the whole stream.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let stream = if input.number(1) % 2 == 1 {
        let mut checked = vec![0, 0, 0, 0, Kind::Hello as u8];
        checked.extend(input.0);
        let length = (checked.len() as u32).to_le_bytes();
        [&length[..], &crc32c::crc32c(&checked).to_le_bytes()[..], &checked[..]].concat()
    } else {
        input.0.to_vec()
    };
    if let Ok(hello) = admit(&stream, CLUSTER, NodeId(1)) {
        assert_eq!((hello.version, hello.cluster), (PROTOCOL_VERSION, CLUSTER));
        assert!(hello.receiver.is_none_or(|receiver| receiver == 1));
        assert!(hello.role != Role::Server || hello.sender < 4 && hello.receiver.is_some());
    }
    let answer = dial(&stream, &hello(9, Some(1), Role::Client));
    assert!(answer.is_err() || answer.is_ok_and(|server| server == 1));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |kind, hello: &Hello| {
        let mut seed = vec![0];
        assert!(encode_into(kind, hello, HANDSHAKE_FRAME_BYTES_MAX, &mut seed));
        seed
    };
    let server = frame(Kind::Hello, &hello(2, Some(1), Role::Server));
    let body = [&[1][..], &server[14..]].concat();
    let answer = frame(Kind::Hello, &hello(1, Some(9), Role::Server));
    let mut refusal = vec![0];
    assert!(encode_into(Kind::Refusal, &HandshakeRefusal::WrongCluster, HANDSHAKE_FRAME_BYTES_MAX, &mut refusal));
    vec![server, body, answer, refusal, frame(Kind::Hello, &hello(2, None, Role::Client))]
}
