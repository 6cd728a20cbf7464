//! Exact scenarios that implementations of Raft are held to in public, by their numbers in the project's list.

use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Entries, Event, HardState, Heartbeat,
    HeartbeatResponse, Incarnation, LogIndex, MemStorage, NodeId, PreVote, ProgressState, ReadId, RequestVote,
    RequestVoteResponse, RoleName, Term,
};

use crate::cluster::{Cluster, entries, message, sent_to};

fn accepted(match_index: u64) -> Body {
    Body::AppendEntriesResponse(
        Incarnation::UNKNOWN,
        AppendEntriesResponse::Accepted { match_index: LogIndex(match_index) },
    )
}

/// A group whose nodes besides the first are played by the test.
fn alone(voters: u32, terms: &[u64], max_inflight: usize) -> Cluster {
    let current_term = Term(terms.last().copied().unwrap_or(0));
    let voters = Configuration::new((1..=voters).map(NodeId));
    let hard_state = HardState { current_term, voted_for: None };
    let storage = MemStorage::with_log(voters, hard_state, entries(terms)).unwrap();
    let mut cluster = Cluster::empty();
    cluster.safety.single();
    cluster.add(Config { max_inflight, ..Config::new(NodeId(1)) }, storage);
    cluster
}

/// Node 1 of [`alone`] wins an election with the vote of node 2; what it says meanwhile is thrown away.
fn lead(cluster: &mut Cluster) {
    let term = cluster.term(1);
    let grant = raft_core::PreVoteResponse { next_term: Term(term + 1), vote_granted: true };
    cluster.step(1, Event::Campaign);
    cluster.step(1, message(2, 1, term, Body::PreVoteResponse(Incarnation::UNKNOWN, grant)));
    let vote = RequestVoteResponse { vote_granted: true };
    cluster.step(1, message(2, 1, term + 1, Body::RequestVoteResponse(Incarnation::UNKNOWN, vote)));
    assert_eq!(cluster.node(1).role(), RoleName::Leader);
    cluster.network.clear();
}

#[test]
fn conformance_01_vote_check() {
    let cases: [(&[u64], (u64, u64), bool); 6] = [
        (&[1], (1, 1), true),
        (&[1], (1, 2), true),
        (&[1], (2, 1), true),
        (&[1, 1], (1, 1), false),
        (&[1, 1], (2, 1), true),
        (&[2], (1, 2), false),
    ];
    for (log, (last_log_term, last_log_index), vote_granted) in cases {
        let mut cluster = alone(3, log, 4);
        let request = RequestVote {
            last_log_index: LogIndex(last_log_index),
            last_log_term: Term(last_log_term),
            leadership_transfer: false,
        };
        cluster.step(1, message(2, 1, 3, Body::RequestVote(request)));
        let answer =
            message(1, 2, 3, Body::RequestVoteResponse(Incarnation::UNKNOWN, RequestVoteResponse { vote_granted }));
        assert_eq!(cluster.network, [answer], "{log:?} against ({last_log_term}, {last_log_index})");
    }
}

#[test]
fn conformance_02_figure_8() {
    let mut cluster = alone(2, &[1, 2], 4);
    lead(&mut cluster);
    assert_eq!((cluster.term(1), cluster.log(1)), (3, vec![1, 2, 3]));
    cluster.propose(1, "x");
    for (acknowledged, commit) in [(1, 0), (2, 0), (3, 3)] {
        cluster.step(1, message(2, 1, 3, accepted(acknowledged)));
        assert_eq!(cluster.commit(1), commit, "after an acknowledgement of {acknowledged}");
    }
}

#[test]
fn conformance_03_conflict_hints() {
    /// The leader's log, the follower's, the hint and the leader's next prev, both (index, term).
    type Case = (&'static [u64], &'static [u64], (u64, u64), (u64, u64));
    let cases: [Case; 6] = [
        (&[1, 2, 2, 4, 4, 4, 4], &[1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3], (7, 3), (3, 2)),
        (&[1, 2, 2, 3, 4, 4, 4, 5], &[1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3], (8, 3), (4, 3)),
        (&[1, 1, 1, 1], &[1, 2, 2, 4], (1, 1), (1, 1)),
        (&[2, 5, 5, 5, 5, 5, 5, 5, 5], &[2, 4, 4, 4, 4, 4], (6, 4), (1, 2)),
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6], &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], (10, 3), (3, 1)),
        (&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6], &[1, 1, 1, 4], (4, 4), (4, 4)),
    ];
    for (leader, follower, (hint_index, hint_term), (next_index, next_term)) in cases {
        let mut cluster = Cluster::with_logs_in_term(&[leader, follower, leader], 8);
        cluster.cut = vec![(1, 2), (2, 1)];
        cluster.elect(1);
        cluster.mend();
        let term = cluster.term(1);
        let prev = LogIndex(leader.len() as u64);
        cluster.tick(1, 3);
        cluster.network.retain(|message| message.to == NodeId(2));
        cluster.settle_until(2, 1, |body| matches!(body, Body::HeartbeatResponse(_, _)));
        let probe = cluster.network.iter().find_map(|message| match &message.body {
            Body::AppendEntries(request) if message.to == NodeId(2) => Some(request.prev_log_index),
            _ => None,
        });
        assert_eq!(probe, Some(prev), "the leader probes at its last entry before its no-op");
        cluster.deliver(0);
        let hint = AppendEntriesResponse::Rejected {
            prev_log_index: prev,
            hint_index: LogIndex(hint_index),
            hint_term: Term(hint_term),
        };
        assert_eq!(
            cluster.network,
            [message(2, 1, term, Body::AppendEntriesResponse(Incarnation::UNKNOWN, hint))],
            "{leader:?} {follower:?}"
        );
        cluster.deliver(0);
        let Some(Body::AppendEntries(next)) = cluster.network.first().map(|message| &message.body) else {
            panic!("no second probe: {:?}", cluster.network);
        };
        assert_eq!((next.prev_log_index.0, next.prev_log_term.0), (next_index, next_term));
        cluster.settle();
        assert_eq!(cluster.log(2), cluster.log(1));
    }
}

