//! Reads on followers (dissertation §6.4) and by lease (§6.4.1): the faults R1 to R5, lost, repeated and reordered
//! requests, changes of leaders, terms and lives.

use raft_core::{
    Action, Body, Config, Configuration, Event, Heartbeat, HeartbeatResponse, Incarnation, Lease, LogIndex, MemStorage,
    MembershipChange, NodeId, PreVote, PreVoteResponse, ReadId, ReadIndex, ReadIndexResponse, ReadKind, ReadToken,
    Refusal, RequestVote, RequestVoteResponse, RoleName, StorageError, Term,
};

use crate::cluster::{Cluster, message, sent_to};

const T: u32 = 15;
const HEARTBEAT: u32 = 3;

fn read(id: u64) -> Event {
    Event::Read(ReadId(id))
}

fn token(life: u64, sequence: u64) -> ReadToken {
    ReadToken { life, sequence }
}

fn ask(life: u64, sequence: u64) -> Body {
    Body::ReadIndex(ReadIndex { token: token(life, sequence) })
}

fn answer(life: u64, sequence: u64, index: u64) -> Body {
    let (token, index) = (token(life, sequence), Some(LogIndex(index)));
    Body::ReadIndexResponse(ReadIndexResponse { token, index, lease: false })
}

fn no_answer(life: u64, sequence: u64) -> Body {
    Body::ReadIndexResponse(ReadIndexResponse { token: token(life, sequence), index: None, lease: false })
}

fn heartbeat(round: u64) -> Body {
    Body::Heartbeat(Heartbeat { leader_commit: LogIndex(0), round })
}

fn heard(round: u64) -> Body {
    Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round })
}

fn sends(from: u32, to: u32, term: u64, body: Body) -> Action {
    Action::Send(message(from, to, term, body))
}

fn ready(read: u64, index: u64, kind: ReadKind) -> Action {
    Action::ReadReady { read: ReadId(read), index: LogIndex(index), kind }
}

fn failed(read: u64, reason: Refusal) -> Action {
    Action::ReadFailed { read: ReadId(read), reason }
}

/// The answers to reads so far, with the node that gave them.
fn answers(cluster: &Cluster) -> Vec<(u32, Action)> {
    let is_answer = |action: &Action| matches!(action, Action::ReadReady { .. } | Action::ReadFailed { .. });
    cluster.notices.iter().filter(|(_, action)| is_answer(action)).cloned().collect()
}

/// Three nodes, of which the first leads term 1 and has committed its no-op everywhere.
fn led() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.run(HEARTBEAT);
    assert_eq!([1, 2, 3].map(|id| cluster.commit(id)), [1, 1, 1]);
    cluster
}

// Reads on followers.

#[test]
fn a_follower_asks_its_leader_and_serves_the_read_itself() {
    let mut cluster = led();
    cluster.sync = false;
    assert_eq!(cluster.step(2, read(7)), [sends(2, 1, 1, ask(1, 1))]);
    let beat = Body::Heartbeat(Heartbeat { leader_commit: LogIndex(1), round: 1 });
    let round = [sends(1, 2, 1, beat.clone()), sends(1, 3, 1, beat)];
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(1, 1))), round);
    assert_eq!(cluster.step(1, message(3, 1, 1, heard(0))), [], "of another round");
    assert_eq!(cluster.step(1, message(3, 1, 1, heard(1))), [sends(1, 2, 1, answer(1, 1, 1))]);
    assert_eq!(cluster.step(1, message(2, 1, 1, heard(1))), [], "answered once");
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 1, 1))), [ready(7, 1, ReadKind::ForwardedQuorum)]);
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 1, 1))), []);
}

#[test]
fn r3_a_follower_serves_once_it_has_applied_what_its_leader_had_committed() {
    let mut cluster = led();
    cluster.cut.push((1, 2));
    cluster.propose(1, "x");
    cluster.settle();
    cluster.mend();
    assert_eq!((cluster.commit(1), cluster.commit(2)), (2, 1));
    cluster.step(2, read(7));
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 1, 2))), [], "2 is not applied here");
    cluster.network.clear();
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.commit(2), 2);
    assert_eq!(answers(&cluster), [(2, ready(7, 2, ReadKind::ForwardedQuorum))]);
}

#[test]
fn reads_of_a_follower_share_a_request_and_those_that_come_meanwhile_the_next() {
    let mut cluster = led();
    assert_eq!(cluster.step(2, read(1)), [sends(2, 1, 1, ask(1, 1))]);
    assert_eq!(cluster.step(2, read(2)), []);
    assert_eq!(cluster.step(2, read(3)), []);
    let kind = ReadKind::ForwardedQuorum;
    let next = [ready(1, 1, kind), sends(2, 1, 1, ask(1, 2))];
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 1, 1))), next);
    let rest = [ready(2, 1, kind), ready(3, 1, kind)];
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 2, 1))), rest);
    assert_eq!(cluster.step(2, read(4)), [sends(2, 1, 1, ask(1, 3))]);
}

