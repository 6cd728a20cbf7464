//! The state as it was when a snapshot of it was begun, for as long as that is being written down.
//!
//! ```text
//!   keys    a b c d │ e f g h          what stands in the store is written from the first key on
//!           written ┘   │   └ changed since: what stood there is kept, and written in its place
//!                       └ new since: nothing stood there, and nothing is written
//! ```
//!
//! So to freeze a state costs nothing a key, to write it down nothing but its bytes, and a change meanwhile one more
//! look-up; nothing but what is changed ahead of the writing is ever there twice.
//!
//! All that is written is summed as it is: where the sums, and so the [digest](Frozen::digest), are not those of the state when
//! it was frozen, something has changed by itself.
//!
//! Invariant: `before` holds what stood under every key beyond `written` that was changed, added or removed since.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use raft_core::Digest;

use super::canonical::Canonical;
use super::snapshot::{Shape, encode_pair};
use super::store::Stored;
use super::sum::PairSum;
use crate::codec;
use crate::session::{Session, SessionRecord, SessionSum};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    shape: Shape,
    /// Those that are not written yet, by name.
    sessions: VecDeque<(u64, Arc<Session>)>,
    /// How many pairs are not written yet: whatever stands behind the last of them is new since.
    pairs: u64,
    /// Of what is written.
    session_sum: SessionSum,
    pair_sum: PairSum,
    /// The last key that was passed.
    written: Option<Canonical>,
    before: BTreeMap<Canonical, Option<Stored>>,
}

impl Frozen {
    /// The state now: of this shape, with these sessions.
    pub(super) fn new(shape: Shape, sessions: impl Iterator<Item = (u64, Arc<Session>)>) -> Self {
        Self {
            pairs: shape.pairs,
            shape,
            sessions: sessions.collect(),
            session_sum: SessionSum::default(),
            pair_sum: PairSum::default(),
            written: None,
            before: BTreeMap::new(),
        }
    }

    /// Whether all is written.
    pub(super) fn is_written(&self) -> bool {
        self.sessions.is_empty() && self.pairs == 0
    }

    /// Of what is written.
    pub(super) fn digest(&self) -> Digest {
        self.shape.digest(&self.session_sum, &self.pair_sum)
    }

    /// What stands under this key in the store is about to change. Most keys are behind the writing, or were kept already: only for
    /// the others it is looked for.
    pub(super) fn keep(&mut self, canonical: &[u8], pairs: &BTreeMap<Canonical, Stored>) {
        let canonical = Canonical::from(canonical);
        if self.written.as_ref().is_none_or(|written| canonical > *written)
            && let Entry::Vacant(place) = self.before.entry(canonical)
        {
            let stored = pairs.get(place.key()).cloned();
            place.insert(stored);
        }
    }

    /// How many keys beyond what is written were changed since.
    #[cfg(test)]
    pub(super) fn ahead(&self) -> usize {
        self.before.len()
    }

    /// Appends what follows in the snapshot, until `out` has so many bytes or there is no more; `pairs` are those of the
    /// store now. A key that is passed over, for it is new, costs its part of the bytes too.
    pub(super) fn write(&mut self, pairs: &BTreeMap<Canonical, Stored>, bytes: usize, out: &mut Vec<u8>) {
        /// Of a key that is passed over, in bytes: about what it takes to look for it.
        const PASSED_COST: usize = 64;
        while out.len() < bytes
            && let Some((name, session)) = self.sessions.pop_front()
        {
            self.session_sum.add(name, &session);
            codec::encode_into(&SessionRecord::of(name, &session), out);
        }
        let beyond = self.written.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut standing = pairs.range::<Canonical, _>((beyond, Bound::Unbounded)).peekable();
        let (mut passed, mut passed_over) = (None, 0_usize);
        while out.len().saturating_add(passed_over.saturating_mul(PASSED_COST)) < bytes && self.pairs > 0 {
            let next = standing.peek().map(|(canonical, _)| *canonical);
            let (canonical, stored) = match self.before.first_entry() {
                Some(changed) if next.is_none_or(|next| changed.key() <= next) => {
                    let (canonical, stored) = changed.remove_entry();
                    standing.next_if(|(standing, _)| **standing == canonical);
                    (Cow::Owned(canonical), stored.map(Cow::Owned))
                }
                _ => match standing.next() {
                    Some((canonical, stored)) => (Cow::Borrowed(canonical), Some(Cow::Borrowed(stored))),
                    None => {
                        self.pairs = 0;
                        break;
                    }
                },
            };
            match stored {
                Some(stored) => {
                    self.pairs = self.pairs.saturating_sub(1);
                    self.pair_sum.add_anew(&canonical, &stored);
                    encode_pair(&canonical, &stored, out);
                }
                None => passed_over = passed_over.saturating_add(1),
            }
            passed = Some(canonical);
        }
        self.written = passed.map(Cow::into_owned).or(self.written.take());
    }
}
