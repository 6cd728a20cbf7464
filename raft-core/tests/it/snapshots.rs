//! Snapshots and log compaction (§7) on one node, to the action; on groups of whole servers below.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Digest, Entry, Event, Fault, HardState,
    Heartbeat, HeartbeatResponse, Incarnation, InstallSnapshotResponse, LogIndex, MemStorage, Message, Node, NodeId,
    Payload, PeerFault, ProgressState, Refusal, RequestVoteResponse, Snapshot, SnapshotChunk, SnapshotMeta, Storage,
    StorageError, Term, Write, WriteId, WriteOp,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Disk, entries, message, pieces, toy_link};

/// One node whose writes are durable, and whose state machine is done, at once or when the test says so.
pub struct Solo {
    pub node: Node<MemStorage>,
    /// Writes and restorations are reported at once.
    prompt: bool,
}

impl Solo {
    fn new(config: Config, storage: MemStorage) -> Self {
        Self { node: Node::new(config, storage).unwrap(), prompt: true }
    }

    /// A follower of {1,2,3} in term 2 with entries of these terms, and so many committed and applied.
    pub fn follower(terms: &[u64], commit: u64) -> Self {
        let mut solo = Self::new(config(1), storage(terms, 2));
        solo.step(commits(terms, commit));
        solo
    }

    /// The leader of term 3 over entries of these terms, all applied; its no-op comes after them.
    pub fn leader(config: Config, terms: &[u64]) -> Self {
        let mut solo = Self::new(config, storage(terms, 2));
        solo.step(Event::Campaign);
        let vote = |vote_granted| Body::RequestVoteResponse(Incarnation::UNKNOWN, RequestVoteResponse { vote_granted });
        let pre = raft_core::PreVoteResponse { next_term: Term(3), vote_granted: true };
        solo.step(message(2, 1, 2, Body::PreVoteResponse(Incarnation::UNKNOWN, pre)));
        solo.step(message(2, 1, 3, vote(true)));
        let noop = terms.len() as u64 + 1;
        solo.step(message(2, 1, 3, accepted(noop)));
        assert_eq!(solo.node.last_applied(), LogIndex(noop), "{:?}", solo.node.status());
        solo
    }

    /// Everything that comes of an event.
    pub fn step(&mut self, event: impl Into<Event>) -> Vec<Action> {
        let mut events = VecDeque::from([event.into()]);
        let mut all = Vec::new();
        while let Some(event) = events.pop_front() {
            for action in self.node.step(event) {
                all.push(action.clone());
                match action {
                    Action::Persist(write) => {
                        let id = write.id;
                        self.node.storage_mut().write(write).unwrap();
                        events.extend(self.prompt.then_some(Event::Persisted(id)));
                    }
                    Action::Apply { last, .. } => events.push_back(Event::Applied(last)),
                    Action::Restore(meta) if self.prompt => {
                        events.push_back(Event::Restored(meta.last_included_index));
                    }
                    _ => {}
                }
            }
        }
        all
    }

    /// What an event makes it say and write, without notices.
    fn does(&mut self, event: impl Into<Event>) -> Vec<Action> {
        let is_work = |action: &Action| matches!(action, Action::Send(_) | Action::Persist(_) | Action::Restore(_));
        self.step(event).into_iter().filter(is_work).collect()
    }

    pub fn take_snapshot(&mut self, state: &'static str) -> Vec<Action> {
        let snapshot = self.describe(state);
        self.give_pieces(snapshot)
    }

    /// A snapshot, piece after piece of four bytes.
    fn give_pieces(&mut self, snapshot: Snapshot) -> Vec<Action> {
        pieces(snapshot, 4).into_iter().flat_map(|piece| self.step(piece)).collect()
    }

    pub fn describe(&self, state: &'static str) -> Snapshot {
        Snapshot { meta: self.node.describe_snapshot(digest(state)).unwrap(), state: state.into() }
    }

    pub fn terms(&self) -> Vec<u64> {
        let storage = self.node.storage();
        let held = storage.entries(storage.first_index(), storage.last_index(), usize::MAX).unwrap();
        held.iter().map(|entry| entry.term.0).collect()
    }
}

fn config(id: u32) -> Config {
    Config { max_chunk_bytes: 4, tail_entries: 0, ..Config::new(NodeId(id)) }
}

fn three() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId))
}

fn storage(terms: &[u64], term: u64) -> MemStorage {
    let hard_state = HardState { current_term: Term(term), voted_for: None };
    MemStorage::with_log(three(), hard_state, entries(terms)).unwrap()
}

/// Toy digest of a state.
pub fn digest(state: &str) -> Digest {
    let mut digest = Digest([0; 32]);
    digest.0[..state.len().min(32)].copy_from_slice(&state.as_bytes()[..state.len().min(32)]);
    digest
}

pub fn meta(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_included_index: LogIndex(index),
        last_included_term: Term(term),
        digest: None,
        configuration: three(),
        state: Some(digest("state")),
    }
}

pub fn chunk(meta: &SnapshotMeta, offset: u64, data: &'static str, done: bool) -> SnapshotChunk {
    SnapshotChunk { meta: meta.clone(), offset, data: data.into(), done }
}

/// From the leader of term 2, which is node 2.
pub fn install(meta: &SnapshotMeta, offset: u64, data: &'static str, done: bool) -> Message {
    message(2, 1, 2, Body::InstallSnapshot(chunk(meta, offset, data, done).into()))
}

/// The leader of term 2 finds its log there up to `commit`, and has committed that.
fn commits(terms: &[u64], commit: u64) -> Message {
    let term = commit.checked_sub(1).map_or(0, |at| terms[at as usize]);
    let append = appended((commit, term), commit, vec![]);
    message(2, 1, 2, Body::AppendEntries(append))
}

