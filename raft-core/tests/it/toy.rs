//! A storage that keeps every state it was in, writes late, links, takes snapshots, crashes and fails: right, or wrong in one
//! way of many.

use raft_core::suite::{Clause, StorageHarness};
use raft_core::{
    Bytes, Configuration, Digest, Entry, HardState, LogIndex, NodeId, Payload, Snapshot, SnapshotChunk, SnapshotMeta,
    Storage, StorageError, Term, Write, WriteId, WriteOp,
};

/// How it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    NewWithVote,
    TakesGaps,
    TakesFallingTerms,
    TakesAnyId,
    TakesAnyTruncation,
    KeepsHalfOfARefusedAppend,
    ReportsEarly,
    ReportsTheFuture,
    ReportsFall,
    NeverReports,
    ForgetsTruncations,
    TearsAppends,
    WritesHardStateFirst,
    ForgetsVotes,
    DoesNotOpen,
    ContinuesIds,
    OpensOnWhatIsNotDurable,
    ZeroTermForCompacted,
    ZeroTermBeyondTheEnd,
    NothingBeyondTheEnd,
    EmptyCommandsBecomeNoops,
    OldTermAfterTruncation,
    CutsBeforeTheLimit,
    CutsAnEntryLate,
    LinksSometimes,
    LinksWithoutTerm,
    DigestsOfTheFirstAtAnIndex,
    KeepsWritingAfterAFailure,
    RetriesAFailedSync,
    TakesChunksInAnyOrder,
    MixesSnapshots,
    KeepsWhatIsGivenUp,
    TakesOldSnapshots,
    InstallsTheUnfinished,
    InstallsOverAnything,
    TruncatesTheTail,
    ServesTheOldBytes,
    CutsTheStateShort,
    ReadsBeyondTheState,
    InstallsHalf,
    InstallsBeforeItIsTold,
    LosesTheConfiguration,
    LosesTheTail,
    KeepsWhatIsReplaced,
    ForgetsTheDigestBefore,
}

/// Every fault, with the clause that it breaks.
pub const FAULTS: [(Fault, Clause); 45] = [
    (Fault::NewWithVote, Clause::New),
    (Fault::TakesGaps, Clause::Order),
    (Fault::TakesFallingTerms, Clause::Order),
    (Fault::TakesAnyId, Clause::Order),
    (Fault::TakesAnyTruncation, Clause::Order),
    (Fault::KeepsHalfOfARefusedAppend, Clause::Order),
    (Fault::ReportsEarly, Clause::Reports),
    (Fault::ReportsTheFuture, Clause::Reports),
    (Fault::ReportsFall, Clause::Reports),
    (Fault::NeverReports, Clause::Reports),
    (Fault::ForgetsTruncations, Clause::Reports),
    (Fault::TearsAppends, Clause::Crash),
    (Fault::WritesHardStateFirst, Clause::Crash),
    (Fault::ForgetsVotes, Clause::Crash),
    (Fault::DoesNotOpen, Clause::Crash),
    (Fault::ContinuesIds, Clause::NewLife),
    (Fault::OpensOnWhatIsNotDurable, Clause::NewLife),
    (Fault::ZeroTermForCompacted, Clause::Reads),
    (Fault::ZeroTermBeyondTheEnd, Clause::Reads),
    (Fault::NothingBeyondTheEnd, Clause::Reads),
    (Fault::EmptyCommandsBecomeNoops, Clause::Reads),
    (Fault::OldTermAfterTruncation, Clause::Reads),
    (Fault::CutsBeforeTheLimit, Clause::Limits),
    (Fault::CutsAnEntryLate, Clause::Limits),
    (Fault::LinksSometimes, Clause::Digests),
    (Fault::LinksWithoutTerm, Clause::Digests),
    (Fault::DigestsOfTheFirstAtAnIndex, Clause::Digests),
    (Fault::KeepsWritingAfterAFailure, Clause::Failure),
    (Fault::RetriesAFailedSync, Clause::Failure),
    (Fault::TakesChunksInAnyOrder, Clause::Order),
    (Fault::MixesSnapshots, Clause::Order),
    (Fault::KeepsWhatIsGivenUp, Clause::Snapshots),
    (Fault::TakesOldSnapshots, Clause::Order),
    (Fault::InstallsTheUnfinished, Clause::Order),
    (Fault::InstallsOverAnything, Clause::Order),
    (Fault::TruncatesTheTail, Clause::Order),
    (Fault::ServesTheOldBytes, Clause::Snapshots),
    (Fault::CutsTheStateShort, Clause::Snapshots),
    (Fault::ReadsBeyondTheState, Clause::Snapshots),
    (Fault::InstallsHalf, Clause::Install),
    (Fault::InstallsBeforeItIsTold, Clause::Install),
    (Fault::LosesTheConfiguration, Clause::Install),
    (Fault::LosesTheTail, Clause::Install),
    (Fault::KeepsWhatIsReplaced, Clause::Reads),
    (Fault::ForgetsTheDigestBefore, Clause::Digests),
];

