use std::cell::RefCell;

use raft_core::{
    Configuration, Digest, Entry, Incarnation, LogIndex, NodeId, Payload, SnapshotChunk, SnapshotMeta, Storage,
    StorageError, Term, Write, WriteId, WriteOp,
};

use super::*;
use crate::block::ClusterId;
use crate::block_log::{BlockLog, LogOptions, OpenError};
use crate::disk::{Change, DiskError, MemDisk};

type Log<D = MemDisk> = BlockLog<D>;

fn servers() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId))
}

fn open(disk: MemDisk) -> Result<Log, OpenError> {
    Log::open(disk, ClusterId::from_name("test"), servers(), LogOptions::default())
}

fn create<D: Disk>(disk: D) -> Log<D> {
    let cluster = ClusterId::from_name("test");
    Log::create(disk, cluster, servers(), Incarnation::UNKNOWN, LogOptions::default()).unwrap()
}

fn write<D: Disk>(log: &mut Log<D>, op: WriteOp) -> Result<(), StorageError> {
    let id = log.last_write.next();
    log.write(Write { id, op })
}

fn append<D: Disk>(log: &mut Log<D>, payloads: &[Payload]) {
    let entries = payloads.iter().zip(log.last_index().0 + 1..);
    let entry =
        |(payload, index): (&Payload, u64)| Entry { index: LogIndex(index), term: Term(1), payload: payload.clone() };
    write(log, WriteOp::Append { entries: entries.map(entry).collect(), digests: None }).unwrap();
}

/// Of the block at this height as it stands, or of another chain's.
fn meta<D: Disk>(log: &Log<D>, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_included_index: LogIndex(index),
        last_included_term: Term(1),
        digest: log.digest(LogIndex(index)).unwrap_or(Some(Digest([6; 32]))),
        configuration: Configuration::new([NodeId(7)]),
        state: Some(Digest([8; 32])),
    }
}

fn chunk(meta: &SnapshotMeta, offset: u64, data: &[u8], done: bool) -> SnapshotChunk {
    SnapshotChunk { meta: meta.clone(), offset, data: Bytes::copy_from_slice(data), done }
}

const fn install(index: u64, keep_from: Option<LogIndex>) -> WriteOp {
    WriteOp::InstallSnapshot { index: LogIndex(index), keep_from }
}

/// Five blocks, the second of which changes the members, and a snapshot of the third in two chunks: all durable.
fn filled() -> Log {
    let mut log = create(MemDisk::new());
    let members = Payload::Configuration(Configuration::new([NodeId(7)]).to_bytes().into());
    let (noop, later) = (Payload::Noop, Payload::Configuration(servers().to_bytes().into()));
    append(&mut log, &[noop.clone(), members, noop.clone(), later, noop]);
    let meta = meta(&log, 3);
    for part in [chunk(&meta, 0, b"the first", false), chunk(&meta, 9, b"the second", true)] {
        write(&mut log, WriteOp::SnapshotChunk(part.into())).unwrap();
        log.disk_mut().sync();
    }
    log.persisted().unwrap();
    log
}

/// Contract 4: each byte of each chunk in turn, received and installed. A read that needs none of it goes on.
#[test]
fn d9_a_snapshots_bytes_are_checked_when_they_are_read() {
    let mut log = filled();
    for installed in [false, true] {
        if installed {
            write(&mut log, install(3, Some(LogIndex(3)))).unwrap();
            log.disk_mut().sync();
        }
        let stored =
            if installed { Some(&log.contents.snapshots.installed) } else { log.contents.snapshots.receiving.as_ref() };
        let Stored { file, state_at, pieces, .. } = stored.unwrap().clone();
        assert_eq!(log.snapshot_chunk(LogIndex(3), 4, 10).unwrap(), "first".to_owned() + "the s");
        for (piece, other) in [(pieces[0], 9..19), (pieces[1], 0..9)] {
            let begin = (state_at + piece.offset) as usize;
            for at in begin..begin + piece.len {
                log.disk_mut().corrupt(&file, |bytes| bytes[at] ^= 0x40);
                let read = |from: u64, len| log.snapshot_chunk(LogIndex(3), from, len);
                assert!(matches!(read(piece.offset, 1), Err(StorageError::Damaged { .. })), "byte {at}");
                assert!(matches!(read(0, 19), Err(StorageError::Damaged { .. })), "byte {at}");
                assert_eq!(read(other.start, 9).unwrap(), b"the firstthe second"[other.start as usize..][..9]);
                log.disk_mut().corrupt(&file, |bytes| bytes[at] ^= 0x40);
            }
        }
    }
}

/// The chain goes on from the snapshot's hash, in this life and the next.
#[test]
fn a_chain_is_verified_from_its_anchor() {
    let mut log = filled();
    let far = SnapshotMeta { digest: Some(Digest([6; 32])), ..meta(&log, 90) };
    write(&mut log, WriteOp::SnapshotChunk(chunk(&far, 0, b"far", true).into())).unwrap();
    write(&mut log, install(90, None)).unwrap();
    append(&mut log, &[Payload::Noop, Payload::Noop]);
    log.disk_mut().sync();
    for log in [open(log.disk().clone()).unwrap(), log] {
        assert_eq!(
            (log.snapshot_meta(), log.first_index(), log.last_index()),
            (Ok(far.clone()), LogIndex(91), LogIndex(92))
        );
        let blocks: Vec<_> = log.blocks(LogIndex(91)).map(Result::unwrap).collect();
        assert!(blocks.iter().all(crate::Block::is_intact));
        assert_eq!((blocks[0].prev_hash, blocks[1].prev_hash), (Digest([6; 32]), blocks[0].hash));
        assert_eq!(log.block(LogIndex(0)).unwrap(), log.genesis().block(), "what it was founded on is known for ever");
        let first = LogIndex(91);
        assert_eq!(log.block(LogIndex(90)), Err(StorageError::Compacted { index: LogIndex(90), first }));
        assert_eq!(log.snapshot_chunk(LogIndex(90), 0, 9).unwrap(), "far");
    }
}

