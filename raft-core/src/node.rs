//! The server as a fold: one state, one event, some actions. Holds the state of Figure 2, the dispatch, and the only
//! methods that change the role. The rules themselves stand in the file of their section of the paper.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::action::{Action, HardState, RoleName};
use crate::config::Config;
use crate::error::{Fault, PeerFault, Refusal, StartError, StorageError};
use crate::event::Event;
use crate::follower_read::ForwardedReads;
use crate::gate::Gate;
use crate::log::Log;
use crate::membership::Configurations;
use crate::message::{Body, Message};
use crate::read_index::ConfirmedRead;
use crate::role::{Leader, Role, Votes};
use crate::snapshot::{Receiving, Taking};
use crate::storage::Storage;
use crate::types::{Digest, Entry, Incarnation, LogIndex, NodeId, Payload, Term, WriteId};

/// One server's protocol state. See the crate's documentation for the contract.
#[derive(Clone, Debug)]
pub struct Node<S> {
    pub(crate) config: Config,
    pub(crate) storage: S,
    /// The storage's: every answer says it.
    pub(crate) incarnation: Incarnation,
    pub(crate) configurations: Configurations,
    // Persistent state (Figure 2): `log` and these two.
    pub(crate) current_term: Term,
    pub(crate) voted_for: Option<NodeId>,
    /// The two above have changed and no write holds them yet.
    pub(crate) hard_state_changed: bool,
    pub(crate) log: Log,
    pub(crate) role: Role,
    pub(crate) gate: Gate,
    /// Ticks since the node was made.
    pub(crate) now: u64,
    /// Ticks since a leader was heard, a vote was given, or an election began.
    pub(crate) election_elapsed: u32,
    pub(crate) randomized_election_timeout: u32,
    rng: ChaCha8Rng,
    /// Reads that are confirmed, until their index is applied.
    pub(crate) confirmed_reads: VecDeque<ConfirmedRead>,
    /// Reads that this server's leader is asked about.
    pub(crate) forwarded: ForwardedReads,
    /// No vote, but for a leadership transfer, before this tick: a leader's lease may count on it.
    pub(crate) promised_until: u64,
    /// The write that installs the newest snapshot of this life.
    pub(crate) installing: WriteId,
    /// The snapshot that a leader is sending.
    pub(crate) receiving: Option<Box<Receiving>>,
    /// The snapshot that is being taken here.
    pub(crate) taking: Option<Box<Taking>>,
    /// The leader whose log was said to differ, so that it is said once.
    pub(crate) differs_from: Option<NodeId>,
    /// Whether the configuration has changed, or was read, since it was last asked if it means this server's disk.
    pub(crate) configuration_is_new: bool,
    /// It was said that it does not.
    pub(crate) said_replaced: bool,
    /// Role, term and leader as they were said last.
    said: (RoleName, Term, Option<NodeId>),
    pub(crate) fault: Option<Fault>,
}

// What a caller uses.
impl<S: Storage> Node<S> {
    /// A node over what its storage holds, as a follower (§5.2: "When servers start up, they begin as followers").
    ///
    /// # Errors
    /// The configuration cannot work, or the storage cannot be read.
    pub fn new(config: Config, storage: S) -> Result<Self, StartError> {
        config.validate()?;
        let HardState { current_term, voted_for } = storage.hard_state()?;
        let configurations = Configurations::open(&storage)?;
        let log = Log::open(&storage)?;
        let has_room = log.start() <= log.snapshot_index() && log.snapshot_index() <= log.last().index;
        if log.last().term > current_term || !has_room {
            let (start, snapshot) = (log.start(), log.snapshot_index());
            let what =
                format!("term {current_term}, a snapshot at {snapshot}, and a log from {start} to {:?}", log.last());
            return Err(StorageError::Damaged { place: String::from("hard state"), what }.into());
        }
        let mut node = Self {
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            config,
            incarnation: storage.incarnation(),
            storage,
            configurations,
            current_term,
            voted_for,
            hard_state_changed: false,
            log,
            role: Role::Follower { leader: None },
            gate: Gate::default(),
            now: 0,
            election_elapsed: 0,
            randomized_election_timeout: 0,
            confirmed_reads: VecDeque::new(),
            forwarded: ForwardedReads::default(),
            promised_until: 0,
            installing: WriteId(0),
            receiving: None,
            taking: None,
            differs_from: None,
            configuration_is_new: true,
            said_replaced: false,
            said: (RoleName::Follower, current_term, None),
            fault: None,
        };
        node.reset_election_timer();
        node.promise_anew();
        Ok(node)
    }

    /// Takes one event and returns what must be done for it.
    pub fn step(&mut self, event: impl Into<Event>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.step_into(event, &mut actions);
        actions
    }

    /// Takes one event and adds what must be done for it to the caller's buffer.
    pub fn step_into(&mut self, event: impl Into<Event>, actions: &mut Vec<Action>) {
        let (event, already) = (event.into(), actions.len());
        self.storage.step_begins(&event);
        self.step_unwatched(event, actions);
        self.storage.step_ends(actions.get(already..).unwrap_or_default());
    }