/// Entries after the one at (index, term).
pub fn appended((index, term): (u64, u64), commit: u64, entries: Vec<Entry>) -> AppendEntries {
    AppendEntries {
        prev_log_index: LogIndex(index),
        prev_log_term: Term(term),
        prev_log_hash: None,
        leader_commit: LogIndex(commit),
        entries: entries.into(),
    }
}

pub fn noops(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    indexes.map(|index| Entry { index: LogIndex(index), term: Term(term), payload: Payload::Noop }).collect()
}

fn accepted(match_index: u64) -> Body {
    Body::AppendEntriesResponse(
        Incarnation::UNKNOWN,
        AppendEntriesResponse::Accepted { match_index: LogIndex(match_index) },
    )
}

/// An answer to the chunk at `offset`.
fn received(index: u64, offset: u64, next_offset: u64) -> Body {
    let response = InstallSnapshotResponse { last_included_index: LogIndex(index), offset, next_offset };
    Body::InstallSnapshotResponse(Incarnation::UNKNOWN, response)
}

fn send(from: u32, to: u32, term: u64, body: Body) -> Action {
    Action::Send(message(from, to, term, body))
}

pub fn write(id: u64, op: WriteOp) -> Action {
    Action::Persist(Write { id: WriteId(id), op })
}

/// What a leader sends to a follower: chunks as (offset, bytes, last), appends as (prev, number of entries).
fn sent(actions: &[Action], to: u32) -> Vec<String> {
    let said = |action: &Action| match action {
        Action::Send(Message { to: receiver, body, .. }) if receiver.0 == to => Some(match body {
            Body::InstallSnapshot(chunk) => {
                let end = if chunk.done { " done" } else { "" };
                format!("snapshot {} from {}: {:?}{end}", chunk.meta.last_included_index, chunk.offset, chunk.data)
            }
            Body::AppendEntries(AppendEntries { prev_log_index, entries, .. }) => {
                format!("append after {prev_log_index}: {}", entries.len())
            }
            other => format!("{other:?}"),
        }),
        _ => None,
    };
    actions.iter().filter_map(said).collect()
}

// Taking a snapshot.

#[test]
fn a_snapshot_is_written_in_chunks_and_installed_over_the_log() {
    let mut solo = Solo::follower(&[1, 1, 2, 2, 2], 4);
    solo.node.step(Event::Tick);
    let meta = SnapshotMeta { state: Some(digest("123456789")), ..meta(4, 2) };
    assert_eq!(solo.describe("123456789").meta, meta);
    let actions = solo.take_snapshot("123456789");
    let write_chunk =
        |id, offset, data, done| write(id, WriteOp::SnapshotChunk(chunk(&meta, offset, data, done).into()));
    let installed = [
        write_chunk(1, 0, "1234", false),
        write_chunk(2, 4, "5678", false),
        write_chunk(3, 8, "9", true),
        write(4, WriteOp::InstallSnapshot { index: LogIndex(4), keep_from: Some(LogIndex(5)) }),
        Action::SnapshotInstalled { index: LogIndex(4), first_index: LogIndex(5) },
    ];
    assert_eq!(actions, installed);
    assert_eq!(solo.node.storage().snapshot_meta(), Ok(meta));
    assert_eq!(solo.terms(), [2]);
    let status = solo.node.status();
    assert_eq!((status.snapshot_index, status.first_index, status.last_index), (LogIndex(4), LogIndex(5), LogIndex(5)));
}

#[test]
fn an_empty_state_and_one_of_whole_chunks_end_with_their_last_chunk() {
    for (state, chunks) in
        [("", vec![("", true)]), ("1234", vec![("1234", true)]), ("12345678", vec![("1234", false), ("5678", true)])]
    {
        let mut solo = Solo::follower(&[1], 1);
        let written = solo.take_snapshot(state).into_iter().filter_map(|action| match action {
            Action::Persist(Write { op: WriteOp::SnapshotChunk(chunk), .. }) => Some((chunk.data, chunk.done)),
            _ => None,
        });
        let expected: Vec<(Bytes, bool)> = chunks.into_iter().map(|(data, done)| (data.into(), done)).collect();
        assert_eq!(written.collect::<Vec<_>>(), expected, "{state:?}");
        assert_eq!(solo.node.storage().snapshot_chunk(LogIndex(1), 0, 100).unwrap(), state);
    }
}

