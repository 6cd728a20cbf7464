//! What it costs to write and to read what travels: frame, checksum and contents.
//!
//! `cargo bench -p raft-benches --bench codec`
#![allow(missing_docs, reason = "criterion's macros make items without")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

mod wire;

use wire::{Reader, Sent};

fn codec(criterion: &mut Criterion) {
    let sent = [
        ("append, 1 block of 256 B", Sent::append(1, 256)),
        ("append, 1 block of 16 KiB", Sent::append(1, 16 << 10)),
        ("append, 64 blocks of 256 B", Sent::append(64, 256)),
        ("request, a put of 256 B", Sent::put(256)),
        ("response to a put", Sent::done()),
    ];
    for (name, sent) in &sent {
        let mut bytes = Vec::new();
        sent.encode(&mut bytes);
        let mut group = criterion.benchmark_group(*name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("encode", |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                out.clear();
                sent.encode(&mut out);
                black_box(&out);
            });
        });
        group.bench_function("decode", |bencher| {
            let mut reader = Reader::new();
            bencher.iter(|| reader.read(&bytes));
        });
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
