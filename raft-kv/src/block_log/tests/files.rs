//! The files of a log: what each of them is for, what becomes of it, and what damage to it shows as.

use std::collections::BTreeMap;

use super::life::{Held, Step, writes};
use super::segments::{RECEIVING, SPARE};
use super::*;

fn reopen(log: &Log, options: LogOptions) -> Log {
    Log::open(log.disk().crash(0, |_, _| true), cluster(), servers(), options).unwrap()
}

fn take(log: &mut Log, step: &Step) {
    for op in writes(log, step) {
        write(log, op).unwrap();
        log.disk_mut().sync();
        log.persisted().unwrap();
    }
    log.disk_mut().sync();
}

fn append(log: &mut Log, count: usize) {
    (0..count).for_each(|_| take(log, &Step::Append(vec![(0, 60)])));
}

const SNAPSHOT: Step = Step::Snapshot { back: 1, len: 300, chunks: 2, tail: 1, beyond: false };

fn names(log: &Log) -> Vec<String> {
    log.disk().files()
}

fn segments(log: &Log) -> Vec<u64> {
    names(log).iter().filter_map(|name| segment_number(name)).collect()
}

#[test]
fn the_stream_goes_on_from_segment_to_segment_and_reads_as_one() {
    let mut log = founded(DISK, SHORT);
    append(&mut log, 40);
    let held = Held::read(&log);
    assert_eq!(log.last_index(), LogIndex(40));
    assert!(segments(&log).len() > 10 && log.segment_count() == segments(&log).len(), "{:?}", names(&log));
    let log = reopen(&log, SHORT);
    assert_eq!(Held::read(&log), held);
    assert_eq!(Held::read(&reopen(&log, LONG)), held, "each life may have segments of another length");
}

#[test]
fn a_write_that_is_longer_than_a_segment_gets_one_as_long_as_it_needs() {
    let mut log = founded(DISK, SHORT);
    for len in [10, 5_000, 10, 700] {
        take(&mut log, &Step::Append(vec![(0, len)]));
    }
    let lens: Vec<u64> = (1..=4).map(|number| log.disk().len(&segment_name(number)).unwrap()).collect();
    assert!(lens[0] <= 600 && lens[1] > 5_000 && lens[2] <= 600 && lens[3] > 700, "{lens:?}");
    assert_eq!(Held::read(&reopen(&log, SHORT)), Held::read(&log));
}

/// Waits until all that is needless is given back, and says how many rounds that took.
fn given_back(log: &mut Log) -> usize {
    let mut rounds = 0;
    while !log.reclaims.is_empty() {
        let held = names(log).len();
        log.disk_mut().sync();
        log.persisted().unwrap();
        assert!(names(log).len() + 1 >= held, "more than one file in a round");
        rounds += 1;
    }
    rounds
}

#[test]
fn what_an_installed_snapshot_makes_needless_is_given_back_and_written_again() {
    let mut log = founded(DISK, SHORT);
    append(&mut log, 30);
    take(&mut log, &SNAPSHOT);
    append(&mut log, 30);
    let before = segments(&log);
    assert!(before.len() < 32 && before[0] > 5, "{before:?}");
    assert!(names(&log).contains(&String::from("snapshot-0000000000000029")));
    take(&mut log, &SNAPSHOT);
    // A file at a time: what is written meanwhile waits for one.
    assert!(given_back(&mut log) > before.len() / 2);
    append(&mut log, 1);
    let after = segments(&log);
    assert!(after[0] >= *before.last().unwrap() - 2, "{after:?}");
    let others: Vec<String> = names(&log).into_iter().filter(|name| segment_number(name).is_none()).collect();
    assert_eq!(others, ["snapshot-0000000000000059", SPARE], "one snapshot, and one spare");
    assert_eq!(Held::read(&reopen(&log, SHORT)), Held::read(&log));
}

