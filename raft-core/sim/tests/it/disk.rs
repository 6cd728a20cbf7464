//! The block log on a simulated disk: the suite of `raft-core`, the D faults by their ids, and that rot is
//! always found.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::suite::{self, StorageHarness};
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, NodeId, Payload, SnapshotChunk, SnapshotMeta,
    Storage, StorageError, Term, Write, WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, DiskError, LogOptions, MemDisk, OpenError};
use raft_sim::{Rng, SimDisk, chance, rng};
use rand::RngExt;

type Log = BlockLog<SimDisk>;

fn cluster() -> ClusterId {
    ClusterId::from_name("simulated")
}

fn members() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId))
}

/// A few frames a segment.
const SHORT: LogOptions = LogOptions { segment_bytes: 1_000, archive: false };

/// Everything in one.
const LONG: LogOptions = LogOptions { segment_bytes: 1 << 20, archive: false };

fn open(disk: &SimDisk) -> Result<Log, OpenError> {
    BlockLog::open(disk.clone(), cluster(), members(), SHORT)
}

fn create(options: LogOptions) -> (SimDisk, Log) {
    let disk = SimDisk::new(String::from("disk 1"));
    let log = BlockLog::create(disk.clone(), cluster(), members(), Incarnation(7), options).unwrap();
    (disk, log)
}

fn sync(disk: &SimDisk) {
    let _ = disk.begin_sync();
    disk.end_sync();
}

fn io() -> DiskError {
    DiskError::Io { what: String::from("injected") }
}

fn damaged(opened: Result<Log, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Storage(StorageError::Damaged { .. })))
}

/// How [`Suite`] crashes.
enum Crashes {
    /// At every byte: with every sector before it written, or every other.
    Everywhere,
    /// As the world does it.
    AtRandom(Box<Rng>),
}

struct Suite {
    crashes: Crashes,
    step: u64,
}

impl StorageHarness for Suite {
    type Storage = Log;

    fn create(&mut self, genesis: Configuration) -> Log {
        assert_eq!(genesis, members());
        create(SHORT).1
    }

    /// Half a sync, or one and the beginning of the next.
    fn advance(&mut self, log: &mut Log) {
        self.step += 1;
        log.disk().end_sync();
        let _ = log.disk().begin_sync();
        if self.step.is_multiple_of(3) {
            log.disk().end_sync();
        }
    }

    fn crash_points(&self, log: &Log) -> u64 {
        match self.crashes {
            Crashes::Everywhere => 2 * (1 + log.disk().unsynced()),
            Crashes::AtRandom(_) => 10,
        }
    }

    fn crash(&mut self, log: Log, point: u64) -> Result<Log, String> {
        let disk = log.into_disk();
        match &mut self.crashes {
            Crashes::Everywhere => {
                disk.crash_with(point / 2, |_, sector| point.is_multiple_of(2) || sector.is_multiple_of(2));
            }
            Crashes::AtRandom(_) if point == 0 => disk.crash_with(0, |_, _| true),
            Crashes::AtRandom(_) if point == 9 => disk.crash_with(u64::MAX, |_, _| true),
            Crashes::AtRandom(rng) => disk.crash(rng),
        }
        open(&disk).map_err(|error| error.to_string())
    }

    fn fail(&mut self, log: &mut Log) -> bool {
        log.disk().fail(io());
        true
    }

    fn seeds(&self) -> u64 {
        16
    }
}

#[test]
fn a_block_log_passes_the_suite_with_crashes_everywhere() {
    suite::storage(Suite { crashes: Crashes::Everywhere, step: 0 });
}

#[test]
fn a_block_log_passes_the_suite_with_crashes_at_random() {
    suite::storage(Suite { crashes: Crashes::AtRandom(Box::new(rng(1, "suite"))), step: 0 });
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    hard_state: HardState,
    snapshot: LogIndex,
    before: LogIndex,
    chain: Vec<Digest>,
}

