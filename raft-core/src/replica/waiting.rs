//! Who waits for which entry, and what they are told when it is applied.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::batch::Commands;
use crate::error::Refusal;
use crate::request::{Outcome, Reply, RequestId};
use crate::state_machine::{Position, StateMachine};
use crate::types::{Digest, Entry, LogIndex, Payload, Term};

/// An entry that was proposed here and not applied yet.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) requests: Vec<RequestId>,
}

/// Who waits for this entry. Who waited for another entry at its index, or before, waits in vain: those were replaced.
pub(super) fn take_waiting(
    proposed: &mut VecDeque<Proposed>,
    replies: &mut VecDeque<Reply>,
    entry: &Entry,
) -> Vec<RequestId> {
    while let Some(front) = proposed.pop_front_if(|front| front.index <= entry.index) {
        if front.index == entry.index && front.term == entry.term {
            return front.requests;
        }
        let outcome = Outcome::Refused(Refusal::Superseded);
        replies.extend(front.requests.into_iter().map(|request| Reply { request, outcome: outcome.clone() }));
    }
    Vec::new()
}

pub(super) fn apply_entry<M: StateMachine>(
    machine: &mut M,
    entry: &Entry,
    digest: Option<Digest>,
    mut waiting: Vec<RequestId>,
    replies: &mut VecDeque<Reply>,
) {
    let Payload::Command(payload) = &entry.payload else { return };
    if bug!(AnswersCrossed) {
        waiting.reverse();
    }
    let mut waiting = waiting.into_iter();
    for (command, number) in Commands::of(payload).zip(0..) {
        let position = Position { index: entry.index, term: entry.term, number, digest };
        let reply = machine.apply(&position, command);
        if let Some(request) = waiting.next() {
            replies.push_back(Reply { request, outcome: Outcome::Applied { position, reply } });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_replaced_entry_is_refused() {
        let proposed = |index, request| Proposed { index, term: Term(1), requests: Vec::from([RequestId(request)]) };
        let mut waiting = VecDeque::from([proposed(LogIndex(4), 7), proposed(LogIndex(5), 8)]);
        let mut replies = VecDeque::new();
        let entry = |index, term| Entry { index: LogIndex(index), term: Term(term), payload: Payload::Noop };
        assert_eq!(take_waiting(&mut waiting, &mut replies, &entry(3, 1)), []);
        assert_eq!(take_waiting(&mut waiting, &mut replies, &entry(4, 2)), []);
        assert_eq!(replies, [Reply { request: RequestId(7), outcome: Outcome::Refused(Refusal::Superseded) }]);
        assert_eq!(take_waiting(&mut waiting, &mut replies, &entry(5, 1)), [RequestId(8)]);
        assert_eq!((waiting.len(), replies.len()), (0, 1));
    }
}
