//! The commands on a server's standard input, and how what they print looks.

use std::fmt::Write as _;

use raft_core::{Commands, Configuration, Digest, Entry, LogIndex, Payload, StateDigest, Status};
use raft_kv::literal::Literal;
use raft_kv::{Command, Operation, Pair};

/// One command on a server's standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// `failProcess`
    FailProcess,
    /// `failLink <port>`
    FailLink(u16),
    /// `fixLink <port>`
    FixLink(u16),
    /// `print …`
    Print(Print),
    /// `status`
    Status,
    /// `help`
    Help,
}

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// Every block.
    Blockchain,
    /// Every key.
    KvStore,
    /// The height of the last block.
    Depth,
    /// What waits to be decided.
    RequestQueue,
    /// The links broken on purpose.
    BrokenLinks,
    /// Everybody's address.
    ServerList,
}

/// What `help` prints.
pub const HELP: &str = "\
failProcess              dies at once, as by kill -9
failLink <port>          breaks the link to the server or client with this port, both ways
fixLink <port>           mends it
print blockchain | bc    every block: height, term, requests, hashes, decided or tentative
print kvstore | kv       every key with its value
print depth              the height of the last block
print requestQueue | rq  requests that wait to be decided
print brokenLinks | bl   broken links
print serverList | sl    every server's address
status                   role, term, leader, log, followers
help                     this";

const PRINT_USAGE: &str =
    "usage: print blockchain|bc, kvstore|kv, depth, requestQueue|rq, brokenLinks|bl, serverList|sl";

impl Console {
    /// Reads a line; `None` where it is empty.
    ///
    /// # Errors
    /// The line is no command; the error says what would be.
    pub fn parse(line: &str) -> Result<Option<Self>, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = |word: &str| word.parse().map_err(|_| format!("no such port: {word}"));
        Ok(Some(match words[..] {
            [] => return Ok(None),
            ["failProcess"] => Self::FailProcess,
            ["failLink", word] => Self::FailLink(port(word)?),
            ["fixLink", word] => Self::FixLink(port(word)?),
            [command @ ("failLink" | "fixLink"), ..] => return Err(format!("usage: {command} <port>")),
            ["print", what] => Self::Print(Print::parse(what).ok_or(PRINT_USAGE)?),
            ["print", ..] => return Err(PRINT_USAGE.into()),
            ["status"] => Self::Status,
            ["help"] => Self::Help,
            [other, ..] => return Err(format!("no such command: {other}; try help")),
        }))
    }
}

impl Print {
    fn parse(what: &str) -> Option<Self> {
        Some(match what {
            "blockchain" | "bc" => Self::Blockchain,
            "kvstore" | "kv" => Self::KvStore,
            "depth" => Self::Depth,
            "requestQueue" | "rq" => Self::RequestQueue,
            "brokenLinks" | "bl" => Self::BrokenLinks,
            "serverList" | "sl" => Self::ServerList,
            _ => return None,
        })
    }
}

/// A block as it prints: height, term, its requests, previous hash, hash, and whether it is decided.
#[must_use]
pub fn block(entry: &Entry, prev: Option<Digest>, hash: Option<Digest>, commit_index: LogIndex) -> String {
    let standing = if entry.index <= commit_index { "decided" } else { "tentative" };
    let mut text = format!("block {} term {} {standing}", entry.index, entry.term);
    match &entry.payload {
        Payload::Noop => text.push_str("\n  (no requests: a leader's first block)"),
        Payload::Configuration(bytes) => {
            let members = Configuration::from_bytes(bytes).map_or_else(|| "unreadable".into(), |held| held.to_string());
            let _ = write!(text, "\n  (no requests: the members are {members})");
        }
        Payload::StateDigest(bytes) => {
            let _ = write!(text, "\n  (no requests: {})", state_digest(bytes));
        }
        Payload::Command(payload) => {
            for command in Commands::of(payload) {
                let _ = write!(text, "\n  {}", request(command));
            }
        }
    }
    let hex = |digest: Option<Digest>| digest.map_or_else(|| "none".into(), |digest| digest.to_string());
    let _ = write!(text, "\n  prev {}\n  hash {}", hex(prev), hex(hash));
    text
}

/// What a block says of the state.
pub(crate) fn state_digest(bytes: &[u8]) -> String {
    StateDigest::from_bytes(bytes).map_or_else(
        || "unreadable".into(),
        |digest| format!("a majority's state after block {} is {}", digest.index, digest.state),
    )
}

/// A request as it prints: `(client, number) what`.
#[must_use]
pub fn request(command: &[u8]) -> String {
    match Command::decode(command) {
        Ok(Command::OpenSession { client }) => format!("({client}, 0) open a session"),
        Ok(Command::Write { request, operation, .. }) => {
            format!("({}, {}) {}", request.client, request.number, operation_text(&operation))
        }
        Err(error) => format!("(a request that cannot be read: {error})"),
    }
}

