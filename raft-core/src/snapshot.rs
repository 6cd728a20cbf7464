//! Log compaction (§7): snapshots taken here, and the sender, receiver and reply of `InstallSnapshot` (Figure 13).
//!
//! ```text
//!   here:    the machine's state at last_applied ──SnapshotPiece, one by one──> written ... the last one ──> installed, log cut to its tail
//!   sent:    a follower's next entry is compacted ──InstallSnapshot, chunk by chunk──┐
//!   there:   chunk written ──durable──> answered ... the last one ──durable──> Restore ──Restored──> installed ──durable──> accepted
//! ```
//!
//! Invariants: the state machine has restored a snapshot before the log gives way to it, so one that it refuses costs
//! nothing (fault S5); installing is one write, so after a crash it is done or not done (S3); a snapshot at or below
//! `commit_index` is not looked at (S1); chunks are taken only in order, of one snapshot of one leader (S4); what is
//! installed brings exactly the configuration at its last entry (M8, M9); an entry that the log holds like the leader
//! makes its snapshot unnecessary; while a state is being restored nothing is handed out for application; one snapshot at
//! a time is written down, and one that a leader sends is worth more than one that is taken here.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::{Action, WriteOp};
use crate::error::{Fault, PeerFault, Refusal, StorageError};
use crate::log::Mark;
use crate::message::{AppendEntriesResponse, Body, InstallSnapshotResponse};
use crate::node::Node;
use crate::role::Role;
use crate::storage::{SnapshotChunk, SnapshotMeta, Storage};
use crate::types::{Digest, LogIndex, NodeId, Term, WriteId};

mod room;

/// A snapshot that is being received.
#[derive(Clone, Debug)]
pub(crate) struct Receiving {
    /// Who sends it, in which term: two leaders may write one state in different bytes.
    from: NodeId,
    term: Term,
    meta: SnapshotMeta,
    /// The bytes that were given to the storage so far.
    next_offset: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Chunks are missing.
    Chunks,
    /// The last chunk is being written.
    Writing(WriteId),
    /// The state machine was told to restore it.
    Restoring,
}

impl Receiving {
    pub(crate) const fn index(&self) -> LogIndex {
        self.meta.last_included_index
    }

    pub(crate) const fn next_offset(&self) -> u64 {
        self.next_offset
    }
}

/// A snapshot of this server's own that is being written down. It is of what was applied, so nothing that happens to the
/// log meanwhile makes it wrong.
#[derive(Clone, Debug)]
pub(crate) struct Taking {
    meta: SnapshotMeta,
    /// The bytes that were given to the storage so far.
    next_offset: u64,
}

impl Taking {
    #[cfg(debug_assertions)]
    pub(crate) const fn index(&self) -> LogIndex {
        self.meta.last_included_index
    }
}

// Snapshots that are taken here.
impl<S: Storage> Node<S> {
    /// What a snapshot of the state machine as it is now, with every entry up to `last_applied`, is of; `state` is its
    /// digest. The bytes may be written down later, and given back with [`Event::SnapshotPiece`](crate::Event).
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn describe_snapshot(&self, state: Digest) -> Result<SnapshotMeta, StorageError> {
        let index = if bug!(SnapshotMislabelled) { self.log.commit_index() } else { self.log.last_applied() };
        let Mark { term, digest, .. } = self.log.mark(&self.storage, index)?;
        let held = self.configurations.at(index).unwrap_or(self.configurations.current()).clone();
        let configuration =
            if bug!(SnapshotOldConfiguration) { self.storage.snapshot_meta()?.configuration } else { held };
        Ok(SnapshotMeta {
            last_included_index: index,
            last_included_term: term,
            digest,
            configuration,
            state: Some(state),
        })
    }

    /// How long a piece of a snapshot is: in bytes, as long as a chunk that is sent.
    pub(crate) const fn max_chunk_bytes(&self) -> usize {
        self.config.max_chunk_bytes
    }

