use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::action::{HardState, Write};
use crate::quorum::Configuration;
use crate::storage::SnapshotMeta;
use crate::types::Payload;

/// The same log as one plain list, with every write that it began: what is durable is worked out from them.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    writes: Vec<Op>,
    persisted: usize,
    commit: u64,
    /// What the storage held at the start.
    stored: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Append { terms: u64, entries: usize, size: usize },
    Truncate { back: u64 },
    Persist { writes: usize },
    Commit { ahead: u64 },
    Apply { max_bytes: usize },
    Slice { first: u64, max_bytes: usize },
    Stored(Vec<Entry>),
    Cut(u64),
}

/// Toy digests: the sum of what an entry and all before it hold.
fn digest_of(entries: &[Entry]) -> Digest {
    entries.iter().fold(Digest([0; 32]), |prev, entry| link(&prev, entry))
}

fn link(prev: &Digest, entry: &Entry) -> Digest {
    let mut digest = *prev;
    digest.0[0] = digest.0[0].wrapping_mul(31).wrapping_add(entry.term.0 as u8);
    digest.0[1] = digest.0[1].wrapping_mul(31).wrapping_add(entry.payload.bytes().len() as u8);
    digest
}

impl Storage for Model {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        Ok(HardState::default())
    }
    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(SnapshotMeta::genesis(Configuration::new([])))
    }
    fn first_index(&self) -> LogIndex {
        LogIndex(1)
    }
    fn snapshot_chunk(&self, index: LogIndex, offset: u64, _: usize) -> Result<Bytes, StorageError> {
        Err(StorageError::NoSnapshot { index, offset })
    }
    fn last_index(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }
    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        assert!(index.0 <= self.safe(), "contract 4: {index} is not durable yet");
        Ok(self.term_of(index))
    }
    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        assert!(index.0 <= self.safe(), "contract 4: {index} is not durable yet");
        Ok(Some(digest_of(&self.entries[..index.0 as usize])))
    }
    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        assert!(last.0 <= self.safe(), "contract 4: {last} is not durable yet");
        let mut bytes = 0;
        let mut more = true;
        let held = &self.entries[first.0 as usize - 1..last.0 as usize];
        let fits = |entry: &&Entry| {
            bytes += entry.cost();
            core::mem::replace(&mut more, bytes < max_bytes)
        };
        Ok(held.iter().take_while(fits).cloned().collect())
    }
    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        Some(link(prev, entry))
    }
    fn write(&mut self, _write: Write) -> Result<(), StorageError> {
        Ok(())
    }
    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(WriteId(self.persisted as u64))
    }
}

impl Model {
    fn term_of(&self, index: LogIndex) -> Term {
        index.0.checked_sub(1).map_or(Term(0), |at| self.entries[at as usize].term)
    }

    /// What would be there after a crash now.
    fn durable(&self) -> Vec<Entry> {
        let mut durable = Vec::new();
        for write in &self.writes[..self.persisted] {
            match write {
                Op::Stored(entries) => durable.extend_from_slice(entries),
                Op::Cut(from) => durable.truncate(*from as usize - 1),
                _ => {}
            }
        }
        durable
    }

    /// The last entry such that it and all before it are durable.
    fn safe(&self) -> u64 {
        self.durable().iter().zip(&self.entries).take_while(|(a, b)| a == b).count() as u64
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u64..2, 1_usize..5, 0_usize..20).prop_map(|(terms, entries, size)| Op::Append { terms, entries, size }),
        2 => (1_u64..8).prop_map(|back| Op::Truncate { back }),
        4 => (1_usize..4).prop_map(|writes| Op::Persist { writes }),
        3 => (1_u64..6).prop_map(|ahead| Op::Commit { ahead }),
        3 => (1_usize..200).prop_map(|max_bytes| Op::Apply { max_bytes }),
        6 => (0_u64..64, 0_usize..200).prop_map(|(first, max_bytes)| Op::Slice { first, max_bytes }),
    ]
}

