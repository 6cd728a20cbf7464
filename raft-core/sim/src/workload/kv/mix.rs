//! What clients like to do in one run: drawn, so that runs differ more than averages would.

use bytes::Bytes;
use raft_kv::{Key, Operation, Outcome, Query, Value};
use rand::RngExt;

use crate::time::{Rng, Time, between, chance};

/// What the clients of a run do how often, and what they know of the keys.
#[derive(Debug)]
pub(super) struct Mix {
    keys: Vec<Bytes>,
    /// Of each key: what somebody was told last that it holds or wrote there, so that some swaps succeed.
    known: Vec<Option<Value>>,
    /// Of each key: writes that are open.
    open: Vec<u32>,
    /// How often each [`Kind`] is drawn.
    weights: [u32; KINDS.len()],
    /// Values written: the next one's name.
    values: u64,
    /// Values are longer by so many bytes at most.
    padding: usize,
    /// Clients may give up so many more writes.
    give_ups: u32,
    pub(super) habits: Habits,
}

/// What the clients of a run are like. Chances in thousandths.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// They wait at least so long for an answer.
    pub(super) patience_min: Time,
    /// And at most so long.
    pub(super) patience_max: Time,
    /// They begin several writes together.
    pub(super) burst: u32,
    /// So many then, at most.
    pub(super) burst_max: u32,
    /// They read from any server, rather than from the leader.
    pub(super) read_anywhere: u32,
    /// They open another session before an operation.
    pub(super) renew: u32,
    /// They give up what was not answered in time.
    pub(super) give_up: u32,
    /// They acknowledge so many answers less than they have.
    pub(super) unacknowledged: u64,
}

/// What a client does next.
#[derive(Clone, Debug)]
pub(super) enum Drawn {
    Write(Operation),
    Read(Query),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Get,
    Delete,
    Swap,
    Scan,
    Transaction,
}

const KINDS: [Kind; 6] = [Kind::Put, Kind::Get, Kind::Delete, Kind::Swap, Kind::Scan, Kind::Transaction];

/// Writes that may be open on one key at a time: more make the search for an order long.
const OPEN_MAX: u32 = 6;

/// Of one run: what is given up stays possible until its end.
const GIVE_UPS_MAX: u32 = 8;

