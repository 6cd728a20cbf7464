//! What has been promised so far, by whoever it was: what the properties hold every later state against.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{AppendEntriesResponse, Body, Entry, LogIndex, Message, Node, NodeId, RoleName, Storage, Term};

use crate::disk::Disk;
use crate::membership::{configurations, is_quorum};
use crate::properties::{COMMIT_EVIDENCE, PROMISES};
use crate::state::{State, digest};

/// What tells entries of one index apart: term, kind of payload, payload.
pub(crate) type Name = (Term, u8, Bytes);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// Who has led, in which term.
    pub(crate) leaders: Vec<(Term, NodeId)>,
    /// The first commit seen at each index.
    pub(crate) committed: Vec<Name>,
    /// Entries were removed from some log.
    pub(crate) replaced: bool,
    /// A configuration among them.
    pub(crate) took_back: bool,
    pub(crate) broken: Option<&'static str>,
}

impl State {
    pub(crate) fn note_leaders(&mut self) {
        for server in &self.servers {
            let status = server.node.status();
            let led = (status.term, status.id);
            if status.role == RoleName::Leader && !self.past.leaders.contains(&led) {
                self.past.leaders.push(led);
                self.past.leaders.sort_unstable();
            }
        }
    }

    /// Notes what `node`, the server at `at`, has committed in a step before which its log ended at `last`, if it is
    /// the first: a quorum of the configuration that was the newest of its log must hold that durably.
    pub(crate) fn note_commits(&mut self, founders: &[u32], at: usize, node: &Node<Disk>, last: LogIndex) {
        let commit = node.commit_index().0 as usize;
        if commit <= self.past.committed.len() {
            return;
        }
        let log = node.storage().log();
        let mut configurations = configurations(founders, &log);
        configurations.retain(|(index, _)| *index <= last.0);
        let (_, newest) = configurations.pop().unwrap();
        for entry in &log[self.past.committed.len()..commit] {
            let holds = |id: NodeId| {
                let place = id.0 as usize - 1;
                let disk = if place == at { node.storage() } else { self.servers[place].node.storage() };
                disk.durable_term(entry.index) == Some(entry.term)
            };
            if !is_quorum(&newest, holds) {
                self.past.broken.get_or_insert(COMMIT_EVIDENCE);
            }
            self.past.committed.push(name(entry));
        }
    }

    /// Takes answers to `at` off the network that name a term which it has durably left.
    pub(crate) fn drop_dead_letters(&mut self, at: usize) {
        let server = Arc::clone(&self.servers[at]);
        let durable = server.node.storage().durable_hard_state().current_term;
        let is_dead = |message: &Message| match &message.body {
            Body::PreVoteResponse(_, response) => response.next_term <= durable && message.term <= durable,
            Body::RequestVoteResponse(_, _) | Body::AppendEntriesResponse(_, _) | Body::HeartbeatResponse(_, _) => {
                message.term < durable
            }
            _ => false,
        };
        let mut alive = true;
        self.network.retain(|letter| {
            let dead = letter.message.to.0 as usize == at + 1 && is_dead(&letter.message);
            if dead {
                let mut node = server.node.clone();
                let actions = node.step(Message::clone(&letter.message));
                alive &= actions.is_empty() && digest(&node) == server.digest;
            }
            !dead
        });
        if !alive {
            self.past.broken.get_or_insert(PROMISES);
        }
    }
}

impl Past {
    pub(crate) fn check_promise(&mut self, message: &Message, disk: &Disk) {
        let hard_state = disk.durable_hard_state();
        let kept = hard_state.current_term >= message.term
            && match &message.body {
                Body::RequestVoteResponse(_, response) => {
                    !response.vote_granted || hard_state.voted_for == Some(message.to)
                }
                Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }) => {
                    disk.durable_term(*match_index).is_some_and(|term| disk.term(*match_index) == Ok(term))
                }
                _ => true,
            };
        if !kept {
            self.broken.get_or_insert(PROMISES);
        }
    }

    /// Whether the log is the same as what was committed, as far as both go.
    pub(crate) fn agrees(&self, log: &[Entry]) -> bool {
        log.iter().zip(&self.committed).all(|(entry, committed)| name(entry) == *committed)
    }
}

fn name(entry: &Entry) -> Name {
    (entry.term, entry.payload.kind(), Bytes::copy_from_slice(entry.payload.bytes()))
}
