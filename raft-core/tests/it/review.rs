//! Defects that a review found, each named for what must hold.

use raft_core::{Body, Heartbeat, LogIndex, NodeId, RequestVote, Term};

use crate::cluster::{Cluster, message};

fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat(Heartbeat { leader_commit: LogIndex(commit), round: 0 })
}

fn request_vote(last: (u64, u64)) -> Body {
    Body::RequestVote(RequestVote { last_log_term: Term(last.0), last_log_index: LogIndex(last.1) })
}

#[test]
fn a_repeated_vote_request_of_the_leader_does_not_make_its_voter_forget_it() {
    let mut cluster = Cluster::new(3);
    cluster.step(2, message(1, 2, 1, request_vote((0, 0))));
    cluster.step(2, message(1, 2, 1, heartbeat(0)));
    let again = cluster.step(2, message(1, 2, 1, request_vote((0, 0))));
    assert_eq!(cluster.network.len(), 3, "{again:?}");
    assert_eq!(cluster.node(2).leader(), Some(NodeId(1)));
    assert!(cluster.step(2, message(3, 2, 7, request_vote((9, 9)))).is_empty(), "E11: a leader is heard");
}
