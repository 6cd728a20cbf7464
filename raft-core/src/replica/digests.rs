//! The digests of the state that this replica remembers, to hold the log's against.

use alloc::collections::VecDeque;

use crate::state_digest::StateDigest;
use crate::types::{Digest, Entry, LogIndex, Payload};

/// The digests of the last few entries at which one was taken in this life, oldest first. What came before a restored
/// snapshot is not known, and not compared.
#[derive(Debug)]
pub(super) struct StateDigests {
    /// One is taken after each entry whose index is a multiple of this, where commands were applied since the last.
    every: Option<u64>,
    kept: VecDeque<StateDigest>,
    /// A command was applied since the last, or may have been: what is empty keeps nobody busy.
    is_due: bool,
}

impl StateDigests {
    /// So many: a leader decides on one before it has applied that much more.
    const KEPT: usize = 16;

    pub(super) const fn new(every: Option<u64>) -> Self {
        Self { every, kept: VecDeque::new(), is_due: false }
    }

    /// The entry that this one is about, where the state there was another than it says.
    pub(super) fn contradicted_by(&self, entry: &Entry) -> Option<LogIndex> {
        let Payload::StateDigest(bytes) = &entry.payload else { return None };
        let decided = StateDigest::from_bytes(bytes)?;
        let mine = self.kept.iter().find(|mine| mine.index == decided.index)?;
        (mine.state != decided.state && !bug!(StateDigestIgnored)).then_some(decided.index)
    }

    /// This entry was applied, and this is the state. Gives what is to be told.
    pub(super) fn applied(&mut self, entry: &Entry, state: impl FnOnce() -> Digest) -> Option<StateDigest> {
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
        Some(digest)
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
        let taken =
            |digests: &mut StateDigests, entry: Entry| digests.applied(&entry, || STATE).map(|taken| taken.index.0);
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
}
