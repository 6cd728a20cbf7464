//! How long a write to the block log takes until it is durable, beside what the disk itself takes.
//!
//! `cargo run --release -p raft-benches --example block_log`
//!
//! A `BlockLog` over its `FileDisk` is given one write after the other: some blocks, each of some commands. It hashes them
//! into the chain, its writer thread writes and syncs them, and this thread is woken; all of that is measured. Beside it
//! the disk: so many bytes written and `fdatasync`ed by this thread itself, in files that no log has a part in. In every
//! round each is done once, in turn, so that whatever the machine does meanwhile falls on all alike.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use raft_benches::figures::{bar, end, quantile, write};
use raft_benches::material::block;
use raft_benches::served::{Bell, found};
use raft_core::{Bytes, Entry, LogIndex, Payload, Storage as _, Term, Write, WriteId, WriteOp};
use raft_kv::{BlockLog, FileDisk};
use serde_json::json;

/// Measures writes to the block log until they are durable, beside the disk's own.
#[derive(Parser)]
#[command(name = "block_log", version)]
struct Args {
    /// Commands in a block
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,16,64",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    commands: Vec<u16>,
    /// Blocks in a write
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,8",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    blocks: Vec<u16>,
    /// Bytes in a command
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=65536))]
    size: u32,
    /// How often each write is done
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where the files are, in a directory that is removed at the end: on a disk, or nothing is durable
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Writes every figure there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one kind of write took, in microseconds, ascending.
struct Measured {
    name: String,
    bytes: usize,
    times: Vec<f64>,
}

/// A write to the log.
struct Cell {
    commands: usize,
    blocks: usize,
    payload: Bytes,
}

impl Cell {
    fn bytes(&self) -> usize {
        self.payload.len() * self.blocks
    }

    fn entries(&self, after: LogIndex) -> impl Iterator<Item = Entry> {
        let entry =
            |index| Entry { index: LogIndex(index), term: Term(1), payload: Payload::Command(self.payload.clone()) };
        (after.0 + 1..=after.0 + self.blocks as u64).map(entry)
    }
}

/// The log, and what wakes who waits for it.
struct Log {
    log: BlockLog<FileDisk>,
    bell: Bell,
    last_write: WriteId,
}

impl Log {
    fn new(dir: &Path) -> Result<Self, String> {
        let bell = Bell::default();
        let log = found(dir, &bell).map_err(|error| error.to_string())?;
        Ok(Self { log, bell, last_write: WriteId(0) })
    }

    fn write(&mut self, cell: &Cell) -> Result<Duration, String> {
        let entries = cell.entries(self.log.last_index()).collect();
        let began = Instant::now();
        self.last_write = self.last_write.next();
        let write = Write { id: self.last_write, op: WriteOp::Append { entries, digests: None } };
        self.log.write(write).map_err(|error| error.to_string())?;
        while self.log.persisted().map_err(|error| error.to_string())? < self.last_write {
            self.bell.wait(Duration::from_secs(1));
        }
        Ok(began.elapsed())
    }
}

/// A file that is written from its beginning to its end, and anew.
struct Plain {
    file: File,
    at: u64,
    len: u64,
    bytes: Vec<u8>,
}

impl Plain {
    /// With so many zeros in it that it never grows, durable.
    fn zero_filled(path: &Path, bytes: usize) -> std::io::Result<Self> {
        const LEN: usize = 64 << 20;
        let len = LEN / bytes * bytes;
        std::fs::write(path, vec![0; len])?;
        let file = File::options().write(true).open(path)?;
        file.sync_all()?;
        Ok(Self { file, at: 0, len: len as u64, bytes: vec![7; bytes] })
    }

    /// That grows with each write.
    fn growing(path: &Path, bytes: usize) -> std::io::Result<Self> {
        Ok(Self { file: File::create(path)?, at: 0, len: u64::MAX, bytes: vec![7; bytes] })
    }

    fn write(&mut self) -> std::io::Result<Duration> {
        let began = Instant::now();
        self.file.write_all_at(&self.bytes, self.at)?;
        self.file.sync_data()?;
        let took = began.elapsed();
        self.at = (self.at + self.bytes.len() as u64) % self.len;
        Ok(took)
    }
}

