//! The block log on real files, over real processes: `kill -9`, a second process, a damaged file.
//!
//! A child process is this test binary again, told by an environment variable to run [`child`] alone.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_core::{
    Configuration, Digest, Entry, HardState, Incarnation, LogIndex, NodeId, Payload, Storage, StorageError, Term,
    Write, WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, DiskError, FileDisk, LogOptions, OpenError, link};

const CHILD: &str = "RAFT_KV_TEST_CHILD";
const DIR: &str = "RAFT_KV_TEST_DIR";
const STEP: &str = "RAFT_KV_TEST_STEP";

/// No wait in here takes longer on a machine that works.
const DEADLINE: Duration = Duration::from_secs(30);

/// So short that each child begins some segments.
const SEGMENT: u64 = 64 << 10;

/// Writes that a child has begun and not seen durable, at most.
const IN_FLIGHT: u64 = 8;

fn try_open(dir: &Path, notify: impl Fn() + Send + 'static) -> Result<BlockLog<FileDisk>, OpenError> {
    let disk = FileDisk::open(dir, notify).map_err(OpenError::Disk)?;
    BlockLog::open_or_create(
        disk,
        ClusterId::from_name("files"),
        Configuration::new([1, 2, 3].map(NodeId)),
        Incarnation(1),
        LogOptions { segment_bytes: SEGMENT, archive: false },
    )
}

fn open(dir: &Path) -> BlockLog<FileDisk> {
    try_open(dir, || ()).unwrap()
}

/// What a log holds, by its hashes. The next write follows from it alone, so every life of every child goes on along
/// one sequence of states, and a state's place in it says how many writes it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    hard_state: HardState,
    /// The hash of each block, the genesis first, and the last block's term.
    chain: Vec<Digest>,
    last_term: Term,
    terms: Vec<Term>,
}

impl State {
    fn new(genesis: Digest) -> Self {
        Self { hard_state: HardState::default(), chain: vec![genesis], last_term: Term(0), terms: vec![Term(0)] }
    }

    fn read(log: &BlockLog<FileDisk>) -> Self {
        let mut state = Self::new(log.genesis().block().hash);
        state.hard_state = log.hard_state().unwrap();
        for block in log.blocks(LogIndex(1)) {
            let block = block.unwrap();
            assert!(block.is_intact() && state.chain.last() == Some(&block.prev_hash), "{block}");
            state.chain.push(block.hash);
            state.terms.push(block.term);
        }
        state.last_term = *state.terms.last().unwrap();
        state
    }

    fn last(&self) -> u64 {
        self.chain.len() as u64 - 1
    }

    /// Each term: a vote, three blocks; each third term also loses blocks again.
    fn next_op(&self) -> WriteOp {
        let term = self.hard_state.current_term;
        if term.0 % 3 == 2 && self.last() > 0 && self.last().is_multiple_of(2) {
            return WriteOp::Truncate(LogIndex(self.last()));
        }
        if self.last_term == term {
            let voted_for = (!term.0.is_multiple_of(4)).then_some(NodeId(1));
            return WriteOp::HardState(HardState { current_term: term.next(), voted_for });
        }
        let mut hash = *self.chain.last().unwrap();
        let entry = |index: u64| {
            let len = if index.is_multiple_of(7) { 9000 } else { (index * 13 % 300) as usize };
            let payload = Payload::Command(Bytes::from(vec![(index + term.0) as u8; len]));
            Entry { index: LogIndex(index), term, payload }
        };
        let entries: Vec<_> = (self.last() + 1..self.last() + 4).map(entry).collect();
        let link_next = |entry| {
            hash = link(&hash, entry);
            hash
        };
        let digests = Some(entries.iter().map(link_next).collect());
        WriteOp::Append { entries: entries.into(), digests }
    }

    fn apply(&mut self, op: &WriteOp) {
        match op {
            WriteOp::HardState(hard_state) => self.hard_state = *hard_state,
            WriteOp::Truncate(from) => {
                self.chain.truncate(from.0 as usize);
                self.terms.truncate(from.0 as usize);
            }
            WriteOp::Append { entries, digests } => {
                self.chain.extend_from_slice(digests.as_ref().unwrap());
                self.terms.extend(entries.iter().map(|entry| entry.term));
            }
            WriteOp::SnapshotChunk(_) | WriteOp::InstallSnapshot { .. } | WriteOp::GiveUpSnapshot => {
                panic!("these lives have no snapshot")
            }
        }
        self.last_term = *self.terms.last().unwrap();
    }
}

