//! Every bit of a directory, flipped: that is noticed, or makes no difference, or takes away the last write, for which
//! nothing vouches (faults D1, D2). What is not noticed when the log opens is when it is read.
//!
//! ```text
//! cargo test --release -p raft-kv --test it bit_flips -- --ignored --nocapture    # every bit of 70 KiB
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use raft_core::{LogIndex, Storage as _, StorageError, Write, WriteId};
use raft_kv::{BlockLog, LogOptions, MemDisk, OpenError};

use crate::plain::{self, Plain, Step, Writer};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 8 << 10, archive: false };

type Files = BTreeMap<String, Vec<u8>>;

/// A directory of about 70 KiB: segments, some of them written again, an installed snapshot in pieces, blocks kept
/// before it.
struct Directory {
    files: Files,
    whole: Plain,
    /// What it would hold without its last write, and where that stands.
    without_last: Plain,
    last: (String, Range<usize>),
}

/// A log whose every write is durable before the next begins.
struct Writing {
    log: BlockLog<MemDisk>,
    writer: Writer,
    id: u64,
}

impl Writing {
    fn take(&mut self, step: &Step) {
        for op in self.writer.plain.writes(step) {
            self.writer.apply(&op);
            self.id += 1;
            self.log.write(Write { id: WriteId(self.id), op }).unwrap();
            self.log.disk_mut().sync();
            assert_eq!(self.log.persisted().unwrap(), WriteId(self.id));
            self.log.disk_mut().sync();
        }
    }

    fn append(&mut self, count: u64) {
        (0..count).for_each(|n| self.take(&Step::Append(vec![(u64::from(n % 5 == 4), 40 * n as usize % 700)])));
    }
}

fn directory() -> Directory {
    let mut writing = Writing { log: plain::create(MemDisk::new(), OPTIONS), writer: Writer::of(Plain::new()), id: 0 };
    writing.take(&Step::HardState(3, 2));
    writing.append(60);
    writing.take(&Step::Snapshot { back: 20, len: 5_000, chunks: 2, tail: 4 });
    writing.append(50);
    writing.take(&Step::Truncate(3));
    writing.take(&Step::HardState(9, 1));
    writing.take(&Step::Snapshot { back: 30, len: 14_000, chunks: 5, tail: 10 });
    writing.append(70);
    let (before, without_last) = (writing.log.disk().contents(), writing.writer.plain.clone());
    writing.take(&Step::Append(vec![(0, 100)]));
    let files = writing.log.disk().contents();
    let changed: Vec<_> = files.iter().filter(|(name, bytes)| before.get(*name) != Some(*bytes)).collect();
    let [(name, bytes)] = changed[..] else { panic!("the last write is in one file") };
    let old = &before[name];
    let differs = |at: &usize| old.get(*at) != Some(&bytes[*at]);
    let (first, end) = ((0..bytes.len()).find(differs).unwrap(), (0..bytes.len()).rfind(differs).unwrap() + 1);
    Directory { whole: writing.writer.plain, without_last, last: (name.clone(), first..end), files }
}

/// How many flips came to what.
#[derive(Debug, Default)]
struct Verdicts {
    flipped: u64,
    refused: u64,
    found_by_reading: u64,
    no_difference: u64,
    last_write_lost: u64,
}

impl Directory {
    fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// Flips every `step`th bit, from `first` on, one at a time.
    fn flip(&self, first: usize, step: usize) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let mut bit = first;
        for (name, bytes) in &self.files {
            while bit < bytes.len() * 8 {
                self.flip_one(name, bit, &mut verdicts);
                bit += step;
            }
            bit -= bytes.len() * 8;
        }
        println!("{verdicts:?} of {} bytes in {} files", self.bytes(), self.files.len());
        verdicts
    }

    fn flip_one(&self, name: &str, bit: usize, verdicts: &mut Verdicts) {
        verdicts.flipped += 1;
        let mut disk = MemDisk::from_files(self.files.clone());
        disk.corrupt(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let log = match plain::open(disk, OPTIONS) {
            Ok(log) => log,
            Err(OpenError::Storage(StorageError::Damaged { .. })) => {
                verdicts.refused += 1;
                return;
            }
            Err(error) => panic!("bit {bit} of {name}: {error}"),
        };
        match Plain::read(&log) {
            Ok(found) if found == self.whole => verdicts.no_difference += 1,
            Ok(found) => {
                assert_eq!(found, self.without_last, "bit {bit} of {name}");
                let (file, range) = &self.last;
                assert!(file == name && range.contains(&(bit / 8)), "bit {bit} of {name} is vouched for");
                verdicts.last_write_lost += 1;
            }
            Err(StorageError::Damaged { .. }) => {
                self.read_around_damage(&log, &format!("bit {bit} of {name}"));
                verdicts.found_by_reading += 1;
            }
            Err(error) => panic!("bit {bit} of {name}: {error}"),
        }
    }

    /// Of a snapshot with a bad piece every other piece reads right, and every block.
    fn read_around_damage(&self, log: &BlockLog<MemDisk>, what: &str) {
        let (first, last) = (log.first_index(), log.last_index());
        let blocks = log.entries(first, last, usize::MAX).unwrap();
        assert!(self.whole.entries().eq(&blocks), "{what}");
        let index = log.snapshot_meta().unwrap().last_included_index;
        let state = self.whole.state();
        let read = |at: usize| log.snapshot_chunk(index, at as u64, 100);
        let parts: Vec<_> = (0..state.len()).step_by(100).map(|at| (at, read(at))).collect();
        assert!(parts.iter().any(|(_, part)| part.is_err()) && parts.iter().any(|(_, part)| part.is_ok()), "{what}");
        for (at, part) in parts {
            match part {
                Ok(part) => assert_eq!(part, state[at..state.len().min(at + 100)], "{what}"),
                Err(error) => assert!(matches!(error, StorageError::Damaged { .. }), "{what}: {error}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_never_a_wrong_answer() {
    let directory = directory();
    let segments = directory.files.keys().filter(|name| name.starts_with("segment-")).count();
    assert!(segments >= 5 && (64_000..74_000).contains(&directory.bytes()), "{segments}, {}", directory.bytes());
    assert_eq!(directory.whole.state().len(), 14_000);
    assert!(directory.whole.last() > LogIndex(170));
    let verdicts = directory.flip(3, 193);
    let Verdicts { flipped, refused, found_by_reading, no_difference, .. } = verdicts;
    assert!(flipped > 2_500 && refused > 1_000 && found_by_reading > 400 && no_difference > 100, "{verdicts:?}");
    // Those of the last write are few.
    let (name, range) = &directory.last;
    let mut last = Verdicts::default();
    (range.start * 8..range.end * 8).step_by(7).for_each(|bit| directory.flip_one(name, bit, &mut last));
    assert_eq!((last.last_write_lost, last.refused), (last.flipped, 0));
}

#[test]
#[ignore = "minutes: see above"]
fn each_of_half_a_million_bits() {
    let directory = directory();
    let verdicts = directory.flip(0, 1);
    assert_eq!(verdicts.flipped, directory.bytes() as u64 * 8);
    assert!(verdicts.last_write_lost > 500 && verdicts.found_by_reading == 14_000 * 8, "{verdicts:?}");
}
