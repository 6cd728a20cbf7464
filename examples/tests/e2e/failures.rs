//! Servers that die, links that break, clients that try again: nothing acknowledged is lost and nothing is done twice.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Cluster, wait_for};

#[test]
fn killing_the_leader_stops_nobody() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    let first = cluster.leader();
    cluster.kill(first);
    cluster.client(1, &["put", "'b'", "2"]).ok();
    assert_eq!(cluster.client(1, &["get", "'a'"]).ok()["result"], "1");
    assert_ne!(cluster.leader(), first);
    cluster.start_server(first);
    cluster.converged();
}

#[test]
fn killing_all_and_starting_again_loses_nothing() {
    let mut cluster = Cluster::start(3);
    let script: String = (0..100).map(|n| format!("put {n} {n}\n")).collect();
    assert!(cluster.script(1, &[], &script).status.success());
    let before = cluster.converged();
    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.start_server(id);
    }
    let lines =
        cluster.script(2, &["--timeout=30s"], &(0..100).map(|n| format!("get {n}\n")).collect::<String>()).lines();
    assert_eq!(lines.len(), 100);
    assert!(
        lines.iter().zip(0..).all(|(line, n): (&Value, u32)| line["result"].as_str() == Some(&n.to_string())),
        "{lines:?}"
    );
    let after = cluster.converged();
    assert!(after["last"].as_u64() > before["last"].as_u64());
}

#[test]
fn a_minority_refuses() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    let leader = cluster.leader();
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.kill(id);
    }
    let put = cluster.client(1, &["--timeout=2s", "put", "'a'", "2"]);
    let line = &put.lines()[0];
    assert_eq!(line["ok"], false);
    let expected = if line["unknown"] == true { 4 } else { 3 };
    assert_eq!(put.status.code(), Some(expected), "{line}");
    let get = cluster.client(1, &["--timeout=2s", "get", "'a'"]);
    assert_eq!(get.status.code(), Some(3), "a read without a majority could be stale: {}", get.stdout);
}

#[test]
fn a_cut_off_leader_is_replaced_and_rejoins() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    let old = cluster.leader();
    let base_port = cluster.base_port;
    let others: Vec<u16> = (1..=3).filter(|id| *id != old).collect();
    for other in &others {
        cluster.console(old, &format!("failLink {}", base_port + other), |line| line.ends_with("broken"));
    }
    cluster.client(1, &["put", "'a'", "2"]).ok();
    let leaders = || cluster.statuses().into_iter().filter(|status| status["role"] == "leader");
    wait_for("the old leader to step down", || {
        let leaders: Vec<Value> = leaders().collect();
        (leaders.len() == 1 && leaders[0]["server"] != old).then_some(())
    });
    for other in &others {
        cluster.console(old, &format!("fixLink {}", base_port + other), |line| line.ends_with("mended"));
    }
    cluster.converged();
    assert_eq!(cluster.client(1, &["get", "'a'"]).ok()["result"], "2");
}

#[test]
fn a_cut_link_to_a_client_sends_it_to_another_server_and_back() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    cluster.console(leader, "failLink 7005", |line| line.ends_with("broken"));
    let put = cluster.client(5, &["--timeout=1s", "put", "1", "1"]);
    assert!(!put.status.success(), "only the leader takes writes, and it does not hear client 5: {}", put.stdout);
    cluster.client(6, &["put", "1", "2"]).ok();
    cluster.console(leader, "fixLink 7005", |line| line.ends_with("mended"));
    cluster.client(5, &["put", "1", "3"]).ok();
    assert_eq!(cluster.client(6, &["get", "1"]).ok()["result"], "3");
}

#[test]
fn a_delayed_cluster_elects_and_answers() {
    let mut cluster = Cluster::new(3);
    cluster.options.push("--delay-ms=200");
    for id in 1..=3 {
        cluster.start_server(id);
    }
    cluster.leader();
    cluster.client(1, &["put", "'a'", "1"]).ok();
    assert_eq!(cluster.client(2, &["get", "'a'"]).ok()["result"], "1");
}

/// A terminal held by Ctrl-S, a supervisor that does not read: what is printed must not hold up the server.
#[test]
fn a_server_whose_words_nobody_reads_serves_on() {
    let cluster = Cluster::new(1);
    let (_unread, mut full) = std::io::pipe().unwrap();
    full.write_all(&[b'.'; PIPE_BYTES]).unwrap();
    let mut server = cluster.server_command(1).stdout(Stdio::null()).stderr(full).spawn().unwrap();
    let put = cluster.client(1, &["--timeout=20s", "put", "'a'", "1"]);
    for _ in 0..3 {
        drop(std::net::TcpStream::connect(("127.0.0.1", cluster.base_port + 1)));
    }
    let get = cluster.client(1, &["--timeout=20s", "get", "'a'"]);
    let pid = rustix::process::Pid::from_raw(server.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_for("the server to end", || server.try_wait().unwrap());
    assert!(put.status.success() && get.status.success(), "{}{}", put.stdout, get.stdout);

    /// What a pipe of Linux holds.
    const PIPE_BYTES: usize = 1 << 16;
}

#[test]
fn every_failed_leader_is_replaced() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let leader = cluster.leader();
            cluster.converged();
            cluster.kill(leader);
            let start = Instant::now();
            let put = cluster.client(1, &["--timeout=30s", "put", "'a'", "1"]).ok();
            let time = start.elapsed();
            assert_ne!(cluster.leader(), leader, "{put}");
            cluster.start_server(leader);
            time
        })
        .collect();
    times.sort_unstable();
    // A figure, not a bar: `cargo test --release --test e2e every_failed -- --nocapture` on a quiet machine.
    println!("from a leader's death to the next write's answer: {times:?}");
}

