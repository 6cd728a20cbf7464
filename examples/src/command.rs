//! The client's commands, as people write them: a word, then Python literals with spaces inside them or not.

use raft_core::NodeId;
use raft_kv::literal::{Literal, LiteralError};

/// One command of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `get <key>`
    Get(Literal),
    /// `put <key> <value>`
    Put(Literal, Literal),
    /// `del <key>`
    Del(Literal),
    /// `cas <key> <expected> <new>`
    Cas(Literal, Literal, Literal),
    /// `scan [prefix] [limit]`
    Scan {
        /// Only keys that begin so: a string or bytes.
        prefix: Option<Literal>,
        /// At most so many pairs.
        limit: u32,
    },
    /// `verify`
    Verify,
    /// `prove <key>`
    Prove(Literal),
    /// `status`
    Status,
    /// `members`
    Members,
    /// `add <id> <host:port>`
    Add(NodeId, String),
    /// `remove <id>`
    Remove(NodeId),
    /// `help`
    Help,
    /// `exit`
    Exit,
}

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError(pub String);

/// The names, for completion.
pub const NAMES: [&str; 13] =
    ["get", "put", "del", "cas", "scan", "verify", "prove", "status", "members", "add", "remove", "help", "exit"];

/// What `help` prints.
pub const HELP: &str = "\
get <key>                   the value, or KEY_DOES_NOT_EXIST
put <key> <value>           stores the value: success
del <key>                   removes the key: success, or KEY_DOES_NOT_EXIST
cas <key> <expected> <new>  stores <new> if the value equals <expected>
scan [prefix] [limit]       the keys, in order, with their values (limit: 100)
verify                      that the history goes on from the head that was seen before (client --head)
prove <key>                 a proof of the block that wrote the key last, for chain check
status                      what each server says of itself
members                     who takes part, and where
add <id> <host:port>        a server takes part: start it first, with --join
remove <id>                 a server takes part no more: stop it then
help                        this
exit                        ends
Keys and values are Python literals: 1  'text'  [1, (2, 3), None]  {'a': 1.5}";

/// Pairs that `scan` shows unless it is told.
const SCAN_LIMIT: u32 = 100;

impl Command {
    /// Reads a line; `None` where it is empty or a comment (`#`).
    ///
    /// # Errors
    /// The line is no command; the error says what would be.
    pub fn parse(line: &str) -> Result<Option<Self>, CommandError> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        // A literal may follow its command without a space: put{'a': 1} [2].
        let end = line.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let command = match name {
            "get" => literals(rest, "get <key>").map(|[key]| Self::Get(key)),
            "put" => literals(rest, "put <key> <value>").map(|[key, value]| Self::Put(key, value)),
            "del" => literals(rest, "del <key>").map(|[key]| Self::Del(key)),
            "cas" => {
                literals(rest, "cas <key> <expected> <new>").map(|[key, expected, new]| Self::Cas(key, expected, new))
            }
            "scan" => scan(rest),
            "verify" => alone(rest, Self::Verify),
            "prove" => literals(rest, "prove <key>").map(|[key]| Self::Prove(key)),
            "status" => alone(rest, Self::Status),
            "members" => alone(rest, Self::Members),
            "add" => add(rest),
            "remove" => remove(rest),
            "help" => alone(rest, Self::Help),
            "exit" | "quit" => alone(rest, Self::Exit),
            _ => Err(CommandError(format!("no such command: {}; try help", line.split(' ').next().unwrap_or(line)))),
        };
        command.map(Some)
    }

    /// As [`parse`](Self::parse), for bytes that may be no text.
    ///
    /// # Errors
    /// As there, or the bytes are not UTF-8.
    pub fn parse_bytes(line: &[u8]) -> Result<Option<Self>, CommandError> {
        let no_text = |_| CommandError(r"this line is not UTF-8: write bytes as in b'\xff'".into());
        Self::parse(std::str::from_utf8(line).map_err(no_text)?)
    }

    /// The command's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Put(..) => "put",
            Self::Del(_) => "del",
            Self::Cas(..) => "cas",
            Self::Scan { .. } => "scan",
            Self::Verify => "verify",
            Self::Prove(_) => "prove",
            Self::Status => "status",
            Self::Members => "members",
            Self::Add(..) => "add",
            Self::Remove(_) => "remove",
            Self::Help => "help",
            Self::Exit => "exit",
        }
    }
}

/// Exactly `N` literals, one behind the other.
fn literals<const N: usize>(text: &str, usage: &str) -> Result<[Literal; N], CommandError> {
    let usage_error = || CommandError(format!("usage: {usage}"));
    let mut rest = text.trim_start();
    let mut found = Vec::with_capacity(N);
    while !rest.is_empty() {
        let (literal, after) = Literal::parse_prefix(rest).map_err(|error| explain(&error, usage))?;
        found.push(literal);
        rest = after.trim_start();
        if found.len() > N {
            break;
        }
    }
    found.try_into().map_err(|_| usage_error())
}

fn explain(error: &LiteralError, usage: &str) -> CommandError {
    CommandError(format!("{error} (usage: {usage})"))
}

