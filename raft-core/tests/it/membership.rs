//! Membership changes by joint consensus (§6), and the faults that others had there.

use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Entry, Event, HardState, Incarnation,
    LogIndex, MemStorage, MembershipChange, NodeId, Payload, ReadId, Refusal, RoleName, Term,
};

use crate::cluster::{Cluster, message, sent_to};

fn change(voters: &[u32], learners: &[u32]) -> Event {
    let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect();
    Event::ChangeMembership(MembershipChange {
        voters: ids(voters),
        learners: ids(learners),
        catch_up: false,
        addresses: Vec::new(),
    })
}

fn catching_up(voters: &[u32]) -> Event {
    let voters = voters.iter().copied().map(NodeId).collect();
    Event::ChangeMembership(MembershipChange { voters, learners: Vec::new(), catch_up: true, addresses: Vec::new() })
}

fn voters(cluster: &Cluster, id: u32) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let configuration = cluster.node(id).status().configuration;
    let ids = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect();
    (ids(configuration.voters()), ids(configuration.voters_outgoing()), ids(configuration.learners()))
}

/// Nodes 1 to `nodes`, founded with the first `founders` as voters; the others know nothing.
fn group(founders: u32, nodes: u32) -> Cluster {
    let mut cluster = Cluster::with_founders(founders, nodes, 0);
    cluster.elect(1);
    cluster
}

#[test]
fn any_set_becomes_any_other_in_one_call() {
    let mut cluster = group(3, 5);
    cluster.step(1, change(&[1, 4, 5], &[2]));
    cluster.run(9);
    for id in [1, 2, 4, 5] {
        assert_eq!(voters(&cluster, id), (vec![1, 4, 5], vec![], vec![2]), "node {id}");
    }
    assert_eq!(cluster.log(1), [1, 1, 1], "the no-op, the joint configuration, the leave");
    cluster.cut_off(2);
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.run(3);
    assert_eq!(cluster.commit(5), 4, "the new voters are enough");
}

#[test]
fn conformance_07_a_promoted_learner_votes_before_it_knows() {
    let mut cluster = group(2, 3);
    cluster.step(1, change(&[1, 2], &[3]));
    cluster.run(3);
    assert_eq!(voters(&cluster, 3), (vec![1, 2], vec![], vec![3]));
    cluster.cut = vec![(1, 3), (3, 1)];
    cluster.step(1, change(&[1, 2, 3], &[]));
    cluster.settle();
    let last = cluster.node(2).status().last_index;
    assert!(cluster.node(3).status().last_index < last);
    assert_eq!(voters(&cluster, 2).0, [1, 2, 3], "active as soon as appended");
    cluster.mend();
    cluster.cut_off(1);
    cluster.tick(3, 15);
    cluster.tick(2, 15);
    cluster.network.clear();
    cluster.step(2, Event::Campaign);
    cluster.settle();
    assert_eq!(cluster.node(2).role(), RoleName::Leader, "m5: node 3 votes though it does not know that it may");
    cluster.run(6);
    assert_eq!(cluster.log(3), cluster.log(2));
    assert_eq!(cluster.commit(3), cluster.commit(2), "and it counts");
}

#[test]
fn conformance_08_a_shrinking_quorum_commits_what_waited() {
    let mut cluster = group(2, 2);
    cluster.step(1, change(&[1], &[]));
    cluster.propose(1, "x");
    assert_eq!(cluster.commit(1), 1, "the change needs both halves");
    cluster.settle();
    assert_eq!(cluster.commit(1), cluster.node(1).status().last_index.0, "after it node 1 is enough");
    assert_eq!(voters(&cluster, 1), (vec![1], vec![], vec![]));
    cluster.cut_off(2);
    cluster.propose(1, "y");
    assert_eq!(cluster.commit(1), cluster.node(1).status().last_index.0);
}

