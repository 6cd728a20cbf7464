//! Random lives of a log with snapshots, on segments so short that every few writes begin one, against a plain list.

use std::collections::BTreeMap;

use raft_core::SnapshotChunk;

use super::*;

/// What a log holds, plainly: the oracle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    hard_state: HardState,
    /// The block before the first.
    before: Point,
    blocks: Vec<(Entry, Digest)>,
    snapshot: SnapshotMeta,
    state: Vec<u8>,
}

impl Held {
    /// Reads everything that a log can be asked.
    pub(super) fn read(log: &Log) -> Self {
        let (first, last) = (log.first_index(), log.last_index());
        let point =
            |height| Point { height, term: log.term(height).unwrap(), hash: log.digest(height).unwrap().unwrap() };
        let blocks = log.entries(first, last, usize::MAX).unwrap();
        let mut prev = point(first.prev()).hash;
        let linked = blocks.into_iter().map(|entry| {
            prev = link(&prev, &entry);
            assert_eq!((point(entry.index).hash, point(entry.index).term), (prev, entry.term));
            (entry, prev)
        });
        let snapshot = log.snapshot_meta().unwrap();
        let index = snapshot.last_included_index;
        let state = if index.0 > 0 { log.snapshot_chunk(index, 0, usize::MAX).unwrap().to_vec() } else { Vec::new() };
        let held = Self {
            hard_state: log.hard_state().unwrap(),
            before: point(first.prev()),
            blocks: linked.collect(),
            snapshot,
            state,
        };
        assert_eq!(log.configurations().unwrap(), held.configurations());
        held
    }

    fn configurations(&self) -> Vec<(LogIndex, Configuration)> {
        let after = self.blocks.iter().filter(|(entry, _)| entry.index > self.snapshot.last_included_index);
        let read = |(entry, _): &(Entry, Digest)| match &entry.payload {
            Payload::Configuration(bytes) => Some((entry.index, Configuration::from_bytes(bytes).unwrap())),
            _ => None,
        };
        after.filter_map(read).collect()
    }
}

/// One step of a random life.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Terms above the last, and payload lengths; every seventh height is a membership block.
    Append(Vec<(u64, usize)>),
    /// This many from the end.
    Truncate(u64),
    HardState(u64, u32),
    /// A snapshot of so many blocks before the last, of so many bytes in chunks, installed with so many of the blocks
    /// before it kept; or one beyond the last block, with none.
    Snapshot {
        back: u64,
        len: usize,
        chunks: usize,
        tail: u64,
        beyond: bool,
    },
    /// A first chunk that nothing follows.
    GivenUp,
    /// This share of what is not durable becomes so, in 1/4.
    Sync(u64),
    /// The log asks what is durable.
    Poll,
    /// A crash that keeps this share of what is not durable, in 1/64, and of these the sectors of this mask.
    Crash(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![4 => 0_usize..40, 1 => 300_usize..1500];
    let snapshot = (0_u64..4, 0_usize..900, 1_usize..4, 0_u64..5, prop::bool::weighted(0.2));
    prop_oneof![
        6 => prop::collection::vec((0_u64..2, length), 1..4).prop_map(Step::Append),
        2 => (1_u64..5).prop_map(Step::Truncate),
        2 => (0_u64..99, 0_u32..4).prop_map(|(term, id)| Step::HardState(term, id)),
        2 => snapshot.prop_map(|(back, len, chunks, tail, beyond)| Step::Snapshot { back, len, chunks, tail, beyond }),
        1 => Just(Step::GivenUp),
        4 => (1_u64..5).prop_map(Step::Sync),
        3 => Just(Step::Poll),
        2 => (0_u64..65, prop_oneof![Just(u64::MAX), any::<u64>()]).prop_map(|(share, mask)| Step::Crash(share, mask)),
    ]
}

/// The writes of a step, made up from what the log holds.
pub(super) fn writes(log: &Log, step: &Step) -> Vec<WriteOp> {
    let (last, snapshot) = (log.last_index(), log.snapshot_meta().unwrap().last_included_index);
    match step {
        Step::Append(blocks) => {
            let mut term = log.term(last).unwrap().0.max(1);
            let entry = |((above, len), index): (&(u64, usize), u64)| {
                term += above;
                let bytes = Bytes::from(vec![(index * 31 + term) as u8; *len]);
                let members = || Configuration::new([NodeId(index as u32), NodeId(2)]).to_bytes().into();
                let payload = match *len {
                    _ if index % 7 == 0 => Payload::Configuration(members()),
                    0 => Payload::Noop,
                    _ => Payload::Command(bytes),
                };
                Entry { index: LogIndex(index), term: Term(term), payload }
            };
            let entries = blocks.iter().zip(last.0 + 1..).map(entry).collect();
            vec![WriteOp::Append { entries, digests: None }]
        }
        Step::Truncate(count) => {
            let from = LogIndex(last.0.saturating_sub(count - 1)).max(snapshot.next());
            if from <= last { vec![WriteOp::Truncate(from)] } else { Vec::new() }
        }
        Step::HardState(term, id) => vec![vote(*term, *id)],
        Step::Snapshot { back, len, chunks, tail, beyond } => {
            let index = if *beyond { LogIndex(last.0 + 3) } else { LogIndex(last.0.saturating_sub(*back)) };
            if index <= snapshot {
                return Vec::new();
            }
            let meta = describe(log, index);
            let size = len.div_ceil(*chunks).max(1);
            let state: Vec<u8> = (0..*len).map(|at| (at as u64 * 7 + index.0) as u8).collect();
            let parts: Vec<&[u8]> = if state.is_empty() { vec![&[]] } else { state.chunks(size).collect() };
            let chunk = |(number, part): (usize, &&[u8])| {
                let (offset, data) = ((number * size) as u64, Bytes::copy_from_slice(part));
                let done = number + 1 == parts.len();
                WriteOp::SnapshotChunk(SnapshotChunk { meta: meta.clone(), offset, data, done }.into())
            };
            let mut writes: Vec<WriteOp> = parts.iter().enumerate().map(chunk).collect();
            let kept = LogIndex((index.0 + 1).saturating_sub(*tail)).max(log.first_index());
            writes.push(WriteOp::InstallSnapshot { index, keep_from: (!beyond).then_some(kept) });
            writes
        }
        Step::GivenUp => {
            let meta = describe(log, last.next());
            let data = Bytes::from_static(b"given up");
            vec![WriteOp::SnapshotChunk(SnapshotChunk { meta, offset: 0, data, done: false }.into())]
        }
        Step::Sync(_) | Step::Poll | Step::Crash(..) => Vec::new(),
    }
}

