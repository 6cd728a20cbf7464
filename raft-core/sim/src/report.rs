//! What came of a run.

use std::collections::BTreeMap;

use crate::plan::Plan;
use crate::story::Happening;
use crate::time::Time;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// Simulated time that it took.
    pub simulated: Time,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Inputs that servers took.
    pub steps: u64,
    /// Clients' operations that ended.
    pub operations: u64,
    /// Entries committed.
    pub committed: u64,
    /// A hash of everything that happened: equal plans give equal ones.
    pub fingerprint: u64,
    /// What went wrong that must not.
    pub failure: Option<Failure>,
    /// What happened, where it was asked for.
    pub story: Vec<Happening>,
}

/// What went wrong that must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at} s: {rule}: {what}")]
pub struct Failure {
    /// When.
    pub at: Time,
    /// Which rule is broken.
    pub rule: &'static str,
    /// How.
    pub what: String,
}

impl Failure {
    /// At a time that whoever catches it fills in.
    #[must_use]
    pub const fn new(rule: &'static str, what: String) -> Self {
        Self { at: Time::ZERO, rule, what }
    }
}
