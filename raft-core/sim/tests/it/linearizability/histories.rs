//! Random histories: true ones, and such with lies in them.

use raft_sim::Rng;
use raft_sim::Time;
use raft_sim::linearizability::kv::{KvInput, KvOperation, KvOutput};
use rand::RngExt;

use super::{bytes, did, pending};

/// The machine, written once more: what it answers and has then.
pub(super) fn apply(state: &mut Option<bytes::Bytes>, input: &KvInput) -> KvOutput {
    match input {
        KvInput::Put(value) => {
            *state = Some(value.clone());
            KvOutput::Success
        }
        KvInput::Delete => KvOutput::Deleted { existed: state.take().is_some() },
        KvInput::CompareAndSwap { expected, new } if state.as_ref() == Some(expected) => {
            *state = Some(new.clone());
            KvOutput::Swapped
        }
        KvInput::CompareAndSwap { .. } => KvOutput::NotSwapped { actual: state.clone() },
        KvInput::Get => KvOutput::Value(state.clone()),
    }
}

/// What a random history is like.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) operations: usize,
    pub(super) clients: u32,
    /// Written values; every one is another where there is none.
    pub(super) values: Option<u32>,
    /// In thousandths: operations whose client hears nothing and goes on. Half of them happen, some of those much later.
    pub(super) pending: u32,
    /// In thousandths: what is neither put, deleted nor swapped is read.
    pub(super) puts: u32,
    pub(super) deletes: u32,
    pub(super) swaps: u32,
    /// No two events are at one moment.
    pub(super) apart: bool,
}

/// An operation that goes on.
struct Open {
    client: u32,
    input: KvInput,
    invoked: u64,
    output: Option<KvOutput>,
    /// Its client has given up.
    lost: bool,
}

/// What a machine did one after the other, as clients saw it: linearizable, because each operation happened at one moment
/// while it was open.
pub(super) fn truth(rng: &mut Rng, shape: Shape) -> Vec<KvOperation> {
    let (mut history, mut open, mut state, mut seen) = (Vec::new(), Vec::<Open>::new(), None, bytes("0"));
    let mut begun = 0;
    let mut now = 0;
    while begun < shape.operations || open.iter().any(|one| !one.lost) {
        now += rng.random_range(0..3) + u64::from(shape.apart);
        let busy = |client| open.iter().any(|one: &Open| one.client == client && !one.lost);
        let client = rng.random_range(0..shape.clients);
        if begun < shape.operations && !busy(client) {
            begun += 1;
            let input = input(rng, shape, begun, &seen);
            open.push(Open { client, input, invoked: now, output: None, lost: false });
            continue;
        }
        if open.is_empty() {
            continue;
        }
        let at = rng.random_range(0..open.len());
        let one = &mut open[at];
        if one.output.is_none() && !(one.lost && rng.random_range(0..20) > 0) {
            one.output = Some(apply(&mut state, &one.input));
            if let Some(value) = &state {
                seen.clone_from(value);
            }
        } else if let (Some(output), false) = (&one.output, one.lost) {
            history.push(did(one.client, one.input.clone(), one.invoked, now, output.clone()));
            open.swap_remove(at);
            continue;
        }
        if !one.lost && rng.random_range(0..1000) < shape.pending {
            one.lost = true;
        }
        if one.lost && one.output.is_some() {
            let lost = open.swap_remove(at);
            history.push(pending(lost.client, lost.input, lost.invoked));
        }
    }
    history.extend(open.into_iter().map(|lost| pending(lost.client, lost.input, lost.invoked)));
    history
}

/// The same with one output that is another's.
pub(super) fn with_a_lie(rng: &mut Rng, mut history: Vec<KvOperation>) -> Vec<KvOperation> {
    let answered: Vec<usize> = (0..history.len()).filter(|at| history[*at].returned.is_some()).collect();
    if answered.len() > 1 {
        let liar = answered[rng.random_range(0..answered.len())];
        let other = answered[rng.random_range(0..answered.len())];
        let output = match (&history[liar].input, rng.random_range(0..2)) {
            (KvInput::Put(_), _) => KvOutput::Success,
            (KvInput::Delete, n) => KvOutput::Deleted { existed: n == 0 },
            (KvInput::CompareAndSwap { .. }, 0) => KvOutput::Swapped,
            (KvInput::CompareAndSwap { .. }, _) => KvOutput::NotSwapped { actual: written(&history[other].input) },
            (KvInput::Get, _) => KvOutput::Value(written(&history[other].input)),
        };
        let at = history[liar].returned.as_ref().map_or(Time::ZERO, |(at, _)| *at);
        history[liar].returned = Some((at, output));
    }
    history
}

/// What this operation writes.
pub(super) fn written(input: &KvInput) -> Option<bytes::Bytes> {
    match input {
        KvInput::Put(value) | KvInput::CompareAndSwap { new: value, .. } => Some(value.clone()),
        KvInput::Delete | KvInput::Get => None,
    }
}

fn input(rng: &mut Rng, shape: Shape, number: usize, seen: &bytes::Bytes) -> KvInput {
    let value = shape.values.map_or(number.to_string(), |values| rng.random_range(0..values).to_string());
    let value = bytes(&value);
    let [puts, deletes, swaps] = [shape.puts, shape.deletes, shape.swaps];
    match rng.random_range(0..1000) {
        n if n < puts => KvInput::Put(value),
        n if n < puts + deletes => KvInput::Delete,
        n if n < puts + deletes + swaps => KvInput::CompareAndSwap { expected: seen.clone(), new: value },
        _ => KvInput::Get,
    }
}
