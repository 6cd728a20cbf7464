//! A directory that is harmed at one place after the other: it is mended, or starts over, and never forgets in silence.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use raft_core::{
    Configuration, Entry, Incarnation, NodeId, Payload, SnapshotChunk, Storage, StorageError, Term, Write, WriteId,
    WriteOp,
};

use super::*;
use crate::block::ClusterId;
use crate::block_log::{BlockLog, LogOptions};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 900, archive: false };
const DISK: Incarnation = Incarnation(7);

fn asked() -> Genesis {
    Genesis { cluster: ClusterId::from_name("mend"), configuration: Configuration::new([1, 2, 3].map(NodeId)) }
}

fn open(dir: &Path) -> Result<BlockLog<FileDisk>, OpenError> {
    let disk = FileDisk::open(dir, || ()).unwrap();
    BlockLog::open_or_create(disk, asked().cluster, asked().configuration, DISK, OPTIONS)
}

fn diagnose(dir: &Path) -> Diagnosis {
    Diagnosis::of(FileDisk::open(dir, || ()).unwrap(), &asked()).unwrap()
}

/// All that a log has to say.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    incarnation: Incarnation,
    hard_state: HardState,
    snapshot: SnapshotMeta,
    /// The blocks behind the snapshot.
    blocks: Vec<crate::Block>,
}

fn read(log: &BlockLog<FileDisk>) -> Held {
    let snapshot = log.snapshot_meta().unwrap();
    let blocks = log.blocks(snapshot.last_included_index.next()).map(Result::unwrap).collect();
    Held { incarnation: log.incarnation(), hard_state: log.hard_state().unwrap(), snapshot, blocks }
}

/// Three terms, a snapshot of block 9, and blocks up to 24 behind it, in several segments; all that a peer holds as well.
fn written(dir: &Path) -> (Held, Vec<Entry>) {
    let mut log = open(dir).unwrap();
    let (mut id, mut entries) = (0, Vec::new());
    let mut write = |log: &mut BlockLog<FileDisk>, op| {
        id += 1;
        log.write(Write { id: WriteId(id), op }).unwrap();
        while log.persisted().unwrap() < WriteId(id) {
            std::thread::yield_now();
        }
    };
    for height in 1..=24_u64 {
        let term = Term(1 + height / 9);
        if height == 1 || height.is_multiple_of(9) {
            write(&mut log, WriteOp::HardState(HardState { current_term: term, voted_for: Some(NodeId(2)) }));
        }
        let payload = Payload::Command(Bytes::from(format!("what block {height} says ").repeat(4)));
        let entry = Entry { index: LogIndex(height), term, payload };
        entries.push(entry.clone());
        write(&mut log, WriteOp::Append { entries: [entry].into(), digests: None });
        if height == 12 {
            let meta = SnapshotMeta {
                last_included_index: LogIndex(9),
                last_included_term: log.term(LogIndex(9)).unwrap(),
                digest: log.digest(LogIndex(9)).unwrap(),
                configuration: asked().configuration,
                state: None,
            };
            let chunk = SnapshotChunk { meta, offset: 0, data: Bytes::from_static(b"the state"), done: true };
            write(&mut log, WriteOp::SnapshotChunk(chunk.into()));
            write(&mut log, WriteOp::InstallSnapshot { index: LogIndex(9), keep_from: Some(LogIndex(8)) });
        }
    }
    let held = read(&log);
    log.into_disk().shutdown().unwrap();
    (held, entries)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    // What is being prepared is nobody's yet: whoever opens the directory removes it.
    let is_held = |path: &PathBuf| path.is_file() && !path.ends_with("LOCK") && path.extension().is_none();
    let mut files: Vec<PathBuf> = entries.filter(is_held).collect();
    files.sort();
    files
}

fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files(from) {
        std::fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    dir
}

/// Gives what is missing as a peer does, which has blocks from this height on; `None` where that is not enough.
fn fetch(repair: &mut Repair, entries: &[Entry], from: u64) -> Option<usize> {
    let mut fetched = 0;
    while let Some((first, last)) = repair.missing() {
        if first < LogIndex(from) {
            return None;
        }
        // Two at a time.
        let part: Vec<Entry> =
            entries.iter().filter(|entry| entry.index >= first && entry.index <= last).take(2).cloned().collect();
        fetched += part.len();
        repair.take(&part).unwrap();
    }
    Some(fetched)
}

