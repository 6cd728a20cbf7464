//! What bytes of any kind do to everything that reads bytes: one module a target, each with its seeds and what must
//! hold.
//!
//! Everything must hold for any input: no panic, no more memory than the limits of `run-smoke` allow, and nothing that
//! is read twice reads differently. Where checksums stand before what is to be reached, the input is [mended](mend):
//! its checksums are made right, as somebody would who writes such bytes on purpose.

use std::path::Path;

pub mod directory;
pub mod frames;
pub mod handshake;
mod input;
pub mod literals;
pub mod log;
pub mod mend;
pub mod mutated;
pub mod recordings;
pub mod requests;
pub mod resp;
pub mod snapshot;

/// Puts a target's seeds into its corpus, before that is read.
///
/// # Panics
/// They cannot be written.
pub fn write_seeds(target: &str, seeds: Vec<Vec<u8>>) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&corpus).expect("the corpus is a directory");
    for (seed, number) in seeds.into_iter().zip(1..) {
        std::fs::write(corpus.join(format!("seed-{number}")), seed).expect("a seed is written");
    }
}
