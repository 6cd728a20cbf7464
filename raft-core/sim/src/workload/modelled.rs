//! Clients of any machine of which a [`Model`] is known.

use bytes::Bytes;
use raft_core::{NodeId, Outcome, Refusal};
use rand::RngExt;

use super::{Call, Io, Workload};
use crate::linearizability::{Model, Operation, OperationOf, check};
use crate::time::{Rng, Time, between, chance, exponential};

/// What the clients of a machine say to it, and what they make of its answers.
pub trait Protocol {
    /// What the machine is to do. All operations are on one object.
    type Model: Model;

    /// See [`Model`](Self::Model).
    fn model(&self) -> Self::Model;

    /// Something that changes the state.
    fn write(&self, rng: &mut Rng) -> <Self::Model as Model>::Input;

    /// Something that does not.
    fn read(&self, rng: &mut Rng) -> <Self::Model as Model>::Input;

    /// The bytes of a write for [`apply`](raft_core::StateMachine::apply). It may be sent several times, and the network may
    /// double it: all copies have the same name, and the machine is to do it once.
    fn command(&self, name: Name, input: &<Self::Model as Model>::Input) -> Bytes;

    /// The bytes of a read for [`query`](raft_core::StateMachine::query).
    fn query(&self, input: &<Self::Model as Model>::Input) -> Bytes;

    /// What the machine's reply means.
    ///
    /// # Errors
    /// Nothing.
    fn reply(
        &self,
        input: &<Self::Model as Model>::Input,
        reply: &[u8],
    ) -> Result<<Self::Model as Model>::Output, String>;
}

/// Names one write for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Whose: from 1.
    pub client: u32,
    /// Which of its operations: they ascend. A client has one under way at a time.
    pub number: u64,
}

/// Clients that write and read, one operation after the other, ask again until they are answered, and change servers.
/// At the end their history must be linearizable.
#[derive(Debug)]
pub struct ModelledWorkload<P: Protocol> {
    protocol: P,
    clients: Vec<Client>,
    history: Vec<OperationOf<P::Model>>,
    finishing: bool,
    completed: u64,
    wrong: Option<String>,
}

#[derive(Debug)]
struct Client {
    /// Who leads, as it believes.
    leader: NodeId,
    begun: u64,
    open: Option<Open>,
    begin_at: Time,
    /// What is left to do after the end: a write and a read.
    last: usize,
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Its place in the history.
    place: usize,
    is_read: bool,
    attempt: u64,
    /// When it is tried again.
    due: Time,
}

impl<P: Protocol> ModelledWorkload<P> {
    /// So many clients.
    #[must_use]
    pub fn new(protocol: P, clients: u32) -> Self {
        let client = |_| Client { leader: NodeId(1), begun: 0, open: None, begin_at: Time::ZERO, last: 0 };
        Self {
            protocol,
            clients: (0..clients).map(client).collect(),
            history: Vec::new(),
            finishing: false,
            completed: 0,
            wrong: None,
        }
    }

    /// Everything that was asked, and answered so far.
    #[must_use]
    pub fn history(&self) -> &[OperationOf<P::Model>] {
        &self.history
    }

    fn client(&mut self, number: u32) -> Option<&mut Client> {
        self.clients.get_mut((number as usize).checked_sub(1)?)
    }

    fn begin(&mut self, number: u32, io: &mut Io<'_>) {
        let finishing = self.finishing;
        let Some(client) = self.client(number) else { return };
        if client.open.is_some() || client.begin_at > io.now || (finishing && client.last == 0) {
            return;
        }
        let is_read = if finishing { client.last == 1 } else { chance(io.rng, 500) };
        client.begun += 1;
        let input = if is_read { self.protocol.read(io.rng) } else { self.protocol.write(io.rng) };
        let place = self.history.len();
        self.history.push(Operation { client: number, input, invoked: io.now, returned: None });
        self.send(number, Open { place, is_read, attempt: 0, due: io.now }, io);
    }

