//! The hunt, and coverage marks.

use super::*;
use crate::cli::hunt;

fn hunt_args(line: &str) -> hunt::Args {
    match parse(line) {
        Ok(Command::Hunt(args)) => args,
        other => panic!("{other:?}"),
    }
}

fn hunted(line: &str) -> (Result<bool, String>, String) {
    let mut out = Vec::new();
    let all = hunt::hunt(&hunt_args(line), Engine::TOY, &Interrupt::default(), &mut out);
    (all, String::from_utf8(out).unwrap())
}

/// What is told, without the times.
fn without_times(told: &str) -> Vec<Vec<&str>> {
    told.lines().map(|line| line.split_whitespace().filter(|word| !word.contains('.')).collect()).collect()
}

#[test]
fn each_bug_is_hunted_until_a_seed_fails() {
    let (all, told) = hunted("raft-sim hunt --bug Sevens --bug Panics --first-seed 1 --seeds-max 50");
    assert_eq!(all, Ok(true), "{told}");
    assert!(told.contains("Sevens  T       T1           7 seeds "), "{told}");
    assert!(told.contains("seed 7: Election safety\n"), "{told}");
    assert!(told.contains("seed 2: no panic\n"), "{told}");
    assert!(told.contains("\nhunt: caught 2 of 2 bugs, median "), "{told}");
}

#[test]
fn a_bug_that_is_not_caught_is_named_and_fails_the_hunt() {
    let (all, told) = hunted("raft-sim hunt --seeds-max 8");
    assert_eq!(all, Ok(false), "{told}");
    assert!(told.contains("Harmless  T       T3           8 seeds "), "{told}");
    assert!(told.contains("not caught: Harmless (T3): a bug of a toy.\nhunt: caught 2 of 3 bugs"), "{told}");
    // No seed begins when the time is over.
    let (all, told) = hunted("raft-sim hunt --bug Sevens --seconds-max 0");
    assert!(all == Ok(false) && told.contains(" 0 seeds "), "{told}");
}

#[test]
fn the_first_seed_that_fails_counts_on_any_number_of_threads() {
    let told = |threads| hunted(&format!("raft-sim hunt --bug Sevens --threads {threads}")).1;
    let (one, four, eight) = (told(1), told(4), told(8));
    let first = |told: &str| without_times(told).first().map(|words| words.join(" "));
    assert_eq!(first(&one).as_deref(), Some("Sevens T T1 8 seeds s seed 7: Election safety"));
    assert_eq!((first(&four), first(&eight)), (first(&one), first(&one)));
}

#[test]
fn without_a_sound_baseline_or_a_bug_nothing_is_hunted() {
    let (refused, _) = hunted("raft-sim hunt --bug Nothing");
    assert_eq!(refused, Err(String::from("'Nothing' is no bug; these are: Sevens, Panics, Harmless")));
    // The drawing of seed 1013 panics with and without.
    let (refused, _) = hunted("raft-sim hunt --first-seed 1000");
    assert!(refused.as_ref().is_err_and(|error| error.starts_with("seed 1013 fails without any bug")), "{refused:?}");
    // What fails anyhow catches nothing.
    let (all, told) = hunted("raft-sim hunt --bug Sevens --first-seed 1013 --seeds-max 10 --baseline 0");
    assert!(all == Ok(true) && told.contains(" 5 seeds ") && told.contains("seed 1017: Election"), "{told}");
    let mut engine = Engine::TOY;
    engine.bugs = Vec::new;
    let error = hunt::hunt(&hunt_args("raft-sim hunt"), engine, &Interrupt::default(), &mut Vec::new());
    assert!(error.is_err_and(|error| error.contains("--features seeded-bugs -- hunt")));
}

#[test]
fn rare_marks_are_named() {
    let rare = |line: &str| run::rare_marks(&run_args(line), &(Engine::TOY.marks)());
    assert_eq!(rare("raft-sim run --seeds 0"), Ok(()));
    assert_eq!(rare("raft-sim run --seeds 0 --marks-min 0"), Ok(()));
    let told = String::from("marks hit fewer than 100 times: Seldom (3), Never (0)");
    assert_eq!(rare("raft-sim run --seeds 0 --marks-min 100"), Err(told));
    let uncounted = run::rare_marks(&run_args("raft-sim run --seeds 0 --marks-min 1"), &[]);
    assert!(uncounted.is_err_and(|error| error.contains("--features marks")));
}
