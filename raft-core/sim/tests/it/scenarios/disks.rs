//! Disks that tear, rot, fail, fill up and vanish.

use std::sync::{Arc, Mutex};

use raft_core::NodeId;
use raft_kv::{BlockLog, LogOptions};
use raft_sim::plan::{Fault, Plan, Target};
use raft_sim::{Time, What};

use super::{Told, halted, kv, run, run_in, run_whatever_happens, server, started, world};

/// Server 3 does nothing more for that reason, starts again later, and has then what the others have.
fn halts_and_comes_back(told: &Told, why: &str) {
    let id = NodeId(3);
    let halts = |what: &What| matches!(what, What::Halted { server, why: told } if *server == id && told.contains(why));
    let halts = told.when(halts);
    assert!(
        !halts.is_empty(),
        "server 3 does not halt because of \"{why}\": {:?}",
        told.report.story.iter().filter(|happening| halted(id)(&happening.what)).collect::<Vec<_>>()
    );
    let restart = told.when(started(id)).into_iter().find(|at| *at > halts[0]).expect("it starts again");
    assert!(told.commits_after(id, restart).is_some(), "it learns nothing more");
}

#[test]
fn d1_a_torn_tail_is_cut_and_nothing_else_is() {
    let torn = Arc::new(Mutex::new((0, 0)));
    let seen = Arc::clone(&torn);
    let simulation = kv()
        .storage(move |disk, founding| {
            let (kept, lost) = disk.torn();
            let (tails, holes) = &mut *seen.lock().unwrap();
            *tails += u32::from(kept > 0);
            *holes += u32::from(lost > 0);
            let options = LogOptions { segment_bytes: founding.segment_bytes, archive: false };
            let configuration = founding.configuration.clone();
            BlockLog::open_or_create(disk, founding.cluster, configuration, founding.incarnation, options)
                .map_err(|error| error.to_string())
        })
        .build();
    let mut plan = world(3);
    // Long enough to be torn, and to be torn in sectors.
    plan.shape.disk.sync_mean = Time::millis(20);
    plan.shape.clients = 6;
    for round in 0..80_u64 {
        let target = server(u32::try_from(round % 3).unwrap() + 1);
        let death = Fault::CrashAtWrite { target, writes: 2, durable: false, down: Time::millis(15) };
        plan = plan.with(Time::millis(500 + round * 110), death);
    }
    run_whatever_happens(&simulation, plan);
    let (tails, holes) = *torn.lock().unwrap();
    assert!(tails > 10 && holes > 0, "{tails} torn tails, {holes} of them with holes");
}

/// What rots is far from the end, and what the operator does is told: the server does not start, is removed and added
/// again.
#[test]
fn d2_rot_is_not_taken_for_the_end() {
    let rot = Fault::BitRot { target: server(3), down: Time::millis(100) };
    let told = run(world(3).with(Time::secs(4), rot));
    let refusals = told.when(halted(NodeId(3)));
    assert!(!refusals.is_empty(), "it started from a damaged file");
    let comes_back = told.when(started(NodeId(3))).into_iter().find(|at| *at > Time::secs(4));
    assert!(comes_back.is_some_and(|at| at > refusals[0]), "it started before its disk was replaced");
    let is_member = |what: &What| matches!(what, What::Fault { words } if words == "server 3 is a member again");
    assert_eq!(told.when(is_member).len(), 1);
    assert!(told.commits_after(NodeId(3), comes_back.unwrap()).is_some(), "it got nothing from the others");
}

#[test]
fn d3_a_failed_sync_is_never_tried_again() {
    // What reads show after it may be there or not: that is drawn.
    for seed in 0..4 {
        let mut plan = world(3).with(Time::secs(3), Fault::FailedWrite { target: server(3), down: Time::millis(50) });
        // And a crash, after which what looked whole is not.
        plan = plan.with(Time::secs(5), Fault::Crash { target: server(3), down: Time::millis(50) });
        plan.seed = seed;
        halts_and_comes_back(&run(plan), "injected failure");
    }
}

