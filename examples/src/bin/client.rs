//! A client of the cluster: see `client --help`.

use std::process::ExitCode;

use clap::Parser as _;
use raft_examples::{bench, client};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "bench") {
        return bench::main(&bench::Args::parse_from(words));
    }
    client::main(&client::Args::parse())
}
