//! The checker against the definition, and against another checker: same verdicts on random small histories, of which
//! many are linearizable and many are not.

use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use raft_sim::linearizability::kv::{KvInput, KvOperation, KvOutput};
use raft_sim::rng;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::histories::{Shape, apply, truth, with_a_lie};
use super::{bytes, did, is_linearizable, pending};

/// An operation at any time, by any client, with any output.
fn anything() -> impl Strategy<Value = KvOperation> {
    let value = || (0..2_u32).prop_map(|value| bytes(&value.to_string()));
    let maybe = || prop::option::of(value());
    let asked = prop_oneof![
        value().prop_map(|value| (KvInput::Put(value), KvOutput::Success)),
        any::<bool>().prop_map(|existed| (KvInput::Delete, KvOutput::Deleted { existed })),
        (value(), value()).prop_map(|(expected, new)| (KvInput::CompareAndSwap { expected, new }, KvOutput::Swapped)),
        (value(), value(), maybe()).prop_map(|(expected, new, actual)| {
            (KvInput::CompareAndSwap { expected, new }, KvOutput::NotSwapped { actual })
        }),
        maybe().prop_map(|value| (KvInput::Get, KvOutput::Value(value))),
        maybe().prop_map(|value| (KvInput::Get, KvOutput::Value(value))),
    ];
    (asked, 0..12_u64, 0..9_u64, 0..5_u8).prop_map(|((input, output), from, length, lost)| match lost {
        0 => pending(0, input, from),
        _ => did(0, input, from, from + length, output),
    })
}

/// Up to six of those; or a true history of up to six with a lie in it, half of the time.
fn small() -> impl Strategy<Value = Vec<KvOperation>> {
    let shaped = (any::<u64>(), 1..7_usize, any::<bool>()).prop_map(|(seed, operations, lie)| {
        let mut rng = rng(seed, "small");
        let shape = Shape {
            operations,
            clients: 3,
            values: Some(2),
            pending: 200,
            puts: 350,
            deletes: 150,
            swaps: 200,
            apart: false,
        };
        let history = truth(&mut rng, shape);
        if lie { with_a_lie(&mut rng, history) } else { history }
    });
    prop_oneof![prop::collection::vec(anything(), 0..7), shaped]
}

/// The definition: some pending operations happened, and some order of all that did happen respects time and gives every
/// output.
fn by_definition(history: &[KvOperation]) -> bool {
    let completed = history.iter().filter(|operation| operation.returned.is_some());
    let pending: Vec<_> = history.iter().filter(|operation| operation.returned.is_none()).collect();
    (0..1_usize << pending.len()).any(|happened| {
        let chosen = pending.iter().enumerate().filter(|(at, _)| happened >> at & 1 == 1).map(|(_, one)| *one);
        let mut order: Vec<_> = completed.clone().chain(chosen).collect();
        let all = order.len();
        any_permutation(&mut order, all, &|order| respects_time(order) && gives_every_output(order))
    })
}

/// Heap's algorithm.
fn any_permutation<T>(items: &mut [T], length: usize, holds: &impl Fn(&[T]) -> bool) -> bool {
    if length <= 1 {
        return holds(items);
    }
    (0..length).any(|at| {
        let found = any_permutation(items, length - 1, holds);
        items.swap(if length.is_multiple_of(2) { at } else { 0 }, length - 1);
        found
    })
}

fn respects_time(order: &[&KvOperation]) -> bool {
    let ended_before = |one: &KvOperation, other: &KvOperation| {
        one.returned.as_ref().is_some_and(|(returned, _)| *returned < other.invoked)
    };
    (0..order.len()).all(|at| order[at..].iter().all(|later| !ended_before(later, order[at])))
}

fn gives_every_output(order: &[&KvOperation]) -> bool {
    let mut state = None;
    order.iter().all(|operation| {
        let output = apply(&mut state, &operation.input);
        operation.returned.as_ref().is_none_or(|(_, told)| *told == output)
    })
}

/// Both verdicts are common: an oracle that always agrees tells nothing.
fn compare(cases: u32, strategy: impl Strategy<Value = Vec<KvOperation>>, oracle: impl Fn(&[KvOperation]) -> bool) {
    let (right, wrong) = (Cell::new(0), Cell::new(0));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |history| {
        let linearizable = oracle(&history);
        let count = if linearizable { &right } else { &wrong };
        count.set(count.get() + 1);
        if is_linearizable(&history) == linearizable {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!("the oracle says {linearizable}")))
        }
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let (right, wrong) = (right.get(), wrong.get());
    assert!(right > cases / 4 && wrong > cases / 4, "{right} are linearizable, {wrong} are not");
}

#[test]
fn the_verdict_is_that_of_the_definition() {
    compare(1_500, small(), by_definition);
}

/// One key of the KV machine, as that checker wants it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Machine(Option<Bytes>);

impl SequentialSpec for Machine {
    type Op = KvInput;
    type Ret = KvOutput;

    fn invoke(&mut self, input: &KvInput) -> KvOutput {
        apply(&mut self.0, input)
    }
}

/// One after the other, each client; what it does not hear the end of is its last. No two events at one moment.
fn sequential() -> impl Strategy<Value = Vec<KvOperation>> {
    (any::<u64>(), 1..13_usize, 0..6_u32).prop_map(|(seed, operations, lies)| {
        let mut rng = rng(seed, "sequential");
        let shape = Shape {
            operations,
            clients: 3,
            values: Some(3),
            pending: 60,
            puts: 300,
            deletes: 100,
            swaps: 250,
            apart: true,
        };
        let mut history = truth(&mut rng, shape);
        for _ in 0..lies {
            history = with_a_lie(&mut rng, history);
        }
        // Whoever lost one is another client from there on.
        let lost: Vec<_> = history.iter().filter(|one| one.returned.is_none()).cloned().collect();
        for one in &mut history {
            let before = |lost: &&KvOperation| lost.client == one.client && lost.invoked < one.invoked;
            one.client += 3 * u32::try_from(lost.iter().filter(before).count()).unwrap_or(0);
        }
        history
    })
}

fn by_stateright(history: &[KvOperation]) -> bool {
    let mut events = Vec::new();
    for operation in history {
        events.push((operation.invoked, operation, None));
        events.extend(operation.returned.as_ref().map(|(returned, output)| (*returned, operation, Some(output))));
    }
    events.sort_by_key(|(time, _, _)| *time);
    let mut tester = LinearizabilityTester::new(Machine::default());
    for (_, operation, output) in events {
        match output {
            None => tester.on_invoke(operation.client, operation.input.clone()),
            Some(output) => tester.on_return(operation.client, output.clone()),
        }
        .expect("the history is none");
    }
    tester.is_consistent()
}

#[test]
fn the_verdict_is_that_of_another_checker() {
    compare(1_500, sequential(), by_stateright);
}
