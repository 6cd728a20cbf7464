//! Tests of the protocol over a whole group of nodes in memory.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod addresses;
mod cluster;
mod compaction;
mod determinism;
mod hostile;
mod incarnations;
mod limits;
mod new_voters;
mod paper;
mod random;
mod reads;
mod regressions;
mod replaced;
mod replica;
mod safety;
mod script;
mod snapshots;
mod state_digests;
mod suite_catches;
mod suite_passes;
mod taking;
mod toy;
mod transfer;
mod watched;
mod wipes;
