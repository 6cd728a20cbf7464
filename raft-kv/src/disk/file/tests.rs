use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A backing that does each write and each sync when the test lets it, with the result the test gives.
struct Scripted {
    began: Sender<(&'static str, u64, usize)>,
    results: Receiver<io::Result<()>>,
}

impl Backing for Scripted {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.began.send(("write", offset, bytes.len())).unwrap();
        self.results.recv_timeout(DEADLINE).unwrap()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.began.send(("sync", 0, 0)).unwrap();
        self.results.recv_timeout(DEADLINE).unwrap()
    }
}

/// A disk over a scripted backing, and the test's ends of its channels.
struct Stage {
    disk: FileDisk,
    began: Receiver<(&'static str, u64, usize)>,
    results: Sender<io::Result<()>>,
    notified: Receiver<()>,
    _dir: tempfile::TempDir,
}

fn stage() -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let (began_sender, began) = channel();
    let (results, results_receiver) = channel();
    let (notify, notified) = channel();
    let backing = Scripted { began: began_sender, results: results_receiver };
    let notify = move || notify.send(()).unwrap_or_default();
    let (shared, writer) = spawn(backing, String::from("stage"), 0, notify).unwrap();
    let path = dir.path().join(FILE_NAME);
    let file = Arc::new(File::create_new(&path).unwrap());
    let lock = lock(dir.path()).unwrap();
    Stage {
        disk: FileDisk { path, file, shared, writer: Some(writer), len: 0, lock },
        began,
        results,
        notified,
        _dir: dir,
    }
}

