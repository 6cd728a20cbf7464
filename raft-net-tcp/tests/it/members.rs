//! Servers that come and go while the others run.

use std::time::{Duration, Instant};

use raft_core::{Action, Bytes, MembershipChange, NodeId, Refusal};
use raft_net_tcp::handshake::Role;
use raft_net_tcp::protocol::{ChangeRefusal, CloseReason, RequestBody, ResponseBody, ServerStatus, Standing};
use raft_net_tcp::{ClientConnection, ClientError, ClientOptions, ConnectionError, Identity, Notice, Unfinished};

use crate::cluster::{Cluster, PATIENCE, identity, key, value};

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
        let seen = cluster
            .with(NodeId(id), |control| control.replica().machine().value(b"k").map(Bytes::copy_from_slice))
            .await;
        assert_eq!(seen, Some(value("2").0), "server {id}");
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
    let no_member = ClientError::NotChanged(ChangeRefusal::NoMember { id: NodeId(9) });
    assert_eq!(no_member.to_string(), "server 9 is no member");
    assert_eq!(operator.remove_member(NodeId(9)).await, Err(no_member));
    for (address, holder) in &cluster.addresses.iter().map(|(id, at)| (at.to_string(), *id)).collect::<Vec<_>>() {
        let taken = ChangeRefusal::AddressTaken { address: address.clone(), holder: *holder };
        assert_eq!(operator.add_member(NodeId(9), address).await, Err(ClientError::NotChanged(taken)));
    }
    let nobody = MembershipChange { voters: vec![], learners: vec![], catch_up: true, addresses: vec![] };
    let refused = cluster.with(leader, |control| control.change_members(nobody)).await;
    assert_eq!(refused, Err(Refusal::EmptyVoters));
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let change = MembershipChange { voters: vec![NodeId(1)], learners: vec![], catch_up: true, addresses: vec![] };
    let refused = cluster.with(follower, |control| control.change_members(change)).await;
    assert_eq!(refused, Err(Refusal::NotLeader { leader: Some(leader) }));
    assert_eq!(operator.members().await.unwrap().members.len(), 3);
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
    let waiting = added.unwrap_err();
    let words = "server 3 at 127.0.0.1:1 has not answered; it votes once it has caught up: start it, or give up with \
                 remove 3";
    assert_eq!((waiting.to_string().as_str(), waiting.is_unknown()), (words, true));
    let status = cluster.status(leader).await;
    let new = status.members.iter().find(|member| member.id == NodeId(3)).unwrap();
    assert_eq!((new.standing, status.is_changing), (Standing::CatchingUp, true));
    cluster.notice(|_, notice| matches!(notice, Notice::PeerUnreachable { peer: NodeId(3), .. })).await;
    let members = cluster.client(7001).operator().remove_member(NodeId(3)).await.unwrap();
    assert_eq!(members.len(), 2);
}

/// Two operators' changes do not undo each other: who is waited for is waited for still, and votes once it has come.
#[tokio::test]
async fn a_server_that_is_waited_for_is_not_given_up_by_other_changes() {
    let mut cluster = Cluster::founded([1, 2, 3]);
    let leader = cluster.leader().await;
    cluster.level().await;
    let mut operator = cluster.client_with(7001, hasty()).operator();
    assert!(operator.add_member(NodeId(4), "127.0.0.1:1").await.unwrap_err().is_unknown());
    let waited = |status: &ServerStatus, id| status.standing(NodeId(id)) == Some(Standing::CatchingUp);

    // A server that is removed is gone at once, though another is waited for.
    let removed = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.client(7002).operator().remove_member(removed).await.unwrap();
    cluster.stop(removed);
    assert!(waited(&cluster.status(leader).await, 4));

    // One that is added waits with it, and both vote.
    cluster.join(NodeId(5));
    let address = cluster.addresses[&NodeId(5)].to_string();
    let both = operator.add_member(NodeId(5), &address).await.unwrap_err();
    assert!(both.to_string().starts_with("server 4 at 127.0.0.1:1 has not answered"), "{both}");
    assert!(both.to_string().contains(", and server 5 with it"), "{both}");
    let status = cluster.status(leader).await;
    assert!(waited(&status, 4) && waited(&status, 5), "{status:?}");
    cluster.join(NodeId(4));
    let address = cluster.addresses[&NodeId(4)].to_string();
    cluster.client(7003).operator().add_member(NodeId(4), &address).await.unwrap();
    let rest: Vec<u32> = [1, 2, 3].into_iter().filter(|id| *id != removed.0).chain([4, 5]).collect();
    assert_eq!(voters(&cluster.status(leader).await), rest);
}

