//! Who is made a voter, and by which disk: cases beside those of `incarnations.rs`.

use raft_core::{
    Action, AppendEntriesResponse, Body, Configuration, Event, HeartbeatResponse, Incarnation, LogIndex,
    MembershipChange, NodeId, Refusal, RoleName,
};

use crate::cluster::{Cluster, all_entries, message, sent_to};

fn change(voters: &[u32], learners: &[u32], catch_up: bool) -> Event {
    let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect();
    let (voters, learners) = (ids(voters), ids(learners));
    Event::ChangeMembership(MembershipChange { voters, learners, catch_up, addresses: Vec::new() })
}

fn heard(incarnation: u64) -> Body {
    Body::HeartbeatResponse(Incarnation(incarnation), HeartbeatResponse { round: 0 })
}

fn held(cluster: &Cluster, id: u32) -> Configuration {
    cluster.node(id).status().configuration
}

fn configurations(cluster: &Cluster, id: u32) -> Vec<Configuration> {
    let entries = all_entries(cluster.node(id));
    entries
        .iter()
        .filter(|e| e.payload.kind() == 2)
        .filter_map(|e| Configuration::from_bytes(e.payload.bytes()))
        .collect()
}

fn group(voters: u32, nodes: u32) -> Cluster {
    let mut cluster = Cluster::with_incarnations(voters, nodes, 0);
    cluster.elect(1);
    cluster.run(6);
    cluster
}

/// The leader knows that the learner's disk is gone: making it a voter would leave {1,2} without a quorum for good, though
/// both servers are alive.
#[test]
fn m10_a_learner_whose_disk_is_known_to_be_replaced_is_not_made_a_voter_at_once() {
    let mut cluster = group(1, 2);
    cluster.step(1, change(&[1], &[2], false));
    cluster.run(6);
    assert_eq!(held(&cluster, 1).incarnation(NodeId(2)), Incarnation(20));
    cluster.wipe(2, 21);
    cluster.run(6);
    assert!(cluster.notices.contains(&(1, Action::DiskReplaced { id: NodeId(2) })), "it is known");
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.run(60);
    assert_eq!(cluster.leaders(), [1], "{:?}", held(&cluster, 1));
    // And the way out is open: it is removed and added again.
    cluster.step(1, change(&[1], &[], false));
    cluster.run(6);
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.run(20);
    let now = held(&cluster, 1);
    assert_eq!((now.voters().len(), now.incarnation(NodeId(2)), now.is_joint()), (2, Incarnation(21), false));
}

/// Found on a running cluster: of three, one had lost its disk, and another was removed instead. That was begun, and could
/// never be committed.
#[test]
fn m10_a_change_that_needs_a_lost_disk_is_refused() {
    let mut cluster = group(3, 4);
    cluster.wipe(2, 21);
    cluster.run(6);
    let lost = [Action::MembershipRefused(Refusal::DiskLost { id: NodeId(2) })];
    for voters in [&[1, 2][..], &[2], &[2, 3]] {
        assert_eq!(cluster.step(1, change(voters, &[], true)), lost, "{voters:?}");
    }
    // Where the rest are a majority, and where it goes, nothing is in the way.
    cluster.step(1, change(&[1, 2, 3, 4], &[], true));
    cluster.run(20);
    assert_eq!(held(&cluster, 1).voters().len(), 4);
    cluster.step(1, change(&[1, 3], &[], true));
    cluster.run(20);
    assert_eq!((held(&cluster, 1).voters(), held(&cluster, 1).is_joint()), (&[NodeId(1), NodeId(3)][..], false));
}

/// A learner whose disk is lost is not made a voter by an answer of the old disk that comes late either, where the new one
/// answers before the change is committed.
#[test]
fn m10_a_late_answer_of_the_lost_disk_makes_nobody_a_voter() {
    let mut cluster = group(2, 2);
    cluster.step(1, change(&[1], &[], false));
    cluster.run(6);
    assert_eq!(held(&cluster, 1).members(), [NodeId(1)]);
    cluster.wipe(2, 21);
    cluster.sync = false;
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.step(1, message(2, 1, 1, heard(20)));
    cluster.step(1, message(2, 1, 1, heard(21)));
    cluster.persist(1, usize::MAX);
    cluster.sync = true;
    cluster.run(60);
    assert_eq!(cluster.leaders(), [1], "{:?}", held(&cluster, 1));
}

