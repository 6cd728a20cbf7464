//! How blocks look, for people and for programs.

use std::fmt::Write as _;

use raft_core::{Batch, Commands, Configuration, Digest, StateDigest};
use raft_kv::inspect::FoundBlock;
use raft_kv::{Command, GENESIS_KIND, Genesis, Operation};
use serde_json::{Map, Value as Json, json};

use crate::console;

/// A block over several lines, as `print blockchain` of a server shows it.
pub(super) fn block(block: &FoundBlock) -> String {
    let mut text = format!("block {} term {}", block.height, block.term);
    let payload = &block.payload;
    match block.kind {
        0 => text.push_str("\n  (no requests: a leader's first block)"),
        1 => Commands::of(payload).for_each(|command| {
            let _ = write!(text, "\n  {}", console::request(command));
        }),
        2 => {
            let _ = write!(text, "\n  (no requests: the members are {})", members(payload));
        }
        3 => {
            let _ = write!(text, "\n  (no requests: {})", console::state_digest(payload));
        }
        GENESIS_KIND => {
            let genesis = Genesis::from_bytes(payload).map_or_else(|| "unreadable".into(), |held| held.to_string());
            let _ = write!(text, "\n  {genesis}");
        }
        kind => {
            let _ = write!(text, "\n  ({} bytes of an unknown kind, {kind})", payload.len());
        }
    }
    let _ = write!(text, "\n  prev {}\n  hash {}", prev(block.prev_hash), block.hash);
    text
}

fn prev(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "unknown: the block before is damaged".into(), |digest| digest.to_string())
}

fn members(payload: &[u8]) -> String {
    Configuration::from_bytes(payload).map_or_else(|| "unreadable".into(), |held| held.to_string())
}

/// A block as one object. What it carries is under `transactions`, `members`, `cluster`, or else `payload`.
pub(super) fn json(block: &FoundBlock) -> Json {
    let kind = match block.kind {
        0 => json!("noop"),
        1 => json!("command"),
        2 => json!("configuration"),
        3 => json!("state digest"),
        GENESIS_KIND => json!("genesis"),
        other => json!(other),
    };
    let mut object = Map::from_iter([
        ("height".to_owned(), json!(block.height.0)),
        ("term".to_owned(), json!(block.term.0)),
        ("kind".to_owned(), kind),
        ("hash".to_owned(), json!(block.hash.to_string())),
        ("prev_hash".to_owned(), json!(block.prev_hash.map(|hash| hash.to_string()))),
    ]);
    match content(block) {
        Some(fields) => object.extend(fields),
        None => drop(object.insert("payload".into(), json!(hex(&block.payload)))),
    }
    object.into()
}

/// What a block carries; `None` where it is nothing that this program knows.
fn content(block: &FoundBlock) -> Option<Map<String, Json>> {
    let payload = &block.payload;
    let fields = match block.kind {
        0 => json!({}),
        1 => json!({ "transactions": transactions(payload)? }),
        2 => json!({ "members": Configuration::from_bytes(payload)?.to_string() }),
        3 => {
            let StateDigest { index, state } = StateDigest::from_bytes(payload)?;
            json!({ "after": index.0, "state": state.to_string() })
        }
        GENESIS_KIND => {
            let Genesis { cluster, configuration } = Genesis::from_bytes(payload)?;
            json!({ "cluster": cluster.to_string(), "members": configuration.to_string() })
        }
        _ => return None,
    };
    fields.as_object().cloned()
}

/// The commands of a batch; `None` where any of its bytes is no part of one.
fn transactions(payload: &[u8]) -> Option<Vec<Json>> {
    let whole: usize = Commands::of(payload).map(Batch::cost).sum();
    let commands = Commands::of(payload).map(|command| Command::decode(command).ok());
    commands
        .map(|command| command.map(|command| transaction(&command)))
        .collect::<Option<_>>()
        .filter(|_| whole == payload.len())
}

fn transaction(command: &Command) -> Json {
    match command {
        Command::OpenSession { client } => json!({ "client": client, "operation": "open" }),
        Command::Write { request, operation: asked, .. } => {
            let mut object = Map::from_iter([
                ("client".to_owned(), json!(request.client)),
                ("session".to_owned(), json!(request.session)),
                ("number".to_owned(), json!(request.number)),
            ]);
            object.extend(operation(asked).as_object().cloned().unwrap_or_default());
            object.into()
        }
    }
}

