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
//! Invariant: `before` holds what stood under every key beyond `written` that was changed, added or removed since.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::Stored;
use crate::codec;
use crate::session::{Session, SessionRecord};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    /// Those that are not written yet, by name.
    sessions: VecDeque<(u64, Arc<Session>)>,
    /// The last key that was passed.
    written: Option<Bytes>,
    before: BTreeMap<Bytes, Option<Stored>>,
}

impl Frozen {
    /// The state now: with these sessions.
    pub(super) fn new(sessions: impl Iterator<Item = (u64, Arc<Session>)>) -> Self {
        Self { sessions: sessions.collect(), written: None, before: BTreeMap::new() }
    }

    /// What stands under this key is about to change.
    pub(super) fn keep(&mut self, canonical: &Bytes, stored: Option<&Stored>) {
        let is_ahead = self.written.as_ref().is_none_or(|written| canonical > written);
        if is_ahead && !self.before.contains_key(canonical) {
            self.before.insert(canonical.clone(), stored.cloned());
        }
    }

    /// Appends what follows in the snapshot, until `out` has so many bytes or there is no more; `pairs` are those of the
    /// store now.
    pub(super) fn write(&mut self, pairs: &BTreeMap<Bytes, Stored>, bytes: usize, out: &mut Vec<u8>) {
        while out.len() < bytes
            && let Some((name, session)) = self.sessions.pop_front()
        {
            codec::encode_into(&SessionRecord::of(name, &session), out);
        }
        let beyond = self.written.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut standing = pairs.range::<Bytes, _>((beyond, Bound::Unbounded)).peekable();
        let mut passed = None;
        while out.len() < bytes {
            let next = standing.peek().map(|(canonical, _)| *canonical);
            match self.before.first_entry().filter(|entry| next.is_none_or(|next| entry.key() <= next)) {
                Some(changed) => {
                    let (canonical, stored) = changed.remove_entry();
                    standing.next_if(|(standing, _)| **standing == canonical);
                    stored.iter().for_each(|stored| encode_pair(&canonical, stored, out));
                    passed = Some(Cow::Owned(canonical));
                }
                None => {
                    let Some((canonical, stored)) = standing.next() else { break };
                    encode_pair(canonical, stored, out);
                    passed = Some(Cow::Borrowed(canonical));
                }
            }
        }
        self.written = passed.map(Cow::into_owned).or(self.written.take());
    }
}

/// As a [`Pair`](crate::Pair) and the height that wrote it are encoded, but without a copy of their parts.
fn encode_pair(canonical: &Bytes, Stored { literal, value, written }: &Stored, out: &mut Vec<u8>) {
    codec::encode_into(&(((canonical, literal), value), written), out);
}