#[test]
fn a_lost_request_is_sent_again_every_heartbeat_interval() {
    let mut cluster = led();
    cluster.tick(2, 1);
    cluster.step(2, read(7));
    for _ in 0..2 {
        for _ in 1..HEARTBEAT {
            assert_eq!(cluster.step(2, Event::Tick), []);
        }
        assert_eq!(cluster.step(2, Event::Tick), [sends(2, 1, 1, ask(1, 1))]);
    }
    cluster.settle();
    assert_eq!(answers(&cluster), [(2, ready(7, 1, ReadKind::ForwardedQuorum))], "three copies, one answer");
    for _ in 0..2 * HEARTBEAT {
        assert_eq!(cluster.step(2, Event::Tick), [], "nothing is asked any more");
    }
}

/// Ticks a node, which hears its leader meanwhile, and returns what it does on the last tick.
fn tick_heard(cluster: &mut Cluster, id: u32, times: u32) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..times {
        cluster.step(id, message(1, id, 1, heartbeat(0)));
        actions = cluster.step(id, Event::Tick);
    }
    cluster.network.clear();
    actions
}

#[test]
fn a_request_that_nobody_answers_is_given_up_after_an_election_timeout() {
    let mut cluster = led();
    cluster.tick(2, 2);
    cluster.step(2, read(7));
    cluster.step(2, read(8));
    assert_eq!(tick_heard(&mut cluster, 2, T - 1), []);
    assert_eq!(answers(&cluster), []);
    let late = Refusal::ReadTimeout { leader: Some(NodeId(1)) };
    assert_eq!(tick_heard(&mut cluster, 2, 1), [failed(7, late), sends(2, 1, 1, ask(1, 2))]);
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 1, 1))), [], "too late");
    assert_eq!(tick_heard(&mut cluster, 2, T), [failed(8, late)]);
    assert_eq!(tick_heard(&mut cluster, 2, HEARTBEAT), []);
}

#[test]
fn a_read_for_which_a_follower_lags_behind_is_given_up_after_an_election_timeout() {
    let mut cluster = led();
    for (id, index) in [(7, 2), (8, 3)] {
        cluster.step(2, read(id));
        assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, id - 6, index))), []);
        tick_heard(&mut cluster, 2, 1);
    }
    assert_eq!(tick_heard(&mut cluster, 2, T - 3), []);
    let late = Refusal::ReadTimeout { leader: Some(NodeId(1)) };
    assert_eq!(tick_heard(&mut cluster, 2, 1), [failed(7, late)]);
    assert_eq!(tick_heard(&mut cluster, 2, 1), [failed(8, late)]);
}

#[test]
fn a_read_whose_entries_are_committed_here_waits_for_the_disk_alone() {
    let mut cluster = led();
    cluster.sync = false;
    cluster.propose(1, "x");
    cluster.settle();
    for id in [1, 3] {
        cluster.persist(id, usize::MAX);
    }
    cluster.settle();
    cluster.propose(1, "y");
    cluster.settle();
    assert_eq!((cluster.commit(2), cluster.node(2).last_applied()), (2, LogIndex(1)));
    cluster.step(2, read(7));
    cluster.settle();
    tick_heard(&mut cluster, 2, 2 * T);
    assert_eq!(answers(&cluster), []);
    cluster.persist(2, usize::MAX);
    assert_eq!(answers(&cluster), [(2, ready(7, 2, ReadKind::ForwardedQuorum))]);
}

#[test]
fn r2_an_answer_confirms_only_what_arrived_before_its_request_left() {
    let mut cluster = led();
    cluster.step(2, read(1));
    cluster.step(2, message(1, 2, 1, answer(1, 1, 1)));
    cluster.step(2, read(2));
    for other in [answer(1, 1, 1), answer(1, 3, 1), answer(0, 2, 1), answer(2, 2, 1), no_answer(1, 1)] {
        assert_eq!(cluster.step(2, message(1, 2, 1, other)), []);
    }
    assert_eq!(cluster.step(2, message(3, 2, 1, answer(1, 2, 1))), [], "node 3 was not asked");
    assert_eq!(cluster.step(2, message(1, 2, 0, answer(1, 2, 1))), [], "of another term");
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 2, 1))), [ready(2, 1, ReadKind::ForwardedQuorum)]);
}

/// A heartbeat of a term in which the same node led comes late: the answer is of this term, and that round was not.
#[test]
fn r2_an_answer_to_a_heartbeat_of_an_earlier_term_confirms_nothing() {
    let mut cluster = led();
    for (leader, next) in [(1, 2), (2, 1)] {
        cluster.step(leader, Event::TransferLeadership(NodeId(next)));
        cluster.run(HEARTBEAT);
    }
    cluster.step(1, read(9));
    cluster.network.clear();
    for late in cluster.step(2, message(1, 2, 1, heartbeat(7))) {
        let Action::Send(answer) = late else { panic!("{late:?}") };
        assert_eq!((answer.from, answer.to, answer.term), (NodeId(2), NodeId(1), Term(3)));
        cluster.step(1, Event::Message(answer));
    }
    assert_eq!(answers(&cluster), []);
    cluster.network.clear();
    cluster.run(HEARTBEAT);
    assert_eq!(answers(&cluster), [(1, ready(9, 3, ReadKind::Quorum))], "its own round confirms it");
}

