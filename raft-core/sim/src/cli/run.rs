//! `run`: many seeds.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use raft_sim::plan::Plan;
use raft_sim::{Failure, minimize};

use super::engine::Engine;
use super::interrupt::Interrupt;
use super::parse;
use super::tables::Total;
use super::workers::{Work, work};

/// Runs many seeds, each a world of its own with its own faults
///
/// Ends with a table of the faults that happened, and one line that says what was run. For each seed that breaks a rule
/// it prints the command that replays it. Ctrl-C prints what was done so far. Exit codes: 0 nothing is broken,
/// 1 something is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The seeds: A..B runs A, A+1 and so on up to B-1; A.. runs on until --minutes have passed or Ctrl-C; A runs one
    #[arg(long, value_name = "A..B", value_parser = parse::seeds)]
    pub(crate) seeds: Range<u64>,
    /// Begins no further seed after M minutes
    #[arg(long, value_name = "M", value_parser = parse::minutes)]
    pub(crate) minutes: Option<Duration>,
    /// How many seeds run at once [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Shrinks the first failure of each rule to a short plan, and saves it as a file that `replay --plan` takes
    #[arg(long)]
    pub(crate) minimize: bool,
    /// Fails where a coverage mark was hit fewer than N times. Needs a build with the feature `marks`
    #[arg(long, value_name = "N")]
    pub(crate) marks_min: Option<u64>,
    /// How many runs shrinking one failure may take
    #[arg(long, value_name = "RUNS", default_value_t = 1000, requires = "minimize")]
    pub(crate) budget: usize,
    /// Where short plans are saved [default: tests/regressions of this package]
    #[arg(long, value_name = "DIR", default_value = REGRESSIONS, hide_default_value = true, requires = "minimize")]
    pub(crate) save: PathBuf,
}