fn describe(log: &Log, index: LogIndex) -> SnapshotMeta {
    let (term, digest) = match log.term(index) {
        Ok(term) => (term, log.digest(index).unwrap()),
        Err(_) => (log.term(log.last_index()).unwrap(), Some(Digest([index.0 as u8; 32]))),
    };
    SnapshotMeta {
        last_included_index: index,
        last_included_term: term,
        digest,
        configuration: Configuration::new([NodeId(index.0 as u32), NodeId(1)]),
        state: Some(Digest([3; 32])),
    }
}

/// Whether it holds what it should, or is a state in which no snapshot was installed where one was being received: what
/// was received makes no difference to what a log holds.
fn live(steps: Vec<Step>, options: LogOptions) -> Result<(), TestCaseError> {
    let mut log = founded(DISK, options);
    // What it holds after each write of this life; the first is what the life began with. Snapshots are read back once
    // they are durable, so the states of a life are taken from a copy on which everything is.
    let mut states = vec![Held::read(&log)];
    let mut decided = BTreeMap::new();
    for step in steps {
        let before = states.last().unwrap().clone();
        match step {
            Step::Sync(share) => {
                let durable = log.disk_mut().durable().unwrap();
                let to = durable + (log.disk().submitted() - durable) * share / 4;
                log.disk_mut().sync_to(to);
            }
            Step::Poll => {
                log.persisted().unwrap();
                log.read_archive();
            }
            Step::Crash(share, mask) => {
                let reported = log.persisted().unwrap().0 as usize;
                let kept = log.disk().unsynced() * share / 64;
                let crashed = log.disk().crash(kept, |_, sector| mask & (1 << (sector % 64)) != 0);
                log = Log::open(crashed, cluster(), servers(), options).unwrap();
                let found = Held::read(&log);
                prop_assert!(states[reported..].contains(&found), "{found:?} is none of {:?}", &states[reported..]);
                // And what it holds is durable.
                let again = log.disk().crash(0, |_, _| false);
                prop_assert_eq!(&Held::read(&Log::open(again, cluster(), servers(), options).unwrap()), &found);
                decided.retain(|height, _| *height <= found.snapshot.last_included_index);
                states = vec![found];
            }
            step => {
                for op in writes(&log, &step) {
                    write(&mut log, op).unwrap();
                    let mut disk = log.disk().clone();
                    disk.sync();
                    let whole = disk.crash(0, |_, _| true);
                    states.push(Held::read(&Log::open(whole, cluster(), servers(), options).unwrap()));
                }
            }
        }
        let last = states.last().unwrap();
        prop_assert_eq!((log.last_index(), log.first_index()), (last.before.height.max(last.last()), last.first()));
        prop_assert_eq!(log.hard_state().unwrap(), last.hard_state);
        prop_assert_eq!(log.configurations().unwrap(), last.configurations());
        let covered = last.snapshot.last_included_index;
        if covered <= before.last() {
            let blocks = before.blocks.iter().filter(|(entry, _)| entry.index <= covered);
            decided.extend(blocks.map(|(entry, hash)| (entry.index, *hash)));
        }
    }
    log.disk_mut().sync();
    log.persisted().unwrap();
    archive_is(&mut log, &decided)
}

/// What snapshots covered is found in the archive, up to where a snapshot took the place of blocks that never came.
fn archive_is(log: &mut Log, decided: &BTreeMap<LogIndex, Digest>) -> Result<(), TestCaseError> {
    while log.read_archive() {}
    let (first, mut is_whole) = (log.first_index(), true);
    for height in (1..first.0).map(LogIndex) {
        match log.hash_or_archived(height) {
            Ok(hash) => {
                prop_assert!(decided.get(&height).is_none_or(|decided| *decided == hash), "block {height}");
                if height < first.prev() {
                    let block = log.archived(height).unwrap();
                    prop_assert!(block.is_intact() && block.hash == hash && block.height == height);
                }
            }
            Err(StorageError::Compacted { .. }) => is_whole = false,
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
    let came = (1..first.0).all(|height| decided.contains_key(&LogIndex(height)));
    prop_assert!(is_whole || !came || !log.options.archive, "blocks that snapshots covered are gone");
    Ok(())
}

impl Held {
    pub(super) fn first(&self) -> LogIndex {
        self.before.height.next()
    }

    fn last(&self) -> LogIndex {
        self.blocks.last().map_or(self.before.height, |(entry, _)| entry.index)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A log holds what was written, and after a crash that tears what was not durable, some state since the last write
    /// that was reported; whatever of its segments were pruned.
    #[test]
    fn a_random_life_with_snapshots_survives_its_crashes(
        steps in prop::collection::vec(step(), 1..60), segment_bytes in 0_u64..4096, archive in any::<bool>(),
    ) {
        live(steps, LogOptions { segment_bytes, archive })?;
    }
}
