#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("snapshot", raft_fuzz::snapshot::seeds()), |input: &[u8]| raft_fuzz::snapshot::run(input));
