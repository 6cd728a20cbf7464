//! What a log says about who takes part, counted here anew: nothing of this asks the node under test.

use raft_core::{Configuration, Entry, NodeId, Payload};

use crate::SERVERS;

/// The founders' configuration and every one that the log holds, oldest first, with their indexes.
pub(crate) fn configurations(founders: &[u32], log: &[Entry]) -> Vec<(u64, Configuration)> {
    let founding = (0, Configuration::new(founders.iter().copied().map(NodeId)));
    let appended = log.iter().filter_map(|entry| match &entry.payload {
        Payload::Configuration(bytes) => Some((entry.index.0, Configuration::from_bytes(bytes).unwrap())),
        Payload::Noop | Payload::Command(_) | Payload::StateDigest(_) => None,
    });
    [founding].into_iter().chain(appended).collect()
}

/// Whether those for whom `holds` is true are a majority of the voters and, in a joint configuration, of the outgoing
/// ones too.
pub(crate) fn is_quorum(configuration: &Configuration, holds: impl Fn(NodeId) -> bool) -> bool {
    let majority = |half: &[NodeId]| 2 * half.iter().filter(|id| holds(**id)).count() > half.len();
    let outgoing = configuration.voters_outgoing();
    majority(configuration.voters()) && (outgoing.is_empty() || majority(outgoing))
}

/// Whether every quorum of the one has a server in common with every quorum of the other.
pub(crate) fn quorums_meet(one: &Configuration, other: &Configuration) -> bool {
    let sets = || 0_u32..1 << SERVERS;
    let is_quorum = |of: &Configuration, set: u32| is_quorum(of, |id| set & (1 << (id.0 - 1)) != 0);
    sets().all(|a| !is_quorum(one, a) || sets().all(|b| a & b != 0 || !is_quorum(other, b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint(voters: &[u32], outgoing: &[u32]) -> Configuration {
        let ids = |list: &[u32]| list.iter().copied().map(NodeId).collect::<Vec<_>>();
        Configuration::joint(ids(voters), ids(outgoing), [])
    }

    #[test]
    fn two_majorities_may_miss_each_other_and_a_joint_one_meets_both() {
        assert!(!quorums_meet(&joint(&[1, 2, 3], &[]), &joint(&[1], &[])), "2 and 3 without 1");
        assert!(!quorums_meet(&joint(&[1, 2], &[]), &joint(&[3], &[])));
        assert!(quorums_meet(&joint(&[1, 2, 3], &[]), &joint(&[1], &[1, 2, 3])));
        assert!(quorums_meet(&joint(&[1], &[1, 2, 3]), &joint(&[1], &[])));
        assert!(quorums_meet(&joint(&[1, 2, 3], &[]), &joint(&[1, 2], &[])), "one server at a time needs no joint one");
    }
}
