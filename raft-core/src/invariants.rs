//! What must hold of a node's state, and of any step from one state to the next. On in debug builds after every step;
//! what spans several nodes (Election Safety, Log Matching, …) the tests hold over the cluster.

use crate::action::RoleName;
use crate::node::Node;
use crate::quorum::Configuration;
use crate::role::{Leader, Role};
use crate::storage::Storage;
use crate::types::{LogIndex, NodeId, Term};

/// The parts of a state that a transition is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    role: RoleName,
    current_term: Term,
    voted_for: Option<NodeId>,
    last_index: LogIndex,
    commit_index: LogIndex,
    last_applied: LogIndex,
    snapshot_index: LogIndex,
    start: LogIndex,
    promised_until: u64,
}

impl Summary {
    pub(crate) fn of<S: Storage>(node: &Node<S>) -> Self {
        Self {
            role: node.role.name(),
            current_term: node.current_term,
            voted_for: node.voted_for,
            last_index: node.log.last().index,
            commit_index: node.log.commit_index(),
            last_applied: node.log.last_applied(),
            snapshot_index: node.log.snapshot_index(),
            start: node.log.start(),
            promised_until: node.promised_until,
        }
    }
}

/// The first rule that the state breaks.
pub(crate) fn check_state<S: Storage>(node: &Node<S>) -> Result<(), &'static str> {
    let (log, configurations) = (&node.log, &node.configurations);
    let is_later = |before: &(LogIndex, _)| before.0 < configurations.index();
    let rules = [
        (configurations.index() <= log.last().index, "the active configuration is in the log"),
        (configurations.before().is_none_or(is_later), "a configuration follows the one before it"),
        (log.start() <= log.snapshot_index(), "the log begins at or before the snapshot's end"),
        (log.snapshot_index() <= log.last_applied(), "snapshot <= applied"),
        (log.last_applied() <= log.applying(), "applied <= handed out"),
        (log.applying() <= log.commit_index(), "handed out <= commit"),
        (log.applying() <= log.persisted_index().max(log.snapshot_index()), "handed out <= durable"),
        (log.commit_index() <= log.last().index, "commit <= last"),
        (log.persisted_index() <= log.last().index, "durable <= last"),
        (log.last().term <= node.current_term, "no entry is of a later term than the current one"),
        (log.is_being_written(), "what is not durable is in memory and being written"),
        (node.taking.is_none() || node.receiving.is_none(), "one snapshot at a time is written down"),
        (
            node.taking.as_ref().is_none_or(|taking| log.snapshot_index() < taking.index()),
            "a snapshot that is taken is new",
        ),
    ];
    for (holds, rule) in rules {
        if !holds {
            return Err(rule);
        }
    }
    check_reads(node)?;
    match &node.role {
        Role::Candidate { .. } if node.voted_for != Some(node.config.id) => Err("a candidate votes for itself"),
        Role::Leader(_) if node.voted_for != Some(node.config.id) => Err("a leader voted for itself"),
        Role::Leader(leader) => {
            if !leader.followers().iter().all(|(_, progress)| progress.counts_what_is_in_flight()) {
                return Err("what is in flight is counted exactly");
            }
            let ordered = leader.followers().iter().all(|(_, progress)| {
                progress.match_index() < progress.next_index() && progress.next_index() <= log.last().index.next()
            });
            if ordered { check_membership(node, leader) } else { Err("match < next <= last + 1") }
        }
        _ => Ok(()),
    }
}

/// What must hold of the reads of a follower, and of what a voter has promised.
fn check_reads<S: Storage>(node: &Node<S>) -> Result<(), &'static str> {
    let forwarded = &node.forwarded;
    let is_followed = |(term, leader)| term == node.current_term && node.leader() == Some(leader);
    let rules = [
        (forwarded.addressee().is_none_or(is_followed), "the leader that is followed is asked, in this term"),
        (forwarded.addressee().is_some() || forwarded.is_empty(), "who waits to be forwarded waits for a request"),
        (node.config.lease.is_some() || !node.is_promised(), "nothing is promised where leases are off"),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
}

/// What must hold of the configuration that a leader has in force, and of what it does for it.
fn check_membership<S: Storage>(node: &Node<S>, leader: &Leader) -> Result<(), &'static str> {
    let configurations = &node.configurations;
    let current = configurations.current();
    // Without the list of members, which would be an allocation a step.
    let mut members = current.voters().iter().chain(current.voters_outgoing()).chain(current.learners());
    let all_follow = members.all(|id| *id == node.config.id || leader.follower(*id).is_some());
    let all_belong = leader.followers().iter().all(|(id, _)| current.is_voter(*id) || current.learners().contains(id));
    // What peers sent it before it led is theirs to answer for.
    let before = configurations.before().filter(|_| configurations.index() >= leader.first_index);
    let rules = [
        (all_follow && all_belong, "the followers are the other members"),
        (leader.transfer.is_none_or(|transfer| current.is_voter(transfer.target)), "leadership goes to a voter"),
        (leader.promotion.is_none() || !current.is_joint(), "nobody is promoted while joint"),
        (before.is_none_or(|(index, _)| *index <= node.log.commit_index()), "at most one uncommitted configuration"),
        (before.is_none_or(|(_, before)| is_step(before, current)), "consecutive configurations' quorums intersect"),
        (!node.is_replaced(), "who leads has the disk that the configuration means"),
        (before.is_none_or(|(_, before)| keeps_pins(before, current)), "a pin stays as long as its member"),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
}

/// Whether every quorum of the one shares a voter with every quorum of the other, by how they are made (§6).
fn is_step(before: &Configuration, after: &Configuration) -> bool {
    match (before.is_joint(), after.is_joint()) {
        (false, true) => before.voters() == after.voters_outgoing(),
        (false, false) | (true, false) => before.voters() == after.voters(),
        (true, true) => false,
    }
}

/// Whether every member of both is known by the same incarnation in the later one, where the earlier knew one.
fn keeps_pins(before: &Configuration, after: &Configuration) -> bool {
    before
        .known
        .iter()
        .filter(|(id, _)| after.is_member(*id))
        .all(|(id, member)| member.incarnation.admits(after.incarnation(*id)))
}

/// The first rule that the step from `before` to `after` breaks.
pub(crate) fn check_transition(before: &Summary, after: &Summary) -> Result<(), &'static str> {
    let same_term = before.current_term == after.current_term;
    let led = before.role == RoleName::Leader && after.role == RoleName::Leader && same_term;
    let rules = [
        (before.current_term <= after.current_term, "the term never falls"),
        (before.commit_index <= after.commit_index, "the commit index never falls"),
        (before.last_applied <= after.last_applied, "the applied index never falls"),
        (before.snapshot_index <= after.snapshot_index, "the snapshot never falls (fault S1)"),
        (before.start <= after.start, "what was compacted stays so"),
        (before.promised_until <= after.promised_until, "a promise is never taken back"),
        (!same_term || before.voted_for.is_none() || before.voted_for == after.voted_for, "one vote a term (§5.2)"),
        (!led || before.last_index <= after.last_index, "Leader Append-Only (§5.3)"),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
}
