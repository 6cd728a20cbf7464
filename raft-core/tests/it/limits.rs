//! Flow control: every limit is enforced, and none leaks.

use bytes::Bytes;
use raft_core::{Action, Event, LogIndex};

use crate::cluster::Cluster;

fn propose(cluster: &mut Cluster, bytes: usize) -> Vec<Action> {
    cluster.step(1, Event::Propose(vec![Bytes::from(vec![7; bytes])]))
}

#[test]
fn what_a_new_leader_has_committed_counts_for_nothing() {
    let mut cluster = Cluster::with_config(3, |config| config.max_uncommitted_bytes = 1000);
    cluster.elect(1);
    cluster.cut_off(3);
    propose(&mut cluster, 900);
    cluster.cut_off(1);
    cluster.settle();
    cluster.mend();
    cluster.run(60);
    let leader = cluster.leaders()[0];
    assert_eq!(cluster.node(leader).status().uncommitted_bytes, 0, "all of it has committed");
}

#[test]
fn what_is_handed_out_for_application_is_bounded() {
    let mut cluster = Cluster::with_config(1, |config| config.max_apply_bytes = 100);
    cluster.elect(1);
    let payloads = (0..10).map(|_| Bytes::from(vec![7; 40])).collect();
    cluster.sync = false;
    cluster.step(1, Event::Propose(payloads));
    let persisted = {
        let disk = cluster.node_mut(1).storage_mut();
        disk.persist(usize::MAX);
        raft_core::Storage::persisted(disk).unwrap()
    };
    let applies = |actions: &[Action]| -> Vec<(u64, u64)> {
        let range = |action: &Action| match action {
            Action::Apply { first, last } => Some((first.0, last.0)),
            _ => None,
        };
        actions.iter().filter_map(range).collect()
    };
    let mut actions = cluster.node_mut(1).step(Event::Persisted(persisted));
    let mut next = 2;
    while next <= 11 {
        let [(first, last)] = applies(&actions)[..] else { panic!("one range at a time: {actions:?}") };
        assert_eq!((first, last), (next, next + 1), "64 bytes an entry: two reach the limit");
        actions = cluster.node_mut(1).step(Event::Applied(LogIndex(last)));
        next = last + 1;
    }
    assert_eq!(applies(&actions), []);
}

#[test]
fn what_is_handed_out_ends_at_the_limit_and_at_the_commit_index() {
    let mut cluster = Cluster::with_config(3, |config| config.max_apply_bytes = 128);
    cluster.elect(1);
    for _ in 0..3 {
        propose(&mut cluster, 40);
    }
    let mut seen = Vec::new();
    while !cluster.network.is_empty() {
        let message = cluster.network.remove(0);
        let actions = cluster.step(message.to.0, message);
        seen.extend(actions.into_iter().filter_map(|action| match action {
            Action::Apply { first, last } => Some(last.0 - first.0 + 1),
            _ => None,
        }));
    }
    assert!(seen.iter().all(|entries| *entries <= 2), "64 bytes an entry: {seen:?}");
    assert!((1..=3).all(|id| cluster.node(id).last_applied() <= cluster.node(1).commit_index()));
    let mut alone = Cluster::with_config(1, |config| config.max_apply_bytes = 128);
    alone.elect(1);
    let payloads = (0..4).map(|_| Bytes::from(vec![7; 40])).collect();
    alone.sync = false;
    alone.step(1, Event::Propose(payloads));
    let disk = alone.node_mut(1).storage_mut();
    disk.persist(usize::MAX);
    let persisted = raft_core::Storage::persisted(disk).unwrap();
    let actions = alone.node_mut(1).step(Event::Persisted(persisted));
    assert!(actions.contains(&Action::Apply { first: LogIndex(2), last: LogIndex(3) }), "exactly 128: {actions:?}");
}

#[test]
fn a_commit_is_announced_at_once_or_travels_with_what_is_sent_anyway() {
    for announced in [true, false] {
        let mut cluster = Cluster::with_config(3, |config| config.announce_commits = announced);
        cluster.elect(1);
        let commits = |cluster: &Cluster| [1, 2, 3].map(|id| cluster.commit(id));
        cluster.propose(1, "a");
        cluster.settle();
        assert_eq!(
            commits(&cluster),
            if announced { [2, 2, 1] } else { [2, 1, 1] },
            "3 answered when it was committed"
        );
        cluster.propose(1, "b");
        cluster.settle();
        assert_eq!(commits(&cluster), if announced { [3, 3, 2] } else { [3, 2, 2] }, "with an append");
        cluster.run(3);
        assert_eq!(commits(&cluster), [3, 3, 3], "with a heartbeat");
    }
}
