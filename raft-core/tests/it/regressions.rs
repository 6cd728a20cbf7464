//! Defects of ours, each by what must hold instead. The first of them were found by a review against the paper.

use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Entries, Entry, Event, HardState,
    Heartbeat, Incarnation, LogIndex, MemStorage, MembershipChange, Node, NodeId, Payload, PreVoteResponse, ReadId,
    Refusal, RequestVote, RoleName, StartError, StorageError, Term,
};

use crate::cluster::{Cluster, entries, message, sent_to, toy_link};
use crate::snapshots::Solo;

fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat(Heartbeat { leader_commit: LogIndex(commit), round: 0 })
}

fn request_vote(last: (u64, u64)) -> Body {
    Body::RequestVote(RequestVote {
        last_log_term: Term(last.0),
        last_log_index: LogIndex(last.1),
        leadership_transfer: false,
        voter: Incarnation::UNKNOWN,
    })
}

fn append(prev: (u64, u64), entries: Entries) -> Body {
    Body::AppendEntries(AppendEntries {
        prev_log_index: LogIndex(prev.1),
        prev_log_term: Term(prev.0),
        prev_log_hash: None,
        leader_commit: LogIndex(0),
        entries,
    })
}

#[test]
fn a_repeated_vote_request_of_the_leader_does_not_make_its_voter_forget_it() {
    let mut cluster = Cluster::new(3);
    cluster.step(2, message(1, 2, 1, request_vote((0, 0))));
    cluster.step(2, message(1, 2, 1, heartbeat(0)));
    let again = cluster.step(2, message(1, 2, 1, request_vote((0, 0))));
    assert_eq!(cluster.network.len(), 3, "{again:?}");
    assert_eq!(cluster.node(2).leader(), Some(NodeId(1)));
    assert!(cluster.step(2, message(3, 2, 7, request_vote((9, 9)))).is_empty(), "E11: a leader is heard");
}

#[test]
fn an_entry_with_another_digest_is_not_acknowledged_even_where_it_overlaps() {
    let mut cluster = Cluster::with_logs(&[&[1, 1, 1], &[], &[]]);
    let mut theirs = entries(&[1, 1, 1])[1..].to_vec();
    theirs[1].payload = Payload::Command("other".into());
    let mut request = append((1, 1), theirs.into());
    if let Body::AppendEntries(request) = &mut request {
        let digest = toy_link(&raft_core::Digest([0; 32]), &entries(&[1])[0]);
        request.prev_log_hash = Some(std::sync::Arc::new(digest));
    }
    let answer = sent_to(&cluster.step(1, message(2, 1, 1, request)), 2);
    let diverged = AppendEntriesResponse::Diverged { prev_log_index: LogIndex(3) };
    assert_eq!(answer, [Body::AppendEntriesResponse(Incarnation::UNKNOWN, diverged)]);
}

/// Invariant 15: a disk that hangs for hours must not fill the memory with answers.
#[test]
fn what_waits_for_a_hanging_disk_is_bounded() {
    let mut cluster = Cluster::new(3);
    cluster.sync = false;
    for _ in 0..1_000 {
        cluster.step(1, message(2, 1, 5, heartbeat(0)));
        cluster.step(1, message(2, 1, 5, append((0, 0), entries(&[5])[..].into())));
        cluster.step(1, message(2, 1, 5, append((4, 9), Entries::default())));
        cluster.step(1, message(3, 1, 5, request_vote((9, 9))));
    }
    for _ in 0..100 {
        cluster.tick(1, 30);
    }
    cluster.persist(1, usize::MAX);
    assert!(cluster.network.len() < 20, "{} messages at once", cluster.network.len());
}

#[test]
fn a_log_of_a_later_term_than_the_hard_state_is_damage_and_not_a_panic() {
    let voters = Configuration::new([NodeId(1)]);
    let hard_state = HardState { current_term: Term(3), voted_for: None };
    let mut storage = MemStorage::with_log(voters, hard_state, entries(&[1, 3])).unwrap();
    let older = raft_core::WriteOp::HardState(HardState { current_term: Term(2), voted_for: None });
    raft_core::Storage::write(&mut storage, raft_core::Write { id: raft_core::WriteId(1), op: older }).unwrap();
    let started = Node::new(Config::new(NodeId(1)), storage.reopen());
    assert!(matches!(started, Err(StartError::Storage(StorageError::Damaged { .. }))));
}

