//! The files that a [`BlockLog`](crate::BlockLog) writes: a trait, its contract numbered, and its implementors
//! [`FileDisk`] (a real directory, a writer thread of its own) and [`MemDisk`] (a test double that crashes on command).
//!
//! # Contract
//!
//! 1. A disk is a directory of named files. [`files`](Disk::files) names them as everything submitted leaves them. A
//!    name with a `/` is in a directory below, which is made when it is needed and never listed; it is found again.
//! 2. [`submit`](Disk::submit) begins an operation and answers its ticket, one more than the one before; it never waits
//!    for the device. Operations become durable in their order: when [`durable`](Disk::durable) answers `n`, everything
//!    up to ticket `n` survives a crash. It never falls.
//! 3. What a crash leaves of writes that are not durable is arbitrary: any sectors of their bytes, in any of their
//!    files. **Every other operation is a barrier**: it begins when all before it is durable, a crash leaves it done or
//!    not done, and nothing after it begins before it is durable. Directories are synced for it (fault D4).
//! 4. [`read_at`](Disk::read_at) fills the whole buffer with what was written or fails. It answers for every byte that
//!    is durable, and for those that were there when the disk was opened. A file is read by the name that everything
//!    submitted gives it, whether that is durable or not.
//! 5. The first operation that fails is the last: from then on `submit` and `durable` return its error, nothing
//!    more becomes durable, and nothing is tried again. Reads go on.
//! 6. [`settle`](Disk::settle) comes before the first `submit` and never after it.
//! 7. [`prepare`](Disk::prepare) promises nothing: the file is listed once it is there. Nor does
//!    [`reserve`](Disk::reserve), which comes before the first `submit`. A write into bytes that a file has already needs
//!    no room on the device (fault D6).

use raft_core::StorageError;
use rustix::io::Errno;

mod file;
mod mem;
mod read_only;

pub use file::FileDisk;
pub use mem::MemDisk;
pub(crate) use read_only::ReadOnlyDisk;

/// One change of a [`Disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Makes an empty file.
    Create {
        /// Its name, which no file has.
        file: &'a str,
    },
    /// Writes into a file that is there, beyond its end where that is so: bytes that were never written are zeros.
    Write {
        /// The file.
        file: &'a str,
        /// Where.
        offset: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// Gives a file another name. A file that has that name already is replaced.
    Rename {
        /// Its name.
        from: &'a str,
        /// Its name from now on.
        to: &'a str,
    },
    /// Removes a file.
    Remove {
        /// The file.
        file: &'a str,
    },
}

/// A directory of files whose changes become durable later.
pub trait Disk {
    /// What to call the directory in an error: its path.
    fn place(&self) -> String;

    /// The names of the files, in their order.
    fn files(&self) -> Vec<String>;

    /// Whether there is a file of this name.
    fn holds(&self, file: &str) -> bool;

    /// Bytes in a file.
    ///
    /// # Errors
    /// There is no such file, or the system's refusal.
    fn len(&self, file: &str) -> Result<u64, DiskError>;

    /// Fills `buffer` with the bytes of a file from `offset` on.
    ///
    /// # Errors
    /// Contract 4.
    fn read_at(&self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Begins an operation, and answers its ticket.
    ///
    /// # Errors
    /// Contract 5. Nothing of it was or will be done.
    fn submit(&mut self, change: Change<'_>) -> Result<u64, DiskError>;

    /// The last operation that survives a crash with all before it; 0 before the first. Does not wait.
    ///
    /// # Errors
    /// Contract 5.
    fn durable(&mut self) -> Result<u64, DiskError>;

    /// Begins to make a file of so many zeros, aside from all operations. Nothing where it is there or being made, or
    /// where there was no room for it a moment ago.
    fn prepare(&mut self, file: &str, len: u64);

    /// Makes a file so long, with zeros behind what it holds, where there is room for it. Provided: does nothing.
    fn reserve(&mut self, file: &str, len: u64) {
        let _ = (file, len);
    }

    /// Whether what was prepared or reserved last found no room (fault D6). Provided: never.
    fn lacks_room(&self) -> bool {
        false
    }

    /// Whether so many bytes are free on the device, as far as one can tell. Provided: always.
    fn has_free(&self, bytes: u64) -> bool {
        let _ = bytes;
        true
    }

    /// Recovery: does these operations in their order, all of them durable on return.
    ///
    /// What is written is written even where the file already holds it: after a failed sync the kernel may show bytes
    /// that never reached the device and count them as clean (fault D3), and writing them again is what makes the sync
    /// mean something.
    ///
    /// # Errors
    /// One of them failed: the disk is as after any failed operation.
    fn settle(&mut self, changes: &[Change<'_>]) -> Result<(), DiskError>;

    /// What to call one of its files in an error.
    fn place_of(&self, file: &str) -> String {
        format!("{}/{file}", self.place())
    }
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
    #[error("{what}: no space left on the device: make room")]
    Full {
        /// Change and file.
        what: String,
    },
    /// There is no such file.
    #[error("{place} is not there")]
    NoFile {
        /// The file.
        place: String,
    },
    /// The file is shorter than what was asked for.
    #[error("{place} ends at or before byte {end}")]
    PastEnd {
        /// The file.
        place: String,
        /// Where the bytes asked for would end.
        end: u64,
    },
    /// The system has no file or no memory to give: of what was asked for nothing is known.
    #[error("{what}")]
    Exhausted {
        /// Change, file and the system's words.
        what: String,
    },
    /// The system's refusal.
    #[error("{what}")]
    Io {
        /// Change, file and the system's words.
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
            _ => {
                let what = format!("{operation} {place}: {error}");
                match Errno::from_io_error(error) {
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Self::Exhausted { what },
                    _ => Self::Io { what },
                }
            }
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
            DiskError::NoFile { place } => Self::Damaged { place, what: String::from("the file is not there") },
            other => Self::Io { what: other.to_string() },
        }
    }
}
