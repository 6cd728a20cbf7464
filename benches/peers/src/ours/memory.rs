//! A storage in memory that keeps the runs of entries as they were written, shared with whoever else holds them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entries, Entry, HardState, LogIndex, SnapshotChunk, SnapshotMeta, Storage, StorageError,
    Term, Write, WriteId, WriteOp,
};

pub(super) struct Memory {
    hard_state: HardState,
    meta: SnapshotMeta,
    state: Bytes,
    received: Option<SnapshotChunk>,
    /// The entry before the first: its index, term and digest.
    before: (LogIndex, Term, Option<Digest>),
    runs: VecDeque<Run>,
    links: bool,
    persisted: WriteId,
}

struct Run {
    first: LogIndex,
    entries: Entries,
    digests: Option<Arc<[Digest]>>,
}

impl Memory {
    pub(super) fn new(members: Configuration, links: bool) -> Self {
        let digest = links.then_some(Digest([0; 32]));
        Self {
            hard_state: HardState::default(),
            meta: SnapshotMeta { digest, ..SnapshotMeta::genesis(members) },
            state: Bytes::new(),
            received: None,
            before: (LogIndex(0), Term(0), digest),
            runs: VecDeque::new(),
            links,
            persisted: WriteId(0),
        }
    }

    fn entry(&self, index: LogIndex) -> Result<(&Entry, Option<Digest>), StorageError> {
        if index <= self.before.0 {
            return Err(StorageError::Compacted { index, first: self.first_index() });
        }
        let missing = || StorageError::OutOfRange { index, last: self.last_index() };
        let at = self.runs.partition_point(|run| run.last() < index);
        let run = self.runs.get(at).ok_or_else(missing)?;
        let offset = (index.0 - run.first.0) as usize;
        let digest = run.digests.as_ref().map(|digests| digests[offset]);
        run.entries.get(offset).map(|entry| (entry, digest)).ok_or_else(missing)
    }

    fn truncate(&mut self, from: LogIndex) {
        while let Some(run) = self.runs.pop_back_if(|run| run.last() >= from) {
            if run.first < from {
                let keep = (from.0 - run.first.0) as usize;
                let digests = run.digests.map(|digests| digests[..keep].into());
                self.runs.push_back(Run { first: run.first, entries: run.entries[..keep].into(), digests });
            }
        }
    }

    fn install(&mut self, keep_from: Option<LogIndex>) -> Result<(), StorageError> {
        let SnapshotChunk { meta, data, .. } = self.received.take().unwrap();
        self.before = match keep_from {
            Some(first) => (first.prev(), self.term(first.prev())?, self.digest(first.prev())?),
            None => (meta.last_included_index, meta.last_included_term, meta.digest),
        };
        (self.meta, self.state) = (meta, data);
        let before = self.before.0;
        while self.runs.pop_front_if(|run| run.last() <= before || keep_from.is_none()).is_some() {}
        Ok(())
    }
}

impl Run {
    fn last(&self) -> LogIndex {
        LogIndex(self.first.0 + self.entries.len() as u64 - 1)
    }
}

impl Storage for Memory {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        Ok(self.hard_state)
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(self.meta.clone())
    }

    fn first_index(&self) -> LogIndex {
        self.before.0.next()
    }

    fn last_index(&self) -> LogIndex {
        self.runs.back().map_or(self.before.0, Run::last)
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if index != self.meta.last_included_index || start > self.state.len() {
            return Err(StorageError::NoSnapshot { index, offset });
        }
        Ok(self.state.slice(start..self.state.len().min(start.saturating_add(max_bytes))))
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.before.0 { Ok(self.before.1) } else { self.entry(index).map(|(entry, _)| entry.term) }
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        if index == self.before.0 { Ok(self.before.2) } else { self.entry(index).map(|(_, digest)| digest) }
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let (mut next, mut bytes, mut entries) = (first, 0, Vec::new());
        while next <= last && bytes < max_bytes {
            let entry = self.entry(next)?.0;
            bytes += entry.cost();
            entries.push(entry.clone());
            next = next.next();
        }
        Ok(entries)
    }

    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        self.links.then(|| raft_kv::link(prev, entry))
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        match write.op {
            WriteOp::HardState(hard_state) => self.hard_state = hard_state,
            WriteOp::Truncate(from) => self.truncate(from),
            WriteOp::Append { entries, digests } => {
                self.runs.push_back(Run { first: self.last_index().next(), entries, digests });
            }
            // The state is a count: it comes in one piece.
            WriteOp::SnapshotChunk(chunk) => self.received = Some(*chunk),
            WriteOp::InstallSnapshot { keep_from, .. } => self.install(keep_from)?,
            WriteOp::GiveUpSnapshot => self.received = None,
        }
        self.persisted = write.id;
        Ok(())
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(self.persisted)
    }
}
