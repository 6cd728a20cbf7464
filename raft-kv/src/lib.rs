//! What the Raft cluster of `raft-core` keeps and does here: a log that is a chain of blocks linked by hash, on real
//! files, and a key-value machine that applies every client's write exactly once.
//!
//! | module | one concept |
//! |---|---|
//! | `block.rs` | a block: what is hashed, and the genesis that carries the cluster's id |
//! | `block_log.rs` | [`BlockLog`]: the `Storage` over segment files: format, recovery, verification |
//! | [`inspect`] | what a directory holds, and everything that is wrong with it |
//! | `disk.rs` | [`Disk`]: the directory that it writes through, real or in memory |
//! | `command.rs` | what clients write and ask, and what they are told |
//! | `session.rs` | a client's writes, each applied once |
//! | `crc.rs` | the checksum of files and frames |
//! | `sum.rs` | a sum over the parts of a state, for its digest |
//! | `machine.rs` | [`KvMachine`]: the `StateMachine` over both |
//! | [`literal`] | Python literals: keys and values as people write them |
//! | [`proof`] | a Merkle tree over the chain: that a block is in it, that it goes on from an older one |
//! | [`recording`] | a node's run, recorded and replayed |
//! | [`codec`] | the only place that names the serialization format |

mod block;
mod block_log;
pub mod codec;
mod command;
mod crc;
mod disk;
pub mod literal;
mod machine;
pub mod proof;
pub mod recording;
mod session;
mod sum;

pub use block::{Block, ClusterId, GENESIS_KIND, Genesis, link};
pub use block_log::{BlockLog, LogOptions, OpenError, Scrubbed, inspect, repair, scrub};
pub use codec::CodecError;
pub use command::{
    Command, KEY_BYTES_MAX, Key, OUTSTANDING_MAX, Operation, Outcome, Pair, QUERIES_MAX, Query, QueryReply, Reply,
    RequestId, SCAN_BYTES_MAX, SCAN_PAIRS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_OPERATIONS_MAX, VALUE_BYTES_MAX,
    Value,
};
pub use disk::{Change, Disk, DiskError, FileDisk, MemDisk};
pub use machine::{KvMachine, SameValue};
pub use session::{Session, SessionLimits};
