//! One server of a cluster: see `server --help`.

use std::process::ExitCode;

use clap::Parser as _;
use raft_examples::server;

fn main() -> ExitCode {
    server::main(&server::Args::parse())
}
