//! Reading a log back: what it holds, where it ends, and whether what is bad in it is a torn tail or damage.
//!
//! A segment begins when everything before it is durable (contract 3 of the [disk](crate::disk)). So whatever is bad in
//! a segment that another follows is damage; a torn tail is only in the last one, or that one has not begun.

use raft_core::{Incarnation, StorageError};

use super::contents::{Contents, founding};
use super::error::OpenError;
use super::frame::{
    Checkpoint, FRAME_HEADER_LEN, INCARNATION_AT, SEGMENT_HEADER_LEN, SegmentHeader, VERSION, encode_checkpoint,
    encode_frame,
};
use super::repair::REPAIRING;
use super::replay::{Replay, ReplayFault};
use super::segments::{OLD_FILE, RECEIVING, SPARE, Segment, Segments, is_snapshot, segment_name, segment_number};
use super::window::Window;
use crate::block::Genesis;
use crate::disk::{Change, Disk};

/// Zeros that are written at once.
pub(super) const ZEROS_LEN: usize = 1 << 20;

/// What a damaged log's owner is told to do.
const ADVICE: &str = "nothing was changed: put this directory back from a copy that is no older, or remove this server \
                      from the cluster and add it anew with an empty directory";

/// What a directory holds.
#[derive(Debug)]
pub(super) struct Recovered {
    pub incarnation: Incarnation,
    pub contents: Contents,
    pub segments: Segments,
    /// How much of the stream some frame vouches for: all before was durable in an earlier life.
    vouched: u64,
    /// Behind this byte the last segment's file holds nothing but zeros; or it is where the log ends, beyond that.
    used: u64,
    /// Files that nothing needs: what was given up, what has not begun.
    left_over: Vec<String>,
}

/// The first segment of a new log.
pub(super) fn founding_bytes(genesis: &Genesis, incarnation: Incarnation) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    begin_segment(1, 0, 0, &founding(genesis, incarnation), &mut bytes)?;
    Some(bytes)
}

/// Appends a segment's header and its checkpoint. `None` where that is too long.
pub(super) fn begin_segment(
    number: u64,
    start: u64,
    synced: u64,
    checkpoint: &Checkpoint,
    out: &mut Vec<u8>,
) -> Option<()> {
    SegmentHeader::encode(number, start, out);
    encode_frame(start, synced, out, |out| encode_checkpoint(checkpoint, out))
}

/// Whether the directory is what a crash leaves of founding this log: a part of its first segment, with zeros for bytes
/// that never reached the device. Which incarnation was drawn is not known where its checkpoint is torn, so anything
/// may stand there and in the checksums over it. Founding is durable before anything else is written, so nothing is
/// lost in it, and nobody can rely on an incarnation that no server has run with.
pub(super) fn is_torn_founding(disk: &impl Disk, genesis: &Genesis) -> Result<bool, OpenError> {
    let first = segment_name(1);
    let files = disk.files();
    if !files.contains(&first) || files.iter().any(|name| is_snapshot(name) || segment_number(name) > Some(1)) {
        return Ok(false);
    }
    let whole = founding_bytes(genesis, Incarnation::UNKNOWN).unwrap_or_default();
    let Some(len) = usize::try_from(disk.len(&first)?).ok().filter(|len| *len <= whole.len()) else {
        return Ok(false);
    };
    let mut found = vec![0; len];
    disk.read_at(&first, 0, &mut found)?;
    let checksums = SEGMENT_HEADER_LEN.saturating_add(FRAME_HEADER_LEN.saturating_sub(8));
    let incarnation = SEGMENT_HEADER_LEN.saturating_add(FRAME_HEADER_LEN).saturating_add(INCARNATION_AT);
    let is_drawn = |at: usize| {
        (checksums..checksums.saturating_add(8)).contains(&at)
            || (incarnation..incarnation.saturating_add(8)).contains(&at)
    };
    let mut bytes = found.iter().zip(&whole).enumerate();
    let torn = bytes.all(|(at, (found, whole))| found == whole || *found == 0 || is_drawn(at));
    Ok(torn && !(len == whole.len() && Window::open(disk, 1)?.checkpoint(0)?.is_some()))
}

/// Reads the whole directory; `None` where it holds no log.
pub(super) fn recover<D: Disk>(disk: &D, asked: &Genesis) -> Result<Option<Recovered>, OpenError> {
    recover_from(disk, asked, 0)
}

