//! Snapshots: received in chunks, refused where they do not continue, installed over a log and in place of one, read.

use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;
use rand::RngExt;

use super::life::Life;
use super::model::{Op, State, Writer};
use super::storage::{check_ranges, lead, refuse_all, writer};
use super::{StorageHarness, Violation, ensure};
use crate::error::StorageError;
use crate::storage::{Snapshot, SnapshotChunk, SnapshotMeta, Storage};
use crate::types::{Digest, LogIndex, Term};

/// Entries in the logs that a snapshot is installed over.
const LOG: u64 = 6;

/// The contract's item 6, and the reads of item 4 after it.
pub(super) fn check_snapshots<H: StorageHarness>(harness: &mut H) -> Result<(), Violation> {
    for first in 1..=5 {
        let keep_from = LogIndex(first);
        let name = format!("a snapshot of entry 4 of {LOG}, kept from {first} on");
        lead(harness, &name, |life| install_over(life, LogIndex(4), keep_from))?;
    }
    lead(harness, "a snapshot of the last entry", |life| install_over(life, LogIndex(LOG), LogIndex(LOG).next()))?;
    // Before the last entry, at it, directly after it and beyond.
    for index in [3, LOG, LOG + 1, LOG + 9] {
        let name = format!("a snapshot at {index} in place of {LOG} entries");
        lead(harness, &name, |life| install_instead(life, LogIndex(index)))?;
    }
    lead(harness, "a snapshot that is given up", give_up)?;
    lead(harness, "snapshots of no byte, and in chunks of no byte", install_nothing)
}

fn filled<H: StorageHarness>(life: &mut Life<'_, H>) -> Result<Writer, Violation> {
    let mut writer = writer(4);
    for _ in 0..LOG {
        life.write(&writer.vote(&life.now, 2))?;
        life.write(&writer.append(&life.now, 1))?;
    }
    life.settle()?;
    Ok(writer)
}

fn install_over<H: StorageHarness>(life: &mut Life<'_, H>, index: LogIndex, first: LogIndex) -> Result<(), Violation> {
    let mut writer = filled(life)?;
    // One that is given up for it.
    life.write(&writer.begin(&life.now, LogIndex(2), Some(7)))?;
    receive(life, &mut writer, index)?;
    refuse_all(life, &mut writer)?;
    life.write(&Op::Install { index, keep_from: Some(first) })?;
    life.check_reads()?;
    life.settle()?;
    go_on_after(life, &mut writer)?;
    // A second one, which finds the first and its tail.
    let last = life.now.last_index();
    receive(life, &mut writer, last.prev())?;
    life.write(&Op::Install { index: last.prev(), keep_from: Some(last) })?;
    life.settle()?;
    go_on_after(life, &mut writer)
}

fn install_instead<H: StorageHarness>(life: &mut Life<'_, H>, index: LogIndex) -> Result<(), Violation> {
    let mut writer = filled(life)?;
    let of_another = life.now.last_term();
    let begun = writer.begin_of(&life.now, index, of_another.next(), Some(100));
    life.write(&begun)?;
    refuse_all(life, &mut writer)?;
    life.write(&writer.go_on(&life.now))?;
    refuse_all(life, &mut writer)?;
    life.write(&writer.vote(&life.now, 1))?;
    life.write(&Op::Install { index, keep_from: None })?;
    life.check_reads()?;
    // Directly after it, and before it is reported where it is beyond the log.
    if index <= LogIndex(LOG) {
        life.settle()?;
        life.check_reads()?;
    }
    life.write(&writer.append(&life.now, 2))?;
    life.settle()?;
    go_on_after(life, &mut writer)
}

/// What is given up is not there, whether it was durable or not, and is not gone on with; nor does it stand in the way.
fn give_up<H: StorageHarness>(life: &mut Life<'_, H>) -> Result<(), Violation> {
    let mut writer = filled(life)?;
    life.write(&Op::GiveUp)?;
    for is_durable in [false, true] {
        life.write(&writer.begin(&life.now, LogIndex(2), Some(7)))?;
        if is_durable {
            life.settle()?;
        }
        let rest = writer.go_on(&life.now);
        life.write(&Op::GiveUp)?;
        life.check_reads()?;
        life.settle()?;
        life.check_chunks(LogIndex(2))?;
        life.refuse(life.begun().next(), &rest, "a chunk of what was given up")?;
        refuse_all(life, &mut writer)?;
    }
    receive(life, &mut writer, LogIndex(2))?;
    life.write(&Op::Install { index: LogIndex(2), keep_from: Some(LogIndex(3)) })?;
    life.settle()?;
    go_on_after(life, &mut writer)
}

