//! The log as one sequence, over the entries in memory (the window) and those in the storage.
//!
//! ```text
//!   snapshot ──── stored only ────┬───────────── the window, in memory ─────────────┐
//!      │                          │                                                 │
//!      └ snapshot_index ≤ base ≤ last_applied ≤ applying ≤ commit_index ≤ last_index
//!                               base ≤ persisted_index ≤ last_index;  applying ≤ persisted_index
//! ```
//!
//! After a restart `base` is the last entry, above `last_applied` until the stored entries have been applied again.
//!
//! Invariants: the window holds every entry after `base`, so whatever is not durable is in memory; entries up to
//! `commit_index` are never removed; a write reported durable counts only for the entries of it that were not removed
//! since (the ABA race: append, truncate, append other entries, and the first report arrives).

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::StorageError;
use crate::storage::Storage;
use crate::types::{Digest, Entries, Entry, LogIndex, Term, WriteId};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    snapshot_index: LogIndex,
    base: Mark,
    runs: VecDeque<Run>,
    window_bytes: usize,
    last: Mark,
    persisted_index: LogIndex,
    commit_index: LogIndex,
    applying: LogIndex,
    last_applied: LogIndex,
    /// Appends whose write is not durable yet, with the last index that each will make durable.
    in_flight: VecDeque<(WriteId, LogIndex)>,
}

/// An entry's name and its digest: all that the next entry needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
    pub(crate) digest: Option<Digest>,
}

/// Entries that were appended together, never empty.
#[derive(Clone, Debug)]
struct Run {
    first: LogIndex,
    entries: Entries,
    digests: Option<Arc<[Digest]>>,
    bytes: usize,
}

impl Log {
    /// The log that a storage holds: nothing committed or applied beyond its snapshot.
    pub(crate) fn open(storage: &impl Storage) -> Result<Self, StorageError> {
        let snapshot_index = storage.snapshot_meta()?.last_included_index;
        let index = storage.last_index();
        let last = Mark { index, term: storage.term(index)?, digest: storage.digest(index)? };
        Ok(Self {
            snapshot_index,
            base: last,
            runs: VecDeque::new(),
            window_bytes: 0,
            last,
            persisted_index: index,
            commit_index: snapshot_index,
            applying: snapshot_index,
            last_applied: snapshot_index,
            in_flight: VecDeque::new(),
        })
    }

    pub(crate) const fn last(&self) -> Mark {
        self.last
    }

    pub(crate) const fn persisted_index(&self) -> LogIndex {
        self.persisted_index
    }

    pub(crate) const fn commit_index(&self) -> LogIndex {
        self.commit_index
    }

    pub(crate) const fn last_applied(&self) -> LogIndex {
        self.last_applied
    }

    /// The entry's term and digest.
    pub(crate) fn mark(&self, storage: &impl Storage, index: LogIndex) -> Result<Mark, StorageError> {
        if index == self.last.index {
            return Ok(self.last);
        }
        if index == self.base.index {
            return Ok(self.base);
        }
        if index < self.base.index {
            return Ok(Mark { index, term: storage.term(index)?, digest: storage.digest(index)? });
        }
        self.run(index).and_then(|run| run.mark(index)).ok_or_else(|| self.out_of_range(index))
    }

    /// The entry's term.
    pub(crate) fn term(&self, storage: &impl Storage, index: LogIndex) -> Result<Term, StorageError> {
        if index < self.base.index {
            return storage.term(index);
        }
        self.mark(storage, index).map(|mark| mark.term)
    }

    /// The highest index, at most `index`, whose term is at most `term`; the snapshot's index at the least.
    ///
    /// Terms never fall along a log, so a binary search finds it.
    pub(crate) fn last_of_term(
        &self,
        storage: &impl Storage,
        index: LogIndex,
        term: Term,
    ) -> Result<(LogIndex, Term), StorageError> {
        let (mut low, mut high) = (self.snapshot_index, index.min(self.last.index));
        while low < high {
            let middle = LogIndex(low.0.saturating_add(high.0.saturating_sub(low.0).div_ceil(2)));
            if self.term(storage, middle)? <= term {
                low = middle;
            } else {
                high = middle.prev();
            }
        }
        Ok((low, self.term(storage, low)?))
    }

    /// Entries from `first` on, shared where one run is all there is to send, otherwise gathered up to `max_bytes`.
    pub(crate) fn slice(
        &self,
        storage: &impl Storage,
        first: LogIndex,
        max_bytes: usize,
    ) -> Result<Entries, StorageError> {
        if first > self.last.index {
            return Ok(Entries::default());
        }
        if first <= self.base.index {
            let mut entries = storage.entries(first, self.base.index, max_bytes)?;
            entries.truncate(fitting(entries.iter(), max_bytes));
            return Ok(entries.into());
        }
        let at = self.run_at(first);
        match self.runs.get(at) {
            Some(run) if run.first == first && (run.bytes >= max_bytes || run.last() == self.last.index) => {
                if run.bytes <= max_bytes || run.entries.len() == 1 {
                    return Ok(Arc::clone(&run.entries));
                }
            }
            Some(_) => {}
            None => return Err(self.out_of_range(first)),
        }
        let rest = || self.runs.range(at..).flat_map(|run| run.entries.iter()).filter(|entry| entry.index >= first);
        let count = fitting(rest(), max_bytes);
        let mut gathered = Vec::with_capacity(count);
        gathered.extend(rest().take(count).cloned());
        Ok(gathered.into())
    }

