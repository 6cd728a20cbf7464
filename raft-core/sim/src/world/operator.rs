//! The operator: replaces a disk that is lost or damaged. The server is removed and added again, as the documentation of
//! the cluster says.
//!
//! One at a time, and only where no other change is under way: so a quorum always has what it acknowledged, and whatever
//! is lost is lost by a mistake of ours.

use raft_core::{Configuration, MembershipChange, NodeId, StateMachine, Storage};

use super::{Due, Process, World};
use crate::report::Failure;
use crate::story::What;
use crate::time::{Time, chance};
use crate::workload::Workload;

#[derive(Debug, Default)]
pub(super) struct Operator {
    /// Whose disk is damaged, and is to be replaced when it does not start.
    condemned: Option<NodeId>,
    /// Who has an empty disk, and whether it was removed already.
    replacing: Option<(NodeId, bool)>,
}

impl Operator {
    pub(super) fn replaces(&self, id: NodeId) -> bool {
        self.condemned == Some(id)
    }

    /// The disk is well after all.
    pub(super) const fn spare(&mut self) {
        self.condemned = None;
    }

    pub(super) const fn will_replace(&mut self, id: NodeId) {
        self.condemned = Some(id);
    }

    const fn is_busy(&self) -> bool {
        self.condemned.is_some() || self.replacing.is_some()
    }
}

/// Between two looks at the cluster.
const LOOKS: Time = Time::millis(300);

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// Whether a server may lose what its disk holds: the others are enough, and nothing is in the way of replacing it.
    pub(super) fn may_lose(&self, id: NodeId) -> bool {
        if self.operator.is_busy() {
            return false;
        }
        let Some(leader) = self.leader().and_then(|leader| self.servers.get(self.place(leader)?)) else { return false };
        let Some(node) = leader.process.as_ref().map(|process| process.replica.node()) else { return false };
        let current = node.configuration();
        let is_settled = !current.is_joint() && node.configuration_index() <= node.commit_index();
        let agrees = |process: &Process<S, M>| process.replica.node().configuration() == current;
        let all_agree = self.servers.iter().filter(|server| current.is_member(server.id)).all(|server| {
            current.incarnation(server.id) == server.incarnation && server.process.as_ref().is_some_and(agrees)
        });
        // A change that comes of itself, once new voters have caught up, may need whom this would take.
        let is_awaited = node.status().promotion.is_some();
        is_settled && !is_awaited && all_agree && current.is_member(id) && current.voters().len() >= 3
    }

    /// A server's disk is gone, and it gets an empty one.
    pub(super) fn replace_disk(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let id = server.id;
        server.lose_files();
        self.oracle.wiped(id);
        self.operator.condemned = None;
        self.operator.replacing = Some((id, false));
        self.queue.push(self.now + LOOKS, Due::Operator);
        self.tell(|| What::Fault { words: format!("server {id} has an empty disk") });
    }

    pub(super) fn operate(&mut self) -> Result<(), Failure> {
        let Some((id, was_removed)) = self.operator.replacing else { return Ok(()) };
        let Some(disk) = self.server_mut(id).map(|server| server.incarnation) else { return Ok(()) };
        if !self.phase.has_faults() {
            return Ok(());
        }
        self.queue.push(self.now + LOOKS, Due::Operator);
        let is_hasty = chance(&mut self.chances, 300);
        let Some(at) = self.leader().and_then(|leader| self.place(leader)) else { return Ok(()) };
        let Some(process) = self.servers.get_mut(at).and_then(|server| server.process.as_mut()) else { return Ok(()) };
        let node = process.replica.node();
        let current = node.configuration();
        if process.held.is_some() || current.is_joint() || node.configuration_index() > node.commit_index() {
            return Ok(());
        }
        let pin = current.incarnation(id);
        let (change, words) = if !current.is_member(id) {
            self.operator.replacing = Some((id, true));
            (with(current, id), "adds")
        } else if !was_removed || (pin.is_known() && pin != disk) {
            // A late answer of the disk that is gone may be what the leader heard first.
            self.operator.replacing = Some((id, false));
            (without(current, id), "removes")
        } else if pin == disk && (current.is_voter(id) || is_hasty) {
            // In haste, it may become a voter that lags: by another change.
            self.operator.replacing = None;
            if let Some(server) = self.server_mut(id) {
                server.is_lost = false;
            }
            self.tell(|| What::Fault { words: format!("server {id} is a member again") });
            return Ok(());
        } else {
            (with(current, id), "promotes")
        };
        process.replica.change_membership(change);
        self.tell(|| What::Fault { words: format!("the operator {words} server {id}") });
        self.after(at)
    }
}

fn without(current: &Configuration, id: NodeId) -> MembershipChange {
    let others = |ids: &[NodeId]| ids.iter().copied().filter(|other| *other != id).collect();
    MembershipChange {
        voters: others(current.voters()),
        learners: others(current.learners()),
        catch_up: false,
        addresses: Vec::new(),
    }
}

fn with(current: &Configuration, id: NodeId) -> MembershipChange {
    let mut change = without(current, id);
    change.voters.push(id);
    MembershipChange { catch_up: true, ..change }
}
