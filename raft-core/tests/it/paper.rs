//! The Raft paper (extended version) claim by claim, in its order: Figure 2 rule by rule, Figure 3's properties, then
//! §5 to §8 with Figures 7 and 8. Each test is named after the place and the claim.
//!
//! Where this crate does more than the paper, the tests say so: a server asks for pre-votes before it becomes a
//! candidate, a leader's first message carries its no-op, and heartbeats are messages of their own.

use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Entry, Event, HardState, Heartbeat,
    HeartbeatResponse, Incarnation, LogIndex, MemStorage, MembershipChange, NodeId, Payload, PeerFault,
    PreVoteResponse, ReadId, Refusal, RequestVote, RequestVoteResponse, RoleName, Storage, StorageError, Term, WriteOp,
};

use crate::cluster::{Cluster, all_entries, entries, message, sent_to};
use crate::snapshots::{self, Solo};

const ELECTION_TIMEOUT: u32 = 15;
/// The first tick at which every server, whatever it drew from `[T, 1.75 T)`, has timed out.
const LONGEST_TIMEOUT: u32 = 26;
const HEARTBEAT_INTERVAL: u32 = 3;

/// Server 1 of three, with a log of these terms; the test speaks for the other two.
fn server(log: &[u64]) -> Cluster {
    server_in_term(log, 0)
}

fn server_in_term(log: &[u64], at_least: u64) -> Cluster {
    let mut cluster = Cluster::with_logs_in_term(&[log, &[], &[]], at_least);
    cluster.safety.single();
    cluster
}

/// Server 1 of three as a candidate: server 2 has told it that it would vote for it.
fn candidate(log: &[u64]) -> Cluster {
    let mut cluster = server(log);
    let term = cluster.term(1);
    cluster.step(1, Event::Campaign);
    cluster.step(1, message(2, 1, term, pre_vote_granted(term + 1)));
    assert_eq!(cluster.node(1).role(), RoleName::Candidate);
    cluster
}

/// Server 1 of three as a leader, with the vote of server 2; what it says at once is lost.
fn leader(log: &[u64]) -> Cluster {
    let mut cluster = candidate(log);
    let term = cluster.term(1);
    cluster.step(1, message(2, 1, term, vote(true)));
    assert_eq!(cluster.node(1).role(), RoleName::Leader);
    cluster.network.clear();
    cluster
}

/// `id` wins an election; of what it says as a leader nothing has arrived yet.
fn win(cluster: &mut Cluster, id: u32) {
    let elects = |body: &Body| {
        matches!(
            body,
            Body::PreVote(_) | Body::PreVoteResponse(_, _) | Body::RequestVote(_) | Body::RequestVoteResponse(_, _)
        )
    };
    // A refused pre-vote teaches the term that the next attempt starts from.
    for _ in 0..3 {
        cluster.step(id, Event::Campaign);
        while let Some(at) = cluster.network.iter().position(|message| elects(&message.body)) {
            cluster.deliver(at);
        }
        if cluster.node(id).role() == RoleName::Leader {
            return;
        }
    }
    panic!("server {id} does not win: {:?}", cluster.node(id).status());
}

/// `id` hears no leader for an election timeout, and nobody hears it ask for votes.
fn time_out(cluster: &mut Cluster, id: u32) {
    cluster.step(id, Event::Campaign);
    cluster.network.clear();
}

fn request_vote((last_log_term, last_log_index): (u64, u64)) -> Body {
    Body::RequestVote(RequestVote {
        last_log_index: LogIndex(last_log_index),
        last_log_term: Term(last_log_term),
        leadership_transfer: false,
        voter: Incarnation::UNKNOWN,
    })
}

fn vote(vote_granted: bool) -> Body {
    Body::RequestVoteResponse(Incarnation::UNKNOWN, RequestVoteResponse { vote_granted })
}

fn pre_vote_granted(next_term: u64) -> Body {
    Body::PreVoteResponse(Incarnation::UNKNOWN, PreVoteResponse { next_term: Term(next_term), vote_granted: true })
}

/// An append of entries of these terms after (term, index).
fn append((prev_term, prev_index): (u64, u64), terms: &[u64], leader_commit: u64) -> Body {
    let before = vec![prev_term; prev_index as usize];
    Body::AppendEntries(AppendEntries {
        prev_log_index: LogIndex(prev_index),
        prev_log_term: Term(prev_term),
        prev_log_hash: None,
        leader_commit: LogIndex(leader_commit),
        entries: entries(&[&before[..], terms].concat())[before.len()..].into(),
    })
}

fn accepted(match_index: u64) -> Body {
    Body::AppendEntriesResponse(
        Incarnation::UNKNOWN,
        AppendEntriesResponse::Accepted { match_index: LogIndex(match_index) },
    )
}

fn heartbeat(leader_commit: u64) -> Body {
    Body::Heartbeat(Heartbeat { leader_commit: LogIndex(leader_commit), round: 0 })
}

fn heartbeat_answer(round: u64) -> Body {
    Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round })
}

fn is_rejection(body: &Body) -> bool {
    matches!(body, Body::AppendEntriesResponse(_, AppendEntriesResponse::Rejected { .. }))
}

fn appends_in(bodies: Vec<Body>) -> Vec<AppendEntries> {
    let append = |body| if let Body::AppendEntries(request) = body { Some(request) } else { None };
    bodies.into_iter().filter_map(append).collect()
}

fn reads_ready(cluster: &Cluster) -> Vec<(u32, u64)> {
    let ready = |(id, notice): &(u32, Action)| match notice {
        Action::ReadReady { read, .. } => Some((*id, read.0)),
        _ => None,
    };
    cluster.notices.iter().filter_map(ready).collect()
}

// Figure 2, "State".

/// "Persistent state on all servers": currentTerm, votedFor and log[] survive a crash; "volatile state", commitIndex
/// and lastApplied, starts at 0.
#[test]
fn figure_2_state_term_vote_and_log_survive_a_crash_and_the_rest_does_not() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, "x");
    cluster.settle();
    assert_eq!((cluster.commit(1), cluster.node(1).last_applied().0), (2, 2));
    cluster.crash(1, 0);
    assert_eq!((cluster.term(1), cluster.log(1)), (1, vec![1, 1]));
    assert_eq!((cluster.commit(1), cluster.node(1).last_applied().0), (0, 0));
    let answer = sent_to(&cluster.step(1, message(2, 1, 1, request_vote((9, 9)))), 2);
    assert_eq!(answer, [vote(false)], "it voted for itself in term 1");
}

/// "Updated on stable storage before responding to RPCs."
#[test]
fn figure_2_state_nothing_is_answered_before_it_is_durable() {
    let mut cluster = server(&[]);
    cluster.sync = false;
    cluster.step(1, message(2, 1, 1, request_vote((0, 0))));
    assert_eq!(cluster.network, []);
    cluster.persist(1, usize::MAX);
    assert_eq!(cluster.network, [message(1, 2, 1, vote(true))]);
    cluster.network.clear();
    cluster.step(1, message(2, 1, 1, append((0, 0), &[1], 0)));
    assert_eq!(cluster.network, []);
    cluster.persist(1, usize::MAX);
    assert_eq!(cluster.network, [message(1, 2, 1, accepted(1))]);
}

/// "Volatile state on leaders (reinitialized after election)": nextIndex to the leader's last log index + 1, matchIndex
/// to 0.
#[test]
fn figure_2_state_a_new_leader_starts_next_index_after_its_last_entry_and_match_index_at_0() {
    let cluster = leader(&[1, 1]);
    for (follower, progress) in cluster.node(1).status().followers {
        assert_eq!((progress.next_index(), progress.match_index()), (LogIndex(3), LogIndex(0)), "{follower}");
    }
}

// Figure 2, "AppendEntries RPC".

/// Receiver 1: "Reply false if term < currentTerm."
#[test]
fn figure_2_append_entries_1_an_old_term_is_refused() {
    let mut cluster = server_in_term(&[1], 5);
    cluster.step(1, message(2, 1, 4, append((1, 1), &[4], 2)));
    assert!(is_rejection(&cluster.network[0].body), "{:?}", cluster.network);
    assert_eq!(cluster.network[0].term, Term(5), "the term, for the leader to update itself");
    assert_eq!((cluster.log(1), cluster.commit(1)), (vec![1], 0));
}

/// Receiver 2: "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm."
#[test]
fn figure_2_append_entries_2_without_the_previous_entry_it_is_refused() {
    for (prev, why) in [((2, 3), "the log is too short"), ((2, 2), "the entry there is of another term")] {
        let mut cluster = server(&[1, 1]);
        cluster.step(1, message(2, 1, 3, append(prev, &[3], 0)));
        assert!(is_rejection(&cluster.network[0].body), "{why}");
        assert_eq!(cluster.log(1), [1, 1], "{why}");
    }
}

