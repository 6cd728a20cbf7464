//! One storage from its opening to its crash, beside the plain list of the states that its writes lead through.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use super::model::{Op, State};
use super::{Clause, StorageHarness, Violation, ensure};
use crate::action::Write;
use crate::error::StorageError;
use crate::storage::Storage;
use crate::types::{Entry, LogIndex, WriteId};

/// A storage that never reports within so many waits is taken for one that never does.
const WAITS: u32 = 20_000;

/// As much of what was done as a failure tells.
const TRACE_LEN: usize = 16;

pub(super) struct Life<'a, H: StorageHarness> {
    pub(super) harness: &'a mut H,
    pub(super) storage: H::Storage,
    /// The state after everything begun.
    pub(super) now: State,
    /// The states before it: after the writes up to `base`, then after each begun since but the last.
    history: VecDeque<State>,
    base: WriteId,
    reported: WriteId,
    trace: VecDeque<String>,
}

impl<'a, H: StorageHarness> Life<'a, H> {
    /// Of a storage that holds `state`, durably.
    pub(super) fn new(harness: &'a mut H, storage: H::Storage, state: State) -> Self {
        let (base, reported) = (WriteId(0), WriteId(0));
        Self { harness, storage, now: state, history: VecDeque::new(), base, reported, trace: VecDeque::new() }
    }

    pub(super) fn begun(&self) -> WriteId {
        WriteId(self.base.0.saturating_add(self.history.len() as u64))
    }

    pub(super) fn note(&mut self, what: String) {
        self.trace.push_back(what);
        if self.trace.len() > TRACE_LEN {
            self.trace.pop_front();
        }
    }

    pub(super) fn trace(&self) -> String {
        let steps: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        steps.join("; ")
    }

    /// The states that a crash may leave: from the last reported on.
    fn possible(&self) -> impl Iterator<Item = &State> {
        let from = usize::try_from(self.reported.0.saturating_sub(self.base.0)).unwrap_or(usize::MAX);
        self.history.iter().skip(from).chain([&self.now])
    }

    /// Begins a write that continues what was begun before.
    pub(super) fn write(&mut self, op: &Op) -> Result<(), Violation> {
        let id = self.begun().next();
        self.note(format!("write {}: {}", id.0, op.brief()));
        let (formed, next) = self.now.form(&self.storage, op)?;
        let taken = self.storage.write(Write { id, op: formed });
        ensure!(taken.is_ok(), Order, "a write that continues was not taken: {taken:?}");
        self.began(next);
        Ok(())
    }

    /// A write has begun that leads to this state.
    pub(super) fn began(&mut self, next: State) {
        self.history.push_back(core::mem::replace(&mut self.now, next));
    }

    /// Begins a write that does not continue, which must be refused.
    pub(super) fn refuse(&mut self, id: WriteId, op: &Op, why: &str) -> Result<(), Violation> {
        // What is wrong already is not this write's doing.
        self.check_reads()?;
        self.poll()?;
        self.note(format!("write {} ({why}): {}", id.0, op.brief()));
        let (formed, _) = self.now.form(&self.storage, op)?;
        let answer = self.storage.write(Write { id, op: formed });
        let refused = matches!(answer, Err(StorageError::OutOfOrder { .. }));
        ensure!(refused, Order, "{why}: answered {answer:?}, not OutOfOrder");
        let unchanged = self.check_reads().and_then(|()| self.poll());
        unchanged.map_err(|found| Violation::new(Clause::Order, format!("{why}: refused, but: {}", found.what)))
    }

    /// Asks what is durable.
    pub(super) fn poll(&mut self) -> Result<(), Violation> {
        let answer = self.storage.persisted();
        let Ok(id) = answer else {
            return Err(Violation::new(Clause::Reports, format!("persisted without a failure: {answer:?}")));
        };
        ensure!(id >= self.reported, Reports, "persisted fell from {} to {}", self.reported.0, id.0);
        ensure!(id <= self.begun(), Reports, "write {} is persisted, and only {} were begun", id.0, self.begun().0);
        if id > self.reported {
            self.note(format!("persisted {}", id.0));
        }
        self.reported = id;
        Ok(())
    }

    /// Lets the storage work for a moment.
    pub(super) fn advance(&mut self) -> Result<(), Violation> {
        self.harness.advance(&mut self.storage);
        self.poll()
    }

