//! `chain` over directories that real servers and real logs have written.

use std::path::{Path, PathBuf};
use std::process::Command;

use raft_core::{
    Configuration, Digest, Entry, Incarnation, LogIndex, NodeId, Payload, SnapshotChunk, SnapshotMeta, Storage as _,
    Term, Write, WriteId, WriteOp,
};
use raft_kv::{BlockLog, ClusterId, FileDisk, LogOptions};
use serde_json::Value;

use crate::support::{Cluster, Ran, finish};

fn chain(words: &[&str]) -> Ran {
    finish(Command::new(env!("CARGO_BIN_EXE_chain")).args(words), "")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The directory of a server that took these writes and was killed.
fn served() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start(1);
    for (command, key, value) in [("put", "'a'", "1"), ("put", "'b'", "[2]"), ("cas", "'a'", "1")] {
        let words = [command, key, value, "'new'"];
        cluster.client(1, &words[..if command == "cas" { 4 } else { 3 }]).ok();
    }
    cluster.client(1, &["del", "'b'"]).ok();
    let dir = cluster.data_dir().join("server-1");
    let in_use = chain(&["verify", text(&dir)]);
    assert_eq!(in_use.status.code(), Some(2));
    assert!(in_use.stderr.contains("is in use by another process"), "{}", in_use.stderr);
    cluster.kill(1);
    (cluster, dir)
}

/// A log of 40 blocks in small segments, of which a snapshot of block 30 needs the last.
fn logged(archive: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(dir.path(), || ()).unwrap();
    let (members, options) = (Configuration::new([NodeId(1)]), LogOptions { segment_bytes: 2000, archive });
    let id = ClusterId::from_name("chain");
    let mut log = BlockLog::create(disk, id, members.clone(), Incarnation(1), options).unwrap();
    let mut last = 0;
    let mut write = |log: &mut BlockLog<FileDisk>, op| {
        last += 1;
        log.write(Write { id: WriteId(last), op }).unwrap();
        while log.persisted().unwrap() < WriteId(last) {
            std::thread::yield_now();
        }
    };
    for height in 1..=40 {
        let payload = Payload::Command(vec![height as u8; 200].into());
        let entry = Entry { index: LogIndex(height), term: Term(1), payload };
        write(&mut log, WriteOp::Append { entries: [entry].into(), digests: None });
    }
    let (index, term, state) = (LogIndex(30), Term(1), Some(Digest([5; 32])));
    let digest = log.digest(index).unwrap();
    let configuration = members.clone();
    let meta = SnapshotMeta { last_included_index: index, last_included_term: term, digest, configuration, state };
    let chunk = SnapshotChunk { meta, offset: 0, data: b"the state".as_slice().into(), done: true };
    write(&mut log, WriteOp::SnapshotChunk(chunk.into()));
    write(&mut log, WriteOp::InstallSnapshot { index, keep_from: Some(LogIndex(31)) });
    log.into_disk().shutdown().unwrap();
    // A start gives back at once what is not needed.
    let disk = FileDisk::open(dir.path(), || ()).unwrap();
    BlockLog::open(disk, id, members, options).unwrap().into_disk().shutdown().unwrap();
    dir
}