    pub(crate) fn on_snapshot_piece(
        &mut self,
        piece: Box<SnapshotChunk>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        if piece.offset == 0 {
            self.taking = None;
            if let Some(refusal) = self.refusal_of(&piece.meta, actions)? {
                actions.push(Action::SnapshotRefused(refusal));
                return Ok(());
            }
            self.taking = Some(Taking { meta: piece.meta.clone(), next_offset: 0 }.into());
        }
        let continues = |taking: &mut Box<Taking>| taking.meta == piece.meta && taking.next_offset == piece.offset;
        let Some(mut taking) = self.taking.take_if(continues) else {
            actions.push(Action::SnapshotRefused(Refusal::OutOfOrder));
            return Ok(());
        };
        let (index, done) = (piece.meta.last_included_index, piece.done);
        taking.next_offset = piece.offset.saturating_add(length_of(&piece.data));
        self.persist(WriteOp::SnapshotChunk(piece), actions);
        if done {
            let tail = LogIndex(index.0.saturating_sub(self.config.tail_entries));
            self.install_over(index, tail.max(self.log.start()).next(), actions);
        } else {
            self.taking = Some(taking);
        }
        Ok(())
    }

    /// Why no snapshot of this is begun.
    fn refusal_of(&mut self, meta: &SnapshotMeta, actions: &mut Vec<Action>) -> Result<Option<Refusal>, StorageError> {
        let (term, commit) = (self.current_term, self.log.commit_index());
        // One that its leader has given up, or that is not needed any more.
        let is_stale = |receiving: &Receiving| receiving.term != term || receiving.index() <= commit;
        self.receiving.take_if(|receiving| receiving.phase != Phase::Restoring && is_stale(receiving));
        Ok(if meta.last_included_index <= self.log.snapshot_index() {
            Some(Refusal::Unchanged)
        } else if self.receiving.is_some() {
            Some(Refusal::SnapshotInProgress)
        } else {
            let is_applied = self.is_applied_here(meta);
            let is_applied = is_applied.inspect_err(|_| actions.push(Action::SnapshotRefused(Refusal::Halted)))?;
            (!is_applied).then_some(Refusal::NotApplied)
        })
    }

    /// Whether the description is of an entry that was applied here, as it stands here (fault S5).
    fn is_applied_here(&self, meta: &SnapshotMeta) -> Result<bool, StorageError> {
        let index = meta.last_included_index;
        if index > self.log.last_applied() && !bug!(SnapshotMislabelled) {
            return Ok(false);
        }
        let mine = self.log.mark(&self.storage, index)?;
        let is_known = self
            .configurations
            .at(index)
            .is_none_or(|known| *known == meta.configuration || bug!(SnapshotOldConfiguration));
        Ok(is_known && mine == Mark { index, term: meta.last_included_term, digest: meta.digest })
    }

    /// Installs a snapshot of an entry that the log holds: it goes on from `first`.
    fn install_over(&mut self, index: LogIndex, first: LogIndex, actions: &mut Vec<Action>) {
        self.installing = self.persist(WriteOp::InstallSnapshot { index, keep_from: Some(first) }, actions);
        self.log.compact(index, first);
        actions.push(Action::SnapshotInstalled { index, first_index: first });
    }
}

// The leader's side.
impl<S: Storage> Node<S> {
    /// Sends the next chunk of the snapshot to a follower that needs it and may be sent it.
    pub(crate) fn send_chunk(&mut self, to: NodeId, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let (now, index) = (self.now, self.log.snapshot_index());
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let Some(progress) = leader.follower_mut(to) else { return Ok(()) };
        // One that was taken since replaces the one that was being sent.
        progress.needs_snapshot(index, now);
        // What is not durable yet cannot be read: a heartbeat's answer asks again.
        let is_durable = self.gate.is_persisted(self.installing) || bug!(SnapshotReadTooSoon);
        mark!(SnapshotWaitsForDisk, !is_durable);
        if progress.is_paused(&self.config) || !is_durable {
            return Ok(());
        }
        let offset = progress.offset();
        let data = match self.storage.snapshot_chunk(index, offset, self.config.max_chunk_bytes) {
            // The follower speaks of bytes that there are not: from the beginning.
            Err(StorageError::NoSnapshot { .. }) if offset > 0 => {
                progress.received(index, offset, 0, now);
                self.storage.snapshot_chunk(index, 0, self.config.max_chunk_bytes)?
            }
            answer => answer?,
        };
        let offset = progress.offset();
        progress.sent_chunk(now);
        let done = data.len() < self.config.max_chunk_bytes;
        let chunk = SnapshotChunk { meta: self.storage.snapshot_meta()?, offset, data, done };
        self.send(to, Body::InstallSnapshot(Box::new(chunk)), actions);
        Ok(())
    }

    /// Whether a follower is getting this leader's snapshot, chunk after chunk: another one would begin at its first
    /// byte, and where that happens before each one is through, none ever is.
    pub(crate) fn is_sending_snapshot(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let patience = self.config.election_timeout_ticks;
        leader.followers().iter().any(|(_, progress)| progress.is_receiving(self.now, patience))
    }

