//! Each behaviour of the machine by itself.

use raft_core::{LogIndex, Term};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::command::{KEY_BYTES_MAX, Key, Outcome, QUERIES_MAX, SCAN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::literal::Literal;

const CLIENT: u64 = 7001;

/// A machine and the position of its next command: each in an entry of its own, which has a hash.
struct Run {
    machine: KvMachine,
    index: u64,
}

impl Run {
    fn new(sessions_max: u32, reply_bytes_max: u32) -> Self {
        let limits = SessionLimits { sessions_max, reply_bytes_max };
        Self { machine: KvMachine::new(limits, Value::same_literal), index: 0 }
    }

    fn bytes(&mut self, command: &Command) -> Bytes {
        self.index += 1;
        self.machine.apply(&at(self.index), &command.encode())
    }

    fn apply(&mut self, command: &Command) -> Reply {
        Reply::decode(&self.bytes(command)).unwrap()
    }

    fn open(&mut self) -> u64 {
        match self.apply(&Command::OpenSession { client: CLIENT }) {
            Reply::SessionOpened { session } => session,
            other => panic!("{other:?}"),
        }
    }

    /// What came of a write that was not applied before.
    fn outcome(&mut self, session: u64, number: u64, operation: Operation) -> Outcome {
        let reply = self.apply(&write(session, number, number - 1, operation));
        match reply {
            Reply::Done { outcome, height, hash } => {
                assert_eq!((LogIndex(height), hash), (at(self.index).index, at(self.index).digest));
                outcome
            }
            other => panic!("{other:?}"),
        }
    }

    fn get(&self, key: &str) -> Option<Value> {
        match self.query(&Query::Get { key: key_of(key).canonical }) {
            QueryReply::Value { value } => value,
            other => panic!("{other:?}"),
        }
    }

    fn scan(&self, prefix: Option<&str>, after: Option<&str>, limit: u32) -> (Vec<String>, bool) {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        match self.query(&Query::Scan { prefix: prefix.map(bytes), after: after.map(bytes), limit }) {
            QueryReply::Page { pairs, more } => {
                let keys = pairs.iter().map(|pair| String::from_utf8(pair.key.canonical.to_vec()).unwrap());
                (keys.collect(), more)
            }
            other => panic!("{other:?}"),
        }
    }

    fn query(&self, query: &Query) -> QueryReply {
        QueryReply::decode(&self.machine.query(&query.encode())).unwrap()
    }
}

fn at(index: u64) -> Position {
    let digest = Digest([u8::try_from(index % 251).unwrap(); 32]);
    Position { index: LogIndex(index), term: Term(1), number: 0, digest: Some(digest) }
}

fn write(session: u64, number: u64, acknowledged: u64, operation: Operation) -> Command {
    Command::Write { request: RequestId { client: CLIENT, session, number }, acknowledged, operation }
}

/// A literal from Python's text.
fn python(text: &str) -> Literal {
    Literal::parse(text).unwrap()
}

fn key_of(text: &str) -> Key {
    Key::from(&python(text))
}

fn value_of(text: &str) -> Value {
    Value::from(&python(text))
}

/// A key that is no literal.
fn raw_key(text: impl Into<Bytes>) -> Key {
    Key { canonical: text.into(), literal: None }
}

fn raw_value(text: impl Into<Bytes>) -> Value {
    Value(text.into())
}

fn put(key: Key, value: Value) -> Operation {
    Operation::Put { key, value }
}

/// Swaps a key with itself, so that applying it twice shows: the second time it fails.
fn swap(key: &str, expected: &str, new: &str) -> Operation {
    Operation::CompareAndSwap { key: key_of(key), expected: value_of(expected), new: value_of(new) }
}

#[test]
fn put_get_delete() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    assert_eq!(run.get("'k'"), None);
    assert_eq!(run.outcome(session, 1, put(key_of("'k'"), value_of("1"))), Outcome::Success);
    assert_eq!(run.get("'k'"), Some(value_of("1")));
    let delete = Operation::Delete { key: key_of("'k'") };
    assert_eq!(run.outcome(session, 2, delete.clone()), Outcome::Deleted { existed: true });
    assert_eq!(run.get("'k'"), None);
    assert_eq!(run.outcome(session, 3, delete), Outcome::Deleted { existed: false });
}

