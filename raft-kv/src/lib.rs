//! raft-kv

pub mod codec;
