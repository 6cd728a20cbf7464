//! Real servers over real sockets on loopback: every server has a thread of its own, as it has a process of its own in
//! earnest. Tests wait for conditions, never for time to pass.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod chain;
mod cluster;
mod disk;
mod faults;
mod hints;
mod history;
mod members;
mod mend;
mod sharing;
mod story;
mod suite;
