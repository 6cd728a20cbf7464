//! A disk whose writes become durable when the model says so.

use std::collections::VecDeque;
use std::fmt;

use raft_core::{
    Configuration, Entry, HardState, LogIndex, MemStorage, Payload, SnapshotMeta, Storage, StorageError, Term, Write,
    WriteId, WriteOp,
};

use crate::Plant;

#[derive(Clone)]
pub(crate) struct Disk {
    /// Everything that was written.
    live: MemStorage,
    /// What a crash leaves at the least.
    durable: MemStorage,
    pending: VecDeque<Write>,
    reported: WriteId,
    truncated: bool,
    took_back: bool,
    forgets_configurations: bool,
}

impl Disk {
    pub(crate) fn new(storage: MemStorage) -> Self {
        let durable = storage.clone();
        Self {
            live: storage,
            durable,
            pending: VecDeque::new(),
            reported: WriteId(0),
            truncated: false,
            took_back: false,
            forgets_configurations: false,
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Makes the oldest `count` writes durable; the last one's id.
    pub(crate) fn persist(&mut self, count: usize) -> WriteId {
        for write in self.pending.drain(..count.min(self.pending.len())).collect::<Vec<_>>() {
            self.reported = self.reported.max(write.id);
            self.durable.write(write).unwrap();
        }
        self.reported
    }

    /// Reports the last write as durable, which it is not; `None` where that is no news.
    pub(crate) fn report_early(&mut self) -> Option<WriteId> {
        let last = self.pending.back()?.id;
        let news = last > self.reported;
        self.reported = last;
        news.then_some(last)
    }

    /// The disk after a crash that came when `also` unreported writes were on it.
    pub(crate) fn crash(mut self, also: usize, plant: Plant) -> Self {
        self.persist(also);
        let mut storage = self.durable.reopen();
        if plant == Plant::ForgetsVote {
            let term = HardState { voted_for: None, ..storage.hard_state().unwrap() };
            storage.write(Write { id: WriteId(1), op: WriteOp::HardState(term) }).unwrap();
            storage = storage.reopen();
        }
        Self { forgets_configurations: plant == Plant::ForgetsConfigurations, ..Self::new(storage) }
    }

    /// Whether entries were removed in this life.
    pub(crate) fn truncated(&self) -> bool {
        self.truncated
    }

    /// Whether a configuration was among them.
    pub(crate) fn took_back(&self) -> bool {
        self.took_back
    }

    pub(crate) fn log(&self) -> Vec<Entry> {
        self.live.entries(LogIndex(1), self.live.last_index(), usize::MAX).unwrap()
    }

    pub(crate) fn durable_hard_state(&self) -> HardState {
        self.durable.hard_state().unwrap()
    }

    pub(crate) fn durable_term(&self, index: LogIndex) -> Option<Term> {
        self.durable.term(index).ok()
    }
}

/// What decides what a disk does from here on: `live` follows from it.
impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.durable, self.pending)
    }
}

impl Storage for Disk {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        self.live.hard_state()
    }
    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        self.live.snapshot_meta()
    }
    fn first_index(&self) -> LogIndex {
        self.live.first_index()
    }
    fn last_index(&self) -> LogIndex {
        self.live.last_index()
    }
    fn snapshot_chunk(&self, index: LogIndex, offset: u64, bytes: usize) -> Result<raft_core::Bytes, StorageError> {
        self.live.snapshot_chunk(index, offset, bytes)
    }
    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.live.term(index)
    }
    fn digest(&self, index: LogIndex) -> Result<Option<raft_core::Digest>, StorageError> {
        self.live.digest(index)
    }
    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        self.live.entries(first, last, max_bytes)
    }
    fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        if self.forgets_configurations { Ok(Vec::new()) } else { self.live.configurations() }
    }
    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        if let WriteOp::Truncate(from) = write.op {
            self.truncated = true;
            let is_configuration = |entry: &Entry| matches!(entry.payload, Payload::Configuration(_));
            self.took_back |= self.log().iter().any(|entry| entry.index >= from && is_configuration(entry));
        }
        self.pending.push_back(write.clone());
        self.live.write(write)
    }
    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(self.reported)
    }
}
