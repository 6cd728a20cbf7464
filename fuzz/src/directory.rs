//! Any files, with any bytes, under names that mean something or not: what opens reads without a contradiction, and
//! goes on.

use raft_core::Digest;

use crate::input::{Input, sized};
use crate::log::{self, Files};
use crate::mend;

/// Beside the segments 1 to 20.
const NAMES: [&str; 5] =
    ["snapshot-0000000000000009", "snapshot-0000000000000012", "receiving-1", "spare", "segment-18446744073709551615"];

fn name(number: u64) -> String {
    let number = number as usize % (NAMES.len() + 20);
    NAMES.get(number).map_or_else(|| format!("segment-{:016}", number - NAMES.len() + 1), |name| String::from(*name))
}

/// Whether checksums are mended, then of each file: which name, length, bytes.
pub fn run(input: &[u8]) {
    if let Ok(log) = log::open(files(input))
        && let Ok(held) = log::read(&log)
    {
        log::goes_on(log, &held);
    }
}

fn files(input: &[u8]) -> Files {
    let mut input = Input(input);
    let mends = input.number(1) % 2 == 1;
    let mut files = Files::new();
    while !input.is_empty() {
        files.insert(name(input.number(1)), input.sized().to_vec());
    }
    if mends {
        let mut last = Digest([0; 32]);
        for (name, bytes) in &mut files {
            if name.starts_with("snapshot") { mend::snapshot(bytes) } else { mend::segment(bytes, &mut last) }
        }
    }
    files
}

pub fn seeds() -> Vec<Vec<u8>> {
    let history = log::valid();
    let [first, .., before, whole] = &history[..] else { panic!("there are more") };
    let seeds = [(0, whole), (1, whole), (1, before), (1, first)].map(|(mends, files)| encode(mends, files));
    // What is right is not mended away.
    let held = seeds.each_ref().map(|seed| log::read(&log::open(files(seed)).expect("it opens")).expect("it reads"));
    assert!(held[0] == held[1] && held[1] != held[2] && held[0].entries.len() > 5);
    seeds.into()
}

/// Segment files may be longer than what is in them: most of their zeros are left out.
fn encode(mends: u8, files: &Files) -> Vec<u8> {
    let mut seed = vec![mends];
    for (name, bytes) in files {
        seed.push((0..25).find(|number| self::name(*number) == *name).expect("a name that is known") as u8);
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| bytes.len().min(at + 16));
        let len = if name.starts_with("snapshot") { bytes.len() } else { used };
        sized(&bytes[..len], &mut seed);
    }
    seed
}