    fn step_unwatched(&mut self, event: Event, actions: &mut Vec<Action>) {
        if self.fault.is_some() {
            actions.extend(event.refused_by_halted());
            return;
        }
        #[cfg(debug_assertions)]
        let before = crate::invariants::Summary::of(self);
        match self.dispatch(event, actions) {
            Ok(()) => self.conclude(actions),
            Err(fault) => self.halt(fault, actions),
        }
        #[cfg(debug_assertions)]
        {
            let violated = crate::invariants::check_state(self)
                .and_then(|()| crate::invariants::check_transition(&before, &crate::invariants::Summary::of(self)));
            debug_assert_eq!(violated, Ok(()), "our own state is broken");
        }
    }

    /// Entries from `first` to at most `last`, at least one: what [`Action::Apply`] asks to apply. Ask again from
    /// where it ends until all are there.
    ///
    /// # Errors
    /// The storage cannot be read, or the log does not hold them.
    pub fn entries(&self, first: LogIndex, last: LogIndex) -> Result<Cow<'_, [Entry]>, StorageError> {
        self.log.lend(&self.storage, first, last)
    }

    /// Chain digest of the entry at `index`; `None` where the storage does not link.
    ///
    /// # Errors
    /// The storage cannot be read, or the log does not hold it.
    pub fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        self.log.mark(&self.storage, index).map(|mark| mark.digest)
    }

    /// The storage, to begin writes and ask what is durable.
    pub const fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// The storage, to read.
    pub const fn storage(&self) -> &S {
        &self.storage
    }
}

// Dispatch.
impl<S: Storage> Node<S> {
    fn dispatch(&mut self, event: Event, actions: &mut Vec<Action>) -> Result<(), Fault> {
        match event {
            Event::Tick => self.on_tick(actions),
            Event::Message(message) => self.on_message(message, actions),
            Event::Propose(payloads) => self.on_propose(payloads, actions),
            Event::Read(read) => {
                self.on_read(read, actions);
                Ok(())
            }
            Event::Campaign => self.on_campaign(actions),
            Event::ChangeMembership(change) => self.on_change_membership(change, actions),
            Event::TransferLeadership(target) => {
                self.on_transfer_leadership(target, actions);
                Ok(())
            }
            Event::HandOver => {
                self.hand_over(actions);
                Ok(())
            }
            Event::Persisted(write) => self.on_persisted(write, actions),
            Event::WriteFailed(error) => Err(error.into()),
            Event::Applied(index) => {
                self.log.applied(index, self.config.window_bytes);
                self.release_reads(actions);
                Ok(())
            }
            Event::SnapshotPiece(piece) => self.on_snapshot_piece(piece, actions),
            Event::SnapshotOutgrows => {
                self.on_snapshot_outgrows(actions);
                Ok(())
            }
            Event::Restored(index) => self.on_restored(index, actions),
            Event::RestoreFailed(index) => {
                self.on_restore_failed(index, actions);
                Ok(())
            }
            Event::Unreachable(peer) => {
                self.on_unreachable(peer);
                Ok(())
            }
            Event::StateDigested(report) => self.on_state_digested(report, actions),
            Event::StateDiverged(index) => Err(Fault::StateDiverged { index }),
            Event::StateRotted(index) => Err(Fault::StateRotted { index }),
        }
    }

    fn on_tick(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        self.now = self.now.saturating_add(1);
        self.tick_forwarded(actions);
        match self.role {
            Role::Leader(_) => self.tick_leader(actions),
            _ => self.tick_election(actions),
        }
    }

    fn on_persisted(&mut self, write: WriteId, actions: &mut Vec<Action>) -> Result<(), Fault> {
        if !self.gate.persisted(write) {
            return Ok(());
        }
        self.log.persisted(write);
        if let Role::Leader(leader) = &mut self.role {
            leader.stalled_elapsed = 0;
        }
        self.count_own_vote(actions)?;
        if self.advance_commit(actions)? {
            self.announce_commit(actions);
        }
        self.advance_membership(actions)?;
        self.advance_restore(actions);
        self.pin_heard(actions)?;
        self.gate.release(actions);
        Ok(())
    }

