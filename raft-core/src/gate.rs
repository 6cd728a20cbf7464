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
        let needs = self.hard_state.max(needs.unwrap_or_default());
        if self.is_persisted(needs) {
            actions.push(Action::Send(message));
        } else {
            let at = self.waiting.partition_point(|(write, _)| *write <= needs);
            let mut same_needs = self.waiting.range_mut(..at).rev().take_while(|(write, _)| *write == needs);
            // A disk that hangs must not fill the memory: of a kind, one message waits for a write.
            match same_needs.find(|(_, waiting)| waiting.to == message.to && kind(waiting) == kind(&message)) {
                Some((_, waiting)) if acceptance(waiting) <= acceptance(&message) => *waiting = message,
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
            }
        }
    }

    /// The term has risen: nothing said in the old one is worth saying.
    pub(crate) fn forget(&mut self) {
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
        let hard_state = HardState { current_term: self.current_term, voted_for: self.voted_for };
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
