//! Why a history is not linearizable, for people.

use std::fmt;
use std::fmt::Write as _;

use super::{Model, OperationOf};

/// No order explains the history. Operations are given by their places in the slice that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinearizable {
    /// The longest that can be explained: these operations in this order. Among them is all that ended before
    /// [`stuck`](Self::stuck) did.
    pub order: Vec<usize>,
    /// The state that they lead to.
    pub state: String,
    /// The operation that has no place: no order of what had begun when it ended explains what it was told.
    pub stuck: usize,
    /// Others that had begun by then, ended later, and are not placed either.
    pub unplaced: Vec<usize>,
    /// All of that in words.
    text: String,
}

impl NotLinearizable {
    /// `order` can be explained, and then none of `candidates` can come next; the first must.
    pub(super) fn new<M: Model>(
        model: &M,
        operations: &[OperationOf<M>],
        order: Vec<usize>,
        candidates: &[usize],
    ) -> Self {
        let mut state = model.initial();
        for operation in order.iter().filter_map(|at| operations.get(*at)) {
            let output = operation.returned.as_ref().map(|(_, output)| output);
            state = model.step(&state, &operation.input, output).unwrap_or(state);
        }
        let state = short(format!("{state:?}"));
        let (stuck, unplaced) =
            candidates.split_first().map_or((0, Vec::new()), |(first, rest)| (*first, rest.to_vec()));
        let line = |at: &usize| operations.get(*at).map_or_else(String::new, |operation| line::<M>(*at, operation));

        let mut text = format!("not linearizable: nothing explains\n{}", line(&stuck));
        if order.is_empty() {
            let _ = write!(text, "in the beginning, when the state is {state}.");
        } else {
            let shown = order.len().min(LINES);
            let _ = writeln!(
                text,
                "The last {shown} of the {} operations before it, in an order that explains them:",
                order.len()
            );
            text.extend(order.iter().skip(order.len() - shown).map(line));
            let _ = write!(text, "They lead to the state {state}.");
        }
        if !unplaced.is_empty() {
            text.push_str("\nNor can these come next, which began before it ended:\n");
            text.extend(unplaced.iter().take(LINES).map(line));
        }
        Self { order, state, stuck, unplaced, text: text.trim_end().into() }
    }
}

impl fmt::Display for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for NotLinearizable {}

/// One operation, in a line of its own.
fn line<M: Model>(at: usize, operation: &OperationOf<M>) -> String {
    let (client, invoked, input) = (operation.client, operation.invoked, short(format!("{:?}", operation.input)));
    match &operation.returned {
        Some((returned, output)) => {
            let output = short(format!("{output:?}"));
            format!("  #{at} client {client}, {invoked} to {returned} s: {input} -> {output}\n")
        }
        None => format!("  #{at} client {client}, from {invoked} s on: {input}, never answered\n"),
    }
}

/// Its beginning, where it is long.
fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(CHARS) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Operations shown of each kind.
const LINES: usize = 12;

/// Characters shown of a value.
const CHARS: usize = 100;
