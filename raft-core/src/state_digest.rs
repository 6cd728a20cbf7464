//! State digests: do all replicas have the same state? (Not in the paper, which takes deterministic machines and sound
//! memories for granted.)
//!
//! Every replica takes the digest of its state after every so-manieth entry ([`Limits`](crate::Limits)) and tells its leader.
//! Once a majority of the voters (both, of a joint configuration) has told of the *same* digest at an index, which is the
//! leader's as well, the leader appends an entry that says so. Whoever applies that entry and has had another state at its
//! index fences itself: it halts. A leader that finds a majority agreed on another state than its own halts at once, and
//! appends nothing.
//!
//! So a majority decides, and never the leader alone: one that is wrong stops nobody but itself. Where no majority agrees (one
//! against one of two voters, say) nobody can tell who is right: nothing is decided, nobody is fenced, and the leader says
//! that they differ.
//!
//! A state that came in a peer's snapshot is that peer's, right or wrong. Did both count, a wrong leader and one that lagged
//! and was sent its snapshot would be a majority of three, and fence the third, which is right. So whoever restores a
//! peer's snapshot says so with its digests, and is no part of a majority, until it applies an entry that agrees with a
//! digest of its own: others vouch for its state then. Where too many are in that position for a majority of the rest, say
//! in a cluster that has grown from one server, an entry is appended once *all* voters have told of the same digest: that
//! fences none of them, whatever it is worth, and makes each count again.
//!
//! What a server restores as it starts was its own before, and counts as that did. Nothing on its disk says that it was a
//! peer's: one that is sent a wrong snapshot, and starts again before the next comparison, counts for two all the same.
//!
//! Invariants: an entry holds the digest that all voters had, or a majority whose states have not one origin; at most a
//! minority of them is fenced by it. A digest that is lost on its way, or that comes to a leader which is none any more, costs
//! one comparison and nothing else.

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

/// A server's state after an entry, as it tells its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// The state.
    pub digest: StateDigest,
    /// It is no peer's, restored from a snapshot of that, or others have agreed with it since.
    pub is_independent: bool,
}

/// What a leader has been told, itself included.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateDigests {
    /// The first that each has told, of the newest few indices.
    told: BTreeMap<LogIndex, Vec<(NodeId, StateReport)>>,
    /// The last index that an entry of this leader is about.
    decided: LogIndex,
}

impl StateDigests {
    /// So many indices are remembered: followers that lag further are compared at a later one.
    const KEPT: usize = 8;

    /// Whether that is news.
    fn note(&mut self, id: NodeId, report: &StateReport) -> bool {
        let index = report.digest.index;
        let told = self.told.entry(index).or_default();
        let is_news = !told.iter().any(|(known, _)| *known == id);
        if is_news {
            told.push((id, *report));
        }
        if self.told.len() > Self::KEPT {
            self.told.pop_first();
        }
        is_news && self.told.contains_key(&index)
    }

    fn at(&self, index: LogIndex) -> &[(NodeId, StateReport)] {
        self.told.get(&index).map_or(&[], Vec::as_slice)
    }

    fn of(&self, index: LogIndex, id: NodeId) -> Option<&StateReport> {
        self.at(index).iter().find(|(known, _)| *known == id).map(|(_, report)| report)
    }

    fn state_of(&self, index: LogIndex, id: NodeId) -> Option<Digest> {
        self.of(index, id).map(|report| report.digest.state)
    }
}

impl<S: Storage> Node<S> {
    /// This server has applied so much, and has this state.
    pub(crate) fn on_state_digested(&mut self, report: StateReport, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let (id, StateDigest { index, state }) = (self.config.id, report.digest);
        match &mut self.role {
            Role::Leader(leader) => {
                leader.state_digests.note(id, &report);
                let others = leader.state_digests.at(index).iter();
                let differ = others.filter(|(_, other)| other.digest.state != state);
                actions.extend(differ.map(|(peer, _)| Action::StateDiffers { peer: *peer, index }));
                self.decide_state(index, actions)
            }
            Role::Follower { leader: Some(leader) } => {
                let leader = *leader;
                self.send(leader, Body::StateDigest(Box::new(report)), actions);
                Ok(())
            }
            Role::Follower { leader: None } | Role::PreCandidate { .. } | Role::Candidate { .. } => Ok(()),
        }
    }

    /// A follower has applied so much, and has this state.
    pub(crate) fn on_state_digest(
        &mut self,
        from: NodeId,
        report: &StateReport,
        actions: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let StateDigest { index, state } = report.digest;
        let (id, commit_index) = (self.config.id, self.log.commit_index());
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        // A new leader may know less to be committed than its followers: it is not compared there, and holds no more than that.
        let may_be_so = index <= commit_index && leader.counted(from).is_some();
        if !may_be_so || !leader.state_digests.note(from, report) {
            return Ok(());
        }
        if leader.state_digests.state_of(index, id).is_some_and(|own| own != state) {
            actions.push(Action::StateDiffers { peer: from, index });
        }
        self.decide_state(index, actions)
    }

    /// Appends what a majority of states of their own agrees on, or every voter, once, where this leader does too. None while
    /// leadership is being handed over (fault E13).
    fn decide_state(&mut self, index: LogIndex, actions: &mut Vec<Action>) -> Result<(), Fault> {
        let id = self.config.id;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let digests = &leader.state_digests;
        let Some(own) = digests.state_of(index, id).filter(|_| index > digests.decided) else { return Ok(()) };
        let counts = |voter| voter == id || leader.counted(voter).is_some();
        let agrees = |voter, state| {
            let told = digests.of(index, voter).filter(|told| told.digest.state == state && counts(voter));
            told.map(|told| told.is_independent)
        };
        let members = self.configurations.current();
        let has_majority = |state| members.is_quorum(|voter| agrees(voter, state) == Some(true));
        let mut voters = members.voters().iter().chain(members.voters_outgoing());
        let is_decided = has_majority(own) || voters.all(|voter| agrees(*voter, own).is_some());
        let is_other = |told: &StateReport| told.digest.state != own && has_majority(told.digest.state);
        let is_alone = digests.at(index).iter().any(|(_, told)| is_other(told));
        if is_alone && !bug!(StateDigestIgnored) {
            return Err(Fault::StateDiverged { index });
        }
        if is_decided && leader.transfer.is_none() {
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

    fn report(index: u64, state: u8) -> StateReport {
        StateReport { digest: digest(index, state), is_independent: true }
    }

    #[test]
    fn n5_the_first_word_of_each_counts_and_the_newest_few_indices_are_kept() {
        let mut told = StateDigests::default();
        assert!(told.note(NodeId(2), &report(8, 1)));
        assert!(!told.note(NodeId(2), &report(8, 2)));
        assert_eq!(told.state_of(LogIndex(8), NodeId(2)), Some(Digest([1; 32])));
        for index in 9..=16 {
            assert!(told.note(NodeId(2), &report(index, 1)));
        }
        assert_eq!((told.told.len(), told.state_of(LogIndex(8), NodeId(2))), (8, None));
        assert!(!told.note(NodeId(3), &report(8, 1)), "too old");
        assert_eq!(told.told.len(), 8);
    }
}
