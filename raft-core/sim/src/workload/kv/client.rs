//! One client: its session, what it has open, and where it asks.

use bytes::Bytes;
use raft_core::{NodeId, Outcome, Position, Refusal};
use raft_kv::{Command, Key, Operation, Query, QueryReply, Reply, RequestId};
use rand::RngExt;

use super::history::{Asked, History};
use super::mix::Drawn;
use super::{Shared, words};
use crate::time::{Time, between, chance, exponential};
use crate::workload::{Call, Io};

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    number: u32,
    /// Who leads, as it believes.
    leader: NodeId,
    session: Option<Session>,
    open: Vec<Open>,
    /// Operations begun: the name of the newest.
    begun: u64,
    /// When it begins the next, if nothing is open.
    begin_at: Time,
    /// What is left to do after the end.
    last: Option<Last>,
}

#[derive(Debug)]
struct Session {
    name: u64,
    /// The newest write's.
    number: u64,
}

/// An operation that has begun and not ended.
#[derive(Debug)]
struct Open {
    name: u64,
    task: Task,
    begun: Time,
    attempt: u64,
    /// When it is tried again.
    due: Time,
    /// Whom the last attempt went to.
    server: NodeId,
    /// One of the two that come last.
    is_last: bool,
}

#[derive(Debug)]
enum Task {
    OpenSession,
    Write { request: RequestId, operation: Operation },
    Read(Query),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Write,
    Read,
}

/// A call's number is the operation's name, and in the lowest bits which attempt it is.
const ATTEMPT_BITS: u32 = 16;
const ATTEMPT_MASK: u64 = (1 << ATTEMPT_BITS) - 1;

/// What a client is called in its commands: this much more than its number.
const CLIENT_IDS: u64 = 7000;

impl Client {
    pub(super) fn new(number: u32) -> Self {
        Self { number, leader: NodeId(1), session: None, open: Vec::new(), begun: 0, begin_at: Time::ZERO, last: None }
    }

    pub(super) fn pending(&self) -> usize {
        let last = match self.last {
            Some(Last::Write) => 2,
            Some(Last::Read) => 1,
            None => 0,
        };
        self.open.iter().filter(|open| !open.is_last).count() + last
    }

    pub(super) fn begin_last(&mut self) {
        self.last = Some(Last::Write);
        self.begin_at = Time::ZERO;
    }

    pub(super) fn record_open(&self, history: &mut History) {
        for open in &self.open {
            if let Task::Write { operation, .. } = &open.task {
                history.wrote_perhaps(self.asked(open), operation);
            }
        }
    }

    pub(super) fn wake(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        // What is sent again is due later, so this ends.
        while let Some(at) = self.open.iter().position(|open| open.due <= io.now) {
            let open = self.open.swap_remove(at);
            self.timed_out(open, shared, io);
        }
        self.go_on(shared, io);
    }

    pub(super) fn answer(&mut self, server: NodeId, call: u64, outcome: Outcome, shared: &mut Shared, io: &mut Io<'_>) {
        // It may have ended by the answer to another attempt.
        let Some(at) = self.open.iter().position(|open| open.name == call >> ATTEMPT_BITS) else {
            return;
        };
        let mut open = self.open.swap_remove(at);
        // An answer to any attempt is an answer. That an earlier attempt came to nothing says nothing of the one under way.
        let is_current = open.attempt & ATTEMPT_MASK == call & ATTEMPT_MASK;
        match outcome {
            Outcome::Applied { position, reply } => {
                self.leader = server;
                self.applied(open, &position, &reply, shared, io);
            }
            Outcome::Answered { reply, .. } => self.answered(open, &reply, shared, io),
            Outcome::Refused(refusal) if is_current => self.refused(open, server, refusal, shared, io),
            Outcome::Unknown if is_current => {
                open.due = io.now + pause(io, open.attempt);
                self.open.push(open);
            }
            Outcome::Refused(_) | Outcome::Unknown => self.open.push(open),
        }
        self.go_on(shared, io);
    }

    /// Begins what is to begin, and says when it wants to be woken.
    fn go_on(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        if self.open.is_empty() && self.begin_at <= io.now {
            self.begin(shared, io);
        }
        let begins = (self.open.is_empty() && (self.last.is_some() || !shared.finishing)).then_some(self.begin_at);
        io.wake_at = self.open.iter().map(|open| open.due).chain(begins).min();
    }

    fn begin(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        if shared.finishing && self.last.is_none() {
            return;
        }
        if self.last.is_none() && chance(io.rng, shared.mix.habits.renew) {
            self.session = None;
        }
        if self.session.is_none() {
            return self.start(Task::OpenSession, shared, io);
        }
        match self.last {
            Some(Last::Write) => {
                let key = Key { canonical: self.own_key(), literal: None };
                let value = shared.mix.value(io.rng);
                self.write(Operation::Put { key, value }, shared, io);
            }
            Some(Last::Read) => self.start(Task::Read(Query::Get { key: self.own_key() }), shared, io),
            None => self.begin_some(shared, io),
        }
    }

