//! What a storage should hold, as plain lists: the oracle.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Clause, Violation, ensure};
use crate::action::{HardState, WriteOp};
use crate::quorum::Configuration;
use crate::storage::{Snapshot, SnapshotChunk, SnapshotMeta, Storage};
use crate::types::{Digest, Entry, LogIndex, NodeId, Payload, Term};

/// A write, before it has an id and digests.
#[derive(Clone, Debug)]
pub(super) enum Op {
    HardState(HardState),
    Truncate(LogIndex),
    Append(Vec<Entry>),
    Chunk(Box<SnapshotChunk>),
    Install { index: LogIndex, keep_from: Option<LogIndex> },
    GiveUp,
}

/// The content of a storage after some write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) hard_state: HardState,
    /// The installed one, or the genesis.
    pub(super) snapshot: Snapshot,
    /// The entry before the first.
    pub(super) before: Before,
    pub(super) entries: Vec<(Entry, Option<Digest>)>,
    /// The snapshot that is being received, as far as it is, and whether that is all of it.
    pub(super) receiving: Option<(Snapshot, bool)>,
}

/// What a storage still knows of the entry before its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) digest: Option<Digest>,
}

impl Before {
    /// The last entry of a snapshot.
    pub(super) const fn of(meta: &SnapshotMeta) -> Self {
        Self { index: meta.last_included_index, term: meta.last_included_term, digest: meta.digest }
    }
}

/// What a storage holds at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<T> {
    Removed,
    Holds(T),
    Beyond,
}

impl<T> Place<T> {
    pub(super) fn map<U>(self, of: impl FnOnce(T) -> U) -> Place<U> {
        match self {
            Self::Removed => Place::Removed,
            Self::Holds(held) => Place::Holds(of(held)),
            Self::Beyond => Place::Beyond,
        }
    }

    pub(super) const fn as_ref(&self) -> Place<&T> {
        match self {
            Self::Removed => Place::Removed,
            Self::Holds(held) => Place::Holds(held),
            Self::Beyond => Place::Beyond,
        }
    }
}

impl State {
    /// Reads all that a storage holds, and checks nothing but that it can be read.
    pub(super) fn read(storage: &impl Storage, clause: Clause) -> Result<Self, Violation> {
        let failed = |error| Violation::new(clause, format!("what it holds cannot be read: {error}"));
        let (hard_state, meta) = (storage.hard_state().map_err(failed)?, storage.snapshot_meta().map_err(failed)?);
        let first = storage.first_index();
        let index = first.prev();
        let (term, digest) = (storage.term(index).map_err(failed)?, storage.digest(index).map_err(failed)?);
        let state = match meta.last_included_index {
            LogIndex(0) => Bytes::new(),
            index => storage.snapshot_chunk(index, 0, usize::MAX).map_err(failed)?,
        };
        let read = storage.entries(first, storage.last_index(), usize::MAX).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in read {
            let digest = storage.digest(entry.index).map_err(failed)?;
            entries.push((entry, digest));
        }
        let (snapshot, before) = (Snapshot { meta, state }, Before { index, term, digest });
        Ok(Self { hard_state, snapshot, before, entries, receiving: None })
    }

    /// A new storage with this genesis.
    pub(super) fn founded(genesis: SnapshotMeta) -> Self {
        let (hard_state, before) = (HardState::default(), Before::of(&genesis));
        let snapshot = Snapshot { meta: genesis, state: Bytes::new() };
        Self { hard_state, snapshot, before, entries: Vec::new(), receiving: None }
    }

    /// What a crash leaves of this state: chunks that are not installed may be gone, and nobody counts on them.
    pub(super) fn survivor(&self) -> Self {
        Self { receiving: None, ..self.clone() }
    }

    pub(super) const fn first_index(&self) -> LogIndex {
        self.before.index.next()
    }

    pub(super) const fn snapshot_index(&self) -> LogIndex {
        self.snapshot.meta.last_included_index
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.entries.last().map_or(self.before.index, |(entry, _)| entry.index)
    }

    pub(super) fn last_term(&self) -> Term {
        self.entries.last().map_or(self.before.term, |(entry, _)| entry.term)
    }

    pub(super) fn last_digest(&self) -> Option<Digest> {
        self.entries.last().map_or(self.before.digest, |(_, digest)| *digest)
    }

