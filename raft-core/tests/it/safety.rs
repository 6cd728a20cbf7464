//! The five safety properties of the paper (Figure 3), and what else no run may break, held over a whole group after
//! every step.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::{
    AppendEntriesResponse, Body, Configuration, Digest, Entry, Incarnation, LogIndex, Message, Node, NodeId, Payload,
    ReadId, RoleName, Storage, Term,
};

use crate::cluster::{Disk, all_entries, toy_link};

/// What has been seen of a run so far.
#[derive(Default)]
pub struct Safety {
    leader_of: BTreeMap<Term, NodeId>,
    /// The log of each node that leads, when last looked at.
    leading: BTreeMap<NodeId, (Term, Vec<Digest>)>,
    /// The first commit seen at each index.
    committed: BTreeMap<LogIndex, (Term, Digest)>,
    applied: BTreeMap<LogIndex, (Term, Digest)>,
    vote: BTreeMap<(NodeId, Option<Incarnation>, Term), NodeId>,
    /// Disks that were lost: what they acknowledged, they held then.
    lost: Vec<Disk>,
    reads: BTreeMap<(u32, ReadId), LogIndex>,
    /// The configuration of each node, when last looked at.
    configuration: BTreeMap<NodeId, Configuration>,
    /// Pairs of configurations, as bytes, whose quorums are known to intersect.
    intersecting: BTreeSet<(Vec<u8>, Vec<u8>)>,
    single: bool,
    trusted: LogIndex,
}

impl Safety {
    pub fn check(&mut self, nodes: &[Node<Disk>]) {
        let chains: Vec<Vec<(Term, Digest)>> = nodes.iter().map(|node| self.chain(node)).collect();
        self.election_safety(nodes);
        self.leader_append_only(nodes, &chains);
        log_matching(&chains);
        self.commits(nodes, &chains);
        self.leader_completeness(nodes, &chains);
        self.configurations(nodes);
    }

    /// "At most one leader can be elected in a given term."
    fn election_safety(&mut self, nodes: &[Node<Disk>]) {
        for status in nodes.iter().map(Node::status).filter(|status| status.role == RoleName::Leader) {
            let first = *self.leader_of.entry(status.term).or_insert(status.id);
            assert_eq!(first, status.id, "Election Safety: two leaders in term {}", status.term);
        }
    }

    /// "A leader never overwrites or deletes entries in its log; it only appends new entries."
    fn leader_append_only(&mut self, nodes: &[Node<Disk>], chains: &[Vec<(Term, Digest)>]) {
        for (node, chain) in nodes.iter().zip(chains) {
            let status = node.status();
            if status.role != RoleName::Leader {
                self.leading.remove(&status.id);
                continue;
            }
            let now: Vec<Digest> = chain.iter().map(|(_, digest)| *digest).collect();
            if let Some((term, before)) = self.leading.get(&status.id)
                && *term == status.term
            {
                assert!(now.starts_with(before), "Leader Append-Only: node {}", status.id);
            }
            self.leading.insert(status.id, (status.term, now));
        }
    }

    /// A newly committed entry equals what was first committed at its index, and a durable quorum holds it: of the
    /// configuration before the step, for the step that commits a joint configuration also leaves it.
    fn commits(&mut self, nodes: &[Node<Disk>], chains: &[Vec<(Term, Digest)>]) {
        for (node, chain) in nodes.iter().zip(chains) {
            let (commit, compacted) = (node.commit_index(), node.status().first_index.prev());
            for (at, seen) in chain.iter().enumerate().take(commit.0 as usize).skip(compacted.0 as usize) {
                let index = LogIndex(at as u64 + 1);
                if let Some(first) = self.committed.get(&index) {
                    assert_eq!(first, seen, "two entries are committed at {index}");
                    continue;
                }
                let status = node.status();
                let configuration = self.configuration.get(&status.id).unwrap_or(&status.configuration);
                let holds = |id: NodeId| {
                    if self.single || index <= self.trusted {
                        return true;
                    }
                    let pinned = configuration.incarnation(id);
                    let lost = self.lost.iter().filter(|disk| pinned.is_known() && disk.incarnation() == pinned);
                    let mut disks = lost.chain([nodes[id.0 as usize - 1].storage()]);
                    disks.any(|disk| pinned.admits(disk.incarnation()) && disk.holds(index, seen.0))
                };
                assert!(configuration.is_quorum(holds), "entry {index} is committed without a durable quorum");
                self.committed.insert(index, *seen);
            }
        }
    }

