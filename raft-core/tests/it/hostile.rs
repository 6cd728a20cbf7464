//! Peers that say anything: whatever arrives, the node neither panics nor breaks its own state (checked after every step
//! in this build), and it answers or names what it drops.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Digest, Entry, Event, HardState,
    Heartbeat, HeartbeatResponse, Incarnation, InstallSnapshotResponse, LogIndex, MemStorage, MembershipChange,
    Message, Node, NodeId, Payload, PreVote, PreVoteResponse, ReadId, RequestVote, RequestVoteResponse, SnapshotChunk,
    SnapshotMeta, StateDigest, StateReport, Storage, Term,
};

use crate::cluster::{Disk, entries};

fn index() -> impl Strategy<Value = LogIndex> {
    prop_oneof![20 => 0_u64..9, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)].prop_map(LogIndex)
}

fn term() -> impl Strategy<Value = Term> {
    prop_oneof![20 => 0_u64..6, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)].prop_map(Term)
}

fn digest() -> impl Strategy<Value = Option<Digest>> {
    prop::option::of((0_u8..3).prop_map(|byte| Digest([byte; 32])))
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let ids = || prop::collection::vec((0_u32..5).prop_map(NodeId), 0..4);
    let pins = prop::collection::vec((0_u32..5, incarnation()), 0..4);
    (ids(), ids(), ids(), pins).prop_map(|(voters, outgoing, learners, pins)| {
        let members = Configuration::joint(voters, outgoing, learners);
        pins.into_iter().fold(members, |members, (id, pin)| members.with_incarnation(NodeId(id), pin))
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Noop),
        Just(Payload::Command(Bytes::from_static(b"x"))),
        configuration().prop_map(|configuration| Payload::Configuration(configuration.to_bytes().into())),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Payload::Configuration(bytes.into())),
    ]
}

/// Mostly consecutive, as a peer would send them; sometimes anything.
fn run() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (index(), term(), payload()).prop_map(|(index, term, payload)| Entry { index, term, payload });
    let consecutive =
        (0_u64..6, 0_u64..4, prop::collection::vec(payload(), 0..4)).prop_map(|(prev, term, payloads)| {
            let entry = |(payload, index)| Entry { index: LogIndex(index), term: Term(term), payload };
            payloads.into_iter().zip(prev + 1..).map(entry).collect()
        });
    prop_oneof![3 => consecutive, 1 => prop::collection::vec(entry, 0..4)]
}

fn append() -> impl Strategy<Value = Body> {
    (index(), term(), digest(), index(), run()).prop_map(|(prev, prev_log_term, hash, leader_commit, entries)| {
        let before = entries.first().map_or(prev, |entry| LogIndex(entry.index.0.saturating_sub(1)));
        Body::AppendEntries(AppendEntries {
            prev_log_index: before,
            prev_log_term,
            prev_log_hash: hash.map(Into::into),
            leader_commit,
            entries: entries.into(),
        })
    })
}

fn chunk() -> impl Strategy<Value = Body> {
    let meta = (index(), term(), digest(), configuration(), digest());
    (meta, prop_oneof![0_u64..9, Just(u64::MAX)], prop::collection::vec(any::<u8>(), 0..4), any::<bool>()).prop_map(
        |((last_included_index, last_included_term, digest, configuration, state), offset, data, done)| {
            let meta = SnapshotMeta { last_included_index, last_included_term, digest, configuration, state };
            Body::InstallSnapshot(SnapshotChunk { meta, offset, data: data.into(), done }.into())
        },
    )
}

fn append_response() -> impl Strategy<Value = AppendEntriesResponse> {
    prop_oneof![
        index().prop_map(|match_index| AppendEntriesResponse::Accepted { match_index }),
        (index(), index(), term()).prop_map(|(prev_log_index, hint_index, hint_term)| {
            AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term }
        }),
        index().prop_map(|prev_log_index| AppendEntriesResponse::Diverged { prev_log_index }),
    ]
}

/// The server's own is 1; it knows its peers by what they say.
fn incarnation() -> impl Strategy<Value = Incarnation> {
    (0_u64..3).prop_map(Incarnation)
}

fn install_response() -> impl Strategy<Value = InstallSnapshotResponse> {
    (index(), 0_u64..9, any::<u64>()).prop_map(|(last_included_index, offset, next_offset)| InstallSnapshotResponse {
        last_included_index,
        offset,
        next_offset,
    })
}

