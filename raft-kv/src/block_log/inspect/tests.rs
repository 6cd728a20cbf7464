//! Directories that were harmed in one way each, and what is said of them.

use std::path::PathBuf;

use raft_core::{
    Configuration, Entry, HardState, Incarnation, NodeId, Payload, SnapshotChunk, Storage, Write, WriteId, WriteOp,
};

use super::*;
use crate::block_log::{BlockLog, LogOptions};
use crate::{ClusterId, FileDisk, MemDisk};

/// A log in a directory of its own, with segments of a few blocks, and what was written to it.
struct Written {
    dir: tempfile::TempDir,
    log: Option<BlockLog<FileDisk>>,
    last: u64,
    archive: bool,
}

impl Written {
    fn new(archive: bool) -> Self {
        let mut written = Self { dir: tempfile::tempdir().unwrap(), log: None, last: 0, archive };
        written.open();
        written
    }

    fn open(&mut self) {
        let disk = FileDisk::open(self.dir.path(), || ()).unwrap();
        let options = LogOptions { segment_bytes: 700, archive: self.archive };
        let members = Configuration::new([1, 2, 3].map(NodeId));
        let log = BlockLog::open_or_create(disk, ClusterId::from_name("seen"), members, Incarnation(7), options);
        (self.log, self.last) = (Some(log.unwrap()), 0);
    }

    fn write(&mut self, op: WriteOp) {
        self.last += 1;
        let log = self.log.as_mut().unwrap();
        log.write(Write { id: WriteId(self.last), op }).unwrap();
        while log.persisted().unwrap() < WriteId(self.last) {
            std::thread::yield_now();
        }
    }

    fn append(&mut self, heights: impl IntoIterator<Item = u64>, term: u64) {
        for height in heights {
            let payload = Payload::Command(Bytes::from(format!("block {height} of term {term} ").repeat(4)));
            let entry = Entry { index: LogIndex(height), term: Term(term), payload };
            self.write(WriteOp::Append { entries: [entry].into(), digests: None });
        }
    }

    fn install(&mut self, index: u64, keep_from: u64) {
        let log = self.log.as_ref().unwrap();
        let meta = SnapshotMeta {
            last_included_index: LogIndex(index),
            last_included_term: log.term(LogIndex(index)).unwrap(),
            digest: log.digest(LogIndex(index)).unwrap(),
            configuration: Configuration::new([1, 2, 3].map(NodeId)),
            state: None,
        };
        for (offset, data, done) in [(0, &b"the state, "[..], false), (11, b"in two chunks", true)] {
            let data = Bytes::from_static(data);
            self.write(WriteOp::SnapshotChunk(SnapshotChunk { meta: meta.clone(), offset, data, done }.into()));
        }
        self.write(WriteOp::InstallSnapshot { index: LogIndex(index), keep_from: Some(LogIndex(keep_from)) });
    }

    fn close(&mut self) {
        self.log.take().unwrap().into_disk().shutdown().unwrap();
    }

