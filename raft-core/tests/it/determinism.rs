//! "A run is the list of its events, and replaying the list replays the run, byte for byte": in one process, in another,
//! and, through a file of digests that every profile is held to, in debug and release builds.
//!
//! Where a change of the protocol changes the runs, `UPDATE=1 cargo test -p raft-core --test it determinism` writes
//! the file anew.

use std::fmt::Write as _;
use std::process::Command;

use raft_core::{Event, ReadId};

use crate::cluster::Cluster;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/traces.golden");

/// A run of three servers under every fault that the group knows, told in full after every operation.
fn trace(seed: u64) -> String {
    let mut cluster = Cluster::with_seed(3, seed);
    let mut text = String::new();
    let mut random = seed;
    cluster.sync = false;
    for number in 0..600 {
        // Knuth's MMIX generator; its high bits are the good ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = random >> 33;
        let (node, under_way) = (1 + (choice / 64 % 3) as u32, cluster.network.len());
        match choice % 64 {
            0..12 => cluster.tick(node, 1 + (choice / 256 % 6) as u32),
            12..40 if under_way > 0 => cluster.deliver((choice / 256) as usize % under_way),
            40..42 if under_way > 0 => drop(cluster.network.remove((choice / 256) as usize % under_way)),
            42..44 if under_way > 0 => {
                cluster.network.push(cluster.network[(choice / 256) as usize % under_way].clone())
            }
            44..48 => drop(cluster.propose(node, "command")),
            48..49 => drop(cluster.step(node, Event::Read(ReadId(number)))),
            49..62 => cluster.persist(node, 1 + (choice / 256 % 4) as usize),
            62 => cluster.crash(node, (choice / 256 % 3) as usize),
            _ => drop(cluster.step(node, Event::Campaign)),
        }
        writeln!(text, "{number}: {:?}", cluster.network).unwrap();
        for node in &cluster.nodes {
            writeln!(text, "  {:?}", node.status()).unwrap();
        }
    }
    writeln!(text, "{:?}\n{:?}", cluster.notices, cluster.applied).unwrap();
    text
}

/// 64 bits of FNV-1a.
fn digest(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// A line a seed: the seed, the trace's digest, its bytes.
fn digests() -> String {
    let line = |seed: u64| {
        let text = trace(seed);
        format!("{seed} {:016x} {}\n", digest(&text), text.len())
    };
    (1..=4).map(line).collect()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert!(trace(1) == trace(1));
    assert!(trace(1) != trace(2));
}

#[test]
fn every_profile_gives_the_traces_of_the_file() {
    let now = digests();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(GOLDEN, &now).unwrap();
    }
    assert_eq!(now, std::fs::read_to_string(GOLDEN).unwrap(), "seed, digest, bytes: now and in {GOLDEN}");
}

#[test]
fn another_process_gives_the_same_traces() {
    let told = |line: &str| line.strip_prefix("trace ").map(|line| format!("{line}\n"));
    let tell = ["--exact", "determinism::tells_its_traces", "--ignored", "--nocapture"];
    let other = Command::new(std::env::current_exe().unwrap()).args(tell).output().unwrap();
    let other = String::from_utf8(other.stdout).unwrap();
    assert_eq!(other.lines().filter_map(told).collect::<String>(), digests());
}

#[test]
#[ignore = "another test runs it, in a process of its own"]
fn tells_its_traces() {
    println!();
    for line in digests().lines() {
        println!("trace {line}");
    }
}
