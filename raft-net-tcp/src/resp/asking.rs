//! Asks the machine for one connection, one request at a time, through whoever leads.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::{Refusal, StateMachine, Storage};
use raft_kv::{Operation, Outcome, Query, QueryReply};
use tokio::time::{sleep, timeout};

use super::Gate;
use crate::client::ClientError;
use crate::hub::Ask;
use crate::kv_client::KvError;
use crate::peers::Backoff;
use crate::protocol::ResponseBody;
use crate::writing::Writes;

/// The machine, as one connection asks it.
///
/// Its writes are in a session, under a number each: where no answer comes, for a leader was lost, the same write is sent
/// again under the same number, and applied once. Where none comes until [`DEADLINE`], what came of it is unknown, which
/// the connection's client is told. What that client sends again itself is another write.
pub(super) struct Asker<S, M> {
    gate: Rc<Gate<S, M>>,
    /// Taken from those that no connection uses, when the first write comes.
    writes: Option<Writes>,
}

impl<S: Storage, M: StateMachine> Asker<S, M> {
    pub(super) const fn new(gate: Rc<Gate<S, M>>) -> Self {
        Self { gate, writes: None }
    }

    /// Has these done in their order, all at once.
    ///
    /// # Errors
    /// There is no answer: see [`KvError::is_unknown`].
    pub(super) async fn write(&mut self, mut operations: Vec<Operation>) -> Result<Vec<Outcome>, KvError> {
        let is_one = operations.len() == 1;
        let operation = match operations.pop() {
            Some(one) if is_one => one,
            last => Operation::Transaction { operations: operations.into_iter().chain(last).collect() },
        };
        match self.write_one(&operation).await? {
            Outcome::Transaction { outcomes, .. } => Ok(outcomes),
            outcome => Ok(vec![outcome]),
        }
    }

    async fn write_one(&mut self, operation: &Operation) -> Result<Outcome, KvError> {
        let deadline = later(DEADLINE);
        let mut writes = self.writes.take().unwrap_or_else(|| self.gate.writes());
        let done = loop {
            let opens = writes.opens();
            let command = Ask::Submit(Bytes::copy_from_slice(writes.command(operation)));
            let done = match ask(&self.gate, &command, deadline).await {
                // Whether a session was opened is unknown; that nothing was written is not.
                Err(ClientError::Timeout { .. }) if opens => Err(ClientError::Timeout { unknown: false }.into()),
                Err(error) => Err(error.into()),
                Ok((reply, repeated)) => writes.on_reply(&reply, repeated),
            };
            if let Some(done) = done.transpose() {
                break done;
            }
        };
        self.writes = Some(writes);
        Ok(done?.outcome)
    }

    /// The replies to these, about one state: to as many from the first on as fit together, and one at least.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn read(&self, queries: Vec<Query>) -> Result<Vec<QueryReply>, KvError> {
        let query = Ask::Query(Query::Several { queries }.encode().into());
        let (reply, _) = ask(&self.gate, &query, later(DEADLINE)).await?;
        match QueryReply::decode(&reply).map_err(|_| KvError::Unintelligible)? {
            QueryReply::Several { replies } if !replies.is_empty() => Ok(replies),
            QueryReply::Malformed { what } => Err(KvError::Malformed { what: what.into_owned() }),
            _ => Err(KvError::Unintelligible),
        }
    }
}

/// Whoever connects next goes on with the session.
impl<S, M> Drop for Asker<S, M> {
    fn drop(&mut self) {
        if let Some(writes) = self.writes.take() {
            self.gate.give_back(writes);
        }
    }
}

/// Asks this server, and whoever it says leads, until one answers or the deadline passes: the machine's reply, and whether
/// an earlier copy of a command may have been applied as well.
async fn ask<S: Storage, M: StateMachine>(
    gate: &Gate<S, M>,
    ask: &Ask,
    deadline: Instant,
) -> Result<(Bytes, bool), ClientError> {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    let mut patience = PATIENCE;
    let mut unknown = false;
    loop {
        let error = match attempt(gate, ask, patience, deadline).await {
            Some(ResponseBody::Applied { reply, .. } | ResponseBody::Answered { reply, .. }) => {
                return Ok((reply, unknown));
            }
            Some(ResponseBody::Refused(refusal @ (Refusal::TooLarge { .. } | Refusal::Halted))) => {
                return Err(if unknown { ClientError::Timeout { unknown } } else { ClientError::Refused(refusal) });
            }
            Some(ResponseBody::Refused(refusal @ (Refusal::Busy | Refusal::DiskFull))) => ClientError::Refused(refusal),
            Some(ResponseBody::Refused(_)) => ClientError::NoLeader,
            _ => {
                patience = patience.saturating_mul(2);
                unknown |= matches!(ask, Ask::Submit(_));
                ClientError::Timeout { unknown: false }
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(if unknown { ClientError::Timeout { unknown } } else { error });
        }
        sleep(backoff.pause().min(left)).await;
    }
}

/// One answer of this server, or of the one that it says leads; `None` where none comes.
async fn attempt<S: Storage, M: StateMachine>(
    gate: &Gate<S, M>,
    ask: &Ask,
    patience: Duration,
    deadline: Instant,
) -> Option<ResponseBody> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let answer = gate.hub.borrow_mut().ask(ask);
    match timeout(left(), answer).await.ok()?.ok()? {
        ResponseBody::Refused(Refusal::NotLeader { leader: Some(leader) }) => {
            gate.forwarder.ask(&gate.hub, leader, ask, patience.min(left())).await
        }
        body => Some(body),
    }
}

fn later(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// For a request as a whole, whatever happens.
const DEADLINE: Duration = Duration::from_secs(5);

/// For the first answer of another server, before it is asked anew who leads; twice as long for the next, and so on.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first pause after an attempt was in vain; it doubles up to the other.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);
