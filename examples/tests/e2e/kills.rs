//! `kill -9` at any moment, hundreds of times, while clients write, snapshots are taken and segments given back.
//!
//! ```text
//! cargo test --release -p raft-examples --test e2e kills -- --ignored --nocapture    # KILLS=200, some minutes
//! ```

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Cluster, wait_for};

const WRITERS: u64 = 3;

/// Every so many writes of a client one is long, of a key that is written again and again: so the log grows and the
/// state does not.
const LONG_EVERY: u64 = 4;
const LONG_BYTES: usize = 48 << 10;

/// Of what a client types at once; the next follow when the first is answered.
const IN_FLIGHT: u64 = 4;

/// A client that writes until it is told to stop, and which of its writes were acknowledged.
struct Writer {
    number: u64,
    process: Child,
    typist: JoinHandle<u64>,
    answers: JoinHandle<Vec<bool>>,
}

impl Writer {
    fn start(cluster: &Cluster, number: u64, stop: &Arc<AtomicBool>) -> Self {
        let mut command = cluster.client_command(number as u16);
        let mut process = command.args(["--keep-going", "--timeout=60s"]).spawn().unwrap();
        let (mut stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let answered = Arc::new(AtomicU64::new(0));
        let answers = {
            let answered = Arc::clone(&answered);
            std::thread::spawn(move || {
                let read = |line: std::io::Result<String>| {
                    let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                    line["ok"] == true
                };
                BufReader::new(stdout).lines().map(read).collect()
            })
        };
        let stop = Arc::clone(stop);
        let typist = std::thread::spawn(move || {
            let mut typed = 0;
            while !stop.load(Ordering::Relaxed) {
                if typed < answered.load(Ordering::Relaxed) + IN_FLIGHT {
                    writeln!(stdin, "{}", write(number, typed)).unwrap();
                    typed += 1;
                }
                std::thread::park_timeout(Duration::from_millis(4));
            }
            typed
        });
        Self { number, process, typist, answers }
    }

    /// Waits for the last answer: the number of each write that was acknowledged, and how many were not.
    fn stop(mut self) -> (u64, Vec<u64>, u64) {
        let typed = self.typist.join().unwrap();
        let answers = self.answers.join().unwrap();
        self.process.wait().unwrap();
        assert_eq!(answers.len() as u64, typed, "every write has an answer");
        let acknowledged: Vec<u64> = (0..typed).filter(|n| answers[*n as usize]).collect();
        let others = typed - acknowledged.len() as u64;
        (self.number, acknowledged, others)
    }
}

fn is_long(n: u64) -> bool {
    n.is_multiple_of(LONG_EVERY)
}

fn write(writer: u64, n: u64) -> String {
    if is_long(n) {
        format!("put 'long {writer}' '{n} {}'", "x".repeat(LONG_BYTES))
    } else {
        format!("put ({writer}, {n}) {n}")
    }
}

/// Kills one server, or now and then two at once, and starts them again.
fn kill_some(cluster: &mut Cluster, kill: u64) {
    std::thread::park_timeout(Duration::from_millis(below(900)));
    let first = 1 + below(3) as u16;
    let second = (kill % 10 == 9).then_some(first % 3 + 1);
    cluster.kill(first);
    second.iter().for_each(|id| cluster.kill(*id));
    std::thread::park_timeout(Duration::from_millis(below(400)));
    cluster.start_server(first);
    second.iter().for_each(|id| cluster.start_server(*id));
}

/// A number below this, another one each time.
fn below(end: u64) -> u64 {
    RandomState::new().hash_one(()) % end
}

/// Reads every write that was acknowledged; how many there are.
fn check_writes(cluster: &Cluster, writer: u64, acknowledged: &[u64]) -> usize {
    let short: Vec<u64> = acknowledged.iter().copied().filter(|n| !is_long(*n)).collect();
    let gets: String = short.iter().map(|n| format!("get ({writer}, {n})\n")).collect();
    let found = cluster.script(900, &["--timeout=60s"], &gets).lines();
    assert_eq!(found.len(), short.len());
    for (line, n) in found.iter().zip(&short) {
        assert_eq!(line["result"], n.to_string(), "write {n} of client {writer} was acknowledged");
    }
    // Of the key that is written again and again the last acknowledged value, or that of a write whose fate is unknown.
    let last = acknowledged.iter().rfind(|n| is_long(**n)).unwrap();
    let value = cluster.client(900, &["get", &format!("'long {writer}'")]).ok()["result"].to_string();
    let held: u64 = value.trim_start_matches(['"', '\'']).split(' ').next().unwrap().parse().unwrap();
    assert!(held >= *last && value.len() > LONG_BYTES, "{held} is older than {last}");
    acknowledged.len()
}

fn names(cluster: &Cluster, id: u16) -> Vec<String> {
    let files = std::fs::read_dir(cluster.data_dir().join(format!("server-{id}"))).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
#[ignore = "minutes: see above"]
fn p2_two_hundred_kills_under_load() {
    let kills: u64 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let start = Instant::now();
    let mut cluster = Cluster::new(3);
    cluster.options.push("--snapshot-mib=2");
    (1..=3).for_each(|id| cluster.start_server(id));
    cluster.leader();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<Writer> = (1..=WRITERS).map(|number| Writer::start(&cluster, number, &stop)).collect();
    for kill in 0..kills {
        kill_some(&mut cluster, kill);
        if kill % 20 == 19 {
            println!("{} kills after {:?}", kill + 1, start.elapsed());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let written: Vec<_> = writers.into_iter().map(Writer::stop).collect();
    let last = cluster.converged();
    let found: usize = written.iter().map(|(writer, n, _)| check_writes(&cluster, *writer, n)).sum();
    let others: u64 = written.iter().map(|(_, _, others)| others).sum();
    // Every server has a snapshot, and has given the beginning of its log back where that was long enough.
    let is_pruned = |id| {
        let one_snapshot = || {
            let names = names(&cluster, id);
            (names.iter().filter(|name| name.starts_with("snapshot-")).count() == 1).then_some(names)
        };
        let names = wait_for("one snapshot", one_snapshot);
        !names.iter().any(|name| name == "segment-0000000000000001")
    };
    let pruned = (1..=3).filter(|id| is_pruned(*id)).count();
    assert!(pruned == 3 || kills < 200, "{pruned} of 3 servers have given segments back");
    println!(
        "{kills} kills in {:?}: {found} acknowledged writes are there, {others} had another answer; \
         three equal chains of {} blocks, {pruned} of them with segments given back",
        start.elapsed(),
        last["last"]
    );
}
