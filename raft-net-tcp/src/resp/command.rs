//! Commands of Redis's protocol: what each asks of the machine, and how the answer reads.
//!
//! A Redis key or value of some bytes is the Python literal of the same bytes: `SET k v` is `put b'k' b'v'`.

use bytes::Bytes;
use raft_kv::literal::Literal;
use raft_kv::{
    Key, Operation, Outcome, Pair, QUERIES_MAX, Query, QueryReply, TRANSACTION_BYTES_MAX, TRANSACTION_OPERATIONS_MAX,
    Value,
};

use super::cursors::Cursors;
use super::table::{self, Spec};
use super::{glob, reply};

/// What a command asks.
#[derive(Debug)]
pub(super) enum Plan {
    /// Of this server alone, without the machine.
    Local(&'static Spec, Vec<Bytes>),
    /// Of the machine, of which it changes nothing.
    Read(Read),
    /// Of the machine, which it changes.
    Write(Write),
    /// Nothing: it is refused with this error.
    Refused(String),
    /// Nothing, and it was never meant for a server of this kind: the connection closes.
    Foreign,
}

/// Queries, and how their replies read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) queries: Vec<Query>,
    form: ReadForm,
}

#[derive(Debug)]
enum ReadForm {
    /// `GET`.
    Value,
    /// `MGET`.
    Values,
    /// `EXISTS`.
    Count,
    /// `DBSIZE`.
    Size,
    /// `SCAN`, of the keys that fit the pattern.
    Page(Option<Bytes>),
}

/// Operations, and how their outcomes read.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) operations: Vec<Operation>,
    form: WriteForm,
}

#[derive(Debug)]
enum WriteForm {
    /// `SET`, `MSET`.
    Done,
    /// `DEL`.
    Count,
    /// `INCR` and its like.
    Sum,
    /// `CAS`.
    Swap,
}

/// What a command asks.
pub(super) fn plan(words: Vec<Bytes>, cursors: &Cursors) -> Plan {
    let name = words.first().map(|name| &name[..]).unwrap_or_default();
    if [&b"post"[..], b"host:"].iter().any(|foreign| name.eq_ignore_ascii_case(foreign)) {
        return Plan::Foreign;
    }
    let Some(spec) = table::find(name) else { return Plan::Refused(unknown(&words)) };
    if !spec.takes(words.len()) {
        return Plan::Refused(format!("ERR wrong number of arguments for '{}' command", spec.name));
    }
    let arguments = words.get(1..).unwrap_or_default();
    let planned = match spec.name {
        "get" => read(ReadForm::Value, arguments.iter().map(get)),
        "mget" => read(ReadForm::Values, arguments.iter().map(get)),
        "exists" => read(ReadForm::Count, arguments.iter().map(|key| Query::Written { key: canonical(key) })),
        "dbsize" => read(ReadForm::Size, [Query::Size]),
        "scan" => scan(arguments, cursors),
        "set" => set(arguments),
        "mset" => mset(arguments),
        "del" => write(WriteForm::Count, arguments.iter().map(|key| Operation::Delete { key: stored_key(key) })),
        "incr" => add(arguments, 1),
        "decr" => add(arguments, -1),
        "incrby" => amount(arguments).and_then(|amount| add(arguments, amount)),
        "decrby" => amount(arguments).and_then(|amount| add(arguments, amount.checked_neg().ok_or(NO_INTEGER)?)),
        "cas" => cas(arguments),
        _ => return Plan::Local(spec, words),
    };
    planned.unwrap_or_else(|error| Plan::Refused(error.into()))
}

impl Read {
    /// Writes what the replies to its queries say.
    pub(super) fn answer(&self, replies: &[QueryReply], cursors: &mut Cursors, out: &mut Vec<u8>) {
        match &self.form {
            ReadForm::Value => match replies.first() {
                Some(QueryReply::Value { value: Some(value) }) => match text(value) {
                    Some(text) => reply::bulk(out, &text),
                    None => reply::error(out, WRONG_TYPE),
                },
                _ => reply::null(out),
            },
            ReadForm::Values => {
                reply::array(out, replies.len());
                for found in replies {
                    match found {
                        QueryReply::Value { value: Some(value) } => match text(value) {
                            Some(text) => reply::bulk(out, &text),
                            None => reply::null(out),
                        },
                        _ => reply::null(out),
                    }
                }
            }
            ReadForm::Count => {
                reply::integer(
                    out,
                    count(replies.iter(), |reply| matches!(reply, QueryReply::Written { height: Some(_) })),
                );
            }
            ReadForm::Size => match replies.first() {
                Some(QueryReply::Size { keys, .. }) => reply::integer(out, i64::try_from(*keys).unwrap_or(i64::MAX)),
                _ => reply::error(out, STRANGE),
            },
            ReadForm::Page(pattern) => match replies.first() {
                Some(QueryReply::Page { pairs, more }) => page(pairs, *more, pattern.as_deref(), cursors, out),
                _ => reply::error(out, STRANGE),
            },
        }
    }
}

