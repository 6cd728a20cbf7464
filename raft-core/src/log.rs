//! The log as one sequence, over the entries in memory (the window) and those in the storage.
//!
//! ```text
//!   snapshot ──── stored only ────┬───────────── the window, in memory ─────────────┐
//!      │                          │                                                 │
//!      └ snapshot_index ≤ base ≤ last_applied ≤ applying ≤ commit_index ≤ last_index
//!                               base ≤ persisted_index ≤ last_index;  applying ≤ persisted_index
//! ```
//!
//! Invariants: the window holds every entry after `base`, so whatever is not durable or not applied is in memory;
//! entries up to `commit_index` are never removed; a write reported durable counts only for the entries of it that
//! were not removed since (the ABA race: append, truncate, append other entries, and the first report arrives).

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::StorageError;
use crate::storage::Storage;
use crate::types::{Digest, Entries, Entry, LogIndex, Term, WriteId};

/// See the module.
#[derive(Debug)]
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
#[derive(Debug)]
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
            entries.truncate(fitting(&entries, max_bytes));
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
        let mut bytes = 0_usize;
        let mut gathered: Vec<Entry> = Vec::new();
        for entry in self.runs.range(at..).flat_map(|run| run.entries.iter()) {
            if entry.index < first {
                continue;
            }
            bytes = bytes.saturating_add(entry.cost());
            if bytes > max_bytes && !gathered.is_empty() {
                break;
            }
            gathered.push(entry.clone());
        }
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

    /// What may be applied now and has not been handed out: committed and durable here.
    pub(crate) fn hand_out(&mut self) -> Option<(LogIndex, LogIndex)> {
        let to = self.commit_index.min(self.persisted_index);
        if to <= self.applying {
            return None;
        }
        let first = self.applying.next();
        self.applying = to;
        Some((first, to))
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

    pub(crate) const fn applying(&self) -> LogIndex {
        self.applying
    }

    pub(crate) const fn snapshot_index(&self) -> LogIndex {
        self.snapshot_index
    }

    fn link(&self, storage: &impl Storage, entries: &[Entry]) -> Option<Arc<[Digest]>> {
        let mut prev = self.last.digest?;
        let mut digests = Vec::with_capacity(entries.len());
        for entry in entries {
            prev = storage.link(&prev, entry)?;
            digests.push(prev);
        }
        Some(digests.into())
    }

    fn drop_last_run(&mut self) {
        if let Some(run) = self.runs.pop_back() {
            self.window_bytes = self.window_bytes.saturating_sub(run.bytes);
        }
    }

    /// Place of the run that holds `index`; most questions are about the newest.
    fn run_at(&self, index: LogIndex) -> usize {
        match self.runs.back() {
            Some(run) if run.first <= index => self.runs.len().saturating_sub(1),
            _ => self.runs.partition_point(|run| run.last() < index),
        }
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
fn fitting(entries: &[Entry], max_bytes: usize) -> usize {
    let mut bytes = 0_usize;
    let fits = |entry: &&Entry| {
        bytes = bytes.saturating_add(entry.cost());
        bytes <= max_bytes
    };
    entries.iter().take_while(fits).count().max(1)
}
