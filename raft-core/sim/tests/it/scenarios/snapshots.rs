//! Snapshots that arrive late, twice, in pieces, and on servers that had something else.

use std::collections::BTreeSet;

use raft_core::NodeId;
use raft_sim::plan::{Fault, Plan, Target};
use raft_sim::{Time, What};

use super::{Told, compacting, run, server, world};

const AWAY: NodeId = NodeId(3);

/// Server 3 is away from second 2 to 5, and then needs a snapshot.
fn away() -> Plan {
    compacting(world(3)).with(Time::secs(2), Fault::Isolate { target: server(3), lasts: Time::secs(3) })
}

/// When server 3 had a snapshot of another, first after this time.
fn installed(told: &Told, after: Time) -> Time {
    // One that it takes itself needs no chunks.
    let chunks = told.sent_to(AWAY, |words| words.starts_with("InstallSnapshot ") && words.ends_with("the last"));
    let last = chunks.into_iter().find(|(at, _)| *at > after).expect("a whole snapshot was sent to server 3").0;
    told.notices(AWAY, "SnapshotInstalled").into_iter().find(|(at, _)| *at >= last).expect("server 3 installed it").0
}

/// The snapshots of which chunks went to server 3 in this time.
fn sent(told: &Told, from: Time, until: Time) -> BTreeSet<&str> {
    let chunks = told.sent_to(AWAY, |words| words.starts_with("InstallSnapshot "));
    let named = |(_, words): &(Time, &'_ str)| words.find(',');
    chunks
        .into_iter()
        .filter(|(at, _)| *at >= from && *at <= until)
        .filter_map(|chunk| chunk.1.get(..named(&chunk)?))
        .collect()
}

#[test]
fn s1_a_snapshot_that_comes_twice_or_late_takes_nothing_back() {
    let mut plan = away();
    let network = &mut plan.shape.network;
    (network.duplication, network.late, network.late_max, network.in_order) = (500, 50, Time::secs(2), false);
    let told = run(plan);
    let done = installed(&told, Time::secs(5));
    let chunk = |what: &What| match what {
        What::Sent { message, to: AWAY, words, .. } if words.starts_with("InstallSnapshot ") => Some(*message),
        _ => None,
    };
    let chunks: BTreeSet<u64> = told.report.story.iter().filter_map(|happening| chunk(&happening.what)).collect();
    let late = told
        .between(done + Time::millis(1), Time(u64::MAX))
        .filter(|happening| matches!(&happening.what, What::Delivered { message } if chunks.contains(message)));
    assert!(late.count() > 0, "no chunk came after the snapshot was installed");
}

/// The leader of a minority appends what is never committed, and gets a snapshot that ends among it.
#[test]
fn s2_what_conflicts_with_a_snapshot_is_discarded() {
    let mut plan = compacting(world(3));
    plan.shape.think = Time::millis(5);
    plan = plan.with(Time::secs(2), Fault::Isolate { target: Target::Leader, lasts: Time::secs(3) });
    let told = run(plan);
    let old = told.leader_at(Time::secs(2));
    assert!(told.succeeded(old, Time::secs(2)) < Time::secs(4));
    let alone = told.between(Time::micros(2_000_001), Time::secs(3)).any(|happening| {
        matches!(&happening.what, What::Sent { from, words, .. } if *from == old && words.contains(": entr"))
    });
    assert!(alone, "it appended nothing by itself");
    let chunks = told.sent_to(old, |words| words.starts_with("InstallSnapshot "));
    assert!(chunks.iter().any(|(at, _)| *at > Time::secs(5)), "it needed no snapshot");
    assert!(told.notices(old, "SnapshotInstalled").iter().any(|(at, _)| *at > Time::secs(5)), "it installed none");
}

#[test]
fn s3_a_restart_in_the_middle_of_a_transfer_begins_again() {
    let mut plan = away();
    plan.shape.network.latency_min = Time::millis(10);
    let calm = run(plan.clone());
    let began = calm.sent_to(AWAY, |words| words.starts_with("InstallSnapshot "));
    let began = began.iter().find(|(at, _)| *at > Time::secs(5)).expect("a snapshot is sent").0;
    let middle = Time((began.0 + installed(&calm, Time::secs(5)).0) / 2);

    let told = run(plan.with(middle, Fault::Crash { target: server(3), down: Time::millis(20) }));
    assert!(!sent(&told, began, middle).is_empty(), "it did not begin before");
    let done = installed(&told, Time::secs(5));
    assert!(done > middle, "it was over before");
    let again = told.sent_to(AWAY, |words| words.starts_with("InstallSnapshot ") && words.contains(" bytes from 0 on"));
    assert!(again.iter().any(|(at, _)| *at > middle && *at < done), "it does not begin again");
}

#[test]
fn s4_chunks_of_two_snapshots_are_not_mixed() {
    let mut plan = away();
    plan.shape.network.latency_min = Time::millis(10);
    // Whoever leads while server 3 is served, another is to.
    for (number, to) in [1, 2, 1, 2].into_iter().enumerate() {
        plan = plan.with(Time::millis(5_150 + 150 * number as u64), Fault::Transfer { to });
    }
    let told = run(plan);
    let done = installed(&told, Time::secs(5));
    let snapshots = sent(&told, Time::secs(5), done);
    assert!(snapshots.len() > 1, "of {snapshots:?} only");
}

/// Snapshots are asked for while a machine is behind: it has the label of what it holds, and the oracle knows the digest
/// that belongs to it.
#[test]
fn s5_a_snapshot_is_of_what_is_applied() {
    let mut plan = away();
    (plan.shape.limits.max_apply_bytes, plan.shape.think) = (1, Time::millis(5));
    for number in 0..60 {
        let target = if number % 2 == 0 { Target::Leader } else { server(3) };
        plan = plan.with(Time::millis(1_500 + number * 130), Fault::Snapshot { target });
    }
    let told = run(plan);
    installed(&told, Time::secs(5));
    assert!(told.notices(AWAY, "SnapshotInstalled").len() > 5, "too few to tell");
}

#[test]
fn s6_what_was_deleted_does_not_return_with_a_snapshot() {
    let told = run(away());
    let deleted = told.between(Time::millis(2_100), Time::millis(4_900)).any(|happening| {
        matches!(&happening.what, What::Client { words, .. } if words.contains("del ") && words.contains("deleted"))
    });
    assert!(deleted, "nothing was deleted meanwhile");
    installed(&told, Time::secs(5));
}

/// A leader that stood still goes on with clients who wait, and is overtaken by a snapshot. Nobody waits for ever, and
/// nothing is done twice.
#[test]
fn s7_who_waits_when_a_snapshot_is_installed_is_answered() {
    let told =
        run(compacting(world(3)).with(Time::secs(2), Fault::Pause { target: Target::Leader, lasts: Time::secs(3) }));
    let old = told.leader_at(Time::secs(2));
    assert!(told.succeeded(old, Time::secs(2)) < Time::secs(4));
    let waits = told.between(Time::secs(2), Time::secs(5)).any(|happening| {
        matches!(&happening.what, What::Client { words, .. } if words.contains(&format!("to server {old}")))
    });
    assert!(waits, "nobody waits for it");
    assert!(
        told.notices(old, "SnapshotInstalled").iter().any(|(at, _)| *at > Time::secs(5)),
        "no snapshot overtook it"
    );
}

#[test]
fn s3_a_snapshot_gets_through_a_narrow_and_lossy_link() {
    let mut plan = away();
    (plan.shape.network.capacity, plan.shape.network.loss) = (Some(20), 200);
    let told = run(plan);
    installed(&told, Time::secs(5));
    assert!(told.when(|what| matches!(what, What::Lost { .. })).len() > 100);
}
