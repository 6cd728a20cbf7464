//! A sum over the parts of a state, kept as they change, so that a digest of the state costs nothing a part.
//!
//! Each part counts as a 128-bit hash (XXH3) of its bytes; the sum is taken modulo 2^128, so it depends neither on the order of
//! the parts nor on how they came about. A part that is added costs one hash of it, and one that is taken none where its hash
//! is kept beside it.
//!
//! It is good for finding what goes wrong by itself: a replica that applied something else, a snapshot that is none of the
//! state it is labelled with. It is not good against an adversary who chooses keys or values: XXH3 is no cryptographic hash,
//! and a sum of hashes is easier to meet than one hash. And it follows what was done, not what lies in memory: a value
//! that changes by itself shows when a snapshot that would hold it is written down.

use twox_hash::XxHash3_128;

/// See the module. Empty for no parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    total: u128,
    /// One part's bytes; kept for its memory alone.
    framed: Vec<u8>,
}

impl Sum {
    /// The part of this [hash](Self::hash) is there from now on. No two parts have the same bytes.
    pub(crate) fn add(&mut self, hash: u128) {
        self.total = self.total.wrapping_add(hash);
    }

    /// The part, as it was added, is there no more.
    pub(crate) fn take(&mut self, hash: u128) {
        self.total = self.total.wrapping_sub(hash);
    }

    /// What the part counts for whose bytes `frame` appends.
    pub(crate) fn hash(&mut self, frame: impl FnOnce(&mut Vec<u8>)) -> u128 {
        self.framed.clear();
        frame(&mut self.framed);
        XxHash3_128::oneshot(&self.framed)
    }

    /// The sum, little-endian.
    pub(crate) fn to_bytes(&self) -> [u8; 16] {
        self.total.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sums_bytes_stay_what_they_are() {
        let mut sum = Sum::default();
        let hash =
            sum.hash(|out| out.extend_from_slice(b"\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0k\x01\x03\0\0\0\0\0\0\0'k'v"));
        sum.add(hash);
        assert_eq!(format!("{:032x}", u128::from_le_bytes(sum.to_bytes())), "2360157fa371daa91d408701c85e79c8");
        // As xxHash itself has it.
        assert_eq!(XxHash3_128::oneshot(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}
