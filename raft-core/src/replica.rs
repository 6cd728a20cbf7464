//! A whole server minus its sockets and clock: a [`Node`], its storage, its state machine, and the clients that wait.
//!
//! The same `Replica` runs behind TCP and in a simulator. The shell around it calls an input for whatever happened,
//! then [`poll`](Replica::poll), then takes the [replies](Replica::next_reply); messages leave through the
//! [`Transport`] meanwhile.
//!
//! Invariants:
//!
//! * Each request is answered exactly once: done, refused (it did not happen and will not), or unknown.
//! * Commands that arrived together travel in one entry. A batch is closed when this server's own disk is idle, so
//!   that the next one gathers for just as long as the disk needs for the last: no timer, no added latency.
//! * An answer leaves only after its entry was committed by a quorum, is durable here, and was applied.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::{Action, ReadKind, RoleName};
use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Refusal, StartError, StorageError};
use crate::event::{Event, MembershipChange};
use crate::message::Message;
use crate::node::Node;
use crate::request::{Limits, Outcome, QUERY_COST, Queue, Reply, RequestId};
use crate::state_machine::StateMachine;
use crate::status::Status;
use crate::storage::Storage;
use crate::transport::Transport;
use crate::types::{LogIndex, NodeId, ReadId, WriteId};

mod digests;
mod room;
mod snapshot;
mod waiting;

use digests::StateDigests;
use snapshot::Taking;
use waiting::{Proposed, apply_entry, take_waiting};

/// See the module.
#[derive(Debug)]
pub struct Replica<S, T, M> {
    node: Node<S>,
    transport: T,
    machine: M,
    limits: Limits,
    queue: Queue,
    /// Proposed and not applied yet, ascending by index.
    proposed: VecDeque<Proposed>,
    queries: BTreeMap<ReadId, (RequestId, Bytes)>,
    /// Queries that may be answered, oldest first.
    confirmed: VecDeque<(RequestId, Bytes, ReadKind)>,
    /// What the two above cost.
    query_bytes: usize,
    last_read: ReadId,
    /// The last write begun, and the last reported durable: equal when the disk is idle.
    begun: WriteId,
    durable: WriteId,
    actions: Vec<Action>,
    events: VecDeque<Event>,
    replies: VecDeque<Reply>,
    notices: VecDeque<Action>,
    /// Entries applied since the last snapshot was begun, in bytes.
    applied_bytes: usize,
    /// Leadership was handed over for lack of room, since there was room last.
    gave_way: bool,
    /// The leader's snapshot that there was no room for last, and the bytes that it would have had.
    outgrown: (LogIndex, u64),
    digests: StateDigests,
    /// The snapshot that is being taken.
    taking: Option<Taking>,
}

