//! What clients asked and were told, by key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_kv::{Operation, Outcome, Pair, Query, QueryReply, Value};

use super::mix::name;
use super::words;
use crate::linearizability::kv::{KvInput, KvOperation, KvOutput};
use crate::time::Time;

/// All that ended, by key.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// The keys that a scan may find, in their order.
    scanned: Vec<Bytes>,
    keys: BTreeMap<Bytes, Vec<KvOperation>>,
}

/// Who asked, and when first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) client: u32,
    pub(super) at: Time,
}

impl History {
    pub(super) fn new(scanned: Vec<Bytes>) -> Self {
        Self { scanned, keys: BTreeMap::new() }
    }

    pub(super) fn into_keys(self) -> BTreeMap<Bytes, Vec<KvOperation>> {
        self.keys
    }

    /// A write that may have been applied, or may be yet.
    pub(super) fn wrote_perhaps(&mut self, asked: Asked, operation: &Operation) {
        if let Operation::Transaction { operations } = operation {
            // If it happens, it commits: then each of these does what it does by itself.
            for operation in operations {
                self.wrote_perhaps(asked, operation);
            }
        } else if let Some((key, input)) = input(operation) {
            self.add(asked, key, input, None);
        }
    }

    /// A write that was answered.
    ///
    /// # Errors
    /// That is no answer to it.
    pub(super) fn wrote(
        &mut self,
        asked: Asked,
        operation: &Operation,
        now: Time,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let done = match (operation, outcome) {
            (Operation::Transaction { operations }, Outcome::Transaction { committed: true, outcomes }) => {
                operations.len() == outcomes.len()
                    && operations
                        .iter()
                        .zip(outcomes)
                        .all(|(operation, outcome)| self.wrote_one(asked, operation, now, outcome))
            }
            (Operation::Transaction { operations }, Outcome::Transaction { committed: false, outcomes }) => {
                self.gave_up(asked, operations, now, outcomes)
            }
            (operation, outcome) => self.wrote_one(asked, operation, now, outcome),
        };
        if done {
            return Ok(());
        }
        Err(format!("{} was answered: {outcome}", words::operation(operation)))
    }

    /// A read that was answered.
    ///
    /// # Errors
    /// That is no answer to it.
    pub(super) fn read(&mut self, asked: Asked, query: &Query, now: Time, reply: &QueryReply) -> Result<(), String> {
        match (query, reply) {
            (Query::Get { key }, QueryReply::Value { value }) => {
                self.found(asked, key.clone(), now, value.as_ref());
                Ok(())
            }
            (Query::Scan { prefix, after, limit }, QueryReply::Page { pairs, more }) => {
                let range = Range { prefix: prefix.as_deref().unwrap_or_default(), after: after.as_deref() };
                let ordered = pairs.is_sorted_by(|a, b| a.key.canonical < b.key.canonical);
                let fits = pairs.len() <= usize::try_from(*limit).unwrap_or(usize::MAX) && (!more || !pairs.is_empty());
                if ordered && fits && self.scanned(asked, range, now, pairs, *more) {
                    return Ok(());
                }
                Err(format!("{} was answered: {}", words::query(query), words::found(reply)))
            }
            _ => Err(format!("{} was answered: {}", words::query(query), words::found(reply))),
        }
    }

    /// Every key of the page is there with its value, every other key of its range is not.
    fn scanned(&mut self, asked: Asked, range: Range<'_>, now: Time, pairs: &[Pair], more: bool) -> bool {
        let end = pairs.last().filter(|_| more).map(|pair| pair.key.canonical.clone());
        let within = |key: &Bytes| range.contains(key) && end.as_ref().is_none_or(|end| key <= end);
        let keys: Vec<Bytes> = self.scanned.iter().filter(|key| within(key)).cloned().collect();
        let mut found = pairs.iter().peekable();
        for key in keys {
            let pair = found.next_if(|pair| pair.key.canonical == key);
            self.found(asked, key, now, pair.map(|pair| &pair.value));
        }
        // What is left is out of the range, or was never written.
        found.next().is_none()
    }

