//! Leadership transfer (dissertation §3.10).

use raft_core::{Action, Body, Event, NodeId, Refusal, RoleName};

use crate::cluster::{Cluster, sent_to};

#[test]
fn a_transfer_elects_its_target_at_once() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.term(3)), (vec![3], 2), "no timeout passed, and no pre-vote was refused");
    cluster.propose(3, "x");
    cluster.settle();
    assert_eq!(cluster.commit(3), 3);
}

#[test]
fn a_lost_timeout_now_is_said_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.step(1, Event::TransferLeadership(NodeId(2)));
    cluster.network.clear();
    cluster.run(3);
    assert_eq!(cluster.leaders(), [2]);
}

#[test]
fn a_leader_that_stops_hands_over_to_whoever_is_furthest() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(2);
    cluster.propose(1, "x");
    cluster.settle();
    cluster.mend();
    cluster.step(1, Event::HandOver);
    cluster.settle();
    assert_eq!(cluster.leaders(), [3]);
    assert_eq!(cluster.node(1).role(), RoleName::Follower);
    let mut alone = Cluster::new(1);
    alone.elect(1);
    assert_eq!(alone.step(1, Event::HandOver), [], "there is nobody");
}

#[test]
fn a_transfer_that_is_asked_for_again_does_not_begin_anew() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.run(10);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.run(5);
    assert!(cluster.notices.contains(&(1, Action::TransferAborted { target: NodeId(3) })));
}

#[test]
fn of_those_who_are_equally_far_the_one_heard_last_takes_over() {
    for silent in [2, 3] {
        let mut cluster = Cluster::new(3);
        cluster.elect(1);
        cluster.run(3);
        cluster.cut_off(silent);
        cluster.run(6);
        let actions = cluster.step(1, Event::HandOver);
        assert_eq!(sent_to(&actions, 5 - silent), [Body::TimeoutNow], "node {silent} may be down");
    }
}

#[test]
fn a_transfer_that_is_asked_for_again_is_not_refused() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let ask = |cluster: &mut Cluster, id: u32| cluster.step(1, Event::TransferLeadership(NodeId(id)));
    for _ in 0..2 {
        let actions = ask(&mut cluster, 3);
        assert_eq!((actions.len(), sent_to(&actions, 3)), (1, vec![Body::TimeoutNow]));
    }
    let (target, reason) = (NodeId(2), Refusal::TransferInProgress { target: NodeId(3) });
    assert_eq!(ask(&mut cluster, 2), [Action::TransferRefused { target, reason }]);
}
