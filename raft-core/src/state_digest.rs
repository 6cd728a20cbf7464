//! State digests: do all replicas have the same state? (Not in the paper, which takes deterministic machines and sound
//! memories for granted.)
//!
//! Every replica takes the digest of its state after every so-manieth entry ([`Limits`](crate::Limits)) and tells its leader.
//! Once a majority of the voters (both, of a joint configuration) has told of the *same* digest at an index, its leader
//! among them, the leader appends an entry that says so. Whoever applies that entry and has had another state at its index
//! fences itself: it halts. A leader that finds a majority agreed on another state than its own halts at once, and appends
//! nothing.
//!
//! So a majority decides, and never the leader alone: one that is wrong stops nobody but itself. Where no majority agrees (one
//! against one of two voters, say) nobody can tell who is right: nothing is decided, nobody is fenced, and the leader says
//! that they differ.
//!
//! Invariants: an entry holds the digest that a majority of voters had; at most a minority of them is fenced by it. A digest
//! that is lost on its way, or that comes to a leader which is none any more, costs one comparison and nothing else.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::error::Fault;
use crate::message::Body;
use crate::node::Node;
use crate::role::Role;
use crate::storage::Storage;
use crate::types::{Digest, Entry, LogIndex, NodeId, Payload};

/// The digest of the state after an entry was applied, as [`StateMachine::digest`](crate::StateMachine::digest) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    /// The entry.
    pub index: LogIndex,
    /// The digest.
    pub state: Digest,
}

impl StateDigest {
    /// As an entry carries it: the index, eight bytes, little-endian, and the digest.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        [&self.index.0.to_le_bytes()[..], &self.state.0].concat().into()
    }

    /// What [`to_bytes`](Self::to_bytes) gave; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (index, state) = bytes.split_first_chunk()?;
        Some(Self { index: LogIndex(u64::from_le_bytes(*index)), state: Digest(state.try_into().ok()?) })
    }
}

/// What a leader has been told, itself included.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateDigests {
    /// The first that each has told, of the newest few indices.
    told: BTreeMap<LogIndex, Vec<(NodeId, Digest)>>,
    /// The last index that an entry of this leader is about.
    decided: LogIndex,
}

impl StateDigests {
    /// So many indices are remembered: followers that lag further are compared at a later one.
    const KEPT: usize = 8;

    /// Whether that is news.
    fn note(&mut self, id: NodeId, digest: &StateDigest) -> bool {
        let told = self.told.entry(digest.index).or_default();
        let is_news = !told.iter().any(|(known, _)| *known == id);
        if is_news {
            told.push((id, digest.state));
        }
        if self.told.len() > Self::KEPT {
            self.told.pop_first();
        }
        is_news && self.told.contains_key(&digest.index)
    }

    fn at(&self, index: LogIndex) -> &[(NodeId, Digest)] {
        self.told.get(&index).map_or(&[], Vec::as_slice)
    }

    fn of(&self, index: LogIndex, id: NodeId) -> Option<Digest> {
        self.at(index).iter().find(|(known, _)| *known == id).map(|(_, state)| *state)
    }
}

impl<S: Storage> Node<S> {
    /// This server has applied so much, and has this state.
    pub(crate) fn on_state_digested(&mut self, digest: StateDigest, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let id = self.config.id;
        match &mut self.role {
            Role::Leader(leader) => {
                leader.state_digests.note(id, &digest);
                let others = leader.state_digests.at(digest.index).iter();
                let differ = others.filter(|(_, state)| *state != digest.state);
                actions.extend(differ.map(|(peer, _)| Action::StateDiffers { peer: *peer, index: digest.index }));
                self.decide_state(digest.index, actions)
            }
            Role::Follower { leader: Some(leader) } => {
                let leader = *leader;
                self.send(leader, Body::StateDigest(Box::new(digest)), actions);
                Ok(())
            }
            Role::Follower { leader: None } | Role::PreCandidate { .. } | Role::Candidate { .. } => Ok(()),
        }
    }

    /// A follower has applied so much, and has this state.
    pub(crate) fn on_state_digest(
        &mut self,
        from: NodeId,
        digest: &StateDigest,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let (id, commit_index) = (self.config.id, self.log.commit_index());
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        // A new leader may know less to be committed than its followers: it is not compared there, and holds no more than that.
        let may_be_so = digest.index <= commit_index && leader.counted(from).is_some();
        if !may_be_so || !leader.state_digests.note(from, digest) {
            return Ok(());
        }
        if leader.state_digests.of(digest.index, id).is_some_and(|own| own != digest.state) {
            actions.push(Action::StateDiffers { peer: from, index: digest.index });
        }
        self.decide_state(digest.index, actions)
    }

    /// Appends what a majority agrees on, once, where this leader does too. None while leadership is being handed over
    /// (fault E13).
    fn decide_state(&mut self, index: LogIndex, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let id = self.config.id;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let digests = &leader.state_digests;
        let Some(own) = digests.of(index, id).filter(|_| index > digests.decided) else { return Ok(()) };
        let has_majority = |state| {
            let agrees = |voter| digests.of(index, voter) == Some(state);
            self.configurations
                .current()
                .is_quorum(|voter| agrees(voter) && (voter == id || leader.counted(voter).is_some()))
        };
        let is_alone = digests.at(index).iter().any(|(_, state)| *state != own && has_majority(*state));
        if is_alone && !bug!(StateDigestIgnored) {
            return Err(Fault::StateDiverged { index });
        }
        if has_majority(own) && leader.transfer.is_none() {
            mark!(StateDecided);
            leader.state_digests.decided = index;
            let payload = Payload::StateDigest(StateDigest { index, state: own }.to_bytes());
            let entry = Entry { index: self.log.last().index.next(), term: self.current_term, payload };
            return self.append_own([entry].into(), actions);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(index: u64, state: u8) -> StateDigest {
        StateDigest { index: LogIndex(index), state: Digest([state; 32]) }
    }

    #[test]
    fn an_entry_gives_what_it_was_given() {
        let bytes = digest(7, 9).to_bytes();
        assert_eq!(bytes.len(), 40);
        assert_eq!(StateDigest::from_bytes(&bytes), Some(digest(7, 9)));
        assert_eq!(StateDigest::from_bytes(&bytes[..39]), None);
        assert_eq!(StateDigest::from_bytes(&[0; 41]), None);
    }

    #[test]
    fn n5_the_first_word_of_each_counts_and_the_newest_few_indices_are_kept() {
        let mut told = StateDigests::default();
        assert!(told.note(NodeId(2), &digest(8, 1)));
        assert!(!told.note(NodeId(2), &digest(8, 2)));
        assert_eq!(told.of(LogIndex(8), NodeId(2)), Some(Digest([1; 32])));
        for index in 9..=16 {
            assert!(told.note(NodeId(2), &digest(index, 1)));
        }
        assert_eq!((told.told.len(), told.of(LogIndex(8), NodeId(2))), (8, None));
        assert!(!told.note(NodeId(3), &digest(8, 1)), "too old");
        assert_eq!(told.told.len(), 8);
    }
}