#[test]
fn compaction_keeps_a_tail_for_followers_that_lag_a_little() {
    let config = Config { tail_entries: 2, ..config(1) };
    let mut solo = Solo::leader(config, &[1, 1, 1, 2, 2]);
    solo.take_snapshot("s");
    assert_eq!((solo.node.status().snapshot_index, solo.node.status().first_index), (LogIndex(6), LogIndex(5)));
    assert_eq!(solo.terms(), [2, 3]);
    // Node 3 holds up to 4: the tail serves it. Without entry 4, whose place is compacted, it needs the snapshot.
    let rejected = |hint| {
        let (hint_index, hint_term) = (LogIndex(hint), Term(2));
        let answer = AppendEntriesResponse::Rejected { prev_log_index: LogIndex(5), hint_index, hint_term };
        message(3, 1, 3, Body::AppendEntriesResponse(Incarnation::UNKNOWN, answer))
    };
    assert_eq!(sent(&solo.step(rejected(4)), 3), ["append after 4: 1"]);
    let lower =
        AppendEntriesResponse::Rejected { prev_log_index: LogIndex(4), hint_index: LogIndex(3), hint_term: Term(1) };
    let actions = solo.step(message(3, 1, 3, Body::AppendEntriesResponse(Incarnation::UNKNOWN, lower)));
    assert_eq!(sent(&actions, 3), [r#"snapshot 6 from 0: b"s" done"#]);
    // A second snapshot moves the tail along.
    solo.step(Event::Propose(vec!["x".into()]));
    solo.step(message(2, 1, 3, accepted(7)));
    solo.take_snapshot("t");
    assert_eq!((solo.node.status().snapshot_index, solo.node.status().first_index), (LogIndex(7), LogIndex(6)));
    // The tail never grows backwards: what is gone is gone.
    let config = Config { tail_entries: 100, ..self::config(1) };
    let kept = Solo::new(config, solo.node.storage().clone().reopen());
    assert_eq!(kept.node.status().first_index, LogIndex(6));
}

#[test]
fn s5_a_snapshot_of_what_was_not_applied_is_refused() {
    let refused = |solo: &mut Solo, snapshot: Snapshot, refusal| {
        let before = solo.node.status();
        assert_eq!(solo.give_pieces(snapshot), [Action::SnapshotRefused(refusal)]);
        assert_eq!(solo.node.status(), before);
    };
    let mut solo = Solo::follower(&[1, 1, 2, 2], 3);
    let right = solo.describe("s");
    let relabelled = |change: fn(&mut SnapshotMeta)| {
        let mut wrong = right.clone();
        change(&mut wrong.meta);
        wrong
    };
    refused(&mut solo, relabelled(|meta| meta.last_included_index = LogIndex(4)), Refusal::NotApplied);
    refused(&mut solo, relabelled(|meta| meta.last_included_term = Term(1)), Refusal::NotApplied);
    refused(&mut solo, relabelled(|meta| meta.digest = Some(Digest([1; 32]))), Refusal::NotApplied);
    refused(&mut solo, relabelled(|meta| meta.configuration = Configuration::new([NodeId(1)])), Refusal::NotApplied);
    solo.take_snapshot("s");
    refused(&mut solo, right.clone(), Refusal::Unchanged);
    // A state written down earlier is taken, as long as nothing newer is.
    let earlier = Solo::follower(&[1, 1, 2, 2], 2).describe("e");
    let mut solo = Solo::follower(&[1, 1, 2, 2], 3);
    solo.give_pieces(earlier);
    assert_eq!((solo.node.status().snapshot_index, solo.terms()), (LogIndex(2), vec![2, 2]));
    // A node that halts for it answers, and so does a halted one.
    let mut unreadable = Solo::follower(&[1, 1, 2, 2], 3);
    *unreadable.node.storage_mut() = MemStorage::new(three());
    let actions = unreadable.give_pieces(right.clone());
    assert!(matches!(actions[..], [Action::SnapshotRefused(Refusal::Halted), Action::Halt(_)]), "{actions:?}");
    solo.step(Event::WriteFailed(StorageError::Io { what: "gone".into() }));
    refused(&mut solo, right, Refusal::Halted);
}

#[test]
fn a_restarted_node_goes_on_from_its_snapshot() {
    let mut solo = Solo::follower(&[1, 1, 2, 2, 2], 4);
    solo.take_snapshot("s");
    let again = Solo::new(config(1), solo.node.storage().clone().reopen());
    let status = again.node.status();
    assert_eq!((status.commit_index, status.last_applied, status.last_index), (LogIndex(4), LogIndex(4), LogIndex(5)));
    assert_eq!(again.node.digest(LogIndex(4)), Ok(None));
    assert!(matches!(again.node.digest(LogIndex(3)), Err(StorageError::Compacted { .. })), "fault L7: no zero");
}

// Sending one.

/// Node 1 leads {1,2,3} with everything up to 3 compacted; node 3 is empty and has said so.
fn sender(state: &'static str) -> (Solo, Vec<Action>) {
    let mut solo = Solo::leader(config(1), &[1, 2]);
    solo.take_snapshot(state);
    let actions = solo.step(empty(2));
    (solo, actions)
}

/// Node 3 holds nothing where it was asked for an entry after `prev`.
fn empty(prev: u64) -> Message {
    let (hint_index, hint_term) = (LogIndex(0), Term(0));
    let answer = AppendEntriesResponse::Rejected { prev_log_index: LogIndex(prev), hint_index, hint_term };
    message(3, 1, 3, Body::AppendEntriesResponse(Incarnation::UNKNOWN, answer))
}

fn answers(round: u64) -> Message {
    message(3, 1, 3, Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round }))
}