/// Faults D2 and D9: a byte of each place of each file.
#[test]
fn d2_what_is_damaged_is_mended_from_peers_or_the_server_starts_over() {
    let whole = tempfile::tempdir().unwrap();
    let (held, entries) = written(whole.path());
    let (mut mended, mut fetched, mut over) = (0, 0, 0);
    for file in files(whole.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        for at in (0..used).step_by(23) {
            let dir = copy(whole.path());
            let mut harmed = bytes.clone();
            harmed[at] ^= 0x20;
            std::fs::write(dir.path().join(file.file_name().unwrap()), &harmed).unwrap();
            let place = format!("byte {at} of {}", file.display());
            let opened = open(dir.path()).and_then(|log| {
                log.snapshot_chunk(LogIndex(9), 0, 99)?;
                Ok(log)
            });
            match opened {
                Ok(log) => {
                    let found = read(&log);
                    assert!(found == held || found.blocks.len() + 1 == held.blocks.len(), "{place}");
                    continue;
                }
                Err(OpenError::Storage(StorageError::Damaged { .. })) => {}
                Err(error) => panic!("{place}: {error}"),
            }
            match diagnose(dir.path()) {
                Diagnosis::Mendable(mut repair) => {
                    assert!(!repair.damage().is_empty(), "{place}");
                    fetched += fetch(&mut repair, &entries, 1).unwrap();
                    repair.finish().unwrap();
                    drop(repair);
                    let found = read(&open(dir.path()).unwrap_or_else(|error| panic!("{place}: {error}")));
                    let is_snapshot = file.to_string_lossy().contains("snapshot");
                    assert_eq!((found.incarnation, found.hard_state), (held.incarnation, held.hard_state), "{place}");
                    assert!(found.blocks.ends_with(&held.blocks), "{place}");
                    assert_eq!(found.blocks.len() == 24, is_snapshot, "{place}");
                    mended += 1;
                }
                Diagnosis::Lost { disk, .. } => {
                    std::fs::create_dir(dir.path().join("archive")).unwrap();
                    let aside = start_over(disk, &asked(), Incarnation(99), OPTIONS).unwrap();
                    assert!(is_rejoining(dir.path()) && !is_starting_over(dir.path()));
                    assert!(aside.join(file.file_name().unwrap()).exists() && aside.join("archive").exists());
                    assert!(!dir.path().join("archive").exists());
                    let log = open(dir.path()).unwrap();
                    assert_eq!((log.incarnation(), log.last_index()), (Incarnation(99), LogIndex(0)), "{place}");
                    rejoined(dir.path()).unwrap();
                    assert!(!is_rejoining(dir.path()));
                    over += 1;
                }
            }
        }
    }
    assert!(mended > 40 && fetched > 25 && over > 1, "{mended} mended, {fetched} fetched, {over} over");
}

/// One frame in the middle of the log: its block is asked for alone, what is wrong is not taken, and the files are kept.
#[test]
fn d2_a_peer_whose_blocks_do_not_fit_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (held, entries) = written(dir.path());
    let file = harm(dir.path(), "what block 20 says");
    let Diagnosis::Mendable(mut repair) = diagnose(dir.path()) else { panic!() };
    assert_eq!(repair.missing(), Some((LogIndex(20), LogIndex(20))));
    assert!(repair.finish().is_err(), "a block is missing");
    let other = Entry { payload: Payload::Command(Bytes::from_static(b"another history")), ..entries[19].clone() };
    let misfit = |first, last| Err(Misfit { first: LogIndex(first), last: LogIndex(last) }.into());
    assert_eq!(repair.take(&[other]), misfit(20, 21));
    assert_eq!(repair.take(&entries[20..21]), misfit(20, 20));
    assert_eq!((repair.missing(), repair.take(&entries[19..20])), (Some((LogIndex(20), LogIndex(20))), Ok(())));
    repair.finish().unwrap();
    drop(repair);
    assert_eq!(read(&open(dir.path()).unwrap()), held);
    assert!(dir.path().join(DAMAGED).join(file).exists());
}

/// A file of this name was damaged before: that one is kept as well.
#[test]
fn d2_what_was_set_aside_before_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (_, entries) = written(dir.path());
    let file = harm(dir.path(), "what block 20 says");
    let aside = dir.path().join(DAMAGED);
    std::fs::create_dir(&aside).unwrap();
    std::fs::write(aside.join(&file), b"of the first time").unwrap();
    let harmed = std::fs::read(dir.path().join(&file)).unwrap();
    let Diagnosis::Mendable(mut repair) = diagnose(dir.path()) else { panic!() };
    fetch(&mut repair, &entries, 1).unwrap();
    repair.finish().unwrap();
    assert_eq!(std::fs::read(aside.join(&file)).unwrap(), b"of the first time");
    assert_eq!(std::fs::read(aside.join(format!("{file}-2"))).unwrap(), harmed);
}

