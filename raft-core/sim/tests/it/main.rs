//! Tests of the simulator's parts against what they stand for.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod disk;
mod examples;
mod linearizability;
mod regressions;
mod scenarios;
#[cfg(feature = "seeded-bugs")]
mod seeded;
mod transport;

/// Compares with a file of this package; `UPDATE=1` writes it instead.
fn golden(file: &std::path::Path, found: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, found).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let name = file.display();
    assert_eq!(found, expected, "{name} says otherwise: if that is meant, run the test again with UPDATE=1");
}
