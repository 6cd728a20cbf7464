//! Log replication (§5.3) and the commit rule (§5.4.2): sender, receiver and reply of `AppendEntries`.
//!
//! Invariants: a leader never removes or overwrites its own entries; a follower removes an entry only for a real
//! conflict and never at or below its commit index (fault L2); an acceptance names what was verified and durable
//! (fault L4); only an entry of the current term commits by counting (Figure 8, fault L1); where the storage links
//! entries into a chain, an equal (index, term) with another digest is acknowledged by nobody.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::{Action, WriteOp};
use crate::error::{Fault, PeerFault, Refusal, StorageError};
use crate::message::{AppendEntries, AppendEntriesResponse, Body};
use crate::node::Node;
use crate::progress::{Progress, ProgressState};
use crate::quorum::Configuration;
use crate::role::Role;
use crate::state_digest::StateDigest;
use crate::storage::Storage;
use crate::types::{Entries, Entry, LogIndex, NodeId, Payload, Term};

/// What a follower finds when it holds a leader's entries against its own log.
enum Comparison {
    /// Equal up to `verified`; from `fresh` on the entries are new, after removing `truncate_from` and all that follow.
    Continues { verified: LogIndex, fresh: LogIndex, truncate_from: Option<LogIndex> },
    /// No entry at `prev_log_index` with `prev_log_term`.
    Gap,
    /// The logs differ where they must not.
    Diverged(LogIndex),
}

