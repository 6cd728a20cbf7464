//! Histories of thousands of operations: true ones are accepted, and refused as soon as one read is changed.

use raft_sim::linearizability::kv::{KvInput, KvModel, KvOperation, KvOutput};
use raft_sim::linearizability::{CheckError, check_within};
use raft_sim::{Time, rng};
use rand::RngExt;

use super::histories::{Shape, truth, written};
use super::{bytes, did, is_linearizable, pending, verdict};

const SHAPE: Shape = Shape {
    operations: 4_000,
    clients: 5,
    values: None,
    pending: 10,
    puts: 300,
    deletes: 50,
    swaps: 150,
    apart: false,
};

/// Many are needed only where the search goes astray: an honest history takes little more than one an operation.
fn assert_easy(history: &[KvOperation]) {
    let limit = 100 * history.len() as u64;
    assert_eq!(check_within(&KvModel, history, limit), Ok(()));
}

/// The reads that saw something, and when they began.
fn reads(history: &[KvOperation]) -> Vec<(usize, Time)> {
    let is_read = |one: &KvOperation| matches!(one.returned, Some((_, KvOutput::Value(_))));
    (0..history.len()).filter(|at| is_read(&history[*at])).map(|at| (at, history[at].invoked)).collect()
}

fn tell(history: &mut [KvOperation], read: usize, value: &bytes::Bytes) -> Option<KvOutput> {
    let (_, output) = history[read].returned.as_mut()?;
    Some(std::mem::replace(output, KvOutput::Value(Some(value.clone()))))
}

#[test]
fn true_histories_are_accepted() {
    for seed in 0..8 {
        assert_easy(&truth(&mut rng(seed, "large"), SHAPE));
        assert_easy(&truth(&mut rng(seed, "few values"), Shape { values: Some(3), ..SHAPE }));
        assert_easy(&truth(&mut rng(seed, "few clients"), Shape { clients: 3, pending: 100, ..SHAPE }));
    }
    assert_easy(&truth(&mut rng(0, "very large"), Shape { operations: 40_000, ..SHAPE }));
}

#[test]
fn a_read_of_what_nobody_wrote_is_found() {
    let mut rng = rng(1, "what nobody wrote");
    for _ in 0..8 {
        let mut history = truth(&mut rng, SHAPE);
        let reads = reads(&history);
        let (read, _) = reads[rng.random_range(0..reads.len())];
        tell(&mut history, read, &bytes("nobody"));
        let why = verdict(&history).expect_err("it is accepted");
        assert_eq!(why.stuck, read);
        let ended_before = |one: &&KvOperation| {
            let ends = |one: &KvOperation| one.returned.as_ref().map(|(at, _)| *at);
            ends(one).is_some_and(|end| Some(end) < ends(&history[read]))
        };
        assert!(why.order.len() >= history.iter().filter(ended_before).count());
    }
}

#[test]
fn a_read_of_what_was_overwritten_long_ago_is_found() {
    let mut rng = rng(2, "overwritten");
    let mut changed = 0;
    for _ in 0..8 {
        let mut history = truth(&mut rng, SHAPE);
        let reads = reads(&history);
        let (read, began) = reads[rng.random_range(reads.len() / 2..reads.len())];
        // Written and over long before; unique, so seen again by nobody who is right.
        let old = history.iter().find(|one| {
            matches!(one.input, KvInput::Put(_)) && one.returned.as_ref().is_some_and(|(end, _)| end.times(2) < began)
        });
        let Some(value) = old.and_then(|one| written(&one.input)) else { continue };
        tell(&mut history, read, &value);
        let why = verdict(&history).expect_err("it is accepted");
        assert_eq!(why.stuck, read);
        changed += 1;
    }
    assert!(changed > 4, "{changed}");
}

#[test]
fn a_swap_that_did_not_happen_is_found() {
    let mut rng = rng(3, "swaps");
    let mut changed = 0;
    for _ in 0..8 {
        let mut history = truth(&mut rng, SHAPE);
        let failed = |one: &KvOperation| matches!(one.returned, Some((_, KvOutput::NotSwapped { .. })));
        let Some(at) = history.iter().rposition(failed) else { continue };
        // It expects what is there no more, or had not been there yet.
        let KvInput::CompareAndSwap { expected, .. } = &mut history[at].input else { continue };
        *expected = bytes("nobody");
        if let Some((_, output)) = &mut history[at].returned {
            *output = KvOutput::Swapped;
        }
        assert!(!is_linearizable(&history));
        changed += 1;
    }
    assert!(changed > 4, "{changed}");
}

#[test]
fn many_pending_writes_are_no_trouble() {
    let put = |value: String| KvInput::Put(bytes(&value));
    // Each of these may come at any time; some are seen.
    let mut history: Vec<_> = (0..200).map(|n| pending(n, put(n.to_string()), u64::from(n))).collect();
    for n in 0..200_u64 {
        let at = 1_000 + 10 * n;
        let seen = if n % 3 == 0 { n.to_string() } else { format!("own {n}") };
        history.push(did(500, put(format!("own {n}")), at, at + 2, KvOutput::Success));
        history.push(did(500, KvInput::Get, at + 4, at + 6, KvOutput::Value(Some(bytes(&seen)))));
    }
    assert_easy(&history);
    // And what is wrong is still found: this one was seen before.
    history.push(did(501, KvInput::Get, 9_000, 9_001, KvOutput::Value(Some(bytes("30")))));
    let why = verdict(&history).expect_err("it is accepted");
    assert_eq!(why.stuck, history.len() - 1);
    history.pop();
    // As many as could have been deleted were.
    let unseen = (0..200).filter(|n| n % 3 != 0).count();
    for n in 0..=unseen {
        let at = 9_000 + 10 * n as u64;
        history.push(did(501, KvInput::Delete, at, at + 1, KvOutput::Deleted { existed: true }));
    }
    assert!(is_linearizable(&history));
    history.push(did(501, KvInput::Delete, 90_000, 90_001, KvOutput::Deleted { existed: true }));
    let history = std::collections::BTreeMap::from([((), history)]);
    let error = raft_sim::linearizability::kv::check_keys(&history).expect_err("it is accepted");
    assert!(matches!(error.error, CheckError::NotLinearizable(_)), "{error}");
}
