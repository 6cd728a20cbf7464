use proptest::prelude::*;
use raft_core::{Entries, NodeId, Payload, WriteOp};

use std::sync::Arc;

use super::frame::{FRAME_HEADER_LEN, INCARNATION_AT, Point};
use super::*;
use crate::block::link;
use crate::disk::{DiskError, MemDisk};

mod files;
mod life;

type Log = BlockLog<MemDisk>;

const DISK: Incarnation = Incarnation(0x1122_3344_5566_7788);

fn cluster() -> ClusterId {
    ClusterId::from_name("test")
}

fn servers() -> Configuration {
    Configuration::new([1, 2, 3].map(NodeId))
}

/// One segment for everything.
const LONG: LogOptions = LogOptions { segment_bytes: 1 << 20, archive: false };

/// A few frames a segment.
const SHORT: LogOptions = LogOptions { segment_bytes: 600, archive: false };

const FIRST: &str = "segment-0000000000000001";

fn open(disk: MemDisk) -> Result<Log, OpenError> {
    Log::open(disk, cluster(), servers(), LONG)
}

fn open_or_create(disk: MemDisk, new: Incarnation) -> Result<Log, OpenError> {
    Log::open_or_create(disk, cluster(), servers(), new, LONG)
}

fn create() -> Log {
    founded(DISK, LONG)
}

fn founded(incarnation: Incarnation, options: LogOptions) -> Log {
    Log::create(MemDisk::new(), cluster(), servers(), incarnation, options).unwrap()
}

/// A disk with this one segment.
fn holding(bytes: &[u8]) -> MemDisk {
    MemDisk::from_files([(String::from(FIRST), bytes.to_vec())])
}

/// What was submitted to the first segment.
fn first(log: &Log) -> Vec<u8> {
    let mut disk = log.disk().clone();
    disk.sync();
    disk.bytes(FIRST).to_vec()
}

fn is_damaged<T>(opened: &Result<T, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Storage(StorageError::Damaged { .. })))
}

/// What a log holds, plainly: the oracle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Model {
    fn apply(&mut self, op: &WriteOp) {
        match op {
            WriteOp::HardState(hard_state) => self.hard_state = *hard_state,
            WriteOp::Truncate(from) => self.entries.truncate(from.0 as usize - 1),
            WriteOp::Append { entries, .. } => self.entries.extend_from_slice(entries),
            WriteOp::SnapshotChunk(_) | WriteOp::InstallSnapshot { .. } | WriteOp::GiveUpSnapshot => {
                panic!("this life has no snapshot")
            }
        }
    }

    /// Reads everything that a log can be asked; the chain is linked anew from the genesis.
    fn read(log: &Log) -> Self {
        let last = log.last_index();
        let entries = log.entries(LogIndex(1), last, usize::MAX).unwrap();
        let mut hash = log.snapshot_meta().unwrap().digest.unwrap();
        let blocks: Vec<_> = log.blocks(LogIndex(0)).map(Result::unwrap).collect();
        assert_eq!(blocks.len(), entries.len() + 1);
        assert_eq!(blocks[0].hash, hash);
        for (entry, block) in entries.iter().zip(&blocks[1..]) {
            assert!(block.is_intact());
            assert_eq!((block.height, block.term, block.prev_hash), (entry.index, entry.term, hash));
            hash = link(&hash, entry);
            assert_eq!(log.digest(entry.index).unwrap(), Some(hash));
            assert_eq!(log.term(entry.index).unwrap(), entry.term);
            assert_eq!(log.entries(entry.index, last, 1).unwrap(), std::slice::from_ref(entry));
        }
        assert_eq!(log.term(last.next()), Err(StorageError::OutOfRange { index: last.next(), last }));
        assert!(log.digest(last.next()).is_err() && log.entries(last, last.next(), 9).is_err());
        Self { hard_state: log.hard_state().unwrap(), entries }
    }
}

fn write(log: &mut Log, op: WriteOp) -> Result<WriteId, StorageError> {
    let id = log.last_write.next();
    log.write(Write { id, op }).map(|()| id)
}

