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

use std::collections::BTreeMap;
use std::path::Path;

use raft_core::{Digest, Entry, HardState, Incarnation, LogIndex, SnapshotMeta};

use super::contents::founding;
use super::frame::{Checkpoint, FRAME_HEADER_LEN, Point, encode_append, encode_block, encode_frame};
use super::inspect::{Finding, Inspection, Severity, snapshots};
use super::recovery::{Recovered, begin_segment, recover_from};
use super::segments::{is_snapshot, segment_name, segment_number};
use super::{OpenError, SEGMENT_HEADER_LEN};
use crate::block::{Genesis, link, payload};
use crate::disk::{Change, Disk as _, DiskError, FileDisk};

mod over;

pub use over::{is_rejoining, is_starting_over, rejoined, start_over};

/// Where damaged files go, below their directory. Nothing reads them: remove them when you like.
pub const DAMAGED: &str = "damaged";

/// The file that the log is written anew into.
const REPAIRING: &str = "repairing";

/// Blocks that are written in one frame, in bytes.
const FRAME_BYTES: usize = 1 << 20;

/// What can be done for a damaged directory.
#[derive(Debug)]
pub enum Diagnosis {
    /// It can be mended, once nothing is missing.
    Mendable(Box<Repair>),
    /// What the server has promised is not known any more: it must start over.
    Lost {
        /// Why.
        what: String,
    },
}

/// A damaged log on its way to be a whole one.
#[derive(Debug)]
pub struct Repair {
    /// The last block that is known to be the right one; the one that the base covers last, where there is none.
    sound: Point,
    /// The last block of those that follow it, fetched ones, which are right if what comes behind them fits.
    verified: Point,
    /// Those behind the base that are known, with the hash that this directory has for them; none for fetched ones.
    blocks: BTreeMap<LogIndex, (Entry, Option<Digest>)>,
    plan: Plan,
    damage: Vec<Finding>,
}

#[derive(Debug)]
enum Plan {
    /// The segments from this one on are whole without those before.
    KeepFrom(u64),
    Rewrite {
        number: u64,
        start: u64,
        checkpoint: Box<Checkpoint>,
        /// The block that the log must end with.
        last: Point,
    },
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

impl Diagnosis {
    /// Looks at a damaged directory, and changes nothing.
    ///
    /// # Errors
    /// It cannot be read, is in use, or is of another cluster or version.
    pub fn of(dir: &Path, asked: &Genesis) -> Result<Self, OpenError> {
        let found = Inspection::look(dir, None, |_, _| ())?;
        if let Some(other) = found.genesis().filter(|genesis| *genesis != asked) {
            let (found, asked) = (Box::new(other.clone()), Box::new(asked.clone()));
            return Err(OpenError::OtherGenesis { place: dir.display().to_string(), found, asked });
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
            let (plan, at, blocks) =
                (Plan::KeepFrom(number), founding(asked, Incarnation::UNKNOWN).last, BTreeMap::new());
            return Ok(Self::Mendable(Box::new(Repair { sound: at, verified: at, blocks, plan, damage })));
        }
        let salvage = found.salvage();
        let (Some(incarnation), Some(hard_state), Some(last)) = (salvage.incarnation, salvage.hard_state, salvage.last)
        else {
            let what = match (salvage.incarnation, salvage.hard_state) {
                (None, _) => "which disk this is",
                (_, None) => "its last term and vote",
                _ => "the last block that it acknowledged",
            };
            return Ok(Self::Lost { what: format!("damage may hide {what}") });
        };
        let base = base(&found, last.height);
        let blocks = held(&found, base.as_ref(), last.height);
        let checkpoint = checkpoint(asked, incarnation, hard_state, base);
        let before = checkpoint.last;
        let (number, start) = (salvage.number.saturating_add(1), salvage.beyond);
        let plan = Plan::Rewrite { number, start, checkpoint: Box::new(checkpoint), last };
        let mut mendable = Repair { sound: before, verified: before, blocks, plan, damage };
        let ends_elsewhere = before.height == last.height && before != last;
        if hard_state.current_term < last.term || ends_elsewhere || mendable.verify().is_err() {
            return Ok(Self::Lost {
                what: String::from("its blocks do not fit together: damage hides which are the last"),
            });
        }
        Ok(Self::Mendable(Box::new(mendable)))
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
        let Plan::Rewrite { last, .. } = &self.plan else { return None };
        let first = self.verified.height.next();
        let behind = self.blocks.range(first..).next().map_or(last.height, |(height, _)| height.prev());
        (self.verified.height < last.height).then_some((first, behind))
    }

    /// Takes in blocks that were fetched, in order, from the first that is missing on.
    ///
    /// # Errors
    /// They do not fit: all that were fetched for this gap are forgotten. Another peer may have others.
    pub fn take(&mut self, entries: Vec<Entry>) -> Result<(), Misfit> {
        let Some((first, last)) = self.missing() else { return Ok(()) };
        for (entry, height) in entries.into_iter().zip(first.0..=last.0) {
            if entry.index != LogIndex(height) {
                return Err(Misfit { first, last });
            }
            self.blocks.insert(entry.index, (entry, None));
        }
        self.verify()
    }

