//! Scenario scripts: a story of one command a line, and under each command, indented, the trace of what it made the
//! group do. The safety properties hold after every step, the expectations where they stand, and the whole trace is the
//! golden text that the script was written with. `tests/scripts/README.md` says how to write one.

mod cases;
pub mod dsl;
mod expect;
mod notation;
mod setup;
mod trace;
pub mod world;

use std::fs;
use std::path::PathBuf;

use dsl::Command;
use world::World;

/// Where the scripts are.
fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"))
}

/// Plays a script of the folder and holds its trace against the one it holds; with `UPDATE=1`, writes it anew.
fn run(name: &str) {
    let path = folder().join(format!("{name}.script"));
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let now = play(name, &golden).unwrap_or_else(|error| panic!("{error}"));
    if now == golden {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, now).unwrap();
        return;
    }
    let difference = difference(&golden, &now);
    panic!(
        "{name}.script: the trace is another (- as written, + now):\n{difference}\n\
         If that is right: UPDATE=1 cargo test -p raft-core --test it script::cases::{name}"
    );
}

/// The script with the trace as it is now.
fn play(name: &str, script: &str) -> Result<String, String> {
    let mut world = World::new(true);
    let mut text = String::new();
    for (line, number) in script.lines().zip(1..) {
        let is_trace = line.starts_with(' ');
        if is_trace {
            continue;
        }
        text += line;
        text.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = Place { name, number, line };
        let told = Command::parse(line).and_then(|command| world.perform(&command));
        for line in told.map_err(|error| format!("{place}\n{error}\nbefore it:\n{}", end_of(&text)))? {
            text += &format!("  {line}\n");
        }
    }
    Ok(text)
}

/// The last lines of a text.
fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Where a script is; says so where a safety property fails there.
struct Place<'a> {
    name: &'a str,
    number: u32,
    line: &'a str,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.script:{}: {}", self.name, self.number, self.line)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at {self}");
        }
    }
}

/// The lines that only one of two texts has, with two lines around them.
fn difference(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // The length of the longest common subsequence of what follows each pair of positions.
    let mut common = vec![vec![0_u32; after.len() + 1]; before.len() + 1];
    for (a, b) in (0..before.len()).rev().flat_map(|a| (0..after.len()).rev().map(move |b| (a, b))) {
        common[a][b] =
            if before[a] == after[b] { common[a + 1][b + 1] + 1 } else { common[a + 1][b].max(common[a][b + 1]) };
    }
    let mut all = Vec::new();
    let (mut a, mut b) = (0, 0);
    while a < before.len() || b < after.len() {
        if a < before.len() && b < after.len() && before[a] == after[b] {
            all.push((' ', a, before[a]));
            (a, b) = (a + 1, b + 1);
        } else if b == after.len() || (a < before.len() && common[a + 1][b] >= common[a][b + 1]) {
            all.push(('-', a, before[a]));
            a += 1;
        } else {
            all.push(('+', a, after[b]));
            b += 1;
        }
    }
    let is_near = |at: usize| all[at.saturating_sub(2)..(at + 3).min(all.len())].iter().any(|(sign, ..)| *sign != ' ');
    let line = |(at, (sign, number, text)): (usize, &(char, usize, &str))| {
        is_near(at).then(|| format!("{:4} {sign} {text}\n", number + 1))
    };
    all.iter().enumerate().filter_map(line).collect()
}

#[test]
fn a_difference_shows_what_is_near_it() {
    let shown = difference("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nx\ne\nf\n");
    assert_eq!(shown, "   2   b\n   3   c\n   4 - d\n   5 + x\n   5   e\n   6   f\n");
    assert_eq!(difference("a\n", "a\n"), "");
}

#[test]
fn a_bad_script_is_told_with_its_line() {
    let error = |script: &str| {
        let error = play("bad", script).unwrap_err();
        error.split_once("\nbefore it:").unwrap().0.to_owned()
    };
    assert!(error("nodes 3\ncampain 1\n").starts_with("bad.script:2: campain 1\n\"campain\" is no command"));
    assert!(error("campaign 1\n").contains("there is no group"));
    assert!(error("nodes 3\ncampaign 4\n").ends_with("there is no node 4"));
    assert!(error("nodes 3\ncampaign 1\nseed 4\n").contains("the group has started"));
    assert!(error("nodes 3\ncampaign 1\ndeliver 2->3\n").ends_with("no such message is under way"));
    assert!(error("nodes 3\nlimits speed=4\ncampaign 1\n").ends_with("there is no limit \"speed\""));
    assert!(error("nodes 3\ncampaign 1\nexpect colour 1 red\n").contains("is no fact"));
}

#[test]
fn an_expectation_that_does_not_hold_is_told_with_what_is() {
    let script = |expected: &str| play("it", &format!("nodes 3\ncampaign 1\n{expected}\n"));
    for holds in [
        "role 1 pre-candidate",
        "term 1 0",
        "term 1 <1",
        "not leader 1",
        "leader none",
        "commit 2 >=0",
        "sent 1->2 PreVote",
        "sent 1->2 t0 PreVote next=1",
        "not sent 2->1",
        "not silence",
        "notice 1 pre-candidate",
    ] {
        script(&format!("expect {holds}")).unwrap();
    }
    for fails in [
        "role 1 leader",
        "term 1 1",
        "term 1 >0",
        "leader 1",
        "not leader none",
        "sent 1->2 Pre",
        "sent 1->2 t1 PreVote",
        "sent 2->1",
        "silence",
        "notice 1 candidate",
        "not term 1 0",
        "term 1",
    ] {
        script(&format!("expect {fails}")).unwrap_err();
    }
    let error = script("expect term 1 4").unwrap_err();
    assert!(error.starts_with("it.script:3: expect term 1 4\nexpected term 1 4, found:\n    0\nbefore it:\nnodes 3\n"));
}