/// The same as if there were no segments before this number.
pub(super) fn recover_from<D: Disk>(disk: &D, asked: &Genesis, from: u64) -> Result<Option<Recovered>, OpenError> {
    let files = disk.files();
    if disk.holds(OLD_FILE) {
        return Err(OpenError::OldFormat { place: disk.place_of(OLD_FILE) });
    }
    let mut numbers: Vec<u64> = files.iter().filter_map(|name| segment_number(name)).collect();
    numbers.retain(|number| *number >= from);
    numbers.sort_unstable();
    let Some((first, later)) = numbers.split_first() else {
        return match files.iter().find(|name| is_snapshot(name)) {
            Some(name) => Err(damaged(disk.place_of(name), "a snapshot is there, and no segment").into()),
            None => Ok(None),
        };
    };
    let mut reading = Reading::begin(disk, *first, asked)?;
    reading.frames()?;
    let mut later = later.iter();
    while let Some(number) = later.next() {
        if !reading.next_segment(*number, later.len() == 0)? {
            break;
        }
        reading.frames()?;
    }
    reading.end(&files).map(Some)
}

fn damaged(place: String, what: &str) -> StorageError {
    raft_core::mark!(DamageFound);
    StorageError::Damaged { place, what: format!("{what}; {ADVICE}") }
}

/// A log that is being read, segment by segment.
struct Reading<'a, D> {
    disk: &'a D,
    window: Window<'a, D>,
    segments: Segments,
    replay: Replay<'a, D>,
    incarnation: Incarnation,
    vouched: u64,
}

impl<'a, D: Disk> Reading<'a, D> {
    /// Reads what the first segment that is kept begins with.
    fn begin(disk: &'a D, number: u64, asked: &Genesis) -> Result<Self, OpenError> {
        let mut window = Window::open(disk, number)?;
        let place = || disk.place_of(&segment_name(number));
        let start = match window.header()? {
            SegmentHeader::Known { number: found, start } if found == number => start,
            SegmentHeader::OtherVersion(found) => {
                return Err(OpenError::Version { place: place(), found, known: VERSION });
            }
            _ => return Err(damaged(format!("{} at byte 0", place()), "no segment begins with these bytes").into()),
        };
        let Some((checkpoint, first)) = window.checkpoint(start)? else {
            let place = format!("{} at byte {SEGMENT_HEADER_LEN}", place());
            return Err(damaged(place, "what it begins with is not as it was written").into());
        };
        if checkpoint.genesis != *asked {
            let found = Box::new(checkpoint.genesis);
            return Err(OpenError::OtherGenesis { place: disk.place(), found, asked: Box::new(asked.clone()) });
        }
        let incarnation = checkpoint.incarnation;
        let segments = Segments::new(Segment { number, start, first });
        Ok(Self { disk, window, segments, replay: Replay::new(disk, checkpoint), incarnation, vouched: first })
    }

    /// Reads the last segment's frames, up to the first that is none.
    fn frames(&mut self) -> Result<(), StorageError> {
        let start = self.segments.last().start;
        loop {
            let at = self.segments.end();
            let Some((header, body)) = self.window.frame(start, at)? else { return Ok(()) };
            let body_at = at.saturating_add(FRAME_HEADER_LEN as u64);
            let (len, synced) = (header.len as u64, header.synced);
            self.replay.apply(&self.segments, body_at, body).map_err(|fault| match fault {
                ReplayFault::Content(what) => damaged(self.segments.place(self.disk, at), what),
                ReplayFault::Storage(error) => error,
            })?;
            self.vouched = self.vouched.max(synced);
            self.segments.extend(body_at.saturating_add(len));
        }
    }

    /// Goes on to the next file. Answers whether it has begun.
    fn next_segment(&mut self, number: u64, is_last: bool) -> Result<bool, StorageError> {
        let at = self.segments.end();
        let expected = self.segments.last().number.saturating_add(1);
        if number != expected {
            let missing = format!("{} is missing", segment_name(expected));
            return self.bad_place(format!("{missing}, and {} is there", segment_name(number))).map(|()| false);
        }
        let mut window = Window::open(self.disk, number)?;
        let header = window.header()?;
        let place = self.disk.place_of(&segment_name(number));
        match header {
            SegmentHeader::Known { number: found, start } if found == number => {
                if start != at {
                    return self.bad_place(format!("{place} goes on from byte {start} of the log")).map(|()| false);
                }
                if let Some((checkpoint, first)) = window.checkpoint(start)? {
                    if checkpoint != self.replay.checkpoint() {
                        let what = "it does not begin with what the segments before it lead to";
                        return Err(damaged(place, what));
                    }
                    self.vouched = self.vouched.max(at);
                    self.segments.push(Segment { number, start, first });
                    self.window = window;
                    return Ok(true);
                }
            }
            _ => {}
        }
        if !is_last {
            return self.bad_place(format!("{place} does not begin as it was written")).map(|()| false);
        }
        // A crash as it began leaves this; unless it says that it was durable.
        raft_core::mark!(SegmentNotBegun);
        let evidence = window.evidence(at, at, at)?.proof;
        evidence.map_or(Ok(false), |evidence| self.bad_place(evidence).map(|()| false))
    }