/// Its stale frames stand behind the new ones, and are none: not even in another segment of the same life.
#[test]
fn a_segment_that_is_given_back_is_written_again_as_another() {
    let options = LogOptions { segment_bytes: 3_000, archive: false };
    let mut log = founded(DISK, options);
    let mut recycled = 0;
    for _ in 0..12 {
        let last = log.segments.last().number;
        while log.segments.last().number == last {
            append(&mut log, 1);
        }
        take(&mut log, &SNAPSHOT);
        log.persisted().unwrap();
        log.disk_mut().sync();
        recycled += u32::from(log.disk().bytes(SPARE).starts_with(b"raftseg\n"));
        let held = Held::read(&log);
        let len = log.disk().len(&segment_name(log.segments.last().number)).unwrap();
        assert!(len > log.segments.last().offset(log.segments.end()) || recycled < 2, "nothing stale is behind");
        assert_eq!(Held::read(&reopen(&log, options)), held);
    }
    assert!(recycled > 5, "{recycled}");
}

#[test]
fn nothing_is_given_back_before_the_install_is_durable() {
    let mut log = founded(DISK, SHORT);
    append(&mut log, 30);
    let all = segments(&log);
    for op in writes(&log, &SNAPSHOT) {
        write(&mut log, op).unwrap();
        log.persisted().unwrap();
        assert_eq!(segments(&log)[..all.len()], all);
    }
    let held = Held::read(&reopen(&log, SHORT));
    assert_eq!((held.first(), segments(&reopen(&log, SHORT))), (LogIndex(1), all.clone()));
    log.disk_mut().sync();
    log.persisted().unwrap();
    assert!(segments(&log).len() < all.len());
}

/// As a server is told that keeps its whole chain.
#[test]
fn an_archived_segment_is_moved_aside_whole() {
    let options = LogOptions { archive: true, ..SHORT };
    let mut log = founded(DISK, options);
    append(&mut log, 30);
    let bytes = log.disk().bytes(FIRST).to_vec();
    let blocks: Vec<_> = log.blocks(LogIndex(0)).map(Result::unwrap).collect();
    take(&mut log, &SNAPSHOT);
    log.persisted().unwrap();
    log.disk_mut().sync();
    log.persisted().unwrap();
    assert!(!names(&log).contains(&String::from(FIRST)));
    assert_eq!(log.disk().bytes(&format!("archive/{FIRST}")), bytes);
    assert_eq!(Held::read(&reopen(&log, options)), Held::read(&log));
    let without = LogOptions { archive: false, ..options };
    for (mut log, is_kept) in [(reopen(&log, options), true), (reopen(&log, without), false), (log, true)] {
        let first = log.first_index();
        assert!(first > LogIndex(20) && Source::block(&log, LogIndex(1)).is_err());
        while log.read_on() {}
        for block in &blocks {
            let found = Source::block(&log, block.height);
            let expected = if is_kept || block.height >= first || block.height == LogIndex(0) {
                Ok(block.clone())
            } else {
                Err(StorageError::Compacted { index: block.height, first })
            };
            assert_eq!(found, expected);
        }
    }
}

/// What is wrong in an archive is said, and is no other block.
#[test]
fn an_archive_that_lacks_a_segment_or_is_damaged_gives_no_blocks() {
    let options = LogOptions { archive: true, ..SHORT };
    let mut log = founded(DISK, options);
    append(&mut log, 30);
    take(&mut log, &SNAPSHOT);
    given_back(&mut log);
    log.disk_mut().sync();
    let mut contents = log.disk().contents();
    let archived: Vec<String> = (1..segments(&log)[0]).map(super::super::segments::archived_name).collect();
    assert!(archived.len() > 10);
    contents.extend(archived.iter().map(|name| (name.clone(), log.disk().bytes(name).to_vec())));
    for name in archived {
        let (mut without, mut changed) = (contents.clone(), contents.clone());
        without.remove(&name);
        changed.get_mut(&name).unwrap()[100] ^= 1;
        for (contents, is_gone) in [(without, true), (changed, false)] {
            let disk = MemDisk::from_files(contents);
            let mut log = Log::open(disk, cluster(), servers(), options).unwrap();
            while log.read_on() {}
            let found = Source::block(&log, LogIndex(1));
            assert_eq!(matches!(found, Err(StorageError::Compacted { .. })), is_gone, "{name}: {found:?}");
            assert!(found.is_err(), "{name}");
        }
    }
}

