//! What a snapshot costs those who write meanwhile: one durable server, on a real disk, with clients in a closed loop.
//!
//! `cargo run --release -p raft-benches --example snapshot_latency -- --state-mib 1024`
//!
//! A `Replica` over a `BlockLog` on files and a `KvMachine` leads alone, so a put is committed when it is durable here. It
//! is filled with a state of that size; then each client puts 256 bytes under some key, again and again, first for a while
//! without a snapshot, then while one is taken. A latency is the time from the submission of a put to its reply.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark fails by panicking")]

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use raft_core::{
    Action, Bytes, Config, Configuration, Incarnation, Limits, Message, NodeId, Outcome, Replica, RequestId,
};
use raft_kv::{BlockLog, ClusterId, Command, FileDisk, Key, KvMachine, LogOptions, Operation, Reply, Value};

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
const TICK: Duration = Duration::from_millis(20);

type Server = Replica<BlockLog<FileDisk>, Vec<Message>, KvMachine>;

/// The server, its clients, and what wakes them: the disk's thread.
struct Bench {
    server: Server,
    disk: Arc<(Mutex<bool>, Condvar)>,
    next_tick: Instant,
    keys: u64,
    clients: Vec<Client>,
    random: u64,
}

struct Client {
    session: u64,
    /// Of the write that is under way.
    number: u64,
    submitted: Instant,
}

impl Bench {
    fn new(arguments: &Arguments, dir: &std::path::Path) -> Self {
        let disk = Arc::new((Mutex::new(false), Condvar::new()));
        let waker = Arc::clone(&disk);
        let notify = move || {
            *waker.0.lock().unwrap() = true;
            waker.1.notify_one();
        };
        let members = Configuration::new([NodeId(1)]);
        let files = FileDisk::open(dir, notify).unwrap();
        let log = BlockLog::create(files, ClusterId([1; 16]), members, Incarnation(1), LogOptions::default()).unwrap();
        let config = Config { max_chunk_bytes: arguments.chunk_bytes, ..Config::new(NodeId(1)) };
        let server = Replica::new(config, Limits::default(), log, Vec::new(), KvMachine::default()).unwrap();
        let (next_tick, keys) = (Instant::now() + TICK, (arguments.state_mib << 20) / VALUE_BYTES);
        let mut bench = Self { server, disk, next_tick, keys, clients: Vec::new(), random: 1 };
        bench.server.campaign();
        for client in 0..arguments.clients {
            let opened = bench.one(&Command::OpenSession { client });
            let Reply::SessionOpened { session } = Reply::decode(&opened).unwrap() else { panic!("{opened:?}") };
            bench.clients.push(Client { session, number: 0, submitted: Instant::now() });
        }
        bench
    }

    /// Commits one command.
    fn one(&mut self, command: &Command) -> Bytes {
        self.server.submit(RequestId(0), &command.encode());
        loop {
            self.turn();
            match self.server.next_reply().map(|reply| reply.outcome) {
                Some(Outcome::Applied { reply, .. }) => return reply,
                // It does not lead yet.
                Some(_) => self.server.submit(RequestId(0), &command.encode()),
                None => self.wait(),
            }
        }
    }

    fn turn(&mut self) {
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + TICK;
            self.server.tick();
        }
        self.server.poll();
    }

    /// Until the disk has done something, or the next tick.
    fn wait(&mut self) {
        let left = self.next_tick.saturating_duration_since(Instant::now());
        let (woken, condition) = &*self.disk;
        let mut woken = condition.wait_timeout_while(woken.lock().unwrap(), left, |woken| !*woken).unwrap().0;
        *woken = false;
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// The client's next write.
    fn write(&mut self, client: u64, operation: Operation) {
        let at = &mut self.clients[usize::try_from(client).unwrap()];
        at.number += 1;
        let request = raft_kv::RequestId { client, session: at.session, number: at.number };
        let command = Command::Write { request, acknowledged: at.number - 1, operation };
        at.submitted = Instant::now();
        self.server.submit(RequestId(client), &command.encode());
    }

    fn put(&mut self, key: u64) -> Operation {
        let value: Vec<u8> = (0..VALUE_BYTES / 8).flat_map(|_| self.random().to_le_bytes()).collect();
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
                self.turn();
                let replied = std::iter::from_fn(|| self.server.next_reply()).count() as u64;
                under_way -= replied;
                if replied == 0 {
                    self.wait();
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
        mut is_over: impl FnMut(&mut Server, &ProgressBar) -> bool,
    ) -> Vec<Duration> {
        let mut latencies = Vec::new();
        let mut under_way = 0;
        for client in 0..self.clients.len() as u64 {
            let key = self.random() % self.keys;
            let operation = self.put(key);
            self.write(client, operation);
            under_way += 1;
        }
        let mut over = false;
        while under_way > 0 {
            self.turn();
            let mut replied = Vec::new();
            while let Some(reply) = self.server.next_reply() {
                assert!(matches!(reply.outcome, Outcome::Applied { .. }), "{reply:?}");
                replied.push(reply.request.0);
            }
            over = over || is_over(&mut self.server, bar);
            let now = Instant::now();
            for client in &replied {
                latencies.push(now - self.clients[usize::try_from(*client).unwrap()].submitted);
            }
            if over {
                under_way -= replied.len();
            } else {
                for client in &replied {
                    let key = self.random() % self.keys;
                    let operation = self.put(key);
                    self.write(*client, operation);
                }
            }
            self.server.poll();
            if replied.is_empty() {
                self.wait();
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
        while self.server.next_notice().is_some() {}
        let (bar, began) = (bar("taking a snapshot", pieces), Instant::now());
        self.server.take_snapshot();
        println!("to begin the snapshot took {:?}", began.elapsed());
        let mut lasted = None;
        let latencies = self.measure(&bar, |server, bar| {
            bar.set_position(u64::try_from(began.elapsed().as_millis() / TICK.as_millis()).unwrap());
            while let Some(notice) = server.next_notice() {
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

fn bar(what: &'static str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% ({elapsed}, {eta} left)").unwrap();
    ProgressBar::new(len).with_style(style.progress_chars("=> ")).with_message(what)
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
