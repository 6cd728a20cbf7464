//! Whole servers that compact their logs: by size, over a restart, and by a leader's snapshot.

use std::collections::VecDeque;

use raft_core::{
    Action, Body, Bytes, Config, Configuration, Digest, Fault, Limits, LogIndex, MemStorage, Message, NodeId, Outcome,
    PeerFault, Position, Replica, RestoreError, RoleName, Snapshot, SnapshotChunk, SnapshotMeta, StartError,
    StateMachine, StorageError, Term,
};

use crate::replica::{Group, Server, Slow, Sum};

fn compacting() -> Group {
    Group::with(3, |config, limits| {
        (config.tail_entries, config.max_chunk_bytes) = (2, 3);
        limits.snapshot_every_bytes = Some(300);
    })
}

/// So many commands, one after the other, to the server that leads; what they add up to.
pub fn add(group: &mut Group, leader: u32, count: u64) -> u64 {
    for _ in 0..count {
        let request = group.submit(leader, &[1]);
        group.settle();
        assert!(matches!(group.outcomes[&request], Outcome::Applied { .. }), "{:?}", group.outcomes[&request]);
    }
    group.servers[leader as usize - 1].machine().sum
}

#[test]
fn the_log_stays_short_however_much_is_applied() {
    let mut group = compacting();
    assert_eq!(add(&mut group, 1, 100), 100);
    group.ticks(&[1, 2, 3], 5);
    for server in &group.servers {
        let status = server.status();
        let held = status.last_index.0 + 1 - status.first_index.0;
        // An entry costs 29 bytes here, so one more than ten fit between two snapshots.
        assert!(held <= 2 + 11, "{status:?}");
        assert_eq!((status.last_applied, server.machine().sum), (LogIndex(101), 100));
    }
}

#[test]
fn a_restarted_server_restores_its_snapshot_and_applies_the_rest() {
    let mut group = compacting();
    add(&mut group, 1, 30);
    let storage = group.servers[1].storage_mut().inner.clone();
    let status = group.servers[1].status();
    assert!(status.snapshot_index.0 > 10 && status.snapshot_index < status.last_index, "{status:?}");
    let covered = status.snapshot_index.0 - 1;
    let again: Server = Replica::new(
        Config::new(NodeId(2)),
        Limits::default(),
        Slow::new(storage.reopen()),
        Vec::new(),
        Sum::default(),
    )
    .unwrap();
    assert_eq!((again.machine().sum, again.status().last_applied.0), (covered, covered + 1));
    group.servers[1] = again;
    group.ticks(&[1, 2, 3], 10);
    assert_eq!((group.servers[1].machine().sum, group.servers[1].status().last_applied), (30, LogIndex(31)));
}

#[test]
fn s6_a_server_that_was_away_gets_the_snapshot_which_replaces_its_state() {
    let mut group = compacting();
    add(&mut group, 1, 5);
    group.ticks(&[1, 2, 3], 5);
    group.cut = Some(3);
    add(&mut group, 1, 40);
    assert_eq!(group.servers[2].machine().sum, 5);
    group.cut = None;
    group.ticks(&[1, 2, 3], 10);
    assert_eq!(group.servers[2].machine().sum, 45, "replaced, not added to");
    let status = group.servers[2].status();
    assert!(status.snapshot_index > LogIndex(6) && status.last_applied == LogIndex(46), "{status:?}");
    // It counts again: with it alone the leader commits.
    group.cut = Some(2);
    assert_eq!(add(&mut group, 1, 1), 46);
}

/// Everything settles, but what goes to or from server 3 waits in `slow`, after `moved`.
fn settle_with_a_slow_link(group: &mut Group, mut moved: Option<Message>, slow: &mut VecDeque<Message>) {
    loop {
        if let Some(message) = moved.take() {
            group.servers[message.to.0 as usize - 1].receive(message);
        }
        for server in &mut group.servers {
            server.poll();
            while server.next_reply().is_some() {}
            group.network.extend(server.transport_mut().drain(..));
        }
        while let Some(message) = group.network.pop_front() {
            if message.from == NodeId(3) || message.to == NodeId(3) {
                slow.push_back(message);
            } else {
                moved = Some(message);
                break;
            }
        }
        if moved.is_none() {
            return;
        }
    }
}

#[test]
fn a_leader_that_could_take_snapshots_faster_than_it_sends_one_gets_one_through() {
    let mut group = compacting();
    add(&mut group, 1, 5);
    group.cut = Some(3);
    add(&mut group, 1, 40);
    let mut slow = VecDeque::new();
    let installed = |group: &Group| group.servers[2].status().snapshot_index;
    assert_eq!(installed(&group), LogIndex(0));
    for round in 0..60 {
        for _ in 0..15 {
            group.submit(1, &[1]);
            settle_with_a_slow_link(&mut group, None, &mut slow);
        }
        group.servers[0].tick();
        let moved = slow.pop_front();
        settle_with_a_slow_link(&mut group, moved, &mut slow);
        if installed(&group) > LogIndex(0) {
            return assert!(round > 3, "the transfer lasted longer than it takes to gather another snapshot");
        }
    }
    panic!("{:?}", group.servers[0].status());
}

#[test]
fn s7_who_waited_for_what_a_snapshot_skips_is_told_that_it_is_unknown() {
    let mut group = compacting();
    group.cut = Some(1);
    let waiting = group.submit(1, &[100]);
    group.settle();
    group.ticks(&[2, 3], 40);
    let leader = if group.servers[1].status().role == RoleName::Leader { 2 } else { 3 };
    assert_eq!(add(&mut group, leader, 40), 40);
    assert_eq!(group.outcomes.get(&waiting), None);
    group.cut = None;
    group.ticks(&[1, 2, 3], 20);
    assert_eq!(group.outcomes.get(&waiting), Some(&Outcome::Unknown));
    assert_eq!(group.servers[0].machine().sum, 40);
    assert!(group.servers[0].status().snapshot_index > LogIndex(2));
}

