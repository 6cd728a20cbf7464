//! A client of the key-value machine: every write is applied once, however often it had to be sent (fault C1).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use raft_core::{Digest, LogIndex, NodeId};
use raft_kv::proof::{BlockProof, Head};
use raft_kv::{CodecError, Key, Operation, Outcome, Pair, Query, QueryReply, Value};

use crate::client::{Answer, Client, ClientError, ClientOptions, Verified};
use crate::client_connection::Identity;
use crate::line::Connections;
use crate::protocol::ServerStatus;
use crate::writing::{Writes, Written};

/// A client of the key-value machine.
///
/// Its first write opens a session through the log. Every write has a number in that session, under which it is sent
/// to one server after the other until one answers: the machine applies it once.
#[derive(Debug)]
pub struct KvClient {
    client: Client,
    writes: Writes,
}

/// What was answered, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvAnswer<T> {
    /// The server that answered.
    pub server: NodeId,
    /// Of a write: the block that it is in. Of a read: the last block of the state that was read.
    pub height: u64,
    /// That block's hash, where blocks have one.
    pub hash: Option<Digest>,
    /// The answer itself.
    pub value: T,
}

/// Pairs in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The pairs.
    pub pairs: Vec<Pair>,
    /// There are more behind the last of these.
    pub more: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// See [`ClientError`]: it tells what did not happen from what is unknown.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The machine refused it: nothing was changed.
    #[error("refused: {what}")]
    Malformed {
        /// Why.
        what: String,
    },
    /// The machine's answer makes no sense: another kind of machine runs there, or another version of it. A write may
    /// have been applied.
    #[error("the answer makes no sense: does this cluster run another state machine?")]
    Unintelligible,
}

impl KvClient {
    /// A client that knows these servers. Connects when it is first asked something.
    #[must_use]
    pub fn new(servers: BTreeMap<NodeId, SocketAddr>, identity: Identity, options: ClientOptions) -> Self {
        Self { client: Client::new(servers, identity, options), writes: Writes::new(identity.client) }
    }

    /// Has it share connections with others: see [`Client::sharing`]. Its session stays its own.
    #[must_use]
    pub fn sharing(mut self, connections: Connections) -> Self {
        self.client = self.client.sharing(connections);
        self
    }