/// The file of the directory or of its archive with this place among the segments.
fn segment(dir: &Path, at: usize) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("segment-"));
    files.sort();
    files[at].clone()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_a_server_left_is_verified_shown_and_exported() {
    let (_cluster, dir) = served();
    let ran = chain(&["verify", text(&dir)]);
    assert!(ran.status.success() && ran.stderr.is_empty(), "{}{}", ran.stdout, ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].contains("with servers 1") && lines[1].starts_with("blocks 1 to "), "{}", ran.stdout);
    assert!(lines.last().unwrap().starts_with("sound: "), "{}", ran.stdout);
    let ran = chain(&["export", text(&dir)]);
    assert!(ran.status.success() && ran.stderr.is_empty(), "{}", ran.stderr);
    let blocks = ran.lines();
    assert_eq!((&blocks[0]["kind"], &blocks[0]["height"]), (&"genesis".into(), &0.into()));
    for (pair, height) in blocks.windows(2).zip(1..) {
        assert_eq!((&pair[1]["prev_hash"], &pair[1]["height"]), (&pair[0]["hash"], &height.into()));
    }
    let transactions = blocks.iter().filter_map(|block| block["transactions"].as_array()).flatten();
    let operation = |it: &Value| format!("{} {} {}", it["operation"], it["key"], it["value"]).replace('"', "");
    let operations: Vec<String> = transactions.map(operation).filter(|text| !text.starts_with("open")).collect();
    assert_eq!(operations, ["put 'a' 1", "put 'b' [2]", "cas 'a' null", "del 'b' null"]);
    let last = blocks.len() - 1;
    let ran = chain(&["show", text(&dir), "--from", &last.to_string(), "-o", "json"]);
    assert_eq!(ran.lines(), blocks[last..], "show -o json gives what export gives");
    let ran = chain(&["show", text(&dir), "--to", "1"]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0] == "block 0 term 0" && lines.iter().any(|line| line.starts_with("block 1 term 1")));
    assert!(!ran.stdout.contains("block 2 "), "{}", ran.stdout);
    let ran = chain(&["show", text(&dir), "--from", "99999"]);
    assert!(ran.status.success() && ran.stdout.is_empty() && ran.stderr.contains("the last is block "));
}

#[test]
fn a_flipped_byte_is_named_by_file_and_offset() {
    let dir = logged(true);
    let sound = chain(&["verify", text(dir.path())]);
    assert!(sound.status.success(), "{}", sound.stdout);
    assert!(
        sound.stdout.contains("blocks 1 to 40 in ") && sound.stdout.contains(" in the archive"),
        "{}",
        sound.stdout
    );
    assert!(sound.stdout.contains("with a snapshot of block 30"), "{}", sound.stdout);
    let archived = segment(&dir.path().join("archive"), 1);
    let live = segment(dir.path(), 0);
    flip(&archived, 900);
    flip(&live, 10);
    let ran = chain(&["verify", text(dir.path())]);
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("is damaged in 2 places"), "{}", ran.stderr);
    let damage: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with("damage: ")).collect();
    assert!(damage[0].starts_with(&format!("damage: {} at byte ", archived.display())), "{}", ran.stdout);
    let byte: usize = damage[0].split(" at byte ").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    assert!((600..=900).contains(&byte), "the frame that holds byte 900 begins there: {byte}");
    assert!(damage[1].starts_with(&format!("damage: {} at byte 0: ", live.display())), "{}", ran.stdout);
    assert!(ran.stdout.contains("what to do: put this directory back from a copy"), "{}", ran.stdout);
    let json = chain(&["verify", text(dir.path()), "-o", "json"]);
    let lines = json.lines();
    assert_eq!(
        (json.status.code(), &lines[0]["byte"], &lines[0]["severity"]),
        (Some(1), &byte.into(), &"damage".into())
    );
    assert_eq!(lines.last().unwrap()["sound"], false);
    let export = chain(&["export", text(dir.path())]);
    assert!(export.status.code() == Some(1) && export.stdout.lines().count() > 35, "what is left is shown");
    let prove = chain(&["prove", text(dir.path()), "1"]);
    assert!(prove.status.code() == Some(1) && prove.stderr.contains("chain verify"), "{}", prove.stderr);
}