#[test]
fn a_spare_is_asked_for_when_a_segment_is_half_full() {
    let options = LogOptions { segment_bytes: 2_000, archive: false };
    let mut log = founded(DISK, options);
    append(&mut log, 4);
    assert!(!log.disk().holds(SPARE));
    append(&mut log, 4);
    assert_eq!(log.disk().bytes(SPARE), [0; 2_000]);
    append(&mut log, 5);
    assert_eq!((segments(&log), log.disk().len(&segment_name(2))), (vec![1, 2], Ok(2_000)));
    assert_eq!(Held::read(&reopen(&log, options)), Held::read(&log));
}

#[test]
fn an_old_log_is_refused_and_left_as_it_is() {
    let mut disk = create().into_disk();
    disk.settle(&[Change::Create { file: OLD_FILE }]).unwrap();
    for disk in [disk.clone(), MemDisk::from_files([(String::from(OLD_FILE), vec![1])])] {
        let before = disk.contents();
        let error = open_or_create(disk.clone(), DISK).unwrap_err();
        assert_eq!(error, OpenError::OldFormat { place: String::from("memory/blocks.log") });
        assert!(error.to_string().contains("this version does not read it"), "{error}");
        assert_eq!(disk.contents(), before);
    }
}

#[test]
fn d2_a_missing_segment_or_snapshot_is_damage() {
    let log = small();
    let contents = log.disk().contents();
    for name in contents.keys().filter(|name| *name != SPARE) {
        let mut less = contents.clone();
        less.remove(name);
        let opened = Log::open_or_create(MemDisk::from_files(less), cluster(), servers(), DISK, SHORT);
        match segment_number(name) {
            // Nothing tells that a last one was there.
            Some(number) if Some(&number) == segments(&log).last() => assert!(opened.is_ok()),
            _ => assert!(is_damaged(&opened), "{name}"),
        }
    }
}

/// Five segments or so with two snapshots behind it: everything durable, and each write so before the next.
fn small() -> Log {
    let mut log = founded(DISK, SHORT);
    take(&mut log, &Step::HardState(3, 2));
    append(&mut log, 8);
    take(&mut log, &SNAPSHOT);
    append(&mut log, 5);
    take(&mut log, &Step::Truncate(3));
    take(&mut log, &Step::HardState(5, 1));
    append(&mut log, 4);
    take(&mut log, &SNAPSHOT);
    append(&mut log, 9);
    log.persisted().unwrap();
    log
}