    fn look(&self) -> Inspection {
        Inspection::of(self.dir.path(), |_, _| ()).unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn flip(&self, file: &str, at: usize) {
        let mut bytes = std::fs::read(self.path(file)).unwrap();
        bytes[at] ^= 1;
        std::fs::write(self.path(file), bytes).unwrap();
    }

    /// What each finding says, by the file's name.
    fn findings(&self) -> Vec<(Severity, String, Option<u64>, String)> {
        let name = |file: &str| file.rsplit('/').next().unwrap().to_owned();
        let findings = self.look().findings().to_vec();
        findings.into_iter().map(|found| (found.severity, name(&found.file), found.byte, found.what)).collect()
    }
}

/// Blocks 1 to 20 with a truncation and a snapshot of block 9, the older segments in the archive.
fn written(archive: bool) -> Written {
    let mut written = Written::new(archive);
    written.write(WriteOp::HardState(HardState { current_term: Term(1), voted_for: Some(NodeId(1)) }));
    written.append(1..=12, 1);
    written.write(WriteOp::Truncate(LogIndex(11)));
    written.append(11..=14, 2);
    written.install(9, 8);
    written.append(15..=20, 2);
    written.close();
    written
}

fn segment(number: u64) -> String {
    super::super::segments::segment_name(number)
}

/// The files of a directory and of its archive.
fn bytes_of(written: &Written) -> Vec<(PathBuf, Vec<u8>)> {
    let list = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = list(written.path("")).chain(list(written.path("archive"))).filter(|path| path.is_file());
    let mut files: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

/// The name of a file that is part of the log.
fn name_of(path: &Path) -> Option<String> {
    path.file_name()?.to_str().filter(|name| *name != "LOCK").map(String::from)
}

#[test]
fn a_sound_directory_is_read_whole_and_left_as_it_is() {
    let written = written(true);
    let before = bytes_of(&written);
    let (mut read, mut total) = (0, 0);
    let found = Inspection::of(written.dir.path(), |done, of| (read, total) = (done, of)).unwrap();
    assert_eq!((found.findings(), found.is_sound()), (&[][..], true));
    let counts = found.counts();
    assert!(counts.segments > 1 && counts.archived > 1 && counts.snapshots == 1, "{counts:?}");
    assert!(read > 0 && total == counts.bytes);
    assert_eq!(found.ranges().collect::<Vec<_>>(), [(LogIndex(1), LogIndex(20))]);
    assert_eq!(found.snapshot().unwrap().last_included_index, LogIndex(9));
    let blocks: Vec<Block> =
        found.blocks(LogIndex(0), LogIndex(99)).map(|block| block.unwrap().whole().unwrap()).collect();
    assert_eq!(blocks.len(), 21);
    assert_eq!(blocks[0], found.genesis().unwrap().block());
    assert!(blocks.iter().all(Block::is_intact));
    assert!(blocks.windows(2).all(|pair| pair[1].prev_hash == pair[0].hash && pair[1].height == pair[0].height.next()));
    assert_eq!((blocks[10].term, blocks[11].term), (Term(1), Term(2)), "what was truncated is not shown");
    assert_eq!(found.blocks(LogIndex(19), LogIndex(99)).count(), 2);
    drop(found);
    assert_eq!(bytes_of(&written), before);
}

#[test]
fn without_an_archive_it_begins_where_the_log_does() {
    let written = written(false);
    let found = written.look();
    assert!(found.findings().is_empty());
    let (first, last) = found.ranges().next().unwrap();
    assert!(first > LogIndex(1) && first < LogIndex(10) && last == LogIndex(20));
    assert_eq!(found.block(LogIndex(1)), Ok(None));
    assert!(found.block(first).unwrap().unwrap().whole().unwrap().is_intact(), "its checkpoint knows the hash before");
}

/// Fault D7.
#[test]
fn d7_a_directory_in_use_is_refused_and_two_may_look() {
    let mut written = written(true);
    let found = written.look();
    assert!(written.look().is_sound());
    assert!(matches!(FileDisk::open(written.dir.path(), || ()), Err(crate::DiskError::InUse { .. })));
    drop(found);
    written.open();
    let refused = Inspection::of(written.dir.path(), |_, _| ()).unwrap_err().to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
}

#[test]
fn what_is_no_log_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Inspection::of(dir.path(), |_, _| ()), Err(OpenError::Missing { .. })));
    assert!(matches!(Inspection::of(dir.path().join("none"), |_, _| ()), Err(OpenError::Disk(_))));
    assert!(!dir.path().join("none").exists());
    std::fs::write(dir.path().join("blocks.log"), "old").unwrap();
    assert!(matches!(Inspection::of(dir.path(), |_, _| ()), Err(OpenError::OldFormat { .. })));
}