    /// Waits until everything begun is reported.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        self.poll()?;
        for _ in 0..WAITS {
            if self.reported == self.begun() {
                return Ok(());
            }
            self.advance()?;
        }
        let (reported, begun) = (self.reported.0, self.begun().0);
        Err(Violation::new(Clause::Reports, format!("{begun} writes begun, but persisted stays at {reported}")))
    }

    /// Compacts everything up to `to`, after everything is reported; whether the storage can.
    pub(super) fn compact(&mut self, to: LogIndex) -> Result<bool, Violation> {
        self.settle()?;
        let compacted = self.harness.compact(&mut self.storage, to);
        if compacted {
            self.note(format!("compact to {to}"));
            self.base = self.begun();
            self.history.clear();
            self.now = self.now.compacted(to);
        }
        Ok(compacted)
    }

    /// Crashes at this point, opens what is left and holds it against what may be: the next life.
    pub(super) fn crash(mut self, point: u64) -> Result<Self, Violation> {
        self.note(format!("crash at point {point}, {} of {} reported", self.reported.0, self.begun().0));
        let trace = self.trace();
        self.reopen(point).map_err(|found| found.during(|| trace))
    }

    fn reopen(self, point: u64) -> Result<Self, Violation> {
        let possible: Vec<State> = self.possible().cloned().collect();
        let before = self.history.len().saturating_add(1).saturating_sub(possible.len());
        let lost: Vec<State> = self.history.iter().take(before).cloned().collect();
        let Self { harness, storage, trace, .. } = self;
        let closed = |error| Violation::new(Clause::Crash, format!("it cannot be opened after a crash: {error}"));
        let mut storage = harness.crash(storage, point).map_err(closed)?;
        let found = State::read(&storage, Clause::Crash)?;
        if !possible.contains(&found) {
            let earlier = lost.contains(&found);
            let clause = if earlier { Clause::Reports } else { Clause::Crash };
            let story = if earlier { "a report was lost" } else { "this was never a state" };
            let last = possible.first().map(State::brief).unwrap_or_default();
            let what = format!("{story}: it holds {}; what was reported is {last}", found.brief());
            return Err(Violation::new(clause, what));
        }
        let persisted = storage.persisted();
        ensure!(persisted == Ok(WriteId(0)), NewLife, "persisted is {persisted:?} before the first write");
        let next = Self { trace, ..Life::new(harness, storage, found) };
        next.check_reads()?;
        Ok(next)
    }
}