#[test]
fn r2_an_answer_to_an_earlier_life_confirms_nothing() {
    let mut cluster = led();
    cluster.step(2, read(1));
    cluster.step(1, message(2, 1, 1, ask(1, 1)));
    assert_eq!(cluster.step(1, message(3, 1, 1, heard(1))), [sends(1, 2, 1, answer(1, 1, 1))]);
    cluster.network.clear();
    cluster.propose(1, "x");
    cluster.settle();
    cluster.crash(2, 0);
    cluster.step(2, message(1, 2, 1, heartbeat(0)));
    assert_eq!(cluster.step(2, read(2)), [sends(2, 1, 1, ask(2, 1))], "the same number, of another life");
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 1, 1))), []);
    cluster.run(HEARTBEAT);
    assert_eq!(answers(&cluster), [(2, ready(2, 2, ReadKind::ForwardedQuorum))]);
}

#[test]
fn a_leader_keeps_one_request_of_a_follower_the_newest() {
    let mut cluster = led();
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(1, 5))).len(), 2, "a round");
    for (life, sequence) in [(1, 5), (1, 4), (1, 6), (1, 5), (9, 1), (9, 1), (9, 2)] {
        assert_eq!(cluster.step(1, message(2, 1, 1, ask(life, sequence))), []);
    }
    let second = cluster.step(1, message(3, 1, 1, heard(1)));
    assert_eq!(second.len(), 2, "nothing of the first round is left to be answered: {second:?}");
    assert!(
        second.iter().all(|action| matches!(action, Action::Send(sent) if matches!(sent.body, Body::Heartbeat(_))))
    );
    assert_eq!(cluster.step(1, message(3, 1, 1, heard(2))), [sends(1, 2, 1, answer(9, 2, 1))]);
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(9, 2))).len(), 2, "its answer may be lost: a new round");
}

#[test]
fn a_copy_of_a_request_does_not_put_off_its_answer() {
    let mut cluster = led();
    cluster.step(1, message(2, 1, 1, ask(1, 5)));
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(1, 5))), []);
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(1, 4))), [], "an older one");
    assert_eq!(cluster.step(1, message(3, 1, 1, heard(1))), [sends(1, 2, 1, answer(1, 5, 1))]);
}

#[test]
fn the_leaders_reads_and_its_followers_requests_share_rounds() {
    let mut cluster = led();
    assert_eq!(cluster.step(1, read(1)).len(), 2);
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(1, 1))), []);
    assert_eq!(cluster.step(1, message(3, 1, 1, ask(1, 1))), []);
    assert_eq!(cluster.step(1, read(2)), []);
    let first = cluster.step(1, message(3, 1, 1, heard(1)));
    assert_eq!((&first[0], first.len()), (&ready(1, 1, ReadKind::Quorum), 3), "and one round more");
    let answered = [sends(1, 2, 1, answer(1, 1, 1)), sends(1, 3, 1, answer(1, 1, 1))];
    let second = cluster.step(1, message(3, 1, 1, heard(2)));
    assert_eq!((&second[0], &second[1..]), (&ready(2, 1, ReadKind::Quorum), &answered[..]));
}

#[test]
fn r1_a_leader_answers_nobody_before_the_first_commit_of_its_term() {
    let mut cluster = Cluster::new(3);
    cluster.sync = false;
    cluster.step(1, Event::Campaign);
    cluster.step(
        1,
        message(
            2,
            1,
            1,
            Body::PreVoteResponse(Incarnation::UNKNOWN, PreVoteResponse { next_term: Term(1), vote_granted: true }),
        ),
    );
    cluster.persist(1, usize::MAX);
    cluster.step(
        1,
        message(2, 1, 1, Body::RequestVoteResponse(Incarnation::UNKNOWN, RequestVoteResponse { vote_granted: true })),
    );
    assert_eq!((cluster.node(1).role(), cluster.commit(1)), (RoleName::Leader, 0));
    cluster.network.clear();
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(1, 1))), []);
    let sent = cluster.step(1, message(2, 1, 1, heard(0)));
    assert!(matches!(sent_to(&sent, 2)[..], [Body::AppendEntries(_)]), "and no answer: {sent:?}");
    cluster.step(2, message(1, 2, 1, heartbeat(0)));
    cluster.step(2, read(1));
    cluster.sync = true;
    for id in 1..=3 {
        cluster.persist(id, usize::MAX);
    }
    cluster.run(HEARTBEAT);
    assert_eq!(answers(&cluster), [(2, ready(1, 1, ReadKind::ForwardedQuorum))]);
}

#[test]
fn another_leader_or_term_fails_the_reads_that_were_forwarded() {
    let mut cluster = led();
    cluster.step(2, read(1));
    cluster.step(2, read(2));
    let lost = [1, 2].map(|id| failed(id, Refusal::LeadershipLost));
    let actions = cluster.step(2, message(3, 2, 2, heartbeat(0)));
    let said: Vec<_> = actions.iter().filter(|action| matches!(action, Action::ReadFailed { .. })).cloned().collect();
    assert_eq!(said, lost);
    assert_eq!(cluster.step(2, message(1, 2, 1, answer(1, 1, 1))), [], "the old leader's answer comes too late");
    assert_eq!(cluster.step(2, read(3)), [sends(2, 3, 2, ask(1, 2))], "the new one is asked");
    let silent = cluster.step(2, message(1, 2, 3, no_answer(1, 2)));
    assert!(silent.contains(&failed(3, Refusal::LeadershipLost)), "a higher term, and no leader: {silent:?}");
    assert_eq!(cluster.step(2, read(4)), [failed(4, Refusal::NotLeader { leader: None })]);
}