impl Held {
    fn read(log: &Log) -> Self {
        let before = log.first_index().prev();
        let digest = |index| log.digest(LogIndex(index)).unwrap().unwrap();
        Self {
            hard_state: log.hard_state().unwrap(),
            snapshot: log.snapshot_meta().unwrap().last_included_index,
            before,
            chain: (before.0..=log.last_index().0).map(digest).collect(),
        }
    }
}

/// A log, its disk, and what it held after each write of this life; the first is what the life began with.
struct Life {
    disk: SimDisk,
    log: Log,
    held: Vec<Held>,
}

impl Life {
    fn new(options: LogOptions) -> Self {
        let (disk, log) = create(options);
        Self { disk, held: vec![Held::read(&log)], log }
    }

    /// One block a write, all of them reported.
    fn with(payloads: &[usize]) -> Self {
        let mut life = Self::new(LONG);
        for payload in payloads {
            life.append(&[*payload]).unwrap();
            sync(&life.disk);
            life.log.persisted().unwrap();
        }
        life
    }

    fn write(&mut self, op: WriteOp) -> Result<WriteId, StorageError> {
        let id = WriteId(self.held.len() as u64);
        self.log.write(Write { id, op })?;
        self.held.push(Held::read(&self.log));
        Ok(id)
    }

    fn append(&mut self, payloads: &[usize]) -> Result<WriteId, StorageError> {
        let (last, term) = (self.log.last_index(), self.term());
        let entry = |(at, len): (u64, &usize)| Entry {
            index: LogIndex(last.0 + at),
            term,
            payload: Payload::Command(Bytes::from(vec![at as u8; *len])),
        };
        let entries: Arc<[Entry]> = (1..).zip(payloads).map(entry).collect();
        self.write(WriteOp::Append { entries, digests: None })
    }

    fn vote(&mut self, above: u64) -> Result<WriteId, StorageError> {
        let current_term = Term(self.log.hard_state().unwrap().current_term.0 + above);
        self.write(WriteOp::HardState(HardState { current_term, voted_for: Some(NodeId(2)) }))
    }

    /// The last block's, or the one that was voted in.
    fn term(&self) -> Term {
        let last = self.log.term(self.log.last_index()).unwrap();
        last.max(self.log.hard_state().unwrap().current_term)
    }

    fn snapshot(&mut self, rng: &mut Rng) {
        let (first, last) = (self.log.snapshot_meta().unwrap().last_included_index.next(), self.log.last_index());
        if first > last {
            return;
        }
        let index = LogIndex(rng.random_range(first.0..=last.0));
        let meta = SnapshotMeta {
            last_included_index: index,
            last_included_term: self.log.term(index).unwrap(),
            digest: self.log.digest(index).unwrap(),
            configuration: members(),
            state: None,
        };
        for (offset, done) in [(0, false), (300, true)] {
            let data = Bytes::from(vec![9; 300]);
            let chunk = SnapshotChunk { meta: meta.clone(), offset, data, done };
            self.write(WriteOp::SnapshotChunk(Box::new(chunk))).unwrap();
        }
        let keep_from = chance(rng, 700).then(|| LogIndex(rng.random_range(self.log.first_index().0..=index.0 + 1)));
        self.write(WriteOp::InstallSnapshot { index, keep_from }).unwrap();
    }

    fn random_write(&mut self, rng: &mut Rng) {
        let (snapshot, last) = (self.log.snapshot_meta().unwrap().last_included_index.0, self.log.last_index().0);
        match rng.random_range(0..20) {
            0..4 => drop(self.vote(rng.random_range(1..3)).unwrap()),
            4..6 if last > snapshot => {
                let from = LogIndex(rng.random_range(snapshot + 1..=last));
                self.write(WriteOp::Truncate(from)).unwrap();
            }
            6 => self.snapshot(rng),
            _ => {
                let count = rng.random_range(1..4);
                let len_max = if chance(rng, 200) { 1500 } else { 40 };
                let lens: Vec<usize> = (0..count).map(|_| rng.random_range(0..len_max)).collect();
                self.append(&lens).unwrap();
            }
        }
    }

