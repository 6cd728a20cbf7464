//! What an entry costs all replicas together: in memory, in one thread, with as many of them as there are.

use raft_benches::figures::{bar, median, thread_time};
use raft_benches::group::Group;
use raft_benches::plot::{Axis, Line, Plot};
use serde_json::json;

/// Entries of 256 bytes with so many replicas, as many at once as the batch says.
pub(crate) struct Row {
    replicas: u32,
    batch: usize,
    /// Of this thread, an entry: the median of the passes.
    ns: f64,
}

const REPLICAS: std::ops::RangeInclusive<u32> = 3..=7;
const BATCHES: [usize; 2] = [1, 64];
const BYTES: usize = 256;

/// Each pass has all groups in turn.
pub(crate) fn measure(passes: u16) -> Vec<Row> {
    let cells: Vec<_> = BATCHES.iter().flat_map(|batch| REPLICAS.map(|replicas| (replicas, *batch))).collect();
    let mut groups: Vec<_> = cells.iter().map(|(replicas, _)| Group::new(*replicas)).collect();
    let mut times = vec![Vec::new(); cells.len()];
    let bar = bar("replicas are added", passes.into());
    for pass in 0..=passes {
        for ((group, (_, batch)), times) in groups.iter_mut().zip(&cells).zip(&mut times) {
            // So many that the rounds that fill and empty the pipeline do not weigh.
            let entries = 4096 * if *batch > 1 { 8 } else { 1 };
            let began = thread_time();
            group.commit(entries, *batch, BYTES);
            let took = (thread_time() - began).as_nanos() as f64 / entries as f64;
            // The first pass warms up.
            if pass > 0 {
                times.push(took);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let row = |((replicas, batch), times)| Row { replicas, batch, ns: median(times) };
    cells.into_iter().zip(times).map(row).collect()
}

/// How often a row costs what the fewest replicas cost.
fn ratio(rows: &[Row], row: &Row) -> f64 {
    let first = rows.iter().find(|first| first.batch == row.batch && first.replicas == *REPLICAS.start());
    first.map_or(1.0, |first| row.ns / first.ns)
}

pub(crate) fn table(rows: &[Row]) -> String {
    let fewest = REPLICAS.start();
    let mut out = format!(
        "An entry of {BYTES} B in memory, all replicas together\n\n\
         | replicas | batch | CPU ns | against {fewest} | linear |\n|---|---|---|---|---|\n"
    );
    for row in rows {
        let linear = f64::from(row.replicas) / f64::from(*fewest);
        out += &format!(
            "| {} | {} | {:.0} | {:.2}x | {linear:.2}x |\n",
            row.replicas,
            row.batch,
            row.ns,
            ratio(rows, row)
        );
    }
    out + "\n"
}

pub(crate) fn plot(rows: &[Row]) -> String {
    let measured = BATCHES.map(|batch| Line {
        name: format!("batch {batch}"),
        points: rows
            .iter()
            .filter(|row| row.batch == batch)
            .map(|row| (f64::from(row.replicas), ratio(rows, row)))
            .collect(),
        is_reference: false,
    });
    let fewest = f64::from(*REPLICAS.start());
    let linear = Line {
        name: "linear in replicas".into(),
        points: REPLICAS.map(|replicas| (f64::from(replicas), f64::from(replicas) / fewest)).collect(),
        is_reference: true,
    };
    Plot {
        title: "An entry, as replicas are added (in memory, all replicas together)".into(),
        x: Axis { label: "replicas".into(), is_log: false },
        y: format!("CPU time, {fewest} replicas = 1"),
        lines: measured.into_iter().chain([linear]).collect(),
    }
    .svg()
}

impl Row {
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({"replicas": self.replicas, "batch": self.batch, "cpu_ns": self.ns})
    }
}
