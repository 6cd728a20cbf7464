//! A snapshot that outgrows the room that there is (fault D6).

use alloc::vec::Vec;

use super::Phase;
use crate::action::{Action, WriteOp};
use crate::error::Refusal;
use crate::node::Node;
use crate::storage::Storage;
use crate::types::LogIndex;

impl<S: Storage> Node<S> {
    /// The snapshot whose chunks arrive, and the bytes of it that were written.
    pub(crate) fn chunks_arrived(&self) -> Option<(LogIndex, u64)> {
        let receiving = self.receiving.as_deref().filter(|receiving| receiving.phase == Phase::Chunks)?;
        Some((receiving.index(), receiving.next_offset))
    }

    /// What is written of a snapshot that is being taken or received gives its room back. One that is all there goes on.
    pub(crate) fn on_snapshot_outgrows(&mut self, actions: &mut Vec<Action>) {
        let is_taken = self.taking.take().is_some();
        let is_received = self.receiving.take_if(|receiving| receiving.phase == Phase::Chunks).is_some();
        if is_taken || is_received {
            self.persist(WriteOp::GiveUpSnapshot, actions);
        }
        actions.push(Action::SnapshotRefused(Refusal::DiskFull));
    }
}
