//! Clients against one machine behind a network that loses, delays and repeats: a right one, and such as lie.

use std::collections::BTreeMap;

use raft_core::{LogIndex, ReadKind, Refusal, StateMachine, Term};
use raft_kv::{Command, Key, KvMachine, Operation, Pair, Query, QueryReply, Reply, RequestId, SessionLimits, Value};
use rand::RngExt;

use super::history::Asked;
use super::*;
use crate::linearizability::kv::{KvInput, KvOutput};
use crate::time::{Time, chance, exponential};
use crate::workload::Call;

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// It applies each copy of a write.
    AppliesTwice,
    /// It forgets a write that it answered.
    Forgets,
    /// It reads from a state that is old.
    ReadsOldState,
    /// It swaps whatever is there.
    SwapsAlways,
    /// It gives the reply to the write before.
    AnswersAnother,
    /// It does the first half of a transaction that fails.
    HalfTransacts,
}

const SERVERS: u32 = 3;

/// One machine that three servers answer from, and the network before them.
struct World {
    rng: Rng,
    lie: Option<Lie>,
    machine: KvMachine,
    old: KvMachine,
    last_reply: Bytes,
    index: u64,
    now: Time,
    sequence: u64,
    queue: BTreeMap<(Time, u64), Event>,
    wake_at: BTreeMap<u32, Time>,
    /// The servers' applications are told.
    tells: bool,
    words: Option<Vec<String>>,
}

#[derive(Clone)]
enum Event {
    Wake { client: u32 },
    Call { client: u32, server: NodeId, number: u64, call: Call },
    Answer { client: u32, server: NodeId, number: u64, outcome: Outcome },
}

impl World {
    fn new(seed: u64, lie: Option<Lie>) -> Self {
        let machine = KvMachine::new(SessionLimits { sessions_max: 40, reply_bytes_max: 10_000 }, Value::same_literal);
        Self {
            rng: rng(seed, "world"),
            lie,
            old: machine.clone(),
            machine,
            last_reply: Bytes::new(),
            index: 0,
            now: Time::ZERO,
            sequence: 0,
            queue: BTreeMap::new(),
            wake_at: BTreeMap::new(),
            tells: true,
            words: None,
        }
    }

    fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// To the other side, perhaps late, twice or not at all.
    fn carry(&mut self, event: &Event) {
        for copy in 0..2 {
            let is_lost = chance(&mut self.rng, if copy == 0 { 100 } else { 900 });
            if !is_lost {
                let mean = if chance(&mut self.rng, 50) { Time::millis(800) } else { Time::millis(10) };
                let at = self.now + exponential(&mut self.rng, Time::millis(1), mean);
                self.push(at, event.clone());
            }
        }
    }

    /// Until `end`, or until nothing is pending.
    fn run(&mut self, workload: &mut KvWorkload, clients: u32, end: Time, until_idle: bool) -> Result<(), String> {
        while !(until_idle && workload.pending() == 0) {
            let Some(next) = self.queue.first_entry().filter(|next| next.key().0 <= end) else {
                return Ok(());
            };
            let ((at, _), event) = next.remove_entry();
            self.now = at;
            match event {
                Event::Wake { client: 0 } => (1..=clients).for_each(|client| self.wake(workload, client)),
                Event::Wake { client } if self.wake_at.get(&client) == Some(&at) => self.wake(workload, client),
                Event::Wake { .. } => {}
                Event::Call { client, server, number, call } => self.serve(workload, client, server, number, &call)?,
                Event::Answer { client, server, number, outcome } => {
                    self.with_io(client, |io| workload.answer(client, server, number, outcome, io));
                }
            }
        }
        Ok(())
    }

    fn wake(&mut self, workload: &mut KvWorkload, client: u32) {
        self.with_io(client, |io| workload.wake(client, io));
    }