#[test]
fn a_leader_told_to_stop_hands_over_before_it_ends() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    cluster.converged();
    let old = cluster.leader();
    let pid = rustix::process::Pid::from_raw(cluster.pid(old) as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(cluster.ended(old).code(), Some(0));
    let now = cluster.statuses();
    let leader = now.iter().find(|status| status["role"] == "leader");
    assert!(leader.is_some_and(|leader| leader["server"] != old), "nobody leads yet: {now:?}");
}

#[test]
fn a_stopped_process_does_no_harm() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    let old = cluster.leader();
    let pid = rustix::process::Pid::from_raw(cluster.pid(old) as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    cluster.client(1, &["--timeout=30s", "put", "'a'", "2"]).ok();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert_eq!(cluster.client(2, &["get", "'a'"]).ok()["result"], "2", "p1: no stale read after SIGCONT");
    cluster.converged();
    let chain = cluster.console(old, "print depth", |_| true);
    assert_eq!(chain.len(), 1);
}

/// Two clients fight over one counter while the leader changes: each step of it is taken by exactly one of them.
#[test]
fn c1_no_step_of_a_counter_is_taken_twice() {
    const STEPS: u32 = 300;
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'n'", "0"]).ok();
    let script: String = (0..STEPS).map(|n| format!("cas 'n' {n} {}\n", n + 1)).collect();
    let commands: Vec<_> = [1, 2].map(|id| cluster.client_command(id)).into();
    let (progress, steps) = mpsc::channel();
    let clients: Vec<_> = commands
        .into_iter()
        .map(|mut command| {
            let (script, progress) = (script.clone(), progress.clone());
            std::thread::spawn(move || {
                let mut child = command.args(["--keep-going", "--timeout=30s"]).spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()).unwrap());
                let mut lines = Vec::new();
                for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                    lines.push(serde_json::from_str::<Value>(&line.unwrap()).unwrap());
                    let _ = progress.send(());
                }
                writer.join().unwrap();
                child.wait().unwrap();
                lines
            })
        })
        .collect();
    for _ in 0..3 {
        for _ in 0..STEPS / 3 {
            steps.recv_timeout(Duration::from_secs(60)).expect("the clients go on");
        }
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.start_server(leader);
    }
    let results: Vec<Vec<Value>> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let count = |field: &str| results.iter().flatten().filter(|line| line[field] == true).count() as u64;
    let (taken, unknown) = (count("ok"), count("unknown"));
    let value: u64 = cluster.client(3, &["get", "'n'"]).ok()["result"].as_str().unwrap().parse().unwrap();
    assert_eq!(results.iter().map(Vec::len).sum::<usize>(), 2 * STEPS as usize);
    assert!(taken <= value && value <= taken + unknown, "{taken} taken, {unknown} unknown, the counter is {value}");
    assert_eq!(unknown, 0, "every retry found its answer within the deadline");
    cluster.converged();
}

/// Writes go on while the leader is killed by SIGKILL and started again every two seconds. `RUNS=10` for the whole of it.
#[test]
fn p2_every_acknowledged_write_survives_the_leaders_deaths() {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1);
    for run in 1..=runs {
        one_run(run, if runs > 1 { Duration::from_secs(2) } else { Duration::from_millis(700) });
    }
}

fn one_run(run: u32, between_deaths: Duration) {
    const WRITES: u64 = 200;
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client_command(1).args(["--keep-going", "--timeout=30s"]).spawn().unwrap();
    let (mut stdin, stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let answers = std::thread::spawn(move || -> Vec<Value> {
        BufReader::new(stdout).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    });
    // Spread over the deaths: each write is typed some time after the one before.
    let pause = between_deaths * 5 / WRITES as u32;
    let typist = std::thread::spawn(move || {
        for n in 0..WRITES {
            writeln!(stdin, "put {n} 'value {n}'").unwrap();
            std::thread::park_timeout(pause);
        }
    });
    let mut deaths = 0;
    while !typist.is_finished() {
        std::thread::park_timeout(between_deaths);
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.start_server(leader);
        deaths += 1;
    }
    typist.join().unwrap();
    let answers = answers.join().unwrap();
    client.wait().unwrap();
    assert_eq!(answers.len() as u64, WRITES);
    let acknowledged: Vec<u64> = (0..WRITES).filter(|n| answers[*n as usize]["ok"] == true).collect();
    let gets: String = acknowledged.iter().map(|n| format!("get {n}\n")).collect();
    let found = cluster.script(2, &["--timeout=30s"], &gets).lines();
    for (line, n) in found.iter().zip(&acknowledged) {
        assert_eq!(line["result"], format!("'value {n}'"), "write {n} was acknowledged");
    }
    assert_eq!(found.len(), acknowledged.len());
    let last = cluster.converged();
    let end = last["last"].to_string();
    let mut chains = Vec::new();
    for id in 1..=3 {
        let head = format!("  hash {}", last["head"].as_str().unwrap());
        chains.push(cluster.console(id, "print blockchain", |line| line == head));
    }
    assert!(chains[0] == chains[1] && chains[1] == chains[2], "all hashes are equal at equal height");
    for n in 0..WRITES {
        let write = format!(") put {n} 'value {n}'");
        let numbers: Vec<&String> = chains[0].iter().filter(|line| line.ends_with(&write)).collect();
        let mut distinct = numbers.clone();
        distinct.dedup();
        assert!(distinct.len() <= 1, "write {n} has one name, however often it was tried: {numbers:?}");
    }
    println!(
        "run {run}: {deaths} deaths, {} of {WRITES} acknowledged, three equal chains of {end} blocks",
        acknowledged.len()
    );
}