    /// One thing that happens to a server and its disk.
    fn random_step(&mut self, rng: &mut Rng) {
        match rng.random_range(0..10) {
            0..5 => self.random_write(rng),
            5..7 => drop(self.disk.begin_sync()),
            7..9 => self.disk.end_sync(),
            _ => drop(self.log.persisted().unwrap()),
        }
    }

    /// Crashes and opens again: what is found is some state since the last that was reported.
    fn crash(self, rng: &mut Rng) -> Self {
        let (disk, held, reported) = self.end();
        disk.crash(rng);
        let log = open(&disk).unwrap();
        let found = Held::read(&log);
        assert!(held[reported..].contains(&found), "{found:?} is none of {:?}", &held[reported..]);
        Self { disk, held: vec![found], log }
    }

    /// The disk, what was held after each write, and how many writes were reported.
    fn end(mut self) -> (SimDisk, Vec<Held>, usize) {
        let reported = self.log.persisted().map_or(0, |id| id.0 as usize);
        (self.disk, self.held, reported)
    }
}

/// Whether the log does not open for it, or a read of its snapshot says so: a server reads all of that as it starts.
fn is_found_in_snapshot(opened: Result<Log, OpenError>) -> bool {
    opened.map_or_else(
        |error| damaged(Err(error)),
        |log| {
            let index = log.snapshot_meta().unwrap().last_included_index;
            matches!(log.snapshot_chunk(index, 0, usize::MAX), Err(StorageError::Damaged { .. }))
        },
    )
}

/// A disk with this one segment.
fn holding(bytes: Vec<u8>) -> SimDisk {
    SimDisk::holding(MemDisk::from_files([(FIRST.into(), bytes)]))
}

const FIRST: &str = "segment-0000000000000001";

/// Lives with crashes in them, then rot before a crash or after it: opening always finds it.
#[test]
fn d2_rot_of_what_is_vouched_for_is_always_found() {
    let (mut rotten, mut crashed_first, mut of_snapshots) = (0, 0, 0);
    for seed in 0..3_000 {
        let (mut rng, mut life) = (rng(seed, "rot"), Life::new(if seed % 2 == 0 { SHORT } else { LONG }));
        for _ in 0..rng.random_range(5..60) {
            life.random_step(&mut rng);
            if chance(&mut rng, 30) {
                life = life.crash(&mut rng);
            }
        }
        let (disk, ..) = life.end();
        let crashes_first = chance(&mut rng, 500);
        if crashes_first {
            disk.crash(&mut rng);
        }
        let Some((file, at)) = disk.rot(&mut rng) else { continue };
        if !crashes_first {
            disk.crash(&mut rng);
        }
        rotten += 1;
        crashed_first += u32::from(crashes_first);
        let found = disk.contents();
        if file.starts_with("snapshot-") {
            of_snapshots += 1;
            assert!(is_found_in_snapshot(open(&disk)), "seed {seed}: rot at byte {at} of {file} is not found");
            continue;
        }
        assert!(damaged(open(&disk)), "seed {seed}: rot at byte {at} of {file} is not found");
        assert_eq!(disk.contents(), found, "seed {seed}: opening a damaged directory changes it");
        let reopened = BlockLog::open_or_create(disk, cluster(), members(), Incarnation(8), SHORT);
        assert!(damaged(reopened), "seed {seed}: rot at byte {at} of {file} is founded anew");
    }
    assert!(rotten > 2_000 && of_snapshots > 100, "{rotten}, {of_snapshots} of snapshots");
    assert!((700..rotten - 700).contains(&crashed_first), "{crashed_first} of {rotten}");
}

