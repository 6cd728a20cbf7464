//! The suite for storages: what it asks of an implementor, and every clause that needs no crash.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::crash::{check_random, check_scripts};
use super::life::Life;
use super::model::{Op, State, Writer};
use super::snapshot::{check_snapshots, refuse_snapshot};
use super::{Clause, Violation, ensure};
use crate::action::Write;
use crate::error::StorageError;
use crate::quorum::Configuration;
use crate::storage::{SnapshotMeta, Storage};
use crate::types::{Entry, LogIndex, NodeId, Payload, Term, WriteId};

/// What the suite asks of an implementor. Any `FnMut(Configuration) -> impl Storage` is one, with every default.
pub trait StorageHarness {
    /// The storage to check.
    type Storage: Storage;

    /// A new, empty storage of a cluster founded with this configuration. The ones made before are not used any more.
    fn create(&mut self, genesis: Configuration) -> Self::Storage;

    /// Gives the storage a moment to make durable what it has begun, all or some of it: a test double completes
    /// writes, a real one sleeps for about a millisecond. Called again until everything is reported.
    ///
    /// By default nothing, for storages that are durable on return.
    fn advance(&mut self, storage: &mut Self::Storage) {
        let _ = storage;
    }

    /// How many different things a crash right now may leave, or a sample of them: 0 where a crash cannot be had.
    ///
    /// By default 0: then nothing that a crash would show is checked.
    fn crash_points(&self, storage: &Self::Storage) -> u64 {
        let _ = storage;
        0
    }

    /// The process dies, and the storage is opened again as the server's next life would. `point` is below
    /// `crash_points`: 0 keeps nothing but what is durable, the highest loses nothing or as little as can be.
    ///
    /// # Errors
    /// What is left cannot be opened: why. The suite takes that for a violation.
    fn crash(&mut self, storage: Self::Storage, point: u64) -> Result<Self::Storage, String> {
        let _ = (storage, point);
        Err(String::from("this harness cannot crash"))
    }

    /// Makes the next write or sync of the device fail, once. `false` where it cannot.
    ///
    /// By default it cannot.
    fn fail(&mut self, storage: &mut Self::Storage) -> bool {
        let _ = storage;
        false
    }

    /// How many random lives to lead, each from a seed of its own: fewer for a storage that is slow.
    fn seeds(&self) -> u64 {
        64
    }
}

impl<S: Storage, F: FnMut(Configuration) -> S> StorageHarness for F {
    type Storage = S;

    fn create(&mut self, genesis: Configuration) -> S {
        self(genesis)
    }
}

/// Holds a storage against the contract of [`Storage`].
///
/// # Errors
/// The first clause that it breaks.
pub fn check_storage(mut harness: impl StorageHarness) -> Result<(), Violation> {
    check_links(&mut harness).map_err(|found| found.during(|| String::from("links of entries that differ")))?;
    check_order(&mut harness)?;
    check_limits(&mut harness)?;
    check_snapshots(&mut harness)?;
    check_scripts(&mut harness)?;
    for seed in 0..harness.seeds() {
        check_random(&mut harness, seed)?;
    }
    check_failure(&mut harness).map_err(|found| found.during(|| String::from("a device that fails")))
}

/// A new storage, held against [`Clause::New`].
pub(super) fn found<H: StorageHarness>(harness: &mut H) -> Result<Life<'_, H>, Violation> {
    let configuration = Configuration::new([1, 2, 3].map(NodeId));
    let mut storage = harness.create(configuration.clone());
    let held = State::read(&storage, Clause::New)?;
    let genesis = SnapshotMeta { digest: held.snapshot.meta.digest, ..SnapshotMeta::genesis(configuration) };
    let empty = State::founded(genesis);
    ensure!(held == empty, New, "it holds {}, snapshot {:?}", held.brief(), held.snapshot.meta);
    let persisted = storage.persisted();
    ensure!(persisted == Ok(WriteId(0)), New, "persisted is {persisted:?} before the first write");
    let life = Life::new(harness, storage, empty);
    life.check_reads()?;
    Ok(life)
}

