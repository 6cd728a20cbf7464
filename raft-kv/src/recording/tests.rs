use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use proptest::prelude::*;
use raft_core::{
    Action, Body, Bytes, Config, Configuration, Heartbeat, HeartbeatResponse, Incarnation, MemStorage,
    MembershipChange, Message, Node, NodeId, ReadId, RoleName, SnapshotChunk, StateDigest, StateReport, Storage, Write,
    WriteId, WriteOp,
};

use super::format::{FILE_HEADER_LEN, FRAME_HEADER_LEN, STEPS, frame_header};
use super::sink::Sink;
use super::*;
use crate::block::ClusterId;
use crate::block_log::{BlockLog, LogOptions};
use crate::codec::encode_compact_into;
use crate::disk::MemDisk;

type Recorded = Node<Recorder<BlockLog<MemDisk>>>;

/// Four nodes on block logs, three of them founders, each recorded in every life, and messages that arrive as a test
/// decides.
struct Group {
    nodes: Vec<Recorded>,
    network: Vec<Message>,
    directory: tempfile::TempDir,
    seed: u64,
    window_bytes: usize,
}

#[derive(Clone, Debug)]
enum Op {
    Tick { node: usize, times: usize },
    Deliver { at: usize },
    Lose { at: usize },
    Repeat { at: usize },
    Propose { node: usize, len: usize },
    Read { node: usize },
    Sync { node: usize },
    Campaign { node: usize },
    Unreachable { node: usize },
    Fail { node: usize },
    BadDisk { node: usize, bad: bool },
    Restart { node: usize },
    Change { node: usize, voters: u32, learners: u32, catch_up: bool },
    Transfer { node: usize, to: u32 },
    HandOver { node: usize },
    Snapshot { node: usize, len: usize },
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..4_usize;
    let change = (node(), 1..16_u32, 0..16_u32, any::<bool>())
        .prop_map(|(node, voters, learners, catch_up)| Op::Change { node, voters, learners, catch_up });
    prop_oneof![
        6 => (node(), 1..20_usize).prop_map(|(node, times)| Op::Tick { node, times }),
        20 => any::<usize>().prop_map(|at| Op::Deliver { at }),
        1 => any::<usize>().prop_map(|at| Op::Lose { at }),
        1 => any::<usize>().prop_map(|at| Op::Repeat { at }),
        4 => (node(), 0..200_usize).prop_map(|(node, len)| Op::Propose { node, len }),
        2 => node().prop_map(|node| Op::Read { node }),
        10 => node().prop_map(|node| Op::Sync { node }),
        2 => node().prop_map(|node| Op::Campaign { node }),
        1 => node().prop_map(|node| Op::Unreachable { node }),
        1 => (node(), any::<bool>()).prop_map(|(node, bad)| Op::BadDisk { node, bad }),
        1 => Just(Op::Fail { node: 2 }),
        1 => node().prop_map(|node| Op::Restart { node }),
        3 => change,
        2 => (node(), 1..5_u32).prop_map(|(node, to)| Op::Transfer { node, to }),
        1 => node().prop_map(|node| Op::HandOver { node }),
        3 => (node(), 0..900_usize).prop_map(|(node, len)| Op::Snapshot { node, len }),
        3 => Just(Op::Settle),
    ]
}

impl Group {
    fn new(seed: u64, window_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut group = Self { nodes: Vec::new(), network: Vec::new(), directory, seed, window_bytes };
        for at in 0..4 {
            let node = group.node(at, MemDisk::new());
            group.nodes.push(node);
        }
        group
    }

    fn node(&self, at: usize, disk: MemDisk) -> Recorded {
        let id = NodeId(at as u32 + 1);
        let seed = self.seed.wrapping_add(at as u64);
        let config = Config {
            seed,
            window_bytes: self.window_bytes,
            max_append_bytes: 300,
            max_inflight: 2,
            max_uncommitted_bytes: 2_000,
            max_apply_bytes: 400,
            max_chunk_bytes: 200,
            tail_entries: 2,
            ..Config::new(id)
        };
        let members = Configuration::new([1, 2, 3].map(NodeId));
        let log = BlockLog::open_or_create(
            disk,
            ClusterId::from_name("test"),
            members,
            Incarnation::UNKNOWN,
            LogOptions::default(),
        )
        .unwrap();
        let recorder = Recorder::start(log, &config, self.directory.path(), u64::MAX, |what| panic!("{what}")).unwrap();
        Node::new(config, recorder).unwrap()
    }

