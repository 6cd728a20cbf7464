//! Random event sequences into a group of nodes, with the safety properties held after every step: messages lost,
//! repeated and reordered, writes that become durable late, crashes that lose what was not durable.

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::{Action, Event, MembershipChange, NodeId, ReadId};

use crate::cluster::Cluster;

#[derive(Clone, Debug)]
enum Op {
    Tick { node: u32, times: u32 },
    Deliver { at: usize },
    Lose { at: usize },
    Repeat { at: usize },
    Propose { node: u32, payloads: usize },
    Read { node: u32 },
    Persist { node: u32, writes: usize },
    Campaign { node: u32 },
    Transfer { node: u32, to: u32 },
    HandOver { node: u32 },
    Change { node: u32, voters: Vec<u32>, learners: Vec<u32>, catch_up: bool },
    Unreachable { node: u32, peer: u32 },
    Crash { node: u32, also: usize },
    Settle,
}

fn op(nodes: u32) -> impl Strategy<Value = Op> {
    let node = move || 1..=nodes;
    prop_oneof![
        6 => (node(), 1_u32..8).prop_map(|(node, times)| Op::Tick { node, times }),
        24 => any::<usize>().prop_map(|at| Op::Deliver { at }),
        2 => any::<usize>().prop_map(|at| Op::Lose { at }),
        2 => any::<usize>().prop_map(|at| Op::Repeat { at }),
        4 => (node(), 1_usize..4).prop_map(|(node, payloads)| Op::Propose { node, payloads }),
        2 => node().prop_map(|node| Op::Read { node }),
        10 => (node(), 1_usize..6).prop_map(|(node, writes)| Op::Persist { node, writes }),
        2 => node().prop_map(|node| Op::Campaign { node }),
        1 => (node(), node()).prop_map(|(node, to)| Op::Transfer { node, to }),
        1 => (node(), node()).prop_map(|(node, peer)| Op::Unreachable { node, peer }),
        1 => (node(), 0_usize..3).prop_map(|(node, also)| Op::Crash { node, also }),
        1 => Just(Op::Settle),
    ]
}

/// As [`op`], and membership changes among them.
fn op_or_change(nodes: u32) -> impl Strategy<Value = Op> {
    let ids = move |count| prop::collection::vec(1..=nodes, count);
    let change = (1..=nodes, ids(0..5), ids(0..3), any::<bool>())
        .prop_map(|(node, voters, learners, catch_up)| Op::Change { node, voters, learners, catch_up });
    prop_oneof![60 => op(nodes), 4 => change, 1 => (1..=nodes).prop_map(|node| Op::HandOver { node })]
}

/// Carries out one operation.
fn run(cluster: &mut Cluster, op: &Op, number: u64) {
    let under_way = cluster.network.len();
    match *op {
        Op::Tick { node, times } => cluster.tick(node, times),
        Op::Deliver { at } if under_way > 0 => cluster.deliver(at % under_way),
        Op::Lose { at } if under_way > 0 => {
            cluster.network.remove(at % under_way);
        }
        Op::Repeat { at } if under_way > 0 => {
            let again = cluster.network[at % under_way].clone();
            cluster.network.push(again);
        }
        Op::Propose { node, payloads } => {
            let payloads = (0..payloads).map(|k| Bytes::from(format!("{number}.{k}"))).collect();
            let actions = cluster.step(node, Event::Propose(payloads));
            let answers = actions
                .iter()
                .filter(|action| matches!(action, Action::ProposalAppended { .. } | Action::ProposalRefused(_)));
            assert_eq!(answers.count(), 1, "a proposal is answered once");
        }
        Op::Read { node } => {
            cluster.step(node, Event::Read(ReadId(number)));
        }
        Op::Persist { node, writes } => cluster.persist(node, writes),
        Op::Campaign { node } => {
            cluster.step(node, Event::Campaign);
        }
        Op::Transfer { node, to } => {
            cluster.step(node, Event::TransferLeadership(NodeId(to)));
        }
        Op::HandOver { node } => {
            cluster.step(node, Event::HandOver);
        }
        Op::Change { node, ref voters, ref learners, catch_up } => {
            let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect();
            let change =
                MembershipChange { voters: ids(voters), learners: ids(learners), catch_up, addresses: Vec::new() };
            let actions = cluster.step(node, Event::ChangeMembership(change));
            let answers = actions
                .iter()
                .filter(|action| matches!(action, Action::MembershipAppended { .. } | Action::MembershipRefused(_)));
            assert_eq!(answers.count(), 1, "a change is answered once");
        }
        Op::Unreachable { node, peer } => {
            cluster.step(node, Event::Unreachable(NodeId(peer)));
        }
        Op::Crash { node, also } => cluster.crash(node, also),
        Op::Settle => settle(cluster),
        Op::Deliver { .. } | Op::Lose { .. } | Op::Repeat { .. } => {}
    }
}