/// Runs what was asked for; the last line that it prints sums it up.
pub(crate) fn main(args: &Args, engine: Engine) -> ExitCode {
    let (total, told) = run(args, engine, &Interrupt::listen());
    let rare = rare_marks(args, &(engine.marks)());
    // Nobody may read what is printed: that changes nothing.
    let _ = writeln!(io::stdout(), "{told}");
    if let Err(rare) = &rare {
        let _ = writeln!(io::stdout(), "{rare}");
    }
    if total.failures.is_empty() && rare.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether every mark was hit as often as was asked for.
pub(crate) fn rare_marks(args: &Args, marks: &[(&str, u64)]) -> Result<(), String> {
    let Some(least) = args.marks_min else { return Ok(()) };
    if marks.is_empty() {
        return Err(format!("this build counts no marks: {COUNTING} run ..."));
    }
    let rare = marks.iter().filter(|(_, hits)| *hits < least);
    let rare: Vec<_> = rare.map(|(name, hits)| format!("{name} ({hits})")).collect();
    if rare.is_empty() { Ok(()) } else { Err(format!("marks hit fewer than {least} times: {}", rare.join(", "))) }
}

/// What the runs came to, and what is to be said of it.
pub(crate) fn run(args: &Args, engine: Engine, interrupt: &Interrupt) -> (Total, String) {
    let began = Instant::now();
    let bar = bar(&args.seeds);
    let mut total = Total::default();
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = Work {
        engine,
        seeds: args.seeds.clone(),
        threads: args.threads.map_or_else(cores, usize::from),
        deadline: args.minutes.and_then(|minutes| began.checked_add(minutes)),
        until_failure: false,
    };
    work(&seeds, interrupt, |done| {
        if let Some(failure) = &done.failure {
            bar.println(format!("seed {} fails: {failure}", done.seed));
        }
        total.add(done);
        bar.set_position(total.seeds);
        let (hours, rate, failures) = (total.hours(), total.rate(began.elapsed()), total.failures.len());
        bar.set_message(format!("{hours:.2} simulated hours, {rate:.1} a minute, {failures} failures"));
    });
    bar.finish_and_clear();
    let took = began.elapsed();

    let mut out = total.tables(&(engine.marks)());
    for (seed, failure) in total.failures.iter().take(FAILURES_TOLD) {
        let _ = writeln!(out, "\nseed {seed} fails: {failure}\n  replay it: {COMMAND} replay --seed {seed}");
    }
    if let Some(more) = total.failures.len().checked_sub(FAILURES_TOLD + 1) {
        let _ = writeln!(out, "\n... and {} more seeds", more + 1);
    }
    if args.minimize {
        out += &minimized(args, engine, &total, interrupt);
    }
    if interrupt.is_set() {
        out += "\nstopped by Ctrl-C\n";
    }
    let _ = write!(out, "\n{}", total.last_line(took));
    (total, out)
}

/// A bar where somebody looks at standard error, and nothing elsewhere.
fn bar(seeds: &Range<u64>) -> ProgressBar {
    let (bar, template) = match seeds.end {
        u64::MAX => (ProgressBar::no_length(), "{spinner} {pos} seeds in {elapsed}: {msg}"),
        end => (ProgressBar::new(end - seeds.start), "{bar:30} {pos}/{len} seeds, {eta} left: {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Shrinks the first failure of each rule.
fn minimized(args: &Args, engine: Engine, total: &Total, interrupt: &Interrupt) -> String {
    let mut out = String::new();
    let mut rules = BTreeSet::new();
    for (seed, failure) in &total.failures {
        if interrupt.is_set() || !rules.insert(failure.rule) {
            continue;
        }
        // A seed of which there is no plan cannot shrink.
        let Ok(plan) = engine.plan(*seed) else { continue };
        let faults = plan.faults.len();
        let small = shrunk(args, engine, plan, failure, interrupt);
        let _ = writeln!(out, "\nseed {seed} shrunk from {faults} faults to {}:", small.faults.len());
        for timed in &small.faults {
            let lasts = timed.fault.lasts().map(|lasts| format!(" for {lasts} s")).unwrap_or_default();
            let _ = writeln!(out, "  {} s: {}{lasts}", timed.at, timed.fault);
        }
        let file = args.save.join(format!("{}-{seed}.json", slug(failure.rule)));
        let _ = match save(&small, &file) {
            Ok(()) => writeln!(out, "  replay it: {COMMAND} replay --plan {}", shown(&file).display()),
            Err(error) => writeln!(out, "  it could not be saved as {}: {error}", file.display()),
        };
    }
    out
}

/// The plan that is left; after an interrupt the smallest so far.
fn shrunk(args: &Args, engine: Engine, plan: Plan, failure: &Failure, interrupt: &Interrupt) -> Plan {
    let template = "{bar:30} {pos}/{len} runs to shrink seed {prefix}: {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(u64::try_from(args.budget).unwrap_or(u64::MAX)).with_style(style);
    bar.set_prefix(plan.seed.to_string());
    let breaks_the_same = |plan: &Plan| {
        !interrupt.is_set() && engine.run(plan.clone(), false).failure.is_some_and(|other| other.rule == failure.rule)
    };
    let small = minimize(plan, breaks_the_same, args.budget, |progress| {
        bar.inc(1);
        bar.set_message(format!("{} faults left", progress.faults));
    });
    bar.finish_and_clear();
    small
}

/// Writes a plan for people too.
pub(crate) fn save(plan: &Plan, file: &Path) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut text = serde_json::to_string_pretty(plan)?;
    text.push('\n');
    std::fs::write(file, text)
}

/// A rule as a part of a file's name.
fn slug(rule: &str) -> String {
    let plain = rule.to_lowercase().replace(|char: char| !char.is_ascii_alphanumeric(), " ");
    plain.split_whitespace().collect::<Vec<_>>().join("-")
}

/// A path as short as it can be from here.
fn shown(file: &Path) -> &Path {
    std::env::current_dir().ok().and_then(|here| file.strip_prefix(here).ok()).unwrap_or(file)
}

/// How a newcomer starts this command.
const COMMAND: &str = "cargo run --release -p raft-sim --";
/// The same in a build that counts marks.
const COUNTING: &str = "cargo run --release -p raft-sim --features marks --";
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions");
/// More failing seeds than that are counted only.
const FAILURES_TOLD: usize = 20;
