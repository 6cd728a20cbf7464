//! A disk in memory that keeps what is durable apart from what is only submitted, and crashes as a test decides.

use std::collections::{BTreeMap, VecDeque};

use super::{Change, Disk, DiskError};

/// A crash keeps or loses written bytes by pieces of this size, counted from the beginning of their file.
const SECTOR: u64 = 512;

/// A test double for [`FileDisk`](super::FileDisk): nothing becomes durable until the test says so.
#[derive(Clone, Debug)]
pub struct MemDisk {
    place: String,
    /// Which file has which name once everything submitted is done.
    names: BTreeMap<String, u64>,
    /// What reads show: what is durable, and what was there when the disk was opened.
    shown: Directory,
    /// What the device holds in truth, where that is not what reads show (fault D3).
    truth: Option<Directory>,
    /// What was submitted and is not durable.
    pending: VecDeque<Step>,
    /// The ticket of the last operation that is.
    durable: u64,
    /// The number of the next file.
    next: u64,
    failed: Option<DiskError>,
    reads_fail: bool,
    /// Files are made longer when that is asked for (contract 7 promises nothing).
    reserves: bool,
    full: bool,
    lacks_room: bool,
}

/// Files by their numbers, which stay when their names change.
#[derive(Clone, Debug, Default)]
struct Directory {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Vec<u8>>,
}