#[test]
fn a_follower_that_campaigns_fails_its_reads() {
    let mut cluster = led();
    cluster.step(2, read(1));
    let actions = cluster.step(2, Event::Campaign);
    assert_eq!(actions[2], failed(1, Refusal::LeadershipLost), "{actions:?}");
}

#[test]
fn who_does_not_lead_says_so() {
    let mut cluster = led();
    assert_eq!(cluster.step(3, message(2, 3, 1, ask(1, 1))), [sends(3, 2, 1, no_answer(1, 1))]);
    for id in [1, 2] {
        cluster.tick(id, T);
    }
    cluster.network.clear();
    cluster.elect(3);
    assert_eq!(cluster.step(3, message(2, 3, 1, ask(1, 1))), [sends(3, 2, 2, no_answer(1, 1))], "an old term");
    assert_eq!(cluster.step(3, message(9, 3, 2, ask(1, 1))), [sends(3, 9, 2, no_answer(1, 1))], "a stranger");
    cluster.step(2, read(1));
    let lost = [failed(1, Refusal::LeadershipLost)];
    assert_eq!(cluster.step(2, message(3, 2, 2, no_answer(1, 1))), lost);
}

#[test]
fn a_learner_reads() {
    let mut cluster = Cluster::with_founders(1, 2, 0);
    cluster.elect(1);
    let change =
        MembershipChange { voters: vec![NodeId(1)], learners: vec![NodeId(2)], catch_up: false, addresses: Vec::new() };
    cluster.step(1, Event::ChangeMembership(change));
    cluster.run(HEARTBEAT);
    cluster.step(2, read(1));
    cluster.settle();
    assert_eq!(answers(&cluster), [(2, ready(1, 2, ReadKind::ForwardedQuorum))]);
}

#[test]
fn a_follower_refuses_where_it_knows_no_leader_or_has_no_number_of_its_life() {
    let mut cluster = Cluster::new(3);
    assert_eq!(cluster.step(2, read(1)), [failed(1, Refusal::NotLeader { leader: None })]);
    let mut cluster = Cluster::with_config(3, |config| config.life = None);
    cluster.elect(1);
    assert_eq!(cluster.step(2, read(1)), [failed(1, Refusal::NotLeader { leader: Some(NodeId(1)) })]);
}

#[test]
fn a_halt_fails_what_was_forwarded_and_what_was_confirmed() {
    let mut cluster = led();
    cluster.step(2, read(1));
    cluster.step(2, message(1, 2, 1, answer(1, 1, 5)));
    cluster.step(2, read(2));
    cluster.step(2, read(3));
    let error = StorageError::Io { what: "no space".into() };
    let actions = cluster.step(2, Event::WriteFailed(error));
    assert_eq!(actions[..3], [1, 2, 3].map(|id| failed(id, Refusal::Halted)));
    assert_eq!(actions.len(), 4, "and the halt: {actions:?}");
}

#[test]
fn a_minority_serves_no_read_however_it_is_asked() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    for (a, b) in [1, 2].into_iter().flat_map(|a| [3, 4, 5].map(|b| (a, b))) {
        cluster.cut.extend([(a, b), (b, a)]);
    }
    for id in 3..=5 {
        cluster.tick(id, T);
    }
    cluster.network.clear();
    cluster.elect(3);
    cluster.propose(3, "new");
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.commit(3)), (vec![1, 3], 3));
    cluster.step(1, read(1));
    cluster.step(2, read(2));
    cluster.settle();
    assert_eq!(answers(&cluster), [], "the old leader hears no quorum");
    cluster.run(2 * T);
    let late = Refusal::ReadTimeout { leader: Some(NodeId(1)) };
    assert_eq!(answers(&cluster), [(1, failed(1, Refusal::LeadershipLost)), (2, failed(2, late))]);
}

// Reads by lease.

const DRIFT: u32 = 2;

fn with_lease(voters: u32) -> Cluster {
    Cluster::with_config(voters, |config| config.lease = Some(Lease { drift_ticks: DRIFT }))
}

fn lease(cluster: &Cluster, id: u32) -> Option<u64> {
    cluster.node(id).status().lease
}

/// Three nodes with leases, of which the first leads term 1 and has just sent heartbeats, round 1, at its tick 3, which
/// are under way.
fn about_to_lease() -> Cluster {
    let mut cluster = with_lease(3);
    cluster.elect(1);
    assert_eq!(lease(&cluster, 1), None, "no heartbeat of a known tick was answered yet");
    cluster.tick(1, HEARTBEAT);
    assert_eq!(lease(&cluster, 1), None);
    cluster
}

/// As [`about_to_lease`], and the heartbeats were answered.
fn leased() -> Cluster {
    let mut cluster = about_to_lease();
    cluster.settle();
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)));
    cluster
}

#[test]
fn r4_no_lease_unless_it_is_asked_for() {
    let mut cluster = led();
    cluster.run(T);
    assert_eq!(lease(&cluster, 1), None);
    assert_eq!(cluster.step(1, read(1)).len(), 2, "a round");
    assert_eq!(cluster.step(2, message(1, 2, 1, heartbeat(0))), [sends(2, 1, 1, heard(0))]);
}

