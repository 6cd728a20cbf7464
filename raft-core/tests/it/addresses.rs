//! Where members are reached: what a change says of it, and what every configuration keeps.

use raft_core::{Action, Event, MembershipChange, NodeId, Refusal};

use crate::cluster::Cluster;

fn at(voters: &[u32], addresses: &[(u32, &str)]) -> Event {
    let voters = voters.iter().copied().map(NodeId).collect();
    let addresses = addresses.iter().map(|(id, address)| (NodeId(*id), (*address).into())).collect();
    Event::ChangeMembership(MembershipChange { voters, learners: Vec::new(), catch_up: true, addresses })
}

fn addresses(cluster: &Cluster, id: u32) -> Vec<(u32, String)> {
    let configuration = cluster.node(id).status().configuration;
    let known = |id: NodeId| configuration.address(id).map(|address| (id.0, address.to_owned()));
    configuration.members().into_iter().filter_map(known).collect()
}

#[test]
fn a_member_brings_its_address_and_keeps_it() {
    let mut cluster = Cluster::with_founders(3, 4, 0);
    cluster.elect(1);
    cluster.step(1, at(&[1, 2, 3, 4], &[(4, "d:1"), (1, "a:1"), (9, "nobody")]));
    assert_eq!(addresses(&cluster, 1), [(1, "a:1".into()), (4, "d:1".into())], "known as soon as it is a learner");
    cluster.run(12);
    assert_eq!(cluster.node(4).status().configuration.to_string(), "1,2,3,4");
    assert_eq!(addresses(&cluster, 4), [(1, "a:1".into()), (4, "d:1".into())]);
    cluster.step(1, at(&[1, 2, 4], &[]));
    cluster.run(6);
    assert_eq!(addresses(&cluster, 2), [(1, "a:1".into()), (4, "d:1".into())], "who stays keeps it");
    cluster.step(1, at(&[1, 2], &[]));
    assert_eq!(addresses(&cluster, 1).len(), 2, "4 still counts");
    cluster.run(6);
    assert_eq!(addresses(&cluster, 1), [(1, "a:1".into())]);
}

#[test]
fn an_address_alone_is_a_change_of_one_entry() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.step(1, at(&[1, 2, 3], &[(2, "b:1")]));
    cluster.run(6);
    assert_eq!((cluster.log(1).len(), addresses(&cluster, 3)), (2, vec![(2, "b:1".into())]));
    let unchanged = [Action::MembershipRefused(Refusal::Unchanged)];
    assert_eq!(cluster.step(1, at(&[1, 2, 3], &[(2, "b:1")])), unchanged);
    assert_eq!(cluster.step(1, at(&[1, 2, 3], &[])), unchanged);
    cluster.step(1, at(&[1, 2, 3], &[(2, "b:2")]));
    cluster.run(6);
    assert_eq!((cluster.log(1).len(), addresses(&cluster, 3)), (3, vec![(2, "b:2".into())]));
}

#[test]
fn an_address_that_none_is_so_long_is_refused() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    let refused = [Action::MembershipRefused(Refusal::TooLarge { limit: 512 })];
    assert_eq!(cluster.step(1, at(&[1], &[(1, &"x".repeat(513))])), refused);
    cluster.step(1, at(&[1], &[(1, &"x".repeat(512))]));
    assert_eq!(addresses(&cluster, 1), [(1, "x".repeat(512))]);
}
