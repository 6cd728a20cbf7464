//! Crashes: at every point of a script, and here and there in random lives.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use rand::RngExt;

use super::life::Life;
use super::model::{Op, State, Writer};
use super::storage::{REFUSALS, found, refuse, writer};
use super::{Clause, StorageHarness, Violation};
use crate::types::{LogIndex, Term};

type Step = Box<dyn Fn(&mut Writer, &State) -> Op>;

/// Votes, appends and truncations, and entries that take the place of others of their index (ABA).
fn votes_and_entries() -> Vec<Step> {
    Vec::from([
        Box::new(|writer, state| writer.vote(state, 1)),
        Box::new(|writer, state| writer.append(state, 3)),
        Box::new(|writer, state| writer.append(state, 1)),
        Box::new(|writer, state| writer.vote(state, 1)),
        Box::new(|_, _| Op::Truncate(LogIndex(3))),
        Box::new(|writer, state| writer.append(state, 2)),
        Box::new(|_, _| Op::Truncate(LogIndex(3))),
        Box::new(|writer, state| writer.append(state, 2)),
        Box::new(|writer, state| writer.vote(state, 0)),
        Box::new(|_, _| Op::Truncate(LogIndex(1))),
        Box::new(|writer, state| writer.append(state, 2)),
    ] as [Step; 11])
}

/// A snapshot of an entry that the log holds, with a tail; one that is given up; one in place of the log.
fn snapshots() -> Vec<Step> {
    Vec::from([
        Box::new(|writer, state| writer.vote(state, 1)),
        Box::new(|writer, state| writer.append(state, 3)),
        Box::new(|writer, state| writer.begin(state, LogIndex(2), Some(40))),
        Box::new(|writer, state| writer.go_on(state)),
        Box::new(|_, _| Op::Install { index: LogIndex(2), keep_from: Some(LogIndex(2)) }),
        Box::new(|writer, state| writer.append(state, 1)),
        Box::new(|writer, state| writer.begin(state, LogIndex(3), Some(10))),
        Box::new(|writer, state| writer.begin(state, LogIndex(9), None)),
        Box::new(|_, _| Op::Install { index: LogIndex(9), keep_from: None }),
        Box::new(|writer, state| writer.append(state, 2)),
    ] as [Step; 10])
}

/// Crash points that are tried of one place in the script: where at most one write is unreported, and elsewhere.
const POINTS_OF_ONE_WRITE: u64 = 400;
const POINTS_OF_MANY: u64 = 12;

/// Contracts 2 and 3: the script is stopped after each step, with any number of its steps reported.
pub(super) fn check_scripts<H: StorageHarness>(harness: &mut H) -> Result<(), Violation> {
    for script in [votes_and_entries, snapshots] {
        check_script(harness, script)?;
    }
    Ok(())
}

fn check_script<H: StorageHarness>(harness: &mut H, script: fn() -> Vec<Step>) -> Result<(), Violation> {
    let steps = script().len();
    for begun in 0..=steps {
        for settled in 0..=begun {
            let one = begun.saturating_sub(settled) <= 1;
            let most = if one { POINTS_OF_ONE_WRITE } else { POINTS_OF_MANY };
            let mut at = 0;
            while let Some(points) = crash_script(harness, script, (settled, begun), at)? {
                // Odd, so that no kind of point is passed over where a harness has them in turn.
                let stride = points.div_ceil(most) | 1;
                let last = points.saturating_sub(1);
                if at >= last {
                    break;
                }
                at = at.saturating_add(stride).min(last);
            }
        }
    }
    Ok(())
}

