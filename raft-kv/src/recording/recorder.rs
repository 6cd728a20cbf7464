//! The recorder: a storage around another, that sees all a node reads and, by the two hooks of
//! [`Storage`](raft_core::Storage), each event and its actions.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use raft_core::{
    Action, Bytes, Config, Configuration, Digest, Entry, Event, HardState, Incarnation, LogIndex, Payload,
    SnapshotMeta, Storage, StorageError, Term, Write, WriteId,
};

use super::format::{START, STEPS, fingerprint};
use super::sink::{self, Sink};
use super::{Answer, Ending, Question, Start};
use crate::block::link;
use crate::codec::{ENCODED_BYTES_MAX, encode_compact_into};

/// A storage that records the node over it, or only hands through: one branch a call, where it is
/// [`off`](Self::off).
///
/// The node must be made with it as it is here, and with the same [`Config`]: the first read is the node's own.
pub struct Recorder<S> {
    inner: S,
    tape: Option<Box<Tape>>,
}

/// Why recording cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be created.
    #[error("cannot record in {directory}: {what}")]
    Io {
        /// Where.
        directory: PathBuf,
        /// The system's words.
        what: String,
    },
    /// A replay computes digests as [`link`](crate::link) does, or has none.
    #[error("cannot record: the storage links its entries in a way of its own")]
    OtherLink,
}

struct Tape {
    path: PathBuf,
    /// Not written yet: what the node reads to start belongs to it.
    start: Option<Start>,
    started: Instant,
    /// What was read in this step; `None` between steps, when others read.
    answers: RefCell<Option<BTreeMap<Question, Answer>>>,
    sink: Sink,
    /// The body of the frame that gathers; empty where none does.
    body: Vec<u8>,
    /// Where in it the step under way begins.
    step_at: usize,
    is_tick: bool,
    scratch: Vec<u8>,
}

impl<S: Storage> Recorder<S> {
    /// Records into a new file `node-<id>-<n>.rec` of `directory`, of at most about `max_bytes`. `complaint` is told,
    /// on another thread, if the recording ends before the server does; the server goes on without it.
    ///
    /// # Errors
    /// The file cannot be created, or a replay could not link as `inner` does.
    pub fn start(
        inner: S,
        config: &Config,
        directory: &Path,
        max_bytes: u64,
        complaint: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, RecordError> {
        let zero = Digest([0; 32]);
        let probe = Entry { index: LogIndex(1), term: Term(1), payload: Payload::Noop };
        let is_chain = match inner.link(&zero, &probe) {
            None => false,
            Some(digest) if digest == link(&zero, &probe) => true,
            Some(_) => return Err(RecordError::OtherLink),
        };
        let failed = |error: std::io::Error| RecordError::Io { directory: directory.into(), what: error.to_string() };
        let (path, file) = sink::create(directory, config.id).map_err(failed)?;
        let sink = Sink::new(file, max_bytes, Box::new(complaint)).map_err(failed)?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start =
            Start { config: config.clone(), unix_millis: millis(since_1970), is_chain, answers: BTreeMap::new() };
        let tape = Tape {
            path,
            start: Some(start),
            started: Instant::now(),
            answers: RefCell::new(Some(BTreeMap::new())),
            sink,
            body: Vec::new(),
            step_at: 0,
            is_tick: false,
            scratch: Vec::new(),
        };
        Ok(Self { inner, tape: Some(Box::new(tape)) })
    }
}

impl<S> Recorder<S> {
    /// Records nothing.
    pub const fn off(inner: S) -> Self {
        Self { inner, tape: None }
    }

    /// The file, while it is recorded into.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.tape.as_ref().map(|tape| tape.path.as_path())
    }

    /// The storage.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The storage, for its own care.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Ends the recording and gives the storage back.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn note<T: Clone>(
        &self,
        question: Question,
        result: Result<T, StorageError>,
        answer: impl FnOnce(T) -> Answer,
    ) -> Result<T, StorageError> {
        if let Some(tape) = &self.tape {
            tape.note(question, || result.clone().map_or_else(Answer::Error, answer));
        }
        result
    }
}

impl<S: Storage> Storage for Recorder<S> {
    fn hard_state(&self) -> Result<HardState, StorageError> {
        self.note(Question::HardState, self.inner.hard_state(), Answer::HardState)
    }

    fn incarnation(&self) -> Incarnation {
        let incarnation = self.inner.incarnation();
        if let Some(tape) = &self.tape {
            tape.note(Question::Incarnation, || Answer::Incarnation(incarnation));
        }
        incarnation
    }