/// Reads everything; `None` where a read says that it is damaged.
fn read_whole(log: &Log) -> Option<Held> {
    let index = log.snapshot_meta().unwrap().last_included_index;
    match log.snapshot_chunk(index, 0, usize::MAX) {
        Ok(_) => Some(Held::read(log)),
        Err(StorageError::Damaged { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Faults D1 and D2: every bit of every file, one at a time. It is damage, or makes no difference, or takes the last
/// frame away, for which nothing vouches.
#[test]
fn d2_every_bit_of_a_small_directory() {
    let mut log = small();
    let before = Held::read(&log);
    let (last, from) = (log.segments.last().number, log.segments.last().offset(log.segments.end()));
    take(&mut log, &Step::Append(vec![(0, 1)]));
    log.persisted().unwrap();
    let (whole, contents) = (Held::read(&log), log.disk().contents());
    assert!(contents.values().map(Vec::len).sum::<usize>() < 8_000 && segments(&log).len() > 2);
    assert_eq!(log.segments.last().number, last, "the last write is in the same segment");
    // Stale bytes, or zeros, behind the last frame of a segment.
    let is_unused = |name: &str, at: u64| match segment_number(name) {
        Some(number) if number == last => at >= log.segments.last().offset(log.segments.end()),
        Some(number) => {
            let start = |number| u64::from_le_bytes(contents[&segment_name(number)][20..28].try_into().unwrap());
            at >= start(number + 1) - start(number) + SEGMENT_HEADER_LEN as u64
        }
        None => name == SPARE,
    };
    let (mut found, mut unused, mut lost) = (0, 0, 0);
    for (name, bytes) in &contents {
        for bit in 0..bytes.len() * 8 {
            let mut files: BTreeMap<String, Vec<u8>> = contents.clone();
            files.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let at = bit as u64 / 8;
            let held = match Log::open(MemDisk::from_files(files), cluster(), servers(), SHORT) {
                Ok(log) => read_whole(&log),
                Err(OpenError::Storage(StorageError::Damaged { .. })) => None,
                Err(error) => panic!("bit {bit} of {name}: {error}"),
            };
            match held {
                Some(held) if is_unused(name, at) => {
                    assert_eq!(held, whole, "bit {bit} of {name}");
                    unused += 1;
                }
                Some(held) => {
                    assert_eq!(held, before, "bit {bit} of {name}");
                    assert!(segment_number(name) == Some(last) && at >= from, "bit {bit} of {name} is vouched for");
                    lost += 1;
                }
                None => found += 1,
            }
        }
    }
    assert!(found > 10_000 && unused > 100 && lost > 100, "{found} found, {unused} unused, {lost} lost");
}

/// Whatever a crash left of a segment that was about to begin, it has not begun; unless a frame in it tells otherwise.
#[test]
fn d1_a_last_segment_that_has_not_begun_is_removed() {
    let options = LogOptions { segment_bytes: 1_500, archive: false };
    let mut log = founded(DISK, options);
    append(&mut log, 20);
    let held = Held::read(&log);
    let contents = log.disk().contents();
    let next = segment_name(log.segments.last().number + 1);
    for bytes in [Vec::new(), vec![0; 600], contents[FIRST].clone(), contents[FIRST][..40].to_vec()] {
        let mut files = contents.clone();
        files.insert(next.clone(), bytes);
        let found = Log::open(MemDisk::from_files(files), cluster(), servers(), SHORT).unwrap();
        assert_eq!((Held::read(&found), found.disk().holds(&next)), (held.clone(), false));
    }
    // The header of one in use, with durable frames behind it, is damage.
    let last = log.segments.last().name();
    let mut files = contents;
    files.get_mut(&last).unwrap()[9] ^= 1;
    assert!(is_damaged(&Log::open(MemDisk::from_files(files), cluster(), servers(), SHORT)));
}

/// A server that crashes as it takes a snapshot leaves nothing behind.
#[test]
fn s3_files_of_what_was_not_installed_are_removed() {
    let mut log = small();
    let ops = writes(&log, &SNAPSHOT);
    let (chunks, install) = ops.split_at(ops.len() - 1);
    for op in chunks {
        write(&mut log, op.clone()).unwrap();
    }
    log.disk_mut().sync();
    assert!(names(&log).iter().any(|name| name.starts_with(segments::RECEIVING)));
    let count = |log: &Log| names(log).iter().filter(|name| segment_number(name).is_none()).count();
    assert_eq!(count(&reopen(&log, SHORT)), 1, "the snapshot that is installed");
    // Its file has its name, and the frame that makes it count is not there.
    let before = log.disk().submitted();
    write(&mut log, install[0].clone()).unwrap();
    log.disk_mut().sync_to(before + 1);
    assert_eq!(count(&log), 3);
    let found = reopen(&log, SHORT);
    assert_eq!((count(&found), read_whole(&found).is_some()), (1, true));
}

/// The kernel may show bytes whose sync failed in an earlier life, and call them clean: only writing them again makes
/// them durable. So that is done with all that no frame vouches for, before anything relies on it.
#[test]
fn d3_what_a_failed_sync_left_is_durable_once_the_log_is_open() {
    for mask in [0, 1, 2, 0x5555] {
        let mut log = create();
        append(&mut log, 3);
        for _ in 0..6 {
            let op = append_op(&log, &[(1, 300)]);
            write(&mut log, op).unwrap();
        }
        let doubtful = log.disk().crash_in_doubt(u64::MAX, |_, sector| mask & (1 << (sector % 16)) != 0);
        let found = Log::open(doubtful, cluster(), servers(), LONG).unwrap();
        let held = Held::read(&found);
        assert_eq!(found.last_index(), LogIndex(9), "all of it is shown");
        assert_eq!(Held::read(&reopen(&found, LONG)), held);
    }
}

/// Fault D9: nothing is removed or founded anew because a file could not be read.
#[test]
fn d9_an_unreadable_directory_is_an_error() {
    let mut disk = small().into_disk();
    let before = disk.contents();
    disk.fail_reads(true);
    let opened = Log::open_or_create(disk.clone(), cluster(), servers(), DISK, SHORT);
    assert!(matches!(opened, Err(OpenError::Disk(DiskError::Io { .. }) | OpenError::Storage(StorageError::Io { .. }))));
    assert_eq!(disk.contents(), before);
}

/// A log whose first segment has its room, as on a real disk.
fn with_room(options: LogOptions) -> Log {
    Log::create(MemDisk::new().reserving(), cluster(), servers(), DISK, options).unwrap()
}

const KILOBYTES: LogOptions = LogOptions { segment_bytes: 4_000, archive: false };

#[test]
fn d1_a_torn_tail_gives_way_to_zeros_and_the_file_keeps_its_room() {
    let options = LogOptions { segment_bytes: 10_000, archive: false };
    let mut log = with_room(options);
    append(&mut log, 3);
    let held = Held::read(&log);
    let durable = log.segments.last().offset(log.segments.end()) as usize;
    for _ in 0..3 {
        let op = append_op(&log, &[(1, 600)]);
        write(&mut log, op).unwrap();
    }
    // The second sector of what is not durable is missing.
    let mut sectors = 0;
    let missing = |_: &str, _| {
        sectors += 1;
        sectors != 2
    };
    let torn = log.disk().crash(u64::MAX, missing);
    assert!(torn.bytes(FIRST)[durable..].iter().any(|byte| *byte != 0), "something is behind");
    let log = Log::open(torn, cluster(), servers(), options).unwrap();
    assert_eq!(Held::read(&log), held);
    let bytes = log.disk().bytes(FIRST);
    assert_eq!((bytes.len(), bytes[durable..].iter().all(|byte| *byte == 0)), (10_000, true));
    // A crash takes none of that back.
    assert_eq!(Held::read(&reopen(&log, options)), held);
}

/// Commands are refused in time: before a write could fail. Terms go on, and room that comes back is found.
#[test]
fn d6_a_full_disk_is_known_before_a_write_fails_and_room_is_found_again() {
    let mut log = with_room(KILOBYTES);
    log.disk_mut().set_full(true);
    let mut count = 0;
    while log.has_room() {
        append(&mut log, 1);
        count += 1;
    }
    assert!(count > 10 && log.segment_count() == 1, "{count}");
    for term in 3..12 {
        take(&mut log, &Step::HardState(term, 1));
    }
    assert!(!log.has_room() && !log.has_room_for_snapshot(0));
    // It starts without a byte of room, and knows.
    let mut log = reopen(&log, KILOBYTES);
    assert_eq!((log.hard_state().unwrap().current_term, log.last_index()), (Term(11), LogIndex(count)));
    take(&mut log, &Step::HardState(12, 1));
    assert!(!log.has_room());
    log.disk_mut().set_full(false);
    log.persisted().unwrap();
    assert!(log.has_room() && log.disk().holds(SPARE) && log.has_room_for_snapshot(1 << 40));
    append(&mut log, 40);
    assert!(log.segment_count() > 1);
    assert_eq!(Held::read(&reopen(&log, KILOBYTES)), Held::read(&log));
}

/// The disk fills up once all of a snapshot is there, the log uses up the room that it has, and the snapshot is installed.
fn install_on_full_disk(log: &mut Log) {
    let chunks = writes(log, &SNAPSHOT);
    let (install, chunks) = chunks.split_last().unwrap();
    for op in chunks {
        write(log, op.clone()).unwrap();
    }
    log.disk_mut().sync();
    log.disk_mut().set_full(true);
    while log.has_room() {
        append(log, 1);
    }
    write(log, install.clone()).unwrap();
}

/// The room of a segment that is given back is room, whatever else is full.
#[test]
fn d6_what_a_snapshot_gives_back_is_room() {
    let mut log = with_room(KILOBYTES);
    append(&mut log, 30);
    install_on_full_disk(&mut log);
    log.disk_mut().sync();
    log.persisted().unwrap();
    assert!(log.has_room() && log.disk().holds(SPARE), "{:?}", names(&log));
    append(&mut log, 10);
}

/// A short segment that is given back on a full disk, one of a life with shorter ones, is too little room; and no reason to
/// look for none.
#[test]
fn d6_a_spare_that_is_too_short_gives_way_once_there_is_room() {
    let disk = MemDisk::new().reserving();
    let mut log = Log::create(disk, cluster(), servers(), DISK, SHORT).unwrap();
    append(&mut log, 10);
    let mut log = reopen(&log, KILOBYTES);
    install_on_full_disk(&mut log);
    given_back(&mut log);
    while log.has_room() {
        append(&mut log, 1);
    }
    assert_eq!((log.disk().len(SPARE), log.segment_count()), (Ok(SHORT.segment_bytes), 2));
    log.disk_mut().set_full(false);
    for _ in 0..3 {
        log.disk_mut().sync();
        log.persisted().unwrap();
    }
    assert!(log.has_room());
    assert_eq!(log.disk().len(SPARE), Ok(KILOBYTES.segment_bytes));
    append(&mut log, 200);
    assert_eq!(Held::read(&reopen(&log, KILOBYTES)), Held::read(&log));
}

#[test]
fn d6_a_snapshot_that_is_given_up_leaves_no_file() {
    let mut log = small();
    let chunks = writes(&log, &SNAPSHOT);
    for count in 1..chunks.len() {
        for op in &chunks[..count] {
            write(&mut log, op.clone()).unwrap();
        }
        assert!(names(&log).iter().any(|name| name.starts_with(RECEIVING)), "{:?}", names(&log));
        write(&mut log, WriteOp::GiveUpSnapshot).unwrap();
        assert!(!names(&log).iter().any(|name| name.starts_with(RECEIVING)), "{:?}", names(&log));
    }
    write(&mut log, WriteOp::GiveUpSnapshot).unwrap();
    let id = log.last_write;
    log.disk_mut().sync();
    assert_eq!(log.persisted(), Ok(id));
    assert!(matches!(write(&mut log, chunks.last().unwrap().clone()), Err(StorageError::OutOfOrder { .. })));
    for op in chunks {
        write(&mut log, op).unwrap();
    }
}

/// A segment that has no room ahead gives way to the next one, which has, rather than to fail.
#[test]
fn d6_the_spare_is_taken_early_where_the_file_cannot_grow() {
    let mut log = founded(DISK, KILOBYTES);
    append(&mut log, 14);
    assert!(log.disk().holds(SPARE) && log.segment_count() == 1);
    log.disk_mut().set_full(true);
    append(&mut log, 3);
    assert_eq!((log.segment_count(), log.has_room()), (2, true));
    assert_eq!(Held::read(&reopen(&log, KILOBYTES)), Held::read(&log));
}

#[test]
fn d6_a_full_disk_poisons_and_the_next_life_has_what_was_reported() {
    let mut log = small();
    let held = Held::read(&log);
    log.disk_mut().fail(DiskError::Full { what: String::from("write memory") });
    let op = append_op(&log, &[(9, 1)]);
    let error = write(&mut log, op).unwrap_err();
    assert!(matches!(&error, StorageError::Poisoned { what } if what.contains("no space left")), "{error}");
    assert_eq!(Held::read(&reopen(&log, SHORT)), held);
}