/// An operation on files by number.
#[derive(Clone, Debug)]
enum Step {
    Create { name: String, file: u64, len: u64 },
    Write { name: String, file: u64, offset: u64, bytes: Vec<u8> },
    Rename { file: u64, from: String, to: String },
    Remove { file: u64, name: String },
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::at(String::from("memory"))
    }

    /// An empty directory, called `place` in errors.
    #[must_use]
    pub const fn at(place: String) -> Self {
        Self {
            place,
            names: BTreeMap::new(),
            shown: Directory { names: BTreeMap::new(), files: BTreeMap::new() },
            truth: None,
            pending: VecDeque::new(),
            durable: 0,
            next: 0,
            failed: None,
            reads_fail: false,
            reserves: false,
            full: false,
            lacks_room: false,
        }
    }

    /// The same, where files are made longer when that is asked for, as real ones are.
    #[must_use]
    pub fn reserving(self) -> Self {
        Self { reserves: true, ..self }
    }

    /// A directory that holds these files, all of them durable.
    #[must_use]
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut disk = Self::new();
        for (name, bytes) in files {
            disk.shown.names.insert(name, disk.next);
            disk.shown.files.insert(disk.next, bytes);
            disk.next = disk.next.saturating_add(1);
        }
        disk.names.clone_from(&disk.shown.names);
        disk
    }

    /// Makes everything submitted durable, unless the disk has failed.
    pub fn sync(&mut self) {
        self.sync_to(self.submitted());
    }

    /// Makes everything up to this ticket durable, unless the disk has failed.
    pub fn sync_to(&mut self, ticket: u64) {
        while self.failed.is_none() && self.durable < ticket {
            let Some(step) = self.pending.pop_front() else { return };
            self.shown.apply(&step);
            if let Some(truth) = &mut self.truth {
                truth.apply(&step);
            }
            self.durable = self.durable.saturating_add(1);
        }
    }

    /// The last ticket.
    #[must_use]
    pub fn submitted(&self) -> u64 {
        self.durable.saturating_add(self.pending.len() as u64)
    }

    /// How much of what was submitted is not durable: each byte of a write counts, and each other operation as one.
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        self.pending.iter().map(Step::units).sum()
    }

    /// The same of each operation by itself, in their order: for those who crash between any two.
    pub fn unsynced_each(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().map(Step::units)
    }

    /// Makes the running operation fail, and with it all that follow.
    pub fn fail(&mut self, error: DiskError) {
        self.failed.get_or_insert(error);
    }

    /// Makes every read fail, or succeed again.
    pub const fn fail_reads(&mut self, fail: bool) {
        self.reads_fail = fail;
    }

    /// Leaves no room but in the files that are there, or makes room again.
    pub const fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// What reads show of a file; nothing of one that is not there.
    #[must_use]
    pub fn bytes(&self, file: &str) -> &[u8] {
        self.names.get(file).and_then(|file| self.shown.files.get(file)).map_or(&[], Vec::as_slice)
    }

    /// The files with what reads show of them.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.files().into_iter().map(|name| (name.clone(), self.bytes(&name).to_vec())).collect()
    }

    /// Changes bytes of a file behind its user's back, as a failing device does.
    pub fn corrupt(&mut self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(bytes) = self.names.get(file).and_then(|file| self.shown.files.get_mut(file)) {
            change(bytes);
        }
    }

    /// The disk after a crash: what was durable, then `unsynced` of what was not, counted as
    /// [`unsynced`](Self::unsynced) does. Of the writes that are not followed by a barrier in that (contract 3), those
    /// sectors for which `written` is false never reached the device; they are as they were, or zeros where the file
    /// was shorter.
    #[must_use]
    pub fn crash(&self, unsynced: u64, written: impl FnMut(&str, u64) -> bool) -> Self {
        let directory = self.after_crash(unsynced, written);
        let names = directory.names.clone();
        let (reserves, full) = (self.reserves, self.full);
        Self { names, shown: directory, next: self.next, reserves, full, ..Self::at(self.place.clone()) }
    }

    /// A crash after a failed sync: reads show everything up to the next barrier, and the device holds what a
    /// [`crash`](Self::crash) leaves.
    #[must_use]
    pub fn crash_in_doubt(&self, unsynced: u64, written: impl FnMut(&str, u64) -> bool) -> Self {
        let writes = self.pending.iter().take_while(|step| !step.is_barrier());
        let whole = Self { truth: None, ..self.clone() }.crash(writes.map(Step::units).sum(), |_, _| true);
        let unsynced = unsynced.min(self.pending.iter().take_while(|step| !step.is_barrier()).map(Step::units).sum());
        Self { truth: Some(self.after_crash(unsynced, written)), ..whole }
    }

    fn after_crash(&self, unsynced: u64, mut written: impl FnMut(&str, u64) -> bool) -> Directory {
        let mut directory = self.truth.clone().unwrap_or_else(|| self.shown.clone());
        let mut left = unsynced;
        let mut reached = VecDeque::new();
        for step in &self.pending {
            if left < step.units() && step.is_barrier() {
                break;
            }
            if step.is_barrier() {
                reached.drain(..).for_each(|(step, _)| directory.apply(step));
                directory.apply(step);
            } else if left > 0 {
                reached.push_back((step, left));
            }
            left = left.saturating_sub(step.units());
        }
        for (step, len) in reached {
            directory.apply_in_part(step, len, &mut written);
        }
        directory
    }

    fn health(&self) -> Result<(), DiskError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Fault D6: whether a full device has room for it. One that has none fails, for good (contract 5).
    fn find_room(&mut self, change: &Change<'_>) -> Result<(), DiskError> {
        let (operation, file, needs_room) = match *change {
            Change::Create { file } => ("create", file, true),
            Change::Write { file, offset, bytes } => {
                ("write", file, offset.saturating_add(bytes.len() as u64) > self.len_once_done(file))
            }
            Change::Rename { .. } | Change::Remove { .. } => return Ok(()),
        };
        if self.full && needs_room {
            self.failed = Some(DiskError::Full { what: format!("{operation} {}", self.place_of(file)) });
        }
        self.health()
    }

    /// The length of a file once everything submitted is done.
    fn len_once_done(&self, file: &str) -> u64 {
        let Some(number) = self.names.get(file) else { return 0 };
        let shown = self.shown.files.get(number).map_or(0, |bytes| bytes.len() as u64);
        let written = self.pending.iter().filter_map(|step| match step {
            Step::Write { file, offset, bytes, .. } if file == number => {
                Some(offset.saturating_add(bytes.len() as u64))
            }
            Step::Create { file, len, .. } if file == number => Some(*len),
            _ => None,
        });
        written.fold(shown, u64::max)
    }

    fn create(&mut self, name: &str, len: u64) -> Step {
        let file = self.next;
        self.next = self.next.saturating_add(1);
        self.names.insert(name.into(), file);
        Step::Create { name: name.into(), file, len }
    }

    /// Gives the operation its file's number, and does to the names what it does to them.
    fn step(&mut self, operation: Change<'_>) -> Result<Step, DiskError> {
        let known = |names: &BTreeMap<String, u64>, file: &str| {
            names.get(file).copied().ok_or_else(|| DiskError::NoFile { place: self.place_of(file) })
        };
        Ok(match operation {
            Change::Create { file } => self.create(file, 0),
            Change::Write { file, offset, bytes } => {
                let number = known(&self.names, file)?;
                Step::Write { name: file.into(), file: number, offset, bytes: bytes.to_vec() }
            }
            Change::Rename { from, to } => {
                let number = known(&self.names, from)?;
                self.names.remove(from);
                self.names.insert(to.into(), number);
                Step::Rename { file: number, from: from.into(), to: to.into() }
            }
            Change::Remove { file } => {
                let number = known(&self.names, file)?;
                self.names.remove(file);
                Step::Remove { file: number, name: file.into() }
            }
        })
    }
}

impl Disk for MemDisk {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn files(&self) -> Vec<String> {
        self.names.keys().filter(|name| !name.contains('/')).cloned().collect()
    }

