//! Membership changes by joint consensus (§6): from any set of voters and learners to any other, in one call.
//!
//! ```text
//!   C_old ──append──> C_old,new ──committed by majorities of both──> C_new (appended by itself) ──committed──> done
//!                        joint                                       the leave, also by a later leader
//! ```
//!
//! Invariants: a configuration is active from the moment its entry is *in the log*, and not any more when that entry is
//! removed (faults M2, M9); at most one is not committed (M1, M4), and none is begun before this leader has committed
//! an entry of its term (the 2015 bug of single-server changes); a change that leaves the voters alone needs no joint
//! step; a leader that is no voter in a committed configuration hands over (M7); learners receive and never count; who is
//! made a voter holds an entry from since it was added, so that its disk is known, and voters of whom no majority answers
//! are not made the voters (M10; where this server's storage does not tell disks apart, any may be at once).

use alloc::vec::Vec;

use crate::action::Action;
use crate::error::{Fault, Refusal, StorageError};
use crate::event::MembershipChange;
use crate::node::Node;
use crate::progress::Progress;
use crate::quorum::Configuration;
use crate::role::{Leader, Promotion, Role};
use crate::storage::Storage;
use crate::types::{Entry, LogIndex, NodeId, Payload};

/// The configurations that the log holds from the last committed one on, with the index of their entry; never empty.
#[derive(Clone, Debug)]
pub(crate) struct Configurations {
    /// The newest, which is active.
    current: (LogIndex, Configuration),
    /// Those that a truncation may bring back, oldest first.
    earlier: Vec<(LogIndex, Configuration)>,
}

impl Configurations {
    /// What a storage holds.
    pub(crate) fn open(storage: &impl Storage) -> Result<Self, StorageError> {
        let meta = storage.snapshot_meta()?;
        let mut found = Self { current: (meta.last_included_index, meta.configuration), earlier: Vec::new() };
        for (index, configuration) in storage.configurations()? {
            found.push(index, configuration);
        }
        Ok(found)
    }

    pub(crate) const fn current(&self) -> &Configuration {
        &self.current.1
    }

    /// Index of the entry of the current one.
    pub(crate) const fn index(&self) -> LogIndex {
        self.current.0
    }

    /// Whether who `votes` in some configurations does in the current one or, until that is committed, in one before it:
    /// it may still be needed (dissertation §4.2.2).
    pub(crate) fn may_lead(&self, votes: impl Fn(&Configuration) -> bool, commit_index: LogIndex) -> bool {
        let committed = self.earlier.partition_point(|(index, _)| *index <= commit_index);
        let mut needed = self.earlier.iter().skip(committed.saturating_sub(1));
        votes(&self.current.1) || (self.current.0 > commit_index && needed.any(|(_, earlier)| votes(earlier)))
    }

    /// The one before it, where a truncation may bring that back.
    pub(crate) fn before(&self) -> Option<&(LogIndex, Configuration)> {
        self.earlier.last()
    }

    /// These entries were appended. Whether the current configuration is another now.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> bool {
        let mut changed = false;
        for (index, configuration) in entries.iter().filter_map(configuration_of) {
            self.push(index, configuration);
            changed = true;
        }
        changed
    }

    fn push(&mut self, index: LogIndex, configuration: Configuration) {
        let before = core::mem::replace(&mut self.current, (index, configuration));
        self.earlier.push(before);
    }

    /// The entries from `from` on were removed. Whether the current configuration is another now.
    fn truncate(&mut self, from: LogIndex) -> bool {
        let mut changed = false;
        while self.current.0 >= from
            && let Some(before) = self.earlier.pop()
        {
            self.current = before;
            changed = true;
        }
        changed
    }

    /// What is applied is not removed, and only a snapshot of it or of a later entry is taken: what came before the
    /// newest one of it is not needed any more.
    fn settle(&mut self, last_applied: LogIndex) {
        if self.earlier.is_empty() {
            return;
        }
        if self.current.0 <= last_applied {
            self.earlier.clear();
        }
        let newest = self.earlier.partition_point(|(index, _)| *index <= last_applied);
        self.earlier.drain(..newest.saturating_sub(1));
    }

    /// The configuration exactly at `index`, where it is still known: from the last applied entry on.
    pub(crate) fn at(&self, index: LogIndex) -> Option<&Configuration> {
        let all = self.earlier.iter().chain(core::iter::once(&self.current));
        all.rev().find(|(from, _)| *from <= index).map(|(_, configuration)| configuration)
    }

    /// A snapshot has taken the place of the log: what it says is all that is known (fault M9).
    pub(crate) fn replace(&mut self, index: LogIndex, configuration: Configuration) {
        self.current = (index, configuration);
        self.earlier.clear();
    }
}