#[test]
fn d3_a_leader_whose_sync_fails_leads_no_more() {
    for seed in 0..4 {
        let fails = Fault::FailedWrite { target: Target::Leader, down: Time::millis(900) };
        let mut plan = world(3).with(Time::secs(3), fails);
        plan.seed = seed;
        let told = run(plan);
        let old = told.leader_at(Time::secs(3));
        let halts = told.when(halted(old));
        assert_eq!(halts.len(), 1, "its disk failed and it went on");
        assert!(told.succeeded(old, halts[0]) < halts[0] + Time::millis(900));
    }
}

/// A follower whose disk is full takes no commands, and neither halts nor keeps the others from anything; with room it
/// catches up by itself.
#[test]
fn d6_a_follower_with_a_full_disk_waits_for_room() {
    let mut plan = world(3);
    // Full within the time: the room of a segment is a few hundred frames.
    plan.shape.limits.segment_bytes = 8_000;
    plan.shape.limits.snapshot_every_bytes = None;
    let told = run(plan.with(Time::secs(3), Fault::FullDisk { target: server(3), lasts: Time::secs(2) }));
    assert!(told.when(halted(NodeId(3))).is_empty(), "it halted");
    assert_eq!(told.when(started(NodeId(3))).len(), 1, "it started again");
    let others_went_on = told.commits_after(NodeId(1), Time::secs(4)).is_some_and(|at| at < Time::secs(5));
    assert!(others_went_on, "the others stood still for it");
    let full = told.commits_between(NodeId(3), Time::millis(4_500), Time::secs(5));
    assert_eq!(full, 0, "its disk was not full, or it took commands all the same");
    assert!(told.commits_after(NodeId(3), Time::secs(5)).is_some(), "it did not go on");
}

#[test]
fn d6_a_leader_with_a_full_disk_gives_way() {
    let mut plan = world(3);
    plan.shape.limits.segment_bytes = 8_000;
    plan.shape.limits.snapshot_every_bytes = None;
    let told = run(plan.with(Time::secs(3), Fault::FullDisk { target: Target::Leader, lasts: Time::secs(2) }));
    let old = told.leader_at(Time::secs(3));
    assert!(told.when(halted(old)).is_empty(), "it halted");
    assert!(told.succeeded(old, Time::secs(3)) < Time::secs(5), "nobody led while its disk was full");
    assert!(told.commits_after(old, Time::secs(5)).is_some(), "it did not come back");
}

/// Everybody's disk is full: nobody writes, somebody leads, and with room everything goes on.
#[test]
fn d6_a_cluster_of_full_disks_waits_for_room() {
    let mut plan = world(3);
    plan.shape.limits.segment_bytes = 8_000;
    plan.shape.limits.snapshot_every_bytes = None;
    for id in [1, 2, 3] {
        plan = plan.with(Time::secs(3), Fault::FullDisk { target: server(id), lasts: Time::secs(2) });
    }
    let told = run(plan);
    for id in [1, 2, 3].map(NodeId) {
        assert!(told.when(halted(id)).is_empty(), "server {id} halted");
        assert_eq!(told.commits_between(id, Time::millis(4_500), Time::secs(5)), 0, "server {id}");
        assert!(told.commits_after(id, Time::secs(5)).is_some(), "server {id} did not go on");
    }
}

/// Where the room of a segment is not enough for what is under way, a write fails: the server halts, and has all that it
/// reported when it is started with room.
#[test]
fn d6_a_write_that_finds_no_room_halts_and_ends_with_room() {
    let mut plan = world(3);
    plan.shape.limits.segment_bytes = 100;
    let told = run(plan.with(Time::secs(3), Fault::FullDisk { target: server(3), lasts: Time::secs(2) }));
    halts_and_comes_back(&told, "no space left");
}

