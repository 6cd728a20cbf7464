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

/// As many as fit beside the length in the room of three words.
const SHORT_BYTES_MAX: usize = 22;

impl From<&[u8]> for Canonical {
    fn from(canonical: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match (u8::try_from(canonical.len()), bytes.get_mut(..canonical.len())) {
            (Ok(len), Some(short)) => {
                short.copy_from_slice(canonical);
                Self::Short { len, bytes }
            }
            _ => Self::Long(canonical.into()),
        }
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
    fn cmp(&self, other: &Self) -> Ordering {
        self[..].cmp(other)
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
