//! Small histories, each with a name for what is right or wrong about it.

use std::collections::BTreeMap;

use raft_kv::{Outcome, Value};
use raft_sim::linearizability::kv::{KvInput, KvModel, KvOperation, KvOutput, check_keys};
use raft_sim::linearizability::{CheckError, check, check_by_key, check_within};

use super::{bytes, did, is_linearizable, pending, verdict};

fn put(value: &str) -> KvInput {
    KvInput::Put(bytes(value))
}

fn swap(expected: &str, new: &str) -> KvInput {
    KvInput::CompareAndSwap { expected: bytes(expected), new: bytes(new) }
}

const GET: KvInput = KvInput::Get;
const DELETE: KvInput = KvInput::Delete;
const OK: KvOutput = KvOutput::Success;
const SWAPPED: KvOutput = KvOutput::Swapped;
const NOTHING: KvOutput = KvOutput::Value(None);

fn saw(value: &str) -> KvOutput {
    KvOutput::Value(Some(bytes(value)))
}

fn deleted(existed: bool) -> KvOutput {
    KvOutput::Deleted { existed }
}

fn kept(actual: Option<&str>) -> KvOutput {
    KvOutput::NotSwapped { actual: actual.map(bytes) }
}

#[track_caller]
fn good<const N: usize>(history: [KvOperation; N]) {
    if let Err(why) = verdict(&history) {
        panic!("{why}");
    }
}

/// It cannot be explained, and it is this operation that cannot.
#[track_caller]
fn bad<const N: usize>(stuck: usize, history: [KvOperation; N]) {
    let why = verdict(&history).expect_err("it is accepted");
    assert_eq!(why.stuck, stuck, "{why}");
}

#[test]
fn nothing_and_one_after_the_other() {
    good([]);
    good([did(1, GET, 0, 1, NOTHING)]);
    good([
        did(1, put("a"), 0, 1, OK),
        did(2, GET, 2, 3, saw("a")),
        did(1, swap("a", "b"), 4, 5, SWAPPED),
        did(2, swap("a", "c"), 6, 7, kept(Some("b"))),
        did(1, DELETE, 8, 9, deleted(true)),
        did(1, DELETE, 10, 11, deleted(false)),
        did(2, swap("b", "c"), 12, 13, kept(None)),
        did(2, GET, 14, 15, NOTHING),
    ]);
}

#[test]
fn the_order_of_the_slice_means_nothing() {
    good([did(2, GET, 2, 3, saw("a")), did(1, put("a"), 0, 1, OK)]);
}

#[test]
fn overlapping_operations_take_any_order() {
    good([did(1, put("a"), 0, 9, OK), did(2, GET, 1, 2, saw("a")), did(3, GET, 3, 4, saw("a"))]);
    good([did(1, put("a"), 0, 9, OK), did(2, GET, 1, 2, NOTHING), did(3, GET, 3, 4, saw("a"))]);
    good([did(1, put("a"), 0, 9, OK), did(2, put("b"), 0, 9, OK), did(3, GET, 10, 11, saw("a"))]);
    good([did(1, put("a"), 0, 9, OK), did(2, put("b"), 0, 9, OK), did(3, GET, 10, 11, saw("b"))]);
}

#[test]
fn what_touches_at_one_moment_overlaps() {
    good([did(1, put("a"), 0, 5, OK), did(2, GET, 5, 6, NOTHING)]);
    good([did(1, GET, 0, 5, saw("a")), did(2, put("a"), 5, 6, OK)]);
    bad(1, [did(1, put("a"), 0, 5, OK), did(2, GET, 6, 7, NOTHING)]);
    // An operation of no length, too.
    good([did(1, put("a"), 5, 5, OK), did(2, GET, 5, 5, NOTHING), did(3, GET, 5, 5, saw("a"))]);
}

#[test]
fn a_stale_read() {
    bad(2, [did(1, put("a"), 0, 1, OK), did(1, put("b"), 2, 3, OK), did(2, GET, 4, 5, saw("a"))]);
    bad(1, [did(1, put("a"), 0, 1, OK), did(2, GET, 2, 3, NOTHING)]);
}

#[test]
fn a_read_that_goes_back_behind_another() {
    bad(
        3,
        [
            did(1, put("a"), 0, 1, OK),
            did(1, put("b"), 2, 9, OK),
            did(2, GET, 3, 4, saw("b")),
            did(3, GET, 5, 6, saw("a")),
        ],
    );
}

#[test]
fn a_read_of_what_was_never_written() {
    bad(1, [did(1, put("a"), 0, 9, OK), did(2, GET, 1, 2, saw("c"))]);
    bad(1, [did(1, put("a"), 0, 1, OK), did(2, swap("b", "x"), 2, 3, kept(Some("c")))]);
}

#[test]
fn a_read_of_the_future() {
    bad(0, [did(2, GET, 0, 1, saw("a")), did(1, put("a"), 2, 3, OK)]);
}