impl Stage {
    fn expect(&self, call: (&'static str, u64, usize), result: io::Result<()>) {
        assert_eq!(self.began.recv_timeout(DEADLINE).unwrap(), call);
        self.results.send(result).unwrap();
    }
}

fn open(dir: &Path) -> (FileDisk, Receiver<()>) {
    let (notify, notified) = channel();
    (FileDisk::open(dir, move || notify.send(()).unwrap_or_default()).unwrap(), notified)
}

fn wait_durable(disk: &mut FileDisk, notified: &Receiver<()>, len: u64) {
    while disk.durable().unwrap() < len {
        notified.recv_timeout(DEADLINE).unwrap();
    }
}

#[test]
fn what_arrives_during_a_sync_becomes_one_write() {
    let mut stage = stage();
    stage.disk.submit(b"one").unwrap();
    assert_eq!(stage.began.recv_timeout(DEADLINE).unwrap(), ("write", 0, 3));
    assert_eq!(stage.disk.submit(b"four").unwrap(), 7);
    assert_eq!(stage.disk.submit(b"seven").unwrap(), 12);
    stage.results.send(Ok(())).unwrap();
    stage.expect(("sync", 0, 0), Ok(()));
    stage.notified.recv_timeout(DEADLINE).unwrap();
    assert_eq!(stage.disk.durable().unwrap(), 3);
    stage.expect(("write", 3, 9), Ok(()));
    stage.expect(("sync", 0, 0), Ok(()));
    stage.notified.recv_timeout(DEADLINE).unwrap();
    assert_eq!(stage.disk.durable().unwrap(), 12);
    stage.disk.shutdown().unwrap();
}

#[test]
fn d3_a_failed_fsync_poisons_and_is_never_tried_again() {
    let mut stage = stage();
    stage.disk.submit(b"one").unwrap();
    stage.expect(("write", 0, 3), Ok(()));
    // What already waits behind the failure is never written either.
    stage.disk.submit(b"waits").unwrap();
    stage.expect(("sync", 0, 0), Err(io::Error::other("the device is gone")));
    stage.notified.recv_timeout(DEADLINE).unwrap();
    let error = stage.disk.durable().unwrap_err();
    assert_eq!(error, DiskError::Io { what: String::from("sync stage: the device is gone") });
    assert_eq!(stage.disk.submit(b"two"), Err(error.clone()));
    assert_eq!(stage.disk.durable(), Err(error.clone()));
    assert_eq!(stage.disk.len(), 8);
    assert_eq!(stage.disk.shutdown(), Err(error));
    assert!(stage.began.recv_timeout(DEADLINE).is_err(), "the writer has ended without another call");
}

#[test]
fn d5_nothing_is_durable_before_its_own_sync_returned() {
    let mut stage = stage();
    stage.disk.submit(b"one").unwrap();
    stage.expect(("write", 0, 3), Ok(()));
    assert_eq!(stage.began.recv_timeout(DEADLINE).unwrap(), ("sync", 0, 0));
    stage.disk.submit(b"two").unwrap();
    assert_eq!(stage.disk.durable().unwrap(), 0);
    stage.results.send(Ok(())).unwrap();
    assert_eq!(stage.began.recv_timeout(DEADLINE).unwrap(), ("write", 3, 3));
    assert_eq!(stage.disk.durable().unwrap(), 3);
    stage.results.send(Ok(())).unwrap();
    stage.expect(("sync", 0, 0), Ok(()));
    stage.disk.shutdown().unwrap();
}

#[test]
fn d6_a_full_device_is_named_and_acknowledges_nothing() {
    let mut stage = stage();
    stage.disk.submit(b"one").unwrap();
    stage.expect(("write", 0, 3), Err(io::Error::from(io::ErrorKind::StorageFull)));
    stage.notified.recv_timeout(DEADLINE).unwrap();
    let error = stage.disk.durable().unwrap_err();
    assert!(matches!(error, DiskError::Full { .. }), "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!(stage.disk.shutdown(), Err(error));
}

#[test]
fn a_writer_that_dies_is_a_failure_and_not_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = FileDisk::open(dir.path(), || panic!("the test's notify panics")).unwrap();
    disk.settle(0, b"").unwrap();
    disk.submit(b"one").unwrap();
    while !disk.writer.as_ref().unwrap().is_finished() {
        std::thread::yield_now();
    }
    assert!(disk.durable().is_err());
    assert!(disk.submit(b"two").is_err());
    assert!(disk.shutdown().is_err());
}

#[test]
fn shutdown_finishes_what_was_submitted_and_the_next_life_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, _notified) = open(dir.path());
    disk.settle(0, b"head").unwrap();
    for _ in 0..100 {
        disk.submit(b"0123456789").unwrap();
    }
    disk.shutdown().unwrap();
    let (mut disk, notified) = open(dir.path());
    assert_eq!(disk.len(), 1004);
    disk.settle(14, b"tail").unwrap();
    assert_eq!(disk.submit(b"!").unwrap(), 19);
    wait_durable(&mut disk, &notified, 19);
    let mut buffer = [0; 19];
    disk.read_at(0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"head0123456789tail!");
    assert!(matches!(disk.read_at(1, &mut buffer), Err(DiskError::PastEnd { end: 20, .. })));
}

#[test]
fn d4_a_directory_below_missing_directories_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    let (disk, _notified) = open(&deep);
    assert_eq!(disk.place(), deep.join(FILE_NAME).display().to_string());
    drop(disk);
    assert_eq!(open(&deep).0.len(), 0);
}

#[test]
fn d7_the_same_directory_twice_is_refused_by_name_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _notified) = open(dir.path());
    let error = FileDisk::open(dir.path(), || ()).unwrap_err();
    assert_eq!(error, DiskError::InUse { dir: dir.path().display().to_string() });
    disk.shutdown().unwrap();
    FileDisk::open(dir.path(), || ()).unwrap();
}

/// A child process that is being started shares our open files until it executes its program; `try_clone` does the
/// same. The lock must be free once the disk is closed all the same.
#[test]
fn d7_a_closed_directory_is_free_even_while_a_copy_of_the_lock_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _notified) = open(dir.path());
    let copy = disk.lock.try_clone().unwrap();
    disk.shutdown().unwrap();
    FileDisk::open(dir.path(), || ()).unwrap();
    drop(copy);
}

#[test]
fn what_is_not_a_directory_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = FileDisk::open(&file, || ()).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}
