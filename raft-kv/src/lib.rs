//! raft-kv
