//! Servers that lost their disks (faults M10, D8): recognised, and kept from voting until they are added again.

use raft_core::{
    Action, AppendEntriesResponse, Body, Config, Configuration, Event, HeartbeatResponse, Incarnation, LogIndex,
    MemStorage, MembershipChange, NodeId, PeerFault, PreVote, ReadId, Refusal, RequestVote, RequestVoteResponse,
    RoleName, Term,
};

use crate::cluster::{Cluster, all_entries, message, sent_to};

fn change(voters: &[u32], catch_up: bool) -> Event {
    let voters = voters.iter().copied().map(NodeId).collect();
    Event::ChangeMembership(MembershipChange { voters, learners: Vec::new(), catch_up, addresses: Vec::new() })
}

fn pins(cluster: &Cluster, id: u32) -> Vec<u64> {
    let configuration = cluster.node(id).status().configuration;
    configuration.members().into_iter().map(|member| configuration.incarnation(member).0).collect()
}

/// Kinds of the entries of a node's log: 0 no-op, 1 command, 2 configuration.
fn kinds(cluster: &Cluster, id: u32) -> Vec<u8> {
    all_entries(cluster.node(id)).iter().map(|entry| entry.payload.kind()).collect()
}

fn says_replaced(cluster: &Cluster, by: u32, id: u32) -> usize {
    let said = (by, Action::DiskReplaced { id: NodeId(id) });
    cluster.notices.iter().filter(|notice| **notice == said).count()
}

/// `id` wins once the others have forgotten their leader.
fn elect_after_silence(cluster: &mut Cluster, id: u32) {
    (1..=3).filter(|other| *other != id).for_each(|other| cluster.tick(other, 15));
    cluster.network.clear();
    cluster.elect(id);
}

/// Three nodes with incarnations 10, 20 and 30, each pinned in every log; node 1 leads.
fn pinned_group() -> Cluster {
    let mut cluster = Cluster::with_incarnations(3, 3, 0);
    cluster.elect(1);
    cluster.run(6);
    for id in 1..=3 {
        assert_eq!(pins(&cluster, id), [10, 20, 30], "node {id}");
    }
    cluster
}

#[test]
fn m10_a_leader_pins_whom_it_hears_once() {
    let mut cluster = pinned_group();
    assert_eq!(kinds(&cluster, 1), [0, 2, 2], "the no-op; who made the first quorum; who was heard later");
    cluster.run(40);
    elect_after_silence(&mut cluster, 2);
    cluster.run(40);
    assert_eq!(kinds(&cluster, 2), [0, 2, 2, 0], "the next leader has nothing to add");
}

#[test]
fn m10_nothing_is_pinned_where_no_storage_tells() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.run(20);
    assert_eq!((kinds(&cluster, 1), pins(&cluster, 1)), (vec![0], vec![0, 0, 0]));
}

#[test]
fn m10_a_lone_server_pins_itself() {
    let mut cluster = Cluster::with_incarnations(1, 1, 0);
    cluster.elect(1);
    assert_eq!((kinds(&cluster, 1), pins(&cluster, 1)), (vec![0, 2], vec![10]));
}

#[test]
fn m10_none_is_pinned_before_a_commit_in_the_term() {
    let mut cluster = Cluster::with_incarnations(3, 3, 0);
    cluster.sync = false;
    cluster.step(1, Event::Campaign);
    for _ in 0..4 {
        for id in 1..=3 {
            cluster.persist(id, usize::MAX);
        }
        cluster.network.retain(|message| !matches!(message.body, Body::AppendEntriesResponse(..)));
        cluster.settle();
    }
    assert_eq!(cluster.node(1).role(), RoleName::Leader);
    cluster.step(1, message(2, 1, 1, heard(20)));
    assert_eq!(kinds(&cluster, 1), [0]);
}