/// Where the log ends in its file: behind it are zeros.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// The rot above spares those bytes for this reason: damage there looks like a torn tail, and acknowledged blocks go.
#[test]
fn damage_that_nothing_vouches_for_looks_like_a_torn_tail() {
    let (disk, held, reported) = Life::with(&[10, 10, 10]).end();
    assert_eq!(reported, 3);
    let mut bytes = disk.contents().remove(FIRST).unwrap();
    let end = used(&bytes);
    bytes[end - 1] ^= 1;
    assert_eq!(Held::read(&open(&holding(bytes)).unwrap()), held[2]);
}

/// Every length of what was not synced, every pattern of two sectors in it: what was reported stays.
#[test]
fn d1_a_torn_tail_is_cut_and_nothing_acknowledged_is_lost() {
    let mut found = BTreeSet::new();
    let unsynced = {
        let mut life = Life::with(&[10, 600, 30]);
        life.append(&[700, 20]).unwrap();
        life.vote(1).unwrap();
        life.disk.unsynced()
    };
    for (kept, pattern) in (0..=unsynced).flat_map(|kept| [(kept, 3), (kept, 1), (kept, 2), (kept, 0)]) {
        let mut life = Life::with(&[10, 600, 30]);
        life.append(&[700, 20]).unwrap();
        let _ = life.disk.begin_sync();
        life.vote(1).unwrap();
        let (disk, held, reported) = life.end();
        assert_eq!(reported, 3);
        disk.crash_with(kept, |_, sector| pattern & (1 << (sector % 2)) != 0);
        let mut log = open(&disk).unwrap();
        let state = held[reported..].iter().position(|held| *held == Held::read(&log));
        found.insert(state.expect("a state since the last that was reported"));
        assert_eq!(disk.unsynced(), 0, "what an open log holds is durable");
        let vote = HardState { current_term: Term(9), voted_for: None };
        log.write(Write { id: WriteId(1), op: WriteOp::HardState(vote) }).unwrap();
        sync(&disk);
        assert_eq!(log.persisted(), Ok(WriteId(1)));
    }
    assert_eq!(found, BTreeSet::from([0, 1, 2]));
}

/// Each byte that a later write vouches for, one bit at a time.
#[test]
fn d2_damage_in_the_middle_is_not_taken_for_the_end() {
    let life = Life::with(&[10, 200, 30]);
    let (disk, held, _) = life.end();
    let bytes = disk.contents().remove(FIRST).unwrap();
    let (mut found, mut cut) = (0, 0);
    let end = used(&bytes);
    for at in 0..end {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        match open(&holding(bytes)) {
            // The third write begins where the second was known to be durable.
            Ok(log) if Held::read(&log) == held[2] => cut += 1,
            opened => {
                assert!(damaged(opened), "byte {at}");
                found += 1;
            }
        }
    }
    assert_eq!((found, cut), (end - cut, 24 + 1 + 61 + 30), "only the last frame");
}

/// The failure shows in the report; nothing is written or reported after it, though the device works again. The next
/// life holds what was reported, and what it holds then is durable whatever the failed sync left.
#[test]
fn d3_a_failed_sync_is_final_until_reopened() {
    for seed in 0..300 {
        let (mut rng, mut life) = (rng(seed, "d3"), Life::with(&[10, 20]));
        let failed = life.append(&[900, 900]).unwrap();
        life.disk.fail(io());
        let _ = life.disk.begin_sync();
        assert!(life.log.persisted().unwrap() < failed);
        life.disk.end_sync();
        let poisoned = |result: Result<WriteId, StorageError>| matches!(result, Err(StorageError::Poisoned { .. }));
        assert!(poisoned(life.log.persisted()) && poisoned(life.append(&[1])) && poisoned(life.vote(1)));
        sync(&life.disk);
        assert!(poisoned(life.log.persisted()));
        let held = life.held.clone();
        life.disk.crash(&mut rng);
        let log = open(&life.disk).unwrap();
        let found = Held::read(&log);
        assert!(held[2..].contains(&found), "seed {seed}");
        drop(log);
        life.disk.crash(&mut rng);
        assert_eq!(Held::read(&open(&life.disk).unwrap()), found, "seed {seed}: a life forgot what it began with");
    }
}