fn install_nothing<H: StorageHarness>(life: &mut Life<'_, H>) -> Result<(), Violation> {
    let mut writer = filled(life)?;
    for (index, state) in [(1, &b""[..]), (2, b"abc")] {
        let meta = writer.describe(&life.now, LogIndex(index));
        let chunk =
            |offset, data: &'static [u8], done| SnapshotChunk { meta: meta.clone(), offset, data: data.into(), done };
        life.write(&Op::Chunk(chunk(0, b"", false).into()))?;
        life.write(&Op::Chunk(chunk(0, state, state.is_empty()).into()))?;
        if !state.is_empty() {
            life.write(&Op::Chunk(chunk(3, b"", true).into()))?;
        }
        life.settle()?;
        life.check_reads()?;
        life.write(&Op::Install { index: LogIndex(index), keep_from: Some(LogIndex(index).next()) })?;
        life.settle()?;
        life.check_reads()?;
    }
    Ok(())
}

/// All chunks of a snapshot of an entry that the log holds, with refusals in between.
fn receive<H: StorageHarness>(life: &mut Life<'_, H>, writer: &mut Writer, index: LogIndex) -> Result<(), Violation> {
    life.write(&writer.begin(&life.now, index, Some(600)))?;
    life.check_reads()?;
    refuse_all(life, writer)?;
    life.settle()?;
    life.check_reads()?;
    life.write(&writer.go_on(&life.now))?;
    life.check_reads()
}

/// What was installed is read, refuses what does not continue it, and is continued.
fn go_on_after<H: StorageHarness>(life: &mut Life<'_, H>, writer: &mut Writer) -> Result<(), Violation> {
    life.check_reads()?;
    check_ranges(life)?;
    refuse_all(life, writer)?;
    life.write(&writer.append(&life.now, 3))?;
    life.write(&Op::Truncate(life.now.last_index()))?;
    life.write(&writer.append(&life.now, 2))?;
    life.settle()?;
    life.check_reads()?;
    check_ranges(life)
}

/// One write of a chunk or an install that does not continue what was received.
pub(super) fn refuse_snapshot<H: StorageHarness>(
    life: &mut Life<'_, H>,
    writer: &mut Writer,
    kind: u32,
) -> Result<(), Violation> {
    let (now, id) = (life.now.clone(), life.begun().next());
    let far = LogIndex(now.last_index().0.saturating_add(50));
    let chunk = |meta: &SnapshotMeta, offset| {
        Op::Chunk(SnapshotChunk { meta: meta.clone(), offset, data: Bytes::from_static(b"data"), done: false }.into())
    };
    match kind {
        11 => {
            let other = writer.describe(&now, far);
            return life.refuse(id, &chunk(&other, 4), "a chunk of a snapshot that was never begun");
        }
        12 => return life.refuse(id, &chunk(&now.snapshot.meta, 0), "a snapshot of what is covered already"),
        13 => return life.refuse(id, &install(far, None), "an install of what was not received"),
        14 => return life.refuse(id, &install(now.snapshot_index(), None), "an install of what is installed"),
        15 if now.first_index() <= now.snapshot_index() => {
            return life.refuse(id, &Op::Truncate(now.first_index()), "a truncation of the tail");
        }
        _ => {}
    }
    let Some((Snapshot { meta, state }, done)) = &now.receiving else { return Ok(()) };
    let (index, len) = (meta.last_included_index, state.len() as u64);
    let another = SnapshotMeta { state: Some(Digest([0xff; 32])), ..meta.clone() };
    let holds = now.holds(meta);
    match kind {
        16 => life.refuse(id, &chunk(meta, len.saturating_add(1)), "a gap between chunks"),
        17 if len > 1 => life.refuse(id, &chunk(meta, len.saturating_sub(1)), "a chunk over the last one"),
        18 if len > 0 => life.refuse(id, &chunk(&another, len), "a chunk of another snapshot of the same entry"),
        19 if *done && len > 0 => life.refuse(id, &chunk(meta, len), "a chunk after the last"),
        20 if !*done => life.refuse(id, &install(index, None), "an install of what is not all there"),
        21 if *done => {
            let beyond = if holds { index.next().next() } else { now.first_index() };
            life.refuse(id, &install(index, Some(beyond)), "an install that keeps what does not follow it")
        }
        22 if *done && holds => {
            let removed = now.before.index;
            life.refuse(id, &install(index, Some(removed)), "an install that keeps what is removed already")
        }
        _ => Ok(()),
    }
}

