//! Processes that stop, die and tell the time wrongly.

use raft_core::{NodeId, RoleName};
use raft_sim::plan::{Fault, Target};
use raft_sim::{Time, What};

use super::{run, run_whatever_happens, server, started, world};

#[test]
fn p1_a_leader_that_is_stopped_and_goes_on_serves_nothing_stale() {
    let stop = Fault::Pause { target: Target::Leader, lasts: Time::secs(3) };
    // Its peers give their connections up, and so it hears nothing of them for a moment more.
    let cut = Fault::Isolate { target: Target::Leader, lasts: Time::millis(3_100) };
    let told = run(world(3).with(Time::secs(2), cut).with(Time::secs(2), stop));
    let old = told.leader_at(Time::secs(2));
    assert_eq!(told.when(|what| matches!(what, What::Paused { server } if *server == old)), [Time::secs(2)]);
    let resumed = Time::secs(5);
    assert_eq!(told.when(|what| matches!(what, What::Resumed { server } if *server == old)), [resumed]);
    let succeeded = told.succeeded(old, Time::secs(2));
    assert!(succeeded < resumed, "nobody else led while it stood still");
    let new = told.leader_at(resumed - Time::millis(1));
    assert!(
        told.commits_after(new, succeeded + Time::millis(200)).is_some_and(|at| at < resumed),
        "nothing new to read"
    );
    // It goes on as a leader, and somebody asks it for what it may not know.
    let asked = told.between(succeeded, resumed + Time::millis(20)).any(|happening| {
        matches!(&happening.what, What::Client { words, .. } if words.contains("get") && words.contains(&format!("to server {old}")))
    });
    assert!(asked, "nobody asked the one that stood still");
    let steps_down =
        told.when(|what| matches!(what, What::Role { server, role: RoleName::Follower, .. } if *server == old));
    assert!(steps_down.iter().any(|at| *at >= resumed), "it led no more when it went on");
}

#[test]
fn p2_a_server_that_dies_at_every_write_recovers() {
    let mut plan = world(3);
    for round in 0..40 {
        for id in 1..=3 {
            let at = Time::millis(500 + round * 200 + u64::from(id) * 40);
            let (writes, durable) = (u32::try_from(round).unwrap() % 3 + 1, round % 2 == 0);
            let death = Fault::CrashAtWrite { target: server(id), writes, durable, down: Time::millis(15) };
            plan = plan.with(at, death);
        }
    }
    let told = run_whatever_happens(&raft_sim::Simulation::kv(), plan);
    for id in [1, 2, 3].map(NodeId) {
        let (deaths, lives) = (told.when(|what| *what == What::Crashed { server: id }), told.when(started(id)));
        assert!(deaths.len() >= 15, "server {id} died {} times only", deaths.len());
        assert!(lives.len() > deaths.len(), "server {id} started {} times", lives.len());
    }
    let first_death = told.when(|what| matches!(what, What::Crashed { .. }))[0];
    assert!(told.commits_after(NodeId(1), first_death + Time::secs(4)).is_some(), "nothing was done meanwhile");
}

/// Faults D5 and P2: whoever is alone has nobody to ask. It dies at its first writes, and at many others: as they begin, or
/// once they are durable and nobody was told.
#[test]
fn d5_a_server_alone_keeps_what_it_acknowledged_wherever_it_dies() {
    let death = |writes, durable| Fault::CrashAtWrite { target: server(1), writes, durable, down: Time::millis(15) };
    for first in 1..=3 {
        let mut plan = world(1);
        plan.shape.duration = Time::secs(4);
        for (number, writes) in (first..first + 12).enumerate() {
            plan = plan.with(Time::millis(300 * number as u64), death(writes, number % 2 == 0));
        }
        let told = run_whatever_happens(&raft_sim::Simulation::kv(), plan);
        let deaths = told.when(|what| matches!(what, What::Crashed { .. }));
        assert!(deaths.len() >= 5, "it died {} times only", deaths.len());
        assert!(told.commits_after(NodeId(1), deaths[4]).is_some(), "nothing more was committed");
    }
}

#[test]
fn p3_a_clock_that_jumps_changes_nothing() {
    let mut plan = world(3);
    let calm = run(plan.clone());
    let leader = calm.leader_at(Time::secs(9));
    assert_eq!(calm.leaders().len(), 1, "an unruly world tells nothing");
    for second in 2..9_u32 {
        let follower = (1..=3).filter(|id| NodeId(*id) != leader).nth(second as usize % 2).unwrap();
        let ticks = [15, 100, 1_000][second as usize % 3];
        plan = plan.with(Time::secs(second.into()), Fault::Jump { target: server(follower), ticks });
    }
    let told = run(plan);
    assert_eq!(told.leaders(), calm.leaders(), "a follower whose clock jumped deposed the leader");
    // It believed that there was none.
    let asked = told.when(|what| matches!(what, What::Sent { words, .. } if words.starts_with("PreVote for")));
    assert!(asked.iter().any(|at| *at >= Time::secs(2)), "no clock jumped by as much as matters");
}

#[test]
fn p3_a_leader_whose_clock_jumps_is_soon_followed_by_one() {
    let mut plan = world(3);
    for second in 2..9 {
        plan = plan.with(Time::secs(second), Fault::Jump { target: Target::Leader, ticks: 1_000 });
    }
    let told = run(plan);
    for second in 2..9 {
        let (from, until) = (Time::secs(second), Time::millis(second * 1_000 + 900));
        let commits = told
            .between(from + Time::millis(1), until)
            .any(|happening| matches!(happening.what, What::Committed { .. }));
        assert!(commits, "nothing is committed in second {second}");
    }
    assert!(told.leaders().len() > 1, "it led on as if it had heard them all that time");
}

#[test]
fn p3_a_clock_that_is_too_fast_or_too_slow_changes_nothing() {
    let mut plan = world(3);
    // Seldom enough that followers hear little but heartbeats.
    plan.shape.think = Time::millis(400);
    let calm = run(plan.clone());
    let leader = calm.leader_at(Time::secs(9));
    assert_eq!(calm.leaders().len(), 1, "an unruly world tells nothing");
    let follower = (1..=3).find(|id| NodeId(*id) != leader).unwrap();
    // It waits for less time than passes between two heartbeats.
    let plan = plan
        .with(Time::secs(2), Fault::Drift { target: server(follower), permille: 3_000, lasts: Time::secs(6) })
        .with(Time::secs(2), Fault::Drift { target: Target::Leader, permille: 300, lasts: Time::secs(6) });
    let told = run(plan);
    assert_eq!(told.leaders(), calm.leaders(), "a follower whose clock is fast deposed the leader");
    for id in [1, 2, 3].map(NodeId) {
        assert!(
            told.commits_after(id, Time::millis(7_500)).is_some_and(|at| at < Time::secs(9)),
            "server {id} is left behind"
        );
    }
}

/// No fault of any server's: with one entry a round trip it takes longer than the simulator waits for one that stands still.
#[test]
fn a_server_that_lags_far_is_waited_for() {
    let mut plan = world(3);
    (plan.shape.duration, plan.shape.think) = (Time::secs(26), Time::ZERO);
    (plan.shape.limits.max_append_bytes, plan.shape.limits.max_inflight, plan.shape.limits.max_batch_bytes) = (1, 1, 1);
    run(plan.with(Time::ZERO, Fault::Isolate { target: server(3), lasts: Time::secs(26) }));
}
