//! Commands that this server answers by itself: about the connection, about the server, and what clients ask of a Redis
//! before they begin.

use bytes::Bytes;
use raft_core::RoleName;

use super::table::{self, COMMANDS, Spec};
use super::{glob, reply};
use crate::protocol::ServerStatus;

/// Who is connected.
#[derive(Debug)]
pub(super) struct Guest {
    /// Counts the connections of this server's life.
    pub(super) id: u64,
    name: Bytes,
}

/// What `INFO` tells of.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) status: ServerStatus,
    /// Keys in the store, as far as this server has applied.
    pub(super) keys: u64,
    /// Connections of Redis clients.
    pub(super) clients: usize,
}

impl Guest {
    pub(super) const fn new(id: u64) -> Self {
        Self { id, name: Bytes::new() }
    }

    /// Writes the reply to a command that fits `spec`; whether the connection is to close behind it.
    pub(super) fn answer(
        &mut self,
        spec: &Spec,
        words: &[Bytes],
        info: impl FnOnce() -> Info,
        out: &mut Vec<u8>,
    ) -> bool {
        let arguments = words.get(1..).unwrap_or_default();
        match (spec.name, arguments) {
            ("ping", []) => reply::simple(out, "PONG"),
            ("ping" | "echo", [text]) => reply::bulk(out, text),
            ("quit", _) => {
                reply::simple(out, "OK");
                return true;
            }
            ("info", _) => reply::bulk(out, info().text().as_bytes()),
            ("command", _) => command(arguments, out),
            ("config", _) => config(arguments, out),
            ("client", _) => self.client(arguments, out),
            ("hello", _) => self.hello(arguments, out),
            _ => reply::error(out, &format!("ERR wrong number of arguments for '{}' command", spec.name)),
        }
        false
    }

    fn client(&mut self, arguments: &[Bytes], out: &mut Vec<u8>) {
        match (&lower(arguments)[..], arguments.get(1..).unwrap_or_default()) {
            (b"id", []) => reply::integer(out, i64::try_from(self.id).unwrap_or(i64::MAX)),
            (b"setname", [name]) => self.set_name(name, out),
            (b"getname", []) if self.name.is_empty() => reply::null(out),
            (b"getname", []) => reply::bulk(out, &self.name),
            // What a library calls itself: told to nobody.
            (b"setinfo", [_, _]) => reply::simple(out, "OK"),
            _ => reply::error(out, "ERR CLIENT has ID, SETNAME, GETNAME and SETINFO here"),
        }
    }

    fn set_name(&mut self, name: &Bytes, out: &mut Vec<u8>) {
        if name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic) {
            // A copy: the name outlives what it was read with.
            self.name = Bytes::copy_from_slice(name);
            reply::simple(out, "OK");
        } else {
            reply::error(out, "ERR Client names cannot contain spaces, newlines or special characters.");
        }
    }

    /// `HELLO [2 [SETNAME name]]`: version 2 of the protocol is all there is.
    fn hello(&mut self, arguments: &[Bytes], out: &mut Vec<u8>) {
        let options = arguments.get(1..).unwrap_or_default();
        match (arguments.first().map(|version| &version[..]), options) {
            (None | Some(b"2"), []) => {}
            (Some(b"2"), [option, name]) if option.eq_ignore_ascii_case(b"setname") => {
                let mut said = Vec::new();
                self.set_name(name, &mut said);
                if said.first() == Some(&b'-') {
                    return out.extend_from_slice(&said);
                }
            }
            (Some(b"2"), _) => {
                return reply::error(out, "ERR HELLO has the option SETNAME here: there are no passwords");
            }
            _ => return reply::error(out, "NOPROTO unsupported protocol version"),
        }
        reply::array(out, 14);
        for (name, value) in [("server", "raft-kv"), ("version", env!("CARGO_PKG_VERSION"))] {
            reply::bulk(out, name.as_bytes());
            reply::bulk(out, value.as_bytes());
        }
        reply::bulk(out, b"proto");
        reply::integer(out, 2);
        reply::bulk(out, b"id");
        reply::integer(out, i64::try_from(self.id).unwrap_or(i64::MAX));
        for (name, value) in [("mode", "standalone"), ("role", "master")] {
            reply::bulk(out, name.as_bytes());
            reply::bulk(out, value.as_bytes());
        }
        reply::bulk(out, b"modules");
        reply::array(out, 0);
    }
}

