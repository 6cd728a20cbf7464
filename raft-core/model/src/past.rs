//! What has been promised so far, by whoever it was: what the properties hold every later state against.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{AppendEntriesResponse, Body, Entry, Message, NodeId, Payload, RoleName, Storage, Term};

use crate::SERVERS;
use crate::disk::Disk;
use crate::properties::{COMMIT_EVIDENCE, PROMISES};
use crate::state::{Server, State, digest};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// Who has led, in which term.
    pub(crate) leaders: Vec<(Term, NodeId)>,
    /// The first commit seen at each index.
    pub(crate) committed: Vec<(Term, Bytes)>,
    /// Entries were removed from some log.
    pub(crate) replaced: bool,
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

    pub(crate) fn note_commits(&mut self) {
        for server in &self.servers {
            let commit = server.node.commit_index().0 as usize;
            if commit <= self.past.committed.len() {
                continue;
            }
            for entry in &server.log()[self.past.committed.len()..commit] {
                let holds = |server: &&Arc<Server>| server.node.storage().durable_term(entry.index) == Some(entry.term);
                if self.servers.iter().filter(holds).count() <= SERVERS as usize / 2 {
                    self.past.broken.get_or_insert(COMMIT_EVIDENCE);
                }
                self.past.committed.push(name(entry));
            }
        }
    }

    /// Takes answers to `at` off the network that name a term which it has durably left.
    pub(crate) fn drop_dead_letters(&mut self, at: usize) {
        let server = Arc::clone(&self.servers[at]);
        let durable = server.node.storage().durable_hard_state().current_term;
        let is_dead = |message: &Message| match &message.body {
            Body::PreVoteResponse(response) => response.next_term <= durable && message.term <= durable,
            Body::RequestVoteResponse(_) | Body::AppendEntriesResponse(_) | Body::HeartbeatResponse(_) => {
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
                Body::RequestVoteResponse(response) => {
                    !response.vote_granted || hard_state.voted_for == Some(message.to)
                }
                Body::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }) => {
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

/// What tells entries apart, whatever their index.
fn name(entry: &Entry) -> (Term, Bytes) {
    let command = if let Payload::Command(command) = &entry.payload { command.clone() } else { Bytes::new() };
    (entry.term, command)
}
