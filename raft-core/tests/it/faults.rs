//! Faults that have broken real systems, each by its id in the project's list.

use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Digest, Entries, Event, Heartbeat, HeartbeatResponse,
    Incarnation, LogIndex, NodeId, PreVoteResponse, ReadId, Refusal, RequestVote, RequestVoteResponse, RoleName,
    StorageError, Term,
};

use crate::cluster::{Cluster, entries, message, sent_to, toy_link};

fn request_vote(last: (u64, u64)) -> Body {
    Body::RequestVote(RequestVote {
        last_log_term: Term(last.0),
        last_log_index: LogIndex(last.1),
        leadership_transfer: false,
    })
}

fn vote(vote_granted: bool) -> Body {
    Body::RequestVoteResponse(Incarnation::UNKNOWN, RequestVoteResponse { vote_granted })
}

fn append(prev: (u64, u64), terms: &[u64], leader_commit: u64) -> AppendEntries {
    let entries: Entries = entries(&[&vec![prev.0; prev.1 as usize][..], terms].concat())[prev.1 as usize..].into();
    AppendEntries {
        prev_log_index: LogIndex(prev.1),
        prev_log_term: Term(prev.0),
        prev_log_hash: None,
        leader_commit: LogIndex(leader_commit),
        entries,
    }
}

fn reads_ready(cluster: &Cluster) -> Vec<u64> {
    let ready = |(_, action): &(u32, Action)| match action {
        Action::ReadReady { read, .. } => Some(read.0),
        _ => None,
    };
    cluster.notices.iter().filter_map(ready).collect()
}

#[test]
fn e1_stepping_down_in_a_term_keeps_the_vote() {
    let mut cluster = Cluster::new(3);
    cluster.step(1, Event::Campaign);
    let granted = PreVoteResponse { next_term: Term(1), vote_granted: true };
    cluster.step(1, message(2, 1, 0, Body::PreVoteResponse(Incarnation::UNKNOWN, granted)));
    assert_eq!(cluster.node(1).role(), RoleName::Candidate);
    cluster.step(1, message(2, 1, 1, vote(false)));
    cluster.step(1, message(3, 1, 1, vote(false)));
    assert_eq!(cluster.node(1).role(), RoleName::Follower);
    let answer = sent_to(&cluster.step(1, message(2, 1, 1, request_vote((9, 9)))), 2);
    assert_eq!(answer, [vote(false)]);
}

#[test]
fn e2_crash_between_vote_and_reply() {
    let mut cluster = Cluster::new(3);
    cluster.sync = false;
    cluster.step(1, message(2, 1, 5, request_vote((0, 0))));
    assert!(cluster.network.is_empty(), "the vote is not durable: nothing may be said of it");
    cluster.crash(1, 0);
    cluster.step(1, message(3, 1, 5, request_vote((0, 0))));
    cluster.persist(1, 1);
    assert_eq!(cluster.network, [message(1, 3, 5, vote(true))]);
    cluster.crash(1, 0);
    cluster.step(1, message(2, 1, 5, request_vote((0, 0))));
    assert_eq!(cluster.network[1..], [message(1, 2, 5, vote(false))], "a told vote survives");
}

#[test]
fn e3_old_and_foreign_votes_do_not_count() {
    let mut cluster = Cluster::new(5);
    cluster.step(1, Event::Campaign);
    for from in [2, 3] {
        let granted = PreVoteResponse { next_term: Term(1), vote_granted: true };
        cluster.step(1, message(from, 1, 0, Body::PreVoteResponse(Incarnation::UNKNOWN, granted)));
    }
    assert_eq!((cluster.node(1).role(), cluster.term(1)), (RoleName::Candidate, 1));
    cluster.step(1, message(2, 1, 0, vote(true)));
    cluster.step(1, message(8, 1, 1, vote(true)));
    cluster.step(1, message(9, 1, 1, vote(true)));
    cluster.step(1, message(2, 1, 1, vote(true)));
    cluster.step(1, message(2, 1, 1, vote(true)));
    assert_eq!(cluster.node(1).role(), RoleName::Candidate, "its own and node 2's are two of five");
    cluster.step(1, message(3, 1, 1, vote(true)));
    assert_eq!(cluster.node(1).role(), RoleName::Leader);
}

