#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("recordings", raft_fuzz::recordings::seeds()), |input: &[u8]| raft_fuzz::recordings::run(input));
