//! The command against a simulator that does what it is told.

use std::time::Duration;

use clap::Parser as _;
use raft_sim::Time;

use super::engine::Engine;
use super::interrupt::Interrupt;
use super::tables::Total;
use super::{Args, Command, replay, run};

mod hunt;

fn parse(line: &str) -> Result<Command, String> {
    let parsed = Args::try_parse_from(line.split_whitespace());
    parsed.map(|args| args.command).map_err(|error| error.to_string())
}

fn run_args(line: &str) -> run::Args {
    match parse(line) {
        Ok(Command::Run(args)) => args,
        other => panic!("{other:?}"),
    }
}

fn replay_args(line: &str) -> replay::Args {
    match parse(line) {
        Ok(Command::Replay(args)) => args,
        other => panic!("{other:?}"),
    }
}

fn ran(line: &str) -> (Total, String) {
    run::run(&run_args(line), Engine::TOY, &Interrupt::default())
}

fn replayed(line: &str) -> (Result<bool, String>, String) {
    let mut out = Vec::new();
    let report = replay::replay(&replay_args(line), Engine::TOY, &mut out);
    (report.map(|report| report.failure.is_some()), String::from_utf8(out).unwrap())
}

#[test]
fn seeds_are_a_range_an_open_range_or_one() {
    for (text, seeds) in [("0..10", 0..10), ("5..", 5..u64::MAX), ("17", 17..18)] {
        assert_eq!(run_args(&format!("raft-sim run --seeds {text}")).seeds, seeds);
    }
    let args = run_args("raft-sim run --seeds 0.. --minutes 0.5 --threads 3");
    assert_eq!((args.minutes, args.threads), (Some(Duration::from_secs(30)), Some(3)));
}

#[test]
fn what_is_wrong_with_an_argument_is_said() {
    for (line, said) in [
        ("run", "--seeds <A..B>"),
        ("run --seeds ten", "'ten' is no seed: write A..B with whole numbers, such as 0..1000"),
        ("run --seeds 0-10", "'0-10' is no seed"),
        ("run --seeds 9..9", "9..9 holds no seed: B is the first seed that is not run"),
        ("run --seeds 9..3", "9..3 holds no seed"),
        ("run --seeds ..3", "'' is no seed"),
        ("run --seeds 0..3 --minutes x", "'x' is no number of minutes: write one such as 2.5"),
        ("run --seeds 0..3 --minutes=-1", "-1 is no number of minutes: it is negative or too large"),
        ("run --seeds 0..3 --threads 0", "0 is not in 1..=1024"),
        ("run --seeds 0..3 --budget 5", "--minimize"),
        ("replay", "<--seed <X>|--plan <FILE>>"),
        ("replay --seed 1 --plan x", "cannot be used with"),
        ("replay --seed 1 --from nan", "nan is no number of seconds"),
        ("replay --seed 1 --until soon", "'soon' is no number of seconds: write one such as 2.5"),
    ] {
        let error = parse(&format!("raft-sim {line}")).unwrap_err();
        assert!(error.contains(said), "{line}: {error}");
    }
    let args = replay_args("raft-sim replay --seed 1 --from 1.5 --until 2");
    assert_eq!((args.from, args.until), (Some(Time::millis(1500)), Some(Time::secs(2))));
}

#[test]
fn the_last_line_says_what_was_run() {
    let (total, _) = ran("raft-sim run --seeds 0..600 --threads 2");
    let line = total.last_line(Duration::from_millis(90_500)).to_string();
    let faults = 600 * 20 + 60 * 2 - 20;
    // Sixty seeds end in 7, and seed 13 panics, at no simulated time.
    assert_eq!(
        line,
        format!("sim: 600 seeds, 1.00 simulated hours, 90.5 s, 0.7 simulated hours/min, {faults} faults, 61 failures")
    );
    let (_, told) = ran("raft-sim run --seeds 0..5");
    let last = told.lines().last().unwrap();
    assert!(last.starts_with("sim: 5 seeds, 0.01 simulated hours, "), "{last}");
    assert!(last.ends_with(" simulated hours/min, 100 faults, 0 failures"), "{last}");
    assert!(told.contains("faults\n  crash"), "{told}");
}

