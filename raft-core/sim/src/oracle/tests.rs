//! Small groups of real servers: right ones are not accused, wrong ones are.

mod group;
mod wrong;

use raft_core::{Incarnation, MembershipChange, NodeId};
use rand::RngExt;

use group::Group;

/// Random runs of right servers with everything that may happen to them: the oracle is silent.
#[test]
fn right_servers_are_not_accused() {
    for seed in 0..12 {
        let mut group = Group::new(seed, 3 + u32::try_from(seed % 3).unwrap(), 1);
        for _ in 0..6_000 {
            group.anything();
        }
        group.heal();
        assert!(group.oracle.committed().0 > 20, "seed {seed}: only {} committed", group.oracle.committed());
    }
}

/// Disks are lost one at a time and their servers come back under other incarnations.
#[test]
fn a_server_that_lost_its_disk_is_not_accused() {
    for seed in 100..106 {
        let mut group = Group::new(seed, 5, 0);
        group.settle();
        for round in 0..3_u32 {
            for _ in 0..800 {
                group.anything();
            }
            group.heal();
            let lost = 1 + group.rng.random_range(0..5);
            group.wipe(lost, Incarnation(u64::from(1000 * (round + 1) + lost)));
            group.settle();
            let others = (1..=5).filter(|id| *id != lost).map(NodeId);
            group.change(MembershipChange {
                voters: others.collect(),
                learners: vec![],
                catch_up: false,
                addresses: vec![],
            });
            group.settle();
            let all = (1..=5).map(NodeId).collect();
            group.change(MembershipChange { voters: all, learners: vec![], catch_up: true, addresses: vec![] });
            group.settle();
        }
        group.heal();
    }
}