#[test]
fn equal_python_keys_are_one_key_which_keeps_its_first_literal() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    run.outcome(session, 1, put(key_of("1"), value_of("'a'")));
    run.outcome(session, 2, put(key_of("True"), value_of("'b'")));
    assert_eq!(run.outcome(session, 3, swap("1.0", "'b'", "'c'")), Outcome::Swapped);
    let pairs: Vec<Pair> = run.machine.pairs().collect();
    assert_eq!(pairs, [Pair { key: key_of("1"), value: value_of("'c'") }]);

    run.outcome(session, 4, Operation::Delete { key: key_of("1.0") });
    run.outcome(session, 5, put(key_of("True"), value_of("'d'")));
    let pairs: Vec<Pair> = run.machine.pairs().collect();
    assert_eq!(pairs, [Pair { key: key_of("True"), value: value_of("'d'") }]);
}

#[test]
fn compare_and_swap_compares_as_python_does() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    assert_eq!(run.outcome(session, 1, swap("'k'", "None", "1")), Outcome::NotSwapped { actual: None });
    run.outcome(session, 2, put(key_of("'k'"), value_of("{'a': 1, 'b': [True]}")));
    let other = Outcome::NotSwapped { actual: Some(value_of("{'a': 1, 'b': [True]}")) };
    assert_eq!(run.outcome(session, 3, swap("'k'", "{'a': 1}", "2")), other);
    assert_eq!(run.outcome(session, 4, swap("'k'", "{'b': [1.0], 'a': True}", "2")), Outcome::Swapped);
    assert_eq!(run.get("'k'"), Some(value_of("2")));
}

#[test]
fn values_that_are_no_literals_are_compared_by_their_bytes() {
    assert!(Value::same_literal(b"\x01raw", b"\x01raw"));
    assert!(!Value::same_literal(b"\x01raw", b"\x01ram"));
    assert!(!Value::same_literal(b"", &value_of("''").0));
}

#[test]
fn c1_a_retry_is_applied_once_and_answered_alike() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    run.outcome(session, 1, put(key_of("'k'"), value_of("1")));
    let command = write(session, 2, 1, swap("'k'", "1", "2"));
    let first = run.bytes(&command);
    let other = write(session, 3, 1, swap("'k'", "2", "1"));
    run.bytes(&other);
    let digest = run.machine.digest();
    for _ in 0..3 {
        assert_eq!(run.bytes(&command), first);
        assert_eq!(run.get("'k'"), Some(value_of("1")));
    }
    // Only the time of the session's last use differs.
    assert_ne!(run.machine.digest(), digest);
    let hash = at(3).digest;
    assert_eq!(Reply::decode(&first), Ok(Reply::Done { outcome: Outcome::Swapped, height: 3, hash }));
}

#[test]
fn c1_writes_of_one_session_may_overtake_each_other() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let commands: Vec<Command> =
        (1..=4).map(|number| write(session, number, 0, put(key_of("'k'"), value_of(&number.to_string())))).collect();
    let replies: Vec<Bytes> = [3, 0, 2, 1].map(|at: usize| run.bytes(&commands[at])).to_vec();
    assert_eq!(run.get("'k'"), Some(value_of("2")));
    let again: Vec<Bytes> = [3, 0, 2, 1].map(|at: usize| run.bytes(&commands[at])).to_vec();
    assert_eq!(again, replies);
    assert_eq!(run.get("'k'"), Some(value_of("2")));
}

#[test]
fn c1_an_acknowledged_write_is_not_applied_again() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let old = write(session, 1, 0, put(key_of("'k'"), value_of("'old'")));
    run.bytes(&old);
    run.outcome(session, 2, put(key_of("'k'"), value_of("'new'")));
    assert_eq!(run.apply(&old), Reply::Stale);
    assert_eq!(run.get("'k'"), Some(value_of("'new'")));
}

#[test]
fn c1_a_write_that_was_given_up_is_not_applied_when_it_comes() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let given_up = write(session, 1, 0, put(key_of("'k'"), value_of("'old'")));
    run.outcome(session, 2, put(key_of("'other'"), value_of("1")));
    assert_eq!(run.apply(&given_up), Reply::Stale);
    assert_eq!(run.get("'k'"), None);
}

#[test]
fn c1_an_acknowledgement_does_not_fall() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    run.bytes(&write(session, 5, 4, put(key_of("'k'"), value_of("5"))));
    run.bytes(&write(session, 6, 1, put(key_of("'k'"), value_of("6"))));
    let (_, session_state) = run.machine.sessions().next().unwrap();
    assert_eq!(session_state.acknowledged(), 4);
    assert_eq!(run.apply(&write(session, 3, 1, put(key_of("'k'"), value_of("3")))), Reply::Stale);
}

#[test]
fn c1_a_restarted_client_is_not_answered_from_its_former_life() {
    let mut run = Run::new(4, 1000);
    let former = run.open();
    run.outcome(former, 1, put(key_of("'k'"), value_of("1")));
    let session = run.open();
    assert_ne!(session, former);
    assert_eq!(run.outcome(session, 1, swap("'k'", "1", "2")), Outcome::Swapped);
}

