//! The machine against a naive model of it, on random logs.
//!
//! The model remembers everything for ever: each session is the list of the writes it ever applied. What the machine
//! forgets must not show, other than by [`Reply::Stale`].

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use raft_core::{LogIndex, Term};

use super::sum::PairSum;
use super::*;
use crate::command::{Key, Outcome};
use crate::literal::Literal;
use crate::session::SessionSum;

/// One thing that happens, in terms of what happened before it.
#[derive(Clone, Debug)]
enum Step {
    Open {
        client: u64,
    },
    /// A write that was never sent: of which session (from the newest on), how many numbers it skips, how many numbers
    /// before it are not yet acknowledged.
    Write {
        session: usize,
        skipped: u64,
        outstanding: u64,
        operation: Operation,
    },
    /// An earlier command again: which, from the newest on.
    Again {
        command: usize,
    },
    /// An earlier write again, under its number, but with all that was before it acknowledged.
    Acknowledging {
        command: usize,
    },
    Garbage(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = || prop_oneof![9 => 0..3_usize, 1 => 0..9_usize];
    let step = prop_oneof![
        2 => (1..4_u64).prop_map(|client| Step::Open { client }),
        9 => (session(), prop_oneof![4 => Just(0_u64), 1 => 1..3_u64, 1 => 250..300_u64], 0..6_u64, operation()).prop_map(
            |(session, skipped, outstanding, operation)| Step::Write { session, skipped, outstanding, operation }
        ),
        6 => (0..12_usize).prop_map(|command| Step::Again { command }),
        2 => (0..12_usize).prop_map(|command| Step::Acknowledging { command }),
        1 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(Step::Garbage),
    ];
    proptest::collection::vec(step, 1..120)
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => single(),
        1 => proptest::collection::vec(single(), 0..6).prop_map(|operations| Operation::Transaction { operations }),
    ]
}

fn single() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (key(), value()).prop_map(|(key, value)| Operation::Put { key, value }),
        key().prop_map(|key| Operation::Delete { key }),
        (key(), value(), value()).prop_map(|(key, expected, new)| Operation::CompareAndSwap { key, expected, new }),
        (key(), prop_oneof![-9..9_i64, any::<i64>()]).prop_map(|(key, amount)| Operation::Add { key, amount }),
    ]
}

fn key() -> impl Strategy<Value = Key> {
    let canonical = prop_oneof![3 => "[ab]{0,2}".prop_map(String::into_bytes), 1 => zeros()];
    (canonical.prop_map(Bytes::from), proptest::option::of("[x-z]{1,2}".prop_map(Bytes::from)))
        .prop_map(|(canonical, literal)| Key { canonical, literal })
}

/// Bytes of which many begin with others, about as many as make a word, two, and a short key.
fn zeros() -> impl Strategy<Value = Vec<u8>> {
    let zeros = prop_oneof![Just(0_usize), Just(6), Just(14), Just(20)];
    (zeros, proptest::collection::vec(0..2_u8, 0..4)).prop_map(|(zeros, end)| [vec![0; zeros], end].concat())
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => "[01]".prop_map(|text| Value(text.into())),
        1 => "0{50,90}".prop_map(|text| Value(text.into())),
        1 => "-?[0-9]{1,2}".prop_map(|text| Value::from(&Literal::Bytes(text.into()))),
        1 => any::<i64>().prop_map(|number| Value::from(&Literal::Int(number.into()))),
    ]
}

/// The log that the steps make.
fn log(steps: &[Step]) -> Vec<Vec<u8>> {
    let mut commands: Vec<Command> = Vec::new();
    let mut log = Vec::new();
    // Of each session: its client and the last number.
    let mut sessions: Vec<(u64, u64)> = Vec::new();
    for step in steps {
        let before = |back: usize| commands.iter().rev().nth(back).cloned();
        let command = match step.clone() {
            Step::Open { client } => Some(Command::OpenSession { client }),
            Step::Write { session: back, skipped, outstanding, operation } => {
                let session = sessions.len().saturating_sub(back + 1);
                sessions.get_mut(session).map(|(client, last)| {
                    *last += 1 + skipped;
                    let request = RequestId { client: *client, session: count(session) + 1, number: *last };
                    Command::Write { request, acknowledged: (*last - 1).saturating_sub(outstanding), operation }
                })
            }
            Step::Again { command } => before(command),
            Step::Acknowledging { command } => before(command).map(|command| match command {
                Command::Write { request, operation, .. } => {
                    Command::Write { request, acknowledged: request.number - 1, operation }
                }
                other @ Command::OpenSession { .. } => other,
            }),
            Step::Garbage(bytes) => {
                log.push(bytes);
                None
            }
        };
        if let Some(command) = command {
            // Each copy of it opens one.
            if let Command::OpenSession { client } = command {
                sessions.push((client, 0));
            }
            log.push(command.encode());
            commands.push(command);
        }
    }
    log
}