/// Receiver 3: "If an existing entry conflicts with a new one (same index but different terms), delete the existing
/// entry and all that follow it."
#[test]
fn figure_2_append_entries_3_a_conflicting_entry_and_all_that_follow_it_go() {
    let mut cluster = server(&[1, 1, 1, 1]);
    cluster.step(1, message(2, 1, 2, append((1, 2), &[2], 0)));
    assert_eq!(cluster.log(1), [1, 1, 2]);
}

/// Receiver 3 again, for what it does not say: without a conflict nothing is deleted.
#[test]
fn figure_2_append_entries_3_an_entry_that_does_not_conflict_stays() {
    let mut cluster = server(&[1, 1, 1, 1]);
    cluster.step(1, message(2, 1, 1, append((1, 1), &[1], 0)));
    assert_eq!(cluster.log(1), [1, 1, 1, 1]);
}

/// Receiver 4: "Append any new entries not already in the log."
#[test]
fn figure_2_append_entries_4_only_what_is_new_is_appended() {
    let mut cluster = server(&[1, 1]);
    let actions = cluster.step(1, message(2, 1, 1, append((0, 0), &[1, 1, 1], 0)));
    assert_eq!(cluster.log(1), [1, 1, 1]);
    let written = actions.iter().find_map(|action| match action {
        Action::Persist(write) => Some(write.op.clone()),
        _ => None,
    });
    let Some(WriteOp::Append { entries, .. }) = written else { panic!("no append: {actions:?}") };
    assert_eq!(entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [3]);
}

/// Receiver 5: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)."
#[test]
fn figure_2_append_entries_5_commit_index_is_the_lesser_of_leader_commit_and_the_last_new_entry() {
    for (terms, leader_commit, commit) in [(&[1, 1][..], 2, 2), (&[1, 1], 9, 3), (&[], 9, 1), (&[1, 1], 0, 0)] {
        let mut cluster = server(&[1, 1, 1]);
        cluster.step(1, message(2, 1, 1, append((1, 1), terms, leader_commit)));
        assert_eq!(cluster.commit(1), commit, "{terms:?}, leaderCommit {leader_commit}");
    }
}

// Figure 2, "RequestVote RPC".

/// Receiver 1: "Reply false if term < currentTerm."
#[test]
fn figure_2_request_vote_1_an_old_term_is_refused() {
    let mut cluster = server_in_term(&[1], 5);
    cluster.step(1, message(2, 1, 4, request_vote((4, 9))));
    assert_eq!(cluster.network, [message(1, 2, 5, vote(false))]);
}

/// Receiver 2: "If votedFor is null or candidateId, and candidate's log is at least as up-to-date as receiver's log,
/// grant vote."
#[test]
fn figure_2_request_vote_2_a_free_vote_goes_to_an_up_to_date_log_and_stays_there() {
    let mut cluster = server(&[1, 1]);
    cluster.step(1, message(2, 1, 2, request_vote((1, 1))));
    cluster.step(1, message(3, 1, 2, request_vote((1, 2))));
    cluster.step(1, message(2, 1, 2, request_vote((1, 2))));
    cluster.step(1, message(3, 1, 2, request_vote((1, 2))));
    let answers = [(2, false), (3, true), (2, false), (3, true)];
    assert_eq!(cluster.network, answers.map(|(to, granted)| message(1, to, 2, vote(granted))));
}

// Figure 2, "Rules for Servers".

/// All servers 1: "If commitIndex > lastApplied: increment lastApplied, apply log[lastApplied] to state machine."
#[test]
fn figure_2_all_servers_1_what_is_committed_is_applied_in_order() {
    let mut cluster = server(&[1, 1, 1]);
    for commit in [1, 3] {
        cluster.step(1, message(2, 1, 1, append((1, 3), &[], commit)));
        assert_eq!((cluster.commit(1), cluster.node(1).last_applied().0), (commit, commit));
    }
    assert_eq!(cluster.applied[0], ["c1", "c2", "c3"]);
}

/// All servers 2: "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower."
#[test]
fn figure_2_all_servers_2_a_higher_term_in_any_call_or_answer_makes_a_follower() {
    let bodies = [append((0, 0), &[], 0), heartbeat(0), heartbeat_answer(0), accepted(0), vote(false), vote(true)];
    for (body, role) in bodies.into_iter().flat_map(|body| [(body.clone(), leader(&[])), (body, candidate(&[]))]) {
        let mut cluster = role;
        cluster.step(1, message(2, 1, 7, body.clone()));
        assert_eq!((cluster.term(1), cluster.node(1).role()), (7, RoleName::Follower), "{body:?}");
    }
    let mut cluster = candidate(&[]);
    cluster.step(1, message(2, 1, 7, request_vote((0, 0))));
    assert_eq!((cluster.term(1), cluster.node(1).role()), (7, RoleName::Follower));
}

/// Followers 1: "Respond to RPCs from candidates and leaders."
#[test]
fn figure_2_followers_1_every_call_is_answered() {
    for (request, answer) in [
        (request_vote((0, 0)), vote(true)),
        (append((0, 0), &[1], 0), accepted(1)),
        (heartbeat(0), heartbeat_answer(0)),
    ] {
        let mut cluster = server(&[]);
        cluster.step(1, message(2, 1, 1, request));
        assert_eq!(cluster.network, [message(1, 2, 1, answer)]);
    }
}

/// Followers 2: "If election timeout elapses without receiving AppendEntries RPC from current leader or granting vote to
/// candidate: convert to candidate." Here by way of a pre-candidate.
#[test]
fn figure_2_followers_2_a_silent_election_timeout_starts_an_election() {
    let mut cluster = server(&[]);
    cluster.tick(1, ELECTION_TIMEOUT - 1);
    assert_eq!(cluster.node(1).role(), RoleName::Follower);
    cluster.tick(1, LONGEST_TIMEOUT - ELECTION_TIMEOUT + 1);
    assert_eq!(cluster.node(1).role(), RoleName::PreCandidate);
    cluster.step(1, message(2, 1, 0, pre_vote_granted(1)));
    assert_eq!(cluster.node(1).role(), RoleName::Candidate);
}

/// Followers 2, the other way about.
#[test]
fn figure_2_followers_2_a_leaders_call_and_a_granted_vote_start_the_timeout_anew() {
    for call in [append((0, 0), &[], 0), heartbeat(0), request_vote((0, 0))] {
        let mut cluster = server(&[]);
        cluster.tick(1, ELECTION_TIMEOUT - 1);
        cluster.step(1, message(2, 1, 1, call.clone()));
        cluster.tick(1, ELECTION_TIMEOUT - 1);
        assert_eq!(cluster.node(1).role(), RoleName::Follower, "{call:?}");
    }
}

/// Candidates 1: "On conversion to candidate, start election: increment currentTerm, vote for self, reset election
/// timer, send RequestVote RPCs to all other servers."
#[test]
fn figure_2_candidates_1_an_election_raises_the_term_takes_the_own_vote_and_asks_everybody() {
    let cluster = candidate(&[1, 3]);
    assert_eq!(cluster.term(1), 4);
    let own_vote = HardState { current_term: Term(4), voted_for: Some(NodeId(1)) };
    assert_eq!(cluster.node(1).storage().durable_hard_state(), own_vote);
    let asked = [2, 3].map(|to| message(1, to, 4, request_vote((3, 2))));
    assert_eq!(cluster.network[cluster.network.len() - 2..], asked);
}

/// Candidates 2: "If votes received from majority of servers: become leader."
#[test]
fn figure_2_candidates_2_a_majority_of_votes_makes_a_leader() {
    let mut cluster = candidate(&[]);
    cluster.step(1, message(2, 1, 1, vote(false)));
    assert_eq!(cluster.node(1).role(), RoleName::Candidate);
    cluster.step(1, message(3, 1, 1, vote(true)));
    assert_eq!(cluster.node(1).role(), RoleName::Leader);
}

/// Candidates 3: "If AppendEntries RPC received from new leader: convert to follower."
#[test]
fn figure_2_candidates_3_a_new_leaders_call_makes_a_follower() {
    for call in [append((0, 0), &[], 0), heartbeat(0)] {
        let mut cluster = candidate(&[]);
        cluster.step(1, message(3, 1, 1, call));
        assert_eq!((cluster.node(1).role(), cluster.node(1).leader()), (RoleName::Follower, Some(NodeId(3))));
    }
}

/// Candidates 4: "If election timeout elapses: start new election." With pre-vote the term waits for a quorum that would
/// vote.
#[test]
fn figure_2_candidates_4_another_timeout_starts_another_election() {
    let mut cluster = candidate(&[]);
    cluster.tick(1, LONGEST_TIMEOUT);
    assert_eq!((cluster.node(1).role(), cluster.term(1)), (RoleName::PreCandidate, 1));
    cluster.step(1, message(2, 1, 1, pre_vote_granted(2)));
    assert_eq!((cluster.node(1).role(), cluster.term(1)), (RoleName::Candidate, 2));
}

