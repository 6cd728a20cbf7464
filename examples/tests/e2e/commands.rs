//! What clients and servers say, and how they end.

use std::io::{BufRead as _, Write as _};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Cluster, finish};

#[test]
fn put_and_get_over_three_processes() {
    let cluster = Cluster::start(3);
    let put = cluster.client(1, &["put", "{'key1': 'val1'}", "[1, (2, 3), None]"]).ok();
    assert_eq!((&put["command"], &put["result"]), (&json!("put"), &json!("success")));
    assert!(put["height"].as_u64().unwrap() >= 2, "{put}");
    assert_eq!(put["hash"].as_str().unwrap().len(), 64);
    let get = cluster.client(2, &["get", "{'key1': 'val1'}"]).ok();
    assert_eq!(get, json!({"command": "get", "ok": true, "found": true, "result": "[1, (2, 3), None]"}));
    let none = cluster.client(2, &["get", "\"a string\""]).ok();
    assert_eq!(none, json!({"command": "get", "ok": true, "found": false, "result": "KEY_DOES_NOT_EXIST"}));
    let again = cluster.client(1, &["put", "True", "'one'"]).ok();
    assert!(again["height"].as_u64() > put["height"].as_u64(), "a client's second life is a new session");
    assert_eq!(cluster.client(3, &["get", "1.0"]).ok()["result"], "'one'");
}

#[test]
fn a_script_of_a_thousand_commands_runs_in_order() {
    let cluster = Cluster::start(3);
    let script: String =
        (0..500).map(|n| format!("put 'k{}' {n}\nget 'k{}'\n", n % 7, n % 7)).collect::<String>() + "scan 'k' 3\n";
    let ran = cluster.script(1, &[], &script);
    let lines = ran.lines();
    assert_eq!((lines.len(), ran.status.code()), (1001, Some(0)), "{}", ran.stderr);
    for (pair, n) in lines[..1000].chunks(2).zip(0..) {
        assert_eq!((&pair[0]["command"], &pair[0]["ok"]), (&json!("put"), &json!(true)));
        assert_eq!(pair[1]["result"], n.to_string());
    }
    assert_eq!(lines[1000]["result"], json!([["'k0'", "497"], ["'k1'", "498"], ["'k2'", "499"]]));
    assert_eq!(lines[1000]["more"], true);
}

#[test]
fn del_and_cas_say_what_they_did() {
    let cluster = Cluster::start(1);
    let script = "put 'a' 1\ncas 'a' 1.0 2\ncas 'a' 1 3\ncas 'b' 1 3\nget 'a'\ndel 'a'\ndel 'a'\nget 'a'\n";
    let ran = cluster.script(1, &["--keep-going"], script);
    let lines = ran.lines();
    let ok: Vec<bool> = lines.iter().map(|line| line["ok"].as_bool().unwrap()).collect();
    assert_eq!(ok, [true, true, false, false, true, true, true, true]);
    assert_eq!(lines[2]["unknown"], false);
    assert!(lines[2]["error"].as_str().unwrap().contains("the value is 2"), "{}", lines[2]);
    assert!(lines[3]["error"].as_str().unwrap().contains("KEY_DOES_NOT_EXIST"), "{}", lines[3]);
    assert_eq!(lines[4]["result"], "2");
    assert_eq!((&lines[5]["result"], &lines[6]["result"]), (&json!("success"), &json!("KEY_DOES_NOT_EXIST")));
    assert_eq!(ran.status.code(), Some(1));
}

#[test]
fn a_script_stops_at_the_first_failure() {
    let cluster = Cluster::start(1);
    let ran = cluster.script(1, &[], "put 'a' 1\nput abc 1\nput 'b' 1\n");
    let lines = ran.lines();
    assert_eq!((lines.len(), ran.status.code()), (2, Some(2)), "{}", ran.stdout);
    assert_eq!((&lines[1]["ok"], &lines[1]["unknown"]), (&json!(false), &json!(false)));
    assert!(lines[1]["error"].as_str().unwrap().contains("write 'abc' with quotes"));
    assert_eq!(cluster.client(1, &["get", "'b'"]).ok()["found"], false);
}