#[test]
fn the_longest_election_timeout_is_no_panic() {
    let config = Config { election_timeout_ticks: u32::MAX, ..Config::new(NodeId(1)) };
    assert!(Node::new(config, MemStorage::new(Configuration::new([NodeId(1)]))).is_ok());
}

#[test]
fn in_the_last_term_there_is_one_vote_too() {
    let mut cluster = Cluster::new(3);
    cluster.step(1, message(2, 1, u64::MAX, request_vote((9, 9))));
    assert_eq!(cluster.term(1), u64::MAX);
    cluster.network.clear();
    cluster.step(1, Event::Campaign);
    let granted = PreVoteResponse { next_term: Term(u64::MAX), vote_granted: true };
    cluster.step(1, message(3, 1, 0, Body::PreVoteResponse(Incarnation::UNKNOWN, granted)));
    assert_ne!(cluster.node(1).role(), RoleName::Candidate, "there is no later term, and this one's vote is given");
}

#[test]
fn a_follower_that_refuses_what_it_acknowledged_is_asked_once_a_heartbeat() {
    let mut cluster = Cluster::new(3);
    cluster.safety.single();
    cluster.elect(1);
    cluster.propose(1, "x");
    cluster.settle();
    cluster.step(1, Event::Unreachable(NodeId(2)));
    let last = cluster.node(1).status().last_index;
    let rejected =
        AppendEntriesResponse::Rejected { prev_log_index: last, hint_index: LogIndex(0), hint_term: Term(0) };
    let sent = cluster.step(1, message(2, 1, 1, Body::AppendEntriesResponse(Incarnation::UNKNOWN, rejected)));
    assert_eq!(sent_to(&sent, 2), [], "or the two would answer each other without end");
}

/// One entry always fits; two that are larger than the limit together never travel together.
#[test]
fn an_append_read_from_the_storage_keeps_to_its_limit() {
    let voters = Configuration::new((1..=3).map(NodeId));
    let hard_state = HardState { current_term: Term(1), voted_for: None };
    let log = entries(&[1, 1, 1, 1, 1]);
    let limit = log[0].cost() * 2 - 1;
    let storage = MemStorage::with_log(voters.clone(), hard_state, log).unwrap();
    let mut cluster = Cluster::empty();
    cluster.add(Config { max_append_bytes: limit, ..Config::new(NodeId(1)) }, storage);
    for id in 2..=3 {
        cluster.add(Config::new(NodeId(id)), MemStorage::new(voters.clone()));
    }
    cluster.step(1, Event::Campaign);
    while !cluster.network.is_empty() {
        let message = &cluster.network[0];
        if let Body::AppendEntries(request) = &message.body {
            let bytes: usize = request.entries.iter().map(Entry::cost).sum();
            assert!(bytes <= limit || request.entries.len() == 1, "{bytes} bytes in {}", request.entries.len());
        }
        cluster.deliver(0);
    }
    assert_eq!(cluster.log(2), cluster.log(1));
}

#[test]
fn answers_of_strangers_are_not_kept() {
    let mut cluster = Cluster::new(3);
    cluster.step(1, Event::Campaign);
    let size = |cluster: &Cluster| format!("{:?}", cluster.node(1)).len();
    let before = size(&cluster);
    for stranger in 100..1_000 {
        let granted = PreVoteResponse { next_term: Term(1), vote_granted: true };
        cluster.step(1, message(stranger, 1, 0, Body::PreVoteResponse(Incarnation::UNKNOWN, granted)));
    }
    assert_eq!(size(&cluster), before);
    assert_eq!(cluster.notices.iter().filter(|(_, notice)| matches!(notice, Action::Halt(_))).count(), 0);
}

/// Fault E8: in a chain of servers each hears its neighbours alone. Whoever leads first goes on leading.
#[test]
fn e8_a_chain_of_servers_elects_a_bounded_number_of_leaders() {
    for (nodes, seed) in (3..=5).flat_map(|nodes| (0..5).map(move |seed| (nodes, seed))) {
        let mut cluster = Cluster::with_seed(nodes, seed);
        let far = |(a, b): &(u32, u32)| a.abs_diff(*b) > 1;
        cluster.cut = (1..=nodes).flat_map(|a| (1..=nodes).map(move |b| (a, b))).filter(far).collect();
        cluster.run(300);
        let before = cluster.safety.terms_led();
        assert!((1..=3).contains(&before.len()), "{nodes} servers, seed {seed}: {before:?}");
        cluster.run(300);
        assert_eq!(cluster.safety.terms_led(), before, "{nodes} servers, seed {seed}");
    }
}