/// Leaders 1: "Upon election: send initial AppendEntries RPCs (heartbeat) to each server; repeat during idle periods to
/// prevent election timeouts." Here the first carries the no-op of §8.
#[test]
fn figure_2_leaders_1_a_leader_speaks_at_once_and_in_idle_periods() {
    let mut cluster = candidate(&[]);
    let actions = cluster.step(1, message(2, 1, 1, vote(true)));
    for follower in [2, 3] {
        assert_eq!(appends_in(sent_to(&actions, follower)).len(), 1);
    }
    cluster.network.clear();
    cluster.tick(1, HEARTBEAT_INTERVAL);
    assert_eq!(cluster.network, [2, 3].map(|to| message(1, to, 1, heartbeat(0))));
}

/// Leaders 2: "If command received from client: append entry to local log, respond after entry applied to state
/// machine."
#[test]
fn figure_2_leaders_2_a_command_is_appended_and_answered_once_applied() {
    let mut cluster = leader(&[]);
    cluster.propose(1, "x");
    assert_eq!((cluster.log(1), cluster.applied[0].len()), (vec![1, 1], 0));
    cluster.step(1, message(2, 1, 1, accepted(2)));
    assert_eq!(cluster.applied[0], ["x"]);
}

/// Leaders 3: "If last log index ≥ nextIndex for a follower: send AppendEntries RPC with log entries starting at
/// nextIndex. If successful: update nextIndex and matchIndex for follower."
#[test]
fn figure_2_leaders_3_entries_are_sent_from_next_index_on_and_success_moves_both_indexes() {
    let mut cluster = leader(&[1, 1]);
    cluster.step(1, message(2, 1, 2, accepted(3)));
    let sent = appends_in(sent_to(&cluster.propose(1, "x"), 2));
    assert_eq!((sent[0].prev_log_index, sent[0].entries[0].index), (LogIndex(3), LogIndex(4)));
    cluster.step(1, message(2, 1, 2, accepted(4)));
    let progress = &cluster.node(1).status().followers[0].1;
    assert_eq!((progress.match_index(), progress.next_index()), (LogIndex(4), LogIndex(5)));
}

/// Leaders 3: "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry."
#[test]
fn figure_2_leaders_3_an_inconsistency_is_tried_again_further_back() {
    let mut cluster = leader(&[1, 1]);
    let rejected =
        AppendEntriesResponse::Rejected { prev_log_index: LogIndex(2), hint_index: LogIndex(1), hint_term: Term(1) };
    let sent = appends_in(sent_to(
        &cluster.step(1, message(2, 1, 2, Body::AppendEntriesResponse(Incarnation::UNKNOWN, rejected))),
        2,
    ));
    assert_eq!((sent.len(), sent[0].prev_log_index, sent[0].entries[0].index), (1, LogIndex(1), LogIndex(2)));
}

/// Leaders 4: "If there exists an N such that N > commitIndex, a majority of matchIndex[i] ≥ N, and log[N].term ==
/// currentTerm: set commitIndex = N."
#[test]
fn figure_2_leaders_4_the_commit_index_follows_a_majority_in_the_current_term() {
    let mut cluster = leader(&[1, 1]);
    for (match_index, commit) in [(2, 0), (3, 3)] {
        cluster.step(1, message(2, 1, 2, accepted(match_index)));
        assert_eq!(cluster.commit(1), commit, "server 2 holds {match_index}; the no-op of term 2 is entry 3");
    }
}

// Figure 3. `Cluster::step` holds the five properties after every step; these are the situations that strain each.

/// "Election Safety: at most one leader can be elected in a given term."
#[test]
fn figure_3_election_safety_of_two_candidates_in_a_term_one_leads() {
    let mut cluster = Cluster::new(3);
    cluster.step(1, Event::Campaign);
    cluster.step(2, Event::Campaign);
    cluster.settle();
    assert!(cluster.leaders().len() <= 1);
    assert_eq!(cluster.term(1), cluster.term(2));
}

/// "Leader Append-Only: a leader never overwrites or deletes entries in its log; it only appends new entries."
#[test]
fn figure_3_leader_append_only_nobody_else_writes_a_leaders_log() {
    let mut cluster = leader(&[1, 1]);
    let actions = cluster.step(1, message(2, 1, 2, append((1, 1), &[2], 0)));
    assert_eq!(actions, [Action::MessageDropped { from: NodeId(2), reason: PeerFault::SecondLeader }]);
    assert_eq!(cluster.log(1), [1, 1, 2]);
}

/// "Log Matching: if two logs contain an entry with the same index and term, then the logs are identical in all entries
/// up through the given index."
#[test]
fn figure_3_log_matching_equal_names_mean_equal_prefixes() {
    let mut cluster = Cluster::with_logs(&[&[1, 1, 3], &[1, 1, 2, 2], &[1]]);
    cluster.elect(1);
    assert_eq!([1, 2, 3].map(|id| cluster.log(id)), [1, 2, 3].map(|_| vec![1, 1, 3, 4]));
}

/// "Leader Completeness: if a log entry is committed in a given term, then that entry will be present in the logs of the
/// leaders for all higher-numbered terms."
#[test]
fn figure_3_leader_completeness_only_a_server_with_what_is_committed_comes_to_lead() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.settle();
    cluster.mend();
    cluster.cut_off(1);
    cluster.run(10 * ELECTION_TIMEOUT);
    assert_eq!(cluster.leaders(), [2], "server 3 lacks what is committed");
}

/// "State Machine Safety: if a server has applied a log entry at a given index to its state machine, no other server will
/// ever apply a different log entry for the same index."
#[test]
fn figure_3_state_machine_safety_every_machine_applies_the_same_commands() {
    let mut cluster = Cluster::new(3);
    for (leader, command) in [(1, "x"), (2, "y"), (3, "z")] {
        for id in 1..=3 {
            time_out(&mut cluster, id);
        }
        win(&mut cluster, leader);
        cluster.propose(leader, command);
        cluster.run(HEARTBEAT_INTERVAL);
    }
    for applied in &cluster.applied {
        assert_eq!(applied, &["x", "y", "z"]);
    }
}

// §5.1 Raft basics.

/// "Five is a typical number, which allows the system to tolerate two failures."
#[test]
fn s5_1_five_servers_tolerate_two_failures_and_not_three() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.cut_off(4);
    cluster.cut_off(5);
    cluster.propose(1, "x");
    cluster.settle();
    assert_eq!(cluster.applied[0], ["x"]);
    cluster.cut_off(3);
    cluster.propose(1, "y");
    cluster.settle();
    assert_eq!(cluster.applied[0], ["x"]);
}

/// "Followers are passive: they issue no requests on their own but simply respond to requests from leaders and
/// candidates."
#[test]
fn s5_1_a_follower_asks_nothing_by_itself() {
    let mut cluster = server(&[]);
    for _ in 0..100 {
        cluster.step(1, message(2, 1, 1, heartbeat(0)));
        cluster.tick(1, ELECTION_TIMEOUT - 1);
    }
    assert!(cluster.network.iter().all(|message| message.body == heartbeat_answer(0)));
}

/// "If a client contacts a follower, the follower redirects it to the leader."
#[test]
fn s5_1_a_follower_names_the_leader_to_clients() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(2, "x");
    assert_eq!(cluster.refusals, [Refusal::NotLeader { leader: Some(NodeId(1)) }]);
}

/// "Terms are numbered with consecutive integers. Each term begins with an election."
#[test]
fn s5_1_terms_are_consecutive_and_each_begins_with_an_election() {
    let mut cluster = Cluster::new(3);
    for term in 1..=5 {
        for id in 1..=3 {
            time_out(&mut cluster, id);
        }
        win(&mut cluster, 1 + term % 3);
        cluster.settle();
        assert_eq!(cluster.term(1 + term % 3), u64::from(term));
    }
}

/// "If one server's current term is smaller than the other's, then it updates its current term to the larger value."
#[test]
fn s5_1_a_server_adopts_a_higher_term() {
    let mut cluster = server_in_term(&[], 2);
    cluster.step(1, message(2, 1, 5, heartbeat(0)));
    assert_eq!(cluster.term(1), 5);
    cluster.step(1, message(3, 1, 3, heartbeat(0)));
    assert_eq!(cluster.term(1), 5, "and never a lower one");
}

/// "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower state."
#[test]
fn s5_1_a_leader_out_of_date_reverts_to_follower() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    time_out(&mut cluster, 3);
    cluster.elect(2);
    assert_eq!(cluster.leaders(), [1, 2]);
    cluster.mend();
    cluster.tick(1, HEARTBEAT_INTERVAL);
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.term(1)), (vec![2], 2));
}

