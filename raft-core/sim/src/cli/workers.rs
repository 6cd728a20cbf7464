//! Runs seeds on several threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use raft_sim::{Failure, Report, Time};

use super::engine::Engine;
use super::interrupt::Interrupt;

/// What is kept of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) seed: u64,
    pub(crate) simulated: Time,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) steps: u64,
    pub(crate) operations: u64,
    pub(crate) committed: u64,
    pub(crate) fingerprint: u64,
    pub(crate) failure: Option<Failure>,
}

impl Done {
    fn new(seed: u64, report: Report) -> Self {
        let Report { simulated, faults, steps, operations, committed, fingerprint, failure, .. } = report;
        Self { seed, simulated, faults, steps, operations, committed, fingerprint, failure }
    }
}

/// What runs, on how many threads, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) engine: Engine,
    pub(crate) seeds: Range<u64>,
    pub(crate) threads: usize,
    /// No seed begins after that.
    pub(crate) deadline: Option<Instant>,
    /// No seed begins after one has failed: those below it have all begun by then, and are waited for.
    pub(crate) until_failure: bool,
}

/// Hands out the seeds in order, and hears of each run as it ends. After an interrupt it waits for none that is under way.
pub(crate) fn work(work: &Work, interrupt: &Interrupt, mut hear: impl FnMut(Done)) {
    let next = Arc::new(AtomicU64::new(work.seeds.start));
    let ended = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = channel();
    for _ in 0..work.threads {
        let (work, next, ended) = (work.clone(), next.clone(), ended.clone());
        let (sender, interrupt) = (sender.clone(), interrupt.clone());
        std::thread::spawn(move || worker(&work, &next, &ended, &sender, &interrupt));
    }
    drop(sender);
    while !interrupt.is_set() {
        match receiver.recv_timeout(INTERRUPT_CHECK) {
            Ok(done) => hear(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
    receiver.try_iter().for_each(hear);
}

fn worker(work: &Work, next: &AtomicU64, ended: &AtomicBool, sender: &Sender<Done>, interrupt: &Interrupt) {
    let goes_on = || !interrupt.is_set() && !ended.load(Ordering::Relaxed);
    while goes_on() && work.deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !work.seeds.contains(&seed) {
            return;
        }
        let done = match work.engine.plan(seed) {
            Ok(plan) => Done::new(seed, work.engine.run(plan, false)),
            Err(failure) => Done { seed, failure: Some(failure), ..Done::default() },
        };
        if work.until_failure && done.failure.is_some() {
            ended.store(true, Ordering::Relaxed);
        }
        if sender.send(done).is_err() {
            return;
        }
    }
}

const INTERRUPT_CHECK: Duration = Duration::from_millis(100);
