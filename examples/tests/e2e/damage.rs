//! Disks that do not keep what was written: a server mends its files with the others' help, by itself, and nothing that was
//! acknowledged is lost.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use raft_core::{
    Commands, Configuration, LogIndex, NodeId, Position, SnapshotChunk, SnapshotMeta, StateMachine as _, Storage as _,
    Write, WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, Command, FileDisk, KvMachine, LogOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Cluster, wait_for};

/// A frame of a segment: where it begins, and the length of its body.
type Frame = (usize, usize);

fn segment(cluster: &Cluster, id: u16) -> PathBuf {
    cluster.data_dir().join(format!("server-{id}")).join("segment-0000000000000001")
}

/// The frames of a segment, as docs/FORMAT.md draws them.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut at, mut frames) = (32, Vec::new());
    while bytes[at..].starts_with(&[0xb1, 0x0c, 0xf7, 0x3d]) {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        frames.push((at, len));
        at += 24 + len;
    }
    frames
}

/// Flips a bit in the body of the frame that is chosen.
fn harm(cluster: &Cluster, id: u16, choose: impl Fn(&[Frame]) -> Frame) {
    let path = segment(cluster, id);
    let mut bytes = std::fs::read(&path).unwrap();
    let (at, len) = choose(&frames(&bytes));
    bytes[at + 24 + len / 2] ^= 4;
    std::fs::write(&path, bytes).unwrap();
}

/// What was mended, in the server's words.
fn remarks(cluster: &Cluster, id: u16) -> Option<String> {
    let statuses = cluster.statuses();
    let status = statuses.iter().find(|status| status["server"] == id)?;
    let said = status["remarks"].as_array()?.iter().filter_map(Value::as_str);
    said.filter(|remark| !remark.starts_with("scrub")).map(String::from).next()
}

fn put_all(cluster: &Cluster) {
    let script: String = (0..40).map(|n| format!("put {n} {n}\n")).collect();
    assert!(cluster.script(1, &["--timeout=30s"], &script).status.success());
}

/// Every acknowledged write is there, and this server is needed for one more.
fn nothing_is_lost(cluster: &mut Cluster, needed: u16) {
    cluster.converged();
    let other = (1..=3).find(|id| *id != needed && *id != cluster.leader()).unwrap();
    cluster.kill(other);
    cluster.client(1, &["--timeout=30s", "put", "'after'", "1"]).ok();
    let lines =
        cluster.script(2, &["--timeout=30s"], &(0..40).map(|n| format!("get {n}\n")).collect::<String>()).lines();
    let right = |(line, n): (&Value, u32)| line["result"].as_str() == Some(&n.to_string());
    assert!(lines.len() == 40 && lines.iter().zip(0..).all(right), "{lines:?}");
}

#[test]
fn d2_a_block_that_rots_while_its_server_is_down_is_fetched_from_the_others() {
    let mut cluster = Cluster::start(3);
    put_all(&cluster);
    cluster.converged();
    cluster.kill(3);
    let middle = |frames: &[Frame]| frames.iter().copied().filter(|(_, len)| *len > 62).nth(20).unwrap();
    harm(&cluster, 3, middle);
    cluster.start_server(3);
    let remark = wait_for("server 3 to say what was mended", || remarks(&cluster, 3));
    assert!(remark.contains("mended: damage in 1 place") && remark.contains("from server"), "{remark}");
    assert!(cluster.data_dir().join("server-3/damaged/segment-0000000000000001").exists());
    nothing_is_lost(&mut cluster, 3);
}

#[test]
fn d8_a_server_whose_vote_is_lost_starts_over_and_is_a_member_again() {
    let mut cluster = Cluster::start(3);
    put_all(&cluster);
    cluster.converged();
    cluster.kill(3);
    harm(&cluster, 3, |frames| *frames.iter().rfind(|(_, len)| *len == 14).unwrap());
    cluster.start_server(3);
    let remark = wait_for("server 3 to say that it started over", || remarks(&cluster, 3));
    assert!(remark.contains("started over, for damage may hide its last term and vote"), "{remark}");
    wait_for("server 3 to be a member again", || {
        let rejoining = cluster.data_dir().join("server-3/rejoining");
        (!rejoining.exists()).then_some(())
    });
    assert!(cluster.data_dir().join("server-3/aside-1/segment-0000000000000001").exists());
    nothing_is_lost(&mut cluster, 3);
}

