//! What is still to happen, by time; at the same time, in the order in which it was put there.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::time::Time;

#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<Due<T>>>,
    pushed: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: Time,
    number: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0 }
    }

    pub(super) fn push(&mut self, at: Time, what: T) {
        self.pushed = self.pushed.saturating_add(1);
        self.heap.push(Reverse(Due { at, number: self.pushed, what }));
    }

    /// When the last of these is due.
    pub(super) fn last(&self, is_such: impl Fn(&T) -> bool) -> Option<Time> {
        self.heap.iter().filter(|Reverse(due)| is_such(&due.what)).map(|Reverse(due)| due.at).max()
    }

    pub(super) fn pop(&mut self) -> Option<(Time, T)> {
        self.heap.pop().map(|Reverse(due)| (due.at, due.what))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}
