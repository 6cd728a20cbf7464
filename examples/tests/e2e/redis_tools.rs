//! Redis's own tools: its command line and its benchmark, of Debian's package redis-tools.

use std::process::Command;

use crate::redis_clients::cluster;
use crate::support::{Ran, finish};

/// Runs a tool against one server's port, unless the machine has no such tool: that is said.
fn run(tool: &str, port: u16, words: &[&str], input: &str) -> Option<Ran> {
    if let Err(error) = Command::new(tool).arg("--version").output() {
        println!("SKIPPED: {tool} cannot be run ({error}): apt-get install redis-tools");
        return None;
    }
    let ran = finish(Command::new(tool).args(["-p", &port.to_string()]).args(words), input);
    assert!(ran.status.success(), "{tool} {words:?}: {}{}", ran.stdout, ran.stderr);
    Some(ran)
}

#[test]
fn redis_cli_reads_and_writes_through_any_server() {
    let cluster = cluster();
    for id in 1..=3 {
        let port = cluster.redis_port(id);
        let cli = |words: &[&str]| run("redis-cli", port, words, "").map(|ran| ran.stdout);
        let Some(pong) = cli(&["ping"]) else { return };
        assert_eq!(pong, "PONG\n");
        let key = format!("cli:{id}");
        assert_eq!(cli(&["set", &key, "some words"]).unwrap(), "OK\n");
        assert_eq!(cli(&["get", &key]).unwrap(), "some words\n");
        assert_eq!(cli(&["incr", "cli-counter"]).unwrap(), format!("{id}\n"));
        assert_eq!(cli(&["cas", &key, "some words", "others"]).unwrap(), "1\n");
        assert!(cli(&["--scan", "--pattern", "cli:*"]).unwrap().lines().any(|line| line == key));
        assert!(cli(&["info"]).unwrap().contains("raft_role:"));
        // A script, as at its prompt.
        let script = run("redis-cli", port, &[], &format!("del {key}\nexists {key}\nget cli-counter\nnope\n"));
        assert_eq!(script.unwrap().stdout.lines().take(3).collect::<Vec<_>>(), ["1", "0", &id.to_string()]);
        // A file of the protocol itself.
        let piped = run("redis-cli", port, &["--pipe"], "SET piped 1\r\nINCR piped\r\n").unwrap();
        assert!(piped.stdout.contains("errors: 0, replies: 2"), "{}", piped.stdout);
        assert_eq!(cli(&["get", "piped"]).unwrap(), "2\n");
    }
}

#[test]
fn redis_benchmark_loads_leader_and_follower() {
    let cluster = cluster();
    for id in 1..=3 {
        let port = cluster.redis_port(id);
        for pipeline in ["1", "16"] {
            let words =
                ["-t", "ping,set,get,incr,mset", "-n", "600", "-c", "16", "-r", "100", "-d", "256", "-P", pipeline];
            let Some(ran) = run("redis-benchmark", port, &[&words[..], &["--csv"]].concat(), "") else { return };
            for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
                assert!(ran.stdout.contains(&format!("\"{test}\",")), "{test}: {}{}", ran.stdout, ran.stderr);
            }
            assert!(!ran.stderr.to_lowercase().contains("err"), "{}", ran.stderr);
        }
    }
    cluster.converged();
}