fn carry_out(log: &mut Log, model: &mut Model, op: &Op, term: &mut u64, window_bytes: usize) {
    match *op {
        Op::Append { terms, entries, size } => {
            *term += terms;
            let first = model.entries.len() as u64 + 1;
            let payload = |index: u64| Payload::Command(Bytes::from(alloc::vec![index as u8; size]));
            let entry = |index| Entry { index: LogIndex(index), term: Term(*term), payload: payload(index) };
            let entries: Vec<Entry> = (first..).take(entries).map(entry).collect();
            log.append(model, &entries.clone().into()).unwrap();
            model.entries.extend_from_slice(&entries);
            model.writes.push(Op::Stored(entries));
            log.writing(WriteId(model.writes.len() as u64));
        }
        Op::Truncate { back } => {
            let from = (model.entries.len() as u64 + 1).saturating_sub(back).max(model.commit + 1);
            if from <= model.entries.len() as u64 {
                *term += 1;
                log.truncate(model, LogIndex(from)).unwrap();
                model.entries.truncate(from as usize - 1);
                model.writes.push(Op::Cut(from));
            }
        }
        Op::Persist { writes } => {
            model.persisted = (model.persisted + writes).min(model.writes.len());
            log.persisted(WriteId(model.persisted as u64));
        }
        Op::Commit { ahead } => {
            let to = (model.commit + ahead).min(model.entries.len() as u64);
            assert_eq!(log.commit(LogIndex(model.commit + ahead)), to > model.commit);
            model.commit = to;
        }
        Op::Apply { max_bytes } => {
            if let Some((first, last)) = log.hand_out(max_bytes) {
                let mut next = first;
                while next <= last {
                    let lent = log.lend(model, next, last).unwrap();
                    assert!(!lent.is_empty());
                    let at = next.0 as usize - 1;
                    assert_eq!(&lent[..], &model.entries[at..at + lent.len()]);
                    next = LogIndex(next.0 + lent.len() as u64);
                }
                assert_eq!(next, last.next());
                let handed = &model.entries[first.0 as usize - 1..last.0 as usize - 1];
                let in_memory = first > log.base.index;
                let without_the_last: usize = handed.iter().map(Entry::cost).sum();
                assert!(!in_memory || handed.is_empty() || without_the_last < max_bytes, "too much at once");
                assert!(last.0 <= model.safe(), "{last} is applied and not durable");
                log.applied(last, window_bytes);
            }
        }
        Op::Slice { first, max_bytes } => {
            let first = first % (model.entries.len() as u64 + 1) + 1;
            let (slice, cost) = log.slice(model, LogIndex(first), max_bytes).unwrap();
            let rest = &model.entries[first as usize - 1..];
            assert_eq!(&slice[..], &rest[..slice.len()]);
            assert_eq!(slice.is_empty(), rest.is_empty());
            let bytes: usize = slice.iter().map(Entry::cost).sum();
            assert_eq!(cost, bytes);
            assert!(bytes <= max_bytes || slice.len() == 1, "{bytes} of {max_bytes}");
        }
        Op::Stored(_) | Op::Cut(_) => {}
    }
}

fn check(log: &Log, model: &Model) {
    let last = LogIndex(model.entries.len() as u64);
    assert_eq!((log.last().index, log.commit_index().0), (last, model.commit));
    assert!(log.persisted_index().0 <= model.safe(), "ABA: {:?} > {}", log.persisted_index(), model.safe());
    if model.persisted == model.writes.len() {
        assert_eq!(log.persisted_index(), last);
    }
    for index in 0..=last.0 {
        let mark = log.mark(model, LogIndex(index)).unwrap();
        assert_eq!(mark.term, model.term_of(LogIndex(index)));
        assert_eq!(log.term(model, LogIndex(index)).unwrap(), mark.term);
        assert_eq!(mark.digest, Some(digest_of(&model.entries[..index as usize])));
        let terms = model.entries[..index as usize].iter();
        let naive = terms.take_while(|entry| entry.term < mark.term).count() as u64;
        let earlier = Term(mark.term.0.saturating_sub(1));
        assert_eq!(log.last_of_term(model, LogIndex(index), earlier).unwrap().0, LogIndex(naive));
        match log.write_of(LogIndex(index)) {
            None => assert!(index <= model.safe(), "{index} is not durable"),
            Some(write) => {
                let then = Model { persisted: write.0 as usize, ..Model::default() };
                let then = Model { writes: model.writes.clone(), entries: model.entries.clone(), ..then };
                assert!(then.safe() >= index, "{index} is not durable after {write:?}");
            }
        }
    }
    assert!(log.mark(model, last.next()).is_err());
    assert!(log.base.index <= log.last_applied().max(LogIndex(model.stored)), "not applied and not in memory");
    let held: usize = log.window.runs_from(LogIndex(0)).flat_map(|run| run.entries.iter()).map(Entry::cost).sum();
    assert_eq!(log.window.bytes(), held);
}

