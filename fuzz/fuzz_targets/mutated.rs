#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("mutated", raft_fuzz::mutated::seeds()), |input: &[u8]| raft_fuzz::mutated::run(input));
