use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::process::Uid;

use super::directory::Backing;
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A backing that does each call when the test lets it, with the result the test gives.
struct Scripted {
    began: Sender<String>,
    results: Mutex<Receiver<Result<(), DiskError>>>,
}

impl Scripted {
    fn does(&self, call: String) -> Result<(), DiskError> {
        self.began.send(call).unwrap();
        self.results.lock().unwrap().recv_timeout(DEADLINE).unwrap()
    }
}

impl Backing for Scripted {
    fn create(&self, _: u64, name: &str) -> Result<(), DiskError> {
        self.does(format!("create {name}"))
    }

    fn write(&self, _: u64, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.does(format!("write {} at {offset} of {name}", bytes.len()))
    }

    fn reserve(&self, _: u64, name: &str, len: u64) -> Result<(), DiskError> {
        self.does(format!("reserve {len} for {name}"))
    }

    fn sync(&self, _: u64, name: &str) -> Result<(), DiskError> {
        self.does(format!("sync {name}"))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.does(format!("rename {from} to {to}"))
    }

    fn remove(&self, _: u64, name: &str) -> Result<(), DiskError> {
        self.does(format!("remove {name}"))
    }
}

/// A disk over a scripted backing, with two files, and the test's ends of its channels.
struct Stage {
    disk: FileDisk,
    began: Receiver<String>,
    results: Sender<Result<(), DiskError>>,
    notified: Receiver<()>,
    _dir: tempfile::TempDir,
}

fn stage() -> Stage {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(dir.path().join(name), b"").unwrap();
    }
    let (began_sender, began) = channel();
    let (results, results_receiver) = channel();
    let (notify, notified) = channel();
    let backing = Scripted { began: began_sender, results: Mutex::new(results_receiver) };
    let notify = move || notify.send(()).unwrap_or_default();
    let mut disk = FileDisk::open(dir.path(), || ()).unwrap();
    disk.shared.close();
    disk.writer.take().unwrap().join().unwrap();
    let (shared, writer) = queue::spawn(Arc::new(backing), String::from("stage"), notify).unwrap();
    (disk.shared, disk.writer) = (shared, Some(writer));
    Stage { disk, began, results, notified, _dir: dir }
}

fn write<'a>(file: &'a str, offset: u64, bytes: &'a [u8]) -> Change<'a> {
    Change::Write { file, offset, bytes }
}

fn io(what: &str) -> DiskError {
    DiskError::Io { what: String::from(what) }
}

impl Stage {
    fn began(&self) -> String {
        self.began.recv_timeout(DEADLINE).unwrap()
    }

    fn expect(&self, call: &str, result: Result<(), DiskError>) {
        assert_eq!(self.began(), call);
        self.results.send(result).unwrap();
    }
}

fn open(dir: &Path) -> (FileDisk, Receiver<()>) {
    let (notify, notified) = channel();
    (FileDisk::open(dir, move || notify.send(()).unwrap_or_default()).unwrap(), notified)
}

fn wait_durable(disk: &mut FileDisk, notified: &Receiver<()>, ticket: u64) {
    while disk.durable().unwrap() < ticket {
        notified.recv_timeout(DEADLINE).unwrap();
    }
}