impl Info {
    /// Every server takes writes: to a Redis client each is a master. What it is to the others stands beside it.
    fn text(&self) -> String {
        let Self { status, keys, clients } = self;
        let leader = status.leader.map_or_else(|| "none".into(), |leader| leader.to_string());
        let followers = if status.role == RoleName::Leader { status.followers.len() } else { 0 };
        let lines = [
            "# Server".into(),
            format!("raft_kv_version:{}", env!("CARGO_PKG_VERSION")),
            "redis_mode:standalone".into(),
            format!("server_id:{}", status.id),
            String::new(),
            "# Clients".into(),
            format!("connected_clients:{clients}"),
            String::new(),
            "# Replication".into(),
            "role:master".into(),
            format!("raft_role:{}", status.role),
            format!("raft_term:{}", status.term),
            format!("raft_leader:{leader}"),
            format!("raft_followers:{followers}"),
            format!("raft_commit_index:{}", status.commit_index),
            format!("raft_last_applied:{}", status.last_applied),
            format!("raft_has_room:{}", u8::from(status.has_room)),
            format!("raft_halted:{}", u8::from(status.fault.is_some())),
            String::new(),
            "# Keyspace".into(),
            format!("db0:keys={keys},expires=0,avg_ttl=0"),
            String::new(),
        ];
        lines.join("\r\n")
    }
}

fn command(arguments: &[Bytes], out: &mut Vec<u8>) {
    let rest = arguments.get(1..).unwrap_or_default();
    match &lower(arguments)[..] {
        b"" => {
            reply::array(out, COMMANDS.len());
            COMMANDS.iter().for_each(|spec| spec.describe(out));
        }
        b"count" => reply::integer(out, i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        b"info" => {
            reply::array(out, rest.len());
            for name in rest {
                match table::find(name) {
                    Some(spec) => spec.describe(out),
                    None => reply::null(out),
                }
            }
        }
        b"docs" => reply::array(out, 0),
        _ => reply::error(out, "ERR COMMAND has COUNT, INFO and DOCS here"),
    }
}

/// `CONFIG GET pattern...`: what is true here of what clients ask for.
fn config(arguments: &[Bytes], out: &mut Vec<u8>) {
    let patterns = arguments.get(1..).unwrap_or_default();
    if &lower(arguments)[..] != b"get" || patterns.is_empty() {
        return reply::error(out, "ERR CONFIG has GET here");
    }
    if patterns.iter().any(|pattern| pattern.len() > NAME_BYTES_MAX) {
        return reply::error(out, "ERR no parameter has so long a name");
    }
    let patterns: Vec<Vec<u8>> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let fits = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let found: Vec<_> = PARAMETERS.iter().filter(|(name, _)| fits(name)).collect();
    reply::array(out, found.len().saturating_mul(2));
    for (name, value) in found {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, value.as_bytes());
    }
}

/// The first word in small letters.
fn lower(words: &[Bytes]) -> Vec<u8> {
    words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default()
}

/// The most bytes in a connection's name, and in a pattern of parameters' names.
const NAME_BYTES_MAX: usize = 256;

/// Every write is in a file and durable before it is answered; nothing is ever thrown away to make room.
const PARAMETERS: [(&str, &str); 6] = [
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("save", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(guest: &mut Guest, line: &str) -> (String, bool) {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let spec = table::find(&lower(&words)).unwrap();
        let mut out = Vec::new();
        let closes = guest.answer(spec, &words, || panic!("no INFO"), &mut out);
        (String::from_utf8(out).unwrap(), closes)
    }

    #[test]
    fn a_client_is_told_what_it_asks_before_it_begins() {
        let mut guest = Guest::new(7);
        for (line, expected) in [
            ("PING", "+PONG\r\n"),
            ("ping x", "$1\r\nx\r\n"),
            ("echo x", "$1\r\nx\r\n"),
            ("client id", ":7\r\n"),
            ("client getname", "$-1\r\n"),
            ("client setname me", "+OK\r\n"),
            ("client getname", "$2\r\nme\r\n"),
            ("client setinfo LIB-NAME x", "+OK\r\n"),
            ("config get SAVE", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
            ("config get nothing", "*0\r\n"),
            ("config set save x", "-ERR CONFIG has GET here\r\n"),
            ("command docs get", "*0\r\n"),
            ("command info nope", "*1\r\n$-1\r\n"),
            ("hello 3", "-NOPROTO unsupported protocol version\r\n"),
        ] {
            assert_eq!(answer(&mut guest, line), (expected.into(), false), "{line}");
        }
        assert!(answer(&mut guest, "hello 2 SETNAME you").0.starts_with("*14\r\n$6\r\nserver\r\n"));
        assert_eq!(answer(&mut guest, "client getname").0, "$3\r\nyou\r\n");
        assert!(answer(&mut guest, "command").0.starts_with("*21\r\n*6\r\n$3\r\nget\r\n:2\r\n"));
        assert_eq!(answer(&mut guest, "quit"), ("+OK\r\n".into(), true));
    }
}
