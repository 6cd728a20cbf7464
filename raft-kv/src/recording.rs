//! Record and replay: what a node was told and read, written as it runs, and stepped through again at one's desk.
//!
//! A node is a fold over its events, so a recording is complete when it holds everything that a step depends on:
//!
//! 1. the [`Config`], with the seed of its timeouts: the only randomness;
//! 2. every [`Event`], in order;
//! 3. what the node *read* from its storage, when it was made and in each step since. The answers are kept, not the
//!    storage: a node reads little (its start, and old entries for followers that lag), a log may be long, and an
//!    answer that was an error is replayed as that error. Chain digests are computed anew.
//!
//! With each step goes the number of actions that it gave and a checksum of them, so that [`Replay`] names the first
//! step that goes another way. The actions themselves are what replaying gives.
//!
//! A snapshot that is taken here is an event with all its bytes, and one that is sent is read chunk by chunk: both are in
//! the recording. A step longer than [`ENCODED_BYTES_MAX`](crate::codec::ENCODED_BYTES_MAX), as that of a large snapshot,
//! ends it.
//!
//! [`Recorder`] is a storage around the server's own; it records from its node's first read to its last step. A
//! recording is replayed from its start only: so it is not rotated but ends at a size, and each start of a server
//! begins a file of its own.
//!
//! # The file
//!
//! Numbers are little-endian in headers, and bodies are in the compact encoding of [`codec`](crate::codec).
//!
//! ```text
//! file header   magic 8 | version 4 | crc32c 4 (of the 12 before)
//! frame header  body length 4 | body crc32c 4 | header crc32c 4 (of the frame's offset, 8 bytes, and the 8 before)
//! body          0 start   config, time, whether the storage is a chain, answers: once, first
//!               1 steps   milliseconds since the start, then to the end: event, answers, count of actions, crc32c
//!               2 ending  why: last, if at all
//! ```
//!
//! A frame is written each tick, and before that where much has gathered. It is written by a thread of its own and
//! never synced: a process that is killed leaves all but the last tick, a machine that loses power what the kernel has
//! written by then. Where the file ends inside a frame, or the bad frame is the last, the tail is [torn](Tail::Torn)
//! and what stands before it is replayed; a bad frame before others is damage, and an error.

mod format;
mod reader;
mod recorder;
mod replay;
mod sink;

use std::collections::BTreeMap;
use std::fmt;

use raft_core::{
    Bytes, Config, Configuration, Digest, Entry, Event, HardState, Incarnation, LogIndex, SnapshotMeta, StorageError,
    Term,
};
use serde::{Deserialize, Serialize};

pub use reader::{Recording, RecordingError, Tail};
pub use recorder::{RecordError, Recorder};
pub use replay::{Difference, RecordedStorage, Replay, ReplayError, Replayed, Verified, verify};

/// What a recording begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The node's configuration.
    pub config: Config,
    /// When it started, in milliseconds since 1970.
    pub unix_millis: u64,
    /// Whether its storage links entries into a chain, as [`link`](crate::link) does.
    pub is_chain: bool,
    /// What the node read to start.
    pub answers: BTreeMap<Question, Answer>,
}

/// One recorded step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its place, from 1.
    pub number: u64,
    /// Milliseconds since the start when its frame began: the same for all steps of a tick.
    pub millis: u64,
    /// What the node was told.
    pub event: Event,
    /// What it read.
    pub answers: BTreeMap<Question, Answer>,
    /// What it did.
    pub actions: Fingerprint,
}

/// Stands for the actions of a step: equal actions have equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many they are.
    pub count: u32,
    /// crc32c of their encoding.
    pub crc: u32,
}

/// What a node can ask its storage. Within a step the storage does not change, so each has one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Question {
    /// The hard state.
    HardState,
    /// The snapshot's name.
    SnapshotMeta,
    /// The first index.
    FirstIndex,
    /// The last index.
    LastIndex,
    /// The bytes of the snapshot at an index, from an offset on, up to so many.
    SnapshotChunk(LogIndex, u64, u64),
    /// The term at an index.
    Term(LogIndex),
    /// The digest at an index.
    Digest(LogIndex),
    /// The entries from an index to another, up to so many bytes.
    Entries(LogIndex, LogIndex, u64),
    /// The membership entries of the log.
    Configurations,
    /// Which disk it is.
    Incarnation,
}

/// What a storage answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::HardState`].
    HardState(HardState),
    /// To [`Question::SnapshotMeta`].
    SnapshotMeta(SnapshotMeta),
    /// To [`Question::FirstIndex`].
    FirstIndex(LogIndex),
    /// To [`Question::LastIndex`].
    LastIndex(LogIndex),
    /// To [`Question::SnapshotChunk`].
    SnapshotChunk(Bytes),
    /// To [`Question::Term`].
    Term(Term),
    /// To [`Question::Digest`].
    Digest(Option<Digest>),
    /// To [`Question::Entries`].
    Entries(Vec<Entry>),
    /// To [`Question::Configurations`].
    Configurations(Vec<(LogIndex, Configuration)>),
    /// To [`Question::Incarnation`].
    Incarnation(Incarnation),
    /// To any of them.
    Error(StorageError),
}

/// Why a recording ended, where it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The server stopped.
    Stopped,
    /// The file has reached its size.
    Full {
        /// The size in bytes.
        max_bytes: u64,
    },
    /// The disk was too slow for it: the server does not wait for its recording.
    Overrun,
    /// A step was longer than [`ENCODED_BYTES_MAX`](crate::codec::ENCODED_BYTES_MAX).
    TooLong,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HardState => write!(f, "the hard state"),
            Self::SnapshotMeta => write!(f, "the snapshot's name"),
            Self::FirstIndex => write!(f, "the first index"),
            Self::LastIndex => write!(f, "the last index"),
            Self::SnapshotChunk(index, offset, bytes) => {
                write!(f, "the snapshot of entry {index} from byte {offset} on, up to {bytes} bytes")
            }
            Self::Term(index) => write!(f, "the term of entry {index}"),
            Self::Digest(index) => write!(f, "the digest of entry {index}"),
            Self::Entries(first, last, bytes) => write!(f, "entries {first} to {last}, up to {bytes} bytes"),
            Self::Configurations => write!(f, "the membership entries"),
            Self::Incarnation => write!(f, "the incarnation"),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "the server stopped"),
            Self::Full { max_bytes } => write!(f, "the recording reached {max_bytes} bytes"),
            Self::Overrun => write!(f, "the disk was too slow for the recording"),
            Self::TooLong => write!(f, "a step was too long to be recorded"),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (crc {:08x})", self.count, self.crc)
    }
}

#[cfg(test)]
mod tests;
