//! Seeded bugs are live: each changes what a node does in a place where that breaks a rule, and none does unless it is
//! selected. Only with the feature `seeded-bugs`; one test, for what is selected is so in the whole process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use raft_core::seeded::{Bug, select};
use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Entries, Entry, Event, HardState,
    HeartbeatResponse, Incarnation, Lease, LogIndex, MemStorage, Message, Node, NodeId, Payload, PreVoteResponse,
    ReadId, ReadKind, RequestVote, RequestVoteResponse, Storage, Term,
};

const UNKNOWN: Incarnation = Incarnation::UNKNOWN;

/// A bug, and whether its rule is broken now.
type Case = (Bug, fn() -> bool);

/// Server 1, and whether its writes become durable at once.
struct Server {
    node: Node<MemStorage>,
    syncs: bool,
}

impl Server {
    /// Of so many voters, in term 1 with entries of these terms.
    fn new(voters: u32, terms: &[u64]) -> Self {
        Self::with_config(Config::new(NodeId(1)), voters, terms)
    }

    fn with_config(config: Config, voters: u32, terms: &[u64]) -> Self {
        let entries = terms.iter().zip(1..);
        let entries = entries.map(|(term, index)| entry(index, *term)).collect();
        let hard_state = HardState { current_term: Term(1), voted_for: None };
        let storage = MemStorage::with_log(Configuration::new((1..=voters).map(NodeId)), hard_state, entries).unwrap();
        Self { node: Node::new(config, storage).unwrap(), syncs: true }
    }

    /// The leader of term 2, with its no-op where `syncs` says.
    fn leading(voters: u32, syncs: bool) -> Self {
        let mut server = Self::new(voters, &[]);
        server.win(voters, syncs);
        server
    }

    /// Of three, the leader of term 2 with a lease of fourteen ticks for each heartbeat, which has committed its no-op and
    /// has just sent heartbeats, round 1.
    fn leasing() -> Self {
        let config = Config { lease: Some(Lease { drift_ticks: 1 }), ..Config::new(NodeId(1)) };
        let (timeout, heartbeat) = (config.election_timeout_ticks, config.heartbeat_ticks);
        let mut server = Self::with_config(config, 3, &[]);
        // It has started in term 1: it may have promised until then.
        server.tick(timeout);
        server.win(3, true);
        server.hear(2, 2, accepted(1));
        server.step(Event::Applied(LogIndex(1)));
        server.tick(heartbeat);
        server
    }

    fn win(&mut self, voters: u32, syncs: bool) {
        self.step(Event::Campaign);
        let next_term = Term(2);
        for voter in 2..=voters / 2 + 1 {
            let response = PreVoteResponse { next_term, vote_granted: true };
            self.hear(voter, 1, Body::PreVoteResponse(UNKNOWN, response));
        }
        self.syncs = syncs;
        for voter in 2..=voters / 2 + 1 {
            self.hear(voter, 2, Body::RequestVoteResponse(UNKNOWN, RequestVoteResponse { vote_granted: true }));
        }
    }

    fn tick(&mut self, times: u32) {
        for _ in 0..times {
            self.step(Event::Tick);
        }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let (mut events, mut all) = (vec![event], Vec::new());
        while let Some(event) = events.pop() {
            let actions = self.node.step(event);
            for action in &actions {
                if let Action::Persist(write) = action {
                    self.node.storage_mut().write(write.clone()).unwrap();
                    if self.syncs {
                        events.push(Event::Persisted(write.id));
                    }
                }
            }
            all.extend(actions);
        }
        all
    }

    fn hear(&mut self, from: u32, term: u64, body: Body) -> Vec<Action> {
        self.step(Event::Message(Message { from: NodeId(from), to: NodeId(1), term: Term(term), body }))
    }

    fn is_granted(&mut self, last_log_index: u64, last_log_term: u64) -> bool {
        let (last_log_index, last_log_term) = (LogIndex(last_log_index), Term(last_log_term));
        let request =
            RequestVote { last_log_index, last_log_term, leadership_transfer: false, voter: Incarnation::UNKNOWN };
        let answers = self.hear(2, 3, Body::RequestVote(request));
        answers.iter().any(|action| {
            matches!(action, Action::Send(Message { body: Body::RequestVoteResponse(_, response), .. }) if response.vote_granted)
        })
    }

