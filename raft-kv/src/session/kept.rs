//! A reply that a session keeps.

use std::ops::Deref;

use bytes::Bytes;

/// The bytes of an encoded [`Reply`](crate::Reply): beside its number where they are few, which is all replies that carry
/// no values; so that to keep one costs no allocation, and nobody counts who refers to it.
///
/// Invariant: `Long` are more than [`SHORT_BYTES_MAX`], and what is behind the `len` bytes of `Short` is zero. So equal
/// replies are kept alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Bytes),
}

/// As many as an [`Outcome`](crate::Outcome) without values has, with the hash of its block.
const SHORT_BYTES_MAX: usize = 62;

impl Kept {
    /// As it was told.
    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Short { .. } => Bytes::copy_from_slice(self),
            Self::Long(reply) => reply.clone(),
        }
    }
}

impl From<&Bytes> for Kept {
    fn from(reply: &Bytes) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match (u8::try_from(reply.len()), bytes.get_mut(..reply.len())) {
            (Ok(len), Some(short)) => {
                short.copy_from_slice(reply);
                Self::Short { len, bytes }
            }
            _ => Self::Long(reply.clone()),
        }
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(reply) => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use raft_core::Digest;

    use super::*;
    use crate::{Outcome, Reply, Value};

    #[test]
    fn replies_of_every_length_are_kept_as_they_are() {
        for len in [0, 1, SHORT_BYTES_MAX - 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 1000] {
            let reply = Bytes::from(vec![7; len]);
            let kept = Kept::from(&reply);
            assert_eq!((&*kept, kept.to_bytes()), (&*reply, reply.clone()));
            assert_eq!(matches!(kept, Kept::Short { .. }), len <= SHORT_BYTES_MAX);
        }
    }

    #[test]
    fn a_reply_without_values_is_short() {
        let kept =
            |outcome| Kept::from(&Reply::Done { outcome, height: 1, hash: Some(Digest([7; 32])) }.encode().into());
        for outcome in [Outcome::Success, Outcome::Deleted { existed: true }, Outcome::Added { sum: 1 }] {
            assert!(matches!(kept(outcome), Kept::Short { .. }));
        }
        let actual = Some(Value(vec![7; 99].into()));
        assert!(matches!(kept(Outcome::NotSwapped { actual }), Kept::Long(_)));
    }
}