const fn install(index: LogIndex, keep_from: Option<LogIndex>) -> Op {
    Op::Install { index, keep_from }
}

impl<H: StorageHarness> Life<'_, H> {
    /// Names and bytes of the snapshots, at every kind of offset and size, and of those that there are not.
    pub(super) fn check_snapshots(&self) -> Result<(), Violation> {
        let (meta, first) = (self.storage.snapshot_meta(), self.storage.first_index());
        let known = self.possible().any(|state| meta.as_ref() == Ok(&state.snapshot.meta));
        ensure!(known, Install, "the snapshot is {meta:?}, not {:?}", self.now.snapshot.meta);
        let known = self.possible().any(|state| first == state.first_index());
        ensure!(known, Install, "the first index is {first}, not {}", self.now.first_index());
        let mut indexes = Vec::from([LogIndex(0), LogIndex(u64::MAX)]);
        for state in self.possible() {
            let received = state.receiving.as_ref().map(|(snapshot, _)| snapshot.meta.last_included_index);
            for index in [Some(state.snapshot_index()), received].into_iter().flatten() {
                indexes.extend([index.prev(), index, index.next()]);
            }
        }
        indexes.sort_unstable();
        indexes.dedup();
        indexes.into_iter().try_for_each(|index| self.check_chunks(index))
    }

    fn check_chunks(&self, index: LogIndex) -> Result<(), Violation> {
        let written: Vec<Option<&Bytes>> = self.possible().map(|state| state.bytes(index)).collect();
        let Some(len) = written.iter().flatten().map(|state| state.len()).max() else {
            let is_known = !self.forgotten.contains(&index);
            return if is_known { self.check_chunk(index, 0, usize::MAX, &written) } else { Ok(()) };
        };
        let middle = len / 2;
        for offset in [0, 1, middle, len.saturating_sub(1), len, len.saturating_add(1), usize::MAX] {
            for max_bytes in [0, 1, middle, usize::MAX] {
                self.check_chunk(index, offset, max_bytes, &written)?;
            }
        }
        Ok(())
    }

    fn check_chunk(
        &self,
        index: LogIndex,
        offset: usize,
        max_bytes: usize,
        written: &[Option<&Bytes>],
    ) -> Result<(), Violation> {
        let cut = |state: &Option<&Bytes>| {
            let rest = state.as_ref()?.slice_ref(state.as_ref()?.get(offset..)?);
            Some(rest.slice(..rest.len().min(max_bytes)))
        };
        let answer = self.storage.snapshot_chunk(index, offset as u64, max_bytes);
        let cuts: Vec<Option<Bytes>> = written.iter().map(cut).collect();
        let nothing = StorageError::NoSnapshot { index, offset: offset as u64 };
        let is_right = match (&answer, cuts.split_first()) {
            (answer, Some((one, others))) if others.iter().all(|other| other == one) => match (answer, one) {
                (Ok(answer), Some(written)) => answer == written,
                (Err(error), None) => *error == nothing,
                _ => false,
            },
            // Neither durable nor gone for certain: an error, or something that was written there.
            (Ok(answer), _) => cuts.iter().flatten().any(|written| written == answer),
            (Err(_), _) => true,
        };
        let told = answer.map_or_else(|error| format!("{error}"), |bytes| format!("{} bytes", bytes.len()));
        let right: Vec<_> = cuts.iter().map(|cut| cut.as_ref().map(Bytes::len)).collect();
        ensure!(
            is_right,
            Snapshots,
            "the snapshot at {index} from {offset} on, at most {max_bytes}: {told}, not {right:?}"
        );
        Ok(())
    }
}