/// "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn s5_1_requests_of_a_stale_term_change_nothing() {
    for request in [append((0, 0), &[1], 1), heartbeat(1), request_vote((4, 4))] {
        let mut cluster = server_in_term(&[], 5);
        cluster.step(1, message(2, 1, 4, request));
        assert_eq!((cluster.log(1), cluster.commit(1), cluster.node(1).leader()), (vec![], 0, None));
        assert_eq!(cluster.network[0].term, Term(5), "the answer says why");
    }
}

/// "Servers retry RPCs if they do not receive a response in a timely manner, and they issue RPCs in parallel for best
/// performance."
#[test]
fn s5_1_what_is_lost_is_sent_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let sent = cluster.propose(1, "x");
    assert_eq!([2, 3].map(|to| appends_in(sent_to(&sent, to)).len()), [1, 1], "in parallel");
    cluster.network.clear();
    cluster.run(2 * HEARTBEAT_INTERVAL);
    assert_eq!(cluster.commit(3), 2);
}

// §5.2 Leader election.

/// "When servers start up, they begin as followers."
#[test]
fn s5_2_a_server_starts_as_a_follower() {
    let mut cluster = Cluster::new(3);
    assert_eq!([1, 2, 3].map(|id| cluster.node(id).role()), [RoleName::Follower; 3]);
    cluster.elect(1);
    cluster.crash(1, 0);
    assert_eq!(cluster.node(1).role(), RoleName::Follower, "a leader too");
}

/// "A server remains in follower state as long as it receives valid RPCs from a leader or candidate. Leaders send periodic
/// heartbeats … to all followers in order to maintain their authority."
#[test]
fn s5_2_heartbeats_keep_the_leader_in_its_place() {
    let mut cluster = Cluster::new(5);
    cluster.elect(3);
    cluster.run(20 * ELECTION_TIMEOUT);
    assert_eq!((cluster.leaders(), cluster.term(1)), (vec![3], 1));
}

/// "If a follower receives no communication over a period of time called the election timeout, then it assumes there is
/// no viable leader and begins an election to choose a new leader."
#[test]
fn s5_2_without_a_leader_a_new_one_is_chosen() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    cluster.run(4 * ELECTION_TIMEOUT);
    assert_eq!(cluster.leaders().len(), 1);
    assert_ne!(cluster.leaders(), [1]);
}

/// "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the same
/// term."
#[test]
fn s5_2_a_majority_is_of_the_full_cluster_and_of_one_term() {
    let mut cluster = Cluster::new(5);
    cluster.safety.single();
    cluster.step(1, Event::Campaign);
    for voter in [2, 3] {
        cluster.step(1, message(voter, 1, 0, pre_vote_granted(1)));
    }
    let votes = [(2, 1, RoleName::Candidate), (3, 0, RoleName::Candidate), (4, 1, RoleName::Leader)];
    for (voter, term, role) in votes {
        cluster.step(1, message(voter, 1, term, vote(true)));
        assert_eq!(cluster.node(1).role(), role, "after the vote of {voter} in term {term}");
    }
}

/// "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."
#[test]
fn s5_2_the_first_to_ask_gets_the_vote_of_a_term_and_a_crash_gives_it_to_nobody_else() {
    let mut cluster = server(&[]);
    cluster.step(1, message(3, 1, 1, request_vote((0, 0))));
    cluster.step(1, message(2, 1, 1, request_vote((0, 0))));
    cluster.crash(1, 0);
    cluster.step(1, message(2, 1, 1, request_vote((0, 0))));
    cluster.step(1, message(2, 1, 2, request_vote((0, 0))));
    let answers = [(3, 1, true), (2, 1, false), (2, 1, false), (2, 2, true)];
    assert_eq!(cluster.network, answers.map(|(to, term, granted)| message(1, to, term, vote(granted))));
}

/// "If the leader's term is at least as large as the candidate's current term, then the candidate recognizes the leader as
/// legitimate. … If the term in the RPC is smaller, then the candidate rejects the RPC and continues in candidate state."
#[test]
fn s5_2_a_candidate_yields_to_a_leader_of_its_term_or_a_later_one_and_to_no_other() {
    for (term, role) in [(2, RoleName::Candidate), (3, RoleName::Follower), (4, RoleName::Follower)] {
        let mut cluster = candidate(&[2]);
        cluster.step(1, message(3, 1, term, append((0, 0), &[], 0)));
        assert_eq!(cluster.node(1).role(), role, "a leader of term {term} and a candidate of term 3");
    }
}

/// "If many followers become candidates at the same time, votes could be split so that no candidate obtains a majority.
/// When this happens, each candidate will time out and start a new election."
#[test]
fn s5_2_a_split_vote_elects_nobody_and_the_next_term_somebody() {
    let mut cluster = Cluster::new(4);
    for id in [1, 2] {
        cluster.step(id, Event::Campaign);
    }
    // Everybody would vote for both; then 3 votes for 1, and 4 for 2.
    while cluster.network.iter().any(|message| matches!(message.body, Body::PreVote(_) | Body::PreVoteResponse(_, _))) {
        let at = cluster.network.iter().position(|m| matches!(m.body, Body::PreVote(_) | Body::PreVoteResponse(_, _)));
        cluster.deliver(at.unwrap());
    }
    assert_eq!([1, 2].map(|id| cluster.node(id).role()), [RoleName::Candidate; 2]);
    cluster.network.retain(|message| [(1, 3), (2, 4)].contains(&(message.from.0, message.to.0)));
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.term(3), cluster.term(4)), (vec![], 1, 1));
    cluster.run(6 * LONGEST_TIMEOUT);
    assert_eq!(cluster.leaders().len(), 1);
    assert!(cluster.term(cluster.leaders()[0]) > 1);
}

/// "Election timeouts are chosen randomly from a fixed interval. … This spreads out the servers so that in most cases only
/// a single server will time out."
#[test]
fn s5_2_election_timeouts_are_spread_over_a_fixed_interval() {
    let timeout = |seed: u64| {
        let mut cluster = Cluster::with_seed(3, seed);
        let mut ticks = 0;
        while cluster.node(1).role() == RoleName::Follower {
            cluster.tick(1, 1);
            ticks += 1;
            assert!(ticks <= LONGEST_TIMEOUT, "seed {seed}: it never campaigns");
        }
        ticks
    };
    let drawn: std::collections::BTreeSet<u32> = (0..300).map(timeout).collect();
    assert_eq!(drawn, (ELECTION_TIMEOUT..LONGEST_TIMEOUT).collect(), "every value of [T, 1.75 T) and no other");
}

// §5.3 Log replication.

/// "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of the
/// other servers to replicate the entry. When the entry has been safely replicated, the leader applies the entry to its
/// state machine." A single round, §5.3's end: "a single slow follower will not impact performance."
#[test]
fn s5_3_a_command_is_committed_in_one_round_with_a_majority() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.propose(1, "x");
    assert_eq!(cluster.network.len(), 4);
    for _ in 0..2 {
        cluster.deliver(0);
    }
    let answers: Vec<_> = cluster.network.split_off(2);
    cluster.network.clear();
    for answer in answers {
        assert_eq!(cluster.applied[0].len(), 0);
        let done = cluster.step(1, answer.clone());
        assert!(answer.from == NodeId(2) || done.contains(&Action::Apply { first: LogIndex(2), last: LogIndex(2) }));
    }
    assert_eq!(cluster.applied[0], ["x"]);
}

/// "If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs indefinitely
/// (even after it has responded to the client) until all followers eventually store all log entries."
#[test]
fn s5_3_the_leader_goes_on_until_every_follower_stores_every_entry() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.run(20 * ELECTION_TIMEOUT);
    assert_eq!((cluster.applied[0].len(), cluster.log(3)), (1, vec![1]));
    cluster.crash(3, 0);
    cluster.mend();
    cluster.run(2 * HEARTBEAT_INTERVAL);
    assert_eq!((cluster.log(3), cluster.applied[2].len()), (vec![1, 1], 1));
}

/// "A log entry is committed once the leader that created the entry has replicated it on a majority of the servers. …
/// This also commits all preceding entries in the leader's log, including entries created by previous leaders."
#[test]
fn s5_3_a_commit_commits_all_that_precedes_it() {
    let mut cluster = Cluster::with_logs(&[&[1, 2, 2], &[1], &[1]]);
    cluster.elect(1);
    assert_eq!((cluster.log(1), cluster.commit(1)), (vec![1, 2, 2, 3], 4));
    assert_eq!(cluster.applied[0], ["c1", "c2", "c3"]);
}

