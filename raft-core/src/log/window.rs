//! The newest entries, in memory: runs as they were appended, so that what was sent once is shared.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::Mark;
use crate::types::{Digest, Entries, Entry, LogIndex};

/// Consecutive entries, by the runs in which they were appended.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    runs: VecDeque<Run>,
    /// The summed cost of all entries.
    bytes: usize,
}

/// Entries that were appended together, never empty.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) first: LogIndex,
    pub(super) entries: Entries,
    digests: Option<Arc<[Digest]>>,
    pub(super) bytes: usize,
}

impl Window {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, first: LogIndex, entries: Entries, digests: Option<Arc<[Digest]>>) {
        let bytes = cost_of(&entries);
        self.bytes = self.bytes.saturating_add(bytes);
        self.runs.push_back(Run { first, entries, digests, bytes });
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Removes the entry at `from` and all that follow.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        while let Some(run) = self.runs.pop_back_if(|run| run.last() >= from) {
            self.bytes = self.bytes.saturating_sub(run.bytes);
            if run.first < from {
                let run = run.prefix(from);
                self.bytes = self.bytes.saturating_add(run.bytes);
                self.runs.push_back(run);
            }
        }
    }

    /// Forgets the oldest run where it ends at or before `index`, and says where it ended.
    pub(super) fn pop_front(&mut self, index: LogIndex) -> Option<Mark> {
        let run = self.runs.pop_front_if(|run| run.last() <= index)?;
        self.bytes = self.bytes.saturating_sub(run.bytes);
        run.mark(run.last())
    }

    /// The runs from the one that holds `index` on.
    pub(super) fn runs_from(&self, index: LogIndex) -> impl Iterator<Item = &Run> {
        self.runs.range(self.run_at(index)..)
    }

    /// The run that holds `index`.
    pub(super) fn run(&self, index: LogIndex) -> Option<&Run> {
        self.runs.get(self.run_at(index)).filter(|run| run.first <= index && index <= run.last())
    }

    /// Place of the last run that begins at or before `index`, or 0. Most questions are about the newest runs, so the
    /// search widens from the end before it narrows.
    fn run_at(&self, index: LogIndex) -> usize {
        let begins_behind = |at: usize| self.runs.get(at).is_some_and(|run| run.first > index);
        let mut high = self.runs.len();
        let (mut low, mut step) = (high.saturating_sub(1), 1_usize);
        while begins_behind(low) && low > 0 {
            high = low;
            low = low.saturating_sub(step);
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
}

impl Run {
    /// Counted, for whoever passes over old runs should not have to fetch their entries.
    pub(super) fn last(&self) -> LogIndex {
        LogIndex(self.first.0.saturating_add(self.entries.len() as u64).saturating_sub(1))
    }

    pub(super) fn offset(&self, index: LogIndex) -> usize {
        usize::try_from(index.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX)
    }

    pub(super) fn mark(&self, index: LogIndex) -> Option<Mark> {
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
        let bytes = cost_of(&entries);
        Self { first: self.first, entries, digests, bytes }
    }
}

fn cost_of(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::cost).fold(0, usize::saturating_add)
}
