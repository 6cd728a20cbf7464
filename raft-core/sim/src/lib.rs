//! A simulator that finds bugs: whole servers on a simulated network, disk and clock, every fault, from one seed.

pub mod linearizability;
pub mod plan;
mod report;
mod story;
mod time;
mod workload;

pub use report::{Failure, Report};
pub use story::{Happening, What};
pub use time::{Rng, Time, between, chance, exponential, rng};
pub use workload::kv::KvWorkload;
pub use workload::{Call, Io, Workload};