/// Two commands an entry.
fn at(place: usize) -> Position {
    let number = u32::try_from(place % 2).unwrap();
    let index = count(place / 2) + 1;
    let digest = (!index.is_multiple_of(3)).then(|| Digest([u8::try_from(index % 251).unwrap(); 32]));
    Position { index: LogIndex(index), term: Term(1), number, digest }
}

#[derive(Default)]
struct Model {
    sessions_max: usize,
    /// With the height at which it was last written.
    pairs: BTreeMap<Vec<u8>, (Option<Bytes>, Value, u64)>,
    /// Every request ever applied, with its reply.
    applied: BTreeMap<(u64, u64), Reply>,
    /// The highest acknowledgement seen of each session.
    acknowledged: BTreeMap<u64, u64>,
    clients: BTreeMap<u64, u64>,
    /// The open sessions, least recently used first.
    open: Vec<u64>,
}

impl Model {
    fn apply(&mut self, at: &Position, command: &[u8]) -> Reply {
        match Command::decode(command) {
            Err(_) => Reply::Malformed { what: "no command".into() },
            Ok(Command::OpenSession { client }) => {
                let session = count(self.clients.len()) + 1;
                self.clients.insert(session, client);
                self.open.push(session);
                if self.open.len() > self.sessions_max {
                    self.open.remove(0);
                }
                Reply::SessionOpened { session }
            }
            Ok(Command::Write { request, acknowledged, operation }) => {
                if request.number <= acknowledged || request.number - acknowledged > 256 {
                    return Reply::Malformed { what: "".into() };
                }
                if !self.open.contains(&request.session) || self.clients[&request.session] != request.client {
                    return Reply::SessionExpired;
                }
                self.open.retain(|session| *session != request.session);
                self.open.push(request.session);
                let floor = self.acknowledged.entry(request.session).or_default();
                *floor = acknowledged.max(*floor);
                if request.number <= *floor {
                    return Reply::Stale;
                }
                let name = (request.session, request.number);
                if let Some(reply) = self.applied.get(&name) {
                    return reply.clone();
                }
                let outcome = self.perform(operation, at.index.0);
                let reply = Reply::Done { outcome, height: at.index.0, hash: at.digest };
                self.applied.insert(name, reply.clone());
                reply
            }
        }
    }

    fn perform(&mut self, operation: Operation, at: u64) -> Outcome {
        match operation {
            Operation::Put { key, value } => {
                let canonical = key.canonical.to_vec();
                let literal = self.pairs.get(&canonical).map_or(key.literal, |(literal, ..)| literal.clone());
                self.pairs.insert(canonical, (literal, value, at));
                Outcome::Success
            }
            Operation::Delete { key } => {
                Outcome::Deleted { existed: self.pairs.remove(&key.canonical.to_vec()).is_some() }
            }
            Operation::CompareAndSwap { key, expected, new } => {
                let canonical = key.canonical.to_vec();
                let actual = self.pairs.get(&canonical).cloned();
                match actual {
                    Some((literal, value, _)) if value == expected => {
                        self.pairs.insert(canonical, (literal, new, at));
                        Outcome::Swapped
                    }
                    actual => Outcome::NotSwapped { actual: actual.map(|(_, value, _)| value) },
                }
            }
            Operation::Transaction { operations } => {
                let before = self.pairs.clone();
                let mut outcomes: Vec<Outcome> = Vec::new();
                for operation in operations {
                    outcomes.push(self.perform(operation, at));
                    if matches!(outcomes.last(), Some(Outcome::NotSwapped { .. })) {
                        self.pairs = before;
                        return Outcome::Transaction { committed: false, outcomes };
                    }
                }
                Outcome::Transaction { committed: true, outcomes }
            }
            Operation::Add { key, amount } => {
                let before = self.pairs.get(&key.canonical.to_vec()).map(|(_, value, _)| value.clone());
                let Some((sum, value)) = sum(before, amount) else { return Outcome::NotAdded };
                self.perform(Operation::Put { key, value }, at);
                Outcome::Added { sum }
            }
        }
    }

    fn pairs(&self) -> Vec<Pair> {
        let pair = |(canonical, (literal, value, _)): (&Vec<u8>, &(Option<Bytes>, Value, u64))| Pair {
            key: Key { canonical: canonical.clone().into(), literal: literal.clone() },
            value: value.clone(),
        };
        self.pairs.iter().map(pair).collect()
    }
}

