//! A sum over the pairs of the store, kept as they change, so that a digest of the state costs nothing a key.
//!
//! Each pair counts as a 128-bit hash (XXH3) of its canonical key, its literal, its value and the height that wrote it; the sum is taken modulo
//! 2^128, so it depends neither on the order of the pairs nor on how they came about. A pair that is added or taken costs
//! one hash of it.
//!
//! It is good for finding what goes wrong by itself: a replica that applied something else, a snapshot that is none of the
//! state it is labelled with. It is not good against an adversary who chooses keys or values: XXH3 is no cryptographic hash,
//! and a sum of hashes is easier to meet than one hash. And it follows what was done, not what lies in memory: a value
//! that changes by itself shows when it is overwritten or removed, or when a snapshot that holds it is restored.

use raft_core::LogIndex;
use twox_hash::XxHash3_128;

use super::Stored;
use crate::command::Value;

/// See the module. Empty for no pairs.
#[derive(Clone, Debug, Default)]
pub(super) struct PairSum {
    total: u128,
    /// One pair's bytes; kept for its memory alone.
    framed: Vec<u8>,
}

impl PairSum {
    /// The pair is in the store from now on.
    pub(super) fn add(&mut self, canonical: &[u8], stored: &Stored) {
        self.total = self.total.wrapping_add(self.hash(canonical, stored));
    }

    /// The pair, as it was added, is in the store no more.
    pub(super) fn take(&mut self, canonical: &[u8], stored: &Stored) {
        self.total = self.total.wrapping_sub(self.hash(canonical, stored));
    }

    /// The block at height `at` gives the pair another value.
    pub(super) fn change(&mut self, canonical: &[u8], stored: &mut Stored, value: Value, at: LogIndex) {
        self.take(canonical, stored);
        (stored.value, stored.written) = (value, at);
        self.add(canonical, stored);
    }

    /// The sum, little-endian.
    pub(super) fn to_bytes(&self) -> [u8; 16] {
        self.total.to_le_bytes()
    }

    /// Of the height that wrote it, the key's length, the key, whether there is a literal, its length, the literal, and the
    /// value.
    fn hash(&mut self, canonical: &[u8], Stored { literal, value, written }: &Stored) -> u128 {
        self.framed.clear();
        self.framed.extend_from_slice(&written.0.to_le_bytes());
        self.field(canonical);
        self.framed.push(u8::from(literal.is_some()));
        self.field(literal.as_deref().unwrap_or_default());
        self.framed.extend_from_slice(&value.0);
        XxHash3_128::oneshot(&self.framed)
    }

    fn field(&mut self, bytes: &[u8]) {
        self.framed.extend_from_slice(&super::count(bytes.len()).to_le_bytes());
        self.framed.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    type Parts = (&'static str, Option<&'static str>, &'static str);

    fn stored((key, literal, value): Parts) -> (&'static [u8], Stored) {
        let (literal, value) = (literal.map(Bytes::from), Value(value.into()));
        (key.as_bytes(), Stored { literal, value, written: LogIndex(7) })
    }

    fn sum(pairs: &[Parts]) -> u128 {
        let mut sum = PairSum::default();
        for pair in pairs {
            let (key, stored) = stored(*pair);
            sum.add(key, &stored);
        }
        sum.total
    }

    #[test]
    fn what_is_taken_leaves_no_trace_and_the_order_counts_for_nothing() {
        let (a, b, c) = (("a", None, "1"), ("b", Some("'b'"), "2"), ("c", None, "3"));
        assert_eq!(sum(&[a, b, c]), sum(&[c, a, b]));
        let mut less = PairSum::default();
        for pair in [a, b, c] {
            let (key, stored) = stored(pair);
            less.add(key, &stored);
        }
        let (key, stored) = stored(b);
        less.take(key, &stored);
        assert_eq!(less.total, sum(&[a, c]));
        assert_eq!(sum(&[]).to_le_bytes(), [0; 16]);
    }

    #[test]
    fn pairs_that_differ_anywhere_count_differently() {
        let mut written_later = PairSum::default();
        let (key, mut later) = stored(("a", None, "1"));
        written_later.add(key, &later);
        written_later.change(key, &mut later, Value("1".into()), LogIndex(8));
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
            written_later.total,
        ];
        for (at, one) in sums.iter().enumerate() {
            assert!(sums.iter().skip(at + 1).all(|other| one != other), "{at}");
        }
    }

    #[test]
    fn a_pairs_bytes_and_hash_stay_what_they_are() {
        let mut one = PairSum::default();
        let (key, stored) = stored(("k", Some("'k'"), "v"));
        one.add(key, &stored);
        assert_eq!(one.framed, b"\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0k\x01\x03\0\0\0\0\0\0\0'k'v");
        assert_eq!(format!("{:032x}", one.total), "2360157fa371daa91d408701c85e79c8");
        // As xxHash itself has it.
        assert_eq!(XxHash3_128::oneshot(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}
