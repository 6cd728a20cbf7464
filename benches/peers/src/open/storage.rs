//! What openraft asks its user to write: a log and a state machine, in memory.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::{
    BasicNode, Entry, EntryPayload, LogId, OptionalSend, RaftLogReader, RaftSnapshotBuilder, SnapshotMeta,
    StorageError, StoredMembership, Vote,
};

use super::{Command, Types};
use crate::cluster::Applied;

type Result<T> = std::result::Result<T, StorageError<u64>>;

/// A replica's log, shared by the tasks that read it.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The entries from this index on.
    first: u64,
    entries: VecDeque<Entry<Types>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>> {
        let kept = self.kept();
        let offset = |index: u64| (index.saturating_sub(kept.first) as usize).min(kept.entries.len());
        let start = match range.start_bound() {
            Bound::Included(index) => offset(*index),
            Bound::Excluded(index) => offset(*index + 1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => offset(*index + 1),
            Bound::Excluded(index) => offset(*index),
            Bound::Unbounded => kept.entries.len(),
        };
        Ok(kept.entries.range(start..end.max(start)).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>> {
        let kept = self.kept();
        let last_log_id = kept.entries.back().map(|entry| entry.log_id).or(kept.purged);
        Ok(LogState { last_purged_log_id: kept.purged, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<()> {
        self.kept().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>> {
        Ok(self.kept().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.kept().entries.extend(entries);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<()> {
        let mut kept = self.kept();
        let keep = from.index.saturating_sub(kept.first) as usize;
        kept.entries.truncate(keep);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Result<()> {
        let mut kept = self.kept();
        let gone = ((upto.index + 1).saturating_sub(kept.first) as usize).min(kept.entries.len());
        kept.entries.drain(..gone);
        kept.first = upto.index + 1;
        kept.purged = Some(upto);
        Ok(())
    }
}

/// A replica's state machine.
#[derive(Clone)]
pub(super) struct Machine {
    applied: Arc<Mutex<Applied>>,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
    snapshot: Arc<Mutex<Option<Meta>>>,
}

type Meta = SnapshotMeta<u64, BasicNode>;

impl Machine {
    pub(super) fn new(applied: Arc<Mutex<Applied>>) -> Self {
        Self { applied, last: None, membership: StoredMembership::default(), snapshot: Arc::default() }
    }

    /// The state is a count, which the name of the snapshot says.
    fn snapshot(meta: Meta) -> Snapshot<Types> {
        Snapshot { meta, snapshot: Box::new(Cursor::new(Vec::new())) }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>> {
        let meta = Meta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            snapshot_id: self.applied.lock().unwrap().count().to_string(),
        };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(Self::snapshot(meta))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut applied = self.applied.lock().unwrap();
        let mut answers = Vec::new();
        for entry in entries {
            match entry.payload {
                EntryPayload::Normal(Command(payload)) => applied.apply(&payload),
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), members);
                }
                EntryPayload::Blank => {}
            }
            self.last = Some(entry.log_id);
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, _: Box<Cursor<Vec<u8>>>) -> Result<()> {
        panic!("no replica lags so far: {meta:?}")
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>> {
        Ok(self.snapshot.lock().unwrap().clone().map(Self::snapshot))
    }
}