#[test]
fn r4_a_lease_counts_from_the_sending_of_the_heartbeat_to_the_tick() {
    let mut cluster = about_to_lease();
    cluster.network.clear();
    cluster.tick(1, 2);
    cluster.step(1, message(2, 1, 1, heard(1)));
    let left = T - DRIFT - 2;
    assert_eq!(lease(&cluster, 1), Some(u64::from(left)), "sent at tick 3, answered at tick 5");
    assert_eq!(cluster.step(1, read(1)), [ready(1, 1, ReadKind::Lease)]);
    cluster.tick(1, left - 1);
    assert_eq!(lease(&cluster, 1), Some(1));
    assert_eq!(cluster.step(1, read(2)), [ready(2, 1, ReadKind::Lease)], "the last tick");
    cluster.tick(1, 1);
    assert_eq!((cluster.node(1).role(), lease(&cluster, 1)), (RoleName::Leader, None));
    let asks = cluster.step(1, read(3));
    assert_eq!((sent_to(&asks, 2).len(), sent_to(&asks, 3).len(), asks.len()), (1, 1, 2), "a round: {asks:?}");
}

/// An answer to the heartbeats of tick 3 is on its way until just before the lease that counts from them is over. Once it is,
/// the others may have counted an election timeout, as the drift bound has it, and elect another leader, which commits what
/// this one lacks.
#[test]
fn r4_no_read_is_served_by_lease_for_an_answer_that_comes_when_another_may_lead() {
    let mut cluster = about_to_lease();
    while let Some(at) = cluster.network.iter().position(|sent| sent.from == NodeId(1)) {
        cluster.deliver(at);
    }
    cluster.network.clear();
    cluster.cut_off(1);
    cluster.tick(1, T - DRIFT - 2);
    cluster.step(1, message(2, 1, 1, heard(1)));
    cluster.tick(1, 2);
    cluster.tick(2, T);
    cluster.tick(3, T);
    cluster.step(2, Event::Campaign);
    cluster.settle();
    cluster.propose(2, "x");
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.commit(1), cluster.commit(2)), (vec![1, 2], 1, 3));
    assert_eq!(cluster.step(1, read(1)).len(), 2, "a round");
    assert_eq!(answers(&cluster), [], "it would be stale");
}

#[test]
fn r4_a_heartbeat_that_is_sent_again_counts_from_the_first_time() {
    let mut cluster = leased();
    cluster.tick(1, 2);
    cluster.propose(1, "x");
    cluster.settle();
    assert_eq!(cluster.commit(2), 2, "told by a heartbeat at tick 5, of the round of tick 3");
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT - 2)));
    cluster.tick(1, 1);
    cluster.settle();
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)), "the heartbeats of tick 6 begin it anew");
}

#[test]
fn r4_answers_that_come_out_of_order_or_claim_too_much_count_for_what_they_are() {
    let mut cluster = about_to_lease();
    cluster.tick(1, HEARTBEAT);
    cluster.network.clear();
    cluster.step(1, message(2, 1, 1, heard(2)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)));
    cluster.tick(1, 1);
    cluster.step(1, message(2, 1, 1, heard(1)));
    cluster.step(1, message(2, 1, 1, heard(0)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT - 1)));
    cluster.step(1, message(2, 1, 1, heard(99)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT - 1)), "99 was never sent: as the last");
    cluster.step(1, message(2, 1, 0, heard(2)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT - 1)), "of another term");
}

#[test]
fn r4_a_lease_needs_a_quorum() {
    let mut cluster = with_lease(5);
    cluster.elect(1);
    cluster.tick(1, HEARTBEAT);
    cluster.network.clear();
    cluster.step(1, message(2, 1, 1, heard(1)));
    assert_eq!(lease(&cluster, 1), None, "two of five");
    cluster.tick(1, HEARTBEAT);
    cluster.step(1, message(3, 1, 1, heard(2)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT - HEARTBEAT)), "as old as the oldest of the quorum");
    cluster.step(1, message(4, 1, 1, heard(2)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)));
}

/// Fault M10: a disk in another's place has promised nothing for it.
#[test]
fn r4_m10_another_disks_answers_begin_no_lease() {
    let mut cluster = Cluster::empty();
    for id in 1..=3 {
        let lease = Some(Lease { drift_ticks: 1 });
        let config = Config { seed: id.into(), lease, ..Config::new(NodeId(id)) };
        let disk = MemStorage::new(Configuration::new([1, 2, 3].map(NodeId)));
        cluster.add(config, disk.with_incarnation(Incarnation(u64::from(id) * 10)));
    }
    cluster.run(T);
    cluster.elect(1);
    cluster.run(2 * HEARTBEAT);
    assert!(lease(&cluster, 1).is_some());
    cluster.cut_off(3);
    cluster.wipe(2, 21);
    cluster.run(T - 1);
    assert_eq!((cluster.leaders(), lease(&cluster, 1)), (vec![1], None));
}

#[test]
fn r4_a_reads_own_round_begins_a_lease_too() {
    let mut cluster = about_to_lease();
    cluster.network.clear();
    cluster.tick(1, 1);
    cluster.step(1, read(1));
    cluster.settle();
    assert_eq!(answers(&cluster), [(1, ready(1, 1, ReadKind::Quorum))]);
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)));
}