#[derive(Clone, Debug)]
struct Held {
    hard_state: HardState,
    snapshot: Snapshot,
    /// The entry before the first.
    before: (LogIndex, Term, Option<Digest>),
    entries: Vec<(Entry, Option<Digest>)>,
    receiving: Option<(Snapshot, bool)>,
}

#[derive(Clone, Debug)]
pub struct Toy {
    fault: Fault,
    /// As opened, then after each write begun.
    states: Vec<Held>,
    /// The write ids of this life up to this one are durable.
    durable: usize,
    /// What a crash would leave of a storage that was opened and not written to.
    underneath: Option<Held>,
    first_id: u64,
    fails: bool,
    failure_told: bool,
    /// The first entry that ever stood at each index.
    first_ever: Vec<(LogIndex, Term, Option<Digest>)>,
}

pub struct ToyHarness {
    pub fault: Fault,
    pub links: bool,
}

impl Toy {
    fn open(fault: Fault, held: Held) -> Self {
        let states = vec![held];
        let (underneath, first_ever) = (None, Vec::new());
        Self { fault, states, durable: 0, underneath, first_id: 0, fails: false, failure_told: false, first_ever }
    }

    fn now(&self) -> &Held {
        &self.states[self.states.len() - 1]
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn held(&self, index: LogIndex) -> Result<&(Entry, Option<Digest>), StorageError> {
        let first = self.first_index();
        if index < first {
            return Err(StorageError::Compacted { index, first });
        }
        let out = StorageError::OutOfRange { index, last: self.last_index() };
        self.now().entries.get((index.0 - first.0) as usize).ok_or(out)
    }

    fn first_ever(&self, index: LogIndex) -> Option<&(LogIndex, Term, Option<Digest>)> {
        self.first_ever.iter().find(|(at, ..)| *at == index)
    }

    fn check(&mut self, write: &Write) -> Result<(), &'static str> {
        let (last, last_term) = (self.last_index(), self.term(self.last_index()).unwrap());
        if write.id.0 != self.states.len() as u64 && !self.is(Fault::TakesAnyId) {
            return Err("another id");
        }
        match &write.op {
            WriteOp::Truncate(from) if *from > last && self.is(Fault::TakesAnyTruncation) => Ok(()),
            WriteOp::Truncate(from)
                if *from <= self.now().snapshot.meta.last_included_index && !self.is(Fault::TruncatesTheTail) =>
            {
                Err("a truncation beyond the snapshot")
            }
            WriteOp::Truncate(from) => self.held(*from).map(drop).map_err(|_| "a truncation of what is there"),
            WriteOp::Append { entries, .. } => {
                let (mut index, mut term) = (last, last_term);
                for (at, entry) in entries.iter().enumerate() {
                    let gap = entry.index != index.next() && !self.is(Fault::TakesGaps);
                    let falls = entry.term < term && !self.is(Fault::TakesFallingTerms);
                    if gap || falls {
                        if self.is(Fault::KeepsHalfOfARefusedAppend) {
                            let end = self.states.len() - 1;
                            let half = entries[..at].iter().map(|entry| (entry.clone(), None));
                            self.states[end].entries.extend(half);
                        }
                        return Err("the next entry");
                    }
                    (index, term) = (entry.index, entry.term);
                }
                Ok(())
            }
            WriteOp::HardState(_) | WriteOp::GiveUpSnapshot => Ok(()),
            WriteOp::SnapshotChunk(chunk) => self.check_chunk(chunk),
            WriteOp::InstallSnapshot { index, keep_from } => self.check_install(*index, *keep_from),
        }
    }

