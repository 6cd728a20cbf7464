//! `replay`: the story of one run.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use raft_sim::plan::Plan;
use raft_sim::story::{html, timeline};
use raft_sim::{Report, Time};

use super::engine::Engine;
use super::{hunt, parse, run};

/// Runs one seed or plan again and tells its story
///
/// Prints a line for whatever happened, with a column a server; what flows all the time is summed up. Exit codes:
/// 0 nothing is broken, 1 something is, or a file cannot be read or written.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Args {
    /// The run of this seed
    #[arg(long, value_name = "X", group = "what")]
    pub(crate) seed: Option<u64>,
    /// The run of this file, as `run --minimize` or --save writes it
    #[arg(long, value_name = "FILE", group = "what")]
    pub(crate) plan: Option<PathBuf>,
    /// With this bug, as `hunt` caught it. Needs a build with the feature `seeded-bugs`
    #[arg(long, value_name = "NAME")]
    pub(crate) bug: Option<String>,
    /// Tells nothing of what was before second S [default: the beginning, and for --html 5 s before the end]
    #[arg(long, value_name = "S", value_parser = parse::seconds)]
    pub(crate) from: Option<Time>,
    /// Tells nothing of what was after second S
    #[arg(long, value_name = "S", value_parser = parse::seconds)]
    pub(crate) until: Option<Time>,
    /// A line for every message and every commit
    #[arg(long)]
    pub(crate) messages: bool,
    /// A line for every step of a client
    #[arg(long)]
    pub(crate) clients: bool,
    /// Draws the story as a page for a browser instead, which needs no network
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Writes the plan of the run, to be changed by hand
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
}

/// Tells the story on standard output.
pub(crate) fn main(args: &Args, engine: Engine) -> ExitCode {
    match replay(args, engine, &mut io::BufWriter::new(io::stdout().lock())) {
        Ok(report) if report.failure.is_none() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "raft-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story to `out`.
pub(crate) fn replay(args: &Args, engine: Engine, out: &mut impl io::Write) -> Result<Report, String> {
    let engine = hunt::with_bug(args.bug.as_deref(), engine)?;
    let plan = match (&args.plan, args.seed) {
        (Some(file), _) => read(file)?,
        (None, seed) => engine.plan(seed.unwrap_or_default()).map_err(|failure| failure.to_string())?,
    };
    if let Some(file) = &args.save {
        run::save(&plan, file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let report = engine.run(plan, true);
    let told = match &args.html {
        Some(file) => {
            draw(args, &report, file)?;
            write!(out, "{}\n{}", file.display(), timeline(&report).from(Time(u64::MAX)))
        }
        None => {
            let (from, until) = (args.from.unwrap_or(Time::ZERO), args.until.unwrap_or(Time(u64::MAX)));
            let told = timeline(&report).from(from).until(until).messages(args.messages).clients(args.clients);
            write!(out, "{told}")
        }
    };
    // Whoever reads it may have read enough.
    let _ = told.and_then(|()| out.flush());
    Ok(report)
}

fn read(file: &Path) -> Result<Plan, String> {
    let name = |error: &dyn ToString| format!("{}: {}", file.display(), error.to_string());
    let text = std::fs::read_to_string(file).map_err(|error| name(&error))?;
    serde_json::from_str(&text).map_err(|error| name(&format!("no plan: {error}")))
}

fn draw(args: &Args, report: &Report, file: &Path) -> Result<(), String> {
    let mut page = html(report);
    if let Some(from) = args.from {
        page = page.from(from);
    }
    if let Some(until) = args.until {
        page = page.until(until);
    }
    std::fs::write(file, page.to_string()).map_err(|error| format!("{}: {error}", file.display()))
}