#[test]
fn conformance_09_m7_a_leader_that_removes_itself_hands_over_and_stops() {
    let mut cluster = group(3, 3);
    let term = cluster.term(1);
    cluster.cut_off(3);
    cluster.step(1, change(&[2, 3], &[]));
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.commit(1)), (vec![1], 1), "2 alone is no majority of {{2, 3}}");
    cluster.mend();
    cluster.run(6);
    assert_eq!(cluster.node(1).role(), RoleName::Follower);
    let leaders = cluster.leaders();
    assert!(leaders == [2] || leaders == [3], "it handed over: {leaders:?}");
    assert_eq!(cluster.term(leaders[0]), term + 1, "at once, by a transfer");
    assert!(matches!(cluster.propose(1, "x")[..], [Action::ProposalRefused(Refusal::NotLeader { .. })]));
    cluster.cut_off(1);
    cluster.tick(1, 200);
    assert_eq!((cluster.node(1).role(), cluster.network.len()), (RoleName::Follower, 0), "it never campaigns again");
}

#[test]
fn conformance_10_m3_one_automatic_leave() {
    let mut cluster = group(3, 3);
    cluster.step(1, change(&[1], &[]));
    cluster.propose(1, "x");
    cluster.propose(1, "y");
    cluster.settle();
    cluster.run(6);
    let kinds: Vec<u8> = crate::cluster::all_entries(cluster.node(1)).iter().map(|e| e.payload.kind()).collect();
    assert_eq!(kinds, [0, 2, 1, 1, 2], "the no-op, the joint one, two commands, exactly one leave");
    assert_eq!((voters(&cluster, 1), cluster.commit(1)), ((vec![1], vec![], vec![]), 5));
    let stranger = AppendEntriesResponse::Accepted { match_index: LogIndex(5) };
    assert_eq!(cluster.step(1, message(2, 1, 1, Body::AppendEntriesResponse(Incarnation::UNKNOWN, stranger))), []);
}

#[test]
fn m3_the_next_leader_leaves_a_joint_configuration() {
    let mut cluster = group(3, 5);
    cluster.step(1, change(&[3, 4, 5], &[]));
    // The joint configuration reaches everybody; the leader dies before it can leave.
    while (2..=5).any(|id| cluster.log(id).len() < 2) {
        cluster.deliver(0);
    }
    cluster.cut_off(1);
    cluster.network.clear();
    assert!((1..=5).all(|id| !voters(&cluster, id).1.is_empty()), "still joint");
    cluster.run(80);
    let leader = cluster.leaders().into_iter().find(|id| *id != 1).expect("a leader");
    assert_eq!(voters(&cluster, leader), (vec![3, 4, 5], vec![], vec![]));
    let leaves = crate::cluster::all_entries(cluster.node(leader));
    assert_eq!(leaves.iter().filter(|entry| entry.payload.kind() == 2).count(), 2);
}

#[test]
fn conformance_12_m4_one_change_at_a_time() {
    let mut cluster = group(3, 5);
    cluster.step(1, change(&[1, 2, 3, 4], &[]));
    let last = cluster.node(1).status().last_index;
    let refused = [Action::MembershipRefused(Refusal::ChangeInProgress)];
    assert_eq!(cluster.step(1, change(&[1, 2, 3, 5], &[])), refused);
    assert_eq!(cluster.node(1).status().last_index, last, "nothing is appended");
    cluster.run(6);
    assert!(matches!(cluster.step(1, change(&[1, 2, 3], &[]))[0], Action::Persist(_)), "and then another");
}

#[test]
fn conformance_13_adding_under_check_quorum() {
    let mut cluster = group(1, 2);
    cluster.tick(1, 14);
    cluster.cut_off(2);
    cluster.step(1, change(&[1, 2], &[]));
    cluster.tick(1, 1);
    assert_eq!(cluster.node(1).role(), RoleName::Leader, "the new one has an election timeout to answer");
    cluster.tick(1, 15);
    assert_eq!(cluster.node(1).role(), RoleName::Follower);
}

#[test]
fn m1_no_change_before_a_commit_in_the_leaders_term() {
    let mut cluster = group(3, 4);
    cluster.cut_off(1);
    cluster.tick(2, 15);
    cluster.tick(3, 15);
    cluster.network.clear();
    cluster.step(2, Event::Campaign);
    while cluster.node(2).role() != RoleName::Leader {
        cluster.deliver(0);
    }
    let refused = [Action::MembershipRefused(Refusal::NoCommitInTerm)];
    assert_eq!(cluster.step(2, change(&[1, 2, 3, 4], &[])), refused);
    cluster.settle();
    assert!(matches!(cluster.step(2, change(&[1, 2, 3, 4], &[]))[0], Action::Persist(_)));
}

