//! A damaged server and its peers, which say what a test has them say.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use raft_core::{
    Configuration, Entry, HardState, Incarnation, LogIndex, NodeId, Payload, RoleName, Storage as _, Term, Write,
    WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, DiskError, FileDisk, Genesis, LogOptions};
use raft_net_tcp::frame::{self, FrameReader, Kind};
use raft_net_tcp::handshake::{Hello, PROTOCOL_VERSION, Role};
use raft_net_tcp::mend::{Mended, Patient};
use raft_net_tcp::protocol::{Blocks, Response, ResponseBody, ServerStatus};
use raft_net_tcp::{Client, ClientOptions, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{CLUSTER, Cluster, PATIENCE, identity, key, value};

const BLOCKS: u64 = 24;
const DAMAGED: LogIndex = LogIndex(10);
const OPTIONS: LogOptions = LogOptions { segment_bytes: 900, archive: false };

/// What a peer is asked.
#[derive(Clone, Copy)]
enum Asked {
    Blocks(LogIndex),
    Status,
}

type Says = Arc<Mutex<dyn FnMut(Asked) -> ResponseBody + Send>>;

/// A peer that answers so.
async fn peer(id: u32, says: impl FnMut(Asked) -> ResponseBody + Send + 'static) -> (NodeId, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let says: Says = Arc::new(Mutex::new(says));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, id, says.clone()));
        }
    });
    (NodeId(id), address)
}

async fn serve(mut socket: TcpStream, id: u32, says: Says) {
    let mut frames = FrameReader::new(frame::CLIENT_FRAME_BYTES_MAX);
    while socket.read_buf(frames.room()).await.is_ok_and(|count| count > 0) {
        while let Some(frame) = frames.next_frame().unwrap() {
            let mut bytes = Vec::new();
            if frame.kind == Kind::Hello {
                let (sender, receiver) = (u64::from(id), Some(3));
                let hello = Hello { version: PROTOCOL_VERSION, cluster: CLUSTER, sender, receiver, role: Role::Server };
                frame::encode_into(Kind::Hello, &hello, frame::CLIENT_FRAME_BYTES_MAX, &mut bytes);
            } else {
                let word = |at: usize| u64::from_le_bytes(frame.body[at..at + 8].try_into().unwrap());
                // A number, then which request of those that the protocol has.
                let asked = if frame.body[8] == 3 { Asked::Blocks(LogIndex(word(12))) } else { Asked::Status };
                let body = (says.lock().unwrap())(asked);
                let response = Response { number: word(0), body };
                frame::encode_into(Kind::Response, &response, frame::CLIENT_FRAME_BYTES_MAX, &mut bytes);
            }
            // Whoever asked may be gone.
            let _ = socket.write_all(&bytes).await;
        }
    }
}

fn status(id: u32, role: RoleName, term: u64) -> ResponseBody {
    let leader = (role == RoleName::Leader).then_some(NodeId(id));
    let at = LogIndex(BLOCKS);
    ResponseBody::Status(Box::new(ServerStatus {
        id: NodeId(id),
        role,
        term: Term(term),
        leader,
        members: Vec::new(),
        is_changing: false,
        configuration_index: LogIndex(0),
        last_index: at,
        persisted_index: at,
        commit_index: at,
        last_applied: at,
        head: None,
        followers: Vec::new(),
        connected: Vec::new(),
        cut: Vec::new(),
        has_room: true,
        remarks: Vec::new(),
        fault: None,
    }))
}

fn held(entries: &[Entry]) -> ResponseBody {
    ResponseBody::Blocks(Blocks::Held { entries: entries.to_vec(), commit_index: LogIndex(BLOCKS) })
}

/// One block at a time.
fn serving(entries: Vec<Entry>) -> impl FnMut(Asked) -> ResponseBody + Send {
    move |asked| match asked {
        Asked::Blocks(first) => held(&entries[first.0 as usize - 1..][..1]),
        Asked::Status => status(1, RoleName::Follower, 1),
    }
}

fn genesis() -> Genesis {
    Genesis { cluster: ClusterId(CLUSTER), configuration: Configuration::new([1, 2, 3].map(NodeId)) }
}

/// A log whose blocks from the tenth to the twelfth are damaged, and all of them as they were.
fn damaged(dir: &Path) -> Vec<Entry> {
    let entries = whole(dir);
    for height in DAMAGED.0..DAMAGED.0 + 3 {
        let words = words(height);
        let holds = |bytes: &[u8]| bytes.windows(words.len()).position(|window| window == words.as_bytes());
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let found = files.filter_map(|file| Some((std::fs::read(&file).ok()?, file)));
        let (mut bytes, file) = found.into_iter().find(|(bytes, _)| holds(bytes).is_some()).unwrap();
        let at = holds(&bytes).unwrap();
        bytes[at + 2] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }
    entries
}

fn words(height: u64) -> String {
    format!("what block {height} says.")
}