/// Of a learner that is known already: joint and leave.
#[test]
fn a_change_to_who_is_known_waits_for_nobody() {
    let mut cluster = group(3, 4);
    cluster.step(1, change(&[1, 2, 3], &[4], false));
    cluster.run(6);
    let before = configurations(&cluster, 1).len();
    cluster.cut_off(4);
    cluster.step(1, change(&[1, 2, 3, 4], &[], false));
    assert!(held(&cluster, 1).is_joint());
    cluster.run(10);
    assert_eq!(configurations(&cluster, 1).len() - before, 2);
}

/// Of several, one is dead: they wait, and another change takes the wait back.
#[test]
fn a_dead_one_of_several_new_voters_is_given_up_by_another_change() {
    let mut cluster = group(3, 5);
    cluster.cut_off(5);
    cluster.step(1, change(&[1, 2, 3, 4, 5], &[], false));
    cluster.run(30);
    assert_eq!(held(&cluster, 1).voters().len(), 3);
    cluster.step(1, change(&[1, 2, 3, 4], &[], false));
    cluster.run(10);
    let now = held(&cluster, 1);
    assert_eq!((now.voters().len(), now.learners().len(), now.is_joint()), (4, 0, false));
    assert_eq!(cluster.step(1, change(&[1, 2, 3, 4], &[], false)), [Action::MembershipRefused(Refusal::Unchanged)]);
}

/// A wait with `catch_up` gives way to one without, and the other way round.
#[test]
fn a_wait_is_replaced_by_another() {
    for (first, second) in [(true, false), (false, true)] {
        let mut cluster = group(3, 4);
        cluster.cut_off(4);
        cluster.step(1, change(&[1, 2, 3, 4], &[], first));
        cluster.run(6);
        cluster.step(1, change(&[1, 2, 3, 4], &[], second));
        cluster.run(6);
        assert_eq!(held(&cluster, 1).voters().len(), 3);
        cluster.mend();
        cluster.run(20);
        let now = held(&cluster, 1);
        assert_eq!((now.voters().len(), now.incarnation(NodeId(4))), (4, Incarnation(40)), "{first}");
        // Nothing is pinned again and again.
        let entries = all_entries(cluster.node(1)).len();
        cluster.run(50);
        assert_eq!(all_entries(cluster.node(1)).len(), entries);
    }
}

/// What waits is given up where the same members are wanted without it.
#[test]
fn a_wait_is_taken_back() {
    let mut cluster = group(3, 4);
    cluster.cut_off(4);
    cluster.step(1, change(&[1, 2, 3, 4], &[], false));
    cluster.run(6);
    cluster.step(1, change(&[1, 2, 3], &[4], false));
    cluster.run(6);
    cluster.mend();
    cluster.run(20);
    assert_eq!((held(&cluster, 1).voters().len(), held(&cluster, 1).learners().len()), (3, 1));
}

/// The leader that hears it is handing leadership over: the wait is not forgotten where that comes to nothing.
#[test]
fn a_wait_outlives_a_transfer_that_fails() {
    let mut cluster = group(3, 4);
    cluster.cut_off(4);
    cluster.step(1, change(&[1, 2, 3, 4], &[], false));
    cluster.run(6);
    cluster.cut.clear();
    cluster.cut_off(3);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.step(1, message(4, 1, 1, heard(40)));
    cluster.run(30);
    assert_eq!(cluster.leaders(), [1]);
    assert_eq!(held(&cluster, 1).voters().len(), 4, "{}", held(&cluster, 1));
}

/// Conformance 7 with disks that are told apart: the promoted learner votes, and counts.
#[test]
fn conformance_07_with_incarnations() {
    let mut cluster = group(2, 3);
    cluster.step(1, change(&[1, 2], &[3], false));
    cluster.run(6);
    cluster.cut.extend([(1, 3), (3, 1)]);
    cluster.step(1, change(&[1, 2, 3], &[], false));
    cluster.settle();
    assert!(!held(&cluster, 3).is_voter(NodeId(3)) && held(&cluster, 2).is_voter(NodeId(3)));
    cluster.mend();
    cluster.cut_off(1);
    cluster.tick(2, 15);
    cluster.tick(3, 15);
    cluster.network.clear();
    cluster.elect(2);
    cluster.run(6);
    assert!(held(&cluster, 3).is_voter(NodeId(3)));
    assert_eq!(cluster.commit(2), cluster.node(2).status().last_index.0);
}

