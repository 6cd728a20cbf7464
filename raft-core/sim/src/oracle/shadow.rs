//! What a server's storage holds, in names and digests: worked out from the writes that were begun.

use std::collections::VecDeque;
use std::sync::Arc;

use raft_core::{Digest, Entries, HardState, LogIndex, SnapshotMeta, Storage, StorageError, Term};

/// An entry without its payload.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) term: Term,
    /// None where the storage does not link: then terms alone are compared.
    pub(super) digest: Option<Digest>,
}

/// A log of marks: those after `base`, and the one at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    base: LogIndex,
    before: Mark,
    marks: VecDeque<Mark>,
    pub(super) snapshot: LogIndex,
}

/// What a storage holds.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) hard_state: HardState,
    pub(super) log: Log,
}

/// A write without its payloads.
#[derive(Clone, Debug)]
pub(super) enum Op {
    HardState(HardState),
    Truncate(LogIndex),
    Append(Entries, Option<Arc<[Digest]>>),
    /// Of a snapshot that is not installed: nothing that is held against anything.
    Chunk,
    Install {
        index: LogIndex,
        mark: Mark,
        keep_from: Option<LogIndex>,
    },
}

impl Mark {
    pub(super) fn of(meta: &SnapshotMeta) -> Self {
        Self { term: meta.last_included_term, digest: meta.digest }
    }

    /// Whether both may name one entry, with all that is before it.
    pub(super) fn agrees(self, other: Self) -> bool {
        self.term == other.term && same(self.digest, other.digest)
    }
}

/// Whether these are one digest, as far as both are known.
pub(super) fn same(one: Option<Digest>, other: Option<Digest>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one == other)
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an entry of term {}", self.term)?;
        self.digest.map_or(Ok(()), |digest| write!(f, " with digest {digest:.8}"))
    }
}

impl Log {
    /// The entry before the first that the log holds.
    pub(super) const fn base(&self) -> LogIndex {
        self.base
    }

    pub(super) fn last(&self) -> LogIndex {
        LogIndex(self.base.0.saturating_add(self.marks.len() as u64))
    }

    /// From the entry before the first one on.
    pub(super) fn get(&self, index: LogIndex) -> Option<Mark> {
        if index == self.base {
            return Some(self.before);
        }
        self.marks.get(self.place(index)?).copied()
    }

    /// Whether this log has this entry, or something made from it.
    pub(super) fn holds(&self, index: LogIndex, mark: Mark) -> bool {
        index < self.base || self.get(index).is_some_and(|held| held.agrees(mark))
    }

    fn place(&self, index: LogIndex) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.base.0)?.checked_sub(1)?).ok()
    }

    fn truncate(&mut self, from: LogIndex) {
        self.marks.truncate(self.place(from).unwrap_or(0));
    }

    fn install(&mut self, index: LogIndex, mark: Mark, keep_from: Option<LogIndex>) {
        self.snapshot = index;
        let Some(first) = keep_from else {
            (self.base, self.before) = (index, mark);
            self.marks.clear();
            return;
        };
        while self.base.next() < first
            && let Some(removed) = self.marks.pop_front()
        {
            (self.base, self.before) = (self.base.next(), removed);
        }
    }
}

impl State {
    /// What a storage holds that was just opened.
    pub(super) fn read(storage: &impl Storage) -> Result<Self, StorageError> {
        let base = storage.first_index().prev();
        let mark = |index| -> Result<Mark, StorageError> {
            Ok(Mark { term: storage.term(index)?, digest: storage.digest(index)? })
        };
        let marks = (base.0.saturating_add(1)..=storage.last_index().0).map(|index| mark(LogIndex(index)));
        let log = Log {
            base,
            before: mark(base)?,
            marks: marks.collect::<Result<_, _>>()?,
            snapshot: storage.snapshot_meta()?.last_included_index,
        };
        Ok(Self { hard_state: storage.hard_state()?, log })
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::HardState(hard_state) => self.hard_state = *hard_state,
            Op::Truncate(from) => self.log.truncate(*from),
            Op::Append(entries, digests) => {
                let digests = digests.iter().flat_map(|digests| digests.iter().copied().map(Some));
                let marks = entries.iter().zip(digests.chain(std::iter::repeat(None)));
                self.log.marks.extend(marks.map(|(entry, digest)| Mark { term: entry.term, digest }));
            }
            Op::Chunk => {}
            Op::Install { index, mark, keep_from } => self.log.install(*index, *mark, *keep_from),
        }
    }

    /// Whether a storage holds exactly this. Where it links, its last digest speaks for those before it.
    pub(super) fn is_held_by(&self, storage: &impl Storage) -> Result<bool, StorageError> {
        let (log, last) = (&self.log, self.log.last());
        let bounds = (storage.first_index().prev(), storage.last_index(), storage.snapshot_meta()?.last_included_index);
        if bounds != (log.base, last, log.snapshot) || storage.hard_state()? != self.hard_state {
            return Ok(false);
        }
        for index in [log.base, last] {
            let digest = storage.digest(index)?;
            if !log.get(index).is_some_and(|mark| same(mark.digest, digest)) {
                return Ok(false);
            }
        }
        for (mark, index) in log.marks.iter().zip(log.base.0.saturating_add(1)..) {
            if storage.term(LogIndex(index))? != mark.term {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hard_state, last) = (self.hard_state, self.log.last());
        let vote = hard_state.voted_for.map_or_else(|| String::from("nobody"), |candidate| candidate.to_string());
        write!(
            f,
            "term {}, a vote for {vote}, a snapshot at {}, entries {} to {last}",
            hard_state.current_term,
            self.log.snapshot,
            self.log.base.next()
        )?;
        self.log.get(last).map_or(Ok(()), |mark| write!(f, ", the last {mark}"))
    }
}
