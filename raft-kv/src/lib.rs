//! raft-kv

pub mod literal;
