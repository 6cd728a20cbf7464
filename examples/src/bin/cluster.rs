//! The demo: see `cluster --help`.

use std::process::ExitCode;

use clap::Parser as _;
use raft_examples::{children, cluster};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == children::SERVE).is_some() {
        return children::serve(words);
    }
    cluster::main(&cluster::Args::parse())
}
