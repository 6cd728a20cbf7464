//! For each invariant a wrongness that is reported.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raft_core::{
    AppendEntriesResponse, Body, Configuration, Digest, Entry, Event, HardState, Heartbeat, LogIndex, Message, NodeId,
    Outcome, Payload, Position, ReadKind, RequestVoteResponse, SnapshotMeta, StateDigest, StateReport, Storage, Term,
    Write, WriteId, WriteOp,
};

use super::group::{Group, Server};
use crate::oracle::history::History;
use crate::oracle::shadow::Mark;

/// A settled group of three, its leader, and one that follows.
fn settled() -> (Group, u32, u32) {
    let mut group = Group::new(1, 3, 0);
    group.settle();
    let leader = group.leader().unwrap();
    (group, leader, 1 + leader % 3)
}

/// The rule that this breaks, as the oracle says.
fn accused(act: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(act)).expect_err("nobody was accused");
    let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    said.split(": ").nth(1).unwrap_or(&said).to_owned()
}

fn term(group: &Group, id: u32) -> Term {
    group.servers[&id].node().current_term()
}

/// A write that the node never asked for.
fn forge(group: &mut Group, id: u32, op: WriteOp) -> String {
    accused(|| {
        group.input(id, |server| {
            let _ = server.storage_mut().write(Write { id: WriteId(1 << 40), op });
        });
    })
}

fn entry(group: &Group, id: u32, payload: Payload) -> Entry {
    let index = group.servers[&id].node().storage().last_index().next();
    Entry { index, term: term(group, id), payload }
}

/// A message that this server never sent.
fn said(group: &mut Group, from: u32, to: u32, term: Term, body: Body) -> &'static str {
    let message = Message { from: NodeId(from), to: NodeId(to), term, body };
    group.oracle.sent(&message).expect_err("nobody was accused").rule
}

#[test]
fn i1_a_second_leader_of_a_term() {
    let (mut group, leader, follower) = settled();
    let term = term(&group, leader);
    let body = Body::Heartbeat(Heartbeat { leader_commit: LogIndex(0), round: 1 });
    assert_eq!(said(&mut group, follower, leader, term, body), "election safety");
}

#[test]
fn i2_a_second_vote_and_one_that_is_not_durable() {
    let (mut group, leader, follower) = settled();
    let now = term(&group, follower);
    let incarnation = group.incarnations[&follower];
    let grant = || Body::RequestVoteResponse(incarnation, RequestVoteResponse { vote_granted: true });
    let other = 6 - leader - follower;
    assert_eq!(said(&mut group, follower, other, now, grant()), "a vote is durable");
    assert_eq!(said(&mut group, follower, other, now.next(), grant()), "nothing unflushed is revealed");
    let mut history = History::default();
    history.votes(NodeId(1), 0, Term(3), NodeId(2)).unwrap();
    history.votes(NodeId(1), 1, Term(3), NodeId(3)).unwrap();
    assert_eq!(history.votes(NodeId(1), 0, Term(3), NodeId(3)).unwrap_err().rule, "one vote a term");
}

#[test]
fn i3_a_term_a_vote_or_an_entry_that_was_durable_is_gone() {
    let (mut group, _, follower) = settled();
    let old = group.servers.get_mut(&follower).unwrap().storage_mut().inner().disk().crash(0, |_, _| true);
    group.submit(group.leader().unwrap());
    group.settle();
    group.crash(follower, 0);
    group.disks.insert(follower, old);
    assert_eq!(group.try_start(follower).unwrap_err().rule, "durable state");

    let (mut group, leader, follower) = settled();
    let old = group.servers.get_mut(&follower).unwrap().storage_mut().inner().disk().crash(0, |_, _| true);
    let before = term(&group, follower);
    group.input(leader, Server::hand_over);
    group.settle();
    assert!(term(&group, follower) > before, "another leads");
    group.crash(follower, 0);
    group.disks.insert(follower, old);
    assert_eq!(group.try_start(follower).unwrap_err().rule, "durable term and vote");

    let (mut group, _, follower) = settled();
    let lower = HardState { current_term: Term(0), voted_for: None };
    assert_eq!(forge(&mut group, follower, WriteOp::HardState(lower)), "term and vote");
}

#[test]
fn i4_a_leader_removes_an_entry() {
    let (mut group, leader, _) = settled();
    group.network.clear();
    group.submit(leader);
    let last = group.servers[&leader].node().storage().last_index();
    assert_eq!(forge(&mut group, leader, WriteOp::Truncate(last)), "leader append-only");
}

