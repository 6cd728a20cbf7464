//! The store: an ordered map from canonical keys to what stands under them, its sum, and what operations do to it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;
use raft_core::LogIndex;

use super::SameValue;
use super::canonical::Canonical;
use super::frozen::Frozen;
use super::sum::PairSum;
use crate::command::{Key, Operation, Outcome, Pair, QueryReply, SCAN_BYTES_MAX, SCAN_PAIRS_MAX, Value};

/// Canonical keys and what is under them.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) pairs: BTreeMap<Canonical, Stored>,
    /// Invariant: the sum of `pairs`.
    pub(super) sum: PairSum,
    /// For a snapshot that was begun and has not ended.
    pub(super) frozen: Option<Frozen>,
}

/// What is under a key.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The literal, where there is one, and the value behind it: one allocation for both.
    bytes: Box<[u8]>,
    /// `None` where there is no literal.
    literal_bytes: Option<u32>,
    /// The block that wrote it last.
    pub(super) written: LogIndex,
    /// What the pair counts for in the store's sum, so that it is hashed once. 0 until it is there.
    pub(super) hash: u128,
}

impl Stored {
    /// A literal is at most as long as what the codec reads, so its length fits.
    pub(super) fn new(literal: Option<&[u8]>, value: &[u8], written: LogIndex) -> Self {
        let bytes = [literal.unwrap_or_default(), value].concat().into();
        let literal_bytes = literal.map(|literal| u32::try_from(literal.len()).unwrap_or(u32::MAX));
        Self { bytes, literal_bytes, written, hash: 0 }
    }

    pub(super) fn literal(&self) -> Option<&[u8]> {
        self.literal_bytes.map(|_| self.parts().0)
    }

    pub(super) fn value(&self) -> &[u8] {
        self.parts().1
    }

    /// The literal, where there is one, and the value behind it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// In place, where the new value is as long as the old one.
    pub(super) fn set_value(&mut self, value: &[u8]) {
        let literal_bytes = self.parts().0.len();
        match self.bytes.get_mut(literal_bytes..) {
            Some(before) if before.len() == value.len() => before.copy_from_slice(value),
            _ => self.bytes = [self.parts().0, value].concat().into(),
        }
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let literal_bytes = self.literal_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        self.bytes.split_at_checked(literal_bytes).unwrap_or_default()
    }
}

impl Store {
    /// Does what the block at this height asks for.
    pub(super) fn perform(&mut self, operation: Operation<&[u8]>, at: LogIndex, same: SameValue) -> Outcome {
        if let (Some(frozen), Some(Key { canonical, .. })) = (&mut self.frozen, operation.key()) {
            frozen.keep(canonical, &self.pairs);
        }
        match operation {
            Operation::Put { key, value } => {
                self.put(key, value.0, at);
                Outcome::Success
            }
            Operation::Delete { key } if raft_core::bug!(DeleteKeepsKey) => {
                Outcome::Deleted { existed: self.pairs.contains_key(key.canonical) }
            }
            Operation::Delete { key } => Outcome::Deleted { existed: self.remove(key.canonical) },
            Operation::CompareAndSwap { key, expected, new } => match self.pairs.get_mut(key.canonical) {
                Some(stored) if same(stored.value(), expected.0) || raft_core::bug!(SwapIgnoresExpected) => {
                    self.sum.change(key.canonical, stored, new.0, at);
                    Outcome::Swapped
                }
                Some(stored) => {
                    raft_core::mark!(SwapRefused);
                    Outcome::NotSwapped { actual: Some(owned_value(stored)) }
                }
                None => Outcome::NotSwapped { actual: None },
            },
            Operation::Transaction { operations } => self.transact(operations, at, same),
            Operation::Add { key, amount } => {
                let stored = self.get(key.canonical);
                let Some((sum, value)) = Value::plus(stored.map(Stored::value), amount) else {
                    return Outcome::NotAdded;
                };
                self.put(key, &value.0, at);
                Outcome::Added { sum }
            }
        }
    }