/// "The leader keeps track of the highest index it knows to be committed, and it includes that index in future
/// AppendEntries RPCs (including heartbeats) so that the other servers eventually find out. Once a follower learns that a
/// log entry is committed, it applies the entry to its local state machine (in log order)."
#[test]
fn s5_3_followers_learn_what_is_committed_and_apply_it_in_log_order() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for command in ["x", "y", "z"] {
        cluster.propose(1, command);
    }
    cluster.run(HEARTBEAT_INTERVAL);
    for follower in [2, 3] {
        assert_eq!(
            (cluster.commit(follower), &cluster.applied[follower as usize - 1][..]),
            (4, &["x", "y", "z"].map(Into::into)[..])
        );
    }
}

/// "A leader creates at most one entry with a given log index in a given term, and log entries never change their
/// position in the log."
#[test]
fn s5_3_a_leader_names_every_entry_once() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for next in 2..10 {
        let appended = Action::ProposalAppended { first: LogIndex(next), last: LogIndex(next), term: Term(1) };
        assert!(cluster.propose(1, "x").contains(&appended));
    }
}

/// "When sending an AppendEntries RPC, the leader includes the index and term of the entry in its log that immediately
/// precedes the new entries. If the follower does not find an entry in its log with the same index and term, then it
/// refuses the new entries."
#[test]
fn s5_3_the_consistency_check_goes_with_every_append() {
    let mut cluster = leader(&[1, 2]);
    cluster.step(1, message(2, 1, 3, accepted(3)));
    let sent = appends_in(sent_to(&cluster.propose(1, "x"), 2));
    assert_eq!((sent[0].prev_log_index, sent[0].prev_log_term), (LogIndex(3), Term(3)));
    let mut follower = server(&[1, 2]);
    follower.step(1, message(2, 1, 3, Body::AppendEntries(sent[0].clone())));
    assert!(is_rejection(&follower.network[0].body));
}

/// Figure 7: "When the leader at the top comes to power, it is possible that any of scenarios (a–f) could occur in
/// follower logs." All of them end with the leader's log: "the leader handles inconsistencies by forcing the followers'
/// logs to duplicate its own."
#[test]
fn s5_3_figure_7_every_follower_comes_to_the_leaders_log() {
    let leader = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6][..];
    let a = &[1, 1, 1, 4, 4, 5, 5, 6, 6][..];
    let b = &[1, 1, 1, 4][..];
    let c = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6][..];
    let d = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7][..];
    let e = &[1, 1, 1, 4, 4, 4, 4][..];
    let f = &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3][..];
    let mut cluster = Cluster::with_logs_in_term(&[leader, a, b, c, d, e, f], 7);
    cluster.elect(1);
    cluster.run(HEARTBEAT_INTERVAL);
    assert_eq!(cluster.term(1), 8);
    for (id, name) in (2..).zip('a'..='f') {
        assert_eq!(cluster.log(id), [leader, &[8]].concat(), "({name})");
        assert_eq!(cluster.commit(id), 11, "({name})");
    }
}

/// "When rejecting an AppendEntries request, the follower can include the term of the conflicting entry and the first index
/// it stores for that term. … One AppendEntries RPC will be required for each term with conflicting entries, rather than
/// one RPC per entry."
#[test]
fn s5_3_logs_are_compared_a_term_a_round_trip() {
    let common = [1; 3];
    let (theirs, mine) = ([&common[..], &[2; 50], &[3; 50]].concat(), [&common[..], &[4; 100]].concat());
    let mut cluster = Cluster::with_logs(&[&mine, &theirs, &mine]);
    cluster.step(1, Event::Campaign);
    let mut rejections = 0;
    while !cluster.network.is_empty() {
        rejections += usize::from(is_rejection(&cluster.network[0].body));
        cluster.deliver(0);
    }
    assert_eq!(cluster.log(2), cluster.log(1));
    assert!(rejections <= 2, "{rejections} for two conflicting terms of 50 entries");
}

// §5.4.1 Election restriction.

/// "If the logs have last entries with different terms, then the log with the later term is more up-to-date. If the logs
/// end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn s5_4_1_a_vote_goes_to_a_log_at_least_as_up_to_date() {
    for (last, granted) in [((3, 1), true), ((2, 3), true), ((2, 2), true), ((2, 1), false), ((1, 9), false)] {
        let mut cluster = server(&[1, 2]);
        cluster.step(1, message(2, 1, 4, request_vote(last)));
        assert_eq!(cluster.network, [message(1, 2, 4, vote(granted))], "(term, index) {last:?} against (2, 2)");
    }
}

/// "Raft uses the voting process to prevent a candidate from winning an election unless its log contains all committed
/// entries. A candidate must contact a majority of the cluster in order to be elected, which means that every committed
/// entry must be present in at least one of those servers." Over every majority that may hold the entry (§5.4.3, Figure
/// 9: at least one server both accepted the entry and is asked for its vote).
#[test]
fn s5_4_1_no_server_without_a_committed_entry_wins_whatever_majority_holds_it() {
    for holders in (0_u32..32).filter(|set| set.count_ones() == 3) {
        let holds = |id: u32| holders & (1 << (id - 1)) != 0;
        let logs: Vec<&[u64]> = (1..=5).map(|id| if holds(id) { &[1, 2][..] } else { &[1][..] }).collect();
        for id in 1..=5 {
            let mut cluster = Cluster::with_logs_in_term(&logs, 2);
            cluster.step(id, Event::Campaign);
            cluster.settle();
            assert_eq!(cluster.leaders().contains(&id), holds(id), "{id} of {logs:?}");
        }
    }
}

// §5.4.2 Committing entries from previous terms: Figure 8.

/// Five servers with one entry of term 1 whose appends carry one entry each.
fn figure_8() -> Cluster {
    let voters = Configuration::new((1..=5).map(NodeId));
    let hard_state = HardState { current_term: Term(1), voted_for: None };
    let mut cluster = Cluster::empty();
    for id in (1..=5).map(NodeId) {
        let storage = MemStorage::with_log(voters.clone(), hard_state, entries(&[1])).unwrap();
        cluster.add(Config { max_append_bytes: 1, max_inflight: 4, ..Config::new(id) }, storage);
    }
    cluster
}

/// Delivers what `from` says to `to` and its answers, up to so many messages, and loses everything else.
fn exchange(cluster: &mut Cluster, from: u32, to: u32, messages: usize) {
    let between = |ends: (u32, u32)| ends == (from, to) || ends == (to, from);
    for _ in 0..messages {
        cluster.network.retain(|message| between((message.from.0, message.to.0)));
        if cluster.network.is_empty() {
            break;
        }
        cluster.deliver(0);
    }
    cluster.network.clear();
}

fn logs(cluster: &Cluster) -> [Vec<u64>; 5] {
    [1, 2, 3, 4, 5].map(|id| cluster.log(id))
}

/// Figure 8 (a) to (c). The entries that the leaders of the figure accept are their no-ops here.
fn figure_8_a_to_c() -> Cluster {
    // "In (a) S1 is leader and partially replicates the log entry at index 2."
    let mut cluster = figure_8();
    win(&mut cluster, 1);
    exchange(&mut cluster, 1, 2, 2);
    assert_eq!(logs(&cluster), [vec![1, 2], vec![1, 2], vec![1], vec![1], vec![1]]);
    // "In (b) S1 crashes; S5 is elected leader for term 3 with votes from S3, S4, and itself, and accepts a different
    // entry at log index 2."
    cluster.crash(1, 0);
    cluster.cut_off(1);
    cluster.cut_off(2);
    win(&mut cluster, 5);
    cluster.network.clear();
    cluster.mend();
    assert_eq!((cluster.term(5), cluster.log(5)), (3, vec![1, 3]));
    // "In (c) S5 crashes; S1 restarts, is elected leader, and continues replication. At this point, the log entry from
    // term 2 has been replicated on a majority of the servers, but it is not committed."
    cluster.crash(5, 0);
    cluster.cut_off(5);
    time_out(&mut cluster, 2);
    win(&mut cluster, 1);
    assert_eq!(cluster.term(1), 4);
    // The append of S1's own entry is refused by S3, the one of entry 2 is taken.
    exchange(&mut cluster, 1, 3, 4);
    cluster.mend();
    assert_eq!(logs(&cluster), [vec![1, 2, 4], vec![1, 2], vec![1, 2], vec![1], vec![1, 3]]);
    // S2 says what is so: it holds entry 2 durably.
    cluster.step(1, message(2, 1, 4, accepted(2)));
    cluster.network.clear();
    let matched = cluster.node(1).status().followers.iter().map(|(_, progress)| progress.match_index().0).collect();
    assert_eq!((matched, cluster.commit(1)), (vec![2, 2, 0, 0], 0), "on three of five, and not committed");
    cluster
}

