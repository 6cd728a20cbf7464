//! `verify` and `prove`: what a client that keeps a head notices, and what it shows to others.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Cluster, Ran, finish};

/// A client that keeps its head in this file.
fn keeping(cluster: &Cluster, head: &Path, words: &[&str]) -> Ran {
    let options = ["--timeout=20s", "--head", head.to_str().unwrap()];
    cluster.client(1, &[&options, words].concat())
}

fn head_file(cluster: &Cluster) -> PathBuf {
    cluster.dir.path().join("head.json")
}

fn kept(head: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(head).unwrap()).unwrap()
}

/// Why a command failed.
fn refused(ran: &Ran) -> String {
    assert_eq!(ran.status.code(), Some(1), "{}{}", ran.stdout, ran.stderr);
    ran.lines()[0]["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_client_verifies_the_history_and_proves_who_wrote_a_key() {
    let cluster = Cluster::start(3);
    let head = head_file(&cluster);
    let put = keeping(&cluster, &head, &["put", "'a'", "[1]"]).ok();
    assert!(head.exists(), "the first head is taken on trust when the client connects");
    let first = kept(&head);
    cluster.client(2, &["put", "'b'", "2"]).ok();
    let verified = keeping(&cluster, &head, &["verify"]).ok();
    assert_eq!((&verified["head"], &verified["height"]), (&kept(&head)["id"], &kept(&head)["height"]));
    assert_eq!(verified["since"]["head"], first["id"]);
    assert!(verified["height"].as_u64() > first["height"].as_u64(), "{verified} {first}");

    let proved = keeping(&cluster, &head, &["prove", "'a'"]).ok();
    assert_eq!((&proved["height"], &proved["proof"]["block"]["hash"]), (&put["height"], &put["hash"]));
    let mut command = cluster.client_command(3);
    let text = finish(command.args(["-o", "repr", "--head"]).arg(&head).args(["prove", "'a'"]), "");
    assert!(text.status.success() && text.stderr.contains("only the servers say"), "{}", text.stderr);
    let proof = cluster.dir.path().join("proof.json");
    std::fs::write(&proof, &text.stdout).unwrap();
    let check = |head: &str| {
        finish(Command::new(env!("CARGO_BIN_EXE_chain")).arg("check").arg(&proof).args(["--head", head]), "")
    };
    for trusted in [head.to_str().unwrap(), kept(&head)["id"].as_str().unwrap()] {
        let ran = check(trusted);
        assert!(ran.status.success() && ran.stdout.contains("put 'a' [1]"), "{}{}", ran.stdout, ran.stderr);
    }
    assert_eq!(check(first["id"].as_str().unwrap()).status.code(), Some(1), "not the head that it was proved for");

    assert!(refused(&keeping(&cluster, &head, &["prove", "'none'"])).contains("KEY_DOES_NOT_EXIST"));
    std::fs::write(&head, "{}").unwrap();
    let ran = keeping(&cluster, &head, &["verify"]);
    assert!(ran.status.code() == Some(2) && ran.stderr.contains("--head"), "{}", ran.stderr);
}

#[test]
fn a_chain_that_was_written_anew_is_caught_by_who_kept_a_head() {
    let mut cluster = Cluster::start(1);
    let head = head_file(&cluster);
    for value in ["1", "2", "3"] {
        keeping(&cluster, &head, &["put", "'account'", value]).ok();
    }
    keeping(&cluster, &head, &["verify"]).ok();
    let before = kept(&head);

    // Another chain takes its place, as valid as the one before.
    cluster.kill(1);
    cluster.lose_disk(1);
    cluster.start_server(1);
    cluster.leader();
    cluster.client(2, &["put", "'account'", "1000000"]).ok();
    let hasty = ["--timeout=2s", "--head", head.to_str().unwrap(), "verify"];
    let error = refused(&cluster.client(1, &hasty));
    assert!(error.contains("the cluster was put back to an earlier state"), "{error}");
    for _ in 0..10 {
        cluster.client(2, &["put", "'account'", "1000000"]).ok();
    }
    let unaware = cluster.client(2, &["get", "'account'"]).ok();
    assert_eq!(unaware["result"], "1000000", "who kept nothing sees nothing");
    for words in [&["get", "'account'"][..], &["verify"], &["prove", "'account'"], &["put", "'account'", "4"]] {
        let error = refused(&keeping(&cluster, &head, words));
        assert!(error.starts_with("the history was rewritten: at block "), "{error}");
        assert!(error.contains(before["id"].as_str().unwrap()), "{error}");
    }
    assert_eq!(kept(&head), before, "the head that was seen is kept");
    let chain = finish(
        Command::new(env!("CARGO_BIN_EXE_chain")).arg("verify").arg({
            cluster.kill(1);
            cluster.data_dir().join("server-1")
        }),
        "",
    );
    assert!(chain.status.success(), "nothing is wrong with the new chain itself: {}", chain.stdout);
}
