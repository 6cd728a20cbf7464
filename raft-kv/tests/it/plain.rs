//! What a log holds, plainly: made from its writes alone, to compare with what a log says after whatever became of it.

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, NodeId, Payload, SnapshotChunk, SnapshotMeta,
    Storage, StorageError, Term, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, Disk, Genesis, LogOptions, OpenError, link};

/// Every log of these tests is this disk.
const DISK: Incarnation = Incarnation(0x0123_4567_89ab_cdef);

fn genesis() -> Genesis {
    Genesis { cluster: ClusterId::from_name("plain"), configuration: Configuration::new([1, 2, 3].map(NodeId)) }
}

pub(crate) fn create<D: Disk>(disk: D, options: LogOptions) -> BlockLog<D> {
    let Genesis { cluster, configuration } = genesis();
    BlockLog::create(disk, cluster, configuration, DISK, options).unwrap()
}

/// Opens what is there; founds it anew where its founding was torn.
pub(crate) fn open<D: Disk>(disk: D, options: LogOptions) -> Result<BlockLog<D>, OpenError> {
    let Genesis { cluster, configuration } = genesis();
    BlockLog::open_or_create(disk, cluster, configuration, DISK, options)
}

/// What a log can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    hard_state: HardState,
    /// The block before the first.
    before: (LogIndex, Term, Digest),
    blocks: Vec<(Entry, Digest)>,
    snapshot: SnapshotMeta,
    state: Vec<u8>,
}

/// The same, with the snapshot that is being received: no log shows that to its next life.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) plain: Plain,
    received: Option<(SnapshotMeta, Vec<u8>)>,
}

/// A log is written to by these.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Terms above the last, and payload lengths; every seventh height is a membership block.
    Append(Vec<(u64, usize)>),
    /// This many blocks from the end, or as many as may go.
    Truncate(u64),
    HardState(u64, u32),
    /// Of the block so many before the last: so many bytes in so many chunks, installed with so many blocks kept.
    Snapshot {
        back: u64,
        len: usize,
        chunks: usize,
        tail: u64,
    },
    /// Of a block beyond the last: no block is kept.
    Beyond {
        len: usize,
        chunks: usize,
    },
    /// A first chunk, which nothing follows.
    GivenUp,
}

impl Plain {
    /// Of a log that was just founded.
    pub(crate) fn new() -> Self {
        let hash = genesis().block().hash;
        let snapshot = SnapshotMeta { digest: Some(hash), ..SnapshotMeta::genesis(genesis().configuration) };
        let before = (LogIndex(0), Term(0), hash);
        Self { hard_state: HardState::default(), before, blocks: Vec::new(), snapshot, state: Vec::new() }
    }

    /// Reads everything that a log can be asked, in more than one way.
    pub(crate) fn read(log: &BlockLog<impl Disk>) -> Result<Self, StorageError> {
        assert_eq!(log.incarnation(), DISK);
        let (first, last) = (log.first_index(), log.last_index());
        let point =
            |at| -> Result<_, StorageError> { Ok((at, log.term(at)?, log.digest(at)?.expect("a log that links"))) };
        let before = point(first.prev())?;
        let mut blocks: Vec<(Entry, Digest)> = Vec::new();
        for entry in log.entries(first, last, usize::MAX)? {
            let prev = blocks.last().map_or(before.2, |(_, hash)| *hash);
            let hash = link(&prev, &entry);
            assert_eq!((entry.index, entry.term, hash), point(entry.index)?, "one block, asked in two ways");
            blocks.push((entry, hash));
        }
        assert_eq!(last.0, before.0.0 + blocks.len() as u64);
        let snapshot = log.snapshot_meta()?;
        let index = snapshot.last_included_index;
        let state = if index.0 > 0 { log.snapshot_chunk(index, 0, usize::MAX)?.to_vec() } else { Vec::new() };
        let mut pieces = Vec::new();
        while pieces.len() < state.len() {
            pieces.extend_from_slice(&log.snapshot_chunk(index, pieces.len() as u64, 333)?);
        }
        assert_eq!(pieces, state, "one snapshot, read in two ways");
        let plain = Self { hard_state: log.hard_state()?, before, blocks, snapshot, state };
        assert_eq!(log.configurations()?, plain.configurations());
        Ok(plain)
    }

    pub(crate) fn last(&self) -> LogIndex {
        self.point().0
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().map(|(entry, _)| entry)
    }

    /// What the installed snapshot holds.
    pub(crate) fn state(&self) -> &[u8] {
        &self.state
    }

    /// The last block, or the one before the first where there is none.
    fn point(&self) -> (LogIndex, Term, Digest) {
        self.blocks.last().map_or(self.before, |(entry, hash)| (entry.index, entry.term, *hash))
    }

    fn point_at(&self, height: LogIndex) -> Option<(LogIndex, Term, Digest)> {
        let held = self.blocks.iter().find(|(entry, _)| entry.index == height);
        let before = Some(self.before).filter(|before| before.0 == height);
        held.map(|(entry, hash)| (entry.index, entry.term, *hash)).or(before)
    }

    fn configurations(&self) -> Vec<(LogIndex, Configuration)> {
        let after = self.blocks.iter().filter(|(entry, _)| entry.index > self.snapshot.last_included_index);
        let read = |(entry, _): &(Entry, Digest)| match &entry.payload {
            Payload::Configuration(bytes) => Some((entry.index, Configuration::from_bytes(bytes).unwrap())),
            _ => None,
        };
        after.filter_map(read).collect()
    }

