//! Servers that lost their disks (fault M10; not in the paper, which has servers never forget).
//!
//! A server that comes back under its id with an empty disk would vote a second time in a term, and would not know what
//! it has acknowledged: two leaders, or a committed entry lost. So a storage has an [`Incarnation`], every answer that a
//! quorum is counted from says it, and a leader *pins* it: the configuration holds, for each member, the incarnation that
//! was heard first. From then on a voter is not an id, but an id and a disk.
//!
//! Why that is enough: wherever a pin is in force, whoever counts a quorum (a candidate, a leader) counts that disk and no
//! other, so that a new disk under an old id is in truth another server, which the configuration does not name. The proofs
//! of the paper hold for these servers as they stand: they ask that a *server* votes once a term and keeps what it has
//! acknowledged, not that an id does. One disk takes another's place as one server takes another's: by a membership change
//! that removes the member, and one that adds it.
//!
//! A server that is added is a learner until it holds the entry that added it, or a later one, so the configuration that
//! makes it a voter names its disk. Whoever may need its vote then knows whom to ask, and it knows that it is meant, however old the
//! configuration is that it holds itself. Only founders vote before they are pinned, and servers whose storage, or whose
//! leader's, does not tell disks apart. A server that is no founder ([`Config::is_founder`](crate::Config)) takes a
//! configuration that names its id and no disk for one that means another's.
//!
//! No joint configuration is appended whose voters could not commit it, as far as the leader has heard within an election
//! timeout: a lost disk is noticed only when its server answers, and a joint configuration that can never be committed leaves no leader.
//!
//! What it does not cover:
//!
//! * A founder that has lost its disk and does not say so, before the log that it is sent again names its disk: it votes
//!   by the genesis, for one that lags as much, and where a majority of the founders did the same they would found a second
//!   cluster. To it, one that lost its disk looks just like one that was founded now.
//! * A founder's disk that is lost before a majority holds an entry that names it, in the first moments of a cluster: the
//!   next disk may be counted as if it were the first.
//! * Voters of more than a minority of whom the disks are lost: that is more than Raft can bear, with or without pins. So
//!   is a change that makes a lost disk needed within an election timeout of its last word.
//! * An answer of the lost disk that arrives after its member was removed and added again pins that disk; it makes nobody
//!   a voter, and the way out is to remove and add the member once more.
//! * A copy of a disk put back from earlier has the same incarnation and is not recognised.
//!
//! Invariants: only a recognised incarnation counts for a vote, an acknowledgement, a read or the leader's being heard;
//! within one leadership a member is the incarnation that was heard first; a pin stays as long as its member; a voter that
//! was added is pinned, where disks are told apart; a server whose id is pinned to another disk neither campaigns nor
//! leads, and votes for nobody but a candidate that means its own disk.

use alloc::vec::Vec;

use crate::action::Action;
use crate::error::{Fault, PeerFault};
use crate::message::Body;
use crate::node::Node;
use crate::quorum::Configuration;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{Incarnation, NodeId};

impl<S: Storage> Node<S> {
    /// Whether a configuration means this server's disk by its id.
    pub(crate) fn is_meant_in(&self, configuration: &Configuration) -> bool {
        let pin = configuration.incarnation(self.config.id);
        let may_be_unnamed = self.config.is_founder || !self.incarnation.is_known();
        bug!(WipedVoteCounts) || if pin.is_known() { pin.admits(self.incarnation) } else { may_be_unnamed }
    }

    /// Whether the configuration means another disk than this server's by its id. A learner whose disk it does not name
    /// has just been added.
    pub(crate) fn is_replaced(&self) -> bool {
        let current = self.configurations.current();
        let is_meant_to_be = current.is_voter(self.config.id) || current.incarnation(self.config.id).is_known();
        is_meant_to_be && !self.is_meant_in(current)
    }

    /// Whether a candidate that means this disk (`voter`) by this server's id may have its vote. Where the candidate knows
    /// no disk of it, its own configuration decides. It may be the older one: a member that was added again and lags does
    /// not know that yet, and without its vote there might be no leader from whom to learn it (fault M5).
    pub(crate) fn is_meant(&self, voter: Incarnation) -> bool {
        if voter.is_known() && !bug!(WipedVoteCounts) {
            voter.admits(self.incarnation)
        } else {
            self.is_meant_in(self.configurations.current())
        }
    }

    /// Whether a vote of `from` may be counted; anything else is for its handler to judge.
    pub(crate) fn recognises_vote(&self, from: NodeId, body: &Body, actions: &mut Vec<Action>) -> bool {
        let (Body::PreVoteResponse(incarnation, _) | Body::RequestVoteResponse(incarnation, _)) = body else {
            return true;
        };
        let recognised = self.configurations.current().incarnation(from).admits(*incarnation) || bug!(WipedVoteCounts);
        if !recognised {
            mark!(OtherDiskVotes);
            actions.push(Action::MessageDropped { from, reason: PeerFault::OtherIncarnation });
        }
        recognised
    }

    /// A leader is heard by whoever answers it in its term. One whose disk is another has its own progress from here on,
    /// which counts for nothing.
    pub(crate) fn note_answer(&mut self, from: NodeId, body: &Body, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (Body::AppendEntriesResponse(incarnation, _)
        | Body::HeartbeatResponse(incarnation, _)
        | Body::InstallSnapshotResponse(incarnation, _)) = body
        else {
            return;
        };
        let pinned = self.configurations.current().incarnation(from);
        let Some(progress) = leader.follower_mut(from) else { return };
        let before = (progress.first_heard(), progress.counts());
        progress.answered(*incarnation, pinned, self.log.last().index.next(), self.now);
        let (counts, heard) = (progress.counts(), progress.first_heard());
        if before.1 && !counts {
            actions.push(Action::DiskReplaced { id: from });
        }
        leader.unpinned |= before.0 != heard && incarnation.is_known();
    }

    /// Pins whom this leader has heard, once a change of the configuration may be begun: none before it has committed in
    /// its term, none while another is under way.
    pub(crate) fn pin_heard(&mut self, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        let (commit_index, current) = (self.log.commit_index(), self.configurations.current());
        let is_settled = commit_index >= leader.first_index && self.configurations.index() <= commit_index;
        if leader.unpinned && is_settled && !current.is_joint() && leader.transfer.is_none() {
            mark!(IncarnationsPinned);
            self.append_configuration(current.clone(), actions)?;
        }
        Ok(())
    }

    /// The configuration, which is about to be appended, with a pin for every member that this leader has heard and for
    /// itself. One that is there stays.
    pub(crate) fn pinned(&mut self, mut configuration: Configuration) -> Configuration {
        let Role::Leader(leader) = &mut self.role else { return configuration };
        leader.unpinned = false;
        let heard = leader.followers().iter().filter_map(|(id, progress)| Some((*id, progress.first_heard()?)));
        for (id, incarnation) in heard.chain([(self.config.id, self.incarnation)]) {
            if !configuration.incarnation(id).is_known() {
                configuration = configuration.with_incarnation(id, incarnation);
            }
        }
        configuration
    }

    /// At the end of a step: says once that this server has been replaced.
    pub(crate) fn say_replaced(&mut self, actions: &mut Vec<Action>) {
        if core::mem::take(&mut self.configuration_is_new) && self.is_replaced() && !self.said_replaced {
            self.said_replaced = true;
            actions.push(Action::DiskReplaced { id: self.config.id });
        }
    }
}
