//! The Raft consensus protocol as a pure, deterministic step function.
#![no_std]

extern crate alloc;

mod action;
mod batch;
mod config;
mod election;
mod error;
mod event;
mod gate;
#[cfg(debug_assertions)]
mod invariants;
mod log;
mod message;
mod node;
mod progress;
mod quorum;
mod read_index;
mod replica;
mod replication;
mod role;
mod state_machine;
mod storage;
mod transport;
mod types;

pub use action::{Action, HardState, RoleName, Write, WriteOp};
pub use batch::{Batch, Commands};
pub use config::Config;
pub use error::{ConfigError, Fault, PeerFault, Refusal, StartError, StorageError};
pub use event::Event;
pub use message::{
    AppendEntries, AppendEntriesResponse, Body, Heartbeat, HeartbeatResponse, Message, PreVote, PreVoteResponse,
    RequestVote, RequestVoteResponse,
};
pub use node::{Node, Status};
pub use progress::{Progress, ProgressState};
pub use quorum::{Configuration, VoteResult};
pub use replica::{Limits, Outcome, Replica, Reply, RequestId};
pub use state_machine::{Position, RestoreError, StateMachine};
pub use storage::{MemStorage, SnapshotMeta, Storage};
pub use transport::Transport;
pub use types::{Digest, Entries, Entry, LogIndex, NodeId, Payload, ReadId, Term, WriteId};
