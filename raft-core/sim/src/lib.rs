//! A simulator that finds bugs: whole servers on a simulated network, disk and clock, every fault, from one seed.

mod disk;
pub mod linearizability;
mod minimize;
mod network;
mod oracle;
pub mod plan;
mod report;
mod simulation;
pub mod story;
mod time;
pub mod workload;
mod world;

pub use disk::SimDisk;
pub use minimize::{Progress, minimize};
pub use network::{Arrivals, FaultId, Network, Outbox, wire_bytes};
pub use oracle::{Applied, Oracle, Watched, WatchedMachine};
pub use report::{Failure, Report};
pub use simulation::{Builder, Founding, OpenStorage, Simulation};
pub use story::{Happening, What};
pub use time::{Rng, Time, between, chance, exponential, rng};
pub use workload::kv::KvWorkload;
pub use workload::{Call, Io, ModelledWorkload, Name, Protocol, Workload};
