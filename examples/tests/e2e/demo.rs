//! The demo: servers as child processes and a prompt.

use std::process::Command;

use crate::support::{Cluster, finish, wait_for};

fn demo(cluster: &Cluster, script: &str) -> crate::support::Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.arg("--data-dir").arg(cluster.data_dir()).arg(format!("--base-port={}", cluster.base_port));
    finish(&mut command, script)
}

#[test]
fn the_demo_survives_the_death_of_a_server() {
    let cluster = Cluster::new(3);
    let ran = demo(&cluster, "put 'a' 1\nkill 1\nput 'a' 2\nget 'a'\nservers\nstart 1\nget 'a'\nexit\n");
    assert!(ran.status.success(), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains(" leads"), "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("success").count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("block "), "each answer names its block: {}", ran.stdout);
    assert!(ran.stdout.contains("server 1: killed"), "{}", ran.stdout);
}

#[test]
fn the_demo_cuts_pauses_and_mends() {
    let cluster = Cluster::new(3);
    let script =
        "put 'a' 1\ncut 1 2\ncut 1 3\nput 'a' 2\nget 'a'\nmend 1 2\nmend 1 3\npause 2\nput 'a' 3\nresume 2\nget 'a'\n";
    let ran = demo(&cluster, script);
    assert!(ran.status.success(), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.stdout.matches("success").count(), 3, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn the_demo_takes_its_children_with_it() {
    let cluster = Cluster::new(3);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.arg("--data-dir").arg(cluster.data_dir()).arg(format!("--base-port={}", cluster.base_port));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    cluster.leader();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the servers' ports to be free again", || {
        let free = |id: u16| std::net::TcpListener::bind(("127.0.0.1", cluster.base_port + id)).is_ok();
        (1..=3).all(free).then_some(())
    });
}

/// The README's transcript is what the demo prints, but for the numbers: another server may lead.
#[test]
fn the_readmes_transcript_is_what_it_prints() {
    let readme = include_str!("../../../README.md");
    let block = readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let commands = block.lines().filter_map(|line| line.strip_prefix("cluster> "));
    let shown = block
        .lines()
        .filter(|line| !["$ ", "cluster> ", "Try: "].iter().any(|start| line.starts_with(start)))
        .map(|line| line.replace(" data", " DIR"));
    let script: String = commands.map(|command| format!("{command}\n")).collect();
    let cluster = Cluster::new(3);
    let ran = demo(&cluster, &script);
    let directory = cluster.data_dir().display().to_string();
    let printed = ran.stdout.lines().map(|line| line.replace(&directory, "DIR"));
    let without_numbers = |lines: Vec<String>| -> Vec<String> {
        let numbers = |line: &String| -> String {
            let place = line.find("(server").or(line.find("server")).unwrap_or(line.len());
            let (answer, origin) = line.split_at(place);
            answer.to_owned() + &origin.replace(|c: char| c.is_ascii_digit(), "")
        };
        lines.iter().map(numbers).collect()
    };
    assert_eq!(without_numbers(printed.collect()), without_numbers(shown.collect()), "{}", ran.stderr);
}
