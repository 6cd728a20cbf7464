//! A stream of Redis's protocol in pieces: the commands in it do not depend on where the pieces end, and written as arrays
//! they read the same.

use bytes::Bytes;
use raft_net_tcp::fuzzing::read_resp;

use crate::input::Input;

/// How long a piece is, then the stream.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let piece = 1 + input.number(1) as usize;
    let stream = input.0;
    let (commands, error) = read_resp([stream]);
    assert_eq!(read_resp(stream.chunks(piece)), (commands.clone(), error));
    let written: Vec<u8> = commands.iter().flat_map(|words| write(words)).collect();
    assert_eq!(read_resp(written.chunks(piece)), (commands, None));
}

fn write(words: &[Bytes]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seed = vec![3];
    seed.extend(write(&["SET", "k", "v"].map(Bytes::from)));
    seed.extend_from_slice(b"*0\r\nget \"k\\x00\" 'l\\''\r\n\nPING\n*1\r\n$-1\r\n");
    vec![seed]
}
