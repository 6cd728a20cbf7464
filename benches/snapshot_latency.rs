//! What a snapshot costs those who write meanwhile: one durable server, on a real disk, with clients in a closed loop.
//!
//! `cargo run --release -p raft-benches --example snapshot_latency -- --state-mib 1024`
//!
//! A `Replica` over a `BlockLog` on files and a `KvMachine` leads alone, so a put is committed when it is durable here. It
//! is filled with a state of that size; then each client puts 256 bytes under some key, again and again, first for a while
//! without a snapshot, then while one is taken. A latency is the time from the submission of a put to its reply.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark fails by panicking")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::ProgressBar;
use raft_benches::figures::bar;
use raft_benches::material::Draws;
use raft_benches::served::{Served, TICK};
use raft_core::{Action, Bytes, Config, Limits, NodeId, Outcome, RequestId};
use raft_kv::{Command, Key, Operation, Value};

/// Measures the latency of writes while a snapshot is taken.
#[derive(Parser)]
struct Arguments {
    /// Values in the state, together, in MiB.
    #[arg(long, default_value_t = 1024)]
    state_mib: u64,
    /// Clients, each with one put under way.
    #[arg(long, default_value_t = 1)]
    clients: u64,
    /// How long to measure without a snapshot, in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Bytes of a snapshot that are written with each tick of 20 ms, up to 64 KiB.
    #[arg(long, default_value_t = 64 << 10)]
    chunk_bytes: usize,
    /// Where the server's files are made, in a directory that is removed at the end.
    #[arg(long, default_value = "/tmp")]
    dir: PathBuf,
}

const VALUE_BYTES: u64 = 256;
/// The server, and its clients.
struct Bench {
    served: Served,
    keys: u64,
    clients: Vec<Client>,
    draws: Draws,
}

struct Client {
    session: u64,
    /// Of the write that is under way.
    number: u64,
    submitted: Instant,
}

impl Bench {
    fn new(arguments: &Arguments, dir: &std::path::Path) -> Self {
        let config = Config { max_chunk_bytes: arguments.chunk_bytes, ..Config::new(NodeId(1)) };
        let served = Served::new(dir, config, Limits::default()).unwrap();
        let mut bench =
            Self { served, keys: (arguments.state_mib << 20) / VALUE_BYTES, clients: Vec::new(), draws: Draws::new() };
        for client in 0..arguments.clients {
            let session = bench.served.open_session(client);
            bench.clients.push(Client { session, number: 0, submitted: Instant::now() });
        }
        bench
    }

    /// The client's next write.
    fn write(&mut self, client: u64, operation: Operation) {
        let at = &mut self.clients[usize::try_from(client).unwrap()];
        at.number += 1;
        let request = raft_kv::RequestId { client, session: at.session, number: at.number };
        let command = Command::Write { request, acknowledged: at.number - 1, operation };
        at.submitted = Instant::now();
        self.served.replica.submit(RequestId(client), &command.encode());
    }

    fn put(&mut self, key: u64) -> Operation {
        let value: Vec<u8> = (0..VALUE_BYTES / 8).flat_map(|_| self.draws.draw().to_le_bytes()).collect();
        let key = Key { canonical: Bytes::from(format!("key-{key:012}")), literal: None };
        Operation::Put { key, value: Value(value.into()) }
    }

    /// A key after the other, many in a write and many writes at once.
    fn fill(&mut self) {
        const WRITES: u64 = 16;
        let (bar, mut key) = (bar("filling", self.keys), 0);
        while key < self.keys {
            let mut under_way = 0;
            while under_way < WRITES && key < self.keys {
                let end = self.keys.min(key + 128);
                let operations = (key..end).map(|key| self.put(key)).collect();
                self.write(0, Operation::Transaction { operations });
                (key, under_way) = (end, under_way + 1);
            }
            while under_way > 0 {
                self.served.turn();
                let replied = std::iter::from_fn(|| self.served.replica.next_reply()).count() as u64;
                under_way -= replied;
                if replied == 0 {
                    self.served.wait();
                }
            }
            bar.set_position(key);
        }
        bar.finish_and_clear();
    }

