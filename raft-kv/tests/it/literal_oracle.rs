//! `raft_kv::literal` against CPython itself: what it accepts, what it prints, what it finds equal.
//!
//! One `python3` answers every question (`oracle.py`). Where it is missing, the tests are skipped with a
//! message. The texts are hand-picked ones, random ones from a grammar, and random damage to both.
//!
//! The characters come from ranges whose categories no Unicode version since 3.11's 14.0 changed: this
//! crate's tables are newer, and print what was assigned later as itself.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use raft_kv::literal::{Literal, LiteralErrorKind};
use serde_json::{Value, json};

use crate::literal_texts::{NASTY, Texts};

/// The seed: fixed, or `LITERAL_SEED`'s to try another.
fn seed() -> u64 {
    std::env::var("LITERAL_SEED").map_or(0x5eed_1e77, |seed| seed.parse().expect("LITERAL_SEED is a number"))
}

/// How to see a failure again.
fn replay(seed: u64) -> String {
    format!("LITERAL_SEED={seed} cargo test -p raft-kv --test it literal")
}

/// CPython's answer: what it shows, or the name of the exception's type.
type Answer = Result<Value, String>;

#[test]
fn python_accepts_and_prints_the_same() {
    let mut texts: Vec<String> = NASTY.iter().map(|text| (*text).to_owned()).collect();
    let mut random = Texts::new(seed());
    texts.extend(floats(&mut random));
    for _ in 0..6000 {
        texts.push(random.literal(4));
    }
    for index in 0..12_000 {
        let damaged = random.damage(&texts[index % texts.len()]);
        texts.push(damaged);
    }
    let Some(answers) = ask(texts.iter().map(|text| json!(["eval", text])).collect()) else {
        return;
    };
    let mut accepted = 0;
    let mut excused = 0;
    let mut differing = Vec::new();
    for (text, answer) in texts.iter().zip(&answers) {
        match (Literal::parse(text), answer) {
            (Ok(literal), Ok(shown)) if json!(show(&literal)) == *shown => accepted += 1,
            (Err(_), Err(_)) => {}
            (ours, theirs) if is_deviation(text, &ours, theirs) => excused += 1,
            (ours, theirs) => differing.push((text, theirs, ours.map(|literal| show(&literal)))),
        }
    }
    let first = differing.get(..10).unwrap_or(&differing);
    assert!(differing.is_empty(), "{}\n{} differ (text, Python, ours): {first:#?}", replay(seed()), differing.len());
    println!("{} texts: {accepted} accepted by both, {excused} documented deviations", texts.len());
    // So that a broken generator does not pass for agreement.
    assert!(accepted > texts.len() / 3 && accepted < texts.len() * 9 / 10 && excused < texts.len() / 20);
}

#[test]
fn python_finds_the_same_keys_equal() {
    let mut random = Texts::new(seed());
    let mut pairs = Vec::new();
    for left in EQUALS {
        for right in EQUALS {
            pairs.push(((*left).to_owned(), (*right).to_owned()));
        }
    }
    for _ in 0..6000 {
        let left = random.small_literal(2);
        let right = if random.one_in(2) { random.small_literal(2) } else { random.respell(&left) };
        pairs.push((left, right));
    }
    let Some(answers) = ask(pairs.iter().map(|(left, right)| json!(["equal", left, right])).collect()) else {
        return;
    };
    let mut equal = 0;
    let mut compared = 0;
    for ((left, right), answer) in pairs.iter().zip(&answers) {
        let (Ok(ours_left), Ok(ours_right)) = (Literal::parse(left), Literal::parse(right)) else {
            assert!(answer.is_err(), "{}\nPython reads {left:?} and {right:?}", replay(seed()));
            continue;
        };
        let same_key = ours_left.key() == ours_right.key();
        assert_eq!(answer, &Ok(json!(same_key)), "{}\n{left} == {right}", replay(seed()));
        compared += 1;
        equal += usize::from(same_key);
    }
    println!("{compared} pairs: {equal} equal");
    assert!(compared > pairs.len() / 2 && equal > compared / 10 && equal < compared * 9 / 10);
}

