//! What a group starts with.

use std::collections::BTreeMap;

use raft_core::{Config, Configuration, HardState, Incarnation, Lease, MemStorage, NodeId, Term};

use super::dsl::Command;
use crate::cluster::{Cluster, entries};

#[derive(Default)]
pub struct Setup {
    nodes: u32,
    voters: u32,
    seed: u64,
    limits: Vec<(String, u64)>,
    logs: BTreeMap<u32, (Vec<u64>, Option<u64>)>,
    committed: u64,
    incarnations: bool,
}

impl Setup {
    /// `false` where the command does not speak of what a group starts with.
    pub fn note(&mut self, command: &Command) -> bool {
        match command {
            Command::Nodes { nodes, voters } => *self = Self { nodes: *nodes, voters: *voters, ..Self::default() },
            Command::Seed(seed) => self.seed = *seed,
            Command::Limits(limits) => self.limits.clone_from(limits),
            Command::Log { node, terms, term } => drop(self.logs.insert(*node, (terms.clone(), *term))),
            Command::Committed(index) => self.committed = *index,
            Command::Incarnations => self.incarnations = true,
            _ => return false,
        }
        true
    }

    /// The group, and the limits that all its nodes have.
    pub fn build(&self) -> Result<(Cluster, Config), String> {
        if self.nodes == 0 {
            return Err("there is no group: write nodes 3".to_owned());
        }
        let genesis = Configuration::new((1..=self.voters).map(NodeId));
        let mut cluster = Cluster::empty();
        let mut limits = Config { max_inflight: 4, life: Some(1), ..Config::new(NodeId(1)) };
        for (name, value) in &self.limits {
            limit(&mut limits, name, *value)?;
        }
        for id in 1..=self.nodes {
            let seed = self.seed.wrapping_mul(101).wrapping_add(u64::from(id));
            let (terms, at_least) = self.logs.get(&id).cloned().unwrap_or_default();
            let current_term = Term(terms.last().copied().unwrap_or(0).max(at_least.unwrap_or(0)));
            let hard_state = HardState { current_term, voted_for: None };
            let storage = MemStorage::with_log(genesis.clone(), hard_state, entries(&terms));
            let storage = storage.map_err(|error| error.to_string())?;
            let incarnation = Incarnation(if self.incarnations { u64::from(id) * 10 } else { 0 });
            let config = Config { id: NodeId(id), seed, ..limits.clone() };
            cluster.add(config, storage.with_incarnation(incarnation));
        }
        if self.voters > self.nodes {
            cluster.safety.single();
        }
        cluster.safety.already_committed(self.committed);
        Ok((cluster, limits))
    }
}

fn limit(config: &mut Config, name: &str, value: u64) -> Result<(), String> {
    let size = usize::try_from(value).map_err(|_| format!("{value} is too large"))?;
    let ticks = u32::try_from(value).map_err(|_| format!("{value} is too large"))?;
    match name {
        "inflight" => config.max_inflight = size,
        "append" => config.max_append_bytes = size,
        "window" => config.window_bytes = size,
        "uncommitted" => config.max_uncommitted_bytes = size,
        "apply" => config.max_apply_bytes = size,
        "election" => config.election_timeout_ticks = ticks,
        "inflight-bytes" => config.max_inflight_bytes = size,
        "chunk" => config.max_chunk_bytes = size,
        "tail" => config.tail_entries = value,
        // Without a number of its life a follower refuses reads.
        "life" => config.life = Some(value).filter(|life| *life > 0),
        "lease" => config.lease = Some(Lease { drift_ticks: ticks }),
        "heartbeat" => config.heartbeat_ticks = ticks,
        _ => return Err(format!("there is no limit \"{name}\"")),
    }
    Ok(())
}