/// An append of these (term, payload length) after the log's last, linked as a `Node` does it.
fn append_op(log: &Log, blocks: &[(u64, usize)]) -> WriteOp {
    let mut hash = log.digest(log.last_index()).unwrap().unwrap();
    let first = log.last_index().0 + 1;
    let entry = |(&(term, len), index): (&(u64, usize), u64)| {
        let bytes = Bytes::from(vec![(index * 31 + term) as u8; len]);
        let payload = if len == 0 { Payload::Noop } else { Payload::Command(bytes) };
        Entry { index: LogIndex(index), term: Term(term), payload }
    };
    let entries: Vec<_> = blocks.iter().zip(first..).map(entry).collect();
    let link = |entry| {
        hash = log.link(&hash, entry).unwrap();
        hash
    };
    let digests = Some(entries.iter().map(link).collect());
    WriteOp::Append { entries: entries.into(), digests }
}

fn vote(term: u64, id: u32) -> WriteOp {
    WriteOp::HardState(HardState { current_term: Term(term), voted_for: (id != 0).then_some(NodeId(id)) })
}

/// A log with a recorded life: after each write the model, and where its frame ends. Each write is durable before the
/// next is begun where `synced`; otherwise none after the genesis is.
struct Recorded {
    log: Log,
    states: Vec<(u64, Model)>,
    bytes: Vec<u8>,
}

fn record(synced: bool) -> Recorded {
    let mut log = create();
    let mut model = Model::default();
    let mut states = vec![(end(&log), model.clone())];
    let script: [&dyn Fn(&Log) -> WriteOp; 8] = [
        &|_| vote(1, 1),
        &|log| append_op(log, &[(1, 0), (1, 9)]),
        &|log| append_op(log, &[(1, 30)]),
        &|_| vote(2, 0),
        &|_| WriteOp::Truncate(LogIndex(2)),
        &|log| append_op(log, &[(2, 5), (2, 0), (2, 700)]),
        &|_| vote(3, 2),
        &|log| append_op(log, &[(3, 40)]),
    ];
    for op in script {
        let op = op(&log);
        model.apply(&op);
        write(&mut log, op).unwrap();
        states.push((end(&log), model.clone()));
        if synced {
            log.disk_mut().sync();
        }
    }
    let bytes = first(&log);
    Recorded { log, states, bytes }
}

/// Where the log ends in the file of its only segment.
fn end(log: &Log) -> u64 {
    log.segments.last().offset(log.segments.end())
}

impl Recorded {
    /// The model after the last write that ends at or before `len`.
    fn at(&self, len: usize) -> &Model {
        let holds = |(end, _): &&(u64, Model)| *end <= len as u64;
        &self.states.iter().rev().find(holds).expect("the genesis is durable").1
    }

    fn founding_len(&self) -> usize {
        self.states[0].0 as usize
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[test]
fn a_new_log_holds_its_genesis_alone() {
    let log = create();
    assert_eq!(Model::read(&log), Model::default());
    let meta = log.snapshot_meta().unwrap();
    assert_eq!((meta.last_included_index, meta.last_included_term), (LogIndex(0), Term(0)));
    assert_eq!((meta.digest, meta.configuration), (Some(log.genesis().block().hash), servers()));
    assert_eq!(log.digest(LogIndex(0)), Ok(meta.digest));
    assert_eq!(log.term(LogIndex(0)), Ok(Term(0)));
    let compacted = StorageError::Compacted { index: LogIndex(0), first: LogIndex(1) };
    assert_eq!(log.entries(LogIndex(0), LogIndex(0), 1), Err(compacted));
}

#[test]
fn n3_a_log_of_another_cluster_or_founding_is_refused_with_both_named() {
    let disk = create().into_disk();
    let error = Log::open_or_create(disk.clone(), ClusterId::from_name("other"), servers(), DISK, LONG).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::OtherGenesis { .. }) && text.starts_with("memory was created for"), "{text}");
    assert!(text.contains(&cluster().to_string()) && text.contains("with servers 1,2,3"), "{text}");
    let two = Configuration::new([1, 2].map(NodeId));
    assert!(matches!(Log::open(disk.clone(), cluster(), two, LONG), Err(OpenError::OtherGenesis { .. })));
    assert_eq!(open(disk).unwrap().last_index(), LogIndex(0));
}