/// Runs in a child process only.
#[test]
fn child() {
    let Ok(role) = std::env::var(CHILD) else { return };
    let dir = std::env::var(DIR).unwrap();
    match role.as_str() {
        "write" => write_for_ever(Path::new(&dir), std::env::var(STEP).unwrap().parse().unwrap()),
        "hold" => {
            let _log = open(Path::new(&dir));
            say("acknowledged 0");
            // Ends when the parent is gone, were it not to kill this process.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        other => panic!("unknown role {other}"),
    }
}

/// Goes on from step `step` with several writes in flight, and says each that was reported durable.
fn write_for_ever(dir: &Path, step: u64) {
    let news = Arc::new((Mutex::new(false), Condvar::new()));
    let notify = {
        let news = Arc::clone(&news);
        move || {
            *news.0.lock().unwrap() = true;
            news.1.notify_one();
        }
    };
    let mut log = try_open(dir, notify).unwrap();
    let mut state = State::read(&log);
    let (mut begun, mut reported) = (0, 0);
    say(&format!("acknowledged {step}"));
    loop {
        while begun < reported + IN_FLIGHT {
            begun += 1;
            let op = state.next_op();
            state.apply(&op);
            log.write(Write { id: WriteId(begun), op }).unwrap();
        }
        let mut arrived = news.0.lock().unwrap();
        while !*arrived {
            let (guard, timeout) = news.1.wait_timeout(arrived, DEADLINE).unwrap();
            assert!(!timeout.timed_out(), "the writer thread never reported");
            arrived = guard;
        }
        *arrived = false;
        drop(arrived);
        let persisted = log.persisted().unwrap().0;
        if persisted > reported {
            reported = persisted;
            say(&format!("acknowledged {}", step + reported));
        }
    }
}

/// Writes a line past the test harness, which would hold it back.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// A child process, and what it acknowledged.
struct Running {
    process: Child,
    acknowledged: Receiver<u64>,
}

impl Running {
    fn start(role: &str, dir: &Path, step: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["block_log::child", "--exact", "--nocapture"])
            .env(CHILD, role)
            .env(DIR, dir)
            .env(STEP, step.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let acknowledged = read_lines(process.stdout.take().unwrap());
        Self { process, acknowledged }
    }

    /// The next acknowledgement of a child that must not have ended.
    fn next(&self) -> u64 {
        self.acknowledged.recv_timeout(DEADLINE).expect("the child acknowledges")
    }

    /// `kill -9`; answers everything that was acknowledged and not read yet.
    fn kill(mut self) -> Vec<u64> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut rest = Vec::new();
        loop {
            match self.acknowledged.recv_timeout(DEADLINE) {
                Ok(step) => rest.push(step),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the killed child's output never ended"),
            }
        }
    }
}

fn read_lines(out: ChildStdout) -> Receiver<u64> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The harness's own words may stand before the first of ours, on the same line.
            if let Some((_, step)) = line.split_once("acknowledged ") {
                let _ = sender.send(step.parse().unwrap());
            }
        }
    });
    receiver
}

/// Fault P2: whenever it is killed, a server has every acknowledged write when it comes back, and no other but those
/// that it had begun, in their order.
#[test]
fn p2_kill_9_in_a_loop_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut states = vec![State::read(&log)];
    log.into_disk().shutdown().unwrap();
    let mut step = 0;
    for round in 0..12_u64 {
        let child = Running::start("write", dir.path(), step);
        let mut acknowledged = child.next();
        for _ in 0..round * round % 50 {
            acknowledged = child.next();
        }
        acknowledged = child.kill().into_iter().fold(acknowledged, u64::max);
        let log = open(dir.path());
        let found = State::read(&log);
        log.into_disk().shutdown().unwrap();
        while (states.len() as u64) <= acknowledged + IN_FLIGHT {
            let mut next = states.last().unwrap().clone();
            next.apply(&next.next_op());
            states.push(next);
        }
        let candidates = &states[acknowledged as usize..=(acknowledged + IN_FLIGHT) as usize];
        let ahead = candidates.iter().position(|state| *state == found);
        step = acknowledged + ahead.expect("each acknowledged write, then some that were begun") as u64;
    }
    assert!(step > 100, "only {step} writes in all rounds");
}

