//! The file of a simulated server: it does what its world decides, and forgets at a crash what a real one may forget.
//!
//! ```text
//!            vouched            durable            where the running sync ends          len
//! 0 ───────────┴──────────────────┴──────────────────────┴───────────────────────────────┘
//!   bit rot: found at open          a crash leaves any length of these, any sector of it as zeros
//! ```
//!
//! A [`SimDisk`] is a handle. One belongs to the log, which reads and submits; another to the world, which begins and
//! ends the syncs, breaks the device and pulls the plug. Before a log is opened again the old one is dropped.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use raft_kv::{Disk, DiskError};
use rand::RngExt;

use crate::time::{Rng, chance};

mod vouching;

use vouching::Vouching;

/// A crash keeps or loses unsynced bytes by pieces of this size, counted from the beginning of the file.
const SECTOR: usize = 512;

/// Bits that rot at once, at most.
const ROTTEN_BITS_MAX: usize = 8;

/// Where rot is in one place, it is within so many bits.
const ROTTEN_PLACE: usize = 64;

/// A handle on one simulated file: see the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    file: Rc<RefCell<File>>,
}

/// Invariant: `durable <= syncing <= bytes.len()`, and `durable` is where a write ends.
#[derive(Debug, Default)]
struct File {
    place: String,
    /// What reads show: durable bytes, then those that a crash may take.
    bytes: Vec<u8>,
    durable: usize,
    /// Bytes that were there when the file was opened: they can be read, durable or not.
    held: usize,
    /// Where the running sync ends.
    syncing: Option<usize>,
    /// What the sync that ends next fails with.
    failing: Option<DiskError>,
    failed: Option<DiskError>,
    /// Bytes of a failed sync that reads show and the device may not hold, until they are written again (fault D3).
    doubtful: Range<usize>,
    /// Reads fail that reach beyond this offset.
    reads_fail: Option<u64>,
    full: bool,
    writes: u64,
    /// Whether anything was submitted since the file was opened.
    submitted: bool,
    vouching: Vouching,
}

impl SimDisk {
    /// An empty file, called `place` in errors.
    #[must_use]
    pub fn new(place: String) -> Self {
        Self { file: Rc::new(RefCell::new(File { place, ..File::default() })) }
    }

    /// Begins to write and sync all that was submitted. Answers how many bytes that is; `None` where a sync runs, where
    /// nothing waits, or where the disk has failed.
    #[must_use]
    pub fn begin_sync(&self) -> Option<u64> {
        let mut file = self.file.borrow_mut();
        let waiting = file.bytes.len().saturating_sub(file.durable);
        if file.syncing.is_some() || file.failed.is_some() || waiting == 0 {
            return None;
        }
        file.syncing = Some(file.bytes.len());
        Some(waiting as u64)
    }

    /// The running sync ends: its bytes are durable, or the disk has [`failed`](Self::has_failed). Nothing where none runs.
    pub fn end_sync(&self) {
        let mut file = self.file.borrow_mut();
        let Some(end) = file.syncing.take() else { return };
        match file.failing.take() {
            Some(error) => file.failed = Some(error),
            None => file.make_durable(end),
        }
    }

    /// The running sync, or the next where none runs, ends with this error. From then on the disk has failed for good
    /// (contract 5), until the next life.
    pub fn fail(&self, error: DiskError) {
        let mut file = self.file.borrow_mut();
        if file.failed.is_none() {
            file.failing.get_or_insert(error);
        }
    }

    /// Makes every read fail, or succeed again.
    pub fn fail_reads(&self, fail: bool) {
        self.file.borrow_mut().reads_fail = fail.then_some(0);
    }

    /// Makes reads fail that reach the last sixteenth of what is durable now, until [`fail_reads`](Self::fail_reads) is
    /// told otherwise: whoever reads from the beginning on is in the middle of it then.
    pub fn fail_late_reads(&self) {
        let durable = self.durable_len();
        self.file.borrow_mut().reads_fail = Some(durable - durable / 16);
    }