#[test]
fn opening_nothing_and_creating_twice_are_refused() {
    assert_eq!(open(MemDisk::new()).unwrap_err(), OpenError::Missing { place: String::from("memory") });
    let error = Log::create(create().into_disk(), cluster(), servers(), DISK, LONG).unwrap_err();
    assert_eq!(error, OpenError::Exists { place: String::from("memory") });
}

#[test]
fn another_version_is_named() {
    let mut disk = create().into_disk();
    disk.corrupt(FIRST, |bytes| {
        bytes[8] = 9;
        let crc = crate::crc::crc32c(&bytes[..28]).to_le_bytes();
        bytes[28..32].copy_from_slice(&crc);
    });
    let error = open(disk).unwrap_err();
    assert_eq!(error, OpenError::Version { place: format!("memory/{FIRST}"), found: 9, known: 4 });
}

#[test]
fn writes_out_of_order_are_refused_and_change_nothing() {
    let Recorded { mut log, states, .. } = record(true);
    let before = log.disk().submitted();
    let good = append_op(&log, &[(3, 1)]);
    let WriteOp::Append { entries, digests } = good.clone() else { panic!("not an append") };
    let gap: Entries = entries.iter().map(|entry| Entry { index: entry.index.next(), ..entry.clone() }).collect();
    let mut wrong: Vec<WriteOp> = vec![
        WriteOp::Truncate(LogIndex(0)),
        WriteOp::Truncate(log.last_index().next()),
        WriteOp::Append { entries: gap, digests: None },
        append_op(&log, &[(2, 1)]),
        append_op(&log, &[(4, 1), (3, 1)]),
        append_op(&log, &[]),
        WriteOp::Append { entries: entries.clone(), digests: Some(Arc::new([])) },
    ];
    if cfg!(debug_assertions) {
        wrong.push(WriteOp::Append { entries: entries.clone(), digests: Some(Arc::new([Digest([1; 32])])) });
    }
    for op in wrong {
        assert!(matches!(write(&mut log, op), Err(StorageError::OutOfOrder { .. })));
    }
    let id = WriteId(log.last_write.0 + 2);
    assert!(matches!(log.write(Write { id, op: good.clone() }), Err(StorageError::OutOfOrder { .. })));
    assert_eq!(log.disk().submitted(), before);
    assert_eq!(Model::read(&log), states.last().unwrap().1);
    // Without digests the log makes them itself.
    write(&mut log, WriteOp::Append { entries, digests: None }).unwrap();
    assert_eq!(log.digest(log.last_index()).unwrap(), digests.map(|digests| digests[0]));
}

#[test]
fn reads_keep_to_their_bytes() {
    let mut log = create();
    let op = append_op(&log, &[(1, 10), (1, 10), (1, 10)]);
    write(&mut log, op).unwrap();
    for synced in [false, true] {
        let count = |max_bytes| log.entries(LogIndex(1), LogIndex(3), max_bytes).unwrap().len();
        // Each costs 34.
        assert_eq!([0, 34, 35, 68, 69, 1000].map(count), [1, 1, 2, 2, 3, 3], "synced: {synced}");
        assert_eq!(log.entries(LogIndex(3), LogIndex(2), 9), Ok(Vec::new()));
        log.disk_mut().sync();
        log.persisted().unwrap();
        assert!(log.unsynced.is_empty());
    }
}

