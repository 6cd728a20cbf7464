//! Commands and queries that a client may send: the machine answers each, every server the same, and its snapshot
//! restores to itself.

use raft_core::{Digest, LogIndex, Position, StateMachine as _, Term};
use raft_kv::literal::Literal;
use raft_kv::{Command, Key, KvMachine, Operation, Query, QueryReply, Reply, RequestId, SessionLimits, Value};

use crate::input::{Input, sized};

fn machine() -> KvMachine {
    KvMachine::new(SessionLimits { sessions_max: 3, reply_bytes_max: 300 }, Value::same_literal)
}

/// Each: whether it is a query, length, bytes.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (mut one, mut other) = (machine(), machine());
    let mut index = 0;
    while !input.is_empty() && index < 100 {
        index += 1;
        let (is_query, bytes) = (input.number(1) % 2 == 1, input.sized());
        if is_query {
            query(&one, bytes);
            continue;
        }
        if let Ok(command) = Command::decode(bytes) {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        let at = Position { index: LogIndex(index), term: Term(1), number: 0, digest: Some(Digest([1; 32])) };
        let reply = one.apply(&at, bytes);
        assert_eq!(other.apply(&at, bytes), reply);
        Reply::decode(&reply).expect("a reply");
    }
    assert_eq!(one.digest(), other.digest());
    let snapshot = one.snapshot();
    let mut restored = machine();
    restored.restore(&snapshot).expect("a snapshot of ours");
    assert_eq!((restored.snapshot(), restored.digest()), (snapshot, one.digest()));
}

fn query(machine: &KvMachine, bytes: &[u8]) {
    if let Ok(query) = Query::decode(bytes) {
        assert_eq!(Query::decode(&query.encode()), Ok(query));
    }
    QueryReply::decode(&machine.query(bytes)).expect("an answer");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let key = Key::from(&Literal::Str("key".into()));
    let [one, two] = [1, 2].map(|n| Value::from(&Literal::Int(n.into())));
    let write = |number, operation| {
        let request = RequestId { client: 7, session: 1, number };
        Command::Write { request, acknowledged: number - 1, operation }.encode()
    };
    let put = Operation::Put { key: key.clone(), value: one.clone() };
    let swap = Operation::CompareAndSwap { key: key.clone(), expected: one, new: two };
    let commands = [
        Command::OpenSession { client: 7 }.encode(),
        write(1, put),
        write(2, swap),
        write(3, Operation::Delete { key: key.clone() }),
    ];
    let queries = [
        Query::Get { key: key.canonical.clone() },
        Query::Scan { prefix: None, after: None, limit: 9 },
        Query::Size,
        Query::Written { key: key.canonical.clone() },
    ];
    let mut seed = Vec::new();
    for (is_query, bytes) in
        commands.map(|bytes| (0, bytes)).into_iter().chain(queries.map(|query| (1, query.encode())))
    {
        seed.push(is_query);
        sized(&bytes, &mut seed);
    }
    vec![seed]
}