    fn with_io(&mut self, client: u32, act: impl FnOnce(&mut Io<'_>)) {
        let mut io = Io {
            now: self.now,
            rng: &mut self.rng,
            servers: SERVERS,
            think: Time::millis(20),
            calls: Vec::new(),
            wake_at: None,
            words: self.words.take(),
        };
        act(&mut io);
        let Io { calls, wake_at, words, .. } = io;
        self.words = words;
        for (server, number, call) in calls {
            self.carry(&Event::Call { client, server, number, call });
        }
        if let Some(at) = wake_at {
            self.wake_at.insert(client, at);
            self.push(at, Event::Wake { client });
        }
    }

    fn serve(
        &mut self,
        workload: &mut KvWorkload,
        client: u32,
        server: NodeId,
        number: u64,
        call: &Call,
    ) -> Result<(), String> {
        let leader = NodeId(1 + u32::try_from(self.now.0 / 5_000_000).unwrap() % SERVERS);
        let outcome = match call {
            Call::Command(_) if server != leader => {
                let leader = chance(&mut self.rng, 700).then_some(leader);
                Outcome::Refused(Refusal::NotLeader { leader })
            }
            Call::Command(_) if chance(&mut self.rng, 50) => Outcome::Refused(Refusal::Busy),
            Call::Command(_) if chance(&mut self.rng, 30) => Outcome::Unknown,
            Call::Command(command) => {
                self.index += 1;
                let number = self.rng.random_range(0..3);
                let position = Position { index: LogIndex(self.index), term: Term(1), number, digest: None };
                let reply = self.apply(&position, command);
                if self.tells {
                    workload.applied(server, &position, command, &reply)?;
                    // Another server does the same.
                    workload.applied(NodeId(server.0 % SERVERS + 1), &position, command, &reply)?;
                }
                if chance(&mut self.rng, 100) { Outcome::Unknown } else { Outcome::Applied { position, reply } }
            }
            Call::Query(query) => Outcome::Answered {
                index: LogIndex(self.index),
                reply: if self.lie == Some(Lie::ReadsOldState) {
                    self.old.query(query)
                } else {
                    self.machine.query(query)
                },
                kind: ReadKind::Quorum,
            },
        };
        self.carry(&Event::Answer { client, server, number, outcome });
        Ok(())
    }

    fn apply(&mut self, at: &Position, command: &[u8]) -> Bytes {
        if at.index.0.is_multiple_of(10) {
            self.old = self.machine.clone();
        }
        let Ok(Command::Write { request, acknowledged, operation }) = Command::decode(command) else {
            return self.machine.apply(at, command);
        };
        let write = |operation| Command::Write { request, acknowledged, operation }.encode();
        match (self.lie, operation) {
            (Some(Lie::AppliesTwice), operation) => {
                let opened = self.machine.apply(at, &Command::OpenSession { client: 1 }.encode());
                let Ok(Reply::SessionOpened { session }) = Reply::decode(&opened) else { panic!("{opened:?}") };
                let request = RequestId { client: 1, session, number: 1 };
                self.machine.apply(at, &Command::Write { request, acknowledged: 0, operation }.encode())
            }
            (Some(Lie::Forgets), _) if at.index.0.is_multiple_of(7) => self.machine.clone().apply(at, command),
            (Some(Lie::SwapsAlways), Operation::CompareAndSwap { key, new, .. }) => {
                let reply = self.machine.apply(at, &write(Operation::Put { key, value: new }));
                match Reply::decode(&reply) {
                    Ok(Reply::Done { height, hash, .. }) => {
                        Reply::Done { outcome: raft_kv::Outcome::Swapped, height, hash }.encode().into()
                    }
                    _ => reply,
                }
            }
            (Some(Lie::HalfTransacts), Operation::Transaction { operations }) if operations.len() > 1 => {
                let reply = self.machine.apply(at, command);
                if let Ok(Reply::Done {
                    outcome: raft_kv::Outcome::Transaction { committed: false, .. }, height, ..
                }) = Reply::decode(&reply)
                    && height == at.index.0
                {
                    let opened = self.machine.apply(at, &Command::OpenSession { client: 1 }.encode());
                    let Ok(Reply::SessionOpened { session }) = Reply::decode(&opened) else { panic!("{opened:?}") };
                    let request = RequestId { client: 1, session, number: 1 };
                    let operation = operations[0].clone();
                    self.machine.apply(at, &Command::Write { request, acknowledged: 0, operation }.encode());
                }
                reply
            }
            (Some(Lie::AnswersAnother), _) if at.index.0.is_multiple_of(9) && !self.last_reply.is_empty() => {
                self.machine.apply(at, command);
                self.last_reply.clone()
            }
            _ => {
                let reply = self.machine.apply(at, command);
                self.last_reply = reply.clone();
                reply
            }
        }
    }
}

/// A whole run: what is wrong in it, and the clients after it.
fn run(seed: u64, lie: Option<Lie>, tells: bool, words: bool) -> (Result<(), String>, KvWorkload, World) {
    let clients = 1 + u32::try_from(seed % 6).unwrap();
    let mut workload = KvWorkload::new(seed, clients);
    let mut world = World::new(seed, lie);
    world.tells = tells;
    world.words = words.then(Vec::new);
    let result = whole(&mut workload, &mut world, clients);
    (result, workload, world)
}

fn whole(workload: &mut KvWorkload, world: &mut World, clients: u32) -> Result<(), String> {
    world.push(Time::ZERO, Event::Wake { client: 0 });
    world.run(workload, clients, Time::secs(20), false)?;
    workload.finish();
    world.run(workload, clients, Time::secs(100), true)?;
    assert_eq!(workload.pending(), 0);
    let before = workload.completed();
    workload.begin_last();
    assert_eq!(workload.pending(), 2 * clients as usize);
    world.push(world.now, Event::Wake { client: 0 });
    world.run(workload, clients, Time::secs(200), true)?;
    assert_eq!(workload.pending(), 0);
    assert!(workload.completed() >= before + 2 * u64::from(clients));
    workload.check()
}

#[test]
fn a_right_server_is_not_accused_and_everything_ends() {
    let mut totals = BTreeMap::<&str, u64>::new();
    for seed in 0..40 {
        let (result, workload, _) = run(seed, None, seed % 2 == 0, false);
        assert_eq!(result, Ok(()), "seed {seed}");
        for operation in workload.histories().into_values().flatten() {
            let kind = match (&operation.input, &operation.returned) {
                (_, None) => "unknown",
                (KvInput::Put(_), _) => "put",
                (KvInput::Delete, Some((_, KvOutput::Deleted { existed: true }))) => "deleted",
                (KvInput::Delete, _) => "nothing to delete",
                (KvInput::CompareAndSwap { .. }, Some((_, KvOutput::Swapped))) => "swapped",
                (KvInput::CompareAndSwap { .. }, _) => "not swapped",
                (KvInput::Get, Some((_, KvOutput::Value(None)))) => "found nothing",
                (KvInput::Get, _) => "found",
            };
            *totals.entry(kind).or_default() += 1;
        }
        *totals.entry("completed").or_default() += workload.completed();
    }
    let all = ["deleted", "found", "found nothing", "not swapped", "nothing to delete", "put", "swapped", "unknown"];
    assert_eq!(totals.keys().copied().filter(|kind| *kind != "completed").collect::<Vec<_>>(), all);
    assert!(totals.values().all(|count| *count >= 10), "{totals:?}");
}

/// In how many of twenty runs the lie is found, by what clients are told alone, or by the servers' applications as well.
fn found(lie: Lie, tells: bool) -> usize {
    (0..20).filter(|seed| run(*seed, Some(lie), tells, false).0.is_err()).count()
}

#[test]
fn c1_a_server_that_applies_each_copy_is_found() {
    assert!(found(Lie::AppliesTwice, false) >= 5);
    assert_eq!(found(Lie::AppliesTwice, true), 20);
    let (result, _, _) = run(1, Some(Lie::AppliesTwice), true, false);
    let what = result.unwrap_err();
    assert!(what.contains("was applied at entry") && what.contains("and at entry"), "{what}");
}

#[test]
fn a_server_that_forgets_a_write_it_answered_is_found() {
    assert!(found(Lie::Forgets, false) >= 15);
}

#[test]
fn a_server_that_reads_from_an_old_state_is_found() {
    assert!(found(Lie::ReadsOldState, false) >= 15);
}

#[test]
fn a_server_that_swaps_whatever_is_there_is_found() {
    assert!(found(Lie::SwapsAlways, false) >= 15);
}

#[test]
fn a_server_that_answers_with_another_reply_is_found() {
    assert!(found(Lie::AnswersAnother, false) >= 15);
    assert!(found(Lie::AnswersAnother, true) >= 15);
}

#[test]
fn a_transaction_that_fails_and_leaves_half_of_it_is_found() {
    assert!(found(Lie::HalfTransacts, false) >= 5);
}

#[test]
fn a_run_is_a_function_of_its_seed_whether_anybody_listens_or_not() {
    for seed in [1, 2, 3] {
        let (_, one, quiet) = run(seed, None, true, false);
        let (_, other, told) = run(seed, None, true, true);
        assert_eq!(one.histories(), other.histories());
        assert_eq!(quiet.words, None);
        assert!(told.words.unwrap().iter().any(|words| words.contains("(attempt 2)")));
    }
}

#[test]
fn a_client_that_is_not_there_is_a_failure() {
    let mut workload = KvWorkload::new(1, 2);
    let mut world = World::new(1, None);
    world.wake(&mut workload, 3);
    assert_eq!(workload.check(), Err("there is no client 3".into()));
}

#[test]
fn a_value_has_a_name_and_is_whole_or_is_another() {
    let mut rng = rng(3, "values");
    let mut mix = Mix::draw(&mut rng);
    for _ in 0..20 {
        let value = mix.value(&mut rng);
        assert!(mix::name(&value).starts_with(b"v") && !mix::name(&value).contains(&b'.'));
    }
    let name = |text: &'static str| mix::name(&Value(text.into()));
    assert_eq!(name("v7+3..."), "v7+3");
    assert_eq!(name("v7+3.."), "v7+3..");
    assert_eq!(name("v7."), "v7.");
    assert_eq!(name("v7"), "v7");
}

#[test]
fn a_page_tells_of_every_key_of_its_range() {
    let keys: Vec<Bytes> = ["k0", "k1", "k2", "k3"].map(Bytes::from).to_vec();
    let pair =
        |key: &'static str| Pair { key: Key { canonical: key.into(), literal: None }, value: Value("v1".into()) };
    let scan = Query::Scan { prefix: Some("k".into()), after: Some("k0".into()), limit: 2 };
    let read = |pairs: Vec<Pair>, more| {
        let mut history = History::new(keys.clone());
        let asked = Asked { client: 1, at: Time(1) };
        history.read(asked, &scan, Time(2), &QueryReply::Page { pairs, more }).map(|()| {
            let value = |operations: &[KvOperation]| match &operations[0].returned {
                Some((_, KvOutput::Value(value))) => value.is_some(),
                other => panic!("{other:?}"),
            };
            history.into_keys().iter().map(|(key, operations)| (key.clone(), value(operations))).collect::<Vec<_>>()
        })
    };
    let is = |found: [(&'static str, bool); 3]| found.map(|(key, there)| (Bytes::from(key), there)).to_vec();
    assert_eq!(read(vec![pair("k2")], false), Ok(is([("k1", false), ("k2", true), ("k3", false)])));
    // Nothing is said of what is behind the last, where there is more.
    assert_eq!(read(vec![pair("k2")], true), Ok(is([("k1", false), ("k2", true), ("", false)])[..2].to_vec()));
    for (pairs, more) in [
        (vec![pair("k0")], false),
        (vec![pair("k9")], false),
        (vec![pair("k3"), pair("k1")], false),
        (vec![pair("k1"), pair("k2"), pair("k3")], false),
        (vec![], true),
    ] {
        assert!(read(pairs, more).is_err());
    }
}
