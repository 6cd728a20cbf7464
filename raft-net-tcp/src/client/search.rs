//! What is known while a request is tried here and there: whose turn it is, and what to say when the time is up.
//!
//! Servers take turns in the order of their ids. Whom one of them names as the leader is asked between two turns: once
//! a round, and not where it has failed since it last answered. So servers that are behind, or name each other, keep
//! nobody from the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use raft_core::NodeId;
use tokio::time::sleep;

use super::{ClientError, ClientOptions};
use crate::peers::Backoff;

/// See the module.
pub(super) struct Search {
    pub(super) deadline: Instant,
    backoff: Backoff,
    /// A copy was sent whose fate is not known.
    pub(super) unknown: bool,
    /// What to say when the deadline passes.
    pub(super) error: ClientError,
    /// For one server's answer; it doubles with every answer that did not come, for all may just be slow.
    pub(super) patience: Duration,
    /// Whose turn it was last.
    turn: Option<NodeId>,
    /// Whom a hint of this round has named.
    hinted: BTreeSet<NodeId>,
    /// Who could not be asked, or did not answer, when it was last tried.
    failed: BTreeSet<NodeId>,
}

impl Search {
    pub(super) fn new(options: &ClientOptions, deadline: Instant) -> Self {
        Self {
            deadline,
            backoff: Backoff::new(options.pause_min, options.pause_max),
            unknown: false,
            error: ClientError::Unreachable { reason: "no server is known, or there was no time".into() },
            patience: options.attempt_max,
            turn: None,
            hinted: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }

    /// This server is asked: the first one has the first turn.
    pub(super) fn asks(&mut self, server: NodeId) {
        self.turn = self.turn.or(Some(server));
    }

    pub(super) fn answered(&mut self, server: NodeId) {
        self.failed.remove(&server);
    }

    pub(super) fn failed(&mut self, server: NodeId) {
        self.failed.insert(server);
    }

    /// Whether to ask whom a server has named.
    pub(super) fn follows(&mut self, leader: NodeId) -> bool {
        !self.failed.contains(&leader) && self.hinted.insert(leader)
    }

    /// Whose turn is next.
    pub(super) fn next_turn<A>(&mut self, servers: &BTreeMap<NodeId, A>) -> Option<NodeId> {
        let after = self.turn.and_then(|last| servers.keys().find(|id| **id > last));
        if after.is_none() {
            self.hinted.clear();
        }
        self.turn = after.or_else(|| servers.keys().next()).copied();
        self.turn
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// What one server may take of the time that is left, where so many are still to be asked.
    pub(super) fn share(&self, servers: usize) -> Instant {
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        let share = self.left().checked_div(servers).unwrap_or_default();
        Instant::now().checked_add(share).unwrap_or(self.deadline)
    }

    pub(super) async fn pause(&mut self) {
        let left = self.left();
        sleep(self.backoff.pause().min(left)).await;
    }

    pub(super) fn give_up(&self) -> ClientError {
        if self.unknown { ClientError::Timeout { unknown: true } } else { self.error.clone() }
    }
}