/// Runs one part of the suite in a new storage, and names the part in a violation.
pub(super) fn lead<'h, H: StorageHarness>(
    harness: &'h mut H,
    name: &str,
    part: impl FnOnce(&mut Life<'h, H>) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut life = found(harness).map_err(|found| found.during(|| String::from(name)))?;
    part(&mut life).map_err(|found| found.during(|| format!("{name}: {}", life.trace())))
}

/// A storage links always or never, the same way each time, and by everything that an entry holds.
fn check_links(harness: &mut impl StorageHarness) -> Result<(), Violation> {
    let life = found(harness)?;
    let (storage, prev) = (&life.storage, life.now.before.digest);
    let entry = |index, term, payload| Entry { index: LogIndex(index), term: Term(term), payload };
    let command = |bytes: &'static [u8]| Payload::Command(bytes.into());
    let entries = [
        entry(1, 1, command(b"a")),
        entry(2, 1, command(b"a")),
        entry(1, 2, command(b"a")),
        entry(1, 1, command(b"b")),
        entry(1, 1, command(b"aa")),
        entry(1, 1, command(b"")),
        entry(1, 1, Payload::Noop),
    ];
    let anchor = prev.unwrap_or(crate::types::Digest([7; 32]));
    let links: Vec<_> = entries.iter().map(|entry| storage.link(&anchor, entry)).collect();
    let Some(prev) = prev else {
        ensure!(links.iter().all(Option::is_none), Digests, "it links, but the genesis has no digest");
        return Ok(());
    };
    for (at, (entry, link)) in entries.iter().zip(&links).enumerate() {
        ensure!(link.is_some(), Digests, "the genesis has a digest, but {entry:?} has no link");
        ensure!(*link == storage.link(&prev, entry), Digests, "{entry:?} links differently each time");
        let unique = !links.iter().take(at).any(|other| other == link);
        ensure!(unique, Digests, "{entry:?} links like another entry");
        let other = link.as_ref().and_then(|other| storage.link(other, entry));
        ensure!(other != *link, Digests, "{entry:?} links to every entry before it alike");
    }
    Ok(())
}

/// Contract 1: everything that does not continue, before anything is reported and after everything is.
fn check_order<H: StorageHarness>(harness: &mut H) -> Result<(), Violation> {
    lead(harness, "writes out of order", |life| {
        let mut writer = writer(0);
        refuse_all(life, &mut writer)?;
        for step in 0..4 {
            life.write(&writer.vote(&life.now, 2))?;
            life.write(&writer.append(&life.now, 3))?;
            refuse_all(life, &mut writer)?;
            if step % 2 == 1 {
                life.settle()?;
                refuse_all(life, &mut writer)?;
            }
        }
        life.settle()?;
        life.check_reads()
    })
}

pub(super) fn refuse_all<H: StorageHarness>(life: &mut Life<'_, H>, writer: &mut Writer) -> Result<(), Violation> {
    for kind in 0..REFUSALS {
        refuse(life, writer, kind)?;
    }
    Ok(())
}

pub(super) const REFUSALS: u32 = 23;

/// One write that does not continue the log.
pub(super) fn refuse<H: StorageHarness>(
    life: &mut Life<'_, H>,
    writer: &mut Writer,
    kind: u32,
) -> Result<(), Violation> {
    let (now, begun, id) = (life.now.clone(), life.begun(), life.begun().next());
    let (snapshot, last, term) = (now.snapshot_index(), now.last_index(), now.last_term());
    let vote = writer.vote(&now, 0);
    let mut run = |indexes: &[LogIndex], terms: &[Term]| {
        Op::Append(indexes.iter().zip(terms).map(|(index, term)| writer.entry(*index, *term)).collect())
    };
    let (one, two, three) = (last.next(), last.next().next(), last.next().next().next());
    let (below, above) = (Term(term.0.saturating_sub(1)), term.next());
    match kind {
        0 => life.refuse(id.next(), &vote, "an id is skipped"),
        1 => life.refuse(begun, &vote, "an id is repeated"),
        2 => life.refuse(id.next(), &run(&[one], &[term]), "an append whose id is skipped"),
        3 => life.refuse(id, &run(&[two], &[term]), "a gap before an append"),
        4 => life.refuse(id, &run(&[last], &[term]), "an append over the last entry"),
        5 => life.refuse(id, &run(&[one, three], &[term, term]), "a gap inside an append"),
        6 => life.refuse(id, &run(&[one, one], &[term, term]), "an index twice in an append"),
        7 if below < term => life.refuse(id, &run(&[one], &[below]), "a term that falls"),
        8 => life.refuse(id, &run(&[one, two], &[above, term]), "a term that falls inside an append"),
        9 => life.refuse(id, &Op::Truncate(last.next()), "a truncation beyond the end"),
        10 => life.refuse(id, &Op::Truncate(snapshot), "a truncation of what the snapshot covers"),
        7 => Ok(()),
        _ => refuse_snapshot(life, writer, kind),
    }
}

