//! The one place that decides when a message may leave: never before what it promises is durable.
//!
//! Invariants ("Updated on stable storage before responding to RPCs", Figure 2; faults E2, D5): no message leaves in a
//! term or with a vote that a crash could take back; no acceptance leaves before its entries are durable. Messages
//! that must wait are dropped when the term rises: the promise was made to a leader or candidate that is no more.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem::discriminant;

use crate::action::{Action, HardState, Write, WriteOp};
use crate::message::{AppendEntriesResponse, Body, Message};
use crate::node::Node;
use crate::storage::Storage;
use crate::types::{LogIndex, NodeId, WriteId};

/// Hands out write ids and holds messages back until their writes are durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    issued: WriteId,
    persisted: WriteId,
    /// The last write of the hard state: every later message waits for it.
    hard_state: WriteId,
    /// Ascending by write; for each write one message of a kind to a peer.
    waiting: VecDeque<(WriteId, Message)>,
}

impl Gate {
    /// The id of the next write.
    pub(crate) const fn begin(&mut self) -> WriteId {
        self.issued = self.issued.next();
        self.issued
    }

    /// The id of the next write, which holds the hard state.
    pub(crate) const fn begin_hard_state(&mut self) -> WriteId {
        self.hard_state = self.begin();
        self.hard_state
    }

    /// Whether `write` is durable.
    pub(crate) fn is_persisted(&self, write: WriteId) -> bool {
        write <= self.persisted
    }

    /// Whether every write is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_persisted(self.issued)
    }

    /// Sends now, or once the hard state and the write that the message `needs` are durable.
    pub(crate) fn send(&mut self, message: Message, needs: Option<WriteId>, actions: &mut Vec<Action>) {
        let needs = needs.unwrap_or_default();
        let needs = if bug!(MessageBeforeHardState) { needs } else { self.hard_state.max(needs) };
        if self.is_persisted(needs) {
            actions.push(Action::Send(message));
        } else {
            mark!(MessageHeld);
            let at = self.waiting.partition_point(|(write, _)| *write <= needs);
            let mut same_needs = self.waiting.range_mut(..at).rev().take_while(|(write, _)| *write == needs);
            // A disk that hangs must not fill the memory: of a kind, one message waits for a write.
            match same_needs.find(|(_, waiting)| waiting.to == message.to && kind(waiting) == kind(&message)) {
                Some((_, waiting)) if acceptance(waiting) <= acceptance(&message) => {
                    mark!(MessageReplaced);
                    *waiting = message;
                }
                Some(_) => {}
                None => self.waiting.insert(at, (needs, message)),
            }
        }
    }

    /// Everything up to `write` is durable. `false` where that is no news, or no write of ours.
    pub(crate) fn persisted(&mut self, write: WriteId) -> bool {
        let news = write > self.persisted && write <= self.issued;
        if news {
            self.persisted = write;
        }
        news
    }

    /// Sends what need not wait any more. Of several acceptances for one leader the furthest says it all.
    pub(crate) fn release(&mut self, actions: &mut Vec<Action>) {
        let persisted = self.persisted;
        while let Some((_, message)) = self.waiting.pop_front_if(|(write, _)| *write <= persisted) {
            let next = self.waiting.front().filter(|(write, _)| *write <= persisted);
            let says_it_all = |next: &Message| next.to == message.to && acceptance(next) >= acceptance(&message);
            if acceptance(&message).is_none() || !next.is_some_and(|(_, next)| says_it_all(next)) {
                actions.push(Action::Send(message));
            } else {
                mark!(AcceptancesMerged);
            }
        }
    }

    /// The term has risen: nothing said in the old one is worth saying.
    pub(crate) fn forget(&mut self) {
        mark!(MessagesForgotten, !self.waiting.is_empty());
        self.waiting.clear();
    }
}

// What every handler says and writes goes through here.
impl<S: Storage> Node<S> {
    pub(crate) fn send(&mut self, to: NodeId, body: Body, actions: &mut Vec<Action>) {
        self.send_after(None, to, body, actions);
    }

    /// Sends once `needs` is durable, and never before the current term and vote are.
    pub(crate) fn send_after(&mut self, needs: Option<WriteId>, to: NodeId, body: Body, actions: &mut Vec<Action>) {
        if self.hard_state_changed {
            self.persist_hard_state(actions);
        }
        let message = Message { from: self.config.id, to, term: self.current_term, body };
        self.gate.send(message, needs, actions);
    }

    /// Begins a write, after one of the hard state where that has changed: an entry is never durable in a term that
    /// is not.
    pub(crate) fn persist(&mut self, op: WriteOp, actions: &mut Vec<Action>) -> WriteId {
        if self.hard_state_changed {
            self.persist_hard_state(actions);
        }
        let id = self.gate.begin();
        actions.push(Action::Persist(Write { id, op }));
        id
    }

    pub(crate) fn persist_hard_state(&mut self, actions: &mut Vec<Action>) -> WriteId {
        self.hard_state_changed = false;
        let id = self.gate.begin_hard_state();
        let voted_for = self.voted_for.filter(|_| !bug!(VoteNotWritten));
        let hard_state = HardState { current_term: self.current_term, voted_for };
        actions.push(Action::Persist(Write { id, op: WriteOp::HardState(hard_state) }));
        id
    }
}

/// What an acceptance acknowledges; `None` for every other message.
const fn acceptance(message: &Message) -> Option<LogIndex> {
    match message.body {
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }) => Some(match_index),
        _ => None,
    }
}

