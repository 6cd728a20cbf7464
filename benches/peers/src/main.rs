//! What a committed entry costs in the protocol alone, here and in other libraries, in one run: one thread, no disk, no
//! network.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`
//!
//! A round hands one batch to the leader, then every replica takes all that was sent in the round before; at most eight
//! batches are under way. An entry counts once it is applied on all replicas, each of which holds that every entry comes
//! once and in its place. Elections and ticks are outside the clock, which is this thread's own time; payloads are fresh
//! `Bytes`, made inside of it; logs are compacted as they go. The passes of all peers are interleaved, and the median counts.
//!
//! Encoded, every message is written and read by the codec that is natural to its library (protobuf for raft-rs, ours as
//! `raft-net-tcp` frames it, bincode for the others), and its bytes are copied once, as by a socket.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark fails by panicking")]

use std::alloc::System;
use std::path::PathBuf;
use std::time::Duration;

use alloc_tracker::Allocator;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cluster::{COMPACT_EVERY, Cell, Cluster};
use crate::drive::Driven;
use crate::table::{Row, median};

mod cluster;
mod codec;
mod drive;
mod floor;
mod network;
mod omni;
mod open;
mod ours;
mod raft_rs;
mod table;

/// Counts, at some two nanoseconds an allocation; all peers pay them.
#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

/// Measures consensus libraries side by side.
#[derive(Parser)]
struct Arguments {
    /// Replicas of a cluster.
    #[arg(long, value_delimiter = ',', default_value = "3,5")]
    replicas: Vec<usize>,
    /// Entries that are handed to the leader at once.
    #[arg(long, value_delimiter = ',', default_value = "1,16,256")]
    batch: Vec<usize>,
    /// Bytes of an entry's payload; at least 16.
    #[arg(long, value_delimiter = ',', default_value = "16,256,4096")]
    payload: Vec<usize>,
    /// Passes of each peer in each cell.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Milliseconds of a pass.
    #[arg(long, default_value_t = 20)]
    milliseconds: u64,
    /// Only these peers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only with messages as bytes; `--encoded=false`: only without. Both, where this is not said.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    encoded: Option<bool>,
    /// Writes every figure there, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Somebody to be measured.
struct Peer {
    name: &'static str,
    /// One of those that the others are compared with.
    is_library: bool,
    cluster: fn(Cell) -> Box<dyn Cluster>,
}

const PEERS: [Peer; 7] = [
    Peer { name: "ours", is_library: false, cluster: |cell| Box::new(ours::Ours::new(cell, false)) },
    Peer { name: "ours-chained", is_library: false, cluster: |cell| Box::new(ours::Ours::new(cell, true)) },
    Peer { name: "raft-rs", is_library: true, cluster: |cell| Box::new(raft_rs::RaftRs::new(cell, false)) },
    Peer { name: "raft-rs-tuned", is_library: true, cluster: |cell| Box::new(raft_rs::RaftRs::new(cell, true)) },
    Peer { name: "omnipaxos", is_library: true, cluster: |cell| Box::new(omni::Omni::new(cell)) },
    Peer { name: "openraft", is_library: true, cluster: |cell| Box::new(open::Open::new(cell)) },
    Peer { name: "floor", is_library: false, cluster: |cell| Box::new(floor::Floor::new(cell)) },
];

impl Arguments {
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for replicas in self.replicas.iter().copied() {
            for encoded in [false, true].into_iter().filter(|encoded| self.encoded.is_none_or(|only| only == *encoded))
            {
                for payload in self.payload.iter().copied() {
                    cells.extend(self.batch.iter().map(|batch| Cell { replicas, batch: *batch, payload, encoded }));
                }
            }
        }
        cells
    }

    fn peers(&self) -> Vec<&'static Peer> {
        let is_meant = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        PEERS.iter().filter(|peer| is_meant(peer.name)).collect()
    }
}

