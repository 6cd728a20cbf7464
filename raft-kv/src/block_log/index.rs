//! Where each block stands in the file: 8 bytes a block, and 16 a change of term.

use raft_core::{LogIndex, Term};

/// Offsets and terms of the blocks from height 1 on.
///
/// Invariant: `offsets` and `terms` both ascend; the first of `terms` begins at the first block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Where block 1 begins, block 2, and so on.
    offsets: Vec<u64>,
    /// The first block of each term that has one.
    terms: Vec<(LogIndex, Term)>,
}

impl Index {
    pub(super) const fn last(&self) -> LogIndex {
        LogIndex(self.offsets.len() as u64)
    }

    /// The term of the last block; 0 where there is none.
    pub(super) fn last_term(&self) -> Term {
        self.terms.last().map_or(Term(0), |(_, term)| *term)
    }

    /// Where this block begins, and its term; `None` for a block that is not there.
    pub(super) fn locate(&self, height: LogIndex) -> Option<(u64, Term)> {
        let offset = *self.offsets.get(usize::try_from(height.0.checked_sub(1)?).ok()?)?;
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
        self.offsets.truncate(usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX));
        while self.terms.pop_if(|(first, _)| *first >= from).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain list of (offset, term).
        #[test]
        fn equals_a_plain_list(steps in prop::collection::vec((any::<bool>(), 0_u64..4), 0..40)) {
            let (mut index, mut list, mut offset) = (Index::default(), Vec::<(u64, Term)>::new(), 0);
            for (push, number) in steps {
                if push {
                    offset += 1 + number;
                    let term = Term(list.last().map_or(0, |(_, term)| term.0) + number / 2);
                    list.push((offset, term));
                    index.push(offset, term);
                } else {
                    let from = (list.len() as u64).saturating_sub(number) + 1;
                    list.truncate(from as usize - 1);
                    index.truncate(LogIndex(from));
                }
                prop_assert_eq!(index.last(), LogIndex(list.len() as u64));
                prop_assert_eq!(index.last_term(), list.last().map_or(Term(0), |(_, term)| *term));
                for height in 0..list.len() + 2 {
                    let expected = height.checked_sub(1).and_then(|at| list.get(at).copied());
                    prop_assert_eq!(index.locate(LogIndex(height as u64)), expected);
                }
            }
        }
    }
}