    /// Leaves no room for writes, or makes room again. A write that was refused is a failure like any other: for good.
    pub fn set_full(&self, full: bool) {
        self.file.borrow_mut().full = full;
    }

    /// The process dies, or the power fails: what was durable stays. Of the rest stays any length, with any sectors as
    /// zeros; or, after a failed sync, all of it to look at and any mix of it in truth, until the next crash.
    ///
    /// Failures end with the life. A device that is full or whose reads fail still is and does.
    pub fn crash(&self, rng: &mut Rng) {
        let unsynced = self.unsynced();
        let looks_whole = self.has_failed() && chance(rng, 500);
        let kept = match rng.random_range(0..4) {
            _ if looks_whole => unsynced,
            0 => 0,
            1 => unsynced,
            _ => rng.random_range(0..=unsynced),
        };
        let written = match rng.random_range(0..4) {
            _ if looks_whole => 1000,
            0 => 1000,
            1 => 900,
            _ => rng.random_range(0..=1000),
        };
        self.crash_with(kept, |_| chance(rng, written));
        if looks_whole {
            let mut file = self.file.borrow_mut();
            file.doubtful = file.durable..file.bytes.len();
        }
    }

    /// A crash that leaves so many of the bytes that were not durable; of their sectors, numbered from the beginning of
    /// the file, those for which `written` is false are zeros.
    pub fn crash_with(&self, unsynced: u64, mut written: impl FnMut(u64) -> bool) {
        let mut file = self.file.borrow_mut();
        let end = file.durable.saturating_add(usize::try_from(unsynced).unwrap_or(usize::MAX)).min(file.bytes.len());
        file.bytes.truncate(end);
        let (doubtful, unsynced) = (std::mem::take(&mut file.doubtful), file.durable..end);
        file.lose_sectors(doubtful, &mut written);
        file.lose_sectors(unsynced, &mut written);
        file.held = end;
        (file.syncing, file.failing, file.failed) = (None, None, None);
        file.submitted = false;
    }

    /// The process dies as it founds the file, and has not run with it yet: nothing of that is durable.
    pub fn crash_founding(&self, rng: &mut Rng) {
        let mut file = self.file.borrow_mut();
        (file.durable, file.vouching) = (0, Vouching::default());
        drop(file);
        self.crash(rng);
    }

    /// One to eight bits flip, in one place or in several, of durable bytes that a later durable write of a
    /// [`BlockLog`](raft_kv::BlockLog) vouches for: opening finds that. Answers where the first of them is; `None` where nothing
    /// is vouched for.
    ///
    /// What no later write vouches for is spared: a log cannot tell damage there from a torn tail, and would forget what
    /// it acknowledged.
    pub fn rot(&self, rng: &mut Rng) -> Option<u64> {
        let mut file = self.file.borrow_mut();
        let end = file.vouching.covered().saturating_mul(8);
        if end == 0 {
            return None;
        }
        let place = match chance(rng, 500) {
            true => {
                let start = rng.random_range(0..end);
                start..start.saturating_add(ROTTEN_PLACE).min(end)
            }
            false => 0..end,
        };
        let count = rng.random_range(1..=ROTTEN_BITS_MAX);
        // A set: a bit that flips twice has not.
        let bits: BTreeSet<usize> = (0..count).map(|_| rng.random_range(place.clone())).collect();
        for bit in &bits {
            if let Some(byte) = file.bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        bits.first().map(|bit| (bit / 8) as u64)
    }

    /// The file is lost: what opens next is empty.
    pub fn wipe(&self) {
        let mut file = self.file.borrow_mut();
        let (place, writes) = (std::mem::take(&mut file.place), file.writes);
        let (reads_fail, full) = (file.reads_fail, file.full);
        *file = File { place, writes, reads_fail, full, ..File::default() };
    }

    /// Writes submitted so far, in all lives.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.file.borrow().writes
    }

    /// Bytes that survive a crash for certain. The log's own question, [`Disk::durable`], is noted as what it was told.
    #[must_use]
    pub fn durable_len(&self) -> u64 {
        self.file.borrow().durable as u64
    }

