//! Looks at the chain in a server's directory: see `chain --help`.

use std::process::ExitCode;

use clap::Parser as _;
use raft_examples::chain;

fn main() -> ExitCode {
    chain::main(&chain::Args::parse())
}