/// Measures all peers in one cell, in turns.
fn measure(arguments: &Arguments, cell: Cell, progress: &ProgressBar) -> Vec<Row> {
    let peers = arguments.peers();
    let mut driven: Vec<Driven> = peers.iter().map(|peer| Driven::new(cell, (peer.cluster)(cell))).collect();
    let mut passes = vec![Vec::new(); peers.len()];
    for _ in 0..arguments.rounds {
        for ((peer, driven), passes) in peers.iter().zip(&mut driven).zip(&mut passes) {
            progress.set_message(peer.name);
            passes.push(driven.pass(Duration::from_millis(arguments.milliseconds)));
            progress.inc(1);
        }
    }
    let row = |((peer, driven), passes): ((&&Peer, &mut Driven), &Vec<drive::Pass>)| Row {
        cell,
        peer: peer.name,
        is_library: peer.is_library,
        nanoseconds: median(passes.iter().map(|pass| pass.nanoseconds)),
        passes: passes.iter().map(|pass| pass.nanoseconds).collect(),
        messages: median(passes.iter().map(|pass| pass.messages)),
        allocations: driven.count_allocations(4 * COMPACT_EVERY),
        ratio: None,
    };
    let mut rows: Vec<Row> = peers.iter().zip(&mut driven).zip(&passes).map(row).collect();
    table::compare(&mut rows);
    rows
}

fn main() {
    let arguments = Arguments::parse();
    let known = |name: &String| PEERS.iter().any(|peer| peer.name == name);
    let fits = arguments.rounds > 0
        && arguments.only.iter().all(known)
        && arguments.replicas.iter().all(|replicas| *replicas >= 2)
        && arguments.batch.iter().all(|batch| *batch >= 1)
        && arguments.payload.iter().all(|bytes| *bytes >= 16);
    if !fits {
        let names = PEERS.map(|peer| peer.name).join(", ");
        eprintln!("at least 1 round, 2 replicas, a batch of 1 and 16 bytes of payload; peers are {names}");
        std::process::exit(2);
    }
    let cells = arguments.cells();
    let passes = cells.len() * arguments.peers().len() * arguments.rounds;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} passes, {eta} left: {msg}").unwrap();
    let progress = ProgressBar::new(passes as u64).with_style(style);
    let rows: Vec<Row> = cells.into_iter().flat_map(|cell| measure(&arguments, cell, &progress)).collect();
    progress.finish_and_clear();
    print!("{}", table::text(&rows));
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a peer do its work, and long enough that its logs are compacted; a replica that does not fails by panicking.
    fn drive(name: &str) {
        let peer = PEERS.iter().find(|peer| peer.name == name).unwrap();
        for (replicas, batch, payload, entries) in [(3, 16, 256, 2 * COMPACT_EVERY), (5, 1, 16, 100)] {
            for encoded in [false, true] {
                let cell = Cell { replicas, batch, payload, encoded };
                let mut driven = Driven::new(cell, (peer.cluster)(cell));
                let pass = driven.pass(Duration::from_millis(1));
                assert!(pass.messages > 0.0 && pass.nanoseconds > 0.0, "{pass:?}");
                assert!(driven.count_allocations(entries) > 1.0);
            }
        }
    }

    #[test]
    fn ours_applies_every_entry() {
        drive("ours");
        drive("ours-chained");
    }

    #[test]
    fn raft_rs_applies_every_entry() {
        drive("raft-rs");
        drive("raft-rs-tuned");
    }

    #[test]
    fn omnipaxos_applies_every_entry() {
        drive("omnipaxos");
    }

    #[test]
    fn openraft_applies_every_entry() {
        drive("openraft");
    }

    #[test]
    fn the_floor_applies_every_entry() {
        drive("floor");
    }

    #[test]
    fn the_arguments_are_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        let cells = |arguments: &[&str]| Arguments::parse_from(arguments).cells().len();
        assert_eq!(cells(&["peers"]), 36);
        assert_eq!(cells(&["peers", "--encoded", "--replicas", "3"]), 9);
        assert_eq!(cells(&["peers", "--encoded=false", "--batch", "16,256", "--payload", "16"]), 4);
    }
}
