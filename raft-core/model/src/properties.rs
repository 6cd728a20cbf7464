//! What must hold of every state, and what some state must show.

use raft_core::{Entry, LogIndex, RoleName};
use stateright::Property;

use crate::state::State;
use crate::{Bounds, Cluster};

/// At most one leader can be elected in a given term.
pub const ELECTION_SAFETY: &str = "Election Safety";
/// Equal (index, term), equal prefixes.
pub const LOG_MATCHING: &str = "Log Matching";
/// What is committed is in the log of the leader of the latest term.
pub const LEADER_COMPLETENESS: &str = "Leader Completeness";
/// Nothing else is ever committed at an index.
pub const STATE_MACHINE_SAFETY: &str = "State Machine Safety";
/// At an entry's first commit a majority holds it durably.
pub const COMMIT_EVIDENCE: &str = "Commit evidence";
/// Granted votes and acceptances are durable when they are told; answers of past terms do nothing.
pub const PROMISES: &str = "Promises are kept";

pub(crate) fn all(bounds: &Bounds) -> Vec<Property<Cluster>> {
    let mut properties = vec![
        Property::always(ELECTION_SAFETY, |_, state: &State| state.election_safety()),
        Property::always(LOG_MATCHING, |_, state: &State| state.log_matching()),
        Property::always(LEADER_COMPLETENESS, |_, state: &State| state.leader_completeness()),
        Property::always(STATE_MACHINE_SAFETY, |_, state: &State| state.state_machine_safety()),
        Property::always(COMMIT_EVIDENCE, |_, state: &State| state.past.broken != Some(COMMIT_EVIDENCE)),
        Property::always(PROMISES, |_, state: &State| state.past.broken != Some(PROMISES)),
        Property::sometimes("a leader is elected", |_, state: &State| !state.past.leaders.is_empty()),
        Property::sometimes("a follower learns of a commit", |_, state: &State| {
            state.servers.iter().filter(|server| server.node.commit_index() > LogIndex(0)).count() > 1
        }),
    ];
    if bounds.max_term > 1 {
        properties.extend([
            Property::sometimes("two terms have leaders", |_, state: &State| state.past.leaders.len() > 1),
            Property::sometimes("an entry is replaced", |_, state: &State| state.past.replaced),
        ]);
    }
    if bounds.proposals > 0 {
        properties.push(Property::sometimes("all commands are committed", |model: &Cluster, state: &State| {
            let commands = state.past.committed.iter().filter(|(_, command)| !command.is_empty());
            commands.count() == usize::from(model.bounds.proposals)
        }));
    }
    properties
}

impl State {
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