#[test]
fn a_lost_update() {
    bad(2, [did(1, put("a"), 0, 1, OK), did(1, swap("a", "b"), 2, 3, SWAPPED), did(2, GET, 4, 5, saw("a"))]);
    // Both were told that they swapped the same value.
    bad(2, [did(1, put("a"), 0, 1, OK), did(1, swap("a", "b"), 2, 4, SWAPPED), did(2, swap("a", "c"), 2, 5, SWAPPED)]);
}

#[test]
fn a_write_that_is_applied_twice() {
    // The second `a` can only be the first one again, behind the swap.
    bad(2, [did(1, put("a"), 0, 1, OK), did(2, swap("a", "b"), 2, 3, SWAPPED), did(2, swap("a", "c"), 4, 5, SWAPPED)]);
    // A delete that is told of its own first application.
    bad(1, [did(1, put("a"), 0, 1, OK), did(1, DELETE, 2, 3, deleted(false))]);
    // A swap that its own first application made fail.
    bad(1, [did(1, put("a"), 0, 1, OK), did(1, swap("a", "b"), 2, 3, kept(Some("b")))]);
}

#[test]
fn two_clients_in_the_wrong_order() {
    bad(2, [did(1, put("a"), 0, 1, OK), did(2, put("b"), 2, 3, OK), did(3, GET, 4, 5, saw("a"))]);
    // Two readers that see two writes in different orders.
    bad(
        5,
        [
            did(1, put("a"), 0, 20, OK),
            did(2, put("b"), 0, 20, OK),
            did(3, GET, 1, 2, saw("a")),
            did(3, GET, 3, 4, saw("b")),
            did(4, GET, 3, 4, saw("b")),
            did(4, GET, 5, 6, saw("a")),
        ],
    );
}

#[test]
fn deletions_count_what_was_there() {
    good([did(1, put("a"), 0, 1, OK), did(1, DELETE, 2, 4, deleted(true)), did(2, DELETE, 2, 4, deleted(false))]);
    bad(2, [did(1, put("a"), 0, 1, OK), did(1, DELETE, 2, 4, deleted(true)), did(2, DELETE, 2, 5, deleted(true))]);
    bad(0, [did(1, DELETE, 0, 1, deleted(true))]);
}

#[test]
fn a_pending_write_takes_effect_later_or_never() {
    let lost = pending(1, put("a"), 0);
    good([lost.clone(), did(2, GET, 1, 2, NOTHING), did(2, GET, 50, 51, NOTHING)]);
    good([lost.clone(), did(2, GET, 1, 2, NOTHING), did(2, GET, 50, 51, saw("a"))]);
    good([lost.clone(), did(2, put("b"), 1, 2, OK), did(2, GET, 3, 4, saw("b")), did(2, GET, 5, 6, saw("a"))]);
    good([lost, did(2, DELETE, 1, 2, deleted(true))]);
    // But not before it began.
    bad(0, [did(2, GET, 0, 1, saw("a")), pending(1, put("a"), 2)]);
    // What ends when it begins overlaps it.
    good([did(2, GET, 0, 2, saw("a")), pending(1, put("a"), 2)]);
}

#[test]
fn a_pending_write_that_was_seen_stays() {
    let lost = pending(1, put("a"), 0);
    bad(2, [lost.clone(), did(2, GET, 1, 2, saw("a")), did(2, GET, 3, 4, NOTHING)]);
    // Nor does it come again.
    bad(3, [lost.clone(), did(2, GET, 1, 2, saw("a")), did(2, put("b"), 3, 4, OK), did(2, GET, 5, 6, saw("a"))]);
    // Two of them can.
    good([lost.clone(), lost, did(2, GET, 1, 2, saw("a")), did(2, put("b"), 3, 4, OK), did(2, GET, 5, 6, saw("a"))]);
}

#[test]
fn pending_writes_build_on_each_other() {
    good([
        pending(1, put("a"), 0),
        pending(2, swap("a", "b"), 0),
        pending(3, swap("b", "c"), 0),
        did(4, GET, 1, 2, saw("c")),
    ]);
    bad(2, [pending(1, put("a"), 0), pending(3, swap("b", "c"), 0), did(4, GET, 1, 2, saw("c"))]);
    // Deleted by one, though all that anybody wrote is there once.
    good([did(1, put("a"), 0, 1, OK), pending(2, DELETE, 2), did(3, GET, 3, 4, saw("a")), did(3, GET, 5, 6, NOTHING)]);
}

#[test]
fn writes_of_unseen_values_count_too() {
    let unseen = |n: u64| pending(1, put(&format!("unseen {n}")), n);
    let delete = |from| did(2, DELETE, from, from + 1, deleted(true));
    good([unseen(0), unseen(1), delete(2), delete(4)]);
    bad(4, [unseen(0), unseen(1), delete(2), delete(4), delete(6)]);
    // And only from where they begin.
    bad(2, [unseen(0), delete(2), did(2, DELETE, 3, 4, deleted(true)), unseen(5)]);
}