    fn holds(&self, file: &str) -> bool {
        self.names.contains_key(file)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        let bytes = self.names.get(file).and_then(|file| self.shown.files.get(file));
        bytes.map(|bytes| bytes.len() as u64).ok_or_else(|| DiskError::NoFile { place: self.place_of(file) })
    }

    /// Refuses bytes that are not durable, so that a user who relies on them shows up.
    fn read_at(&self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let place = self.place_of(file);
        if self.reads_fail {
            return Err(DiskError::Io { what: format!("read {place} at {offset}: injected failure") });
        }
        let bytes = self.names.get(file).and_then(|file| self.shown.files.get(file));
        let bytes = bytes.ok_or_else(|| DiskError::NoFile { place: place.clone() })?;
        let end = offset.saturating_add(buffer.len() as u64);
        let range = usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        buffer.copy_from_slice(bytes.get(range).ok_or(DiskError::PastEnd { place, end })?);
        Ok(())
    }

    fn submit(&mut self, operation: Change<'_>) -> Result<u64, DiskError> {
        self.health()?;
        self.find_room(&operation)?;
        let step = self.step(operation)?;
        self.pending.push_back(step);
        Ok(self.submitted())
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        self.health()?;
        Ok(self.durable)
    }

    /// It is listed at once, and there as if it had been created.
    fn prepare(&mut self, file: &str, len: u64) {
        if !self.names.contains_key(file) && self.failed.is_none() {
            self.lacks_room = self.full;
            if !self.full {
                let step = self.create(file, len);
                self.pending.push_back(step);
            }
        }
    }

    fn reserve(&mut self, file: &str, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(number) = self.names.get(file).filter(|_| self.reserves) else { return };
        let (files, is_full) = (&mut self.shown.files, self.full);
        for directory in [Some(files), self.truth.as_mut().map(|truth| &mut truth.files)].into_iter().flatten() {
            let Some(bytes) = directory.get_mut(number).filter(|bytes| bytes.len() < len) else { continue };
            self.lacks_room = is_full;
            if !is_full {
                bytes.resize(len, 0);
            }
        }
    }

    fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    fn has_free(&self, _bytes: u64) -> bool {
        !self.full
    }

    fn settle(&mut self, operations: &[Change<'_>]) -> Result<(), DiskError> {
        for operation in operations {
            self.health()?;
            self.find_room(operation)?;
            let step = self.step(*operation)?;
            self.shown.apply(&step);
            if let Some(truth) = &mut self.truth {
                truth.apply(&step);
            }
        }
        Ok(())
    }
}

impl Directory {
    fn apply(&mut self, step: &Step) {
        self.apply_in_part(step, u64::MAX, &mut |_, _| true);
    }

    /// Does the first `len` units of a step; of a write only those sectors that were `written`.
    fn apply_in_part(&mut self, step: &Step, len: u64, written: &mut impl FnMut(&str, u64) -> bool) {
        match step {
            Step::Create { name, file, len } => {
                self.names.insert(name.clone(), *file);
                self.files.insert(*file, vec![0; usize::try_from(*len).unwrap_or(usize::MAX)]);
            }
            Step::Write { name, file, offset, bytes } => {
                if let Some(held) = self.files.get_mut(file) {
                    let bytes = bytes.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(bytes);
                    write_sectors(held, *offset, bytes, |sector| written(name, sector));
                }
            }
            Step::Rename { file, from, to } => {
                self.forget(from, *file);
                if let Some(replaced) = self.names.insert(to.clone(), *file) {
                    self.files.remove(&replaced);
                }
            }
            Step::Remove { file, name } => {
                self.forget(name, *file);
                self.files.remove(file);
            }
        }
    }

    /// The file has this name no more.
    fn forget(&mut self, name: &str, file: u64) {
        if self.names.get(name) == Some(&file) {
            self.names.remove(name);
        }
    }
}

impl Step {
    const fn is_barrier(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    const fn units(&self) -> u64 {
        match self {
            Self::Write { bytes, .. } => bytes.len() as u64,
            _ => 1,
        }
    }
}

fn write_sectors(held: &mut Vec<u8>, offset: u64, bytes: &[u8], mut written: impl FnMut(u64) -> bool) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if held.len() < start.saturating_add(bytes.len()) {
        held.resize(start.saturating_add(bytes.len()), 0);
    }
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = usize::try_from(SECTOR.saturating_sub(at % SECTOR)).unwrap_or(usize::MAX);
        let (now, later) = rest.split_at(room.min(rest.len()));
        let target = usize::try_from(at).ok().and_then(|at| held.get_mut(at..at.saturating_add(now.len())));
        if let Some(target) = target.filter(|_| written(at / SECTOR)) {
            target.copy_from_slice(now);
        }
        (at, rest) = (at.saturating_add(now.len() as u64), later);
    }
}