/// A log of one run a batch, each of entries of `cost` bytes, all durable and committed.
fn log_of(batches: &[usize], cost: usize) -> Log {
    let model = Model::default();
    let mut log = Log::open(&model).unwrap();
    for (entries, id) in batches.iter().zip(1..) {
        let payload = || Payload::Command(Bytes::from(alloc::vec![0; cost - Entry::cost_of(&[])]));
        let first = log.last().index.0 + 1;
        let entry = |index| Entry { index: LogIndex(index), term: Term(1), payload: payload() };
        log.append(&model, &(first..).take(*entries).map(entry).collect()).unwrap();
        log.writing(WriteId(id));
        log.persisted(WriteId(id));
    }
    log.commit(log.last().index);
    log
}

#[test]
fn what_is_applied_leaves_memory_down_to_the_limit_and_no_further() {
    for (window_bytes, base) in [(301, 0), (300, 0), (299, 1), (200, 1), (199, 2), (0, 3)] {
        let mut log = log_of(&[1, 1, 1], 100);
        let (_, last) = log.hand_out(usize::MAX).unwrap();
        log.applied(last, window_bytes);
        assert_eq!(log.base.index, LogIndex(base), "{window_bytes} bytes are kept");
    }
}

#[test]
fn what_a_snapshot_replaces_leaves_memory() {
    let mut log = log_of(&[1, 2], 100);
    log.replace(Mark { index: LogIndex(9), term: Term(2), digest: None }, WriteId(9));
    assert!(log.window.run(LogIndex(2)).is_none());
    assert_eq!(log.window.bytes(), 0);
}

#[test]
fn what_was_appended_together_is_sent_without_a_copy() {
    let log = log_of(&[2, 2], 100);
    let model = Model::default();
    let shared = |first, max_bytes| {
        let (entries, bytes) = log.slice(&model, LogIndex(first), max_bytes).unwrap();
        let run = log.window.run(LogIndex(first)).unwrap();
        (Arc::ptr_eq(&entries, &run.entries), entries.len(), bytes)
    };
    assert_eq!(shared(1, 200), (true, 2, 200), "it is all that fits");
    assert_eq!(shared(3, 1000), (true, 2, 200), "it is all that there is");
    assert_eq!(shared(1, 300), (false, 3, 300), "more fits");
    assert_eq!(shared(2, 1000), (false, 3, 300), "it begins in the middle");
    assert_eq!(shared(1, 199), (false, 1, 100), "it is too much");
    assert_eq!(shared(1, 100), (false, 1, 100), "a limit that is met exactly");
    assert_eq!(shared(4, 10), (false, 1, 100), "one at the least");
    let single = log_of(&[1, 1], 100);
    let (entries, _) = single.slice(&model, LogIndex(1), 10).unwrap();
    assert!(Arc::ptr_eq(&entries, &single.window.run(LogIndex(1)).unwrap().entries), "one too large goes as it is");
}

proptest! {
    /// Whatever happens to it, the log answers as one plain list does.
    #[test]
    fn the_log_equals_a_plain_list(
        stored in 0_usize..6, window_bytes in 0_usize..150, ops in prop::collection::vec(op(), 1..50),
    ) {
        let mut model = Model::default();
        let mut term = 1;
        let before = Op::Append { terms: 0, entries: stored, size: 3 };
        if stored > 0 {
            carry_out(&mut Log::open(&Model::default()).unwrap(), &mut model, &before, &mut term, 0);
            (model.persisted, model.stored) = (1, stored as u64);
        }
        let mut log = Log::open(&model).unwrap();
        for op in &ops {
            carry_out(&mut log, &mut model, op, &mut term, window_bytes);
            check(&log, &model);
        }
    }
}
