//! Tests of the simulator's parts against what they stand for.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod disk;
mod linearizability;
mod transport;
