//! The block log, held against the contract of a storage by the suite that `raft-core` ships: on a disk that crashes at
//! every byte, and on real files.

use std::path::Path;
use std::time::Duration;

use raft_core::suite::{self, StorageHarness};
use raft_core::{Configuration, NodeId, StorageError};
use raft_kv::{BlockLog, ClusterId, Disk, DiskError, FileDisk, MemDisk};
use tempfile::TempDir;

fn cluster() -> ClusterId {
    ClusterId::from_name("suite")
}

/// The suite founds every storage with the same members; a reopened one must be told them again.
fn members() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId))
}

/// Completes syncs at odd places, and crashes at every byte: with every sector before it written, or every other.
#[derive(Default)]
struct InMemory {
    step: u64,
}

impl StorageHarness for InMemory {
    type Storage = BlockLog<MemDisk>;

    fn create(&mut self, genesis: Configuration) -> Self::Storage {
        BlockLog::create(MemDisk::new(), cluster(), genesis).unwrap()
    }

    fn advance(&mut self, log: &mut Self::Storage) {
        self.step += 1;
        let (len, durable) = (log.disk().len(), log.disk().durable_bytes().len() as u64);
        // A part of what waits now and then, the inside of a frame included; else all of it.
        let to = if self.step.is_multiple_of(3) { len } else { durable + (len - durable) * (self.step % 5) / 4 };
        log.disk_mut().sync_to(to);
    }

    fn crash_points(&self, log: &Self::Storage) -> u64 {
        2 * (1 + log.disk().len() - log.disk().durable_bytes().len() as u64)
    }

    fn crash(&mut self, log: Self::Storage, point: u64) -> Result<Self::Storage, String> {
        let disk = log.disk().crash((point / 2) as usize, |sector| point.is_multiple_of(2) || sector % 2 == 0);
        BlockLog::open(disk, cluster(), members()).map_err(|error| error.to_string())
    }

    fn fail(&mut self, log: &mut Self::Storage) -> bool {
        log.disk_mut().fail(DiskError::Io { what: String::from("injected") });
        true
    }
}

#[test]
fn a_block_log_in_memory() {
    suite::storage(InMemory::default());
}

/// The same, where the failure shows only once a write has begun.
struct FailingLate {
    inner: InMemory,
    fails: bool,
}

impl StorageHarness for FailingLate {
    type Storage = BlockLog<MemDisk>;

    fn create(&mut self, genesis: Configuration) -> Self::Storage {
        self.fails = false;
        self.inner.create(genesis)
    }

    fn advance(&mut self, log: &mut Self::Storage) {
        if self.fails {
            self.inner.fail(log);
        }
        self.inner.advance(log);
    }

    fn crash_points(&self, log: &Self::Storage) -> u64 {
        self.inner.crash_points(log)
    }

    fn crash(&mut self, log: Self::Storage, point: u64) -> Result<Self::Storage, String> {
        self.inner.crash(log, point)
    }

    fn fail(&mut self, _: &mut Self::Storage) -> bool {
        self.fails = true;
        true
    }

    fn seeds(&self) -> u64 {
        0
    }
}

#[test]
fn a_block_log_whose_sync_fails() {
    suite::storage(FailingLate { inner: InMemory::default(), fails: false });
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
    BlockLog::open_or_create(disk, cluster(), members()).map_err(|error| error.to_string())
}

impl StorageHarness for OnFiles {
    type Storage = BlockLog<FileDisk>;

    fn create(&mut self, genesis: Configuration) -> Self::Storage {
        assert_eq!(genesis, members());
        self.made += 1;
        open(&self.root.path().join(self.made.to_string())).unwrap()
    }

    fn advance(&mut self, _: &mut Self::Storage) {
        std::thread::sleep(Duration::from_micros(100));
    }

    fn crash_points(&self, _: &Self::Storage) -> u64 {
        1
    }

    fn crash(&mut self, log: Self::Storage, _: u64) -> Result<Self::Storage, String> {
        let path = log.disk().place();
        log.into_disk().shutdown().map_err(|error| StorageError::from(error).to_string())?;
        open(Path::new(&path).parent().unwrap())
    }

    fn seeds(&self) -> u64 {
        8
    }
}

#[test]
fn a_block_log_on_files() {
    suite::storage(OnFiles::new());
}