/// "If S1 crashes as in (d), S5 could be elected leader (with votes from S2, S3, and S4) and overwrite the entry with its
/// own entry from term 3."
#[test]
fn s5_4_2_figure_8_d_an_entry_of_an_earlier_term_on_a_majority_may_still_be_overwritten() {
    let mut cluster = figure_8_a_to_c();
    cluster.crash(1, 0);
    cluster.cut_off(1);
    for id in 2..=4 {
        time_out(&mut cluster, id);
    }
    win(&mut cluster, 5);
    cluster.settle();
    cluster.mend();
    cluster.run(2 * HEARTBEAT_INTERVAL);
    assert_eq!(logs(&cluster), [1, 2, 3, 4, 5].map(|_| vec![1, 3, 5]));
}

/// "However, if S1 replicates an entry from its current term on a majority of the servers before crashing, as in (e), then
/// this entry is committed (S5 cannot win an election). At this point all preceding entries in the log are committed as
/// well."
#[test]
fn s5_4_2_figure_8_e_with_an_entry_of_the_current_term_on_a_majority_all_before_it_is_committed() {
    let mut cluster = figure_8_a_to_c();
    for follower in [2, 3] {
        cluster.tick(1, HEARTBEAT_INTERVAL);
        exchange(&mut cluster, 1, follower, usize::MAX);
    }
    assert_eq!(logs(&cluster), [vec![1, 2, 4], vec![1, 2, 4], vec![1, 2, 4], vec![1], vec![1, 3]]);
    assert_eq!(cluster.commit(1), 3);
    cluster.crash(1, 0);
    cluster.cut_off(1);
    for _ in 0..5 {
        for id in 2..=4 {
            time_out(&mut cluster, id);
        }
        cluster.step(5, Event::Campaign);
        cluster.settle();
        assert_eq!(cluster.leaders(), [0_u32; 0], "S5 cannot win an election");
    }
}

// §5.5 Follower and candidate crashes.

/// "If a server crashes after completing an RPC but before responding, then it will receive the same RPC again after it
/// restarts. Raft RPCs are idempotent, so this causes no harm."
#[test]
fn s5_5_the_same_call_again_does_no_harm() {
    for request in [append((1, 1), &[2, 2], 2), request_vote((9, 9)), heartbeat(1)] {
        let mut cluster = server(&[1, 1]);
        cluster.step(1, message(2, 1, 2, request.clone()));
        let (log, commit) = (cluster.log(1), cluster.commit(1));
        cluster.step(1, message(2, 1, 2, request.clone()));
        cluster.crash(1, 0);
        cluster.step(1, message(2, 1, 2, request.clone()));
        assert_eq!((cluster.log(1), cluster.commit(1)), (log, commit), "{request:?}");
        assert_eq!(cluster.network, vec![cluster.network[0].clone(); 3], "and is answered alike");
    }
}

/// "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it will fail. Raft handles
/// these failures by retrying indefinitely; if the crashed server restarts, then the RPC will complete successfully."
#[test]
fn s5_5_a_restarted_follower_takes_up_where_it_was() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.sync = false;
    cluster.propose(1, "x");
    cluster.settle();
    cluster.crash(2, 0);
    assert_eq!(cluster.log(2), [1], "what was not durable is gone, and was not acknowledged");
    cluster.sync = true;
    cluster.persist(1, usize::MAX);
    cluster.persist(3, usize::MAX);
    cluster.run(2 * HEARTBEAT_INTERVAL);
    assert_eq!((cluster.log(2), cluster.commit(2)), (vec![1, 1], 2));
}

// §5.6 Timing and availability.

/// "Raft will be able to elect and maintain a steady leader as long as the system satisfies … broadcastTime ≪
/// electionTimeout ≪ MTBF." Timing is never a matter of safety.
#[test]
fn s5_6_a_leader_is_steady_while_messages_are_faster_than_the_election_timeout() {
    for seed in 0..20 {
        let mut cluster = Cluster::with_seed(5, seed);
        cluster.run(3 * LONGEST_TIMEOUT);
        let led = cluster.safety.terms_led();
        assert!(!led.is_empty(), "seed {seed}: elected");
        cluster.run(10 * LONGEST_TIMEOUT);
        assert_eq!(cluster.safety.terms_led(), led, "seed {seed}: and maintained");
    }
}

// §6 Cluster membership changes.

fn change(voters: &[u32]) -> Event {
    let voters = voters.iter().copied().map(NodeId).collect();
    Event::ChangeMembership(MembershipChange { voters, learners: Vec::new(), catch_up: false, addresses: Vec::new() })
}

/// Voters and outgoing voters of a server's configuration.
fn halves(cluster: &Cluster, id: u32) -> (Vec<u32>, Vec<u32>) {
    let configuration = cluster.node(id).status().configuration;
    let ids = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect();
    (ids(configuration.voters()), ids(configuration.voters_outgoing()))
}

/// Five servers of which 1 to 3 are the cluster; 1 leads, and has appended the change to {3,4,5} that nobody else has
/// heard of.
fn joint_at_the_leader() -> Cluster {
    let mut cluster = Cluster::with_founders(3, 5, 0);
    cluster.elect(1);
    cluster.step(1, change(&[3, 4, 5]));
    assert_eq!(halves(&cluster, 1), (vec![3, 4, 5], vec![1, 2, 3]));
    cluster
}

/// Of what is under way only the messages to this server arrive.
fn only_to(cluster: &mut Cluster, id: u32) {
    cluster.network.retain(|message| message.to == NodeId(id));
    while !cluster.network.is_empty() {
        cluster.deliver(0);
        cluster.network.retain(|message| message.to == NodeId(id));
    }
}

/// "The cluster first switches to a transitional configuration we call joint consensus; once the joint consensus has
/// been committed, the system then transitions to the new configuration."
#[test]
fn s6_a_change_goes_through_joint_consensus() {
    let mut cluster = Cluster::with_founders(3, 5, 0);
    cluster.elect(1);
    cluster.step(1, change(&[3, 4, 5]));
    assert_eq!(cluster.commit(1), 1);
    cluster.run(2 * LONGEST_TIMEOUT);
    for id in [3, 4, 5] {
        assert_eq!(halves(&cluster, id), (vec![3, 4, 5], vec![]), "server {id}");
        let configuration = |entry: Entry| match entry.payload {
            Payload::Configuration(bytes) => Configuration::from_bytes(&bytes),
            _ => None,
        };
        let held: Vec<Configuration> = all_entries(cluster.node(id)).into_iter().filter_map(configuration).collect();
        let new = Configuration::new([3, 4, 5].map(NodeId));
        assert_eq!(held, [Configuration::joint([3, 4, 5].map(NodeId), [1, 2, 3].map(NodeId), []), new]);
    }
}

/// "Log entries are replicated to all servers in both configurations."
#[test]
fn s6_entries_go_to_the_servers_of_both_configurations() {
    let mut cluster = joint_at_the_leader();
    let actions = cluster.propose(1, "x");
    let entries = |id| sent_to(&actions, id).iter().filter(|body| matches!(body, Body::AppendEntries(_))).count();
    // Servers 2 and 3 have appends in flight; 4 and 5 are probed first: all were sent the change at once.
    assert_eq!((entries(2), entries(3)), (1, 1));
    cluster.run(3);
    for id in 2..=5 {
        assert_eq!(cluster.applied[id - 1], ["x"], "server {id}");
    }
}

/// "Agreement (for elections and entry commitment) requires separate majorities from both the old and new
/// configurations": commitment.
#[test]
fn s6_a_joint_entry_needs_a_majority_of_each_half() {
    for (acknowledging, commits) in
        [(&[2, 3][..], false), (&[4, 5], false), (&[2, 5], false), (&[3, 4], true), (&[2, 4, 5], true)]
    {
        let mut cluster = joint_at_the_leader();
        cluster.safety.single();
        for id in acknowledging {
            cluster.step(1, message(*id, 1, 1, accepted(2)));
        }
        assert_eq!(cluster.commit(1) >= 2, commits, "held by 1 and {acknowledging:?}");
    }
}

/// The same for elections.
#[test]
fn s6_a_joint_leader_needs_a_majority_of_each_half() {
    let joint = Configuration::joint([3, 4, 5].map(NodeId), [1, 2, 3].map(NodeId), []);
    for (votes, wins) in
        [(vec![2], false), (vec![2, 3], false), (vec![4, 5], false), (vec![2, 4, 5], true), (vec![3, 4], true)]
    {
        let mut cluster = Cluster::empty();
        cluster.safety.single();
        cluster.add(Config::new(NodeId(1)), MemStorage::new(joint.clone()));
        cluster.step(1, Event::Campaign);
        for id in 2..=5 {
            cluster.step(1, message(id, 1, 0, pre_vote_granted(1)));
        }
        assert_eq!(cluster.node(1).role(), RoleName::Candidate);
        for id in &votes {
            cluster.step(1, message(*id, 1, 1, vote(true)));
        }
        assert_eq!(cluster.node(1).role() == RoleName::Leader, wins, "with the votes of {votes:?}");
    }
}

