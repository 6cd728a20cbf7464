//! raft-kv

mod block;
mod disk;

pub use block::{Block, ClusterId, GENESIS_KIND, Genesis, link};
pub use disk::{Disk, DiskError, FileDisk, MemDisk};