#[test]
fn a_failure_is_told_with_the_command_that_replays_it() {
    let (total, told) = ran("raft-sim run --seeds 0..20");
    assert_eq!(total.failures.keys().copied().collect::<Vec<_>>(), [7, 13, 17]);
    let seven = "seed 7 fails: 6.000000 s: Election safety: servers 1 and 2 lead term 3\n  \
        replay it: cargo run --release -p raft-sim -- replay --seed 7\n";
    assert!(told.contains(seven), "{told}");
    assert!(told.contains("seed 13 fails: 0.000000 s: no panic: "), "{told}");
    let (undrawn, _) = ran("raft-sim run --seeds 1010..1015 --minimize");
    assert_eq!((undrawn.seeds, undrawn.failures.keys().collect::<Vec<_>>()), (5, vec![&1013]));
    let (_, many) = ran("raft-sim run --seeds 0..300");
    assert!(many.contains("... and 11 more seeds"), "{many}");
}

#[test]
fn the_same_seeds_are_told_the_same_on_any_number_of_threads() {
    let told = |threads| {
        let (_, told) = ran(&format!("raft-sim run --seeds 0..200 --threads {threads}"));
        // All but the last line, which tells the time it took.
        told.rsplit_once('\n').unwrap().0.to_owned()
    };
    assert_eq!(told(1), told(8));
}

#[test]
fn a_deadline_and_an_interrupt_end_it_with_what_was_done() {
    let (total, _) = ran("raft-sim run --seeds 0.. --minutes 0.001");
    assert!(total.seeds > 0);
    let (total, _) = ran("raft-sim run --seeds 0.. --minutes 0");
    assert_eq!(total.seeds, 0);
    let interrupt = Interrupt::default();
    interrupt.press();
    let (total, told) = run::run(&run_args("raft-sim run --seeds 0.."), Engine::TOY, &interrupt);
    assert_eq!(total.seeds, 0);
    assert!(told.contains("stopped by Ctrl-C\n"), "{told}");
}

#[test]
fn a_failure_is_shrunk_saved_and_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("new");
    let (_, told) = ran(&format!("raft-sim run --seeds 0..20 --minimize --save {}", saved.display()));
    let file = saved.join("election-safety-7.json");
    assert!(told.contains("seed 7 shrunk from 22 faults to 2:\n"), "{told}");
    assert!(told.contains(&format!("-- replay --plan {}", file.display())), "{told}");
    assert!(saved.join("no-panic-13.json").exists());
    assert!(!saved.join("election-safety-17.json").exists(), "one a rule");

    let (failed, story) = replayed(&format!("raft-sim replay --plan {}", file.display()));
    assert_eq!(failed, Ok(true));
    assert!(story.ends_with("VIOLATION: servers 1 and 2 lead term 3\n"), "{story}");

    std::fs::write(&file, "{}").unwrap();
    let (refused, _) = replayed(&format!("raft-sim replay --plan {}", file.display()));
    assert!(refused.as_ref().is_err_and(|error| error.contains("no plan: missing field")), "{refused:?}");
    let (refused, _) = replayed("raft-sim replay --plan /nowhere.json");
    assert!(refused.is_err_and(|error| error.starts_with("/nowhere.json: No such file")));
}

#[test]
fn a_replay_tells_draws_and_saves() {
    let directory = tempfile::tempdir().unwrap();
    let (page, plan) = (directory.path().join("page.html"), directory.path().join("plan.json"));
    let line = format!("raft-sim replay --seed 7 --html {} --save {} --from 1", page.display(), plan.display());
    let (failed, told) = replayed(&line);
    assert_eq!(failed, Ok(true));
    assert!(told.ends_with("BROKEN after 6.000000 s: Election safety: servers 1 and 2 lead term 3\n"), "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Shown: 1.000000 s to 6.020000 s."));
    let (_, of_seed) = replayed("raft-sim replay --seed 7");
    let (_, of_plan) = replayed(&format!("raft-sim replay --plan {}", plan.display()));
    assert_eq!(of_seed, of_plan);
    let (failed, told) = replayed("raft-sim replay --seed 8 --messages --clients");
    assert_eq!(failed, Ok(false));
    assert!(told.ends_with("nothing is broken after 6.000000 s\n"));
    assert!(told.contains("HeartbeatResponse") && told.contains("client 1: put"), "{told}");
}
