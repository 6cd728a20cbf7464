//! Why a log does not open. By blame: the wrong directory or settings, another version, a failed or damaged disk.

use raft_core::StorageError;

use crate::block::Genesis;
use crate::disk::DiskError;

/// Why a log does not open. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The log is of another cluster, or of the same with other founding members (fault N3).
    #[error(
        "{place} was created for {found}, and this server was started for {asked}: \
         start it with what the log was created for, or give it a directory of its own"
    )]
    OtherGenesis {
        /// The directory.
        place: String,
        /// What it was created for.
        found: Box<Genesis>,
        /// What it was opened for.
        asked: Box<Genesis>,
    },
    /// There is no log to open.
    #[error("{place} is empty: nothing was ever stored there")]
    Missing {
        /// The directory.
        place: String,
    },
    /// There is something where a log should be created.
    #[error("{place} holds a log already: open it instead, or choose another directory")]
    Exists {
        /// The directory.
        place: String,
    },
    /// The log's format is of another version.
    #[error("{place} has format version {found}, and this program reads version {known}: use the one that wrote it")]
    Version {
        /// The file.
        place: String,
        /// The version found.
        found: u32,
        /// The version known here.
        known: u32,
    },
    /// The log was kept in one file, by a version before the first release.
    #[error(
        "{place} holds a log of an earlier version, in one file: this version does not read it, and changed nothing"
    )]
    OldFormat {
        /// The file.
        place: String,
    },
    /// A file is damaged or cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Disk(DiskError),
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::PastEnd { .. } | DiskError::NoFile { .. } => Self::Storage(error.into()),
            other => Self::Disk(other),
        }
    }
}