impl Write {
    /// Whether it may be done in one transaction with others, and nothing is undone where it does nothing.
    pub(super) const fn joins_others(&self) -> bool {
        !matches!(self.form, WriteForm::Swap)
    }

    /// Writes what came of its operations.
    pub(super) fn answer(&self, outcomes: &[Outcome], out: &mut Vec<u8>) {
        match (&self.form, outcomes.first()) {
            (WriteForm::Done, _) => reply::simple(out, "OK"),
            (WriteForm::Count, _) => {
                reply::integer(out, count(outcomes.iter(), |done| matches!(done, Outcome::Deleted { existed: true })));
            }
            (WriteForm::Sum, Some(Outcome::Added { sum })) => reply::integer(out, *sum),
            (WriteForm::Sum, Some(Outcome::NotAdded)) => reply::error(out, NO_INTEGER),
            (WriteForm::Swap, Some(Outcome::Swapped)) => reply::integer(out, 1),
            (WriteForm::Swap, Some(Outcome::NotSwapped { .. })) => reply::integer(out, 0),
            _ => reply::error(out, STRANGE),
        }
    }
}

type Planned = Result<Plan, &'static str>;

fn read(form: ReadForm, queries: impl IntoIterator<Item = Query>) -> Planned {
    let queries: Vec<Query> = queries.into_iter().collect();
    if queries.len() > QUERIES_MAX {
        return Err("ERR too many keys: a command that reads may have 1024");
    }
    Ok(Plan::Read(Read { queries, form }))
}

fn write(form: WriteForm, operations: impl IntoIterator<Item = Operation>) -> Planned {
    let operations: Vec<Operation> = operations.into_iter().collect();
    // What the machine would refuse: it would refuse all that is in one transaction with it.
    let sizes = operations.iter().map(Operation::bytes);
    if operations.len() > TRANSACTION_OPERATIONS_MAX || sizes.fold(0, usize::saturating_add) > TRANSACTION_BYTES_MAX {
        return Err("ERR too much: a command that writes may have 128 keys, and 2 MiB with its values");
    }
    if operations.iter().any(|operation| operation.excess().is_some()) {
        return Err("ERR too large: a key may have 64 KiB, and a value 1 MiB with its length");
    }
    Ok(Plan::Write(Write { operations, form }))
}

fn get(key: &Bytes) -> Query {
    Query::Get { key: canonical(key) }
}

fn set(arguments: &[Bytes]) -> Planned {
    match arguments {
        [key, value] => write(WriteForm::Done, [put(key, value)]),
        _ => Err("ERR syntax error: SET has no options here"),
    }
}

fn mset(arguments: &[Bytes]) -> Planned {
    let (pairs, rest) = arguments.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("ERR wrong number of arguments for 'mset' command");
    }
    write(WriteForm::Done, pairs.iter().map(|[key, value]| put(key, value)))
}

fn put(key: &Bytes, value: &Bytes) -> Operation {
    Operation::Put { key: stored_key(key), value: stored_value(value) }
}

fn cas(arguments: &[Bytes]) -> Planned {
    let [key, expected, new] = arguments else { return Err("ERR syntax error: CAS key expected new") };
    let (expected, new) = (stored_value(expected), stored_value(new));
    write(WriteForm::Swap, [Operation::CompareAndSwap { key: stored_key(key), expected, new }])
}

fn add(arguments: &[Bytes], amount: i64) -> Planned {
    let key = arguments.first().map(stored_key).ok_or("ERR syntax error")?;
    write(WriteForm::Sum, [Operation::Add { key, amount }])
}

