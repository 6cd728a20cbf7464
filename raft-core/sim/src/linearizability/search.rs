//! The search for an order.

use super::Model;
use super::history::{Events, History};
use super::seen::{Bits, Placed, Seen};

/// A depth-first search. Its configuration is the operations placed and the state they lead to.
pub(super) struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a History<'a, M>,
    /// What is left to place.
    events: Events,
    /// The completed operations placed.
    done: Bits,
    /// The pending operations placed.
    used: Bits,
    state: M::State,
    /// How it came here.
    path: Vec<Placement<M::State>>,
    completed: usize,
    seen: Seen<M::State>,
    /// Configurations entered.
    entered: u64,
    furthest: Furthest,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. At the configuration of this number the most was placed.
    NotLinearizable { furthest: u64 },
    /// The limit is reached.
    Undecided,
}

/// One of the operations, by its place in the history.
#[derive(Clone, Copy)]
enum Choice {
    Completed(usize),
    Pending(usize),
}

/// One operation that was placed.
struct Placement<S> {
    choice: Choice,
    /// The state before it.
    before: S,
    /// Whether nothing else need be tried in its stead.
    forced: bool,
}

/// What to try at a configuration.
#[derive(Clone, Copy)]
enum Next {
    /// It was entered just now.
    Everything,
    /// What comes behind that.
    Behind(Choice),
}

/// The configuration that explains the history for the longest time: its first end, among all events, how many completed
/// operations it has placed, and its number.
#[derive(Clone, Copy, Default)]
struct Furthest {
    end: usize,
    completed: usize,
    number: u64,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(model: &'a M, history: &'a History<'a, M>) -> Self {
        let mut search = Self {
            model,
            history,
            events: history.events(),
            done: Bits::new(history.completed.len()),
            used: Bits::new(history.pending.len()),
            state: model.initial(),
            path: Vec::new(),
            completed: 0,
            seen: Seen::new(),
            entered: 0,
            furthest: Furthest::default(),
        };
        search.enter();
        search.note_furthest();
        search
    }

    /// Goes on until there is an order, or none, or until it has entered so many configurations beside the first.
    pub(super) fn run(&mut self, limit: u64) -> Verdict {
        let mut next = Next::Everything;
        while self.events.first_end().is_some() {
            if self.entered >= limit {
                return Verdict::Undecided;
            }
            if self.advance(next) {
                self.entered += 1;
                self.note_furthest();
                next = Next::Everything;
            } else if let Some(choice) = self.retreat() {
                next = Next::Behind(choice);
            } else {
                return Verdict::NotLinearizable { furthest: self.furthest.number };
            }
        }
        Verdict::Linearizable
    }

    /// What is placed, in order: as the caller counts.
    pub(super) fn placed(&self) -> Vec<usize> {
        let index = |placement: &Placement<_>| match placement.choice {
            Choice::Completed(at) => self.history.completed.get(at).map(|operation| operation.index),
            Choice::Pending(at) => self.history.pending.get(at).map(|operation| operation.index),
        };
        self.path.iter().filter_map(index).collect()
    }

    /// The completed operations that can come next, as the caller counts: the one that must come soonest stands first.
    pub(super) fn candidates(&self) -> Vec<usize> {
        let mut candidates = Vec::new();
        let mut behind = None;
        while let Some(at) = self.events.candidate(behind) {
            candidates.extend(self.history.completed.get(at));
            behind = Some(at);
        }
        candidates.sort_by_key(|operation| operation.returned);
        candidates.into_iter().map(|operation| operation.index).collect()
    }

    /// Places one operation more; `false` where none is left to try.
    fn advance(&mut self, next: Next) -> bool {
        let behind = match next {
            Next::Everything => {
                if let Some((at, state)) = self.reading() {
                    return self.place(Choice::Completed(at), state, true);
                }
                Some(None)
            }
            Next::Behind(Choice::Completed(at)) => Some(Some(at)),
            Next::Behind(Choice::Pending(_)) => None,
        };
        if let Some(mut behind) = behind {
            while let Some(at) = self.events.candidate(behind) {
                if self
                    .possible(Choice::Completed(at))
                    .is_some_and(|state| self.place(Choice::Completed(at), state, false))
                {
                    return true;
                }
                behind = Some(at);
            }
        }
        let from = if let Next::Behind(Choice::Pending(at)) = next { at + 1 } else { 0 };
        (from..self.begun())
            .any(|at| self.usable(at).is_some_and(|state| self.place(Choice::Pending(at), state, false)))
    }

