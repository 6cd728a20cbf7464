//! Snapshots that arrive late, twice, in pieces, and on servers that had something else.

use std::collections::BTreeSet;

use raft_core::NodeId;
use raft_sim::plan::{Fault, Plan, Target};
use raft_sim::{Time, What};

use super::watching::watched;
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
    // One comes late enough to take something back.
    plan.seed = 1;
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
    let cut = Time::secs(2);
    let world = |lasts| {
        let mut plan = compacting(world(3));
        (plan.shape.clients, plan.shape.think, plan.shape.duration) = (10, Time::millis(20), Time::secs(4));
        // In one piece: its successor is to have taken one soon.
        let limits = &mut plan.shape.limits;
        (limits.snapshot_every_bytes, limits.max_chunk_bytes) = (Some(300), 256 << 10);
        plan.with(cut, Fault::Isolate { target: Target::Leader, lasts })
    };
    let taken = |told: &Told| {
        let old = told.leader_at(cut);
        let succeeded = told.succeeded(old, cut);
        let taken = told.notices(told.leader_at(succeeded), "SnapshotInstalled");
        (old, taken.into_iter().find(|(at, _)| *at > succeeded).expect("its successor takes snapshots").0)
    };
    // It hears the others again once its successor has taken a snapshot.
    let (_, comes_back) = taken(&run(world(Time::secs(1))));
    let told = run(world(comes_back - cut));
    let (old, _) = taken(&told);
    let last_index = |words: &str| {
        let entries = words.split_once(": entr")?.1.split_once(", commit")?.0;
        entries.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let alone = told.between(cut + Time::millis(10), comes_back).filter_map(|happening| match &happening.what {
        What::Sent { from, words, .. } if *from == old => last_index(words),
        _ => None,
    });
    let last = alone.max().expect("it appends by itself");
    let chunks = told.sent_to(old, |words| words.starts_with("InstallSnapshot ") && words.ends_with("the last"));
    let (at, words) = chunks.into_iter().find(|(at, _)| *at >= comes_back).expect("it needs a snapshot");
    let index = words.trim_start_matches("InstallSnapshot ").split('/').next().unwrap();
    assert!(index.parse::<u64>().unwrap() <= last, "it had nothing at {index}");
    let installed = told.notices(old, "SnapshotInstalled").into_iter().find(|(installed, _)| *installed >= at);
    assert!(installed.is_some_and(|(_, words)| words.contains(&format!("LogIndex({index})"))), "it installed another");
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

/// It takes one of what it had when it was cut off, and a leader's comes in between: of what it lacks.
#[test]
fn s4_a_leaders_snapshot_ends_the_one_that_is_being_taken() {
    let mut plan = away();
    plan.shape.limits.snapshot_every_bytes = None;
    for id in 1..=2 {
        plan = plan.with(Time::secs(3), Fault::Snapshot { target: server(id) });
    }
    let calm = run(plan.clone());
    let began = calm.sent_to(AWAY, |words| words.starts_with("InstallSnapshot "));
    let began = began.first().expect("a snapshot is sent").0;
    let told = run(plan.with(began - Time::millis(60), Fault::Snapshot { target: server(3) }));
    let given_up = told.notices(AWAY, "SnapshotRefused").into_iter().find(|(at, _)| *at > began);
    let (at, words) = given_up.expect("its own is given up");
    assert!(words.contains("SnapshotInProgress"), "{words}");
    assert!(installed(&told, began) > at);
}

/// It dies while it takes one: it comes back as if it had taken none.
#[test]
fn s3_a_crash_in_the_middle_of_taking_one_leaves_nothing() {
    let mut plan = away();
    plan.shape.limits.snapshot_every_bytes = None;
    let begun = Time::secs(4);
    let plan = plan.with(begun, Fault::Snapshot { target: server(1) });
    let calm = run(plan.clone());
    let done = |told: &Told| told.notices(NodeId(1), "SnapshotInstalled").first().map(|(at, _)| *at);
    let lasts = done(&calm).expect("it takes one") - begun;
    assert!(lasts > plan.shape.tick.times(3), "in one piece");
    let middle = Time((begun.0 + lasts.0 / 2).max(begun.0 + 1));
    let told = run(plan.with(middle, Fault::Crash { target: server(1), down: Time::millis(50) }));
    assert_eq!(done(&told), None, "it was not given up");
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
/// The leader's disk hangs while it takes a snapshot, and server 3 comes back meanwhile, to whom nothing else can be sent.
#[test]
fn s5_a_snapshot_is_not_sent_before_the_disk_has_it() {
    let (hangs, lasts) = (Time::millis(4_900), Time::millis(180));
    let mut plan = away();
    let limits = &mut plan.shape.limits;
    (limits.snapshot_every_bytes, limits.max_chunk_bytes) = (None, 256 << 10);
    let plan = plan
        .with(hangs, Fault::StuckDisk { target: Target::Leader, lasts })
        .with(hangs + Time::millis(1), Fault::Snapshot { target: Target::Leader });
    let told = run(plan);
    let leader = told.leader_at(hangs);
    assert_eq!(told.leader_at(hangs + lasts), leader, "it does not give way");
    let answer = |what: &What| matches!(what, What::Sent { from: AWAY, to, .. } if *to == leader);
    let (back, whole) = (Time::secs(5), hangs + lasts);
    assert!(told.when(answer).into_iter().any(|at| at > back && at < whole), "nobody asked for it");
    let chunks = told.sent_to(AWAY, |words| words.starts_with("InstallSnapshot "));
    assert!(chunks.first().expect("a snapshot is sent").0 >= whole, "nothing hung");
    installed(&told, back);
}

#[test]
fn s5_a_snapshot_is_of_what_is_applied() {
    let mut plan = away();
    // One is taken while much waits to be applied.
    plan.seed = 17;
    (plan.shape.limits.max_apply_bytes, plan.shape.think) = (1, Time::millis(5));
    for number in 0..60 {
        let target = if number % 2 == 0 { Target::Leader } else { server(3) };
        plan = plan.with(Time::millis(1_500 + number * 130), Fault::Snapshot { target });
    }
    let told = run(plan);
    installed(&told, Time::secs(5));
    assert!(told.notices(AWAY, "SnapshotInstalled").len() > 5, "too few to tell");
}

/// Of a key that server 3 had when it left, and that nobody has when it comes back.
#[test]
fn s6_what_was_deleted_does_not_return_with_a_snapshot() {
    let mut plan = away();
    // Its clients use several keys.
    plan.seed = 4;
    plan.shape.limits.max_chunk_bytes = 256 << 10;
    let told = run(plan);
    let last = |key: &str, from, until| {
        let done = |what: &What| match what {
            What::Client { words, .. } if words.contains(" (block ") => Some(words.clone()),
            _ => None,
        };
        let changes = |words: &String| words.contains(&format!("put {key} ")) || words.contains(&format!("del {key}"));
        told.between(from, until).filter_map(|happening| done(&happening.what)).filter(changes).last()
    };
    let is_deleted = |key: &str| {
        let before = last(key, Time::ZERO, Time::millis(1_900));
        let after = last(key, Time::millis(2_100), Time::millis(4_900));
        before.is_some_and(|words| words.starts_with("put "))
            && after.is_some_and(|words| words.starts_with("del ") && words.contains("deleted"))
    };
    assert!((0..8).any(|key| is_deleted(&format!("k{key}"))), "nothing was deleted meanwhile");
    installed(&told, Time::secs(5));
}

/// A leader that stood still goes on with clients who wait, and is overtaken by a snapshot. Nobody waits for ever, and
/// nothing is done twice: it cannot tell what became of what it had proposed, and says so.
#[test]
fn s7_who_waits_when_a_snapshot_is_installed_is_answered() {
    let mut plan = compacting(world(3));
    // So that some are always waiting. Whether the leader's disk is idle when it goes on, so that what arrived
    // meanwhile is proposed at once and not only queued, is drawn.
    plan.seed = 1;
    plan.shape.limits.max_chunk_bytes = 256 << 10;
    (plan.shape.clients, plan.shape.think, plan.shape.duration) = (8, Time::millis(5), Time::secs(6));
    let (told, seen) = watched(plan.with(Time::secs(2), Fault::Pause { target: Target::Leader, lasts: Time::secs(3) }));
    let old = told.leader_at(Time::secs(2));
    assert!(told.succeeded(old, Time::secs(2)) < Time::secs(4));
    assert!(
        told.notices(old, "SnapshotInstalled").iter().any(|(at, _)| *at > Time::secs(5)),
        "no snapshot overtook it"
    );
    let seen = seen.lock().unwrap();
    let told_unknown = seen.unknown.iter().any(|(server, at)| *server == old && *at >= Time::secs(5));
    assert!(told_unknown, "who waited for it was not answered");
}

#[test]
fn s3_a_snapshot_gets_through_a_narrow_and_lossy_link() {
    let mut plan = away();
    (plan.shape.network.capacity, plan.shape.network.loss) = (Some(20), 200);
    let told = run(plan);
    installed(&told, Time::secs(5));
    assert!(told.when(|what| matches!(what, What::Lost { .. })).len() > 100);
}
