//! A recording's file, its checksums mended or not: it is read and replayed to its end or to what is wrong with it.

use crc32c::{crc32c, crc32c_append};
use raft_core::{Config, Configuration, Event, MemStorage, Node, NodeId, Storage as _};
use raft_kv::recording::{Recorder, Recording, verify};

use crate::input::Input;

const FILE_HEADER: usize = 16;
const FRAME_HEADER: usize = 12;

/// Whether checksums are mended, then the file.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let mends = input.number(1) % 2 == 1;
    let mut file = input.0.to_vec();
    if mends {
        mend(&mut file);
    }
    if let Ok(recording) = Recording::new(&file[..]) {
        let _ = verify(recording).map_err(|error| error.to_string());
    }
}

/// The file's header, and of each frame, as far as the lengths lead, both checksums.
fn mend(file: &mut [u8]) {
    if file.len() < FILE_HEADER {
        return;
    }
    file[..8].copy_from_slice(b"raftrec\n");
    let crc = crc32c(&file[..12]);
    file[12..16].copy_from_slice(&crc.to_le_bytes());
    let mut at = FILE_HEADER;
    while let Some((header, rest)) = file[at..].split_at_mut_checked(FRAME_HEADER) {
        let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = rest.get(..len) else { return };
        header[4..8].copy_from_slice(&crc32c(body).to_le_bytes());
        let crc = crc32c_append(crc32c(&(at as u64).to_le_bytes()), &header[..8]);
        header[8..].copy_from_slice(&crc.to_le_bytes());
        at += FRAME_HEADER + len;
    }
}

/// A node that campaigns.
pub fn seeds() -> Vec<Vec<u8>> {
    let dir = std::env::temp_dir().join(format!("raft-fuzz-{}", std::process::id()));
    let config = Config::new(NodeId(1));
    let storage = MemStorage::new(Configuration::new([NodeId(1)]));
    let recorder = Recorder::start(storage, &config, &dir, 1 << 20, |_| ()).expect("a recording");
    let path = recorder.path().expect("a file").to_owned();
    let mut node = Node::new(config, recorder).expect("a node");
    let mut events = vec![Event::Tick, Event::Campaign];
    while let Some(event) = events.pop() {
        node.storage_mut().step_begins(&event);
        let actions = node.step(event);
        node.storage_mut().step_ends(&actions);
        for action in actions {
            if let raft_core::Action::Persist(write) = action {
                events.push(Event::Persisted(write.id));
                node.storage_mut().write(write).expect("a write");
            }
        }
    }
    drop(node);
    let file = std::fs::read(&path).expect("what was recorded");
    std::fs::remove_dir_all(dir).expect("it goes");
    [0, 1].map(|mends| [&[mends][..], &file[..]].concat()).into()
}