/// What an entry was committed with is not lost with a disk: 1 and 3 hold it, 3 loses its disk, and 2 cannot be elected
/// by 3, which would have to know better.
fn what_waits_for_the_lost_vote(incarnations: bool) -> Cluster {
    let mut cluster = if incarnations { pinned_group() } else { Cluster::new(3) };
    if !incarnations {
        cluster.elect(1);
    }
    cluster.cut_off(2);
    cluster.propose(1, "x");
    cluster.settle();
    assert_eq!(cluster.commit(1), cluster.node(1).status().last_index.0, "1 and 3 have committed it");
    cluster.wipe(3, if incarnations { 31 } else { 0 });
    cluster.network.clear();
    cluster.mend();
    cluster.cut_off(1);
    cluster.tick(2, 30);
    cluster.settle();
    cluster.run(60);
    cluster
}

#[test]
fn m10_d8_a_lost_vote_elects_nobody() {
    let mut cluster = what_waits_for_the_lost_vote(true);
    assert_ne!(cluster.node(2).role(), RoleName::Leader);
    let reason = PeerFault::OtherIncarnation;
    assert!(cluster.notices.contains(&(2, Action::MessageDropped { from: NodeId(3), reason })), "and it is said");
    assert_eq!(cluster.term(2), 1, "no pre-vote of it counts either");
    cluster.mend();
    cluster.run(60);
    let leader = cluster.leaders()[0];
    assert_eq!(cluster.applied[leader as usize - 1], ["x"], "nothing is lost once 1 is back");
}

#[test]
#[should_panic(expected = "Leader Completeness")]
fn m10_without_incarnations_it_would() {
    what_waits_for_the_lost_vote(false);
}

#[test]
fn m10_a_vote_of_another_disk_is_dropped() {
    let mut cluster = pinned_group();
    cluster.cut_off(2);
    cluster.tick(2, 30);
    let granted = |incarnation| {
        let response = raft_core::PreVoteResponse { next_term: Term(2), vote_granted: true };
        message(3, 2, 1, Body::PreVoteResponse(Incarnation(incarnation), response))
    };
    cluster.step(2, granted(31));
    assert_eq!(cluster.node(2).role(), RoleName::PreCandidate);
    cluster.step(2, granted(30));
    assert_eq!(cluster.node(2).role(), RoleName::Candidate);
    let vote = |incarnation| {
        let response = RequestVoteResponse { vote_granted: true };
        message(3, 2, 2, Body::RequestVoteResponse(Incarnation(incarnation), response))
    };
    let reason = PeerFault::OtherIncarnation;
    assert_eq!(cluster.step(2, vote(31)), [Action::MessageDropped { from: NodeId(3), reason }]);
    assert_eq!(cluster.step(2, vote(0)), [Action::MessageDropped { from: NodeId(3), reason }], "unknown is another");
    assert_eq!(cluster.node(2).role(), RoleName::Candidate);
    cluster.step(2, vote(30));
    assert_eq!(cluster.node(2).role(), RoleName::Leader);
}

#[test]
fn m10_a_server_that_was_replaced_knows_it_receives_and_does_not_vote() {
    let mut cluster = pinned_group();
    cluster.propose(1, "x");
    cluster.wipe(3, 31);
    assert!(!cluster.node(3).status().is_replaced, "it holds nothing yet");
    cluster.run(9);
    let status = cluster.node(3).status();
    assert!(status.is_replaced);
    assert_eq!((status.incarnation, &cluster.applied[2]), (Incarnation(31), &cluster.applied[0]));
    assert_eq!((says_replaced(&cluster, 3, 3), says_replaced(&cluster, 1, 3)), (1, 1), "each says it once");
    // It does not vote for the best of candidates, does not campaign, and takes no leadership.
    cluster.cut_off(3);
    cluster.tick(3, 200);
    assert_eq!((cluster.node(3).role(), cluster.network.len()), (RoleName::Follower, 0));
    let (last_log_index, last_log_term) = (LogIndex(99), Term(1));
    let pre_vote =
        Body::PreVote(PreVote { next_term: Term(2), last_log_index, last_log_term, voter: Incarnation::UNKNOWN });
    let answers = sent_to(&cluster.step(3, message(2, 3, 1, pre_vote)), 2);
    assert!(matches!(answers[..], [Body::PreVoteResponse(Incarnation(31), answer)] if !answer.vote_granted));
    let vote = Body::RequestVote(RequestVote {
        last_log_index,
        last_log_term,
        leadership_transfer: false,
        voter: Incarnation::UNKNOWN,
    });
    cluster.step(3, message(2, 3, 2, vote));
    let answer = Body::RequestVoteResponse(Incarnation(31), RequestVoteResponse { vote_granted: false });
    assert_eq!(cluster.network.pop().map(|message| message.body), Some(answer));
    assert_eq!(cluster.node(3).voted_for(), None);
    cluster.step(3, Event::Campaign);
    assert_eq!(cluster.node(3).role(), RoleName::Follower);
    cluster.step(3, message(1, 3, 2, Body::TimeoutNow));
    assert_eq!(cluster.node(3).role(), RoleName::Follower);
}

