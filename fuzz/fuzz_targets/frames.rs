#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("frames", raft_fuzz::frames::seeds()), |input: &[u8]| raft_fuzz::frames::run(input));
