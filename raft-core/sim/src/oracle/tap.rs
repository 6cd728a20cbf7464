//! What one server has done: noted by its storage and its machine as it happens, and held at once against what was
//! durable at that moment.

use std::collections::VecDeque;
use std::rc::Rc;

use raft_core::{
    Action, AppendEntriesResponse, Body, Configuration, Digest, Entry, HardState, LogIndex, Message, NodeId, Payload,
    SnapshotMeta, Storage, StorageError, Term, Write, WriteId, WriteOp,
};

use super::shadow::{Mark, Op, State};
use super::states::{Decided, OwnState};
use super::{Applied, hash};
use crate::report::Failure;

/// What one server has done.
///
/// Invariants: `live` is `durable` after all of `pending`; `configurations` are those of `live`, never none once the server
/// has started, ascending.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) server: NodeId,
    pub(super) live: State,
    pub(super) durable: State,
    pending: VecDeque<(WriteId, Op)>,
    pub(super) configurations: VecDeque<(LogIndex, Rc<Configuration>)>,
    receiving: Option<Box<SnapshotMeta>>,
    /// What was known to be committed here when last looked at.
    pub(super) commit: LogIndex,
    /// The cost of the largest append of this life, in bytes.
    pub(super) largest_append: usize,
    pub(super) news: News,
    pub(super) applied: Vec<Applied>,
    /// The index whose commands are being applied, and a hash of them and their replies.
    applying: Option<(LogIndex, u64)>,
    pub(super) failure: Option<Failure>,
    pub(super) state: OwnState,
    /// There was no room for commands when its last input was through.
    pub(super) lacked_room: bool,
}

/// What has happened since it was last looked at.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Whether anything has.
    pub(super) any: bool,
    /// The lowest entry appended.
    pub(super) appended: Option<LogIndex>,
    /// The lowest entry that was removed as another took its place.
    pub(super) removed: Option<LogIndex>,
    /// Votes that have become durable.
    pub(super) votes: Vec<(Term, NodeId)>,
    /// Snapshots that were installed.
    pub(super) snapshots: Vec<(LogIndex, Mark, Option<Digest>)>,
    /// Entries whose commands were applied, with a hash of these and of what they gave.
    pub(super) executed: Vec<(LogIndex, u64)>,
    /// States before the first command of the so-manieth [`STRIDE`] entries.
    pub(super) states: Vec<(u64, Digest)>,
    /// Entries appended that say what state a majority had.
    pub(super) decided: Vec<Decided>,
}

/// A machine's state is hashed once in so many entries.
pub(super) const STRIDE: u64 = 64;

impl News {
    /// Nothing, with the room that there is.
    pub(super) fn clear(&mut self) {
        (self.any, self.appended, self.removed) = (false, None, None);
        self.votes.clear();
        self.snapshots.clear();
        self.executed.clear();
        self.states.clear();
        self.decided.clear();
    }
}

impl Tap {
    pub(super) fn new(server: NodeId) -> Self {
        Self {
            server,
            live: State::default(),
            durable: State::default(),
            pending: VecDeque::new(),
            configurations: VecDeque::new(),
            receiving: None,
            commit: LogIndex(0),
            largest_append: 0,
            news: News::default(),
            applied: Vec::new(),
            applying: None,
            failure: None,
            state: OwnState::default(),
            lacked_room: false,
        }
    }

    /// Only the first counts: what follows may follow from it.
    fn fail(&mut self, rule: &'static str, what: String) {
        self.failure.get_or_insert_with(|| Failure::new(rule, what));
    }
}

// Lives.
impl Tap {
    /// A life begins over what the storage holds: a state that the writes of the life before went through, no earlier than
    /// what was durable. `is_known` is false for a disk that was never seen.
    pub(super) fn start(&mut self, storage: &impl Storage, is_known: bool) -> Result<(), Failure> {
        let found = self.reconcile(storage, is_known).map_err(|error| {
            let what = format!("server {} has started, and its storage cannot be read: {error}", self.server);
            Failure::new("durable state", what)
        })?;
        if let Some(lost) = found {
            return Err(lost);
        }
        self.pending.clear();
        self.receiving = None;
        self.live = self.durable.clone();
        self.commit = self.live.log.snapshot;
        self.news = News { any: true, appended: Some(self.live.log.base().next()), ..News::default() };
        self.news.votes.extend(vote(&self.live.hard_state));
        (self.applying, self.failure, self.state) = (None, None, OwnState::default());
        self.applied.clear();
        Ok(())
    }