#[test]
fn pending_reads_say_nothing() {
    good([pending(1, GET, 0), did(2, put("a"), 1, 2, OK), did(2, GET, 3, 4, saw("a"))]);
}

#[test]
fn an_output_of_another_operation_is_impossible() {
    for (input, output) in [
        (put("a"), NOTHING),
        (put("a"), SWAPPED),
        (DELETE, OK),
        (GET, OK),
        (swap("a", "b"), OK),
        (swap("a", "b"), SWAPPED),
    ] {
        bad(0, [did(1, input, 0, 1, output)]);
    }
}

#[test]
fn a_report_shows_what_can_be_explained_and_what_cannot() {
    let history = [
        did(1, put("a"), 0, 1_000, OK),
        did(1, put("b"), 2_000, 9_000, OK),
        did(2, GET, 3_000, 4_000, saw("b")),
        pending(4, DELETE, 4_500),
        did(3, GET, 5_000, 6_000, saw("a")),
    ];
    let why = verdict(&history).expect_err("it is accepted");
    assert_eq!((why.order.as_slice(), why.stuck, why.unplaced.as_slice()), ([0, 1, 2].as_slice(), 4, [].as_slice()));
    assert_eq!(
        why.to_string(),
        "\
not linearizable: nothing explains
  #4 client 3, 0.005000 to 0.006000 s: Get -> Value(Some(b\"a\"))
The last 3 of the 3 operations before it, in an order that explains them:
  #0 client 1, 0.000000 to 0.001000 s: Put(b\"a\") -> Success
  #1 client 1, 0.002000 to 0.009000 s: Put(b\"b\") -> Success
  #2 client 2, 0.003000 to 0.004000 s: Get -> Value(Some(b\"b\"))
They lead to the state Some(b\"b\")."
    );

    let history = [did(1, GET, 0, 5, saw("a")), did(2, GET, 1, 6, saw("b")), did(3, put("c"), 6, 7, OK)];
    let why = verdict(&history).expect_err("it is accepted");
    assert_eq!((why.order.len(), why.stuck, why.unplaced.as_slice()), (0, 0, [1].as_slice()));
    assert_eq!(
        why.to_string(),
        "\
not linearizable: nothing explains
  #0 client 1, 0.000000 to 0.000005 s: Get -> Value(Some(b\"a\"))
in the beginning, when the state is None.
Nor can these come next, which began before it ended:
  #1 client 2, 0.000001 to 0.000006 s: Get -> Value(Some(b\"b\"))"
    );
}

#[test]
fn each_key_is_alone_and_the_wrong_one_is_named() {
    let right = vec![did(1, put("a"), 0, 1, OK), did(1, GET, 2, 3, saw("a"))];
    let wrong = vec![did(1, GET, 2, 3, saw("a"))];
    let keys = BTreeMap::from([("k1", right.clone()), ("k2", wrong), ("k3", right)]);
    let error = check_keys(&keys).expect_err("it is accepted");
    assert_eq!(error.key, "\"k2\"");
    assert!(error.to_string().starts_with("key \"k2\": not linearizable: nothing explains\n  #0 client 1"), "{error}");
    let slices = || keys.iter().map(|(key, history)| (*key, history.as_slice()));
    assert_eq!(check_by_key(&KvModel, slices()).expect_err("it is accepted").key, "k2");
    assert_eq!(check_by_key(&KvModel, slices().filter(|(key, _)| *key != "k2")), Ok(()));
}

#[test]
fn what_would_take_too_long_is_undecided() {
    // No order of these lets the read see what it saw, and each order is another.
    let mut history: Vec<_> = (0..12).map(|n: u32| did(n, put(&n.to_string()), 0, 9, OK)).collect();
    history.push(did(20, GET, 10, 11, saw("x")));
    assert_eq!(check_within(&KvModel, &history, 1_000), Err(CheckError::Undecided { configurations: 1_000 }));
    assert!(!is_linearizable(&history));
    history.pop();
    assert_eq!(check_within(&KvModel, &history, 12), Ok(()));
    assert_eq!(check_within(&KvModel, &history, 11), Err(CheckError::Undecided { configurations: 11 }));
    assert_eq!(check(&KvModel, &history), Ok(()));
}

#[test]
fn outcomes_of_the_machine_are_outputs() {
    let outcomes = [
        (Outcome::Success, OK),
        (Outcome::Deleted { existed: true }, deleted(true)),
        (Outcome::Swapped, SWAPPED),
        (Outcome::NotSwapped { actual: None }, kept(None)),
        (Outcome::NotSwapped { actual: Some(Value(bytes("a"))) }, kept(Some("a"))),
    ];
    for (outcome, output) in outcomes {
        assert_eq!(KvOutput::try_from(outcome), Ok(output));
    }
    let transaction = Outcome::Transaction { committed: true, outcomes: vec![Outcome::Success] };
    assert_eq!(KvOutput::try_from(transaction.clone()), Err(transaction));
}