    /// Stores `value` under `key`: [`Outcome::Success`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn put(&mut self, key: Key, value: Value) -> Result<KvAnswer<Outcome>, KvError> {
        self.write(Operation::Put { key, value }).await
    }

    /// Removes `key` and its value: [`Outcome::Deleted`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn delete(&mut self, key: Key) -> Result<KvAnswer<Outcome>, KvError> {
        self.write(Operation::Delete { key }).await
    }

    /// Stores `new` where the value is `expected`: [`Outcome::Swapped`] or [`Outcome::NotSwapped`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn compare_and_swap(
        &mut self,
        key: Key,
        expected: Value,
        new: Value,
    ) -> Result<KvAnswer<Outcome>, KvError> {
        self.write(Operation::CompareAndSwap { key, expected, new }).await
    }

    /// Has an operation applied once.
    ///
    /// # Errors
    /// There is no answer. Only after [`ClientError::Timeout`] with `unknown` may it have been applied; it may then
    /// also be applied later, until this client writes something else.
    pub async fn write(&mut self, operation: Operation) -> Result<KvAnswer<Outcome>, KvError> {
        let deadline = self.client.deadline();
        loop {
            let opens = self.writes.opens();
            let command = self.writes.command(&operation);
            let answer = match self.client.submit_repeatedly(command, deadline).await {
                // Whether a session was opened is unknown; that nothing was written is not.
                Err(ClientError::Timeout { .. }) if opens => return Err(ClientError::Timeout { unknown: false }.into()),
                answer => answer?,
            };
            if let Some(Written { outcome, height, hash }) = self.writes.on_reply(&answer.reply, answer.repeated)? {
                return Ok(KvAnswer { server: answer.server, height, hash, value: outcome });
            }
        }
    }

    /// The value under the key with these canonical bytes, linearizably.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn get(&mut self, canonical: Bytes) -> Result<KvAnswer<Option<Value>>, KvError> {
        match self.query(&Query::Get { key: canonical }).await? {
            (answer, QueryReply::Value { value }) => Ok(answered(&answer, value)),
            _ => Err(KvError::Unintelligible),
        }
    }

    /// At most `limit` pairs whose canonical keys begin with `prefix` and come behind `after`.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn scan(
        &mut self,
        prefix: Option<Bytes>,
        after: Option<Bytes>,
        limit: u32,
    ) -> Result<KvAnswer<Page>, KvError> {
        match self.query(&Query::Scan { prefix, after, limit }).await? {
            (answer, QueryReply::Page { pairs, more }) => Ok(answered(&answer, Page { pairs, more })),
            _ => Err(KvError::Unintelligible),
        }
    }

    /// Asks every server how it is, as [`Client::statuses`] does.
    pub async fn status(&mut self) -> Vec<(NodeId, Result<ServerStatus, ClientError>)> {
        self.client.statuses().await
    }

    /// Which block wrote the key with these canonical bytes last; `None` where it is not there.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn written(&mut self, canonical: Bytes) -> Result<KvAnswer<Option<LogIndex>>, KvError> {
        match self.query(&Query::Written { key: canonical }).await? {
            (answer, QueryReply::Written { height }) => Ok(answered(&answer, height.map(LogIndex))),
            _ => Err(KvError::Unintelligible),
        }
    }

    /// The newest head that was verified: to be kept, apart from the servers, and given back to a later client.
    #[must_use]
    pub const fn remembered(&self) -> Option<Head> {
        self.client.remembered()
    }

    /// From now on histories must go on from this head, which the caller trusts.
    pub const fn remember(&mut self, head: Head) {
        self.client.remember(head);
    }

    /// Has the cluster prove that its history, as far as a linearizable read goes, goes on from the head that is
    /// remembered; remembers the new one.
    ///
    /// # Errors
    /// [`HistoryError::Rewritten`](crate::HistoryError::Rewritten) where it does not, and nobody could prove it.
    pub async fn verify(&mut self) -> Result<Verified, KvError> {
        let (since, deadline) = (self.remembered(), self.client.deadline());
        let (answer, _) = self.query(&Query::Size).await?;
        let verified = self.client.verify(answer.server, answer.index, deadline).await?;
        Ok(Verified { since, ..verified })
    }

    /// The proof that the block at this height is in the chain, of a head that was [verified](Self::verify) for it.
    ///
    /// # Errors
    /// As for `verify`, or there is no such block or proof.
    pub async fn prove_block(&mut self, height: LogIndex) -> Result<BlockProof, KvError> {
        let Verified { server, head, .. } = self.verify().await?;
        Ok(self.client.prove_block(server, height, &head).await?)
    }

    /// The same client as an operator, who may change the members.
    #[must_use]
    pub fn operator(&self) -> Client {
        self.client.operator()
    }

    async fn query(&mut self, query: &Query) -> Result<(Answer, QueryReply), KvError> {
        let answer = self.client.query(&query.encode()).await?;
        match QueryReply::decode(&answer.reply).map_err(unintelligible)? {
            QueryReply::Malformed { what } => Err(KvError::Malformed { what: what.into_owned() }),
            reply => Ok((answer, reply)),
        }
    }
}

impl KvError {
    /// Whether a write may have been applied all the same.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        match self {
            Self::Client(error) => error.is_unknown(),
            Self::Malformed { .. } => false,
            Self::Unintelligible => true,
        }
    }
}

fn answered<T>(answer: &Answer, value: T) -> KvAnswer<T> {
    KvAnswer { server: answer.server, height: answer.index.0, hash: answer.hash, value }
}

fn unintelligible(_: CodecError) -> KvError {
    KvError::Unintelligible
}
