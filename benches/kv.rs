//! What the parts of `raft-kv` cost that run with every block, and what a snapshot costs a byte.
//!
//! `cargo bench -p raft-benches --bench kv`
#![allow(missing_docs, reason = "criterion's macros make items without")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::material::{Draws, Machine, get, key, position, put};
use raft_core::{Bytes, Digest, Entry, LogIndex, Payload, StateMachine as _, Term};
use raft_kv::KvMachine;
use std::hint::black_box;

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 256;

/// A block's hash, in the portable form of SHA-256 or in the processor's, whichever this machine has.
fn link(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link");
    for bytes in [256_usize, 16 << 10] {
        let payload = Payload::Command(Bytes::from(vec![7; bytes]));
        let entry = Entry { index: LogIndex(1), term: Term(1), payload };
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{bytes} B")), |bencher| {
            bencher.iter(|| raft_kv::link(black_box(&Digest([1; 32])), black_box(&entry)));
        });
    }
    group.finish();
}

fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine of 100,000 keys");
    let Machine { mut machine, session, mut writes } = Machine::new(KEYS, VALUE_BYTES);
    let mut draws = Draws::new();
    group.bench_function("apply a put", |bencher| {
        bencher.iter_batched(
            || {
                writes += 1;
                put(session, writes, key(draws.below(KEYS)), VALUE_BYTES)
            },
            |command| machine.apply(&position(1), &command),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a get", |bencher| {
        let queries: Vec<Vec<u8>> = (0..1024).map(|_| get(&key(draws.below(KEYS)))).collect();
        let mut queries = queries.iter().cycle();
        bencher.iter(|| machine.query(queries.next().unwrap()));
    });
    group.finish();
}

fn snapshot(criterion: &mut Criterion) {
    const PIECE: usize = 256 << 10;
    let mut group = criterion.benchmark_group("snapshot of 100,000 keys");
    let mut machine = Machine::new(KEYS, VALUE_BYTES).machine;
    let snapshot = machine.snapshot();
    group.sample_size(10).throughput(Throughput::Bytes(snapshot.len() as u64));
    group.bench_function("taken in pieces of 256 KiB", |bencher| {
        bencher.iter(|| {
            black_box(machine.begin_snapshot());
            while let Some(piece) = machine.snapshot_piece(PIECE) {
                black_box(piece);
            }
            machine.end_snapshot();
        });
    });
    group.bench_function("restored", |bencher| {
        bencher.iter_batched_ref(
            KvMachine::default,
            |machine| machine.restore(black_box(&snapshot)).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, link, machine, snapshot);
criterion_main!(benches);
