//! Replays a recording of a server: see `replay --help`. Its modules are its own, so that the other processes need not be
//! built with them.

mod replay;
mod steps;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    replay::main(&replay::Args::parse())
}
