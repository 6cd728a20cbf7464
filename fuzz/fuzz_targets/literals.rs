#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: raft_fuzz::write_seeds("literals", raft_fuzz::literals::seeds()), |input: &[u8]| raft_fuzz::literals::run(input));