#[test]
fn l11_a_follower_whose_entries_are_compacted_gets_the_snapshot_chunk_by_chunk() {
    let (mut solo, actions) = sender("123456789");
    assert_eq!(sent(&actions, 3), [r#"snapshot 3 from 0: b"1234""#]);
    let state = |solo: &Solo| solo.node.status().followers[1].1.state();
    assert_eq!(state(&solo), ProgressState::Snapshot { index: LogIndex(3) });
    assert_eq!(sent(&solo.step(message(3, 1, 3, received(3, 0, 4))), 3), [r#"snapshot 3 from 4: b"5678""#]);
    assert_eq!(sent(&solo.step(message(3, 1, 3, received(3, 4, 8))), 3), [r#"snapshot 3 from 8: b"9" done"#]);
    // What is proposed meanwhile waits, and follows once the snapshot is installed.
    assert_eq!(sent(&solo.step(Event::Propose(vec!["x".into()])), 3), Vec::<String>::new());
    assert_eq!(sent(&solo.step(message(3, 1, 3, received(3, 8, 9))), 3), [r#"snapshot 3 from 9: b"" done"#]);
    assert_eq!(sent(&solo.step(message(3, 1, 3, accepted(3))), 3), ["append after 3: 1"]);
    assert_eq!(state(&solo), ProgressState::Replicate);
}

#[test]
fn a_chunk_names_the_exact_snapshot_in_full() {
    let (solo, actions) = sender("123");
    let described = SnapshotMeta { state: Some(digest("123")), ..meta(3, 3) };
    assert_eq!(solo.node.storage().snapshot_meta(), Ok(described.clone()));
    let expected = Body::InstallSnapshot(chunk(&described, 0, "123", true).into());
    assert_eq!(actions, [send(1, 3, 3, expected)]);
}

#[test]
fn a_repeated_answer_sends_nothing_twice() {
    let (mut solo, _) = sender("123456789");
    assert_eq!(sent(&solo.step(message(3, 1, 3, received(3, 0, 4))), 3).len(), 1);
    assert!(solo.step(message(3, 1, 3, received(3, 0, 4))).is_empty());
    assert!(solo.step(message(3, 1, 3, received(2, 4, 8))).is_empty(), "of another snapshot");
    assert!(solo.step(empty(3)).is_empty(), "a rejection that came late");
    assert!(solo.step(message(2, 1, 3, received(3, 0, 4))).is_empty(), "from one that needs none");
}

/// Found by simulation: a late copy of an answer took the sending back, the answer to what was sent then took it forward
/// again, each of them with a chunk of its own, until the links were full of chunks.
#[test]
fn chunks_and_answers_that_come_twice_in_any_order_do_not_multiply() {
    const STATE: &str = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz";
    let said = |actions: Vec<Action>| {
        actions.into_iter().filter_map(|action| match action {
            Action::Send(message) => Some(message),
            _ => None,
        })
    };
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut leader, first) = sender(STATE);
        let mut follower = Solo::new(Config { max_chunk_bytes: 4, ..Config::new(NodeId(3)) }, storage(&[], 2));
        let mut on_the_way: Vec<Message> = said(first).collect();
        let mut chunks = 0;
        while !on_the_way.is_empty() {
            let message = on_the_way.swap_remove(rng.random_range(0..on_the_way.len()));
            chunks += usize::from(matches!(message.body, Body::InstallSnapshot(_)));
            assert!(chunks < 20 * STATE.len() / 4, "seed {seed}: there is no end of chunks");
            let to = if message.to == NodeId(1) { &mut leader } else { &mut follower };
            for message in said(to.step(message)) {
                on_the_way.extend([message.clone(), message]);
            }
        }
    }
}

#[test]
fn a_follower_that_lost_its_chunks_gets_them_again_from_where_it_says() {
    let (mut solo, _) = sender("123456789");
    solo.step(message(3, 1, 3, received(3, 0, 4)));
    assert_eq!(sent(&solo.step(message(3, 1, 3, received(3, 4, 0))), 3), [r#"snapshot 3 from 0: b"1234""#]);
    assert_eq!(sent(&solo.step(message(3, 1, 3, received(3, 0, 8))), 3), [r#"snapshot 3 from 8: b"9" done"#]);
    let beyond = solo.step(message(3, 1, 3, received(3, 8, 400)));
    assert_eq!(sent(&beyond, 3), [r#"snapshot 3 from 0: b"1234""#], "there is nothing at 400: from the beginning");
}

#[test]
fn a_lost_chunk_is_sent_again_two_heartbeats_later() {
    let (mut solo, _) = sender("123456789");
    for _ in 0..5 {
        solo.step(Event::Tick);
        assert_eq!(sent(&solo.step(answers(0)), 3), Vec::<String>::new());
    }
    solo.step(Event::Tick);
    assert_eq!(sent(&solo.step(answers(0)), 3), [r#"snapshot 3 from 0: b"1234""#]);
    assert_eq!(sent(&solo.step(answers(0)), 3), Vec::<String>::new());
}

#[test]
fn a_snapshot_taken_since_replaces_the_one_on_its_way() {
    let (mut solo, _) = sender("123456789");
    solo.step(Event::Propose(vec!["x".into()]));
    solo.step(message(2, 1, 3, accepted(4)));
    solo.take_snapshot("new");
    assert_eq!(sent(&solo.step(message(3, 1, 3, received(3, 0, 4))), 3), [r#"snapshot 4 from 0: b"new" done"#]);
}

#[test]
fn a_snapshot_is_sent_once_it_is_durable_here() {
    let mut solo = Solo::leader(config(1), &[1, 2]);
    solo.prompt = false;
    let writes = solo.take_snapshot("123");
    let last = writes.iter().filter(|action| matches!(action, Action::Persist(_))).count() as u64;
    assert_eq!(sent(&solo.step(empty(2)), 3), Vec::<String>::new());
    let Some(Action::Persist(install)) = writes.iter().rfind(|action| matches!(action, Action::Persist(_))) else {
        panic!("{last} writes")
    };
    solo.step(Event::Persisted(install.id));
    assert_eq!(sent(&solo.step(answers(0)), 3), [r#"snapshot 3 from 0: b"123" done"#]);
}

/// Conformance 16 (a): an acknowledgement of the pending snapshot's entry, by whatever way, resumes at once.
#[test]
fn conformance_16a_an_acknowledgement_of_the_pending_entry_resumes() {
    let (mut solo, _) = sender("123456789");
    solo.step(Event::Propose(vec!["x".into()]));
    let actions = solo.step(message(3, 1, 3, accepted(3)));
    assert_eq!(sent(&actions, 3), ["append after 3: 1"]);
    let (_, progress) = &solo.node.status().followers[1];
    assert_eq!(
        (progress.state(), progress.match_index(), progress.next_index().0),
        (ProgressState::Replicate, LogIndex(3), 5)
    );
}

/// Conformance 16 (b): so does one of an earlier entry, from which the log goes on.
#[test]
fn conformance_16b_an_acknowledgement_that_the_log_continues_resumes() {
    let mut solo = Solo::leader(Config { tail_entries: 1, ..config(1) }, &[1, 2, 2]);
    solo.take_snapshot("12345");
    assert_eq!((solo.node.status().snapshot_index.0, solo.node.status().first_index.0), (4, 4));
    solo.step(empty(3));
    assert_eq!(solo.node.status().followers[1].1.state(), ProgressState::Snapshot { index: LogIndex(4) });
    assert_eq!(sent(&solo.step(message(3, 1, 3, accepted(2))), 3), Vec::<String>::new(), "3 is compacted");
    assert_eq!(solo.node.status().followers[1].1.state(), ProgressState::Snapshot { index: LogIndex(4) });
    assert_eq!(sent(&solo.step(message(3, 1, 3, accepted(3))), 3), ["append after 3: 1"]);
    assert_eq!(solo.node.status().followers[1].1.state(), ProgressState::Replicate);
}

#[test]
fn a_follower_that_is_sent_a_snapshot_is_heard() {
    let (mut solo, _) = sender("123456789");
    for tick in 0..40 {
        solo.step(Event::Tick);
        solo.step(message(3, 1, 3, received(3, 4 * ((tick + 1) % 2), 4 * (tick % 2))));
    }
    assert_eq!(solo.node.role(), raft_core::RoleName::Leader, "its answers are a quorum with the leader (E9)");
}

// Receiving one.

#[test]
fn chunks_are_answered_once_durable_and_the_whole_is_restored_installed_and_accepted() {
    let mut solo = Solo::follower(&[1], 1);
    solo.prompt = false;
    let meta = meta(9, 2);
    let write_chunk =
        |id, offset, data, done| write(id, WriteOp::SnapshotChunk(chunk(&meta, offset, data, done).into()));
    assert_eq!(solo.step(install(&meta, 0, "1234", false)), [write_chunk(1, 0, "1234", false)]);
    assert_eq!(solo.node.status().receiving, Some((LogIndex(9), 4)));
    assert_eq!(solo.step(Event::Persisted(WriteId(1))), [send(1, 2, 2, received(9, 0, 4))]);
    assert_eq!(solo.step(install(&meta, 4, "5", true)), [write_chunk(2, 4, "5", true)]);
    // Nothing comes after the last chunk.
    assert_eq!(solo.step(install(&meta, 5, "", true)), [send(1, 2, 2, received(9, 5, 5))]);
    let restore = [Action::Restore(meta.clone().into()), send(1, 2, 2, received(9, 4, 5))];
    assert_eq!(solo.step(Event::Persisted(WriteId(2))), restore);
    assert_eq!(solo.node.storage().snapshot_chunk(LogIndex(9), 0, 100).unwrap(), "12345");
    let installed = [
        write(3, WriteOp::InstallSnapshot { index: LogIndex(9), keep_from: None }),
        Action::SnapshotInstalled { index: LogIndex(9), first_index: LogIndex(10) },
        Action::MembershipChanged(three().into()),
    ];
    assert_eq!(solo.step(Event::Restored(LogIndex(9))), installed);
    let status = solo.node.status();
    assert_eq!((status.commit_index, status.last_applied, status.last_index), (LogIndex(9), LogIndex(9), LogIndex(9)));
    assert_eq!((status.persisted_index, status.receiving), (LogIndex(1), None), "not durable yet");
    // An append after it is accepted no sooner than the snapshot is durable.
    let append = appended((8, 2), 9, vec![]);
    assert!(solo.step(message(2, 1, 2, Body::AppendEntries(append))).is_empty());
    assert_eq!(solo.step(Event::Persisted(WriteId(3))), [send(1, 2, 2, accepted(9))]);
    assert_eq!(solo.node.status().persisted_index, LogIndex(9));
    // And the log goes on.
    solo.prompt = true;
    let entry = Entry { index: LogIndex(10), term: Term(2), payload: Payload::Noop };
    let append = appended((9, 2), 10, vec![entry]);
    let actions = solo.step(message(2, 1, 2, Body::AppendEntries(append)));
    assert!(actions.contains(&send(1, 2, 2, accepted(10))) && solo.terms() == [2], "{actions:?}");
    assert_eq!(solo.node.last_applied(), LogIndex(10));
}

#[test]
fn s1_an_older_snapshot_takes_nothing_back() {
    let mut solo = Solo::follower(&[1, 1, 2, 2], 3);
    assert_eq!(solo.does(install(&meta(2, 1), 0, "old", true)), [send(1, 2, 2, accepted(3))]);
    assert_eq!(solo.does(install(&meta(3, 2), 0, "old", true)), [send(1, 2, 2, accepted(3))]);
    assert_eq!((solo.node.status().snapshot_index, solo.terms()), (LogIndex(0), vec![1, 1, 2, 2]));
    // Below the log's own snapshot as well.
    solo.take_snapshot("s");
    assert_eq!(solo.does(install(&meta(2, 1), 0, "old", true)), [send(1, 2, 2, accepted(3))]);
}

#[test]
fn a_snapshot_of_an_entry_that_the_log_holds_is_not_needed() {
    let mut solo = Solo::follower(&[1, 1, 2, 2], 1);
    let actions = solo.step(install(&meta(3, 2), 0, "1234", false));
    assert!(actions.contains(&send(1, 2, 2, accepted(3))), "{actions:?}");
    assert_eq!((solo.node.commit_index(), solo.node.last_applied()), (LogIndex(3), LogIndex(3)));
    assert_eq!((solo.node.status().receiving, solo.terms()), (None, vec![1, 1, 2, 2]));
}

#[test]
fn s2_a_conflicting_log_is_discarded() {
    // Entry 3 is of term 1 here and of term 2 in the snapshot: it and what follows it go.
    let mut solo = Solo::follower(&[1, 1, 1, 1, 1], 1);
    solo.step(install(&meta(3, 2), 0, "123", true));
    assert_eq!((solo.node.status().last_index, solo.terms()), (LogIndex(3), vec![]));
    assert_eq!(solo.node.storage().term(LogIndex(3)), Ok(Term(2)));
    assert_eq!(solo.node.status().head, None);
}

#[test]
fn s3_a_restart_in_the_middle_starts_again() {
    let mut solo = Solo::follower(&[1], 1);
    assert_eq!(solo.does(install(&meta(9, 2), 0, "1234", false)).last(), Some(&send(1, 2, 2, received(9, 0, 4))));
    let mut again = Solo::new(config(1), solo.node.storage().clone().reopen());
    assert_eq!((again.node.status().snapshot_index, again.terms()), (LogIndex(0), vec![1]));
    assert_eq!(again.does(install(&meta(9, 2), 4, "5678", false)), [send(1, 2, 2, received(9, 4, 0))]);
    again.step(install(&meta(9, 2), 0, "1234", false));
    again.step(install(&meta(9, 2), 4, "5", true));
    assert_eq!(again.node.storage().snapshot_chunk(LogIndex(9), 0, 100).unwrap(), "12345");
    assert_eq!(again.node.last_applied(), LogIndex(9));
}

#[test]
fn s4_chunks_of_two_snapshots_are_never_mixed() {
    let mut solo = Solo::follower(&[1], 1);
    solo.step(install(&meta(9, 2), 0, "1234", false));
    // Out of order, repeated, and of another snapshot: each is told where to go on.
    assert_eq!(solo.does(install(&meta(9, 2), 8, "9", true)), [send(1, 2, 2, received(9, 8, 4))]);
    assert_eq!(solo.does(install(&meta(9, 2), 0, "1234", false)), [send(1, 2, 2, received(9, 0, 4))]);
    let others = [
        meta(10, 2),
        SnapshotMeta { last_included_term: Term(1), ..meta(9, 2) },
        SnapshotMeta { state: Some(digest("other")), ..meta(9, 2) },
        SnapshotMeta { configuration: Configuration::new([NodeId(1)]), ..meta(9, 2) },
    ];
    for other in &others {
        let index = other.last_included_index.0;
        assert_eq!(solo.does(install(other, 4, "5678", false)), [send(1, 2, 2, received(index, 4, 0))], "{other:?}");
    }
    assert_eq!(solo.node.status().receiving, Some((LogIndex(9), 4)), "and the one under way goes on");
    // The same snapshot in the words of another leader, or of a later term, begins anew.
    let mut later = install(&meta(9, 2), 4, "5678", false);
    later.term = Term(3);
    let actions = solo.does(later.clone());
    assert_eq!(actions.last(), Some(&send(1, 2, 3, received(9, 4, 0))));
    // A snapshot that begins replaces the one under way.
    solo.step(message(2, 1, 3, Body::InstallSnapshot(chunk(&meta(10, 2), 0, "abcd", false).into())));
    assert_eq!(solo.node.status().receiving, Some((LogIndex(10), 4)));
    solo.step(message(2, 1, 3, Body::InstallSnapshot(chunk(&meta(10, 2), 4, "e", true).into())));
    assert_eq!(solo.node.storage().snapshot_chunk(LogIndex(10), 0, 100).unwrap(), "abcde");
}

#[test]
fn s5_a_snapshot_that_the_state_machine_refuses_costs_nothing() {
    let mut solo = Solo::follower(&[1, 1], 1);
    solo.prompt = false;
    solo.step(install(&meta(9, 2), 0, "bad", true));
    solo.step(Event::Persisted(WriteId(1)));
    assert_eq!(solo.step(Event::Restored(LogIndex(8))), [], "nobody asked");
    assert_eq!(solo.step(Event::RestoreFailed(LogIndex(8))), [], "nobody asked");
    let dropped = Action::MessageDropped { from: NodeId(2), reason: PeerFault::BadSnapshot };
    assert_eq!(solo.step(Event::RestoreFailed(LogIndex(9))), [dropped]);
    assert_eq!(solo.step(Event::Restored(LogIndex(9))), [], "it was given up");
    assert_eq!((solo.node.status().receiving, solo.terms()), (None, vec![1, 1]));
    assert_eq!(solo.step(install(&meta(9, 2), 3, "", true)), [send(1, 2, 2, received(9, 3, 0))], "sent anew");
}

#[test]
fn nothing_is_applied_while_a_state_is_restored() {
    let mut solo = Solo::follower(&[1, 1], 1);
    solo.prompt = false;
    solo.step(install(&meta(9, 2), 0, "s", true));
    solo.step(Event::Persisted(WriteId(1)));
    assert_eq!(solo.does(commits(&[1, 1], 2)).len(), 1, "the append's answer");
    assert_eq!((solo.node.commit_index(), solo.node.last_applied()), (LogIndex(2), LogIndex(1)));
    let refused = solo.describe("mine");
    assert_eq!(
        solo.give_pieces(refused),
        [Action::SnapshotRefused(Refusal::SnapshotInProgress)].to_vec(),
        "entry 1 may be taken down later"
    );
    // Another snapshot has to wait, whoever sends it.
    assert_eq!(solo.does(install(&meta(12, 2), 0, "t", true)), [send(1, 2, 2, received(12, 0, 0))]);
    solo.step(Event::Restored(LogIndex(9)));
    assert_eq!(solo.node.last_applied(), LogIndex(9));
}

#[test]
fn a_snapshot_that_the_log_has_overtaken_is_forgotten() {
    let mut solo = Solo::follower(&[1, 1], 1);
    solo.prompt = false;
    solo.step(install(&meta(9, 2), 0, "1234", false));
    solo.step(Event::Persisted(WriteId(1)));
    let append = appended((2, 1), 10, noops(3..=10, 2));
    solo.step(message(2, 1, 2, Body::AppendEntries(append)));
    solo.prompt = true;
    solo.step(Event::Persisted(WriteId(2)));
    assert_eq!(solo.node.last_applied(), LogIndex(10));
    // The local snapshot is not held up by what will never come.
    solo.take_snapshot("mine");
    assert_eq!((solo.node.status().snapshot_index, solo.node.status().receiving), (LogIndex(10), None));
}

/// It has all of it by the time that the snapshot is written down, and does not know that it is committed.
#[test]
fn a_snapshot_of_an_entry_that_came_meanwhile_keeps_the_log() {
    let mut solo = Solo::follower(&[1, 1], 1);
    solo.prompt = false;
    solo.step(install(&meta(5, 2), 0, "state", true));
    let append = appended((2, 1), 2, noops(3..=7, 2));
    solo.step(message(2, 1, 2, Body::AppendEntries(append)));
    assert!(solo.step(Event::Persisted(WriteId(1))).contains(&Action::Restore(meta(5, 2).into())));
    let install = WriteOp::InstallSnapshot { index: LogIndex(5), keep_from: Some(LogIndex(1)) };
    assert_eq!(solo.does(Event::Restored(LogIndex(5)))[0], write(3, install));
    assert_eq!((solo.terms(), solo.node.status().commit_index), (vec![1, 1, 2, 2, 2, 2, 2], LogIndex(5)));
}

#[test]
fn a_snapshot_given_up_by_its_leader_does_not_hold_up_ones_own() {
    let mut solo = Solo::follower(&[1, 1], 2);
    solo.step(install(&meta(9, 2), 0, "1234", false));
    assert_eq!(solo.take_snapshot("mine"), [Action::SnapshotRefused(Refusal::SnapshotInProgress)]);
    solo.step(message(3, 1, 3, Body::Heartbeat(Heartbeat { leader_commit: LogIndex(2), round: 0 })));
    solo.take_snapshot("mine");
    assert_eq!((solo.node.status().snapshot_index, solo.node.status().receiving), (LogIndex(2), None));
}

/// Two leaders, of whom one is wrong: what is committed here is not taken back.
#[test]
fn a_restored_snapshot_that_contradicts_what_was_committed_meanwhile_halts() {
    let mut solo = Solo::follower(&[1, 1], 1);
    solo.prompt = false;
    solo.step(install(&meta(9, 2), 0, "s", true));
    solo.step(Event::Persisted(WriteId(1)));
    let append = appended((2, 1), 10, noops(3..=10, 3));
    solo.step(message(3, 1, 3, Body::AppendEntries(append)));
    assert_eq!(solo.node.commit_index(), LogIndex(10));
    assert_eq!(solo.step(Event::Restored(LogIndex(9))), [Action::Halt(Fault::Diverged { index: LogIndex(9) })]);
}

#[test]
fn a_snapshot_that_contradicts_what_is_committed_is_not_accepted() {
    let mut solo = Solo::follower(&[1, 1, 2, 2], 3);
    let diverged = AppendEntriesResponse::Diverged { prev_log_index: LogIndex(2) };
    let answer = send(1, 2, 2, Body::AppendEntriesResponse(Incarnation::UNKNOWN, diverged));
    assert_eq!(solo.does(install(&meta(2, 2), 0, "other", true)), [answer]);
}

/// Node 2 lost its disk, which only the configuration in the snapshot tells: its vote was counted before.
#[test]
fn m10_a_candidate_that_restores_a_snapshot_has_no_votes() {
    let mut solo = Solo::follower(&[1], 1);
    let pinned = SnapshotMeta { configuration: three().with_incarnation(NodeId(2), Incarnation(20)), ..meta(9, 2) };
    solo.prompt = false;
    solo.step(install(&pinned, 0, "s", true));
    solo.step(Event::Persisted(WriteId(1)));
    solo.step(Event::Campaign);
    let pre = raft_core::PreVoteResponse { next_term: Term(3), vote_granted: true };
    solo.step(message(3, 1, 2, Body::PreVoteResponse(Incarnation(30), pre)));
    let vote = RequestVoteResponse { vote_granted: true };
    solo.step(message(2, 1, 3, Body::RequestVoteResponse(Incarnation(21), vote)));
    assert_eq!(solo.node.role(), raft_core::RoleName::Candidate, "its own vote is not durable yet");
    solo.step(Event::Restored(LogIndex(9)));
    solo.step(Event::Persisted(WriteId(3)));
    assert_eq!(solo.node.role(), raft_core::RoleName::Follower);
    assert_eq!(solo.node.status().configuration, pinned.configuration);
}

#[test]
fn a_chunk_that_no_leader_sends_is_dropped() {
    let wrong = [
        meta(0, 0),
        meta(0, 1),
        meta(9, 0),
        meta(9, 3),
        SnapshotMeta { digest: Some(Digest([1; 32])), ..meta(9, 2) },
        SnapshotMeta { state: None, ..meta(9, 2) },
        SnapshotMeta { configuration: Configuration::new([]), ..meta(9, 2) },
    ];
    for meta in &wrong {
        let mut solo = Solo::follower(&[1], 1);
        let dropped = Action::MessageDropped { from: NodeId(2), reason: PeerFault::Malformed };
        assert_eq!(solo.step(install(meta, 0, "s", true)), [dropped], "{meta:?}");
    }
    let mut solo = Solo::follower(&[1], 1);
    let dropped = Action::MessageDropped { from: NodeId(2), reason: PeerFault::Malformed };
    assert_eq!(solo.step(install(&meta(9, 2), u64::MAX, "s", true)), [dropped]);
}

#[test]
fn an_old_leaders_chunk_is_answered_with_the_term() {
    let mut solo = Solo::follower(&[1], 1);
    let mut old = install(&meta(9, 1), 0, "s", true);
    old.term = Term(1);
    assert_eq!(solo.step(old), [send(1, 2, 2, received(9, 0, 0))]);
    assert_eq!(solo.node.status().receiving, None);
}

#[test]
fn a_chunk_of_a_new_leader_is_followed() {
    let mut solo = Solo::follower(&[1], 1);
    let mut newer = install(&meta(9, 2), 0, "s", false);
    (newer.term, newer.from) = (Term(3), NodeId(3));
    solo.step(newer);
    assert_eq!((solo.node.status().leader, solo.node.status().term), (Some(NodeId(3)), Term(3)));
    for _ in 0..14 {
        solo.step(Event::Tick);
    }
    assert_eq!(solo.node.role(), raft_core::RoleName::Follower, "a chunk resets the election timer");
}

#[test]
fn m8_m9_the_configuration_is_the_snapshots_own() {
    let joint = Configuration::joint([1, 2].map(NodeId), [1, 2, 3].map(NodeId), [NodeId(4)]);
    // An uncommitted configuration in the log that the snapshot replaces goes with it.
    let mut solo = Solo::follower(&[1], 1);
    let other = Configuration::joint([NodeId(1)], [1, 2, 3].map(NodeId), []);
    let entry = Entry { index: LogIndex(2), term: Term(2), payload: Payload::Configuration(other.to_bytes().into()) };
    let append = appended((1, 1), 1, vec![entry]);
    solo.step(message(2, 1, 2, Body::AppendEntries(append)));
    assert_eq!(solo.node.status().configuration, other);
    let meta = SnapshotMeta { configuration: joint.clone(), ..meta(9, 2) };
    let actions = solo.step(install(&meta, 0, "s", true));
    assert!(actions.contains(&Action::MembershipChanged(joint.clone().into())), "{actions:?}");
    assert_eq!(solo.node.status().configuration, joint);
    // And it is what a restart finds, and what a snapshot taken here hands on.
    let again = Solo::new(config(1), solo.node.storage().clone().reopen());
    assert_eq!(again.node.status().configuration, joint);
    assert_eq!(again.node.describe_snapshot(digest("s")).unwrap().configuration, joint);
}

/// A leader that has applied less than it has committed describes what is applied.
#[test]
fn m8_the_configuration_is_that_of_the_last_applied_entry() {
    let mut solo = Solo::leader(config(1), &[1, 2]);
    let change = raft_core::MembershipChange {
        voters: vec![NodeId(1), NodeId(2)],
        learners: vec![],
        catch_up: false,
        addresses: vec![],
    };
    solo.step(Event::ChangeMembership(change));
    let joint = solo.node.status().configuration;
    assert!(joint.is_joint());
    assert_eq!(solo.describe("s").meta.configuration, three(), "not committed");
    // Committed, left again, and not applied: the node is not told that it is.
    let accepted = message(2, 1, 3, accepted(4));
    let mut actions = solo.node.step(accepted);
    for write in std::mem::take(&mut actions).into_iter().filter_map(|action| match action {
        Action::Persist(write) => Some(write),
        _ => None,
    }) {
        let id = write.id;
        solo.node.storage_mut().write(write).unwrap();
        solo.node.step(Event::Persisted(id));
    }
    solo.node.step(message(3, 1, 3, self::accepted(4)));
    assert!(!solo.node.status().configuration.is_joint(), "the leave is appended: {:?}", solo.node.status());
    assert_eq!(solo.describe("s").meta.configuration, three());
    solo.step(Event::Applied(LogIndex(4)));
    assert_eq!(solo.describe("s").meta.configuration, joint);
}

#[test]
fn a_chain_that_differs_at_the_snapshots_entry_is_fenced() {
    let terms = [1, 1];
    let storage = MemStorage::with_log(three(), HardState { current_term: Term(2), voted_for: None }, entries(&terms));
    let mut node = Node::new(config(1), Disk::new(storage.unwrap())).unwrap();
    let mut digest = Digest([0; 32]);
    let mut digests = vec![];
    for entry in entries(&terms) {
        digest = toy_link(&digest, &entry);
        digests.push(digest);
    }
    let wrong = SnapshotMeta { digest: Some(Digest([7; 32])), ..meta(2, 1) };
    let diverged = AppendEntriesResponse::Diverged { prev_log_index: LogIndex(2) };
    let actions = node.step(install(&wrong, 0, "s", true));
    let expected = [
        Action::PeerDiverged { peer: NodeId(2), index: LogIndex(2) },
        send(1, 2, 2, Body::AppendEntriesResponse(Incarnation::UNKNOWN, diverged)),
    ];
    assert_eq!(actions[..2], expected);
    assert_eq!(node.commit_index(), LogIndex(0));
    let right = SnapshotMeta { digest: Some(digests[1]), ..meta(2, 1) };
    assert!(node.step(install(&right, 0, "s", true)).contains(&send(1, 2, 2, accepted(2))));
    // A linked snapshot for a log that links.
    let unlinked = Action::MessageDropped { from: NodeId(2), reason: PeerFault::Malformed };
    assert_eq!(node.step(install(&meta(9, 2), 0, "s", true)), [unlinked]);
}

#[test]
fn l8_an_append_from_before_the_log_is_accepted_up_to_what_is_compacted() {
    let mut solo = Solo::follower(&[1, 1, 2], 3);
    solo.take_snapshot("s");
    let old = message(2, 1, 2, Body::AppendEntries(appended((0, 0), 3, entries(&[1, 1]))));
    assert_eq!(solo.does(old), [send(1, 2, 2, accepted(3))], "what is compacted is committed");
    let longer = message(2, 1, 2, Body::AppendEntries(appended((0, 0), 3, entries(&[1, 1, 2, 2]))));
    let actions = solo.does(longer);
    assert_eq!(actions.last(), Some(&send(1, 2, 2, accepted(4))));
    assert_eq!((solo.node.status().last_index, solo.terms()), (LogIndex(4), vec![2]), "nothing is there twice");
}

#[test]
fn a_leader_that_lacks_what_it_restored_halts() {
    // Nothing that real servers do leads here: the snapshot's entry is committed, so every later leader holds it.
    let mut solo = Solo::follower(&[1, 1], 1);
    solo.prompt = false;
    solo.step(install(&meta(9, 2), 0, "s", true));
    solo.step(Event::Persisted(WriteId(1)));
    solo.prompt = true;
    for _ in 0..30 {
        solo.step(Event::Tick);
    }
    let term = solo.node.status().term.0;
    let pre = raft_core::PreVoteResponse { next_term: Term(term + 1), vote_granted: true };
    solo.step(message(2, 1, term, Body::PreVoteResponse(Incarnation::UNKNOWN, pre)));
    let vote = RequestVoteResponse { vote_granted: true };
    solo.step(message(2, 1, term + 1, Body::RequestVoteResponse(Incarnation::UNKNOWN, vote)));
    assert_eq!(solo.node.role(), raft_core::RoleName::Leader);
    let halt = Action::Halt(Fault::Diverged { index: LogIndex(9) });
    assert_eq!(solo.step(Event::Restored(LogIndex(9))).last(), Some(&halt));
}
