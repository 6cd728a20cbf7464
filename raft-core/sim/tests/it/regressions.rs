//! Runs that must not break: those that once did, and fresh ones.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use raft_sim::plan::Plan;
use raft_sim::{Simulation, Time, story};

/// Plans that once broke a rule, as `run --minimize` and `replay --save` write them.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions");

/// Hashes of what [`Plan::draw`] gives, a line a seed.
const DRAWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/drawn.txt");

#[test]
fn what_once_broke_does_not_break_again() {
    let mut broken = String::new();
    for file in plans() {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let plan: Plan = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if let Some(failure) = Simulation::kv().run_plan(plan, false).failure {
            let (name, command) = (file.display(), "cargo run --release -p raft-sim -- replay --plan");
            let _ = writeln!(broken, "{name} breaks again: {failure}\n  replay it: {command} {name}");
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

/// Every file of the directory, by name. Nothing but plans may lie there.
fn plans() -> Vec<PathBuf> {
    let entries = fs::read_dir(REGRESSIONS).unwrap_or_else(|error| panic!("{REGRESSIONS}: {error}"));
    let paths = entries.map(|entry| entry.unwrap_or_else(|error| panic!("{REGRESSIONS}: {error}")).path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.file_name() != Some("README.md".as_ref())).collect();
    files.sort();
    for file in &files {
        assert_eq!(file.extension().and_then(|end| end.to_str()), Some("json"), "{} is no plan", file.display());
    }
    files
}

#[test]
fn the_same_plan_runs_alike() {
    for seed in [1, 5] {
        let plan = short(seed);
        let (first, second) = (Simulation::kv().run_plan(plan.clone(), true), Simulation::kv().run_plan(plan, false));
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}: with its story and without");
        assert_eq!(
            (first.steps, first.operations, first.committed),
            (second.steps, second.operations, second.committed)
        );
        let third = Simulation::kv().run_plan(first.plan.clone(), true);
        assert_eq!(story::timeline(&first).to_string(), story::timeline(&third).to_string(), "seed {seed}");
        assert_ne!(first.fingerprint, Simulation::kv().run_plan(short(seed + 1), false).fingerprint);
    }
}

/// A change to what is drawn makes every seed that anybody wrote down another run. It may be; but not by mistake.
#[test]
fn a_seed_draws_its_plan_for_good() {
    let mut drawn = String::new();
    for seed in 0..100 {
        let text = serde_json::to_string(&Plan::draw(seed)).unwrap();
        let _ = writeln!(drawn, "{seed} {:016x}", fnv(text.as_bytes()));
    }
    super::golden(Path::new(DRAWN), &drawn);
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// In a debug build the invariants of raft-core itself are held too, after every step.
#[test]
fn fresh_seeds_pass() {
    let mut faults = 0;
    for seed in 1_000..1_024 {
        let report = Simulation::kv().run_plan(short(seed), false);
        assert_eq!(report.failure, None, "seed {seed}, with its first seconds only");
        faults += report.faults.values().sum::<u64>();
    }
    assert!(faults > 0, "nothing went wrong in any of them");
}

/// The plan of a seed, with its first seconds only.
fn short(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    plan.shape.duration = plan.shape.duration.min(Time::secs(4));
    plan
}
