//! What a storage should hold, as plain lists: the oracle.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Clause, Violation, ensure};
use crate::action::{HardState, WriteOp};
use crate::storage::{SnapshotMeta, Storage};
use crate::types::{Digest, Entry, LogIndex, NodeId, Payload, Term};

/// A write, before it has an id and digests.
#[derive(Clone, Debug)]
pub(super) enum Op {
    HardState(HardState),
    Truncate(LogIndex),
    Append(Vec<Entry>),
}

/// The content of a storage after some write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) hard_state: HardState,
    pub(super) meta: SnapshotMeta,
    /// Every entry after the snapshot, with its digest.
    pub(super) entries: Vec<(Entry, Option<Digest>)>,
}

impl State {
    /// Reads all that a storage holds, and checks nothing but that it can be read.
    pub(super) fn read(storage: &impl Storage, clause: Clause) -> Result<Self, Violation> {
        let failed = |error| Violation::new(clause, format!("what it holds cannot be read: {error}"));
        let (hard_state, meta) = (storage.hard_state().map_err(failed)?, storage.snapshot_meta().map_err(failed)?);
        let first = meta.last_included_index.next();
        let read = storage.entries(first, storage.last_index(), usize::MAX).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in read {
            let digest = storage.digest(entry.index).map_err(failed)?;
            entries.push((entry, digest));
        }
        Ok(Self { hard_state, meta, entries })
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.entries.last().map_or(self.meta.last_included_index, |(entry, _)| entry.index)
    }

    pub(super) fn last_term(&self) -> Term {
        self.entries.last().map_or(self.meta.last_included_term, |(entry, _)| entry.term)
    }

    pub(super) fn last_digest(&self) -> Option<Digest> {
        self.entries.last().map_or(self.meta.digest, |(_, digest)| *digest)
    }

    pub(super) fn entry(&self, index: LogIndex) -> Option<&(Entry, Option<Digest>)> {
        let at = index.0.checked_sub(self.meta.last_included_index.next().0)?;
        self.entries.get(usize::try_from(at).ok()?)
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
        };
        Ok((formed, next))
    }

    /// This state with its entries up to `to` compacted.
    pub(super) fn compacted(&self, to: LogIndex) -> Self {
        let mut next = self.clone();
        if let Some((entry, digest)) = self.entry(to) {
            next.meta.last_included_index = entry.index;
            next.meta.last_included_term = entry.term;
            next.meta.digest = *digest;
            next.entries.retain(|(entry, _)| entry.index > to);
        }
        next
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
        let snapshot = self.meta.last_included_index;
        format!("term {current_term}, vote {vote}, snapshot {snapshot}, entries [{}]", entries.join(" "))
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
        }
    }
}

/// Writes made up from a seed, each continuing the state that it is given.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) rng: ChaCha8Rng,
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
        let (first, last) = (state.meta.last_included_index.next(), state.last_index());
        (first <= last).then(|| Op::Truncate(LogIndex(self.rng.random_range(first.0..=last.0))))
    }

    /// A no-op, an empty command, or random bytes: sometimes more than a sector of them.
    pub(super) fn entry(&mut self, index: LogIndex, term: Term) -> Entry {
        let len = match self.rng.random_range(0..10) {
            0 => return Entry { index, term, payload: Payload::Noop },
            1 => 0,
            2 => self.rng.random_range(500..1500),
            _ => self.rng.random_range(1..60),
        };
        let bytes: Vec<u8> = (0..len).map(|_| self.rng.random_range(0..=u8::MAX)).collect();
        Entry { index, term, payload: Payload::Command(Bytes::from(bytes)) }
    }
}