#[test]
fn m2_a_truncated_configuration_never_was() {
    let mut cluster = group(3, 5);
    cluster.run(3);
    cluster.cut_off(1);
    cluster.step(1, change(&[1, 4, 5], &[]));
    assert_eq!(voters(&cluster, 1), (vec![1, 4, 5], vec![1, 2, 3], vec![]), "active as soon as appended");
    cluster.run(60);
    let leader = cluster.leaders()[0];
    assert_ne!(leader, 1);
    cluster.mend();
    cluster.run(9);
    assert_eq!(voters(&cluster, 1), (vec![1, 2, 3], vec![], vec![]));
    assert_eq!(cluster.log(1), cluster.log(leader));
}

#[test]
fn m6_a_learner_never_campaigns_and_never_counts() {
    let mut cluster = group(2, 3);
    cluster.step(1, change(&[1, 2], &[3]));
    cluster.run(3);
    cluster.cut_off(2);
    let before = cluster.commit(1);
    cluster.propose(1, "x");
    cluster.settle();
    assert_eq!(cluster.log(3), cluster.log(1), "it receives");
    assert_eq!(cluster.commit(1), before, "and does not count");
    cluster.cut_off(3);
    cluster.network.clear();
    cluster.tick(3, 200);
    cluster.step(3, Event::Campaign);
    assert_eq!((cluster.node(3).role(), cluster.network.len()), (RoleName::Follower, 0));
}

#[test]
fn what_cannot_change_is_refused_with_a_reason() {
    let mut cluster = group(3, 3);
    let refused = |reason| [Action::MembershipRefused(reason)];
    let leader = Some(NodeId(1));
    assert_eq!(cluster.step(2, change(&[1], &[])), refused(Refusal::NotLeader { leader }));
    assert_eq!(cluster.step(1, change(&[], &[1])), refused(Refusal::EmptyVoters));
    assert_eq!(cluster.step(1, change(&[3, 2, 1, 1], &[])), refused(Refusal::Unchanged));
    cluster.cut_off(3);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    let going = refused(Refusal::TransferInProgress { target: NodeId(3) });
    assert_eq!(cluster.step(1, change(&[1, 2], &[])), going);
}

#[test]
fn a_new_voter_catches_up_before_it_counts() {
    let mut cluster = group(1, 2);
    for _ in 0..5 {
        cluster.propose(1, "x");
    }
    cluster.cut_off(2);
    cluster.step(1, catching_up(&[1, 2]));
    assert_eq!(voters(&cluster, 1), (vec![1], vec![], vec![2]));
    cluster.propose(1, "y");
    assert_eq!(cluster.commit(1), 8, "commits do not wait for it");
    cluster.mend();
    cluster.run(6);
    assert_eq!(voters(&cluster, 1), (vec![1, 2], vec![], vec![]));
    assert_eq!(voters(&cluster, 2), (vec![1, 2], vec![], vec![]));
}

#[test]
fn a_wait_that_is_too_long_is_replaced_by_another_change() {
    let mut cluster = group(1, 2);
    cluster.cut_off(2);
    cluster.step(1, catching_up(&[1, 2]));
    assert_eq!(voters(&cluster, 1).2, [2]);
    cluster.step(1, change(&[1], &[]));
    cluster.mend();
    cluster.run(6);
    assert_eq!(voters(&cluster, 1), (vec![1], vec![], vec![]));
}

#[test]
fn a_restarted_node_finds_its_configuration_in_the_log() {
    let mut cluster = group(3, 4);
    cluster.step(1, change(&[1, 2, 4], &[3]));
    cluster.run(6);
    for id in 1..=4 {
        cluster.crash(id, 0);
        assert_eq!(voters(&cluster, id), (vec![1, 2, 4], vec![], vec![3]), "node {id}");
    }
    cluster.run(60);
    assert_eq!(cluster.leaders().len(), 1);
}

