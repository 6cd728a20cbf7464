//! The story of a run as lines of text: the time, a column a server, and what happened.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use raft_core::{NodeId, RoleName, Term};

use super::messages::{Fate, fates};
use super::words::{is_routine, kind};
use super::{Happening, What};
use crate::report::Report;
use crate::time::Time;

/// A run as lines of text: see [`timeline`].
#[derive(Clone, Debug)]
pub struct Timeline<'a> {
    report: &'a Report,
    from: Time,
    until: Time,
    messages: bool,
    clients: bool,
}

/// The story of a run as lines of text. Every line has a column for each server: its role and term, and after a colon up
/// to where it knows entries to be committed. What flows all the time is summed up.
///
/// Displays no more than the last lines if the run was made without its story.
#[must_use]
pub const fn timeline(report: &Report) -> Timeline<'_> {
    Timeline { report, from: Time::ZERO, until: Time(u64::MAX), messages: false, clients: false }
}

impl Timeline<'_> {
    /// Leaves out what happened before.
    #[must_use]
    pub const fn from(self, from: Time) -> Self {
        Self { from, ..self }
    }

    /// Leaves out what happened after.
    #[must_use]
    pub const fn until(self, until: Time) -> Self {
        Self { until, ..self }
    }

    /// A line for every message that is sent, arrives or is lost, and for every commit.
    #[must_use]
    pub const fn messages(self, each: bool) -> Self {
        Self { messages: each, ..self }
    }

    /// A line for every step of a client.
    #[must_use]
    pub const fn clients(self, each: bool) -> Self {
        Self { clients: each, ..self }
    }
}

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut teller = Teller::new(self, f);
        for happening in &self.report.story {
            teller.hear(happening)?;
        }
        teller.flush()?;
        let told = teller.violation_told;
        match &self.report.failure {
            Some(_) if told => Ok(()),
            Some(failure) => writeln!(f, "BROKEN after {failure}"),
            None => writeln!(f, "nothing is broken after {} s", self.report.simulated),
        }
    }
}

/// What a server's column shows.
#[derive(Clone, Copy, Debug)]
struct Lane {
    state: State,
    role: RoleName,
    term: Term,
    commit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    Stands,
    Down,
    Halted,
}

impl Lane {
    const NEW: Self = Self { state: State::Waits, role: RoleName::Follower, term: Term(0), commit: 0 };

    fn cell(&self) -> String {
        let role = match self.role {
            RoleName::Follower => 'F',
            RoleName::PreCandidate => 'P',
            RoleName::Candidate => 'C',
            RoleName::Leader => 'L',
        };
        let Self { term, commit, .. } = self;
        match self.state {
            State::Waits => ".".into(),
            State::Down => "down".into(),
            State::Halted => "halt".into(),
            State::Runs => format!("{role}{term}:{commit}"),
            State::Stands => format!("{role}{term}:{commit}~"),
        }
    }
}

/// What flows all the time, not told yet.
#[derive(Debug, Default)]
struct Sums<'a> {
    began: Option<Time>,
    last: Time,
    kinds: BTreeMap<&'a str, u64>,
    lost: u64,
    commits: u64,
    client_steps: u64,
}

/// One message to several servers.
#[derive(Debug)]
struct Broadcast<'a> {
    at: Time,
    from: NodeId,
    words: &'a str,
    copies: Vec<u64>,
}

struct Teller<'a, 'f, 'g> {
    timeline: &'a Timeline<'a>,
    out: &'f mut fmt::Formatter<'g>,
    fates: BTreeMap<u64, Fate<'a>>,
    lanes: BTreeMap<NodeId, Lane>,
    /// Of a column.
    width: usize,
    lines: usize,
    sums: Sums<'a>,
    broadcast: Option<Broadcast<'a>>,
    violation_told: bool,
}

impl<'a, 'f, 'g> Teller<'a, 'f, 'g> {
    fn new(timeline: &'a Timeline<'a>, out: &'f mut fmt::Formatter<'g>) -> Self {
        let report = timeline.report;
        Self {
            timeline,
            out,
            fates: fates(&report.story),
            lanes: servers(report).into_iter().map(|id| (id, Lane::NEW)).collect(),
            width: width(&report.story),
            lines: 0,
            sums: Sums::default(),
            broadcast: None,
            violation_told: false,
        }
    }