/// One follower lags, the other loses its files, and the leader dies: whom an empty disk can vote for lacks what was
/// acknowledged.
#[test]
fn d8_lost_files_make_another_server_of_it() {
    let leader = run(world(3)).leader_at(Time::secs(9));
    let followers: Vec<u32> = (1..=3).filter(|id| NodeId(*id) != leader).collect();
    let (lags, loses) = (followers[0], followers[1]);
    let (dies, comes_back) = (Time::millis(4_050), Time::millis(5_250));
    let told = run(world(3)
        .with(Time::millis(3_900), Fault::Isolate { target: server(lags), lasts: Time::millis(400) })
        .with(Time::secs(4), Fault::LostFiles { target: server(loses), down: Time::millis(100), torn: false })
        .with(dies, Fault::Crash { target: server(leader.0), down: comes_back - dies }));
    let says = |said: String| move |what: &What| matches!(what, What::Fault { words } if words.starts_with(&said));
    assert_eq!(told.when(says(format!("server {loses} has an empty disk"))), [Time::secs(4)]);
    let again = told.when(says(format!("server {loses} is a member again")));
    assert_eq!(again.len(), 1);
    // Fault M10: what it says before that counts for nobody.
    let asked = told.sent_to(NodeId(loses), |words| words.starts_with("PreVote for"));
    assert!(asked.iter().any(|(at, _)| *at > dies && *at < comes_back), "nobody wanted its vote");
    let leads = |(at, id, _): (Time, NodeId, _)| at > dies && (at < comes_back || (id.0 == loses && at < again[0]));
    assert!(!told.leaders().into_iter().any(leads), "somebody leads by the word of an empty disk");
    assert!(told.commits_after(NodeId(loses), again[0]).is_some(), "it was not filled again");
}

#[test]
fn d9_a_read_that_fails_is_no_empty_answer() {
    // Which reads fail is drawn: by the second seed late ones, of a log that is longer than one read at its start.
    for seed in [0, 7] {
        let mut plan = world(3);
        plan.seed = seed;
        // It reads what it sends: nothing is kept in memory. And it has to send, for server 2 was away.
        plan.shape.limits.window_bytes = 0;
        plan.shape.think = Time::millis(10);
        let plan = plan
            .with(Time::secs(2), Fault::Isolate { target: server(2), lasts: Time::secs(2) })
            .with(Time::millis(3_900), Fault::FailedReads { target: Target::Leader, lasts: Time::secs(1) });
        let told = run(plan);
        let leader = told.leader_at(Time::millis(3_900));
        let halts = told.when(halted(leader));
        assert!(!halts.is_empty(), "no read failed");
        assert!(told.commits_after(NodeId(2), Time::secs(5)).is_some(), "server 2 got nothing");
        assert!(told.commits_after(leader, Time::secs(5)).is_some(), "who led did not come back");
    }
}

/// Fault E14: heartbeats need no disk, and so a leader whose disk hangs would lead for ever.
#[test]
fn e14_a_leader_whose_disk_hangs_gives_way() {
    let told = run(world(3).with(Time::secs(3), Fault::StuckDisk { target: Target::Leader, lasts: Time::secs(4) }));
    let old = told.leader_at(Time::secs(3));
    assert!(told.succeeded(old, Time::secs(3)) < Time::secs(5), "nobody followed the one whose disk hangs");
}

/// Every disk is slow, and then stuck at once: nothing is lost, and nothing promised that is not kept.
#[test]
fn d5_nothing_is_acknowledged_that_no_disk_has() {
    let stuck =
        |plan: Plan, id| plan.with(Time::secs(3), Fault::StuckDisk { target: server(id), lasts: Time::secs(2) });
    let mut plan = [1, 2, 3].into_iter().fold(world(3), stuck);
    for id in [1, 2, 3] {
        plan = plan.with(Time::millis(4_900), Fault::Crash { target: server(id), down: Time::millis(200) });
    }
    let told = run_in(&raft_sim::Simulation::kv(), plan);
    // What was under way when the disks stopped may be told of for a moment.
    let commits = told
        .between(Time::millis(3_100), Time::millis(4_900))
        .any(|happening| matches!(happening.what, What::Committed { .. }));
    assert!(!commits, "something was committed on disks that stand still");
    let asked = told
        .between(Time::millis(3_100), Time::millis(4_900))
        .any(|happening| matches!(happening.what, What::Client { .. }));
    assert!(asked, "nobody asked for anything");
    assert!(told.commits_after(NodeId(1), Time::secs(6)).is_some());
}
