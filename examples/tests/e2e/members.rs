//! Who takes part: servers that lose their disks.

use crate::support::Cluster;

/// Fault M10 on real disks: a server whose files are gone is a stranger under a member's id. It receives the log, says
/// what is the matter, and is no part of any majority.
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

    cluster.kill(other);
    let put = cluster.client(1, &["--timeout=2s", "put", "'a'", "2"]);
    assert!(!put.status.success(), "the leader and the new disk are no majority: {}", put.stdout);
    assert_eq!(cluster.client(1, &["--timeout=1s", "get", "'a'"]).status.code(), Some(3), "nor for a read");

    cluster.start_server(other);
    cluster.client(1, &["put", "'a'", "3"]).ok();
    assert_eq!(cluster.client(2, &["get", "'a'"]).ok()["result"], "3");
    cluster.converged();
}