fn operation(operation: &Operation) -> Json {
    let literal = |bytes: &[u8]| console::literal(bytes);
    match operation {
        Operation::Put { key, value } => {
            json!({ "operation": "put", "key": literal(key.shown()), "value": literal(&value.0) })
        }
        Operation::Delete { key } => json!({ "operation": "del", "key": literal(key.shown()) }),
        Operation::CompareAndSwap { key, expected, new } => {
            let (expected, new) = (literal(&expected.0), literal(&new.0));
            json!({ "operation": "cas", "key": literal(key.shown()), "expected": expected, "new": new })
        }
        Operation::Transaction { operations } => {
            let operations: Vec<Json> = operations.iter().map(self::operation).collect();
            json!({ "operation": "transaction", "operations": operations })
        }
        Operation::Add { key, amount } => {
            json!({ "operation": "add", "key": literal(key.shown()), "amount": amount })
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use raft_core::{Bytes, LogIndex, Term};
    use raft_kv::literal::Literal;
    use raft_kv::{Key, RequestId, Value};

    use super::*;

    fn of(kind: u8, payload: Vec<u8>) -> FoundBlock {
        let (height, term, payload) = (LogIndex(3), Term(2), Bytes::from(payload));
        FoundBlock { height, term, kind, prev_hash: Some(Digest([1; 32])), hash: Digest([2; 32]), payload }
    }

    #[test]
    fn a_block_of_commands_is_decoded_and_any_other_is_shown_as_it_is() {
        let literal = |text: &str| Literal::parse(text).unwrap();
        let put = |key: &str| Operation::Put { key: Key::from(&literal(key)), value: Value::from(&literal("[1]")) };
        let request = RequestId { client: 7, session: 1, number: 2 };
        let operation = Operation::Transaction {
            operations: vec![put("'a'"), Operation::Delete { key: Key::from(&literal("1")) }],
        };
        let mut batch = Batch::default();
        batch.push(&Command::OpenSession { client: 7 }.encode());
        batch.push(&Command::Write { request, acknowledged: 1, operation }.encode());
        let payload = batch.into_payload().to_vec();
        let shown = json(&of(1, payload.clone()));
        let operations = json!([
            {"operation": "put", "key": "'a'", "value": "[1]"},
            {"operation": "del", "key": "1"},
        ]);
        let expected = json!([
            {"client": 7, "operation": "open"},
            {"client": 7, "session": 1, "number": 2, "operation": "transaction", "operations": operations},
        ]);
        assert_eq!(shown["transactions"], expected);
        assert_eq!((&shown["kind"], &shown["height"], shown.get("payload")), (&json!("command"), &json!(3), None));
        for (kind, payload, hex) in
            [(1, [&payload[..], &[9]].concat(), None), (1, vec![7; 3], Some("070707")), (9, vec![0xab], Some("ab"))]
        {
            let shown = json(&of(kind, payload));
            assert!(shown["payload"].is_string() && hex.is_none_or(|hex| shown["payload"] == hex), "{shown}");
        }
    }

    #[test]
    fn a_block_prints_what_it_carries() {
        let text = block(&of(0, Vec::new()));
        assert_eq!(text.lines().next(), Some("block 3 term 2"));
        assert!(text.contains("a leader's first block") && text.ends_with(&format!("hash {}", "02".repeat(32))));
        assert!(block(&of(2, vec![1])).contains("the members are unreadable"));
        let digest = StateDigest { index: LogIndex(2), state: Digest([0x9f; 32]) };
        let about = of(3, digest.to_bytes().to_vec());
        let (shown, hex) = (json(&about), "9f".repeat(32));
        assert!(block(&about).contains(&format!("(no requests: a majority's state after block 2 is {hex})")));
        assert_eq!(
            (&shown["kind"], &shown["after"], &shown["state"]),
            (&json!("state digest"), &json!(2), &json!(hex))
        );
        assert!(block(&of(9, vec![1])).contains("1 bytes of an unknown kind, 9"));
        assert!(block(&FoundBlock { prev_hash: None, ..of(0, Vec::new()) }).contains("prev unknown"));
    }
}