// The leader's side: proposals, appends, acknowledgements, commitment.
impl<S: Storage> Node<S> {
    pub(crate) fn on_propose(&mut self, payloads: Vec<Bytes>, actions: &mut Vec<Action>) -> Result<(), Fault> {
        if !matches!(self.role, Role::Leader(_)) {
            actions.push(Action::ProposalRefused(Refusal::NotLeader { leader: self.leader() }));
            return Ok(());
        }
        if let Role::Leader(leader) = &self.role
            && let Some(transfer) = &leader.transfer
        {
            mark!(ProposalDuringTransfer);
            actions.push(Action::ProposalRefused(Refusal::TransferInProgress { target: transfer.target }));
            return Ok(());
        }
        if payloads.is_empty() {
            actions.push(Action::ProposalRefused(Refusal::Empty));
            return Ok(());
        }
        let bytes = payloads.iter().map(|payload| Entry::cost_of(payload)).fold(0, usize::saturating_add);
        if let Role::Leader(leader) = &mut self.role
            && !leader.uncommitted.fits(bytes, self.config.max_uncommitted_bytes)
        {
            mark!(UncommittedLimit);
            actions.push(Action::ProposalRefused(Refusal::Busy));
            return Ok(());
        }
        let first = self.log.last().index.next();
        let term = self.current_term;
        let entries: Entries = payloads
            .into_iter()
            .zip(first.0..)
            .map(|(payload, index)| Entry { index: LogIndex(index), term, payload: Payload::Command(payload) })
            .collect();
        let last = entries.last().map_or(first, |entry| entry.index);
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted.add(last, bytes);
        }
        actions.push(Action::ProposalAppended { first, last, term });
        self.append_own(entries, actions)
    }

    /// Leaders 2 (Figure 2): append the entries to the local log, and send them to everyone at once. They count here
    /// once they are durable here (fault L13).
    pub(crate) fn append_own(&mut self, entries: Entries, actions: &mut Vec<Action>) -> Result<(), Fault> {
        self.append_to_log(entries, actions);
        if bug!(Canary) {
            self.log.commit(self.log.last().index);
        }
        let mut shared = None;
        self.for_each_follower(actions, |node, follower, actions| {
            while node.send_append(follower, false, &mut shared, actions)? {}
            Ok(())
        })
    }

    /// Sends what the follower lacks: as many appends as its window takes (§10.2.1 of the dissertation, pipelining), or
    /// one while the logs are being compared. An empty append goes only where asked for.
    pub(crate) fn send_appends(
        &mut self,
        to: NodeId,
        even_empty: bool,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let mut even_empty = even_empty;
        while self.send_append(to, even_empty, &mut None, actions)? {
            even_empty = false;
        }
        Ok(())
    }

    /// Sends the next append, where there is one and the follower may be sent it; whether it lacks more than that. The append
    /// is the `shared` one, made for another follower in this step, where both are equally far.
    fn send_append(
        &mut self,
        to: NodeId,
        even_empty: bool,
        shared: &mut Option<(AppendEntries, usize)>,
        actions: &mut Vec<Action>,
    ) -> Result<bool, Fault> {
        let Role::Leader(leader) = &mut self.role else { return Ok(false) };
        let Some(progress) = leader.follower_mut(to) else { return Ok(false) };
        let (next, last) = (progress.next_index(), self.log.last().index);
        let takes_snapshot = matches!(progress.state(), ProgressState::Snapshot { .. });
        if next > last && !even_empty && !takes_snapshot {
            return Ok(false);
        }
        let full = progress.window_is_full(&self.config);
        mark!(WindowFull, full);
        if progress.is_paused(&self.config) && !(full && even_empty) {
            return Ok(false);
        }
        if bug!(SnapshotNeverSent) && next.prev() < self.log.start() {
            return Ok(false);
        }
        if takes_snapshot || next.prev() < self.log.start() {
            self.send_chunk(to, actions)?;
            return Ok(false);
        }
        let (request, bytes) = match shared {
            Some((shared, bytes)) if shared.prev_log_index == next.prev() => (shared.clone(), *bytes),
            _ => {
                let max_bytes = Some(self.config.max_append_bytes).filter(|_| !full);
                shared.insert(self.log.append_entries(&self.storage, next, max_bytes)?).clone()
            }
        };
        progress.sent(request.entries.last().map_or(request.prev_log_index, |entry| entry.index), bytes);
        let lacks_more = progress.next_index() <= last;
        self.send(to, Body::AppendEntries(request), actions);
        Ok(lacks_more)
    }

    pub(crate) fn on_append_entries_response(
        &mut self,
        from: NodeId,
        response: AppendEntriesResponse,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let Some(progress) = leader.follower_mut(from) else { return Ok(()) };
        match response {
            // Leaders 3 (Figure 2), success: update nextIndex and matchIndex for follower.
            AppendEntriesResponse::Accepted { match_index } if match_index <= last => {
                if progress.accepted(match_index, self.log.start()) {
                    let raised = match_index > self.log.commit_index() && self.advance_commit(actions)?;
                    self.send_appends(from, false, actions)?;
                    if raised {
                        self.announce_commit(actions);
                    }
                    self.advance_membership(actions)?;
                    self.advance_transfer(from, actions);
                } else {
                    mark!(AcknowledgementStale);
                }
            }
            AppendEntriesResponse::Accepted { .. } => {
                actions.push(Action::MessageDropped { from, reason: PeerFault::Malformed });
            }
            // Leaders 3, inconsistency: decrement nextIndex and retry, but by a whole term at a time.
            AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term } => {
                let (agree, _) = self.log.last_of_term(&self.storage, hint_index, hint_term)?;
                if progress.rejected(prev_log_index, agree) {
                    mark!(RejectionRewinds);
                    self.send_appends(from, true, actions)?;
                } else {
                    mark!(RejectionStale);
                }
            }
            AppendEntriesResponse::Diverged { prev_log_index } => {
                progress.pause();
                if !core::mem::replace(&mut progress.diverged, true) {
                    actions.push(Action::PeerDiverged { peer: from, index: prev_log_index });
                }
                // Where most say so, this log is the one that differs.
                let differs = |id| leader.counted(id).is_some_and(|follower| follower.diverged);
                if self.configurations.current().is_quorum(differs) {
                    return Err(Fault::Diverged { index: prev_log_index });
                }
            }
        }
        Ok(())
    }

    /// Leaders 4 (Figure 2): if there exists an N such that N > commitIndex, a majority of `matchIndex[i]` ≥ N, and
    /// `log[N].term == currentTerm`: set commitIndex = N. Its own match index is what is durable here.
    pub(crate) fn advance_commit(&mut self, actions: &mut Vec<Action>) -> Result<bool, Fault> {
        let (id, persisted) = (self.config.id, self.log.persisted_index());
        let persisted = if bug!(OwnUnflushedCounts) { self.log.last().index } else { persisted };
        let Role::Leader(leader) = &mut self.role else { return Ok(false) };
        let index = self.configurations.current().reached(self.log.commit_index(), |voter| {
            if voter == id { persisted } else { leader.counted(voter).map_or(LogIndex(0), |p| p.match_index()) }
        });
        // The entry is of the current term exactly from the no-op on (§5.4.2).
        if index < leader.first_index && !bug!(OlderTermCommits) {
            mark!(CommitWaitsForOwnTerm, index > self.log.commit_index());
            return Ok(false);
        }
        let first_of_term = self.log.commit_index() < leader.first_index;
        let raised = self.log.commit(index);
        leader.uncommitted.remove(index);
        if raised && first_of_term {
            self.start_read_round(actions);
        }
        Ok(raised)
    }

    /// Tells the commit index to followers without an append in flight, where the configuration asks for it; the others learn
    /// it with the next append.
    pub(crate) fn announce_commit(&mut self, actions: &mut Vec<Action>) {
        if !self.config.announce_commits {
            return;
        }
        let idle = |progress: &Progress| progress.state() == ProgressState::Replicate && progress.in_flight() == 0;
        // The closure cannot fail, so neither can the loop.
        let _ = self.for_each_follower(actions, |node, follower, actions| {
            if matches!(&node.role, Role::Leader(leader) if leader.follower(follower).is_some_and(idle)) {
                node.send_heartbeat(follower, actions);
            }
            Ok(())
        });
    }

    pub(crate) fn on_unreachable(&mut self, peer: NodeId) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.follower_mut(peer)
        {
            progress.unreachable();
        }
    }

    pub(crate) fn for_each_follower(
        &mut self,
        actions: &mut Vec<Action>,
        mut act: impl FnMut(&mut Self, NodeId, &mut Vec<Action>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut at = 0;
        while let Role::Leader(leader) = &self.role {
            let Some((follower, _)) = leader.followers().get(at) else { break };
            act(self, *follower, actions)?;
            at = at.saturating_add(1);
        }
        Ok(())
    }
}

