//! How long a log without a snapshot takes to open, against reading its files and hashing them with SHA-256 once.
//!
//! Opening reads every frame, holds it against its checksum, and every block's hash against the block before. What is only
//! hashed is what was written: the zeros behind it, which are room for more, are left out. All of it is in the page cache
//! both times.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raft_benches::figures::{bar, median};
use raft_benches::material::block;
use raft_benches::served::{Bell, found, reopen};
use raft_core::{Entry, LogIndex, Payload, Storage as _, Term, Write, WriteId, WriteOp};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Args;

/// In the files, at most.
pub(crate) const BYTES_A_BLOCK: u64 = 340;

const COMMAND_BYTES: usize = 256;

/// What was measured, in seconds.
pub(crate) struct Start {
    blocks: u64,
    bytes: u64,
    opened: Vec<f64>,
    hashed: Vec<f64>,
}

pub(crate) fn measure(args: &Args, dir: &Path) -> Result<Start, String> {
    fill(args.blocks, dir)?;
    let files = files(dir)?;
    let (mut opened, mut hashed) = (Vec::new(), Vec::new());
    let bar = bar("a log is opened", args.opens.into());
    for _ in 0..args.opens {
        let began = Instant::now();
        let log = reopen(dir, &Bell::default()).map_err(|error| error.to_string())?;
        opened.push(began.elapsed().as_secs_f64());
        assert_eq!(log.last_index(), LogIndex(args.blocks));
        drop(log);
        let began = Instant::now();
        for (file, bytes) in &files {
            hash(file, *bytes).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        hashed.push(began.elapsed().as_secs_f64());
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Start { blocks: args.blocks, bytes: files.iter().map(|(_, bytes)| bytes).sum(), opened, hashed })
}

/// Founds a log of so many blocks, each of one command.
fn fill(blocks: u64, dir: &Path) -> Result<(), String> {
    const BATCH: u64 = 1024;
    let failed = |error: raft_core::StorageError| error.to_string();
    let bell = Bell::default();
    let mut log = found(dir, &bell).map_err(|error| error.to_string())?;
    let payload = block(1, COMMAND_BYTES);
    let bar = bar("a log is written", blocks);
    let mut write = WriteId(0);
    while log.last_index().0 < blocks {
        let first = log.last_index().next().0;
        let entry = |index| Entry { index: LogIndex(index), term: Term(1), payload: Payload::Command(payload.clone()) };
        let entries = (first..=blocks.min(first + BATCH - 1)).map(entry).collect();
        write = write.next();
        log.write(Write { id: write, op: WriteOp::Append { entries, digests: None } }).map_err(failed)?;
        while log.persisted().map_err(failed)? < write {
            bell.wait(Duration::from_secs(1));
        }
        bar.set_position(log.last_index().0);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The segments, and how much of each was written.
fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with("segment-") {
            let bytes = std::fs::read(entry.path()).map_err(failed)?;
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            files.push((entry.path(), written as u64));
        }
    }
    files.sort();
    Ok(files)
}

fn hash(file: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = File::open(file)?.take(bytes);
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            std::hint::black_box(hasher.finalize());
            return Ok(());
        }
        hasher.update(&buffer[..read]);
    }
}

impl Start {
    /// Above 1 it is opened in less time than it is hashed in.
    fn ratio(&self) -> f64 {
        median(self.hashed.clone()) / median(self.opened.clone())
    }

    pub(crate) fn text(&self) -> String {
        let [opened, hashed] = [&self.opened, &self.hashed].map(|times| median(times.clone()));
        let mib = self.bytes as f64 / f64::from(1 << 20);
        format!(
            "A log of {} blocks of {COMMAND_BYTES} B ({mib:.0} MiB): opened in {opened:.2} s, read and hashed with SHA-256 in \
             {hashed:.2} s; so it is opened at {:.2}x the speed of hashing (medians; at least 0.5x is wanted)\n",
            self.blocks,
            self.ratio()
        )
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json!({"blocks": self.blocks, "bytes": self.bytes, "opened_s": self.opened, "hashed_s": self.hashed,
               "ratio": self.ratio()})
    }
}
