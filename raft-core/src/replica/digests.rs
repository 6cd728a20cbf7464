//! The digests of the state that this replica remembers, to hold the log's against.

use alloc::collections::VecDeque;

use crate::state_digest::{StateDigest, StateReport};
use crate::types::{Digest, Entry, LogIndex, Payload};

/// The digests of the last few entries at which one was taken in this life, oldest first. What came before a restored
/// snapshot is not known, and not compared.
#[derive(Debug)]
pub(super) struct StateDigests {
    /// One is taken after each entry whose index is a multiple of this, where commands were applied since the last.
    every: Option<u64>,
    kept: VecDeque<StateDigest>,
    /// The state may have changed since the last, or is not known to be that: what is empty keeps nobody busy.
    is_due: bool,
    /// As in [`StateReport`].
    is_independent: bool,
}

impl StateDigests {
    /// So many: a leader decides on one before it has applied that much more.
    const KEPT: usize = 16;

    pub(super) const fn new(every: Option<u64>) -> Self {
        Self { every, kept: VecDeque::new(), is_due: true, is_independent: true }
    }

    /// The state is that of a peer's snapshot: what was remembered was another's.
    pub(super) fn restored(&mut self) {
        *self = Self { is_independent: false, ..Self::new(self.every) };
    }

    /// The entry that this one is about, where the state there was another than it says. Where it was the same, others
    /// vouch for it.
    pub(super) fn contradicted_by(&mut self, entry: &Entry) -> Option<LogIndex> {
        let Payload::StateDigest(bytes) = &entry.payload else { return None };
        let decided = StateDigest::from_bytes(bytes)?;
        let mine = self.kept.iter().find(|mine| mine.index == decided.index)?;
        let agrees = mine.state == decided.state || bug!(StateDigestIgnored);
        self.is_independent |= agrees;
        (!agrees).then_some(decided.index)
    }

    /// This entry was applied, and this is the state. Gives what is to be told.
    pub(super) fn applied(&mut self, entry: &Entry, state: impl FnOnce() -> Digest) -> Option<StateReport> {
        let every = self.every?;
        self.is_due |= matches!(entry.payload, Payload::Command(_));
        if !self.is_due || !entry.index.0.is_multiple_of(every) {
            return None;
        }
        self.is_due = false;
        let digest = StateDigest { index: entry.index, state: state() };
        if self.kept.len() >= Self::KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(digest);
        Some(StateReport { digest, is_independent: self.is_independent })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Term;

    fn entry(index: u64, payload: Payload) -> Entry {
        Entry { index: LogIndex(index), term: Term(1), payload }
    }

    fn command(index: u64) -> Entry {
        entry(index, Payload::Command(Bytes::new()))
    }

    const STATE: Digest = Digest([7; 32]);

    #[test]
    fn i12_a_digest_is_taken_once_in_so_many_entries_and_never_of_none() {
        let mut digests = StateDigests::new(Some(4));
        let taken = |digests: &mut StateDigests, entry: Entry| {
            digests.applied(&entry, || STATE).map(|taken| taken.digest.index.0)
        };
        assert_eq!([3, 4, 5].map(|index| taken(&mut digests, command(index))), [None, Some(4), None]);
        assert_eq!([6, 7, 8].map(|index| taken(&mut digests, entry(index, Payload::Noop))), [None, None, Some(8)]);
        // Nothing but digests from here on.
        let about =
            |index| entry(index, Payload::StateDigest(StateDigest { index: LogIndex(8), state: STATE }.to_bytes()));
        assert!((9..=40).all(|index| taken(&mut digests, about(index)).is_none()));
        let mut off = StateDigests::new(None);
        assert!((1..=40).all(|index| taken(&mut off, command(index)).is_none()));
    }

    #[test]
    fn i12_what_is_remembered_is_compared_and_what_is_not_is_not() {
        let mut digests = StateDigests::new(Some(1));
        let about =
            |index, state| entry(99, Payload::StateDigest(StateDigest { index: LogIndex(index), state }.to_bytes()));
        for index in 1..=20 {
            digests.applied(&command(index), || STATE);
        }
        assert_eq!(digests.contradicted_by(&about(20, STATE)), None);
        assert_eq!(digests.contradicted_by(&about(20, Digest([8; 32]))), Some(LogIndex(20)));
        assert_eq!(digests.contradicted_by(&about(5, Digest([8; 32]))), Some(LogIndex(5)));
        assert_eq!(digests.contradicted_by(&about(4, Digest([8; 32]))), None, "it is forgotten");
        assert_eq!(digests.contradicted_by(&about(21, Digest([8; 32]))), None, "it is not known");
        assert_eq!(digests.contradicted_by(&command(99)), None);
    }

    #[test]
    fn i12_a_restored_state_forgets_what_was_remembered_and_is_vouched_for_by_an_entry_that_agrees() {
        let mut digests = StateDigests::new(Some(4));
        let about =
            |index| entry(99, Payload::StateDigest(StateDigest { index: LogIndex(index), state: STATE }.to_bytes()));
        let taken =
            |digests: &mut StateDigests, entry: Entry| digests.applied(&entry, || STATE).unwrap().is_independent;
        digests.applied(&command(4), || Digest([8; 32]));
        digests.restored();
        assert_eq!(digests.contradicted_by(&about(4)), None, "the state at entry 4 was the one before");
        assert!(!taken(&mut digests, entry(8, Payload::Noop)), "it is due, though no command follows");
        assert!(!taken(&mut digests, command(12)), "the entry about 4 vouches for nothing");
        assert_eq!(digests.contradicted_by(&about(8)), None);
        assert!(taken(&mut digests, command(16)));
    }
}