#[test]
fn r4_a_drift_bound_of_the_whole_timeout_promises_and_never_serves() {
    let mut cluster = Cluster::with_config(3, |config| config.lease = Some(Lease { drift_ticks: T }));
    cluster.elect(1);
    cluster.run(HEARTBEAT);
    assert_eq!(lease(&cluster, 1), None);
    assert_eq!(cluster.step(2, Event::Campaign), []);
}

#[test]
fn a_single_voter_always_has_its_lease() {
    let mut cluster = with_lease(1);
    cluster.elect(1);
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)));
    assert_eq!(cluster.step(1, read(1)), [ready(1, 1, ReadKind::Lease)]);
}

#[test]
fn a_leased_leader_answers_its_followers_at_once() {
    let mut cluster = leased();
    cluster.step(2, read(1));
    let response = ReadIndexResponse { token: token(1, 1), index: Some(LogIndex(1)), lease: true };
    let body = Body::ReadIndexResponse(response);
    cluster.network.clear();
    assert_eq!(cluster.step(1, message(2, 1, 1, ask(1, 1))), [sends(1, 2, 1, body.clone())]);
    assert_eq!(cluster.step(2, message(1, 2, 1, body)), [ready(1, 1, ReadKind::ForwardedLease)]);
}

#[test]
fn r3_a_read_by_lease_waits_until_what_is_committed_is_applied() {
    let mut cluster = leased();
    cluster.sync = false;
    cluster.propose(1, "x");
    cluster.settle();
    for id in [2, 3] {
        cluster.persist(id, usize::MAX);
    }
    cluster.settle();
    assert_eq!((cluster.commit(1), cluster.node(1).last_applied()), (2, LogIndex(1)), "not durable here");
    assert_eq!(cluster.step(1, read(1)), []);
    cluster.persist(1, usize::MAX);
    assert_eq!(answers(&cluster), [(1, ready(1, 2, ReadKind::Lease))]);
}

#[test]
fn r1_no_lease_before_the_first_commit_of_the_term() {
    let mut cluster = with_lease(3);
    cluster.sync = false;
    cluster.step(1, Event::Campaign);
    cluster.step(
        1,
        message(
            2,
            1,
            1,
            Body::PreVoteResponse(Incarnation::UNKNOWN, PreVoteResponse { next_term: Term(1), vote_granted: true }),
        ),
    );
    cluster.persist(1, usize::MAX);
    cluster.step(
        1,
        message(2, 1, 1, Body::RequestVoteResponse(Incarnation::UNKNOWN, RequestVoteResponse { vote_granted: true })),
    );
    cluster.tick(1, HEARTBEAT);
    cluster.network.clear();
    cluster.step(1, message(2, 1, 1, heard(1)));
    assert_eq!((cluster.commit(1), lease(&cluster, 1)), (0, None));
    assert_eq!(cluster.step(1, read(1)), []);
    assert_eq!(cluster.step(1, message(3, 1, 1, ask(1, 1))), []);
}

#[test]
fn r5_a_transfer_voids_the_lease() {
    let mut cluster = leased();
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    assert_eq!(lease(&cluster, 1), None);
    assert_eq!(
        sent_to(&cluster.step(1, read(1)), 2),
        [Body::Heartbeat(Heartbeat { leader_commit: LogIndex(1), round: 2 })]
    );
}

#[test]
fn r5_a_transfer_that_told_nobody_to_campaign_leaves_the_lease_as_it_was() {
    let mut cluster = leased();
    cluster.cut_off(3);
    cluster.propose(1, "x");
    cluster.settle();
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    for _ in 1..T {
        cluster.run(1);
        assert_eq!(lease(&cluster, 1), None);
    }
    cluster.run(1);
    assert!(cluster.notices.contains(&(1, Action::TransferAborted { target: NodeId(3) })));
    assert!(lease(&cluster, 1).is_some());
}

#[test]
fn r5_a_timeout_now_that_may_be_late_voids_the_lease_for_the_term() {
    let mut cluster = leased();
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    let late: Vec<_> = std::mem::take(&mut cluster.network);
    assert!(late.iter().any(|message| message.body == Body::TimeoutNow));
    for _ in 0..3 * T {
        cluster.run(1);
        cluster.network.retain(|message| message.body != Body::TimeoutNow);
        assert_eq!(lease(&cluster, 1), None);
        if cluster.term(1) > 1 {
            break;
        }
    }
    // The target took over by a copy of the message; otherwise the first one would still make it.
    cluster.run(2 * T);
    let leader = cluster.leaders()[0];
    assert!(cluster.term(leader) > 1);
    assert!(lease(&cluster, leader).is_some(), "the next term's leader has a lease again");
}

#[test]
fn r5_a_given_up_transfer_whose_target_was_told_leaves_no_lease() {
    let mut cluster = leased();
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    let told = cluster.network.iter().position(|message| message.body == Body::TimeoutNow).unwrap();
    let late = cluster.network.remove(told);
    cluster.cut.push((1, 3));
    for _ in 0..T {
        cluster.tick(1, 1);
        cluster.tick(2, 1);
        cluster.settle();
    }
    assert!(cluster.notices.contains(&(1, Action::TransferAborted { target: NodeId(3) })));
    assert_eq!((cluster.node(1).role(), lease(&cluster, 1)), (RoleName::Leader, None));
    cluster.mend();
    cluster.cut.extend([(3, 1), (1, 3), (2, 1), (1, 2)]);
    cluster.step(3, late);
    cluster.settle();
    cluster.propose(3, "new");
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.commit(3)), (vec![1, 3], 3), "within an election timeout of a heartbeat");
    cluster.step(1, read(1));
    assert_eq!(answers(&cluster), [], "and the old leader serves nothing");
}

