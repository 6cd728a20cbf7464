//! The Raft consensus protocol as a pure, deterministic step function: [`Node::step`] takes one [`Event`] and returns
//! [`Action`]s. No I/O, no clock, no entropy, no panics; `no_std` with `alloc`.
//!
//! Raft keeps a log of entries equal on several servers, so that a [`StateMachine`] fed from it gives the same answers
//! on each, as long as a majority of them is alive. One server at a time leads: it appends what clients propose, sends
//! it to the others, and commits what a majority holds durably.
//!
//! # The contract
//!
//! **Perform each action as soon as you like, in the order given, and report each [`Write`] once it is durable.**
//! That is all. Nothing that promises durability is handed out before the [`Event::Persisted`] that makes it true, so a
//! caller with a writer thread reports later, and a synchronous one at once:
//!
//! ```
//! use raft_core::{Action, Config, Configuration, Event, MemStorage, Node, NodeId, Storage};
//!
//! let mut node = Node::new(Config::new(NodeId(1)), MemStorage::new(Configuration::new([NodeId(1)])))?;
//! let mut applied = Vec::new();
//! let mut events = vec![Event::Campaign, Event::Propose(vec!["hello".into()])];
//! while !events.is_empty() {
//!     for action in node.step(events.remove(0)) {
//!         match action {
//!             Action::Send(message) => { /* the transport's work; it may lose it */ }
//!             Action::Persist(write) => {
//!                 let id = write.id;
//!                 node.storage_mut().write(write)?;
//!                 events.insert(0, Event::Persisted(id)); // once durable
//!             }
//!             Action::Apply { first, last } => {
//!                 applied.extend(node.entries(first, last)?.iter().map(|entry| entry.payload.clone()));
//!                 events.push(Event::Applied(last));
//!             }
//!             _ => {} // answers to proposals and reads, and notices
//!         }
//!     }
//! }
//! assert_eq!(applied.len(), 2, "the leader's no-op and the proposal");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Replica`] is that loop written once: it adds the state machine, batches the commands that arrive together, and
//! answers every client exactly once. Most users need it, a [`Storage`], a [`Transport`], and a [`StateMachine`] of
//! their own.
//!
//! # From the paper to the file
//!
//! | Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" | here |
//! |---|---|
//! | §5.1 terms; Figure 2, "All Servers" | `term.rs` |
//! | Figure 4, the roles; Figure 2, the state | `role.rs`, `node.rs` |
//! | §5.2 leader election, §5.4.1 election restriction; Figure 2, `RequestVote`; dissertation §9.6, pre-vote | `election.rs` |
//! | §5.3 log replication, §5.4.2 commitment, Figure 8; Figure 2, `AppendEntries` | `replication.rs` |
//! | §5.2 heartbeats | `heartbeat.rs` |
//! | Figure 2, `nextIndex[]` and `matchIndex[]` | `progress.rs` |
//! | Figure 2, `log[]`, `commitIndex`, `lastApplied` | `log.rs` |
//! | Figure 2, "updated on stable storage before responding" | `gate.rs` |
//! | §5.5 crashes; what is kept over them | `storage.rs` |
//! | §5.6 timing and availability | `config.rs` |
//! | §6 cluster membership changes: joint consensus, learners (dissertation §4.2.1) | `membership.rs` |
//! | a server that lost its disk (not in the paper) | `incarnation.rs`, `member.rs` |
//! | majorities; §6, joint majorities | `quorum.rs` |
//! | §7 log compaction; Figure 13, `InstallSnapshot` | `snapshot.rs`, `replica/snapshot.rs` |
//! | §8 client interaction: each request answered once | `replica.rs`, `request.rs` |
//! | dissertation §3.10, leadership transfer | `transfer.rs` |
//! | §8 read-only operations; dissertation §6.4, on the leader and on followers | `read_index.rs`, `follower_read.rs` |
//! | dissertation §6.4.1, leases | `lease.rs` |
//! | whether all replicas have one state (not in the paper) | `state_digest.rs`, `replica/digests.rs` |
//! | Figure 3, the safety properties | `invariants.rs`, `tests/it/safety.rs` |
//!
//! Who implements [`Storage`] or [`Transport`] holds it against its contract in one line: the feature `suite`. The features
//! `marks` and `seeded-bugs` are for a simulator: which subtle branches it reaches, and whether it finds bugs at all.
#![no_std]

extern crate alloc;

#[macro_use]
mod hooks;

mod action;
mod batch;
mod config;
mod election;
mod error;
mod event;
mod follower_read;
mod gate;
mod heartbeat;
mod incarnation;
#[cfg(debug_assertions)]
mod invariants;
mod lease;
mod log;
#[cfg(feature = "marks")]
pub mod marks;
mod member;
mod membership;
mod message;
mod node;
mod progress;
mod quorum;
mod read_index;
mod replica;
mod replication;
mod request;
mod role;
#[cfg(feature = "seeded-bugs")]
pub mod seeded;
mod snapshot;
mod state_digest;
mod state_machine;
mod status;
mod storage;
#[cfg(feature = "suite")]
pub mod suite;
mod term;
mod transfer;
mod transport;
mod types;

pub use action::{Action, HardState, ReadKind, RoleName, Write, WriteOp};
pub use batch::{Batch, Commands};
pub use bytes::Bytes;
pub use config::{Config, Lease};
pub use error::{ConfigError, Fault, PeerFault, Refusal, StartError, StorageError};
pub use event::{Event, MembershipChange};
pub use member::Member;
pub use message::{
    AppendEntries, AppendEntriesResponse, Body, Heartbeat, HeartbeatResponse, InstallSnapshotResponse, Message,
    PreVote, PreVoteResponse, ReadIndex, ReadIndexResponse, ReadToken, RequestVote, RequestVoteResponse,
};
pub use node::Node;
pub use progress::{Progress, ProgressState};
pub use quorum::{Configuration, VoteResult};
pub use replica::Replica;
pub use request::{Limits, Outcome, QUERY_COST, Reply, RequestId};
pub use state_digest::{StateDigest, StateReport};
pub use state_machine::{Position, RestoreError, StateMachine};
pub use status::Status;
pub use storage::{MemStorage, Snapshot, SnapshotChunk, SnapshotMeta, Storage};
pub use transport::Transport;
pub use types::{Digest, Entries, Entry, Incarnation, LogIndex, NodeId, Payload, ReadId, Term, WriteId};

/// The README's program, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