/// The configuration that an entry holds; its bytes were checked when it came.
pub(crate) fn configuration_of(entry: &Entry) -> Option<(LogIndex, Configuration)> {
    match &entry.payload {
        Payload::Configuration(bytes) => Configuration::from_bytes(bytes).map(|held| (entry.index, held)),
        Payload::Noop | Payload::Command(_) | Payload::StateDigest(_) => None,
    }
}

impl<S: Storage> Node<S> {
    pub(crate) fn on_change_membership(
        &mut self,
        change: MembershipChange,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        match self.plan(&change) {
            Ok((next, waits)) => {
                let index = self.log.last().index.next();
                if let Role::Leader(leader) = &mut self.role {
                    let promotion = Promotion { change, began: index, round_ends: index, round_began: self.now };
                    leader.promotion = waits.then_some(promotion);
                }
                // It stands in the log also where it cannot be sent, and this node halts.
                let appended = self.append_configuration(next, actions);
                actions.push(Action::MembershipAppended { index, term: self.current_term });
                appended?;
            }
            Err(refusal) => actions.push(Action::MembershipRefused(refusal)),
        }
        Ok(())
    }

    /// The configuration to append for this change, and whether the change waits for its new voters, learners till then.
    fn plan(&self, change: &MembershipChange) -> Result<(Configuration, bool), Refusal> {
        let current = self.configurations.current();
        let Role::Leader(leader) = &self.role else { return Err(Refusal::NotLeader { leader: self.leader() }) };
        if let Some(transfer) = &leader.transfer {
            return Err(Refusal::TransferInProgress { target: transfer.target });
        }
        if self.log.commit_index() < leader.first_index {
            mark!(ChangeBeforeCommit);
            return Err(Refusal::NoCommitInTerm);
        }
        let is_changing = current.is_joint() || self.configurations.index() > self.log.commit_index();
        if is_changing && !bug!(ChangeDuringChange) {
            mark!(ChangeInProgress);
            return Err(Refusal::ChangeInProgress);
        }
        if change.voters.is_empty() {
            return Err(Refusal::EmptyVoters);
        }
        let longest = change.addresses.iter().map(|(_, address)| address.len()).max().unwrap_or(0);
        if longest > MAX_ADDRESS_LEN {
            return Err(Refusal::TooLarge { limit: MAX_ADDRESS_LEN as u64 });
        }
        let wanted = change.configuration().inheriting(current);
        // Where new voters are waited for, to want what is so is to want them no more.
        if wanted == *current && leader.promotion.is_none() {
            return Err(Refusal::Unchanged);
        }
        let is_new = |id| !current.is_voter(id);
        if let Some(refusal) = self.hindrance(leader, &wanted, is_new) {
            return Err(refusal);
        }
        // An acknowledgement from before it was added, of a disk that is lost by now, is of an earlier entry.
        let holds = |progress: &Progress| progress.match_index() >= self.configurations.index();
        let is_known = |id| id == self.config.id || leader.counted(id).is_some_and(holds);
        let is_unheard = |id| self.incarnation.is_known() && !(self.is_heard(leader, id) && is_known(id));
        if wanted.voters().iter().any(|id| is_new(*id) && (change.catch_up || is_unheard(*id))) {
            let learners = current.learners().iter().chain(wanted.voters()).copied().filter(|id| is_new(*id));
            let members = Configuration::joint(current.voters().iter().copied(), [], learners);
            let waiting = members.inheriting(&wanted).inheriting(current);
            // Who is a learner already needs no entry to begin; but an entry is what a change is answered with.
            return Ok((waiting, true));
        }
        Ok((step_towards(current, &wanted), false))
    }