    /// The stream is bad where its good frames end, and this shows that it was durable there.
    fn bad_place(&self, evidence: String) -> Result<(), StorageError> {
        if raft_core::bug!(DamageTakenForTornTail) {
            return Ok(());
        }
        Err(damaged(self.segments.place(self.disk, self.segments.end()), &evidence))
    }

    /// Nothing more is read: what stands behind is nothing, a torn tail or damage.
    fn end(mut self, files: &[String]) -> Result<Recovered, OpenError> {
        let (start, at) = (self.segments.last().start, self.segments.end());
        let behind = self.window.evidence(start, at, at)?;
        if let Some(proof) = behind.proof {
            self.bad_place(proof)?;
        }
        if behind.is_torn {
            if raft_core::bug!(TornTailRefused) {
                self.bad_place(String::from("it is torn"))?;
            }
            raft_core::mark!(TornTailCut);
        }
        if raft_core::bug!(TornTailKept) {
            self.segments.extend(start.saturating_add(self.window.len().saturating_sub(SEGMENT_HEADER_LEN as u64)));
        }
        let mut contents = self.replay.contents;
        contents.snapshots.load(self.disk).map_err(|error| match error {
            StorageError::Damaged { place, what } => damaged(place, &what),
            other => other,
        })?;
        let (snapshot, first) = (contents.snapshots.installed().last_included_index, contents.index.first());
        if first > snapshot.next() {
            let what =
                format!("the blocks from {} to {} are in a segment that is missing", snapshot.next(), first.prev());
            return Err(damaged(self.disk.place(), &what).into());
        }
        raft_core::mark!(ReceivedForgotten, files.iter().any(|name| name.starts_with(RECEIVING)));
        let (last, installed) = (self.segments.last().number, contents.snapshots.file());
        let is_needed = |name: &str| match segment_number(name) {
            Some(number) => number <= last,
            None if is_snapshot(name) => Some(name) == installed,
            None => ![SPARE, REPAIRING].contains(&name) && !name.starts_with(RECEIVING),
        };
        let left_over = files.iter().filter(|name| !is_needed(name)).cloned().collect();
        let Self { incarnation, segments, vouched, .. } = self;
        Ok(Recovered { incarnation, contents, segments, vouched, used: behind.used, left_over })
    }
}

impl Recovered {
    /// Makes what was found durable, and then removes what is left over. What no frame vouches for is written again, and
    /// zeros where anything stands behind the end: the file keeps its length, which is room that is there (fault D6). All
    /// of it is durable before a snapshot is removed that is needed without it.
    pub(super) fn settle(&self, disk: &mut impl Disk) -> Result<(), OpenError> {
        let (last, end) = (*self.segments.last(), self.segments.end());
        let file = self.segments.last_name();
        let from = if self.vouched <= last.start { 0 } else { last.offset(self.vouched) };
        let len = last.offset(end);
        let mut tail = vec![0; usize::try_from(len.saturating_sub(from)).unwrap_or(usize::MAX)];
        disk.read_at(&file, from, &mut tail)?;
        let zeros = vec![0; usize::try_from(self.used.saturating_sub(len)).unwrap_or(usize::MAX).min(ZEROS_LEN)];
        let cleared = (len..self.used).step_by(ZEROS_LEN).map(|offset| {
            let part = usize::try_from(self.used.saturating_sub(offset)).unwrap_or(usize::MAX).min(ZEROS_LEN);
            Change::Write { file: &file, offset, bytes: zeros.get(..part).unwrap_or(&zeros) }
        });
        let removals = self.left_over.iter().map(|file| Change::Remove { file });
        let tail = [Change::Write { file: &file, offset: from, bytes: &tail }];
        Ok(disk.settle(&tail.into_iter().chain(cleared).chain(removals).collect::<Vec<_>>())?)
    }
}
