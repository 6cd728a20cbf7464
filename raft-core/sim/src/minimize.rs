//! Delta debugging: the smallest plan that still fails.

use std::collections::BTreeSet;

use crate::plan::{Fault, Limits, Plan, Shape, Target, Timed};
use crate::time::Time;

/// How far [`minimize`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs so far.
    pub runs: usize,
    /// Faults that are left.
    pub faults: usize,
}

/// A plan as small as possible that still fails: fewer faults, a plainer world, milder faults. Runs `fails` at most
/// `budget` times; it says whether a plan fails in the same way and is fair, and a plan of which it does not say so is
/// never returned, but for the first. `progress` hears of each run.
///
/// If the budget suffices, no single fault can be left out of the result.
#[must_use]
pub fn minimize(plan: Plan, fails: impl FnMut(&Plan) -> bool, budget: usize, progress: impl FnMut(Progress)) -> Plan {
    let mut search = Search { plan, fails, progress, tried: BTreeSet::new(), runs: 0, budget };
    loop {
        let before = search.plan.clone();
        search.fewer_faults();
        search.plainer_world();
        search.milder_faults();
        search.shorter_run();
        if search.plan == before || search.is_spent() {
            return search.plan;
        }
    }
}

struct Search<F, P> {
    /// The smallest plan so far. Invariant: it fails, or it is the first.
    plan: Plan,
    fails: F,
    progress: P,
    /// Plans that do not fail, as text: no need to run them again.
    tried: BTreeSet<String>,
    runs: usize,
    budget: usize,
}

impl<F: FnMut(&Plan) -> bool, P: FnMut(Progress)> Search<F, P> {
    const fn is_spent(&self) -> bool {
        self.runs >= self.budget
    }

    /// Keeps the smaller plan if it fails too.
    fn keeps(&mut self, smaller: Plan) -> bool {
        let text = serde_json::to_string(&smaller).unwrap_or_default();
        if self.is_spent() || smaller == self.plan || self.tried.contains(&text) {
            return false;
        }
        self.runs += 1;
        let fails = (self.fails)(&smaller);
        if fails {
            self.plan = smaller;
        } else {
            self.tried.insert(text);
        }
        (self.progress)(Progress { runs: self.runs, faults: self.plan.faults.len() });
        fails
    }

    /// ddmin by complements: leaves out stretches of faults, half as long each time that none can be left out, until no
    /// single fault can be.
    fn fewer_faults(&mut self) {
        let mut length = self.plan.faults.len();
        while length > 0 && !self.is_spent() {
            if !self.leaves_out(length) {
                length = if length == 1 { 0 } else { length.div_ceil(2) };
            }
            length = length.min(self.plan.faults.len());
        }
    }

    /// Leaves out each stretch of so many faults that is not needed; whether there was one.
    fn leaves_out(&mut self, length: usize) -> bool {
        let mut left_out = false;
        let mut start = 0;
        while start < self.plan.faults.len() && !self.is_spent() {
            let mut smaller = self.plan.clone();
            let end = start.saturating_add(length).min(smaller.faults.len());
            smaller.faults.drain(start..end);
            if self.keeps(smaller) {
                left_out = true;
            } else {
                start = end;
            }
        }
        left_out
    }

    /// Simplifies the shape, one field at a time.
    fn plainer_world(&mut self) {
        for plainer in PLAINER {
            let mut smaller = self.plan.clone();
            plainer(&mut smaller.shape);
            let _ = self.keeps(smaller);
        }
        self.shrinks_field(1, |plan| u64::from(plan.shape.clients), |plan, value| plan.shape.clients = narrow(value));
        self.fewer_servers();
    }

    /// One founding voter less as long as no fault names it; the others move up. One whose state is altered is not left as
    /// the only voter: that state would be the majority's, and what comes of it is no failure of the servers.
    fn fewer_servers(&mut self) {
        let alters = |timed: &Timed| matches!(timed.fault, Fault::AlteredState { .. });
        let least = if self.plan.faults.iter().any(alters) { 2 } else { 1 };
        while self.plan.shape.voters > least {
            let mut smaller = self.plan.clone();
            let last = smaller.shape.voters + smaller.shape.others;
            if smaller.faults.iter().any(|timed| names(&timed.fault, last)) {
                return;
            }
            smaller.shape.voters -= 1;
            if !self.keeps(smaller) {
                return;
            }
        }
    }