/// In more bits than there are, of the values that are drawn.
fn sum(before: Option<Value>, amount: i64) -> Option<(i64, Value)> {
    let before = before.map_or(Ok(Literal::Bytes("0".into())), |value| Literal::decode(&value.0)).ok()?;
    let is_int = matches!(before, Literal::Int(_));
    let text = match before {
        Literal::Int(number) => number.to_string(),
        Literal::Bytes(bytes) => String::from_utf8(bytes).ok()?,
        _ => return None,
    };
    let number: i128 = text.parse().ok().filter(|number: &i128| number.to_string() == text)?;
    let sum = i64::try_from(number + i128::from(amount)).ok()?;
    let literal = if is_int { Literal::Int(sum.into()) } else { Literal::Bytes(sum.to_string().into()) };
    Some((sum, Value::from(&literal)))
}

/// The model does not say what is malformed.
fn alike(reply: &Reply, expected: &Reply) -> bool {
    reply == expected || matches!((reply, expected), (Reply::Malformed { .. }, Reply::Malformed { .. }))
}

/// The sum of what is there, whatever was done.
fn sum_anew(store: &Store) -> [u8; 16] {
    let mut sum = PairSum::default();
    store.pairs.iter().for_each(|(canonical, stored)| sum.add_anew(canonical, stored));
    sum.to_bytes()
}

