//! Operations and answers as people read them.

use raft_kv::{Operation, Query, QueryReply, Value};

use super::mix::name;

pub(super) fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Put { key, value: new } => format!("put {} = {}", text(&key.canonical), value(new)),
        Operation::Delete { key } => format!("del {}", text(&key.canonical)),
        Operation::CompareAndSwap { key, expected, new } => {
            format!("cas {} {} -> {}", text(&key.canonical), value(expected), value(new))
        }
        Operation::Transaction { operations } => {
            let operations: Vec<String> = operations.iter().map(self::operation).collect();
            format!("transaction [{}]", operations.join("; "))
        }
        Operation::Add { key, amount } => format!("add {} {amount}", text(&key.canonical)),
    }
}

pub(super) fn query(query: &Query) -> String {
    match query {
        Query::Get { key } => format!("get {}", text(key)),
        Query::Scan { after, limit, .. } => {
            let after = after.as_ref().map(|after| format!(" after {}", text(after))).unwrap_or_default();
            format!("scan{after}, {limit} at most")
        }
        Query::Size => "size".into(),
        Query::Written { key } => format!("who wrote {}", text(key)),
        Query::Several { queries } => queries.iter().map(self::query).collect::<Vec<_>>().join("; "),
    }
}

pub(super) fn found(reply: &QueryReply) -> String {
    match reply {
        QueryReply::Value { value: Some(found) } => value(found),
        QueryReply::Value { value: None } => "not there".into(),
        QueryReply::Page { pairs, more } => {
            let pairs = pairs.iter().map(|pair| format!("{} = {}", text(&pair.key.canonical), value(&pair.value)));
            format!("[{}]{}", pairs.collect::<Vec<_>>().join(", "), if *more { " and more" } else { "" })
        }
        QueryReply::Size { keys, sessions } => format!("{keys} keys, {sessions} sessions"),
        QueryReply::Written { height } => format!("block {height:?}"),
        QueryReply::Malformed { what } => format!("malformed: {what}"),
        QueryReply::Several { replies } => replies.iter().map(found).collect::<Vec<_>>().join("; "),
    }
}

fn value(value: &Value) -> String {
    text(&name(value))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