/// Those after the snapshot, from memory: through a truncation, an install and a restart.
#[test]
fn membership_blocks_are_answered_without_the_disk() {
    let mut log = filled();
    let (first, later) = ((LogIndex(2), Configuration::new([NodeId(7)])), (LogIndex(4), servers()));
    let asked = |log: &mut Log| {
        log.disk_mut().fail_reads(true);
        let answer = log.configurations();
        log.disk_mut().fail_reads(false);
        answer.unwrap()
    };
    assert_eq!(asked(&mut log), [first, later.clone()]);
    write(&mut log, install(3, Some(LogIndex(2)))).unwrap();
    assert_eq!(asked(&mut log), std::slice::from_ref(&later), "block 2 is in the tail, and covered");
    log.disk_mut().sync();
    let mut log = open(log.into_disk()).unwrap();
    assert_eq!((asked(&mut log), log.first_index()), (vec![later], LogIndex(2)));
    write(&mut log, WriteOp::Truncate(LogIndex(4))).unwrap();
    assert_eq!(asked(&mut log), []);
}

#[test]
fn s3_what_was_not_installed_is_gone_in_the_next_life() {
    let mut log = open(filled().into_disk()).unwrap();
    let (index, snapshot) = (LogIndex(3), meta(&log, 3));
    assert_eq!(log.snapshot_chunk(index, 0, 9), Err(StorageError::NoSnapshot { index, offset: 0 }));
    let refused = |answer| matches!(answer, Err(StorageError::OutOfOrder { .. }));
    assert!(refused(write(&mut log, install(3, None))));
    assert!(refused(write(&mut log, WriteOp::SnapshotChunk(chunk(&snapshot, 9, b"the second", true).into()))));
    write(&mut log, WriteOp::SnapshotChunk(chunk(&snapshot, 0, b"anew", true).into())).unwrap();
    write(&mut log, install(3, Some(LogIndex(4)))).unwrap();
    log.disk_mut().sync();
    assert_eq!(open(log.into_disk()).unwrap().snapshot_chunk(index, 0, 9).unwrap(), "anew");
}

/// Takes every byte and keeps none; notes what is asked of it.
#[derive(Debug, Default)]
struct Bottomless {
    len: u64,
    tickets: u64,
    /// The longest submission, and how often and how much was read.
    submitted_max: usize,
    reads: RefCell<Vec<usize>>,
}

impl Disk for Bottomless {
    fn place(&self) -> String {
        String::from("nowhere")
    }

    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    fn holds(&self, _: &str) -> bool {
        false
    }

    fn len(&self, _: &str) -> Result<u64, DiskError> {
        Ok(self.len)
    }

    /// Everything that is stored there is zeros.
    fn read_at(&self, _: &str, _: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.reads.borrow_mut().push(buffer.len());
        buffer.fill(0);
        Ok(())
    }

    fn submit(&mut self, change: Change<'_>) -> Result<u64, DiskError> {
        if let Change::Write { bytes, .. } = change {
            self.submitted_max = self.submitted_max.max(bytes.len());
            self.len += bytes.len() as u64;
        }
        self.tickets += 1;
        Ok(self.tickets)
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        Ok(self.tickets)
    }

    fn prepare(&mut self, _: &str, _: u64) {}

    fn settle(&mut self, _: &[Change<'_>]) -> Result<(), DiskError> {
        Ok(())
    }
}

/// A snapshot of 64 MiB passes through one buffer of a chunk's size, and a read takes the chunks that it touches.
#[test]
fn a_snapshot_is_not_kept_in_memory() {
    const CHUNK: usize = 256 << 10;
    let mut log = create(Bottomless::default());
    let meta = meta(&log, 9);
    let zeros = Bytes::from(vec![0; CHUNK]);
    for number in 0..256 {
        let part = SnapshotChunk {
            meta: meta.clone(),
            offset: number * CHUNK as u64,
            data: zeros.clone(),
            done: number == 255,
        };
        write(&mut log, WriteOp::SnapshotChunk(part.into())).unwrap();
    }
    write(&mut log, install(9, None)).unwrap();
    assert_eq!(log.persisted(), Ok(WriteId(257)));
    let disk = log.disk();
    assert!(disk.len > 256 * CHUNK as u64 && disk.submitted_max < CHUNK + 3_000 && log.buffer.capacity() <= 3 * CHUNK);
    assert_eq!((log.contents.snapshots.installed.pieces.len(), log.begun.len(), log.unsynced.len()), (256, 0, 0));
    for (offset, len, reads) in
        [(0, CHUNK, 1), (7 * CHUNK, CHUNK, 1), (CHUNK / 2, CHUNK, 2), (255 * CHUNK, 2 * CHUNK, 1)]
    {
        log.disk().reads.borrow_mut().clear();
        let read = log.snapshot_chunk(LogIndex(9), offset as u64, len).unwrap();
        assert_eq!(read.len(), len.min(256 * CHUNK - offset));
        assert_eq!(*log.disk().reads.borrow(), vec![CHUNK; reads], "from {offset}");
    }
}