    fn hear(&mut self, Happening { at, what }: &'a Happening) -> fmt::Result {
        let ends_block = self.sums.began.is_some_and(|began| *at > began + BLOCK);
        if ends_block {
            self.flush()?;
        }
        let is_news = self.is_news(what);
        let is_inside = *at >= self.timeline.from && *at <= self.timeline.until;
        if is_inside && is_news && !self.joins_broadcast(*at, what) {
            self.flush()?;
        }
        if !matches!(what, What::Sent { .. } | What::Delivered { .. } | What::Lost { .. }) {
            // The columns beside a line are those of its time.
            self.tell_broadcast()?;
        }
        self.follow(what);
        if !is_inside {
            return Ok(());
        }
        if is_news { self.news(*at, what) } else { self.sum_up(*at, what) }
    }

    /// Whether it has a line of its own, or shares one with the copies of a message.
    fn is_news(&self, what: &What) -> bool {
        match what {
            What::Sent { words, .. } => self.timeline.messages || !is_routine(kind(words)),
            What::Delivered { .. } | What::Lost { .. } | What::Committed { .. } => self.timeline.messages,
            What::Client { .. } => self.timeline.clients,
            // A new term alone shows in the columns.
            What::Role { server, role: RoleName::Follower, .. } => {
                self.timeline.messages || self.lanes.get(server).is_none_or(|lane| lane.role != RoleName::Follower)
            }
            _ => true,
        }
    }

    fn joins_broadcast(&self, at: Time, what: &What) -> bool {
        let (Some(held), What::Sent { from, words, .. }) = (&self.broadcast, what) else { return false };
        held.at == at && held.from == *from && held.words == words
    }

    /// Brings the columns up to date.
    fn follow(&mut self, what: &What) {
        let server = match what {
            What::Started { server, .. }
            | What::Crashed { server }
            | What::Halted { server, .. }
            | What::Paused { server }
            | What::Resumed { server }
            | What::Role { server, .. }
            | What::Committed { server, .. } => *server,
            _ => return,
        };
        let lane = self.lanes.entry(server).or_insert(Lane::NEW);
        match what {
            What::Started { .. } => *lane = Lane { state: State::Runs, term: lane.term, ..Lane::NEW },
            What::Crashed { .. } => lane.state = State::Down,
            What::Halted { .. } => lane.state = State::Halted,
            What::Paused { .. } => lane.state = State::Stands,
            What::Resumed { .. } => lane.state = State::Runs,
            What::Role { role, term, .. } => (lane.role, lane.term) = (*role, *term),
            What::Committed { index, .. } => lane.commit = *index,
            _ => {}
        }
    }

    fn sum_up(&mut self, at: Time, what: &'a What) -> fmt::Result {
        let sums = &mut self.sums;
        match what {
            What::Sent { message, words, .. } => {
                *sums.kinds.entry(kind(words)).or_default() += 1;
                sums.lost += u64::from(self.fates.get(message).is_some_and(Fate::is_lost));
            }
            What::Committed { .. } => sums.commits += 1,
            What::Client { .. } => sums.client_steps += 1,
            _ => return Ok(()),
        }
        sums.began.get_or_insert(at);
        sums.last = at;
        // What came before it must stand before it.
        self.tell_broadcast()
    }

    fn news(&mut self, at: Time, what: &'a What) -> fmt::Result {
        match what {
            What::Sent { message, from, words, .. } => {
                let new = || Broadcast { at, from: *from, words, copies: Vec::new() };
                self.broadcast.get_or_insert_with(new).copies.push(*message);
                return Ok(());
            }
            What::Violation { .. } => self.violation_told = true,
            _ => {}
        }
        let (who, text) = self.text(what);
        self.line(at, who, &text)
    }

    /// Who acts, and the line's text.
    fn text(&self, what: &What) -> (Option<NodeId>, String) {
        match what {
            What::Started { server, life: 1 } => (Some(*server), format!("s{server} starts")),
            What::Started { server, life } => (Some(*server), format!("s{server} starts again, life {life}")),
            What::Crashed { server } => (Some(*server), format!("s{server} CRASHES")),
            What::Halted { server, why } => (Some(*server), format!("s{server} HALTS: {why}")),
            What::Paused { server } => (Some(*server), format!("s{server} stands still")),
            What::Resumed { server } => (Some(*server), format!("s{server} goes on")),
            What::Role { server, role, term } => (Some(*server), format!("s{server} is {role} of term {term}")),
            What::Committed { server, index } => (Some(*server), format!("s{server} knows {index} to be committed")),
            What::Server { server, words } => (Some(*server), format!("s{server}: {words}")),
            What::Delivered { message } => self.arrival(*message, "arrives"),
            What::Lost { message } => self.arrival(*message, "is lost"),
            What::Fault { words } => (None, format!("! {words}")),
            What::Client { client, words } => (None, format!("client {client}: {words}")),
            What::Healed => (None, "the world is whole again".into()),
            What::Violation { words } => (None, format!("VIOLATION: {words}")),
            // These are told together with their copies.
            What::Sent { .. } => (None, String::new()),
        }
    }

