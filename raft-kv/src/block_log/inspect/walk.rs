//! Reading every segment, and going on behind what is bad.

use raft_core::{Digest, Entry, HardState, Incarnation, LogIndex, SnapshotMeta, StorageError, Term};

use super::super::OpenError;
use super::super::frame::{
    Blocks, Body, Checkpoint, FRAME_HEADER_LEN, FrameHeader, HARD_STATE_LEN, Point, SEGMENT_HEADER_LEN, SegmentHeader,
    VERSION,
};
use super::super::replay::{Replay, ReplayFault};
use super::super::segments::{Segment, Segments, is_snapshot, segment_name, segment_number};
use super::super::window::Window;
use super::map::BlockMap;
use super::scan::{header_at, next_frame};
use super::{Counts, Finding, Salvage, Severity};
use crate::block::{Genesis, link};
use crate::disk::{Disk, ReadOnlyDisk};

/// What was read so far.
pub(super) struct Walk<'a, P> {
    pub disk: &'a ReadOnlyDisk,
    progress: P,
    read: u64,
    pub counts: Counts,
    pub findings: Vec<Finding>,
    pub all: Vec<Segment>,
    pub map: BlockMap,
    pub genesis: Option<Genesis>,
    /// The snapshot that the log follows.
    pub installed: Option<SnapshotMeta>,
    /// The log as it follows from its frames, since the last checkpoint before which something was bad; `None` from
    /// damage on, up to the next checkpoint.
    followed: Option<(Segments, Replay<'a, ReadOnlyDisk>)>,
    pub incarnation: Option<Incarnation>,
    /// Term and vote; `None` where damage may hide later ones.
    hard_state: Option<HardState>,
    /// The last block; `None` where damage hides it.
    last: Option<(LogIndex, Term, Digest)>,
    /// Where the frames of the segment before ended, where they ended as they should.
    end: Option<u64>,
}

/// A segment among the others.
#[derive(Clone, Copy)]
struct Place {
    number: u64,
    /// Where the next one starts, which is where this one ends; `None` where that is not known.
    next: Option<u64>,
    is_last: bool,
}

impl<'a, P: FnMut(u64, u64)> Walk<'a, P> {
    pub(super) fn new(disk: &'a ReadOnlyDisk, progress: P) -> Self {
        let is_ours = |name: &String| segment_number(name).is_some() || is_snapshot(name);
        let bytes = disk.files().iter().filter(|name| is_ours(name)).filter_map(|name| disk.len(name).ok()).sum();
        Self {
            disk,
            progress,
            read: 0,
            counts: Counts { bytes, ..Counts::default() },
            findings: Vec::new(),
            all: Vec::new(),
            map: BlockMap::default(),
            genesis: None,
            installed: None,
            followed: None,
            incarnation: None,
            hard_state: None,
            last: None,
            end: None,
        }
    }

    /// Whether the end of the log does not follow from what was read.
    pub(super) const fn is_adrift(&self) -> bool {
        self.followed.is_none()
    }

    pub(super) fn find(&mut self, severity: Severity, file: &str, byte: Option<u64>, what: String) {
        let is_archived = self.disk.is_below(file);
        self.findings.push(Finding { severity, file: self.disk.place_of(file), byte, what, is_archived });
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.read = self.read.saturating_add(bytes);
        (self.progress)(self.read, self.counts.bytes);
    }

    /// Reads all segments.
    pub(super) fn segments(&mut self) -> Result<(), OpenError> {
        let files = self.disk.files();
        let mut numbers: Vec<u64> = files.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        if numbers.is_empty() && !files.iter().any(|name| is_snapshot(name)) {
            return Err(OpenError::Missing { place: self.disk.place() });
        }
        let headers = numbers.iter().map(|number| self.header(*number)).collect::<Result<Vec<_>, _>>()?;
        let mut before = None;
        for (at, (number, start)) in numbers.iter().zip(&headers).enumerate() {
            let count = if self.disk.is_below(&segment_name(*number)) {
                &mut self.counts.archived
            } else {
                &mut self.counts.segments
            };
            *count = count.saturating_add(1);
            before.into_iter().for_each(|before| self.check_number(before, *number));
            let behind = at.saturating_add(1);
            let next = numbers.get(behind).filter(|next| **next == number.saturating_add(1));
            let next = next.and_then(|_| headers.get(behind).copied().flatten());
            let place = Place { number: *number, next, is_last: behind == numbers.len() };
            if let Err(error) = self.segment(place, *start) {
                self.find(Severity::Damage, &segment_name(*number), None, error.to_string());
                self.lose();
            }
            before = Some(*number);
        }
        self.check_end();
        Ok(())
    }

