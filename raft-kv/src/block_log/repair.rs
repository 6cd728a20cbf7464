//! Mending a damaged log, and starting over where it cannot be mended (faults D2, D8). Only ever done to a directory that
//! nobody has open.
//!
//! A [`Repair`] keeps what is intact: the newest snapshot, and the blocks behind it as far as they are there. The owner
//! fetches the [missing](Repair::missing) ones from peers, by height. Each is checked by hash on both sides: against the
//! chain before it, and against the first block behind the gap that is still there. Then the log is written anew, as one
//! segment behind all others, and what it takes the place of goes to the directory `damaged` below.
//!
//! ```text
//!   before   segment-7 (bad)  segment-8                       after   segment-9    damaged/segment-7  damaged/segment-8
//!            snapshot ├──────?????────────────┤ last block            ├───────────────────────────┤
//! ```
//!
//! What a server has promised must be known: its last term and vote, and the last block that it acknowledged. They are
//! where a frame or a checkpoint behind the last damage says so. Where damage may hide them, or nobody has the blocks, the
//! server must [`start_over`]: its files are moved aside, not removed, and the log that is founded then is another disk's
//! (fault M10), so that it neither votes nor acknowledges until the cluster has removed this member and added it again.
//!
//! Crashes: the new segment gets its name before the others are moved, the first of them first. Whatever is left is
//! still damaged, and is mended again, or is whole. Starting over is marked by a file first, and gone on with.

use raft_core::{Entry, HardState, Incarnation, LogIndex, SnapshotMeta};

use super::OpenError;
use super::contents::founding;
use super::frame::{Checkpoint, Point};
use super::inspect::{Finding, Inspection, Severity, snapshots};
use super::recovery::{Recovered, recover_from};
use super::segments::{is_snapshot, segment_name, segment_number};
use crate::block::Genesis;
use crate::disk::{Change, Disk as _, DiskError, FileDisk};

mod over;
mod rewrite;

pub use over::{is_rejoining, is_starting_over, rejoined, start_over, started_over};
use rewrite::Rewrite;

/// Where damaged files go, below their directory. Nothing reads them: remove them when you like.
pub const DAMAGED: &str = "damaged";

/// The file that the log is written anew into.
pub(super) const REPAIRING: &str = "repairing";

/// What can be done for a damaged directory, which stays locked.
#[derive(Debug)]
pub enum Diagnosis {
    /// It can be mended, once nothing is missing.
    Mendable(Box<Repair>),
    /// What the server has promised is not known any more: it must start over.
    Lost {
        /// Why.
        what: String,
        /// The directory.
        disk: FileDisk,
    },
}

/// A damaged log on its way to be a whole one. No other process can open its directory while this value lives (fault D7).
#[derive(Debug)]
pub struct Repair {
    disk: FileDisk,
    plan: Plan,
    damage: Vec<Finding>,
}

#[derive(Debug)]
enum Plan {
    /// The segments from this one on are whole without those before.
    KeepFrom(u64),
    Rewrite(Box<Rewrite>),
}

/// What was fetched is not what is missing: the peer's chain is another, or it is damaged itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("blocks {first} to {last} do not fit into the chain")]
pub struct Misfit {
    /// The first that was fetched.
    pub first: LogIndex,
    /// The last.
    pub last: LogIndex,
}

/// Why blocks were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// They do not fit.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// They cannot be written.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl Diagnosis {
    /// Looks at a damaged directory, and changes none of the log's files. What is there goes to the new log at once.
    ///
    /// # Errors
    /// It cannot be read or written, or is of another cluster or version.
    pub fn of(mut disk: FileDisk, asked: &Genesis) -> Result<Self, OpenError> {
        let found = Inspection::locked(disk.dir())?;
        if let Some(other) = found.genesis().filter(|genesis| *genesis != asked) {
            let (found, asked) = (Box::new(other.clone()), Box::new(asked.clone()));
            return Err(OpenError::OtherGenesis { place: disk.place(), found, asked });
        }
        // What could not be read for want of files or memory may be whole.
        if let Some(error @ DiskError::Exhausted { .. }) = found.disk().refused() {
            return Err(OpenError::Disk(error));
        }
        let is_damage = |finding: &&Finding| finding.severity == Severity::Damage;
        let damage = found.findings().iter().filter(is_damage).cloned().collect();
        let mut numbers: Vec<u64> = found.disk().files().iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        let has_snapshot = |recovered: &Recovered| {
            let file = recovered.contents.snapshots.file();
            file.is_none_or(|file| snapshots::intact(found.disk(), file).is_some())
        };
        let is_whole =
            |number: &u64| matches!(recover_from(found.disk(), asked, *number), Ok(Some(it)) if has_snapshot(&it));
        if let Some(number) = numbers.into_iter().find(is_whole) {
            return Ok(Self::Mendable(Box::new(Repair { disk, plan: Plan::KeepFrom(number), damage })));
        }
        let salvage = found.salvage();
        let (Some(incarnation), Some(hard_state), Some(last)) = (salvage.incarnation, salvage.hard_state, salvage.last)
        else {
            let what = match (salvage.incarnation, salvage.hard_state) {
                (None, _) => "which disk this is",
                (_, None) => "its last term and vote",
                _ => "the last block that it acknowledged",
            };
            return Ok(Self::Lost { what: format!("damage may hide {what}"), disk });
        };
        let checkpoint = checkpoint(asked, incarnation, hard_state, base(&found, last.height));
        let before = checkpoint.last;
        if hard_state.current_term < last.term || (before.height == last.height && before != last) {
            let what = String::from("its blocks do not fit together: damage hides which are the last");
            return Ok(Self::Lost { what, disk });
        }
        let place = (salvage.number.saturating_add(1), salvage.beyond);
        let plan = Plan::Rewrite(Rewrite::begin(&mut disk, found, place, &checkpoint, last)?.into());
        Ok(Self::Mendable(Box::new(Repair { disk, plan, damage })))
    }
}