fn read(disk: &FileDisk, file: &str) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.len(file).unwrap()).unwrap()];
    disk.read_at(file, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_arrives_during_a_sync_becomes_one_write_a_file() {
    let mut stage = stage();
    assert_eq!(stage.disk.submit(write("a", 0, b"one")), Ok(1));
    assert_eq!(stage.began(), "write 3 at 0 of a");
    assert_eq!(stage.disk.submit(write("a", 3, b"four")), Ok(2));
    assert_eq!(stage.disk.submit(write("a", 7, b"seven")), Ok(3));
    assert_eq!(stage.disk.submit(write("b", 0, b"b")), Ok(4));
    stage.results.send(Ok(())).unwrap();
    stage.expect("sync a", Ok(()));
    stage.notified.recv_timeout(DEADLINE).unwrap();
    assert_eq!(stage.disk.durable(), Ok(1));
    for call in ["write 9 at 3 of a", "write 1 at 0 of b", "sync a", "sync b"] {
        stage.expect(call, Ok(()));
    }
    stage.notified.recv_timeout(DEADLINE).unwrap();
    assert_eq!(stage.disk.durable(), Ok(4));
    stage.disk.shutdown().unwrap();
}

/// Contract 3, and fault D4 as far as it shows here: a name is changed when what it stands for is durable, and what
/// comes after waits for the name.
#[test]
fn d4_every_other_change_is_a_barrier() {
    let mut stage = stage();
    stage.disk.submit(write("a", 0, b"one")).unwrap();
    assert_eq!(stage.began(), "write 3 at 0 of a");
    stage.disk.submit(write("a", 3, b"two")).unwrap();
    stage.disk.submit(Change::Create { file: "c" }).unwrap();
    stage.disk.submit(write("c", 0, b"c")).unwrap();
    stage.disk.submit(Change::Rename { from: "c", to: "d" }).unwrap();
    stage.disk.submit(write("d", 1, b"d")).unwrap();
    stage.disk.submit(Change::Remove { file: "b" }).unwrap();
    assert_eq!(stage.disk.files(), ["a", "d"], "as everything submitted leaves them");
    stage.results.send(Ok(())).unwrap();
    stage.expect("sync a", Ok(()));
    for call in ["write 3 at 3 of a", "sync a", "create c", "write 1 at 0 of c", "sync c", "rename c to d"] {
        stage.expect(call, Ok(()));
    }
    for call in ["write 1 at 1 of d", "sync d", "remove b"] {
        stage.expect(call, Ok(()));
    }
    wait_durable(&mut stage.disk, &stage.notified, 7);
    stage.disk.shutdown().unwrap();
}

#[test]
fn d3_a_failed_fsync_poisons_and_is_never_tried_again() {
    let mut stage = stage();
    stage.disk.submit(write("a", 0, b"one")).unwrap();
    stage.expect("write 3 at 0 of a", Ok(()));
    // What already waits behind the failure is never written either.
    stage.disk.submit(write("a", 3, b"waits")).unwrap();
    stage.expect("sync a", Err(io("the device is gone")));
    stage.notified.recv_timeout(DEADLINE).unwrap();
    let error = stage.disk.durable().unwrap_err();
    assert_eq!(error, io("the device is gone"));
    assert_eq!(stage.disk.submit(write("a", 8, b"two")), Err(error.clone()));
    assert_eq!(stage.disk.submit(Change::Remove { file: "b" }), Err(error.clone()));
    assert_eq!(stage.disk.durable(), Err(error.clone()));
    assert_eq!(stage.disk.files(), ["a", "b"]);
    assert_eq!(stage.disk.shutdown(), Err(error));
    assert!(stage.began.recv_timeout(DEADLINE).is_err(), "the writer has ended without another call");
}

#[test]
fn d5_nothing_is_durable_before_its_own_sync_returned() {
    let mut stage = stage();
    stage.disk.submit(write("a", 0, b"one")).unwrap();
    stage.expect("write 3 at 0 of a", Ok(()));
    assert_eq!(stage.began(), "sync a");
    stage.disk.submit(write("a", 3, b"two")).unwrap();
    assert_eq!(stage.disk.durable(), Ok(0));
    stage.results.send(Ok(())).unwrap();
    assert_eq!(stage.began(), "write 3 at 3 of a");
    assert_eq!(stage.disk.durable(), Ok(1));
    stage.results.send(Ok(())).unwrap();
    stage.expect("sync a", Ok(()));
    stage.disk.shutdown().unwrap();
}

#[test]
fn d6_a_full_device_is_named_and_acknowledges_nothing() {
    let mut stage = stage();
    stage.disk.submit(write("a", 0, b"one")).unwrap();
    let full = DiskError::io("write", "a", &io::Error::from(io::ErrorKind::StorageFull));
    stage.expect("write 3 at 0 of a", Err(full));
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
    disk.submit(Change::Create { file: "a" }).unwrap();
    while !disk.writer.as_ref().unwrap().is_finished() {
        std::thread::yield_now();
    }
    assert!(disk.durable().is_err());
    assert!(disk.submit(write("a", 0, b"two")).is_err());
    assert!(disk.shutdown().is_err());
}

#[test]
fn shutdown_finishes_what_was_submitted_and_the_next_life_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, _notified) = open(dir.path());
    disk.settle(&[Change::Create { file: "a" }, write("a", 0, b"head")]).unwrap();
    for at in 0..100 {
        disk.submit(write("a", 4 + 10 * at, b"0123456789")).unwrap();
    }
    disk.submit(Change::Rename { from: "a", to: "b" }).unwrap();
    disk.shutdown().unwrap();
    let (mut disk, notified) = open(dir.path());
    assert_eq!((disk.files(), disk.len("b")), (vec![String::from("b")], Ok(1004)));
    disk.settle(&[write("b", 14, b"tail"), write("b", 18, &[0; 986])]).unwrap();
    disk.reserve("b", 1500);
    disk.reserve("b", 1200);
    let ticket = disk.submit(write("b", 18, b"!")).unwrap();
    wait_durable(&mut disk, &notified, ticket);
    let (bytes, zeros) = (read(&disk, "b"), vec![0; 1481]);
    assert_eq!((&bytes[..19], &bytes[19..]), (b"head0123456789tail!".as_slice(), zeros.as_slice()));
    assert!(matches!(disk.read_at("b", 1, &mut [0; 1500]), Err(DiskError::PastEnd { end: 1501, .. })));
    assert!(matches!(disk.read_at("a", 0, &mut [0]), Err(DiskError::NoFile { .. })));
}

/// Contract 4: what is durable is read by the name that everything submitted gives it.
#[test]
fn a_file_is_read_while_its_name_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, notified) = open(dir.path());
    disk.submit(Change::Create { file: "a" }).unwrap();
    let ticket = disk.submit(write("a", 0, b"abc")).unwrap();
    wait_durable(&mut disk, &notified, ticket);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "below/d"), ("below/d", "a")].repeat(20) {
        disk.submit(Change::Rename { from, to }).unwrap();
        assert_eq!(read(&disk, to), b"abc");
    }
    assert_eq!(disk.files(), ["a"]);
    disk.shutdown().unwrap();
}

