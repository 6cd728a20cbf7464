//! Who takes part: servers that lose their disks, servers that are added and removed.

use serde_json::Value;

use crate::support::{Cluster, Ran, finish, wait_for};

fn address(cluster: &Cluster, id: u16) -> String {
    format!("127.0.0.1:{}", cluster.base_port + id)
}

fn add(cluster: &Cluster, id: u16) -> Ran {
    cluster.client(9, &["--timeout=30s", "add", &id.to_string(), &address(cluster, id)])
}

fn remove(cluster: &Cluster, id: u16) -> Ran {
    cluster.client(9, &["--timeout=30s", "remove", &id.to_string()])
}

/// Who votes, by a line that lists the members; everybody's address must be there.
fn voters(cluster: &Cluster, line: &Value) -> Vec<u64> {
    let members = line["result"].as_array().unwrap();
    for member in members {
        let id = member["server"].as_u64().unwrap();
        assert_eq!(member["address"], address(cluster, id as u16), "{line}");
    }
    let votes = members.iter().filter(|member| member["standing"] == "votes");
    votes.map(|member| member["server"].as_u64().unwrap()).collect()
}

/// Fault M10 on real disks: a server whose files are gone is a stranger under a member's id. It receives the log, says
/// what is the matter, and is no part of any majority, until it is removed and added again.
#[test]
fn m10_a_server_that_lost_its_files_receives_and_does_not_count() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    cluster.converged();
    let leader = cluster.leader();
    let [lost, other] = [1, 2].map(|step| (leader + step - 1) % 3 + 1);
    cluster.kill(lost);
    cluster.lose_disk(lost);
    cluster.start_server(lost);
    let words = format!("server {lost} has lost the disk that the cluster knows it by");
    cluster.told(leader, &words);
    cluster.told(lost, &words);
    cluster.converged();
    let members = cluster.client(9, &["members"]).ok();
    assert_eq!(voters(&cluster, &members).len(), 2, "{members}");
    let again = add(&cluster, lost);
    let words = format!("server {lost} has lost its disk: remove it, then add it again");
    assert_eq!((again.lines()[0]["error"].as_str(), again.status.code()), (Some(words.as_str()), Some(1)));
    let statuses = cluster.statuses();
    let names_it = |status: &&Value| status["disks_lost"] == serde_json::json!([lost]);
    assert_eq!(statuses.iter().filter(names_it).count(), 2, "the leader and itself: {statuses:?}");
    for id in [leader, lost] {
        cluster.console(id, "status", |line| line.ends_with("has lost its disk: remove it, then add it again"));
    }

    cluster.kill(other);
    let put = cluster.client(1, &["--timeout=2s", "put", "'a'", "2"]);
    assert!(!put.status.success(), "the leader and the new disk are no majority: {}", put.stdout);
    assert_eq!(cluster.client(1, &["--timeout=1s", "get", "'a'"]).status.code(), Some(3), "nor for a read");

    cluster.start_server(other);
    cluster.client(1, &["put", "'a'", "3"]).ok();
    cluster.converged();
    remove(&cluster, lost).ok();
    let members = add(&cluster, lost).ok();
    assert_eq!(voters(&cluster, &members), [1, 2, 3], "{members}");
    cluster.converged();
    cluster.kill(other);
    cluster.client(1, &["--timeout=30s", "put", "'a'", "4"]).ok();
    assert_eq!(cluster.client(2, &["get", "'a'"]).ok()["result"], "4");
}

#[test]
fn a_server_that_is_added_takes_the_place_of_one_that_died() {
    let mut cluster = Cluster::with_room(3, 4);
    (1..=3).for_each(|id| cluster.start_server(id));
    cluster.leader();
    cluster.client(1, &["put", "'a'", "1"]).ok();

    cluster.start_server(4);
    let added = add(&cluster, 4).ok();
    assert_eq!(voters(&cluster, &added), [1, 2, 3, 4]);
    let again = add(&cluster, 4);
    assert_eq!(again.status.code(), Some(1), "{}", again.stdout);
    assert_eq!(again.lines()[0]["error"], "it is so already");
    cluster.converged();

    let dead = cluster.leader();
    cluster.kill(dead);
    let rest: Vec<u64> = (1..=4).filter(|id| *id != u64::from(dead)).collect();
    let removed = remove(&cluster, dead).ok();
    assert_eq!(voters(&cluster, &removed), rest);
    cluster.client(1, &["--timeout=30s", "put", "'a'", "2"]).ok();
    cluster.converged();

    // Two of three: without the new one this would be no majority. It starts again, as a member.
    cluster.kill(4);
    cluster.start_server(4);
    cluster.converged();
    let another = rest[0] as u16;
    cluster.kill(another);
    cluster.client(1, &["--timeout=30s", "put", "'a'", "3"]).ok();
    assert_eq!(cluster.client(2, &["--timeout=30s", "get", "'a'"]).ok()["result"], "3");
    let members = cluster.client(9, &["members"]).ok();
    assert_eq!(voters(&cluster, &members), rest);
}