fn amount(arguments: &[Bytes]) -> Result<i64, &'static str> {
    arguments.get(1).and_then(|word| number(word)).ok_or(NO_INTEGER)
}

/// `SCAN cursor [MATCH pattern] [COUNT count]`.
fn scan(arguments: &[Bytes], cursors: &Cursors) -> Planned {
    let (mut pattern, mut limit) = (None, SCAN_COUNT);
    let (options, rest) = arguments.get(1..).unwrap_or_default().as_chunks::<2>();
    if !rest.is_empty() {
        return Err("ERR syntax error");
    }
    for [option, value] in options {
        match &option.to_ascii_lowercase()[..] {
            b"match" if value.len() <= PATTERN_BYTES_MAX => pattern = Some(value.clone()),
            b"match" => return Err("ERR the pattern is too long: it may have 256 bytes"),
            b"count" => {
                let count = number(value).filter(|count: &i64| *count > 0).ok_or(NO_INTEGER)?;
                limit = u32::try_from(count).unwrap_or(u32::MAX);
            }
            _ => return Err("ERR syntax error: SCAN has the options MATCH and COUNT"),
        }
    }
    let after = match arguments.first().and_then(|word| number::<u64>(word)) {
        Some(0) => None,
        Some(cursor) => Some(cursors.place(cursor).ok_or(UNKNOWN_CURSOR)?),
        None => return Err("ERR invalid cursor"),
    };
    let prefix = canonical(pattern.as_deref().map(glob::prefix).unwrap_or_default());
    read(ReadForm::Page(pattern), [Query::Scan { prefix: Some(prefix), after, limit }])
}

fn page(pairs: &[Pair], more: bool, pattern: Option<&[u8]>, cursors: &mut Cursors, out: &mut Vec<u8>) {
    let last = pairs.last().filter(|_| more);
    let cursor = last.map_or(0, |pair| cursors.keep(pair.key.canonical.clone()));
    // The first byte is the tag of all bytes.
    let keys = pairs.iter().filter_map(|pair| pair.key.canonical.get(1..));
    let keys: Vec<&[u8]> = keys.filter(|key| pattern.is_none_or(|pattern| glob::matches(pattern, key))).collect();
    reply::array(out, 2);
    reply::bulk(out, cursor.to_string().as_bytes());
    reply::array(out, keys.len());
    keys.into_iter().for_each(|key| reply::bulk(out, key));
}

fn canonical(key: &[u8]) -> Bytes {
    Literal::key_of_bytes(key).into()
}

fn stored_key(key: &Bytes) -> Key {
    Key::of_bytes(key)
}

fn stored_value(value: &Bytes) -> Value {
    Value::of_bytes(value)
}

/// A value as bytes: those of bytes, the text of a str, the digits of an int; `None` of any other literal.
fn text(value: &Value) -> Option<Bytes> {
    match Literal::decode(&value.0).ok()? {
        Literal::Bytes(bytes) => Some(bytes.into()),
        Literal::Str(text) => Some(text.into()),
        Literal::Int(number) => Some(number.to_string().into()),
        _ => None,
    }
}

fn number<N: std::str::FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn count<T>(all: impl Iterator<Item = T>, is_one: impl Fn(&T) -> bool) -> i64 {
    i64::try_from(all.filter(is_one).count()).unwrap_or(i64::MAX)
}

fn unknown(words: &[Bytes]) -> String {
    let show = |word: &Bytes| word.get(..word.len().min(128)).unwrap_or_default().escape_ascii().to_string();
    let name = words.first().map(show).unwrap_or_default();
    let arguments: Vec<String> = words.iter().skip(1).take(8).map(|word| format!("'{}'", show(word))).collect();
    format!("ERR unknown command '{name}', with args beginning with: {}", arguments.join(" "))
}

/// Keys that a scan looks at, where it does not say how many.
const SCAN_COUNT: u32 = 10;

/// The most bytes in a pattern: it is tried on every key of a page at once.
const PATTERN_BYTES_MAX: usize = 256;

const NO_INTEGER: &str = "ERR value is not an integer or out of range";
const WRONG_TYPE: &str =
    "WRONGTYPE the value is a Python literal other than bytes, str or int: read it with client get";
const UNKNOWN_CURSOR: &str =
    "ERR unknown cursor: it is of another server, of an earlier life of this one, or too old: begin with 0";