#[test]
fn e4_a_refusal_carries_the_term_and_it_is_adopted() {
    // Node 3 lags in the log and is ahead in the term; node 1, the leader, is gone.
    let mut cluster = Cluster::with_logs(&[&[1, 1], &[1, 1], &[1]]);
    let ahead = Body::Heartbeat(Heartbeat { leader_commit: LogIndex(0), round: 0 });
    cluster.step(3, message(1, 3, 9, ahead));
    cluster.cut_off(1);
    cluster.network.clear();
    for _ in 0..100 {
        cluster.tick(2, 1);
        cluster.tick(3, 1);
        cluster.settle();
    }
    assert_eq!(cluster.node(2).role(), RoleName::Leader);
    assert!(cluster.term(2) > 9);
}

#[test]
fn e6_a_stale_leader_is_forgotten_by_a_pre_candidate() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    cluster.tick(3, 14);
    cluster.step(2, Event::Campaign);
    cluster.network.clear();
    assert_eq!(cluster.node(2).leader(), None);
    cluster.step(3, Event::Campaign);
    cluster.settle();
    assert_eq!(cluster.node(3).role(), RoleName::Leader, "node 2 remembers no leader, so it grants");
}

#[test]
fn e7_late_pre_votes_start_no_second_election() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let late = PreVoteResponse { next_term: Term(1), vote_granted: true };
    let also_late = PreVoteResponse { next_term: Term(2), vote_granted: true };
    cluster.step(1, message(2, 1, 0, Body::PreVoteResponse(Incarnation::UNKNOWN, late)));
    cluster.step(1, message(3, 1, 1, Body::PreVoteResponse(Incarnation::UNKNOWN, also_late)));
    assert_eq!((cluster.node(1).role(), cluster.term(1)), (RoleName::Leader, 1));
}

#[test]
fn e9_a_leader_without_a_quorum_falls_silent() {
    // 1 leads, and after the cut reaches only 2, which reaches everybody.
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    for far in [3, 4, 5] {
        cluster.cut.extend([(1, far), (far, 1)]);
    }
    cluster.run(16);
    assert_eq!(cluster.node(1).role(), RoleName::Follower, "no quorum for one election timeout");
    cluster.run(60);
    let leaders = cluster.leaders();
    assert_eq!(leaders.len(), 1);
    assert_ne!(leaders, [1]);
}

#[test]
fn e10_a_one_way_link_does_not_inflate_terms() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut = vec![(1, 3), (2, 3)];
    cluster.run(300);
    assert_eq!((cluster.leaders(), cluster.term(1), cluster.term(3)), (vec![1], 1, 1));
}

#[test]
fn e11_a_vote_is_not_given_while_a_leader_is_heard() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for id in [1, 2] {
        assert!(cluster.step(id, message(3, id, 7, request_vote((9, 9)))).is_empty());
    }
    assert_eq!((cluster.leaders(), cluster.term(2)), (vec![1], 1));
}

#[test]
fn e12_a_leader_does_not_campaign() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    assert!(cluster.step(1, Event::Campaign).is_empty());
}

#[test]
fn l2_a_stale_shorter_append_truncates_nothing() {
    let mut cluster = Cluster::with_logs(&[&[1], &[], &[]]);
    cluster.step(1, message(2, 1, 1, Body::AppendEntries(append((1, 1), &[1, 1], 0))));
    cluster.step(1, message(2, 1, 1, Body::AppendEntries(append((1, 1), &[1], 0))));
    assert_eq!(cluster.log(1), [1, 1, 1]);
    let acknowledged =
        Body::AppendEntriesResponse(Incarnation::UNKNOWN, AppendEntriesResponse::Accepted { match_index: LogIndex(2) });
    assert_eq!(cluster.network.last(), Some(&message(1, 2, 1, acknowledged)), "L4: what was verified, not the tail");
}

#[test]
fn l2_a_committed_entry_is_never_replaced() {
    let mut cluster = Cluster::with_logs(&[&[1, 1], &[], &[]]);
    cluster.safety.already_committed(2);
    cluster.step(1, message(2, 1, 1, Body::AppendEntries(append((1, 2), &[], 2))));
    assert_eq!(cluster.commit(1), 2);
    cluster.step(1, message(3, 1, 2, Body::AppendEntries(append((1, 1), &[2], 0))));
    let diverged = AppendEntriesResponse::Diverged { prev_log_index: LogIndex(2) };
    assert_eq!(
        cluster.network.last(),
        Some(&message(1, 3, 2, Body::AppendEntriesResponse(Incarnation::UNKNOWN, diverged)))
    );
    assert_eq!(cluster.log(1), [1, 1]);
    assert!(cluster.notices.iter().any(|(_, notice)| matches!(notice, Action::PeerDiverged { .. })));
}