    /// Sends it, to whom the client believes to lead.
    fn send(&mut self, number: u32, open: Open, io: &mut Io<'_>) {
        let Self { protocol, clients, history, .. } = self;
        let client = (number as usize).checked_sub(1).and_then(|at| clients.get_mut(at));
        let (Some(client), Some(operation)) = (client, history.get(open.place)) else { return };
        let attempt = open.attempt + 1;
        let call = if open.is_read {
            Call::Query(protocol.query(&operation.input))
        } else {
            Call::Command(protocol.command(Name { client: number, number: client.begun }, &operation.input))
        };
        let server = client.leader;
        io.say(|| format!("{:?} to server {server} (attempt {attempt})", operation.input));
        io.calls.push((server, client.begun << ATTEMPT_BITS | attempt & ATTEMPT_MASK, call));
        client.open = Some(Open { attempt, due: io.now + between(io.rng, PATIENCE.0, PATIENCE.1), ..open });
    }

    /// It is answered.
    fn returned(&mut self, number: u32, open: Open, reply: &[u8], io: &mut Io<'_>) {
        let Some(operation) = self.history.get_mut(open.place) else { return };
        match self.protocol.reply(&operation.input, reply) {
            Ok(output) => {
                io.say(|| format!("{:?}: {output:?}", operation.input));
                operation.returned = Some((io.now, output));
            }
            Err(what) => {
                let words = format!("client {number}: {:?} was answered what means nothing: {what}", operation.input);
                self.wrong.get_or_insert(words);
            }
        }
        self.completed += 1;
        if let Some(client) = self.client(number) {
            client.open = None;
            client.last = client.last.saturating_sub(1);
            client.begin_at = exponential(io.rng, io.now + Time::millis(1), io.think);
        }
    }

    /// Says when the client wants to be woken.
    fn rest(&mut self, number: u32, io: &mut Io<'_>) {
        let finishing = self.finishing;
        let Some(client) = self.client(number) else { return };
        io.wake_at = match client.open {
            Some(open) => Some(open.due),
            None => (!finishing || client.last > 0).then_some(client.begin_at),
        };
    }
}

impl<P: Protocol> Workload for ModelledWorkload<P> {
    fn wake(&mut self, client: u32, io: &mut Io<'_>) {
        let servers = io.servers.max(1);
        let known = self.client(client).and_then(|known| Some((known.open?, known)));
        if let Some((open, known)) = known
            && open.due <= io.now
        {
            if open.attempt > 0 {
                known.leader = NodeId(io.rng.random_range(1..=servers));
            }
            self.send(client, open, io);
        }
        self.begin(client, io);
        self.rest(client, io);
    }

    fn answer(&mut self, client: u32, server: NodeId, call: u64, outcome: Outcome, io: &mut Io<'_>) {
        let Some(known) = self.client(client) else { return };
        if let (begun, Some(open)) = (known.begun, &mut known.open)
            && begun == call >> ATTEMPT_BITS
        {
            match outcome {
                Outcome::Applied { reply, .. } | Outcome::Answered { reply, .. } => {
                    let open = *open;
                    known.leader = server;
                    self.returned(client, open, &reply, io);
                }
                Outcome::Refused(refusal) => {
                    if let Refusal::NotLeader { leader: Some(leader) } = refusal {
                        known.leader = leader;
                    }
                    open.due = io.now + between(io.rng, Time::millis(5), Time::millis(100));
                }
                Outcome::Unknown => open.due = io.now + between(io.rng, Time::millis(5), Time::millis(100)),
            }
        }
        self.rest(client, io);
    }

    fn finish(&mut self) {
        self.finishing = true;
    }

    fn begin_last(&mut self) {
        for client in &mut self.clients {
            (client.last, client.begin_at) = (2, Time::ZERO);
        }
    }

    fn pending(&self) -> usize {
        self.clients
            .iter()
            .map(|client| if client.last > 0 { client.last } else { usize::from(client.open.is_some()) })
            .sum()
    }

    fn completed(&self) -> u64 {
        self.completed
    }

    fn check(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        check(&self.protocol.model(), &self.history).map_err(|error| error.to_string())
    }
}

/// A call's number is the operation's, and in the lowest bits which attempt it is.
const ATTEMPT_BITS: u32 = 16;
const ATTEMPT_MASK: u64 = (1 << ATTEMPT_BITS) - 1;

/// Clients wait at least and at most so long for an answer.
const PATIENCE: (Time, Time) = (Time::millis(300), Time::millis(1_500));