    fn check_chunk(&self, chunk: &SnapshotChunk) -> Result<(), &'static str> {
        let installed = self.now().snapshot.meta.last_included_index;
        if chunk.meta.last_included_index <= installed && !self.is(Fault::TakesOldSnapshots) {
            return Err("a snapshot beyond the installed one");
        }
        match &self.now().receiving {
            _ if chunk.offset == 0 => Ok(()),
            Some((snapshot, false)) => {
                let other = snapshot.meta != chunk.meta && !self.is(Fault::MixesSnapshots);
                let gap = snapshot.state.len() as u64 != chunk.offset && !self.is(Fault::TakesChunksInAnyOrder);
                if other || gap { Err("the next chunk") } else { Ok(()) }
            }
            _ => Err("a first chunk"),
        }
    }

    fn check_install(&self, index: LogIndex, keep_from: Option<LogIndex>) -> Result<(), &'static str> {
        let received = self.now().receiving.as_ref().filter(|(snapshot, _)| snapshot.meta.last_included_index == index);
        let Some((Snapshot { meta, .. }, done)) = received else { return Err("what was received") };
        if !done && !self.is(Fault::InstallsTheUnfinished) {
            return Err("the rest of it");
        }
        let Some(first) = keep_from.filter(|_| !self.is(Fault::InstallsOverAnything)) else { return Ok(()) };
        let held =
            self.held(index).is_ok_and(|(e, digest)| (e.term, *digest) == (meta.last_included_term, meta.digest));
        let follows = (self.first_index()..=index.next()).contains(&first);
        if held && follows { Ok(()) } else { Err("entries to keep") }
    }

    fn receive(next: &mut Held, SnapshotChunk { meta, offset, data, done }: SnapshotChunk) {
        let mut state = match &next.receiving {
            Some((snapshot, _)) if offset > 0 => snapshot.state.to_vec(),
            _ => Vec::new(),
        };
        state.extend_from_slice(&data);
        next.receiving = Some((Snapshot { meta, state: state.into() }, done));
    }

    fn install(&self, next: &mut Held, keep_from: Option<LogIndex>) {
        let (mut snapshot, _) = next.receiving.take().unwrap();
        let last = snapshot.meta.last_included_index;
        let keep_from = keep_from.filter(|first| self.held(*first).is_ok() || self.held(first.prev()).is_ok());
        let keep_from = keep_from.map(|first| if self.is(Fault::LosesTheTail) { last.next() } else { first });
        next.before = match keep_from {
            Some(first) => (first.prev(), self.term(first.prev()).unwrap(), self.digest(first.prev()).unwrap()),
            None => (last, snapshot.meta.last_included_term, snapshot.meta.digest),
        };
        if self.is(Fault::ForgetsTheDigestBefore) {
            next.before.2 = None;
        }
        let kept = keep_from.or(self.is(Fault::KeepsWhatIsReplaced).then_some(last.next()));
        next.entries.retain(|(entry, _)| kept.is_some_and(|first| entry.index >= first));
        match self.fault {
            Fault::ServesTheOldBytes => snapshot.state = next.snapshot.state.clone(),
            Fault::CutsTheStateShort => snapshot.state.truncate(snapshot.state.len().saturating_sub(1)),
            _ => {}
        }
        next.snapshot = snapshot;
    }

    /// What a crash leaves at this point.
    fn left(&self, point: usize) -> Held {
        let at = self.durable + point;
        let mut held = self.states[at].clone();
        match self.fault {
            Fault::ReportsEarly | Fault::None => {}
            Fault::ForgetsVotes => held.hard_state.voted_for = None,
            Fault::WritesHardStateFirst => held.hard_state = self.now().hard_state,
            Fault::ForgetsTruncations if at > 0 && held.entries.len() < self.states[at - 1].entries.len() => {
                held.entries = self.states[at - 1].entries.clone();
            }
            Fault::TearsAppends if point > 0 && held.entries.len() > self.states[at - 1].entries.len() + 1 => {
                held.entries.pop();
            }
            Fault::InstallsHalf if at > 0 && held.snapshot != self.states[at - 1].snapshot => {
                held.entries = self.states[at - 1].entries.clone();
                held.before = self.states[at - 1].before;
            }
            Fault::InstallsBeforeItIsTold => {
                if let Some((snapshot, true)) = held.receiving.take() {
                    held.snapshot = snapshot;
                }
            }
            Fault::LosesTheConfiguration if held.snapshot.meta.last_included_index.0 > 0 => {
                held.snapshot.meta.configuration = Configuration::new([NodeId(1)]);
            }
            Fault::OpensOnWhatIsNotDurable if point == 0 && self.states.len() == 1 => {
                held = self.underneath.clone().unwrap_or(held);
            }
            _ => {}
        }
        held.receiving = None;
        held
    }
}

