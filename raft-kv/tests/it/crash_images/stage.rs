//! A [`MemDisk`] that notes what recovery does to it, and makes the spare file when it is told to.

use raft_kv::{Change, Disk, DiskError, MemDisk};

/// When the disk makes a file that it was asked to prepare (contract 7 of a disk promises nothing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spares {
    AtOnce,
    /// When the log has everything synced next.
    Later,
    Never,
}

#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) mem: MemDisk,
    spares: Spares,
    wanted: Option<(String, u64)>,
    /// The ticket of the last operation, but for those that make the spare.
    pub(super) submitted: u64,
    /// The disk before it was settled, with everything that was to be done then submitted.
    pub(super) settling: Option<MemDisk>,
}

impl Stage {
    pub(super) const fn new(mem: MemDisk, spares: Spares) -> Self {
        Self { mem, spares, wanted: None, submitted: 0, settling: None }
    }

    pub(super) fn make_spare(&mut self) {
        if let Some((file, len)) = self.wanted.take() {
            self.mem.prepare(&file, len);
        }
    }
}

impl Disk for Stage {
    fn place(&self) -> String {
        self.mem.place()
    }

    fn files(&self) -> Vec<String> {
        self.mem.files()
    }

    fn holds(&self, file: &str) -> bool {
        self.mem.holds(file)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        self.mem.len(file)
    }

    fn read_at(&self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.mem.read_at(file, offset, buffer)
    }

    fn submit(&mut self, change: Change<'_>) -> Result<u64, DiskError> {
        self.submitted = self.mem.submit(change)?;
        Ok(self.submitted)
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        self.mem.durable()
    }

    fn prepare(&mut self, file: &str, len: u64) {
        self.wanted = Some((file.into(), len));
        if self.spares == Spares::AtOnce {
            self.make_spare();
        }
    }

    fn reserve(&mut self, file: &str, len: u64) {
        self.mem.reserve(file, len);
    }

    fn settle(&mut self, changes: &[Change<'_>]) -> Result<(), DiskError> {
        let before = self.settling.get_or_insert_with(|| self.mem.clone());
        for change in changes {
            before.submit(*change)?;
        }
        self.mem.settle(changes)
    }
}