#[test]
fn l3_commit_stays_within_what_was_verified() {
    // Entry 3 is another leader's leftover: the append verifies 2 and says that 3 is committed.
    let mut cluster = Cluster::with_logs(&[&[1, 1, 1], &[], &[]]);
    cluster.safety.already_committed(2);
    cluster.step(1, message(2, 1, 2, Body::AppendEntries(append((1, 1), &[1], 3))));
    assert_eq!(cluster.commit(1), 2);
}

#[test]
fn l5_acknowledgements_of_an_earlier_term_do_not_count() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let last = cluster.node(1).status().last_index.0;
    cluster.cut_off(1);
    cluster.propose(1, "x");
    cluster.settle();
    let accepted = |index| {
        Body::AppendEntriesResponse(
            Incarnation::UNKNOWN,
            AppendEntriesResponse::Accepted { match_index: LogIndex(index) },
        )
    };
    cluster.step(1, message(2, 1, 0, accepted(last + 1)));
    assert_eq!(cluster.commit(1), last);
    cluster.safety.single();
    cluster.step(1, message(2, 1, 1, accepted(last + 1)));
    assert_eq!(cluster.commit(1), last + 1);
}

#[test]
fn an_acknowledgement_beyond_the_log_is_dropped() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let beyond = AppendEntriesResponse::Accepted { match_index: LogIndex(99) };
    cluster.step(1, message(2, 1, 1, Body::AppendEntriesResponse(Incarnation::UNKNOWN, beyond)));
    assert!(matches!(cluster.notices.last(), Some((1, Action::MessageDropped { from: NodeId(2), .. }))));
    assert_eq!(cluster.commit(1), 1);
}

#[test]
fn l10_a_report_of_a_removed_append_does_not_count() {
    let mut cluster = Cluster::with_logs(&[&[1], &[], &[]]);
    cluster.sync = false;
    cluster.step(1, message(2, 1, 1, Body::AppendEntries(append((1, 1), &[1, 1], 0))));
    let mut other = append((1, 1), &[2], 0);
    other.entries = entries(&[1, 2])[1..].into();
    cluster.step(1, message(3, 1, 2, Body::AppendEntries(other)));
    assert_eq!(cluster.log(1), [1, 2]);
    // The first append's report arrives: 2 and 3 of it were removed since.
    cluster.persist(1, 1);
    assert_eq!(cluster.node(1).status().persisted_index, LogIndex(1));
    assert!(cluster.network.is_empty(), "nothing durable to acknowledge: {:?}", cluster.network);
    cluster.persist(1, usize::MAX);
    assert_eq!(cluster.node(1).status().persisted_index, LogIndex(2));
    let accepted = AppendEntriesResponse::Accepted { match_index: LogIndex(2) };
    assert_eq!(cluster.network, [message(1, 3, 2, Body::AppendEntriesResponse(Incarnation::UNKNOWN, accepted))]);
}

#[test]
fn l13_a_leader_does_not_count_its_own_unflushed_entry() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.sync = false;
    cluster.propose(1, "x");
    cluster.settle();
    cluster.persist(2, usize::MAX);
    cluster.settle();
    assert_eq!(cluster.commit(1), 1, "node 2 alone holds it durably");
    cluster.persist(1, usize::MAX);
    assert_eq!(cluster.commit(1), 2);
}

#[test]
fn d5_a_single_node_commits_after_its_own_write() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.sync = false;
    cluster.propose(1, "x");
    assert_eq!((cluster.commit(1), cluster.applied[0].len()), (1, 0));
    cluster.persist(1, 1);
    assert_eq!((cluster.commit(1), cluster.applied[0].len()), (2, 1));
}

#[test]
fn r2_answers_of_an_earlier_round_confirm_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    cluster.step(1, Event::Read(ReadId(7)));
    let answer =
        |term, round| message(2, 1, term, Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round }));
    cluster.step(1, answer(1, 0));
    cluster.step(1, answer(0, 1));
    assert_eq!(reads_ready(&cluster), [0_u64; 0]);
    cluster.step(1, answer(1, 1));
    assert_eq!(reads_ready(&cluster), [7]);
    cluster.step(1, Event::Read(ReadId(7)));
    cluster.step(1, answer(1, 1));
    assert_eq!(reads_ready(&cluster), [7], "the same name, a new round");
}

#[test]
fn r3_a_confirmed_read_waits_for_its_entries_to_be_applied() {
    let mut cluster = Cluster::new(1);
    let quiet = |cluster: &mut Cluster, event: Event| cluster.node_mut(1).step(event);
    cluster.elect(1);
    let actions = quiet(&mut cluster, Event::Propose(vec!["x".into()]));
    for action in actions {
        if let Action::Persist(write) = action {
            let id = write.id;
            raft_core::Storage::write(cluster.node_mut(1).storage_mut(), write).unwrap();
            cluster.node_mut(1).storage_mut().persist(1);
            let applied = cluster.node_mut(1).step(Event::Persisted(id));
            assert!(matches!(applied[..], [Action::Apply { first: LogIndex(2), last: LogIndex(2) }]), "{applied:?}");
        }
    }
    assert_eq!(quiet(&mut cluster, Event::Read(ReadId(1))), []);
    let ready = Action::ReadReady { read: ReadId(1), index: LogIndex(2) };
    assert_eq!(quiet(&mut cluster, Event::Applied(LogIndex(2))), [ready]);
}