#[test]
fn c1_a_reply_too_large_to_keep_is_stale_and_not_applied_again() {
    let mut run = Run::new(4, 300);
    let session = run.open();
    let value = raw_value(vec![b'x'; 200]);
    run.bytes(&write(session, 1, 0, put(key_of("'k'"), value.clone())));
    let commands: Vec<Command> =
        (2..=4).map(|number| write(session, number, 0, swap("'k'", "0", &number.to_string()))).collect();
    let replies: Vec<Bytes> = commands.iter().map(|command| run.bytes(command)).collect();
    assert!(replies.iter().all(|reply| reply.len() > 200));
    assert_eq!(run.apply(&commands[0]), Reply::Stale);
    assert_eq!(run.apply(&commands[1]), Reply::Stale);
    assert_eq!(run.bytes(&commands[2]), replies[2]);
    assert_eq!(run.apply(&write(session, 1, 0, put(key_of("'k'"), raw_value("y")))), Reply::Stale);
    assert_eq!(run.get("'k'"), Some(value));

    // Alone above the limit: kept.
    let mut run = Run::new(4, 10);
    let session = run.open();
    let command = write(session, 1, 0, put(key_of("'k'"), raw_value("y")));
    assert_eq!(run.bytes(&command), run.bytes(&command));
}

#[test]
fn c1_a_request_of_another_client_is_none_of_this_session() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let request = RequestId { client: CLIENT + 1, session, number: 1 };
    let operation = put(key_of("'k'"), value_of("1"));
    let before = run.machine.digest();
    assert_eq!(run.apply(&Command::Write { request, acknowledged: 0, operation }), Reply::SessionExpired);
    assert_eq!(run.machine.digest(), before);
}

#[test]
fn numbers_out_of_the_window_are_refused_without_a_trace() {
    let mut run = Run::new(4, 1 << 20);
    let session = run.open();
    let before = run.machine.digest();
    for (number, acknowledged) in [(0, 0), (3, 3), (3, 4), (0, u64::MAX), (OUTSTANDING_MAX + 1, 0), (u64::MAX, 0)] {
        let reply = run.apply(&write(session, number, acknowledged, put(key_of("1"), value_of("1"))));
        assert!(matches!(reply, Reply::Malformed { .. }), "{number} {acknowledged}: {reply}");
        assert_eq!(run.machine.digest(), before);
    }
    for number in 1..=OUTSTANDING_MAX {
        assert!(matches!(run.apply(&write(session, number, 0, swap("1", "1", "1"))), Reply::Done { .. }));
    }
    assert_eq!(run.machine.sessions().next().unwrap().1.replies().count(), 256);
    assert_eq!(run.outcome(session, u64::MAX, put(key_of("1"), value_of("1"))), Outcome::Success);
    assert_eq!(run.machine.sessions().next().unwrap().1.replies().count(), 1);
}

#[test]
fn what_is_too_large_is_refused_without_a_trace() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let key = |len| raw_key(vec![b'k'; len]);
    let value = |len| raw_value(vec![b'v'; len]);
    let literal = Key { canonical: "k".into(), literal: Some(vec![b'k'; KEY_BYTES_MAX + 1].into()) };
    let swap = |expected, new| Operation::CompareAndSwap { key: key(1), expected: value(expected), new: value(new) };
    let before = run.machine.digest();
    for operation in [
        put(key(KEY_BYTES_MAX + 1), value(1)),
        put(literal, value(1)),
        put(key(1), value(VALUE_BYTES_MAX + 1)),
        Operation::Delete { key: key(KEY_BYTES_MAX + 1) },
        swap(VALUE_BYTES_MAX + 1, 1),
        swap(1, VALUE_BYTES_MAX + 1),
    ] {
        assert!(matches!(run.apply(&write(session, 1, 0, operation)), Reply::Malformed { .. }));
        assert_eq!(run.machine.digest(), before);
    }
    run.outcome(session, 1, put(key(KEY_BYTES_MAX), value(VALUE_BYTES_MAX)));
    run.machine.clone().restore(&run.machine.snapshot()).unwrap();
}

#[test]
fn c2_the_session_used_least_recently_in_the_log_expires() {
    let mut run = Run::new(3, 1000);
    let (first, second, third) = (run.open(), run.open(), run.open());
    run.outcome(first, 1, put(key_of("1"), value_of("1")));
    let fourth = run.open();
    assert_eq!(run.apply(&write(second, 1, 0, put(key_of("1"), value_of("2")))), Reply::SessionExpired);
    assert_eq!(run.get("1"), Some(value_of("1")));
    let open: Vec<u64> = run.machine.sessions().map(|(name, _)| name).collect();
    assert_eq!(open, [first, third, fourth]);
    // A retry counts as use, a refused command does not.
    run.bytes(&write(third, 0, 0, put(key_of("1"), value_of("2"))));
    run.bytes(&write(first, 1, 0, put(key_of("1"), value_of("1"))));
    let fifth = run.open();
    let open: Vec<u64> = run.machine.sessions().map(|(name, _)| name).collect();
    assert_eq!(open, [first, fourth, fifth]);
}