    pub(super) fn entry(&self, index: LogIndex) -> Option<&(Entry, Option<Digest>)> {
        let at = index.0.checked_sub(self.first_index().0)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    pub(super) fn place(&self, index: LogIndex) -> Place<&(Entry, Option<Digest>)> {
        match self.entry(index) {
            Some(held) => Place::Holds(held),
            None if index < self.first_index() => Place::Removed,
            None => Place::Beyond,
        }
    }

    /// Term and digest, which are known of one entry more.
    pub(super) fn mark(&self, index: LogIndex) -> Place<(Term, Option<Digest>)> {
        match self.place(index) {
            Place::Holds((entry, digest)) => Place::Holds((entry.term, *digest)),
            Place::Removed if index == self.before.index => Place::Holds((self.before.term, self.before.digest)),
            Place::Removed => Place::Removed,
            Place::Beyond => Place::Beyond,
        }
    }

    /// Whether the log holds the last entry of this snapshot.
    pub(super) fn holds(&self, meta: &SnapshotMeta) -> bool {
        let named = (meta.last_included_term, meta.digest);
        self.entry(meta.last_included_index).is_some_and(|(entry, digest)| (entry.term, *digest) == named)
    }

    /// The bytes of the snapshot at this index, as far as there are any.
    pub(super) fn bytes(&self, index: LogIndex) -> Option<&Bytes> {
        let received = self.receiving.as_ref().map(|(snapshot, _)| snapshot);
        let mut known = [received, Some(&self.snapshot)].into_iter().flatten();
        known.find(|known| known.meta.last_included_index == index && index.0 > 0).map(|known| &known.state)
    }

    /// The configurations that stand in entries after the snapshot.
    pub(super) fn configurations(&self) -> Vec<(LogIndex, Configuration)> {
        let after = self.entries.iter().map(|(entry, _)| entry).filter(|entry| entry.index > self.snapshot_index());
        let configuration = |entry: &Entry| match &entry.payload {
            Payload::Configuration(bytes) => Some((entry.index, Configuration::from_bytes(bytes)?)),
            Payload::Noop | Payload::Command(_) | Payload::StateDigest(_) => None,
        };
        after.filter_map(configuration).collect()
    }

    /// The write as a storage takes it, digests and all, and the state after it. A write that does not continue this
    /// state is formed as well as it can be.
    pub(super) fn form(&self, storage: &impl Storage, op: &Op) -> Result<(WriteOp, Self), Violation> {
        let mut next = self.clone();
        let formed = match op {
            Op::HardState(hard_state) => {
                next.hard_state = *hard_state;
                WriteOp::HardState(*hard_state)
            }
            Op::Truncate(from) => {
                next.entries.retain(|(entry, _)| entry.index < *from);
                WriteOp::Truncate(*from)
            }
            Op::Append(entries) => {
                for entry in entries {
                    let digest = match next.last_digest() {
                        Some(prev) => {
                            let digest = storage.link(&prev, entry);
                            ensure!(digest.is_some(), Digests, "digests, but no link for {}", brief(entry));
                            digest
                        }
                        None => None,
                    };
                    next.entries.push((entry.clone(), digest));
                }
                let new = next.entries.iter().skip(self.entries.len());
                let digests: Option<Vec<Digest>> = new.map(|(_, digest)| *digest).collect();
                let digests = digests.filter(|digests| !digests.is_empty()).map(Arc::from);
                WriteOp::Append { entries: entries.as_slice().into(), digests }
            }
            Op::Chunk(chunk) => {
                next.receive(chunk);
                WriteOp::SnapshotChunk(chunk.clone())
            }
            Op::Install { index, keep_from } => {
                next.install(*keep_from);
                WriteOp::InstallSnapshot { index: *index, keep_from: *keep_from }
            }
            Op::GiveUp => {
                next.receiving = None;
                WriteOp::GiveUpSnapshot
            }
        };
        Ok((formed, next))
    }

    fn receive(&mut self, chunk: &SnapshotChunk) {
        let mut state = match &self.receiving {
            Some((snapshot, _)) if chunk.offset > 0 => snapshot.state.to_vec(),
            _ => Vec::new(),
        };
        state.extend_from_slice(&chunk.data);
        self.receiving = Some((Snapshot { meta: chunk.meta.clone(), state: state.into() }, chunk.done));
    }

    fn install(&mut self, keep_from: Option<LogIndex>) {
        let Some((snapshot, _)) = self.receiving.take() else { return };
        let kept = keep_from.and_then(|first| match self.mark(first.prev()) {
            Place::Holds((term, digest)) => Some(Before { index: first.prev(), term, digest }),
            Place::Removed | Place::Beyond => None,
        });
        if kept.is_none() {
            self.entries.clear();
        }
        self.before = kept.unwrap_or(Before::of(&snapshot.meta));
        self.entries.retain(|(entry, _)| entry.index > self.before.index);
        self.snapshot = snapshot;
    }

    /// How many entries a read from `first` to `last` returns under a limit.
    pub(super) fn cut(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0_usize;
        let mut cut = Vec::new();
        for (entry, _) in self.entries.iter().filter(|(entry, _)| (first..=last).contains(&entry.index)) {
            if bytes >= max_bytes && !cut.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(entry.cost());
            cut.push(entry.clone());
        }
        cut
    }

    /// Everything in a line.
    pub(super) fn brief(&self) -> String {
        let entries: Vec<String> = self.entries.iter().map(|(entry, _)| brief(entry)).collect();
        let HardState { current_term, voted_for } = self.hard_state;
        let vote = voted_for.map_or(0, |id| id.0);
        let (snapshot, bytes, before) = (self.snapshot_index(), self.snapshot.state.len(), self.before.index);
        let entries = entries.join(" ");
        format!("term {current_term}, vote {vote}, snapshot {snapshot} of {bytes}b, after {before} entries [{entries}]")
    }
}

/// Index, term, length and first bytes.
pub(super) fn brief(entry: &Entry) -> String {
    let bytes = entry.payload.bytes();
    let head: Vec<String> = bytes.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("{}@{}:{}b{}", entry.index, entry.term, bytes.len(), head.concat())
}

impl Op {
    pub(super) fn brief(&self) -> String {
        match self {
            Self::HardState(HardState { current_term, voted_for }) => {
                format!("term {current_term} vote {}", voted_for.map_or(0, |id| id.0))
            }
            Self::Truncate(from) => format!("truncate {from}"),
            Self::Append(entries) => format!("append {}", entries.iter().map(brief).collect::<Vec<_>>().join(" ")),
            Self::Chunk(chunk) => {
                let SnapshotChunk { meta, offset, data, done } = &**chunk;
                let (index, term, last) =
                    (meta.last_included_index, meta.last_included_term, if *done { "!" } else { "" });
                format!("chunk of {index}@{term} from {offset}: {}b{last}", data.len())
            }
            Self::Install { index, keep_from: Some(first) } => format!("install {index}, keep from {first}"),
            Self::Install { index, keep_from: None } => format!("install {index} for the log"),
            Self::GiveUp => String::from("give up what was received"),
        }
    }
}

/// Writes made up from a seed, each continuing the state that it is given.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) rng: ChaCha8Rng,
    /// The snapshot whose chunks are being written.
    pub(super) sending: Option<Snapshot>,
}

