//! This repository's `raft-core`: an entry a payload; or chained, where a batch is one block, as the server makes it, and
//! every block carries the SHA-256 of the one before.

use std::collections::VecDeque;

use bytes::Bytes;
use raft_core::{
    Action, Batch, Commands, Config, Configuration, Digest, Event, LogIndex, Message, Node, NodeId, Payload, RoleName,
    SnapshotChunk, Storage,
};
use raft_net_tcp::frame::{self, FrameReader, Kind};
use raft_net_tcp::fuzzing::{Body, read_body};

use crate::cluster::{Applied, COMPACT_EVERY, Cell, Cluster, KEPT, least};
use crate::network::{Network, Wire};

mod memory;

use memory::Memory;

pub(crate) struct Ours {
    replicas: Vec<Replica>,
    network: Network<Message>,
    actions: Vec<Action>,
    events: VecDeque<Event>,
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
            let node = Node::new(Config { tail_entries, ..Config::new(id) }, memory).unwrap();
            Replica { node, applied: Applied::new(cell), compacted: 0 }
        };
        let network = Network::new(cell.replicas, cell.encoded);
        let replicas = ids().map(replica).collect();
        let mut ours = Self { replicas, network, actions: Vec::new(), events: VecDeque::new(), chained };
        ours.step(0, Event::Campaign);
        (0..10).for_each(|_| ours.round());
        assert_eq!(ours.replicas[0].node.status().role, RoleName::Leader);
        ours
    }

    /// Takes an event, and all that come of it here.
    fn step(&mut self, at: usize, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let has_applied = matches!(event, Event::Applied(_));
            let mut actions = std::mem::take(&mut self.actions);
            self.replicas[at].node.step_into(event, &mut actions);
            actions.drain(..).for_each(|action| self.perform(at, action));
            self.actions = actions;
            if has_applied {
                self.events.extend(self.replicas[at].compact());
            }
        }
    }

    fn perform(&mut self, at: usize, action: Action) {
        let replica = &mut self.replicas[at];
        match action {
            Action::Send(message) => self.network.send(message),
            Action::Persist(write) => {
                let id = write.id;
                replica.node.storage_mut().write(write).unwrap();
                self.events.push_back(Event::Persisted(id));
            }
            Action::Apply { first, last } => {
                replica.apply(first, last, self.chained);
                self.events.push_back(Event::Applied(last));
            }
            Action::ProposalRefused(_)
            | Action::SnapshotRefused(_)
            | Action::Halt(_)
            | Action::MessageDropped { .. } => panic!("{action:?}"),
            _ => {}
        }
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
            inbox.drain(..).for_each(|message| self.step(at, message.into()));
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
        assert!(frame::encode_into(Kind::Message, self, frame::PEER_FRAME_BYTES_MAX, stream));
    }

    fn read(Frames(frames): &mut Frames, stream: &[u8], inbox: &mut Vec<Self>) {
        frames.room().extend_from_slice(stream);
        while let Some(frame) = frames.next_frame().unwrap() {
            let Body::Message(message) = read_body(frame.kind, frame.body).unwrap() else { panic!("{frame:?}") };
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
