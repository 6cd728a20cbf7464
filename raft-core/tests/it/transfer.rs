//! Leadership transfer (dissertation §3.10).

use raft_core::{Action, Body, Event, NodeId, Refusal, RoleName};

use crate::cluster::{Cluster, message, sent_to};

fn refused(target: u32, reason: Refusal) -> Action {
    Action::TransferRefused { target: NodeId(target), reason }
}

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
fn e13_a_lagging_target_is_caught_up_first_and_writes_are_refused_meanwhile() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.settle();
    let actions = cluster.step(1, Event::TransferLeadership(NodeId(3)));
    assert!(!sent_to(&actions, 3).contains(&Body::TimeoutNow), "its log is behind");
    let reason = Refusal::TransferInProgress { target: NodeId(3) };
    assert_eq!(cluster.propose(1, "y"), [Action::ProposalRefused(reason)]);
    assert_eq!(cluster.step(1, Event::TransferLeadership(NodeId(2))), [refused(2, reason)]);
    cluster.mend();
    cluster.run(3);
    assert_eq!(cluster.leaders(), [3]);
    assert_eq!(cluster.log(3), [1, 1, 2]);
}

#[test]
fn e13_a_transfer_is_given_up_after_an_election_timeout() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.run(14);
    assert!(matches!(cluster.propose(1, "x")[..], [Action::ProposalRefused(_)]));
    cluster.run(1);
    assert!(cluster.notices.contains(&(1, Action::TransferAborted { target: NodeId(3) })));
    cluster.propose(1, "x");
    cluster.run(1);
    assert_eq!((cluster.leaders(), cluster.commit(1)), (vec![1], 2));
}

#[test]
fn e13_a_stale_timeout_now_is_harmless() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.elect_after_silence(2);
    assert_eq!(cluster.step(3, message(1, 3, 1, Body::TimeoutNow)), [], "of an older term: nothing");
    cluster.step(3, message(2, 3, 2, Body::TimeoutNow));
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.term(3)), (vec![3], 3), "of this term: an ordinary election");
    assert_eq!(cluster.step(3, message(1, 3, 3, Body::TimeoutNow)).len(), 1, "to a leader: dropped with a reason");
    assert_eq!(cluster.leaders(), [3]);
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
fn what_cannot_be_handed_over_is_refused_with_a_reason() {
    let mut cluster = Cluster::new(3);
    let nobody = Refusal::NotLeader { leader: None };
    assert_eq!(cluster.step(1, Event::TransferLeadership(NodeId(2))), [refused(2, nobody)]);
    cluster.elect(1);
    assert_eq!(cluster.step(1, Event::TransferLeadership(NodeId(1))), [refused(1, Refusal::Unchanged)]);
    let stranger = Refusal::NotVoter { id: NodeId(9) };
    assert_eq!(cluster.step(1, Event::TransferLeadership(NodeId(9))), [refused(9, stranger)]);
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