#[test]
fn conformance_08_with_incarnations() {
    let mut cluster = group(2, 2);
    cluster.step(1, change(&[1], &[], false));
    cluster.propose(1, "x");
    let commit = cluster.commit(1);
    cluster.network.retain(|m| m.to == NodeId(2));
    assert!(commit < cluster.node(1).status().last_index.0);
    cluster.settle();
    cluster.cut_off(2);
    cluster.propose(1, "y");
    assert_eq!(cluster.commit(1), cluster.node(1).status().last_index.0);
    assert_eq!((held(&cluster, 1).members(), cluster.applied[0].len()), (vec![NodeId(1)], 2));
}

#[test]
fn conformance_09_with_incarnations() {
    let mut cluster = group(3, 3);
    cluster.cut_off(3);
    let commit = cluster.commit(1);
    cluster.step(1, change(&[2, 3], &[], false));
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.commit(1)), (vec![1], commit));
    cluster.propose(1, "x");
    cluster.settle();
    assert_eq!(cluster.commit(1), commit);
    cluster.mend();
    cluster.run(8);
    assert_ne!(cluster.leaders(), [1]);
    assert_eq!(held(&cluster, 2).members(), [NodeId(2), NodeId(3)]);
    cluster.propose(1, "y");
    assert!(matches!(cluster.refusals[..], [Refusal::NotLeader { .. }]));
    cluster.cut_off(1);
    cluster.tick(1, 100);
    cluster.step(1, Event::Campaign);
    assert_eq!(cluster.node(1).role(), RoleName::Follower);
    let entries = all_entries(cluster.node(2)).len();
    cluster.run(20);
    assert_eq!(all_entries(cluster.node(2)).len(), entries);
}

#[test]
fn conformance_11_with_incarnations() {
    for compacted in [false, true] {
        for catch_up in [false, true] {
            let mut cluster = group(3, 4);
            cluster.propose(1, "a");
            cluster.run(3);
            if compacted {
                cluster.take_snapshot(1);
            }
            cluster.step(1, change(&[2, 3, 4], &[], catch_up));
            cluster.run(30);
            let leader = cluster.leaders()[0];
            assert_ne!(leader, 1);
            assert_eq!(held(&cluster, 4).members(), [2, 3, 4].map(NodeId));
            assert_eq!(held(&cluster, 4).incarnation(NodeId(4)), Incarnation(40));
            assert_eq!(cluster.applied[3], ["a"]);
            cluster.cut_off(1);
            cluster.tick(1, 100);
            cluster.step(1, Event::Campaign);
            assert_eq!(cluster.node(1).role(), RoleName::Follower);
        }
    }
}

/// Conformance 13: who holds nothing of the change is a learner, and holds nobody back; who does counts as heard once it
/// votes.
#[test]
fn conformance_13_with_incarnations() {
    let mut cluster = group(1, 2);
    cluster.tick(1, 14);
    cluster.cut_off(2);
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.tick(1, 100);
    assert_eq!((cluster.leaders(), held(&cluster, 1).is_voter(NodeId(2))), (vec![1], false));
    let accepted = AppendEntriesResponse::Accepted { match_index: LogIndex(cluster.commit(1)) };
    cluster.step(1, message(2, 1, 1, Body::AppendEntriesResponse(Incarnation(20), accepted)));
    assert!(held(&cluster, 1).is_joint(), "{}", held(&cluster, 1));
    cluster.tick(1, 14);
    assert_eq!(cluster.leaders(), [1]);
    cluster.tick(1, 1);
    assert_eq!(cluster.leaders(), Vec::<u32>::new());
}

/// A leader that was made a learner, and has handed over, is a voter with its own disk again.
#[test]
fn a_leader_made_learner_and_voter_again_keeps_its_disk() {
    for catch_up in [false, true] {
        let mut cluster = group(3, 3);
        cluster.step(1, change(&[2, 3], &[1], false));
        cluster.run(20);
        let leader = cluster.leaders()[0];
        assert_ne!(leader, 1);
        assert_eq!(held(&cluster, leader).incarnation(NodeId(1)), Incarnation(10));
        cluster.step(leader, change(&[1, 2, 3], &[], catch_up));
        cluster.run(20);
        let now = held(&cluster, leader);
        assert_eq!((now.voters().len(), now.incarnation(NodeId(1))), (3, Incarnation(10)));
    }
}