    /// A completed operation that can come next and only reads. It can as well come now: no order of the others needs
    /// it later.
    fn reading(&self) -> Option<(usize, M::State)> {
        let mut behind = None;
        while let Some(at) = self.events.candidate(behind) {
            if self.history.completed.get(at).is_some_and(|operation| operation.only_reads)
                && let Some(state) = self.possible(Choice::Completed(at))
            {
                return Some((at, state));
            }
            behind = Some(at);
        }
        None
    }

    /// The state after this pending operation, where it is worth a try.
    fn usable(&self, at: usize) -> Option<M::State> {
        let pending = self.history.pending.get(at)?;
        let in_turn = pending.equal_before.is_none_or(|earlier| self.used.contains(earlier));
        if self.used.contains(at) || !in_turn {
            return None;
        }
        self.possible(Choice::Pending(at)).filter(|state| *state != self.state)
    }

    /// The state after this operation. None where its output is not possible; and none where it would have led to the
    /// same state without the pending operation before it: that order need not be tried, as the shorter one is.
    fn possible(&self, choice: Choice) -> Option<M::State> {
        let state = self.step(&self.state, choice)?;
        let in_vain = self.path.last().is_some_and(|last| {
            matches!(last.choice, Choice::Pending(_)) && self.step(&last.before, choice).as_ref() == Some(&state)
        });
        (!in_vain).then_some(state)
    }

    fn step(&self, state: &M::State, choice: Choice) -> Option<M::State> {
        match choice {
            Choice::Completed(at) => {
                let operation = self.history.completed.get(at)?;
                self.model.step(state, operation.input, Some(operation.output))
            }
            Choice::Pending(at) => self.model.step(state, self.history.pending.get(at)?.input, None),
        }
    }

    /// So many pending operations have begun before the first end: those can come next.
    fn begun(&self) -> usize {
        let first_end = self.events.first_end().and_then(|at| self.history.completed.get(at));
        first_end.map_or(0, |first| self.history.pending.partition_point(|pending| pending.invoked <= first.returned))
    }

    /// Places this operation, unless that leads to a configuration already known.
    fn place(&mut self, choice: Choice, state: M::State, forced: bool) -> bool {
        match choice {
            Choice::Completed(at) => {
                self.events.lift(at);
                self.done.insert(at);
                self.completed += 1;
            }
            Choice::Pending(at) => self.used.insert(at),
        }
        let before = std::mem::replace(&mut self.state, state);
        self.path.push(Placement { choice, before, forced });
        if self.enter() {
            return true;
        }
        self.take_back();
        false
    }

    /// Takes back the last operations, up to one in whose stead another may be tried: that one.
    fn retreat(&mut self) -> Option<Choice> {
        loop {
            let (choice, forced) = self.take_back()?;
            if !forced {
                return Some(choice);
            }
        }
    }

    fn take_back(&mut self) -> Option<(Choice, bool)> {
        let Placement { choice, before, forced } = self.path.pop()?;
        self.state = before;
        match choice {
            Choice::Completed(at) => {
                self.events.unlift(at);
                self.done.remove(at);
                self.completed -= 1;
            }
            Choice::Pending(at) => self.used.remove(at),
        }
        Some((choice, forced))
    }

    /// Whether this configuration is new.
    fn enter(&mut self) -> bool {
        let floor = self.events.candidate(None).unwrap_or(self.history.completed.len());
        let begun = self.history.completed.get(floor).map_or(floor, |first| first.begun);
        let above = self.done.range(floor, begun);
        let used = self.used.range(0, self.history.pending.len());
        self.seen.enter(Placed { floor, above, state: self.state.clone() }, used)
    }

    fn note_furthest(&mut self) {
        let end = self.events.first_end().map_or(usize::MAX, |at| self.events.end_of(at));
        if (end, self.completed) > (self.furthest.end, self.furthest.completed) {
            self.furthest = Furthest { end, completed: self.completed, number: self.entered };
        }
    }
}
