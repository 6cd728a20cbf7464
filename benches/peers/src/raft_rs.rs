//! `raft` (raft-rs) over its own `MemStorage`: as it comes, and tuned (`batch_append`, a whole batch in one multi-entry
//! `MsgPropose`, `skip_bcast_commit`, messages as long as they may be).

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use crate::cluster::{Applied, COMPACT_EVERY, Cell, Cluster, KEPT, least};
use crate::network::{Network, Wire};

pub(crate) struct RaftRs {
    replicas: Vec<Replica>,
    network: Network<Message>,
    is_tuned: bool,
}

struct Replica {
    node: RawNode<MemStorage>,
    applied: Applied,
    /// The last entry applied when the log was compacted last.
    compacted: u64,
}

impl RaftRs {
    pub(crate) fn new(cell: Cell, is_tuned: bool) -> Self {
        let ids: Vec<u64> = (1..).take(cell.replicas).collect();
        let logger = Logger::root(Discard, o!());
        let replica = |id: &u64| {
            let plain = Config::new(*id);
            let tuned =
                Config { batch_append: true, skip_bcast_commit: true, max_size_per_msg: u64::MAX, ..plain.clone() };
            let storage = MemStorage::new_with_conf_state((ids.clone(), vec![]));
            let node = RawNode::new(if is_tuned { &tuned } else { &plain }, storage, &logger).unwrap();
            Replica { node, applied: Applied::new(cell), compacted: 0 }
        };
        let replicas = ids.iter().map(replica).collect();
        let mut raft = Self { replicas, network: Network::new(cell.replicas, cell.encoded), is_tuned };
        raft.replicas[0].node.campaign().unwrap();
        raft.ready(0);
        (0..10).for_each(|_| raft.round());
        assert_eq!(raft.replicas[0].node.raft.state, StateRole::Leader);
        raft
    }

    /// Does what the node says is ready, in the order that its documentation asks for.
    fn ready(&mut self, at: usize) {
        let Replica { node, applied, compacted } = &mut self.replicas[at];
        while node.has_ready() {
            let mut ready = node.ready();
            ready.take_messages().into_iter().for_each(|message| self.network.send(message));
            let mut last = apply(applied, ready.take_committed_entries());
            {
                let mut stored = node.store().wl();
                stored.append(ready.entries()).unwrap();
                if let Some(hard_state) = ready.hs() {
                    stored.set_hardstate(hard_state.clone());
                }
            }
            ready.take_persisted_messages().into_iter().for_each(|message| self.network.send(message));
            let mut light = node.advance(ready);
            if let Some(commit) = light.commit_index() {
                node.store().wl().mut_hard_state().set_commit(commit);
            }
            light.take_messages().into_iter().for_each(|message| self.network.send(message));
            last = last.max(apply(applied, light.take_committed_entries()));
            node.advance_apply();
            if last >= *compacted + COMPACT_EVERY {
                *compacted = last;
                node.store().wl().compact(last - KEPT).unwrap();
            }
        }
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) {
        let node = &mut self.replicas[0].node;
        let mut message = Message { from: node.raft.id, entries: entries.into(), ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        node.step(message).unwrap();
    }
}

/// Applies entries, and says which the last is; 0 for none.
fn apply(applied: &mut Applied, entries: Vec<Entry>) -> u64 {
    let last = entries.last().map_or(0, |entry| entry.index);
    // A new leader's first entry is empty.
    entries.iter().filter(|entry| !entry.data.is_empty()).for_each(|entry| applied.apply(&entry.data));
    last
}

impl Cluster for RaftRs {
    fn propose(&mut self, batch: Vec<Bytes>) {
        let mut entries = batch.into_iter().map(|data| Entry { data, ..Entry::default() });
        if self.is_tuned {
            self.propose_entries(entries.collect());
        } else {
            entries.by_ref().for_each(|entry| self.propose_entries(vec![entry]));
        }
        self.ready(0);
    }

    fn round(&mut self) {
        self.network.turn();
        for at in 0..self.replicas.len() {
            let mut inbox = self.network.take(at);
            inbox.drain(..).for_each(|message| self.replicas[at].node.step(message).unwrap());
            self.network.give_back(at, inbox);
            self.ready(at);
        }
    }

    fn tick(&mut self) {
        self.replicas[0].node.tick();
        self.ready(0);
    }

    fn applied(&self) -> u64 {
        least(self.replicas.iter().map(|replica| &replica.applied))
    }

    fn messages(&self) -> u64 {
        self.network.messages()
    }
}

/// By protobuf, each message behind its length; payloads are slices of what was received.
impl Wire for Message {
    type Reader = ();

    fn destination(&self) -> usize {
        self.to as usize - 1
    }

    fn write(&self, stream: &mut Vec<u8>) {
        let start = stream.len();
        stream.extend_from_slice(&[0; 4]);
        self.write_to_vec(stream).unwrap();
        let length = (stream.len() - start - 4) as u32;
        stream[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn read((): &mut (), stream: &[u8], inbox: &mut Vec<Self>) {
        let mut received = Bytes::copy_from_slice(stream);
        while !received.is_empty() {
            let length = received.split_to(4);
            let length = u32::from_le_bytes(length[..].try_into().unwrap());
            inbox.push(Self::parse_from_carllerche_bytes(&received.split_to(length as usize)).unwrap());
        }
    }
}