impl Repair {
    /// What is damaged.
    #[must_use]
    pub fn damage(&self) -> &[Finding] {
        &self.damage
    }

    /// The first heights that are missing.
    #[must_use]
    pub fn missing(&self) -> Option<(LogIndex, LogIndex)> {
        match &self.plan {
            Plan::KeepFrom(_) => None,
            Plan::Rewrite(rewrite) => rewrite.missing(),
        }
    }

    /// Whether no block that was fetched waits for what comes behind it, to show whether it is the right one.
    #[must_use]
    pub fn is_anchored(&self) -> bool {
        match &self.plan {
            Plan::KeepFrom(_) => true,
            Plan::Rewrite(rewrite) => rewrite.is_anchored(),
        }
    }

    /// Takes in blocks that were fetched, in order, from the first that is missing on.
    ///
    /// # Errors
    /// [`TakeError::Misfit`]: all that were fetched for this gap are forgotten. Another peer may have others.
    pub fn take(&mut self, entries: &[Entry]) -> Result<(), TakeError> {
        match &mut self.plan {
            Plan::KeepFrom(_) => Ok(()),
            Plan::Rewrite(rewrite) => rewrite.take(&mut self.disk, entries),
        }
    }

    /// Forgets all that were fetched for this gap, so that another peer may give all of it.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn forget(&mut self) -> Result<(), OpenError> {
        match &mut self.plan {
            Plan::KeepFrom(_) => Ok(()),
            Plan::Rewrite(rewrite) => rewrite.forget(&mut self.disk),
        }
    }

    /// Gives the new log its name and sets aside what it takes the place of. Then the directory can be opened.
    ///
    /// # Errors
    /// Something is missing still, or a file cannot be read or written; what is there is still damaged then.
    pub fn finish(&mut self) -> Result<(), OpenError> {
        let disk = &mut self.disk;
        let files = disk.files();
        let number = match &self.plan {
            Plan::KeepFrom(number) => {
                rewrite::forget(disk)?;
                *number
            }
            Plan::Rewrite(rewrite) if rewrite.is_done() => {
                disk.settle(&[Change::Rename { from: REPAIRING, to: &segment_name(rewrite.number) }])?;
                rewrite.number
            }
            Plan::Rewrite(_) => {
                let what = format!("repair {}: blocks are missing", disk.place());
                return Err(OpenError::Disk(DiskError::Io { what }));
            }
        };
        let is_older = |name: &&String| segment_number(name).is_some_and(|older| older < number);
        let is_bad = |name: &&String| is_snapshot(name) && snapshots::intact(&*disk, name).is_none();
        let moved = files.iter().filter(is_older).chain(files.iter().filter(is_bad));
        let aside: Vec<(&String, String)> = moved.map(|name| (name, aside(&*disk, name))).collect();
        let moves: Vec<Change<'_>> = aside.iter().map(|(from, to)| Change::Rename { from, to }).collect();
        Ok(disk.settle(&moves)?)
    }

    /// Gives the directory back, still locked, where it is not mended.
    #[must_use]
    pub fn into_disk(self) -> FileDisk {
        self.disk
    }
}

/// Where a damaged file goes: what was damaged before under its name is kept as well.
fn aside(disk: &FileDisk, file: &str) -> String {
    let first = format!("{DAMAGED}/{file}");
    let later = (2_u64..).map(|number| format!("{DAMAGED}/{file}-{number}"));
    std::iter::once(first).chain(later).find(|name| !disk.holds(name)).unwrap_or_default()
}

/// The newest snapshot that is intact and within the log.
fn base(found: &Inspection, last: LogIndex) -> Option<SnapshotMeta> {
    let files = found.disk().files();
    let intact = files.iter().filter(|name| is_snapshot(name)).filter_map(|name| snapshots::intact(found.disk(), name));
    intact.filter(|meta| meta.last_included_index <= last).max_by_key(|meta| meta.last_included_index)
}

/// What the log begins with.
fn checkpoint(
    genesis: &Genesis,
    incarnation: Incarnation,
    hard_state: HardState,
    base: Option<SnapshotMeta>,
) -> Checkpoint {
    let new = founding(genesis, incarnation);
    let last = base.as_ref().map_or(new.last, |meta| Point {
        height: meta.last_included_index,
        term: meta.last_included_term,
        hash: meta.digest.unwrap_or(new.last.hash),
    });
    Checkpoint { hard_state, last, snapshot: base, ..new }
}

#[cfg(test)]
mod tests;