    /// Lends entries from `first` to at most `last`: at least one, and not always all.
    pub(crate) fn lend(
        &self,
        storage: &impl Storage,
        first: LogIndex,
        last: LogIndex,
    ) -> Result<Cow<'_, [Entry]>, StorageError> {
        /// A read from the storage, in bytes.
        const READ: usize = 1 << 20;
        if first > last {
            return Ok(Cow::Borrowed(&[]));
        }
        if first <= self.base.index {
            return storage.entries(first, last.min(self.base.index), READ).map(Cow::Owned);
        }
        let run = self.run(first).ok_or_else(|| self.out_of_range(first))?;
        let from = run.offset(first);
        let to = run.offset(last.min(run.last()));
        run.entries.get(from..=to).map(Cow::Borrowed).ok_or_else(|| self.out_of_range(first))
    }

    /// Adds a run directly after the last entry, linked where the storage links. `None` where it holds nothing.
    pub(crate) fn append(&mut self, storage: &impl Storage, entries: Entries) -> Option<Option<Arc<[Digest]>>> {
        let (first, last) = (entries.first()?, entries.last()?);
        let digests = self.link(storage, &entries);
        let digest = digests.as_deref().and_then(<[Digest]>::last).copied();
        self.last = Mark { index: last.index, term: last.term, digest };
        let bytes = entries.iter().map(Entry::cost).fold(0, usize::saturating_add);
        self.window_bytes = self.window_bytes.saturating_add(bytes);
        self.runs.push_back(Run {
            first: first.index,
            entries: Arc::clone(&entries),
            digests: digests.as_ref().map(Arc::clone),
            bytes,
        });
        Some(digests)
    }

    /// Removes the entry at `from` and all that follow. Only ever above `commit_index`.
    pub(crate) fn truncate(&mut self, storage: &impl Storage, from: LogIndex) -> Result<(), StorageError> {
        let keep = self.mark(storage, from.prev())?;
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.drop_last_run();
        }
        if let Some(run) = self.runs.pop_back_if(|run| run.last() >= from) {
            self.window_bytes = self.window_bytes.saturating_sub(run.bytes);
            let run = run.prefix(from);
            self.window_bytes = self.window_bytes.saturating_add(run.bytes);
            self.runs.push_back(run);
        }
        if self.base.index >= from {
            self.base = keep;
        }
        self.last = keep;
        self.persisted_index = self.persisted_index.min(keep.index);
        for (_, last) in &mut self.in_flight {
            *last = (*last).min(keep.index);
        }
        Ok(())
    }

    /// `write` will make everything up to the last entry durable.
    pub(crate) fn writing(&mut self, write: WriteId) {
        self.in_flight.push_back((write, self.last.index));
    }

    /// The write that makes `index` durable, where it is not yet.
    pub(crate) fn write_of(&self, index: LogIndex) -> Option<WriteId> {
        if index <= self.persisted_index {
            return None;
        }
        let at = self.in_flight.partition_point(|(_, last)| *last < index);
        self.in_flight.get(at).map(|(write, _)| *write)
    }

    /// Every write up to `write` is durable.
    pub(crate) fn persisted(&mut self, write: WriteId) {
        while let Some((_, last)) = self.in_flight.pop_front_if(|(id, _)| *id <= write) {
            self.persisted_index = self.persisted_index.max(last);
        }
    }

    /// Raises the commit index to `to`, but never beyond the log.
    pub(crate) fn commit(&mut self, to: LogIndex) -> bool {
        let to = to.min(self.last.index);
        let raised = to > self.commit_index;
        if raised {
            self.commit_index = to;
        }
        raised
    }

    /// What may be applied now: committed and durable here, one range at a time, cut after the entry that brings it to
    /// `max_bytes` or more.
    pub(crate) fn hand_out(&mut self, max_bytes: usize) -> Option<(LogIndex, LogIndex)> {
        let to = self.commit_index.min(self.persisted_index);
        if to <= self.applying || self.last_applied < self.applying {
            return None;
        }
        let first = self.applying.next();
        self.applying = self.last_within(first, to, max_bytes);
        Some((first, self.applying))
    }

    /// The entry, at most `to`, at which those from `first` on reach `max_bytes`.
    fn last_within(&self, first: LogIndex, to: LogIndex, max_bytes: usize) -> LogIndex {
        /// Entries that are not in memory are counted, not weighed: they would have to be read for it.
        const STORED_MAX: u64 = 4096;
        if first <= self.base.index {
            return to.min(self.base.index).min(LogIndex(first.0.saturating_add(STORED_MAX)));
        }
        let mut bytes = 0_usize;
        for run in self.runs.range(self.run_at(first)..) {
            let with_run = bytes.saturating_add(run.bytes);
            if with_run < max_bytes && run.first >= first && run.last() < to {
                bytes = with_run;
                continue;
            }
            for entry in run.entries.iter().filter(|entry| entry.index >= first) {
                bytes = bytes.saturating_add(entry.cost());
                if bytes >= max_bytes || entry.index >= to {
                    return entry.index;
                }
            }
        }
        to
    }

    /// Everything up to `index` has been applied; entries beyond what was handed out cannot have been.
    pub(crate) fn applied(&mut self, index: LogIndex, window_bytes: usize) {
        self.last_applied = self.last_applied.max(index.min(self.applying));
        let settled = self.last_applied.min(self.persisted_index);
        while self.window_bytes > window_bytes {
            let Some(run) = self.runs.pop_front_if(|run| run.last() <= settled) else { break };
            self.window_bytes = self.window_bytes.saturating_sub(run.bytes);
            self.base = run.mark(run.last()).unwrap_or(self.base);
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) const fn applying(&self) -> LogIndex {
        self.applying
    }

    pub(crate) const fn snapshot_index(&self) -> LogIndex {
        self.snapshot_index
    }

    fn link(&self, storage: &impl Storage, entries: &[Entry]) -> Option<Arc<[Digest]>> {
        let mut prev = self.last.digest?;
        let mut links = true;
        let link_next = |entry| {
            match storage.link(&prev, entry) {
                Some(digest) => prev = digest,
                None => links = false,
            }
            prev
        };
        // Of known length, so made in place: an `Option` collected would be a list first, and then a copy of it.
        let digests = entries.iter().map(link_next).collect();
        links.then_some(digests)
    }

    fn drop_last_run(&mut self) {
        if let Some(run) = self.runs.pop_back() {
            self.window_bytes = self.window_bytes.saturating_sub(run.bytes);
        }
    }

    /// Place of the last run that begins at or before `index`, or 0. Most questions are about the newest runs, so the
    /// search widens from the end before it narrows.
    fn run_at(&self, index: LogIndex) -> usize {
        let begins_behind = |at: usize| self.runs.get(at).is_some_and(|run| run.first > index);
        let (mut low, mut high, mut step) = (self.runs.len(), self.runs.len(), 1_usize);
        while low > 0 {
            low = self.runs.len().saturating_sub(step);
            if !begins_behind(low) {
                break;
            }
            high = low;
            step = step.saturating_mul(2);
        }
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            if begins_behind(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        low
    }

    fn run(&self, index: LogIndex) -> Option<&Run> {
        self.runs.get(self.run_at(index)).filter(|run| run.first <= index && index <= run.last())
    }

    const fn out_of_range(&self, index: LogIndex) -> StorageError {
        StorageError::OutOfRange { index, last: self.last.index }
    }
}

impl Run {
    fn last(&self) -> LogIndex {
        self.entries.last().map_or(self.first, |entry| entry.index)
    }

    fn offset(&self, index: LogIndex) -> usize {
        usize::try_from(index.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX)
    }

    fn mark(&self, index: LogIndex) -> Option<Mark> {
        let at = self.offset(index);
        let entry = self.entries.get(at)?;
        let digest = self.digests.as_ref().and_then(|digests| digests.get(at)).copied();
        Some(Mark { index, term: entry.term, digest })
    }

    /// The entries before `end`; the caller knows that there is at least one.
    fn prefix(&self, end: LogIndex) -> Self {
        let keep = self.offset(end);
        let entries: Entries = self.entries.iter().take(keep).cloned().collect();
        let digests = self.digests.as_ref().map(|digests| digests.iter().take(keep).copied().collect());
        let bytes = entries.iter().map(Entry::cost).fold(0, usize::saturating_add);
        Self { first: self.first, entries, digests, bytes }
    }
}

/// How many of these stay within `max_bytes`, one at the least.
fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>, max_bytes: usize) -> usize {
    let mut bytes = 0_usize;
    let fits = |entry: &&Entry| {
        bytes = bytes.saturating_add(entry.cost());
        bytes <= max_bytes
    };
    entries.take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
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
                log.append(model, entries.clone().into()).unwrap();
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
                let slice = log.slice(model, LogIndex(first), max_bytes).unwrap();
                let rest = &model.entries[first as usize - 1..];
                assert_eq!(&slice[..], &rest[..slice.len()]);
                assert_eq!(slice.is_empty(), rest.is_empty());
                let bytes: usize = slice.iter().map(Entry::cost).sum();
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
        let held: usize = log.runs.iter().flat_map(|run| run.entries.iter()).map(Entry::cost).sum();
        assert_eq!(log.window_bytes, held);
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
}
