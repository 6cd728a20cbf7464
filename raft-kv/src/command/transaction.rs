//! Reads what a transaction carries: one level of it, and no more.
//!
//! [`Operation`] and [`Outcome`] name themselves in their last variant, so their bytes can claim any depth. Here the
//! elements of a transaction are read by types that do not have that variant: what nests is refused before it takes
//! any of the stack.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Key, Operation, Outcome, Value};

pub(super) fn operations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Operation>, D::Error> {
    elements::<OneOperation, _, _>(deserializer)
}

pub(super) fn outcomes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Outcome>, D::Error> {
    elements::<OneOutcome, _, _>(deserializer)
}

/// Every variant of [`Operation`] but the last, in its order.
#[derive(Deserialize)]
#[serde(remote = "Operation")]
enum FlatOperation {
    Put { key: Key, value: Value },
    Delete { key: Key },
    CompareAndSwap { key: Key, expected: Value, new: Value },
}

/// Every variant of [`Outcome`] but the last, in its order.
#[derive(Deserialize)]
#[serde(remote = "Outcome")]
enum FlatOutcome {
    Success,
    Deleted { existed: bool },
    Swapped,
    NotSwapped { actual: Option<Value> },
}

#[derive(Deserialize)]
struct OneOperation(#[serde(with = "FlatOperation")] Operation);

#[derive(Deserialize)]
struct OneOutcome(#[serde(with = "FlatOutcome")] Outcome);

impl From<OneOperation> for Operation {
    fn from(one: OneOperation) -> Self {
        one.0
    }
}

impl From<OneOutcome> for Outcome {
    fn from(one: OneOutcome) -> Self {
        one.0
    }
}

fn elements<'de, E, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    E: Deserialize<'de> + Into<T>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Elements::<E, T>(PhantomData))
}

struct Elements<E, T>(PhantomData<(E, T)>);

impl<'de, E: Deserialize<'de> + Into<T>, T> Visitor<'de> for Elements<E, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the elements of one transaction, none of them a transaction")
    }

    /// Reserves nothing by the length that the bytes claim.
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element::<E>()? {
            elements.push(element.into());
        }
        Ok(elements)
    }
}