impl Writer {
    pub(super) fn vote(&mut self, state: &State, by: u64) -> Op {
        let current_term = Term(state.hard_state.current_term.0.saturating_add(by));
        let voted_for = self.rng.random_bool(0.7).then(|| NodeId(self.rng.random_range(1..4)));
        Op::HardState(HardState { current_term, voted_for })
    }

    /// An append of this many entries, of terms from the last entry's to the current one; a vote while there is no
    /// term to append in.
    pub(super) fn append(&mut self, state: &State, count: usize) -> Op {
        if state.hard_state.current_term == Term(0) {
            return self.vote(state, 1);
        }
        let (mut index, mut term) = (state.last_index(), state.last_term());
        let mut entries = Vec::new();
        for _ in 0..count {
            index = index.next();
            term = Term(self.rng.random_range(term.0.max(1)..=state.hard_state.current_term.0.max(term.0)));
            entries.push(self.entry(index, term));
        }
        Op::Append(entries)
    }

    pub(super) fn truncate(&mut self, state: &State) -> Option<Op> {
        let (first, last) = (state.snapshot_index().next(), state.last_index());
        (first <= last).then(|| Op::Truncate(LogIndex(self.rng.random_range(first.0..=last.0))))
    }

    /// A no-op, a configuration, an empty command, or random bytes: sometimes more than a sector of them.
    pub(super) fn entry(&mut self, index: LogIndex, term: Term) -> Entry {
        let payload = match self.rng.random_range(0..12) {
            0 => Payload::Noop,
            1 => Payload::Configuration(self.configuration().to_bytes().into()),
            2 => Payload::Command(Bytes::new()),
            3 => Payload::Command(self.bytes(500, 1500)),
            _ => Payload::Command(self.bytes(1, 60)),
        };
        Entry { index, term, payload }
    }

    pub(super) fn configuration(&mut self) -> Configuration {
        Configuration::new((1..=self.rng.random_range(1..9)).map(NodeId))
    }

    pub(super) fn bytes(&mut self, least: usize, below: usize) -> Bytes {
        let len = self.rng.random_range(least..below);
        (0..len).map(|_| self.rng.random_range(0..=u8::MAX)).collect()
    }
}
