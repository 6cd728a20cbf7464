//! The directory of a simulated server: it does what its world decides, and forgets at a crash what a real one may
//! forget.
//!
//! ```text
//!            vouched            durable            where the running sync ends          submitted
//! 0 ───────────┴──────────────────┴──────────────────────┴───────────────────────────────┘
//!   bit rot: found at open          a crash leaves any part of these up to a barrier
//! ```
//!
//! A [`SimDisk`] is a handle. One belongs to the log, which reads and submits; another to the world, which begins and
//! ends the syncs, breaks the device and pulls the plug. Before a log is opened again the old one is dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use raft_kv::{Change, Disk, DiskError, MemDisk};
use rand::RngExt;

use crate::time::{Rng, chance};

mod vouching;

use vouching::Vouching;

/// Bits that rot at once, at most.
const ROTTEN_BITS_MAX: usize = 8;

/// Where rot is in one place, it is within so many bits.
const ROTTEN_PLACE: u64 = 64;

/// A handle on one simulated directory: see the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    device: Rc<RefCell<Device>>,
}

#[derive(Debug)]
struct Device {
    files: MemDisk,
    /// The last ticket of the running sync.
    syncing: Option<u64>,
    /// What the sync that ends next fails with.
    failing: Option<DiskError>,
    failed: Option<DiskError>,
    /// Reads fail: all of them, or those that reach beyond this place of this file.
    reads_fail: Option<Option<(String, u64)>>,
    writes: u64,
    /// Whether anything was submitted since the disk was opened.
    submitted: bool,
    /// What the last crash left of what was not durable, and how many sectors of that it took.
    torn: (u64, u64),
    vouching: Vouching,
    /// How long the file was that was made longer last; where none was, no file is as long.
    unreserved: u64,
}

impl SimDisk {
    /// An empty directory, called `place` in errors.
    #[must_use]
    pub fn new(place: String) -> Self {
        Self::holding(MemDisk::at(place))
    }

    /// A disk that holds these files, all of them durable. No write vouches for any of it yet.
    #[must_use]
    pub fn holding(files: MemDisk) -> Self {
        let device = Device {
            files: files.reserving(),
            syncing: None,
            failing: None,
            failed: None,
            reads_fail: None,
            writes: 0,
            submitted: false,
            torn: (0, 0),
            vouching: Vouching::default(),
            unreserved: u64::MAX,
        };
        Self { device: Rc::new(RefCell::new(device)) }
    }

    /// Begins to do and sync all that was submitted. Answers how much that is; `None` where a sync runs, where
    /// nothing waits, or where the disk has failed.
    #[must_use]
    pub fn begin_sync(&self) -> Option<u64> {
        let mut device = self.device.borrow_mut();
        let waiting = device.files.unsynced();
        if device.syncing.is_some() || device.failed.is_some() || waiting == 0 {
            return None;
        }
        device.syncing = Some(device.files.submitted());
        Some(waiting)
    }

    /// The running sync ends: what it covers is durable, or the disk has [`failed`](Self::has_failed). Nothing where
    /// none runs.
    pub fn end_sync(&self) {
        let mut device = self.device.borrow_mut();
        let Some(ticket) = device.syncing.take() else { return };
        match device.failing.take() {
            Some(error) => device.failed = Some(error),
            None => {
                device.files.sync_to(ticket);
                device.vouching.durable(ticket);
            }
        }
    }

    /// The running sync, or the next where none runs, ends with this error. From then on the disk has failed for good
    /// (contract 5), until the next life.
    pub fn fail(&self, error: DiskError) {
        let mut device = self.device.borrow_mut();
        if device.failed.is_none() {
            device.failing.get_or_insert(error);
        }
    }

    /// No write fails any more that has not failed yet.
    pub fn fail_no_more(&self) {
        self.device.borrow_mut().failing = None;
    }

    /// Makes every read fail, or succeed again.
    pub fn fail_reads(&self, fail: bool) {
        self.device.borrow_mut().reads_fail = fail.then_some(None);
    }

    /// Makes reads fail that reach the last sixteenth of what the last segment of a log holds now, until
    /// [`fail_reads`](Self::fail_reads) is told otherwise: whoever reads from the beginning on is in the middle of it
    /// then.
    pub fn fail_late_reads(&self) {
        let mut device = self.device.borrow_mut();
        let last = device.vouching.last_segment();
        device.reads_fail = Some(last.map(|(file, end)| (file, end - end / 16)));
    }