/// An acceptance that came late from the disk that was lost: nobody has caught up by it.
#[test]
fn a_late_acceptance_of_the_lost_disk_is_no_catching_up() {
    let mut cluster = group(3, 3);
    cluster.propose(1, "x");
    cluster.run(3);
    let matched = LogIndex(cluster.commit(1));
    cluster.step(1, change(&[1, 2], &[], true));
    cluster.run(6);
    cluster.wipe(3, 31);
    cluster.step(1, change(&[1, 2, 3], &[], true));
    let late = Body::AppendEntriesResponse(Incarnation(30), AppendEntriesResponse::Accepted { match_index: matched });
    cluster.step(1, message(3, 1, 1, late));
    cluster.run(40);
    assert!(!held(&cluster, 1).is_voter(NodeId(3)), "{:?}", held(&cluster, 1));
    // The way out.
    cluster.step(1, change(&[1, 2], &[], true));
    cluster.run(10);
    cluster.step(1, change(&[1, 2, 3], &[], true));
    cluster.run(20);
    assert_eq!(held(&cluster, 1).incarnation(NodeId(3)), Incarnation(31));
    assert!(held(&cluster, 1).is_voter(NodeId(3)));
}

/// A late answer says which disk there was; only who holds the entry that added it can be the one that there is.
#[test]
fn m10_a_late_answer_alone_makes_nobody_a_voter() {
    let mut cluster = group(2, 2);
    cluster.step(1, change(&[1], &[], false));
    cluster.run(6);
    cluster.wipe(2, 21);
    cluster.cut_off(2);
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.step(1, message(2, 1, 1, heard(20)));
    cluster.mend();
    cluster.run(100);
    assert_eq!((cluster.leaders(), held(&cluster, 1).is_voter(NodeId(2))), (vec![1], false));
    // The way out.
    cluster.step(1, change(&[1], &[], false));
    cluster.run(6);
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.run(20);
    assert_eq!((held(&cluster, 1).is_voter(NodeId(2)), cluster.leaders()), (true, vec![1]));
}

/// The change was possible when it was asked for, and is not any more when its new voter answers.
#[test]
fn m10_a_disk_lost_while_new_voters_are_waited_for() {
    for catch_up in [false, true] {
        let mut cluster = group(3, 4);
        cluster.cut_off(4);
        cluster.step(1, change(&[2, 4], &[], catch_up));
        cluster.run(6);
        cluster.wipe_to_join(2, 21);
        cluster.run(6);
        assert!(cluster.notices.contains(&(1, Action::DiskReplaced { id: NodeId(2) })), "the leader knows");
        cluster.mend();
        cluster.run(200);
        assert_eq!((cluster.leaders(), held(&cluster, 1).is_joint()), (vec![1], false), "{:?}", held(&cluster, 1));
        // The way out: who lost its disk is removed.
        cluster.step(1, change(&[1, 3, 4], &[], catch_up));
        cluster.run(20);
        assert_eq!(held(&cluster, 1).voters(), [1, 3, 4].map(NodeId));
    }
}

/// Its disk is known by the configuration, and this leader has not heard that there is another now.
#[test]
fn m10_a_learner_that_this_leader_has_not_heard_is_waited_for() {
    let mut cluster = group(1, 2);
    cluster.step(1, change(&[1], &[2], false));
    cluster.run(6);
    assert_eq!(held(&cluster, 1).incarnation(NodeId(2)), Incarnation(20));
    cluster.wipe_to_join(2, 21);
    cluster.crash(1, 0);
    cluster.step(1, Event::Campaign);
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.run(100);
    assert_eq!((cluster.leaders(), held(&cluster, 1).is_voter(NodeId(2))), (vec![1], false));
}

