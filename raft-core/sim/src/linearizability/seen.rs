//! What the search has been through: which operations were placed, with which state.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// A set of small numbers that changes.
pub(super) struct Bits {
    words: Vec<u64>,
}

/// A range of such a set. Two of the same range are equal where they have the same members.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Range {
    /// Most ranges are no longer than this, and need no memory of their own.
    first: u64,
    rest: Vec<u64>,
}

/// The completed operations that are placed, and the state they led to.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Placed<S> {
    /// All before this one are.
    pub(super) floor: usize,
    /// Which ones are from there on.
    pub(super) above: Range,
    pub(super) state: S,
}

/// Every pair that was entered, with the pending operations used up to there.
///
/// Invariant: of the sets of one pair, none contains another.
pub(super) struct Seen<S> {
    entered: HashMap<Placed<S>, (Range, Vec<Range>)>,
}

impl Bits {
    /// An empty set of numbers below `end`.
    pub(super) fn new(end: usize) -> Self {
        Self { words: vec![0; end.div_ceil(WORD)] }
    }

    pub(super) fn insert(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / WORD) {
            *word |= 1 << (number % WORD);
        }
    }

    pub(super) fn remove(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / WORD) {
            *word &= !(1 << (number % WORD));
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.word(number / WORD) & 1 << (number % WORD) != 0
    }

    /// The members from `from` on. None is `to` or higher.
    pub(super) fn range(&self, from: usize, to: usize) -> Range {
        let words = |at| self.sixty_four(at);
        Range { first: words(from), rest: (from.saturating_add(WORD)..to).step_by(WORD).map(words).collect() }
    }

    /// Whether these numbers, from `from` on, are members.
    fn sixty_four(&self, from: usize) -> u64 {
        let (at, shift) = (from / WORD, from % WORD);
        let low = self.word(at) >> shift;
        if shift == 0 { low } else { low | self.word(at + 1) << (WORD - shift) }
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }
}

impl Range {
    /// Whether the other, of the same range, has all members of this one.
    fn is_subset(&self, other: &Self) -> bool {
        self.first & !other.first == 0 && self.rest.iter().zip(&other.rest).all(|(mine, others)| mine & !others == 0)
    }
}

impl<S: Eq + Hash> Seen<S> {
    pub(super) fn new() -> Self {
        Self { entered: HashMap::new() }
    }

    /// Enters this pair with these pending operations used; no, where it was entered with these or fewer.
    pub(super) fn enter(&mut self, placed: Placed<S>, used: Range) -> bool {
        match self.entered.entry(placed) {
            Entry::Vacant(entry) => {
                entry.insert((used, Vec::new()));
                true
            }
            Entry::Occupied(mut entry) => {
                let (first, others) = entry.get_mut();
                if first.is_subset(&used) || others.iter().any(|other| other.is_subset(&used)) {
                    return false;
                }
                others.retain(|other| !used.is_subset(other));
                if used.is_subset(first) {
                    *first = used;
                } else {
                    others.push(used);
                }
                true
            }
        }
    }
}

const WORD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_the_set_has_there() {
        let mut bits = Bits::new(300);
        let members = [0, 1, 63, 64, 100, 127, 128, 190, 255, 299];
        members.iter().for_each(|member| bits.insert(*member));
        bits.insert(77);
        bits.remove(77);
        assert!((0..300).all(|number| bits.contains(number) == members.contains(&number)));
        for from in 0..300 {
            let range = bits.range(from, 300);
            let has = |at: usize| {
                let word = if at < 64 { range.first } else { range.rest[at / 64 - 1] };
                word >> (at % 64) & 1 == 1
            };
            assert!((from..300).all(|number| has(number - from) == members.contains(&number)), "from {from}");
        }
    }

    #[test]
    fn a_pair_is_entered_again_only_with_pending_operations_that_were_not_enough_before() {
        let used = |members: &[usize]| {
            let mut bits = Bits::new(100);
            members.iter().for_each(|member| bits.insert(*member));
            bits.range(0, 100)
        };
        let mut seen = Seen::new();
        let mut enter = |state, members: &[usize]| {
            let placed = Placed { floor: 3, above: Bits::new(10).range(3, 10), state };
            seen.enter(placed, used(members))
        };
        assert!(enter('a', &[1, 70]));
        assert!(!enter('a', &[1, 70]));
        assert!(!enter('a', &[1, 2, 70]));
        assert!(enter('a', &[2, 70]));
        assert!(enter('b', &[1, 2, 70]));
        assert!(enter('a', &[70]), "fewer");
        assert!(!enter('a', &[2, 70]));
        assert!(enter('a', &[]));
        assert!(!enter('a', &[99]));
    }
}