fn machine(sessions_max: u32, reply_bytes_max: u32) -> KvMachine {
    KvMachine::new(SessionLimits { sessions_max, reply_bytes_max }, |a, b| a == b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn c1_the_machine_does_what_the_model_does(steps in steps(), sessions_max in 1..5_u32) {
        let mut machine = machine(sessions_max, u32::MAX);
        let mut model = Model { sessions_max: sessions_max as usize, ..Model::default() };
        for (place, command) in log(&steps).iter().enumerate() {
            let reply = Reply::decode(&machine.apply(&at(place), command)).unwrap();
            let expected = model.apply(&at(place), command);
            prop_assert!(alike(&reply, &expected), "{} instead of {}", reply, expected);
        }
        prop_assert_eq!(machine.pairs().collect::<Vec<_>>(), model.pairs());
        let keys = ["", "a", "b", "aa", "ab", "ba", "bb"].map(|key| key.as_bytes().to_vec());
        for key in keys.iter().chain(model.pairs.keys()) {
            let query = Query::Written { key: key.clone().into() };
            let height = model.pairs.get(key).map(|(_, _, height)| *height);
            prop_assert_eq!(QueryReply::decode(&machine.query(&query.encode())), Ok(QueryReply::Written { height }));
        }
        let open: BTreeSet<u64> = model.open.iter().copied().collect();
        prop_assert_eq!(machine.sessions().map(|(name, _)| name).collect::<Vec<_>>(), Vec::from_iter(open));
        for (name, session) in machine.sessions() {
            prop_assert_eq!(session.client(), model.clients[&name]);
            prop_assert_eq!(session.acknowledged(), model.acknowledged.get(&name).copied().unwrap_or(0));
            let unacknowledged = model.applied.range((name, session.acknowledged() + 1)..=(name, u64::MAX));
            prop_assert!(session.replies().map(|(number, _)| number).eq(unacknowledged.map(|((_, number), _)| *number)));
            prop_assert!(session.replies().count() <= 256);
        }
    }

    #[test]
    fn c1_forgotten_replies_change_no_state(steps in steps(), reply_bytes_max in 0..400_u32) {
        let mut machine = machine(4, reply_bytes_max);
        let mut model = Model { sessions_max: 4, ..Model::default() };
        for (place, command) in log(&steps).iter().enumerate() {
            let known = model.applied.len();
            let reply = Reply::decode(&machine.apply(&at(place), command)).unwrap();
            let expected = model.apply(&at(place), command);
            let forgotten = reply == Reply::Stale && known == model.applied.len();
            prop_assert!(forgotten || alike(&reply, &expected), "{} instead of {}", reply, expected);
            for (_, session) in machine.sessions() {
                let kept: Vec<usize> = session.replies().filter_map(|(_, reply)| reply.map(<[u8]>::len)).collect();
                prop_assert!(kept.len() <= 1 || kept.iter().sum::<usize>() <= reply_bytes_max as usize);
            }
        }
        prop_assert_eq!(machine.pairs().collect::<Vec<_>>(), model.pairs());
    }

    #[test]
    fn c3_replicas_agree_also_when_one_starts_from_a_snapshot(
        steps in steps(), sessions_max in 1..5_u32, reply_bytes_max in 0..400_u32, half in any::<prop::sample::Index>()
    ) {
        let log = log(&steps);
        let mut one = machine(sessions_max, reply_bytes_max);
        let mut other = one.clone();
        for (place, command) in log.iter().enumerate() {
            if place == half.index(log.len()) {
                // What it was, and what its limits were, is of no account.
                let mut another = machine(7, 7);
                another.apply(&at(0), &Command::OpenSession { client: 1 }.encode());
                another.restore(&other.snapshot()).unwrap();
                other = another;
            }
            prop_assert_eq!(one.apply(&at(place), command), other.apply(&at(place), command));
            prop_assert_eq!(one.digest(), other.digest());
            for machine in [&one, &other] {
                prop_assert_eq!(machine.store.sum.to_bytes(), sum_anew(&machine.store));
                let mut sessions = SessionSum::default();
                machine.sessions().for_each(|(name, session)| sessions.add(name, session));
                prop_assert_eq!(machine.sessions.sum().to_bytes(), sessions.to_bytes());
            }
        }
        prop_assert_eq!(one.snapshot(), other.snapshot());
    }

    #[test]
    fn a_snapshot_in_pieces_is_of_the_state_at_its_beginning_whatever_is_applied_meanwhile(
        steps in steps(), begun in any::<prop::sample::Index>(), given_up in any::<prop::sample::Index>(),
        sizes in proptest::collection::vec(prop_oneof![Just(0_usize), 1..40_usize, 100..2000_usize], 1..40)
    ) {
        let log = log(&steps);
        let [begun, given_up] = [begun, given_up].map(|place| place.index(log.len().max(1)));
        let mut machine = machine(3, 300);
        let mut plain = machine.clone();
        let mut sizes = sizes.into_iter().cycle();
        // What it should be, and what there is of it.
        let mut taken: Option<(Vec<u8>, Vec<u8>)> = None;
        let mut digest = None;
        for (place, command) in log.iter().enumerate() {
            if place == given_up {
                taken = None;
                machine.end_snapshot();
                prop_assert_eq!(machine.snapshot_piece(1), None);
            }
            // One that was begun before is given up.
            if place == begun || place == log.len() / 2 {
                digest = Some(machine.digest());
                taken = Some((machine.snapshot(), machine.begin_snapshot().to_vec()));
            }
            if let Some((_, given)) = &mut taken
                && let Some(size) = sizes.next().filter(|size| *size > 0)
                && let Some(piece) = machine.snapshot_piece(size)
            {
                given.extend_from_slice(&piece);
            }
            prop_assert_eq!(machine.apply(&at(place), command), plain.apply(&at(place), command));
        }
        if let Some((expected, mut given)) = taken {
            while let Some(piece) = machine.snapshot_piece(sizes.next().unwrap_or(1)) {
                given.extend_from_slice(&piece);
            }
            prop_assert_eq!(machine.snapshot_piece(100), None);
            prop_assert_eq!(machine.snapshot_digest(), digest);
            prop_assert_eq!(given, expected);
        }
        prop_assert_eq!(machine.snapshot(), plain.snapshot());
    }

    #[test]
    fn n2_a_damaged_snapshot_is_refused_or_is_another_state(
        steps in steps(), at_byte in any::<prop::sample::Index>(), bits in 1_u8..
    ) {
        let mut machine = machine(3, 300);
        for (place, command) in log(&steps).iter().enumerate() {
            machine.apply(&at(place), command);
        }
        let good = machine.snapshot();
        let mut damaged = good.clone();
        damaged[at_byte.index(good.len())] ^= bits;
        match machine.restore(&damaged) {
            Ok(()) => prop_assert_eq!(machine.snapshot(), damaged),
            Err(_) => prop_assert_eq!(machine.snapshot(), good.clone()),
        }
        prop_assert!(machine.restore(&good[..at_byte.index(good.len())]).is_err());
    }

    #[test]
    fn a_scan_is_the_sorted_keys_that_match(
        keys in proptest::collection::btree_set(zeros(), 0..40), prefix in proptest::option::of(zeros()),
        after in proptest::option::of(zeros()), limit in 0..6_u32
    ) {
        let mut store = Store::default();
        for key in &keys {
            store.insert(key[..].into(), Stored::new(None, b"", LogIndex(1)));
        }
        let prefix = prefix.unwrap_or_default();
        let all: Vec<&Vec<u8>> = keys
            .iter()
            .filter(|key| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after))
            .collect();
        let page = store.scan(&prefix, after.as_deref(), limit);
        let QueryReply::Page { pairs, more } = page else { panic!("{page:?}") };
        prop_assert_eq!(more, all.len() > limit.max(1) as usize);
        prop_assert!(pairs.iter().map(|pair| &pair.key.canonical[..]).eq(
            all.iter().take(limit.max(1) as usize).map(|key| &key[..])
        ));
    }
}
