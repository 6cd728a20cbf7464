//! What an entry costs a server as its log grows: a `Replica` over a `BlockLog` on files, which leads alone.
//!
//! 256 commands are handed to it at once, each to be an entry of its own; when all are answered, the next ones. So a write
//! and a sync have 256 entries. A command puts 32 bytes under one of a thousand keys: the state stays as it is, the log grows.

use std::path::Path;
use std::time::Instant;

use raft_benches::figures::{bar, quantile, thread_time};
use raft_benches::material::{CLIENT, Draws, key, put};
use raft_benches::plot::{Axis, Line, Plot};
use raft_benches::served::Served;
use raft_core::{Config, Limits, NodeId, Outcome, RequestId};
use serde_json::json;

use crate::Args;

/// In the files, at most.
pub(crate) const BYTES_AN_ENTRY: u64 = 200;

const BATCH: u64 = 256;
const KEYS: u64 = 1000;
const VALUE_BYTES: usize = 32;

/// What entries cost until the log had so many, since it had those of the point before.
pub(crate) struct Point {
    entries: u64,
    /// Of the server's own thread.
    cpu_ns: f64,
    wall_ns: f64,
    /// The same of the batch in the middle: without what happens seldom.
    median_wall_ns: f64,
}

/// Four in each power of ten, from ten thousand on; and the one before, until which the server warms up.
fn goals(entries: u64) -> Vec<u64> {
    const IN_A_DECADE: f64 = 4.0;
    let goal = |step: i32| (1e4 * 10_f64.powf(f64::from(step) / IN_A_DECADE)).round() as u64;
    (-1..).map(goal).take_while(|goal| *goal < entries).chain([entries]).collect()
}

pub(crate) fn measure(args: &Args, dir: &Path) -> Result<Vec<Point>, String> {
    let snapshot_every_bytes = args.snapshot_mib.map(|mib| usize::from(mib) << 20);
    let limits = Limits { max_batch_bytes: 1, snapshot_every_bytes, ..Limits::default() };
    let mut served = Served::new(dir, Config::new(NodeId(1)), limits).map_err(|error| error.to_string())?;
    let session = served.open_session(CLIENT);
    let (mut draws, mut number) = (Draws::new(), 0);
    let bar = bar("the log grows", args.entries);
    let mut points = Vec::new();
    let mut before = 0;
    for goal in goals(args.entries) {
        let (mut cpu_ns, mut walls) = (0.0, Vec::new());
        while served.replica.status().last_index.0 < goal {
            let command = |number| put(session, number, key(draws.below(KEYS)), VALUE_BYTES);
            let commands: Vec<Vec<u8>> = (number + 1..=number + BATCH).map(command).collect();
            number += BATCH;
            let (began, cpu) = (Instant::now(), thread_time());
            answered(&mut served, &commands)?;
            cpu_ns += (thread_time() - cpu).as_nanos() as f64;
            walls.push(began.elapsed().as_nanos() as f64 / BATCH as f64);
            bar.inc(BATCH);
        }
        let batches = walls.len() as f64;
        let wall_ns = walls.iter().sum::<f64>() / batches;
        walls.sort_by(f64::total_cmp);
        let cpu_ns = cpu_ns / batches / BATCH as f64;
        if before > 0 {
            points.push(Point { entries: goal, cpu_ns, wall_ns, median_wall_ns: quantile(&walls, 500) });
        }
        before = goal;
    }
    bar.finish_and_clear();
    Ok(points)
}

/// Hands these to the server, until it has answered all of them.
fn answered(served: &mut Served, commands: &[Vec<u8>]) -> Result<(), String> {
    for command in commands {
        served.replica.submit(RequestId(0), command);
    }
    let mut waiting = commands.len();
    loop {
        served.turn();
        while let Some(reply) = served.replica.next_reply() {
            if !matches!(reply.outcome, Outcome::Applied { .. }) {
                return Err(format!("a command was not applied: {:?}", reply.outcome));
            }
            waiting -= 1;
        }
        if waiting == 0 {
            return Ok(());
        }
        served.wait();
    }
}

fn snapshots(args: &Args) -> String {
    args.snapshot_mib.map_or_else(
        || String::from("no snapshots: nothing is given back"),
        |mib| format!("a snapshot after each {mib} MiB"),
    )
}

pub(crate) fn table(args: &Args, points: &[Point]) -> String {
    let mut out = format!(
        "An entry, as the log grows; {BATCH} entries a write; {}\n\n\
         | entries | CPU ns of the server's thread | wall ns | wall ns, median batch |\n|---|---|---|---|\n",
        snapshots(args)
    );
    for Point { entries, cpu_ns, wall_ns, median_wall_ns } in points {
        out += &format!("| {entries} | {cpu_ns:.0} | {wall_ns:.0} | {median_wall_ns:.0} |\n");
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let (cpu, wall) = (last.cpu_ns / first.cpu_ns, last.median_wall_ns / first.median_wall_ns);
        out += &format!("\nat the end against the beginning: CPU {cpu:.2}x, wall {wall:.2}x (median batches)\n\n");
    }
    out
}

pub(crate) fn plot(args: &Args, points: &[Point]) -> String {
    let line = |name: &str, y: fn(&Point) -> f64| Line {
        name: name.into(),
        points: points.iter().map(|point| (point.entries as f64, y(point))).collect(),
        is_reference: false,
    };
    Plot {
        title: format!("An entry, as the log grows ({})", snapshots(args)),
        x: Axis { label: "entries in the log".into(), is_log: true },
        y: "ns an entry".into(),
        lines: vec![
            line("CPU of the server's thread", |point| point.cpu_ns),
            line("wall, median batch", |point| point.median_wall_ns),
        ],
    }
    .svg()
}

impl Point {
    pub(crate) fn json(&self) -> serde_json::Value {
        let Self { entries, cpu_ns, wall_ns, median_wall_ns } = self;
        json!({"entries": entries, "cpu_ns": cpu_ns, "wall_ns": wall_ns, "median_wall_ns": median_wall_ns})
    }
}
