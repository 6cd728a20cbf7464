//! Explorations: short ones in every test run, long ones on demand:
//! `cargo test --release -p raft-model -- --ignored --nocapture --test-threads 1`
//!
//! Each says how many states it found and how long it took. A membership change, on two cores that had other work too:
//!
//! | exploration | states | steps | deep | time |
//! |---|---|---|---|---|
//! | `{1,2}` to `{2,3}`, one term (in every run) | 11,243 | 41,789 | 33 | 0.7 s |
//! | `{1}` to `{2}`, two terms, a crash (in every run) | 3,425 | 7,514 | 29 | 0.3 s |
//! | the same with late writes and a repeated message | 337,199 | 1,315,434 | 49 | 15 s |
//! | the same in three terms, without the repeated message | 391,001 | 1,371,784 | 49 | 23 s |
//! | `{1,2,3}` to `{1}`, one term | 42,068 | 150,337 | 29 | 3.7 s |
//! | `{1,2}` to `{2,3}`, two terms | 1,212,926 | 5,615,988 | 44 | 110 s |
//!
//! `{1,2,3}` to `{1}` in two terms with a crash has too many states for this: the search goes for a minute, through the
//! 1,364,125 states nearest to the beginning, up to 15 steps deep.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::num::NonZero;
use std::time::{Duration, Instant};

use raft_model::{Bounds, COMMIT_EVIDENCE, CONSECUTIVE_QUORUMS, Cluster, ELECTION_SAFETY, LEADER_COMPLETENESS, Plant};
use stateright::{Checker, HasDiscoveries, Model};

/// One server campaigns once; nothing else happens but that messages arrive, in any order or never.
const ONE_TERM: Bounds = Bounds {
    max_term: 1,
    campaigns: 1,
    proposals: 0,
    changes: 0,
    crashes: 0,
    repeats: 0,
    ticks: 0,
    late_writes: false,
    pre_votes: false,
    loyal: true,
};

/// Two elections, in one term or two.
const TWO_TERMS: Bounds = Bounds { max_term: 2, campaigns: 2, ..ONE_TERM };

/// Three voters, who stay.
const SAME: Cluster = Cluster { bounds: ONE_TERM, founders: &[1, 2, 3], wanted: &[], plant: Plant::Nothing };

/// One of two voters goes, and another comes: `{1,2}` to `{2,3}`.
const REPLACE: Cluster = Cluster { bounds: CHANGE, founders: &[1, 2], wanted: &[2, 3], ..SAME };

/// One voter goes and another comes: `{1}` to `{2}`, quorums that have nobody in common.
const MOVE: Cluster = Cluster { founders: &[1], wanted: &[2], ..REPLACE };

/// Two of three voters go: a majority of the old `{1,2,3}` need not meet the new `{1}`.
const SHRINK: Cluster = Cluster { founders: &[1, 2, 3], wanted: &[1], ..REPLACE };

/// One change in one term.
const CHANGE: Bounds = Bounds { changes: 1, ..ONE_TERM };

/// A change, and an election more: before it, in the midst of it, or after; by a timeout or by the leader that goes.
const CHANGE_AND_LEADER: Bounds = Bounds { changes: 1, loyal: false, ..TWO_TERMS };

/// Explores every state within the bounds; or, where `limit` comes first, all states near the beginning.
fn explore(name: &str, cluster: Cluster, limit: Duration) -> bool {
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let checker = cluster.checker().threads(threads).timeout(limit);
    let checker = checker.spawn_bfs().join();
    let seconds = started.elapsed();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    let all = seconds < limit;
    println!(
        "{name}: {states} states, {steps} steps, {depth} deep, in {seconds:.1?}, {}",
        if all { "all" } else { "cut" }
    );
    if all {
        checker.assert_properties();
    } else {
        // What happens sometimes may lie further on; what must never happen must not have happened.
        let always = checker.model().properties().into_iter().filter(|one| one.expectation.discovery_is_failure());
        always.for_each(|property| checker.assert_no_discovery(property.name));
    }
    all
}

fn explore_all(name: &str, cluster: Cluster) {
    assert!(explore(name, cluster, Duration::from_secs(900)), "{name}: not all of it was explored");
}

const fn same(bounds: Bounds) -> Cluster {
    Cluster { bounds, ..SAME }
}

#[test]
fn an_election_with_pre_votes() {
    explore_all("an election with pre-votes", same(Bounds { pre_votes: true, ..ONE_TERM }));
}

#[test]
fn two_candidates_in_a_term() {
    explore_all("two candidates in a term", same(Bounds { campaigns: 2, ..ONE_TERM }));
}

#[test]
fn a_command() {
    explore_all("a command", same(Bounds { proposals: 1, ..ONE_TERM }));
}

#[test]
fn late_writes_and_a_crash() {
    explore_all("late writes and a crash", same(Bounds { late_writes: true, crashes: 1, ..ONE_TERM }));
}

