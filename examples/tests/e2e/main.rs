//! End-to-end tests: the real binaries, real files, real sockets, `kill -9`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod chain;
mod commands;
mod damage;
mod demo;
mod failures;
mod history;
mod kills;
mod members;
mod readme;
mod record;
mod redis_clients;
mod redis_tools;
mod support;