    fn arrival(&self, message: u64, fate: &str) -> (Option<NodeId>, String) {
        let Some(Fate { sent, from, to, words, .. }) = self.fates.get(&message) else {
            return (None, format!("message {message} {fate}"));
        };
        (Some(*to), format!("  s{from} -> s{to}  {fate}, sent at {sent}: {words}"))
    }

    /// Tells what is held back.
    fn flush(&mut self) -> fmt::Result {
        self.tell_broadcast()?;
        let sums = std::mem::take(&mut self.sums);
        if sums.began.is_none() {
            return Ok(());
        }
        let mut parts: Vec<String> = sums.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if sums.lost > 0 {
            parts.push(format!("{} of them lost", sums.lost));
        }
        parts.extend((sums.commits > 0).then(|| plural(sums.commits, "commit")));
        parts.extend((sums.client_steps > 0).then(|| plural(sums.client_steps, "client step")));
        self.line(sums.last, None, &format!("... {}", parts.join(", ")))
    }

    fn tell_broadcast(&mut self) -> fmt::Result {
        let Some(Broadcast { at, from, words, copies }) = self.broadcast.take() else { return Ok(()) };
        let copies: Vec<_> = copies.iter().filter_map(|message| self.fates.get(message)).collect();
        let ids =
            |copies: Vec<&&Fate<'_>>| copies.iter().map(|fate| format!("s{}", fate.to)).collect::<Vec<_>>().join(",");
        let mut text = format!("s{from} -> {}  {words}", ids(copies.iter().collect()));
        if let Some(Fate { term, .. }) = copies.first() {
            let _ = write!(text, ", term {term}");
        }
        let lost: Vec<_> = copies.iter().filter(|fate| fate.is_lost()).collect();
        if !lost.is_empty() {
            let whom = if lost.len() == copies.len() { String::new() } else { format!(" to {}", ids(lost)) };
            let _ = write!(text, " (lost{whom})");
        }
        self.line(at, Some(from), &text)
    }

    fn line(&mut self, at: Time, who: Option<NodeId>, text: &str) -> fmt::Result {
        if self.lines.is_multiple_of(HEAD_EVERY) {
            self.head()?;
        }
        self.lines += 1;
        write!(self.out, "{:>TIME_WIDTH$} ", at.to_string())?;
        for (id, lane) in &self.lanes {
            let mark = if who == Some(*id) { '>' } else { ' ' };
            write!(self.out, "{mark}{:<width$}", lane.cell(), width = self.width)?;
        }
        writeln!(self.out, " {text}")
    }

    fn head(&mut self) -> fmt::Result {
        if self.lines == 0 {
            writeln!(self.out, "{LEGEND}")?;
        }
        write!(self.out, "{:>TIME_WIDTH$} ", "seconds")?;
        for id in self.lanes.keys() {
            write!(self.out, " {:<width$}", format!("s{id}"), width = self.width)?;
        }
        writeln!(self.out)
    }
}

/// Every server that the run can have, ascending.
pub(crate) fn servers(report: &Report) -> Vec<NodeId> {
    let shape = &report.plan.shape;
    (1..=shape.voters.saturating_add(shape.others)).map(NodeId).collect()
}

/// The widest that a server's column becomes.
fn width(story: &[Happening]) -> usize {
    let (mut term, mut commit) = (0, 0);
    for Happening { what, .. } in story {
        match what {
            What::Role { term: new, .. } => term = term.max(new.0),
            What::Committed { index, .. } => commit = commit.max(*index),
            _ => {}
        }
    }
    // The role, the colon and the mark of a server that stands still.
    3 + term.to_string().len() + commit.to_string().len()
}

fn plural(count: u64, word: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {word}{ending}")
}

/// Sums are told at least so often.
const BLOCK: Time = Time::millis(500);
/// The columns' names stand again after so many lines.
const HEAD_EVERY: usize = 50;
const TIME_WIDTH: usize = 10;
const LEGEND: &str = "A column a server: its role and term, and after the colon the entries that it knows to be committed.\n\
    L leader, C candidate, P pre-candidate, F follower; ~ stands still, . waits; > who acts.\n";