// Reads.
impl<H: StorageHarness> Life<'_, H> {
    /// Contract 4 over every index, and a few that are far from the log.
    pub(super) fn check_reads(&self) -> Result<(), Violation> {
        let hard_state = self.storage.hard_state();
        let known = self.possible().any(|state| hard_state == Ok(state.hard_state));
        ensure!(known, Reads, "the hard state is {hard_state:?}, last written {:?}", self.now.hard_state);
        let (meta, written) = (self.storage.snapshot_meta(), &self.now.meta);
        ensure!(meta.as_ref() == Ok(written), Reads, "the snapshot is {meta:?}, not {written:?}");
        let last = self.storage.last_index();
        let known = self.possible().any(|state| state.last_index() == last);
        ensure!(known, Reads, "the last index is {last}, not {}", self.now.last_index());
        let end = self.possible().map(State::last_index).max().unwrap_or_default();
        for index in (0..=end.0.saturating_add(2)).chain([u64::MAX]) {
            self.check_index(LogIndex(index))?;
        }
        Ok(())
    }

    fn check_index(&self, index: LogIndex) -> Result<(), Violation> {
        let meta = &self.now.meta;
        let term = self.storage.term(index);
        let digest = self.storage.digest(index);
        let read = self.storage.entries(index, index, usize::MAX);
        if index <= meta.last_included_index {
            let first = meta.last_included_index.next();
            let compacted = StorageError::Compacted { index, first };
            ensure!(read == Err(compacted.clone()), Reads, "entry {index} is compacted, but reads as {read:?}");
            if index < meta.last_included_index {
                ensure!(term == Err(compacted.clone()), Reads, "entry {index} is compacted, but has term {term:?}");
                ensure!(digest == Err(compacted), Reads, "entry {index} is compacted, but has digest {digest:?}");
            } else {
                ensure!(term == Ok(meta.last_included_term), Reads, "the snapshot's term at {index} is {term:?}");
                ensure!(digest == Ok(meta.digest), Digests, "the snapshot's digest at {index} is {digest:?}");
            }
            return Ok(());
        }
        let written: Vec<_> = self.possible().map(|state| state.entry(index)).collect();
        let entries: Vec<_> = written.iter().map(|held| held.map(|(entry, _)| entry)).collect();
        let one = read.and_then(|mut read| match (read.pop(), read.is_empty()) {
            (Some(entry), true) => Ok(entry),
            (last, _) => Err(StorageError::Io { what: format!("not one entry: {:?}", last.map(|last| last.index)) }),
        });
        judge(Clause::Reads, "entry", index, one.as_ref(), &entries)?;
        let terms: Vec<_> = written.iter().map(|held| held.map(|(entry, _)| &entry.term)).collect();
        judge(Clause::Reads, "the term", index, term.as_ref(), &terms)?;
        let digests: Vec<_> = written.iter().map(|held| held.map(|(_, digest)| digest)).collect();
        judge(Clause::Digests, "the digest", index, digest.as_ref(), &digests)
    }

    /// `entries` over one range, with limits around every sum of costs. Only once everything is reported.
    pub(super) fn check_range(&self, first: LogIndex, last: LogIndex) -> Result<(), Violation> {
        let state = &self.now;
        let mut limits: Vec<usize> = [0, 1, usize::MAX].into();
        let mut sum = 0_usize;
        for entry in state.cut(first, last, usize::MAX) {
            sum = sum.saturating_add(entry.cost());
            limits.extend([sum.saturating_sub(1), sum, sum.saturating_add(1)]);
        }
        for limit in limits {
            let (answer, expected) = (self.storage.entries(first, last, limit), state.cut(first, last, limit));
            let counts = (answer.as_ref().map(Vec::len), expected.len());
            ensure!(
                answer.as_deref() == Ok(&expected),
                Limits,
                "entries {first} to {last} of at most {limit} bytes: {counts:?} (answered, expected)"
            );
        }
        Ok(())
    }

    /// Ranges that reach outside of the log.
    pub(super) fn check_bounds(&self) -> Result<(), Violation> {
        let (snapshot, last) = (self.now.meta.last_included_index, self.now.last_index());
        let answer = self.storage.entries(snapshot, last.max(snapshot), usize::MAX);
        let compacted = matches!(answer, Err(StorageError::Compacted { .. }));
        ensure!(compacted, Reads, "entries from the snapshot's index {snapshot} on: {}", told(&answer));
        let answer = self.storage.entries(snapshot.next(), last.next(), usize::MAX);
        let out = matches!(answer, Err(StorageError::OutOfRange { .. }));
        ensure!(out, Reads, "entries to {}, one beyond the last: {}", last.next(), told(&answer));
        let answer = self.storage.entries(last.next(), last, usize::MAX);
        ensure!(answer == Ok(Vec::new()), Limits, "entries of an empty range: {}", told(&answer));
        Ok(())
    }
}

/// Holds an answer against what was written at `index` in each state that may be the durable one: `None` where the
/// log did not reach so far.
fn judge<T: PartialEq + Debug>(
    clause: Clause,
    name: &str,
    index: LogIndex,
    answer: Result<&T, &StorageError>,
    written: &[Option<&T>],
) -> Result<(), Violation> {
    let what = |expected: &str| format!("{name} at {index} is {answer:?}, not {expected}");
    let broken = |expected: &str| Err(Violation::new(clause, what(expected)));
    if written.iter().all(Option::is_none) {
        let out = matches!(answer, Err(StorageError::OutOfRange { index: asked, .. }) if *asked == index);
        return if out { Ok(()) } else { broken("OutOfRange") };
    }
    let durable = written.first().copied().flatten().filter(|first| written.iter().all(|held| *held == Some(*first)));
    match (answer, durable) {
        (Ok(answer), Some(durable)) if answer == durable => Ok(()),
        (_, Some(durable)) => broken(&format!("{durable:?}")),
        // Neither durable nor gone for certain: an error, or something that was written there.
        (Err(_), None) => Ok(()),
        (Ok(answer), None) if written.contains(&Some(answer)) => Ok(()),
        (Ok(_), None) => broken("anything written there"),
    }
}

fn told(answer: &Result<Vec<Entry>, StorageError>) -> String {
    match answer {
        Ok(entries) => format!("{} entries", entries.len()),
        Err(error) => format!("{error}"),
    }
}
