//! A [`MemStorage`] that outlives its server, so that the server can be started again.

use std::sync::{Arc, Mutex};

use raft_core::{
    Bytes, Configuration, Digest, Entry, HardState, LogIndex, MemStorage, SnapshotMeta, Storage, StorageError, Term,
    Write, WriteId,
};

#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<MemStorage>>);

impl Disk {
    pub(crate) fn new(configuration: Configuration) -> Self {
        Self(Arc::new(Mutex::new(MemStorage::new(configuration))))
    }

    /// What a server finds that starts on this disk.
    pub(crate) fn reopened(&self) -> Self {
        let old = self.0.lock().unwrap();
        let entries = old.entries(LogIndex(1), old.last_index(), usize::MAX).unwrap();
        let configuration = old.snapshot_meta().unwrap().configuration;
        let storage = MemStorage::with_log(configuration, old.hard_state().unwrap(), entries).unwrap();
        Self(Arc::new(Mutex::new(storage)))
    }
}

impl Storage for Disk {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        self.0.lock().unwrap().hard_state()
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        self.0.lock().unwrap().snapshot_meta()
    }

    fn first_index(&self) -> LogIndex {
        self.0.lock().unwrap().first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.0.lock().unwrap().last_index()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        self.0.lock().unwrap().snapshot_chunk(index, offset, max_bytes)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.0.lock().unwrap().term(index)
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        self.0.lock().unwrap().digest(index)
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        self.0.lock().unwrap().entries(first, last, max_bytes)
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        self.0.lock().unwrap().write(write)
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        self.0.lock().unwrap().persisted()
    }
}