impl Storage for Toy {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        Ok(self.now().hard_state)
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(self.now().snapshot.meta.clone())
    }

    fn first_index(&self) -> LogIndex {
        self.now().before.0.next()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        let received = self.now().receiving.as_ref().map(|(snapshot, _)| snapshot);
        let mut known = [received, Some(&self.now().snapshot)].into_iter().flatten();
        let found = known.find(|known| known.meta.last_included_index == index && index.0 > 0);
        let rest = found.and_then(|found| match found.state.get(offset as usize..) {
            None if self.is(Fault::ReadsBeyondTheState) => Some(&[][..]),
            rest => rest,
        });
        let rest = rest.ok_or(StorageError::NoSnapshot { index, offset })?;
        Ok(Bytes::copy_from_slice(rest.get(..max_bytes).unwrap_or(rest)))
    }

    fn last_index(&self) -> LogIndex {
        LogIndex(self.now().before.0.0 + self.now().entries.len() as u64)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.now().before.0 {
            return Ok(self.now().before.1);
        }
        match self.held(index) {
            Ok(_) if self.is(Fault::OldTermAfterTruncation) => Ok(self.first_ever(index).unwrap().1),
            Ok((entry, _)) => Ok(entry.term),
            Err(StorageError::Compacted { .. }) if self.is(Fault::ZeroTermForCompacted) => Ok(Term(0)),
            Err(StorageError::OutOfRange { .. }) if self.is(Fault::ZeroTermBeyondTheEnd) => Ok(Term(0)),
            Err(error) => Err(error),
        }
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        if index == self.now().before.0 {
            return Ok(self.now().before.2);
        }
        let digest = self.held(index).map(|(_, digest)| *digest)?;
        let first = self.first_ever(index).filter(|_| self.is(Fault::DigestsOfTheFirstAtAnIndex));
        Ok(first.map_or(digest, |(.., digest)| *digest))
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        if first > last || (self.is(Fault::NothingBeyondTheEnd) && first > self.last_index()) {
            return Ok(Vec::new());
        }
        self.held(first)?;
        self.held(last)?;
        let (mut bytes, mut late) = (0_usize, self.is(Fault::CutsAnEntryLate));
        let mut entries = Vec::new();
        for index in first.0..=last.0 {
            let mut entry = self.held(LogIndex(index))?.0.clone();
            bytes = bytes.saturating_add(entry.cost());
            if bytes > max_bytes && self.is(Fault::CutsBeforeTheLimit) {
                break;
            }
            if entry.payload.bytes().is_empty() && self.is(Fault::EmptyCommandsBecomeNoops) {
                entry.payload = Payload::Noop;
            }
            entries.push(entry);
            if bytes >= max_bytes && !std::mem::take(&mut late) {
                break;
            }
        }
        Ok(entries)
    }

    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        self.now().snapshot.meta.digest?;
        if self.is(Fault::LinksSometimes) && entry.payload == Payload::Noop {
            return None;
        }
        let term = if self.is(Fault::LinksWithoutTerm) { Term(0) } else { entry.term };
        let head = [entry.index.0, term.0, entry.payload.kind().into(), entry.payload.bytes().len() as u64];
        let bytes = head.iter().flat_map(|word| word.to_le_bytes()).chain(entry.payload.bytes().iter().copied());
        let mut state =
            prev.0.iter().fold(17_u64, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        let mut digest = [0; 32];
        for (at, byte) in bytes.enumerate() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            digest[at % 32] ^= state.to_le_bytes()[5];
        }
        Some(Digest(digest))
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        if self.fails && !matches!(self.fault, Fault::KeepsWritingAfterAFailure | Fault::RetriesAFailedSync) {
            return Err(StorageError::Poisoned { what: String::from("a write failed") });
        }
        self.check(&write).map_err(|what| StorageError::OutOfOrder { what: what.into() })?;
        let mut next = self.now().clone();
        match write.op {
            WriteOp::HardState(hard_state) => next.hard_state = hard_state,
            WriteOp::Truncate(from) => next.entries.retain(|(entry, _)| entry.index < from),
            WriteOp::Append { entries, digests } => {
                for (at, entry) in entries.iter().enumerate() {
                    let digest = digests.as_ref().map(|digests| digests[at]);
                    if self.first_ever(entry.index).is_none() {
                        self.first_ever.push((entry.index, entry.term, digest));
                    }
                    next.entries.push((entry.clone(), digest));
                }
            }
            WriteOp::GiveUpSnapshot if self.is(Fault::KeepsWhatIsGivenUp) => {}
            WriteOp::GiveUpSnapshot => next.receiving = None,
            WriteOp::SnapshotChunk(chunk) => Self::receive(&mut next, *chunk),
            WriteOp::InstallSnapshot { keep_from, .. } => self.install(&mut next, keep_from),
        }
        self.states.push(next);
        Ok(())
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        let retries = self.is(Fault::RetriesAFailedSync);
        if self.fails && !std::mem::replace(&mut self.failure_told, retries) {
            return Err(StorageError::Poisoned { what: String::from("a sync failed") });
        }
        let durable = self.durable as u64 + self.first_id;
        Ok(WriteId(match self.fault {
            Fault::ReportsEarly => self.states.len() as u64 - 1,
            Fault::ReportsTheFuture if durable > 0 => self.states.len() as u64,
            Fault::ReportsFall if durable % 4 == 3 => durable - 2,
            Fault::NeverReports => 0,
            _ => durable,
        }))
    }
}