/// "Any server from either configuration may serve as leader."
#[test]
fn s6_a_server_of_either_half_may_lead() {
    for id in 1..=5 {
        let joint = Configuration::joint([3, 4, 5].map(NodeId), [1, 2, 3].map(NodeId), []);
        let mut cluster = Cluster::empty();
        for id in 1..=5 {
            cluster.add(Config::new(NodeId(id)), MemStorage::new(joint.clone()));
        }
        cluster.elect(id);
        assert_eq!(cluster.commit(id), 2, "its no-op, and the leave that it appended by itself");
    }
}

/// "Once a given server adds the new configuration entry to its log, it uses that configuration for all future decisions
/// (a server always uses the latest configuration in its log, regardless of whether the entry is committed)."
#[test]
fn s6_the_latest_configuration_in_the_log_is_used_committed_or_not() {
    let mut cluster = joint_at_the_leader();
    assert_eq!(cluster.commit(1), 1);
    only_to(&mut cluster, 2);
    assert_eq!((cluster.commit(2), halves(&cluster, 2)), (1, (vec![3, 4, 5], vec![1, 2, 3])));
    // And when it is removed again, the one before it.
    cluster.safety.single();
    cluster.step(2, message(3, 2, 2, append((1, 1), &[2], 1)));
    assert_eq!(halves(&cluster, 2), (vec![1, 2, 3], vec![]));
}

/// "If the leader crashes, a new leader may be chosen under either Cold or Cold,new, depending on whether the winning
/// candidate has received Cold,new."
#[test]
fn s6_a_crash_of_the_leader_leaves_the_old_configuration_or_the_joint_one() {
    // Nobody has received it: the old configuration goes on.
    let mut cluster = joint_at_the_leader();
    cluster.network.clear();
    cluster.cut_off(1);
    cluster.run(LONGEST_TIMEOUT * 2);
    let [leader] = cluster.leaders()[..] else { panic!("{:?}", cluster.leaders()) };
    assert_eq!(halves(&cluster, leader), (vec![1, 2, 3], vec![]));
    // Server 3 has, and wins: it completes the change.
    let mut cluster = joint_at_the_leader();
    only_to(&mut cluster, 3);
    cluster.cut_off(1);
    (2..=5).filter(|id| *id != 3).for_each(|id| cluster.tick(id, ELECTION_TIMEOUT));
    cluster.network.clear();
    cluster.elect(3);
    cluster.run(HEARTBEAT_INTERVAL * 2);
    assert_eq!(halves(&cluster, 3), (vec![3, 4, 5], vec![]));
}

/// "When the new configuration has been committed under the rules of Cnew, the old configuration is irrelevant and
/// servers not in the new configuration can be shut down."
#[test]
fn s6_after_the_change_the_old_servers_can_be_shut_down() {
    let mut cluster = Cluster::with_founders(3, 5, 0);
    cluster.elect(1);
    cluster.step(1, change(&[3, 4, 5]));
    cluster.run(LONGEST_TIMEOUT * 2);
    cluster.cut_off(1);
    cluster.cut_off(2);
    let [leader] = cluster.leaders()[..] else { panic!("{:?}", cluster.leaders()) };
    cluster.propose(leader, "x");
    cluster.run(HEARTBEAT_INTERVAL * 2);
    assert_eq!([3, 4, 5].map(|id: usize| cluster.applied[id - 1].len()), [1, 1, 1]);
}

/// "New servers join the cluster as non-voting members (the leader replicates log entries to them, but they are not
/// considered for majorities). Once the new servers have caught up…"
#[test]
fn s6_new_servers_catch_up_as_non_voting_members() {
    let mut cluster = Cluster::with_founders(3, 5, 0);
    cluster.elect(1);
    let voters = [1, 2, 3, 4, 5].map(NodeId).to_vec();
    cluster.cut_off(4);
    cluster.cut_off(5);
    cluster.step(
        1,
        Event::ChangeMembership(MembershipChange {
            voters,
            learners: Vec::new(),
            catch_up: true,
            addresses: Vec::new(),
        }),
    );
    cluster.propose(1, "x");
    cluster.run(HEARTBEAT_INTERVAL);
    assert_eq!((cluster.applied[0].len(), halves(&cluster, 1).0), (1, vec![1, 2, 3]), "they hold up nothing");
    cluster.mend();
    cluster.run(HEARTBEAT_INTERVAL * 4);
    assert_eq!(halves(&cluster, 1), (vec![1, 2, 3, 4, 5], vec![]));
    assert_eq!(cluster.applied[4], ["x"]);
}

/// "The leader steps down (returns to follower state) once it has committed the Cnew log entry. […] It replicates log
/// entries but does not count itself in majorities."
#[test]
fn s6_a_leader_outside_the_new_configuration_does_not_count_itself_and_steps_down() {
    let mut cluster = Cluster::with_founders(3, 3, 0);
    cluster.elect(1);
    cluster.step(1, change(&[2, 3]));
    cluster.network.clear();
    cluster.safety.single();
    cluster.step(1, message(2, 1, 1, accepted(2)));
    assert_eq!(
        (cluster.commit(1), halves(&cluster, 1)),
        (1, (vec![2, 3], vec![1, 2, 3])),
        "one of {{2,3}} is no majority"
    );
    cluster.step(1, message(3, 1, 1, accepted(2)));
    assert_eq!((cluster.commit(1), halves(&cluster, 1)), (2, (vec![2, 3], vec![])), "the leave is appended");
    cluster.step(1, message(2, 1, 1, accepted(3)));
    assert_eq!((cluster.commit(1), cluster.node(1).role()), (2, RoleName::Leader), "itself does not count");
    cluster.step(1, message(3, 1, 1, accepted(3)));
    assert_eq!(cluster.commit(1), 3);
    cluster.network.clear();
    for _ in 0..ELECTION_TIMEOUT {
        cluster.tick(1, 1);
        cluster.step(1, message(2, 1, 1, heartbeat_answer(0)));
        cluster.step(1, message(3, 1, 1, heartbeat_answer(0)));
    }
    assert_eq!(cluster.node(1).role(), RoleName::Follower);
    cluster.tick(1, LONGEST_TIMEOUT * 3);
    assert_eq!(cluster.node(1).role(), RoleName::Follower, "and never campaigns again");
}

/// "If a server receives a RequestVote RPC within the minimum election timeout of hearing from a current leader, it does
/// not update its term or grant its vote."
#[test]
fn s6_a_removed_server_does_not_disrupt() {
    let mut cluster = server(&[]);
    cluster.step(1, message(2, 1, 1, heartbeat(0)));
    cluster.tick(1, ELECTION_TIMEOUT - 1);
    assert_eq!(cluster.step(1, message(3, 1, 9, request_vote((9, 9)))), []);
    assert_eq!(cluster.term(1), 1);
    cluster.tick(1, 1);
    let actions = cluster.step(1, message(3, 1, 9, request_vote((9, 9))));
    assert!(!actions.is_empty() && cluster.term(1) == 9, "{actions:?}");
}

// §7 Log compaction; Figure 13, "InstallSnapshot RPC". `snapshots.rs` has every message of it.

/// "Each server takes snapshots independently, covering just the committed entries in its log."
#[test]
fn s7_a_follower_takes_a_snapshot_of_what_is_committed_and_applied() {
    let mut solo = Solo::follower(&[1, 1, 2, 2], 3);
    solo.take_snapshot("state");
    assert_eq!((solo.node.status().snapshot_index, solo.node.status().last_index), (LogIndex(3), LogIndex(4)));
    assert_eq!(solo.node.role(), RoleName::Follower);
}

/// "The last included index […] and the last included term […] are preserved to support the AppendEntries consistency
/// check for the first log entry following the snapshot."
#[test]
fn s7_the_snapshots_last_entry_is_checked_like_any_other() {
    let mut solo = Solo::follower(&[1, 1, 2], 3);
    solo.take_snapshot("state");
    assert!(sent_to(&solo.step(message(2, 1, 2, append((2, 3), &[2], 3))), 2).contains(&accepted(4)));
    let mut solo = Solo::follower(&[1, 1, 2], 3);
    solo.take_snapshot("state");
    let wrong = AppendEntriesResponse::Diverged { prev_log_index: LogIndex(3) };
    let answers = sent_to(&solo.step(message(2, 1, 2, append((1, 3), &[2], 3))), 2);
    assert_eq!(
        answers,
        [Body::AppendEntriesResponse(Incarnation::UNKNOWN, wrong)],
        "what is committed cannot be of another term"
    );
}