#[test]
fn a_snapshot_is_taken_when_asked_for() {
    let mut group = Group::with(1, |config, _| config.tail_entries = 0);
    add(&mut group, 1, 3);
    group.servers[0].take_snapshot();
    group.settle();
    assert_eq!(group.servers[0].status().snapshot_index, LogIndex(4));
    let installed = Action::SnapshotInstalled { index: LogIndex(4), first_index: LogIndex(5) };
    assert_eq!(last_notice(&mut group.servers[0]), Some(installed));
    group.servers[0].take_snapshot();
    let refused = Action::SnapshotRefused(raft_core::Refusal::Unchanged);
    assert_eq!(last_notice(&mut group.servers[0]), Some(refused));
    assert_eq!(add(&mut group, 1, 1), 4);
}

pub fn last_notice(server: &mut Server) -> Option<Action> {
    let mut last = None;
    while let Some(notice) = server.next_notice() {
        last = Some(notice);
    }
    last
}

/// A whole snapshot in one chunk, from the leader of term 9.
fn forged(state: &'static [u8], digest: Digest) -> Message {
    let meta = SnapshotMeta {
        last_included_index: LogIndex(50),
        last_included_term: Term(9),
        digest: None,
        configuration: Configuration::new([1, 2, 3].map(NodeId)),
        state: Some(digest),
    };
    let chunk = SnapshotChunk { meta, offset: 0, data: state.into(), done: true };
    Message { from: NodeId(1), to: NodeId(3), term: Term(9), body: Body::InstallSnapshot(chunk.into()) }
}

#[test]
fn s5_a_snapshot_that_is_none_is_dropped_and_one_of_another_state_halts_before_it_is_installed() {
    let mut group = compacting();
    add(&mut group, 1, 5);
    group.ticks(&[1, 2, 3], 5);
    group.servers[2].receive(forged(b"short", Sum::default().digest()));
    group.servers[2].poll();
    let dropped = Action::MessageDropped { from: NodeId(1), reason: PeerFault::BadSnapshot };
    assert_eq!(last_notice(&mut group.servers[2]), Some(dropped));
    assert_eq!((group.servers[2].machine().sum, group.servers[2].status().snapshot_index), (5, LogIndex(0)));
    // The bytes of 7, under the digest of 0.
    group.servers[2].receive(forged(&[7, 0, 0, 0, 0, 0, 0, 0], Sum::default().digest()));
    group.servers[2].poll();
    let place = "the snapshot of entry 50".into();
    let what = "the state's digest is not the one that the snapshot names".into();
    let fault = Fault::Storage(StorageError::Damaged { place, what });
    assert_eq!(last_notice(&mut group.servers[2]), Some(Action::Halt(fault)));
    // Nothing of it is in the storage: a restart is what it was.
    let storage = group.servers[2].storage_mut().inner.clone().reopen();
    let again: Server =
        Replica::new(Config::new(NodeId(3)), Limits::default(), Slow::new(storage), Vec::new(), Sum::default())
            .unwrap();
    assert_eq!((again.status().snapshot_index, again.status().last_index), (LogIndex(0), LogIndex(6)));
}

#[test]
fn a_server_does_not_start_from_a_snapshot_that_is_none_of_its_machine() {
    let start = |state: &'static [u8]| {
        let hard_state = raft_core::HardState { current_term: Term(9), voted_for: None };
        let Body::InstallSnapshot(chunk) = forged(b"", Sum::default().digest()).body else { panic!() };
        let snapshot = Snapshot { meta: chunk.meta, state: state.into() };
        let storage = MemStorage::with_snapshot(hard_state, snapshot).unwrap();
        let started: Result<Server, StartError> =
            Replica::new(Config::new(NodeId(3)), Limits::default(), Slow::new(storage), Vec::new(), Sum::default());
        started.err()
    };
    let error = RestoreError { what: "not eight bytes".into() };
    assert_eq!(start(b"short"), Some(StartError::Snapshot { index: LogIndex(50), error }));
    let place = "the snapshot of entry 50".into();
    let what = "the state's digest is not the one that the snapshot names".into();
    assert_eq!(start(&[7, 0, 0, 0, 0, 0, 0, 0]), Some(StartError::Storage(StorageError::Damaged { place, what })));
}

/// Its state is so many bytes, and its digest their number.
struct Large(usize);

impl StateMachine for Large {
    fn apply(&mut self, _: &Position, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Vec<u8> {
        vec![0; self.0]
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.0 = snapshot.len();
        Ok(())
    }
    fn digest(&self) -> Digest {
        let mut digest = Digest([0; 32]);
        digest.0[..8].copy_from_slice(&(self.0 as u64).to_le_bytes());
        digest
    }
}

#[test]
fn a_state_is_read_to_its_end_however_large_it_is() {
    // It is read a mebibyte at a time.
    for bytes in [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 2 << 20] {
        let hard_state = raft_core::HardState { current_term: Term(9), voted_for: None };
        let Body::InstallSnapshot(chunk) = forged(b"", Large(bytes).digest()).body else { panic!() };
        let snapshot = Snapshot { meta: chunk.meta, state: Large(bytes).snapshot().into() };
        let storage = MemStorage::with_snapshot(hard_state, snapshot).unwrap();
        let replica =
            Replica::new(Config::new(NodeId(3)), Limits::default(), storage, Vec::<Message>::new(), Large(0)).unwrap();
        assert_eq!(replica.machine().0, bytes);
    }
}