    /// Why voters that are wanted could not commit anything, as far as this leader has heard: it would end the cluster to
    /// make them the voters. Of those who are waited for it is not asked whether they answer.
    fn hindrance(
        &self,
        leader: &Leader,
        wanted: &Configuration,
        is_awaited: impl Fn(NodeId) -> bool,
    ) -> Option<Refusal> {
        let is_lost = |id| leader.follower(id).is_some_and(|progress| !progress.counts());
        // Where disks are not told apart, who is silent may well come back.
        let is_there = |id| is_awaited(id) || !self.incarnation.is_known() || self.is_heard(leader, id);
        let answers = |id| !is_lost(id) && is_there(id);
        let is_possible = wanted.is_quorum(answers);
        let is_new = |id| !self.configurations.current().is_voter(id);
        let hinders = |id| if is_possible { is_lost(id) && is_new(id) } else { !answers(id) };
        let id = wanted.voters().iter().copied().find(|id| hinders(*id))?;
        Some(if is_lost(id) { Refusal::DiskLost { id } } else { Refusal::VoterSilent { id } })
    }

    /// Whether this member has answered within an election timeout, with the disk that is meant; this server has.
    fn is_heard(&self, leader: &Leader, id: NodeId) -> bool {
        let patience = self.config.election_timeout_ticks;
        id == self.config.id || leader.counted(id).is_some_and(|progress| progress.is_heard(self.now, patience))
    }

    /// What is due once entries have committed or followers have caught up: the leave of a joint configuration, the
    /// promotion of those who have caught up, the farewell of a leader that is no voter any more.
    pub(crate) fn advance_membership(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let commit_index = self.log.commit_index();
        self.configurations.settle(self.log.last_applied());
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        if self.configurations.index() > commit_index || commit_index < leader.first_index {
            return Ok(());
        }
        let current = self.configurations.current();
        if current.is_joint() {
            let is_resumed = self.configurations.index() < leader.first_index;
            if is_resumed && bug!(LeaveLostWithLeader) {
                return Ok(());
            }
            mark!(JointLeaveResumed, is_resumed);
            // Idempotent: the leave is active as soon as it is appended (fault M3).
            let left = Configuration::joint(current.voters().to_vec(), [], current.learners().to_vec());
            let left = left.inheriting(current);
            return self.append_configuration(left, actions);
        } else if let Some(promotion) = leader.promotion.take_if(|_| leader.transfer.is_none()) {
            return self.advance_promotion(promotion, actions);
        } else if !current.is_voter(self.config.id) && leader.transfer.is_none() {
            mark!(RemovedLeaderLeaves);
            self.hand_over(actions);
        }
        Ok(())
    }

    /// Makes the new voters of a change voters, where they may be, or goes on waiting for them.
    fn advance_promotion(&mut self, mut promotion: Promotion, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let (commit_index, current) = (self.log.commit_index(), self.configurations.current());
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        // Only the new ones: an old voter may be down, and counts all the same.
        let new_voters = promotion.change.voters.iter().filter(|id| !current.is_voter(**id));
        let new_voters = new_voters.filter(|id| leader.follower(**id).is_some());
        let matched = new_voters.map(|id| leader.counted(*id).map_or(LogIndex(0), Progress::match_index));
        let reached = matched.min().unwrap_or(commit_index).min(commit_index);
        let took = self.now.saturating_sub(promotion.round_began);
        let is_short = took < u64::from(self.config.election_timeout_ticks);
        let have_caught_up = reached == commit_index || (reached >= promotion.round_ends && is_short);
        let wanted = promotion.change.configuration().inheriting(current);
        // Who holds the entry that the change began with has answered since, so that its disk is known. Another may have
        // been lost since.
        let may_be = reached >= promotion.began && self.hindrance(leader, &wanted, |_| false).is_none();
        if may_be && (have_caught_up || !promotion.change.catch_up) {
            mark!(LearnerPromoted);
            let next = step_towards(current, &wanted);
            return self.append_configuration(next, actions);
        }
        if reached >= promotion.round_ends {
            mark!(CatchUpRound);
            (promotion.round_ends, promotion.round_began) = (commit_index, self.now);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.promotion = Some(promotion);
        }
        Ok(())
    }

    /// Appends it with whom this leader has heard pinned (fault M10).
    pub(crate) fn append_configuration(
        &mut self,
        configuration: Configuration,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let index = self.log.last().index.next();
        let payload = Payload::Configuration(self.pinned(configuration).to_bytes().into());
        self.append_own([Entry { index, term: self.current_term, payload }].into(), actions)
    }

    /// A configuration was appended: it is active from now on.
    pub(crate) fn on_configuration_appended(&mut self, actions: &mut Vec<Action>) {
        mark!(JointEntered, self.configurations.current().is_joint());
        mark!(JointLeft, self.configurations.before().is_some_and(|(_, before)| before.is_joint()));
        self.on_configuration_changed(actions);
    }