/// Damage in the last frame that the server itself has come upon: the next life does not begin as if it had never been
/// written.
#[test]
fn d2_what_a_life_found_damaged_at_its_end_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let mut log = open(dir.path()).unwrap();
    harm(dir.path(), "what block 24 says");
    let read = log.block(LogIndex(24));
    assert!(matches!(read, Err(StorageError::Damaged { .. })), "{read:?}");
    log.seal();
    log.into_disk().shutdown().unwrap();
    let diagnosis = diagnose(dir.path());
    assert!(matches!(&diagnosis, Diagnosis::Lost { what, .. } if what.contains("acknowledged")), "{diagnosis:?}");
    drop(diagnosis);
    let opened = open(dir.path()).map(|log| log.last_index());
    assert!(matches!(opened, Err(OpenError::Storage(StorageError::Damaged { .. }))), "{opened:?}");
}

/// Nothing that a crash leaves of mending is taken for a whole log that is shorter.
#[test]
fn d2_a_crash_while_the_old_segments_are_moved_is_mended_again() {
    let dir = tempfile::tempdir().unwrap();
    let (held, entries) = written(dir.path());
    harm(dir.path(), "what block 20 says");
    let before = copy(dir.path());
    let Diagnosis::Mendable(mut repair) = diagnose(dir.path()) else { panic!() };
    fetch(&mut repair, &entries, 1).unwrap();
    repair.finish().unwrap();
    drop(repair);
    let new = files(dir.path()).into_iter().rfind(|path| path.to_string_lossy().contains("segment")).unwrap();
    std::fs::copy(&new, before.path().join(new.file_name().unwrap())).unwrap();
    let moved: Vec<PathBuf> =
        files(before.path()).into_iter().filter(|path| path.to_string_lossy().contains("segment")).collect();
    for old in &moved[..moved.len() - 1] {
        let image = copy(before.path());
        if open(image.path()).is_err() {
            let Diagnosis::Mendable(mut repair) = diagnose(image.path()) else { panic!() };
            assert_eq!(repair.missing(), None);
            repair.finish().unwrap();
        }
        assert_eq!(read(&open(image.path()).unwrap()), held);
        std::fs::remove_file(old).unwrap();
    }
    assert_eq!(read(&open(before.path()).unwrap()), held);
}

/// Changes a byte of the block that says this; answers its file's name.
fn harm(dir: &Path, words: &str) -> String {
    for file in files(dir) {
        let mut bytes = std::fs::read(&file).unwrap();
        if let Some(at) = bytes.windows(words.len()).position(|window| window == words.as_bytes()) {
            bytes[at + 3] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            return file.file_name().unwrap().to_string_lossy().into_owned();
        }
    }
    panic!("no block says {words}");
}

/// A gap may be as long as the log: what is fetched goes to the file as it comes, and memory holds a frame of it.
#[test]
fn d2_what_is_fetched_is_not_held_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    let mut id = 0;
    let mut write = |log: &mut BlockLog<FileDisk>, op| {
        id += 1;
        log.write(Write { id: WriteId(id), op }).unwrap();
        while log.persisted().unwrap() < WriteId(id) {
            std::thread::yield_now();
        }
    };
    write(&mut log, WriteOp::HardState(HardState { current_term: Term(1), voted_for: None }));
    let entry = |height| {
        let payload = Payload::Command(Bytes::from(vec![height as u8; 256 << 10]));
        Entry { index: LogIndex(height), term: Term(1), payload }
    };
    let entries: Vec<Entry> = (1..=24).map(entry).collect();
    for entry in &entries {
        write(&mut log, WriteOp::Append { entries: [entry.clone()].into(), digests: None });
    }
    let held = read(&log);
    log.into_disk().shutdown().unwrap();
    for number in 4..=20 {
        std::fs::remove_file(dir.path().join(segment_name(number))).unwrap();
    }
    let Diagnosis::Mendable(mut repair) = diagnose(dir.path()) else { panic!() };
    let (first, last) = repair.missing().unwrap();
    let gap = &entries[first.0 as usize - 1..last.0 as usize];
    assert!(gap.len() > 15, "{first} to {last}");
    let in_file = || std::fs::metadata(dir.path().join(REPAIRING)).unwrap().len();
    // Another history first, with longer blocks: nothing of it may be read behind the end of the shorter one.
    let longer = |entry: &Entry| Entry { payload: Payload::Command(Bytes::from(vec![1; 400 << 10])), ..entry.clone() };
    let others: Vec<Entry> = gap.iter().map(longer).collect();
    let misfits = others.chunks(1).map(|part| repair.take(part)).filter(Result::is_err).count();
    assert!(misfits == 1 && repair.is_anchored() && repair.missing() == Some((first, last)));
    let (most, rest) = gap.split_at(gap.len() - 1);
    most.chunks(1).for_each(|part| repair.take(part).unwrap());
    assert!(in_file() > 3 << 20 && !repair.is_anchored(), "{} bytes are in the file", in_file());
    repair.take(rest).unwrap();
    assert!(repair.is_anchored() && repair.missing().is_none());
    repair.finish().unwrap();
    drop(repair);
    assert_eq!(read(&open(dir.path()).unwrap()), held);
}