    /// Leaves no room but in the files that are there, or makes room again. A write that finds none is a failure like any
    /// other: for good.
    pub fn set_full(&self, full: bool) {
        self.device.borrow_mut().files.set_full(full);
    }

    /// The process dies, or the power fails: what was durable stays. Of the rest stays any part, with any sectors as
    /// they were before; or, after a failed sync, all of it to look at and any mix of it in truth, until the next
    /// crash.
    ///
    /// Failures end with the life. A device that is full or whose reads fail still is and does.
    pub fn crash(&self, rng: &mut Rng) {
        let unsynced = self.unsynced();
        let looks_whole = self.has_failed() && chance(rng, 500);
        let kept = match rng.random_range(0..4) {
            0 => 0,
            1 => unsynced,
            _ => rng.random_range(0..=unsynced),
        };
        let written = match rng.random_range(0..4) {
            0 => 1000,
            1 => 900,
            _ => rng.random_range(0..=1000),
        };
        self.leave(kept, looks_whole, |_, _| chance(rng, written));
    }

    /// A crash that leaves so much of what was not durable; see [`MemDisk::crash`].
    pub fn crash_with(&self, unsynced: u64, written: impl FnMut(&str, u64) -> bool) {
        self.leave(unsynced, false, written);
    }

    fn leave(&self, kept: u64, looks_whole: bool, mut written: impl FnMut(&str, u64) -> bool) {
        let mut device = self.device.borrow_mut();
        let mut lost = 0;
        let written = |file: &str, sector| {
            let written = written(file, sector);
            lost += u64::from(!written);
            written
        };
        device.files =
            if looks_whole { device.files.crash_in_doubt(kept, written) } else { device.files.crash(kept, written) };
        device.torn = (kept, lost);
        (device.syncing, device.failing, device.failed) = (None, None, None);
        device.submitted = false;
        device.vouching.crashed();
    }

    /// The process dies as it founds its files, and has not run with them yet: nothing of that is durable.
    pub fn crash_founding(&self, rng: &mut Rng) {
        let mut device = self.device.borrow_mut();
        let founded = device.files.contents();
        device.files = MemDisk::at(device.files.place()).reserving();
        for (file, bytes) in &founded {
            // Its room is given to it once it is durable.
            let bytes = bytes.get(..usize::try_from(device.unreserved).unwrap_or(usize::MAX)).unwrap_or(bytes);
            let again = [Change::Create { file }, Change::Write { file, offset: 0, bytes }];
            again.into_iter().for_each(|change| drop(device.files.submit(change)));
        }
        device.vouching = Vouching::default();
        drop(device);
        self.crash(rng);
    }

    /// One to eight bits flip, in one place of a file or in several: of durable bytes that a later durable write of a
    /// [`BlockLog`](raft_kv::BlockLog) vouches for, or of its installed snapshot. Opening it, or reading the snapshot,
    /// finds that. Answers which file it is and where the first of them is; `None` where nothing is vouched for.
    ///
    /// What no later write vouches for is spared: a log cannot tell damage there from a torn tail, and would forget what
    /// it acknowledged.
    pub fn rot(&self, rng: &mut Rng) -> Option<(String, u64)> {
        let mut device = self.device.borrow_mut();
        let mut covered = device.vouching.covered();
        if let Some(snapshot) = device.vouching.snapshot() {
            let len = device.files.bytes(&snapshot).len() as u64;
            covered.push((snapshot, len));
        }
        covered.retain(|(_, len)| *len > 0);
        let total: u64 = covered.iter().map(|(_, len)| len).sum();
        if total == 0 {
            return None;
        }
        let mut at = rng.random_range(0..total);
        let is_it = |(_, len): &&(String, u64)| {
            let is_it = at < *len;
            at = at.saturating_sub(*len);
            is_it
        };
        let (file, len) = covered.iter().find(is_it).cloned()?;
        let end = len.saturating_mul(8);
        let place = match chance(rng, 500) {
            true => {
                let start = rng.random_range(0..end);
                start..start.saturating_add(ROTTEN_PLACE).min(end)
            }
            false => 0..end,
        };
        let count = rng.random_range(1..=ROTTEN_BITS_MAX);
        // A set: a bit that flips twice has not.
        let bits: BTreeSet<u64> = (0..count).map(|_| rng.random_range(place.clone())).collect();
        device.files.corrupt(&file, |bytes| {
            for bit in &bits {
                if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        });
        bits.first().map(|bit| (file, bit / 8))
    }

    /// The files are lost: what opens next is an empty directory.
    pub fn wipe(&self) {
        let mut device = self.device.borrow_mut();
        device.files = MemDisk::at(device.files.place()).reserving();
        (device.syncing, device.failing, device.failed) = (None, None, None);
        (device.submitted, device.torn) = (false, (0, 0));
        device.vouching = Vouching::default();
    }

    /// Changes submitted so far, in all lives.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.device.borrow().writes
    }