    pub(crate) fn on_install_snapshot_response(
        &mut self,
        from: NodeId,
        response: InstallSnapshotResponse,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let InstallSnapshotResponse { last_included_index, offset, next_offset } = response;
        let now = self.now;
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.follower_mut(from)
            && progress.received(last_included_index, offset, next_offset, now)
        {
            mark!(SnapshotContinued);
            self.send_chunk(from, actions)?;
        }
        Ok(())
    }
}

// The follower's side.
impl<S: Storage> Node<S> {
    /// `InstallSnapshot` of this term's leader: the term rule has run (receiver 1, Figure 13).
    pub(crate) fn on_install_snapshot(
        &mut self,
        from: NodeId,
        chunk: Box<SnapshotChunk>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        if !self.is_well_formed_chunk(&chunk) {
            actions.push(Action::MessageDropped { from, reason: PeerFault::Malformed });
            return Ok(());
        }
        let index = chunk.meta.last_included_index;
        let commit = self.log.commit_index();
        let (mine, theirs) = (self.held(index)?, mark_of(&chunk.meta));
        if self.contradicts(mine, theirs) {
            self.refuse_diverged(from, index, actions);
            return Ok(());
        }
        if (index <= commit || mine == Some(theirs)) && !bug!(OlderSnapshotInstalled) {
            mark!(SnapshotUnneeded);
            // Receiver 6: an existing entry has the same index and term: retain the log and reply. Its prefix is the
            // leader's (§5.3), and the leader has committed it.
            self.log.commit(index);
            self.accept_snapshot(from, index.max(commit), actions);
            return Ok(());
        }
        let offset = chunk.offset;
        let (next_offset, write) = self.take_chunk(from, chunk, actions);
        let response = InstallSnapshotResponse { last_included_index: index, offset, next_offset };
        self.send_after(write, from, Body::InstallSnapshotResponse(self.incarnation, response), actions);
        Ok(())
    }

    /// A snapshot is of something, of a term that its leader has reached, and links where this storage does.
    fn is_well_formed_chunk(&self, chunk: &SnapshotChunk) -> bool {
        let SnapshotChunk { meta, offset, data, .. } = chunk;
        meta.last_included_index > LogIndex(0)
            && meta.last_included_term > Term(0)
            && meta.last_included_term <= self.current_term
            && meta.state.is_some()
            && meta.digest.is_some() == self.log.last().digest.is_some()
            && !meta.configuration.voters().is_empty()
            && offset.checked_add(length_of(data)).is_some()
    }

    /// What stands at `index` here, where that is known.
    fn held(&self, index: LogIndex) -> Result<Option<Mark>, StorageError> {
        let is_known = (self.log.start()..=self.log.last().index).contains(&index);
        is_known.then(|| self.log.mark(&self.storage, index)).transpose()
    }

    /// Whether what stands here cannot be: it is committed and another, or another entry of the same index and term.
    fn contradicts(&self, mine: Option<Mark>, theirs: Mark) -> bool {
        let is_settled = |mine: Mark| mine.index <= self.log.commit_index() || mine.term == theirs.term;
        mine.is_some_and(|mine| mine != theirs && is_settled(mine))
    }

    /// Everything up to `index` equals the leader's log, and is or will be durable.
    fn accept_snapshot(&mut self, from: NodeId, index: LogIndex, actions: &mut Vec<Action>) {
        let response = AppendEntriesResponse::Accepted { match_index: index };
        self.send_after(
            self.log.write_of(index),
            from,
            Body::AppendEntriesResponse(self.incarnation, response),
            actions,
        );
    }