/// A directory that was put back from a copy meanwhile keeps nothing of a mend that did not come to its end.
#[test]
fn d2_what_a_mend_left_is_removed_where_the_log_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (held, _) = written(dir.path());
    let whole = copy(dir.path());
    harm(dir.path(), "what block 20 says");
    drop(diagnose(dir.path()));
    std::fs::copy(dir.path().join(REPAIRING), whole.path().join(REPAIRING)).unwrap();
    assert_eq!(read(&open(whole.path()).unwrap()), held);
    assert!(!whole.path().join(REPAIRING).exists());
}

/// Power cuts before the new log has its name: whatever is in its file then, the directory is damaged as before.
#[test]
fn p2_a_mend_that_is_cut_short_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (held, entries) = written(dir.path());
    for words in ["what block 14 says", "what block 20 says", "what block 21 says"] {
        harm(dir.path(), words);
    }
    let mut images = vec![copy(dir.path())];
    let Diagnosis::Mendable(mut repair) = diagnose(dir.path()) else { panic!() };
    while let Some((first, _)) = repair.missing() {
        images.push(copy(dir.path()));
        let at = first.0 as usize - 1;
        repair.take(&entries[at..=at]).unwrap();
    }
    images.push(copy(dir.path()));
    drop(repair);
    for image in images {
        let repairing = image.path().join(REPAIRING);
        let bytes = std::fs::read(&repairing).unwrap_or_default();
        for len in [0, bytes.len() / 2, bytes.len()] {
            let cut = copy(image.path());
            if !bytes.is_empty() {
                std::fs::write(cut.path().join(REPAIRING), &bytes[..len]).unwrap();
            }
            assert!(open(cut.path()).is_err());
            let Diagnosis::Mendable(mut repair) = diagnose(cut.path()) else { panic!() };
            assert_eq!(fetch(&mut repair, &entries, 1), Some(3));
            repair.finish().unwrap();
            drop(repair);
            assert_eq!(read(&open(cut.path()).unwrap()), held);
            assert!(!cut.path().join(REPAIRING).exists());
        }
    }
}

/// Power cuts while a server starts over: it does so again, and every file of before is in one of the directories aside.
#[test]
fn p2_a_start_over_that_is_cut_short_is_done_again() {
    let whole = tempfile::tempdir().unwrap();
    written(whole.path());
    let all = files(whole.path());
    for moved in 0..=all.len() {
        let dir = copy(whole.path());
        let name = |path: &PathBuf| path.file_name().unwrap().to_owned();
        std::fs::write(dir.path().join("starting-over"), []).unwrap();
        std::fs::create_dir(dir.path().join("aside-1")).unwrap();
        for file in all[..moved].iter().map(name) {
            std::fs::rename(dir.path().join(&file), dir.path().join("aside-1").join(&file)).unwrap();
        }
        if moved == all.len() {
            // The new log is there, and the mark is still.
            open(dir.path()).unwrap().into_disk().shutdown().unwrap();
        }
        let disk = FileDisk::open(dir.path(), || ()).unwrap();
        let aside = start_over(disk, &asked(), Incarnation(99), OPTIONS).unwrap();
        assert!(aside.ends_with("aside-2") && is_rejoining(dir.path()) && !is_starting_over(dir.path()));
        assert_eq!(started_over(dir.path()).len(), 2);
        let log = open(dir.path()).unwrap();
        assert_eq!((log.incarnation(), log.last_index()), (Incarnation(99), LogIndex(0)));
        for file in all.iter().map(name) {
            assert!(["aside-1", "aside-2"].iter().any(|aside| dir.path().join(aside).join(&file).exists()), "{file:?}");
        }
    }
}