/// A member that was added again and lags holds the configuration that means its old disk. A quorum may need its vote, and
/// it learns of the new configuration from nobody but a leader.
#[test]
fn m5_m10_a_server_that_was_replaced_votes_for_a_candidate_that_means_its_disk() {
    let mut cluster = pinned_group();
    cluster.wipe(3, 31);
    cluster.run(9);
    assert!(cluster.node(3).status().is_replaced);
    cluster.cut_off(3);
    cluster.tick(3, 200);
    let (last_log_index, last_log_term) = (LogIndex(99), Term(1));
    for (voter, term, granted) in [(30, 2, false), (31, 3, true)] {
        let voter = Incarnation(voter);
        let pre_vote = Body::PreVote(PreVote { next_term: Term(term), last_log_index, last_log_term, voter });
        let answers = sent_to(&cluster.step(3, message(2, 3, term - 1, pre_vote)), 2);
        assert!(matches!(answers[..], [Body::PreVoteResponse(_, answer)] if answer.vote_granted == granted));
        let vote = RequestVote { last_log_index, last_log_term, leadership_transfer: false, voter };
        cluster.step(3, message(2, 3, term, Body::RequestVote(vote)));
        let answer = RequestVoteResponse { vote_granted: granted };
        let answer = Body::RequestVoteResponse(Incarnation(31), answer);
        assert_eq!(cluster.network.pop().map(|message| message.body), Some(answer));
    }
    assert_eq!(cluster.node(3).voted_for(), Some(NodeId(2)));
    // And the other way round: one that its own configuration means, and the candidate's does not.
    let vote = RequestVote { last_log_index, last_log_term, leadership_transfer: false, voter: Incarnation(21) };
    cluster.cut_off(2);
    cluster.tick(2, 200);
    cluster.network.clear();
    cluster.step(2, message(1, 2, 9, Body::RequestVote(vote)));
    let answer = Body::RequestVoteResponse(Incarnation(20), RequestVoteResponse { vote_granted: false });
    assert_eq!(cluster.network.pop().map(|message| message.body), Some(answer));
    cluster.crash(3, 0);
    cluster.tick(3, 1);
    assert_eq!(says_replaced(&cluster, 3, 3), 2, "and again in its next life");
}

#[test]
fn m10_what_another_disk_acknowledges_commits_confirms_and_holds_nothing() {
    let mut cluster = pinned_group();
    let commit = cluster.commit(1);
    cluster.cut_off(2);
    cluster.wipe(3, 31);
    cluster.propose(1, "x");
    cluster.step(1, Event::Read(ReadId(1)));
    cluster.run(9);
    assert_eq!(cluster.log(3), cluster.log(1), "3 has all of it");
    assert_eq!(cluster.commit(1), commit);
    assert_eq!(cluster.safety.unanswered_reads(), 1);
    cluster.run(15);
    assert_eq!(cluster.node(1).role(), RoleName::Follower, "it hears no quorum");
    cluster.mend();
    cluster.run(60);
    let leader = cluster.leaders()[0];
    assert_eq!(cluster.applied[leader as usize - 1], ["x"], "two of three are enough");
    assert_eq!(cluster.applied[2], ["x"]);
}

#[test]
fn m10_leadership_does_not_go_to_another_disk() {
    let mut cluster = pinned_group();
    cluster.wipe(3, 31);
    cluster.run(9);
    let (target, reason) = (NodeId(3), Refusal::NotVoter { id: NodeId(3) });
    assert_eq!(cluster.step(1, Event::TransferLeadership(target)), [Action::TransferRefused { target, reason }]);
    cluster.cut_off(2);
    cluster.step(1, Event::HandOver);
    cluster.mend();
    cluster.propose(1, "x");
    cluster.network.retain(|message| message.to != NodeId(2));
    cluster.settle();
    assert_eq!(cluster.node(1).status().transfer, Some(NodeId(2)), "though 3 has more");
}

