//! Servers that come and go while the others run.

use std::time::Duration;

use raft_core::{MembershipChange, NodeId, Refusal};
use raft_net_tcp::protocol::{CloseReason, RequestBody, ServerStatus, Standing};
use raft_net_tcp::{ClientError, ClientOptions, ConnectionError, Notice};

use crate::cluster::{Cluster, key, value};

fn voters(status: &ServerStatus) -> Vec<u32> {
    let votes = status.members.iter().filter(|member| member.standing == Standing::Voter);
    votes.map(|member| member.id.0).collect()
}

/// A server below all others is spoken to by members of whom it has never heard, since its founders are gone; and it
/// goes on when all of those who added it are replaced.
#[tokio::test]
async fn every_founder_is_replaced_one_after_the_other() {
    let mut cluster = Cluster::founded([2, 3]);
    let mut client = cluster.client(7001);
    client.put(key("k"), value("1")).await.unwrap();
    let mut operator = client.operator();
    for (new, old) in [(9, 2), (1, 3)] {
        cluster.join(NodeId(new));
        let address = cluster.addresses[&NodeId(new)].to_string();
        let members = operator.add_member(NodeId(new), &address).await.unwrap();
        let added = members.iter().find(|member| member.id == NodeId(new)).unwrap();
        assert_eq!((added.standing, added.address.as_ref()), (Standing::Voter, Some(&address)));
        let members = operator.remove_member(NodeId(old)).await.unwrap();
        assert!(members.iter().all(|member| member.id != NodeId(old)));
        cluster.stop(NodeId(old));
    }
    let leader = cluster.leader().await;
    assert_eq!(voters(&cluster.status(leader).await), [1, 9]);
    cluster.client(7002).put(key("k"), value("2")).await.unwrap();
    cluster.level().await;
    for id in [1, 9] {
        let seen = cluster.with(NodeId(id), |control| control.replica().machine().value(b"k").cloned()).await;
        assert_eq!(seen, Some(value("2")), "server {id}");
    }
}

/// A server that was away for a whole change is told by members that it does not know.
#[tokio::test]
async fn a_member_that_was_away_is_told_by_those_who_came_meanwhile() {
    let mut cluster = Cluster::founded([1, 2, 3]);
    let mut client = cluster.client(7001);
    client.put(key("k"), value("1")).await.unwrap();
    cluster.level().await;
    cluster.stop(NodeId(1));
    let mut operator = client.operator();
    for new in [4, 5] {
        cluster.join(NodeId(new));
        operator.add_member(NodeId(new), &cluster.addresses[&NodeId(new)].to_string()).await.unwrap();
    }
    for old in [2, 3] {
        operator.remove_member(NodeId(old)).await.unwrap();
        cluster.stop(NodeId(old));
    }
    cluster.client(7002).put(key("k"), value("2")).await.unwrap();
    cluster.restart(NodeId(1));
    cluster.level().await;
    let status = cluster.status(NodeId(1)).await;
    assert_eq!((voters(&status), status.is_changing), (vec![1, 4, 5], false));
}

#[tokio::test]
async fn a_server_that_is_removed_is_not_connected_any_more() {
    let cluster = Cluster::founded([1, 2, 3]);
    let leader = cluster.leader().await;
    cluster.level().await;
    let removed = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let rest: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != removed).collect();
    cluster.client(7001).operator().remove_member(removed).await.unwrap();
    let lost = move |notice: &Notice| *notice == Notice::PeerLost(removed, CloseReason::NotMember);
    for server in &rest {
        cluster.notice(|id, notice| id == *server && lost(notice)).await;
    }
    cluster
        .notice(|id, notice| {
            let refused = |reason: &str| reason.contains(&format!("no server {removed} is known here"));
            id == removed && matches!(notice, Notice::PeerUnreachable { reason, .. } if refused(reason))
        })
        .await;
    let status = cluster.status(leader).await;
    assert_eq!(status.connected.len(), 1, "{status:?}");
}

#[tokio::test]
async fn a_change_that_cannot_be_is_refused_with_its_reason() {
    let cluster = Cluster::founded([1, 2, 3]);
    let mut operator = cluster.client(7001).operator();
    let leader = cluster.leader().await;
    cluster.level().await;
    let unchanged = Err(ClientError::Refused(Refusal::Unchanged));
    assert_eq!(operator.remove_member(NodeId(9)).await, unchanged);
    let nobody = MembershipChange { voters: vec![], learners: vec![], catch_up: true, addresses: vec![] };
    let refused = cluster.with(leader, |control| control.change_members(nobody)).await;
    assert_eq!(refused, Err(Refusal::EmptyVoters));
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let change = MembershipChange { voters: vec![NodeId(1)], learners: vec![], catch_up: true, addresses: vec![] };
    let refused = cluster.with(follower, |control| control.change_members(change)).await;
    assert_eq!(refused, Err(Refusal::NotLeader { leader: Some(leader) }));
    assert_eq!(operator.members().await.unwrap().len(), 3);
}

/// Fault N6: only an operator's connection may ask for it.
#[tokio::test]
async fn n6_a_client_changes_no_members() {
    let cluster = Cluster::founded([1]);
    cluster.leader().await;
    let mut connection = cluster.connect(NodeId(1), 7001).await;
    connection.enqueue(RequestBody::RemoveMember { id: NodeId(1) }).unwrap();
    connection.flush().await.unwrap();
    let closed = connection.receive().await.unwrap_err();
    assert!(matches!(closed, ConnectionError::Closed(CloseReason::NotAllowed)), "{closed}");
    assert_eq!(voters(&cluster.status(NodeId(1)).await), [1]);
}

/// A new server does not vote before it has caught up; one that cannot do so is given up by removing it.
#[tokio::test]
async fn a_server_that_cannot_be_reached_is_no_voter() {
    let cluster = Cluster::founded([1, 2]);
    let leader = cluster.leader().await;
    cluster.level().await;
    let options = ClientOptions { deadline: Duration::from_millis(300), ..ClientOptions::default() };
    let mut operator = cluster.client_with(7001, options).operator();
    let added = operator.add_member(NodeId(3), "127.0.0.1:1").await;
    assert_eq!(added, Err(ClientError::Timeout { unknown: true }));
    let status = cluster.status(leader).await;
    let new = status.members.iter().find(|member| member.id == NodeId(3)).unwrap();
    assert_eq!((new.standing, status.is_changing), (Standing::CatchingUp, true));
    cluster.notice(|_, notice| matches!(notice, Notice::PeerUnreachable { peer: NodeId(3), .. })).await;
    let members = cluster.client(7001).operator().remove_member(NodeId(3)).await.unwrap();
    assert_eq!(members.len(), 2);
}
