//! Where each block stands in the file: 8 bytes a block, and 16 a change of term.

use raft_core::{LogIndex, Term};

/// Offsets and terms of the blocks of the log, and the term of the block before.
///
/// Invariant: `offsets` and `terms` both ascend; the first of `terms` begins at the first block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    before: LogIndex,
    before_term: Term,
    /// Where the block after `before` begins, the one after that, and so on.
    offsets: Vec<u64>,
    /// The first block of each term that has one.
    terms: Vec<(LogIndex, Term)>,
}

impl Index {
    /// Of no block, after this one.
    pub(super) const fn after(before: LogIndex, before_term: Term) -> Self {
        Self { before, before_term, offsets: Vec::new(), terms: Vec::new() }
    }

    /// The block before the first, and its term.
    pub(super) const fn before(&self) -> (LogIndex, Term) {
        (self.before, self.before_term)
    }

    pub(super) const fn first(&self) -> LogIndex {
        self.before.next()
    }

    pub(super) const fn last(&self) -> LogIndex {
        LogIndex(self.before.0.saturating_add(self.offsets.len() as u64))
    }

    /// The term of the last block, or of the one before the first where there is none.
    pub(super) fn last_term(&self) -> Term {
        self.terms.last().map_or(self.before_term, |(_, term)| *term)
    }

    /// Where this block begins, and its term; `None` for a block that is not there.
    pub(super) fn locate(&self, height: LogIndex) -> Option<(u64, Term)> {
        let offset = *self.offsets.get(usize::try_from(height.0.checked_sub(self.first().0)?).ok()?)?;
        let run = self.terms.partition_point(|(first, _)| *first <= height).checked_sub(1)?;
        Some((offset, self.terms.get(run)?.1))
    }

    pub(super) fn push(&mut self, offset: u64, term: Term) {
        self.offsets.push(offset);
        if self.last_term() != term || self.terms.is_empty() {
            self.terms.push((self.last(), term));
        }
    }

    /// Forgets this block and all that follow.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        self.offsets.truncate(self.count_before(from));
        while self.terms.pop_if(|(first, _)| *first >= from).is_some() {}
    }

    /// Forgets every block before this one, which is at most the one after the last.
    pub(super) fn keep_from(&mut self, first: LogIndex) {
        let before_term = self.locate(first.prev()).map_or(self.before_term, |(_, term)| term);
        self.offsets.drain(..self.count_before(first).min(self.offsets.len()));
        (self.before, self.before_term) = (first.prev(), before_term);
        // The run that the first block belongs to begins there.
        let run = self.terms.partition_point(|(from, _)| *from <= first).saturating_sub(1);
        self.terms.drain(..run);
        self.terms.first_mut().into_iter().for_each(|(from, _)| *from = (*from).max(first));
        self.terms.retain(|_| !self.offsets.is_empty());
    }

    fn count_before(&self, height: LogIndex) -> usize {
        usize::try_from(height.0.saturating_sub(self.first().0)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain list of (offset, term).
        #[test]
        fn equals_a_plain_list(steps in prop::collection::vec((0..5_u8, 0_u64..4), 0..40)) {
            let (mut index, mut list, mut offset) = (Index::default(), Vec::<(u64, Term)>::new(), 0);
            let mut before = 0;
            for (step, number) in steps {
                if step < 3 {
                    offset += 1 + number;
                    let term = Term(list.last().map_or(0, |(_, term)| term.0) + number / 2);
                    list.push((offset, term));
                    index.push(offset, term);
                } else if step == 3 {
                    before = (before + number as usize).min(list.len());
                    index.keep_from(LogIndex(before as u64 + 1));
                } else {
                    let from = (list.len() as u64).saturating_sub(number).max(before as u64) + 1;
                    list.truncate(from as usize - 1);
                    index.truncate(LogIndex(from));
                }
                prop_assert_eq!(index.last(), LogIndex(list.len() as u64));
                prop_assert_eq!(index.last_term(), list.last().map_or(Term(0), |(_, term)| *term));
                let before_term = before.checked_sub(1).map_or(Term(0), |at| list[at].1);
                prop_assert_eq!(index.before(), (LogIndex(before as u64), before_term));
                for height in 0..list.len() + 2 {
                    let expected = height.checked_sub(1).filter(|at| *at >= before).and_then(|at| list.get(at).copied());
                    prop_assert_eq!(index.locate(LogIndex(height as u64)), expected);
                }
            }
        }
    }
}
