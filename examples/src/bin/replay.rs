//! Replays a recording of a server: see `replay --help`.

use std::process::ExitCode;

use clap::Parser as _;
use raft_examples::replay;

fn main() -> ExitCode {
    replay::main(&replay::Args::parse())
}