    /// Entries were removed: a configuration among them never was.
    pub(crate) fn on_truncated(&mut self, from: LogIndex, actions: &mut Vec<Action>) {
        if !bug!(ConfigurationNotRolledBack) && self.configurations.truncate(from) {
            mark!(ChangeRolledBack);
            self.on_configuration_changed(actions);
        }
    }

    pub(crate) fn on_configuration_changed(&mut self, actions: &mut Vec<Action>) {
        let (index, now, id) = (self.configurations.index(), self.now, self.config.id);
        let configuration = self.configurations.current();
        if let Role::Leader(leader) = &mut self.role {
            leader.set_followers(configuration.members().into_iter().filter(|member| *member != id), index, now);
            // Nobody had to hear from a learner: as a voter it has an election timeout from now on.
            let voted = |id| self.configurations.before().is_none_or(|(_, before)| before.is_voter(id));
            leader.count_as_heard(|id| configuration.is_voter(id) && !voted(id), now);
        }
        actions.push(Action::MembershipChanged(configuration.clone().into()));
        self.configuration_is_new = true;
        self.abort_transfer_to_stranger(actions);
        self.confirm_reads(actions);
    }
}

/// The next configuration on the way to `wanted`: itself where the voters stay, otherwise the joint one.
fn step_towards(current: &Configuration, wanted: &Configuration) -> Configuration {
    if current.voters() == wanted.voters() || bug!(JointSkipped) {
        wanted.clone()
    } else {
        let joint =
            Configuration::joint(wanted.voters().to_vec(), current.voters().to_vec(), wanted.learners().to_vec());
        joint.inheriting(wanted).inheriting(current)
    }
}

/// The longest address of a member, in bytes: a host name of 253 and a port, with room to spare.
const MAX_ADDRESS_LEN: usize = 512;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn of(ids: &[u32]) -> Configuration {
        Configuration::new(ids.iter().copied().map(NodeId))
    }

    /// {1} from the beginning, {2} from entry 5, {3} from entry 9, which is active.
    fn three() -> Configurations {
        let mut configurations = Configurations { current: (LogIndex(0), of(&[1])), earlier: Vec::new() };
        configurations.push(LogIndex(5), of(&[2]));
        configurations.push(LogIndex(9), of(&[3]));
        configurations
    }

    #[test]
    fn a_server_is_needed_until_what_replaces_it_is_committed() {
        let may_lead = |id, commit| three().may_lead(|held| held.is_voter(NodeId(id)), LogIndex(commit));
        for (commit, needed) in [(0, [true, true, true]), (4, [true, true, true]), (5, [false, true, true])] {
            assert_eq!([1, 2, 3].map(|id| may_lead(id, commit)), needed, "{commit} is committed");
        }
        assert_eq!([1, 2, 3].map(|id| may_lead(id, 8)), [false, true, true]);
        assert_eq!([1, 2, 3].map(|id| may_lead(id, 9)), [false, false, true]);
    }

    #[test]
    fn what_came_before_the_applied_configuration_is_forgotten() {
        for (applied, kept) in [(0, 2), (4, 2), (5, 1), (8, 1), (9, 0), (10, 0)] {
            let mut configurations = three();
            configurations.settle(LogIndex(applied));
            assert_eq!(configurations.earlier.len(), kept, "{applied} is applied");
            for index in applied..12 {
                assert_eq!(configurations.at(LogIndex(index)), three().at(LogIndex(index)), "at {index}");
            }
        }
        assert_eq!(
            [4, 5, 8, 9].map(|index| three().at(LogIndex(index)).cloned()),
            [1, 2, 2, 3].map(|id| Some(of(&[id])))
        );
    }

    #[test]
    fn a_configuration_that_was_removed_never_was() {
        let mut configurations = three();
        assert!(!configurations.truncate(LogIndex(10)));
        assert!(configurations.truncate(LogIndex(9)));
        assert_eq!((configurations.index(), configurations.current()), (LogIndex(5), &of(&[2])));
        assert_eq!(configurations.before(), Some(&(LogIndex(0), of(&[1]))));
        configurations.replace(LogIndex(7), of(&[4]));
        assert_eq!(
            (configurations.index(), configurations.current(), configurations.before()),
            (LogIndex(7), &of(&[4]), None)
        );
    }
}
