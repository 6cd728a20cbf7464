//! A simulator that finds bugs: whole servers on a simulated network, disk and clock, every fault, from one seed.

mod disk;
mod network;
mod oracle;
pub mod linearizability;
mod minimize;
pub mod plan;
mod report;
pub mod story;
mod time;
mod workload;

pub use disk::SimDisk;
pub use network::{Arrivals, FaultId, Network, Outbox, wire_bytes};
pub use oracle::{Applied, Oracle, Watched, WatchedMachine};
pub use minimize::{Progress, minimize};
pub use report::{Failure, Report};
pub use story::{Happening, What};
pub use time::{Rng, Time, between, chance, exponential, rng};
pub use workload::{Call, Io, Workload};
