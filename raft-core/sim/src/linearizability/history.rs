//! A history in the form that the search walks through.

use super::{Model, OperationOf};
use crate::time::Time;

/// The operations by when they began, those that ended apart from the others.
pub(super) struct History<'a, M: Model> {
    pub(super) completed: Vec<Completed<'a, M>>,
    pub(super) pending: Vec<Pending<'a, M>>,
}

/// An operation that ended.
pub(super) struct Completed<'a, M: Model> {
    /// Which one it is for the caller.
    pub(super) index: usize,
    pub(super) input: &'a M::Input,
    pub(super) output: &'a M::Output,
    pub(super) invoked: Time,
    /// Invariant: not before `invoked`.
    pub(super) returned: Time,
    /// So many completed operations had begun when it ended. Invariant: while it is not placed, no other is.
    pub(super) begun: usize,
    /// It changes nothing, whenever it comes.
    pub(super) only_reads: bool,
}

/// An operation that did not end, and may change something.
pub(super) struct Pending<'a, M: Model> {
    /// As above.
    pub(super) index: usize,
    pub(super) input: &'a M::Input,
    pub(super) invoked: Time,
    /// The last one before it with an equal input, by its place among the pending ones.
    pub(super) equal_before: Option<usize>,
}

/// The beginnings and ends of those completed operations that are not placed, by time: a circle, doubly linked. Event 0
/// stands between the last and the first.
pub(super) struct Events {
    events: Vec<Event>,
    /// The two events of each completed operation.
    of: Vec<(usize, usize)>,
}

#[derive(Clone, Copy)]
struct Event {
    before: usize,
    after: usize,
    kind: Kind,
}

/// Of which completed operation.
#[derive(Clone, Copy)]
enum Kind {
    Nothing,
    Begins(usize),
    Ends(usize),
}

impl<'a, M: Model> History<'a, M> {
    pub(super) fn new(model: &M, operations: &'a [OperationOf<M>]) -> Self {
        let mut order: Vec<_> = operations.iter().enumerate().collect();
        order.sort_by_key(|(_, operation)| operation.invoked);
        let mut completed = Vec::with_capacity(order.len());
        let mut pending: Vec<Pending<'a, M>> = Vec::new();
        for (index, operation) in order {
            let (input, invoked) = (&operation.input, operation.invoked);
            if let Some((returned, output)) = &operation.returned {
                let returned = invoked.max(*returned);
                let only_reads = model.only_reads(input, Some(output));
                completed.push(Completed { index, input, output, invoked, returned, begun: 0, only_reads });
            } else if !model.only_reads(input, None) {
                let equal_before = pending.iter().rposition(|earlier| earlier.input == input);
                pending.push(Pending { index, input, invoked, equal_before });
            }
        }
        let begun: Vec<_> = completed
            .iter()
            .map(|operation| completed.partition_point(|other| other.invoked <= operation.returned))
            .collect();
        for (operation, begun) in completed.iter_mut().zip(begun) {
            operation.begun = begun;
        }
        Self { completed, pending }
    }

    /// The events of all completed operations. What touches at one moment overlaps: beginnings first.
    pub(super) fn events(&self) -> Events {
        let begins = self.completed.iter().enumerate().map(|(at, one)| (one.invoked, false, at));
        let ends = self.completed.iter().enumerate().map(|(at, one)| (one.returned, true, at));
        let mut order: Vec<_> = begins.chain(ends).collect();
        order.sort_unstable();
        let last = order.len();
        let mut events = vec![Event { before: last, after: usize::from(last > 0), kind: Kind::Nothing }];
        let mut of = vec![(0, 0); self.completed.len()];
        for (at, (_, ends, operation)) in (1..).zip(order) {
            let after = if at == last { 0 } else { at + 1 };
            let kind = if ends { Kind::Ends(operation) } else { Kind::Begins(operation) };
            events.push(Event { before: at - 1, after, kind });
            if let Some((begin, end)) = of.get_mut(operation) {
                *(if ends { end } else { begin }) = at;
            }
        }
        Events { events, of }
    }
}

impl Events {
    /// The first operation that can come next, or the first behind this one.
    pub(super) fn candidate(&self, behind: Option<usize>) -> Option<usize> {
        let at = behind.and_then(|operation| self.of.get(operation)).map_or(0, |(begin, _)| *begin);
        match self.event(self.event(at).after).kind {
            Kind::Begins(operation) => Some(operation),
            Kind::Ends(_) | Kind::Nothing => None,
        }
    }

    /// The operation that ends first: it must be placed before its end. `None` when all are placed.
    pub(super) fn first_end(&self) -> Option<usize> {
        let mut at = self.event(0).after;
        loop {
            let event = self.event(at);
            match event.kind {
                Kind::Begins(_) => at = event.after,
                Kind::Ends(operation) => return Some(operation),
                Kind::Nothing => return None,
            }
        }
    }

    /// Where the end of this operation stood among all events.
    pub(super) fn end_of(&self, operation: usize) -> usize {
        self.of.get(operation).map_or(0, |(_, end)| *end)
    }

    /// Takes an operation out.
    pub(super) fn lift(&mut self, operation: usize) {
        let Some((begin, end)) = self.of.get(operation).copied() else { return };
        for at in [begin, end] {
            let Event { before, after, .. } = self.event(at);
            self.join(before, after);
        }
    }

    /// Puts it back into its old place: the operations lifted after it must be back already.
    pub(super) fn unlift(&mut self, operation: usize) {
        let Some((begin, end)) = self.of.get(operation).copied() else { return };
        for at in [end, begin] {
            let Event { before, after, .. } = self.event(at);
            self.join(before, at);
            self.join(at, after);
        }
    }

    fn join(&mut self, before: usize, after: usize) {
        if let Some(event) = self.events.get_mut(before) {
            event.after = after;
        }
        if let Some(event) = self.events.get_mut(after) {
            event.before = before;
        }
    }

    fn event(&self, at: usize) -> Event {
        self.events.get(at).copied().unwrap_or(Event { before: 0, after: 0, kind: Kind::Nothing })
    }
}
