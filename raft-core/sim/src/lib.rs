//! A simulator that finds bugs: whole servers on a simulated network, disk and clock, every fault, from one seed.
//!
//! What runs is the real thing, minus sockets, threads and clocks: [`Replica`](raft_core::Replica) with its node,
//! [`BlockLog`](raft_kv::BlockLog) and [`KvMachine`](raft_kv::KvMachine) as they are in production, or your own
//! [`StateMachine`](raft_core::StateMachine) and [`Storage`](raft_core::Storage). One thread, no clock and no entropy but
//! the seed's: a run is a function of its [`Plan`](plan::Plan), and what breaks once breaks every time.
//!
//! ```
//! use raft_sim::Simulation;
//!
//! let report = Simulation::kv().run(7);
//! assert_eq!(report.failure, None, "replay it: cargo run --release -p raft-sim -- replay --seed 7");
//! ```
//!
//! # What is simulated
//!
//! Each seed draws a world of its own, and which of these go wrong in it (swarm testing).
//!
//! | what | how |
//! |---|---|
//! | cluster | 1 to 7 founding voters, servers that are added later, learners; small and large limits of every kind |
//! | links | latency, loss to 30 %, duplication to 50 %, reordering, limited capacity, messages seconds late; cuts one way or both, partitions with a bridge, chains, clogs |
//! | processes | crashes and quick restarts, at the beginning and the end of a write too; pauses (SIGSTOP) |
//! | clocks | drift, jumps |
//! | memories | bits that flip in a state, where servers compare theirs |
//! | disks | slow, stuck and failing writes, failing reads, a full disk; at a crash what was not synced is kept, cut, or has holes; bit rot; lost files |
//! | operator | membership changes, transfers, handovers, snapshots; replaces lost and damaged disks, one at a time, so that a quorum always has what it acknowledged |
//! | clients | sessions that retry, time out and change servers: put, get, delete, compare-and-swap, scan, transactions |
//! | healing | in the end all but a minority is whole: a leader is elected, everything asked is answered, logs become equal |
//!
//! What is not: sockets, frames, handshakes and their byte budgets (`raft-net-tcp` has tests of its own); threads; servers that
//! lie; damage that a quorum cannot outlive; leases where clocks drift or jump or somebody is paused, for no bound holds there;
//! memory that runs out.
//!
//! # What is checked
//!
//! Seventeen invariants after every input of every server: the table is in [`Oracle`]'s source, `oracle.rs`. The servers'
//! word is not trusted: a [`Watched`] storage and a [`WatchedMachine`] stand between them and what they use. Where
//! leases are on, nobody has one while another leads in a later term, or a quorum could elect one: before a read is stale.
//! What the clients were told must be [linearizable](linearizability).
//!
//! # Your own state machine
//!
//! Say how it is made, and what its clients do. For clients there is [`ModelledWorkload`]: it needs to know what the machine
//! is to do (a [`Model`](linearizability::Model)) and how that is said in bytes (a [`Protocol`]). Whatever else clients do
//! is a [`Workload`]. This is `examples/counter.rs`, whole:
//!
//! ```
#![doc = include_str!("../examples/counter.rs")]
//! ```
//!
//! In a test of yours, `run` a few hundred seeds and assert that `failure` is `None`; `faults(false)` leaves out all that a
//! young machine need not stand yet.
//!
//! # Your own storage
//!
//! Give a function that opens it: at each start of a server it gets the server's disk, which is empty the first time. A
//! storage that writes through [`Disk`](raft_kv::Disk) has every fault of [`SimDisk`] at no cost.
//!
//! ```
//! use raft_kv::{BlockLog, LogOptions};
//! use raft_sim::{Founding, SimDisk, Simulation};
//!
//! fn open(disk: SimDisk, founding: &Founding) -> Result<BlockLog<SimDisk>, String> {
//!     let members = founding.configuration.clone();
//!     let options = LogOptions { segment_bytes: founding.segment_bytes, archive: true };
//!     BlockLog::open_or_create(disk, founding.cluster, members, founding.incarnation, options)
//!         .map_err(|error| error.to_string())
//! }
//!
//! let report = Simulation::builder().storage(open).build().run(3);
//! assert_eq!(report.failure, None);
//! ```
//!
//! # When a run fails
//!
//! [`Report::failure`] names the rule that is broken, when and how. `simulation.run_plan(report.plan, true)` runs it again
//! with its story, which [`story::timeline`] prints and [`story::html`] draws; [`minimize`] makes the plan short first. For
//! the key-value store the command does all that: `raft-sim run --seeds 0..1000 --minimize`, `raft-sim replay --seed 7`. A plan
//! is data: keep it as JSON, change it by hand, or write one ([`Plan::calm`](plan::Plan::calm)) for the one fault that you
//! think of.
//!
//! This is `examples/broken.rs`, a counter whose reads change it, after `minimize`:
//!
//! ```text
#![doc = include_str!("../examples/broken.txt")]
//! ```
//!
//! How to read it: the last line says what is wrong, and the columns beside it what each server was and knew. Here two servers
//! that have applied the same entries differ, and nothing failed before: so the machine itself is to blame.

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