// The follower's side.
impl<S: Storage> Node<S> {
    /// `AppendEntries` of this term's leader: the term rule has run (receiver 1), and this server follows `from`.
    pub(crate) fn on_append_entries(
        &mut self,
        from: NodeId,
        request: AppendEntries,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        if !is_well_formed(&request, self.current_term) {
            actions.push(Action::MessageDropped { from, reason: PeerFault::Malformed });
            return Ok(());
        }
        let prev_log_index = request.prev_log_index;
        let tail = self.log.last().index;
        match self.compare(&request)? {
            Comparison::Continues { verified, fresh, truncate_from } => {
                self.differs_from = None;
                if let Some(index) = truncate_from {
                    mark!(ConflictTruncated);
                    // AppendEntries receiver 3 (Figure 2): an existing entry conflicts with a new one: delete it and
                    // all that follow it.
                    self.log.truncate(&self.storage, index)?;
                    self.persist(WriteOp::Truncate(index), actions);
                    self.on_truncated(index, actions);
                }
                // AppendEntries receiver 4: append any new entries not already in the log.
                mark!(AppendHeldAlready, request.entries.last().is_some_and(|last| last.index < fresh));
                self.append_to_log(from_index(request.entries, fresh), actions);
                // AppendEntries receiver 5: commitIndex = min(leaderCommit, index of last new entry).
                self.log.commit(request.leader_commit.min(verified));
                let match_index = if bug!(OwnTailAcknowledged) { verified.max(tail) } else { verified };
                let response = AppendEntriesResponse::Accepted { match_index };
                let needs = self.log.write_of(verified).filter(|_| !bug!(AcknowledgedBeforeDurable));
                self.send_after(needs, from, Body::AppendEntriesResponse(self.incarnation, response), actions);
            }
            Comparison::Gap => {
                mark!(GapRefused);
                if bug!(CommitPastVerified) {
                    self.log.commit(request.leader_commit.min(tail));
                }
                // AppendEntries receiver 2: reply false if log doesn't contain an entry at prevLogIndex whose term
                // matches prevLogTerm.
                let (hint_index, hint_term) =
                    self.log.last_of_term(&self.storage, prev_log_index, request.prev_log_term)?;
                let response = AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term };
                self.send(from, Body::AppendEntriesResponse(self.incarnation, response), actions);
            }
            Comparison::Diverged(index) => self.refuse_diverged(from, index, actions),
        }
        Ok(())
    }

    /// The leader's log differs from this one where it must not: nothing is acknowledged.
    pub(crate) fn refuse_diverged(&mut self, from: NodeId, index: LogIndex, actions: &mut Vec<Action>) {
        if self.differs_from.replace(from) != Some(from) {
            actions.push(Action::PeerDiverged { peer: from, index });
        }
        let response = AppendEntriesResponse::Diverged { prev_log_index: index };
        self.send(from, Body::AppendEntriesResponse(self.incarnation, response), actions);
    }

    fn compare(&self, request: &AppendEntries) -> Result<Comparison, StorageError> {
        let (commit, last) = (self.log.commit_index(), self.log.last().index);
        let prev = request.prev_log_index;
        // What was compacted cannot be compared with, and cannot differ: it is committed (fault L8).
        let start = self.log.start();
        if prev >= start {
            let mine = if prev <= last { Some(self.log.mark(&self.storage, prev)?) } else { None };
            match mine.filter(|mine| mine.term == request.prev_log_term || bug!(PrevTermNotCompared)) {
                None if prev <= commit => return Ok(Comparison::Diverged(prev)),
                None => return Ok(Comparison::Gap),
                Some(mine) => {
                    let theirs = request.prev_log_hash.as_deref();
                    let differs = mine.digest.zip(theirs).is_some_and(|(mine, theirs)| mine != *theirs);
                    if differs && !bug!(PrevTermNotCompared) {
                        return Ok(Comparison::Diverged(prev));
                    }
                }
            }
        }
        mark!(AppendOverlapsCompacted, prev < start);
        let mut verified = prev.max(start);
        let mut truncate_from = None;
        let mut digest = self.log.mark(&self.storage, verified)?.digest;
        for entry in request.entries.iter().filter(|entry| entry.index > start || bug!(CompactedPrefixCompared)) {
            if truncate_from.is_none() && entry.index <= last {
                let mine = self.log.mark(&self.storage, entry.index)?;
                if mine.term == entry.term {
                    digest = digest.and_then(|prev| self.storage.link(&prev, entry));
                    if mine.digest.zip(digest).is_some_and(|(mine, theirs)| mine != theirs) {
                        return Ok(Comparison::Diverged(entry.index));
                    }
                    verified = entry.index;
                    continue;
                }
                if entry.index <= commit {
                    return Ok(Comparison::Diverged(entry.index));
                }
                truncate_from = Some(entry.index);
            }
            break;
        }
        let end = request.entries.last().map_or(verified, |entry| entry.index.max(verified));
        if bug!(ShortAppendTruncates) && truncate_from.is_none() && end < last {
            truncate_from = Some(end.next());
        }
        Ok(Comparison::Continues { verified: end, fresh: verified.next(), truncate_from })
    }

    fn append_to_log(&mut self, entries: Entries, actions: &mut Vec<Action>) {
        let Some(digests) = self.log.append(&self.storage, &entries) else { return };
        let changes_members = self.configurations.append(&entries);
        let write = self.persist(WriteOp::Append { entries, digests }, actions);
        self.log.writing(write);
        if changes_members {
            self.on_configuration_appended(actions);
        }
    }
}

/// Entries follow `prev_log_index` one by one, their terms never fall and none is above the leader's; what should be
/// a configuration, or a state's digest, is one.
fn is_well_formed(request: &AppendEntries, term: Term) -> bool {
    let mut last = (request.prev_log_index, request.prev_log_term);
    let consecutive = request.entries.iter().all(|entry| {
        let is_readable = match &entry.payload {
            Payload::Configuration(bytes) => Configuration::from_bytes(bytes).is_some(),
            Payload::StateDigest(bytes) => StateDigest::from_bytes(bytes).is_some(),
            Payload::Noop | Payload::Command(_) => true,
        };
        let follows = entry.index.0.checked_sub(1) == Some(last.0.0) && entry.term >= last.1 && is_readable;
        last = (entry.index, entry.term);
        follows
    });
    consecutive && last.1 <= term
}

/// The entries from `first` on, shared where that is all of them.
fn from_index(entries: Entries, first: LogIndex) -> Entries {
    match entries.first() {
        Some(entry) if entry.index < first => entries.iter().filter(|entry| entry.index >= first).cloned().collect(),
        _ => entries,
    }
}