    fn begin_some(&mut self, shared: &mut Shared, io: &mut Io<'_>) {
        let several = chance(io.rng, shared.mix.habits.burst);
        let count = if several { io.rng.random_range(2..=shared.mix.habits.burst_max) } else { 1 };
        for _ in 0..count {
            match shared.mix.next(io.rng, several) {
                Some(Drawn::Write(operation)) => self.write(operation, shared, io),
                Some(Drawn::Read(query)) => self.start(Task::Read(query), shared, io),
                None => break,
            }
        }
        if self.open.is_empty() {
            self.rest(io);
        }
    }

    fn write(&mut self, operation: Operation, shared: &mut Shared, io: &mut Io<'_>) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.number += 1;
        let request = RequestId { client: client_id(self.number), session: session.name, number: session.number };
        shared.mix.begun(&operation);
        self.start(Task::Write { request, operation }, shared, io);
    }

    fn start(&mut self, task: Task, shared: &mut Shared, io: &mut Io<'_>) {
        self.begun += 1;
        let server = match task {
            Task::Read(_) if chance(io.rng, shared.mix.habits.read_anywhere) => any_server(io),
            _ => self.leader,
        };
        let is_last = self.last.is_some() && !matches!(task, Task::OpenSession);
        let open = Open { name: self.begun, task, begun: io.now, attempt: 0, due: io.now, server, is_last };
        self.send(open, server, shared, io);
    }

    fn send(&mut self, mut open: Open, server: NodeId, shared: &Shared, io: &mut Io<'_>) {
        open.attempt += 1;
        open.server = server;
        let habits = &shared.mix.habits;
        open.due = io.now + between(io.rng, habits.patience_min, habits.patience_max);
        let call = match &open.task {
            Task::OpenSession => Call::Command(Command::OpenSession { client: client_id(self.number) }.encode().into()),
            Task::Write { request, operation } => {
                let acknowledged = self.acknowledged(request, habits.unacknowledged);
                let command = Command::Write { request: *request, acknowledged, operation: operation.clone() };
                Call::Command(command.encode().into())
            }
            Task::Read(query) => Call::Query(query.encode().into()),
        };
        io.say(|| match open.attempt {
            1 => format!("{} to server {server}", open.words()),
            attempt => format!("{} to server {server} (attempt {attempt})", open.words()),
        });
        io.calls.push((server, open.name << ATTEMPT_BITS | open.attempt & ATTEMPT_MASK, call));
        self.open.push(open);
    }

    /// All writes of the session up to this one have ended, and this one is to be sent.
    fn acknowledged(&self, request: &RequestId, less: u64) -> u64 {
        let open = self.open.iter().filter_map(|open| match &open.task {
            Task::Write { request: other, .. } if other.session == request.session => Some(other.number),
            _ => None,
        });
        open.fold(request.number, u64::min).saturating_sub(1).saturating_sub(less)
    }

    fn timed_out(&mut self, open: Open, shared: &mut Shared, io: &mut Io<'_>) {
        let gives_up = !open.is_last && chance(io.rng, shared.mix.habits.give_up) && shared.mix.give_up();
        if gives_up && !matches!(open.task, Task::OpenSession) {
            io.say(|| format!("{}: given up", open.words()));
            return self.end_unknown(&open, shared, io);
        }
        let server = any_server_but(open.server, io);
        if !matches!(open.task, Task::Read(_)) {
            self.leader = server;
        }
        self.send(open, server, shared, io);
    }

    fn refused(&mut self, mut open: Open, server: NodeId, refusal: Refusal, shared: &Shared, io: &mut Io<'_>) {
        io.say(|| format!("{}: refused by server {server}: {refusal}", open.words()));
        let hint = match refusal {
            Refusal::NotLeader { leader } | Refusal::ReadTimeout { leader } => leader,
            Refusal::TransferInProgress { target } => Some(target),
            _ => None,
        };
        let known = hint.filter(|leader| *leader != server);
        if let Some(leader) = known {
            self.leader = leader;
            // Servers that name each other are asked in turn, but not as fast as they answer.
            if matches!(refusal, Refusal::NotLeader { .. }) && !open.attempt.is_multiple_of(3) {
                return self.send(open, leader, shared, io);
            }
        }
        open.due = io.now + pause(io, open.attempt);
        self.open.push(open);
    }