    /// Ends the run at the last fault, if that suffices, or as soon as it still fails.
    fn shorter_run(&mut self) {
        let set = |plan: &mut Plan, value| plan.shape.duration = Time(value);
        let last = self.plan.faults.iter().map(end).max().unwrap_or(Time::ZERO);
        let mut smaller = self.plan.clone();
        smaller.shape.duration = smaller.shape.duration.min(last);
        let _ = self.keeps(smaller);
        self.shrinks_field(0, |plan| plan.shape.duration.0, set);
    }

    /// Each fault as early, as short, as slight and as plain as it can be.
    fn milder_faults(&mut self) {
        for at in 0..self.plan.faults.len() {
            self.shrinks_field(0, |plan| gap(plan, at), |plan, value| set_gap(plan, at, value));
            self.shrinks_field(0, |plan| lasts(plan, at), |plan, value| set_lasts(plan, at, value));
            self.shrinks_field(LEAST_STRENGTH, |plan| strength(plan, at), |plan, value| set_strength(plan, at, value));
            let Some(Timed { fault, .. }) = self.plan.faults.get(at) else { return };
            for plainer in plainer(fault) {
                let mut smaller = self.plan.clone();
                if let Some(timed) = smaller.faults.get_mut(at) {
                    timed.fault = plainer;
                }
                let _ = self.keeps(smaller);
            }
        }
    }

    /// The lowest value from `least` on that bisection finds, to one part in eight: closer is not worth the runs.
    fn shrinks_field(&mut self, least: u64, value: impl Fn(&Plan) -> u64, set: impl Fn(&mut Plan, u64)) {
        let with = |plan: &Plan, value| {
            let mut plan = plan.clone();
            set(&mut plan, value);
            plan
        };
        if value(&self.plan) <= least || self.keeps(with(&self.plan, least)) {
            return;
        }
        // Invariant: it fails with the present value, and `low` was not enough.
        let mut low = least;
        loop {
            let high = value(&self.plan);
            let middle = low + (high.saturating_sub(low)) / 2;
            if middle <= low || high - low <= high / 8 || self.is_spent() {
                return;
            }
            if !self.keeps(with(&self.plan, middle)) {
                low = middle;
            }
        }
    }
}

/// What makes a world plainer, a field each.
const PLAINER: [fn(&mut Shape); 22] = [
    |shape| shape.others = 0,
    |shape| shape.network.loss = 0,
    |shape| shape.network.duplication = 0,
    |shape| shape.network.late = 0,
    |shape| shape.network.late_max = Time::ZERO,
    |shape| shape.network.in_order = true,
    |shape| shape.network.capacity = None,
    |shape| shape.network.latency_mean = shape.network.latency_mean.min(Time::millis(1)),
    |shape| shape.network.latency_min = shape.network.latency_min.min(Time::millis(1)),
    |shape| shape.disk.sync_mean = shape.disk.sync_mean.min(Time::millis(1)),
    |shape| shape.disk.sync_min = shape.disk.sync_min.min(Time::millis(1)),
    |shape| shape.turn = Time::ZERO,
    |shape| shape.limits = Limits::default(),
    |shape| shape.limits.max_append_bytes = Limits::default().max_append_bytes,
    |shape| shape.limits.max_inflight = Limits::default().max_inflight,
    |shape| shape.limits.max_uncommitted_bytes = Limits::default().max_uncommitted_bytes,
    |shape| shape.limits.max_apply_bytes = Limits::default().max_apply_bytes,
    |shape| shape.limits.window_bytes = Limits::default().window_bytes,
    |shape| shape.limits.max_chunk_bytes = Limits::default().max_chunk_bytes,
    |shape| shape.limits.tail_entries = Limits::default().tail_entries,
    |shape| shape.limits.max_batch_bytes = Limits::default().max_batch_bytes,
    |shape| shape.limits.snapshot_every_bytes = None,
];

/// When a fault ends.
fn end(timed: &Timed) -> Time {
    timed.at + timed.fault.lasts().unwrap_or(Time::ZERO)
}

fn lasts(plan: &Plan, at: usize) -> u64 {
    plan.faults.get(at).and_then(|timed| timed.fault.lasts()).map_or(0, |lasts| lasts.0)
}

