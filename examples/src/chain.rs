//! `chain`: looks at the block chain in a server's directory, without a server: verifies it, shows it, proves and
//! checks.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use raft_core::LogIndex;
use raft_kv::inspect::Inspection;

use crate::progress;

mod prove;
mod text;
mod verify;

/// Looks at the block chain in the directory of a server that does not run (data/server-1), and changes nothing there.
/// Exit codes: 0 all is well, 1 something is damaged or a proof does not hold, 2 usage, or the directory or file cannot
/// be read.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "chain", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Reads every segment, the archive's too, and every snapshot, and says what is wrong, and where
    Verify {
        /// A server's directory, or a copy of one
        dir: PathBuf,
        /// text, or json: one object a line, the findings and then the verdict
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
    /// Shows blocks with the requests in them
    Show {
        /// A server's directory, or a copy of one
        dir: PathBuf,
        #[command(flatten)]
        range: Range,
        /// text, or json: one object a line, as of export
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
    /// Writes a proof that a block is in the chain, or with --since that the chain goes on from an older head. It needs
    /// every block from 0 on: of a server that was started with --archive from its beginning, or took no snapshot yet
    Prove(prove::ProveArgs),
    /// Checks a proof, without the chain
    Check(prove::CheckArgs),
    /// Writes blocks as JSON lines: height, term, kind, hash, prev_hash, and the transactions, or else the payload in
    /// hexadecimal
    Export {
        /// A server's directory, or a copy of one
        dir: PathBuf,
        #[command(flatten)]
        range: Range,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct Range {
    /// From this height on
    #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
    from: u64,
    /// Up to this height
    #[arg(long, value_name = "HEIGHT", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Why a command ends early.
#[derive(Debug)]
enum Ended {
    /// It found what makes its answer no: the text says what.
    Bad(String),
    /// It could not begin.
    Unusable(String),
    /// Nobody reads what is printed any more.
    Unread,
}

type Answer = Result<(), Ended>;

/// Runs one command; says on standard error why it could not.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let answer = match &args.command {
        Command::Verify { dir, output } => verify::run(dir, *output),
        Command::Show { dir, range, output } => show(dir, *range, *output),
        Command::Export { dir, range } => show(dir, *range, Output::Json),
        Command::Prove(args) => prove::prove(args),
        Command::Check(args) => prove::check(args),
    };
    let (what, code) = match answer {
        Ok(()) | Err(Ended::Unread) => return ExitCode::SUCCESS,
        Err(Ended::Bad(what)) => (what, 1),
        Err(Ended::Unusable(what)) => (what, 2),
    };
    let _ = writeln!(std::io::stderr(), "chain: {what}");
    ExitCode::from(code)
}

/// Reads a directory, with a bar where that takes long and somebody watches.
fn inspect(dir: &Path) -> Result<Inspection, Ended> {
    let bar = progress::bar("{wide_bar} {bytes}/{total_bytes}, {eta} left", 0);
    let found = Inspection::of(dir, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    found.map_err(|error| Ended::Unusable(error.to_string()))
}

fn show(dir: &Path, range: Range, output: Output) -> Answer {
    let found = inspect(dir)?;
    let (from, to) = (LogIndex(range.from), LogIndex(range.to));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut next = Some(from);
    for block in found.blocks(from, to) {
        let block = block.map_err(|error| Ended::Bad(error.to_string()))?;
        if let Some(missing) = next.filter(|next| *next < block.height) {
            note(&missing_text(&found, missing, block.height.prev()));
        }
        next = Some(block.height.next());
        let line = match output {
            Output::Text => text::block(&block),
            Output::Json => text::json(&block).to_string(),
        };
        writeln!(out, "{line}").map_err(|_| Ended::Unread)?;
    }
    out.flush().map_err(|_| Ended::Unread)?;
    if next == Some(from) {
        let last = found.ranges().last().map_or(LogIndex(0), |(_, last)| last);
        note(&format!("no block from {from} on: the last is block {last}"));
    }
    if found.is_sound() {
        return Ok(());
    }
    Err(Ended::Bad(format!("{} is damaged, and blocks may be missing: see chain verify", dir.display())))
}

/// That blocks are not there, and why that may be.
fn missing_text(found: &Inspection, first: LogIndex, last: LogIndex) -> String {
    let which = if first == last { format!("block {first} is") } else { format!("blocks {first} to {last} are") };
    if !found.is_sound() {
        return format!("{which} not here, or not readable");
    }
    format!("{which} not here: a server keeps what a snapshot covers only where it is started with --archive")
}

/// A remark beside the answer.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "chain: {text}");
}
