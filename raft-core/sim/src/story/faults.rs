//! Faults in words, and how long they last.

use std::fmt;

use crate::plan::{Fault, Target};
use crate::time::Time;

impl Fault {
    /// How long it lasts, or how long a server is down for it; `None` if it is done at once.
    #[must_use]
    pub const fn lasts(&self) -> Option<Time> {
        match self {
            Self::Crash { down: lasts, .. }
            | Self::CrashAtWrite { down: lasts, .. }
            | Self::FailedWrite { down: lasts, .. }
            | Self::BitRot { down: lasts, .. }
            | Self::LostFiles { down: lasts, .. }
            | Self::Pause { lasts, .. }
            | Self::Drift { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::Isolate { lasts, .. }
            | Self::OneWay { lasts, .. }
            | Self::Chain { lasts }
            | Self::Clog { lasts, .. }
            | Self::SlowDisk { lasts, .. }
            | Self::StuckDisk { lasts, .. }
            | Self::FailedReads { lasts, .. }
            | Self::FullDisk { lasts, .. } => Some(*lasts),
            Self::Jump { .. }
            | Self::Membership { .. }
            | Self::Transfer { .. }
            | Self::HandOver
            | Self::Snapshot { .. } => None,
        }
    }

    /// [`lasts`](Self::lasts), to change it.
    #[must_use]
    pub const fn lasts_mut(&mut self) -> Option<&mut Time> {
        match self {
            Self::Crash { down: lasts, .. }
            | Self::CrashAtWrite { down: lasts, .. }
            | Self::FailedWrite { down: lasts, .. }
            | Self::BitRot { down: lasts, .. }
            | Self::LostFiles { down: lasts, .. }
            | Self::Pause { lasts, .. }
            | Self::Drift { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::Isolate { lasts, .. }
            | Self::OneWay { lasts, .. }
            | Self::Chain { lasts }
            | Self::Clog { lasts, .. }
            | Self::SlowDisk { lasts, .. }
            | Self::StuckDisk { lasts, .. }
            | Self::FailedReads { lasts, .. }
            | Self::FullDisk { lasts, .. } => Some(lasts),
            Self::Jump { .. }
            | Self::Membership { .. }
            | Self::Transfer { .. }
            | Self::HandOver
            | Self::Snapshot { .. } => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(id) => write!(f, "server {id}"),
            Self::Leader => f.write_str("the leader"),
        }
    }
}

/// What it is and whom it befalls, without how long it lasts.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { target, .. } => write!(f, "{target} crashes"),
            Self::CrashAtWrite { target, writes, durable, .. } => {
                let when = if *durable { "once it is durable" } else { "as it begins" };
                write!(f, "{target} crashes at write {writes} from now, {when}")
            }
            Self::Pause { target, .. } => write!(f, "{target} stands still"),
            Self::Drift { target, permille, .. } => write!(f, "the clock of {target} runs at {permille} ‰"),
            Self::Jump { target, ticks } => write!(f, "the clock of {target} jumps by {ticks} ticks"),
            Self::Partition { sides, .. } => write!(f, "partition {}", Sides(sides)),
            Self::Isolate { target, .. } => write!(f, "{target} is isolated"),
            Self::OneWay { target, says: true, .. } => write!(f, "what {target} says is lost"),
            Self::OneWay { target, says: false, .. } => write!(f, "what {target} should hear is lost"),
            Self::Chain { .. } => f.write_str("each server hears only the two beside it"),
            Self::Clog { from, to, .. } => write!(f, "the link from {from} to {to} is clogged"),
            Self::SlowDisk { target, factor, .. } => write!(f, "the disk of {target} is {factor} times as slow"),
            Self::StuckDisk { target, .. } => write!(f, "the disk of {target} is stuck"),
            Self::FailedWrite { target, .. } => write!(f, "the next write of {target} fails"),
            Self::FailedReads { target, .. } => write!(f, "reads of {target} fail"),
            Self::FullDisk { target, .. } => write!(f, "the disk of {target} is full"),
            Self::BitRot { target, .. } => write!(f, "bits of {target} rot"),
            Self::LostFiles { target, .. } => write!(f, "{target} loses its files"),
            Self::Membership { voters, learners, catch_up } => {
                let learners =
                    if learners.is_empty() { String::new() } else { format!(", learners {}", ids(learners)) };
                let catch_up = if *catch_up { ", once they have caught up" } else { "" };
                write!(f, "the operator asks for voters {}{learners}{catch_up}", ids(voters))
            }
            Self::Transfer { to } => write!(f, "the operator asks for server {to} as leader"),
            Self::HandOver => f.write_str("the leader is told to hand over"),
            Self::Snapshot { target } => write!(f, "the operator asks for a snapshot of {target}"),
        }
    }
}

struct Sides<'a>(&'a [Vec<u32>]);

impl fmt::Display for Sides<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, side) in self.0.iter().enumerate() {
            let bar = if number == 0 { "" } else { " | " };
            write!(f, "{bar}{}", ids(side))?;
        }
        Ok(())
    }
}

fn ids(ids: &[u32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
