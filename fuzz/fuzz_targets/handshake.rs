#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("handshake", raft_fuzz::handshake::seeds()), |input: &[u8]| raft_fuzz::handshake::run(input));
