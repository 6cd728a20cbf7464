//! This repository's `raft-core`: an entry a payload; or chained, where a batch is one block, as the server makes it, and
//! every block carries the SHA-256 of the one before.

use bytes::Bytes;
use raft_core::{
    Action, Batch, Commands, Config, Configuration, Digest, Event, LogIndex, Message, Node, NodeId, Payload, RoleName,
    SnapshotChunk, Storage, WriteId,
};
use raft_net_tcp::frame::{self, FrameReader};
use raft_net_tcp::fuzzing::{Body, read_body};

use crate::cluster::{Applied, COMPACT_EVERY, Cell, Cluster, KEPT, least};
use crate::network::{Network, Wire};

mod memory;

use memory::Memory;

pub(crate) struct Ours {
    replicas: Vec<Replica>,
    network: Network<Message>,
    actions: Vec<Action>,
    /// Entries are linked, and a batch is one of them.
    chained: bool,
}

struct Replica {
    node: Node<Memory>,
    applied: Applied,
    /// What was applied when the log was compacted last.
    compacted: u64,
}

impl Ours {
    pub(crate) fn new(cell: Cell, chained: bool) -> Self {
        let ids = || (1..).map(NodeId).take(cell.replicas);
        let tail_entries = if chained { KEPT / cell.batch as u64 } else { KEPT };
        let replica = |id| {
            let memory = Memory::new(Configuration::new(ids()), chained);
            // A batch travels whole, as raft-rs's does.
            let config = Config { tail_entries, max_append_bytes: usize::MAX, ..Config::new(id) };
            let node = Node::new(config, memory).unwrap();
            Replica { node, applied: Applied::new(cell), compacted: 0 }
        };
        let network = Network::new(cell.replicas, cell.encoded);
        let replicas = ids().map(replica).collect();
        let mut ours = Self { replicas, network, actions: Vec::new(), chained };
        ours.step(0, Event::Campaign);
        (0..10).for_each(|_| ours.round());
        assert_eq!(ours.replicas[0].node.status().role, RoleName::Leader);
        ours
    }

    /// Takes an event, and all that come of it here.
    fn step(&mut self, at: usize, event: impl Into<Event>) {
        let replica = &mut self.replicas[at];
        replica.node.step_into(event, &mut self.actions);
        loop {
            let (written, applied) = self.perform(at);
            let replica = &mut self.replicas[at];
            if let Some(write) = written {
                replica.node.step_into(Event::Persisted(write), &mut self.actions);
            }
            if let Some(last) = applied {
                replica.node.step_into(Event::Applied(last), &mut self.actions);
                if let Some(snapshot) = replica.compact() {
                    replica.node.step_into(snapshot, &mut self.actions);
                }
            }
            if self.actions.is_empty() {
                return;
            }
        }
    }

    /// Performs what is to be done, and gives what is to be reported: the last write, and the last entry that was applied.
    fn perform(&mut self, at: usize) -> (Option<WriteId>, Option<LogIndex>) {
        let replica = &mut self.replicas[at];
        let (mut written, mut applied) = (None, None);
        for action in self.actions.drain(..) {
            match action {
                Action::Send(message) => self.network.send(message),
                Action::Persist(write) => {
                    written = Some(write.id);
                    replica.node.storage_mut().write(write).unwrap();
                }
                Action::Apply { first, last } => {
                    replica.apply(first, last, self.chained);
                    applied = Some(last);
                }
                Action::ProposalRefused(_)
                | Action::SnapshotRefused(_)
                | Action::Halt(_)
                | Action::MessageDropped { .. } => panic!("{action:?}"),
                _ => {}
            }
        }
        (written, applied)
    }
}

impl Replica {
    fn apply(&mut self, first: LogIndex, last: LogIndex, chained: bool) {
        let mut next = first;
        while next <= last {
            let entries = self.node.entries(next, last).unwrap();
            for entry in entries.iter() {
                match &entry.payload {
                    Payload::Command(block) if chained => {
                        Commands::of(block).for_each(|command| self.applied.apply(command));
                    }
                    Payload::Command(payload) => self.applied.apply(payload),
                    _ => {}
                }
                next = entry.index.next();
            }
        }
    }

    /// Where it is time, a snapshot of the state, which is a count.
    fn compact(&mut self) -> Option<Event> {
        let count = self.applied.count();
        if count < self.compacted + COMPACT_EVERY {
            return None;
        }
        self.compacted = count;
        let meta = self.node.describe_snapshot(Digest([0; 32])).unwrap();
        let data = Bytes::copy_from_slice(&count.to_le_bytes());
        Some(Event::SnapshotPiece(SnapshotChunk { meta, offset: 0, data, done: true }.into()))
    }
}

impl Cluster for Ours {
    fn propose(&mut self, batch: Vec<Bytes>) {
        let payloads = if self.chained {
            let mut block = Batch::default();
            assert!(batch.iter().all(|payload| block.push(payload)));
            vec![block.into_payload()]
        } else {
            batch
        };
        self.step(0, Event::Propose(payloads));
    }

    fn round(&mut self) {
        self.network.turn();
        for at in 0..self.replicas.len() {
            let mut inbox = self.network.take(at);
            inbox.drain(..).for_each(|message| self.step(at, message));
            self.network.give_back(at, inbox);
        }
    }

    fn tick(&mut self) {
        self.step(0, Event::Tick);
    }

    fn applied(&self) -> u64 {
        least(self.replicas.iter().map(|replica| &replica.applied))
    }

    fn messages(&self) -> u64 {
        self.network.messages()
    }
}

/// As `raft-net-tcp` frames and reads what servers say: with length, checksum and kind.
impl Wire for Message {
    type Reader = Frames;

    fn destination(&self) -> usize {
        self.to.0 as usize - 1
    }

    fn write(&self, stream: &mut Vec<u8>) {
        assert!(frame::encode_message_into(self, frame::PEER_FRAME_BYTES_MAX, stream));
    }

    fn read(Frames(frames): &mut Frames, stream: &[u8], inbox: &mut Vec<Self>) {
        frames.room().extend_from_slice(stream);
        while let Some(frame) = frames.next_frame().unwrap() {
            let Body::Message(message) = read_body(frame).unwrap() else { panic!("no message") };
            inbox.push(message);
        }
    }
}

pub(crate) struct Frames(FrameReader);

impl Default for Frames {
    fn default() -> Self {
        Self(FrameReader::new(frame::PEER_FRAME_BYTES_MAX))
    }
}