fn set_lasts(plan: &mut Plan, at: usize, value: u64) {
    if let Some(lasts) = plan.faults.get_mut(at).and_then(|timed| timed.fault.lasts_mut()) {
        *lasts = Time(value);
    }
}

/// How long after the fault before it this one begins.
fn gap(plan: &Plan, at: usize) -> u64 {
    let begins = |at: usize| plan.faults.get(at).map_or(Time::ZERO, |timed| timed.at);
    let before = at.checked_sub(1).map_or(Time::ZERO, begins);
    (begins(at) - before).0
}

/// Moves this fault and all after it.
fn set_gap(plan: &mut Plan, at: usize, value: u64) {
    let less = Time(gap(plan, at).saturating_sub(value));
    for timed in plan.faults.iter_mut().skip(at) {
        timed.at = timed.at - less;
    }
}

/// How much of it there is, where that can be counted.
fn strength(plan: &Plan, at: usize) -> u64 {
    match plan.faults.get(at).map(|timed| &timed.fault) {
        Some(Fault::CrashAtWrite { writes: count, .. } | Fault::Jump { ticks: count, .. }) => u64::from(*count),
        Some(Fault::SlowDisk { factor: count, .. }) => u64::from(*count),
        _ => 0,
    }
}

fn set_strength(plan: &mut Plan, at: usize, value: u64) {
    if let Some(
        Fault::CrashAtWrite { writes: count, .. }
        | Fault::Jump { ticks: count, .. }
        | Fault::SlowDisk { factor: count, .. },
    ) = plan.faults.get_mut(at).map(|timed| &mut timed.fault)
    {
        *count = narrow(value);
    }
}

/// The same fault in plainer forms.
fn plainer(fault: &Fault) -> Vec<Fault> {
    match fault {
        Fault::CrashAtWrite { target, down, .. } => vec![Fault::Crash { target: *target, down: *down }],
        Fault::Drift { target, lasts, .. } => vec![Fault::Pause { target: *target, lasts: *lasts }],
        Fault::LostFiles { target, down, torn: true } => {
            vec![Fault::LostFiles { target: *target, down: *down, torn: false }]
        }
        Fault::BitRot { target, down }
        | Fault::LostFiles { target, down, torn: false }
        | Fault::FailedWrite { target, down } => {
            vec![Fault::Crash { target: *target, down: *down }]
        }
        Fault::NextSnapshot { target } => vec![Fault::Snapshot { target: *target }],
        Fault::OneWay { target, lasts, .. } => vec![Fault::Isolate { target: *target, lasts: *lasts }],
        Fault::Membership { voters, learners, catch_up: true } => {
            vec![Fault::Membership { voters: voters.clone(), learners: learners.clone(), catch_up: false }]
        }
        _ => Vec::new(),
    }
}

/// Whether the fault speaks of this server.
fn names(fault: &Fault, server: u32) -> bool {
    match fault {
        Fault::Crash { target, .. }
        | Fault::CrashAtWrite { target, .. }
        | Fault::Pause { target, .. }
        | Fault::Drift { target, .. }
        | Fault::Jump { target, .. }
        | Fault::AlteredState { target }
        | Fault::Isolate { target, .. }
        | Fault::OneWay { target, .. }
        | Fault::SlowDisk { target, .. }
        | Fault::StuckDisk { target, .. }
        | Fault::FailedWrite { target, .. }
        | Fault::FailedReads { target, .. }
        | Fault::FullDisk { target, .. }
        | Fault::BitRot { target, .. }
        | Fault::LostFiles { target, .. }
        | Fault::Snapshot { target }
        | Fault::NextSnapshot { target } => *target == Target::Server(server),
        Fault::Partition { sides, .. } => sides.iter().any(|side| side.contains(&server)),
        Fault::Clog { from, to, .. } | Fault::Detour { from, to, .. } => *from == server || *to == server,
        Fault::Membership { voters, learners, .. } => voters.contains(&server) || learners.contains(&server),
        Fault::Transfer { to } => *to == server,
        Fault::Chain { .. } | Fault::HandOver => false,
    }
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A disk that is once as slow is not slow; a crash at the first write or the second makes no difference to a reader.
const LEAST_STRENGTH: u64 = 2;

#[cfg(test)]
mod tests;
