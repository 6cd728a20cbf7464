//! A full disk (fault D6): what needs room is refused or lost before it could fail, and all else goes on.
//!
//! * A leader refuses commands, with a reason, and answers reads. It hands leadership over, once: to a server whose disk is
//!   full as well it would come back for ever.
//! * A follower loses appends that bring commands, and chunks of snapshots, as on a bad link: they are sent again. It
//!   takes what is empty or a membership, so that a leader of its term can commit where it holds all before that.
//! * Terms and votes are written as ever, and no snapshot is taken.
//! * A snapshot that outgrows the room while it is taken or received gives back what it has. A leader's is begun again
//!   where there is room for more of it than that: else each chunk that finds room would begin it anew.

use super::Replica;
use crate::action::RoleName;
use crate::event::Event;
use crate::message::{Body, Message};
use crate::state_machine::StateMachine;
use crate::storage::Storage;
use crate::transport::Transport;
use crate::types::{Entry, Payload};

impl<S: Storage, T: Transport, M: StateMachine> Replica<S, T, M> {
    /// Whether there is room for commands.
    #[must_use]
    pub fn has_room(&self) -> bool {
        bug!(FullDiskTakesCommands) || self.node.storage().has_room()
    }

    /// Whether there is room for what a message brings.
    pub(super) fn finds_room(&self, message: &Message) -> bool {
        let finds = match &message.body {
            Body::AppendEntries(append) => {
                let storage = self.node.storage();
                // What is there already, and not other entries in its place, is not written again.
                let is_new =
                    |entry: &Entry| entry.index >= storage.first_index() && storage.term(entry.index) != Ok(entry.term);
                let brings_command = |entry: &Entry| matches!(entry.payload, Payload::Command(_));
                self.has_room()
                    || !append.entries.last().is_some_and(is_new)
                    || !append.entries.iter().any(brings_command)
            }
            Body::InstallSnapshot(chunk) => {
                let (index, wanted) = self.outgrown;
                let is_again = chunk.offset == 0 && chunk.meta.last_included_index == index;
                let bytes = length_of(chunk.data.len()).max(if is_again { wanted } else { 0 });
                self.node.storage().has_room_for_snapshot(bytes)
            }
            _ => true,
        };
        mark!(FullDiskLoses, !finds);
        finds
    }

    /// A message is lost for lack of room: where it is a chunk, what arrived before it is of no use.
    pub(super) fn lose(&mut self, message: &Message) {
        let Body::InstallSnapshot(chunk) = &message.body else { return };
        if let Some((index, bytes)) = self.node.chunks_arrived() {
            self.outgrown = (index, bytes.saturating_add(length_of(chunk.data.len())));
            self.handle(Event::SnapshotOutgrows);
        }
    }

    /// A leader whose disk has become full gives way to one that may have room.
    pub(super) fn look_for_room(&mut self) {
        let is_full = !self.has_room();
        if is_full != self.gave_way && (!is_full || self.node.role() == RoleName::Leader) {
            self.gave_way = is_full;
            if is_full {
                self.handle(Event::HandOver);
            }
        }
    }
}

pub(super) fn length_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
