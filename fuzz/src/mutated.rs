//! A good directory with bytes changed, put in, cut off and whole files missing: it is refused, or a read is, or
//! nothing is missing but what nothing vouches for.

use std::sync::LazyLock;

use raft_kv::OpenError;

use crate::input::Input;
use crate::log::{self, Files, Held};

/// The directory, and what it held after each of its writes.
static VALID: LazyLock<(Files, Vec<Held>)> = LazyLock::new(|| {
    let history = log::valid();
    let held = |files: &Files| log::read(&log::open(files.clone()).expect("it opens")).expect("it reads");
    let states = history.iter().map(held).collect();
    (history.last().expect("there are some").clone(), states)
});

/// Changes, each: which file, what is done, where, with which byte.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (whole, states) = &*VALID;
    let mut files = whole.clone();
    let names: Vec<String> = files.keys().cloned().collect();
    // Where the first file is gone, and held only blocks that a snapshot covers, the others are found.
    let mut is_less = false;
    while !input.is_empty() {
        let name = &names[input.number(1) as usize % names.len()];
        let (what, at, byte) = (input.number(1), input.number(2) as usize, input.number(1) as u8);
        let Some(bytes) = files.get_mut(name).filter(|bytes| !bytes.is_empty()) else { continue };
        let at = at % bytes.len();
        match what % 16 {
            0..=10 => bytes[at] ^= byte,
            11..=13 => bytes.insert(at, byte),
            14 => {
                is_less = true;
                bytes.truncate(at);
            }
            _ => {
                is_less = true;
                files.remove(name);
            }
        }
    }
    let opened = match log::open(files) {
        Ok(log) => log,
        Err(OpenError::Disk(error)) => panic!("a disk in memory does not fail: {error}"),
        Err(_) => return,
    };
    let Ok(found) = log::read(&opened) else { return };
    let is_known = |entry| states.iter().any(|state| state.entries.contains(entry));
    assert!(states.contains(&found) || is_less && found.entries.iter().all(is_known), "{found:?}");
    log::goes_on(opened, &found);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let change = |file: u8, what: u8, at: u16, byte: u8| [&[file, what][..], &at.to_le_bytes(), &[byte]].concat();
    vec![
        change(1, 0, 40, 1),
        change(2, 11, 300, 9),
        change(0, 15, 0, 0),
        [change(3, 0, 9, 4), change(3, 14, 100, 0)].concat(),
        [change(4, 0, 70, 255), change(5, 0, 22, 3)].concat(),
    ]
}
