//! The commands of a script, one a line. `README.md` beside the scripts says what each does.

use std::fmt;

use bytes::Bytes;
use raft_core::Message;

use super::notation::{self, number, numbers, parse_link, parse_message};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    // A new group, before its first event.
    Nodes { nodes: u32, voters: u32 },
    Seed(u64),
    Limits(Vec<(String, u64)>),
    Log { node: u32, terms: Vec<u64>, term: Option<u64> },
    Committed(u64),
    Incarnations,
    // The nodes.
    Elect(u32),
    Campaign(u32),
    Tick { node: u32, times: u32 },
    Run(u32),
    Propose { node: u32, payloads: Vec<Bytes> },
    Read { node: u32, read: u64 },
    Change { node: u32, voters: Vec<u32>, learners: Vec<u32>, catch_up: bool },
    Transfer { node: u32, to: u32 },
    HandOver(u32),
    Unreachable { node: u32, peer: u32 },
    Forge(Message),
    // Their disks and machines.
    Sync { on: bool, nodes: Vec<u32> },
    Persist { node: u32, writes: Option<usize> },
    Report { node: u32, write: u64 },
    Fail { node: u32, what: String },
    Apply(bool),
    Applied { node: u32, index: u64 },
    Snapshot(u32),
    Restored { node: u32, index: u64 },
    Crash { node: u32, also: usize },
    Wipe { node: u32, incarnation: u64 },
    Restart { node: u32, also: usize },
    // The network.
    Deliver(Which),
    Drop(Which),
    Repeat(Which),
    Settle,
    Cut(Vec<(u32, u32)>),
    Isolate(u32),
    Heal,
    // What must be so.
    Expect { not: bool, fact: String },
}

/// Messages under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All, and all that are sent for them.
    All,
    /// All that are under way now.
    Round,
    /// One, counted from the oldest, and round again past the newest.
    At(usize),
    /// Those of a link that are under way now, of one kind where it is named.
    Link { from: u32, to: u32, kind: Option<String> },
    /// Those of one kind.
    Kind(String),
}

impl Command {
    /// Reads one line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest.trim());
        let (name, words) = words.split_first().ok_or("an empty line is no command")?;
        match (*name, words) {
            ("seed", [seed]) => Ok(Self::Seed(number(seed)?)),
            ("limits", limits) => {
                limits.iter().map(|limit| parse_limit(limit)).collect::<Result<_, _>>().map(Self::Limits)
            }
            ("log", [node, terms @ ..]) => parse_log(number(node)?, &terms.join(" ")),
            ("committed", [index]) => Ok(Self::Committed(number(index)?)),
            ("nodes", [nodes]) => Ok(Self::Nodes { nodes: number(nodes)?, voters: number(nodes)? }),
            ("nodes", [nodes, "voters", voters]) => Ok(Self::Nodes { nodes: number(nodes)?, voters: number(voters)? }),
            ("incarnations", []) => Ok(Self::Incarnations),
            ("forge", _) => parse_message(rest).map(Self::Forge),
            ("sync", ["on"]) => Ok(Self::Sync { on: true, nodes: Vec::new() }),
            ("sync", ["off", nodes @ ..]) => {
                let nodes = nodes.iter().map(|node| number(node)).collect::<Result<_, _>>()?;
                Ok(Self::Sync { on: false, nodes })
            }
            ("fail", [node, _, ..]) => {
                let what = rest.split_once(' ').map_or("", |(_, what)| what).to_owned();
                Ok(Self::Fail { node: number(node)?, what })
            }
            ("apply", ["on"]) => Ok(Self::Apply(true)),
            ("apply", ["off"]) => Ok(Self::Apply(false)),
            ("deliver", which) => parse_which(which, Which::All).map(Self::Deliver),
            ("drop", which) => parse_which(which, Which::All).map(Self::Drop),
            ("repeat", which) => parse_which(which, Which::All).map(Self::Repeat),
            ("settle", []) => Ok(Self::Settle),
            ("cut", [link]) if link.contains("->") => Ok(Self::Cut(vec![parse_link(link)?])),
            ("cut", [a, b]) => {
                let (a, b) = (number(a)?, number(b)?);
                Ok(Self::Cut(vec![(a, b), (b, a)]))
            }
            ("heal", []) => Ok(Self::Heal),
            ("expect", ["not", _, ..]) => Ok(Self::Expect {
                not: true,
                fact: rest.split_once(' ').map_or("", |(_, fact)| fact).trim().to_owned(),
            }),
            ("expect", [_, ..]) => Ok(Self::Expect { not: false, fact: rest.to_owned() }),
            (name, [node, words @ ..]) => Self::parse_of_node(name, number(node)?, words),
            _ => Err(unknown(line)),
        }
    }

    /// The commands whose first word is a node.
    fn parse_of_node(name: &str, node: u32, words: &[&str]) -> Result<Self, String> {
        Ok(match (name, words) {
            ("elect", []) => Self::Elect(node),
            ("campaign", []) => Self::Campaign(node),
            ("run", []) => Self::Run(node),
            ("tick", []) => Self::Tick { node, times: 1 },
            ("tick", [times]) => Self::Tick { node, times: number(times)? },
            ("propose", payloads) => {
                let payloads = payloads.iter().map(|word| notation::parse_payload(word)).collect::<Result<_, _>>()?;
                Self::Propose { node, payloads }
            }
            ("read", [read]) => Self::Read { node, read: number(read.trim_start_matches('r'))? },
            ("change", ["voters", voters, words @ ..]) => parse_change(node, numbers(voters)?, words)?,
            ("transfer", [to]) => Self::Transfer { node, to: number(to)? },
            ("hand-over", []) => Self::HandOver(node),
            ("unreachable", [peer]) => Self::Unreachable { node, peer: number(peer)? },
            ("persist", []) => Self::Persist { node, writes: None },
            ("persist", [writes]) => Self::Persist { node, writes: Some(number(writes)?) },
            ("report", [write]) => Self::Report { node, write: number(write)? },
            ("applied", [index]) => Self::Applied { node, index: number(index)? },
            ("snapshot", []) => Self::Snapshot(node),
            ("restored", [index]) => Self::Restored { node, index: number(index)? },
            ("crash", []) => Self::Crash { node, also: 0 },
            ("crash", [also]) => Self::Crash { node, also: number(also)? },
            ("wipe", [incarnation]) => Self::Wipe { node, incarnation: number(incarnation)? },
            ("restart", []) => Self::Restart { node, also: 0 },
            ("restart", [also]) => Self::Restart { node, also: number(also)? },
            ("isolate", []) => Self::Isolate(node),
            _ => return Err(unknown(name)),
        })
    }
}