#[test]
fn m10_d8_removed_and_added_again_it_counts() {
    let mut cluster = pinned_group();
    cluster.wipe(3, 31);
    cluster.run(9);
    assert_eq!(cluster.step(1, change(&[1, 2, 3], true)), [Action::MembershipRefused(Refusal::Unchanged)]);
    cluster.step(1, change(&[1, 2], true));
    cluster.run(9);
    assert_eq!(pins(&cluster, 1), [10, 20]);
    cluster.step(1, change(&[1, 2, 3], true));
    cluster.run(20);
    assert_eq!((pins(&cluster, 1), pins(&cluster, 3)), (vec![10, 20, 31], vec![10, 20, 31]));
    assert!(!cluster.node(3).status().is_replaced);
    cluster.cut_off(2);
    cluster.propose(1, "x");
    cluster.run(3);
    assert_eq!(cluster.commit(1), cluster.node(1).status().last_index.0, "1 and 3 are a majority");
    elect_after_silence(&mut cluster, 3);
}

/// Even where nobody waits for it to catch up: else no candidate could say which disk it means, and a server that holds
/// the configuration of the disk that it lost refuses its vote for good. (Here it has even less than it says.)
#[test]
fn m5_m10_who_is_made_a_voter_has_been_heard() {
    let mut cluster = pinned_group();
    cluster.wipe(3, 31);
    cluster.run(9);
    assert!(cluster.node(3).status().is_replaced, "it holds what means its old disk, and gets no further");
    cluster.cut_off(3);
    cluster.step(1, change(&[1, 2], false));
    cluster.run(9);
    cluster.step(1, change(&[1, 3], false));
    cluster.run(30);
    let waiting = Configuration::joint([1, 2].map(NodeId), [], [NodeId(3)]);
    let held = cluster.node(1).status().configuration;
    assert_eq!((held.voters(), held.learners()), (waiting.voters(), waiting.learners()), "nobody has heard it");
    cluster.step(1, message(3, 1, 1, heard(31)));
    cluster.run(9);
    assert!(!cluster.node(1).status().configuration.is_voter(NodeId(3)), "it may be the disk that is lost");
    let match_index = LogIndex(cluster.commit(1));
    let accepted = AppendEntriesResponse::Accepted { match_index };
    cluster.step(1, message(3, 1, 1, Body::AppendEntriesResponse(Incarnation(31), accepted)));
    cluster.run(9);
    let held = cluster.node(1).status().configuration;
    assert!(held.is_joint() && held.is_voter(NodeId(3)), "{held:?}");
    assert_eq!(held.incarnation(NodeId(3)), Incarnation(31));
    // The leader is gone before 3 has any of it, and no other can be had without 3.
    cluster.crash(1, 0);
    cluster.mend();
    assert!(cluster.node(3).status().is_replaced);
    elect_after_silence(&mut cluster, 1);
    cluster.run(9);
    let held = cluster.node(3).status().configuration;
    assert_eq!((held.voters(), held.is_joint()), (&[NodeId(1), NodeId(3)][..], false));
}

/// A leader whose own storage does not tell disks apart, like those of tests, has nothing to wait for.
#[test]
fn where_no_storage_tells_a_new_voter_counts_at_once() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.run(6);
    cluster.step(1, change(&[1, 2, 3, 4], false));
    assert!(cluster.node(1).status().configuration.is_joint());
}

/// With `catch_up` a new voter is a learner first, and heard as one.
#[test]
fn m10_a_new_voter_that_caught_up_is_pinned_before_it_votes() {
    let mut cluster = Cluster::with_incarnations(3, 4, 0);
    cluster.elect(1);
    cluster.run(6);
    cluster.step(1, change(&[1, 2, 3, 4], true));
    cluster.run(20);
    let held = all_entries(cluster.node(1)).into_iter().filter(|entry| entry.payload.kind() == 2);
    let held: Vec<_> = held.filter_map(|entry| Configuration::from_bytes(entry.payload.bytes())).collect();
    let voting: Vec<_> = held.iter().filter(|held| held.is_voter(NodeId(4))).collect();
    assert_eq!(voting.len(), 2, "the joint one, and the leave");
    assert!(voting.iter().all(|held| held.incarnation(NodeId(4)) == Incarnation(40)), "{held:?}");
}

