//! Steps a fresh node through a recording, and holds what it does to what was done.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use raft_core::{
    Action, Bytes, Configuration, Digest, Entry, Event, HardState, Incarnation, LogIndex, Node, SnapshotMeta,
    StartError, Storage, StorageError, Term, Write, WriteId,
};

use super::format::fingerprint;
use super::reader::{Recording, RecordingError, Tail};
use super::{Answer, Fingerprint, Question};
use crate::block::link;

/// A replay under way.
#[derive(Debug)]
pub struct Replay<R> {
    recording: Recording<R>,
    node: Node<RecordedStorage>,
    actions: Vec<Action>,
    scratch: Vec<u8>,
}

/// A step that was replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed<'a> {
    /// Its place, from 1.
    pub number: u64,
    /// Milliseconds since the start.
    pub millis: u64,
    /// What the node was told.
    pub event: Event,
    /// What it did now.
    pub actions: &'a [Action],
    /// Where that is not what it did then.
    pub difference: Option<Difference>,
}

/// A step that goes another way than it was recorded. Nothing after it means anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The actions then.
    pub recorded: Fingerprint,
    /// The actions now.
    pub replayed: Fingerprint,
    /// What the node asked its storage now and did not ask then.
    pub unanswered: Option<Question>,
}

/// A recording whose every step was replayed with equal actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many steps.
    pub steps: u64,
    /// How it ends.
    pub tail: Tail,
}

/// Why a recording was not replayed to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read, or not any further.
    #[error("{0}")]
    Recording(#[from] RecordingError),
    /// The node does not start from it.
    #[error("the recorded node does not start here: {0}")]
    Start(#[from] StartError),
    /// A step goes another way.
    #[error("step {step}: {difference}")]
    Differs {
        /// Which, from 1.
        step: u64,
        /// How.
        difference: Difference,
    },
}

/// Replays all of a recording.
///
/// # Errors
/// It cannot be read, or a step goes another way.
pub fn verify<R: Read>(recording: Recording<R>) -> Result<Verified, ReplayError> {
    let mut replay = Replay::new(recording)?;
    let mut steps = 0;
    while let Some(Replayed { number, difference, .. }) = replay.step()? {
        steps = number;
        if let Some(difference) = difference {
            return Err(ReplayError::Differs { step: number, difference });
        }
    }
    Ok(Verified { steps, tail: replay.recording.tail().cloned().unwrap_or(Tail::Killed) })
}

impl<R: Read> Replay<R> {
    /// A node as it started.
    ///
    /// # Errors
    /// The node does not start from what was recorded: another release's, most likely.
    pub fn new(recording: Recording<R>) -> Result<Self, ReplayError> {
        let start = recording.start();
        let storage =
            RecordedStorage { is_chain: start.is_chain, answers: start.answers.clone(), unanswered: Cell::new(None) };
        let node = Node::new(start.config.clone(), storage)?;
        Ok(Self { recording, node, actions: Vec::new(), scratch: Vec::new() })
    }

    /// Replays the next step; `None` at the end.
    ///
    /// # Errors
    /// The recording cannot be read any further.
    pub fn step(&mut self) -> Result<Option<Replayed<'_>>, RecordingError> {
        let Some(step) = self.recording.next_step()? else { return Ok(None) };
        let storage = self.node.storage_mut();
        storage.answers = step.answers;
        storage.unanswered.set(None);
        self.actions.clear();
        self.node.step_into(step.event.clone(), &mut self.actions);
        let (recorded, replayed) = (step.actions, fingerprint(&self.actions, &mut self.scratch));
        let unanswered = self.node.storage().unanswered.get();
        let differs = recorded != replayed || unanswered.is_some();
        let difference = differs.then_some(Difference { recorded, replayed, unanswered });
        let (number, millis, event) = (step.number, step.millis, step.event);
        Ok(Some(Replayed { number, millis, event, actions: &self.actions, difference }))
    }

    /// The node as it stands.
    pub const fn node(&self) -> &Node<RecordedStorage> {
        &self.node
    }

    /// What is replayed.
    pub const fn recording(&self) -> &Recording<R> {
        &self.recording
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recorded actions differ: recorded {}, replayed {}", self.recorded, self.replayed)?;
        match &self.unanswered {
            Some(question) => write!(f, "; the node asked for {question}, and did not when it was recorded"),
            None => Ok(()),
        }
    }
}

/// The storage of a replayed node: it answers what the recorded one answered in the same step.
#[derive(Clone, Debug)]
pub struct RecordedStorage {
    is_chain: bool,
    answers: BTreeMap<Question, Answer>,
    /// The last question of this step that has no answer.
    unanswered: Cell<Option<Question>>,
}

impl RecordedStorage {
    fn answer<'a, T>(
        &'a self,
        question: Question,
        take: impl FnOnce(&'a Answer) -> Option<T>,
    ) -> Result<T, StorageError> {
        match self.answers.get(&question) {
            Some(Answer::Error(error)) => Err(error.clone()),
            Some(answer) => take(answer).ok_or_else(|| self.miss(question)),
            None => Err(self.miss(question)),
        }
    }

    fn miss(&self, question: Question) -> StorageError {
        self.unanswered.set(Some(question));
        StorageError::Io { what: format!("the recording does not hold {question}") }
    }
}

impl Storage for RecordedStorage {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        self.answer(Question::HardState, |answer| match answer {
            Answer::HardState(hard_state) => Some(*hard_state),
            _ => None,
        })
    }

    fn incarnation(&self) -> Incarnation {
        let incarnation = self.answer(Question::Incarnation, |answer| match answer {
            Answer::Incarnation(incarnation) => Some(*incarnation),
            _ => None,
        });
        incarnation.unwrap_or_default()
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        self.answer(Question::SnapshotMeta, |answer| match answer {
            Answer::SnapshotMeta(meta) => Some(meta.clone()),
            _ => None,
        })
    }

    fn first_index(&self) -> LogIndex {
        let first = self.answer(Question::FirstIndex, |answer| match answer {
            Answer::FirstIndex(first) => Some(*first),
            _ => None,
        });
        first.unwrap_or_default()
    }

    fn last_index(&self) -> LogIndex {
        let last = self.answer(Question::LastIndex, |answer| match answer {
            Answer::LastIndex(last) => Some(*last),
            _ => None,
        });
        last.unwrap_or_default()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        let question = Question::SnapshotChunk(index, offset, u64::try_from(max_bytes).unwrap_or(u64::MAX));
        self.answer(question, |answer| match answer {
            Answer::SnapshotChunk(bytes) => Some(bytes.clone()),
            _ => None,
        })
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.answer(Question::Term(index), |answer| match answer {
            Answer::Term(term) => Some(*term),
            _ => None,
        })
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        self.answer(Question::Digest(index), |answer| match answer {
            Answer::Digest(digest) => Some(*digest),
            _ => None,
        })
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let question = Question::Entries(first, last, u64::try_from(max_bytes).unwrap_or(u64::MAX));
        self.answer(question, |answer| match answer {
            Answer::Entries(entries) => Some(entries.clone()),
            _ => None,
        })
    }

    fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        self.answer(Question::Configurations, |answer| match answer {
            Answer::Configurations(configurations) => Some(configurations.clone()),
            _ => None,
        })
    }

    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        self.is_chain.then(|| link(prev, entry))
    }

    /// What a replayed node writes is among its actions; nobody asks for it here.
    fn write(&mut self, _: Write) -> Result<(), StorageError> {
        Ok(())
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        Ok(WriteId(0))
    }
}
