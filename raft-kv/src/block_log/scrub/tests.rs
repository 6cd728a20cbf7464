//! A directory whose server runs, harmed at one place after the other.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Configuration, Entry, HardState, Incarnation, LogIndex, NodeId, Payload, Storage, Term, Write, WriteId, WriteOp,
};

use super::*;
use crate::block_log::{BlockLog, LogOptions};
use crate::{ClusterId, FileDisk};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 900, archive: false };

fn create(dir: &Path, options: LogOptions) -> BlockLog<FileDisk> {
    let members = Configuration::new([1, 2, 3].map(NodeId));
    BlockLog::create(
        FileDisk::open(dir, || ()).unwrap(),
        ClusterId::from_name("scrub"),
        members,
        Incarnation(7),
        options,
    )
    .unwrap()
}

fn write(log: &mut BlockLog<FileDisk>, id: u64, op: WriteOp) {
    log.write(Write { id: WriteId(id), op }).unwrap();
    while log.persisted().unwrap() < WriteId(id) {
        std::thread::yield_now();
    }
}

fn append(log: &mut BlockLog<FileDisk>, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        let index = log.last_index().next();
        let payload = Payload::Command(Bytes::from(format!("what block {index} says ").repeat(3)));
        let entries: Arc<[Entry]> = [Entry { index, term: Term(1), payload }].into();
        write(log, id, WriteOp::Append { entries, digests: None });
    }
}

#[test]
fn d2_rot_is_found_while_the_server_runs_and_what_is_being_written_is_not_judged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = create(dir.path(), OPTIONS);
    write(&mut log, 1, WriteOp::HardState(HardState { current_term: Term(1), voted_for: None }));
    append(&mut log, 2..=12);
    let mut told = 0;
    let sound = scrub(dir.path(), |bytes| {
        told += bytes;
        true
    });
    assert!(matches!(sound, Ok(Scrubbed::Sound(read)) if read == told && read > 1_200), "{sound:?}");
    assert_eq!(scrub(dir.path(), |_| false), Ok(Scrubbed::Stopped));
    // The last frame is vouched for by none.
    let (last, end) = (*log.segments.last(), log.segments.last().offset(log.segments.end()));
    let mut found = 0;
    for number in 1..=last.number {
        let path = dir.path().join(segment_name(number));
        let bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for at in (0..used).step_by(13) {
            let mut harmed = bytes.clone();
            harmed[at] ^= 2;
            std::fs::write(&path, &harmed).unwrap();
            let is_last_frame = number == last.number && at as u64 + 300 > end;
            match scrub(dir.path(), |_| true).unwrap() {
                Scrubbed::Damaged { file, .. } => {
                    assert!(file.ends_with(&segment_name(number)), "byte {at} of {number}: {file}");
                    found += 1;
                }
                other => {
                    assert!(is_last_frame || number == last.number && at < 250, "byte {at} of {number}: {other:?}")
                }
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(found > 60, "{found}");
    append(&mut log, 13..=20);
    assert_eq!(log.last_index(), LogIndex(19));
    assert!(matches!(scrub(dir.path(), |_| true), Ok(Scrubbed::Sound(_))));
}

/// Where every file that a process may have is open, nothing is known of one that is not. In a process of its own.
#[test]
fn d2_what_is_not_read_for_want_of_files_is_no_damage() {
    const NAME: &str = "block_log::scrub::tests::d2_what_is_not_read_for_want_of_files_is_no_damage";
    const IS_SHORT: &str = "RAFT_KV_TEST_SHORT_OF_FILES";
    if std::env::var_os(IS_SHORT).is_none() {
        let mut short = std::process::Command::new("sh");
        let short = short.args(["-c", "ulimit -n 40 && exec \"$0\" --exact \"$1\""]);
        let short = short.arg(std::env::current_exe().unwrap()).arg(NAME).env(IS_SHORT, "yes");
        let output = short.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    append(&mut create(dir.path(), OPTIONS), 1..=12);
    let mut open: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    // Enough to list the directory, and to read one file; not two.
    open.pop();
    let scrubbed = scrub(dir.path(), |_| true);
    drop(open);
    let is_short = matches!(&scrubbed, Ok(Scrubbed::Unread { error: DiskError::Exhausted { .. }, .. }));
    assert!(is_short, "{scrubbed:?}");
    assert!(matches!(scrub(dir.path(), |_| true), Ok(Scrubbed::Sound(_))));
}

/// A device that does not give a file's bytes has a fault, and that is said: whether they are gone, time tells.
#[test]
fn d9_a_file_that_the_system_does_not_give_is_named_and_not_judged() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut create(dir.path(), OPTIONS), 1..=12);
    let bad = dir.path().join(segment_name(1));
    std::fs::set_permissions(&bad, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let scrubbed = std::thread::scope(|scope| {
        let scrub = || {
            // Root may read everything: this thread is somebody else.
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_res_uid(None, rustix::process::Uid::from_raw(65534), None).unwrap();
            }
            scrub(dir.path(), |_| true)
        };
        scope.spawn(scrub).join().unwrap()
    });
    assert!(
        matches!(&scrubbed, Ok(Scrubbed::Unread { file, error: DiskError::Io { what } })
            if file.ends_with(&segment_name(1)) && what.contains("denied")),
        "{scrubbed:?}"
    );
}

/// The end is read, zeros; then two frames are durable there, of which the second vouches for the first.
#[test]
fn d2_what_is_written_while_it_is_read_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = create(dir.path(), LogOptions { segment_bytes: 1 << 20, archive: false });
    append(&mut log, 1..=5);
    let mut id = 6;
    let found = scrub(dir.path(), |_| {
        if id < 40 {
            append(&mut log, id..=id + 1);
            id += 2;
        }
        true
    });
    assert!(matches!(found, Ok(Scrubbed::Sound(_))) && id > 20, "{found:?}, {id}");
}