/// Every single byte: what opening calls damage, this does; and it never says less.
#[test]
fn every_changed_byte_is_judged_as_opening_judges_it() {
    let original = written(false);
    let files = bytes_of(&original);
    for (path, bytes) in files.iter().filter(|(path, _)| !path.ends_with("LOCK") && !path.ends_with("spare")) {
        for at in (0..bytes.len()).step_by(5) {
            let mut harmed = bytes.clone();
            harmed[at] ^= 0x10;
            std::fs::write(path, harmed).unwrap();
            let looked = Inspection::of(original.dir.path(), |_, _| ());
            let held = bytes_of(&original).into_iter();
            let disk = MemDisk::from_files(held.filter_map(|(path, bytes)| Some((name_of(&path)?, bytes))));
            let (cluster, members) = (ClusterId::from_name("seen"), Configuration::new([1, 2, 3].map(NodeId)));
            let opened = BlockLog::open(disk, cluster, members, LogOptions { segment_bytes: 700, archive: false });
            let (looked, place) = (looked.unwrap(), format!("{} at byte {at}", path.display()));
            let is_state = name_of(path).unwrap().starts_with("snapshot");
            assert!(
                opened.is_ok() == looked.is_sound() || is_state && !looked.is_sound(),
                "{place}: {opened:?} {looked:?}"
            );
            if !looked.is_sound() {
                let name = path.display().to_string();
                assert!(looked.findings().iter().any(|found| found.file == name), "{place}: {:?}", looked.findings());
            }
        }
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn one_run_names_everything_and_goes_on_behind_it() {
    let written = written(true);
    let archived = format!("archive/{}", segment(2));
    written.flip(&archived, 400);
    let live = written.look().counts();
    let first_live = live.archived + 1;
    let (bad, snapshot) = (segment(first_live + 1), "snapshot-0000000000000009");
    written.flip(&bad, 40);
    let len = std::fs::metadata(written.path(snapshot)).unwrap().len() as usize;
    written.flip(snapshot, len - 50);
    let findings = written.findings();
    let files: Vec<&str> = findings.iter().map(|(_, file, _, _)| file.as_str()).collect();
    assert_eq!(files, [segment(2).as_str(), &bad, snapshot], "{findings:?}");
    assert!(findings.iter().all(|(severity, ..)| *severity == Severity::Damage));
    let found = written.look();
    assert!(found.findings()[0].is_archived && !found.findings()[1].is_archived);
    assert!(found.findings().iter().all(|found| found.advice().is_some()));
    let heights: Vec<u64> = found.blocks(LogIndex(0), LogIndex(99)).map(|block| block.unwrap().height.0).collect();
    assert!(heights.len() > 15 && heights.contains(&20) && heights.contains(&1), "{heights:?}");
    let orphan = found.blocks(LogIndex(0), LogIndex(99)).filter(|block| block.as_ref().unwrap().prev_hash.is_none());
    assert!(orphan.count() >= 1, "behind damage the hash before is not known");
}

#[test]
fn d2_a_segment_that_is_not_there_is_named() {
    let written = written(true);
    std::fs::remove_file(written.path(&format!("archive/{}", segment(2)))).unwrap();
    let findings = written.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].0, findings[0].1.clone()), (Severity::Incomplete, segment(3)));
    assert!(findings[0].3.contains(&format!("{} is not there", segment(2))));
    let first_live = written.look().counts().archived + 2;
    std::fs::remove_file(written.path(&segment(first_live + 1))).unwrap();
    let findings = written.findings();
    assert_eq!((findings[1].0, findings[1].1.clone()), (Severity::Damage, segment(first_live + 2)), "{findings:?}");
    std::fs::remove_file(written.path(&segment(first_live))).unwrap();
    assert!(!written.look().is_sound());
}

#[test]
fn d1_a_torn_tail_is_harmless() {
    let mut written = Written::new(false);
    written.append(1..=2, 1);
    written.close();
    let file = written.path(&segment(1));
    let end = std::fs::read(&file).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(end - 5).unwrap();
    let findings = written.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let (severity, name, byte, what) = &findings[0];
    assert_eq!((*severity, name.clone()), (Severity::Harmless, segment(1)));
    assert!(byte.is_some() && what.contains("the next start clears it"), "{what}");
    assert_eq!(written.look().ranges().last(), Some((LogIndex(1), LogIndex(1))));
    assert!(written.look().findings()[0].advice().is_none());
}

#[test]
fn a_segment_that_has_not_begun_and_a_founding_that_was_torn_are_harmless() {
    let written = written(false);
    let last = (1..99).filter(|number| written.path(&segment(*number)).exists()).max().unwrap();
    std::fs::write(written.path(&segment(last + 1)), [0; 700]).unwrap();
    std::fs::write(written.path("receiving-1"), "part").unwrap();
    std::fs::copy(written.path("snapshot-0000000000000009"), written.path("snapshot-0000000000000004")).unwrap();
    let findings = written.findings();
    assert!(findings.len() == 3 && findings.iter().all(|found| found.0 == Severity::Harmless), "{findings:?}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(segment(1)), [0; 60]).unwrap();
    let found = Inspection::of(dir.path(), |_, _| ()).unwrap();
    assert!(found.is_sound() && found.findings().len() == 1 && found.genesis().is_none(), "{:?}", found.findings());
}

#[test]
fn a_snapshot_that_is_not_there_is_damage() {
    let written = written(true);
    std::fs::remove_file(written.path("snapshot-0000000000000009")).unwrap();
    let findings = written.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].0 == Severity::Damage && findings[0].3.contains("the installed snapshot is not there"));
}