/// Everything under way arrives and everything written becomes durable.
fn settle(cluster: &mut Cluster) {
    for _ in 0..200 {
        for id in 1..=cluster.nodes.len() as u32 {
            cluster.persist(id, usize::MAX);
        }
        if cluster.network.is_empty() {
            return;
        }
        cluster.settle();
    }
    panic!("the group never falls silent");
}

/// All faults end: within ten election timeouts a leader commits a new entry, and every member of its configuration
/// has applied the same commands up to it.
fn heal(cluster: &mut Cluster) {
    cluster.sync = true;
    settle(cluster);
    for _ in 0..10 * 15 / 6 {
        let newest = cluster.leaders().into_iter().max_by_key(|leader| cluster.term(*leader));
        if let Some(leader) = newest {
            cluster.propose(leader, "after");
        }
        cluster.run(6);
        if newest.is_some_and(|leader| is_whole(cluster, leader)) {
            assert_eq!(cluster.safety.unanswered_reads(), 0, "every read is answered");
            let blames =
                |notice: &Action| matches!(notice, Action::PeerDiverged { .. } | Action::MessageDropped { .. });
            let blamed = cluster.notices.iter().find(|(_, notice)| blames(notice));
            assert_eq!(blamed, None, "correct servers find no fault with each other");
            return;
        }
    }
    let states: Vec<_> = cluster.nodes.iter().map(raft_core::Node::status).collect();
    panic!("not healed within ten election timeouts: {states:#?}");
}

/// Every member of the leader's configuration has applied the same commands, up to the last.
fn is_whole(cluster: &Cluster, leader: u32) -> bool {
    let configuration = cluster.node(leader).status().configuration;
    let first = &cluster.applied[leader as usize - 1];
    let members = configuration.members();
    !configuration.is_joint()
        && first.last().is_some_and(|last| last == "after")
        && members.iter().all(|id| cluster.applied[id.0 as usize - 1] == *first)
}

proptest! {
    #[test]
    fn the_five_safety_properties_hold_over_three_nodes(
        seed in any::<u64>(), ops in prop::collection::vec(op(3), 1..250),
    ) {
        let mut cluster = Cluster::with_seed(3, seed);
        cluster.sync = false;
        for (op, number) in ops.iter().zip(0..) {
            run(&mut cluster, op, number);
        }
        heal(&mut cluster);
    }

    #[test]
    fn the_five_safety_properties_hold_from_an_established_leader(
        seed in any::<u64>(), nodes in 1_u32..=5, ops in prop::collection::vec(op(5), 1..200),
    ) {
        let mut cluster = Cluster::with_seed(nodes, seed);
        cluster.elect(1);
        cluster.sync = false;
        for (op, number) in ops.iter().zip(0..) {
            run(&mut cluster, &within(op, nodes), number);
        }
        heal(&mut cluster);
    }
}

proptest! {
    /// Entries leave memory as soon as they may, so that followers are served from the storage; appends are gathered
    /// and cut; links fail one way.
    #[test]
    fn the_five_safety_properties_hold_with_tiny_limits(
        seed in any::<u64>(),
        limits in (0_usize..120, 1_usize..120, 1_usize..4),
        links in prop::collection::vec((1_u32..=3, 1_u32..=3), 0..3),
        mend_at in 0_usize..200,
        ops in prop::collection::vec(op(3), 1..200),
    ) {
        let mut cluster = Cluster::with_tiny_limits(3, seed, limits);
        cluster.elect(1);
        cluster.sync = false;
        cluster.cut = links;
        for (op, number) in ops.iter().zip(0..) {
            if number == mend_at {
                cluster.mend();
            }
            run(&mut cluster, op, number as u64);
        }
        cluster.mend();
        heal(&mut cluster);
    }
}

proptest! {
    /// From three voters and three servers that know nothing, to whatever the changes make of them.
    #[test]
    fn the_five_safety_properties_hold_through_membership_changes(
        seed in any::<u64>(), ops in prop::collection::vec(op_or_change(6), 1..250),
    ) {
        let mut cluster = Cluster::with_founders(3, 6, seed);
        cluster.elect(1);
        cluster.sync = false;
        for (op, number) in ops.iter().zip(0..) {
            run(&mut cluster, op, number);
        }
        heal(&mut cluster);
    }
}

/// The same operation on a smaller group.
fn within(op: &Op, nodes: u32) -> Op {
    let mut op = op.clone();
    if let Op::Tick { node, .. }
    | Op::Propose { node, .. }
    | Op::Read { node }
    | Op::Persist { node, .. }
    | Op::Campaign { node }
    | Op::Transfer { node, .. }
    | Op::Unreachable { node, .. }
    | Op::Crash { node, .. } = &mut op
    {
        *node = (*node - 1) % nodes + 1;
    }
    op
}