/// Fault D5: `persisted` is what gates every acknowledgement.
#[test]
fn d5_a_write_is_reported_when_all_of_it_is_durable_and_not_before() {
    let mut log = founded(DISK, SHORT);
    let mut tickets = Vec::new();
    for term in 1..30 {
        write(&mut log, vote(term, 0)).unwrap();
        tickets.push(log.begun.back().unwrap().ticket);
    }
    assert!(log.segment_count() > 2);
    assert_eq!(log.persisted(), Ok(WriteId(0)));
    for (ticket, id) in tickets.into_iter().zip(1..) {
        log.disk_mut().sync_to(ticket - 1);
        assert_eq!(log.persisted(), Ok(WriteId(id - 1)));
        log.disk_mut().sync_to(ticket);
        assert_eq!(log.persisted(), Ok(WriteId(id)));
    }
    assert_eq!(log.unsynced_bytes(), 0);
}

#[test]
fn d3_a_failed_fsync_poisons_for_good_and_reads_go_on() {
    let Recorded { mut log, states, .. } = record(true);
    let reported = log.persisted().unwrap();
    write(&mut log, vote(9, 0)).unwrap();
    log.disk_mut().fail(DiskError::Full { what: String::from("write memory") });
    let poisoned = log.persisted().unwrap_err();
    assert!(matches!(&poisoned, StorageError::Poisoned { what } if what.contains("no space left")), "{poisoned}");
    log.disk_mut().sync();
    assert_eq!(log.persisted().unwrap_err(), poisoned);
    assert_eq!(write(&mut log, vote(10, 0)).unwrap_err(), poisoned);
    assert_eq!(log.persisted, reported);
    assert_eq!(Model::read(&log).entries, states.last().unwrap().1.entries);
    // The next life has exactly what was reported.
    let log = open(log.disk().crash(0, |_, _| true)).unwrap();
    assert_eq!(Model::read(&log), states.last().unwrap().1);
}

#[test]
fn d6_a_write_that_finds_the_disk_failed_is_refused_whole() {
    let mut log = create();
    log.disk_mut().fail(DiskError::Io { what: String::from("the device is gone") });
    let op = append_op(&log, &[(1, 1)]);
    assert!(matches!(write(&mut log, op), Err(StorageError::Poisoned { .. })));
    assert_eq!((log.last_index(), log.last_write), (LogIndex(0), WriteId(0)));
}

#[test]
fn d9_a_read_error_is_a_fault_and_never_an_empty_answer() {
    let Recorded { mut log, .. } = record(true);
    log.persisted().unwrap();
    let last = log.last_index();
    log.disk_mut().fail_reads(true);
    assert!(matches!(log.entries(LogIndex(1), last, 9), Err(StorageError::Io { .. })));
    assert!(matches!(log.digest(last), Err(StorageError::Io { .. })));
    assert!(matches!(log.blocks(last).next(), Some(Err(StorageError::Io { .. }))));
    // Nor is a log that cannot be read an empty one.
    let disk = log.into_disk();
    assert!(matches!(
        open_or_create(disk, DISK),
        Err(OpenError::Disk(DiskError::Io { .. }) | OpenError::Storage(StorageError::Io { .. }))
    ));
}

/// Fault D2: after an end in order nothing that was durable is taken for a torn tail, wherever it rots; and what is written
/// for that may itself be torn or rot.
#[test]
fn d2_the_last_write_before_an_end_in_order_is_never_cut() {
    for (is_vote, options) in [(true, LONG), (false, LONG), (true, SHORT), (false, SHORT)] {
        let mut log = founded(DISK, options);
        let append = append_op(&log, &[(1, 40)]);
        let ops = if is_vote { [append, vote(3, 2)] } else { [vote(3, 2), append] };
        for op in ops {
            write(&mut log, op).unwrap();
            log.disk_mut().sync();
        }
        let (held, durable) = (Model::read(&log), end(&log) as usize);
        log.seal();
        for kept in 0..=log.disk().unsynced() {
            let sealed = log.disk().crash(kept, |_, _| true);
            assert_eq!(Model::read(&open(sealed).unwrap()), held, "{kept}");
        }
        log.disk_mut().sync();
        for at in 0..first(&log).len() {
            let mut disk = log.disk().crash(0, |_, _| true);
            disk.corrupt(FIRST, |bytes| bytes[at] ^= 4);
            match open(disk) {
                Ok(log) => assert!(at >= durable && Model::read(&log) == held, "byte {at} of {durable}"),
                opened => assert!(at < durable && is_damaged(&opened), "byte {at} of {durable}: {opened:?}"),
            }
        }
    }
}

