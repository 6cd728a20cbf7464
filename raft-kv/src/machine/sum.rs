//! The sum over the pairs of the store, each with the height that wrote it.

use raft_core::LogIndex;

use super::store::Stored;
use crate::sum::Sum;

/// The [`Sum`] of some pairs. Empty for none.
#[derive(Clone, Debug, Default)]
pub(super) struct PairSum(Sum);

impl PairSum {
    /// The pair is in the store from now on.
    pub(super) fn add(&mut self, canonical: &[u8], stored: &mut Stored) {
        stored.hash = self.hash(canonical, stored);
        self.0.add(stored.hash);
    }

    /// The pair, as it is by now, is among those that are written down.
    pub(super) fn add_anew(&mut self, canonical: &[u8], stored: &Stored) {
        let hash = self.hash(canonical, stored);
        self.0.add(hash);
    }

    /// The pair, as it was added, is in the store no more.
    pub(super) fn take(&mut self, stored: &Stored) {
        self.0.take(stored.hash);
    }

    /// The block at height `at` gives the pair another value.
    pub(super) fn change(&mut self, canonical: &[u8], stored: &mut Stored, value: &[u8], at: LogIndex) {
        self.take(stored);
        stored.set_value(value);
        stored.written = at;
        self.add(canonical, stored);
    }

    fn hash(&mut self, canonical: &[u8], stored: &Stored) -> u128 {
        self.0.hash(|out| frame(canonical, stored, out))
    }

    /// The sum, little-endian.
    pub(super) fn to_bytes(&self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

/// The height that wrote it, the key's length, the key, whether there is a literal, its length, the literal, and the value.
fn frame(canonical: &[u8], stored: &Stored, out: &mut Vec<u8>) {
    let literal = stored.literal();
    let mut beside = [u8::from(literal.is_some()); 9];
    beside[1..].copy_from_slice(&super::count(literal.unwrap_or_default().len()).to_le_bytes());
    out.reserve(33_usize.saturating_add(canonical.len()).saturating_add(stored.bytes().len()));
    out.extend_from_slice([stored.written.0, super::count(canonical.len())].map(u64::to_le_bytes).as_flattened());
    out.extend_from_slice(canonical);
    out.extend_from_slice(&beside);
    out.extend_from_slice(stored.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (&'static str, Option<&'static str>, &'static str);

    fn stored((key, literal, value): Parts) -> (&'static [u8], Stored) {
        (key.as_bytes(), Stored::new(literal.map(str::as_bytes), value.as_bytes(), LogIndex(7)))
    }

    fn sum(pairs: &[Parts]) -> [u8; 16] {
        let mut sum = PairSum::default();
        for pair in pairs {
            let (key, mut stored) = stored(*pair);
            sum.add(key, &mut stored);
        }
        sum.to_bytes()
    }

    #[test]
    fn what_is_taken_leaves_no_trace_and_the_order_counts_for_nothing() {
        let (a, b, c) = (("a", None, "1"), ("b", Some("'b'"), "2"), ("c", None, "3"));
        assert_eq!(sum(&[a, b, c]), sum(&[c, a, b]));
        let mut less = PairSum::default();
        let [_, b, _] = [a, b, c].map(|pair| {
            let (key, mut stored) = stored(pair);
            less.add(key, &mut stored);
            stored
        });
        less.take(&b);
        assert_eq!(less.to_bytes(), sum(&[a, c]));
        assert_eq!(sum(&[]), [0; 16]);
    }

    #[test]
    fn pairs_that_differ_anywhere_count_differently() {
        let mut written_later = PairSum::default();
        let (key, mut later) = stored(("a", None, "1"));
        written_later.add(key, &mut later);
        written_later.change(key, &mut later, b"1", LogIndex(8));
        let sums = [
            sum(&[("a", None, "1")]),
            sum(&[("ab", Some("cd"), "ef")]),
            sum(&[("a", Some("bcd"), "ef")]),
            sum(&[("ab", Some("c"), "def")]),
            sum(&[("ab", Some(""), "cdef")]),
            sum(&[("ab", None, "cdef")]),
            sum(&[("ab", None, "")]),
            sum(&[("a", None, "1"), ("b", None, "2")]),
            sum(&[("a", None, "2"), ("b", None, "1")]),
            written_later.to_bytes(),
        ];
        for (at, one) in sums.iter().enumerate() {
            assert!(sums.iter().skip(at + 1).all(|other| one != other), "{at}");
        }
    }

    #[test]
    fn a_pairs_bytes_stay_what_they_are() {
        let (key, stored) = stored(("k", Some("'k'"), "v"));
        let mut bytes = Vec::new();
        frame(key, &stored, &mut bytes);
        assert_eq!(bytes, b"\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0k\x01\x03\0\0\0\0\0\0\0'k'v");
    }
}