#[test]
fn bytes_that_are_no_configuration_are_a_peers_fault() {
    let mut cluster = group(3, 3);
    let payload = Payload::Configuration(vec![0xff; 12].into());
    let request = AppendEntries {
        prev_log_index: LogIndex(0),
        prev_log_term: Term(0),
        prev_log_hash: None,
        leader_commit: LogIndex(0),
        entries: [Entry { index: LogIndex(1), term: Term(1), payload: payload.clone() }].into(),
    };
    let actions = cluster.step(2, message(1, 2, 1, Body::AppendEntries(request)));
    assert!(matches!(actions[..], [Action::MessageDropped { from: NodeId(1), .. }]), "{actions:?}");
    assert!(sent_to(&actions, 1).is_empty());
    let hard_state = HardState { current_term: Term(1), voted_for: None };
    let log = vec![Entry { index: LogIndex(1), term: Term(1), payload }];
    let storage = MemStorage::with_log(Configuration::new([NodeId(1)]), hard_state, log).unwrap();
    assert!(raft_core::Node::new(Config::new(NodeId(1)), storage).is_err(), "damage is not the founding configuration");
}

/// Dissertation §4.2.2: "a server that is not part of its own latest configuration should still start new elections, as
/// it might still be needed until the C_new entry is committed".
#[test]
fn a_server_outside_of_its_newest_configuration_still_campaigns_until_that_is_committed() {
    let mut cluster = group(3, 4);
    cluster.step(1, change(&[4], &[2]));
    while cluster.log(1).len() < 3 {
        cluster.deliver(0);
    }
    // The leave reaches node 2, a learner in it, and not node 4, its only voter. Then the leader is gone.
    cluster.network.retain(|message| message.to == NodeId(2));
    cluster.settle();
    cluster.network.clear();
    assert_eq!((cluster.log(2).len(), cluster.log(4).len()), (3, 2));
    cluster.cut_off(1);
    cluster.run(100);
    let leader = cluster.leaders().into_iter().find(|id| *id != 1).expect("2, 3 and 4 are majorities of both halves");
    assert_eq!(voters(&cluster, leader), (vec![4], vec![], vec![2]));
    cluster.run(10);
    assert_eq!(cluster.leaders().into_iter().filter(|id| *id != 1).collect::<Vec<_>>(), [4]);
}

#[test]
fn m4_a_change_of_learners_is_a_change_under_way_too() {
    let mut cluster = group(3, 5);
    cluster.step(1, change(&[1, 2, 3], &[4]));
    let refused = [Action::MembershipRefused(Refusal::ChangeInProgress)];
    assert_eq!(cluster.step(1, change(&[1, 2, 3], &[5])), refused, "it is not committed");
    cluster.settle();
    assert!(matches!(cluster.step(1, change(&[1, 2, 3], &[5]))[0], Action::Persist(_)));
}

#[test]
fn a_round_of_an_election_timeout_is_not_the_last() {
    let mut cluster = group(1, 2);
    cluster.cut_off(2);
    cluster.step(1, catching_up(&[1, 2]));
    cluster.tick(1, 15);
    cluster.propose(1, "x");
    cluster.mend();
    cluster.network.clear();
    // Its acknowledgement of what the round began with comes late, and the proposal is not among it.
    let entry_2 = AppendEntriesResponse::Accepted { match_index: LogIndex(2) };
    cluster.step(1, message(2, 1, 1, Body::AppendEntriesResponse(Incarnation::UNKNOWN, entry_2)));
    assert!(cluster.node(1).status().promotion.is_some());
    cluster.network.clear();
    cluster.propose(1, "y");
    // The next round ends with what had committed when it began, and is short.
    let entry_3 = AppendEntriesResponse::Accepted { match_index: LogIndex(3) };
    cluster.step(1, message(2, 1, 1, Body::AppendEntriesResponse(Incarnation::UNKNOWN, entry_3)));
    assert_eq!(cluster.node(1).status().promotion, None);
}

#[test]
fn a_read_of_before_the_change_needs_only_those_who_vote_after_it() {
    let mut cluster = group(3, 3);
    cluster.step(1, change(&[1], &[]));
    cluster.network.retain(|message| !matches!(message.body, Body::Heartbeat(_)));
    cluster.step(1, Event::Read(ReadId(7)));
    // The heartbeats of its round are lost; the joint configuration commits and is left.
    cluster.network.retain(|message| !matches!(message.body, Body::Heartbeat(_)));
    cluster.settle();
    assert_eq!(voters(&cluster, 1), (vec![1], vec![], vec![]));
    assert_eq!(cluster.safety.unanswered_reads(), 0, "node 1 alone is a quorum");
}