/// Contract 4 on a device that changes bytes of a running server: each byte of each block in turn.
#[test]
fn d9_bytes_that_change_under_a_running_server_are_damage() {
    let Recorded { mut log, states, .. } = record(true);
    log.persisted().unwrap();
    let model = &states.last().unwrap().1;
    for entry in &model.entries {
        let offset = log.segments.last().offset(log.contents.index.locate(entry.index).unwrap().0);
        for at in offset as usize..offset as usize + BLOCK_HEADER_LEN + entry.payload.bytes().len() {
            log.disk_mut().corrupt(FIRST, |bytes| bytes[at] ^= 0x40);
            let error = log.entries(entry.index, entry.index, 1).unwrap_err();
            assert!(matches!(error, StorageError::Damaged { .. }), "byte {at}: {error}");
            log.disk_mut().corrupt(FIRST, |bytes| bytes[at] ^= 0x40);
        }
    }
    assert_eq!(Model::read(&log), *model);
}

/// Fault D1: a crash may leave any length of the file. Whatever was durable then is there, and nothing else.
#[test]
fn d1_a_file_cut_at_every_byte_reopens_with_each_whole_write_before() {
    for synced in [true, false] {
        let recorded = record(synced);
        for len in recorded.founding_len()..=recorded.bytes().len() {
            let mut log = open(holding(&recorded.bytes()[..len])).unwrap();
            assert_eq!(Model::read(&log), *recorded.at(len), "cut at {len}");
            // And it goes on from there, over a further life.
            let op = append_op(&log, &[(7, 3)]);
            write(&mut log, op).unwrap();
            log.disk_mut().sync();
            assert_eq!(log.persisted(), Ok(WriteId(1)));
            let expected = Model::read(&log);
            assert_eq!(Model::read(&open(log.into_disk()).unwrap()), expected);
        }
    }
}

#[test]
fn d1_a_founding_torn_at_every_byte_is_founded_again() {
    let founding = first(&create());
    for len in 0..=founding.len() {
        for zeros_from in 0..=len {
            let mut bytes = founding[..len].to_vec();
            bytes[zeros_from..].fill(0);
            let is_whole = bytes == founding;
            let new = if is_whole { Incarnation(9) } else { DISK };
            let log = open_or_create(holding(&bytes), new).unwrap();
            assert_eq!((log.disk().bytes(FIRST), log.incarnation()), (&founding[..], DISK), "{len}, {zeros_from}");
        }
    }
}

/// Fault M10: a log is one disk for as long as it lives, whatever is drawn when it is opened; the chain knows nothing of it.
#[test]
fn m10_a_log_keeps_its_incarnation_and_the_chain_is_founded_alike() {
    let mut log = create();
    let op = append_op(&log, &[(1, 3)]);
    write(&mut log, op).unwrap();
    log.disk_mut().sync();
    let log = open(log.into_disk()).unwrap();
    assert_eq!(log.incarnation(), DISK);
    let log = open_or_create(log.into_disk(), Incarnation(9)).unwrap();
    assert_eq!((log.incarnation(), log.last_index()), (DISK, LogIndex(1)));
    let other = founded(Incarnation(9), LONG);
    assert_eq!((other.incarnation(), other.digest(LogIndex(0))), (Incarnation(9), create().digest(LogIndex(0))));
    assert_ne!(first(&other), first(&create()));
}