// Inputs.
impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    /// A server over what its storage holds. `machine` is empty: the snapshot is restored into it, and the log after
    /// it applied anew.
    ///
    /// # Errors
    /// The configuration cannot work, the storage cannot be read, or its snapshot is none of this machine.
    pub fn new(config: Config, limits: Limits, storage: S, transport: T, mut machine: M) -> Result<Self, StartError> {
        snapshot::restore_installed(&storage, &mut machine)?;
        Ok(Self {
            node: Node::new(config, storage)?,
            transport,
            machine,
            limits,
            queue: Queue::default(),
            proposed: VecDeque::new(),
            queries: BTreeMap::new(),
            confirmed: VecDeque::new(),
            query_bytes: 0,
            last_read: ReadId(0),
            begun: WriteId(0),
            durable: WriteId(0),
            actions: Vec::new(),
            events: VecDeque::new(),
            replies: VecDeque::new(),
            notices: VecDeque::new(),
            applied_bytes: 0,
            gave_way: false,
            outgrown: (LogIndex(0), 0),
            digests: StateDigests::new(limits.state_digest_every),
            taking: None,
        })
    }

    /// One unit of time has passed.
    pub fn tick(&mut self) {
        if let Some(taking) = &mut self.taking {
            taking.is_paced = true;
        }
        self.handle(Event::Tick);
    }

    /// A peer's message. It is lost where it brings what there is no room for.
    pub fn receive(&mut self, message: Message) {
        if self.finds_room(&message) {
            self.handle(Event::Message(message));
        } else {
            self.lose(&message);
        }
    }

    /// The transport lost what was sent to this peer.
    pub fn unreachable(&mut self, peer: NodeId) {
        self.handle(Event::Unreachable(peer));
    }

    /// Stand for election now.
    pub fn campaign(&mut self) {
        self.handle(Event::Campaign);
    }

    /// Hand leadership to this voter. A notice tells what comes of it.
    pub fn transfer_leadership(&mut self, target: NodeId) {
        self.handle(Event::TransferLeadership(target));
    }

    /// Hand leadership to whoever is furthest, where this server leads: before it stops.
    pub fn hand_over(&mut self) {
        self.handle(Event::HandOver);
    }

    /// Change who takes part. A notice tells what comes of it.
    pub fn change_membership(&mut self, change: MembershipChange) {
        self.handle(Event::ChangeMembership(change));
    }

    /// A client's command. It is proposed by a later [`poll`](Self::poll), with all that arrived meanwhile.
    pub fn submit(&mut self, request: RequestId, command: &[u8]) {
        // A batch holds no longer one: its request would be answered with the next command's reply.
        let largest = u64::try_from(self.limits.max_command_bytes).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        let refusal = if self.is_halted() {
            Refusal::Halted
        } else if self.node.role() != RoleName::Leader {
            Refusal::NotLeader { leader: self.node.leader() }
        } else if u64::try_from(command.len()).unwrap_or(u64::MAX) > largest {
            Refusal::TooLarge { limit: largest }
        } else if !self.has_room() {
            Refusal::DiskFull
        } else if self.queue.bytes.saturating_add(Batch::cost(command)) > self.limits.max_queued_bytes {
            Refusal::Busy
        } else {
            self.queue.push(request, command, self.limits.max_batch_bytes);
            return;
        };
        self.reply(request, Outcome::Refused(refusal));
    }

    /// A client's question, answered linearizably where the limits have room for it: by the leader, and by a follower where [`Config::life`] is given.
    pub fn query(&mut self, request: RequestId, query: Bytes) {
        let bytes = self.query_bytes.saturating_add(query_cost(&query));
        if self.query_bytes > 0 && bytes > self.limits.max_query_bytes {
            self.reply(request, Outcome::Refused(Refusal::Busy));
            return;
        }
        self.query_bytes = bytes;
        self.last_read = ReadId(self.last_read.0.saturating_add(1));
        self.queries.insert(self.last_read, (request, query));
        self.handle(Event::Read(self.last_read));
    }

    /// Reports what has become durable, proposes what has gathered if the disk is idle, and writes the next piece of a
    /// snapshot if it is due. Call it whenever inputs have been given, and whenever the storage has finished a write.
    pub fn poll(&mut self) {
        loop {
            match self.node.storage_mut().persisted() {
                Ok(durable) if durable > self.durable => {
                    self.durable = durable;
                    self.handle(Event::Persisted(durable));
                }
                Ok(_) if self.durable == self.begun && !self.queue.batches.is_empty() => self.propose(),
                Ok(_) if self.is_piece_due() => self.write_piece(),
                Ok(_) => {
                    self.look_for_room();
                    return;
                }
                Err(error) => {
                    self.handle(Event::WriteFailed(error));
                    return;
                }
            }
        }
    }
}

// Outputs.
impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    /// The next answer to a client.
    pub fn next_reply(&mut self) -> Option<Reply> {
        self.next_reply_if(|_| true)
    }

    /// As [`next_reply`](Self::next_reply), but a query that nobody awaits any more is not put to the state machine: its
    /// outcome is `Unknown`. Queries are answered when their reply is taken, so that a thousand large ones need the
    /// memory of one.
    pub fn next_reply_if(&mut self, is_awaited: impl Fn(RequestId) -> bool) -> Option<Reply> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        let (request, query, kind) = self.confirmed.pop_front()?;
        self.query_bytes = self.query_bytes.saturating_sub(query_cost(&query));
        if !is_awaited(request) {
            return Some(Reply { request, outcome: Outcome::Unknown });
        }
        if self.is_halted() {
            return Some(Reply { request, outcome: Outcome::Refused(Refusal::Halted) });
        }
        let index = self.node.last_applied();
        let reply = self.machine.query(&query);
        Some(Reply { request, outcome: Outcome::Answered { index, reply, kind } })
    }

    /// The next thing an operator may want to know: a role change, a diverging peer, a dropped message, a halt. The
    /// last hundred are kept.
    pub fn next_notice(&mut self) -> Option<Action> {
        self.notices.pop_front()
    }

    /// Everything an operator asks for.
    #[must_use]
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// The protocol's state, for reading entries and digests.
    #[must_use]
    pub const fn node(&self) -> &Node<S> {
        &self.node
    }

    /// The storage, for its own care: flushing, closing.
    pub const fn storage_mut(&mut self) -> &mut S {
        self.node.storage_mut()
    }

    /// The state machine as far as this server has applied the log.
    #[must_use]
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The transport.
    pub const fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// The commands that wait to be proposed, oldest first.
    pub fn queued(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.batches.iter().flat_map(|(batch, _)| batch.commands())
    }

    /// Whether nothing waits for the storage: all that was written is durable, or never will be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_halted() || (self.durable == self.begun && self.queue.batches.is_empty())
    }

    /// Whether the storage or the state is at fault and nothing is done any more.
    #[must_use]
    pub const fn is_halted(&self) -> bool {
        self.node.is_halted()
    }
}

