//! What a committed entry costs in the protocol alone: three nodes, one thread, no disk and no network.
//!
//! `cargo bench -p raft-benches --bench core`. A measured element is one entry, committed and applied on all three. A
//! round hands one batch to the leader, then every node takes what was sent in the round before, with up to eight
//! batches under way.
#![allow(missing_docs, reason = "criterion's macros make items without")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft_benches::group::Group;

fn committed_entries(criterion: &mut Criterion) {
    /// Entries handed out a measured pass, so that the rounds that fill and empty the pipeline do not weigh.
    const ENTRIES: usize = 4096;
    let mut benchmark = criterion.benchmark_group("three nodes");
    for bytes in [16_usize, 256] {
        for batch in [1_usize, 16, 256] {
            benchmark.throughput(Throughput::Elements(ENTRIES as u64));
            let name = BenchmarkId::new(format!("{bytes} B payload, batch"), batch);
            benchmark.bench_function(name, |bencher| {
                let mut group = Group::new(3);
                bencher.iter(|| group.commit(ENTRIES, batch, bytes));
            });
        }
    }
    benchmark.finish();
}

criterion_group!(benches, committed_entries);
criterion_main!(benches);