#[test]
fn c2_commands_of_one_entry_are_told_apart_by_their_place() {
    let limits = SessionLimits { sessions_max: 2, reply_bytes_max: 1000 };
    let mut machine = KvMachine::new(limits, Value::same_literal);
    for number in 0..3 {
        machine.apply(&Position { number, ..at(1) }, &Command::OpenSession { client: CLIENT }.encode());
    }
    assert_eq!(machine.sessions().map(|(name, _)| name).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn c2_one_session_is_open_whatever_the_limit() {
    let mut run = Run::new(0, 0);
    run.open();
    let session = run.open();
    assert_eq!(run.outcome(session, 1, put(key_of("1"), value_of("1"))), Outcome::Success);
    assert_eq!(run.machine.sessions().count(), 1);
    Run::new(9, 9).machine.restore(&run.machine.snapshot()).unwrap();
}

#[test]
fn c3_a_snapshot_carries_the_sessions_with_their_replies() {
    let mut run = Run::new(2, 1000);
    let (idle, session) = (run.open(), run.open());
    run.outcome(session, 1, put(key_of("'k'"), value_of("1")));
    let command = write(session, 2, 1, swap("'k'", "1", "2"));
    let reply = run.bytes(&command);

    let mut restored = Run::new(99, 9);
    restored.machine.restore(&run.machine.snapshot()).unwrap();
    restored.index = run.index;
    assert_eq!(restored.machine.digest(), run.machine.digest());
    assert_eq!(restored.bytes(&command), reply);
    assert_eq!(restored.apply(&write(session, 1, 0, put(key_of("'k'"), value_of("9")))), Reply::Stale);
    assert_eq!(restored.get("'k'"), Some(value_of("2")));
    let written = Query::Written { key: key_of("'k'").canonical };
    assert_eq!(restored.query(&written), QueryReply::Written { height: Some(4) }, "the swap, and not its copy");
    // The limits and the names given came along as well.
    assert_eq!(restored.open(), session + 1);
    assert_eq!(restored.apply(&write(idle, 1, 0, put(key_of("'k'"), value_of("9")))), Reply::SessionExpired);
}

#[test]
fn c3_a_forgotten_reply_stays_forgotten_in_a_snapshot() {
    let mut run = Run::new(2, 0);
    let session = run.open();
    let commands: Vec<Command> =
        (1..=2).map(|number| write(session, number, 0, put(key_of("'k'"), value_of("1")))).collect();
    let replies: Vec<Bytes> = commands.iter().map(|command| run.bytes(command)).collect();
    let mut restored = Run::new(1, 1);
    restored.machine.restore(&run.machine.snapshot()).unwrap();
    assert_eq!(restored.apply(&commands[0]), Reply::Stale);
    assert_eq!(restored.bytes(&commands[1]), replies[1]);
}

#[test]
fn s6_restoring_replaces_the_state() {
    let mut old = Run::new(4, 1000);
    let session = old.open();
    old.outcome(session, 1, put(key_of("'kept'"), value_of("1")));
    let snapshot = old.machine.snapshot();
    old.open();
    old.outcome(session, 2, put(key_of("'later'"), value_of("2")));
    old.outcome(session, 3, Operation::Delete { key: key_of("'kept'") });
    old.machine.restore(&snapshot).unwrap();
    assert_eq!(old.get("'later'"), None);
    assert_eq!(old.get("'kept'"), Some(value_of("1")));
    assert_eq!(old.machine.sessions().count(), 1);
    assert_eq!(old.machine.snapshot(), snapshot);
}

#[test]
fn s6_garbage_leaves_the_state_as_it_was() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    run.outcome(session, 1, put(key_of("'a'"), value_of("1")));
    run.outcome(session, 2, put(key_of("'b'"), value_of("2")));
    let good = run.machine.snapshot();
    let mut longer = good.clone();
    longer.push(0);
    let mut format = good.clone();
    format[7] += 1;
    for snapshot in [&longer, &format, &Vec::new(), &good[..good.len() - 1].to_vec()] {
        assert!(run.machine.restore(snapshot).is_err());
        assert_eq!(run.machine.snapshot(), good);
    }
}

#[test]
fn s6_a_snapshot_of_another_version_or_machine_is_named() {
    let mut snapshot = KvMachine::default().snapshot();
    let mut refused = |at: usize, byte| {
        snapshot[at] = byte;
        KvMachine::default().restore(&snapshot).unwrap_err().what
    };
    assert_eq!(refused(7, 1), "its format has version 1, and this program reads version 3");
    assert_eq!(refused(0, b'x'), "it is the state of another machine");
}

#[test]
fn s6_equal_states_have_equal_digests_however_they_came_about() {
    let (mut one, mut other) = (Run::new(4, 0), Run::new(4, 0));
    let session = (one.open(), other.open()).0;
    let digests = |runs: [&Run; 2]| runs.map(|run| run.machine.digest());
    let delete = |key| Operation::Delete { key: key_of(key) };
    one.outcome(session, 1, put(key_of("1"), value_of("'x'")));
    one.outcome(session, 2, put(key_of("2"), value_of("'y'")));
    one.outcome(session, 3, delete("1"));
    other.outcome(session, 1, delete("3"));
    other.outcome(session, 2, transaction([put(key_of("2"), value_of("'x'")), put(key_of("2"), value_of("'y'"))]));
    // The reply of the last write is kept.
    other.outcome(session, 3, delete("2"));
    let [left, right] = digests([&one, &other]);
    assert_ne!(left, right);
    for (number, key) in [(4, "4"), (5, "2")] {
        one.outcome(session, number, put(key_of(key), value_of("'y'")));
        other.outcome(session, number, put(key_of(key), value_of("'y'")));
    }
    let [left, right] = digests([&one, &other]);
    assert_eq!(left, right);
    // Its literal shows, and so does what lies under which key.
    one.outcome(session, 6, put(key_of("3"), value_of("1")));
    other.outcome(session, 6, put(key_of("3.0"), value_of("1")));
    let [left, right] = digests([&one, &other]);
    assert_ne!(left, right);
}

/// All pieces of a snapshot that is begun now, `bytes` at a time.
fn pieces(machine: &mut KvMachine, bytes: usize) -> Vec<u8> {
    let mut given = machine.begin_snapshot().to_vec();
    while let Some(piece) = machine.snapshot_piece(bytes) {
        given.extend_from_slice(&piece);
    }
    given
}

#[test]
fn i12_what_changes_in_memory_shows_when_a_snapshot_of_it_is_written_down() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    for (number, key) in (1..).zip(["'a'", "'b'", "'c'"]) {
        run.bytes(&write(session, number, 0, put(key_of(key), value_of("1"))));
    }
    let sound = run.machine.digest();
    assert_eq!(pieces(&mut run.machine, 10), run.machine.snapshot());
    assert_eq!(run.machine.snapshot_digest(), Some(sound));
    let set = |run: &mut Run, value: &str| {
        run.machine.store.pairs.get_mut(&key_of("'b'").canonical[..]).unwrap().set_value(&value_of(value).0);
    };
    set(&mut run, "3");
    assert_eq!(run.machine.digest(), sound, "nobody sees it");
    pieces(&mut run.machine, 10);
    assert!(run.machine.snapshot_digest().is_some_and(|written| written != sound));
    // What is written again meanwhile is written down as it was: before that it was sound.
    set(&mut run, "1");
    run.machine.begin_snapshot();
    run.bytes(&write(session, 4, 0, put(key_of("'b'"), value_of("2"))));
    while run.machine.snapshot_piece(10).is_some() {}
    assert_eq!(run.machine.snapshot_digest(), Some(sound));
}

