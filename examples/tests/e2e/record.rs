//! Servers that are recorded, and `replay` over what they leave.

use std::path::{Path, PathBuf};
use std::process::Command;

use raft_core::{Config, Configuration, Event, MemStorage, Node, NodeId, Storage as _};
use raft_kv::recording::Recorder;

use crate::support::{Cluster, Ran, finish};

fn replay(file: &Path, options: &[&str]) -> Ran {
    finish(Command::new(env!("CARGO_BIN_EXE_replay")).arg(file).args(options), "")
}

/// A recording of one server: `steps` true steps, and then a tick that is said to have done nothing though it made an
/// election due.
fn lie(directory: &Path) -> (PathBuf, u64) {
    let config = Config::new(NodeId(1));
    let storage = MemStorage::new(Configuration::new([NodeId(1)]));
    let recorder = Recorder::start(storage, &config, directory, u64::MAX, |what| panic!("{what}")).unwrap();
    let path = recorder.path().unwrap().to_owned();
    let mut node = Node::new(config, recorder).unwrap();
    (0..5).for_each(|_| drop(node.step(Event::Tick)));
    node.storage_mut().step_begins(&Event::Campaign);
    node.storage_mut().step_ends(&[]);
    (path, 6)
}

#[test]
fn every_server_of_a_cluster_that_lost_its_leader_is_replayed() {
    let mut cluster = Cluster::new(3);
    cluster.record = true;
    (1..=3).for_each(|id| cluster.start_server(id));
    let first = cluster.leader();
    let script: String = (0..30).map(|n| format!("put {n} 'value {n}'\nget {n}\n")).collect();
    assert!(cluster.script(1, &[], &script).status.success());
    cluster.kill(first);
    cluster.client(1, &["put", "'b'", "2"]).ok();
    cluster.start_server(first);
    cluster.converged();
    let pid = |cluster: &Cluster, id| rustix::process::Pid::from_raw(cluster.pid(id) as i32).unwrap();
    for id in 1..=3 {
        rustix::process::kill_process(pid(&cluster, id), rustix::process::Signal::TERM).unwrap();
        assert!(cluster.ended(id).success());
    }
    let files: Vec<PathBuf> =
        std::fs::read_dir(cluster.record_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "one a life: {files:?}");
    for file in &files {
        let ran = replay(file, &["--quiet"]);
        assert!(ran.status.success(), "{}: {}{}", file.display(), ran.stdout, ran.stderr);
        let was_killed = file.ends_with(format!("node-{first}-1.rec"));
        let (killed, torn) = (ran.stdout.contains("was killed"), ran.stdout.contains("are left out"));
        assert_eq!(was_killed, killed || torn, "{}", ran.stdout);
        assert_eq!(!was_killed, ran.stdout.contains("the server stopped"), "{}", ran.stdout);
    }
    let told = |file: &PathBuf| replay(file, &[]).stdout;
    let handed_over = files.iter().map(told).any(|text| text.contains("hand leadership over\n"));
    assert!(handed_over, "servers that stop hand leadership over");
    let file = cluster.record_dir().join(format!("node-{first}-1.rec"));
    let (one, other) = (replay(&file, &[]), replay(&file, &[]));
    assert_eq!(one.stdout, other.stdout, "two processes");
    for line in ["-> now leader of term ", "-> appended as ", "put 7 'value 7'", "is durable", "-> apply "] {
        assert!(one.stdout.contains(line), "{line}");
    }
}

#[test]
fn a_step_that_goes_another_way_ends_the_replay() {
    let directory = tempfile::tempdir().unwrap();
    let (file, step) = lie(directory.path());
    let ran = replay(&file, &["-q"]);
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(1), ""));
    let expected = format!("step {step}: recorded actions differ: recorded 0 (crc ");
    assert!(ran.stderr.contains(&expected) && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    let ran = replay(&file, &["--from", "100"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.stdout.contains("-> now "), "the step that differs is shown, whatever was asked: {}", ran.stdout);
    assert!(!ran.stdout.contains("\n5 +"));
    assert!(replay(&file, &["-q", "--until", "5"]).status.success());
}

#[test]
fn from_and_until_show_a_part() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = lie(directory.path());
    let ran = replay(&file, &["--from", "2", "--until", "3"]);
    let numbers: Vec<_> = ran.stdout.lines().filter(|line| line.ends_with(" tick")).collect();
    assert_eq!(numbers.len(), 2, "{}", ran.stdout);
    assert!(numbers[0].starts_with("2 +") && numbers[1].starts_with("3 +"));
    assert!(ran.stdout.ends_with("3 steps replayed, all equal; the recording goes on\n"), "{}", ran.stdout);
    assert!(ran.stdout.starts_with("start of server 1 at 2"), "{}", ran.stdout);
}

#[test]
fn damage_and_other_files_are_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = lie(directory.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    for (bytes, says) in [(bytes.as_slice(), "damaged at byte "), (b"#!/bin/sh\n# another file\n", "no recording")] {
        std::fs::write(&file, bytes).unwrap();
        let ran = replay(&file, &["-q"]);
        assert_eq!(ran.status.code(), Some(1), "{}", ran.stdout);
        assert!(ran.stderr.contains(says) && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    }
    let ran = replay(&directory.path().join("none"), &[]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.stderr.contains("none: "), "{}", ran.stderr);
}

#[test]
fn a_recording_without_a_step_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = lie(directory.path());
    let all = std::fs::read(&file).unwrap();
    for length in [0, 16, 20] {
        std::fs::write(&file, &all[..length]).unwrap();
        let ran = replay(&file, &[]);
        assert!(ran.status.success() && ran.stdout.contains("holds no step"), "{length}: {}{}", ran.stdout, ran.stderr);
    }
    let storage = MemStorage::new(Configuration::new([NodeId(1)]));
    let recorder =
        Recorder::start(storage, &Config::new(NodeId(1)), directory.path(), u64::MAX, |what| panic!("{what}")).unwrap();
    let file = recorder.path().unwrap().to_owned();
    drop(Node::new(Config::new(NodeId(1)), recorder).unwrap());
    let ran = replay(&file, &[]);
    assert!(ran.status.success() && ran.stdout.contains("holds no step"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_server_that_cannot_record_does_not_start() {
    let mut cluster = Cluster::new(1);
    std::fs::write(cluster.record_dir(), "a file").unwrap();
    cluster.record = true;
    let ran = finish(&mut cluster.server_command(1), "");
    assert!(!ran.status.success());
    assert!(ran.stderr.contains("cannot record in "), "{}", ran.stderr);
}