#[test]
fn m10_a_leader_that_comes_back_empty_leads_no_more() {
    let mut cluster = pinned_group();
    cluster.propose(1, "x");
    cluster.settle();
    cluster.wipe(1, 11);
    cluster.run(60);
    let leader = cluster.leaders()[0];
    assert_ne!(leader, 1);
    assert!(cluster.node(1).status().is_replaced);
    assert_eq!(cluster.applied[0], ["x"]);
    cluster.cut_off(leader);
    cluster.run(60);
    assert_eq!(cluster.leaders(), Vec::<u32>::new(), "1 helps nobody to lead");
}

#[test]
fn m10_the_same_disk_comes_back_as_the_same_server() {
    let mut cluster = pinned_group();
    cluster.crash(3, 0);
    cluster.cut_off(2);
    cluster.propose(1, "x");
    cluster.run(4);
    assert_eq!(cluster.commit(1), cluster.node(1).status().last_index.0);
    assert_eq!((says_replaced(&cluster, 1, 3), says_replaced(&cluster, 3, 3)), (0, 0));
}

fn heard(incarnation: u64) -> Body {
    Body::HeartbeatResponse(Incarnation(incarnation), HeartbeatResponse { round: 0 })
}

fn accepted(incarnation: u64, match_index: u64) -> Body {
    let match_index = LogIndex(match_index);
    Body::AppendEntriesResponse(Incarnation(incarnation), AppendEntriesResponse::Accepted { match_index })
}

/// Until a pin is in the log the leader goes by whom it has heard first in its term.
#[test]
fn m10_within_a_leadership_a_member_is_the_disk_that_was_heard_first() {
    let mut cluster = Cluster::with_incarnations(5, 5, 0);
    cluster.safety.single();
    cluster.step(1, Event::Campaign);
    while cluster.node(1).role() != RoleName::Leader {
        cluster.deliver(0);
    }
    cluster.network.clear();
    cluster.cut_off(1);
    cluster.step(1, message(4, 1, 1, heard(40)));
    let replaced = Action::DiskReplaced { id: NodeId(4) };
    let progress = |cluster: &Cluster| cluster.node(1).status().followers[2].1.clone();
    assert!(cluster.step(1, message(4, 1, 1, accepted(41, 1))).contains(&replaced));
    assert_eq!((progress(&cluster).counts(), progress(&cluster).match_index()), (false, LogIndex(1)));
    cluster.step(1, message(2, 1, 1, accepted(20, 1)));
    assert_eq!(cluster.commit(1), 0, "1 and 2, and not the new disk of 4");
    cluster.step(1, message(4, 1, 1, heard(40)));
    assert_eq!((progress(&cluster).counts(), progress(&cluster).match_index()), (true, LogIndex(0)), "starts anew");
    cluster.step(1, message(4, 1, 1, accepted(40, 1)));
    assert_eq!(cluster.commit(1), 1);
    assert_eq!(pins(&cluster, 1), [10, 20, 0, 40, 0], "and that is who is pinned");
}

/// What lost its disk may not campaign by an earlier configuration that did not know it yet.
#[test]
fn m10_a_pin_that_is_not_committed_counts_for_the_server_itself() {
    let mut cluster = Cluster::with_incarnations(3, 3, 0);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.wipe(3, 31);
    let joined = all_entries(cluster.node(1)).len() as u64;
    let pin = Configuration::new([1, 2, 3].map(NodeId)).with_incarnation(NodeId(3), Incarnation(30));
    let payload = raft_core::Payload::Configuration(pin.to_bytes().into());
    let mut entries = all_entries(cluster.node(1));
    entries.push(raft_core::Entry { index: LogIndex(joined + 1), term: Term(1), payload });
    let request = raft_core::AppendEntries {
        prev_log_index: LogIndex(0),
        prev_log_term: Term(0),
        prev_log_hash: None,
        leader_commit: LogIndex(0),
        entries: entries.into(),
    };
    cluster.safety.single();
    cluster.step(3, message(1, 3, 1, Body::AppendEntries(request)));
    assert!(cluster.node(3).status().is_replaced && cluster.commit(3) == 0);
    cluster.tick(3, 60);
    assert_eq!(cluster.node(3).role(), RoleName::Follower);
}