/// It would be waited for in vain.
#[test]
fn m10_a_learner_that_lost_its_disk_is_refused_as_a_voter() {
    let mut cluster = group(3, 3);
    cluster.wipe_to_join(3, 31);
    cluster.run(6);
    cluster.step(1, change(&[1, 2], &[3], false));
    cluster.run(20);
    let lost = [Action::MembershipRefused(Refusal::DiskLost { id: NodeId(3) })];
    assert_eq!(cluster.step(1, change(&[1, 2, 3], &[], false)), lost);
}

/// While new voters are waited for, those who will leave are known by their disks as before.
#[test]
fn m10_a_wait_forgets_no_disk() {
    let mut cluster = group(3, 4);
    cluster.cut_off(4);
    cluster.step(1, change(&[1, 2, 4], &[], false));
    cluster.run(6);
    assert_eq!([1, 2, 3].map(|id| held(&cluster, 1).incarnation(NodeId(id)).0), [10, 20, 30]);
}

/// Found on a running cluster: of three, one was dead and its disk lost, which nobody could know; another was removed by
/// mistake, and there was no leader again.
#[test]
fn m10_a_voter_that_does_not_answer_is_not_relied_on() {
    let mut cluster = group(3, 3);
    cluster.cut_off(2);
    cluster.run(20);
    let silent = [Action::MembershipRefused(Refusal::VoterSilent { id: NodeId(2) })];
    for voters in [&[1, 2][..], &[2, 3], &[2]] {
        assert_eq!(cluster.step(1, change(voters, &[], true)), silent, "{voters:?}");
    }
    cluster.mend();
    cluster.run(3);
    // A connection that breaks is known at once.
    cluster.step(1, Event::Unreachable(NodeId(2)));
    assert_eq!(cluster.step(1, change(&[1, 2], &[], true)), silent);
    cluster.run(3);
    cluster.step(1, change(&[1, 2], &[], true));
    cluster.run(20);
    assert_eq!(held(&cluster, 1).members(), [1, 2].map(NodeId));
}

/// The same while new voters are waited for: nothing is begun until the one that stays is there again.
#[test]
fn m10_a_change_waits_for_the_voters_that_it_needs() {
    for catch_up in [false, true] {
        let mut cluster = group(3, 4);
        cluster.cut_off(4);
        cluster.step(1, change(&[2, 4], &[], catch_up));
        cluster.mend();
        cluster.cut_off(2);
        cluster.step(1, Event::Unreachable(NodeId(2)));
        cluster.run(20);
        assert_eq!(cluster.node(4).status().last_index, cluster.node(1).status().last_index, "it has caught up");
        assert!(!held(&cluster, 1).is_voter(NodeId(4)), "{catch_up}: {}", held(&cluster, 1));
        cluster.mend();
        cluster.run(30);
        let leader = cluster.leaders()[0];
        assert_eq!(held(&cluster, leader).members(), [2, 4].map(NodeId), "{catch_up}");
    }
}

/// The same where the new voter is a learner already: what the lost disk has said is of entries from before it was added.
#[test]
fn m10_a_late_answer_of_a_learner_makes_it_no_voter() {
    let mut cluster = group(2, 2);
    cluster.step(1, change(&[1], &[], false));
    cluster.run(6);
    cluster.wipe_to_join(2, 21);
    cluster.cut_off(2);
    cluster.step(1, change(&[1], &[2], false));
    cluster.run(2);
    cluster.step(1, message(2, 1, 1, heard(20)));
    cluster.step(1, change(&[1, 2], &[], false));
    cluster.mend();
    cluster.run(200);
    assert_eq!((cluster.leaders(), held(&cluster, 1).is_joint()), (vec![1], false));
}

/// A new voter has caught up, and is dead by the time that the other one has.
#[test]
fn m10_a_new_voter_that_falls_silent_is_not_relied_on() {
    for catch_up in [false, true] {
        let mut cluster = group(3, 5);
        cluster.cut_off(5);
        cluster.step(1, change(&[4, 5], &[], catch_up));
        cluster.run(10);
        assert_eq!(cluster.node(4).status().last_index, cluster.node(1).status().last_index);
        cluster.mend();
        cluster.cut_off(4);
        cluster.cut.extend([(1, 5), (5, 1)]);
        cluster.wipe_to_join(4, 41);
        cluster.run(100);
        assert_eq!(cluster.leaders(), [1]);
        cluster.cut.retain(|ends| *ends != (1, 5) && *ends != (5, 1));
        cluster.run(30);
        cluster.mend();
        cluster.run(200);
        assert_eq!((cluster.leaders(), held(&cluster, 1).is_joint()), (vec![1], false), "{catch_up}");
    }
}