fn unknown(command: &str) -> String {
    format!("\"{command}\" is no command, or one with other words: see README.md beside the scripts")
}

fn parse_limit(limit: &str) -> Result<(String, u64), String> {
    let (name, value) = limit.split_once('=').ok_or_else(|| format!("\"{limit}\" is no limit: write inflight=4"))?;
    Ok((name.to_owned(), number(value)?))
}

/// `[1 1 2] term 8`.
fn parse_log(node: u32, text: &str) -> Result<Command, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (terms, after) = inner.ok_or_else(|| format!("\"{text}\" is no log: write [1 1 2]"))?;
    let terms = terms.split_whitespace().map(number).collect::<Result<_, _>>()?;
    let term = match after.split_whitespace().collect::<Vec<_>>()[..] {
        [] => None,
        ["term", term] => Some(number(term)?),
        _ => return Err(format!("\"{after}\" after a log: write term 8")),
    };
    Ok(Command::Log { node, terms, term })
}

fn parse_change(node: u32, voters: Vec<u32>, words: &[&str]) -> Result<Command, String> {
    let (learners, catch_up) = match words {
        [] => (Vec::new(), false),
        ["catch-up"] => (Vec::new(), true),
        ["learners", learners] => (numbers(learners)?, false),
        ["learners", learners, "catch-up"] => (numbers(learners)?, true),
        _ => return Err(unknown(&words.join(" "))),
    };
    Ok(Command::Change { node, voters, learners, catch_up })
}

