//! What the benchmarks of the workspace share.
//!
//! | module | one concept |
//! |---|---|
//! | [`group`] | nodes in memory, one thread, no disk and no network |
//! | [`served`] | one server on a real disk, without sockets |
//! | [`material`] | keys, values, commands and messages to work with |
//! | [`figures`] | medians and quantiles, times of this thread, bars |
//! | [`plot`] | a chart as SVG |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark fails by panicking")]

pub mod figures;
pub mod group;
pub mod material;
pub mod plot;
pub mod served;