fn whole(dir: &Path) -> Vec<Entry> {
    let disk = FileDisk::open(dir, || ()).unwrap();
    let Genesis { cluster, configuration } = genesis();
    let mut log = BlockLog::create(disk, cluster, configuration, Incarnation(7), OPTIONS).unwrap();
    let entry = |height| Entry {
        index: LogIndex(height),
        term: Term(1),
        payload: Payload::Command(Bytes::from(words(height).repeat(4))),
    };
    let entries: Vec<Entry> = (1..=BLOCKS).map(entry).collect();
    let appends = entries.iter().map(|entry| WriteOp::Append { entries: [entry.clone()].into(), digests: None });
    let first = WriteOp::HardState(HardState { current_term: Term(1), voted_for: Some(NodeId(2)) });
    for (id, op) in (1..).map(WriteId).zip([first].into_iter().chain(appends)) {
        log.write(Write { id, op }).unwrap();
        while log.persisted().unwrap() < id {
            std::thread::yield_now();
        }
    }
    log.into_disk().shutdown().unwrap();
    entries
}

fn patient(dir: &Path, peers: impl IntoIterator<Item = (NodeId, SocketAddr)>) -> Patient {
    Patient {
        id: NodeId(3),
        dir: dir.to_owned(),
        genesis: genesis(),
        options: OPTIONS,
        peers: peers.into_iter().collect(),
        election_timeout: Duration::from_millis(300),
    }
}

/// Mends it, and answers what was done, and what was said.
async fn mend(patient: &Patient) -> (Mended, Vec<String>) {
    let mut said = Vec::new();
    let mending = tokio::time::timeout(PATIENCE, patient.mend(|line| said.push(line)));
    let mended = mending.await.unwrap_or_else(|_| panic!("it is not mended")).unwrap();
    (mended, said)
}

fn count(mended: &Mended, from: u32) -> u64 {
    match mended {
        Mended::Whole { fetched, .. } => fetched.get(&NodeId(from)).copied().unwrap_or(0),
        Mended::StartedOver { .. } => panic!("{mended}"),
    }
}

fn is_whole(dir: &Path, entries: &[Entry]) {
    let Genesis { cluster, configuration } = genesis();
    let disk = FileDisk::open(dir, || ()).unwrap();
    let log = BlockLog::open(disk, cluster, configuration, OPTIONS).unwrap();
    assert_eq!(log.entries(LogIndex(1), LogIndex(BLOCKS), usize::MAX).unwrap(), entries);
}

/// Its blocks fit nowhere, which shows at the last of them: it is asked no more, and the next is, from the gap's beginning.
#[tokio::test]
async fn d2_a_peer_of_another_history_does_not_spoil_what_the_next_one_sends() {
    let dir = tempfile::tempdir().unwrap();
    let entries = damaged(dir.path());
    let mut others = entries.clone();
    others[9].payload = Payload::Command(Bytes::from_static(b"another history"));
    let peers = [peer(1, serving(others)).await, peer(2, serving(entries.clone())).await];
    let (mended, said) = mend(&patient(dir.path(), peers)).await;
    assert_eq!((count(&mended, 1), count(&mended, 2)), (0, 3), "{mended} {said:?}");
    assert!(said.iter().any(|line| line.contains("server 1") && line.contains("do not fit")), "{said:?}");
    is_whole(dir.path(), &entries);
}

/// It is on its way to have them: that it has none now is no reason to start over.
#[tokio::test]
async fn d2_a_peer_that_has_no_blocks_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let entries = damaged(dir.path());
    let (mut asked, mut serving) = (0, serving(entries.clone()));
    let behind = move |question| {
        asked += 1;
        if asked > 2 { serving(question) } else { ResponseBody::Blocks(Blocks::Behind { last: LogIndex(9) }) }
    };
    let (mended, said) = mend(&patient(dir.path(), [peer(1, behind).await])).await;
    assert_eq!(count(&mended, 1), 3, "{said:?}");
    is_whole(dir.path(), &entries);
}

/// Only what is gone for good with every peer is given up.
#[tokio::test]
async fn d8_a_server_starts_over_where_every_peer_has_compacted_the_blocks() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let compacted = || ResponseBody::Blocks(Blocks::Compacted { first: LogIndex(20) });
    let says =
        move |id, role| move |asked| if matches!(asked, Asked::Status) { status(id, role, 4) } else { compacted() };
    let peers = [peer(1, says(1, RoleName::Leader)).await, peer(2, says(2, RoleName::Follower)).await];
    let (mended, said) = mend(&patient(dir.path(), peers)).await;
    assert!(mended.has_started_over() && mended.to_string().contains("blocks 10 to 12 any more"), "{mended} {said:?}");
}

/// The blocks were on this server alone; or whoever lags was removed, and lags for ever.
#[tokio::test]
async fn d8_a_server_starts_over_where_no_peer_has_the_blocks_for_long() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let behind = |asked| match asked {
        Asked::Status => status(1, RoleName::Leader, 4),
        Asked::Blocks(_) => ResponseBody::Blocks(Blocks::Behind { last: LogIndex(9) }),
    };
    let peers = [peer(1, behind).await];
    let patient = Patient { election_timeout: Duration::from_millis(10), ..patient(dir.path(), peers) };
    let (mended, said) = mend(&patient).await;
    assert!(mended.has_started_over() && said.iter().any(|line| line.contains("does not reach")), "{mended} {said:?}");
}