    /// "If a log entry is committed in a given term, then that entry will be present in the logs of the leaders for
    /// all higher-numbered terms."
    fn leader_completeness(&self, nodes: &[Node<Disk>], chains: &[Vec<(Term, Digest)>]) {
        let newest = nodes.iter().map(Node::status).filter(|status| status.role == RoleName::Leader);
        let Some(leader) = newest.max_by_key(|status| status.term) else { return };
        let chain = &chains[leader.id.0 as usize - 1];
        for (index, committed) in &self.committed {
            let held = chain.get(index.0 as usize - 1);
            let later = self.leader_of.keys().next_back().is_some_and(|term| *term > leader.term);
            assert!(later || held == Some(committed), "Leader Completeness: {} lacks {index}", leader.id);
        }
    }

    /// In every log at most one configuration is not committed, and consecutive ones share a voter in all their quorums.
    fn configurations(&mut self, nodes: &[Node<Disk>]) {
        let committed = self.committed.keys().next_back().copied().unwrap_or_default();
        for node in nodes {
            let status = node.status();
            self.configuration.insert(status.id, status.configuration.clone());
            let snapshot = node.storage().snapshot_meta().unwrap();
            let mut before = snapshot.configuration;
            let mut uncommitted = 0;
            for entry in all_entries(node).into_iter().filter(|entry| entry.index > snapshot.last_included_index) {
                let Payload::Configuration(bytes) = &entry.payload else { continue };
                let configuration = Configuration::from_bytes(bytes).unwrap();
                let pair = (before.to_bytes(), configuration.to_bytes());
                if !self.intersecting.contains(&pair) {
                    let disjoint = disjoint_quorums(&before, &configuration);
                    assert_eq!(disjoint, None, "{before}, and at {} {configuration}", entry.index);
                    self.intersecting.insert(pair);
                }
                before = configuration;
                uncommitted += u32::from(entry.index > committed);
            }
            assert!(self.single || uncommitted <= 1, "{uncommitted} uncommitted configurations: node {}", status.id);
            assert_eq!(status.configuration, before, "node {}: the newest in the log is active", status.id);
        }
    }

    /// "If a server has applied a log entry at a given index to its state machine, no other server will ever apply a
    /// different log entry for the same index."
    pub fn applied(&mut self, disk: &Disk, entry: &Entry) {
        let this = (entry.term, disk.digest(entry.index).unwrap().unwrap());
        let first = *self.applied.entry(entry.index).or_insert(this);
        assert_eq!(first, this, "State Machine Safety: another entry was applied at {}", entry.index);
    }

    /// The entries of a node's log by their terms and digests; of those that are compacted, what was committed there.
    fn chain(&self, node: &Node<Disk>) -> Vec<(Term, Digest)> {
        let last_compacted = node.status().first_index.prev();
        let unknown = (Term(0), Digest([0; 32]));
        let committed = |index| self.committed.get(&LogIndex(index)).copied().unwrap_or(unknown);
        let mut chain: Vec<(Term, Digest)> = (1..=last_compacted.0).map(committed).collect();
        let mut digest = node.digest(last_compacted).unwrap().unwrap();
        let is_known = last_compacted.0 > 0 && !self.single;
        assert!(!is_known || committed(last_compacted.0).1 == digest, "the log goes on from what was never committed");
        let link = |entry: &Entry| {
            digest = toy_link(&digest, entry);
            (entry.term, digest)
        };
        chain.extend(all_entries(node).iter().map(link));
        chain
    }

