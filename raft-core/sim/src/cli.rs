//! What the command does. The library knows nothing of it.

use std::process::ExitCode;

use clap::Parser as _;

mod engine;
mod hunt;
mod interrupt;
mod parse;
mod replay;
mod run;
mod tables;
#[cfg(test)]
mod toy;
mod workers;

use engine::Engine;

/// Runs whole Raft servers on a simulated network, disk and clock, with every fault, and checks that nothing breaks.
///
/// A run is a function of its seed: whatever breaks once breaks every time, and can be replayed and read.
#[derive(Debug, clap::Parser)]
#[command(name = "raft-sim", version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(run::Args),
    Replay(replay::Args),
    Hunt(hunt::Args),
}

/// Does what the command line asks for.
pub(crate) fn main() -> ExitCode {
    let Args { command } = Args::parse();
    engine::catch_panics_quietly();
    match command {
        Command::Run(args) => run::main(&args, Engine::REAL),
        Command::Replay(args) => replay::main(&args, Engine::REAL),
        Command::Hunt(args) => hunt::main(&args, Engine::REAL),
    }
}

const EXAMPLES: &str = "Examples:
  raft-sim run --seeds 0..1000              a thousand runs, on all cores
  raft-sim run --seeds 0.. --minutes 5      as many as five minutes allow
  raft-sim run --seeds 17 --minimize        shrinks what breaks to a short plan, and saves it
  raft-sim replay --seed 17                 tells the story of a run
  raft-sim replay --seed 17 --html out.html draws it, for any browser
  raft-sim hunt                             tries whether bugs are found that were put in on purpose";

#[cfg(test)]
mod tests;