#[test]
fn a_new_voter_that_comes_late_to_an_idle_group_is_promoted_all_the_same() {
    let mut cluster = group(1, 2);
    cluster.cut_off(2);
    cluster.step(1, catching_up(&[1, 2]));
    cluster.run(40);
    cluster.mend();
    cluster.run(6);
    assert_eq!((voters(&cluster, 2).0, cluster.node(1).status().promotion), (vec![1, 2], None));
}

#[test]
fn who_stays_keeps_its_progress_through_a_change() {
    let mut cluster = group(3, 4);
    let progress = |cluster: &Cluster| cluster.node(1).status().followers[0].1.match_index();
    assert_eq!(progress(&cluster), LogIndex(1));
    cluster.step(1, change(&[1, 2, 3], &[4]));
    assert_eq!(progress(&cluster), LogIndex(1));
}

fn at(voters: &[u32], addresses: &[(u32, &str)]) -> Event {
    let voters = voters.iter().copied().map(NodeId).collect();
    let addresses = addresses.iter().map(|(id, address)| (NodeId(*id), (*address).into())).collect();
    Event::ChangeMembership(MembershipChange { voters, learners: Vec::new(), catch_up: true, addresses })
}

fn addresses(cluster: &Cluster, id: u32) -> Vec<(u32, String)> {
    let configuration = cluster.node(id).status().configuration;
    let known = |id: NodeId| configuration.address(id).map(|address| (id.0, address.to_owned()));
    configuration.members().into_iter().filter_map(known).collect()
}

#[test]
fn a_member_brings_its_address_and_keeps_it() {
    let mut cluster = group(3, 4);
    cluster.step(1, at(&[1, 2, 3, 4], &[(4, "d:1"), (1, "a:1"), (9, "nobody")]));
    assert_eq!(addresses(&cluster, 1), [(1, "a:1".into()), (4, "d:1".into())], "known as soon as it is a learner");
    cluster.run(12);
    assert_eq!(voters(&cluster, 4), (vec![1, 2, 3, 4], vec![], vec![]));
    assert_eq!(addresses(&cluster, 4), [(1, "a:1".into()), (4, "d:1".into())]);
    cluster.step(1, change(&[1, 2, 4], &[]));
    cluster.run(6);
    assert_eq!(addresses(&cluster, 2), [(1, "a:1".into()), (4, "d:1".into())], "who stays keeps it");
    cluster.step(1, change(&[1, 2], &[]));
    assert_eq!(addresses(&cluster, 1).len(), 2, "4 still counts");
    cluster.run(6);
    assert_eq!(addresses(&cluster, 1), [(1, "a:1".into())]);
}

#[test]
fn an_address_alone_is_a_change_of_one_entry() {
    let mut cluster = group(3, 3);
    cluster.step(1, at(&[1, 2, 3], &[(2, "b:1")]));
    cluster.run(6);
    assert_eq!((cluster.log(1).len(), addresses(&cluster, 3)), (2, vec![(2, "b:1".into())]));
    let unchanged = [Action::MembershipRefused(Refusal::Unchanged)];
    assert_eq!(cluster.step(1, at(&[1, 2, 3], &[(2, "b:1")])), unchanged);
    assert_eq!(cluster.step(1, at(&[1, 2, 3], &[])), unchanged);
    cluster.step(1, at(&[1, 2, 3], &[(2, "b:2")]));
    cluster.run(6);
    assert_eq!((cluster.log(1).len(), addresses(&cluster, 3)), (3, vec![(2, "b:2".into())]));
}

#[test]
fn an_address_that_none_is_so_long_is_refused() {
    let mut cluster = group(1, 1);
    let refused = [Action::MembershipRefused(Refusal::TooLarge { limit: 512 })];
    assert_eq!(cluster.step(1, at(&[1], &[(1, &"x".repeat(513))])), refused);
    cluster.step(1, at(&[1], &[(1, &"x".repeat(512))]));
    assert_eq!(addresses(&cluster, 1), [(1, "x".repeat(512))]);
}
