//! What an operation may be: how large, and of how many others; and how large a reply is.

use super::{
    KEY_BYTES_MAX, Key, Operation, Pair, QueryReply, TRANSACTION_BYTES_MAX, TRANSACTION_OPERATIONS_MAX, VALUE_BYTES_MAX,
};

impl<B: AsRef<[u8]>> Operation<B> {
    /// What of it is larger than may be stored.
    ///
    /// A key and a value come from different commands, and go into one piece of a snapshot: so each has a limit of its
    /// own, or a state could have a snapshot that nobody can read.
    #[must_use]
    pub fn excess(&self) -> Option<&'static str> {
        let Self::Transaction { operations } = self else {
            return self.excess_of_one();
        };
        if operations.len() > TRANSACTION_OPERATIONS_MAX {
            return Some("the transaction has too many operations: it may have 128");
        }
        if operations.iter().map(Self::bytes).fold(0, usize::saturating_add) > TRANSACTION_BYTES_MAX {
            return Some("the transaction is too large: it may have 2 MiB");
        }
        operations.iter().find_map(Self::excess_of_one)
    }

    fn excess_of_one(&self) -> Option<&'static str> {
        let Some((key, values)) = self.parts() else {
            return Some("a transaction in a transaction");
        };
        if key.canonical.as_ref().len().max(literal_len(key)) > KEY_BYTES_MAX {
            return Some("the key is too large: it may have 64 KiB");
        }
        values
            .into_iter()
            .flatten()
            .any(|value| value.as_ref().len() > VALUE_BYTES_MAX)
            .then_some("the value is too large: it may have 1 MiB")
    }

    /// The key that it is about; `None` of a transaction.
    #[must_use]
    pub fn key(&self) -> Option<&Key<B>> {
        self.parts().map(|(key, _)| key)
    }

    /// The bytes of its key, literal and values: what it counts for in [`TRANSACTION_BYTES_MAX`]. 0 of a transaction.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Some((key, values)) = self.parts() else {
            return 0;
        };
        let values = values.into_iter().flatten().map(|value| value.as_ref().len());
        values.fold(key.canonical.as_ref().len().saturating_add(literal_len(key)), usize::saturating_add)
    }

    /// The key and the values' bytes of one that is no transaction.
    fn parts(&self) -> Option<(&Key<B>, [Option<&B>; 2])> {
        match self {
            Self::Put { key, value } => Some((key, [Some(&value.0), None])),
            Self::Delete { key } | Self::Add { key, .. } => Some((key, [None, None])),
            Self::CompareAndSwap { key, expected, new } => Some((key, [Some(&expected.0), Some(&new.0)])),
            Self::Transaction { .. } => None,
        }
    }
}

fn literal_len<B: AsRef<[u8]>>(key: &Key<B>) -> usize {
    key.literal.as_ref().map_or(0, |literal| literal.as_ref().len())
}

impl QueryReply {
    /// What it counts for in [`SCAN_BYTES_MAX`]: keys, literals and values.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Value { value } => value.as_ref().map_or(0, |value| value.0.len()),
            Self::Page { pairs, .. } => pairs.iter().map(Pair::bytes).fold(0, usize::saturating_add),
            Self::Several { replies } => replies.iter().map(Self::bytes).fold(0, usize::saturating_add),
            Self::Size { .. } | Self::Written { .. } | Self::Malformed { .. } => 0,
        }
    }
}