/// Fault M10: nobody knows which disk this was. Where nothing was written, it becomes another; where anything stands
/// behind, that is damage.
#[test]
fn m10_an_incarnation_that_cannot_be_read_is_drawn_again_only_where_nothing_was_written() {
    let founding = first(&create());
    let incarnation = SEGMENT_HEADER_LEN + FRAME_HEADER_LEN + INCARNATION_AT;
    for at in incarnation..incarnation + 8 {
        let mut bytes = founding.clone();
        bytes[at] ^= 0x10;
        assert!(is_damaged(&open(holding(&bytes))), "byte {at}");
        let log = open_or_create(holding(&bytes), Incarnation(9)).unwrap();
        assert_eq!((log.incarnation(), first(&log).len()), (Incarnation(9), founding.len()), "byte {at}");
        bytes.push(0);
        assert!(is_damaged(&open_or_create(holding(&bytes), Incarnation(9))), "byte {at}");
    }
}

#[test]
fn a_file_that_is_no_log_is_refused_and_kept() {
    for bytes in [&b"my only copy of the thesis"[..], &[7; 4000], &[0; 4000]] {
        let opened = open_or_create(holding(bytes), DISK);
        assert!(is_damaged(&opened), "{opened:?}");
    }
}

/// Fault D2: every byte of a file changed in turn, in several ways. Where later frames vouch for the frame it is in,
/// that is damage; in the last frame, for which nothing vouches, it is as if that was never written.
#[test]
fn d2_any_changed_byte_is_damage_or_an_unvouched_tail_and_never_a_wrong_answer() {
    let recorded = record(true);
    let last_frame = recorded.states[recorded.states.len() - 2].0 as usize;
    for at in 0..recorded.bytes().len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = recorded.bytes().to_vec();
            bytes[at] ^= change;
            match open(holding(&bytes)) {
                Err(OpenError::Storage(StorageError::Damaged { what, .. })) => {
                    assert!(at < last_frame, "byte {at}");
                    assert!(what.contains("nothing was changed"), "{what}");
                }
                Err(error) => panic!("byte {at}: {error}"),
                Ok(log) => {
                    assert!(at >= last_frame, "byte {at} is durable, and a later frame says so");
                    assert_eq!(Model::read(&log), *recorded.at(last_frame));
                }
            }
        }
    }
}

/// A whole stretch gone, several frames at once, at every place where it leaves the last frame's header.
#[test]
fn d2_a_zeroed_stretch_is_damage_as_long_as_one_later_header_stands() {
    let recorded = record(true);
    let last_frame = recorded.states[recorded.states.len() - 2].0 as usize;
    for start in recorded.founding_len()..last_frame {
        let mut bytes = recorded.bytes().to_vec();
        bytes[start..last_frame].fill(0);
        let changed = bytes != recorded.bytes();
        // The last frame's body may be gone as well: what its header says was true when it was formed.
        bytes[last_frame + FRAME_HEADER_LEN..].fill(0);
        assert!(is_damaged(&open(holding(&bytes))) || !changed, "from {start}");
    }
}

/// A client may store bytes that look like one of our frames. They stand elsewhere, so they are no evidence.
#[test]
fn d1_frames_inside_a_payload_do_not_turn_a_torn_tail_into_damage() {
    let mut forged = Vec::new();
    frame::encode_frame(1 << 40, 1 << 40, &mut forged, frame::encode_append).unwrap();
    let mut log = create();
    write(&mut log, vote(1, 0)).unwrap();
    log.disk_mut().sync();
    let payload = Payload::Command(Bytes::from(forged.repeat(100)));
    let entry = Entry { index: LogIndex(1), term: Term(1), payload };
    write(&mut log, WriteOp::Append { entries: Arc::new([entry]), digests: None }).unwrap();
    let crashed = log.disk().crash(u64::MAX, |_, sector| sector != 0);
    let log = open(crashed).unwrap();
    assert_eq!((log.last_index(), log.hard_state().unwrap().current_term), (LogIndex(0), Term(1)));
}