    fn step(&mut self, at: usize, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.nodes[at].step(event) {
                match action {
                    Action::Send(message) => self.network.push(message),
                    Action::Persist(write) => {
                        if let Err(error) = self.nodes[at].storage_mut().write(write) {
                            events.push(Event::WriteFailed(error));
                        }
                    }
                    Action::Apply { last, .. } => events.push(Event::Applied(last)),
                    // The state that a test calls broken is restored by nobody.
                    Action::Restore(meta) if meta.state == Some(BROKEN) => {
                        events.push(Event::RestoreFailed(meta.last_included_index));
                    }
                    Action::Restore(meta) => events.push(Event::Restored(meta.last_included_index)),
                    _ => {}
                }
            }
        }
    }

    fn sync(&mut self, at: usize) {
        let storage = self.nodes[at].storage_mut();
        storage.inner_mut().disk_mut().sync();
        match storage.persisted() {
            Ok(write) => self.step(at, Event::Persisted(write)),
            Err(error) => self.step(at, Event::WriteFailed(error)),
        }
    }

    fn run(&mut self, op: &Op, number: u64) {
        let under_way = self.network.len();
        match *op {
            Op::Tick { node, times } => (0..times).for_each(|_| self.step(node, Event::Tick)),
            Op::Deliver { at } if under_way > 0 => {
                let message = self.network.remove(at % under_way);
                self.step(message.to.0 as usize - 1, Event::Message(message));
            }
            Op::Lose { at } if under_way > 0 => drop(self.network.remove(at % under_way)),
            Op::Repeat { at } if under_way > 0 => self.network.push(self.network[at % under_way].clone()),
            Op::Propose { node, len } => self.step(node, Event::Propose(vec![vec![7; len].into(), Bytes::new()])),
            Op::Read { node } => self.step(node, Event::Read(ReadId(number))),
            Op::Sync { node } => self.sync(node),
            Op::Campaign { node } => self.step(node, Event::Campaign),
            Op::Unreachable { node } => self.step(node, Event::Unreachable(NodeId(1))),
            Op::BadDisk { node, bad } => self.nodes[node].storage_mut().inner_mut().disk_mut().fail_reads(bad),
            Op::Fail { node } if number.is_multiple_of(3) => {
                self.step(node, Event::WriteFailed(StorageError::Io { what: "no space".into() }));
            }
            Op::Restart { node } => self.restart(node),
            Op::Change { node, voters, learners, catch_up } => {
                let (voters, learners) = (members(voters), members(learners));
                self.step(
                    node,
                    Event::ChangeMembership(MembershipChange { voters, learners, catch_up, addresses: Vec::new() }),
                );
            }
            Op::Transfer { node, to } => self.step(node, Event::TransferLeadership(NodeId(to))),
            Op::HandOver { node } => self.step(node, Event::HandOver),
            Op::Snapshot { node, len } => {
                let state = if number.is_multiple_of(5) { BROKEN } else { Digest([number as u8; 32]) };
                self.take_snapshot(node, state, len);
            }
            Op::Settle => self.settle(|_| true),
            Op::Deliver { .. } | Op::Lose { .. } | Op::Repeat { .. } | Op::Fail { .. } => {}
        }
    }

    /// Of what is applied, where that can be read.
    fn take_snapshot(&mut self, at: usize, state: Digest, len: usize) {
        if let Ok(meta) = self.nodes[at].describe_snapshot(state) {
            for offset in (0..len.max(1)).step_by(200) {
                let part = (len - offset).min(200);
                let (data, done) = (vec![9; part].into(), offset + part == len);
                let piece = SnapshotChunk { meta: meta.clone(), offset: offset as u64, data, done };
                self.step(at, Event::SnapshotPiece(piece.into()));
            }
        }
    }

    fn restart(&mut self, at: usize) {
        let disk = self.nodes[at].storage().inner().disk().crash(0, |_, _| true);
        self.nodes[at] = self.node(at, disk);
    }

    /// A leader with entries that a follower lacks and that have left its memory: it reads them from its storage.
    fn with_a_lagging_follower() -> Self {
        let mut group = Self::new(1, 0);
        group.step(0, Event::Campaign);
        group.settle(|message| message.to != NodeId(3) && message.from != NodeId(3));
        for len in 0..20 {
            group.step(0, Event::Propose(vec![vec![1; len * 10].into()]));
            group.settle(|message| message.to != NodeId(3));
        }
        for _ in 0..5 {
            group.step(0, Event::Tick);
            group.settle(|_| true);
        }
        group
    }

    /// A cluster whose second server leads servers 1, 2 and 4, after a change and a transfer.
    fn with_other_members() -> Self {
        let mut group = Self::new(1, 0);
        let change = MembershipChange {
            voters: members(0b1011),
            learners: members(0b0100),
            catch_up: true,
            addresses: Vec::new(),
        };
        let transfer = Event::TransferLeadership(NodeId(2));
        for event in
            [Event::Campaign, Event::Propose(vec![vec![1; 100].into()]), Event::ChangeMembership(change), transfer]
        {
            group.step(0, event);
            group.settle(|_| true);
            // What the followers do not know yet a heartbeat tells them.
            (0..4).for_each(|_| group.step(0, Event::Tick));
            group.settle(|_| true);
        }
        assert_eq!(group.nodes[1].role(), RoleName::Leader);
        group
    }

    /// A follower that lacks what its leader has compacted, and is sent a snapshot of `len` bytes, then what follows it.
    fn with_a_snapshot(state: Digest, len: usize) -> Self {
        let mut group = Self::new(1, 0);
        group.step(0, Event::Campaign);
        group.settle(|message| message.to != NodeId(3) && message.from != NodeId(3));
        for _ in 0..10 {
            group.step(0, Event::Propose(vec![vec![1; 50].into()]));
            group.settle(|message| message.to != NodeId(3));
        }
        group.take_snapshot(0, state, len);
        group.sync(0);
        group.step(0, Event::Propose(vec![vec![2; 50].into()]));
        for _ in 0..12 {
            group.step(0, Event::Tick);
            group.settle(|_| true);
        }
        group
    }

    fn settle(&mut self, passes: impl Fn(&Message) -> bool) {
        for _ in 0..1000 {
            if self.network.is_empty() {
                return;
            }
            let message = self.network.remove(0);
            if passes(&message) {
                self.step(message.to.0 as usize - 1, Event::Message(message));
            }
            (0..4).for_each(|at| self.sync(at));
        }
    }

    /// Ends all recordings and returns their directory.
    fn end(self) -> tempfile::TempDir {
        self.directory
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> (Start, Vec<Step>, Tail) {
    let mut recording = Recording::open(path).unwrap();
    let steps = std::iter::from_fn(|| recording.next_step().unwrap()).collect();
    (recording.start().clone(), steps, recording.tail().unwrap().clone())
}

fn verify_bytes(bytes: &[u8]) -> Result<Verified, ReplayError> {
    verify(Recording::new(bytes)?)
}

/// The bytes of a file with this body in a frame.
fn push_frame(bytes: &mut Vec<u8>, body: &[u8]) {
    bytes.extend(frame_header(bytes.len() as u64, body));
    bytes.extend_from_slice(body);
}

/// A recording of these steps, with checksums that are right whatever they say.
fn written(start: &Start, steps: &[Step]) -> Vec<u8> {
    let mut bytes = format::file_header();
    let mut body = vec![format::START];
    encode_compact_into(start, &mut body);
    push_frame(&mut bytes, &body);
    for step in steps {
        let mut body = vec![STEPS];
        encode_compact_into(&(step.millis, &step.event, &step.answers, step.actions), &mut body);
        push_frame(&mut bytes, &body);
    }
    bytes
}

/// The servers whose bits are set, from server 1 on.
fn members(bits: u32) -> Vec<NodeId> {
    (1..=4).filter(|id| bits & (1 << (id - 1)) != 0).map(NodeId).collect()
}

/// Where the frames of a file begin, and where it ends.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut at = FILE_HEADER_LEN;
    let mut found = vec![at];
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        at += FRAME_HEADER_LEN + len as usize;
        found.push(at);
    }
    found
}