/// "An answer leaves only after its entry is durable here": the machine never runs ahead of its own log.
#[test]
fn d5_a_leader_applies_what_others_committed_once_it_is_durable_here() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.sync = false;
    cluster.propose(1, "x");
    cluster.settle();
    cluster.persist(2, usize::MAX);
    cluster.persist(3, usize::MAX);
    cluster.settle();
    assert_eq!((cluster.commit(1), cluster.applied[0].len()), (2, 0));
    cluster.persist(1, 1);
    assert_eq!((cluster.commit(1), cluster.applied[0].len()), (2, 1));
}

#[test]
fn an_idle_follower_is_told_of_a_commit_without_a_tick() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.settle();
    assert_eq!((cluster.commit(1), cluster.commit(2)), (2, 2));
}

#[test]
fn a_confirmed_read_that_waits_to_be_applied_fails_when_the_node_halts() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.sync = false;
    cluster.propose(1, "x");
    cluster.settle();
    cluster.persist(2, usize::MAX);
    cluster.persist(3, usize::MAX);
    cluster.settle();
    cluster.step(1, Event::Read(ReadId(1)));
    cluster.settle();
    assert_eq!(cluster.safety.unanswered_reads(), 1, "entry 2 is committed and not durable here");
    let actions = cluster.step(1, Event::WriteFailed(StorageError::Io { what: "fdatasync".into() }));
    assert!(actions.contains(&Action::ReadFailed { read: ReadId(1), reason: Refusal::Halted }), "{actions:?}");
}

fn change(voters: &[u32], learners: &[u32], catch_up: bool) -> Event {
    let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect();
    Event::ChangeMembership(MembershipChange {
        voters: ids(voters),
        learners: ids(learners),
        catch_up,
        addresses: Vec::new(),
    })
}

fn voters(cluster: &Cluster, id: u32) -> Vec<u32> {
    cluster.node(id).status().configuration.voters().iter().map(|id| id.0).collect()
}

#[test]
fn a_new_voter_that_has_caught_up_does_not_wait_for_an_old_one_that_is_down() {
    let mut cluster = Cluster::with_founders(3, 4, 0);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.settle();
    cluster.step(1, change(&[1, 2, 3, 4], &[], true));
    cluster.run(6);
    assert_eq!((voters(&cluster, 1), cluster.node(1).status().promotion), (vec![1, 2, 3, 4], None));
}

#[test]
fn a_change_back_to_what_is_so_ends_a_wait_for_new_voters() {
    let mut cluster = Cluster::with_founders(1, 2, 0);
    cluster.elect(1);
    cluster.cut_off(2);
    cluster.step(1, change(&[1, 2], &[], true));
    let actions = cluster.step(1, change(&[1], &[2], false));
    assert!(actions.contains(&Action::MembershipAppended { index: LogIndex(3), term: Term(1) }), "{actions:?}");
    cluster.mend();
    cluster.run(6);
    assert_eq!((voters(&cluster, 1), cluster.node(1).status().promotion), (vec![1], None), "2 stays a learner");
    let unchanged = [Action::MembershipRefused(Refusal::Unchanged)];
    assert_eq!(
        cluster.step(1, change(&[1], &[2], false)),
        unchanged,
        "where nothing is awaited there is nothing to do"
    );
}

#[test]
fn a_transfer_to_a_voter_that_is_being_removed_ends_with_its_removal() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.step(1, change(&[1, 2], &[3], false));
    cluster.cut_off(3);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.settle();
    assert_eq!(voters(&cluster, 1), [1, 2]);
    assert!(cluster.notices.contains(&(1, Action::TransferAborted { target: NodeId(3) })));
    assert!(matches!(cluster.propose(1, "x")[0], Action::ProposalAppended { .. }), "nothing is waited for");
}

#[test]
fn m7_a_removed_leader_hands_over_though_it_was_handing_over_to_another_that_is_removed() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.step(1, change(&[2], &[], false));
    cluster.cut_off(3);
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.run(3);
    assert_eq!((cluster.leaders(), cluster.term(2)), (vec![2], 2), "within a heartbeat");
}

