//! States that are not what the log makes them.

use raft_core::NodeId;
use raft_sim::plan::{Fault, Plan};
use raft_sim::{Time, What};

use super::{Told, run, server, started, world};

/// The state of this server is altered after three seconds.
fn altered(id: u32) -> (Plan, Time) {
    let (mut plan, at) = (world(3), Time::secs(3));
    plan.shape.limits.state_digest_every = Some(8);
    (plan.with(at, Fault::AlteredState { target: server(id) }), at)
}

/// This server alone halts, soon after it was altered, and for that; the others go on, and so does it once it has started
/// anew.
fn it_alone_is_fenced(told: &Told, id: NodeId, at: Time) {
    let halts = |what: &What| matches!(what, What::Halted { .. });
    let of_it = |what: &What| matches!(what, What::Halted { server, why } if *server == id && why.contains("the state differs"));
    let when = told.when(of_it);
    assert_eq!((when.len(), told.when(halts)), (1, when.clone()));
    let halted = when[0];
    assert!(halted > at && halted < at + Time::secs(1), "it halts at {halted}");
    let restart = told.when(started(id)).into_iter().find(|begins| *begins > halted).expect("it starts again");
    for other in [1, 2, 3].map(NodeId).into_iter().filter(|other| *other != id) {
        assert_eq!(told.when(started(other)).len(), 1, "server {other} has run all the time");
        assert!(told.commits_after(other, halted).is_some_and(|commits| commits < restart), "{other} does not go on");
    }
    assert!(told.commits_after(id, restart).is_some(), "it learns nothing more");
}

#[test]
fn i12_a_follower_whose_state_differs_fences_itself_and_comes_back() {
    let follower = {
        let leader = run(world(3)).leader_at(Time::secs(3));
        [1, 2, 3].into_iter().find(|id| NodeId(*id) != leader).unwrap()
    };
    let (plan, at) = altered(follower);
    let told = run(plan);
    assert_ne!(told.leader_at(at), NodeId(follower));
    it_alone_is_fenced(&told, NodeId(follower), at);
    let leader = told.leader_at(at);
    assert!(!told.notices(leader, "StateDiffers").is_empty(), "the leader says nothing");
}

#[test]
fn i12_a_leader_whose_state_differs_fences_itself_and_no_follower() {
    let leader = run(world(3)).leader_at(Time::secs(3));
    let (plan, at) = altered(leader.0);
    let told = run(plan);
    assert_eq!(told.leader_at(at), leader);
    it_alone_is_fenced(&told, leader, at);
    told.succeeded(leader, at);
}