#[test]
fn conformance_04_pre_vote_behind() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.settle();
    cluster.mend();
    let last = cluster.node(1).status().last_index;
    assert!(cluster.node(3).status().last_index < last);
    cluster.step(3, Event::Campaign);
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.term(1), cluster.term(2), cluster.term(3)), (vec![1], 1, 1, 1));
    cluster.cut_off(1);
    cluster.tick(3, 15);
    cluster.step(2, Event::Campaign);
    cluster.settle();
    assert_eq!((cluster.node(2).role(), cluster.term(2)), (RoleName::Leader, 2));
}

#[test]
fn conformance_05_pre_vote_with_check_quorum() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.run(3);
    cluster.step(2, Event::Campaign);
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.term(1), cluster.term(2)), (vec![1], 1, 1), "the others hear a leader");
}

#[test]
fn conformance_05_pre_vote_after_an_election_timeout_of_silence() {
    // Node 2 must draw a timeout longer than the shortest, so that its silence ends before it campaigns itself.
    let silent = |seed: u64| {
        let mut cluster = Cluster::with_seed(3, seed);
        cluster.elect(1);
        cluster.run(3);
        cluster.tick(2, 15);
        cluster.network.clear();
        (cluster.node(2).role() == RoleName::Follower).then_some(cluster)
    };
    let mut cluster = (0..20).find_map(silent).expect("some seed draws a longer timeout");
    cluster.step(3, Event::Campaign);
    cluster.settle();
    assert_eq!((cluster.node(3).role(), cluster.term(3)), (RoleName::Leader, 2), "node 2's grant is enough");
}

#[test]
fn a_follower_that_lags_is_sent_a_window_of_appends_at_once() {
    let mut cluster = Cluster::with_tiny_limits(3, 0, (1 << 20, 1, 4));
    cluster.elect(1);
    cluster.cut_off(3);
    for _ in 0..20 {
        cluster.propose(1, "x");
        cluster.settle();
    }
    cluster.mend();
    cluster.tick(1, 3);
    let mut most = 0;
    while !cluster.network.is_empty() {
        cluster.deliver(0);
        let to_3 = |body: &Body| matches!(body, Body::AppendEntries(request) if !request.entries.is_empty());
        let under_way = cluster.network.iter().filter(|message| message.to == NodeId(3) && to_3(&message.body));
        most = most.max(under_way.count());
    }
    assert_eq!(most, 4, "as many as may be in flight, not one a round trip");
    assert_eq!(cluster.log(3), cluster.log(1));
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
fn conformance_06_stuck_candidate() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.run(3);
    let stuck = message(3, 1, 7, Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round: 0 }));
    cluster.cut_off(3);
    cluster.step(1, stuck);
    assert_eq!((cluster.node(1).role(), cluster.term(1)), (RoleName::Follower, 7));
    cluster.run(60);
    let leaders = cluster.leaders();
    assert_eq!(leaders.len(), 1);
    assert!(cluster.term(leaders[0]) > 7);
    assert_eq!(cluster.safety.terms_led().len(), 2, "one election was enough");
}