/// Three founders, of whom an append brings one entry; 1 leads by the vote of 2, and 3 was not heard yet: the first entry
/// that names disks names two. Then 3 is heard, named, and commits with 1 what 2 does not have.
fn a_founder_that_is_named_late() -> Cluster {
    let mut cluster = Cluster::empty();
    for id in 1..=3 {
        let config = Config { seed: id.into(), max_append_bytes: 1, life: Some(1), ..Config::new(NodeId(id)) };
        let disk = MemStorage::new(Configuration::new([1, 2, 3].map(NodeId)));
        cluster.add(config, disk.with_incarnation(Incarnation(u64::from(id) * 10)));
    }
    cluster.cut_off(3);
    cluster.elect(1);
    cluster.run(3);
    let named = |cluster: &Cluster, id| {
        [1, 2, 3].map(|member| cluster.node(id).status().configuration.incarnation(NodeId(member)).0)
    };
    assert_eq!(named(&cluster, 2), [10, 20, 0]);
    cluster.mend();
    cluster.cut_off(2);
    cluster.run(6);
    assert_eq!(named(&cluster, 3), [10, 20, 30]);
    cluster.propose(1, "x");
    cluster.settle();
    cluster.run(2);
    assert_eq!((cluster.commit(1), cluster.commit(3)), (4, 4));
    cluster
}

/// It has lost its disk, says so, and holds a configuration again that names its id and no disk, as if it were the one
/// that it had: for a candidate that has no later one either.
#[test]
fn m10_a_disk_of_no_founder_does_not_vote_though_none_is_named_yet() {
    let mut cluster = a_founder_that_is_named_late();
    cluster.wipe_to_join(3, 31);
    for _ in 0..10 {
        cluster.tick(1, 1);
        while !cluster.network.is_empty() && cluster.node(3).status().last_index.0 < 2 {
            cluster.deliver(0);
        }
    }
    let status = cluster.node(3).status();
    assert_eq!((status.last_index.0, status.configuration.incarnation(NodeId(3))), (2, Incarnation::UNKNOWN));
    assert!(status.is_replaced);
    cluster.network.clear();
    cluster.mend();
    cluster.cut_off(1);
    cluster.tick(3, 11);
    cluster.tick(2, 30);
    cluster.settle();
    cluster.run(60);
    assert_eq!(cluster.leaders(), [0_u32; 0], "2 has not what 1 and 3 have committed");
}

/// Found on a running cluster: a server that had lost its disk, and one that was removed, sent clients to a dead leader for
/// good.
#[test]
fn who_may_not_campaign_forgets_a_leader_that_is_silent() {
    let mut cluster = pinned_group();
    cluster.wipe(3, 31);
    cluster.run(9);
    let status = cluster.node(3).status();
    assert!(status.is_replaced && status.leader == Some(NodeId(1)));
    cluster.tick(3, 60);
    let status = cluster.node(3).status();
    assert_eq!((status.role, status.leader), (RoleName::Follower, None));
    cluster.run(6);
    assert_eq!(cluster.node(3).status().leader, Some(NodeId(1)), "and hears it again");
}

#[test]
fn a_server_that_is_added_is_not_told_that_it_lost_its_disk() {
    let mut cluster = Cluster::with_incarnations(3, 4, 0);
    cluster.elect(1);
    cluster.run(6);
    cluster.wipe_to_join(4, 41);
    cluster.step(1, change(&[1, 2, 3, 4], true));
    cluster.run(20);
    assert_eq!(pins(&cluster, 4), [10, 20, 30, 41]);
    assert_eq!(says_replaced(&cluster, 4, 4), 0);
}

#[test]
fn where_no_storage_tells_it_does_not_matter_who_founded() {
    let mut cluster = Cluster::with_config(3, |config| config.is_founder = false);
    cluster.elect(1);
    assert!(!cluster.node(1).status().is_replaced);
}
