//! A key's canonical bytes, as the store keeps them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Deref;

/// Canonical bytes, in the store's node itself where they are few: so that they cost no allocation, and to find a key
/// looks into nothing but nodes. In the order of the bytes.
///
/// Invariant: `Long` are more than [`SHORT_BYTES_MAX`], and what is behind the `len` bytes of `Short` is zero.
#[derive(Clone, Debug)]
pub(super) enum Canonical {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Box<[u8]>),
}

/// In the order of the bytes; the last two overlap, which changes nothing in it.
fn words(bytes: &[u8; SHORT_BYTES_MAX]) -> [u64; 3] {
    let ([first, second], _) = bytes.as_chunks() else { return [0; 3] };
    [first, second, bytes.last_chunk().unwrap_or(&[0; 8])].map(|word| u64::from_be_bytes(*word))
}

/// As many as fit beside the length in the room of three words.
const SHORT_BYTES_MAX: usize = 22;

impl Canonical {
    /// Where these bytes are few.
    pub(super) fn short(canonical: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes.get_mut(..canonical.len())?.copy_from_slice(canonical);
        Some(Self::Short { len: u8::try_from(canonical.len()).ok()?, bytes })
    }
}

impl From<&[u8]> for Canonical {
    fn from(canonical: &[u8]) -> Self {
        Self::short(canonical).unwrap_or_else(|| Self::Long(canonical.into()))
    }
}

impl Deref for Canonical {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(canonical) => canonical,
        }
    }
}

impl Borrow<[u8]> for Canonical {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Ord for Canonical {
    /// Of two short ones, a word at a time: the zeros behind the shorter one come before whatever the longer one has there,
    /// and where that is zeros too, the lengths decide.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Short { len, bytes }, Self::Short { len: other_len, bytes: other_bytes }) => {
                (words(bytes), len).cmp(&(words(other_bytes), other_len))
            }
            _ => self[..].cmp(other),
        }
    }
}

impl PartialOrd for Canonical {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Canonical {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Canonical {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_every_length_are_kept_as_they_are_in_three_words() {
        for len in [0, 1, SHORT_BYTES_MAX - 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 1000] {
            let bytes = vec![7; len];
            let canonical = Canonical::from(&bytes[..]);
            assert_eq!(canonical[..], bytes);
            assert_eq!(matches!(canonical, Canonical::Short { .. }), len <= SHORT_BYTES_MAX);
        }
        assert_eq!(size_of::<Canonical>(), 24);
    }

    proptest! {
        #[test]
        fn their_order_is_that_of_their_bytes(
            prefix in proptest::collection::vec(0..2_u8, 0..24), a in proptest::collection::vec(0..3_u8, 0..4),
            b in proptest::collection::vec(0..3_u8, 0..4)
        ) {
            let [a, b] = [a, b].map(|end| [&prefix[..], &end].concat());
            let order = Canonical::from(&a[..]).cmp(&Canonical::from(&b[..]));
            prop_assert_eq!(order, a.cmp(&b));
        }
    }
}
