//! Directories that versions of this format have written, each opened by this one: what was stored once stays readable.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, NodeId, Payload, SnapshotChunk, SnapshotMeta,
    Storage, StorageError, Term, Write, WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, FileDisk, LogOptions};

/// See the README there.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn open(dir: &Path) -> BlockLog<FileDisk> {
    let disk = FileDisk::open(dir, || ()).unwrap();
    let members = Configuration::new([1, 2, 3].map(NodeId));
    let options = LogOptions { segment_bytes: 700, archive: false };
    BlockLog::open_or_create(disk, ClusterId::from_name("golden"), members, Incarnation(0x60_1d), options).unwrap()
}

/// What every one of these directories was written with: blocks, a truncation, votes, a membership block and a
/// snapshot.
fn write_golden(dir: &Path) {
    let mut log = open(dir);
    let mut last = 0;
    let mut write = |log: &mut BlockLog<FileDisk>, op| {
        last += 1;
        log.write(Write { id: WriteId(last), op }).unwrap();
        while log.persisted().unwrap() < WriteId(last) {
            std::thread::yield_now();
        }
    };
    let vote = |term, id| WriteOp::HardState(HardState { current_term: Term(term), voted_for: Some(NodeId(id)) });
    let append = |index, term, payload| {
        let entry = Entry { index: LogIndex(index), term: Term(term), payload };
        WriteOp::Append { entries: [entry].into(), digests: None }
    };
    let command = |index: u64| Payload::Command(Bytes::from(format!("command {index}").repeat(5)));
    write(&mut log, vote(1, 1));
    write(&mut log, append(1, 1, Payload::Noop));
    for index in 2..=9 {
        write(&mut log, append(index, 1, command(index)));
    }
    write(&mut log, WriteOp::Truncate(LogIndex(8)));
    write(&mut log, vote(3, 2));
    let members = Configuration::new([1, 2, 3, 4].map(NodeId));
    write(&mut log, append(8, 3, Payload::Configuration(members.to_bytes().into())));
    let meta = SnapshotMeta {
        last_included_index: LogIndex(6),
        last_included_term: Term(1),
        digest: log.digest(LogIndex(6)).unwrap(),
        configuration: Configuration::new([1, 2, 3].map(NodeId)),
        state: Some(Digest([0x5a; 32])),
    };
    for (offset, data, done) in [(0, &b"the state, "[..], false), (11, b"in two chunks", true)] {
        let data = Bytes::from_static(data);
        write(&mut log, WriteOp::SnapshotChunk(SnapshotChunk { meta: meta.clone(), offset, data, done }.into()));
    }
    write(&mut log, WriteOp::InstallSnapshot { index: LogIndex(6), keep_from: Some(LogIndex(5)) });
    for index in 9..=12 {
        write(&mut log, append(index, 3, command(index)));
    }
    log.into_disk().shutdown().unwrap();
}

/// A copy, for opening a log writes to its files.
fn copy_of(version: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(PathBuf::from(GOLDEN).join(version)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn check(dir: &Path) {
    let log = open(dir);
    let vote = HardState { current_term: Term(3), voted_for: Some(NodeId(2)) };
    assert_eq!((log.hard_state(), log.incarnation()), (Ok(vote), Incarnation(0x60_1d)));
    assert_eq!((log.first_index(), log.last_index()), (LogIndex(5), LogIndex(12)));
    let hash = |index| log.digest(LogIndex(index)).unwrap().unwrap().to_string();
    assert_eq!(hash(4), HASHES[0]);
    assert_eq!(hash(12), HASHES[1]);
    let blocks: Vec<_> = log.blocks(LogIndex(5)).map(Result::unwrap).collect();
    assert!(blocks.iter().all(raft_kv::Block::is_intact) && blocks.len() == 8);
    let terms: Vec<u64> = blocks.iter().map(|block| block.term.0).collect();
    assert_eq!(terms, [1, 1, 1, 3, 3, 3, 3, 3]);
    assert_eq!(log.configurations().unwrap(), [(LogIndex(8), Configuration::new([1, 2, 3, 4].map(NodeId)))]);
    let meta = log.snapshot_meta().unwrap();
    assert_eq!((meta.last_included_index, meta.state), (LogIndex(6), Some(Digest([0x5a; 32]))));
    assert_eq!(log.snapshot_chunk(LogIndex(6), 0, 99).unwrap(), "the state, in two chunks");
    let removed = StorageError::Compacted { index: LogIndex(4), first: LogIndex(5) };
    assert_eq!(log.entries(LogIndex(4), LogIndex(4), 1), Err(removed));
}

/// Of blocks 4 and 12: hashes are the same in every version.
const HASHES: [&str; 2] = [
    "fabc27862f6c0351b9fcd56aee0d04e932110cd769daaf965e1b2e7cc6430601",
    "86f5da3a6312dbb3b2acea0f574eef27c1fd09cdb9c3533e942b5ac462138979",
];

#[test]
fn what_version_4_has_written_is_read() {
    check(copy_of("v4").path());
}

/// The check itself, and what writes the next version's directory: `BLESS=v5` puts it beside the others.
#[test]
fn what_this_version_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write_golden(dir.path());
    if let Some(version) = std::env::var_os("BLESS") {
        let target = PathBuf::from(GOLDEN).join(version);
        std::fs::create_dir(&target).unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            if entry.file_name() != "LOCK" && entry.file_name() != "spare" {
                std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
            }
        }
    }
    check(dir.path());
}
