//! What became of each message of a story.

use std::collections::BTreeMap;

use raft_core::{NodeId, Term};

use super::{Happening, What};
use crate::time::Time;

/// A message from its sending on.
#[derive(Clone, Debug)]
pub(crate) struct Fate<'a> {
    pub(crate) sent: Time,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) term: Term,
    pub(crate) words: &'a str,
    /// One a copy that arrived.
    pub(crate) arrivals: Vec<Time>,
    /// One a copy that never will.
    pub(crate) losses: Vec<Time>,
}

impl Fate<'_> {
    /// Nothing of it arrived, and nothing will.
    pub(crate) const fn is_lost(&self) -> bool {
        self.arrivals.is_empty() && !self.losses.is_empty()
    }
}

/// The messages of a story, by their names.
pub(crate) fn fates(story: &[Happening]) -> BTreeMap<u64, Fate<'_>> {
    let mut fates = BTreeMap::new();
    for Happening { at, what } in story {
        match what {
            What::Sent { message, from, to, term, words } => {
                let (arrivals, losses) = (Vec::new(), Vec::new());
                let fate = Fate { sent: *at, from: *from, to: *to, term: *term, words, arrivals, losses };
                fates.entry(*message).or_insert(fate);
            }
            What::Delivered { message } => {
                if let Some(fate) = fates.get_mut(message) {
                    fate.arrivals.push(*at);
                }
            }
            What::Lost { message } => {
                if let Some(fate) = fates.get_mut(message) {
                    fate.losses.push(*at);
                }
            }
            _ => {}
        }
    }
    fates
}