/// The bytes of a leader's recording, of many frames.
fn sample() -> Vec<u8> {
    let directory = Group::with_a_lagging_follower().end();
    std::fs::read(directory.path().join("node-1-1.rec")).unwrap()
}

/// The digest of a state that cannot be restored.
const BROKEN: Digest = Digest([0xbb; 32]);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_is_recorded_is_replayed_with_equal_actions(
        seed in any::<u64>(), window_bytes in 0_usize..300, ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut group = Group::new(seed, window_bytes);
        for (op, number) in ops.iter().zip(0..) {
            group.run(op, number);
        }
        // Without a step there is nothing to replay.
        (0..4).for_each(|at| group.step(at, Event::Tick));
        let directory = group.end();
        for path in files(directory.path()) {
            match Recording::open(&path).map(verify) {
                Ok(verified) => prop_assert_eq!(verified.unwrap().tail, Tail::Ended(Ending::Stopped)),
                Err(error) => {
                    let is_empty = matches!(error, RecordingError::Empty);
                    prop_assert!(is_empty, "{error}");
                }
            }
        }
    }

    #[test]
    fn a_torn_file_is_replayed_up_to_its_tear(cut in any::<prop::sample::Index>()) {
        let bytes = sample();
        let whole = verify_bytes(&bytes).unwrap();
        let start_end = boundaries(&bytes)[1];
        let cut = start_end + cut.index(bytes.len() - start_end);
        let torn = verify_bytes(&bytes[..cut]).unwrap();
        prop_assert!(torn.steps <= whole.steps);
        let before = *boundaries(&bytes).iter().rev().find(|at| **at <= cut).unwrap();
        let tail = if before == cut { Tail::Killed } else { Tail::Torn { bytes: (cut - before) as u64 } };
        prop_assert_eq!(torn.tail, tail);
    }

    #[test]
    fn a_damaged_byte_is_never_replayed(at in any::<prop::sample::Index>(), bits in 1_u8..) {
        let good = sample();
        let mut bytes = good.clone();
        let at = at.index(good.len());
        bytes[at] ^= bits;
        let frames = boundaries(&good);
        let is_last = at >= frames[frames.len() - 2];
        match verify_bytes(&bytes) {
            Ok(verified) => {
                let is_torn = matches!(verified.tail, Tail::Torn { .. });
                prop_assert!(is_last && is_torn, "{verified:?}");
            }
            Err(ReplayError::Recording(_)) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn n2_garbage_in_a_frame_that_is_whole_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = sample();
        let mut bytes = bytes[..boundaries(&bytes)[1]].to_vec();
        let mut start_alone = format::file_header();
        push_frame(&mut start_alone, &body);
        let _ = verify_bytes(&start_alone);
        push_frame(&mut bytes, &[&[STEPS][..], &body].concat());
        let _ = verify_bytes(&bytes);
    }
}