fn scan(text: &str) -> Result<Command, CommandError> {
    const USAGE: &str = "scan [prefix] [limit]: the prefix a string or bytes, the limit a number from 1";
    let usage = || CommandError(format!("usage: {USAGE}"));
    let text = text.trim();
    let is_limit = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = |text: &str| text.parse::<u32>().ok().filter(|limit| *limit > 0).ok_or_else(usage);
    if text.is_empty() {
        return Ok(Command::Scan { prefix: None, limit: SCAN_LIMIT });
    }
    if is_limit(text) {
        return Ok(Command::Scan { prefix: None, limit: limit(text)? });
    }
    let (prefix, rest) = Literal::parse_prefix(text).map_err(|error| explain(&error, USAGE))?;
    let rest = rest.trim();
    if !matches!(prefix, Literal::Str(_) | Literal::Bytes(_)) || !(rest.is_empty() || is_limit(rest)) {
        return Err(usage());
    }
    let limit = if rest.is_empty() { SCAN_LIMIT } else { limit(rest)? };
    Ok(Command::Scan { prefix: Some(prefix), limit })
}

fn add(text: &str) -> Result<Command, CommandError> {
    const USAGE: &str = "usage: add <id> <host:port>, a server's id and where it listens: add 4 127.0.0.1:8004";
    let usage = || CommandError(USAGE.into());
    let words: Vec<&str> = text.split_whitespace().collect();
    let [id, address] = words[..] else { return Err(usage()) };
    let (host, port) = address.rsplit_once(':').ok_or_else(usage)?;
    let is_address = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
    let id = server(id).filter(|_| is_address).ok_or_else(usage)?;
    Ok(Command::Add(id, address.into()))
}

fn remove(text: &str) -> Result<Command, CommandError> {
    let usage = || CommandError("usage: remove <id>, a server's id: remove 4".into());
    server(text.trim()).map(Command::Remove).ok_or_else(usage)
}

/// A server's id.
fn server(word: &str) -> Option<NodeId> {
    word.parse().ok().filter(|id| *id > 0).map(NodeId)
}

fn alone(rest: &str, command: Command) -> Result<Command, CommandError> {
    if rest.trim().is_empty() {
        Ok(command)
    } else {
        Err(CommandError(format!("{} takes nothing behind it", command.name())))
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Command {
        Command::parse(line).unwrap().unwrap()
    }

    fn literal(text: &str) -> Literal {
        Literal::parse(text).unwrap()
    }

    #[test]
    fn literals_may_hold_spaces() {
        let expected = Command::Put(literal("{'key1': 'val1'}"), literal("[1, (2, 3), None]"));
        assert_eq!(parse("put {'key1': 'val1'} [1, (2, 3), None]"), expected);
        assert_eq!(parse("  put {'key1': 'val1'}[1,(2,3),None]  "), expected);
        assert_eq!(parse("get \"a string\""), Command::Get(literal("'a string'")));
        assert_eq!(parse("prove (1, 2)"), Command::Prove(literal("(1, 2)")));
        assert_eq!(parse("cas 'a' 1 2"), Command::Cas(literal("'a'"), literal("1"), literal("2")));
    }

    #[test]
    fn a_scan_takes_a_prefix_a_limit_both_or_neither() {
        let scan = |prefix: Option<&str>, limit| Command::Scan { prefix: prefix.map(literal), limit };
        assert_eq!(parse("scan"), scan(None, 100));
        assert_eq!(parse("scan 7"), scan(None, 7));
        assert_eq!(parse("scan 'us er'"), scan(Some("'us er'"), 100));
        assert_eq!(parse("scan b'a' 3"), scan(Some("b'a'"), 3));
        for wrong in ["scan 0", "scan [1]", "scan 'a' 'b'", "scan 'a' 0", "scan 99999999999"] {
            assert!(Command::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_is_added_where_it_listens_and_removed_by_its_id() {
        assert_eq!(parse("add 4 127.0.0.1:8004"), Command::Add(NodeId(4), "127.0.0.1:8004".into()));
        assert_eq!(parse("add 4 [::1]:8004"), Command::Add(NodeId(4), "[::1]:8004".into()));
        assert_eq!(parse("remove 1"), Command::Remove(NodeId(1)));
        assert_eq!(parse("members"), Command::Members);
        for wrong in ["add", "add 4", "add 4 8004", "add 0 a:1", "add x a:1", "add 4 a:", "add 4 a:0", "add 4 :1"] {
            assert!(Command::parse(wrong).unwrap_err().0.starts_with("usage: add <id>"), "{wrong}");
        }
        for wrong in ["remove", "remove 0", "remove 1 2", "remove all"] {
            assert!(Command::parse(wrong).unwrap_err().0.starts_with("usage: remove <id>"), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |line: &str| Command::parse(line).unwrap_err().0;
        assert_eq!(error("put 'a'"), "usage: put <key> <value>");
        assert_eq!(error("put 1 2 3"), "usage: put <key> <value>");
        assert!(error("get abc").contains("write 'abc' with quotes"), "{}", error("get abc"));
        assert_eq!(error("frobnicate 1"), "no such command: frobnicate; try help");
        assert_eq!(error("status now"), "status takes nothing behind it");
        assert_eq!(error("verify 'a'"), "verify takes nothing behind it");
        assert_eq!(error("prove"), "usage: prove <key>");
    }

    #[test]
    fn empty_lines_and_comments_are_nothing() {
        assert_eq!(Command::parse("   "), Ok(None));
        assert_eq!(Command::parse("# put 1 2"), Ok(None));
    }
}
