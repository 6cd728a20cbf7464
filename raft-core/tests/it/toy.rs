//! A storage that keeps every state it was in, writes late, links, compacts, crashes and fails: right, or wrong in one
//! way of many.

use raft_core::suite::{Clause, StorageHarness};
use raft_core::{
    Configuration, Digest, Entry, HardState, LogIndex, NodeId, Payload, SnapshotMeta, Storage, StorageError, Term,
    Write, WriteId, WriteOp,
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
}

/// Every fault, with the clause that it breaks.
pub const FAULTS: [(Fault, Clause); 29] = [
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
];

#[derive(Clone, Debug)]
struct Held {
    hard_state: HardState,
    meta: SnapshotMeta,
    entries: Vec<(Entry, Option<Digest>)>,
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
        let first = self.now().meta.last_included_index.next();
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
            WriteOp::HardState(_) => Ok(()),
            WriteOp::SnapshotChunk(_) | WriteOp::InstallSnapshot { .. } => Err("no snapshot"),
        }
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
            Fault::OpensOnWhatIsNotDurable if point == 0 && self.states.len() == 1 => {
                held = self.underneath.clone().unwrap_or(held);
            }
            _ => {}
        }
        held
    }
}

impl Storage for Toy {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        Ok(self.now().hard_state)
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(self.now().meta.clone())
    }

    fn first_index(&self) -> LogIndex {
        self.now().meta.last_included_index.next()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, _: usize) -> Result<raft_core::Bytes, StorageError> {
        Err(StorageError::NoSnapshot { index, offset })
    }

    fn last_index(&self) -> LogIndex {
        LogIndex(self.now().meta.last_included_index.0 + self.now().entries.len() as u64)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.now().meta.last_included_index {
            return Ok(self.now().meta.last_included_term);
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
        if index == self.now().meta.last_included_index {
            return Ok(self.now().meta.digest);
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
        self.now().meta.digest?;
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
            WriteOp::SnapshotChunk(_) | WriteOp::InstallSnapshot { .. } => {}
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
        Toy::open(self.fault, Held { hard_state, meta, entries: Vec::new() })
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

    fn compact(&mut self, toy: &mut Toy, to: LogIndex) -> bool {
        let (entry, digest) = toy.held(to).unwrap().clone();
        let end = toy.states.len() - 1;
        let held = &mut toy.states[end];
        held.meta.last_included_index = to;
        held.meta.last_included_term = entry.term;
        held.meta.digest = digest;
        held.entries.retain(|(entry, _)| entry.index > to);
        true
    }

    fn fail(&mut self, toy: &mut Toy) -> bool {
        toy.fails = true;
        true
    }
}