#[test]
fn a_payload_that_is_no_command_is_exported_as_it_is() {
    let dir = logged(false);
    let ran = chain(&["export", text(dir.path()), "--from", "39"]);
    let blocks = ran.lines();
    assert_eq!((blocks.len(), &blocks[0]["payload"]), (2, &"27".repeat(200).into()));
    assert_eq!((blocks[0].get("transactions"), &blocks[0]["kind"]), (None, &"command".into()));
    let ran = chain(&["show", text(dir.path())]);
    assert!(ran.status.success() && ran.stderr.contains("--archive"), "{}", ran.stderr);
    assert!(ran.stderr.contains("chain: blocks 1 to "), "{}", ran.stderr);
}

#[test]
fn a_proof_is_checked_without_the_chain_and_a_changed_one_is_refused() {
    let dir = logged(true);
    let (old, new, since) = (dir.path().join("old.json"), dir.path().join("new.json"), dir.path().join("since.json"));
    let ran = chain(&["prove", text(dir.path()), "7", "--at", "20", "--out", text(&old)]);
    assert!(ran.status.success() && ran.stderr.contains("block 7 is in the chain up to block 20"), "{}", ran.stderr);
    let ran = chain(&["prove", text(dir.path()), "33"]);
    std::fs::write(&new, &ran.stdout).unwrap();
    let ran = chain(&["prove", text(dir.path()), "--since", text(&old), "--out", text(&since)]);
    assert!(ran.status.success() && ran.stderr.contains("goes on from head"), "{}", ran.stderr);
    let ran = chain(&["check", text(&old)]);
    assert!(ran.status.success() && ran.stderr.contains("only one that you kept tells"), "{}", ran.stderr);
    let proof: Value = serde_json::from_slice(&std::fs::read(&old).unwrap()).unwrap();
    let id = proof["head"]["id"].as_str().unwrap();
    for head in [id, text(&old)] {
        for proof in [&old, &since] {
            let ran = chain(&["check", text(proof), "--head", head]);
            assert!(ran.status.success() && ran.stderr.is_empty(), "{}", ran.stderr);
        }
    }
    let ran = chain(&["check", text(&new), "--head", text(&since)]);
    assert!(
        ran.status.success() && ran.stdout.starts_with("block 33 is in the chain up to block 40"),
        "{}",
        ran.stdout
    );
    let ran = chain(&["check", text(&new), "--head", id]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.stderr.contains("not for the one that is trusted"), "{}", ran.stderr);
    let digit = |text: &str| if text.starts_with('0') { "1" } else { "0" }.to_owned() + &text[1..];
    for path in ["/head/height", "/head/root", "/block/payload", "/block/term", "/block/hash", "/path/2"] {
        let mut changed = proof.clone();
        let field = changed.pointer_mut(path).unwrap();
        *field = field.as_str().map_or(6.into(), |text| digit(text).into());
        std::fs::write(&new, changed.to_string()).unwrap();
        let ran = chain(&["check", text(&new), "--head", id]);
        assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(1), ""), "{path}");
    }
}

#[test]
fn what_cannot_be_proved_or_read_says_what_to_do() {
    let dir = logged(false);
    let ran = chain(&["prove", text(dir.path()), "35"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.stderr.contains("a proof needs every block from 0 on") && ran.stderr.contains("--archive"));
    let dir = logged(true);
    let ran = chain(&["prove", text(dir.path()), "41"]);
    assert!(ran.status.code() == Some(1) && ran.stderr.contains("the last is block 40"), "{}", ran.stderr);
    for (words, says) in [
        (vec!["verify", "/nowhere"], "list /nowhere: No such file"),
        (vec!["prove", text(dir.path())], "HEIGHT"),
        (vec!["check", "/nowhere"], "cannot read /nowhere"),
        (vec!["verify"], "<DIR>"),
    ] {
        let ran = chain(&words);
        assert!(ran.status.code() == Some(2) && ran.stderr.contains(says), "{words:?}: {}", ran.stderr);
    }
    let empty = tempfile::tempdir().unwrap();
    let ran = chain(&["verify", text(empty.path())]);
    assert!(ran.status.code() == Some(2) && ran.stderr.contains("nothing was ever stored there"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "it makes no file");
}
