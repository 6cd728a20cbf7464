//! Random changes of the members with and without `catch_up`, lost disks, transfers, cut links, in a group whose servers
//! join as `server --join` does: as long as every configuration in force has a quorum of disks that are alive, no safety
//! property is broken, and once all faults end there is a leader, it commits, and the lost are replaced (fault M10).

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::{Configuration, Event, Incarnation, MembershipChange, NodeId, Payload, Storage as _};

use crate::cluster::{Cluster, all_entries};

const NODES: u32 = 5;

#[derive(Clone, Debug)]
enum Op {
    Tick { node: u32, times: u32 },
    Deliver { at: usize },
    Lose { at: usize },
    Repeat { at: usize },
    Propose,
    Persist { node: u32, writes: usize },
    Campaign { node: u32 },
    Crash { node: u32, also: usize },
    Wipe { node: u32 },
    Change { voters: u32, learners: u32, catch_up: bool },
    Transfer { to: u32 },
    Isolate { node: u32 },
    Mend,
    Run { times: u32 },
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 1..=NODES;
    prop_oneof![
        4 => (node(), 1_u32..8).prop_map(|(node, times)| Op::Tick { node, times }),
        20 => any::<usize>().prop_map(|at| Op::Deliver { at }),
        1 => any::<usize>().prop_map(|at| Op::Lose { at }),
        1 => any::<usize>().prop_map(|at| Op::Repeat { at }),
        2 => Just(Op::Propose),
        6 => (node(), 1_usize..6).prop_map(|(node, writes)| Op::Persist { node, writes }),
        1 => node().prop_map(|node| Op::Campaign { node }),
        1 => (node(), 0_usize..3).prop_map(|(node, also)| Op::Crash { node, also }),
        3 => node().prop_map(|node| Op::Wipe { node }),
        5 => (1_u32..32, 0_u32..32, any::<bool>()).prop_map(|(voters, learners, catch_up)| Op::Change { voters, learners, catch_up }),
        1 => node().prop_map(|to| Op::Transfer { to }),
        2 => node().prop_map(|node| Op::Isolate { node }),
        2 => Just(Op::Mend),
        3 => (1_u32..12).prop_map(|times| Op::Run { times }),
    ]
}

