//! What must hold of every state, and what some state must show.

use raft_core::{Body, Configuration, Entry, LogIndex, NodeId, RoleName};
use stateright::Property;

use crate::Cluster;
use crate::membership::{configurations, quorums_meet};
use crate::state::State;

/// At most one leader can be elected in a given term.
pub const ELECTION_SAFETY: &str = "Election Safety";
/// Equal (index, term), equal prefixes.
pub const LOG_MATCHING: &str = "Log Matching";
/// What is committed is in the log of the leader of the latest term.
pub const LEADER_COMPLETENESS: &str = "Leader Completeness";
/// Nothing else is ever committed at an index.
pub const STATE_MACHINE_SAFETY: &str = "State Machine Safety";
/// At an entry's first commit a quorum of the newest configuration in its leader's log holds it durably.
pub const COMMIT_EVIDENCE: &str = "Commit evidence";
/// Granted votes and acceptances are durable when they are told; answers of past terms do nothing.
pub const PROMISES: &str = "Promises are kept";

/// Of two configurations that follow each other in a log, each quorum of the one meets each quorum of the other.
pub const CONSECUTIVE_QUORUMS: &str = "Consecutive quorums meet";
/// A log holds at most one configuration that is not committed.
pub const ONE_CHANGE: &str = "One change at a time";

pub(crate) fn all(cluster: &Cluster) -> Vec<Property<Cluster>> {
    let Cluster { bounds, founders, .. } = cluster;
    let mut properties = vec![
        Property::always(ELECTION_SAFETY, |_, state: &State| state.election_safety()),
        Property::always(LOG_MATCHING, |_, state: &State| state.log_matching()),
        Property::always(LEADER_COMPLETENESS, |_, state: &State| state.leader_completeness()),
        Property::always(STATE_MACHINE_SAFETY, |_, state: &State| state.state_machine_safety()),
        Property::always(COMMIT_EVIDENCE, |_, state: &State| state.past.broken != Some(COMMIT_EVIDENCE)),
        Property::always(PROMISES, |_, state: &State| state.past.broken != Some(PROMISES)),
        Property::always(CONSECUTIVE_QUORUMS, |model: &Cluster, state: &State| {
            state.configurations(model).all(|held| held.windows(2).all(|two| quorums_meet(&two[0].1, &two[1].1)))
        }),
        Property::always(ONE_CHANGE, |model: &Cluster, state: &State| {
            let committed = state.past.committed.len() as u64;
            state.configurations(model).all(|held| held.iter().filter(|(index, _)| *index > committed).count() <= 1)
        }),
        Property::sometimes("a leader is elected", |_, state: &State| !state.past.leaders.is_empty()),
        Property::sometimes("a follower learns of a commit", |_, state: &State| {
            state.servers.iter().filter(|server| server.node.commit_index() > LogIndex(0)).count() > 1
        }),
    ];
    if bounds.max_term > 1 {
        properties.push(Property::sometimes("two terms have leaders", |_, state: &State| state.past.leaders.len() > 1));
    }
    // Of two founders neither can lead without what the other holds: nothing is ever replaced.
    if bounds.max_term > 1 && founders.len() > 2 {
        properties.push(Property::sometimes("an entry is replaced", |_, state: &State| state.past.replaced));
    }
    if bounds.proposals > 0 {
        properties.push(Property::sometimes("all commands are committed", |model: &Cluster, state: &State| {
            let commands = state.past.committed.iter().filter(|(_, kind, _)| *kind == COMMAND);
            commands.count() == usize::from(model.bounds.proposals)
        }));
    }
    if bounds.changes > 0 {
        properties.extend(of_a_change(cluster));
    }
    properties
}

/// What some state of a membership change must show.
fn of_a_change(cluster: &Cluster) -> Vec<Property<Cluster>> {
    let mut properties = vec![
        Property::sometimes("the change is committed", |model: &Cluster, state: &State| {
            let wanted = Configuration::new(model.wanted.iter().copied().map(NodeId)).to_bytes();
            state.past.committed.iter().any(|(_, _, payload)| **payload == *wanted)
        }),
        Property::sometimes("a leader leads on that the change removes", |model: &Cluster, state: &State| {
            state.servers.iter().zip(state.configurations(model)).any(|(server, held)| {
                let status = server.node.status();
                status.role == RoleName::Leader && held.last().is_some_and(|(_, newest)| !newest.is_voter(status.id))
            })
        }),
        Property::sometimes("it hands over", |_, state: &State| {
            state.network.iter().any(|letter| matches!(letter.message.body, Body::TimeoutNow))
        }),
    ];
    if cluster.bounds.max_term > 1 {
        properties.push(Property::sometimes("a later leader ends the change", |_, state: &State| {
            let mut terms = state.past.committed.iter().filter(|(_, kind, _)| *kind == CONFIGURATION);
            terms.next().zip(terms.next()).is_some_and(|(joint, left)| joint.0 < left.0)
        }));
        if cluster.founders.len() > 2 {
            properties.push(Property::sometimes("a change is taken back", |_, state: &State| state.past.took_back));
        }
    }
    properties
}

// What `Payload::kind` says.
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;

impl State {
    /// The configurations of each server's log.
    fn configurations(&self, model: &Cluster) -> impl Iterator<Item = Vec<(u64, Configuration)>> {
        self.servers.iter().map(|server| configurations(model.founders, &server.log()))
    }

    fn election_safety(&self) -> bool {
        let leaders = &self.past.leaders;
        leaders.iter().all(|(term, id)| leaders.iter().all(|(other, other_id)| term != other || id == other_id))
    }

    fn log_matching(&self) -> bool {
        let logs = self.servers.each_ref().map(|server| server.log());
        let matching = |a: &[Entry], b: &[Entry]| {
            let equal = a.iter().zip(b).rposition(|(a, b)| a.term == b.term);
            equal.is_none_or(|at| a[..=at] == b[..=at])
        };
        matching(&logs[0], &logs[1]) && matching(&logs[0], &logs[2]) && matching(&logs[1], &logs[2])
    }

    fn leader_completeness(&self) -> bool {
        let latest = self.past.leaders.iter().map(|(term, _)| *term).max().unwrap_or_default();
        self.servers.iter().all(|server| {
            let status = server.node.status();
            let leads = status.role == RoleName::Leader && status.term == latest;
            !leads || server.log().len() >= self.past.committed.len() && self.past.agrees(&server.log())
        })
    }

    fn state_machine_safety(&self) -> bool {
        self.servers.iter().all(|server| {
            let commit = server.node.commit_index().0 as usize;
            self.past.agrees(&server.log()[..commit])
        })
    }
}
