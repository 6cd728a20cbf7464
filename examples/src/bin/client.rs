//! A client of the cluster: see `client --help`.

use std::process::ExitCode;

use clap::Parser as _;
use raft_examples::client;

fn main() -> ExitCode {
    client::main(&client::Args::parse())
}
