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

    /// Begins to give back what the installs up to this ticket make needless.
    pub(super) fn reclaim(&mut self, durable: u64) -> Result<(), StorageError> {
        while let Some(reclaim) = self.reclaims.pop_front_if(|reclaim| reclaim.ticket <= durable) {
            if let Some(file) = reclaim.replaced {
                self.submit(Change::Remove { file: &file })?;
            }
            self.prune(reclaim.needed)?;
        }
        Ok(())
    }

    /// Begins to give back the segments that lie before this position. The first of them to go is the first of all:
    /// whatever a crash leaves, no segment is missing between two.
    pub(super) fn prune(&mut self, needed: u64) -> Result<(), StorageError> {
        while let Some(segment) = self.segments.pop_before(needed) {
            let name = segment.name();
            let has_spare = self.has_spare_coming();
            if self.options.archive {
                self.submit(Change::Rename { from: &name, to: &archived_name(segment.number) })?;
            } else if has_spare {
                self.submit(Change::Remove { file: &name })?;
            } else {
                self.keep_as_spare(&segment)?;
            }
        }
        Ok(())
    }

    /// Where the first block stands, or this position where there is none.
    pub(super) fn first_needed(&self, otherwise: u64) -> u64 {
        self.contents.index.locate(self.contents.index.first()).map_or(otherwise, |(position, _)| position)
    }
}