    fn reconcile(&mut self, storage: &impl Storage, is_known: bool) -> Result<Option<Failure>, StorageError> {
        let meta = storage.snapshot_meta()?;
        let held = storage.configurations()?.into_iter().map(|(index, held)| (index, Rc::new(held)));
        self.configurations =
            std::iter::once((meta.last_included_index, Rc::new(meta.configuration))).chain(held).collect();
        if !is_known {
            self.durable = State::read(storage)?;
            return Ok(None);
        }
        let (before, after) = (self.durable.hard_state, storage.hard_state()?);
        let is_other_vote = before.voted_for.is_some() && before.voted_for != after.voted_for;
        if after.current_term < before.current_term || (after.current_term == before.current_term && is_other_vote) {
            let what = format!("server {} starts with {after:?}, and {before:?} was durable", self.server);
            return Ok(Some(Failure::new("durable term and vote", what)));
        }
        let durable = self.durable.to_string();
        while !self.durable.is_held_by(storage)? {
            let Some((_, op)) = self.pending.pop_front() else {
                let found = State::read(storage)?;
                return Ok(Some(self.lost(&durable, &found)));
            };
            self.durable.apply(&op);
        }
        Ok(None)
    }

    fn lost(&self, durable: &str, found: &State) -> Failure {
        let what = format!(
            "server {} had {durable} on its disk for certain, and at most {}; it starts with {found}",
            self.server, self.durable
        );
        Failure::new("durable state", what)
    }
}

// What its storage does.
impl Tap {
    /// A write begins. What lacks room for commands since the last input takes none (fault D6).
    pub(super) fn begins(&mut self, write: &Write, has_room: bool) {
        let op = match &write.op {
            WriteOp::HardState(hard_state) => self.writes_hard_state(*hard_state),
            WriteOp::Truncate(from) => self.truncates(*from),
            WriteOp::SnapshotChunk(chunk) => {
                if chunk.offset == 0 {
                    self.receiving = Some(Box::new(chunk.meta.clone()));
                }
                Op::Chunk
            }
            WriteOp::GiveUpSnapshot => {
                self.receiving = None;
                Op::Chunk
            }
            WriteOp::InstallSnapshot { index, keep_from } => self.installs(*index, *keep_from),
            WriteOp::Append { entries, digests } => {
                let is_command = |entry: &Entry| matches!(entry.payload, Payload::Command(_));
                if self.lacked_room && !has_room && entries.iter().any(is_command) {
                    self.fail("no commands without room", format!("server {} appends commands", self.server));
                }
                self.appends(entries);
                Op::Append(entries.clone(), digests.clone())
            }
        };
        self.live.apply(&op);
        self.pending.push_back((write.id, op));
        self.news.any = true;
    }

    fn writes_hard_state(&mut self, next: HardState) -> Op {
        let before = self.live.hard_state;
        let is_other_vote = before.voted_for.is_some() && before.voted_for != next.voted_for;
        if next.current_term < before.current_term || (next.current_term == before.current_term && is_other_vote) {
            let what = format!("server {} writes {next:?} over {before:?}", self.server);
            self.fail("term and vote", what);
        }
        Op::HardState(next)
    }

    fn truncates(&mut self, from: LogIndex) -> Op {
        if from <= self.commit {
            let what =
                format!("server {} removes entries from {from} on and knew {} committed", self.server, self.commit);
            self.fail("no truncation of what is committed", what);
        }
        self.removes(from);
        while self.configurations.len() > 1 && self.configurations.back().is_some_and(|(index, _)| *index >= from) {
            self.configurations.pop_back();
        }
        Op::Truncate(from)
    }

    fn removes(&mut self, from: LogIndex) {
        self.news.removed = Some(self.news.removed.map_or(from, |lowest| lowest.min(from)));
    }

    fn installs(&mut self, index: LogIndex, keep_from: Option<LogIndex>) -> Op {
        let received = self.receiving.take().filter(|meta| meta.last_included_index == index);
        let Some(meta) = received else {
            self.fail("snapshots", format!("server {} installs a snapshot of {index} that it has not", self.server));
            return Op::Chunk;
        };
        let mark = Mark::of(&meta);
        if keep_from.is_none() {
            self.removes(index.next().min(self.live.log.base().next()));
            self.configurations.clear();
            self.configurations.push_back((index, Rc::new(meta.configuration)));
        } else if !self.live.log.get(index).is_some_and(|held| held.agrees(mark)) {
            let what = format!(
                "server {} keeps its log beside a snapshot of {index}, {mark}, that it does not hold",
                self.server
            );
            self.fail("snapshots", what);
        }
        self.news.snapshots.push((index, mark, meta.state));
        Op::Install { index, mark, keep_from }
    }

    fn appends(&mut self, entries: &[Entry]) {
        let last = self.live.log.last();
        let Some(first) = entries.first() else { return };
        if first.index != last.next() {
            let what = format!("server {} appends entry {} to a log that ends at {last}", self.server, first.index);
            self.fail("appends", what);
        }
        self.news.appended = Some(self.news.appended.map_or(first.index, |lowest| lowest.min(first.index)));
        let mut bytes = 0_usize;
        for entry in entries {
            bytes = bytes.saturating_add(entry.cost());
            self.news.decided.extend(Decided::by(entry));
            if let Payload::Configuration(held) = &entry.payload {
                self.appends_configuration(entry.index, held);
            }
        }
        self.largest_append = self.largest_append.max(bytes);
    }