    /// Goes on from what is checked, as far as blocks are there.
    fn verify(&mut self) -> Result<(), Misfit> {
        let Plan::Rewrite { last, .. } = &self.plan else { return Ok(()) };
        let (last, mut at) = (*last, self.verified);
        while let Some((entry, known)) = self.blocks.get(&at.height.next()) {
            let hash = link(&at.hash, entry);
            let must_be = known.or((entry.index == last.height).then_some(last.hash));
            if entry.term < at.term || must_be.is_some_and(|known| known != hash) {
                let (first, last) = (self.sound.height.next(), entry.index);
                self.blocks.retain(|height, (_, known)| *height < first || known.is_some());
                self.verified = self.sound;
                return Err(Misfit { first, last });
            }
            at = Point { height: entry.index, term: entry.term, hash };
            if must_be.is_some() {
                self.sound = at;
            }
        }
        self.verified = at;
        Ok(())
    }

    /// Writes the log anew and sets aside what it takes the place of. Then it can be opened.
    ///
    /// # Errors
    /// Something is missing still, or a file cannot be read or written; what is there is still damaged then.
    pub fn finish(&self, dir: &Path) -> Result<(), OpenError> {
        let mut disk = FileDisk::open(dir, || ()).map_err(OpenError::Disk)?;
        let files = disk.files();
        let number = match &self.plan {
            Plan::KeepFrom(number) => *number,
            Plan::Rewrite { number, start, checkpoint, last } => {
                if self.missing().is_some() || self.verified != *last {
                    let what = format!("repair {}: blocks are missing", dir.display());
                    return Err(OpenError::Disk(DiskError::Io { what }));
                }
                let bytes = self.segment(*number, *start, checkpoint).ok_or_else(|| super::write::too_long(&disk))?;
                if disk.holds(REPAIRING) {
                    disk.settle(&[Change::Remove { file: REPAIRING }])?;
                }
                disk.settle(&[
                    Change::Create { file: REPAIRING },
                    Change::Write { file: REPAIRING, offset: 0, bytes: &bytes },
                    Change::Rename { from: REPAIRING, to: &segment_name(*number) },
                ])?;
                *number
            }
        };
        let mut older: Vec<&String> = files.iter().filter(|name| segment_number(name) < Some(number)).collect();
        older.retain(|name| segment_number(name).is_some());
        let is_bad = |name: &&String| is_snapshot(name) && snapshots::intact(&disk, name).is_none();
        let aside: Vec<(&String, String)> = older
            .into_iter()
            .chain(files.iter().filter(is_bad))
            .map(|name| (name, format!("{DAMAGED}/{name}")))
            .collect();
        let moves: Vec<Change<'_>> = aside.iter().map(|(from, to)| Change::Rename { from, to }).collect();
        disk.settle(&moves)?;
        disk.shutdown().map_err(OpenError::Disk)
    }

    /// All of the log in one segment. Each frame vouches for those before it: the file has no name before it is durable.
    fn segment(&self, number: u64, start: u64, checkpoint: &Checkpoint) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        begin_segment(number, start, start, checkpoint, &mut out)?;
        let mut blocks = self.blocks.values().map(|(entry, _)| entry).peekable();
        let mut prev = checkpoint.last.hash;
        while blocks.peek().is_some() {
            let at = start.saturating_add((out.len().saturating_sub(SEGMENT_HEADER_LEN)) as u64);
            encode_frame(at, at, &mut out, |out| {
                let begin = out.len();
                encode_append(out);
                while let Some(entry) =
                    blocks.next_if(|_| out.len().saturating_sub(begin) < FRAME_BYTES.saturating_add(FRAME_HEADER_LEN))
                {
                    prev = link(&prev, entry);
                    encode_block(entry, &prev, out);
                }
            })?;
        }
        Some(out)
    }
}

/// The newest snapshot that is intact and within the log.
fn base(found: &Inspection, last: LogIndex) -> Option<SnapshotMeta> {
    let files = found.disk().files();
    let intact = files.iter().filter(|name| is_snapshot(name)).filter_map(|name| snapshots::intact(found.disk(), name));
    intact.filter(|meta| meta.last_included_index <= last).max_by_key(|meta| meta.last_included_index)
}

/// The blocks behind the base that are there.
fn held(
    found: &Inspection,
    base: Option<&SnapshotMeta>,
    last: LogIndex,
) -> BTreeMap<LogIndex, (Entry, Option<Digest>)> {
    let first = base.map_or(LogIndex(1), |meta| meta.last_included_index.next());
    let blocks = found.blocks(first, last).filter_map(Result::ok);
    let entry = |block: super::inspect::FoundBlock| {
        let payload = payload(block.kind, block.payload)?;
        let entry = Entry { index: block.height, term: block.term, payload };
        Some((block.height, (entry, Some(block.hash))))
    };
    blocks.filter_map(entry).collect()
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