#[test]
fn a_joint_configuration_leases_by_both_halves() {
    let storage = MemStorage::new(Configuration::new([1, 2, 3].map(NodeId)));
    let mut cluster = Cluster::empty();
    for id in 1..=5 {
        let lease = Some(Lease { drift_ticks: DRIFT });
        cluster.add(Config { lease, life: Some(1), ..Config::new(NodeId(id)) }, storage.clone());
    }
    cluster.elect(1);
    cluster.tick(1, HEARTBEAT);
    cluster.settle();
    let voters = [1, 4, 5].map(NodeId).into();
    cluster.step(
        1,
        Event::ChangeMembership(MembershipChange { voters, learners: vec![], catch_up: false, addresses: Vec::new() }),
    );
    assert!(cluster.node(1).status().configuration.is_joint());
    assert_eq!(lease(&cluster, 1), None, "4 and 5 have answered nothing");
    cluster.network.clear();
    cluster.tick(1, HEARTBEAT);
    cluster.step(1, message(4, 1, 1, heard(2)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT - HEARTBEAT)), "2 and 3 at tick 3, 4 at tick 6");
    cluster.step(1, message(2, 1, 1, heard(2)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)));
}

#[test]
fn a_learners_answer_begins_no_lease() {
    let mut cluster = with_lease(3);
    cluster.elect(1);
    let learners = vec![NodeId(3)];
    let voters = [1, 2].map(NodeId).into();
    cluster.step(
        1,
        Event::ChangeMembership(MembershipChange { voters, learners, catch_up: false, addresses: Vec::new() }),
    );
    cluster.settle();
    cluster.tick(1, HEARTBEAT);
    cluster.network.clear();
    cluster.step(1, message(3, 1, 1, heard(1)));
    assert_eq!(lease(&cluster, 1), None);
    cluster.step(1, message(2, 1, 1, heard(1)));
    assert_eq!(lease(&cluster, 1), Some(u64::from(T - DRIFT)));
}

// What voters promise.

fn vote(cluster: &mut Cluster, id: u32, term: u64, leadership_transfer: bool) -> Vec<Body> {
    let (last_log_index, last_log_term) = (LogIndex(9), Term(1));
    let request = RequestVote { last_log_index, last_log_term, leadership_transfer, voter: Incarnation::UNKNOWN };
    cluster.sync = true;
    let before = cluster.network.len();
    cluster.step(id, message(3, id, term, Body::RequestVote(request)));
    cluster.network.split_off(before).into_iter().filter(|sent| sent.to == NodeId(3)).map(|sent| sent.body).collect()
}

fn voted(vote_granted: bool) -> Vec<Body> {
    vec![Body::RequestVoteResponse(Incarnation::UNKNOWN, RequestVoteResponse { vote_granted })]
}

fn pre_vote(cluster: &mut Cluster, id: u32, next_term: u64) -> bool {
    let next_term = Term(next_term);
    let request =
        PreVote { next_term, last_log_index: LogIndex(9), last_log_term: Term(1), voter: Incarnation::UNKNOWN };
    let answer = sent_to(&cluster.step(id, message(3, id, 1, Body::PreVote(request))), 3);
    answer == [Body::PreVoteResponse(Incarnation::UNKNOWN, PreVoteResponse { next_term, vote_granted: true })]
}

#[test]
fn r4_a_voter_that_forgets_its_leader_keeps_its_promise() {
    let mut cluster = leased();
    let refused =
        Body::PreVoteResponse(Incarnation::UNKNOWN, PreVoteResponse { next_term: Term(2), vote_granted: false });
    cluster.step(2, message(3, 2, 2, refused));
    assert_eq!((cluster.term(2), cluster.node(2).leader()), (2, None));
    cluster.tick(2, T - 1);
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(false), "in the term that it has learnt of");
    assert_eq!(vote(&mut cluster, 2, 3, false), [], "and it learns of no other");
    assert!(!pre_vote(&mut cluster, 2, 3));
    assert_eq!(cluster.term(2), 2);
    cluster.tick(2, 1);
    assert!(pre_vote(&mut cluster, 2, 3));
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(true));
}

#[test]
fn without_leases_a_voter_that_learns_of_a_term_votes() {
    let mut cluster = led();
    let refused =
        Body::PreVoteResponse(Incarnation::UNKNOWN, PreVoteResponse { next_term: Term(2), vote_granted: false });
    cluster.step(2, message(3, 2, 2, refused));
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(true));
}

#[test]
fn r4_a_promise_lasts_an_election_timeout_from_the_last_that_was_heard() {
    let mut cluster = leased();
    cluster.tick(2, 5);
    cluster.step(2, message(1, 2, 1, heartbeat(1)));
    let refused =
        Body::PreVoteResponse(Incarnation::UNKNOWN, PreVoteResponse { next_term: Term(2), vote_granted: false });
    cluster.step(2, message(3, 2, 2, refused));
    cluster.tick(2, T - 1);
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(false));
    cluster.tick(2, 1);
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(true));
}