#[test]
fn many_reads_share_one_round() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    let first = cluster.step(1, Event::Read(ReadId(1)));
    assert_eq!(first.len(), 2, "a heartbeat a follower");
    for read in 2..=50 {
        assert_eq!(cluster.step(1, Event::Read(ReadId(read))), []);
    }
    let answer = |round| message(2, 1, 1, Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round }));
    let second = cluster.step(1, answer(1));
    assert_eq!(reads_ready(&cluster), [1]);
    assert_eq!(second.iter().filter(|action| matches!(action, Action::Send(_))).count(), 2, "one round for the rest");
    cluster.step(1, answer(2));
    assert_eq!(reads_ready(&cluster), (1..=50).collect::<Vec<u64>>());
}

#[test]
fn a_deposed_leader_fails_its_reads_with_a_reason() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    cluster.step(1, Event::Read(ReadId(1)));
    let actions =
        cluster.step(1, message(2, 1, 2, Body::Heartbeat(Heartbeat { leader_commit: LogIndex(0), round: 0 })));
    assert!(actions.contains(&Action::ReadFailed { read: ReadId(1), reason: Refusal::LeadershipLost }), "{actions:?}");
}

#[test]
fn a_refusal_names_the_leader() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.propose(2, "x"), [Action::ProposalRefused(Refusal::NotLeader { leader: None })]);
    cluster.elect(1);
    let reason = Refusal::NotLeader { leader: Some(NodeId(1)) };
    assert_eq!(cluster.propose(2, "x"), [Action::ProposalRefused(reason)]);
    let failed = Action::ReadFailed { read: ReadId(1), reason };
    assert_eq!(cluster.step(2, Event::Read(ReadId(1))), [failed]);
    assert_eq!(cluster.step(1, Event::Propose(vec![])), [Action::ProposalRefused(Refusal::Empty)]);
}

#[test]
fn another_digest_at_an_equal_index_and_term_is_acknowledged_by_nobody() {
    let mut cluster = Cluster::with_logs(&[&[1, 1], &[], &[]]);
    let mut request = append((1, 2), &[1], 2);
    request.prev_log_hash = Some(std::sync::Arc::new(Digest([7; 32])));
    let answer = sent_to(&cluster.step(1, message(2, 1, 1, Body::AppendEntries(request.clone()))), 2);
    let diverged = AppendEntriesResponse::Diverged { prev_log_index: LogIndex(2) };
    assert_eq!(answer, [Body::AppendEntriesResponse(Incarnation::UNKNOWN, diverged)]);
    assert_eq!((cluster.log(1), cluster.commit(1)), (vec![1, 1], 0));
    let digest = entries(&[1, 1]).iter().fold(Digest([0; 32]), |prev, entry| toy_link(&prev, entry));
    request.prev_log_hash = Some(std::sync::Arc::new(digest));
    request.leader_commit = LogIndex(0);
    cluster.step(1, message(2, 1, 1, Body::AppendEntries(request)));
    assert_eq!(cluster.log(1), [1, 1, 1]);
}

#[test]
fn a_failed_write_halts_the_node_and_whoever_waits_is_told() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    cluster.step(1, Event::Read(ReadId(1)));
    let error = StorageError::Io { what: "fdatasync: no space left".into() };
    let actions = cluster.step(1, Event::WriteFailed(error.clone()));
    let failed = Action::ReadFailed { read: ReadId(1), reason: Refusal::Halted };
    assert_eq!(actions, [failed, Action::Halt(raft_core::Fault::Storage(error))]);
    assert_eq!(cluster.step(1, Event::Tick), []);
    assert_eq!(cluster.propose(1, "x"), [Action::ProposalRefused(Refusal::Halted)]);
}

#[test]
fn the_same_events_give_the_same_actions() {
    let run = || {
        let mut cluster = Cluster::with_seed(3, 42);
        cluster.run(60);
        let leader = cluster.leaders()[0];
        cluster.propose(leader, "x");
        cluster.run(30);
        format!("{:?} {:?}", cluster.notices, cluster.nodes)
    };
    assert_eq!(run(), run());
}
