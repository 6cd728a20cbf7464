//! Faults in words, and how long they last.

use std::fmt;

use crate::plan::{Fault, Target};
use crate::time::Time;

impl Fault {
    /// How long it lasts, or how long a server is down for it; `None` if it is done at once.
    #[must_use]
    pub fn lasts(&self) -> Option<Time> {
        self.clone().lasts_mut().copied()
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
            | Self::Detour { lasts, .. }
            | Self::SlowDisk { lasts, .. }
            | Self::StuckDisk { lasts, .. }
            | Self::FailedReads { lasts, .. }
            | Self::FullDisk { lasts, .. } => Some(lasts),
            Self::Jump { .. }
            | Self::AlteredState { .. }
            | Self::Membership { .. }
            | Self::Transfer { .. }
            | Self::HandOver
            | Self::Snapshot { .. }
            | Self::NextSnapshot { .. } => None,
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
            Self::AlteredState { target } => write!(f, "a bit flips in the state of {target}"),
            Self::Partition { sides, .. } => write!(f, "partition {}", Sides(sides)),
            Self::Isolate { target, .. } => write!(f, "{target} is isolated"),
            Self::OneWay { target, says: true, .. } => write!(f, "what {target} says is lost"),
            Self::OneWay { target, says: false, .. } => write!(f, "what {target} should hear is lost"),
            Self::Chain { .. } => f.write_str("each server hears only the two beside it"),
            Self::Clog { from, to, .. } => write!(f, "the link from {from} to {to} is clogged"),
            Self::Detour { from, to, longer, .. } => {
                write!(f, "what {from} says to {to} arrives {longer} s later")
            }
            Self::SlowDisk { target, factor, .. } => write!(f, "the disk of {target} is {factor} times as slow"),
            Self::StuckDisk { target, .. } => write!(f, "the disk of {target} is stuck"),
            Self::FailedWrite { target, .. } => write!(f, "the next write of {target} fails"),
            Self::FailedReads { target, .. } => write!(f, "reads of {target} fail"),
            Self::FullDisk { target, .. } => write!(f, "the disk of {target} is full"),
            Self::BitRot { target, .. } => write!(f, "bits of {target} rot"),
            Self::LostFiles { target, torn: false, .. } => write!(f, "{target} loses its files"),
            Self::LostFiles { target, torn: true, .. } => {
                write!(f, "{target} loses its files, and crashes as it makes new ones")
            }
            Self::Membership { voters, learners, catch_up } => {
                let learners =
                    if learners.is_empty() { String::new() } else { format!(", learners {}", ids(learners)) };
                let catch_up = if *catch_up { ", once they have caught up" } else { "" };
                write!(f, "the operator asks for voters {}{learners}{catch_up}", ids(voters))
            }
            Self::Transfer { to } => write!(f, "the operator asks for server {to} as leader"),
            Self::HandOver => f.write_str("the leader is told to hand over"),
            Self::Snapshot { target } => write!(f, "the operator asks for a snapshot of {target}"),
            Self::NextSnapshot { target } => {
                write!(f, "the operator asks for a snapshot of what {target} applies next")
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_in_words_and_can_be_made_shorter() {
        let lasts = Time::secs(2);
        let membership = |learners, catch_up| Fault::Membership { voters: vec![1, 4], learners, catch_up };
        for (mut fault, words, how_long) in [
            (Fault::Crash { target: Target::Leader, down: lasts }, "the leader crashes", Some(lasts)),
            (
                Fault::CrashAtWrite { target: Target::Server(2), writes: 3, durable: true, down: lasts },
                "server 2 crashes at write 3 from now, once it is durable",
                Some(lasts),
            ),
            (Fault::Partition { sides: vec![vec![1, 2], vec![2, 3]], lasts }, "partition 1,2 | 2,3", Some(lasts)),
            (
                Fault::OneWay { target: Target::Server(1), says: false, lasts },
                "what server 1 should hear is lost",
                Some(lasts),
            ),
            (membership(vec![], false), "the operator asks for voters 1,4", None),
            (membership(vec![5], true), "the operator asks for voters 1,4, learners 5, once they have caught up", None),
            (Fault::HandOver, "the leader is told to hand over", None),
        ] {
            assert_eq!((fault.to_string().as_str(), fault.lasts()), (words, how_long));
            assert_eq!(fault.lasts_mut().map(std::mem::take), how_long);
            assert_eq!(fault.lasts(), how_long.map(|_| Time::ZERO));
        }
    }
}
