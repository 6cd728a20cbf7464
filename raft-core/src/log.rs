//! The log as one sequence, over the entries in memory (the window) and those in the storage.
//!
//! ```text
//!   removed ─┬─ tail ─┬──── stored only ────┬───────────── the window, in memory ─────────────┐
//!            │        │                     │                                                 │
//!          start ≤ snapshot_index         base ≤ last_applied ≤ applying ≤ commit_index ≤ last_index
//!                     snapshot_index ≤ last_applied;  base ≤ persisted_index;  applying ≤ persisted_index
//! ```
//!
//! `start` is the entry before the first: the last of which only the term and the digest are known. After a restart
//! `base` is the last entry, above `last_applied` until the stored entries have been applied again. Where a snapshot takes
//! the place of the log, `applying` is above `persisted_index` until that is durable.
//!
//! Invariants: the window holds every entry after `base`, so whatever is not durable is in memory; entries up to
//! `commit_index` are never removed; a write reported durable counts only for the entries of it that were not removed
//! since (the ABA race: append, truncate, append other entries, and the first report arrives).

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::error::StorageError;
use crate::message::AppendEntries;
use crate::storage::Storage;
use crate::types::{Digest, Entries, Entry, LogIndex, Term, WriteId};

mod window;

use window::Window;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// The entry before the first that the log holds.
    start: LogIndex,
    snapshot_index: LogIndex,
    base: Mark,
    window: Window,
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