#[test]
fn a_file_that_is_prepared_is_zeros_and_then_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spare-3.new"), b"of a life that ended").unwrap();
    let (mut disk, notified) = open(dir.path());
    assert_eq!(disk.files(), [""; 0]);
    for round in 0..3 {
        disk.prepare("spare", 3_000_000);
        disk.prepare("spare", 5);
        while !disk.holds("spare") {
            std::thread::yield_now();
        }
        let name = format!("file {round}");
        disk.submit(Change::Rename { from: "spare", to: &name }).unwrap();
        assert!(!disk.holds("spare"));
        let ticket = disk.submit(write(&name, 1, b"x")).unwrap();
        wait_durable(&mut disk, &notified, ticket);
        let bytes = read(&disk, &name);
        assert_eq!((bytes.len(), bytes[1], bytes.iter().filter(|byte| **byte != 0).count()), (3_000_000, b'x', 1));
    }
    disk.prepare("spare", 1 << 40);
    disk.shutdown().unwrap();
    assert_eq!(open(dir.path()).0.files(), ["file 0", "file 1", "file 2"], "one that was not ready is gone");
}

/// Whoever writes to the name would write to another file than the next life reads.
#[test]
fn d6_a_file_that_is_prepared_does_not_take_the_name_of_one_that_came_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, notified) = open(dir.path());
    disk.settle(&[Change::Create { file: "a" }, write("a", 0, b"kept")]).unwrap();
    disk.prepare("spare", 20_000_000);
    disk.submit(Change::Rename { from: "a", to: "spare" }).unwrap();
    disk.preparing.take().unwrap().join().unwrap();
    let files = disk.files();
    let ticket = disk.submit(write("spare", 4, b"!")).unwrap();
    wait_durable(&mut disk, &notified, ticket);
    assert_eq!(disk.len("spare"), Ok(5));
    assert_eq!((files, read(&disk, "spare")), (vec![String::from("spare")], b"kept!".to_vec()));
    disk.submit(Change::Rename { from: "spare", to: "b" }).unwrap();
    disk.shutdown().unwrap();
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["LOCK", "b"]);
    assert_eq!(read(&open(dir.path()).0, "b"), b"kept!");
}

#[test]
fn many_files_are_read_and_few_are_open() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, notified) = open(dir.path());
    let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let changes = names.iter().flat_map(|file| [Change::Create { file }, write(file, 0, file.as_bytes())]);
    disk.settle(&changes.collect::<Vec<_>>()).unwrap();
    for name in &names {
        assert_eq!(read(&disk, name), name.as_bytes());
    }
    let open_files = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(Result::ok)
            .filter_map(|entry| std::fs::read_link(entry.path()).ok().filter(|path| path.starts_with(dir.path())))
    };
    assert!(open_files().count() < 80, "{}", open_files().count());
    let ticket = disk.submit(write("7", 1, b"!")).unwrap();
    wait_durable(&mut disk, &notified, ticket);
    assert_eq!(read(&disk, "7"), b"7!");
}

#[test]
fn d4_a_directory_below_missing_directories_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    let (disk, _notified) = open(&deep);
    assert_eq!(disk.place(), deep.display().to_string());
    drop(disk);
    assert_eq!(open(&deep).0.files(), [""; 0]);
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

/// A file system's own `lost+found`, and whatever else is another's: nothing of a log is in there.
#[test]
fn a_directory_below_that_may_not_be_read_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("lost+found");
    let allow = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    std::fs::create_dir(&below).unwrap();
    allow(&below, 0);
    allow(dir.path(), 0o777);
    std::fs::write(dir.path().join("a"), b"").unwrap();
    let opened = std::thread::scope(|scope| {
        let open = || {
            // Root may read everything: this thread is somebody else.
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_res_uid(None, Uid::from_raw(65534), None).unwrap();
            }
            FileDisk::open(dir.path(), || ()).map(|disk| disk.files())
        };
        scope.spawn(open).join().unwrap()
    });
    allow(&below, 0o700);
    assert_eq!(opened, Ok(vec![String::from("a")]));
}

#[test]
fn what_is_not_a_directory_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = FileDisk::open(&file, || ()).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

/// Fault D6: where there was no room for a file, that is known, and it is tried again a while later.
#[test]
fn d6_what_found_no_room_is_known_and_not_tried_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, _notified) = open(dir.path());
    assert!(!disk.lacks_room() && disk.has_free(1) && !disk.has_free(u64::MAX));
    disk.shared.found_no_room(Some(Instant::now()));
    disk.prepare("spare", 10);
    assert!(disk.lacks_room() && disk.preparing.is_none());
    disk.shared.found_no_room(Instant::now().checked_sub(FULL_PAUSE));
    disk.prepare("spare", 10);
    disk.preparing.take().unwrap().join().unwrap();
    assert!(!disk.lacks_room() && disk.holds("spare"));
}
