#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("requests", raft_fuzz::requests::seeds()), |input: &[u8]| raft_fuzz::requests::run(input));