const STRANGE: &str = "ERR the answer makes no sense: does this cluster run another state machine?";

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(line: &str) -> Plan {
        plan(line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect(), &Cursors::new(0))
    }

    fn refused(line: &str) -> String {
        match planned(line) {
            Plan::Refused(error) => error,
            other => panic!("{other:?}"),
        }
    }

    fn answered(line: &str, replies: &[QueryReply]) -> String {
        let Plan::Read(read) = planned(line) else { panic!("{line}") };
        let mut out = Vec::new();
        read.answer(replies, &mut Cursors::new(0), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn value(literal: &str) -> QueryReply {
        QueryReply::Value { value: Some(Value::from(&Literal::parse(literal).unwrap())) }
    }

    #[test]
    fn what_is_no_command_of_ours_is_refused_with_redis_words() {
        for (line, error) in [
            ("nope a b", "ERR unknown command 'nope', with args beginning with: 'a' 'b'"),
            ("get", "ERR wrong number of arguments for 'get' command"),
            ("get a b", "ERR wrong number of arguments for 'get' command"),
            ("MSET a b c", "ERR wrong number of arguments for 'mset' command"),
            ("set a b EX 10", "ERR syntax error: SET has no options here"),
            ("incrby a x", NO_INTEGER),
            ("decrby a -9223372036854775808", NO_INTEGER),
            ("scan x", "ERR invalid cursor"),
            ("scan 7", UNKNOWN_CURSOR),
            ("scan 0 COUNT 0", NO_INTEGER),
            ("scan 0 MATCH", "ERR syntax error"),
        ] {
            assert_eq!(refused(line), error, "{line}");
        }
        assert!(refused(&format!("del {}", "k ".repeat(200).trim())).starts_with("ERR too much"));
        assert!(refused(&format!("incr {}", "k".repeat(64 << 10))).starts_with("ERR too large"));
        assert!(refused(&format!("set k {}", "v".repeat(1 << 20))).starts_with("ERR too large"));
        assert!(refused("\n\r").starts_with("ERR unknown command '\\n\\r'"));
        assert!(matches!(planned("POST / HTTP/1.1"), Plan::Foreign));
    }

    #[test]
    fn bytes_stand_for_the_literal_of_the_same_bytes() {
        let Plan::Write(Write { operations, .. }) = planned("SET k 5") else { panic!() };
        let literal = |text| Literal::parse(text).unwrap();
        assert_eq!(
            operations,
            [Operation::Put { key: Key::from(&literal("b'k'")), value: Value::from(&literal("b'5'")) }]
        );
        for (found, reply) in [("b'5'", "$1\r\n5\r\n"), ("'é'", "$2\r\né\r\n"), ("-12", "$3\r\n-12\r\n")] {
            assert_eq!(answered("get k", &[value(found)]), reply);
        }
        assert_eq!(answered("get k", &[QueryReply::Value { value: None }]), "$-1\r\n");
        assert!(answered("get k", &[value("[1]")]).starts_with("-WRONGTYPE "));
        assert_eq!(answered("mget k l", &[value("[1]"), value("1")]), "*2\r\n$-1\r\n$1\r\n1\r\n");
    }

    #[test]
    fn a_scan_goes_on_behind_the_last_key_of_a_page() {
        let mut cursors = Cursors::new(0);
        let Plan::Read(read) = planned("scan 0 match a[xy]* count 2") else { panic!() };
        let Some(Query::Scan { prefix, after: None, limit: 2 }) = read.queries.first() else { panic!("{read:?}") };
        assert_eq!(prefix.as_deref(), Some(&b"\x21a"[..]));
        let pair = |key: &'static str| Pair { key: stored_key(&Bytes::from(key)), value: Value(Bytes::new()) };
        let mut out = Vec::new();
        let page = QueryReply::Page { pairs: vec![pair("ax"), pair("az")], more: true };
        read.answer(&[page], &mut cursors, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "*2\r\n$1\r\n1\r\n*1\r\n$2\r\nax\r\n");
        let Plan::Read(next) = plan(["scan", "1"].map(Bytes::from).to_vec(), &cursors) else { panic!() };
        let Some(Query::Scan { after: Some(after), .. }) = next.queries.first() else { panic!("{next:?}") };
        assert_eq!(&after[..], b"\x21az");
    }
}