/// Asks CPython everything at once. `None`, with a message, where there is no `python3`.
fn ask(requests: Vec<Value>) -> Option<Vec<Answer>> {
    const SCRIPT: &str = include_str!("oracle.py");
    let spawned = Command::new("python3")
        .args(["-I", "-X", "utf8", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut python = match spawned {
        Ok(python) => python,
        Err(error) => {
            println!("skipped: no python3 to compare with: {error}");
            return None;
        }
    };
    let count = requests.len();
    let mut stdin = python.stdin.take().unwrap();
    // A thread of its own, since both pipes are shorter than what goes through them.
    let writer = thread::spawn(move || {
        for request in requests {
            writeln!(stdin, "{request}").unwrap();
        }
    });
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "oracle.py failed: {}", output.status);
    let answers: Vec<Answer> =
        output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(answer).collect();
    assert_eq!(answers.len(), count);
    Some(answers)
}

fn answer(line: &[u8]) -> Answer {
    match serde_json::from_slice::<(String, Value)>(line).unwrap() {
        (status, shown) if status == "ok" => Ok(shown),
        (_, Value::String(exception)) => Err(exception),
        other => panic!("oracle.py answered {other:?}"),
    }
}

/// What the module's documentation lists under "Where this differs from CPython 3.11".
fn is_deviation(text: &str, ours: &Result<Literal, raft_kv::literal::LiteralError>, theirs: &Answer) -> bool {
    match (ours, theirs) {
        (Err(error), Ok(_)) => match error.kind {
            LiteralErrorKind::NamedEscape | LiteralErrorKind::Surrogate => text.contains('\\'),
            LiteralErrorKind::TooDeep => text.matches(['(', '[', '{']).count() > raft_kv::literal::MAX_NESTING,
            LiteralErrorKind::Name { ref name } => {
                let squeezed: String = text.split_whitespace().collect();
                let has_wide_letters = name.chars().count() == 3 && !name.is_ascii();
                has_wide_letters || (name == "set" && squeezed.contains("(set)"))
            }
            _ => false,
        },
        (Ok(_), Err(exception)) => exception == "IndentationError",
        _ => false,
    }
}

/// As `show` in `oracle.py`: the repr, with the elements of sets sorted by their reprs.
fn show(literal: &Literal) -> String {
    with_sorted_sets(literal.clone()).to_string()
}

fn with_sorted_sets(literal: Literal) -> Literal {
    let all = |items: Vec<Literal>| items.into_iter().map(with_sorted_sets).collect();
    match literal {
        Literal::Tuple(items) => Literal::Tuple(all(items)),
        Literal::List(items) => Literal::List(all(items)),
        Literal::Set(mut items) => {
            items.sort_by_cached_key(Literal::to_string);
            Literal::Set(items)
        }
        Literal::Dict(entries) => {
            Literal::Dict(entries.into_iter().map(|(key, value)| (key, with_sorted_sets(value))).collect())
        }
        scalar => scalar,
    }
}

/// Floats near every power of two and of ten, where the shortest digits are hardest to find.
fn floats(random: &mut Texts) -> Vec<String> {
    let mut values = Vec::new();
    for exponent in -1074..=1023 {
        let power = 2_f64.powi(exponent);
        values.extend([power, power.next_up(), power.next_down()]);
    }
    for exponent in -323..=308 {
        let power: f64 = format!("1e{exponent}").parse().unwrap();
        values.extend([power, power.next_up(), power.next_down(), power * 1.5]);
    }
    for _ in 0..2000 {
        values.push(f64::from_bits(random.next()));
        // Quarters, whose last of 17 digits is a 5: often a tie between two of 16.
        values.push((random.next() >> 12) as f64 / 4.0);
    }
    values.into_iter().filter(|value| value.is_finite()).map(|value| format!("{value:.17e}")).collect()
}

#[rustfmt::skip]
const EQUALS: &[&str] = &[
    "None", "...", "True", "False", "0", "1", "-1", "0.0", "-0.0", "1.0", "-1.0", "0j", "-0j", "1+0j", "1-0j",
    "0.0+1j", "1j", "-1j", "1+1j", "0.1", "0.5", "1e400", "-1e400", "1e400+0j", "1e400+1j", "9007199254740991",
    "9007199254740992", "9007199254740993", "9007199254740992.0", "9007199254740993.0", "9007199254740994.0",
    "9007199254740992+0j", "18446744073709551616", "18446744073709551616.0", "18446744073709551617", "1e22",
    "10000000000000000000000", "1e23", "100000000000000000000000", "99999999999999991611392", "5e-324", "-5e-324",
    "2.2250738585072014e-308", "0x1000000000000000000000000", "''", "'a'", "'b'", "'a\\0'", "b''", "b'a'", "()",
    "(1,)", "(True,)", "(1, 2)", "[]", "[1]", "[1.0]", "[[1]]", "[1, 2]", "[[1], 2]", "[1, [2]]", "{}", "set()",
    "{1}", "{1.0}", "{1, 2}", "{2, True}", "{1: 2}", "{True: 2.0}", "{1: 2, 3: 4}", "{3: 4, 1: 2}", "{1: 4, 3: 2}",
    "{1: 2, 1.0: 3}", "{1: 3}", "{'a': {'b': 1}}", "{'a': {'b': True}}", "['a', 'b']", "['ab']", "['a\\0', 'b']",
    "['a', '\\0b']", "[b'a']", "(('a',), 'b')", "(('a', 'b'),)",
];
