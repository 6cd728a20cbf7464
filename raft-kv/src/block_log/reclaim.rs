//! Giving back what an installed snapshot makes needless: the snapshot before it, and segments of blocks before the
//! first that is kept. Never before the install is durable.

use raft_core::StorageError;

use super::BlockLog;
use super::segments::archived_name;
use crate::disk::{Change, Disk};

/// What can be given back once an install is durable.
#[derive(Debug)]
pub(super) struct Reclaim {
    /// The operation that makes it so.
    ticket: u64,
    /// The snapshot's file that it replaces.
    replaced: Option<String>,
    /// The first position that is needed. What is written later changes nothing: it never makes older blocks needed.
    needed: u64,
}

impl<D: Disk> BlockLog<D> {
    /// An install was submitted, with a frame at this position and this ticket.
    pub(super) fn will_reclaim(&mut self, ticket: u64, replaced: Option<String>, frame: u64) {
        self.reclaims.push_back(Reclaim { ticket, replaced, needed: self.first_needed(frame) });
    }

    /// Gives back what the installs up to this ticket make needless, a file at a time: what is written to the log meanwhile
    /// waits for one of them, and not for all.
    pub(super) fn reclaim(&mut self, durable: u64) -> Result<(), StorageError> {
        let Some(reclaim) = self.reclaims.front_mut().filter(|reclaim| reclaim.ticket <= durable) else {
            return Ok(());
        };
        let (replaced, needed) = (reclaim.replaced.take(), reclaim.needed);
        let begun = match replaced {
            Some(file) => Some(self.submit(Change::Remove { file: &file })?),
            None => self.prune_one(needed)?,
        };
        match (begun, self.reclaims.front_mut()) {
            (Some(ticket), Some(reclaim)) => reclaim.ticket = ticket,
            _ => drop(self.reclaims.pop_front()),
        }
        Ok(())
    }

    /// Begins to give back the segments that lie before this position.
    pub(super) fn prune(&mut self, needed: u64) -> Result<(), StorageError> {
        while self.prune_one(needed)?.is_some() {}
        Ok(())
    }

    /// Begins to give back the first of them, and answers the ticket of that; `None` where there is none. The first to go is
    /// the first of all: whatever a crash leaves, no segment is missing between two.
    fn prune_one(&mut self, needed: u64) -> Result<Option<u64>, StorageError> {
        let Some(segment) = self.segments.pop_before(needed) else { return Ok(None) };
        let name = segment.name();
        let ticket = if self.options.archive {
            self.submit(Change::Rename { from: &name, to: &archived_name(segment.number) })?
        } else if self.has_spare_coming() {
            self.submit(Change::Remove { file: &name })?
        } else {
            self.keep_as_spare(&segment)?
        };
        Ok(Some(ticket))
    }

    /// Where the first block stands, or this position where there is none.
    pub(super) fn first_needed(&self, otherwise: u64) -> u64 {
        self.contents.index.locate(self.contents.index.first()).map_or(otherwise, |(position, _)| position)
    }
}
