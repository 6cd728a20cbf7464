//! What a step does to a server and to the network.

use std::sync::Arc;

use raft_core::{
    Action, AppendEntriesResponse, Body, Configuration, Entry, Event, Incarnation, Message, Payload, PreVoteResponse,
    Storage,
};

use crate::state::{Letter, Server, State};
use crate::{Cluster, Plant};

impl Cluster {
    pub(crate) fn deliver(&self, state: &mut State, message: &Message) {
        let mut message = message.clone();
        match &mut message.body {
            Body::RequestVoteResponse(_, response) if self.plant == Plant::GrantsEverything => {
                response.vote_granted = true;
            }
            Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index })
                if self.plant == Plant::AcceptsMore =>
            {
                *match_index = match_index.next();
            }
            Body::AppendEntries(request) if self.plant == Plant::SkipsJoint => {
                request.entries = request.entries.iter().map(without_joint).collect();
            }
            _ => {}
        }
        self.step(state, message.to.0 as usize - 1, message);
    }

    /// Gives a server an event and does what it asks for.
    pub(crate) fn step(&self, state: &mut State, at: usize, event: impl Into<Event>) {
        let mut node = state.servers[at].node.clone();
        let mut sent = Vec::new();
        let mut events = vec![event.into()];
        while let Some(event) = events.pop() {
            let last = node.storage().last_index();
            let actions = node.step(event);
            state.note_commits(self.founders, at, &node, last);
            for action in actions {
                match action {
                    Action::Send(message) if !self.bounds.pre_votes && matches!(message.body, Body::PreVote(_)) => {
                        events.push(Event::Message(pre_vote_granted(&message)));
                    }
                    Action::Send(mut message) => {
                        if let Body::RequestVote(request) = &mut message.body {
                            request.leadership_transfer |= !self.bounds.loyal;
                        }
                        state.past.check_promise(&message, node.storage());
                        sent.push(Letter::new(message));
                    }
                    Action::Persist(write) => node.storage_mut().write(write).unwrap(),
                    Action::Apply { last, .. } => events.push(Event::Applied(last)),
                    Action::Halt(fault) => panic!("server {} halts: {fault}", at + 1),
                    _ => {}
                }
            }
            let disk = node.storage_mut();
            if events.is_empty() && disk.pending() > 0 {
                if self.plant == Plant::ReportsEarly {
                    events.extend(disk.report_early().map(Event::Persisted));
                } else if !self.bounds.late_writes {
                    events.push(Event::Persisted(disk.persist(usize::MAX)));
                }
            }
        }
        state.past.replaced |= node.storage().truncated();
        state.past.took_back |= node.storage().took_back();
        state.servers[at] = Arc::new(Server::new(node));
        state.network.extend(sent);
        state.drop_dead_letters(at);
        state.network.sort_by_key(|letter| letter.digest);
        state.note_leaders();
    }

    pub(crate) fn persist(&self, state: &mut State, at: usize) {
        let mut node = state.servers[at].node.clone();
        let written = node.storage_mut().persist(1);
        state.servers[at] = Arc::new(Server::new(node));
        self.step(state, at, Event::Persisted(written));
    }
}

fn pre_vote_granted(request: &Message) -> Message {
    let granted = PreVoteResponse { next_term: request.term.next(), vote_granted: true };
    Message {
        from: request.to,
        to: request.from,
        term: request.term,
        body: Body::PreVoteResponse(Incarnation::UNKNOWN, granted),
    }
}

fn without_joint(entry: &Entry) -> Entry {
    let Payload::Configuration(bytes) = &entry.payload else { return entry.clone() };
    let joint = Configuration::from_bytes(bytes).unwrap();
    let left = Configuration::joint(joint.voters().to_vec(), [], joint.learners().to_vec());
    Entry { payload: Payload::Configuration(left.to_bytes().into()), ..entry.clone() }
}