fn kind(message: &Message) -> impl PartialEq + use<> {
    (discriminant(&message.body), acceptance(message).is_some())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::message::HeartbeatResponse;
    use crate::types::{Incarnation, Term};

    fn to(peer: u32, body: Body) -> Message {
        Message { from: NodeId(1), to: NodeId(peer), term: Term(1), body }
    }

    fn accepted(peer: u32, index: u64) -> Message {
        let match_index = LogIndex(index);
        to(peer, Body::AppendEntriesResponse(Incarnation::UNKNOWN, AppendEntriesResponse::Accepted { match_index }))
    }

    fn rejected(peer: u32, index: u64) -> Message {
        let (hint_index, hint_term) = (LogIndex(0), Term(0));
        let prev_log_index = LogIndex(index);
        to(
            peer,
            Body::AppendEntriesResponse(
                Incarnation::UNKNOWN,
                AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term },
            ),
        )
    }

    fn heard(peer: u32, round: u64) -> Message {
        to(peer, Body::HeartbeatResponse(Incarnation::UNKNOWN, HeartbeatResponse { round }))
    }

    /// A gate with so many writes under way, the first of which holds the hard state.
    fn gate(writes: u64) -> Gate {
        let mut gate = Gate::default();
        assert_eq!(gate.begin_hard_state(), WriteId(1));
        for id in 2..=writes {
            assert_eq!(gate.begin(), WriteId(id));
        }
        gate
    }

    /// Gives these to the gate, none of which may leave.
    fn hold(gate: &mut Gate, messages: &[(u64, Message)]) {
        for (needs, message) in messages {
            let mut actions = Vec::new();
            gate.send(message.clone(), Some(WriteId(*needs)), &mut actions);
            assert_eq!(actions, [], "{message:?}");
        }
    }

    /// What leaves once this write is durable.
    fn released(gate: &mut Gate, write: u64) -> Vec<Message> {
        assert!(gate.persisted(WriteId(write)));
        let mut actions = Vec::new();
        gate.release(&mut actions);
        let sent = actions.into_iter().map(|action| match action {
            Action::Send(message) => message,
            other => panic!("{other:?}"),
        });
        sent.collect()
    }

    #[test]
    fn a_message_waits_for_its_write_and_for_the_hard_state() {
        let mut gate = gate(3);
        hold(&mut gate, &[(3, accepted(2, 7)), (0, heard(2, 1)), (2, accepted(3, 6))]);
        assert_eq!(released(&mut gate, 1), [heard(2, 1)]);
        assert_eq!(released(&mut gate, 2), [accepted(3, 6)]);
        assert_eq!(released(&mut gate, 3), [accepted(2, 7)]);
        let mut actions = Vec::new();
        gate.send(accepted(2, 8), Some(WriteId(3)), &mut actions);
        assert_eq!(actions, [Action::Send(accepted(2, 8))]);
    }

    #[test]
    fn of_a_kind_the_newest_waits_for_a_write() {
        let mut gate = gate(2);
        let rounds = [(1, heard(2, 1)), (2, heard(2, 2)), (1, heard(3, 3)), (1, heard(2, 4))];
        hold(&mut gate, &rounds);
        assert_eq!(released(&mut gate, 2), [heard(2, 4), heard(3, 3), heard(2, 2)]);
    }

    #[test]
    fn of_acceptances_the_furthest_waits_and_a_rejection_is_another_kind() {
        let mut gate = gate(1);
        hold(&mut gate, &[(1, accepted(2, 7)), (1, rejected(2, 9)), (1, accepted(2, 5)), (1, accepted(3, 5))]);
        assert_eq!(released(&mut gate, 1), [accepted(2, 7), rejected(2, 9), accepted(3, 5)]);
    }

    #[test]
    fn of_acceptances_that_leave_together_the_furthest_says_it_all() {
        let mut gate = gate(5);
        hold(&mut gate, &[(1, accepted(2, 5)), (2, accepted(2, 5)), (3, accepted(2, 6)), (4, accepted(3, 7))]);
        hold(&mut gate, &[(5, accepted(3, 8))]);
        assert_eq!(released(&mut gate, 4), [accepted(2, 6), accepted(3, 7)], "what still waits says nothing yet");
        assert_eq!(released(&mut gate, 5), [accepted(3, 8)]);
    }

    #[test]
    fn an_acceptance_is_not_left_out_for_one_of_less_or_for_another_kind() {
        let mut gate = gate(3);
        hold(&mut gate, &[(1, accepted(2, 6)), (2, accepted(2, 5)), (3, rejected(2, 9))]);
        assert_eq!(released(&mut gate, 3), [accepted(2, 6), accepted(2, 5), rejected(2, 9)]);
    }

    #[test]
    fn only_writes_that_were_begun_and_not_reported_are_news() {
        let mut gate = gate(2);
        assert!(!gate.is_idle());
        assert!(!gate.persisted(WriteId(3)), "it was never begun");
        assert!(!gate.is_persisted(WriteId(1)));
        assert!(gate.persisted(WriteId(1)));
        assert!(!gate.persisted(WriteId(1)));
        assert!(gate.is_persisted(WriteId(1)));
        assert!(gate.persisted(WriteId(2)));
        assert!(gate.is_idle());
    }

    #[test]
    fn what_waits_is_forgotten() {
        let mut gate = gate(1);
        hold(&mut gate, &[(1, accepted(2, 7))]);
        gate.forget();
        assert_eq!(released(&mut gate, 1), vec![]);
    }
}