fn parse_which(words: &[&str], none: Which) -> Result<Which, String> {
    Ok(match words {
        [] => none,
        ["round"] => Which::Round,
        [at] if at.starts_with('#') => Which::At(number(&at[1..])?),
        [link, kind @ ..] if link.contains("->") && kind.len() < 2 => {
            let (from, to) = parse_link(link)?;
            Which::Link { from, to, kind: kind.first().map(|kind| (*kind).to_owned()) }
        }
        [kind] => Which::Kind((*kind).to_owned()),
        _ => return Err(unknown(&words.join(" "))),
    })
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes { nodes, voters } if nodes == voters => write!(f, "nodes {nodes}"),
            Self::Nodes { nodes, voters } => write!(f, "nodes {nodes} voters {voters}"),
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::Limits(limits) => {
                write!(f, "limits")?;
                limits.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Self::Log { node, terms, term } => {
                write!(f, "log {node} [{}]", joined(terms, " "))?;
                term.map_or(Ok(()), |term| write!(f, " term {term}"))
            }
            Self::Committed(index) => write!(f, "committed {index}"),
            Self::Elect(node) => write!(f, "elect {node}"),
            Self::Incarnations => write!(f, "incarnations"),
            Self::Campaign(node) => write!(f, "campaign {node}"),
            Self::Tick { node, times } => write!(f, "tick {node} {times}"),
            Self::Run(times) => write!(f, "run {times}"),
            Self::Propose { node, payloads } => {
                write!(f, "propose {node}")?;
                payloads.iter().try_for_each(|payload| write!(f, " {}", notation::payload(payload)))
            }
            Self::Read { node, read } => write!(f, "read {node} r{read}"),
            Self::Change { node, voters, learners, catch_up } => {
                write!(f, "change {node} voters {}", ids(voters))?;
                let learners = if learners.is_empty() { String::new() } else { format!(" learners {}", ids(learners)) };
                write!(f, "{learners}{}", if *catch_up { " catch-up" } else { "" })
            }
            Self::Transfer { node, to } => write!(f, "transfer {node} {to}"),
            Self::HandOver(node) => write!(f, "hand-over {node}"),
            Self::Unreachable { node, peer } => write!(f, "unreachable {node} {peer}"),
            Self::Forge(message) => write!(f, "forge {}", notation::message(message)),
            Self::Sync { on: true, .. } => write!(f, "sync on"),
            Self::Sync { on: false, nodes } if nodes.is_empty() => write!(f, "sync off"),
            Self::Sync { on: false, nodes } => write!(f, "sync off {}", joined(nodes, " ")),
            Self::Persist { node, writes: None } => write!(f, "persist {node}"),
            Self::Persist { node, writes: Some(writes) } => write!(f, "persist {node} {writes}"),
            Self::Report { node, write } => write!(f, "report {node} {write}"),
            Self::Fail { node, what } => write!(f, "fail {node} {what}"),
            Self::Apply(on) => write!(f, "apply {}", if *on { "on" } else { "off" }),
            Self::Applied { node, index } => write!(f, "applied {node} {index}"),
            Self::Snapshot(node) => write!(f, "snapshot {node}"),
            Self::Restored { node, index } => write!(f, "restored {node} {index}"),
            Self::Crash { node, also } => write!(f, "crash {node} {also}"),
            Self::Wipe { node, incarnation } => write!(f, "wipe {node} {incarnation}"),
            Self::Restart { node, also } => write!(f, "restart {node} {also}"),
            Self::Deliver(which) => write!(f, "deliver{which}"),
            Self::Drop(which) => write!(f, "drop{which}"),
            Self::Repeat(which) => write!(f, "repeat{which}"),
            Self::Settle => write!(f, "settle"),
            Self::Cut(links) => match links[..] {
                [(a, b), (c, d)] if (a, b) == (d, c) => write!(f, "cut {a} {b}"),
                _ => write!(f, "cut {}->{}", links[0].0, links[0].1),
            },
            Self::Isolate(node) => write!(f, "isolate {node}"),
            Self::Heal => write!(f, "heal"),
            Self::Expect { not, fact } => write!(f, "expect {}{fact}", if *not { "not " } else { "" }),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Round => write!(f, " round"),
            Self::At(at) => write!(f, " #{at}"),
            Self::Link { from, to, kind: None } => write!(f, " {from}->{to}"),
            Self::Link { from, to, kind: Some(kind) } => write!(f, " {from}->{to} {kind}"),
            Self::Kind(kind) => write!(f, " {kind}"),
        }
    }
}

fn ids(ids: &[u32]) -> String {
    if ids.is_empty() { "none".to_owned() } else { joined(ids, ",") }
}

fn joined(numbers: &[impl ToString], between: &str) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

#[test]
fn every_command_is_read_back_as_it_is_written() {
    let lines = "nodes 3|nodes 6 voters 3|seed 7|limits inflight=4 append=100|log 1 [1 1 2]|log 2 [] term 8|committed 2|incarnations|wipe 3 31|\
        elect 1|campaign 1|tick 2 15|run 16|propose 1 x y*20|propose 1|read 1 r7|change 1 voters 1,2 learners 3 catch-up|\
        change 1 voters none|transfer 1 2|hand-over 1|unreachable 1 2|forge 1->2 t1 TimeoutNow|sync off|sync off 1 2|\
        sync on|persist 1|persist 1 2|report 1 4|fail 1 no space left|apply off|apply on|applied 1 2|snapshot 1|restored 1 4|crash 1 2|\
        restart 1 0|deliver|deliver round|deliver #3|deliver 1->2|deliver 1->2 Heartbeat|drop TimeoutNow|repeat #0|\
        settle|cut 1 2|cut 1->2|isolate 1|heal|expect leader 1|expect not sent 1->2 Heartbeat";
    for line in lines.split('|') {
        assert_eq!(Command::parse(line).map(|command| command.to_string()), Ok(line.to_owned()));
    }
}

#[test]
fn a_line_that_is_no_command_is_refused() {
    for line in [
        "",
        "campain 1",
        "campaign",
        "campaign x",
        "tick 1 2 3",
        "cut 1",
        "log 1 1 2",
        "log 1 [1] 8",
        "read 1",
        "change 1 1,2",
        "forge 1->2",
        "deliver #x",
        "expect",
        "limits x",
        "nodes 3 4",
        "fail 1",
    ] {
        assert!(Command::parse(line).is_err(), "{line}");
    }
}