    fn wrote_one(&mut self, asked: Asked, operation: &Operation, now: Time, outcome: &Outcome) -> bool {
        let Some((key, input)) = input(operation) else {
            return false;
        };
        let Some(output) = output(&input, outcome) else {
            return false;
        };
        self.add(asked, key, input, Some((now, output)));
        true
    }

    /// A transaction that did nothing. What it told of a key is what was there, if it had not touched that key before.
    fn gave_up(&mut self, asked: Asked, operations: &[Operation], now: Time, outcomes: &[Outcome]) -> bool {
        let failed = outcomes.iter().position(|outcome| matches!(outcome, Outcome::NotSwapped { .. }));
        if outcomes.len() > operations.len() || failed.is_none_or(|failed| failed + 1 != outcomes.len()) {
            return false;
        }
        let mut touched = BTreeSet::new();
        for (operation, outcome) in operations.iter().zip(outcomes) {
            let Some((key, input)) = input(operation) else {
                return false;
            };
            let Some(output) = output(&input, outcome) else {
                return false;
            };
            if !touched.insert(key.clone()) {
                continue;
            }
            let there = match (input, output) {
                (KvInput::CompareAndSwap { expected, .. }, KvOutput::Swapped) => Some(expected),
                (KvInput::CompareAndSwap { expected, .. }, KvOutput::NotSwapped { actual }) => {
                    if actual.as_ref() == Some(&expected) {
                        return false;
                    }
                    actual
                }
                (KvInput::Delete, KvOutput::Deleted { existed: false }) => None,
                _ => continue,
            };
            self.add(asked, key, KvInput::Get, Some((now, KvOutput::Value(there))));
        }
        true
    }

    fn found(&mut self, asked: Asked, key: Bytes, now: Time, value: Option<&Value>) {
        let output = KvOutput::Value(value.map(name));
        self.add(asked, key, KvInput::Get, Some((now, output)));
    }

    fn add(&mut self, asked: Asked, key: Bytes, input: KvInput, returned: Option<(Time, KvOutput)>) {
        let operation = KvOperation { client: asked.client, input, invoked: asked.at, returned };
        self.keys.entry(key).or_default().push(operation);
    }
}

/// What a scan looks at.
#[derive(Clone, Copy, Debug)]
struct Range<'a> {
    prefix: &'a [u8],
    after: Option<&'a [u8]>,
}

impl Range<'_> {
    fn contains(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }
}

/// What an operation that is no transaction does with its key.
fn input(operation: &Operation) -> Option<(Bytes, KvInput)> {
    let (key, input) = match operation {
        Operation::Put { key, value } => (key, KvInput::Put(name(value))),
        Operation::Delete { key } => (key, KvInput::Delete),
        Operation::CompareAndSwap { key, expected, new } => {
            (key, KvInput::CompareAndSwap { expected: name(expected), new: name(new) })
        }
        // Nobody here adds.
        Operation::Transaction { .. } | Operation::Add { .. } => return None,
    };
    Some((key.canonical.clone(), input))
}

/// What is told of it, if that is something to tell of it.
fn output(input: &KvInput, outcome: &Outcome) -> Option<KvOutput> {
    match (input, outcome) {
        (KvInput::Put(_), Outcome::Success) => Some(KvOutput::Success),
        (KvInput::Delete, Outcome::Deleted { existed }) => Some(KvOutput::Deleted { existed: *existed }),
        (KvInput::CompareAndSwap { .. }, Outcome::Swapped) => Some(KvOutput::Swapped),
        (KvInput::CompareAndSwap { .. }, Outcome::NotSwapped { actual }) => {
            Some(KvOutput::NotSwapped { actual: actual.as_ref().map(name) })
        }
        _ => None,
    }
}
