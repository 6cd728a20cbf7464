//! The block log, held against the contract of a storage by the suite that `raft-core` ships: on a disk that crashes at
//! every byte of every operation, and on real files. Segments are so short that a script fills several.

use std::path::Path;
use std::time::Duration;

use raft_core::suite::{self, StorageHarness};
use raft_core::{Config, Configuration, Incarnation, MemStorage, NodeId, StorageError};
use raft_kv::recording::Recorder;
use raft_kv::{BlockLog, Change, ClusterId, Disk, DiskError, FileDisk, LogOptions, MemDisk};
use tempfile::TempDir;

fn cluster() -> ClusterId {
    ClusterId::from_name("suite")
}

/// The suite founds every storage with the same members; a reopened one must be told them again.
fn members() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId))
}

/// Completes syncs at odd places, and crashes at every byte: with every sector before it written, or every other.
struct InMemory {
    step: u64,
    options: LogOptions,
}

const fn segments_of(segment_bytes: u64, archive: bool) -> LogOptions {
    LogOptions { segment_bytes, archive }
}

impl StorageHarness for InMemory {
    type Storage = BlockLog<MemDisk>;

    fn create(&mut self, genesis: Configuration) -> Self::Storage {
        BlockLog::create(MemDisk::new(), cluster(), genesis, Incarnation::UNKNOWN, self.options).unwrap()
    }

    fn advance(&mut self, log: &mut Self::Storage) {
        self.step += 1;
        let submitted = log.disk().submitted();
        let durable = log.disk_mut().durable().unwrap_or(submitted);
        // A part of what waits now and then; else all of it.
        let part = durable + (submitted - durable) * (self.step % 5) / 4;
        log.disk_mut().sync_to(if self.step.is_multiple_of(3) { submitted } else { part });
    }

    fn crash_points(&self, log: &Self::Storage) -> u64 {
        2 * (1 + log.disk().unsynced())
    }

    fn crash(&mut self, log: Self::Storage, point: u64) -> Result<Self::Storage, String> {
        let disk = log.disk().crash(point / 2, |_, sector| point.is_multiple_of(2) || sector % 2 == 0);
        BlockLog::open(disk, cluster(), members(), self.options).map_err(|error| error.to_string())
    }

    fn fail(&mut self, log: &mut Self::Storage) -> bool {
        log.disk_mut().fail(DiskError::Io { what: String::from("injected") });
        true
    }
}

#[test]
fn a_block_log_in_memory() {
    suite::storage(InMemory { step: 0, options: LogOptions::default() });
}

#[test]
fn a_block_log_of_many_segments_in_memory() {
    suite::storage(InMemory { step: 0, options: segments_of(700, false) });
}

#[test]
fn a_block_log_of_a_segment_a_write_that_is_archived() {
    suite::storage(InMemory { step: 0, options: segments_of(0, true) });
}

/// A disk that fails once and then works again, as if nothing had happened: it breaks its contract, and the log must
/// keep its own all the same (fault D3).
#[derive(Default)]
struct Forgetful {
    inner: MemDisk,
    fails: bool,
}

impl Disk for Forgetful {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn files(&self) -> Vec<String> {
        self.inner.files()
    }

    fn holds(&self, file: &str) -> bool {
        self.inner.holds(file)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        self.inner.len(file)
    }

    fn read_at(&self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.inner.read_at(file, offset, buffer)
    }

    fn submit(&mut self, change: Change<'_>) -> Result<u64, DiskError> {
        self.inner.submit(change)
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        match std::mem::take(&mut self.fails) {
            true => Err(DiskError::Io { what: String::from("injected") }),
            false => self.inner.durable(),
        }
    }

    fn prepare(&mut self, file: &str, len: u64) {
        self.inner.prepare(file, len);
    }

    fn settle(&mut self, changes: &[Change<'_>]) -> Result<(), DiskError> {
        self.inner.settle(changes)
    }
}

struct OnAForgetfulDisk;

impl StorageHarness for OnAForgetfulDisk {
    type Storage = BlockLog<Forgetful>;

    fn create(&mut self, genesis: Configuration) -> Self::Storage {
        BlockLog::create(Forgetful::default(), cluster(), genesis, Incarnation::UNKNOWN, segments_of(700, false))
            .unwrap()
    }

    fn advance(&mut self, log: &mut Self::Storage) {
        log.disk_mut().inner.sync();
    }

    fn crash_points(&self, _: &Self::Storage) -> u64 {
        1
    }

    fn crash(&mut self, log: Self::Storage, _: u64) -> Result<Self::Storage, String> {
        let disk = Forgetful { inner: log.disk().inner.crash(0, |_, _| true), fails: false };
        BlockLog::open(disk, cluster(), members(), segments_of(700, false)).map_err(|error| error.to_string())
    }

    fn fail(&mut self, log: &mut Self::Storage) -> bool {
        log.disk_mut().fails = true;
        true
    }

    fn seeds(&self) -> u64 {
        8
    }
}

#[test]
fn d3_a_block_log_on_a_disk_that_forgets_its_failure() {
    suite::storage(OnAForgetfulDisk);
}

/// Real files. What a power failure leaves cannot be had here: a crash is a process that ends after its last write.
struct OnFiles {
    root: TempDir,
    made: u32,
}

impl OnFiles {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), made: 0 }
    }
}

fn open(dir: &Path) -> Result<BlockLog<FileDisk>, String> {
    let disk = FileDisk::open(dir, || ()).map_err(|error| error.to_string())?;
    let opened = BlockLog::open_or_create(disk, cluster(), members(), Incarnation::UNKNOWN, segments_of(2000, false));
    opened.map_err(|error| error.to_string())
}

impl StorageHarness for OnFiles {
    type Storage = BlockLog<FileDisk>;

    fn create(&mut self, genesis: Configuration) -> Self::Storage {
        assert_eq!(genesis, members());
        self.made += 1;
        open(&self.root.path().join(self.made.to_string())).unwrap()
    }

    fn advance(&mut self, _: &mut Self::Storage) {
        std::thread::sleep(Duration::from_micros(500));
    }

    fn crash_points(&self, _: &Self::Storage) -> u64 {
        1
    }

    fn crash(&mut self, log: Self::Storage, _: u64) -> Result<Self::Storage, String> {
        let path = log.disk().place();
        log.into_disk().shutdown().map_err(|error| StorageError::from(error).to_string())?;
        open(Path::new(&path))
    }

    fn seeds(&self) -> u64 {
        8
    }
}

#[test]
fn a_block_log_on_files() {
    suite::storage(OnFiles::new());
}

#[test]
fn a_recorder_around_a_storage_in_memory() {
    let (root, config) = (tempfile::tempdir().unwrap(), Config::new(NodeId(1)));
    suite::storage(|genesis| {
        Recorder::start(MemStorage::new(genesis), &config, root.path(), u64::MAX, |_| ()).unwrap()
    });
}

#[test]
fn a_recorder_that_is_off() {
    suite::storage(|genesis| Recorder::off(MemStorage::new(genesis)));
}