#[test]
fn i5_one_name_and_another_entry() {
    let (mut group, leader, follower) = settled();
    group.submit(leader);
    let forged = entry(&group, follower, Payload::Noop);
    let op = WriteOp::Append { entries: [forged].into(), digests: Some([Digest([9; 32])].into()) };
    assert_eq!(forge(&mut group, follower, op), "log matching");
}

#[test]
fn i6_another_entry_is_committed() {
    let (mut group, leader, _) = settled();
    let position = Position { index: LogIndex(2), term: Term(1), number: 0, digest: Some(Digest([9; 32])) };
    let outcome = Outcome::Applied { position, reply: Bytes::new() };
    assert_eq!(group.oracle.replied(NodeId(leader), &outcome).unwrap_err().rule, "state machine safety");
    let mut history = History::default();
    let [one, other] = [1, 2].map(|byte| Mark { term: Term(1), digest: Some(Digest([byte; 32])) });
    assert!(history.commits(NodeId(1), Term(1), LogIndex(1), one).unwrap());
    assert!(!history.commits(NodeId(2), Term(1), LogIndex(1), one).unwrap());
    assert_eq!(history.commits(NodeId(2), Term(2), LogIndex(1), other).unwrap_err().rule, "state machine safety");
}

#[test]
fn i7_a_leader_lacks_what_was_committed() {
    let (mut group, leader, follower) = settled();
    let beyond = LogIndex(group.oracle.committed().0 + 5);
    let mark = Mark { term: term(&group, leader), digest: Some(Digest([9; 32])) };
    group.oracle.history.commits(NodeId(leader), mark.term, beyond, mark).unwrap();
    group.crash(leader, 0);
    let rule = accused(|| {
        (0..20).for_each(|_| group.input(follower, Server::tick));
        group.settle();
    });
    assert_eq!(rule, "leader completeness");
}

/// Two of three lose their disks, and nobody says so to them.
#[test]
fn i7_i8_most_disks_are_lost() {
    let (mut group, leader, follower) = settled();
    group.crash(6 - leader - follower, 0);
    let rule = accused(|| {
        group.wipe(leader, raft_core::Incarnation(90));
        group.wipe(follower, raft_core::Incarnation(91));
        group.network.clear();
        group.settle();
    });
    assert!(
        ["state machine safety", "leader completeness", "election safety", "log matching"].contains(&&*rule),
        "{rule}"
    );
}

#[test]
fn i8_a_commit_without_a_quorum() {
    let (mut group, leader, follower) = settled();
    group.network.clear();
    group.submit(leader);
    group.network.clear();
    let (term, match_index) = (term(&group, leader), group.servers[&leader].node().storage().last_index());
    let body =
        Body::AppendEntriesResponse(group.incarnations[&follower], AppendEntriesResponse::Accepted { match_index });
    let forged = Message { from: NodeId(follower), to: NodeId(leader), term, body };
    group.sync(leader);
    let rule = accused(|| group.input(leader, |server| server.receive(forged)));
    assert_eq!(rule, "commit evidence");

    let (mut group, leader, follower) = settled();
    let term = group.servers[&leader].node().current_term();
    let body = Body::Heartbeat(Heartbeat { leader_commit: group.oracle.committed().next(), round: 1 });
    assert_eq!(said(&mut group, leader, follower, term, body), "commit evidence");
}

#[test]
fn i9_what_is_committed_is_removed() {
    let (mut group, _, follower) = settled();
    let op = WriteOp::Truncate(group.oracle.committed());
    assert_eq!(forge(&mut group, follower, op), "no truncation of what is committed");
}

#[test]
fn i10_quorums_that_need_not_meet_and_two_open_changes() {
    let configuration = |new: &[u32], old: &[u32]| {
        let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        Payload::Configuration(Configuration::joint(ids(new), ids(old), []).to_bytes().into())
    };
    let (mut group, _, follower) = settled();
    let forged = entry(&group, follower, configuration(&[1, 2, 4], &[]));
    let op = WriteOp::Append { entries: [forged].into(), digests: None };
    assert_eq!(forge(&mut group, follower, op), "configurations");

    let (mut group, _, follower) = settled();
    let pinned = |payload: Payload, group: &Group| {
        let known = Configuration::from_bytes(payload.bytes()).unwrap();
        let known =
            group.incarnations.iter().fold(known, |known, (id, disk)| known.with_incarnation(NodeId(*id), *disk));
        Payload::Configuration(known.to_bytes().into())
    };
    let first = entry(&group, follower, pinned(configuration(&[1, 2], &[1, 2, 3]), &group));
    let second = pinned(configuration(&[1, 2], &[]), &group);
    let second = Entry { index: first.index.next(), term: first.term, payload: second };
    let op = WriteOp::Append { entries: [first, second].into(), digests: None };
    assert_eq!(forge(&mut group, follower, op), "configurations");
}