impl Writer {
    /// A snapshot of the entry at `index` as this state holds it, or, where it holds none, of some other log.
    pub(super) fn describe(&mut self, state: &State, index: LogIndex) -> SnapshotMeta {
        let held = state.entry(index).map(|(entry, digest)| (entry.term, *digest));
        let links = state.before.digest.is_some();
        let elsewhere = (state.hard_state.current_term, links.then(|| self.digest()));
        let (last_included_term, digest) = held.unwrap_or(elsewhere);
        let (configuration, state) = (self.configuration(), Some(self.digest()));
        SnapshotMeta { last_included_index: index, last_included_term, digest, configuration, state }
    }

    fn digest(&mut self) -> Digest {
        Digest(core::array::from_fn(|_| self.rng.random_range(0..=u8::MAX)))
    }

    /// The first chunk of a snapshot of this entry, of so many bytes, or all of it.
    pub(super) fn begin(&mut self, state: &State, index: LogIndex, len: Option<usize>) -> Op {
        let meta = self.describe(state, index);
        self.begin_with(meta, len)
    }

    /// The same, of an entry of this term in another log.
    fn begin_of(&mut self, state: &State, index: LogIndex, term: Term, len: Option<usize>) -> Op {
        let elsewhere = self.describe(state, LogIndex(u64::MAX));
        self.begin_with(SnapshotMeta { last_included_index: index, last_included_term: term, ..elsewhere }, len)
    }

    fn begin_with(&mut self, meta: SnapshotMeta, len: Option<usize>) -> Op {
        let state = match len {
            Some(len) => self.bytes(len.saturating_add(1), len.saturating_add(700)),
            None => self.bytes(0, 50),
        };
        let data = state.get(..len.unwrap_or(state.len())).map(Bytes::copy_from_slice).unwrap_or_default();
        let chunk = SnapshotChunk { meta: meta.clone(), offset: 0, data, done: len.is_none() };
        self.sending = Some(Snapshot { meta, state });
        Op::Chunk(chunk.into())
    }

    /// The rest of the snapshot that was begun.
    pub(super) fn go_on(&mut self, state: &State) -> Op {
        self.next_chunk(state, usize::MAX).unwrap_or(Op::HardState(state.hard_state))
    }

    /// The next chunk of what this state is receiving; `None` where it is receiving nothing, or nothing more.
    fn next_chunk(&mut self, state: &State, max_bytes: usize) -> Option<Op> {
        let (received, done) = state.receiving.as_ref()?;
        let sending = self.sending.as_ref().filter(|sending| sending.meta == received.meta && !*done)?;
        let rest = sending.state.get(received.state.len()..)?;
        let data = Bytes::copy_from_slice(rest.get(..max_bytes).unwrap_or(rest));
        let (offset, done) = (received.state.len() as u64, data.len() == rest.len());
        Some(Op::Chunk(SnapshotChunk { meta: sending.meta.clone(), offset, data, done }.into()))
    }

    /// A chunk that begins a snapshot or continues one, or the install of one that is all there. `None` before the first
    /// term, which no snapshot can be of.
    pub(super) fn receive_or_install(&mut self, state: &State) -> Option<Op> {
        if state.hard_state.current_term == Term(0) {
            return None;
        }
        if self.rng.random_ratio(5, 6) {
            let max_bytes = self.rng.random_range(0..400);
            if let Some(op) = self.next_chunk(state, max_bytes) {
                return Some(op);
            }
            if let Some((snapshot, true)) = &state.receiving {
                let index = snapshot.meta.last_included_index;
                let first = self.rng.random_range(state.first_index().0..=index.next().0);
                let keep_from = (state.holds(&snapshot.meta) && self.rng.random_ratio(5, 6)).then_some(LogIndex(first));
                return Some(Op::Install { index, keep_from });
            }
        }
        let snapshot = state.snapshot_index().0;
        // As near as that, most are of an entry that the log holds.
        let index = LogIndex(self.rng.random_range(snapshot.saturating_add(1)..=snapshot.saturating_add(5)));
        let len = self.rng.random_bool(0.7).then(|| self.rng.random_range(1..300));
        let term = state.hard_state.current_term;
        Some(if self.rng.random_ratio(1, 4) {
            self.begin_of(state, index, term, len)
        } else {
            self.begin(state, index, len)
        })
    }
}
