//! Logs on disks in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, NodeId, Payload, SnapshotChunk, SnapshotMeta,
    Storage, StorageError, Term, Write, WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, LogOptions, MemDisk, OpenError};

pub type Files = BTreeMap<String, Vec<u8>>;

const OPTIONS: LogOptions = LogOptions { segment_bytes: 700, archive: false };

fn cluster() -> (ClusterId, Configuration) {
    (ClusterId::from_name("fuzz"), Configuration::new([1, 2, 3].map(NodeId)))
}

pub fn open(files: Files) -> Result<BlockLog<MemDisk>, OpenError> {
    let (id, members) = cluster();
    BlockLog::open_or_create(MemDisk::from_files(files), id, members, Incarnation(7), OPTIONS)
}

/// What a log can be asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub hard_state: HardState,
    pub first: LogIndex,
    pub entries: Vec<Entry>,
    pub snapshot: SnapshotMeta,
    pub state: Vec<u8>,
}

/// Reads everything.
///
/// # Errors
/// Some of it is damaged.
pub fn read(log: &BlockLog<MemDisk>) -> Result<Held, StorageError> {
    let (first, last) = (log.first_index(), log.last_index());
    let entries = log.entries(first, last, usize::MAX)?;
    let mut prev = log.digest(first.prev())?;
    for block in log.blocks(first) {
        let block = block?;
        assert!(block.is_intact() && prev == Some(block.prev_hash));
        prev = Some(block.hash);
    }
    assert_eq!(log.digest(last)?, prev);
    let _ = log.configurations();
    let snapshot = log.snapshot_meta()?;
    let index = snapshot.last_included_index;
    let state = if index.0 > 0 { log.snapshot_chunk(index, 0, usize::MAX)?.to_vec() } else { Vec::new() };
    Ok(Held { hard_state: log.hard_state()?, first, entries, snapshot, state })
}

/// Whatever was opened and reads well goes on: it takes a write, and is found with it.
///
/// # Panics
/// It does not.
pub fn goes_on(mut log: BlockLog<MemDisk>, before: &Held) {
    let last = log.last_index();
    let Some(index) = last.0.checked_add(1).map(LogIndex) else { return };
    let entry = Entry { index, term: log.term(last).expect("the last term"), payload: Payload::Noop };
    log.write(Write { id: WriteId(1), op: append(entry.clone()) }).expect("an append");
    log.disk_mut().sync();
    assert_eq!(log.persisted(), Ok(WriteId(1)));
    let files = log.disk().crash(0, |_, _| true).contents();
    let after = read(&open(files).expect("it opens again")).expect("it reads");
    assert_eq!(after.entries.split_last(), Some((&entry, &before.entries[..])));
    assert_eq!((after.hard_state, after.first), (before.hard_state, before.first));
    assert_eq!((after.snapshot, &after.state), (before.snapshot.clone(), &before.state));
}

fn append(entry: Entry) -> WriteOp {
    WriteOp::Append { entries: [entry].into(), digests: None }
}

/// A directory with something of everything, as it was after each of its writes.
///
/// # Panics
/// Never.
pub fn valid() -> Vec<Files> {
    let (id, members) = cluster();
    let mut log = BlockLog::create(MemDisk::new(), id, members.clone(), Incarnation(7), OPTIONS).expect("a log");
    let mut history = vec![log.disk().contents()];
    let mut write = |log: &mut BlockLog<MemDisk>, op| {
        log.write(Write { id: WriteId(history.len() as u64), op }).expect("a write");
        log.disk_mut().sync();
        log.persisted().expect("it is durable");
        log.disk_mut().sync();
        history.push(log.disk().contents());
    };
    let block = |index: u64, term: u64| {
        let payload = match index % 5 {
            0 => Payload::Configuration(members.to_bytes().into()),
            1 => Payload::Noop,
            _ => Payload::Command(Bytes::from(vec![index as u8; 20 * index as usize % 90])),
        };
        append(Entry { index: LogIndex(index), term: Term(term), payload })
    };
    let vote = |term| WriteOp::HardState(HardState { current_term: Term(term), voted_for: Some(NodeId(2)) });
    write(&mut log, vote(1));
    (1..=9).for_each(|index| write(&mut log, block(index, 1)));
    write(&mut log, WriteOp::Truncate(LogIndex(8)));
    write(&mut log, vote(2));
    (8..=11).for_each(|index| write(&mut log, block(index, 2)));
    let meta = SnapshotMeta {
        last_included_index: LogIndex(9),
        last_included_term: Term(2),
        digest: log.digest(LogIndex(9)).expect("a block"),
        configuration: members.clone(),
        state: Some(Digest([5; 32])),
    };
    for (offset, data, done) in [(0, &b"the state, "[..], false), (11, b"in two chunks", true)] {
        let chunk = SnapshotChunk { meta: meta.clone(), offset, data: Bytes::from_static(data), done };
        write(&mut log, WriteOp::SnapshotChunk(chunk.into()));
    }
    write(&mut log, WriteOp::InstallSnapshot { index: LogIndex(9), keep_from: Some(LogIndex(8)) });
    (12..=16).for_each(|index| write(&mut log, block(index, 2)));
    history
}