#[test]
fn d5_nothing_counts_before_its_sync() {
    let mut life = Life::new(LONG);
    assert_eq!(life.log.persisted(), Ok(WriteId(0)));
    life.append(&[10]).unwrap();
    assert_eq!(life.log.persisted(), Ok(WriteId(0)));
    assert!(life.disk.begin_sync().is_some());
    life.vote(1).unwrap();
    assert_eq!(life.log.persisted(), Ok(WriteId(0)));
    life.disk.end_sync();
    assert_eq!(life.log.persisted(), Ok(WriteId(1)));
    sync(&life.disk);
    assert_eq!(life.log.persisted(), Ok(WriteId(2)));
    let (disk, held, _) = life.end();
    disk.crash_with(0, |_, _| true);
    assert_eq!(Held::read(&open(&disk).unwrap()), held[2]);
}

/// What its file has room for is taken. A longer write poisons the log (a server refuses it in time): it stands still, with its
/// reads, until it is started again, for which it needs no room. Nothing that was reported is lost.
#[test]
fn d6_a_full_disk_refuses() {
    let mut life = Life::with(&[10, 20]);
    life.disk.set_full(true);
    life.append(&[30]).unwrap();
    let refused = life.append(&[usize::try_from(LONG.segment_bytes).unwrap()]).unwrap_err();
    assert!(refused.to_string().contains("no space left") && matches!(refused, StorageError::Poisoned { .. }));
    life.disk.set_full(false);
    assert!(matches!(life.append(&[30]), Err(StorageError::Poisoned { .. })));
    assert_eq!(life.log.entries(LogIndex(1), LogIndex(2), usize::MAX).unwrap().len(), 2);
    let (disk, held, _) = life.end();
    disk.crash_with(u64::MAX, |_, _| true);
    disk.set_full(true);
    assert!(held[2..].contains(&Held::read(&open(&disk).unwrap())));
}

#[test]
fn d8_a_lost_file_is_missing_and_founded_as_another_disk() {
    let (disk, ..) = Life::with(&[10]).end();
    disk.wipe();
    assert!(matches!(open(&disk), Err(OpenError::Missing { .. })));
    let log = BlockLog::open_or_create(disk, cluster(), members(), Incarnation(8), SHORT).unwrap();
    assert_eq!((log.last_index(), log.incarnation()), (LogIndex(0), Incarnation(8)));
}

#[test]
fn d9_a_read_error_is_a_fault_not_an_empty_answer() {
    let life = Life::with(&[10, 20]);
    life.disk.fail_reads(true);
    let failed = |error: StorageError| matches!(error, StorageError::Io { .. });
    assert!(failed(life.log.entries(LogIndex(1), LogIndex(2), usize::MAX).unwrap_err()));
    assert!(failed(life.log.digest(LogIndex(2)).unwrap_err()));
    assert_eq!(life.log.last_index(), LogIndex(2));
    let (disk, held, _) = life.end();
    disk.crash_with(0, |_, _| true);
    assert!(open(&disk).is_err());
    assert!(BlockLog::open_or_create(disk.clone(), cluster(), members(), Incarnation(8), SHORT).is_err());
    disk.fail_reads(false);
    assert_eq!(Held::read(&open(&disk).unwrap()), held[2]);
}

#[test]
fn equal_seeds_lead_equal_lives() {
    let lead = |seed| {
        let (mut rng, mut life) = (rng(seed, "life"), Life::new(SHORT));
        for _ in 0..200 {
            life.random_step(&mut rng);
            if chance(&mut rng, 50) {
                life = life.crash(&mut rng);
            }
        }
        (life.disk.contents(), life.disk.writes(), life.held)
    };
    assert_eq!(lead(1), lead(1));
    assert_ne!(lead(1).0, lead(2).0);
}