/// While it waits for its peers, no other process opens the directory.
#[tokio::test]
async fn d7_a_directory_that_is_being_mended_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (waits, is_waiting) = tokio::sync::oneshot::channel();
    let (path, mut waits) = (dir.path().to_owned(), Some(waits));
    let mending = tokio::spawn(async move {
        let patient = patient(&path, [(NodeId(1), nobody)]);
        patient
            .mend(|line| {
                if line.contains("wait for a server") {
                    waits.take().map(|waits| waits.send(()));
                }
            })
            .await
    });
    tokio::time::timeout(PATIENCE, is_waiting).await.unwrap().unwrap();
    let other = FileDisk::open(dir.path(), || ());
    mending.abort();
    assert!(matches!(other, Err(DiskError::InUse { .. })), "another process could open it");
}

/// A leader that leads by what this server said last is deposed soon.
#[tokio::test]
async fn d8_a_leader_that_was_seen_once_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    whole(dir.path());
    let asked = Arc::new(Mutex::new(0));
    let counted = asked.clone();
    let says = move |_| {
        let mut asked = counted.lock().unwrap();
        *asked += 1;
        match *asked {
            1 => status(1, RoleName::Leader, 5),
            2..=6 => status(1, RoleName::Follower, 5),
            7 => status(1, RoleName::Leader, 6),
            _ => status(1, RoleName::Leader, 7),
        }
    };
    let patient = patient(dir.path(), [peer(1, says).await]);
    let over = patient.start_over("a test has it".into(), |_| ());
    tokio::time::timeout(PATIENCE, over).await.unwrap().unwrap();
    let asked = *asked.lock().unwrap();
    assert!(asked >= 9, "it started over after {asked} questions");
}

/// Each time costs the cluster two changes of its members and all of the state.
#[tokio::test]
async fn m10_a_server_that_started_over_a_moment_ago_waits_before_it_does_so_again() {
    let dir = tempfile::tempdir().unwrap();
    whole(dir.path());
    let aside = dir.path().join("aside-1");
    std::fs::create_dir(&aside).unwrap();
    let patient = patient(dir.path(), [peer(1, |_| status(1, RoleName::Leader, 5)).await]);
    let mut said = Vec::new();
    {
        let over = patient.start_over("a test has it".into(), |line| said.push(line));
        assert!(tokio::time::timeout(Duration::from_secs(3), over).await.is_err(), "it does not wait");
    }
    assert!(said.iter().any(|line| line.contains("it started over before")), "{said:?}");
    assert!(!dir.path().join("starting-over").exists());
    let long_ago = SystemTime::now() - Duration::from_secs(600);
    std::fs::File::open(&aside).unwrap().set_modified(long_ago).unwrap();
    let over = patient.start_over("a test has it".into(), |_| ());
    let mended = tokio::time::timeout(PATIENCE, over).await.unwrap().unwrap();
    assert!(mended.to_string().contains("2 times within a day"), "{mended}");
}

/// What a real server says: one alone, of three, whose log is not known to be committed; and one that has compacted its log.
#[tokio::test]
async fn d2_a_server_gives_what_is_not_committed_and_says_what_is_gone() {
    let mut cluster = Cluster::tuned(3, |config| {
        (config.requests.snapshot_every_bytes, config.raft.tail_entries) = (Some(4 << 10), 2);
    });
    let mut client = cluster.client(7001);
    for _ in 0..4 {
        client.put(key("a"), value("1")).await.unwrap();
    }
    cluster.level().await;
    let ids = cluster.ids();
    ids.iter().for_each(|id| cluster.stop(*id));
    cluster.restart(ids[0]);
    let identity = Identity { role: Role::Admin, ..identity(3) };
    let mut asking = Client::new(cluster.addresses.clone(), identity, ClientOptions::default());
    let last = cluster.status(ids[0]).await.last_index;
    let Blocks::Held { entries, commit_index } = asking.blocks(ids[0], LogIndex(2), last).await.unwrap() else {
        panic!("it gives nothing")
    };
    assert!(entries.len() as u64 == last.0 - 1 && commit_index < LogIndex(2), "{entries:?}, {commit_index}");
    assert_eq!(asking.blocks(ids[0], last.next(), last.next()).await, Ok(Blocks::Behind { last }));
    ids[1..].iter().for_each(|id| cluster.restart(*id));
    for _ in 0..40 {
        client.put(key("a"), value(&"long".repeat(100))).await.unwrap();
    }
    let begun = Instant::now();
    while !matches!(asking.blocks(ids[0], LogIndex(2), last).await, Ok(Blocks::Compacted { first }) if first > last) {
        assert!(begun.elapsed() < PATIENCE, "it has compacted nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
