//! What an operation costs as the log grows and as replicas are added, and how long a long log takes to open.
//!
//! `cargo run --release -p raft-benches --example growth`
//!
//! It prints tables and writes `docs/plots/growth-log.svg` and `docs/plots/growth-replicas.svg`. Times of a thread are its CPU
//! time, so that they depend little on what else the machine does; wall times depend on it a lot.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use raft_benches::figures::{end, write};
use serde_json::json;

mod log;
mod replicas;
mod start;

/// Measures what an operation costs as the log grows and as replicas are added, and how long a long log takes to open.
#[derive(Parser)]
#[command(name = "growth", version)]
struct Args {
    /// What is measured
    #[arg(long, value_name = "WHAT,WHAT", value_delimiter = ',', default_value = "log,replicas,start")]
    only: Vec<What>,
    /// How far the log grows
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    entries: u64,
    /// Takes a snapshot after so many MiB of the log, which is then given back, as a server does; none, where this is not
    /// said
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u16).range(1..))]
    snapshot_mib: Option<u16>,
    /// Passes of each group of replicas
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    passes: u16,
    /// Blocks of the log that is opened
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// How often it is opened
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    opens: u16,
    /// Where the logs are, in a directory that is removed at the end: on a disk, or nothing is durable
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Where the plots go
    #[arg(long, value_name = "DIR", default_value = "docs/plots")]
    plots: PathBuf,
    /// Writes every figure there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The cost of an entry as the log grows
    Log,
    /// The cost of an entry as replicas are added
    Replicas,
    /// The time to open a log
    Start,
}

fn main() -> ExitCode {
    end("growth", run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), String> {
    let wants = |what| args.only.contains(&what);
    let mut figures = serde_json::Map::new();
    if wants(What::Log) {
        let points = in_directory(args, args.entries * log::BYTES_AN_ENTRY, |dir| log::measure(args, dir))?;
        print!("{}", log::table(args, &points));
        plot(args, "growth-log.svg", &log::plot(args, &points))?;
        figures.insert("log".into(), json!(points.iter().map(log::Point::json).collect::<Vec<_>>()));
    }
    if wants(What::Replicas) {
        let rows = replicas::measure(args.passes);
        print!("{}", replicas::table(&rows));
        plot(args, "growth-replicas.svg", &replicas::plot(&rows))?;
        figures.insert("replicas".into(), json!(rows.iter().map(replicas::Row::json).collect::<Vec<_>>()));
    }
    if wants(What::Start) {
        let start = in_directory(args, args.blocks * start::BYTES_A_BLOCK, |dir| start::measure(args, dir))?;
        print!("{}", start.text());
        figures.insert("start".into(), start.json());
    }
    write(args.json.as_deref(), &serde_json::Value::Object(figures).to_string())
}

/// Where there is room for so many bytes and two segments more; removed at the end.
fn in_directory<T>(args: &Args, bytes: u64, work: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    const SEGMENTS: u64 = 128 << 20;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}; --dir names another", args.dir.display());
    let free = rustix::fs::statvfs(&args.dir).map_err(|error| failed(&error))?;
    let (needed, free) = (bytes + SEGMENTS, free.f_bavail.saturating_mul(free.f_frsize));
    if free < needed {
        let mib = |bytes: u64| bytes >> 20;
        return Err(failed(&format!("{} MiB are free, and it takes {}", mib(free), mib(needed))));
    }
    let dir = tempfile::Builder::new().prefix("growth-").tempdir_in(&args.dir).map_err(|error| failed(&error))?;
    work(&dir.path().join("log"))
}

fn plot(args: &Args, file: &str, svg: &str) -> Result<(), String> {
    std::fs::create_dir_all(&args.plots).map_err(|error| format!("{}: {error}", args.plots.display()))?;
    write(Some(&args.plots.join(file)), svg)
}
