#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("directory", raft_fuzz::directory::seeds()), |input: &[u8]| raft_fuzz::directory::run(input));
