//! One hot path, some thousand times over: for `benches/instructions`, which counts its instructions under callgrind.
//!
//! `instructions list` names the workloads, with how many operations each does. `instructions run WORKLOAD` does one, and
//! `instructions empty WORKLOAD` all of it but the operations that count: it prepares what they need, and warms up. So the
//! difference between the two is what those operations take. Everything is the same in every run: no clock, no entropy,
//! no thread.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use raft_benches::figures::end;
use raft_benches::group::Group;
use raft_benches::material::{Draws, Machine, block, get, key};
use raft_core::{
    Bytes, Configuration, Digest, Entry, Incarnation, LogIndex, NodeId, Payload, StateMachine as _, Storage as _, Term,
    Write, WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, LogOptions, MemDisk, link};

mod wire;

use wire::{Reader, Sent};

/// Does one hot path again and again, so that its instructions can be counted: benches/instructions does.
#[derive(Parser)]
#[command(name = "instructions", version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Prints every workload, and the operations that one run of it counts
    List,
    /// Does a workload
    Run {
        /// As list names it
        workload: String,
    },
    /// Prepares a workload, warms up, and does no more
    Empty {
        /// As list names it
        workload: String,
    },
}

/// Some turns of one path.
struct Workload {
    name: &'static str,
    /// That count; a tenth as many before them do not.
    turns: usize,
    /// Operations in a turn.
    operations: usize,
    /// Gives what does a turn, after making ready for so many in all.
    prepare: fn(usize) -> Box<dyn FnMut()>,
}

const WORKLOADS: [Workload; 16] = [
    Workload { name: "commit-3-batch-1", turns: 4000, operations: 1, prepare: |_| commit(3, 1) },
    Workload { name: "commit-3-batch-64", turns: 200, operations: 64, prepare: |_| commit(3, 64) },
    Workload { name: "commit-7-batch-1", turns: 2000, operations: 1, prepare: |_| commit(7, 1) },
    Workload { name: "commit-7-batch-64", turns: 100, operations: 64, prepare: |_| commit(7, 64) },
    Workload { name: "append-encode-256", turns: 4000, operations: 1, prepare: |_| encode(Sent::append(1, 256)) },
    Workload { name: "append-decode-256", turns: 4000, operations: 1, prepare: |_| decode(&Sent::append(1, 256)) },
    Workload { name: "append-encode-16k", turns: 2000, operations: 1, prepare: |_| encode(Sent::append(1, 16 << 10)) },
    Workload { name: "append-decode-16k", turns: 2000, operations: 1, prepare: |_| decode(&Sent::append(1, 16 << 10)) },
    Workload { name: "request-encode", turns: 4000, operations: 1, prepare: |_| encode(Sent::put(256)) },
    Workload { name: "request-decode", turns: 4000, operations: 1, prepare: |_| decode(&Sent::put(256)) },
    Workload { name: "response-encode", turns: 4000, operations: 1, prepare: |_| encode(Sent::done()) },
    Workload { name: "link-256", turns: 2000, operations: 1, prepare: |_| hash(256) },
    Workload { name: "link-16k", turns: 100, operations: 1, prepare: |_| hash(16 << 10) },
    Workload { name: "kv-put", turns: 4000, operations: 1, prepare: puts },
    Workload { name: "kv-get", turns: 4000, operations: 1, prepare: gets },
    Workload { name: "block-log-append", turns: 4000, operations: 1, prepare: appends },
];

fn main() -> ExitCode {
    end("instructions", run(&Args::parse().what))
}

fn run(what: &What) -> Result<(), String> {
    let (name, counts) = match what {
        What::List => {
            for Workload { name, turns, operations, .. } in &WORKLOADS {
                println!("{name} {}", turns * operations);
            }
            return Ok(());
        }
        What::Run { workload } => (workload, true),
        What::Empty { workload } => (workload, false),
    };
    let Some(workload) = WORKLOADS.iter().find(|workload| workload.name == name) else {
        let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        return Err(format!("no such workload: {name}; there are {}", names.join(" ")));
    };
    let before = workload.turns / 10;
    let mut turn = (workload.prepare)(before + workload.turns);
    (0..if counts { before + workload.turns } else { before }).for_each(|_| turn());
    // What is left is given back in no run, for it may be more in one of them.
    std::mem::forget(turn);
    Ok(())
}

/// An entry of 256 B, proposed, replicated and committed on so many nodes: as many at once as the batch says.
fn commit(nodes: u32, batch: usize) -> Box<dyn FnMut()> {
    let mut group = Group::new(nodes);
    Box::new(move || {
        group.propose(batch, 256);
        group.round();
    })
}

fn encode(sent: Sent) -> Box<dyn FnMut()> {
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        sent.encode(&mut out);
        black_box(&out);
    })
}

fn decode(sent: &Sent) -> Box<dyn FnMut()> {
    let (mut bytes, mut reader) = (Vec::new(), Reader::new());
    sent.encode(&mut bytes);
    Box::new(move || reader.read(&bytes))
}

fn hash(bytes: usize) -> Box<dyn FnMut()> {
    let mut last = Digest([0; 32]);
    let entry = Entry { index: LogIndex(1), term: Term(1), payload: Payload::Command(block(1, bytes)) };
    Box::new(move || last = link(&last, black_box(&entry)))
}

/// Keys of a machine, each with a value of 256 B.
const KEYS: u64 = 1000;

/// A put of 256 B to a key that is there, in a session.
fn puts(turns: usize) -> Box<dyn FnMut()> {
    let (mut machine, mut draws) = (Machine::new(KEYS, 256), Draws::new());
    let commands: Vec<_> = (0..turns).map(|_| machine.next_put(key(draws.below(KEYS)), 256)).collect();
    let mut commands = commands.into_iter();
    Box::new(move || {
        let command = commands.next().unwrap();
        black_box(machine.apply(&command));
        // Freeing it is no part of the work.
        std::mem::forget(command);
    })
}

fn gets(turns: usize) -> Box<dyn FnMut()> {
    let (machine, mut draws) = (Machine::new(KEYS, 256).machine, Draws::new());
    let queries: Vec<_> = (0..turns).map(|_| get(&key(draws.below(KEYS)))).collect();
    let mut next = 0;
    Box::new(move || {
        black_box(machine.query(queries.get(next).unwrap()));
        next += 1;
    })
}

/// A block of one command of 256 B, to durable on a disk in memory: one that a node has hashed.
fn appends(turns: usize) -> Box<dyn FnMut()> {
    let disk = MemDisk::new().reserving();
    let members = Configuration::new([NodeId(1)]);
    let options = LogOptions { segment_bytes: 8 << 20, ..LogOptions::default() };
    let mut log = BlockLog::create(disk, ClusterId([1; 16]), members, Incarnation(1), options).unwrap();
    let mut hash = log.block(LogIndex(0)).unwrap().hash;
    let payload: Bytes = block(1, 256);
    let write = |index: u64| {
        let payload = Payload::Command(payload.clone());
        let entry = Entry { index: LogIndex(index), term: Term(1), payload };
        hash = link(&hash, &entry);
        let op = WriteOp::Append { entries: [entry].into(), digests: Some([hash].into()) };
        Write { id: WriteId(index), op }
    };
    let writes: Vec<_> = (1..=turns as u64).map(write).collect();
    let mut writes = writes.into_iter();
    Box::new(move || {
        let write = writes.next().unwrap();
        let id = write.id;
        log.write(write).unwrap();
        log.disk_mut().sync();
        assert_eq!(log.persisted(), Ok(id));
    })
}