    fn applied(&mut self, open: Open, at: &Position, reply: &Bytes, shared: &mut Shared, io: &mut Io<'_>) {
        let told = Reply::decode(reply);
        io.say(|| match &told {
            Ok(told) => format!("{}: {told}", open.words()),
            Err(error) => format!("{}: {error}", open.words()),
        });
        match (&open.task, told) {
            (Task::OpenSession, Ok(Reply::SessionOpened { session })) => {
                self.session = Some(Session { name: session, number: 0 });
                self.begin_at = io.now;
            }
            (Task::Write { request, operation }, Ok(Reply::Done { outcome, height, .. })) => {
                let told = shared.applications.told(request, reply);
                let fits = shared.history.wrote(self.asked(&open), operation, io.now, &outcome);
                if let Err(what) = told.and(fits) {
                    shared.fail(|| what);
                } else if height > at.index.0 {
                    shared.fail(|| format!("{request} was applied in block {height}, answered in {}", at.index.0));
                }
                shared.mix.learn(operation, &outcome);
                self.end_write(&open, operation, Some(Last::Read), shared, io);
            }
            (Task::Write { request, .. }, Ok(told @ (Reply::SessionExpired | Reply::Stale))) => {
                let expired = self.session.as_ref().is_some_and(|session| session.name == request.session);
                if expired && told == Reply::SessionExpired {
                    self.session = None;
                }
                self.end_unknown(&open, shared, io);
            }
            (_, told) => {
                shared.fail(|| format!("client {}: {} was answered {told:?}", self.number, open.words()));
                self.end_unknown(&open, shared, io);
            }
        }
    }

    fn answered(&mut self, open: Open, reply: &Bytes, shared: &mut Shared, io: &mut Io<'_>) {
        let told = QueryReply::decode(reply);
        let (Task::Read(query), Ok(told)) = (&open.task, &told) else {
            shared.fail(|| format!("client {}: {} was answered {told:?}", self.number, open.words()));
            return self.end_unknown(&open, shared, io);
        };
        io.say(|| format!("{}: {}", open.words(), words::found(told)));
        if let Err(what) = shared.history.read(self.asked(&open), query, io.now, told) {
            shared.fail(|| what);
        }
        if let (Query::Get { key }, QueryReply::Value { value }) = (query, told) {
            shared.mix.saw(key, value.as_ref());
        }
        if open.is_last {
            self.last = None;
        }
        shared.completed += 1;
        self.rest(io);
    }

    /// It may have happened, and nobody will tell.
    fn end_unknown(&mut self, open: &Open, shared: &mut Shared, io: &mut Io<'_>) {
        match &open.task {
            Task::Write { operation, .. } => {
                shared.history.wrote_perhaps(self.asked(open), operation);
                // One that comes last is done over.
                self.end_write(open, operation, self.last, shared, io);
            }
            Task::Read(_) => {
                shared.completed += 1;
                self.rest(io);
            }
            Task::OpenSession => self.rest(io),
        }
    }

    fn end_write(
        &mut self,
        open: &Open,
        operation: &Operation,
        next: Option<Last>,
        shared: &mut Shared,
        io: &mut Io<'_>,
    ) {
        shared.mix.ended(operation);
        shared.completed += 1;
        if open.is_last {
            self.last = next;
        }
        self.rest(io);
    }

    /// Thinks before it begins another.
    fn rest(&mut self, io: &mut Io<'_>) {
        let think = if self.last.is_some() { Time::millis(1) } else { exponential(io.rng, Time::millis(1), io.think) };
        self.begin_at = io.now + think;
    }

    fn asked(&self, open: &Open) -> Asked {
        Asked { client: self.number, at: open.begun }
    }

    /// A key that no other client touches, and no scan.
    fn own_key(&self) -> Bytes {
        format!("last of client {}", self.number).into()
    }
}

impl Open {
    fn words(&self) -> String {
        match &self.task {
            Task::OpenSession => "open a session".into(),
            Task::Write { operation, .. } => words::operation(operation),
            Task::Read(query) => words::query(query),
        }
    }
}

fn client_id(number: u32) -> u64 {
    CLIENT_IDS + u64::from(number)
}

fn any_server(io: &mut Io<'_>) -> NodeId {
    NodeId(io.rng.random_range(1..=io.servers.max(1)))
}

fn any_server_but(server: NodeId, io: &mut Io<'_>) -> NodeId {
    let drawn = any_server(io);
    if drawn == server { NodeId(server.0 % io.servers.max(1) + 1) } else { drawn }
}

/// How long it waits before it tries again what came to nothing: longer each time, up to half a second or so.
fn pause(io: &mut Io<'_>, attempt: u64) -> Time {
    let longest = Time::millis(20).times(1 << attempt.min(5));
    between(io.rng, Time::millis(5), longest)
}
