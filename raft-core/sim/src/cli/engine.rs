//! The one place where the command meets the simulator.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use raft_sim::plan::Plan;
use raft_sim::{Failure, Report, Simulation, Time};

/// What the command needs of a simulator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    draw: fn(u64) -> Plan,
    /// Runs a plan, and tells its story if asked to.
    simulate: fn(Plan, bool) -> Report,
    /// How often each subtle branch was taken since the process began.
    pub(crate) marks: fn() -> Vec<(&'static str, u64)>,
    /// The bugs that can be switched on: none in a build without them.
    pub(crate) bugs: fn() -> Vec<Bug>,
    with_bug: fn(Self, Option<&str>) -> Self,
}

/// A bug that was put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    pub(crate) family: &'static str,
    /// The fault that it makes again.
    pub(crate) fault: &'static str,
    /// What it does, and how that shows.
    pub(crate) what: &'static str,
}

impl Engine {
    /// The simulator.
    pub(crate) const REAL: Self = Self { draw: Plan::draw, simulate, marks, bugs, with_bug };

    /// Fails where it is told to.
    #[cfg(test)]
    pub(crate) const TOY: Self = Self {
        draw: super::toy::draw,
        simulate: super::toy::run,
        marks: super::toy::marks,
        bugs: super::toy::bugs,
        with_bug: |engine, bug| Self { simulate: super::toy::run_with(bug), ..engine },
    };

    /// The simulator with this bug and no other. Only the last one that was asked for is right.
    pub(crate) fn with_bug(self, bug: Option<&str>) -> Self {
        (self.with_bug)(self, bug)
    }

    /// The plan of a seed.
    ///
    /// # Errors
    /// It panics.
    pub(crate) fn plan(&self, seed: u64) -> Result<Plan, Failure> {
        caught(|| (self.draw)(seed))
    }

    /// Runs a plan. A panic is a failure like others, without its story.
    pub(crate) fn run(&self, plan: Plan, with_story: bool) -> Report {
        let copy = plan.clone();
        caught(|| (self.simulate)(copy, with_story)).unwrap_or_else(|failure| Report {
            plan,
            simulated: Time::ZERO,
            faults: BTreeMap::new(),
            steps: 0,
            operations: 0,
            committed: 0,
            fingerprint: 0,
            failure: Some(failure),
            story: Vec::new(),
        })
    }
}

/// What it gives, or the panic as a failure.
fn caught<T>(what: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|payload| {
        let words = PANIC.take().or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
        Failure::new(NO_PANIC, words.unwrap_or_else(|| "a panic without words".into()))
    })
}

/// Keeps what a panic says for whoever catches it, rather than print it between other things.
pub(crate) fn catch_panics_quietly() {
    std::panic::set_hook(Box::new(|panic| PANIC.set(Some(panic.to_string().replace('\n', " ")))));
}

fn simulate(plan: Plan, with_story: bool) -> Report {
    Simulation::kv().run_plan(plan, with_story)
}

/// In a build that counts them.
fn marks() -> Vec<(&'static str, u64)> {
    #[cfg(feature = "marks")]
    return raft_core::marks::all().collect();
    #[cfg(not(feature = "marks"))]
    Vec::new()
}

fn bugs() -> Vec<Bug> {
    #[cfg(feature = "seeded-bugs")]
    return raft_core::seeded::Bug::ALL
        .iter()
        .map(|bug| Bug { name: bug.name(), family: bug.family(), fault: bug.fault(), what: bug.what() })
        .collect();
    #[cfg(not(feature = "seeded-bugs"))]
    Vec::new()
}

/// It is the whole process that has it.
#[cfg_attr(not(feature = "seeded-bugs"), allow(unused_variables, reason = "there are none"))]
fn with_bug(engine: Engine, bug: Option<&str>) -> Engine {
    #[cfg(feature = "seeded-bugs")]
    raft_core::seeded::select(bug.and_then(raft_core::seeded::Bug::named));
    engine
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The rule that every panic breaks.
const NO_PANIC: &str = "no panic";