#[test]
fn i12_a_digest_has_nothing_of_how_a_snapshot_is_written_down() {
    let machine = KvMachine::new(SessionLimits { sessions_max: 2, reply_bytes_max: 3 }, Value::same_literal);
    let numbers = [&2_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), &[0; 24]].concat();
    let sums = [[0; 16]; 2].concat();
    assert_eq!(machine.digest().0, <[u8; 32]>::from(Sha256::digest([numbers, sums].concat())));
    // Of a state with both, so that no later version makes another one of it.
    let mut run = Run::new(4, 1000);
    let session = run.open();
    run.outcome(session, 1, put(key_of("'k'"), value_of("1")));
    assert_eq!(run.machine.digest().to_string(), "d180694e53fc7e2fb5a638390f49332f689307fc6a2ce0a36c6a45a0e14e6849");
}

/// Keys that are new since a snapshot was begun are nothing to write down, and take their time all the same.
#[test]
fn new_keys_are_passed_over_a_few_with_a_piece() {
    for (first, last) in [("a", "z"), ("a", "b")] {
        let mut run = Run::new(4, 1000);
        let session = run.open();
        run.outcome(session, 1, put(raw_key(first), raw_value("v")));
        run.outcome(session, 2, put(raw_key(last), raw_value("v")));
        let whole = run.machine.snapshot();
        let mut given = run.machine.begin_snapshot().to_vec();
        for new in 0..1000 {
            run.outcome(session, new + 3, put(raw_key(format!("k{new}")), raw_value("v")));
        }
        let ahead = |run: &Run| run.machine.store.frozen.as_ref().unwrap().ahead();
        let mut most = 0;
        loop {
            let before = ahead(&run);
            let Some(piece) = run.machine.snapshot_piece(640) else { break };
            most = most.max(before - ahead(&run));
            given.extend_from_slice(&piece);
        }
        assert_eq!(given, whole);
        assert!(most <= 10, "{most} keys with one piece");
    }
}