/// Every range of a short log with every limit that matters.
fn check_limits<H: StorageHarness>(harness: &mut H) -> Result<(), Violation> {
    lead(harness, "ranges and limits", |life| {
        let mut writer = writer(1);
        life.check_bounds()?;
        for _ in 0..4 {
            life.write(&writer.vote(&life.now, 1))?;
            life.write(&writer.append(&life.now, 2))?;
            life.check_reads()?;
        }
        life.settle()?;
        check_ranges(life)?;
        life.write(&writer.append(&life.now, 2))?;
        life.settle()?;
        life.check_reads()
    })
}

pub(super) fn check_ranges<H: StorageHarness>(life: &Life<'_, H>) -> Result<(), Violation> {
    let (first, end) = (life.now.first_index(), life.now.last_index());
    for from in first.0..=end.0 {
        for to in from..=end.0 {
            life.check_range(LogIndex(from), LogIndex(to))?;
        }
    }
    life.check_bounds()
}

/// Contract 5, where the harness can make a device fail.
fn check_failure<H: StorageHarness>(harness: &mut H) -> Result<(), Violation> {
    for (reported, loses) in [(0, true), (1, false), (1, true), (3, false), (3, true)] {
        let mut life = found(harness)?;
        let failed = fail(&mut life, reported);
        let failed = failed.map_err(|found| found.during(|| format!("a device that fails: {}", life.trace())))?;
        let points = life.harness.crash_points(&life.storage);
        if failed && points > 0 {
            life.crash(if loses { 0 } else { points.saturating_sub(1) })?;
        }
    }
    Ok(())
}

/// Whether the harness could make it fail.
fn fail<H: StorageHarness>(life: &mut Life<'_, H>, reported: u64) -> Result<bool, Violation> {
    let mut writer = writer(3);
    for _ in 0..reported {
        life.write(&writer.append(&life.now, 2))?;
    }
    life.settle()?;
    if !life.harness.fail(&mut life.storage) {
        return Ok(false);
    }
    life.note(String::from("the next write or sync fails"));
    // The failure shows in the write that meets it, or in what is asked later.
    let mut shown = false;
    for _ in 0..FAILURE_WAITS {
        let id = life.begun().next();
        let (op, next) = life.now.form(&life.storage, &writer.vote(&life.now, 1))?;
        if let Err(error) = life.storage.write(Write { id, op }) {
            life.note(format!("write {}: {error}", id.0));
            shown = true;
            break;
        }
        life.began(next);
        life.harness.advance(&mut life.storage);
        if let Err(error) = life.storage.persisted() {
            life.note(format!("persisted: {error}"));
            shown = true;
            break;
        }
        life.poll()?;
    }
    ensure!(shown, Failure, "the failure never showed");
    for _ in 0..3 {
        life.harness.advance(&mut life.storage);
        let persisted = life.storage.persisted();
        let poisoned = matches!(persisted, Err(StorageError::Poisoned { .. }));
        ensure!(poisoned, Failure, "persisted after the failure: {persisted:?}, not Poisoned");
        let (op, _) = life.now.form(&life.storage, &writer.vote(&life.now, 1))?;
        let answer = life.storage.write(Write { id: life.begun().next(), op });
        let poisoned = matches!(answer, Err(StorageError::Poisoned { .. }));
        ensure!(poisoned, Failure, "a write after the failure: {answer:?}, not Poisoned");
    }
    Ok(true)
}

/// A failure that has not shown after so many writes never will.
const FAILURE_WAITS: u32 = 100;

pub(super) fn writer(seed: u64) -> Writer {
    Writer { rng: ChaCha8Rng::seed_from_u64(seed), sending: None }
}
