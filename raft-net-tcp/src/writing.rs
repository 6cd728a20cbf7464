//! A client's writes: the session that they are in, opened when there is none, and their numbers in it.

use raft_core::Digest;
use raft_kv::{Operation, Outcome, Reply, RequestId, codec};
use serde::Serialize;

use crate::client::ClientError;
use crate::kv_client::KvError;

/// The writes of one client, one at a time. Whoever has it sends [`command`](Self::command) and hands the reply to
/// [`on_reply`](Self::on_reply), until that says what came of the write.
#[derive(Debug)]
pub(crate) struct Writes {
    client: u64,
    session: Option<Session>,
    /// The last command's bytes.
    command: Vec<u8>,
}

/// A [`Command`](raft_kv::Command) whose operation stays where it is: the bytes are the same.
#[derive(Serialize)]
enum Command<'a> {
    OpenSession { client: u64 },
    Write { request: RequestId, acknowledged: u64, operation: &'a Operation },
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
        Self { client, session: None, command: Vec::new() }
    }

    /// Whether the next command only opens a session.
    pub(crate) const fn opens(&self) -> bool {
        self.session.is_none()
    }

    /// What to send next for this operation, under a number of its own: everything before it was answered or given up.
    pub(crate) fn command(&mut self, operation: &Operation) -> &[u8] {
        let client = self.client;
        let command = match &mut self.session {
            None => Command::OpenSession { client },
            Some(session) => {
                let acknowledged = session.last_number;
                session.last_number = acknowledged.saturating_add(1);
                let request = RequestId { client, session: session.name, number: session.last_number };
                Command::Write { request, acknowledged, operation }
            }
        };
        self.command.clear();
        self.command.shrink_to(KEPT_BYTES_MAX);
        codec::encode_into(&command, &mut self.command);
        &self.command
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

/// No more memory than this is kept from one command to the next.
const KEPT_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use raft_kv::{Command, Key, Value};

    use super::*;

    #[test]
    fn a_command_has_the_bytes_that_the_machine_reads() {
        let key = Key { canonical: vec![1; 9].into(), literal: Some(vec![2; 9].into()) };
        let operation = Operation::Put { key, value: Value(vec![3; 99].into()) };
        let mut writes = Writes::new(7);
        assert_eq!(writes.command(&operation), Command::OpenSession { client: 7 }.encode());
        assert!(writes.on_reply(&Reply::SessionOpened { session: 5 }.encode(), false).unwrap().is_none());
        for number in 1..3 {
            let (request, operation) = (RequestId { client: 7, session: 5, number }, operation.clone());
            let command = Command::Write { request, acknowledged: number - 1, operation: operation.clone() };
            assert_eq!(writes.command(&operation), command.encode());
        }
    }
}
