//! Conformance suites: whether a [`Storage`](crate::Storage) or a [`Transport`](crate::Transport) keeps its contract.
//!
//! Behind the feature `suite`, for the tests of those who implement one:
//!
//! ```
//! // [dev-dependencies] raft-core = { features = ["suite"] }
//! raft_core::suite::storage(raft_core::MemStorage::new);
//! ```
//!
//! A closure that makes a storage is enough for all that needs no crash. A [`StorageHarness`] adds what only the
//! implementor can do: wait for the device, crash, fail; each is a method with a default, and what stays a
//! default is not checked. A [`TransportHarness`] hands messages in on one side and takes them out on the other.
//!
//! | clause of the contract | how it is checked |
//! |---|---|
//! | [`New`](Clause::New) | term 0, no vote, no entry, the genesis; nothing reported |
//! | [`Order`](Clause::Order) | ids skipped and repeated, gaps, overlaps, falling terms, truncations of what is not there: each refused as `OutOfOrder`, everything read again, and the next right write taken |
//! | [`Reports`](Clause::Reports) | `persisted` never falls, never passes what was begun, and names it all in the end; a crash that loses all it may keeps everything reported |
//! | [`Crash`](Clause::Crash) | at the crash points of a script (all of them while one write is unreported, up to 400) and of seeded random lives, what opens is a prefix of what was begun: votes, appends, truncations, and entries that take the place of others at their index |
//! | [`NewLife`](Clause::NewLife) | what opens numbers its writes from 1, and holds for certain what it answers |
//! | [`Reads`](Clause::Reads) | every index, below, in and above the log, durable or not, against a plain list |
//! | [`Snapshots`](Clause::Snapshots) | chunks in order, begun anew and given up for another's; every kind of offset and size of what was received and of what is installed |
//! | [`Install`](Clause::Install) | over a log that holds the entry, with a tail of every length, and in place of a log that ends before, at and after it; at the crash points of a script and of random lives |
//! | [`Limits`](Clause::Limits) | `entries` with limits at, below and above every sum of costs |
//! | [`Digests`](Clause::Digests) | links and digests agree, or are `None` always; a link depends on all that an entry holds |
//! | [`Failure`](Clause::Failure) | after an injected failure nothing is written or reported any more |
//! | [`Fire`](Clause::Fire) | a burst that nobody receives, to servers known and unknown: every `send` returns, and soon |
//! | [`Unaltered`](Clause::Unaltered), [`Addressed`](Clause::Addressed) | each arrival equals a message sent, and is where its `to` says |
//! | [`Identified`](Clause::Identified) | a forged `from` is overwritten or its message lost |
//! | [`Delivery`](Clause::Delivery) | on a healthy link every message arrives when it is sent again and again |
//!
//! Every run is a function of its seed, which a failure names; it is as repeatable as the storage is.

use alloc::string::String;

mod crash;
mod life;
mod model;
mod snapshot;
mod storage;
mod transport;

pub use storage::{StorageHarness, check_storage};
pub use transport::{TransportHarness, check_transport, sample_message};

/// Holds a storage against the contract of [`Storage`](crate::Storage).
///
/// # Panics
/// It breaks a clause: the message says which, how, and after what. [`check_storage`] returns it instead.
pub fn storage(harness: impl StorageHarness) {
    demand(check_storage(harness));
}

/// Holds a transport against the contract of [`Transport`](crate::Transport).
///
/// # Panics
/// It breaks a clause: the message says which, how, and after what. [`check_transport`] returns it instead.
pub fn transport(harness: impl TransportHarness) {
    demand(check_transport(harness));
}

#[allow(clippy::panic, reason = "a test fails by panicking, and this is called by nothing else")]
fn demand(checked: Result<(), Violation>) {
    if let Err(violation) = checked {
        panic!("{violation}");
    }
}

/// What is asked of an implementor. The numbers are those of the contract in the trait's module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clause {
    /// A new storage is empty.
    New,
    /// Contract 1 of a storage: writes begin in order, and what does not continue changes nothing.
    Order,
    /// Contract 2 of a storage: what is reported survives.
    Reports,
    /// Contract 3 of a storage: a crash leaves a prefix of what was begun.
    Crash,
    /// The next life begins its write ids anew, on what it holds durably.
    NewLife,
    /// Contract 4 of a storage: a read answers what was written or an error, never a default.
    Reads,
    /// Contract 6 of a storage: a snapshot reads as it was received.
    Snapshots,
    /// Contract 6 of a storage: an install is done or not done, and removes what it names.
    Install,
    /// `entries` is cut where its documentation says.
    Limits,
    /// Links and digests make one chain, or there are none.
    Digests,
    /// Contract 5 of a storage: after a failure nothing more is written.
    Failure,
    /// Contract 1 of a transport: `send` never waits and never fails.
    Fire,
    /// Contract 2 of a transport: a message is never altered.
    Unaltered,
    /// Contract 2 of a transport: a message reaches only its `to`.
    Addressed,
    /// Contract 3 of a transport: `from` is the identified peer.
    Identified,
    /// On a healthy link, what is sent often enough arrives.
    Delivery,
}

/// A clause that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{clause:?} is broken ({rule}): {what}\n  in {run}", rule = .clause.rule())]
pub struct Violation {
    /// The clause.
    pub clause: Clause,
    /// What was asked and what came instead.
    pub what: String,
    /// Which run, with its seed, and the last things done in it.
    pub run: String,
}

impl Violation {
    fn new(clause: Clause, what: String) -> Self {
        Self { clause, what, run: String::new() }
    }

    fn during(self, run: impl FnOnce() -> String) -> Self {
        if self.run.is_empty() { Self { run: run(), ..self } } else { self }
    }
}

impl Clause {
    /// The clause in words.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::New => "a new storage is empty and follows its genesis",
            Self::Order => "storage contract 1: writes begin in order, and one that does not continue changes nothing",
            Self::Reports => "storage contract 2: `persisted` never falls and names only what survives a crash",
            Self::Crash => "storage contract 3: a crash leaves a prefix of the writes begun",
            Self::NewLife => "a reopened storage numbers its writes from 1 and holds durably what it answers",
            Self::Reads => "storage contract 4: a read answers what was written or an error, never a default",
            Self::Snapshots => "storage contract 6: a snapshot reads as it was received, chunk after chunk",
            Self::Install => {
                "storage contract 6: an install is done or not done, and removes the entries that it names"
            }
            Self::Limits => "`entries` is cut after the entry that reaches the limit, at least one",
            Self::Digests => "`link` and `digest` make one chain, or are None always",
            Self::Failure => "storage contract 5: once a write or a sync has failed, every later write is Poisoned",
            Self::Fire => "transport contract 1: `send` never waits",
            Self::Unaltered => "transport contract 2: a message is never altered",
            Self::Addressed => "transport contract 2: a message reaches only the server that its `to` names",
            Self::Identified => "transport contract 3: `from` is the peer that the transport has identified",
            Self::Delivery => "on a healthy link, what is sent often enough arrives",
        }
    }
}

/// Returns a violation from the function around it, where the condition does not hold.
macro_rules! ensure {
    ($condition:expr, $clause:ident, $($what:tt)+) => {
        if !$condition {
            return Err($crate::suite::Violation::new($crate::suite::Clause::$clause, alloc::format!($($what)+)));
        }
    };
}
use ensure;
