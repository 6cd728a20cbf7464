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
fn m7_a_removed_leader_that_nobody_relieves_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.step(
        1,
        Event::ChangeMembership(raft_core::MembershipChange {
            voters: vec![NodeId(2), NodeId(3)],
            learners: Vec::new(),
            catch_up: false,
            addresses: Vec::new(),
        }),
    );
    // All that it asks for is lost, and everybody goes on answering it.
    for _ in 0..40 {
        cluster.tick(1, 1);
        while !cluster.network.is_empty() {
            cluster.network.retain(|message| message.body != Body::TimeoutNow);
            if !cluster.network.is_empty() {
                cluster.deliver(0);
            }
        }
    }
    assert_eq!((cluster.node(1).role(), cluster.term(1)), (RoleName::Follower, 1));
}

#[test]
fn m6_a_learner_that_is_told_to_campaign_does_not() {
    let mut cluster = Cluster::with_founders(2, 3, 0);
    cluster.elect(1);
    let actions = cluster.step(3, message(1, 3, 1, Body::TimeoutNow));
    assert!(!actions.iter().any(|action| matches!(action, Action::Send(_))), "{actions:?}");
    assert_eq!(cluster.node(3).role(), RoleName::Follower);
}
