//! A field that may hold a [`Digest`], in two steps where the derived code takes one for each of its bytes. For
//! `#[serde(with = "...")]`, in encodings of fixed width: the bytes are those that the derived code writes.

use raft_core::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes it.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(digest: &Option<Digest>, serializer: S) -> Result<S::Ok, S::Error> {
    digest.map(halves).serialize(serializer)
}

/// Reads it.
///
/// # Errors
/// The deserializer's.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(whole))
}

fn halves(Digest(bytes): Digest) -> [u128; 2] {
    let (halves, _) = bytes.as_chunks();
    [0, 1].map(|half| halves.get(half).map_or(0, |half| u128::from_le_bytes(*half)))
}

fn whole(halves: [u128; 2]) -> Digest {
    let mut bytes = [0; 32];
    for (bytes, half) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
        *bytes = half.to_le_bytes();
    }
    Digest(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{decode, encode};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Quick(#[serde(with = "super")] Option<Digest>);

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_derived_code(bytes in any::<[u8; 32]>(), is_there in any::<bool>()) {
            let digest = is_there.then_some(Digest(bytes));
            prop_assert_eq!(encode(&Quick(digest)), encode(&digest));
            prop_assert_eq!(decode(&encode(&digest)), Ok(Quick(digest)));
        }
    }
}
