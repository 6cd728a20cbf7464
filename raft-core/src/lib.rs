//! The Raft consensus protocol as a pure, deterministic step function.
#![no_std]

extern crate alloc;

mod action;
mod config;
mod error;
mod event;
mod message;
mod quorum;
mod state_machine;
mod storage;
mod transport;
mod types;

pub use action::{Action, HardState, RoleName, Write, WriteOp};
pub use config::Config;
pub use error::{ConfigError, Fault, Refusal, StorageError};
pub use event::Event;
pub use message::{
    AppendEntries, AppendEntriesResponse, Body, Heartbeat, HeartbeatResponse, Message, PreVote, PreVoteResponse,
    RequestVote, RequestVoteResponse,
};
pub use quorum::{Configuration, VoteResult};
pub use state_machine::{Position, RestoreError, StateMachine};
pub use storage::{MemStorage, SnapshotMeta, Storage};
pub use transport::Transport;
pub use types::{Digest, Entries, Entry, LogIndex, NodeId, Payload, ReadId, Term, WriteId};