#[test]
fn a_line_that_is_no_text_is_a_command_that_fails() {
    let mut cluster = Cluster::start(1);
    let mut child = cluster.client_command(1).arg("--keep-going").spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"put 1 1\nput '\xff' 1\nget 1\n").unwrap();
    let ran = child.wait_with_output().unwrap();
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!((lines.len(), ran.status.code()), (3, Some(2)), "{lines:?}");
    assert_eq!((&lines[1]["command"], &lines[1]["ok"]), (&json!("put"), &json!(false)));
    assert!(lines[1]["error"].as_str().unwrap().contains("not UTF-8"), "{}", lines[1]);
    assert_eq!(lines[2]["result"], "1");
    assert!(cluster.console_bytes(1, b"\xff", |_| true)[0].starts_with("no such command"));
    assert_eq!(cluster.console(1, "print bl", |_| true), ["no link is broken"], "the console lives on");
}

#[test]
fn repr_is_the_default_output() {
    let cluster = Cluster::start(1);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_client"));
    command.args(["1", "--servers=1", &format!("--base-port={}", cluster.base_port)]);
    let ran = finish(&mut command, "put 'a' \"it's\"\nget 'a'\nget 'b'\nscan\n");
    assert_eq!(ran.stdout, "success\n\"it's\"\nKEY_DOES_NOT_EXIST\n'a': \"it's\"\n");
    assert_eq!(ran.status.code(), Some(0));
}

#[test]
fn nobody_reachable_is_exit_code_3() {
    let cluster = Cluster::new(3);
    let ran = cluster.client(1, &["--timeout=300ms", "get", "1"]);
    assert_eq!(ran.status.code(), Some(3), "{}{}", ran.stdout, ran.stderr);
    assert_eq!((&ran.lines()[0]["ok"], &ran.lines()[0]["unknown"]), (&json!(false), &json!(false)));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let cluster = Cluster::new(3);
    for words in [&["frobnicate"][..], &["put", "1"], &["--timeout=never", "get", "1"]] {
        assert_eq!(cluster.client(1, words).status.code(), Some(2), "{words:?}");
    }
    assert_eq!(cluster.client(0, &["get", "1"]).status.code(), Some(2));
    assert_eq!(cluster.client(1000, &["get", "1"]).status.code(), Some(2));
}

#[test]
fn a_server_that_cannot_start_says_why_in_one_line() {
    let mut cluster = Cluster::new(3);
    let complaint = |mut command: std::process::Command| {
        let ran = finish(&mut command, "");
        assert!(!ran.status.success());
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        ran.stderr
    };
    assert!(complaint(cluster.server_command(4)).contains("ids are 1 to 3"));
    assert!(complaint(cluster.server_command(0)).contains("ids are 1 to 3"));
    cluster.start_server(1);
    let held = complaint(cluster.server_command(1));
    assert!(held.contains("server-1"), "the directory is named: {held}");
    let mut elsewhere = cluster.server_command(1);
    elsewhere.arg("--data-dir").arg(cluster.dir.path().join("other"));
    let taken = complaint(elsewhere);
    assert!(taken.contains(&format!("port {}", cluster.base_port + 1)), "the port is named: {taken}");
    let mut other_size = cluster.server_command(2);
    other_size.arg("--cluster=another");
    cluster.start_server(2);
    cluster.kill(2);
    assert!(complaint(other_size).contains("cluster"), "a directory of another cluster");
}

