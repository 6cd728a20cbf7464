//! One connection of a Redis client: reads commands, has them carried out in their order, writes the replies.
//!
//! What a client has sent without waiting is carried out in batches: writes that follow each other are one transaction,
//! reads that follow each other are one query, and neither begins before what came before it is answered. So a pipeline
//! costs one entry of the log, and a client reads what it wrote.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use raft_core::{StateMachine, Storage};
use raft_kv::{Operation, QUERIES_MAX, Query, TRANSACTION_BYTES_MAX, TRANSACTION_OPERATIONS_MAX};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::{sleep_until, timeout};

use super::Gate;
use super::asking::Asker;
use super::command::{Plan, Read, Write, plan};
use super::local::Guest;
use super::output::Output;
use super::parser::{Parser, ProtocolError};
use super::reply;
use crate::client::ClientError;
use crate::config::ConnectionLimits;
use crate::connecting::{LINGER, discard};
use crate::kv_client::KvError;

/// See the module.
pub(super) struct Connection<S, M> {
    gate: Rc<Gate<S, M>>,
    socket: TcpStream,
    parser: Parser,
    /// A command that was taken out of the stream, and did not fit into the batch before it.
    next: Option<Plan>,
    output: Output,
    asker: Asker<S, M>,
    guest: Guest,
    limits: ConnectionLimits,
}

/// The connection is over.
#[derive(Debug)]
pub(super) struct Gone;

/// Commands that are carried out together.
enum Batch {
    Reads(VecDeque<Read>),
    Writes(Vec<Write>),
    /// Any other.
    One(Plan),
    /// The stream makes no sense from here on.
    Broken(ProtocolError),
}

impl<S: Storage, M: StateMachine> Connection<S, M> {
    pub(super) fn new(gate: Rc<Gate<S, M>>, socket: TcpStream, id: u64) -> Self {
        let limits = gate.hub.borrow().config.connections;
        Self {
            asker: Asker::new(gate.clone()),
            gate,
            socket,
            parser: Parser::default(),
            next: None,
            output: Output::default(),
            guest: Guest::new(id),
            limits,
        }
    }

    /// Serves until the client goes, or has to.
    pub(super) async fn serve(mut self) {
        // How it ended is nobody's concern: clients come and go.
        let _ = self.run().await;
    }

    async fn run(&mut self) -> Result<(), Gone> {
        loop {
            while let Some(batch) = self.next_batch() {
                if self.perform(batch).await {
                    return self.leave().await;
                }
                self.output.write(&self.socket)?;
                self.drain(self.limits.client_queue_bytes_max).await?;
            }
            self.hear().await?;
        }
    }

