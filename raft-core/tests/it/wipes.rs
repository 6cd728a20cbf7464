//! Random runs in which servers lose their disks, come back under their ids, and are removed and added again, with the
//! safety properties held after every step (fault M10).

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::{Event, Incarnation, MembershipChange, NodeId, ReadId};

use crate::cluster::Cluster;

const NODES: u32 = 5;

/// A minority: more disks than this are never lost at once.
const LOST_MAX: usize = 2;

#[derive(Clone, Debug)]
enum Op {
    Tick { node: u32, times: u32 },
    Deliver { at: usize },
    Lose { at: usize },
    Repeat { at: usize },
    Propose { node: u32 },
    Read { node: u32 },
    Persist { node: u32, writes: usize },
    Campaign { node: u32 },
    Crash { node: u32, also: usize },
    Wipe { node: u32 },
    Repair { node: u32, catch_up: bool },
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 1..=NODES;
    prop_oneof![
        6 => (node(), 1_u32..8).prop_map(|(node, times)| Op::Tick { node, times }),
        24 => any::<usize>().prop_map(|at| Op::Deliver { at }),
        1 => any::<usize>().prop_map(|at| Op::Lose { at }),
        1 => any::<usize>().prop_map(|at| Op::Repeat { at }),
        3 => node().prop_map(|node| Op::Propose { node }),
        1 => node().prop_map(|node| Op::Read { node }),
        10 => (node(), 1_usize..6).prop_map(|(node, writes)| Op::Persist { node, writes }),
        2 => node().prop_map(|node| Op::Campaign { node }),
        1 => (node(), 0_usize..3).prop_map(|(node, also)| Op::Crash { node, also }),
        2 => node().prop_map(|node| Op::Wipe { node }),
        3 => (node(), any::<bool>()).prop_map(|(node, catch_up)| Op::Repair { node, catch_up }),
        2 => Just(Op::Settle),
    ]
}