impl Log {
    /// The log that a storage holds: nothing committed or applied beyond its snapshot.
    pub(crate) fn open(storage: &impl Storage) -> Result<Self, StorageError> {
        let snapshot_index = storage.snapshot_meta()?.last_included_index;
        let index = storage.last_index();
        let last = Mark { index, term: storage.term(index)?, digest: storage.digest(index)? };
        Ok(Self {
            start: storage.first_index().prev(),
            snapshot_index,
            base: last,
            window: Window::default(),
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
        match index.cmp(&self.base.index) {
            Ordering::Less => Ok(Mark { index, term: storage.term(index)?, digest: storage.digest(index)? }),
            Ordering::Equal => Ok(self.base),
            Ordering::Greater => {
                let mark = self.window.run(index).and_then(|run| run.mark(index));
                mark.ok_or_else(|| self.out_of_range(index))
            }
        }
    }

    /// The entry's term.
    pub(crate) fn term(&self, storage: &impl Storage, index: LogIndex) -> Result<Term, StorageError> {
        if index < self.base.index {
            return storage.term(index);
        }
        self.mark(storage, index).map(|mark| mark.term)
    }

    /// The highest index, at most `index`, whose term is at most `term`; the one before the first entry at the least.
    ///
    /// Terms never fall along a log, so a binary search finds it.
    pub(crate) fn last_of_term(
        &self,
        storage: &impl Storage,
        index: LogIndex,
        term: Term,
    ) -> Result<(LogIndex, Term), StorageError> {
        let (mut low, mut high) = (self.start, index.min(self.last.index));
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

    /// Entries from `first` on, and their cost: shared where one run is all there is to send, otherwise gathered up to
    /// `max_bytes`.
    pub(crate) fn slice(
        &self,
        storage: &impl Storage,
        first: LogIndex,
        max_bytes: usize,
    ) -> Result<(Entries, usize), StorageError> {
        if first > self.last.index {
            return Ok((Entries::default(), 0));
        }
        if first <= self.base.index {
            let mut entries = storage.entries(first, self.base.index, max_bytes)?;
            let (count, bytes) = fitting(entries.iter(), max_bytes);
            entries.truncate(count);
            return Ok((entries.into(), bytes));
        }
        let run = self.window.run(first).ok_or_else(|| self.out_of_range(first))?;
        let is_all = run.first == first && (run.bytes >= max_bytes || run.last() == self.last.index);
        if is_all && (run.bytes <= max_bytes || run.entries.len() == 1) {
            return Ok((Arc::clone(&run.entries), run.bytes));
        }
        let runs = || self.window.runs_from(first).flat_map(|run| run.entries.iter());
        let rest = || runs().filter(|entry| entry.index >= first);
        let (count, bytes) = fitting(rest(), max_bytes);
        let mut gathered = Vec::with_capacity(count);
        gathered.extend(rest().take(count).cloned());
        Ok((gathered.into(), bytes))
    }

    /// An append of the entries from `next` on, up to `max_bytes`, or of none; and their cost.
    pub(crate) fn append_entries(
        &self,
        storage: &impl Storage,
        next: LogIndex,
        max_bytes: Option<usize>,
    ) -> Result<(AppendEntries, usize), StorageError> {
        let (entries, bytes) =
            max_bytes.map_or_else(|| Ok(Default::default()), |max| self.slice(storage, next, max))?;
        let Mark { index: prev_log_index, term: prev_log_term, digest } = self.mark(storage, next.prev())?;
        let (prev_log_hash, leader_commit) = (digest.map(Arc::new), self.commit_index);
        Ok((AppendEntries { prev_log_index, prev_log_term, prev_log_hash, leader_commit, entries }, bytes))
    }

    /// Lends entries from `first` to at most `last`: at least one, and not always all.
    pub(crate) fn lend(
        &self,
        storage: &impl Storage,
        first: LogIndex,
        last: LogIndex,
    ) -> Result<Cow<'_, [Entry]>, StorageError> {
        /// A read from the storage, in bytes.
        const READ: usize = 1_048_576;
        if first > last {
            return Ok(Cow::Borrowed(&[]));
        }
        if first <= self.base.index {
            return storage.entries(first, last.min(self.base.index), READ).map(Cow::Owned);
        }
        let run = self.window.run(first).ok_or_else(|| self.out_of_range(first))?;
        let from = run.offset(first);
        let to = run.offset(last.min(run.last()));
        run.entries.get(from..=to).map(Cow::Borrowed).ok_or_else(|| self.out_of_range(first))
    }

    /// Adds a run directly after the last entry, linked where the storage links. `None` where it holds nothing.
    pub(crate) fn append(&mut self, storage: &impl Storage, entries: &Entries) -> Option<Option<Arc<[Digest]>>> {
        let (first, last) = (entries.first()?, entries.last()?);
        let digests = self.link(storage, entries);
        let digest = digests.as_deref().and_then(<[Digest]>::last).copied();
        self.last = Mark { index: last.index, term: last.term, digest };
        self.window.push(first.index, Arc::clone(entries), digests.as_ref().map(Arc::clone));
        Some(digests)
    }

    /// Removes the entry at `from` and all that follow. Only ever above `commit_index`.
    pub(crate) fn truncate(&mut self, storage: &impl Storage, from: LogIndex) -> Result<(), StorageError> {
        let keep = self.mark(storage, from.prev())?;
        self.window.truncate(from);
        if self.base.index >= from {
            self.base = keep;
        }
        self.last = keep;
        self.persisted_index = self.persisted_index.min(keep.index);
        for (_, last) in self.in_flight.iter_mut().filter(|_| !bug!(TruncatedWriteCounts)) {
            mark!(TruncatedWhileWriting, *last > keep.index);
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
        while let Some((_, last)) =
            self.in_flight.pop_front_if(|(id, _)| *id <= write && !(bug!(CumulativeReportLost) && *id < write))
        {
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
        mark!(ApplyWaitsForDisk, self.commit_index > to);
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
        if self.window.bytes() < max_bytes {
            return to;
        }
        let mut bytes = 0_usize;
        for run in self.window.runs_from(first) {
            let with_run = bytes.saturating_add(run.bytes);
            if with_run < max_bytes && run.first >= first && run.last() < to {
                bytes = with_run;
                continue;
            }
            for entry in run.entries.iter().filter(|entry| entry.index >= first) {
                bytes = bytes.saturating_add(entry.cost());
                if bytes >= max_bytes || entry.index >= to {
                    mark!(ApplyLimit, entry.index < to);
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
        while self.window.bytes() > window_bytes {
            let Some(mark) = self.window.pop_front(settled) else { break };
            self.base = mark;
        }
    }

    /// A snapshot of the entry at `index`, which the log holds, is being installed: the log goes on from `first`.
    pub(crate) fn compact(&mut self, index: LogIndex, first: LogIndex) {
        self.snapshot_index = index;
        self.start = first.prev();
        while let Some(mark) = self.window.pop_front(self.start) {
            self.base = mark;
        }
        self.restored(index);
    }

    /// A snapshot of an entry that the log does not hold takes its place once `write` is durable. Its last entry was
    /// not committed here, and nothing that is not committed stays.
    pub(crate) fn replace(&mut self, snapshot: Mark, write: WriteId) {
        self.persisted_index = self.persisted_index.min(self.commit_index);
        (self.start, self.snapshot_index) = (snapshot.index, snapshot.index);
        (self.base, self.last) = (snapshot, snapshot);
        self.window.clear();
        self.in_flight.clear();
        self.writing(write);
        self.restored(snapshot.index);
    }

    /// The state machine holds what all entries up to `index` have made.
    fn restored(&mut self, index: LogIndex) {
        self.commit_index = self.commit_index.max(index);
        self.applying = self.applying.max(index);
        self.last_applied = self.last_applied.max(index);
    }

    /// Whether a write is under way for whatever is not durable, and all that is not durable is in memory.
    #[cfg(debug_assertions)]
    pub(crate) fn is_being_written(&self) -> bool {
        let ends = self.in_flight.iter().map(|(_, last)| *last);
        let all = self.persisted_index.max(ends.clone().next_back().unwrap_or_default()) == self.last.index;
        all && ends.is_sorted() && self.base.index <= self.persisted_index.max(self.snapshot_index)
    }

    #[cfg(debug_assertions)]
    pub(crate) const fn applying(&self) -> LogIndex {
        self.applying
    }

    /// The entry before the first that the log holds: what is below was compacted.
    pub(crate) const fn start(&self) -> LogIndex {
        self.start
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

    const fn out_of_range(&self, index: LogIndex) -> StorageError {
        StorageError::OutOfRange { index, last: self.last.index }
    }
}

/// How many of these stay within `max_bytes`, one at the least, and their cost.
fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>, max_bytes: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0_usize, 0_usize);
    for cost in entries.map(Entry::cost) {
        let with_it = bytes.saturating_add(cost);
        if count > 0 && with_it > max_bytes {
            break;
        }
        (count, bytes) = (count.saturating_add(1), with_it);
    }
    (count, bytes)
}

#[cfg(test)]
mod tests;