fn operation_text(operation: &Operation) -> String {
    match operation {
        Operation::Put { key, value } => format!("put {} {}", literal(key.shown()), literal(&value.0)),
        Operation::Delete { key } => format!("del {}", literal(key.shown())),
        Operation::CompareAndSwap { key, expected, new } => {
            format!("cas {} {} {}", literal(key.shown()), literal(&expected.0), literal(&new.0))
        }
        Operation::Transaction { operations } => {
            let operations: Vec<String> = operations.iter().map(operation_text).collect();
            format!("all or nothing: {}", operations.join("; "))
        }
        Operation::Add { key, amount } => format!("add {} {amount}", literal(key.shown())),
    }
}

/// A pair of the store as it prints.
#[must_use]
pub fn pair(pair: &Pair) -> String {
    format!("{}: {}", literal(pair.key.shown()), literal(&pair.value.0))
}

/// Stored bytes as the literal that they encode.
#[must_use]
pub fn literal(bytes: &[u8]) -> String {
    Literal::decode(bytes)
        .map_or_else(|error| format!("<{} bytes: {error}>", bytes.len()), |literal| literal.to_string())
}

/// What `status` prints.
#[must_use]
pub fn status(status: &Status) -> String {
    let leader = status.leader.map_or_else(|| "none".into(), |leader| leader.to_string());
    let head = status.head.map_or_else(|| "none".into(), |head| head.to_string());
    let mut text = format!(
        "server {}: {}, term {}, leader {leader}, last {}, durable {}, commit {}, applied {}, head {head}",
        status.id,
        status.role,
        status.term,
        status.last_index,
        status.persisted_index,
        status.commit_index,
        status.last_applied,
    );
    for (id, progress) in &status.followers {
        let lag = status.last_index.0.saturating_sub(progress.match_index().0);
        let _ = write!(text, "\n  follower {id}: match {}, lag {lag}", progress.match_index());
    }
    let others = status.followers.iter().filter(|(_, progress)| !progress.counts()).map(|(id, _)| *id);
    for id in others.chain(status.is_replaced.then_some(status.id)) {
        let _ = write!(text, "\n  server {id} has lost its disk: remove it, then add it again");
    }
    if !status.has_room {
        text.push_str("\n  its disk is full: no writes until there is room");
    }
    if let Some(fault) = &status.fault {
        let _ = write!(text, "\n  halted: {fault}");
    }
    text
}

#[cfg(test)]
mod tests {
    use raft_core::{Batch, Term};
    use raft_kv::{Key, RequestId, Value};

    use super::*;

    #[test]
    fn the_commands_and_their_short_names_are_read() {
        let parse = |line: &str| Console::parse(line).unwrap().unwrap();
        assert_eq!(parse("failLink 8002"), Console::FailLink(8002));
        assert_eq!(parse(" fixLink  7001 "), Console::FixLink(7001));
        for (long, short) in [
            ("blockchain", "bc"),
            ("kvstore", "kv"),
            ("requestQueue", "rq"),
            ("brokenLinks", "bl"),
            ("serverList", "sl"),
        ] {
            assert_eq!(parse(&format!("print {long}")), parse(&format!("print {short}")));
        }
        assert_eq!(parse("print depth"), Console::Print(Print::Depth));
        assert_eq!(Console::parse(""), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |line: &str| Console::parse(line).unwrap_err();
        assert_eq!(error("failLink"), "usage: failLink <port>");
        assert_eq!(error("failLink here"), "no such port: here");
        assert_eq!(error("fixLink 70000"), "no such port: 70000");
        assert!(error("print everything").starts_with("usage: print blockchain|bc"));
        assert_eq!(error("frobnicate"), "no such command: frobnicate; try help");
    }

    #[test]
    fn a_block_prints_its_requests_and_whether_it_is_decided() {
        let literal = |text| Literal::parse(text).unwrap();
        let operation = Operation::Put { key: Key::from(&literal("'a'")), value: Value::from(&literal("[1, None]")) };
        let request = RequestId { client: 7, session: 1, number: 2 };
        let mut batch = Batch::default();
        batch.push(&Command::Write { request, acknowledged: 1, operation }.encode());
        batch.push(b"garbage");
        let entry = Entry { index: LogIndex(3), term: Term(2), payload: Payload::Command(batch.into_payload()) };
        let text = block(&entry, Some(Digest([1; 32])), Some(Digest([2; 32])), LogIndex(2));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "block 3 term 2 tentative");
        assert_eq!(lines[1], "  (7, 2) put 'a' [1, None]");
        assert!(lines[2].starts_with("  (a request that cannot be read"));
        assert_eq!(lines[3], format!("  prev {}", "01".repeat(32)));
        assert_eq!(lines[4], format!("  hash {}", "02".repeat(32)));
        assert!(block(&entry, None, None, LogIndex(3)).starts_with("block 3 term 2 decided"));
    }
}
