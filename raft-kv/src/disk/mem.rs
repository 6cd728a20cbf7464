//! A disk in memory that keeps what is durable apart from what is only written, and crashes as a test decides.

use super::{Disk, DiskError};

/// A crash keeps or loses unsynced bytes by pieces of this size.
const SECTOR: usize = 512;

/// A test double for [`FileDisk`](super::FileDisk): nothing becomes durable until the test says so.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    /// What a crash leaves for certain.
    durable: Vec<u8>,
    /// Everything submitted: `durable`, then the bytes that a crash may lose.
    live: Vec<u8>,
    failed: Option<DiskError>,
    reads_fail: bool,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub const fn new() -> Self {
        Self { durable: Vec::new(), live: Vec::new(), failed: None, reads_fail: false }
    }

    /// A disk whose file holds these bytes, all durable.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), live: bytes, ..Self::new() }
    }

    /// Completes the write and sync of everything submitted, unless the disk has failed.
    pub fn sync(&mut self) {
        self.sync_to(self.len());
    }

    /// Completes the write and sync of everything before `len`, unless the disk has failed.
    pub fn sync_to(&mut self, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.live.len());
        if self.failed.is_none() {
            self.durable.extend(self.live.iter().take(len).skip(self.durable.len()));
        }
    }

    /// Makes the running write or sync fail, and with it all that follow.
    pub fn fail(&mut self, error: DiskError) {
        self.failed.get_or_insert(error);
    }

    /// Makes every read fail, or succeed again.
    pub const fn fail_reads(&mut self, fail: bool) {
        self.reads_fail = fail;
    }

    /// The durable bytes.
    #[must_use]
    pub fn durable_bytes(&self) -> &[u8] {
        &self.durable
    }

    /// Every byte submitted.
    #[must_use]
    pub fn live_bytes(&self) -> &[u8] {
        &self.live
    }

    /// Changes bytes of the file behind its user's back, as a failing device does.
    pub fn corrupt(&mut self, change: impl FnOnce(&mut [u8])) {
        let durable = self.durable.len();
        change(&mut self.live);
        self.durable.clear();
        self.durable.extend(self.live.iter().take(durable));
    }

    /// The disk after a crash: what was durable, then `unsynced` of the bytes that were not. Of these, the sectors (of
    /// 512 bytes, numbered from the start of the file) for which `written` is false never reached the device and read
    /// as zeros.
    #[must_use]
    pub fn crash(&self, unsynced: usize, written: impl Fn(usize) -> bool) -> Self {
        let durable = self.durable.len();
        let kept = self.live.iter().enumerate().take(durable.saturating_add(unsynced));
        Self::from_bytes(kept.map(|(at, byte)| if at < durable || written(at / SECTOR) { *byte } else { 0 }).collect())
    }

    fn health(&self) -> Result<(), DiskError> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl Disk for MemDisk {
    fn place(&self) -> String {
        String::from("memory")
    }

    fn len(&self) -> u64 {
        self.live.len() as u64
    }

    /// Refuses bytes that are not durable, so that a user who relies on them shows up.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        if self.reads_fail {
            return Err(DiskError::Io { what: format!("read memory at {offset}: injected failure") });
        }
        let end = offset.saturating_add(buffer.len() as u64);
        let range = usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        let bytes = self.durable.get(range).ok_or_else(|| DiskError::PastEnd { place: self.place(), end })?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<u64, DiskError> {
        self.health()?;
        self.live.extend_from_slice(bytes);
        Ok(self.len())
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        self.health()?;
        Ok(self.durable.len() as u64)
    }

    fn settle(&mut self, keep: u64, tail: &[u8]) -> Result<(), DiskError> {
        self.health()?;
        self.live.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.live.extend_from_slice(tail);
        self.durable.clone_from(&self.live);
        Ok(())
    }
}