/// "Once a server completes writing a snapshot, it may delete all log entries up through the last included index, as
/// well as any prior snapshot."
#[test]
fn s7_the_log_up_to_the_snapshot_and_the_snapshot_before_are_deleted() {
    let mut solo = Solo::follower(&[1, 1, 2], 2);
    solo.take_snapshot("first");
    solo.step(message(2, 1, 2, heartbeat(3)));
    solo.take_snapshot("second");
    let storage = solo.node.storage();
    assert!(matches!(storage.entries(LogIndex(3), LogIndex(3), 1), Err(StorageError::Compacted { .. })));
    assert!(matches!(storage.snapshot_chunk(LogIndex(2), 0, 1), Err(StorageError::NoSnapshot { .. })));
    assert_eq!(storage.snapshot_chunk(LogIndex(3), 0, 100).unwrap(), "second");
}

/// "The leader must occasionally send snapshots to followers that lag behind. This happens when the leader has already
/// discarded the next log entry that it needs to send to a follower."
#[test]
fn s7_the_leader_sends_its_snapshot_when_the_next_entry_is_discarded() {
    let mut solo = Solo::leader(Config { tail_entries: 0, ..Config::new(NodeId(1)) }, &[1, 2]);
    let rejected = |prev| {
        let (prev_log_index, hint_index, hint_term) = (LogIndex(prev), LogIndex(0), Term(0));
        let answer = AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term };
        message(3, 1, 3, Body::AppendEntriesResponse(Incarnation::UNKNOWN, answer))
    };
    let before = sent_to(&solo.step(rejected(2)), 3);
    assert!(matches!(&before[..], [Body::AppendEntries(_)]), "the log still has it: {before:?}");
    solo.take_snapshot("state");
    solo.step(Event::Unreachable(NodeId(3)));
    for _ in 0..3 {
        solo.step(rejected(0));
    }
    let after = sent_to(&solo.step(message(3, 1, 3, heartbeat_answer(0))), 3);
    assert!(matches!(&after[..], [Body::InstallSnapshot(_)]), "{after:?}");
}

/// "Usually the snapshot will contain new information not already in the recipient's log. In this case, the follower
/// discards its entire log; it is all superseded by the snapshot and may possibly have uncommitted entries that conflict
/// with the snapshot." Figure 13, receiver 5, 7 and 8.
#[test]
fn s7_figure_13_a_log_without_the_last_included_entry_is_discarded() {
    for log in [&[1, 1][..], &[1, 1, 1, 1, 1]] {
        let mut solo = Solo::follower(log, 1);
        solo.step(message(2, 1, 2, whole_snapshot(4, 2)));
        assert_eq!(
            (solo.node.status().last_index, solo.node.last_applied(), solo.terms()),
            (LogIndex(4), LogIndex(4), vec![])
        );
        assert_eq!(solo.node.status().head, None);
    }
}

/// "If instead the follower receives a snapshot that describes a prefix of its log (due to retransmission or by
/// mistake), then log entries covered by the snapshot are deleted but entries following the snapshot are still valid and
/// must be retained." Figure 13, receiver 6. Here the covered ones stay too, until this server takes its own.
#[test]
fn s7_figure_13_what_follows_the_last_included_entry_is_retained() {
    let mut solo = Solo::follower(&[1, 1, 2, 2, 2], 1);
    let actions = solo.step(message(2, 1, 2, whole_snapshot(3, 2)));
    assert!(sent_to(&actions, 2).contains(&accepted(3)), "{actions:?}");
    assert_eq!((solo.terms(), solo.node.commit_index()), (vec![1, 1, 2, 2, 2], LogIndex(3)));
}

/// Figure 13, receiver 1: "Reply immediately if term < currentTerm."
#[test]
fn s7_figure_13_an_old_term_is_refused() {
    let mut solo = Solo::follower(&[1], 1);
    let answers = solo.step(message(3, 1, 1, whole_snapshot(4, 1)));
    let [Action::Send(answer)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.term, solo.node.status().receiving), (Term(2), None));
}

/// Figure 13, receiver 2 to 4: "Create new snapshot file if first chunk (offset is 0). Write data into snapshot file at
/// given offset. Reply and wait for more data chunks if done is false."
#[test]
fn s7_figure_13_chunks_are_gathered_until_done() {
    let mut solo = Solo::follower(&[1], 1);
    for (offset, data, done) in [(0, "abc", false), (3, "de", false), (5, "f", true)] {
        assert_eq!(solo.node.status().snapshot_index, LogIndex(0), "not before it is complete");
        solo.step(message(2, 1, 2, part_of_snapshot(4, 2, offset, data, done)));
    }
    assert_eq!(solo.node.status().snapshot_index, LogIndex(4));
    assert_eq!(solo.node.storage().snapshot_chunk(LogIndex(4), 0, 100).unwrap(), "abcdef");
}

/// "This gives the follower a sign of life with each chunk, so it can reset its election timer."
#[test]
fn s7_figure_13_a_chunk_is_a_sign_of_life() {
    let mut solo = Solo::follower(&[1], 1);
    for offset in 0..10 {
        for _ in 0..ELECTION_TIMEOUT - 1 {
            solo.step(Event::Tick);
        }
        solo.step(message(2, 1, 2, part_of_snapshot(4, 2, offset, "x", false)));
    }
    assert_eq!((solo.node.role(), solo.node.status().term), (RoleName::Follower, Term(2)));
}

fn whole_snapshot(index: u64, term: u64) -> Body {
    part_of_snapshot(index, term, 0, "state", true)
}

fn part_of_snapshot(index: u64, term: u64, offset: u64, data: &'static str, done: bool) -> Body {
    Body::InstallSnapshot(snapshots::chunk(&snapshots::meta(index, term), offset, data, done).into())
}

// §8 Client interaction.

/// "If the client's first choice is not the leader, that server will reject the client's request and supply information
/// about the most recent leader it has heard from."
#[test]
fn s8_a_refusal_supplies_the_most_recent_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    time_out(&mut cluster, 2);
    time_out(&mut cluster, 3);
    cluster.propose(3, "x");
    win(&mut cluster, 2);
    cluster.settle();
    cluster.propose(3, "x");
    let named = [None, Some(NodeId(2))].map(|leader| Refusal::NotLeader { leader });
    assert_eq!(cluster.refusals, named, "a server that looks for a new leader forgets the old one (fault E6)");
}

/// "A leader must have the latest information on which entries are committed. … Raft handles this by having each leader
/// commit a blank no-op entry into the log at the start of its term."
#[test]
fn s8_a_leader_starts_its_term_with_a_no_op_which_tells_it_what_is_committed() {
    let mut cluster = Cluster::with_logs(&[&[1, 1], &[1, 1], &[1, 1]]);
    cluster.elect(1);
    assert_eq!((cluster.log(1), cluster.commit(1)), (vec![1, 1, 2], 3));
    assert_eq!(cluster.applied[0], ["c1", "c2"], "a no-op is nothing to the state machine");
}

/// The same for reads: before that commit a leader does not know enough to answer one.
#[test]
fn s8_a_read_waits_for_the_leaders_no_op() {
    let mut cluster = Cluster::new(3);
    win(&mut cluster, 1);
    cluster.step(1, Event::Read(ReadId(1)));
    assert_eq!(cluster.network.iter().filter(|message| message.body == heartbeat(0)).count(), 0);
    assert_eq!(reads_ready(&cluster), []);
    cluster.settle();
    assert_eq!(reads_ready(&cluster), [(1, 1)]);
}

/// "A leader must check whether it has been deposed before processing a read-only request. … Raft handles this by having
/// the leader exchange heartbeat messages with a majority of the cluster before responding to read-only requests."
#[test]
fn s8_a_read_is_answered_after_heartbeats_with_a_majority() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.step(1, Event::Read(ReadId(1)));
    for (follower, ready) in [(2, &[][..]), (3, &[(1, 1)])] {
        cluster.step(1, message(follower, 1, 1, heartbeat_answer(1)));
        assert_eq!(reads_ready(&cluster), ready);
    }
}

/// The deposed leader itself: it "might return stale data", so it returns none.
#[test]
fn s8_a_deposed_leader_answers_no_read() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut_off(1);
    time_out(&mut cluster, 3);
    cluster.elect(2);
    cluster.propose(2, "newer");
    cluster.settle();
    cluster.step(1, Event::Read(ReadId(1)));
    cluster.settle();
    assert_eq!(reads_ready(&cluster), []);
    cluster.mend();
    cluster.run(2 * HEARTBEAT_INTERVAL);
    assert_eq!((reads_ready(&cluster), cluster.safety.unanswered_reads()), (vec![], 0), "it is told that it failed");
}
