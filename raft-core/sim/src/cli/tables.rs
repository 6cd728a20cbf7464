//! What many runs came to, in tables and one line.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use raft_sim::{Failure, Time};

use super::workers::Done;

/// The sum of runs: the same for the same seeds, in whatever order they ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    pub(crate) simulated: Time,
    pub(crate) failures: BTreeMap<u64, Failure>,
    faults: BTreeMap<&'static str, u64>,
    steps: u64,
    operations: u64,
    committed: u64,
    fingerprint: u64,
}

impl Total {
    pub(crate) fn add(&mut self, done: Done) {
        self.seeds += 1;
        self.simulated = self.simulated + done.simulated;
        for (kind, count) in done.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.steps += done.steps;
        self.operations += done.operations;
        self.committed += done.committed;
        // A sum, so that the order does not matter; the seed is in it, so that two runs cannot change places.
        let mixed = done.fingerprint.rotate_left(23) ^ done.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.fingerprint = self.fingerprint.wrapping_add(mixed.wrapping_mul(0xff51_afd7_ed55_8ccd));
        self.failures.extend(done.failure.map(|failure| (done.seed, failure)));
    }

    pub(crate) fn hours(&self) -> f64 {
        self.simulated.as_secs_f64() / 3600.0
    }

    /// Simulated hours in a minute by the clock on the wall.
    pub(crate) fn rate(&self, took: Duration) -> f64 {
        self.hours() / (took.as_secs_f64() / 60.0).max(1e-9)
    }

    pub(crate) fn tables(&self, marks: &[(&str, u64)]) -> String {
        let mut out = table("faults", self.faults.iter().map(|(kind, count)| (*kind, *count)));
        out += &table("coverage marks", marks.iter().copied());
        let Self { steps, operations, committed, fingerprint, .. } = self;
        let _ = writeln!(
            out,
            "{steps} steps, {operations} operations ended, {committed} entries committed, fingerprint {fingerprint:016x}"
        );
        out
    }

    /// The last line of `run`.
    pub(crate) fn last_line(&self, took: Duration) -> LastLine<'_> {
        LastLine { total: self, took }
    }
}

/// See [`Total::last_line`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastLine<'a> {
    total: &'a Total,
    took: Duration,
}

impl fmt::Display for LastLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, took } = self;
        write!(
            f,
            "sim: {} seeds, {:.2} simulated hours, {:.1} s, {:.1} simulated hours/min, {} faults, {} failures",
            total.seeds,
            total.hours(),
            took.as_secs_f64(),
            total.rate(*took),
            total.faults.values().sum::<u64>(),
            total.failures.len()
        )
    }
}

fn table<'a>(title: &str, rows: impl Iterator<Item = (&'a str, u64)>) -> String {
    let rows: Vec<_> = rows.collect();
    let Some(names) = rows.iter().map(|(name, _)| name.chars().count()).max() else { return String::new() };
    let mut out = format!("{title}\n");
    for (name, count) in rows {
        let _ = writeln!(out, "  {name:<names$}  {count:>10}");
    }
    out.push('\n');
    out
}