    /// What is under the key of these canonical bytes.
    pub(super) fn get(&self, canonical: &[u8]) -> Option<&Stored> {
        // To look for a short key by its words takes less.
        match Canonical::short(canonical) {
            Some(short) => self.pairs.get(&short),
            None => self.pairs.get(canonical),
        }
    }

    fn put(&mut self, Key { canonical, literal }: Key<&[u8]>, value: &[u8], at: LogIndex) {
        match self.pairs.entry(canonical.into()) {
            Entry::Occupied(mut stored) => self.sum.change(canonical, stored.get_mut(), value, at),
            Entry::Vacant(place) => {
                let stored = place.insert(Stored::new(literal, value, at));
                self.sum.add(canonical, stored);
            }
        }
    }

    fn transact(&mut self, operations: Vec<Operation<&[u8]>>, at: LogIndex, same: SameValue) -> Outcome {
        let mut outcomes = Vec::with_capacity(operations.len());
        // Nothing else undoes what was done before it.
        let is_swap = |operation: &Operation<_>| matches!(operation, Operation::CompareAndSwap { .. });
        let last_swap = operations.iter().rposition(is_swap).unwrap_or(0);
        // One copy a key: a few bytes may name a large value many times.
        let mut before: BTreeMap<&[u8], Option<Stored>> = BTreeMap::new();
        for (place, operation) in operations.into_iter().enumerate() {
            if let Some(Key { canonical, .. }) = operation.key().filter(|_| place < last_swap) {
                before.entry(canonical).or_insert_with(|| self.get(canonical).cloned());
            }
            outcomes.push(self.perform(operation, at, same));
            if let Some(Outcome::NotSwapped { .. }) = outcomes.last() {
                self.put_back(before);
                return Outcome::Transaction { committed: false, outcomes };
            }
        }
        Outcome::Transaction { committed: true, outcomes }
    }

    /// Undoes what was done since these were there.
    fn put_back(&mut self, before: BTreeMap<&[u8], Option<Stored>>) {
        for (canonical, stored) in before {
            match stored {
                Some(stored) => self.insert(canonical.into(), stored),
                None => _ = self.remove(canonical),
            }
        }
    }

    /// In place of what is there.
    pub(super) fn insert(&mut self, canonical: Canonical, mut stored: Stored) {
        self.sum.add(&canonical, &mut stored);
        if let Some(before) = self.pairs.insert(canonical, stored) {
            self.sum.take(&before);
        }
    }

    /// Whether there was something.
    fn remove(&mut self, canonical: &[u8]) -> bool {
        let removed = self.pairs.remove(canonical);
        if let Some(stored) = &removed {
            self.sum.take(stored);
        }
        removed.is_some()
    }

    pub(super) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> QueryReply {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self.pairs.range::<[u8], _>((start, Bound::Unbounded));
        let pairs_max = usize::try_from(limit.clamp(1, SCAN_PAIRS_MAX)).unwrap_or(usize::MAX);
        let mut pairs = Vec::new();
        let mut bytes = 0_usize;
        let more = loop {
            let Some((canonical, stored)) = found.next().filter(|(canonical, _)| canonical.starts_with(prefix)) else {
                break false;
            };
            bytes = bytes.saturating_add(canonical.len()).saturating_add(stored.bytes().len());
            if !pairs.is_empty() && (pairs.len() >= pairs_max || bytes > SCAN_BYTES_MAX) {
                break true;
            }
            pairs.push(pair((canonical, stored)));
        };
        QueryReply::Page { pairs, more }
    }
}

/// A copy, for somebody else.
pub(super) fn pair((canonical, stored): (&Canonical, &Stored)) -> Pair {
    let literal = stored.literal().map(Bytes::copy_from_slice);
    Pair { key: Key { canonical: Bytes::copy_from_slice(canonical), literal }, value: owned_value(stored) }
}

/// A copy, for somebody else.
pub(super) fn owned_value(stored: &Stored) -> Value {
    Value(Bytes::copy_from_slice(stored.value()))
}