    /// Receiver 2 to 4 (Figure 13): create a new snapshot at the first chunk, write data at the given offset, wait for
    /// more. Answers how many bytes there are, and the write after which that is so.
    fn take_chunk(
        &mut self,
        from: NodeId,
        chunk: Box<SnapshotChunk>,
        actions: &mut Vec<Action>,
    ) -> (u64, Option<WriteId>) {
        let term = self.current_term;
        let is_other =
            |receiving: &Receiving| (receiving.from, receiving.term) != (from, term) || receiving.meta != chunk.meta;
        let is_other = |receiving: &Receiving| is_other(receiving) && !bug!(ChunksMixed);
        mark!(ReceivingRestarted, self.receiving.as_deref().is_some_and(is_other));
        let expected = match &self.receiving {
            // What the state machine is restoring cannot be called back.
            Some(receiving) if is_other(receiving) && receiving.phase == Phase::Restoring => return (0, None),
            Some(receiving) if !is_other(receiving) && receiving.phase != Phase::Chunks => {
                return (receiving.next_offset, None);
            }
            Some(receiving) if !is_other(receiving) => receiving.next_offset,
            _ if bug!(MidTransferAccepted) => chunk.offset,
            _ => 0,
        };
        if chunk.offset != expected {
            mark!(ChunkMismatch);
            return (expected, None);
        }
        if self.taking.take().is_some() {
            mark!(TakingGivenUp);
            // A storage takes in one at a time, and this one has what is missing here.
            actions.push(Action::SnapshotRefused(Refusal::SnapshotInProgress));
        }
        let (meta, done) = (chunk.meta.clone(), chunk.done);
        let next_offset = expected.saturating_add(length_of(&chunk.data));
        let write = self.persist(WriteOp::SnapshotChunk(chunk), actions);
        let phase = if done { Phase::Writing(write) } else { Phase::Chunks };
        self.receiving = Some(Receiving { from, term, meta, next_offset, phase }.into());
        (next_offset, Some(write))
    }

    /// Writes have become durable: if the last chunk is among them, the state machine is to restore the snapshot.
    pub(crate) fn advance_restore(&mut self, actions: &mut Vec<Action>) {
        let commit_index = self.log.commit_index();
        let Some(receiving) = &mut self.receiving else { return };
        if !matches!(receiving.phase, Phase::Writing(write) if self.gate.is_persisted(write)) {
            return;
        }
        if receiving.index() <= commit_index && !bug!(OlderSnapshotInstalled) {
            mark!(SnapshotOvertaken);
            // The log got there by itself.
            self.receiving = None;
            return;
        }
        receiving.phase = Phase::Restoring;
        actions.push(Action::Restore(Box::new(receiving.meta.clone())));
    }

    pub(crate) fn is_restoring(&self) -> bool {
        self.receiving.as_ref().is_some_and(|receiving| receiving.phase == Phase::Restoring)
    }

    /// Receiver 5 to 8 (Figure 13): the snapshot takes the place of the one before and of what it covers.
    pub(crate) fn on_restored(&mut self, index: LogIndex, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let Some(receiving) = self.receiving.take_if(|receiving| is_restoring(receiving, index)) else { return Ok(()) };
        let Receiving { from, term, meta, .. } = *receiving;
        let (mine, last) = (self.held(index)?, mark_of(&meta));
        mark!(SnapshotInstalledOver, mine == Some(last));
        if mine == Some(last) || (bug!(ConflictKept) && mine.is_some()) {
            self.install_over(index, self.log.start().next(), actions);
        } else if matches!(self.role, Role::Leader(_)) || self.contradicts(mine, last) {
            // Leader Append-Only (§5.3); and what is committed is in every leader's log (§5.4.3), and stays in this one.
            return Err(Fault::Diverged { index });
        } else {
            if !matches!(self.role, Role::Follower { .. }) {
                // Its votes were asked for another log, of voters whom another configuration knew.
                self.become_follower(self.current_term, None, actions);
            }
            mark!(SnapshotReplacesLog);
            let write = self.persist(WriteOp::InstallSnapshot { index, keep_from: None }, actions);
            self.installing = write;
            self.log.replace(last, write);
            if !bug!(CachedConfigurationSurvives) {
                self.configurations.replace(index, meta.configuration);
            }
            actions.push(Action::SnapshotInstalled { index, first_index: index.next() });
            self.on_configuration_changed(actions);
        }
        if term == self.current_term {
            self.accept_snapshot(from, index, actions);
        }
        self.release_reads(actions);
        Ok(())
    }

    pub(crate) fn on_restore_failed(&mut self, index: LogIndex, actions: &mut Vec<Action>) {
        if let Some(receiving) = self.receiving.take_if(|receiving| is_restoring(receiving, index)) {
            actions.push(Action::MessageDropped { from: receiving.from, reason: PeerFault::BadSnapshot });
        }
    }
}

fn is_restoring(receiving: &Receiving, index: LogIndex) -> bool {
    receiving.phase == Phase::Restoring && receiving.index() == index
}

/// The last entry that a snapshot covers.
const fn mark_of(meta: &SnapshotMeta) -> Mark {
    Mark { index: meta.last_included_index, term: meta.last_included_term, digest: meta.digest }
}

/// A length as the offsets in a snapshot are counted.
fn length_of(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