#[test]
fn old_entries_are_answered_from_the_recording() {
    let directory = Group::with_a_lagging_follower().end();
    let (start, steps, tail) = read(&directory.path().join("node-1-1.rec"));
    assert!(start.is_chain && start.answers.contains_key(&Question::HardState));
    assert_eq!(tail, Tail::Ended(Ending::Stopped));
    let asked = |wanted: fn(&Question) -> bool| steps.iter().flat_map(|step| step.answers.keys()).any(wanted);
    assert!(asked(|question| matches!(question, Question::Entries(..))), "the leader has read what it sent");
    assert!(asked(|question| matches!(question, Question::Digest(_))));
    for path in files(directory.path()) {
        verify(Recording::open(&path).unwrap()).unwrap();
    }
}

#[test]
fn changed_members_and_a_transfer_are_replayed_in_this_life_and_the_next() {
    let mut group = Group::with_other_members();
    (0..4).for_each(|at| group.restart(at));
    group.step(3, Event::Campaign);
    group.settle(|_| true);
    assert_eq!(group.nodes[3].role(), RoleName::Leader, "in its next life it knows that it votes");
    group.step(3, Event::HandOver);
    group.settle(|_| true);
    assert_ne!(group.nodes[3].role(), RoleName::Leader);
    let members: Vec<_> = group.nodes.iter().map(|node| node.status().configuration).collect();
    assert_eq!(members[0], Configuration::joint([1, 2, 4].map(NodeId), [], [NodeId(3)]));
    let directory = group.end();
    for path in files(directory.path()) {
        verify(Recording::open(&path).unwrap()).unwrap();
    }
    for (id, members) in (1..).zip(members) {
        let path = directory.path().join(format!("node-{id}-2.rec"));
        let mut replay = Replay::new(Recording::open(&path).unwrap()).unwrap();
        while replay.step().unwrap().is_some() {}
        assert_eq!(replay.node().status().configuration, members, "server {id}");
        let (mut start, steps, _) = read(&path);
        let Some(Answer::Configurations(held)) = start.answers.get(&Question::Configurations) else {
            panic!("the start holds the membership entries: {start:?}");
        };
        assert!(held.len() >= 3 && held.last().is_some_and(|(_, last)| *last == members), "{held:?}");
        let reads_entries = |question: &Question| matches!(question, Question::Entries(..));
        assert!(!start.answers.keys().any(reads_entries), "the log is not recorded for them: {start:?}");
        start.answers.insert(Question::Configurations, Answer::Configurations(Vec::new()));
        if id == 4 {
            // A founder among others would campaign all the same.
            assert!(matches!(verify_bytes(&written(&start, &steps)), Err(ReplayError::Differs { .. })));
        }
        start.answers.remove(&Question::Configurations);
        assert!(matches!(verify_bytes(&written(&start, &steps)), Err(ReplayError::Start(_))));
    }
}

