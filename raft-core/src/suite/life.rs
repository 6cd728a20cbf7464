//! One storage from its opening to its crash, beside the plain list of the states that its writes lead through.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use super::model::{Op, Place, State};
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
    /// Snapshots that were being received when it crashed: they may be there or gone.
    pub(super) forgotten: Vec<LogIndex>,
}

impl<'a, H: StorageHarness> Life<'a, H> {
    /// Of a storage that holds `state`, durably.
    pub(super) fn new(harness: &'a mut H, storage: H::Storage, state: State) -> Self {
        let (base, reported) = (WriteId(0), WriteId(0));
        let (history, trace, forgotten) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self { harness, storage, now: state, history, base, reported, trace, forgotten }
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
    pub(super) fn possible(&self) -> impl Iterator<Item = &State> {
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

    /// Crashes at this point, opens what is left and holds it against what may be: the next life.
    pub(super) fn crash(mut self, point: u64) -> Result<Self, Violation> {
        self.note(format!("crash at point {point}, {} of {} reported", self.reported.0, self.begun().0));
        let trace = self.trace();
        self.reopen(point).map_err(|found| found.during(|| trace))
    }

    fn reopen(self, point: u64) -> Result<Self, Violation> {
        let possible: Vec<State> = self.possible().map(State::survivor).collect();
        let before = self.history.len().saturating_add(1).saturating_sub(possible.len());
        let lost: Vec<State> = self.history.iter().take(before).map(State::survivor).collect();
        let receiving = self.possible().filter_map(|state| state.receiving.as_ref());
        let forgotten = receiving.map(|(snapshot, _)| snapshot.meta.last_included_index).collect();
        let Self { harness, storage, trace, .. } = self;
        let closed = |error| Violation::new(Clause::Crash, format!("it cannot be opened after a crash: {error}"));
        let mut storage = harness.crash(storage, point).map_err(closed)?;
        let found = State::read(&storage, Clause::Crash)?;
        if !possible.contains(&found) {
            let earlier = lost.contains(&found);
            let clause = match earlier {
                true => Clause::Reports,
                false if is_half_installed(&found, &possible) => Clause::Install,
                false => Clause::Crash,
            };
            let story = if earlier { "a report was lost" } else { "this was never a state" };
            let last = possible.first().map(State::brief).unwrap_or_default();
            let what = format!("{story}: it holds {}; what was reported is {last}", found.brief());
            return Err(Violation::new(clause, what));
        }
        let persisted = storage.persisted();
        ensure!(persisted == Ok(WriteId(0)), NewLife, "persisted is {persisted:?} before the first write");
        let next = Self { trace, forgotten, ..Life::new(harness, storage, found) };
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
        self.check_snapshots()?;
        let last = self.storage.last_index();
        let known = self.possible().any(|state| state.last_index() == last);
        ensure!(known, Reads, "the last index is {last}, not {}", self.now.last_index());
        let end = self.possible().map(State::last_index).max().unwrap_or_default();
        for index in (0..=end.0.saturating_add(2)).chain([u64::MAX]) {
            self.check_index(LogIndex(index))?;
        }
        let configurations = self.storage.configurations();
        // While it is not known which log is durable, those of none may be there.
        let known = self.possible().any(|state| configurations == Ok(state.configurations()));
        let settled = self.history.is_empty() || self.reported == self.begun();
        ensure!(known || !settled, Reads, "the configurations are {configurations:?}");
        Ok(())
    }

    fn check_index(&self, index: LogIndex) -> Result<(), Violation> {
        let entries: Vec<_> = self.possible().map(|state| state.place(index).map(|(entry, _)| entry)).collect();
        let read = self.storage.entries(index, index, usize::MAX);
        let one = read.and_then(|mut read| match (read.pop(), read.is_empty()) {
            (Some(entry), true) => Ok(entry),
            (last, _) => Err(StorageError::Io { what: format!("not one entry: {:?}", last.map(|last| last.index)) }),
        });
        judge(Clause::Reads, "entry", index, one.as_ref(), &entries)?;
        let marks: Vec<_> = self.possible().map(|state| state.mark(index)).collect();
        let terms: Vec<_> = marks.iter().map(|mark| mark.as_ref().map(|(term, _)| term)).collect();
        judge(Clause::Reads, "the term", index, self.storage.term(index).as_ref(), &terms)?;
        let digests: Vec<_> = marks.iter().map(|mark| mark.as_ref().map(|(_, digest)| digest)).collect();
        judge(Clause::Digests, "the digest", index, self.storage.digest(index).as_ref(), &digests)
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
        let (before, last) = (self.now.before.index, self.now.last_index());
        let answer = self.storage.entries(before, last, usize::MAX);
        let compacted = matches!(answer, Err(StorageError::Compacted { .. }));
        ensure!(compacted, Reads, "entries from {before} on, one before the first: {}", told(&answer));
        let answer = self.storage.entries(before.next(), last.next(), usize::MAX);
        let out = matches!(answer, Err(StorageError::OutOfRange { .. }));
        ensure!(out, Reads, "entries to {}, one beyond the last: {}", last.next(), told(&answer));
        let answer = self.storage.entries(last.next(), last, usize::MAX);
        ensure!(answer == Ok(Vec::new()), Limits, "entries of an empty range: {}", told(&answer));
        Ok(())
    }
}

/// Holds an answer against what stands at `index` in each state that may be the durable one.
fn judge<T: PartialEq + Debug>(
    clause: Clause,
    name: &str,
    index: LogIndex,
    answer: Result<&T, &StorageError>,
    places: &[Place<&T>],
) -> Result<(), Violation> {
    let is_right = match (answer, places.split_first()) {
        (answer, Some((one, others))) if others.iter().all(|other| other == one) => match (answer, one) {
            (Ok(answer), Place::Holds(written)) => answer == *written,
            (Err(StorageError::Compacted { index: asked, .. }), Place::Removed) => *asked == index,
            (Err(StorageError::OutOfRange { index: asked, .. }), Place::Beyond) => *asked == index,
            _ => false,
        },
        // Neither durable nor gone for certain: an error, or something that was written there.
        (Ok(answer), _) => places.contains(&Place::Holds(answer)),
        (Err(_), _) => true,
    };
    let what = || format!("{name} at {index} is {answer:?}, not {places:?}");
    if is_right { Ok(()) } else { Err(Violation::new(clause, what())) }
}

/// Whether what a crash left is an install that is neither done nor not done: a snapshot that belongs to no state, or to
/// another state than the log.
fn is_half_installed(found: &State, possible: &[State]) -> bool {
    let same_snapshot = |state: &&State| (&state.snapshot, state.before) == (&found.snapshot, found.before);
    let same_log = |state: &State| state.entries == found.entries && !same_snapshot(&state);
    !possible.iter().any(|state| same_snapshot(&state)) || possible.iter().any(same_log)
}

fn told(answer: &Result<Vec<Entry>, StorageError>) -> String {
    match answer {
        Ok(entries) => format!("{} entries", entries.len()),
        Err(error) => format!("{error}"),
    }
}
