//! raft-kv

mod block;
mod block_log;
mod disk;

pub use block::{Block, ClusterId, GENESIS_KIND, Genesis, link};
pub use block_log::{BlockLog, OpenError};
pub use disk::{Disk, DiskError, FileDisk, MemDisk};