    /// What an append of the leader of term 3 after this entry of term 1 is answered with.
    fn acknowledged(&mut self, after: u64, entries: Entries) -> Option<LogIndex> {
        let request = AppendEntries {
            prev_log_index: LogIndex(after),
            prev_log_term: Term(u64::from(after > 0)),
            prev_log_hash: None,
            leader_commit: LogIndex(9),
            entries,
        };
        let answers = self.hear(2, 3, Body::AppendEntries(request));
        answers.iter().find_map(|action| match action {
            Action::Send(Message {
                body: Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }),
                ..
            }) => Some(*match_index),
            _ => None,
        })
    }

    fn commit(&self) -> u64 {
        self.node.commit_index().0
    }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index: LogIndex(index), term: Term(term), payload: Payload::Command("x".into()) }
}

/// The highest index of which the voters 1 to `voters` have this much.
fn committed(voters: u32, has: &[u64]) -> u64 {
    let of = |id: NodeId| has.get(id.0 as usize - 1).map_or(LogIndex(0), |index| LogIndex(*index));
    Configuration::joint((1..=voters).map(NodeId), [], [NodeId(voters + 1)]).committed_index(of).0
}

fn accepted(match_index: u64) -> Body {
    Body::AppendEntriesResponse(UNKNOWN, AppendEntriesResponse::Accepted { match_index: LogIndex(match_index) })
}

#[test]
fn a_bug_breaks_its_rule_and_only_where_it_is_selected() {
    let breaks: &[Case] = &[
        (Bug::Canary, || Server::leading(3, true).commit() > 0),
        (Bug::AnyLogWins, || Server::new(3, &[1, 1]).is_granted(0, 0)),
        (Bug::LongerLogWins, || Server::new(3, &[1]).is_granted(5, 0)),
        (Bug::MessageBeforeHardState, || Server { syncs: false, ..Server::new(3, &[]) }.is_granted(0, 0)),
        (Bug::OwnUnflushedCounts, || {
            let mut leader = Server::leading(3, false);
            leader.hear(2, 2, accepted(1));
            leader.commit() > 0
        }),
        (Bug::CommitPastVerified, || {
            let mut follower = Server::new(3, &[1, 1]);
            follower.acknowledged(3, [].into());
            follower.commit() > 0
        }),
        (Bug::OwnTailAcknowledged, || {
            Server::new(3, &[1, 1, 1]).acknowledged(1, [entry(2, 3)].into()) == Some(LogIndex(3))
        }),
        (Bug::ShortAppendTruncates, || {
            let mut follower = Server::new(3, &[1, 1]);
            follower.acknowledged(1, [].into());
            follower.node.status().last_index < LogIndex(2)
        }),
        (Bug::AcknowledgedBeforeDurable, || {
            let mut follower = Server::new(3, &[]);
            follower.acknowledged(0, [].into());
            follower.syncs = false;
            follower.acknowledged(0, [entry(1, 3)].into()).is_some()
        }),
        (Bug::ReadUnconfirmed, || {
            let mut leader = Server::leading(3, true);
            leader.hear(2, 2, accepted(1));
            leader.step(Event::Applied(LogIndex(1)));
            let answers = leader.step(Event::Read(ReadId(7)));
            answers.iter().any(|action| matches!(action, Action::ReadReady { .. }))
        }),
        (Bug::LeaseFromAnswer, || {
            let mut leader = Server::leasing();
            leader.tick(11);
            leader.hear(2, 2, Body::HeartbeatResponse(UNKNOWN, HeartbeatResponse { round: 1 }));
            leader.tick(3);
            let answers = leader.step(Event::Read(ReadId(7)));
            answers.iter().any(|action| matches!(action, Action::ReadReady { kind: ReadKind::Lease, .. }))
        }),
        (Bug::TwoOfFiveCommit, || committed(5, &[0, 4, 4, 0, 0]) > 0),
        (Bug::HalfIsQuorum, || committed(4, &[4, 4, 0, 0]) > 0),
        (Bug::LearnersCount, || committed(3, &[4, 0, 0, 4]) > 0),
    ];
    for (bug, is_broken) in breaks {
        select(None);
        assert!(!is_broken(), "{bug:?} is not selected");
        select(Some(*bug));
        assert!(is_broken(), "{bug:?} is selected");
    }
    select(None);
}