    fn appends_configuration(&mut self, index: LogIndex, bytes: &[u8]) {
        let Some(next) = Configuration::from_bytes(bytes) else {
            self.fail("configurations", format!("server {} appends at {index} what is no configuration", self.server));
            return;
        };
        if let Some((at, before)) = self.configurations.back()
            && let Err(rule) = follows(before, &next, at.0 == 0)
        {
            let what = format!("server {}: {before} at {at}, and at {index} {next}: {rule}", self.server);
            self.fail("configurations", what);
        }
        self.configurations.push_back((index, Rc::new(next)));
    }

    /// The storage says that this is durable.
    pub(super) fn persisted(&mut self, write: WriteId) {
        while let Some((_, op)) = self.pending.pop_front_if(|(id, _)| *id <= write) {
            self.durable.apply(&op);
            if let Op::HardState(hard_state) = &op {
                self.news.votes.extend(vote(hard_state));
            }
            self.news.any = true;
        }
    }

    /// What is committed is not removed: configurations before the newest such are not needed any more.
    pub(super) fn forget_configurations(&mut self) {
        while self.configurations.get(1).is_some_and(|(index, _)| *index <= self.commit) {
            self.configurations.pop_front();
        }
    }
}

// What its node wants done: nothing that is not durable is revealed.
impl Tap {
    /// A step has given these.
    pub(super) fn gave(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Send(message) => self.sends(message),
                Action::Apply { last, .. } => {
                    if let Err(what) = self.is_durable(*last) {
                        self.fail("applied is durable", format!("server {} applies {last}: {what}", self.server));
                    }
                }
                _ => {}
            }
        }
    }

    /// A message leaves.
    pub(super) fn sends(&mut self, message: &Message) {
        let Message { to, term, body, .. } = message;
        let HardState { current_term, voted_for } = self.durable.hard_state;
        if current_term < *term {
            let what = format!("server {} speaks to {to} in term {term}, and {current_term} is durable", self.server);
            self.fail("nothing unflushed is revealed", what);
        }
        let promised = match body {
            Body::RequestVoteResponse(_, response) if response.vote_granted => Some(*to),
            Body::RequestVote(_) => Some(self.server),
            Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }) => {
                if let Err(what) = self.is_durable(*match_index) {
                    let what = format!("server {} accepts {match_index} from {to} in term {term}: {what}", self.server);
                    self.fail("acknowledged is durable", what);
                }
                None
            }
            _ => None,
        };
        if promised.is_some() && current_term == *term && voted_for != promised {
            let durable = voted_for.map_or_else(|| String::from("none"), |candidate| format!("one for {candidate}"));
            let what = format!("server {} tells {to} of a vote in term {term}, and {durable} is durable", self.server);
            self.fail("a vote is durable", what);
        }
    }

    /// Whether what this server's log has at `index` is on its disk.
    pub(super) fn is_durable(&self, index: LogIndex) -> Result<(), String> {
        let (durable, live) = (&self.durable.log, &self.live.log);
        if index > durable.last() {
            return Err(format!("only {} is durable", durable.last()));
        }
        match live.get(index).zip(durable.get(index)) {
            Some((live, durable)) if !live.agrees(durable) => Err(format!("{live} there, and {durable} is durable")),
            _ => Ok(()),
        }
    }
}

// What its machine does.
impl Tap {
    pub(super) fn applied(&mut self, applied: Applied) {
        let index = applied.position.index;
        let before = match self.applying {
            Some((at, sum)) if at == index => sum,
            _ => {
                self.executed();
                0
            }
        };
        let sum = hash(hash(before, &applied.command), &applied.reply);
        self.applying = Some((index, sum));
        self.applied.push(applied);
        self.news.any = true;
    }

    /// The commands of the last index have all been applied: whole entries are, in one input.
    pub(super) fn executed(&mut self) {
        self.news.executed.extend(self.applying.take());
    }
}

fn vote(hard_state: &HardState) -> Option<(Term, NodeId)> {
    hard_state.voted_for.map(|candidate| (hard_state.current_term, candidate))
}

/// Whether every quorum of the one shares a voter with every quorum of the other, by how they are made, and whoever was
/// known is known as the same. What is known of the members of the genesis may be a server's own.
fn follows(before: &Configuration, next: &Configuration, is_genesis: bool) -> Result<(), &'static str> {
    let shares = match (before.is_joint(), next.is_joint()) {
        (false, true) => before.voters() == next.voters_outgoing(),
        (false, false) | (true, false) => before.voters() == next.voters(),
        (true, true) => false,
    };
    let members = || next.voters().iter().chain(next.voters_outgoing()).chain(next.learners());
    let keeps = |id| before.incarnation(id).admits(next.incarnation(id));
    if !shares {
        Err("their quorums need not share a voter")
    } else if !is_genesis && !members().all(|id| keeps(*id)) {
        Err("a member is known as another disk")
    } else {
        Ok(())
    }
}