/// Taken by the leader, sent in chunks, received, restored and installed; and the next life, which starts from it.
#[test]
fn a_snapshot_is_replayed_on_both_sides_and_in_the_next_life() {
    let mut group = Group::with_a_snapshot(Digest([5; 32]), 700);
    let follower = group.nodes[2].storage();
    assert_eq!(
        (follower.snapshot_meta().unwrap().last_included_index, follower.first_index()),
        (LogIndex(11), LogIndex(12))
    );
    assert_eq!(follower.last_index(), LogIndex(12), "and what follows it");
    assert_eq!(follower.snapshot_chunk(LogIndex(11), 0, 701).unwrap(), vec![9; 700]);
    (0..4).for_each(|at| group.restart(at));
    (0..4).for_each(|at| group.step(at, Event::Tick));
    let directory = group.end();
    let paths = files(directory.path());
    assert_eq!(paths.len(), 8);
    for path in paths {
        verify(Recording::open(&path).unwrap()).unwrap();
    }
    let (_, leader, _) = read(&directory.path().join("node-1-1.rec"));
    let chunks =
        leader.iter().flat_map(|step| &step.answers).filter_map(|(question, answer)| match (question, answer) {
            (Question::SnapshotChunk(LogIndex(11), offset, 200), Answer::SnapshotChunk(bytes)) => {
                Some((*offset, bytes.len()))
            }
            _ => None,
        });
    let chunks: Vec<_> = chunks.filter(|(_, len)| *len > 0).collect();
    assert_eq!(chunks, [(0, 200), (200, 200), (400, 200), (600, 100)]);
    let (_, steps, _) = read(&directory.path().join("node-3-1.rec"));
    assert!(steps.iter().any(|step| step.event == Event::Restored(LogIndex(11))));
    let (start, ..) = read(&directory.path().join("node-3-2.rec"));
    assert_eq!(start.answers.get(&Question::FirstIndex), Some(&Answer::FirstIndex(LogIndex(12))));
    // An answer that is lost, and one that is another.
    for other in [None, Some(Answer::SnapshotChunk(Bytes::from_static(b"another")))] {
        let (start, mut leader, _) = read(&directory.path().join("node-1-1.rec"));
        let question = Question::SnapshotChunk(LogIndex(11), 200, 200);
        let step = leader.iter_mut().find(|step| step.answers.contains_key(&question)).unwrap();
        step.answers.remove(&question);
        step.answers.extend(other.map(|other| (question, other)));
        let error = verify_bytes(&written(&start, &leader)).unwrap_err();
        assert!(matches!(error, ReplayError::Differs { .. }), "{error}");
    }
}

#[test]
fn a_snapshot_that_cannot_be_restored_is_replayed() {
    let group = Group::with_a_snapshot(BROKEN, 300);
    assert_eq!(group.nodes[2].storage().snapshot_meta().unwrap().last_included_index, LogIndex(0));
    let directory = group.end();
    let (_, steps, _) = read(&directory.path().join("node-3-1.rec"));
    assert!(steps.iter().any(|step| step.event == Event::RestoreFailed(LogIndex(11))));
    for path in files(directory.path()) {
        if !matches!(Recording::open(&path), Err(RecordingError::Empty)) {
            verify(Recording::open(&path).unwrap()).unwrap();
        }
    }
}

#[test]
fn every_tampered_event_shows_at_its_step() {
    let bytes = sample();
    let mut recording = Recording::new(bytes.as_slice()).unwrap();
    let start = recording.start().clone();
    let steps: Vec<Step> = std::iter::from_fn(|| recording.next_step().unwrap()).collect();
    assert!(verify_bytes(&written(&start, &steps)).is_ok());
    let mut tampered = 0;
    for (at, step) in steps.iter().enumerate() {
        let other = match &step.event {
            Event::Propose(_) => Event::Propose(vec![Bytes::from_static(b"another")]),
            Event::Campaign => Event::Tick,
            _ => continue,
        };
        let mut steps = steps.clone();
        steps[at].event = other;
        let error = verify_bytes(&written(&start, &steps)).unwrap_err();
        assert!(matches!(&error, ReplayError::Differs { step: differs, .. } if *differs == step.number), "{error}");
        assert!(error.to_string().starts_with(&format!("step {}: recorded actions differ: recorded ", step.number)));
        tampered += 1;
    }
    assert_eq!(tampered, 21);
}

