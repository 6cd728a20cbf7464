//! Writes that are sent again, and the sessions that know them.

use raft_core::NodeId;
use raft_kv::{KvMachine, SessionLimits};
use raft_sim::Time;
use raft_sim::plan::{Fault, Plan};

use super::watching::watched;
use super::{compacting, kv, run_in, server, world};

/// Replies are lost, requests come twice or seconds later.
fn rough(mut plan: Plan) -> Plan {
    let network = &mut plan.shape.network;
    (network.loss, network.duplication, network.late, network.late_max) = (200, 300, 100, Time::secs(2));
    plan
}

#[test]
fn c1_a_retry_is_answered_and_not_applied_again() {
    let (told, seen) = watched(rough(world(3)));
    let twice = seen.lock().unwrap().places.values().filter(|places| places.len() > 1).count();
    assert!(twice > 10, "{twice} writes stand in the log twice");
    assert!(told.clients_said("(attempt 2)") > 10, "nobody tried again");
}

/// Clocks run wild for a minute in which clients hardly write: no session ends by that.
#[test]
fn c2_no_session_expires_by_a_clock() {
    let mut plan = world(3);
    (plan.shape.duration, plan.shape.think) = (Time::secs(60), Time::secs(4));
    for (id, permille) in [(1, 3_000), (2, 300), (3, 1_300)] {
        plan = plan.with(Time::secs(1), Fault::Drift { target: server(id), permille, lasts: Time::secs(50) });
        plan = plan.with(Time::secs(30), Fault::Jump { target: server(id), ticks: 1_000 });
    }
    let (told, _) = watched(plan);
    assert_eq!(told.clients_said("has expired"), 0);
    assert!(told.report.operations > 20);
}

/// Of a machine that keeps few sessions they do expire, by the order of the log: on all servers alike, one that begins
/// with a snapshot included.
#[test]
fn c2_sessions_expire_by_the_log_alone() {
    let limits = SessionLimits { sessions_max: 2, ..SessionLimits::default() };
    let simulation = kv().state_machine(move || KvMachine::new(limits, |one, other| one == other)).build();
    let isolation = Fault::Isolate { target: server(3), lasts: Time::secs(2) };
    let told = run_in(&simulation, compacting(world(3)).with(Time::secs(3), isolation));
    assert!(told.clients_said("has expired") > 10, "no session expired");
    assert!(!told.notices(NodeId(3), "SnapshotInstalled").is_empty());
}

#[test]
fn c3_sessions_survive_a_snapshot() {
    let mut plan = rough(compacting(world(3)));
    plan.shape.limits.max_chunk_bytes = 1 << 20;
    for second in 1..9_u32 {
        let target = server(second % 3 + 1);
        plan = plan.with(Time::secs(second.into()), Fault::Crash { target, down: Time::millis(300) });
    }
    let (_, seen) = watched(plan);
    let seen = seen.lock().unwrap();
    assert!(seen.from_snapshot > 0, "no server was asked for what it knew from a snapshot only");
}