#[test]
fn r4_a_voter_that_has_promised_does_not_vote_for_itself() {
    let mut cluster = leased();
    cluster.cut_off(1);
    cluster.tick(3, T);
    cluster.network.clear();
    assert_eq!(cluster.step(2, Event::Campaign), []);
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.node(2).role()), (vec![1], RoleName::Follower));
    cluster.tick(2, T);
    cluster.step(2, Event::Campaign);
    cluster.settle();
    assert_eq!(cluster.leaders(), [1, 2]);
}

#[test]
fn r4_a_restarted_voter_votes_for_nobody_within_an_election_timeout() {
    let mut cluster = leased();
    cluster.crash(2, 0);
    assert!(!pre_vote(&mut cluster, 2, 2));
    assert_eq!(vote(&mut cluster, 2, 2, false), []);
    assert_eq!(cluster.step(2, Event::Campaign), []);
    cluster.tick(2, T - 1);
    assert_eq!(vote(&mut cluster, 2, 2, false), []);
    assert_eq!((cluster.term(2), cluster.step(2, Event::Campaign)), (1, vec![]));
    cluster.tick(2, 1);
    assert!(pre_vote(&mut cluster, 2, 2));
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(true));
}

#[test]
fn without_leases_a_restarted_voter_votes_at_once() {
    let mut cluster = led();
    cluster.crash(2, 0);
    assert!(pre_vote(&mut cluster, 2, 2));
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(true));
}

#[test]
fn a_server_that_never_heard_a_leader_has_promised_nothing() {
    let mut cluster = with_lease(3);
    cluster.crash(2, 0);
    assert_eq!(vote(&mut cluster, 2, 1, false), voted(true));
}

#[test]
fn a_promise_does_not_hold_up_a_transfer() {
    let mut cluster = leased();
    assert_eq!(vote(&mut cluster, 2, 2, true), voted(true));
    let mut cluster = leased();
    cluster.crash(2, 0);
    assert_eq!(vote(&mut cluster, 2, 2, true), voted(true), "nor does one that is not known any more");
    let mut cluster = leased();
    cluster.step(1, Event::TransferLeadership(NodeId(3)));
    cluster.settle();
    assert_eq!((cluster.leaders(), cluster.term(3)), (vec![3], 2));
}

#[test]
fn a_vote_that_was_given_is_said_again() {
    let mut cluster = leased();
    assert_eq!(vote(&mut cluster, 2, 2, true), voted(true));
    cluster.crash(2, 0);
    assert_eq!(vote(&mut cluster, 2, 2, false), voted(true), "to the same candidate, in the same term");
}

// All of it at random, with clocks that the drift bound covers.

/// Any two servers' counts of ticks differ by at most one: so while one counts T, no other counts fewer than T - 2.
#[test]
fn no_read_is_stale_however_it_is_served_while_clocks_keep_to_the_drift_bound() {
    let mut served = [0_u32; 4];
    for seed in 1..=40 {
        let kinds = random_run(seed, 800);
        for (total, kind) in served.iter_mut().zip(kinds) {
            *total += kind;
        }
    }
    assert!(served.iter().all(|kind| *kind > 20), "reads served, a kind each: {served:?}");
}

fn random_run(seed: u64, steps: u64) -> [u32; 4] {
    let mut cluster = Cluster::with_config(3, |config| {
        config.election_timeout_ticks = 6;
        config.heartbeat_ticks = 1;
        config.lease = Some(Lease { drift_ticks: 2 }).filter(|_| !seed.is_multiple_of(4));
        config.seed = seed.wrapping_mul(31).wrapping_add(u64::from(config.id.0));
    });
    let (mut random, mut ticks) = (seed, [0_u64; 3]);
    for number in 0..steps {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = random >> 33;
        let (node, at) = (1 + (choice / 64 % 3) as u32, (choice / 256) as usize);
        let under_way = cluster.network.len();
        match choice % 64 {
            0..12 => {
                let slowest = (0..3).min_by_key(|id| (ticks[*id], (*id + at) % 3)).unwrap();
                ticks[slowest] += 1;
                cluster.tick(slowest as u32 + 1, 1);
            }
            // Mostly in order, as connections do, so that something comes of it.
            12..34 if under_way > 0 => cluster.deliver(0),
            34..42 if under_way > 0 => cluster.deliver(at % under_way),
            42 if under_way > 0 => drop(cluster.network.remove(at % under_way)),
            43 if under_way > 0 => cluster.network.push(cluster.network[at % under_way].clone()),
            44..47 => drop(cluster.propose(node, "x")),
            47..56 => drop(cluster.step(node, read(number))),
            56 => drop(cluster.step(node, Event::Campaign)),
            57 if at % 4 == 0 => drop(cluster.step(node, Event::TransferLeadership(NodeId(1 + at as u32 % 3)))),
            58 if at % 2 == 0 => cluster.crash(node, at % 3),
            59 if at % 2 == 0 => cluster.cut_off(node),
            60 => cluster.mend(),
            _ => {}
        }
    }
    let count = |wanted| cluster.notices.iter().filter(|(_, action)| is_of_kind(action, wanted)).count() as u32;
    [ReadKind::Quorum, ReadKind::Lease, ReadKind::ForwardedQuorum, ReadKind::ForwardedLease].map(count)
}

fn is_of_kind(action: &Action, wanted: ReadKind) -> bool {
    matches!(action, Action::ReadReady { kind, .. } if *kind == wanted)
}
