//! The KV machine as a [`Model`]: of one key, as no operation here touches two.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;

use bytes::Bytes;
use raft_kv::{Outcome, Value};

use super::{CONFIGURATIONS_MAX, KeyError, Model, Operation, check_as};

/// One key of the KV machine. Values are equal where their bytes are.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvModel;

/// What is done with a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvInput {
    /// Stores this.
    Put(Bytes),
    /// Removes what is there.
    Delete,
    /// Stores `new` where `expected` is there.
    CompareAndSwap {
        /// What must be there.
        expected: Bytes,
        /// What to store then.
        new: Bytes,
    },
    /// Reads.
    Get,
}

/// What is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvOutput {
    /// [`KvInput::Put`] stored it.
    Success,
    /// [`KvInput::Delete`] removed it.
    Deleted {
        /// Something was there.
        existed: bool,
    },
    /// [`KvInput::CompareAndSwap`] stored `new`.
    Swapped,
    /// [`KvInput::CompareAndSwap`] changed nothing.
    NotSwapped {
        /// What is there instead of `expected`.
        actual: Option<Bytes>,
    },
    /// [`KvInput::Get`] found this.
    Value(Option<Bytes>),
}

/// What one client did with one key.
pub type KvOperation = Operation<KvInput, KvOutput>;

/// Whether what was done with each key, and told of it, is linearizable. No key is there in the beginning.
///
/// An operation whose answer leaves open whether it was applied counts as not returned. One that was certainly not
/// applied is none.
///
/// # Errors
/// It is not, for this key, or that is not known after [`CONFIGURATIONS_MAX`].
pub fn check_keys<K: Debug>(histories: &BTreeMap<K, Vec<KvOperation>>) -> Result<(), KeyError> {
    for (key, operations) in histories {
        let configurations = CONFIGURATIONS_MAX.saturating_add(operations.len() as u64);
        check_as(&KvModel, operations, &simplify(operations), configurations)
            .map_err(|error| KeyError { key: format!("{key:?}"), error })?;
    }
    Ok(())
}

impl Model for KvModel {
    type State = Option<Bytes>;
    type Input = KvInput;
    type Output = KvOutput;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, input: &KvInput, output: Option<&KvOutput>) -> Option<Self::State> {
        let (next, told) = match input {
            KvInput::Put(value) => (Some(value.clone()), output.is_none_or(|told| *told == KvOutput::Success)),
            KvInput::Delete => {
                let told = match output {
                    None => true,
                    Some(KvOutput::Deleted { existed }) => *existed == state.is_some(),
                    Some(_) => false,
                };
                (None, told)
            }
            KvInput::CompareAndSwap { expected, new } => {
                let swaps = state.as_ref() == Some(expected);
                let told = match output {
                    None => true,
                    Some(KvOutput::Swapped) => swaps,
                    Some(KvOutput::NotSwapped { actual }) => !swaps && actual == state,
                    Some(_) => false,
                };
                (if swaps { Some(new.clone()) } else { state.clone() }, told)
            }
            KvInput::Get => {
                let told = match output {
                    None => true,
                    Some(KvOutput::Value(value)) => value == state,
                    Some(_) => false,
                };
                (state.clone(), told)
            }
        };
        told.then_some(next)
    }

    fn only_reads(&self, input: &KvInput, output: Option<&KvOutput>) -> bool {
        let failed = matches!(output, Some(KvOutput::NotSwapped { .. } | KvOutput::Deleted { existed: false }));
        *input == KvInput::Get || failed
    }
}

/// What came of an operation on one key. A transaction is of several, and nobody here adds: those outcomes come back.
impl TryFrom<Outcome> for KvOutput {
    type Error = Outcome;

    fn try_from(outcome: Outcome) -> Result<Self, Outcome> {
        Ok(match outcome {
            Outcome::Success => Self::Success,
            Outcome::Deleted { existed } => Self::Deleted { existed },
            Outcome::Swapped => Self::Swapped,
            Outcome::NotSwapped { actual } => Self::NotSwapped { actual: actual.map(|Value(bytes)| bytes) },
            Outcome::Transaction { .. } | Outcome::Added { .. } | Outcome::NotAdded => return Err(outcome),
        })
    }
}

/// The same history with one value in the stead of all that are written and that nobody was told of or asked for. No
/// output tells them apart, so whatever order explains the one history explains the other; but the search has fewer
/// states to try, and all pending writes of such values are alike.
fn simplify(operations: &[KvOperation]) -> Vec<KvOperation> {
    let mut known = HashSet::new();
    for operation in operations {
        if let KvInput::CompareAndSwap { expected, .. } = &operation.input {
            known.insert(expected);
        }
        if let Some((_, KvOutput::NotSwapped { actual: Some(value) } | KvOutput::Value(Some(value)))) =
            &operation.returned
        {
            known.insert(value);
        }
    }
    let mut unknown = None;
    let mut write = |value: &Bytes| {
        if known.contains(value) { value.clone() } else { unknown.get_or_insert_with(|| value.clone()).clone() }
    };
    let input = |input: &KvInput| match input {
        KvInput::Put(value) => KvInput::Put(write(value)),
        KvInput::CompareAndSwap { expected, new } => {
            KvInput::CompareAndSwap { expected: expected.clone(), new: write(new) }
        }
        KvInput::Delete | KvInput::Get => input.clone(),
    };
    let inputs: Vec<_> = operations.iter().map(|operation| &operation.input).map(input).collect();
    let simple = |(operation, input): (&KvOperation, KvInput)| KvOperation { input, ..operation.clone() };
    operations.iter().zip(inputs).map(simple).collect()
}
