//! The installed snapshot's file replaced, its checksums mended or not; and what it holds given to the machine.

use std::sync::LazyLock;

use raft_core::{Digest, LogIndex, Position, StateMachine as _, Storage as _, StorageError, Term};
use raft_kv::literal::Literal;
use raft_kv::{Command, Key, KvMachine, Operation, RequestId, SessionLimits, Value};

use crate::log::{self, Files};
use crate::mend;

const NAME: &str = "snapshot-0000000000000009";

static VALID: LazyLock<Files> = LazyLock::new(|| log::valid().pop().expect("there are some"));

/// What is done, then the file or the state.
pub fn run(input: &[u8]) {
    let Some((what, bytes)) = input.split_first() else { return };
    match what % 3 {
        0 => open(bytes.to_vec()),
        1 => {
            let mut bytes = bytes.to_vec();
            mend::snapshot(&mut bytes);
            open(bytes);
        }
        _ => restore(bytes),
    }
}

fn open(bytes: Vec<u8>) {
    let mut files = VALID.clone();
    files.insert(NAME.into(), bytes);
    let Ok(log) = log::open(files) else { return };
    // In pieces of another size as well: both are the same, or damaged.
    let index = LogIndex(9);
    let Ok(whole) = log.snapshot_chunk(index, 0, usize::MAX) else { return };
    for at in 0..whole.len().min(300) {
        let piece = log.snapshot_chunk(index, at as u64, 7).expect("each piece was good");
        assert_eq!(piece, whole.slice(at..whole.len().min(at + 7)));
    }
    let beyond = log.snapshot_chunk(index, whole.len() as u64 + 1, 1);
    assert!(matches!(beyond, Err(StorageError::NoSnapshot { .. })));
    let held = log::read(&log).expect("everything reads");
    log::goes_on(log, &held);
}

fn machine() -> KvMachine {
    KvMachine::new(SessionLimits::default(), Value::same_literal)
}

/// A state that is taken is the one that is given again.
fn restore(bytes: &[u8]) {
    let mut machine = machine();
    if machine.restore(bytes).is_ok() {
        assert_eq!(machine.snapshot(), bytes);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let file = &VALID[NAME];
    let mut machine = machine();
    let at = |index| Position { index: LogIndex(index), term: Term(1), digest: Some(Digest([1; 32])), number: 0 };
    machine.apply(&at(1), &Command::OpenSession { client: 7 }.encode());
    let (key, value) = (Literal::Int(5.into()), Literal::Str("five".into()));
    let operation = Operation::Put { key: Key::from(&key), value: Value::from(&value) };
    let request = RequestId { client: 7, session: 1, number: 1 };
    machine.apply(&at(2), &Command::Write { request, acknowledged: 0, operation }.encode());
    [(0, file.clone()), (1, file.clone()), (2, machine.snapshot())]
        .map(|(what, bytes)| [&[what][..], &bytes[..]].concat())
        .into()
}