/// A server that was stopped knows what was durable then: its last block is not taken for a torn tail.
#[test]
fn d2_the_last_block_of_a_stopped_server_that_rots_is_not_forgotten() {
    let mut cluster = Cluster::start(3);
    put_all(&cluster);
    cluster.converged();
    let id = (1..=3).find(|id| *id != cluster.leader()).unwrap();
    let pid = Pid::from_raw(cluster.pid(id) as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(cluster.ended(id).code(), Some(0));
    harm(&cluster, id, |frames| *frames.iter().rfind(|(_, len)| *len > 62).unwrap());
    cluster.start_server(id);
    let remark = wait_for("the server to say that it started over", || remarks(&cluster, id));
    assert!(remark.contains("started over, for damage may hide the last block that it acknowledged"), "{remark}");
    wait_for("the server to be a member again", || {
        let rejoining = cluster.data_dir().join(format!("server-{id}/rejoining"));
        (!rejoining.exists()).then_some(())
    });
    nothing_is_lost(&mut cluster, id);
}

/// The others are not there: it says so, answers nobody, and goes on once they are.
#[test]
fn d2_a_damaged_server_waits_for_the_others() {
    let mut cluster = Cluster::start(3);
    put_all(&cluster);
    cluster.converged();
    for id in 1..=3 {
        cluster.kill(id);
    }
    harm(&cluster, 3, |frames| frames.iter().copied().filter(|(_, len)| *len > 62).nth(20).unwrap());
    let mut waiting = cluster.server_command(3).spawn().unwrap();
    wait_for("somebody to be refused", || cluster.statuses().is_empty().then_some(()));
    assert!(waiting.try_wait().unwrap().is_none(), "it ended");
    cluster.start_server(1);
    cluster.start_server(2);
    wait_for("server 3 to say what was mended", || remarks(&cluster, 3));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    cluster.start_server(3);
    nothing_is_lost(&mut cluster, 3);
}

/// After a power cut of all only one log is whole. Its server knows of no block whether it is committed, and cannot lead
/// alone.
#[test]
fn d2_two_damaged_servers_of_three_are_mended_from_the_third() {
    let mut cluster = Cluster::start(3);
    put_all(&cluster);
    cluster.converged();
    (1..=3).for_each(|id| cluster.kill(id));
    for (id, nth) in [(2, 15), (3, 20)] {
        harm(&cluster, id, |frames| frames.iter().copied().filter(|(_, len)| *len > 62).nth(nth).unwrap());
    }
    (1..=3).for_each(|id| cluster.start_server(id));
    for id in [2, 3] {
        let remark = wait_for("a damaged server to say what was mended", || remarks(&cluster, id));
        assert!(remark.contains("mended: damage in 1 place") && remark.contains("from server"), "{remark}");
    }
    nothing_is_lost(&mut cluster, 2);
}

/// The file is harmed under a server that runs: it finds that, mends it without ending, and goes on.
#[test]
fn d2_a_block_that_rots_while_its_server_runs_is_found_by_its_scrub() {
    let mut cluster = Cluster::start(3);
    put_all(&cluster);
    cluster.converged();
    let process = cluster.pid(3);
    let path = segment(&cluster, 3);
    let bytes = std::fs::read(&path).unwrap();
    let (at, len) = frames(&bytes).into_iter().filter(|(_, len)| *len > 62).nth(20).unwrap();
    let byte = at + 24 + len / 2;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[bytes[byte] ^ 4], byte as u64).unwrap();
    let remark = wait_for("server 3 to say what was mended", || remarks(&cluster, 3));
    assert!(remark.contains("mended: damage in 1 place") && remark.contains("from server"), "{remark}");
    assert_eq!(cluster.pid(3), process);
    let has_scrubbed = |status: &Value| status["remarks"].to_string().contains("nothing found");
    wait_for("every server to have scrubbed", || {
        let statuses = cluster.statuses();
        (statuses.len() == 3 && statuses.iter().all(has_scrubbed)).then_some(())
    });
    nothing_is_lost(&mut cluster, 3);
}

/// Gives a server that is down a snapshot of another state than its log makes: one that passes for right.
fn alter_state(cluster: &Cluster, id: u16) {
    let disk = FileDisk::open(cluster.data_dir().join(format!("server-{id}")), || {}).unwrap();
    let founders = Configuration::new((1..=3).map(NodeId));
    let mut log = BlockLog::open(disk, ClusterId::from_name("example"), founders, LogOptions::default()).unwrap();
    let mut machine = KvMachine::default();
    for block in log.blocks(LogIndex(1)).map(Result::unwrap) {
        for (command, number) in Commands::of(&block.payload).zip(0..).filter(|_| block.kind == 1) {
            let at = Position { index: block.height, term: block.term, number, digest: Some(block.hash) };
            machine.apply(&at, command);
        }
    }
    let last = log.block(log.last_index()).unwrap();
    let at = Position { index: last.height, term: last.term, number: 0, digest: None };
    machine.apply(&at, &Command::OpenSession { client: 999 }.encode());
    let meta = SnapshotMeta {
        last_included_index: last.height,
        last_included_term: last.term,
        digest: Some(last.hash),
        configuration: log.snapshot_meta().unwrap().configuration,
        state: Some(machine.digest()),
    };
    let chunk = SnapshotChunk { meta, offset: 0, data: machine.snapshot().into(), done: true };
    let install = WriteOp::InstallSnapshot { index: last.height, keep_from: Some(last.height.next()) };
    for (id, op) in [(1, WriteOp::SnapshotChunk(chunk.into())), (2, install)] {
        log.write(Write { id: WriteId(id), op }).unwrap();
    }
    wait_for("the snapshot to be durable", || (log.persisted().unwrap() == WriteId(2)).then_some(()));
}

/// Its snapshot is wrong as well as its memory: it makes its state anew once, and then trusts nothing that it has.
#[test]
fn i12_a_server_whose_state_differs_makes_it_anew_and_then_starts_over() {
    let mut cluster = Cluster::start(3);
    put_all(&cluster);
    cluster.converged();
    cluster.kill(3);
    alter_state(&cluster, 3);
    cluster.start_server(3);
    // States are compared every 1,024 entries.
    let script: String = (0..1_100).map(|n| format!("put 'more' {n}\n")).collect();
    assert!(cluster.script(1, &["--timeout=60s"], &script).status.success());
    let all = || {
        let status = cluster.statuses().into_iter().find(|status| status["server"] == 3)?;
        let said = status["remarks"].to_string();
        said.contains("started over").then_some(said)
    };
    let said = wait_for("server 3 to start over", all);
    assert!(said.contains("it is made anew from its files"), "{said}");
    assert!(said.contains("for the state that its files make differed as well"), "{said}");
    wait_for("server 3 to be a member again", || {
        let rejoining = cluster.data_dir().join("server-3/rejoining");
        (!rejoining.exists()).then_some(())
    });
    nothing_is_lost(&mut cluster, 3);
}
