//! A client's writes: the session that they are in, opened when there is none, and their numbers in it.

use raft_core::Digest;
use raft_kv::{Command, Operation, Outcome, Reply, RequestId};

use crate::client::ClientError;
use crate::kv_client::KvError;

/// The writes of one client, one at a time. Whoever has it sends [`command`](Self::command) and hands the reply to
/// [`on_reply`](Self::on_reply), until that says what came of the write.
#[derive(Debug)]
pub(crate) struct Writes {
    client: u64,
    session: Option<Session>,
}

/// What came of a write, and the block that it is in.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) outcome: Outcome,
    pub(crate) height: u64,
    pub(crate) hash: Option<Digest>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    name: u64,
    last_number: u64,
}

impl Writes {
    pub(crate) const fn new(client: u64) -> Self {
        Self { client, session: None }
    }

    /// Whether the next command only opens a session.
    pub(crate) const fn opens(&self) -> bool {
        self.session.is_none()
    }

    /// What to send next for this operation, under a number of its own: everything before it was answered or given up.
    pub(crate) fn command(&mut self, operation: &Operation) -> Vec<u8> {
        let client = self.client;
        let Some(session) = &mut self.session else { return Command::OpenSession { client }.encode() };
        let acknowledged = session.last_number;
        session.last_number = acknowledged.saturating_add(1);
        let request = RequestId { client, session: session.name, number: session.last_number };
        Command::Write { request, acknowledged, operation: operation.clone() }.encode()
    }

    /// Takes the reply to the last command; `None` where there is another to send. `repeated`: an earlier copy of it may
    /// have been applied.
    ///
    /// # Errors
    /// The write was refused, or nobody knows what came of it.
    pub(crate) fn on_reply(&mut self, reply: &[u8], repeated: bool) -> Result<Option<Written>, KvError> {
        let reply = Reply::decode(reply).map_err(|_| KvError::Unintelligible)?;
        let unknown = || ClientError::Timeout { unknown: true }.into();
        match (reply, self.session) {
            (Reply::SessionOpened { session }, None) => {
                self.session = Some(Session { name: session, last_number: 0 });
                Ok(None)
            }
            (Reply::Done { outcome, height, hash }, Some(_)) => Ok(Some(Written { outcome, height, hash })),
            (Reply::SessionExpired, Some(_)) => {
                self.session = None;
                if repeated { Err(unknown()) } else { Ok(None) }
            }
            (Reply::Stale, Some(_)) => Err(unknown()),
            (Reply::Malformed { what }, Some(_)) => Err(KvError::Malformed { what: what.into_owned() }),
            _ => Err(KvError::Unintelligible),
        }
    }
}