/// The same while an old voter was waited for that had fallen silent.
#[test]
fn m10_a_new_voter_lost_while_an_old_one_was_waited_for() {
    for catch_up in [false, true] {
        let mut cluster = group(3, 4);
        cluster.cut_off(4);
        cluster.step(1, change(&[2, 4], &[], catch_up));
        cluster.mend();
        cluster.cut_off(2);
        cluster.step(1, Event::Unreachable(NodeId(2)));
        cluster.run(20);
        cluster.cut_off(4);
        cluster.wipe_to_join(4, 41);
        cluster.run(100);
        cluster.mend();
        cluster.cut_off(4);
        cluster.run(30);
        cluster.mend();
        cluster.run(200);
        assert_eq!((cluster.leaders(), held(&cluster, 1).is_joint()), (vec![1], false), "{catch_up}");
    }
}

#[test]
fn m10_a_refusal_names_who_is_the_matter() {
    let mut cluster = group(5, 5);
    cluster.wipe_to_join(2, 21);
    cluster.run(6);
    cluster.cut_off(3);
    cluster.run(16);
    let refused = |cluster: &mut Cluster, voters: &[u32]| cluster.step(1, change(voters, &[], true));
    let lost = [Action::MembershipRefused(Refusal::DiskLost { id: NodeId(2) })];
    assert_eq!(refused(&mut cluster, &[1, 2, 3, 4]), lost, "it answers, with another disk");
    let silent = [Action::MembershipRefused(Refusal::VoterSilent { id: NodeId(3) })];
    assert_eq!(refused(&mut cluster, &[1, 3]), silent);
}

#[test]
fn silence_is_an_election_timeout() {
    for (ticks, is_silent) in [(14, false), (15, true)] {
        let mut cluster = group(3, 3);
        cluster.step(1, message(2, 1, 1, heard(20)));
        cluster.cut_off(2);
        cluster.run(ticks);
        let actions = cluster.step(1, change(&[1, 2], &[], true));
        let silent = [Action::MembershipRefused(Refusal::VoterSilent { id: NodeId(2) })];
        assert_eq!(actions == silent, is_silent, "{ticks}: {actions:?}");
    }
}

/// Nothing is to be sent any more, so no acceptance comes.
#[test]
fn a_change_goes_on_with_a_heartbeats_answer() {
    let mut cluster = group(3, 4);
    cluster.step(1, change(&[1, 2, 3], &[4], false));
    cluster.run(6);
    cluster.cut_off(4);
    cluster.step(1, change(&[2, 4], &[], true));
    cluster.run(3);
    cluster.cut_off(2);
    cluster.run(20);
    cluster.mend();
    cluster.cut_off(2);
    cluster.run(6);
    let last = |cluster: &Cluster, id| cluster.node(id).status().last_index;
    assert_eq!([2, 4].map(|id| last(&cluster, id)), [last(&cluster, 1); 2]);
    assert!(!held(&cluster, 1).is_voter(NodeId(4)));
    cluster.mend();
    cluster.run(30);
    let leader = cluster.leaders()[0];
    assert_eq!(held(&cluster, leader).members(), [2, 4].map(NodeId));
}

/// It would be appended behind what the target has, and the transfer come to nothing.
#[test]
fn no_change_goes_on_while_leadership_is_handed_over() {
    let mut cluster = group(3, 4);
    cluster.step(1, change(&[1, 2, 3], &[4], false));
    cluster.run(6);
    cluster.cut_off(4);
    cluster.step(1, change(&[2, 4], &[], true));
    cluster.run(3);
    cluster.step(1, Event::Unreachable(NodeId(2)));
    cluster.mend();
    cluster.cut_off(2);
    cluster.run(6);
    assert_eq!(cluster.node(4).status().last_index, cluster.node(1).status().last_index);
    cluster.mend();
    let actions = cluster.step(1, Event::TransferLeadership(NodeId(2)));
    assert!(sent_to(&actions, 2).contains(&Body::TimeoutNow));
    cluster.network.clear();
    cluster.step(1, message(2, 1, 1, heard(20)));
    assert!(!held(&cluster, 1).is_joint());
}
