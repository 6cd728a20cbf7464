//! The commands that there are, as `COMMAND` describes them.

use super::reply;

/// A command.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// Its words with its name; at least so many where it is negative.
    arity: i64,
    flag: &'static str,
    /// Which words are keys: the first, the last (from the end where negative), the step; all 0 where none is.
    keys: [i64; 3],
}

impl Spec {
    /// Whether it may have so many words.
    pub(super) fn takes(&self, words: usize) -> bool {
        let words = i64::try_from(words).unwrap_or(i64::MAX);
        if self.arity < 0 { words >= self.arity.saturating_neg() } else { words == self.arity }
    }

    /// As `COMMAND` has it.
    pub(super) fn describe(&self, out: &mut Vec<u8>) {
        reply::array(out, 6);
        reply::bulk(out, self.name.as_bytes());
        reply::integer(out, self.arity);
        reply::array(out, 1);
        reply::simple(out, self.flag);
        self.keys.iter().for_each(|number| reply::integer(out, *number));
    }
}

/// The command of this name, in letters of any size.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

const fn spec(name: &'static str, arity: i64, flag: &'static str, keys: [i64; 3]) -> Spec {
    Spec { name, arity, flag, keys }
}

/// Those that are used most come first.
pub(super) const COMMANDS: &[Spec] = &[
    spec("get", 2, "readonly", [1, 1, 1]),
    spec("set", -3, "write", [1, 1, 1]),
    spec("del", -2, "write", [1, -1, 1]),
    spec("exists", -2, "readonly", [1, -1, 1]),
    spec("mget", -2, "readonly", [1, -1, 1]),
    spec("mset", -3, "write", [1, -1, 2]),
    spec("incr", 2, "write", [1, 1, 1]),
    spec("incrby", 3, "write", [1, 1, 1]),
    spec("decr", 2, "write", [1, 1, 1]),
    spec("decrby", 3, "write", [1, 1, 1]),
    spec("cas", 4, "write", [1, 1, 1]),
    spec("scan", -2, "readonly", [0, 0, 0]),
    spec("dbsize", 1, "readonly", [0, 0, 0]),
    spec("ping", -1, "fast", [0, 0, 0]),
    spec("echo", 2, "fast", [0, 0, 0]),
    spec("info", -1, "loading", [0, 0, 0]),
    spec("command", -1, "loading", [0, 0, 0]),
    spec("config", -2, "admin", [0, 0, 0]),
    spec("client", -2, "admin", [0, 0, 0]),
    spec("hello", -1, "fast", [0, 0, 0]),
    spec("quit", -1, "fast", [0, 0, 0]),
];
