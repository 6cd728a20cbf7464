//! The command: see `raft-sim --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