#[test]
fn n2_a_snapshot_that_no_machine_gives_is_refused() {
    let limits = SessionLimits { sessions_max: 2, reply_bytes_max: 2 };
    let session = |session: u64, numbers: &[u64], reply: &'static str| {
        let replies: Vec<(u64, Option<Bytes>)> = numbers.iter().map(|number| (*number, Some(reply.into()))).collect();
        codec::encode(&(session, CLIENT, (1_u64, 0_u32), 5_u64, replies))
    };
    let pair = |key: &'static str| codec::encode(&(Pair { key: raw_key(key), value: raw_value("v") }, 1_u64));
    let restore = |opened: u64, sessions: &[Vec<u8>], pairs: &[Vec<u8>]| {
        let (some_sessions, some_pairs) = (count(sessions.len()), count(pairs.len()));
        let shape = Shape { limits, opened, sessions: some_sessions, pairs: some_pairs };
        let header = Header { format: FORMAT, shape };
        let snapshot = [codec::encode(&header), sessions.concat(), pairs.concat()].concat();
        let mut machine = KvMachine::default();
        let restored = machine.restore(&snapshot).map_err(|error| error.what);
        assert!(restored.is_err() || machine.snapshot() == snapshot);
        restored
    };
    let good = [session(1, &[6, 261], "r"), session(3, &[6], "large")];
    assert_eq!(restore(3, &good, &[pair("a"), pair("b")]), Ok(()));
    for (opened, sessions, pairs) in [
        (2, good.to_vec(), vec![]),
        (3, vec![session(0, &[], "")], vec![]),
        (3, vec![session(2, &[], ""), session(1, &[], "")], vec![]),
        (3, vec![session(2, &[], ""), session(2, &[], "")], vec![]),
        (3, vec![session(1, &[], ""), session(2, &[], ""), session(3, &[], "")], vec![]),
        (3, vec![session(1, &[5], "r")], vec![]),
        (3, vec![session(1, &[262], "r")], vec![]),
        (3, vec![session(1, &[7, 6], "r")], vec![]),
        (3, vec![session(1, &[6, 6], "r")], vec![]),
        (3, vec![session(1, &[6, 7], "rr")], vec![]),
        (0, vec![], vec![pair("b"), pair("a")]),
        (0, vec![], vec![pair("a"), pair("a")]),
    ] {
        assert!(restore(opened, &sessions, &pairs).is_err(), "{opened} {sessions:?} {pairs:?}");
    }
    let shape = Shape { limits, opened: 0, sessions: u64::MAX, pairs: u64::MAX };
    let endless = Header { format: FORMAT, shape };
    assert!(KvMachine::default().restore(&codec::encode(&endless)).is_err());
}

#[test]
fn n2_garbage_is_answered_without_a_trace() {
    let mut run = Run::new(4, 1000);
    let before = run.machine.digest();
    for garbage in [&b""[..], b"\xff\xff\xff\xff", &[0; 64], &[255; 64]] {
        let reply = Reply::decode(&run.machine.apply(&at(1), garbage)).unwrap();
        assert_eq!(reply, Reply::Malformed { what: "no command".into() });
        let reply = QueryReply::decode(&run.machine.query(garbage)).unwrap();
        assert_eq!(reply, QueryReply::Malformed { what: "no query".into() });
    }
    assert_eq!(run.machine.digest(), before);
}