    /// Reads more, and writes what waits. A client that sends on before it reads is served on.
    async fn hear(&mut self) -> Result<(), Gone> {
        let patience = if self.output.is_empty() { self.limits.client_idle_max } else { self.limits.stall_max };
        let deadline = Instant::now().checked_add(patience).ok_or(Gone)?;
        loop {
            // A client that always has more to say does not keep the loop from its heartbeats.
            consume_budget().await;
            tokio::select! {
                ready = self.socket.readable() => ready.map_err(|_| Gone)?,
                ready = self.socket.writable(), if !self.output.is_empty() => {
                    ready.map_err(|_| Gone)?;
                    return self.output.write(&self.socket);
                }
                () = sleep_until(deadline.into()) => return Err(Gone),
            }
            match self.socket.try_read_buf(self.parser.room()) {
                Ok(0) => return Err(Gone),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Writes until no more than so many bytes wait. A client that does not read what it asked for goes (fault N5).
    async fn drain(&mut self, waiting_max: usize) -> Result<(), Gone> {
        while self.output.waiting() > waiting_max {
            timeout(self.limits.stall_max, self.socket.writable()).await.map_err(|_| Gone)?.map_err(|_| Gone)?;
            self.output.write(&self.socket)?;
        }
        Ok(())
    }

    /// Closes, once everything is written.
    async fn leave(&mut self) -> Result<(), Gone> {
        self.drain(0).await?;
        self.socket.shutdown().await.map_err(|_| Gone)?;
        drop(timeout(LINGER, discard(&mut self.socket)).await);
        Err(Gone)
    }

    fn next_plan(&mut self) -> Result<Option<Plan>, ProtocolError> {
        if self.next.is_some() {
            return Ok(self.next.take());
        }
        Ok(self.parser.next()?.map(|words| plan(words, &self.gate.cursors.borrow())))
    }

    /// What is carried out next, of what has arrived.
    fn next_batch(&mut self) -> Option<Batch> {
        match self.next_plan() {
            Ok(None) => None,
            Ok(Some(Plan::Read(first))) => Some(Batch::Reads(self.more_reads(first))),
            Ok(Some(Plan::Write(first))) if first.joins_others() => Some(Batch::Writes(self.more_writes(first))),
            Ok(Some(Plan::Write(alone))) => Some(Batch::Writes(vec![alone])),
            Ok(Some(other)) => Some(Batch::One(other)),
            Err(error) => Some(Batch::Broken(error)),
        }
    }

    fn more_reads(&mut self, first: Read) -> VecDeque<Read> {
        let mut count = first.queries.len();
        let mut reads = VecDeque::from([first]);
        // Where the stream makes no sense, it does so again when these are done.
        while let Ok(Some(plan)) = self.next_plan() {
            match plan {
                Plan::Read(read) if count.saturating_add(read.queries.len()) <= QUERIES_MAX => {
                    count = count.saturating_add(read.queries.len());
                    reads.push_back(read);
                }
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        reads
    }

    fn more_writes(&mut self, first: Write) -> Vec<Write> {
        let size = |write: &Write| -> usize { write.operations.iter().map(Operation::bytes).sum() };
        let (mut count, mut bytes) = (first.operations.len(), size(&first));
        let mut writes = vec![first];
        while let Ok(Some(plan)) = self.next_plan() {
            match plan {
                Plan::Write(write)
                    if write.joins_others()
                        && count.saturating_add(write.operations.len()) <= TRANSACTION_OPERATIONS_MAX
                        && bytes.saturating_add(size(&write)) <= TRANSACTION_BYTES_MAX =>
                {
                    count = count.saturating_add(write.operations.len());
                    bytes = bytes.saturating_add(size(&write));
                    writes.push(write);
                }
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        writes
    }

    /// Carries out a batch and adds its replies to what is to be written; whether the connection is to close then.
    async fn perform(&mut self, batch: Batch) -> bool {
        match batch {
            Batch::Reads(reads) => self.read(reads).await,
            Batch::Writes(writes) => self.write(writes).await,
            Batch::One(Plan::Local(spec, words)) => {
                let gate = &self.gate;
                return self.guest.answer(spec, &words, || gate.info(), self.output.room());
            }
            Batch::One(Plan::Refused(error)) => reply::error(self.output.room(), &error),
            Batch::Broken(error) => {
                reply::error(self.output.room(), &format!("ERR {error}"));
                return true;
            }
            Batch::One(_) => return true,
        }
        false
    }

    /// Asks as often as it takes: what comes back at once has a limit in bytes.
    async fn read(&mut self, mut reads: VecDeque<Read>) {
        while let Some(first) = reads.front() {
            let queries: Vec<Query> = reads.iter().flat_map(|read| read.queries.iter().cloned()).collect();
            let replies = match self.asker.read(queries).await {
                Ok(replies) => replies,
                Err(error) => {
                    reads.iter().for_each(|_| reply::error(self.output.room(), &error_text(&error)));
                    return;
                }
            };
            if replies.len() < first.queries.len() {
                reply::error(self.output.room(), "ERR the values together are too large: ask for fewer at once");
                reads.pop_front();
                continue;
            }
            let mut rest = &replies[..];
            while let Some((own, behind)) = reads.front().and_then(|read| rest.split_at_checked(read.queries.len())) {
                if let Some(read) = reads.pop_front() {
                    read.answer(own, &mut self.gate.cursors.borrow_mut(), self.output.room());
                }
                rest = behind;
            }
        }
    }

    async fn write(&mut self, mut writes: Vec<Write>) {
        let counts: Vec<usize> = writes.iter().map(|write| write.operations.len()).collect();
        let operations = writes.iter_mut().flat_map(|write| core::mem::take(&mut write.operations)).collect();
        let done = self.asker.write(operations).await;
        let mut rest = done.as_deref().unwrap_or_default();
        for (write, count) in writes.iter().zip(counts) {
            match &done {
                Ok(_) => {
                    let (own, behind) = rest.split_at_checked(count).unwrap_or_default();
                    write.answer(own, self.output.room());
                    rest = behind;
                }
                Err(error) => reply::error(self.output.room(), &error_text(error)),
            }
        }
    }
}

/// `UNKNOWN`: it may have been done, or may be yet. `TRYAGAIN`: nothing was done, and later it may be. `ERR`: nothing was
/// done, nor will be.
fn error_text(error: &KvError) -> String {
    match error {
        error if error.is_unknown() => format!("UNKNOWN {error}"),
        KvError::Malformed { what } => format!("ERR {what}"),
        KvError::Client(ClientError::Refused(raft_core::Refusal::TooLarge { .. } | raft_core::Refusal::Halted)) => {
            format!("ERR {error}")
        }
        error => format!("TRYAGAIN {error}"),
    }
}