/// A run, and which servers are known to be without the disk that voted.
struct Run {
    cluster: Cluster,
    lost: Vec<u32>,
    last_incarnation: u64,
    wipes: u32,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::with_incarnations(NODES, NODES, seed);
        cluster.elect(1);
        cluster.run(6);
        cluster.sync = false;
        Self { cluster, lost: Vec::new(), last_incarnation: 100, wipes: 0 }
    }

    fn incarnation(&self, id: u32) -> Incarnation {
        self.cluster.node(id).status().incarnation
    }

    /// Whether every server that has its disk holds the pin of this one's.
    fn is_known_everywhere(&self, id: u32) -> bool {
        (1..=NODES).filter(|other| !self.lost.contains(other) || *other == id).all(|other| {
            let configuration = self.cluster.node(other).status().configuration;
            configuration.is_voter(NodeId(id)) && configuration.incarnation(NodeId(id)) == self.incarnation(id)
        })
    }

    fn run(&mut self, op: &Op, number: u64) {
        let under_way = self.cluster.network.len();
        match *op {
            Op::Tick { node, times } => self.cluster.tick(node, times),
            Op::Deliver { at } if under_way > 0 => self.cluster.deliver(at % under_way),
            Op::Lose { at } if under_way > 0 => drop(self.cluster.network.remove(at % under_way)),
            Op::Repeat { at } if under_way > 0 => {
                let again = self.cluster.network[at % under_way].clone();
                self.cluster.network.push(again);
            }
            Op::Propose { node } => {
                self.cluster.step(node, Event::Propose(vec![Bytes::from(format!("{number}"))]));
            }
            Op::Read { node } => drop(self.cluster.step(node, Event::Read(ReadId(number)))),
            Op::Persist { node, writes } => self.cluster.persist(node, writes),
            Op::Campaign { node } => drop(self.cluster.step(node, Event::Campaign)),
            Op::Crash { node, also } => self.cluster.crash(node, also),
            Op::Wipe { node } => self.wipe(node),
            Op::Repair { node, catch_up } => self.repair(node, catch_up),
            Op::Settle => self.settle(),
            Op::Deliver { .. } | Op::Lose { .. } | Op::Repeat { .. } => {}
        }
    }

    /// The server loses its disk, where that is what the protocol promises to bear.
    fn wipe(&mut self, id: u32) {
        self.forget_repaired();
        if !self.lost.contains(&id) && (self.lost.len() == LOST_MAX || !self.is_known_everywhere(id)) {
            return;
        }
        if !self.lost.contains(&id) {
            self.lost.push(id);
        } else if self.cluster.nodes.iter().any(|node| {
            let configuration = node.status().configuration;
            configuration.is_member(NodeId(id)) && configuration.incarnation(NodeId(id)).admits(self.incarnation(id))
        }) {
            // It is being added again: a new disk may stand in for it until its pin is everywhere.
            return;
        }
        self.last_incarnation += 1;
        self.wipes += 1;
        self.cluster.wipe(id, self.last_incarnation);
    }

    fn forget_repaired(&mut self) {
        let known: Vec<u32> = self.lost.iter().copied().filter(|id| self.is_known_everywhere(*id)).collect();
        self.lost.retain(|id| !known.contains(id));
    }

    /// What an operator asks of this server: the lost are removed, and then added again.
    fn repair(&mut self, node: u32, catch_up: bool) {
        let configuration = self.cluster.node(node).status().configuration;
        let is_replaced = |id: &u32| !configuration.incarnation(NodeId(*id)).admits(self.incarnation(*id));
        let replaced: Vec<u32> = (1..=NODES).filter(is_replaced).collect();
        let voters: Vec<NodeId> = (1..=NODES).filter(|id| !replaced.contains(id)).map(NodeId).collect();
        let change = MembershipChange { voters, learners: Vec::new(), catch_up, addresses: Vec::new() };
        self.cluster.step(node, Event::ChangeMembership(change));
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            for id in 1..=NODES {
                self.cluster.persist(id, usize::MAX);
            }
            if self.cluster.network.is_empty() {
                return;
            }
            self.cluster.settle();
        }
        panic!("the group never falls silent");
    }

    /// All faults end: the lost are removed and added again, and then everybody has applied the same, and counts.
    fn heal(&mut self) {
        self.cluster.sync = true;
        self.settle();
        for _ in 0..100 {
            let newest = self.cluster.leaders().into_iter().max_by_key(|leader| self.cluster.term(*leader));
            if let Some(leader) = newest {
                self.repair(leader, true);
                self.cluster.propose(leader, "after");
            }
            self.cluster.run(6);
            let is_whole = |cluster: &Cluster| {
                let last = cluster.applied[0].last();
                last.is_some_and(|last| last == "after") && cluster.applied.iter().all(|one| *one == cluster.applied[0])
            };
            if (1..=NODES).all(|id| self.is_known_everywhere(id)) && is_whole(&self.cluster) {
                assert_eq!(self.cluster.safety.unanswered_reads(), 0, "every read is answered");
                return;
            }
        }
        let states: Vec<_> = self.cluster.nodes.iter().map(raft_core::Node::status).collect();
        panic!("not healed: {states:#?}");
    }
}

/// A run takes a quarter of a second.
fn few() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.div_ceil(10), ..config }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn m10_the_safety_properties_hold_while_disks_are_lost_and_replaced(
        seed in any::<u64>(), ops in prop::collection::vec(op(), 1..250),
    ) {
        let mut run = Run::new(seed);
        for (op, number) in ops.iter().zip(0..) {
            run.run(op, number);
        }
        run.heal();
    }
}

/// The runs above do lose disks, no more than they may, and repair them.
#[test]
fn the_random_runs_lose_disks() {
    let mut run = Run::new(7);
    for node in 1..=NODES {
        run.run(&Op::Wipe { node }, 0);
    }
    assert_eq!((run.wipes, run.lost.clone()), (2, vec![1, 2]));
    run.heal();
    run.forget_repaired();
    assert_eq!(run.lost, Vec::<u32>::new());
    run.run(&Op::Wipe { node: 3 }, 0);
    assert_eq!(run.wipes, 3, "and may lose more once they are repaired");
}