#[test]
fn a_server_without_a_terminal_lives_on_and_stops_when_told() {
    let mut cluster = Cluster::start(1);
    cluster.hang_up(1);
    cluster.client(1, &["put", "1", "2"]).ok();
    let pid = rustix::process::Pid::from_raw(cluster.pid(1) as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(cluster.ended(1).code(), Some(0));
    cluster.start_server(1);
    cluster.leader();
    assert_eq!(cluster.client(1, &["get", "1"]).ok()["result"], "2");
}

#[test]
fn a_server_shows_its_chain_its_store_and_its_links() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    // Everybody has been heard: no block that pins one of them comes behind the put.
    cluster.converged();
    let put = cluster.client(7, &["put", "'a'", "[1]"]).ok();
    cluster.converged();
    let hash = format!("  hash {}", put["hash"].as_str().unwrap());
    for command in ["print blockchain", "print bc"] {
        let chain = cluster.console(leader, command, |line| line == hash);
        assert!(chain[0].starts_with("block 0 term 0 decided"), "{chain:?}");
        let block = chain.iter().position(|line| line.contains("(7, 1) put 'a' [1]")).expect("the request is shown");
        assert!(chain[block - 1].starts_with(&format!("block {} term ", put["height"])), "{chain:?}");
        assert!(chain[block - 1].ends_with("decided"));
    }
    assert_eq!(cluster.console(leader, "print kv", |_| true), ["'a': [1]"]);
    assert_eq!(cluster.console(leader, "print depth", |_| true), [put["height"].to_string()]);
    assert_eq!(cluster.console(leader, "print rq", |_| true), ["no request waits"]);
    assert_eq!(cluster.console(leader, "print bl", |_| true), ["no link is broken"]);
    assert_eq!(cluster.console(leader, "print sl", |line| line.starts_with("server 3")).len(), 3);
    let other = leader % 3 + 1;
    let port = cluster.base_port + other;
    let say = |cluster: &mut Cluster, command: &str| cluster.console(leader, command, |_| true).remove(0);
    assert_eq!(say(&mut cluster, &format!("failLink {port}")), format!("the link to server {other} is broken"));
    assert!(say(&mut cluster, &format!("failLink {port}")).contains("already broken"));
    assert_eq!(say(&mut cluster, "print brokenLinks"), format!("server {other}"));
    assert_eq!(say(&mut cluster, &format!("fixLink {port}")), format!("the link to server {other} is mended"));
    assert!(say(&mut cluster, &format!("fixLink {port}")).contains("not broken"));
    assert!(say(&mut cluster, "failLink 1").starts_with("no such port: 1"));
    let status = cluster.console(leader, "status", |line| line.contains("lag 0"));
    assert!(status[0].contains(": leader, term "), "{status:?}");
}

#[test]
fn a_bench_says_how_much_was_answered() {
    let cluster = Cluster::start(3);
    let mut bench = Command::new(env!("CARGO_BIN_EXE_client"));
    let (port, pid) = (cluster.base_port.to_string(), cluster.pid(1).to_string());
    bench.args([
        "bench",
        "--base-port",
        &port,
        "--clients",
        "1,3",
        "--keys",
        "5",
        "--size",
        "9",
        "--read-ratio",
        "0.5",
    ]);
    let ran = finish(bench.args(["--seconds", "1", "--warm-up", "0", "--pids", &pid, "--json"]), "");
    let rounds = ran.lines();
    assert_eq!((rounds.len(), ran.status.code()), (2, Some(0)), "{}", ran.stderr);
    for (round, clients) in rounds.iter().zip([1, 3]) {
        assert_eq!((&round["clients"], &round["failed"]), (&json!(clients), &json!(0)));
        for kind in ["puts", "gets"] {
            assert!(round["answered"][kind]["a_second"].as_f64().unwrap() > 0.0, "{round}");
        }
        assert_eq!(round["cpu_us_an_answer"].as_array().unwrap().len(), 1);
    }
    assert_eq!(cluster.client(1, &["get", "b'bench-0000000004'"]).ok()["result"], "b'xxxxxxxxx'");
    // Nobody there: it says so, and how it ends tells programs.
    let nobody =
        finish(Command::new(env!("CARGO_BIN_EXE_client")).args(["bench", "--base-port", "1", "--seconds", "1"]), "");
    assert_eq!((nobody.status.code(), nobody.stdout.lines().count()), (Some(3), 3), "{}", nobody.stderr);
    assert!(nobody.stderr.starts_with("client bench: "), "{}", nobody.stderr);
}
