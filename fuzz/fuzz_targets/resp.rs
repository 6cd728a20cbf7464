#![no_main]

use libfuzzer_sys::fuzz_target;
use raft_fuzz::{resp as target, write_seeds};

fuzz_target!(init: write_seeds("resp", target::seeds()), |input: &[u8]| target::run(input));
