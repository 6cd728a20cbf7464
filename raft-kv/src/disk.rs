//! The one file that a [`BlockLog`](crate::BlockLog) writes: a trait, its contract numbered, and its implementors
//! [`FileDisk`] (a real file, a writer thread of its own) and [`MemDisk`] (a test double that crashes on command).
//!
//! A position in the file is also the ticket of a write: a write that ends at byte `n` is durable once
//! [`durable`](Disk::durable) has reached `n`.
//!
//! # Contract
//!
//! 1. The file is one run of bytes that only grows. [`len`](Disk::len) counts every byte submitted, written or not.
//! 2. [`submit`](Disk::submit) begins to append and to sync; it never waits for the device. What is submitted while a
//!    sync runs is written and synced together after it.
//! 3. Bytes become durable in the order submitted: when `durable` answers `n`, every byte before `n` survives a crash.
//!    It never falls. What a crash leaves of the bytes from `n` on is arbitrary: any length of them, any part of them
//!    as written, the rest zeros.
//! 4. [`read_at`](Disk::read_at) fills the whole buffer with what was written or fails. It answers for every byte that
//!    is durable, and for those that the file held when it was opened.
//! 5. The first write or sync that fails is the last: from then on `submit` and `durable` return its error, nothing
//!    more becomes durable, and nothing is tried again. Reads go on.
//! 6. [`settle`](Disk::settle) comes before the first `submit` and never after it.

use raft_core::StorageError;

mod file;
mod mem;

pub use file::FileDisk;
pub use mem::MemDisk;

/// An append-only file whose writes become durable later.
#[allow(clippy::len_without_is_empty)] // A log file is never asked whether it is empty but by its length.
pub trait Disk {
    /// What to call the file in an error: its path.
    fn place(&self) -> String;

    /// Bytes in the file once everything submitted is written.
    fn len(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Contract 4.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Begins to append these bytes, and answers where they end: the new `len`.
    ///
    /// # Errors
    /// Contract 5. Nothing of these bytes was or will be written.
    fn submit(&mut self, bytes: &[u8]) -> Result<u64, DiskError>;

    /// How many bytes from the beginning survive a crash. Does not wait.
    ///
    /// # Errors
    /// Contract 5.
    fn durable(&mut self) -> Result<u64, DiskError>;

    /// Recovery: makes the file its first `keep` bytes and then `tail`, all of it durable on return.
    ///
    /// `tail` is written even where the file already holds it: after a failed sync the kernel may show bytes that never
    /// reached the device and count them as clean (fault D3), and writing them again is what makes the sync mean
    /// something. A crash inside leaves the first `keep` bytes, and after them any mix of what was there and `tail`.
    ///
    /// # Errors
    /// The file could not be written: the disk is as after any failed write.
    fn settle(&mut self, keep: u64, tail: &[u8]) -> Result<(), DiskError>;
}

/// What a disk answers instead of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// Another process holds the directory's lock (fault D7).
    #[error("{dir} is in use by another process: stop that one, or give this server a directory of its own")]
    InUse {
        /// The directory.
        dir: String,
    },
    /// The device is full (fault D6).
    #[error("{what}: no space left on the device: make room, then start this server again")]
    Full {
        /// Operation and file.
        what: String,
    },
    /// The file is shorter than what was asked for.
    #[error("{place} ends at or before byte {end}")]
    PastEnd {
        /// The file.
        place: String,
        /// Where the bytes asked for would end.
        end: u64,
    },
    /// The system's refusal.
    #[error("{what}")]
    Io {
        /// Operation, file and the system's words.
        what: String,
    },
}

impl DiskError {
    /// `operation` on `place` failed with `error`.
    pub(crate) fn io(operation: &str, place: &str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full { what: format!("{operation} {place}") }
            }
            _ => Self::Io { what: format!("{operation} {place}: {error}") },
        }
    }
}

/// A read that failed: bytes that should be there and are not are damage.
impl From<DiskError> for StorageError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::PastEnd { place, end } => {
                Self::Damaged { place, what: format!("the file ends before byte {end}, which was written") }
            }
            other => Self::Io { what: other.to_string() },
        }
    }
}