#[test]
fn another_seed_and_a_lost_answer_show() {
    let bytes = sample();
    let mut recording = Recording::new(bytes.as_slice()).unwrap();
    let start = recording.start().clone();
    let mut steps: Vec<Step> = std::iter::from_fn(|| recording.next_step().unwrap()).collect();
    let mut other = start.clone();
    other.config.max_append_bytes = 100;
    assert!(matches!(verify_bytes(&written(&other, &steps)), Err(ReplayError::Differs { .. })));
    let step = steps.iter_mut().find(|step| !step.answers.is_empty()).unwrap();
    step.answers.clear();
    let error = verify_bytes(&written(&start, &steps)).unwrap_err().to_string();
    assert!(error.contains("the node asked for "), "{error}");
    let mut empty = start;
    empty.answers.clear();
    assert!(matches!(verify_bytes(&written(&empty, &steps)), Err(ReplayError::Start(_))));
}

#[test]
fn a_seed_shows_in_the_elections() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { seed: 7, ..Config::new(NodeId(1)) };
    let storage = MemStorage::new(Configuration::new([1, 2].map(NodeId)));
    let recorder = Recorder::start(storage, &config, directory.path(), u64::MAX, |_| ()).unwrap();
    let path = recorder.path().unwrap().to_owned();
    let mut node = Node::new(config, recorder).unwrap();
    (0..200).for_each(|_| drop(node.step(Event::Tick)));
    drop(node);
    let (mut start, steps, _) = read(&path);
    assert!(!start.is_chain);
    assert!(verify_bytes(&written(&start, &steps)).is_ok());
    start.config.seed = 8;
    assert!(matches!(verify_bytes(&written(&start, &steps)), Err(ReplayError::Differs { .. })));
}

#[test]
fn another_version_and_other_files_are_refused() {
    let mut bytes = sample();
    assert!(matches!(verify_bytes(b"raft"), Err(ReplayError::Recording(RecordingError::NotARecording))));
    let mut other = bytes.clone();
    other[0] ^= 1;
    assert!(matches!(verify_bytes(&other), Err(ReplayError::Recording(RecordingError::NotARecording))));
    bytes[8] = 9;
    let crc = crate::crc::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let error = verify_bytes(&bytes).unwrap_err();
    assert!(matches!(error, ReplayError::Recording(RecordingError::OtherVersion { found: 9 })));
    assert!(error.to_string().contains("version 9"), "{error}");
    assert!(matches!(verify_bytes(&format::file_header()), Err(ReplayError::Recording(RecordingError::Empty))));
}

#[test]
fn damage_before_good_frames_names_its_place() {
    let mut bytes = sample();
    let frames = boundaries(&bytes);
    let at = frames[3];
    bytes[at + FRAME_HEADER_LEN + 2] ^= 1;
    let error = verify_bytes(&bytes).unwrap_err().to_string();
    assert!(error.starts_with(&format!("damaged at byte {at}, after step ")), "{error}");
}

#[test]
fn zeros_after_a_power_cut_are_a_torn_tail() {
    let bytes = sample();
    let frames = boundaries(&bytes);
    for zeros in [1, 12, 13, 10_000] {
        let mut torn = bytes[..frames[3]].to_vec();
        torn.resize(frames[3] + zeros, 0);
        assert_eq!(verify_bytes(&torn).unwrap().tail, Tail::Torn { bytes: zeros as u64 });
    }
}

#[test]
fn a_full_recording_ends_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, said) = channel();
    let config = Config::new(NodeId(4));
    let storage = MemStorage::new(Configuration::new([NodeId(4)]));
    let complain = move |what| drop(sender.send(what));
    let recorder = Recorder::start(storage, &config, directory.path(), 2_000, complain).unwrap();
    let mut node = Node::new(config, recorder).unwrap();
    let mut ticks = 0;
    while node.storage().path().is_some() {
        node.step(Event::Tick);
        ticks += 1;
    }
    assert_eq!(said.recv().unwrap(), "recording ends: the recording reached 2000 bytes");
    let path = directory.path().join("node-4-1.rec");
    assert!(std::fs::metadata(&path).unwrap().len() < 2_100);
    let verified = verify(Recording::open(&path).unwrap()).unwrap();
    assert_eq!(verified.tail, Tail::Ended(Ending::Full { max_bytes: 2_000 }));
    assert!(verified.steps > 30 && verified.steps < ticks, "{verified:?}");
}