#[test]
fn a_repeated_message() {
    explore_all("a repeated message", same(Bounds { repeats: 1, ..ONE_TERM }));
}

#[test]
fn a_change_of_one_voter_for_another() {
    explore_all("a change of one voter for another", REPLACE);
}

#[test]
fn a_change_and_a_crash() {
    let bounds = Bounds { crashes: 1, ..CHANGE_AND_LEADER };
    explore_all("a change and a crash", Cluster { bounds, ..MOVE });
}

#[test]
#[ignore = "seconds, in release"]
fn a_change_that_leaves_one_voter_of_three() {
    explore_all("a change that leaves one voter of three", SHRINK);
}

#[test]
#[ignore = "minutes, in release: the whole of it is the long form"]
fn a_change_and_another_leader() {
    let late = Bounds { crashes: 1, late_writes: true, ..CHANGE_AND_LEADER };
    let (repeat, three_terms) = (Bounds { repeats: 1, ..late }, Bounds { max_term: 3, campaigns: 3, ..late });
    explore_all("{1} to {2}, a crash, late writes, a repeat", Cluster { bounds: repeat, ..MOVE });
    explore_all("{1} to {2}, a crash, late writes, three terms", Cluster { bounds: three_terms, ..MOVE });
    explore_all("{1,2} to {2,3}, two terms", Cluster { bounds: CHANGE_AND_LEADER, ..REPLACE });
}

#[test]
#[ignore = "a minute, in release: as far as it comes"]
fn a_change_of_three_and_another_leader() {
    let bounds = Bounds { crashes: 1, ..CHANGE_AND_LEADER };
    explore("{1,2,3} to {1}, two terms, a crash", Cluster { bounds, ..SHRINK }, Duration::from_secs(60));
}

#[test]
#[ignore = "minutes, in release: the whole of it is the long form"]
fn two_terms() {
    explore_all("two terms", same(TWO_TERMS));
    explore_all("two terms, a crash", same(Bounds { crashes: 1, ..TWO_TERMS }));
    explore_all("a repeat, a heartbeat", same(Bounds { repeats: 1, ticks: 1, ..ONE_TERM }));
    explore_all("a command, late writes", same(Bounds { proposals: 1, late_writes: true, ..ONE_TERM }));
    explore_all("a command, a crash, a repeat", same(Bounds { proposals: 1, crashes: 1, repeats: 1, ..ONE_TERM }));
}

#[test]
#[ignore = "five minutes, in release: as far as it comes with everything allowed at once"]
fn everything_at_once() {
    let all = Bounds {
        max_term: 2,
        campaigns: 3,
        proposals: 2,
        changes: 0,
        crashes: 1,
        repeats: 1,
        ticks: 1,
        late_writes: true,
        pre_votes: false,
        loyal: true,
    };
    explore("everything at once", same(all), Duration::from_secs(300));
}

/// The checker finds that `plant` breaks `property`.
fn finds(plant: Plant, property: &'static str, cluster: Cluster) {
    let started = Instant::now();
    let checker = Cluster { plant, ..cluster }.checker().finish_when(HasDiscoveries::AnyOf([property].into()));
    let checker = checker.timeout(Duration::from_secs(300)).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{plant:?}: not found in {states} states"));
    let (seconds, steps) = (started.elapsed(), path.into_actions());
    println!("{plant:?} breaks {property}: {states} states in {seconds:.1?}, {} steps: {steps:?}", steps.len());
}

#[test]
fn a_forgotten_vote_is_found() {
    finds(Plant::ForgetsVote, ELECTION_SAFETY, same(Bounds { campaigns: 2, crashes: 1, ..ONE_TERM }));
}

#[test]
fn a_granted_refusal_is_found() {
    finds(Plant::GrantsEverything, ELECTION_SAFETY, same(Bounds { campaigns: 2, ..ONE_TERM }));
}

#[test]
fn an_acceptance_of_more_than_was_sent_is_found() {
    finds(Plant::AcceptsMore, COMMIT_EVIDENCE, same(Bounds { proposals: 1, ..ONE_TERM }));
    finds(Plant::AcceptsMore, LEADER_COMPLETENESS, same(Bounds { proposals: 1, ..TWO_TERMS }));
}

#[test]
fn a_write_reported_early_is_found() {
    finds(Plant::ReportsEarly, LEADER_COMPLETENESS, same(Bounds { crashes: 1, ..TWO_TERMS }));
}

#[test]
fn a_change_without_its_joint_step_is_found() {
    finds(Plant::SkipsJoint, CONSECUTIVE_QUORUMS, SHRINK);
}

#[test]
fn a_forgotten_configuration_is_found() {
    let bounds = Bounds { campaigns: 3, crashes: 1, ..CHANGE_AND_LEADER };
    finds(Plant::ForgetsConfigurations, ELECTION_SAFETY, Cluster { bounds, ..MOVE });
}