    /// Bytes submitted and not durable.
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        let file = self.file.borrow();
        file.bytes.len().saturating_sub(file.durable) as u64
    }

    /// Whether a sync runs.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.file.borrow().syncing.is_some()
    }

    /// Whether a write or sync has failed in this life.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.file.borrow().failed.is_some()
    }

    /// A copy of the file as reads show it, durable or not.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.file.borrow().bytes.clone()
    }
}

impl Disk for SimDisk {
    fn place(&self) -> String {
        self.file.borrow().place.clone()
    }

    fn len(&self) -> u64 {
        self.file.borrow().bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.borrow().read_at(offset, buffer)
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<u64, DiskError> {
        let mut file = self.file.borrow_mut();
        file.begin_write("write to")?;
        file.bytes.extend_from_slice(bytes);
        file.submitted = true;
        file.writes = file.writes.saturating_add(1);
        let end = file.bytes.len();
        file.vouching.submitted(end);
        Ok(end as u64)
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        let mut file = self.file.borrow_mut();
        file.health()?;
        let durable = file.durable;
        file.vouching.told(durable);
        Ok(durable as u64)
    }

    fn settle(&mut self, keep: u64, tail: &[u8]) -> Result<(), DiskError> {
        self.file.borrow_mut().settle(keep, tail)
    }
}

impl File {
    fn health(&self) -> Result<(), DiskError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Whether a write can begin. One that has no room is the last (contract 5): the sync that runs comes to nothing.
    fn begin_write(&mut self, operation: &str) -> Result<(), DiskError> {
        self.health()?;
        if self.full {
            self.failed = Some(DiskError::Full { what: format!("{operation} {}", self.place) });
            self.syncing = None;
        }
        self.health()
    }

    fn make_durable(&mut self, end: usize) {
        self.durable = end;
        self.vouching.durable(end);
    }

    /// Refuses bytes that are neither durable nor from an earlier life (contract 4), so that whoever relies on them
    /// shows up.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let end = offset.saturating_add(buffer.len() as u64);
        if self.reads_fail.is_some_and(|from| end > from) {
            return Err(DiskError::Io { what: format!("read {} at {offset}: injected failure", self.place) });
        }
        let range = usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        let readable = self.bytes.get(..self.durable.max(self.held));
        let bytes = readable.and_then(|bytes| bytes.get(range));
        buffer.copy_from_slice(bytes.ok_or_else(|| DiskError::PastEnd { place: self.place.clone(), end })?);
        Ok(())
    }

    fn settle(&mut self, keep: u64, tail: &[u8]) -> Result<(), DiskError> {
        self.begin_write("settle")?;
        if let Some(error) = self.failing.take() {
            return Err(self.failed.insert(error).clone());
        }
        if self.submitted {
            return Err(DiskError::Io { what: format!("settle {}: it was written to in this life", self.place) });
        }
        let keep = usize::try_from(keep).ok().filter(|keep| *keep <= self.bytes.len());
        let keep =
            keep.ok_or_else(|| DiskError::PastEnd { place: self.place.clone(), end: self.bytes.len() as u64 })?;
        let as_it_was = self.bytes.get(keep..).is_some_and(|bytes| bytes.starts_with(tail));
        self.bytes.truncate(keep);
        self.bytes.extend_from_slice(tail);
        self.doubtful.end = self.doubtful.end.min(keep);
        let end = self.bytes.len();
        (self.durable, self.held) = (end, end);
        self.vouching.settled(end, as_it_was);
        Ok(())
    }

    /// Makes zeros of the sectors of this range that were not written.
    fn lose_sectors(&mut self, range: Range<usize>, written: &mut impl FnMut(u64) -> bool) {
        let mut at = range.start;
        while at < range.end {
            let end = (at / SECTOR).saturating_add(1).saturating_mul(SECTOR).min(range.end);
            if !written((at / SECTOR) as u64)
                && let Some(sector) = self.bytes.get_mut(at..end)
            {
                sector.fill(0);
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests;