#[test]
fn a_disk_that_is_full_or_too_slow_ends_the_recording_and_says_so() {
    let (sender, said) = channel();
    let complaint = || {
        let sender = sender.clone();
        Box::new(move |what| drop(sender.send(what)))
    };
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut sink = Sink::new(full, u64::MAX, complaint()).unwrap();
    assert!(sink.push(vec![STEPS]));
    let what = said.recv().unwrap();
    assert!(what.starts_with("recording ends: it cannot be written: "), "{what}");
    while sink.push(vec![STEPS]) {}

    let slow = tempfile::tempfile().unwrap();
    let mut sink = Sink::new(slow, u64::MAX, complaint()).unwrap();
    assert!(!sink.push(vec![STEPS; 64 << 20]), "more than may wait");
    assert_eq!(said.recv().unwrap(), "recording ends: the disk was too slow for the recording");
    assert!(!sink.push(vec![STEPS]));
}

#[test]
fn each_life_has_a_file_of_its_own_that_its_owner_alone_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut group = Group::new(1, 0);
    group.step(0, Event::Tick);
    group.restart(0);
    group.step(0, Event::Tick);
    std::fs::write(group.directory.path().join("node-1-x.rec"), "").unwrap();
    std::fs::write(group.directory.path().join("node-1-9.rec"), "").unwrap();
    group.restart(0);
    assert!(group.nodes[0].storage().path().unwrap().ends_with("node-1-10.rec"));
    let directory = group.end();
    let file = directory.path().join("node-1-2.rec");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read(&file).1.len(), 1);
}

#[test]
fn what_others_read_between_steps_is_not_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new(NodeId(1));
    let storage = MemStorage::new(Configuration::new([NodeId(1)]));
    let recorder = Recorder::start(storage, &config, directory.path(), u64::MAX, |_| ()).unwrap();
    let mut node = Node::new(config, recorder).unwrap();
    node.step(Event::Tick);
    node.storage().hard_state().unwrap();
    node.step(Event::Tick);
    node.storage_mut()
        .write(Write { id: WriteId(1), op: raft_core::WriteOp::HardState(HardState::default()) })
        .unwrap();
    drop(node);
    let (_, steps, _) = read(&directory.path().join("node-1-1.rec"));
    assert!(steps.iter().all(|step| step.answers.is_empty()));
}

#[test]
fn a_storage_that_links_in_its_own_way_is_refused() {
    struct Own(MemStorage);
    impl Storage for Own {
        fn hard_state(&self) -> Result<HardState, StorageError> {
            self.0.hard_state()
        }
        fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
            self.0.snapshot_meta()
        }
        fn first_index(&self) -> LogIndex {
            self.0.first_index()
        }
        fn last_index(&self) -> LogIndex {
            self.0.last_index()
        }
        fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
            self.0.snapshot_chunk(index, offset, max_bytes)
        }
        fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
            self.0.term(index)
        }
        fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
            self.0.digest(index)
        }
        fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
            self.0.entries(first, last, max_bytes)
        }
        fn link(&self, prev: &Digest, _: &Entry) -> Option<Digest> {
            Some(Digest([prev.0[0].wrapping_add(1); 32]))
        }
        fn write(&mut self, write: Write) -> Result<(), StorageError> {
            self.0.write(write)
        }
        fn persisted(&mut self) -> Result<WriteId, StorageError> {
            self.0.persisted()
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let storage = Own(MemStorage::new(Configuration::new([NodeId(1)])));
    let refused = Recorder::start(storage, &Config::new(NodeId(1)), directory.path(), 0, |_| ()).err();
    assert_eq!(refused, Some(RecordError::OtherLink));
    assert!(files(directory.path()).is_empty());
}