#[test]
fn a_leader_that_differs_from_half_is_not_the_one_at_fault() {
    let mut cluster = Cluster::new(2);
    cluster.elect(1);
    let diverged = Body::AppendEntriesResponse(
        Incarnation::UNKNOWN,
        AppendEntriesResponse::Diverged { prev_log_index: LogIndex(1) },
    );
    let actions = cluster.step(1, message(2, 1, 1, diverged));
    assert!(matches!(actions[..], [Action::PeerDiverged { peer: NodeId(2), .. }]), "{actions:?}");
    assert_eq!(cluster.leaders(), [1]);
}

#[test]
fn a_new_voter_catches_up_though_commits_never_rest() {
    let mut cluster = Cluster::with_founders(1, 2, 0);
    cluster.elect(1);
    cluster.step(1, change(&[1, 2], &[], true));
    // Whatever 2 acknowledges, 1 has committed more alone meanwhile.
    for _ in 0..40 {
        cluster.propose(1, "x");
        cluster.tick(1, 1);
        for _ in 0..cluster.network.len() {
            cluster.deliver(0);
        }
    }
    assert_eq!((voters(&cluster, 2), cluster.node(1).status().promotion), (vec![1, 2], None));
}

#[test]
fn a_failed_leader_is_replaced_within_two_election_timeouts() {
    for seed in 0..300 {
        let mut cluster = Cluster::with_seed(3, seed);
        cluster.elect(1);
        cluster.run(3);
        cluster.cut_off(1);
        let mut ticks = 0;
        while cluster.leaders() == [1] || cluster.leaders().is_empty() {
            for id in [2, 3] {
                cluster.tick(id, 1);
                cluster.settle();
            }
            ticks += 1;
            assert!(ticks <= 2 * 15, "seed {seed}: no leader within {ticks} ticks");
        }
    }
}

#[test]
fn bytes_that_are_no_configuration_are_damage_and_not_the_founding_configuration() {
    let hard_state = HardState { current_term: Term(1), voted_for: None };
    let payload = Payload::Configuration(vec![0xff; 12].into());
    let log = vec![Entry { index: LogIndex(1), term: Term(1), payload }];
    let storage = MemStorage::with_log(Configuration::new([NodeId(1)]), hard_state, log).unwrap();
    assert!(Node::new(Config::new(NodeId(1)), storage).is_err());
}

/// A heartbeat says what its receiver has acknowledged; its disk may have been lost since (fault M10), and what a deposed
/// leader wrote to the new one is not what was acknowledged.
#[test]
fn a_heartbeat_to_the_disk_before_commits_nothing_that_another_leader_wrote() {
    let mut cluster = Cluster::with_logs(&[&[1, 1], &[], &[]]);
    cluster.safety.single();
    cluster.step(1, message(2, 1, 2, heartbeat(2)));
    assert_eq!((cluster.term(1), cluster.commit(1)), (2, 0));
    let theirs = Entry { index: LogIndex(2), term: Term(2), payload: Payload::Noop };
    cluster.step(1, message(2, 1, 2, append((1, 1), [theirs].into())));
    cluster.step(1, message(2, 1, 2, heartbeat(2)));
    assert_eq!(cluster.commit(1), 2, "the leader's own entry vouches for what is before it");
}

#[test]
fn a_change_is_answered_though_a_follower_cannot_be_read_for() {
    let mut solo = Solo::leader(Config::new(NodeId(1)), &[1, 2]);
    let accepted = AppendEntriesResponse::Accepted { match_index: LogIndex(1) };
    solo.step(message(3, 1, 3, Body::AppendEntriesResponse(Incarnation::UNKNOWN, accepted)));
    solo.step(Event::Unreachable(NodeId(3)));
    *solo.node.storage_mut() = MemStorage::new(Configuration::new((1..=3).map(NodeId)));
    let change = MembershipChange {
        voters: (1..=3).map(NodeId).collect(),
        learners: vec![NodeId(4)],
        catch_up: false,
        addresses: Vec::new(),
    };
    let actions = solo.node.step(Event::ChangeMembership(change));
    let answer = Action::MembershipAppended { index: LogIndex(4), term: Term(3) };
    assert!(matches!(&actions[..], [.., last, Action::Halt(_)] if *last == answer), "{actions:?}");
}
