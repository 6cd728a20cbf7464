//! What has happened in the whole run: what is the first of its kind is what all others are held against.

use std::collections::{BTreeMap, VecDeque};

use raft_core::{Digest, LogIndex, NodeId, Term};

use super::shadow::{Mark, same};
use super::states::Decided;
use crate::report::Failure;

/// What has happened in the whole run.
#[derive(Debug, Default)]
pub(super) struct History {
    /// `C`: the first commit seen at each index, from 1 on; `None` where a snapshot was all that was seen.
    committed: Vec<Option<Mark>>,
    /// The highest index that was first committed in each term.
    committed_in: BTreeMap<Term, LogIndex>,
    leaders: BTreeMap<Term, NodeId>,
    /// By server, which of its disks, and term.
    votes: BTreeMap<(NodeId, u32, Term), NodeId>,
    entries: BTreeMap<Term, Run>,
    /// The state before each stretch of entries, and who had it.
    states: BTreeMap<u64, (NodeId, Digest)>,
    /// The state that each snapshot names, and who had it.
    snapshots: BTreeMap<LogIndex, (NodeId, Digest)>,
    /// By the index and the term of the entry.
    decided: BTreeMap<(LogIndex, Term), Decided>,
    /// A hash of the commands of each entry and of what they gave, and who applied it.
    executed: Vec<Option<(NodeId, u64)>>,
}

/// The entries of one term, from `first` on; a leader appends them one after the other.
#[derive(Debug)]
struct Run {
    first: LogIndex,
    digests: VecDeque<Option<Digest>>,
}

impl History {
    /// The highest index known to be committed.
    pub(super) const fn last_committed(&self) -> LogIndex {
        LogIndex(self.committed.len() as u64)
    }

    /// What is committed at `index`, where that is known.
    pub(super) fn committed(&self, index: LogIndex) -> Option<Mark> {
        self.committed.get(place(index)?).copied().flatten()
    }

    /// Invariant 1.
    pub(super) fn leads(&mut self, server: NodeId, term: Term) -> Result<(), Failure> {
        let first = *self.leaders.entry(term).or_insert(server);
        let what = || format!("servers {first} and {server} lead in term {term}");
        check(first == server, "election safety", what)
    }

    /// Invariant 2.
    pub(super) fn votes(&mut self, server: NodeId, disk: u32, term: Term, candidate: NodeId) -> Result<(), Failure> {
        let first = *self.votes.entry((server, disk, term)).or_insert(candidate);
        let what = || format!("server {server} votes for {first} and for {candidate} in term {term}");
        check(first == candidate, "one vote a term", what)
    }

    /// For whom this disk has voted in this term, durably.
    pub(super) fn vote(&self, server: NodeId, disk: u32, term: Term) -> Option<NodeId> {
        self.votes.get(&(server, disk, term)).copied()
    }

    /// Invariant 5: a server has this entry.
    pub(super) fn has(&mut self, server: NodeId, index: LogIndex, mark: Mark) -> Result<(), Failure> {
        let run = self.entries.entry(mark.term).or_insert_with(|| Run { first: index, digests: VecDeque::new() });
        let Some(known) = run.at(index) else { return Ok(()) };
        if known.is_none() {
            *known = mark.digest;
        }
        let what = || {
            let known = Mark { digest: *known, ..mark };
            format!("server {server} has at {index} {mark}; there was {known}")
        };
        check(same(*known, mark.digest), "log matching", what)
    }

    /// Invariant 6: this server holds this entry for committed, in this term. Whether that is news.
    pub(super) fn commits(&mut self, server: NodeId, term: Term, index: LogIndex, mark: Mark) -> Result<bool, Failure> {
        if let Some(first) = self.committed(index) {
            let what = || format!("server {server} holds {mark} for committed at {index}; {first} is");
            return check(first.agrees(mark), "state machine safety", what).map(|()| false);
        }
        let Some(at) = place(index) else { return Ok(false) };
        if at >= self.committed.len() {
            self.committed.resize(at.saturating_add(1), None);
            self.committed_in.insert(term, index);
        }
        if let Some(slot) = self.committed.get_mut(at) {
            *slot = Some(mark);
        }
        Ok(true)
    }

    /// The highest index that was committed in a term before this one.
    pub(super) fn committed_before(&self, term: Term) -> LogIndex {
        self.committed_in.range(..term).map(|(_, index)| *index).max().unwrap_or_default()
    }

    /// Invariant 12, by the stretches of the log.
    pub(super) fn reaches(&mut self, server: NodeId, stretch: u64, state: Digest) -> Result<(), Failure> {
        let (other, first) = *self.states.entry(stretch).or_insert((server, state));
        let stride = super::tap::STRIDE;
        let what = || {
            let before = stretch.saturating_mul(stride);
            format!("before entry {before} server {server} has the state {state:.8}, and {other} had {first:.8}")
        };
        check(first == state, "equal states", what)
    }

    /// Invariant 12, by snapshots.
    pub(super) fn snapshot(&mut self, server: NodeId, index: LogIndex, state: Option<Digest>) -> Result<(), Failure> {
        let Some(state) = state else { return Ok(()) };
        let (other, first) = *self.snapshots.entry(index).or_insert((server, state));
        let what = || {
            format!("server {server}'s snapshot of {index} is of the state {state:.8}, and {other}'s is of {first:.8}")
        };
        check(first == state, "equal states", what)
    }

    /// A server has this entry.
    pub(super) fn decides(&mut self, decided: Decided) {
        self.decided.insert((decided.index, decided.term), decided);
    }

    /// Those that are committed, after `before` and up to `last`.
    pub(super) fn decided(&self, before: LogIndex, last: LogIndex) -> impl Iterator<Item = &Decided> {
        let after = self.decided.range((before.next(), Term(0))..).map(|(_, decided)| decided);
        let is_committed =
            |decided: &&Decided| self.committed(decided.index).is_some_and(|mark| mark.term == decided.term);
        after.take_while(move |decided| decided.index <= last).filter(is_committed)
    }

    /// Invariants 6 and 12: a server has applied this entry.
    pub(super) fn executes(&mut self, server: NodeId, index: LogIndex, sum: u64) -> Result<(), Failure> {
        let Some(at) = place(index) else { return Ok(()) };
        if at >= self.executed.len() {
            self.executed.resize(at.saturating_add(1), None);
        }
        let Some(slot) = self.executed.get_mut(at) else { return Ok(()) };
        let (other, first) = *slot.get_or_insert((server, sum));
        let what =
            || format!("entry {index} has other commands, or gave other replies, on server {server} than on {other}");
        check(first == sum, "equal applies", what)
    }
}

impl Run {
    /// What is known of the digest at `index`; `None` for one that is too far off to be of this term.
    fn at(&mut self, index: LogIndex) -> Option<&mut Option<Digest>> {
        while index < self.first {
            self.digests.push_front(None);
            self.first = self.first.prev();
        }
        let at = usize::try_from(index.0.saturating_sub(self.first.0)).ok()?;
        if at >= self.digests.len() {
            self.digests.resize(at.checked_add(1)?, None);
        }
        self.digests.get_mut(at)
    }
}

/// A failure of this rule where it does not hold.
pub(super) fn check(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new(rule, what())) }
}

fn place(index: LogIndex) -> Option<usize> {
    usize::try_from(index.0.checked_sub(1)?).ok()
}