    /// How much of what was submitted is not durable: each byte of a write counts, and each other change as one.
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        self.device.borrow().files.unsynced()
    }

    /// How much of what was not durable the last crash left, and how many sectors of that it took.
    #[must_use]
    pub fn torn(&self) -> (u64, u64) {
        self.device.borrow().torn
    }

    /// Whether a sync runs.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.device.borrow().syncing.is_some()
    }

    /// Whether a write or sync has failed in this life.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.device.borrow().failed.is_some()
    }

    /// The files as reads show them, durable or not.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.device.borrow().files.contents()
    }
}

impl Disk for SimDisk {
    fn place(&self) -> String {
        self.device.borrow().files.place()
    }

    fn files(&self) -> Vec<String> {
        self.device.borrow().files.files()
    }

    fn holds(&self, file: &str) -> bool {
        self.device.borrow().files.holds(file)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        self.device.borrow().files.len(file)
    }

    /// Refuses bytes that are neither durable nor from an earlier life (contract 4), so that whoever relies on them
    /// shows up.
    fn read_at(&self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let device = self.device.borrow();
        let end = offset.saturating_add(buffer.len() as u64);
        let fails = device.reads_fail.as_ref().is_some_and(|late| match late {
            Some((late, from)) => late == file && end > *from,
            None => true,
        });
        if fails {
            let place = device.files.place_of(file);
            return Err(DiskError::Io { what: format!("read {place} at {offset}: injected failure") });
        }
        device.files.read_at(file, offset, buffer)
    }

    fn submit(&mut self, change: Change<'_>) -> Result<u64, DiskError> {
        let mut device = self.device.borrow_mut();
        device.health()?;
        let ticket = device.files.submit(change).map_err(|error| device.fail(error))?;
        device.submitted = true;
        device.writes = device.writes.saturating_add(1);
        device.vouching.submitted(change, ticket);
        Ok(ticket)
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        let mut device = self.device.borrow_mut();
        device.health()?;
        let durable = device.files.durable()?;
        device.vouching.told(durable);
        Ok(durable)
    }

    fn prepare(&mut self, file: &str, len: u64) {
        let mut device = self.device.borrow_mut();
        if device.failed.is_none() {
            device.files.prepare(file, len);
        }
    }

    fn reserve(&mut self, file: &str, len: u64) {
        let mut device = self.device.borrow_mut();
        device.unreserved = device.files.len(file).unwrap_or(0);
        device.files.reserve(file, len);
    }

    fn lacks_room(&self) -> bool {
        self.device.borrow().files.lacks_room()
    }

    fn has_free(&self, bytes: u64) -> bool {
        self.device.borrow().files.has_free(bytes)
    }

    fn settle(&mut self, changes: &[Change<'_>]) -> Result<(), DiskError> {
        let mut device = self.device.borrow_mut();
        device.health()?;
        if let Some(error) = device.failing.take() {
            return Err(device.failed.insert(error).clone());
        }
        if device.submitted {
            let place = device.files.place();
            return Err(DiskError::Io { what: format!("settle {place}: it was written to in this life") });
        }
        device.files.settle(changes).map_err(|error| device.fail(error))?;
        device.vouching.settled(changes);
        Ok(())
    }
}

impl Device {
    fn health(&self) -> Result<(), DiskError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// A write that was refused is the last (contract 5): the sync that runs comes to nothing.
    fn fail(&mut self, error: DiskError) -> DiskError {
        self.syncing = None;
        self.failed.insert(error).clone()
    }
}

#[cfg(test)]
mod tests;