    fn describe(&self, (index, term, digest): (LogIndex, Term, Digest)) -> SnapshotMeta {
        SnapshotMeta {
            last_included_index: index,
            last_included_term: term,
            digest: Some(digest),
            configuration: Configuration::new([NodeId(index.0 as u32), NodeId(1)]),
            state: Some(Digest([index.0 as u8; 32])),
        }
    }

    /// The writes of a step, which follow from what is held: none where it makes no sense.
    pub(crate) fn writes(&self, step: &Step) -> Vec<WriteOp> {
        let (last, snapshot) = (self.last(), self.snapshot.last_included_index);
        match *step {
            Step::Append(ref blocks) => vec![self.append(blocks)],
            Step::Truncate(count) => {
                let from = LogIndex((last.0 + 1).saturating_sub(count)).max(snapshot.next());
                if from <= last { vec![WriteOp::Truncate(from)] } else { Vec::new() }
            }
            Step::HardState(term, id) => {
                let voted_for = (id != 0).then_some(NodeId(id));
                vec![WriteOp::HardState(HardState { current_term: Term(term), voted_for })]
            }
            Step::Snapshot { back, len, chunks, tail } => {
                let index = LogIndex(last.0.saturating_sub(back));
                let Some(point) = self.point_at(index).filter(|_| index > snapshot) else { return Vec::new() };
                let kept = LogIndex((index.0 + 1).saturating_sub(tail)).max(self.before.0.next());
                received(&self.describe(point), len, chunks, Some(kept))
            }
            Step::Beyond { len, chunks } => {
                let index = LogIndex(last.0 + 3);
                let point = (index, self.point().1.next(), Digest([index.0 as u8; 32]));
                received(&self.describe(point), len, chunks, None)
            }
            Step::GivenUp => {
                let meta = self.describe((last.next(), self.point().1, Digest([9; 32])));
                let data = Bytes::from_static(b"given up");
                vec![WriteOp::SnapshotChunk(SnapshotChunk { meta, offset: 0, data, done: false }.into())]
            }
        }
    }

    fn append(&self, blocks: &[(u64, usize)]) -> WriteOp {
        let (last, Term(mut term), _) = self.point();
        let entry = |((above, len), index): (&(u64, usize), u64)| {
            term = (term + above).max(1);
            let bytes = Bytes::from(vec![(index * 31 + term) as u8; *len]);
            let payload = match *len {
                _ if index % 7 == 0 => {
                    Payload::Configuration(Configuration::new([NodeId(index as u32), NodeId(2)]).to_bytes().into())
                }
                0 => Payload::Noop,
                _ => Payload::Command(bytes),
            };
            Entry { index: LogIndex(index), term: Term(term), payload }
        };
        WriteOp::Append { entries: blocks.iter().zip(last.0 + 1..).map(entry).collect(), digests: None }
    }
}

/// A snapshot's state, as bytes that no other snapshot has.
fn received(meta: &SnapshotMeta, len: usize, chunks: usize, keep_from: Option<LogIndex>) -> Vec<WriteOp> {
    let index = meta.last_included_index;
    let state: Vec<u8> = (0..len).map(|at| (at as u64 * 7 + at as u64 / 256 + index.0) as u8).collect();
    let size = len.div_ceil(chunks).max(1);
    let parts: Vec<&[u8]> = if state.is_empty() { vec![&[]] } else { state.chunks(size).collect() };
    let chunk = |(number, part): (usize, &&[u8])| {
        let (offset, data) = ((number * size) as u64, Bytes::copy_from_slice(part));
        let done = number + 1 == parts.len();
        WriteOp::SnapshotChunk(SnapshotChunk { meta: meta.clone(), offset, data, done }.into())
    };
    let mut writes: Vec<WriteOp> = parts.iter().enumerate().map(chunk).collect();
    writes.push(WriteOp::InstallSnapshot { index, keep_from });
    writes
}

impl Writer {
    pub(crate) const fn of(plain: Plain) -> Self {
        Self { plain, received: None }
    }

    pub(crate) fn apply(&mut self, op: &WriteOp) {
        let plain = &mut self.plain;
        match op {
            WriteOp::HardState(hard_state) => plain.hard_state = *hard_state,
            WriteOp::Truncate(from) => plain.blocks.retain(|(entry, _)| entry.index < *from),
            WriteOp::Append { entries, .. } => {
                for entry in entries.iter() {
                    let hash = link(&plain.point().2, entry);
                    plain.blocks.push((entry.clone(), hash));
                }
            }
            WriteOp::SnapshotChunk(chunk) if chunk.offset == 0 => {
                self.received = Some((chunk.meta.clone(), chunk.data.to_vec()));
            }
            WriteOp::SnapshotChunk(chunk) => self.received.as_mut().unwrap().1.extend_from_slice(&chunk.data),
            WriteOp::GiveUpSnapshot => self.received = None,
            WriteOp::InstallSnapshot { keep_from, .. } => {
                let (meta, state) = self.received.take().unwrap();
                let anchor = (meta.last_included_index, meta.last_included_term, meta.digest.unwrap());
                plain.before = keep_from.map_or(anchor, |first| plain.point_at(first.prev()).unwrap());
                let first = plain.before.0;
                plain.blocks.retain(|(entry, _)| keep_from.is_some() && entry.index > first);
                (plain.snapshot, plain.state) = (meta, state);
            }
        }
    }
}