#[test]
fn d7_two_processes_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let holder = Running::start("hold", dir.path(), 0);
    holder.next();
    let error = try_open(dir.path(), || ()).unwrap_err();
    assert_eq!(error, OpenError::Disk(DiskError::InUse { dir: dir.path().display().to_string() }));
    assert!(error.to_string().contains("in use by another process"), "{error}");
    // The lock goes with its process, however that ends.
    holder.kill();
    open(dir.path());
}

fn append_one(log: &mut BlockLog<FileDisk>, id: u64, len: usize) {
    let index = log.last_index().next();
    let entry = Entry { index, term: Term(1), payload: Payload::Command(Bytes::from(vec![id as u8; len])) };
    let op = WriteOp::Append { entries: Arc::new([entry]), digests: None };
    log.write(Write { id: WriteId(id), op }).unwrap();
}

fn segment(dir: &Path) -> std::path::PathBuf {
    dir.join("segment-0000000000000001")
}

/// Three blocks on a real file, each durable before the next; answers the file's bytes.
fn three_blocks(dir: &Path) -> Vec<u8> {
    let (sender, notified) = channel();
    let mut log = try_open(dir, move || sender.send(()).unwrap_or_default()).unwrap();
    for id in 1..4 {
        append_one(&mut log, id, 100);
        while log.persisted().unwrap() < WriteId(id) {
            notified.recv_timeout(DEADLINE).unwrap();
        }
    }
    log.into_disk().shutdown().unwrap();
    used(&segment(dir))
}

/// The bytes of a file, without the zeros that it ends with.
fn used(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    bytes
}

#[test]
fn d2_a_damaged_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = three_blocks(dir.path());
    let path = segment(dir.path());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        let error = try_open(dir.path(), || ()).unwrap_err();
        let OpenError::Storage(StorageError::Damaged { place, what }) = error else { panic!("{error}") };
        assert!(place.starts_with(&path.display().to_string()), "{place}");
        assert!(what.contains("nothing was changed: put this directory back from a copy"), "{what}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    bytes[middle] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(open(dir.path()).last_index(), LogIndex(3));
}

#[test]
fn d1_what_is_torn_gives_way_to_zeros_and_the_file_keeps_its_room() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = three_blocks(dir.path());
    let path = segment(dir.path());
    for lost in (1..=100).step_by(9) {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file.write_all_at(&vec![0; lost], (bytes.len() - lost) as u64).unwrap();
        let log = open(dir.path());
        assert_eq!(log.last_index(), LogIndex(2));
        log.into_disk().shutdown().unwrap();
        assert_eq!(used(&path), &bytes[..bytes.len() - 186]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SEGMENT);
    }
    // One that was cut short gets its room back.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(open(dir.path()).last_index(), LogIndex(2));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), SEGMENT);
}

/// A file that something else cuts short under a running server: those blocks are damaged, not absent.
#[test]
fn d9_a_file_cut_short_under_a_running_server_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = three_blocks(dir.path());
    let log = open(dir.path());
    std::fs::File::options().write(true).open(segment(dir.path())).unwrap().set_len(bytes.len() as u64 - 1).unwrap();
    assert!(matches!(log.entries(LogIndex(3), LogIndex(3), 1), Err(StorageError::Damaged { .. })));
    assert_eq!(log.entries(LogIndex(2), LogIndex(2), 1).unwrap().len(), 1);
}

/// What a stop by SIGTERM does: everything begun is durable, reported or not.
#[test]
fn shutdown_keeps_what_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for id in 1..=200 {
        append_one(&mut log, id, 50);
    }
    log.into_disk().shutdown().unwrap();
    assert_eq!(open(dir.path()).last_index(), LogIndex(200));
}