#[test]
fn a_scan_goes_in_pages_through_the_keys_in_order() {
    let mut run = Run::new(4, 100_000);
    let session = run.open();
    for (number, key) in (1..).zip(["b", "a2", "a", "c", "a1", "aa"]) {
        run.outcome(session, number, put(raw_key(key), raw_value("v")));
    }
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    assert_eq!(run.scan(None, None, 9), (keys(&["a", "a1", "a2", "aa", "b", "c"]), false));
    assert_eq!(run.scan(None, None, 6), (keys(&["a", "a1", "a2", "aa", "b", "c"]), false));
    assert_eq!(run.scan(None, None, 5), (keys(&["a", "a1", "a2", "aa", "b"]), true));
    assert_eq!(run.scan(Some("a"), None, 4), (keys(&["a", "a1", "a2", "aa"]), false));
    assert_eq!(run.scan(Some("a"), Some("a1"), 1), (keys(&["a2"]), true));
    assert_eq!(run.scan(Some("a"), Some("a11"), 9), (keys(&["a2", "aa"]), false));
    assert_eq!(run.scan(Some("a"), Some("0"), 0), (keys(&["a"]), true));
    assert_eq!(run.scan(Some("a"), Some("b"), 9), (keys(&[]), false));
    assert_eq!(run.scan(Some("a3"), None, 9), (keys(&[]), false));
    assert_eq!(run.scan(None, Some("c"), 9), (keys(&[]), false));
    assert_eq!(run.query(&Query::Size), QueryReply::Size { keys: 6, sessions: 1 });
}

#[test]
fn a_page_is_limited_by_its_bytes_but_never_empty_for_them() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let value = raw_value(vec![b'v'; VALUE_BYTES_MAX]);
    run.outcome(session, 1, put(raw_key("a"), value.clone()));
    run.outcome(session, 2, put(raw_key("b"), raw_value("v")));
    run.outcome(session, 3, put(raw_key("c"), raw_value(value.0.slice(..SCAN_BYTES_MAX - 3))));
    assert_eq!(run.scan(None, None, 9), (vec!["a".into()], true));
    assert_eq!(run.scan(None, Some("a"), 9), (vec!["b".into(), "c".into()], false));
    run.outcome(session, 4, put(raw_key("b"), raw_value("v2")));
    assert_eq!(run.scan(None, Some("a"), 9), (vec!["b".into()], true));
}

#[test]
fn answers_read_well() {
    let done = Reply::Done { outcome: Outcome::Success, height: 12, hash: at(0xab).digest };
    assert_eq!(done.to_string(), "success (block 12, abababab)");
    let missing = Reply::Done { outcome: Outcome::NotSwapped { actual: None }, height: 3, hash: None };
    assert_eq!(missing.to_string(), "not swapped: the key is not there (block 3)");
    let failed = Outcome::Transaction { committed: false, outcomes: vec![Outcome::NotSwapped { actual: None }] };
    assert_eq!(failed.to_string(), "nothing done: operation 1 did not swap");
    let done = Outcome::Transaction { committed: true, outcomes: vec![Outcome::Success, Outcome::Swapped] };
    assert_eq!(done.to_string(), "committed: 2 operations");
}

fn transaction(operations: impl Into<Vec<Operation>>) -> Operation {
    Operation::Transaction { operations: operations.into() }
}

#[test]
fn a_transaction_does_all_in_order_each_on_what_those_before_it_left() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let delete = Operation::Delete { key: key_of("'a'") };
    let all = [put(key_of("'a'"), value_of("1")), swap("'a'", "1", "2"), put(key_of("'b'"), value_of("3")), delete];
    let outcomes = vec![Outcome::Success, Outcome::Swapped, Outcome::Success, Outcome::Deleted { existed: true }];
    let outcome = run.outcome(session, 1, transaction(all));
    assert_eq!(outcome, Outcome::Transaction { committed: true, outcomes });
    assert_eq!((run.get("'a'"), run.get("'b'")), (None, Some(value_of("3"))));
    let outcome = run.outcome(session, 2, transaction([]));
    assert_eq!(outcome, Outcome::Transaction { committed: true, outcomes: vec![] });
}

#[test]
fn a_transaction_with_a_swap_that_fails_does_nothing() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    run.outcome(session, 1, put(key_of("1"), value_of("'a'")));
    run.outcome(session, 2, put(key_of("2"), value_of("'b'")));
    let before: Vec<Pair> = run.machine.pairs().collect();
    let all = [
        put(key_of("3"), value_of("'new'")),
        put(key_of("3"), value_of("'newer'")),
        // Its literal would be another.
        Operation::Delete { key: key_of("1") },
        put(key_of("True"), value_of("'c'")),
        swap("2", "'b'", "'c'"),
        swap("2", "'b'", "'d'"),
        Operation::Delete { key: key_of("2") },
    ];
    let outcomes = vec![
        Outcome::Success,
        Outcome::Success,
        Outcome::Deleted { existed: true },
        Outcome::Success,
        Outcome::Swapped,
        Outcome::NotSwapped { actual: Some(value_of("'c'")) },
    ];
    let outcome = run.outcome(session, 3, transaction(all));
    assert_eq!(outcome, Outcome::Transaction { committed: false, outcomes });
    assert_eq!(run.machine.pairs().collect::<Vec<_>>(), before);
}