impl Mix {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let keys: Vec<Bytes> = (0..rng.random_range(1..=8_u32)).map(|key| Bytes::from(format!("k{key}"))).collect();
        Self {
            known: vec![None; keys.len()],
            open: vec![0; keys.len()],
            keys,
            weights: [10, 10, 4, 6, 4, 4].map(|max| rng.random_range(0..=max) + u32::from(max == 10)),
            values: 0,
            padding: if chance(rng, 700) { 0 } else { rng.random_range(1..=2000) },
            give_ups: GIVE_UPS_MAX,
            habits: Habits::draw(rng),
        }
    }

    /// The keys that all clients share, in their order.
    pub(super) fn keys(&self) -> &[Bytes] {
        &self.keys
    }

    /// What a client does next; `None` where too much is open already.
    pub(super) fn next(&mut self, rng: &mut Rng, writes_only: bool) -> Option<Drawn> {
        match self.kind(rng, writes_only) {
            Kind::Get => {
                let key = rng.random_range(0..self.keys.len());
                self.keys.get(key).map(|key| Drawn::Read(Query::Get { key: key.clone() }))
            }
            Kind::Scan => Some(Drawn::Read(self.scan(rng))),
            Kind::Transaction => {
                let count = rng.random_range(1..=4_u32);
                let operations: Vec<Operation> = (0..count).filter_map(|_| self.single(rng)).collect();
                Some(Drawn::Write(Operation::Transaction { operations }))
            }
            kind => self.one(kind, rng).map(Drawn::Write),
        }
    }

    /// A value that nobody wrote yet.
    pub(super) fn value(&mut self, rng: &mut Rng) -> Value {
        self.values += 1;
        let padding = if self.padding > 0 { rng.random_range(0..=self.padding) } else { 0 };
        padded(&format!("v{}", self.values), padding)
    }

    /// Whether a client may give up one more write.
    pub(super) fn give_up(&mut self) -> bool {
        let may = self.give_ups > 0;
        self.give_ups = self.give_ups.saturating_sub(1);
        may
    }

    /// A write begins.
    pub(super) fn begun(&mut self, operation: &Operation) {
        self.each_key(operation, &mut |open| *open = open.saturating_add(1));
    }

    /// A write ends.
    pub(super) fn ended(&mut self, operation: &Operation) {
        self.each_key(operation, &mut |open| *open = open.saturating_sub(1));
    }

    /// Somebody was told that this value is there.
    pub(super) fn saw(&mut self, canonical: &Bytes, value: Option<&Value>) {
        if let Some(known) = self.keys.binary_search(canonical).ok().and_then(|key| self.known.get_mut(key)) {
            *known = value.cloned();
        }
    }

    /// Somebody was told what came of a write.
    pub(super) fn learn(&mut self, operation: &Operation, outcome: &Outcome) {
        match (operation, outcome) {
            (Operation::Put { key, value }, _) => self.saw(&key.canonical, Some(value)),
            (Operation::CompareAndSwap { key, new, .. }, Outcome::Swapped) => self.saw(&key.canonical, Some(new)),
            (Operation::CompareAndSwap { key, .. }, Outcome::NotSwapped { actual }) => {
                self.saw(&key.canonical, actual.as_ref());
            }
            (Operation::Transaction { operations }, Outcome::Transaction { committed: true, outcomes }) => {
                for (operation, outcome) in operations.iter().zip(outcomes) {
                    self.learn(operation, outcome);
                }
            }
            _ => {}
        }
    }

    fn each_key(&mut self, operation: &Operation, change: &mut impl FnMut(&mut u32)) {
        match operation {
            Operation::Transaction { operations } => {
                for operation in operations {
                    self.each_key(operation, change);
                }
            }
            Operation::Put { key, .. }
            | Operation::Delete { key }
            | Operation::CompareAndSwap { key, .. }
            | Operation::Add { key, .. } => {
                let at = self.keys.binary_search(&key.canonical).ok();
                if let Some(open) = at.and_then(|at| self.open.get_mut(at)) {
                    change(open);
                }
            }
        }
    }

    fn kind(&self, rng: &mut Rng, writes_only: bool) -> Kind {
        let fits = |kind: Kind| !(writes_only && matches!(kind, Kind::Get | Kind::Scan));
        let weighed = || KINDS.into_iter().zip(self.weights).filter(move |(kind, _)| fits(*kind));
        let total: u32 = weighed().map(|(_, weight)| weight).sum();
        let mut left = rng.random_range(0..total.max(1));
        for (kind, weight) in weighed() {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Kind::Put
    }

    /// A part of a transaction.
    fn single(&mut self, rng: &mut Rng) -> Option<Operation> {
        let kind = match rng.random_range(0..4_u32) {
            0 => Kind::Swap,
            1 => Kind::Delete,
            _ => Kind::Put,
        };
        self.one(kind, rng)
    }

    fn one(&mut self, kind: Kind, rng: &mut Rng) -> Option<Operation> {
        let at = self.free_key(rng)?;
        let canonical = self.keys.get(at)?.clone();
        // The literal is of no account for what is stored, but is part of the state.
        let literal = chance(rng, 300).then(|| Bytes::from(format!("K{}", rng.random_range(0..3_u32))));
        let key = Key { canonical, literal };
        Some(match kind {
            Kind::Delete => Operation::Delete { key },
            Kind::Swap => {
                let known = self.known.get(at).cloned().flatten().filter(|_| chance(rng, 850));
                let expected = known.unwrap_or_else(|| Value(Bytes::from_static(b"never written")));
                Operation::CompareAndSwap { key, expected, new: self.value(rng) }
            }
            _ => Operation::Put { key, value: self.value(rng) },
        })
    }

    fn free_key(&self, rng: &mut Rng) -> Option<usize> {
        let drawn = rng.random_range(0..self.keys.len());
        let is_free = |at: usize| self.open.get(at).is_some_and(|open| *open < OPEN_MAX);
        if is_free(drawn) { Some(drawn) } else { (0..self.keys.len()).find(|at| is_free(*at)) }
    }

    fn scan(&self, rng: &mut Rng) -> Query {
        let after = if chance(rng, 300) { self.keys.get(rng.random_range(0..self.keys.len())).cloned() } else { None };
        Query::Scan { prefix: Some(Bytes::from_static(b"k")), after, limit: rng.random_range(1..=10) }
    }
}

/// A value of this name, longer by its name's second half.
fn padded(name: &str, padding: usize) -> Value {
    if padding == 0 {
        Value(name.to_owned().into())
    } else {
        Value(format!("{name}+{padding}{:.<padding$}", "").into())
    }
}

/// The name of a value: what of it is its own. All of it, if it is not as [`Mix::value`] makes them.
pub(super) fn name(value: &Value) -> Bytes {
    let whole = &value.0;
    let dots = whole.iter().rev().take_while(|byte| **byte == b'.').count();
    let name = whole.slice(..whole.len().saturating_sub(dots));
    let padding = name.split(|byte| *byte == b'+').nth(1).unwrap_or(b"0");
    if padding == dots.to_string().as_bytes() { name } else { whole.clone() }
}

impl Habits {
    fn draw(rng: &mut Rng) -> Self {
        let patience_min = between(rng, Time::millis(100), Time::millis(1000));
        let often = |rng: &mut Rng, permille, max| if chance(rng, permille) { rng.random_range(1..=max) } else { 0 };
        Self {
            patience_min,
            patience_max: between(rng, patience_min, Time::secs(3)),
            burst: often(rng, 500, 500),
            burst_max: rng.random_range(2..=16),
            read_anywhere: often(rng, 800, 1000),
            renew: often(rng, 300, 50),
            give_up: often(rng, 300, 100),
            unacknowledged: if chance(rng, 700) { 0 } else { rng.random_range(1..=64) },
        }
    }
}