/// Only the leader knows for whom it waits.
#[tokio::test]
async fn a_leader_is_not_removed_while_it_waits_for_another() {
    let cluster = Cluster::founded([1, 2, 3]);
    let leader = cluster.leader().await;
    cluster.level().await;
    let mut hasty = cluster.client_with(7001, hasty()).operator();
    assert!(hasty.add_member(NodeId(4), "127.0.0.1:1").await.unwrap_err().is_unknown());
    let mut operator = cluster.client(7001).operator();
    let waited = ClientError::NotChanged(ChangeRefusal::Waited { id: NodeId(4) });
    assert_eq!(operator.remove_member(leader).await, Err(waited));
    operator.remove_member(NodeId(4)).await.unwrap();
    assert_eq!(operator.remove_member(leader).await.unwrap().len(), 2);
}

/// Who waits for its change is told why it came to nothing.
#[tokio::test]
async fn a_change_that_is_not_finished_says_why() {
    let mut cluster = Cluster::founded([1, 2, 3]);
    let leader = cluster.leader().await;
    cluster.level().await;
    let (mut waits, mut gives_up) = (cluster.client(7001).operator(), cluster.client(7002).operator());
    let giving_up = async {
        waited_for(&cluster, leader, NodeId(4)).await;
        gives_up.remove_member(NodeId(4)).await
    };
    let (added, removed) = tokio::join!(waits.add_member(NodeId(4), "127.0.0.1:1"), giving_up);
    assert_eq!((added, removed.unwrap().len()), (Err(ClientError::Unfinished(Unfinished::OtherChange)), 3));

    let stopping = async {
        waited_for(&cluster, leader, NodeId(5)).await;
        cluster.level().await;
        cluster.stop(leader);
    };
    let (added, ()) = tokio::join!(waits.add_member(NodeId(5), "127.0.0.1:1"), stopping);
    let unfinished = added.unwrap_err();
    assert!(matches!(unfinished, ClientError::Unfinished(Unfinished::OtherLeader(_))), "{unfinished}");
    let members = waits.members().await.unwrap().members;
    assert_eq!(members.iter().find(|member| member.id == NodeId(5)).unwrap().standing, Standing::Learner);
}

async fn waited_for(cluster: &Cluster, leader: NodeId, id: NodeId) {
    let is_waited = |status: &ServerStatus| status.standing(id) == Some(Standing::CatchingUp);
    cluster.until("the change to begin", leader, is_waited).await;
}

/// A follower whom an operator asks sends it to the leader, and has nothing to tell.
#[tokio::test]
async fn a_follower_that_is_asked_by_an_operator_says_nothing_of_it() {
    let cluster = Cluster::founded([1, 2, 3]);
    let leader = cluster.leader().await;
    cluster.level().await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let servers = cluster.addresses.clone();
    let operator = Identity { role: Role::Admin, ..identity(7001) };
    let mut connection =
        ClientConnection::connect(servers[&follower], Some(follower), operator, PATIENCE).await.unwrap();
    connection.enqueue(RequestBody::RemoveMember { id: NodeId(3) }).unwrap();
    connection.flush().await.unwrap();
    let refused = ResponseBody::Refused(Refusal::NotLeader { leader: Some(leader) });
    assert_eq!(connection.receive().await.unwrap().body, refused);
    let is_told = |notice: &Notice| matches!(notice, Notice::Raft(Action::MembershipRefused(_)));
    assert!(!cluster.notices.lock().unwrap().iter().any(|(_, notice)| is_told(notice)));
}

/// What an operator allows is held, though servers take connections and say nothing.
#[tokio::test]
async fn an_operators_deadline_is_held() {
    let mut cluster = Cluster::founded([1, 2, 3]);
    cluster.leader().await;
    let mut silent = Vec::new();
    for id in 4..=9 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        cluster.addresses.insert(NodeId(id), listener.local_addr().unwrap());
        silent.push(listener);
    }
    let mut operator = cluster.client_with(7001, hasty()).operator();
    let begun = Instant::now();
    assert!(operator.add_member(NodeId(4), "127.0.0.1:1").await.is_err());
    operator.statuses().await;
    assert!(begun.elapsed() < 3 * hasty().deadline, "{:?}", begun.elapsed());
}

fn hasty() -> ClientOptions {
    ClientOptions { deadline: Duration::from_millis(700), ..ClientOptions::default() }
}