    /// Every client puts until `is_over`; the latencies, in the order in which the replies came.
    fn measure(
        &mut self,
        bar: &ProgressBar,
        mut is_over: impl FnMut(&mut Served, &ProgressBar) -> bool,
    ) -> Vec<Duration> {
        let mut latencies = Vec::new();
        let mut under_way = 0;
        for client in 0..self.clients.len() as u64 {
            let key = self.draws.below(self.keys);
            let operation = self.put(key);
            self.write(client, operation);
            under_way += 1;
        }
        let mut over = false;
        while under_way > 0 {
            self.served.turn();
            let mut replied = Vec::new();
            while let Some(reply) = self.served.replica.next_reply() {
                assert!(matches!(reply.outcome, Outcome::Applied { .. }), "{reply:?}");
                replied.push(reply.request.0);
            }
            over = over || is_over(&mut self.served, bar);
            let now = Instant::now();
            for client in &replied {
                latencies.push(now - self.clients[usize::try_from(*client).unwrap()].submitted);
            }
            if over {
                under_way -= replied.len();
            } else {
                for client in &replied {
                    let key = self.draws.below(self.keys);
                    let operation = self.put(key);
                    self.write(*client, operation);
                }
            }
            self.served.replica.poll();
            if replied.is_empty() {
                self.served.wait();
            }
        }
        bar.finish_and_clear();
        latencies
    }

    fn measure_for(&mut self, what: &'static str, time: Duration) -> Vec<Duration> {
        let (bar, began) = (bar(what, time.as_secs()), Instant::now());
        self.measure(&bar, |_, bar| {
            bar.set_position(began.elapsed().as_secs());
            began.elapsed() >= time
        })
    }

    /// While a snapshot is taken; with how long that takes.
    fn measure_snapshot(&mut self, pieces: u64) -> (Vec<Duration>, Duration) {
        while self.served.replica.next_notice().is_some() {}
        let (bar, began) = (bar("taking a snapshot", pieces), Instant::now());
        self.served.replica.take_snapshot();
        println!("to begin the snapshot took {:?}", began.elapsed());
        let mut lasted = None;
        let latencies = self.measure(&bar, |served, bar| {
            bar.set_position(u64::try_from(began.elapsed().as_millis() / TICK.as_millis()).unwrap());
            while let Some(notice) = served.replica.next_notice() {
                match notice {
                    Action::SnapshotInstalled { .. } => lasted = Some(began.elapsed()),
                    Action::SnapshotRefused(_) | Action::Halt(_) => panic!("{notice:?}"),
                    _ => {}
                }
            }
            lasted.is_some()
        });
        (latencies, lasted.unwrap())
    }
}

/// Says where these lie, and answers the 99th percentile in milliseconds.
fn report(what: &str, mut latencies: Vec<Duration>, lasted: Duration) -> f64 {
    latencies.sort_unstable();
    let at =
        |permille: usize| latencies[(latencies.len() * permille / 1000).min(latencies.len() - 1)].as_secs_f64() * 1e3;
    let (count, seconds) = (latencies.len(), lasted.as_secs_f64());
    println!(
        "{what:24} {count:8} puts in {seconds:6.1} s, p50 {:7.3} ms, p99 {:7.3} ms, p99.9 {:7.3} ms, max {:7.3} ms",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    at(990)
}

fn main() {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir_in(&arguments.dir).unwrap();
    let mut bench = Bench::new(&arguments, dir.path());
    bench.fill();
    let time = Duration::from_secs(arguments.seconds);
    // Not counted: what the filling left to the disk and to the caches.
    bench.measure_for("warming up", Duration::from_secs(5));
    let before = report("without a snapshot", bench.measure_for("without a snapshot", time), time);
    let pieces = (arguments.state_mib << 20).div_ceil(u64::try_from(arguments.chunk_bytes).unwrap());
    let (latencies, lasted) = bench.measure_snapshot(pieces);
    let during = report("while one is taken", latencies, lasted);
    println!("p99 while a snapshot is taken, against p99 without: {:.2}", during / before);
}