#[test]
fn i11_an_answer_from_what_is_not_applied() {
    let (mut group, leader, _) = settled();
    let index = group.oracle.committed().next();
    let outcome = Outcome::Answered { index, reply: Bytes::new(), kind: ReadKind::Quorum };
    assert_eq!(group.oracle.replied(NodeId(leader), &outcome).unwrap_err().rule, "acknowledged is kept");
    let position = Position { index, term: Term(1), number: 0, digest: None };
    let outcome = Outcome::Applied { position, reply: Bytes::new() };
    assert_eq!(group.oracle.replied(NodeId(leader), &outcome).unwrap_err().rule, "state machine safety");
}

#[test]
fn i12_a_machine_goes_astray() {
    for (silent, rule) in [(false, "equal applies"), (true, "equal states")] {
        let mut group = Group::new(3, 3, 0);
        group.machine.silent = silent;
        // What it cannot find out by itself.
        group.state_digest_every = None;
        (1..=3).for_each(|id| group.crash(id, 0));
        group.start(1);
        group.start(2);
        group.machine.wrong_from = Some(10);
        group.start(3);
        assert_eq!(accused(|| (0..12).for_each(|_| group.settle())), rule);
    }
    let mut history = History::default();
    history.snapshot(NodeId(1), LogIndex(4), Some(Digest([1; 32]))).unwrap();
    assert_eq!(history.snapshot(NodeId(2), LogIndex(4), Some(Digest([2; 32]))).unwrap_err().rule, "equal states");
}

/// A node that is told of another state than its server says it had is taken for one that had it.
#[test]
fn i12_who_had_another_state_than_most_goes_on() {
    let (mut group, _, follower) = settled();
    let index = LogIndex((group.oracle.committed().0 / 16 + 1) * 16);
    let digest = StateDigest { index, state: Digest([9; 32]) };
    let told = Event::StateDigested(StateReport { digest, is_independent: true });
    group.input(follower, |server| server.storage_mut().step_begins(&told));
    assert_eq!(accused(|| (0..3).for_each(|_| group.settle())), "who differs halts");
}

/// A server that halts in time is not accused, nor are those that it cannot mislead; started anew it is as they are.
#[test]
fn i12_who_had_another_state_than_most_halts() {
    for leads in [false, true] {
        let (mut group, leader, follower) = settled();
        let altered = if leads { leader } else { follower };
        group.oracle.alter_state(NodeId(altered));
        (0..3).for_each(|_| group.settle());
        let halted: Vec<u32> = (1..=3).filter(|id| group.servers[id].is_halted()).collect();
        assert_eq!(halted, [altered]);
        group.crash(altered, 0);
        group.start(altered);
        group.heal();
    }
}

#[test]
fn i15_a_queue_passes_its_budget() {
    let (mut group, leader, _) = settled();
    group.oracle.limits.max_inflight = 0;
    let rule = accused(|| {
        (0..100).for_each(|_| {
            group.submit(leader);
            group.sync(leader);
        });
    });
    assert_eq!(rule, "budgets");
}

#[test]
fn i16_an_acceptance_leaves_before_its_entries_are_durable() {
    let (mut group, leader, follower) = settled();
    let (term, match_index) = (term(&group, leader), group.oracle.committed().next());
    let body =
        Body::AppendEntriesResponse(group.incarnations[&follower], AppendEntriesResponse::Accepted { match_index });
    assert_eq!(said(&mut group, follower, leader, term, body), "acknowledged is durable");
}

#[test]
fn i17_not_everybody_is_done() {
    let (mut group, leader, follower) = settled();
    group.settled().unwrap();
    group.submit(leader);
    assert_eq!(group.settled().unwrap_err().rule, "settled");
    group.settle();
    group.settled().unwrap();
    group.crash(follower, 0);
    group.submit(leader);
    (0..5).for_each(|id| group.sync(id % 4));
    group.start(follower);
    assert_eq!(group.settled().unwrap_err().rule, "settled");
}

#[test]
fn a_snapshot_of_another_history_is_sent() {
    let (mut group, leader, follower) = settled();
    let term = term(&group, leader);
    let mut meta = SnapshotMeta::genesis(Configuration::new([NodeId(1)]));
    (meta.last_included_index, meta.last_included_term) = (LogIndex(2), term);
    meta.digest = Some(Digest([9; 32]));
    let chunk = raft_core::SnapshotChunk { meta, offset: 0, data: Bytes::new(), done: true };
    assert_eq!(said(&mut group, leader, follower, term, Body::InstallSnapshot(chunk.into())), "state machine safety");
}