/// Answers how many crash points there were; `None` where there are none.
fn crash_script<H: StorageHarness>(
    harness: &mut H,
    script: fn() -> Vec<Step>,
    (settled, begun): (usize, usize),
    point: u64,
) -> Result<Option<u64>, Violation> {
    let name = || format!("script, {settled} steps reported of {begun}, crash point {point}");
    let mut life = found(harness).map_err(|found| found.during(name))?;
    let mut writer = writer(2);
    let mut run = || {
        for (step, op) in (1..=begun).zip(script()) {
            life.write(&op(&mut writer, &life.now))?;
            if step == settled {
                life.settle()?;
            }
        }
        life.poll()
    };
    let ran = run();
    ran.map_err(|found| found.during(|| format!("{}: {}", name(), life.trace())))?;
    let points = life.harness.crash_points(&life.storage);
    if point >= points {
        return Ok(None);
    }
    let named = |found: Violation| Violation { run: format!("{}: {}", name(), found.run), ..found };
    let life = life.crash(point).map_err(named)?;
    survive(life, &mut writer).map_err(named)?;
    Ok(Some(points))
}

/// What an opened storage holds is durable, and so is what is written and reported after.
fn survive<'h, H: StorageHarness>(life: Life<'h, H>, writer: &mut Writer) -> Result<Life<'h, H>, Violation> {
    let mut life = life.crash(0).map_err(|found| Violation { clause: Clause::NewLife, ..found })?;
    let op = writer.append(&life.now, 2);
    let written = life.write(&op).and_then(|()| life.settle()).and_then(|()| life.check_reads());
    written.map_err(|found| found.during(|| life.trace()))?;
    life.crash(0)
}

/// How many steps a random life has.
const STEPS: u32 = 60;

pub(super) fn check_random<H: StorageHarness>(harness: &mut H, seed: u64) -> Result<(), Violation> {
    let name = || format!("seed {seed}");
    let mut life = found(harness).map_err(|found| found.during(name))?;
    let mut writer = writer(seed);
    for _ in 0..STEPS {
        let stepped = step(&mut life, &mut writer);
        stepped.map_err(|found| found.during(|| format!("{}: {}", name(), life.trace())))?;
        let points = life.harness.crash_points(&life.storage);
        if points > 0 && writer.rng.random_ratio(1, 20) {
            let point = writer.rng.random_range(0..points);
            let named = |found: Violation| Violation { run: format!("{}: {}", name(), found.run), ..found };
            life = life.crash(point).map_err(named)?;
        }
    }
    let ended = life.settle().and_then(|()| life.check_reads());
    ended.map_err(|found| found.during(|| format!("{}: {}", name(), life.trace())))
}

fn step<H: StorageHarness>(life: &mut Life<'_, H>, writer: &mut Writer) -> Result<(), Violation> {
    let now = life.now.clone();
    match writer.rng.random_range(0..100) {
        0..35 => {
            let count = writer.rng.random_range(1..4);
            life.write(&writer.append(&now, count))
        }
        35..50 => {
            let by = writer.rng.random_range(0..3);
            life.write(&writer.vote(&now, by))
        }
        50..57 => writer.truncate(&now).map_or(Ok(()), |op| life.write(&op)),
        // ABA: an entry, gone, and another of a later term in its place.
        57..60 if now.hard_state.current_term > Term(0) => {
            life.write(&writer.append(&now, 1))?;
            life.write(&Op::Truncate(now.last_index().next()))?;
            life.write(&writer.vote(&now, 1))?;
            life.write(&writer.append(&life.now, 1))
        }
        60..72 => {
            let op = writer.receive_or_install(&now);
            op.map_or(Ok(()), |op| life.write(&op))
        }
        72..80 => life.poll(),
        80..88 => life.advance(),
        88..92 => life.check_reads(),
        92..96 => {
            let kind = writer.rng.random_range(0..REFUSALS);
            refuse(life, writer, kind)
        }
        _ => {
            life.settle()?;
            life.check_reads()?;
            let (first, last) = (now.first_index(), now.last_index());
            if first <= last {
                let from = writer.rng.random_range(first.0..=last.0);
                life.check_range(LogIndex(from), LogIndex(writer.rng.random_range(from..=last.0)))?;
            }
            Ok(())
        }
    }
}