fn state_report() -> impl Strategy<Value = StateReport> {
    (index(), 0_u8..3, any::<bool>()).prop_map(|(index, state, is_independent)| {
        let digest = StateDigest { index, state: Digest([state; 32]) };
        StateReport { digest, is_independent }
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => (term(), index(), term(), incarnation()).prop_map(|(next_term, last_log_index, last_log_term, voter)| {
            Body::PreVote(PreVote { next_term, last_log_index, last_log_term, voter })
        }),
        1 => (incarnation(), term(), any::<bool>()).prop_map(|(incarnation, next_term, vote_granted)| {
            Body::PreVoteResponse(incarnation, PreVoteResponse { next_term, vote_granted })
        }),
        1 => (index(), term(), any::<bool>(), incarnation()).prop_map(|(last_log_index, last_log_term, leadership_transfer, voter)| {
            Body::RequestVote(RequestVote { last_log_index, last_log_term, leadership_transfer, voter })
        }),
        1 => (incarnation(), any::<bool>()).prop_map(|(incarnation, vote_granted)| {
            Body::RequestVoteResponse(incarnation, RequestVoteResponse { vote_granted })
        }),
        4 => append(),
        4 => (incarnation(), append_response()).prop_map(|(incarnation, response)| {
            Body::AppendEntriesResponse(incarnation, response)
        }),
        1 => (index(), any::<u64>()).prop_map(|(leader_commit, round)| Body::Heartbeat(Heartbeat { leader_commit, round })),
        1 => (incarnation(), any::<u64>()).prop_map(|(incarnation, round)| {
            Body::HeartbeatResponse(incarnation, HeartbeatResponse { round })
        }),
        3 => chunk(),
        1 => (incarnation(), install_response()).prop_map(|(incarnation, response)| {
            Body::InstallSnapshotResponse(incarnation, response)
        }),
        1 => Just(Body::TimeoutNow),
        2 => state_report().prop_map(|report| Body::StateDigest(report.into())),
    ]
}

fn message() -> impl Strategy<Value = Event> {
    (0_u32..5, prop_oneof![9 => Just(1_u32), 1 => 0_u32..5], term(), body())
        .prop_map(|(from, to, term, body)| Event::Message(Message { from: NodeId(from), to: NodeId(to), term, body }))
}

fn event() -> impl Strategy<Value = Event> {
    let change = (0_u32..32, any::<bool>()).prop_map(|(mask, catch_up)| {
        let voters = (0..5).filter(|id| mask & (1 << id) != 0).map(NodeId).collect();
        Event::ChangeMembership(MembershipChange { voters, learners: Vec::new(), catch_up, addresses: Vec::new() })
    });
    prop_oneof![
        12 => message(),
        2 => Just(Event::Tick),
        1 => Just(Event::Campaign),
        1 => Just(Event::Propose(vec![Bytes::from_static(b"y")])),
        1 => (0_u64..9).prop_map(|read| Event::Read(ReadId(read))),
        1 => state_report().prop_map(Event::StateDigested),
        1 => change,
        1 => (0_u32..5).prop_map(|id| Event::TransferLeadership(NodeId(id))),
        1 => Just(Event::HandOver),
        1 => (0_u32..5).prop_map(|id| Event::Unreachable(NodeId(id))),
    ]
}

/// Steps, with every write durable at once; what is restored is refused every other time.
fn live<S: Storage>(mut node: Node<S>, events: Vec<Event>) {
    let mut refuse = false;
    for event in events {
        let mut due = VecDeque::from([event]);
        while let Some(event) = due.pop_front() {
            for action in node.step(event) {
                match action {
                    Action::Persist(write) => {
                        let id = write.id;
                        // A storage that links checks more than this one; nothing of ours may be out of order.
                        node.storage_mut().write(write).expect("our own writes are in order");
                        due.push_back(Event::Persisted(id));
                    }
                    Action::Apply { last, .. } => due.push_back(Event::Applied(last)),
                    Action::Restore(meta) => {
                        refuse = !refuse;
                        let index = meta.last_included_index;
                        due.push_back(if refuse { Event::RestoreFailed(index) } else { Event::Restored(index) });
                    }
                    _ => {}
                }
            }
        }
        if node.is_halted() {
            return;
        }
    }
}

proptest! {
    #[test]
    fn n2_whatever_peers_say_nothing_panics(terms in prop::collection::vec(1_u64..4, 0..6), events in prop::collection::vec(event(), 1..60), linked: bool) {
        let mut terms = terms;
        terms.sort_unstable();
        let hard_state = HardState { current_term: Term(terms.last().copied().unwrap_or(0)), voted_for: None };
        let voters = Configuration::new([1, 2, 3].map(NodeId));
        let storage = MemStorage::with_log(voters, hard_state, entries(&terms)).unwrap();
        let storage = storage.with_incarnation(Incarnation(1));
        let config = Config { tail_entries: 1, max_chunk_bytes: 2, max_inflight: 2, ..Config::new(NodeId(1)) };
        if linked {
            live(Node::new(config, Disk::new(storage)).unwrap(), events);
        } else {
            live(Node::new(config, storage).unwrap(), events);
        }
    }
}