    /// Where a segment says that it starts; `None` where its first bytes are bad.
    fn header(&self, number: u64) -> Result<Option<u64>, OpenError> {
        let header = Window::open(self.disk, number).and_then(|mut window| window.header());
        match header {
            Ok(SegmentHeader::Known { number: found, start }) if found == number => Ok(Some(start)),
            Ok(SegmentHeader::OtherVersion(found)) => {
                let place = self.disk.place_of(&segment_name(number));
                Err(OpenError::Version { place, found, known: VERSION })
            }
            _ => Ok(None),
        }
    }

    fn check_number(&mut self, before: u64, number: u64) {
        let expected = before.saturating_add(1);
        if number == expected {
            return;
        }
        let missing = match number.saturating_sub(1) {
            last if last == expected => format!("{} is not there", segment_name(expected)),
            last => format!("{} to {} are not there", segment_name(expected), segment_name(last)),
        };
        // Between two that the server needs it needs each.
        let is_needed = !self.disk.is_below(&segment_name(before));
        let severity = if is_needed { Severity::Damage } else { Severity::Incomplete };
        self.find(severity, &segment_name(number), None, format!("{missing}, and this one is"));
        self.lose();
    }

    fn segment(&mut self, place: Place, header: Option<u64>) -> Result<(), StorageError> {
        let file = segment_name(place.number);
        let expected = self.end.take().or((place.number == 1).then_some(0));
        let mut window = Window::open(self.disk, place.number)?;
        let len = window.len();
        let Some(start) = header.or(expected) else {
            self.find(Severity::Damage, &file, Some(0), "no segment begins with these bytes: it cannot be read".into());
            self.lose();
            self.advance(len);
            return Ok(());
        };
        let first = window.checkpoint(start)?;
        let has_begun = header.is_some() && first.is_some();
        if !has_begun && self.has_not_begun(&mut window, place, start)? {
            self.advance(len);
            return Ok(());
        }
        if header.is_none() {
            self.find(Severity::Damage, &file, Some(0), "no segment begins with these bytes".into());
        }
        if expected.is_some_and(|expected| expected != start) {
            let what = format!("it goes on from byte {start} of the log, and the segment before ends elsewhere");
            self.find(Severity::Damage, &file, Some(0), what);
            self.lose();
        }
        let segment = Segment { number: place.number, start, first: first.as_ref().map_or(start, |(_, end)| *end) };
        self.all.push(segment);
        let begin = match first {
            Some((checkpoint, end)) => {
                self.checkpoint(segment, checkpoint);
                Some(end)
            }
            None => {
                let what = "the checkpoint that it begins with is not as it was written";
                self.find(Severity::Damage, &file, Some(SEGMENT_HEADER_LEN as u64), what.into());
                self.lose();
                next_frame(self.disk, &file, start, start.saturating_add(1))?
            }
        };
        self.frames(&mut window, place, segment, begin)
    }

    /// Whether a crash left this segment before it began. Says so.
    fn has_not_begun(
        &mut self,
        window: &mut Window<'a, ReadOnlyDisk>,
        place: Place,
        start: u64,
    ) -> Result<bool, StorageError> {
        let file = segment_name(place.number);
        if !place.is_last || self.disk.is_below(&file) {
            return Ok(false);
        }
        let is_only = place.number == 1;
        let has_frames = is_only && next_frame(self.disk, &file, start, start.saturating_add(1))?.is_some();
        if has_frames || window.evidence(start, start, start)?.proof.is_some() {
            return Ok(false);
        }
        let what =
            if is_only { "the log was being founded when a crash came" } else { "it had not begun when a crash came" };
        self.find(Severity::Harmless, &file, None, format!("{what}: the next start makes it anew"));
        Ok(true)
    }