/// Evidence may lie far behind, across the windows that recovery reads by.
#[test]
fn d2_evidence_is_found_at_any_distance() {
    let window = 1 << 18;
    for len in (window - 115..window - 80).chain([window, 3 * window]) {
        let mut log = create();
        let op = append_op(&log, &[(1, len)]);
        write(&mut log, op).unwrap();
        log.disk_mut().sync();
        write(&mut log, vote(2, 0)).unwrap();
        log.disk_mut().sync();
        let founding = first(&create()).len();
        log.disk_mut().corrupt(FIRST, |bytes| bytes[founding] ^= 1);
        assert!(is_damaged(&open(log.into_disk())), "length {len}");
    }
}

/// Frames with good checksums that do not follow from what stands before: nobody but damage or a bug makes them.
#[test]
fn d2_a_frame_that_does_not_follow_is_damage_even_at_the_end() {
    let entry = |index, term| Entry { index: LogIndex(index), term: Term(term), payload: Payload::Noop };
    let block = |entry: Entry, hash: Option<Digest>| {
        move |out: &mut Vec<u8>, prev: &Digest| {
            frame::encode_append(out);
            frame::encode_block(&entry, &hash.unwrap_or_else(|| link(prev, &entry)), out);
        }
    };
    let new = contents::founding(create().genesis(), DISK);
    let at = |height, hash| Point { height: LogIndex(height), term: Term(1), hash };
    let members = SnapshotMeta { digest: Some(Digest([5; 32])), ..SnapshotMeta::genesis(servers()) };
    let described = move |height| SnapshotMeta {
        last_included_index: LogIndex(height),
        last_included_term: Term(1),
        ..members.clone()
    };
    type Forge = Box<dyn Fn(&mut Vec<u8>, &Digest)>;
    let forged: Vec<(bool, Forge)> = vec![
        (true, Box::new(block(entry(2, 1), None))),
        (false, Box::new(block(entry(3, 1), None))),
        (false, Box::new(block(entry(2, 0), None))),
        (false, Box::new(block(entry(2, 1), Some(Digest([5; 32]))))),
        (false, Box::new(move |out, hash| frame::encode_truncate(&at(1, *hash), out))),
        (false, Box::new(move |out, _| frame::encode_truncate(&at(0, Digest([5; 32])), out))),
        (false, Box::new(move |out, _| frame::encode_checkpoint(&new, out))),
        (
            false,
            Box::new({
                let described = described.clone();
                move |out, _| frame::encode_install(&described(0), None, out)
            }),
        ),
        (
            false,
            Box::new({
                let described = described.clone();
                move |out, _| frame::encode_install(&described(1), Some(LogIndex(2)), out)
            }),
        ),
        (
            false,
            Box::new({
                let described = described.clone();
                move |out, _| frame::encode_install(&described(2), Some(LogIndex(2)), out)
            }),
        ),
        // What follows, but for the file that it names.
        (false, Box::new(move |out, _| frame::encode_install(&described(2), None, out))),
        (false, Box::new(|out, _| out.push(77))),
        (false, Box::new(|out, _| out.extend([3, 1, 2, 3]))),
    ];
    for (case, (fine, body)) in forged.into_iter().enumerate() {
        let mut log = create();
        let op = append_op(&log, &[(1, 0)]);
        write(&mut log, op).unwrap();
        log.disk_mut().sync();
        let prev = log.digest(LogIndex(1)).unwrap().unwrap();
        let mut bytes = first(&log);
        let at = log.segments.end();
        frame::encode_frame(at, at, &mut bytes, |out| body(out, &prev)).unwrap();
        let opened = open(holding(&bytes));
        assert_eq!((opened.is_ok(), is_damaged(&opened)), (fine, !fine), "case {case}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes changed at random in a life whose writes became durable one batch at a time: an open log is a prefix.
    #[test]
    fn d2_random_damage_never_invents(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4), synced in any::<bool>(),
    ) {
        let recorded = record(synced);
        let mut bytes = recorded.bytes().to_vec();
        for (at, change) in changes {
            bytes[at.index(recorded.bytes().len())] ^= change;
        }
        if let Ok(log) = open(holding(&bytes)) {
            let found = Model::read(&log);
            prop_assert!(recorded.states.iter().any(|(_, model)| *model == found));
        }
    }
}
