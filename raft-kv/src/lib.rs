//! raft-kv

pub mod codec;
mod command;
pub mod literal;
mod machine;
mod session;

pub use codec::CodecError;
pub use command::{
    Command, KEY_BYTES_MAX, Key, OUTSTANDING_MAX, Operation, Outcome, Pair, Query, QueryReply, Reply, RequestId,
    SCAN_BYTES_MAX, SCAN_PAIRS_MAX, VALUE_BYTES_MAX, Value,
};
pub use machine::{KvMachine, SameValue};
pub use session::{Session, SessionLimits};
