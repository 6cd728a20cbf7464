//! What is worked on: keys, values, commands, and the places at which they stand.

use raft_core::{Batch, Bytes, LogIndex, Position, StateMachine, Term};
use raft_kv::{Command, Key, KvMachine, Operation, Query, Reply, RequestId, Value};

/// The client of whom all writes are.
pub const CLIENT: u64 = 7001;

/// A key of 16 bytes.
#[must_use]
pub fn key(number: u64) -> Key {
    Key { canonical: Bytes::from(format!("key-{number:012}")), literal: None }
}

/// A value of so many bytes.
#[must_use]
pub fn value(bytes: usize) -> Value {
    Value(vec![7; bytes].into())
}

/// Puts a value of so many bytes: write `number` of a session, whose client has all replies before it.
#[must_use]
pub fn put(session: u64, number: u64, key: Key, bytes: usize) -> Vec<u8> {
    let request = RequestId { client: CLIENT, session, number };
    let operation = Operation::Put { key, value: value(bytes) };
    Command::Write { request, acknowledged: number - 1, operation }.encode()
}

/// Asks for a value.
#[must_use]
pub fn get(key: &Key) -> Vec<u8> {
    Query::Get { key: key.canonical.clone() }.encode()
}

/// The first command of a block.
#[must_use]
pub const fn position(index: u64) -> Position {
    Position { index: LogIndex(index), term: Term(1), number: 0, digest: None }
}

/// A block's payload of so many commands, each of so many bytes.
///
/// # Panics
/// A command is too long for any block.
#[must_use]
pub fn block(commands: usize, bytes: usize) -> Bytes {
    let mut batch = Batch::default();
    assert!((0..commands).all(|_| batch.push(&vec![7; bytes])));
    batch.into_payload()
}

/// A machine with one session.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The machine.
    pub machine: KvMachine,
    /// Its session's name.
    pub session: u64,
    /// Writes of that session so far.
    pub writes: u64,
}

impl Machine {
    /// With this many keys, each with a value of so many bytes.
    ///
    /// # Panics
    /// The machine opens no session.
    #[must_use]
    pub fn new(keys: u64, bytes: usize) -> Self {
        let mut machine = KvMachine::default();
        let opened = machine.apply(&position(1), &Command::OpenSession { client: CLIENT }.encode());
        let Reply::SessionOpened { session } = Reply::decode(&opened).unwrap() else { panic!("{opened:?}") };
        let mut this = Self { machine, session, writes: 0 };
        for number in 0..keys {
            let command = this.next_put(key(number), bytes);
            assert!(matches!(Reply::decode(&this.apply(&command)), Ok(Reply::Done { .. })));
        }
        this
    }

    /// The session's next write, encoded.
    pub fn next_put(&mut self, key: Key, bytes: usize) -> Vec<u8> {
        self.writes += 1;
        put(self.session, self.writes, key, bytes)
    }

    /// Applies a write, as a block of its own.
    pub fn apply(&mut self, command: &[u8]) -> Bytes {
        self.machine.apply(&position(self.writes + 1), command)
    }
}

/// Numbers that are the same ones every time: of a linear congruence, whose high bits are used.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// From the beginning.
    #[must_use]
    pub const fn new() -> Self {
        Self(1)
    }

    /// The next one, of 31 bits.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// The next one, below a bound.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

impl Default for Draws {
    fn default() -> Self {
        Self::new()
    }
}