// The loop that the crate's documentation shows, once for everybody.
impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    fn handle(&mut self, event: Event) {
        self.events.push_back(event);
        self.run();
    }

    fn run(&mut self) {
        while let Some(event) = self.events.pop_front() {
            let mut actions = core::mem::take(&mut self.actions);
            self.node.step_into(event, &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
            self.actions = actions;
        }
        if self.is_snapshot_due() {
            self.take_snapshot();
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send(message) => self.transport.send(message),
            Action::Persist(write) => {
                self.begun = write.id;
                if let Err(error) = self.node.storage_mut().write(write) {
                    self.events.push_back(Event::WriteFailed(error));
                }
            }
            Action::Apply { first, last } => match self.apply(first, last) {
                Ok(None) => self.events.push_back(Event::Applied(last)),
                Ok(Some(diverged)) => self.events.push_back(Event::StateDiverged(diverged)),
                Err(error) => self.events.push_back(Event::WriteFailed(error)),
            },
            Action::Restore(meta) => self.restore(&meta),
            Action::ReadReady { read, kind, .. } => {
                let query = self.queries.remove(&read);
                self.confirmed.extend(query.map(|(request, query)| (request, query, kind)));
            }
            Action::ReadFailed { read, reason } => {
                if let Some((request, query)) = self.queries.remove(&read) {
                    self.query_bytes = self.query_bytes.saturating_sub(query_cost(&query));
                    self.reply(request, Outcome::Refused(reason));
                }
            }
            // Both are taken from the step that proposes.
            Action::ProposalAppended { .. } | Action::ProposalRefused(_) => {}
            Action::SnapshotInstalled { .. } | Action::SnapshotRefused(_) => {
                self.end_snapshot();
                self.notice(action);
            }
            notice => self.notice(notice),
        }
    }

    fn propose(&mut self) {
        if !self.has_room() {
            self.refuse_queued(Refusal::DiskFull);
            return;
        }
        let batches = self.queue.take();
        let mut requests = Vec::with_capacity(batches.len());
        let mut payloads = Vec::with_capacity(batches.len());
        for (batch, waiting) in batches {
            payloads.push(batch.into_payload());
            requests.push(waiting);
        }
        let mut actions = core::mem::take(&mut self.actions);
        self.node.step_into(Event::Propose(payloads), &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::ProposalAppended { first, term, .. } => {
                    for (waiting, index) in core::mem::take(&mut requests).into_iter().zip(first.0..) {
                        self.proposed.push_back(Proposed { index: LogIndex(index), term, requests: waiting });
                    }
                }
                Action::ProposalRefused(refusal) => {
                    for request in core::mem::take(&mut requests).into_iter().flatten() {
                        self.reply(request, Outcome::Refused(refusal));
                    }
                }
                action => self.perform(action),
            }
        }
        self.actions = actions;
        self.run();
    }

    /// Gives the entry after which a majority had another state, where one of these says so: nothing is applied from there on.
    fn apply(&mut self, first: LogIndex, last: LogIndex) -> Result<Option<LogIndex>, StorageError> {
        let mut next = first;
        while next <= last {
            let entries = self.node.entries(next, last)?;
            let Some(end) = entries.last().map(|entry| entry.index) else {
                return Err(StorageError::OutOfRange { index: next, last: next.prev() });
            };
            for entry in entries.iter() {
                if let Some(diverged) = self.digests.contradicted_by(entry) {
                    return Ok(Some(diverged));
                }
                let digest = self.node.digest(entry.index)?;
                let waiting = take_waiting(&mut self.proposed, &mut self.replies, entry);
                self.applied_bytes = self.applied_bytes.saturating_add(entry.cost());
                apply_entry(&mut self.machine, entry, digest, waiting, &mut self.replies);
                let taken = self.digests.applied(entry, || self.machine.digest());
                self.events.extend(taken.map(Event::StateDigested));
            }
            next = end.next();
        }
        Ok(None)
    }

    fn notice(&mut self, notice: Action) {
        /// Beyond this many unread notices the oldest goes.
        const KEPT: usize = 100;
        match &notice {
            Action::RoleChanged { role, leader, .. } if *role != RoleName::Leader => {
                self.abandon(Refusal::NotLeader { leader: *leader });
            }
            Action::Halt(_) => self.abandon(Refusal::Halted),
            _ => {}
        }
        if self.notices.len() >= KEPT {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// What was not proposed did not happen; of what was, this server cannot tell.
    fn abandon(&mut self, refusal: Refusal) {
        self.refuse_queued(refusal);
        for request in core::mem::take(&mut self.proposed).into_iter().flat_map(|proposed| proposed.requests) {
            mark!(UnknownOutcome);
            if bug!(WaitersStranded) {
                continue;
            }
            self.reply(request, Outcome::Unknown);
        }
    }

    /// What was not proposed did not happen.
    fn refuse_queued(&mut self, refusal: Refusal) {
        for request in self.queue.take().into_iter().flat_map(|(_, requests)| requests) {
            self.reply(request, Outcome::Refused(refusal));
        }
    }

    fn reply(&mut self, request: RequestId, outcome: Outcome) {
        self.replies.push_back(Reply { request, outcome });
    }
}

const fn query_cost(query: &Bytes) -> usize {
    query.len().saturating_add(QUERY_COST)
}