/// Fault M10 where the founders are not the majority any more: one that lost its files is a majority of itself, and would
/// serve clients from a second, empty cluster before the others are heard. With `--join` it waits for them.
#[test]
fn m10_a_founder_that_lost_its_files_joins_and_founds_no_second_cluster() {
    let mut cluster = Cluster::with_room(1, 3);
    cluster.start_server(1);
    cluster.leader();
    cluster.client(1, &["put", "'a'", "1"]).ok();
    for id in [2, 3] {
        cluster.start_server(id);
        add(&cluster, id).ok();
    }
    remove(&cluster, 1).ok();
    cluster.kill(1);
    cluster.lose_disk(1);

    cluster.options = vec!["--join"];
    cluster.start_server(1);
    let get = |timeout| cluster.client(2, &[timeout, "get", "'a'"]);
    assert_eq!(get("--timeout=2s").status.code(), Some(3), "it knows nothing, and nobody but itself");
    let again = cluster.client(9, &["--servers=3", "--timeout=30s", "add", "1", &address(&cluster, 1)]);
    assert_eq!(voters(&cluster, &again.ok()), [1, 2, 3]);
    assert_eq!(get("--timeout=30s").ok()["result"], "1");
    cluster.converged();

    // It counts again: without it these would be no majority.
    cluster.kill(2);
    cluster.client(1, &["--servers=3", "--timeout=30s", "put", "'a'", "2"]).ok();
}

/// A server that was removed is not told when the leader dies that it knows; a client that it sends there goes on to
/// the others.
#[test]
fn a_removed_server_that_names_a_dead_leader_keeps_no_client_from_the_others() {
    let mut cluster = Cluster::start(4);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    cluster.converged();
    let leader = cluster.leader();
    let next = leader % 4 + 1;
    cluster.kill(next);
    cluster.lose_disk(next);
    cluster.options = vec!["--join"];
    cluster.start_server(next);
    cluster.converged();
    remove(&cluster, next).ok();
    cluster.kill(leader);
    cluster.client(1, &["--timeout=10s", "put", "'a'", "2"]).ok();
    assert_eq!(cluster.client(2, &["--timeout=10s", "get", "'a'"]).ok()["result"], "2");
}

/// A cluster without a leader says what it lacks: its servers know who takes part, and whose disks are lost.
#[test]
fn m10_who_takes_part_is_told_without_a_leader() {
    let mut cluster = Cluster::start(3);
    cluster.client(1, &["put", "'a'", "1"]).ok();
    cluster.converged();
    let leader = cluster.leader();
    let [lost, dead] = [1, 2].map(|step| (leader + step - 1) % 3 + 1);
    cluster.kill(lost);
    cluster.lose_disk(lost);
    cluster.start_server(lost);
    let words = format!("server {lost} has lost the disk that the cluster knows it by");
    cluster.told(lost, &words);
    cluster.converged();
    cluster.kill(dead);
    let told = wait_for("nobody to lead", || {
        let told = cluster.client(9, &["members"]).ok();
        told["leader"].is_null().then_some(told)
    });
    assert_eq!(voters(&cluster, &told).len(), 2, "{told}");
    let get = cluster.client(1, &["--timeout=1s", "get", "'a'"]);
    assert!(get.lines()[0]["error"].as_str().unwrap().contains("members says whose disks are lost"), "{}", get.stdout);
    let text = finish(cluster.client_command(9).args(["-o", "repr", "members"]), "").stdout;
    assert!(text.starts_with("as far as server ") && text.contains(" knows, there is no leader\n"), "{text}");
    assert!(text.contains(", has lost its disk, does not count: remove it and add it again"), "{text}");
    // It campaigns again and again, or is campaigned at: its votes are dropped each time, and that is said once.
    for id in [leader, lost] {
        let times = cluster.times_told(id, "was dropped: it lost the disk");
        assert!(times <= 1, "server {id} has said it {times} times");
    }
}

/// What an operator does wrong, or waits for in vain, is said so that it can be put right; in the time that was given.
#[test]
fn an_operator_is_told_what_to_do() {
    let mut cluster = Cluster::with_room(3, 4);
    (1..=3).for_each(|id| cluster.start_server(id));
    cluster.leader();
    cluster.converged();
    let error = |words: &[&str], code| {
        let ran = cluster.client(9, words);
        assert_eq!(ran.status.code(), Some(code), "{}", ran.stdout);
        ran.lines()[0]["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(error(&["remove", "77"], 1), "server 77 is no member");
    let taken = error(&["add", "4", &address(&cluster, 2)], 1);
    assert!(taken.starts_with(&format!("{} is the address of server 2", address(&cluster, 2))), "{taken}");

    let place = address(&cluster, 4);
    let begun = std::time::Instant::now();
    let waiting = error(&["--timeout=1s", "add", "4", &place], 4);
    let expected = format!(
        "server 4 at {place} has not answered; it votes once it has caught up: start it, or give up with remove 4"
    );
    assert_eq!(waiting, expected);
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{:?}", begun.elapsed());

    // Who leads next does not wait for it.
    let leader = cluster.leader();
    cluster.kill(leader);
    let text = wait_for("another leader", || {
        let text = finish(cluster.client_command(9).args(["-o", "repr", "members"]), "").stdout;
        (!text.starts_with("as far as")).then_some(text)
    });
    let learns = format!("server 4: {place}, receives, does not vote: add 4 again to have it vote\n");
    assert!(text.contains(&learns), "{text}");
    for id in (1..=3).filter(|id| *id != leader) {
        assert_eq!(cluster.times_told(id, "the members were not changed"), 0, "server {id} was not asked");
    }
    cluster.start_server(leader);
    cluster.start_server(4);
    assert_eq!(voters(&cluster, &add(&cluster, 4).ok()), [1, 2, 3, 4]);
}

#[test]
fn who_cannot_join_is_told_what_to_do() {
    let cluster = Cluster::new(3);
    let complaint = |id: u16| {
        let ran = crate::support::finish(cluster.server_command(id).arg("--join"), "");
        assert!(!ran.status.success());
        ran.stderr
    };
    assert!(complaint(0).contains("ids are 1 to 3"));
    assert_eq!(add(&cluster, 4).status.code(), Some(3), "nobody is there");
    assert_eq!(cluster.client(9, &["add", "4"]).status.code(), Some(2));
}