struct Run {
    cluster: Cluster,
    last_incarnation: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::with_incarnations(3, NODES, seed);
        cluster.elect(1);
        cluster.run(6);
        cluster.sync = false;
        Self { cluster, last_incarnation: 100 }
    }

    fn incarnation(&self, id: u32) -> Incarnation {
        self.cluster.node(id).status().incarnation
    }

    /// Every configuration that may be in force somewhere.
    fn configurations(&self) -> Vec<Configuration> {
        let commit = self.cluster.nodes.iter().map(|node| node.commit_index()).max().unwrap();
        let mut held = Vec::new();
        for node in &self.cluster.nodes {
            let meta = node.storage().snapshot_meta().unwrap();
            held.push((meta.last_included_index, meta.configuration));
            for entry in all_entries(node) {
                if let Payload::Configuration(bytes) = &entry.payload {
                    held.push((entry.index, Configuration::from_bytes(bytes).unwrap()));
                }
            }
        }
        let newest = held.iter().map(|(index, _)| *index).filter(|index| *index <= commit).max().unwrap();
        held.into_iter().filter(|(index, _)| *index >= newest).map(|(_, configuration)| configuration).collect()
    }

    fn bears(&self, configuration: &Configuration, without: Option<u32>) -> bool {
        configuration.is_quorum(|id| {
            let pin = configuration.incarnation(id);
            without != Some(id.0) && pin.admits(self.incarnation(id.0))
        })
    }

    fn leader(&self) -> Option<u32> {
        self.cluster.leaders().into_iter().max_by_key(|leader| self.cluster.term(*leader))
    }

    fn change(&mut self, node: u32, voters: &[u32], learners: &[u32], catch_up: bool) {
        let ids = |ids: &[u32]| ids.iter().copied().map(NodeId).collect();
        let change = MembershipChange { voters: ids(voters), learners: ids(learners), catch_up, addresses: Vec::new() };
        self.cluster.step(node, Event::ChangeMembership(change));
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
            Op::Propose => {
                if let Some(node) = self.leader() {
                    self.cluster.step(node, Event::Propose(vec![Bytes::from(format!("{number}"))]));
                }
            }
            Op::Persist { node, writes } => self.cluster.persist(node, writes),
            Op::Campaign { node } => drop(self.cluster.step(node, Event::Campaign)),
            Op::Crash { node, also } => self.cluster.crash(node, also),
            Op::Wipe { node } => self.wipe(node),
            Op::Change { voters, learners, catch_up } => {
                if let Some(node) = self.leader() {
                    let ids = |set: u32| (1..=NODES).filter(|id| set & (1 << (id - 1)) != 0).collect::<Vec<_>>();
                    self.change(node, &ids(voters), &ids(learners), catch_up);
                }
            }
            Op::Transfer { to } => {
                if let Some(node) = self.leader() {
                    self.cluster.step(node, Event::TransferLeadership(NodeId(to)));
                }
            }
            Op::Isolate { node } => {
                self.cluster.mend();
                self.cluster.cut_off(node);
            }
            Op::Mend => self.cluster.mend(),
            Op::Run { times } => {
                for _ in 0..times {
                    for id in 1..=NODES {
                        self.cluster.persist(id, usize::MAX);
                        self.cluster.tick(id, 1);
                        self.cluster.persist(id, usize::MAX);
                    }
                    self.settle();
                }
            }
            Op::Deliver { .. } | Op::Lose { .. } | Op::Repeat { .. } => {}
        }
    }

    fn wipe(&mut self, id: u32) {
        if !self.configurations().iter().all(|configuration| self.bears(configuration, Some(id))) {
            return;
        }
        self.last_incarnation += 1;
        self.cluster.wipe_to_join(id, self.last_incarnation);
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

    fn heal(&mut self) {
        self.cluster.mend();
        self.cluster.sync = true;
        self.settle();
        self.cluster.run(150);
        if !self.configurations().iter().all(|held| self.bears(held, None)) {
            // The members were changed to those of whom too many were lost: nobody can lead them.
            return;
        }
        let leader = self.leader().unwrap_or_else(|| panic!("nobody leads: {:#?}", self.states()));
        self.cluster.propose(leader, "after");
        self.cluster.run(10);
        let applied = self.cluster.applied.iter().any(|applied| applied.iter().any(|command| command == "after"));
        assert!(applied, "nothing commits: {:#?}", self.states());
        // A removal and an addition of who does not count; everybody is alive, so it ends.
        for _ in 0..60 {
            let Some(leader) = self.leader() else {
                self.cluster.run(10);
                continue;
            };
            let held = self.cluster.node(leader).status().configuration;
            let is_lost = |id: &u32| !held.incarnation(NodeId(*id)).admits(self.incarnation(*id));
            let voters: Vec<u32> = (1..=NODES).filter(|id| !is_lost(id)).collect();
            if voters.len() == NODES as usize && held.voters().len() == NODES as usize && !held.is_joint() {
                return;
            }
            self.change(leader, &voters, &[], false);
            self.cluster.run(12);
        }
        panic!("a change waits for ever: {:#?}", self.states());
    }

    fn states(&self) -> Vec<raft_core::Status> {
        self.cluster.nodes.iter().map(raft_core::Node::status).collect()
    }
}

/// A run takes more than a second in a debug build.
fn few() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.div_ceil(16), ..config }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn a_live_majority_elects_a_leader_whoever_was_added(
        seed in any::<u64>(), ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut run = Run::new(seed);
        for (op, number) in ops.iter().zip(0..) {
            run.run(op, number);
        }
        run.heal();
    }
}