fn main() -> ExitCode {
    end("block_log", run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), String> {
    let dir = tempfile::Builder::new().prefix("block-log-").tempdir_in(&args.dir);
    let dir = dir.map_err(|error| format!("{}: {error}; --dir names another directory", args.dir.display()))?;
    let cells = cells(args);
    let measured = measure(args, &cells, dir.path())?;
    print!("{}", table(args, &measured, cells.len()));
    let all: Vec<_> =
        measured.iter().map(|one| json!({"write": one.name, "bytes": one.bytes, "microseconds": one.times})).collect();
    write(args.json.as_deref(), &json!(all).to_string())
}

/// The disk's own first: a page on a zero-filled and on a growing file, then as many bytes as each write to the log.
fn measure(args: &Args, cells: &[Cell], dir: &Path) -> Result<Vec<Measured>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut plain = vec![
        (String::from("disk, zero-filled file"), Plain::zero_filled(&dir.join("zero-filled"), PAGE).map_err(failed)?),
        (String::from("disk, growing file"), Plain::growing(&dir.join("growing"), PAGE).map_err(failed)?),
    ];
    for (number, cell) in cells.iter().enumerate() {
        let bytes = cell.bytes().max(1);
        let file = Plain::zero_filled(&dir.join(format!("same-{number}")), bytes).map_err(failed)?;
        plain.push((String::from("disk, as many bytes"), file));
    }
    let mut log = Log::new(&dir.join("log"))?;
    let mut times = vec![Vec::new(); plain.len() + cells.len()];
    let bar = bar("writing", args.rounds.into());
    // The first tenth of the rounds warms up.
    for round in 0..args.rounds + args.rounds / 10 {
        let mut took = Vec::with_capacity(times.len());
        for (_, file) in &mut plain {
            took.push(file.write().map_err(failed)?);
        }
        for cell in cells {
            took.push(log.write(cell)?);
        }
        if round >= args.rounds / 10 {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took.as_secs_f64() * 1e6));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let name = |cell: &Cell| format!("log, {} x {} commands", cell.blocks, cell.commands);
    let names = plain.iter().map(|(name, file)| (name.clone(), file.bytes.len()));
    let names: Vec<_> = names.chain(cells.iter().map(|cell| (name(cell), cell.bytes()))).collect();
    let measured = names.into_iter().zip(times).map(|((name, bytes), mut times)| {
        times.sort_by(f64::total_cmp);
        Measured { name, bytes, times }
    });
    Ok(measured.collect())
}

fn cells(args: &Args) -> Vec<Cell> {
    let size = usize::try_from(args.size).unwrap();
    let pairs = args.blocks.iter().flat_map(|blocks| args.commands.iter().map(|commands| (*blocks, *commands)));
    let cell = |(blocks, commands): (u16, u16)| {
        let (blocks, commands) = (usize::from(blocks), usize::from(commands));
        Cell { commands, blocks, payload: block(commands, size) }
    };
    pairs.map(cell).collect()
}

const PAGE: usize = 4096;

/// A line for each page written to the disk, and for each write to the log.
fn table(args: &Args, measured: &[Measured], cells: usize) -> String {
    let (pages, rest) = measured.split_at(2);
    let (same, log) = rest.split_at(cells);
    let p50 = |one: &Measured| quantile(&one.times, 500);
    let mut out = format!(
        "{} rounds; commands of {} bytes; hashing and waking are part of a write to the log\n\n\
         | a write, to durable | bytes | p50 us | p99 us | p50 / 4 KiB zero-filled | / 4 KiB growing | / as many bytes \
         zero-filled |\n|---|---|---|---|---|---|---|\n",
        args.rounds, args.size
    );
    for (number, one) in pages.iter().chain(log).enumerate() {
        let of_same = number.checked_sub(pages.len()).and_then(|number| same.get(number));
        out += &format!(
            "| {} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {} |\n",
            one.name,
            one.bytes,
            p50(one),
            quantile(&one.times, 990),
            p50(one) / p50(&pages[0]),
            p50(one) / p50(&pages[1]),
            of_same.map_or_else(String::new, |same| format!("{:.2}", p50(one) / p50(same))),
        );
    }
    out
}