#[test]
fn conformance_14_window_pause() {
    let mut cluster = alone(3, &[], 3);
    lead(&mut cluster);
    for _ in 0..10 {
        cluster.propose(1, "x");
    }
    for follower in [2, 3] {
        cluster.step(1, message(follower, 1, 1, accepted(11)));
    }
    for _ in 0..2 {
        for _ in 0..3 {
            cluster.propose(1, "x");
        }
        let last = cluster.node(1).status().last_index.0;
        cluster.step(1, message(2, 1, 1, accepted(last)));
    }
    let progress = cluster.node(1).status().followers[1].1.clone();
    assert_eq!(
        (
            cluster.commit(1),
            progress.next_index(),
            progress.is_paused(&Config { max_inflight: 3, ..Config::new(NodeId(1)) })
        ),
        (17, LogIndex(15), true)
    );
    let answer = || message(3, 1, 1, Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round: 0 }));
    let sent = sent_to(&cluster.step(1, answer()), 3);
    let [Body::AppendEntries(probe)] = &sent[..] else { panic!("not exactly one probe: {sent:?}") };
    assert_eq!((probe.prev_log_index, probe.entries.len()), (LogIndex(14), 0));
    let rejected =
        AppendEntriesResponse::Rejected { prev_log_index: LogIndex(14), hint_index: LogIndex(11), hint_term: Term(1) };
    let sent =
        sent_to(&cluster.step(1, message(3, 1, 1, Body::AppendEntriesResponse(Incarnation::UNKNOWN, rejected))), 3);
    let [Body::AppendEntries(append)] = &sent[..] else { panic!("not exactly one append: {sent:?}") };
    let indexes: Vec<u64> = append.entries.iter().map(|entry| entry.index.0).collect();
    assert_eq!(indexes, [12, 13, 14, 15, 16, 17]);
}

#[test]
fn conformance_15_probe_recovery() {
    let mut cluster = alone(2, &[], 4);
    lead(&mut cluster);
    cluster.step(1, message(2, 1, 1, accepted(1)));
    cluster.step(1, Event::Unreachable(NodeId(2)));
    let state = |cluster: &Cluster| cluster.node(1).status().followers[0].1.state();
    assert_eq!(state(&cluster), ProgressState::Probe);
    let heard = message(2, 1, 1, Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round: 0 }));
    let sent = sent_to(&cluster.step(1, heard), 2);
    let [Body::AppendEntries(AppendEntries { prev_log_index: LogIndex(1), entries, .. })] = &sent[..] else {
        panic!("not one append: {sent:?}");
    };
    assert!(entries.is_empty());
    cluster.step(1, message(2, 1, 1, accepted(1)));
    assert_eq!(state(&cluster), ProgressState::Replicate);
}

#[test]
fn conformance_17_a_read_on_a_new_leader() {
    let mut cluster = Cluster::with_logs(&[&[1, 1], &[1, 1], &[1, 1]]);
    let heartbeat = |commit: u64| Body::Heartbeat(Heartbeat { leader_commit: LogIndex(commit), round: 0 });
    cluster.safety.already_committed(2);
    cluster.step(1, message(2, 1, 1, heartbeat(1)));
    cluster.step(2, message(3, 2, 1, heartbeat(2)));
    cluster.step(3, message(2, 3, 1, heartbeat(2)));
    cluster.network.clear();
    cluster.tick(2, 15);
    cluster.tick(3, 15);
    cluster.network.clear();
    cluster.step(1, Event::Campaign);
    while cluster.node(1).role() != RoleName::Leader {
        cluster.deliver(0);
    }
    cluster.network.clear();
    cluster.step(1, Event::Read(ReadId(9)));
    assert!(!cluster.notices.iter().any(|(_, action)| matches!(action, Action::ReadReady { .. })), "R1: it waits");
    cluster.propose(1, "x");
    cluster.run(9);
    assert_eq!(cluster.commit(1), 4);
    let ready = cluster.notices.iter().filter_map(|(_, action)| match action {
        Action::ReadReady { read, index } => Some((read.0, index.0)),
        _ => None,
    });
    let ready: Vec<(u64, u64)> = ready.collect();
    assert!(matches!(ready[..], [(9, 3..)]), "{ready:?}");
}

#[test]
fn a_pre_vote_for_the_current_term_is_refused_with_the_term() {
    let mut cluster = alone(3, &[5], 4);
    let request = PreVote { next_term: Term(3), last_log_index: LogIndex(9), last_log_term: Term(5) };
    cluster.step(1, message(2, 1, 2, Body::PreVote(request)));
    let refusal = raft_core::PreVoteResponse { next_term: Term(3), vote_granted: false };
    assert_eq!(cluster.network, [message(1, 2, 5, Body::PreVoteResponse(Incarnation::UNKNOWN, refusal))]);
}

#[test]
fn entries_that_do_not_follow_each_other_are_dropped_with_a_reason() {
    let mut cluster = alone(3, &[1], 4);
    let request = AppendEntries {
        prev_log_index: LogIndex(1),
        prev_log_term: Term(1),
        prev_log_hash: None,
        leader_commit: LogIndex(0),
        entries: Entries::from(entries(&[1, 1, 1])),
    };
    cluster.step(1, message(2, 1, 2, Body::AppendEntries(request)));
    assert!(cluster.network.is_empty());
    assert!(cluster.notices.iter().any(|(_, notice)| matches!(notice, Action::MessageDropped { .. })));
}