    /// The segments before lead to this, or it is taken as it is.
    fn checkpoint(&mut self, segment: Segment, checkpoint: Checkpoint) {
        let file = segment.name();
        let byte = Some(SEGMENT_HEADER_LEN as u64);
        if self.genesis.as_ref().is_some_and(|genesis| *genesis != checkpoint.genesis) {
            let what = format!("it is of another chain: {}", checkpoint.genesis);
            self.find(Severity::Damage, &file, byte, what);
            self.followed = None;
        }
        self.genesis.get_or_insert_with(|| checkpoint.genesis.clone());
        let is_equal = self.followed.as_ref().map(|(_, replay)| replay.checkpoint() == checkpoint);
        self.installed.clone_from(&checkpoint.snapshot);
        self.last = Some((checkpoint.last.height, checkpoint.last.term, checkpoint.last.hash));
        (self.incarnation, self.hard_state) = (Some(checkpoint.incarnation), Some(checkpoint.hard_state));
        match &mut self.followed {
            Some((segments, _)) if is_equal == Some(true) => return segments.push(segment),
            Some(_) => {
                let what = "the checkpoint is not what the segments before it lead to";
                self.find(Severity::Damage, &file, byte, what.into());
            }
            None => {}
        }
        self.followed = Some((Segments::new(segment), Replay::new(self.disk, checkpoint)));
    }

    fn frames(
        &mut self,
        window: &mut Window<'a, ReadOnlyDisk>,
        place: Place,
        segment: Segment,
        begin: Option<u64>,
    ) -> Result<(), StorageError> {
        let mut next = begin;
        let mut done = 0;
        while let Some(at) = next {
            self.advance(segment.offset(at).saturating_sub(done));
            done = segment.offset(at);
            if place.next.is_some_and(|next| next <= at) {
                self.end = Some(at);
                break;
            }
            if let Some((header, body)) = window.frame(segment.start, at)? {
                let len = (FRAME_HEADER_LEN as u64).saturating_add(header.len as u64);
                self.frame(segment, at, body);
                next = Some(at.saturating_add(len));
            } else {
                next = self.no_frame(window, place, segment, at)?;
            }
        }
        self.advance(window.len().saturating_sub(done));
        Ok(())
    }

    /// There is no frame at this position: says why, and answers where reading goes on.
    fn no_frame(
        &mut self,
        window: &mut Window<'a, ReadOnlyDisk>,
        place: Place,
        segment: Segment,
        at: u64,
    ) -> Result<Option<u64>, StorageError> {
        let (file, start) = (segment.name(), segment.start);
        let byte = Some(segment.offset(at));
        if place.is_last {
            let evidence = window.evidence(start, at, at)?;
            if evidence.proof.is_none() {
                if evidence.is_torn {
                    let what = "a write that a crash cut short, and that nobody was told of: the next start clears it";
                    self.find(Severity::Harmless, &file, byte, what.into());
                }
                return Ok(None);
            }
        }
        let behind = next_frame(self.disk, &file, start, at.saturating_add(1))?;
        if !place.is_last && behind.is_none() && place.next.is_none() {
            // Where it ends is not known, for the next one is missing or bad: that is said there.
            self.end = Some(at);
            return Ok(None);
        }
        let held = header_at(self.disk, &file, start, at)?;
        let mut what = match held {
            Some(header) if segment.offset(at).saturating_add(header.len as u64) > window.len() => {
                String::from("the file ends inside a frame")
            }
            Some(header) => format!("a frame of {} bytes is not as it was written", header.len),
            None if segment.offset(at) >= window.len() => String::from("the file ends here, and more was written"),
            None => String::from("no frame begins here, and one was written"),
        };
        match behind {
            Some(next) => what.push_str(&format!("; reading goes on at byte {}", segment.offset(next))),
            None => what.push_str("; nothing behind it in this file can be read"),
        }
        self.find(Severity::Damage, &file, byte, what);
        // What a frame was is not known, and how long it was is, where its header is as it was written.
        let end = |header: FrameHeader| at.saturating_add(FRAME_HEADER_LEN as u64).saturating_add(header.len as u64);
        let was_other = |header: FrameHeader| header.len != HARD_STATE_LEN && behind == Some(end(header));
        let hard_state = self.hard_state.filter(|_| held.is_some_and(was_other));
        self.lose();
        self.hard_state = hard_state;
        Ok(behind)
    }

