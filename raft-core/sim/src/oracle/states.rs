//! Invariant 12, where servers compare their states: whoever had another than the log says a majority had goes on no more.

use std::collections::VecDeque;

use raft_core::{Digest, Entry, Event, LogIndex, Payload, StateDigest, Term};

use super::history::check;
use super::tap::Tap;
use super::{Oracle, Seen};
use crate::report::Failure;

/// An entry that says what state a majority had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    state: StateDigest,
}

impl Decided {
    /// What this entry says, where it is such a one.
    pub(super) fn by(entry: &Entry) -> Option<Self> {
        let Payload::StateDigest(bytes) = &entry.payload else { return None };
        Some(Self { index: entry.index, term: entry.term, state: StateDigest::from_bytes(bytes)? })
    }
}

/// What is known of a server's own state, in this life.
#[derive(Debug, Default)]
pub(super) struct OwnState {
    /// The machine's digest is another than its state's.
    pub(super) is_altered: bool,
    /// The last few digests that its node was told of: none from before a restored snapshot.
    digests: VecDeque<StateDigest>,
}

impl OwnState {
    /// A replica remembers no fewer.
    const KEPT: usize = 8;

    /// A step of its node begins.
    pub(super) fn takes(&mut self, event: &Event) {
        match event {
            Event::StateDigested(report) => {
                if self.digests.len() >= Self::KEPT {
                    self.digests.pop_front();
                }
                self.digests.push_back(report.digest);
            }
            Event::Restored(_) => self.digests.clear(),
            _ => {}
        }
    }

    fn after(&self, index: LogIndex) -> Option<Digest> {
        self.digests.iter().find(|mine| mine.index == index).map(|mine| mine.state)
    }
}

impl Oracle {
    /// Whoever has applied an entry that says what state a majority had, had the same: who had another halts before it.
    pub(super) fn heeds_states(&self, tap: &Tap, before: &Seen, now: &Seen) -> Result<(), Failure> {
        for Decided { index, state: decided, .. } in self.history.decided(before.applied, now.applied) {
            let Some(mine) = tap.state.after(decided.index) else { continue };
            check(mine == decided.state, "who differs halts", || {
                let StateDigest { index: after, state } = decided;
                let id = tap.server;
                format!(
                    "server {id} had the state {mine:.8} after {after}, and goes on past {index}: most had {state:.8}"
                )
            })?;
        }
        Ok(())
    }
}