/// Raise `VERSION` when these change: an old recording would be read as something else.
#[test]
fn the_bytes_of_a_recording_are_fixed() {
    let message = |body| Message { from: NodeId(2), to: NodeId(1), term: Term(300), body };
    let ask = Event::Message(message(Body::Heartbeat(Heartbeat { leader_commit: LogIndex(9), round: 4 })));
    let said = Action::Send(message(Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round: 4 })));
    let addresses = vec![(NodeId(4), "d".into())];
    let change = MembershipChange { voters: members(0b1001), learners: members(0b0100), catch_up: true, addresses };
    let configuration = change.configuration();
    let mut bytes = Vec::new();
    encode_compact_into(&(Event::Tick, ask), &mut bytes);
    assert_eq!(bytes, [0, 1, 2, 1, 251, 44, 1, 6, 9, 4]);
    bytes.clear();
    let transfer = Event::TransferLeadership(NodeId(2));
    let told = [Event::ChangeMembership(change), transfer, Event::HandOver, Event::Persisted(WriteId(8))];
    told.iter().for_each(|event| encode_compact_into(event, &mut bytes));
    encode_compact_into(&Event::Message(message(Body::TimeoutNow)), &mut bytes);
    assert_eq!(bytes, [5, 2, 1, 4, 1, 3, 1, 1, 4, 1, 100, 6, 2, 7, 8, 8, 1, 2, 1, 251, 44, 1, 10]);
    bytes.clear();
    let held = Answer::Configurations(vec![(LogIndex(5), configuration.clone())]);
    encode_compact_into(&(Question::Configurations, held), &mut bytes);
    assert_eq!(bytes, [8, 8, 1, 5, 2, 1, 4, 0, 1, 3, 1, 4, 0, 1, 100]);
    let changed = Action::MembershipChanged(Box::new(configuration));
    assert_eq!(format::fingerprint(&[changed], &mut Vec::new()), Fingerprint { count: 1, crc: 3_315_413_762 });
    assert_eq!(format::fingerprint(&[said], &mut Vec::new()), Fingerprint { count: 1, crc: 2_166_037_947 });
    let meta = SnapshotMeta {
        last_included_index: LogIndex(9),
        last_included_term: Term(3),
        digest: None,
        configuration: Configuration::new([NodeId(1)]),
        state: None,
    };
    let named = [9, 3, 0, 1, 1, 0, 0, 0, 0];
    let chunk = SnapshotChunk { meta: meta.clone(), offset: 5, data: Bytes::from_static(b"ab"), done: true };
    bytes.clear();
    let piece = Event::SnapshotPiece(chunk.clone().into());
    encode_compact_into(&(piece, Event::Restored(LogIndex(9)), Event::RestoreFailed(LogIndex(9))), &mut bytes);
    assert_eq!(bytes, [&[11][..], &named, &[5, 2, b'a', b'b', 1, 12, 9, 13, 9]].concat());
    bytes.clear();
    encode_compact_into(
        &(Body::InstallSnapshot(chunk.clone().into()), WriteOp::SnapshotChunk(chunk.into())),
        &mut bytes,
    );
    let part = [&named[..], &[5, 2, b'a', b'b', 1]].concat();
    assert_eq!(bytes, [&[8], part.as_slice(), &[2], &part].concat());
    bytes.clear();
    let install = |keep_from| WriteOp::InstallSnapshot { index: LogIndex(9), keep_from };
    encode_compact_into(&(install(None), install(Some(LogIndex(7))), Action::Restore(meta.into())), &mut bytes);
    assert_eq!(bytes, [&[3, 9, 0, 3, 9, 1, 7, 15][..], &named].concat());
    bytes.clear();
    let digest = StateDigest { index: LogIndex(9), state: Digest([7; 32]) };
    let report = StateReport { digest, is_independent: true };
    encode_compact_into(
        &(Event::StateDigested(report), Event::StateDiverged(LogIndex(9)), Body::StateDigest(report.into())),
        &mut bytes,
    );
    assert_eq!(bytes, [&[15, 9][..], &[7; 32], &[1, 16, 9, 13, 9], &[7; 32], &[1]].concat());
    bytes.clear();
    let asked = (Question::SnapshotChunk(LogIndex(9), 5, 2), Answer::SnapshotChunk(Bytes::from_static(b"ab")));
    encode_compact_into(&(asked, Question::FirstIndex, Answer::FirstIndex(LogIndex(7))), &mut bytes);
    assert_eq!(bytes, [4, 9, 5, 2, 4, 2, b'a', b'b', 2, 2, 7]);
    let mut config = Vec::new();
    encode_compact_into(&Config::new(NodeId(1)), &mut config);
    let limits = [
        252, 0, 0, 8, 0, 32, 252, 0, 0, 128, 0, 252, 0, 0, 0, 16, 252, 0, 0, 0, 1, 252, 0, 0, 64, 0, 252, 0, 0, 4, 0,
        251, 0, 16,
    ];
    assert_eq!(config, [&[1, 15, 3], limits.as_slice(), &[1, 1, 0, 1, 0]].concat());
}