    /// A good frame: takes it in, and says where it does not follow from those before it.
    fn frame(&mut self, segment: Segment, at: u64, body: &[u8]) {
        let body_at = at.saturating_add(FRAME_HEADER_LEN as u64);
        let fault = self.followed.as_mut().and_then(|(segments, replay)| {
            let applied = replay.apply(segments, body_at, body);
            segments.extend(body_at.saturating_add(body.len() as u64));
            applied.err()
        });
        if let Some(fault) = fault {
            let what = match fault {
                ReplayFault::Content(what) => String::from(what),
                ReplayFault::Storage(error) => error.to_string(),
            };
            self.find(Severity::Damage, &segment.name(), Some(segment.offset(at)), what);
            self.lose();
        }
        match Body::parse(body) {
            Some(Body::Append(blocks)) => self.append(segment, body_at, blocks),
            Some(Body::Truncate(before)) => {
                self.map.truncate(before.height.next());
                self.last = Some((before.height, before.term, before.hash));
            }
            Some(Body::Install { meta, keep_from }) => self.install(*meta, keep_from),
            Some(Body::HardState(hard_state)) => self.hard_state = Some(hard_state),
            Some(Body::Checkpoint(_)) | None => {}
        }
    }

    fn append(&mut self, segment: Segment, body_at: u64, blocks: Blocks<'_>) {
        for (place, entry, hash) in blocks.map_while(|block| block) {
            let position = body_at.saturating_add(place as u64);
            let (is_next, is_linked) = self.last.map_or((true, true), |(height, term, last)| {
                (entry.index == height.next() && entry.term >= term, link(&last, &entry) == hash)
            });
            if self.is_adrift() && !(is_next && is_linked) {
                self.broken_link(segment, position, &entry);
            }
            let before = self.last.map(|(_, _, hash)| hash);
            self.map.append(entry.index, position, before);
            self.last = Some((entry.index, entry.term, hash));
        }
    }

    /// Behind damage, where a block that was truncated may have been lost: so only what cannot be that is said.
    fn broken_link(&mut self, segment: Segment, position: u64, entry: &Entry) {
        let follows = self.last.is_some_and(|(height, term, _)| entry.index == height.next() && entry.term >= term);
        if follows {
            let what = format!("block {}'s hash does not link it to the block before it", entry.index);
            self.find(Severity::Damage, &segment.name(), Some(segment.offset(position)), what);
        }
        self.last = None;
    }

    fn install(&mut self, meta: SnapshotMeta, keep_from: Option<LogIndex>) {
        let (index, term) = (meta.last_included_index, meta.last_included_term);
        if keep_from.is_none() {
            // What the log held beyond the snapshot was given up; up to it, it may have been another history.
            self.map.truncate(index.next());
            self.last = meta.digest.map(|hash| (index, term, hash));
        }
        self.installed = Some(meta);
    }

    /// Nothing is known of the log any more, up to the next checkpoint.
    fn lose(&mut self) {
        (self.followed, self.last, self.end, self.hard_state) = (None, None, None, None);
    }

    /// See [`Salvage`].
    pub(super) fn salvage(&self) -> Salvage {
        let number = self.disk.files().iter().filter_map(|name| segment_number(name)).max().unwrap_or(0);
        let start = self.all.iter().map(|segment| segment.start).max().unwrap_or(0);
        let beyond = start.saturating_add(self.counts.bytes).saturating_add(1);
        let last = self.last.map(|(height, term, hash)| Point { height, term, hash });
        Salvage { incarnation: self.incarnation, hard_state: self.hard_state, last, number, beyond }
    }

    /// Every block behind the installed snapshot is there, and where the server looks for it.
    fn check_end(&mut self) {
        let is_told = self.findings.iter().any(|finding| finding.severity == Severity::Damage && !finding.is_archived);
        let snapshot = self.installed.as_ref().map_or(LogIndex(0), |meta| meta.last_included_index);
        let last = self.last.map_or(LogIndex(0), |(height, _, _)| height);
        let live = self.all.iter().find(|segment| !self.disk.is_below(&segment.name())).map(|segment| segment.start);
        let first = self.map.locate(snapshot.next()).map(|(position, _)| position);
        let what = match (live, self.map.missing(snapshot, last)) {
            (None, _) if self.counts.segments == 0 => String::from("no segment of the log is there"),
            (_, Some((first, last))) => {
                format!("blocks {first} to {last}, which the server needs, are in a segment that is not there")
            }
            (Some(live), None) if first.is_some_and(|first| first < live) => {
                format!("block {}, which the server needs, is in the archive alone: move it back", snapshot.next())
            }
            _ => return,
        };
        if !is_told {
            let (severity, file) = (Severity::Damage, self.disk.place());
            self.findings.push(Finding { severity, file, byte: None, what, is_archived: false });
        }
    }
}