    /// No promise leaves before it is durable, and no term has two votes of one node.
    pub fn sent(&mut self, message: &Message, node: &Node<Disk>) {
        let disk = node.storage();
        let durable = disk.durable_hard_state();
        assert!(durable.current_term >= message.term, "a term is revealed before it is durable: {message:?}");
        match &message.body {
            Body::RequestVoteResponse(_, response) if response.vote_granted => {
                assert_eq!(durable.voted_for, Some(message.to), "a vote is told before it is durable (E2)");
                let voter = (message.from, message.body.incarnation(), message.term);
                let first = *self.vote.entry(voter).or_insert(message.to);
                assert_eq!(first, message.to, "node {} votes twice in term {}", message.from, message.term);
            }
            Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }) => {
                assert!(disk.durable_last() >= *match_index, "an entry is acknowledged before it is durable (D5)");
                if let Some(mine) = all_entries(node).iter().find(|entry| entry.index == *match_index) {
                    let holds = disk.holds(*match_index, mine.term);
                    assert!(holds, "what is durable at {match_index} is another entry (ABA)");
                }
            }
            _ => {}
        }
    }

    pub fn wiped(&mut self, disk: Disk) {
        self.lost.push(disk);
    }

    pub fn read_begins(&mut self, id: u32, read: ReadId, nodes: &[Node<Disk>]) {
        let committed = nodes.iter().map(Node::commit_index).max().unwrap_or_default();
        self.reads.insert((id, read), committed);
    }

    pub fn read_ready(&mut self, id: u32, read: ReadId, index: LogIndex) {
        let needed = self.reads.remove(&(id, read)).expect("a read is answered once");
        assert!(index >= needed, "a stale read: it began when {needed} was committed and is served at {index}");
    }

    pub fn read_failed(&mut self, id: u32, read: ReadId) {
        assert!(self.reads.remove(&(id, read)).is_some(), "a read is answered once");
    }

    pub fn unanswered_reads(&self) -> usize {
        self.reads.len()
    }

    pub fn crashed(&mut self, id: u32) {
        self.leading.remove(&NodeId(id));
        self.configuration.remove(&NodeId(id));
        self.reads.retain(|(node, _), _| *node != id);
    }

    /// The group has one real node, the others are played by the test: nobody can look at their disks.
    pub fn single(&mut self) {
        self.single = true;
    }

    /// An earlier life had committed this much of every node's log.
    pub fn already_committed(&mut self, last: u64) {
        self.trusted = LogIndex(last);
    }

    pub fn terms_led(&self) -> BTreeSet<Term> {
        self.leader_of.keys().copied().collect()
    }
}

/// "If two logs contain an entry with the same index and term, then the logs are identical in all entries up through
/// the given index."
fn log_matching(chains: &[Vec<(Term, Digest)>]) {
    for (a, b) in chains.iter().flat_map(|a| chains.iter().map(move |b| (a, b))) {
        let equal_name = a.iter().zip(b).rposition(|(a, b)| a.0 == b.0);
        if let Some(at) = equal_name {
            assert_eq!(a[..=at], b[..=at], "Log Matching: the logs agree on the term at {} and not before", at + 1);
        }
    }
}

/// Two quorums without a voter in common, found by trying all.
fn disjoint_quorums(a: &Configuration, b: &Configuration) -> Option<Vec<NodeId>> {
    let all: BTreeSet<NodeId> = a.members().into_iter().chain(b.members()).collect();
    (0_u32..1 << all.len()).find_map(|mask| {
        let chosen = |id: NodeId| all.iter().zip(0..).any(|(other, bit)| *other == id && mask & (1 << bit) != 0);
        let are_disjoint = a.is_quorum(chosen) && b.is_quorum(|id| !chosen(id));
        are_disjoint.then(|| all.iter().copied().filter(|id| chosen(*id)).collect())
    })
}