#[test]
fn c1_a_transaction_is_applied_once() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    run.outcome(session, 1, put(key_of("'k'"), value_of("1")));
    let command = write(session, 2, 1, transaction([swap("'k'", "1", "2"), put(key_of("'l'"), value_of("1"))]));
    let first = run.bytes(&command);
    assert_eq!(run.bytes(&command), first);
    assert_eq!(run.get("'k'"), Some(value_of("2")));
}

#[test]
fn a_transaction_is_limited_in_number_and_in_size() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let value = |bytes| raw_value(vec![7; bytes]);
    let puts = |count: usize, bytes| transaction(vec![put(raw_key("k"), value(bytes)); count]);
    let whole = VALUE_BYTES_MAX - 1;
    for (operation, words) in [
        (puts(129, 0), Some("the transaction has too many operations: it may have 128")),
        (puts(128, 0), None),
        (puts(3, whole), Some("the transaction is too large: it may have 2 MiB")),
        (puts(2, whole), None),
        (puts(1, VALUE_BYTES_MAX + 1), Some("the value is too large: it may have 1 MiB")),
    ] {
        let reply = run.apply(&write(session, run.index, run.index - 1, operation));
        match words {
            Some(words) => assert_eq!(reply, Reply::Malformed { what: words.into() }),
            None => assert!(matches!(reply, Reply::Done { .. }), "{reply}"),
        }
    }
}

#[test]
fn n2_transactions_do_not_nest_however_deep() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let nested = write(session, 1, 0, transaction([transaction([])]));
    assert_eq!(run.apply(&nested), Reply::Malformed { what: "no command".into() });

    // Bytes that claim a depth that no stack has.
    let flat = write(session, 1, 0, transaction([])).encode();
    let (head, level) = flat.split_at(flat.len() - 12);
    let mut level = level.to_vec();
    level[4] = 1;
    let deep = [head, &level.repeat(200_000)].concat();
    let reply = run.machine.apply(&at(9), &deep);
    assert_eq!(Reply::decode(&reply), Ok(Reply::Malformed { what: "no command".into() }));

    let flat = Outcome::Transaction { committed: false, outcomes: vec![] };
    let deep =
        Reply::Done { outcome: Outcome::Transaction { committed: false, outcomes: vec![flat] }, height: 1, hash: None };
    assert!(Reply::decode(&deep.encode()).is_err());
}

#[test]
fn c1_a_retried_sum_is_added_once_and_answered_alike() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let add = |number, amount| write(session, number, number - 1, Operation::Add { key: key_of("'k'"), amount });
    let first = run.bytes(&add(1, 5));
    assert_eq!(run.bytes(&add(1, 5)), first);
    assert_eq!(run.outcome(session, 2, Operation::Add { key: key_of("'k'"), amount: -7 }), Outcome::Added { sum: -2 });
    assert_eq!(run.get("'k'"), Some(Value::from(&Literal::Bytes(b"-2".to_vec()))));
    run.outcome(session, 3, Operation::Put { key: key_of("'k'"), value: Value::from(&Literal::None) });
    let refused = Operation::Add { key: key_of("'k'"), amount: 1 };
    let both = transaction([refused.clone(), Operation::Delete { key: key_of("'k'") }]);
    assert_eq!(run.outcome(session, 4, refused), Outcome::NotAdded);
    // Only a compare-and-swap keeps a transaction from being done.
    let outcomes = vec![Outcome::NotAdded, Outcome::Deleted { existed: true }];
    assert_eq!(run.outcome(session, 5, both), Outcome::Transaction { committed: true, outcomes });
}

#[test]
fn several_queries_are_answered_by_one_state_as_far_as_they_fit() {
    let mut run = Run::new(4, 1000);
    let session = run.open();
    let value = raw_value(vec![7; VALUE_BYTES_MAX / 2]);
    run.outcome(session, 1, Operation::Put { key: key_of("'k'"), value: value.clone() });
    let get = || Query::Get { key: key_of("'k'").canonical };
    let several = |queries: Vec<Query>| match run.query(&Query::Several { queries }) {
        QueryReply::Several { replies } => replies,
        other => panic!("{other:?}"),
    };
    let found = QueryReply::Value { value: Some(value) };
    assert_eq!(several(vec![]), []);
    assert_eq!(several(vec![get(), Query::Size]), [found.clone(), QueryReply::Size { keys: 1, sessions: 1 }]);
    assert_eq!(several(vec![get(), get(), get(), Query::Size]), [found.clone(), found]);
    let many = Query::Several { queries: vec![Query::Size; QUERIES_MAX + 1] };
    assert!(matches!(run.query(&many), QueryReply::Malformed { .. }));
}