    fn on_message(&mut self, message: Message, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let Message { from, to, term, body } = message;
        if to != self.config.id || from == self.config.id {
            actions.push(Action::MessageDropped { from, reason: PeerFault::Misrouted });
            return Ok(());
        }
        if !self.adopt_term(from, term, &body, actions) {
            return Ok(());
        }
        if !self.recognises_vote(from, &body, actions) {
            return Ok(());
        }
        self.note_answer(from, &body, actions);
        match body {
            Body::PreVote(request) => self.on_pre_vote(from, request, actions),
            Body::PreVoteResponse(_, response) => self.on_pre_vote_response(from, response, actions)?,
            Body::RequestVote(request) => self.on_request_vote(from, request, actions),
            Body::RequestVoteResponse(_, response) => self.on_request_vote_response(from, response, actions)?,
            Body::AppendEntries(request) => {
                if self.follow(from, actions) {
                    self.on_append_entries(from, request, actions)?;
                }
            }
            Body::Heartbeat(request) => {
                if self.follow(from, actions) {
                    self.on_heartbeat(from, request, actions);
                }
            }
            Body::InstallSnapshot(chunk) => {
                if self.follow(from, actions) {
                    self.on_install_snapshot(from, chunk, actions)?;
                }
            }
            Body::TimeoutNow => {
                if self.follow(from, actions) {
                    self.on_timeout_now(actions)?;
                }
            }
            Body::ReadIndex(request) => self.on_read_index(from, request, actions),
            Body::ReadIndexResponse(response) => self.on_read_index_response(from, response, actions),
            Body::AppendEntriesResponse(_, response) => self.on_append_entries_response(from, response, actions)?,
            Body::InstallSnapshotResponse(_, response) => self.on_install_snapshot_response(from, response, actions)?,
            Body::HeartbeatResponse(_, response) => self.on_heartbeat_response(from, response, actions)?,
            Body::StateDigest(report) => self.on_state_digest(from, &report, actions)?,
        }
        self.pin_heard(actions)
    }
}

// Transitions: the only code that changes the role.
impl<S: Storage> Node<S> {
    /// To follow `leader`, or to wait for one. A vote is forgotten only when the term rises (fault E1).
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<NodeId>, actions: &mut Vec<Action>) {
        if term > self.current_term {
            self.current_term = term;
            self.voted_for = None;
            self.hard_state_changed = true;
            self.gate.forget();
        } else if bug!(VoteErasedByStepDown) {
            self.voted_for = None;
            self.hard_state_changed = true;
        }
        self.reset_election_timer();
        if let Role::Leader(leader) = core::mem::replace(&mut self.role, Role::Follower { leader }) {
            mark!(TransferDone, leader.transfer.is_some());
            self.fail_reads(leader.reads, Refusal::LeadershipLost, actions);
        }
    }

    /// The leader is forgotten, or its memory would make this server refuse everybody (fault E6).
    pub(crate) fn become_pre_candidate(&mut self) {
        self.reset_election_timer();
        self.role = Role::PreCandidate { votes: Votes::default() };
    }

    pub(crate) fn become_candidate(&mut self, actions: &mut Vec<Action>) {
        self.become_follower(self.current_term.next(), None, actions);
        self.vote_for(self.config.id);
        let own_vote = self.persist_hard_state(actions);
        self.role = Role::Candidate { votes: Votes::default(), own_vote };
    }

    /// Appends a no-op: earlier terms' entries commit with it (§5.4.2), and reads wait for it (§8).
    pub(crate) fn become_leader(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let id = self.config.id;
        let last = self.log.last().index;
        let others = self.configurations.current().members().into_iter().filter(|member| *member != id);
        let mut leader = Leader::new(others, last, self.now);
        leader.unpinned = self.incarnation.is_known() && !self.configurations.current().incarnation(id).is_known();
        self.role = Role::Leader(Box::new(leader));
        let noop = Entry { index: last.next(), term: self.current_term, payload: Payload::Noop };
        self.append_own(Arc::new([noop]), actions)
    }

    pub(crate) fn vote_for(&mut self, candidate: NodeId) {
        self.hard_state_changed |= self.voted_for != Some(candidate);
        self.voted_for = Some(candidate);
    }

    pub(crate) fn reset_election_timer(&mut self) {
        let shortest = self.config.election_timeout_ticks;
        let spread = if bug!(TimeoutsNotRandomized) { 0 } else { (shortest.saturating_mul(3) / 4).saturating_sub(1) };
        self.election_elapsed = 0;
        self.randomized_election_timeout = self.rng.random_range(shortest..=shortest.saturating_add(spread));
    }
}

// The end of a step.
impl<S: Storage> Node<S> {
    /// The end of every step: what the events have made due.
    fn conclude(&mut self, actions: &mut Vec<Action>) {
        if self.hard_state_changed {
            self.persist_hard_state(actions);
        }
        self.fail_forwarded_to_another(actions);
        if !self.is_restoring()
            && let Some((first, last)) = self.log.hand_out(self.config.max_apply_bytes)
        {
            actions.push(Action::Apply { first, last });
        }
        self.say_replaced(actions);
        let visible = (self.role.name(), self.current_term, self.leader());
        if visible != self.said {
            self.said = visible;
            let (role, term, leader) = visible;
            actions.push(Action::RoleChanged { role, term, leader });
        }
    }

    fn halt(&mut self, fault: Fault, actions: &mut Vec<Action>) {
        let role = core::mem::replace(&mut self.role, Role::Follower { leader: None });
        if let Role::Leader(leader) = role {
            self.fail_reads(leader.reads, Refusal::Halted, actions);
        }
        let confirmed = core::mem::take(&mut self.confirmed_reads).into_iter().map(|confirmed| confirmed.read);
        actions.extend(confirmed.map(|read| Action::ReadFailed { read, reason: Refusal::Halted }));
        self.fail_forwarded(Refusal::Halted, actions);
        actions.extend(self.taking.take().map(|_| Action::SnapshotRefused(Refusal::Halted)));
        self.fault = Some(fault.clone());
        actions.push(Action::Halt(fault));
    }
}
