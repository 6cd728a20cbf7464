//! What simulated clients do, and whether what they were told is right.

pub(crate) mod kv;
mod modelled;

use bytes::Bytes;
use raft_core::{NodeId, Outcome, Position};

use crate::time::{Rng, Time};
pub use modelled::{ModelledWorkload, Name, Protocol};

/// All clients of a run, numbered from 1. The world wakes them, carries what they send to servers over a network that loses and delays
/// it, and brings the answers back; an answer may never come.
pub trait Workload {
    /// A client's time has come: at the beginning of the run, and whenever it asked for.
    fn wake(&mut self, client: u32, io: &mut Io<'_>);

    /// A server's answer to what this client sent has arrived.
    fn answer(&mut self, client: u32, server: NodeId, call: u64, outcome: Outcome, io: &mut Io<'_>);

    /// A server's state machine applied this command and gave this reply. Called for every server, in the order of its
    /// log, once a life.
    ///
    /// # Errors
    /// What is wrong about that.
    fn applied(&mut self, server: NodeId, at: &Position, command: &[u8], reply: &[u8]) -> Result<(), String> {
        let _ = (server, at, command, reply);
        Ok(())
    }

    /// The world is whole again: finish what has begun and begin nothing more. Once nothing is pending, the world calls
    /// [`begin_last`](Self::begin_last).
    fn finish(&mut self);

    /// After [`finish`](Self::finish): each client has one fresh write and one fresh read left, and is idle then. They are
    /// pending from now on. The world wakes every client next.
    fn begin_last(&mut self) {}

    /// Operations that have begun and not ended.
    fn pending(&self) -> usize;

    /// Operations that have ended.
    fn completed(&self) -> u64;

    /// Whether everything that the clients were told is right.
    ///
    /// # Errors
    /// What is not.
    fn check(&self) -> Result<(), String>;
}

/// What a client can do when it is called.
#[derive(Debug)]
pub struct Io<'a> {
    /// Simulated time.
    pub now: Time,
    /// The clients' generator.
    pub rng: &'a mut Rng,
    /// The servers that a client may try, those that are not members included.
    pub servers: u32,
    /// How long a client thinks between two operations, on average.
    pub think: Time,
    /// What it sends: to whom, by which number of its own, and what.
    pub calls: Vec<(NodeId, u64, Call)>,
    /// When it wants to be woken next; replaces what it wanted before.
    pub wake_at: Option<Time>,
    /// What it does and is told, for the story of the run; `None` where nobody listens.
    pub words: Option<Vec<String>>,
}

impl Io<'_> {
    /// Adds to the story, if somebody listens.
    pub fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(said) = &mut self.words {
            said.push(words());
        }
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// For the log.
    Command(Bytes),
    /// For the state as it is.
    Query(Bytes),
}