    fn snapshot_meta(&self) -> Result<SnapshotMeta, StorageError> {
        self.note(Question::SnapshotMeta, self.inner.snapshot_meta(), Answer::SnapshotMeta)
    }

    fn first_index(&self) -> LogIndex {
        let first = self.inner.first_index();
        if let Some(tape) = &self.tape {
            tape.note(Question::FirstIndex, || Answer::FirstIndex(first));
        }
        first
    }

    fn last_index(&self) -> LogIndex {
        let last = self.inner.last_index();
        if let Some(tape) = &self.tape {
            tape.note(Question::LastIndex, || Answer::LastIndex(last));
        }
        last
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        let question = Question::SnapshotChunk(index, offset, u64::try_from(max_bytes).unwrap_or(u64::MAX));
        self.note(question, self.inner.snapshot_chunk(index, offset, max_bytes), Answer::SnapshotChunk)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.note(Question::Term(index), self.inner.term(index), Answer::Term)
    }

    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        self.note(Question::Digest(index), self.inner.digest(index), Answer::Digest)
    }

    fn entries(&self, first: LogIndex, last: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let question = Question::Entries(first, last, u64::try_from(max_bytes).unwrap_or(u64::MAX));
        self.note(question, self.inner.entries(first, last, max_bytes), Answer::Entries)
    }

    /// Asked as one question: the whole log, which `inner` may read to answer it, is not recorded.
    fn configurations(&self) -> Result<Vec<(LogIndex, Configuration)>, StorageError> {
        self.note(Question::Configurations, self.inner.configurations(), Answer::Configurations)
    }

    fn link(&self, prev: &Digest, entry: &Entry) -> Option<Digest> {
        self.inner.link(prev, entry)
    }

    fn step_begins(&mut self, event: &Event) {
        self.inner.step_begins(event);
        if let Some(tape) = &mut self.tape {
            tape.begin(event);
        }
    }

    fn step_ends(&mut self, actions: &[Action]) {
        self.inner.step_ends(actions);
        if self.tape.as_mut().is_some_and(|tape| !tape.end(actions)) {
            self.tape = None;
        }
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        self.inner.write(write)
    }

    fn persisted(&mut self) -> Result<WriteId, StorageError> {
        self.inner.persisted()
    }

    fn has_room(&self) -> bool {
        self.inner.has_room()
    }

    fn has_room_for_snapshot(&self, bytes: u64) -> bool {
        self.inner.has_room_for_snapshot(bytes)
    }

    fn seal(&mut self) {
        self.inner.seal();
    }
}

impl Tape {
    fn note(&self, question: Question, answer: impl FnOnce() -> Answer) {
        if let Ok(mut answers) = self.answers.try_borrow_mut()
            && let Some(answers) = answers.as_mut()
        {
            answers.entry(question).or_insert_with(answer);
        }
    }

    fn begin(&mut self, event: &Event) {
        if let Some(mut start) = self.start.take() {
            start.answers = self.answers.take().unwrap_or_default();
            let mut body = vec![START];
            encode_compact_into(&start, &mut body);
            // A sink that takes nothing says so again at the end of this step.
            self.sink.push(body);
        }
        if self.body.is_empty() {
            self.body.push(STEPS);
            encode_compact_into(&millis(self.started.elapsed()), &mut self.body);
        }
        self.step_at = self.body.len();
        self.is_tick = *event == Event::Tick;
        encode_compact_into(event, &mut self.body);
        self.answers.replace(Some(BTreeMap::new()));
    }

    /// `false` where nothing is recorded any more.
    fn end(&mut self, actions: &[Action]) -> bool {
        let answers = self.answers.take().unwrap_or_default();
        let fingerprint = fingerprint(actions, &mut self.scratch);
        encode_compact_into(&(answers, fingerprint), &mut self.body);
        if self.body.len().saturating_sub(self.step_at) > ENCODED_BYTES_MAX {
            self.body.truncate(self.step_at);
            self.flush();
            self.sink.end(Ending::TooLong);
            return false;
        }
        let is_due = self.is_tick || self.body.len() >= FRAME_BYTES;
        !is_due || self.flush()
    }

    fn flush(&mut self) -> bool {
        self.body.is_empty() || self.sink.push(std::mem::take(&mut self.body))
    }
}

/// What was gathered is written; the sink waits for its thread.
impl Drop for Tape {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A frame that has gathered so much is not kept for the next tick.
const FRAME_BYTES: usize = 32 << 10;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