impl StorageHarness for ToyHarness {
    type Storage = Toy;

    fn create(&mut self, genesis: Configuration) -> Toy {
        let voted_for = (self.fault == Fault::NewWithVote).then_some(NodeId(1));
        let hard_state = HardState { current_term: Term(0), voted_for };
        let meta = SnapshotMeta { digest: self.links.then_some(Digest([9; 32])), ..SnapshotMeta::genesis(genesis) };
        let before = (LogIndex(0), Term(0), meta.digest);
        let snapshot = Snapshot { meta, state: Bytes::new() };
        Toy::open(self.fault, Held { hard_state, snapshot, before, entries: Vec::new(), receiving: None })
    }

    fn advance(&mut self, toy: &mut Toy) {
        let more = toy.durable + 1 < toy.states.len();
        let stuck = toy.fails && !toy.is(Fault::RetriesAFailedSync);
        toy.durable += usize::from(more && !stuck);
    }

    fn crash_points(&self, toy: &Toy) -> u64 {
        (toy.states.len() - toy.durable) as u64
    }

    fn crash(&mut self, toy: Toy, point: u64) -> Result<Toy, String> {
        if toy.is(Fault::DoesNotOpen) && point == 1 {
            return Err(String::from("a torn tail"));
        }
        let mut opened = Toy::open(toy.fault, toy.left(point as usize));
        opened.underneath = Some(toy.states[0].clone());
        opened.first_id = if toy.is(Fault::ContinuesIds) { toy.durable as u64 } else { 0 };
        opened.first_ever = opened.now().entries.iter().map(|(e, digest)| (e.index, e.term, *digest)).collect();
        Ok(opened)
    }

    fn fail(&mut self, toy: &mut Toy) -> bool {
        toy.fails = true;
        true
    }
}
