//! Replicas whose states are not equal: a minority is fenced, whoever leads.

use bytes::Bytes;
use raft_core::{
    Action, Body, Config, Configuration, Digest, Event, Fault, Limits, LogIndex, MemStorage, Message, Node, NodeId,
    Outcome, Payload, Refusal, Replica, RoleName, StateDigest, StateMachine, StateReport, Storage, Term,
};

use crate::replica::{Group, Server, Slow, Sum};

/// After every fourth entry.
fn group(size: u32) -> Group {
    Group::with(size, |_, limits| limits.state_digest_every = Some(4))
}

/// So many commands, an entry each.
fn commands(group: &mut Group, leader: u32, count: u8) {
    for _ in 0..count {
        group.submit(leader, &[1]);
        group.settle();
    }
}

fn digests(server: &Server) -> Vec<(u64, StateDigest)> {
    let last = server.status().last_index;
    let digest = |entry: &raft_core::Entry| match &entry.payload {
        Payload::StateDigest(bytes) => Some((entry.index.0, StateDigest::from_bytes(bytes).unwrap())),
        _ => None,
    };
    server
        .node()
        .storage()
        .entries(server.status().first_index, last, usize::MAX)
        .unwrap()
        .iter()
        .filter_map(digest)
        .collect()
}

fn fault(server: &Server) -> Option<Fault> {
    server.status().fault
}

fn notices(server: &mut Server) -> Vec<Action> {
    std::iter::from_fn(|| server.next_notice()).collect()
}

fn state(sum: u64) -> Digest {
    let mut state = Sum::default();
    state.sum = sum;
    state.digest()
}

#[test]
fn i12_the_leader_writes_down_the_state_that_a_majority_has_once_in_so_many_entries() {
    let mut group = group(3);
    // Entry 1 is the no-op, entry 5 the digest of the state after entry 4, in which three commands are.
    commands(&mut group, 1, 5);
    let decided = (5, StateDigest { index: LogIndex(4), state: state(3) });
    assert_eq!(digests(&group.servers[0]), [decided]);
    commands(&mut group, 1, 3);
    assert_eq!(
        digests(&group.servers[0]).iter().map(|(at, digest)| (*at, digest.index.0)).collect::<Vec<_>>(),
        [(5, 4), (9, 8)]
    );
    // Nothing but digests keeps nobody busy.
    let last = group.servers[0].status().last_index;
    group.ticks(&[1, 2, 3], 100);
    assert_eq!(group.servers[0].status().last_index, last);
    assert!(group.servers.iter().all(|server| fault(server).is_none()));
}

#[test]
fn i12_no_digest_is_taken_where_it_is_off() {
    for every in [None, Some(0)] {
        let mut group = Group::with(3, |_, limits| limits.state_digest_every = every);
        commands(&mut group, 1, 20);
        assert_eq!(digests(&group.servers[0]), []);
    }
}

#[test]
fn i12_a_follower_that_differs_halts_alone_and_is_well_again_after_a_restart() {
    let mut group = group(3);
    commands(&mut group, 1, 1);
    group.servers[2].machine().miscounts.set(true);
    commands(&mut group, 1, 4);
    let expected = Fault::StateDiverged { index: LogIndex(4) };
    assert_eq!(fault(&group.servers[2]), Some(expected.clone()));
    assert!(notices(&mut group.servers[2]).contains(&Action::Halt(expected)));
    assert_eq!([0, 1].map(|at: usize| fault(&group.servers[at])), [None, None]);
    let differs = Action::StateDiffers { peer: NodeId(3), index: LogIndex(4) };
    assert_eq!(notices(&mut group.servers[0]).iter().filter(|notice| **notice == differs).count(), 1);
    // It writes, answers and acknowledges nothing more.
    let (applied, written) =
        (group.servers[2].status().last_applied, group.servers[2].storage_mut().inner.last_index());
    commands(&mut group, 1, 6);
    let (write, read) = (group.submit(3, &[1]), group.query(3));
    group.settle();
    group.ticks(&[3], 100);
    assert_eq!(
        [write, read].map(|request| group.outcomes[&request].clone()),
        [Refusal::Halted; 2].map(Outcome::Refused)
    );
    assert_eq!(group.servers[2].status().last_applied, applied);
    assert_eq!(group.servers[2].storage_mut().inner.last_index(), written);
    // What is wrong was in its memory: the log makes the right state of it.
    let storage = Slow::new(group.servers[2].storage_mut().inner.clone().reopen());
    let limits = Limits { state_digest_every: Some(4), ..Limits::default() };
    group.servers[2] = Replica::new(Config::new(NodeId(3)), limits, storage, Vec::new(), Sum::default()).unwrap();
    group.ticks(&[1, 2, 3], 10);
    assert_eq!(fault(&group.servers[2]), None);
    assert_eq!(group.servers[2].machine().sum, group.servers[0].machine().sum);
}

#[test]
fn i12_a_replica_that_cannot_make_the_right_state_of_the_log_halts_again() {
    let mut group = group(3);
    commands(&mut group, 1, 5);
    let storage = Slow::new(group.servers[2].storage_mut().inner.clone().reopen());
    let limits = Limits { state_digest_every: Some(4), ..Limits::default() };
    let broken = Sum::default();
    broken.miscounts.set(true);
    group.servers[2] = Replica::new(Config::new(NodeId(3)), limits, storage, Vec::new(), broken).unwrap();
    group.ticks(&[1, 2, 3], 10);
    assert_eq!(fault(&group.servers[2]), Some(Fault::StateDiverged { index: LogIndex(4) }));
}

#[test]
fn i12_a_leader_that_differs_halts_alone() {
    let mut group = group(3);
    commands(&mut group, 1, 1);
    group.servers[0].machine().miscounts.set(true);
    let read = group.query(1);
    commands(&mut group, 1, 3);
    assert_eq!(fault(&group.servers[0]), Some(Fault::StateDiverged { index: LogIndex(4) }));
    assert!(group.outcomes.contains_key(&read));
    group.ticks(&[2, 3], 60);
    let leader = (2..=3).find(|id| group.servers[*id as usize - 1].status().role == RoleName::Leader).unwrap();
    commands(&mut group, leader, 8);
    assert_eq!([1, 2].map(|at: usize| fault(&group.servers[at])), [None, None]);
    assert!(!digests(&group.servers[leader as usize - 1]).is_empty());
}

#[test]
fn i12_what_is_confirmed_and_not_answered_yet_is_not_answered_by_a_state_that_differs() {
    let mut group = group(3);
    commands(&mut group, 1, 1);
    group.servers[0].machine().miscounts.set(true);
    commands(&mut group, 1, 1);
    // The read is confirmed, and its reply not taken, when the others tell of their states.
    let read = group.query(1);
    group.submit(1, &[1]);
    // The second follower hears of the commit with the next heartbeat.
    for _ in 0..Config::new(NodeId(1)).heartbeat_ticks {
        group.servers[0].tick();
        loop {
            for at in 0..3 {
                group.servers[at].poll();
                let said: Vec<Message> = group.servers[at].transport_mut().drain(..).collect();
                group.network.extend(said);
            }
            let Some(message) = group.network.pop_front() else { break };
            group.servers[message.to.0 as usize - 1].receive(message);
        }
    }
    assert_eq!(fault(&group.servers[0]), Some(Fault::StateDiverged { index: LogIndex(4) }));
    group.settle();
    assert_eq!(group.outcomes[&read], Outcome::Refused(Refusal::Halted));
}

#[test]
fn i12_where_no_majority_agrees_nobody_is_fenced_and_the_leader_says_so() {
    for wrong in [0, 1] {
        let mut group = group(2);
        commands(&mut group, 1, 1);
        group.servers[wrong].machine().miscounts.set(true);
        commands(&mut group, 1, 6);
        assert!(group.servers.iter().all(|server| fault(server).is_none()));
        assert_eq!(digests(&group.servers[0]), []);
        let differs = Action::StateDiffers { peer: NodeId(2), index: LogIndex(4) };
        assert!(notices(&mut group.servers[0]).contains(&differs), "server {} is wrong", wrong + 1);
    }
}

/// As `group`, but nothing stays behind a snapshot, so that who lags is sent it.
fn compacting(every: u64) -> Group {
    Group::with(3, |config, limits| (config.tail_entries, limits.state_digest_every) = (0, Some(every)))
}

/// So many commands while this follower is cut off, which is sent a snapshot of them then.
fn by_snapshot(group: &mut Group, leader: u32, follower: u32, count: u8) {
    group.cut = Some(follower);
    commands(group, leader, count);
    group.servers[leader as usize - 1].take_snapshot();
    group.settle();
    group.cut = None;
    group.ticks(&[leader], 10);
    let statuses = [leader, follower].map(|id| group.servers[id as usize - 1].status());
    assert_eq!(statuses[0].snapshot_index, statuses[1].snapshot_index);
    assert_eq!(statuses[0].last_applied, statuses[1].last_applied);
}

#[test]
fn i12_a_state_that_came_from_a_wrong_leader_is_no_second_voice_for_it() {
    let mut group = compacting(4);
    group.cut = Some(2);
    commands(&mut group, 1, 1);
    group.servers[0].machine().miscounts.set(true);
    commands(&mut group, 1, 1);
    group.servers[0].machine().miscounts.set(false);
    by_snapshot(&mut group, 1, 2, 5);
    assert_eq!(group.servers[1].machine().sum, group.servers[0].machine().sum);
    commands(&mut group, 1, 8);
    assert!(group.servers.iter().all(|server| fault(server).is_none()), "nobody can tell who is right");
    assert_eq!(digests(&group.servers[2]), []);
    let notices = notices(&mut group.servers[0]);
    let differs = |index| notices.contains(&Action::StateDiffers { peer: NodeId(3), index: LogIndex(index) });
    assert!(differs(8) && differs(12), "the leader says that they differ: {notices:?}");
}

#[test]
fn i12_a_restored_state_is_a_voice_once_the_others_have_confirmed_it() {
    let mut group = compacting(4);
    by_snapshot(&mut group, 1, 2, 5);
    commands(&mut group, 1, 4);
    assert!(!digests(&group.servers[1]).is_empty(), "the others have agreed, and it with them");
    group.servers[0].machine().miscounts.set(true);
    // Without the other one: its word counts now.
    group.cut = Some(3);
    commands(&mut group, 1, 8);
    assert_eq!([0, 1].map(|at: usize| fault(&group.servers[at])), [None, None], "one against one");
    group.cut = None;
    group.ticks(&[1], 10);
    assert!(matches!(fault(&group.servers[0]), Some(Fault::StateDiverged { .. })));
}

#[test]
fn i12_states_of_one_origin_are_compared_again_once_all_voters_agree() {
    let mut group = compacting(32);
    by_snapshot(&mut group, 1, 2, 3);
    by_snapshot(&mut group, 1, 3, 3);
    let last = group.servers[0].status().last_index.0;
    group.cut = Some(3);
    for _ in last..40 {
        commands(&mut group, 1, 1);
    }
    assert_eq!(digests(&group.servers[0]), [], "one voice of three, and its echo");
    group.cut = None;
    group.ticks(&[1], 10);
    assert_eq!(digests(&group.servers[0]).iter().map(|(_, digest)| digest.index.0).collect::<Vec<_>>(), [32]);
    // From here on two of them are enough.
    group.cut = Some(3);
    commands(&mut group, 1, 32);
    assert_eq!(digests(&group.servers[0]).last().map(|(_, digest)| digest.index.0), Some(64));
}

#[test]
fn i12_a_restored_state_is_compared_though_no_command_follows() {
    let mut group = compacting(4);
    commands(&mut group, 1, 2);
    group.ticks(&[1], 10);
    for server in &mut group.servers {
        server.take_snapshot();
    }
    group.settle();
    for at in 0..3 {
        assert_eq!(group.servers[at].status().snapshot_index, LogIndex(3));
        let storage = Slow::new(group.servers[at].storage_mut().inner.clone().reopen());
        let config = Config::new(NodeId(u32::try_from(at).unwrap() + 1));
        let limits = Limits { state_digest_every: Some(4), ..Limits::default() };
        group.servers[at] = Replica::new(config, limits, storage, Vec::new(), Sum::default()).unwrap();
    }
    group.servers[0].campaign();
    group.settle();
    group.ticks(&[1], 10);
    assert_eq!(group.servers[0].status().role, RoleName::Leader);
    let decided = StateDigest { index: LogIndex(4), state: state(2) };
    assert_eq!(digests(&group.servers[0]).iter().map(|(_, digest)| *digest).collect::<Vec<_>>(), [decided]);
}

/// A leader of three, all of whose log is committed: two entries.
fn leader() -> Node<MemStorage> {
    let mut node =
        Node::new(Config::new(NodeId(1)), MemStorage::new(Configuration::new([1, 2, 3].map(NodeId)))).unwrap();
    let mut due = vec![Event::Campaign];
    while let Some(event) = due.pop() {
        for action in node.step(event) {
            let says = |from, body| Event::Message(Message { from, to: NodeId(1), term: Term(1), body });
            let as_two = |body| says(NodeId(2), body);
            let unknown = raft_core::Incarnation::UNKNOWN;
            match action {
                Action::Persist(write) => {
                    due.push(Event::Persisted(write.id));
                    node.storage_mut().write(write).unwrap();
                }
                Action::Apply { last, .. } => due.push(Event::Applied(last)),
                Action::Send(Message { to: NodeId(2), body: Body::PreVote(asked), .. }) => {
                    let response = raft_core::PreVoteResponse { next_term: asked.next_term, vote_granted: true };
                    due.push(as_two(Body::PreVoteResponse(unknown, response)));
                }
                Action::Send(Message { to: NodeId(2), body: Body::RequestVote(_), .. }) => {
                    let response = raft_core::RequestVoteResponse { vote_granted: true };
                    due.push(as_two(Body::RequestVoteResponse(unknown, response)));
                }
                Action::Send(Message { to: NodeId(2), body: Body::AppendEntries(request), .. }) => {
                    let match_index = request.entries.last().map_or(request.prev_log_index, |entry| entry.index);
                    let response = raft_core::AppendEntriesResponse::Accepted { match_index };
                    due.push(as_two(Body::AppendEntriesResponse(unknown, response)));
                }
                Action::RoleChanged { role: RoleName::Leader, .. } => {
                    due.insert(0, Event::Propose(vec![Bytes::from_static(b"x")]));
                }
                _ => {}
            }
        }
    }
    assert_eq!((node.role(), node.commit_index()), (RoleName::Leader, LogIndex(2)));
    node
}

fn told(from: u32, index: u64, state: u8) -> Event {
    says(from, index, state, true)
}

/// Of a state that came in a peer's snapshot.
fn echoed(from: u32, index: u64, state: u8) -> Event {
    says(from, index, state, false)
}

fn says(from: u32, index: u64, state: u8, is_independent: bool) -> Event {
    let digest = StateDigest { index: LogIndex(index), state: Digest([state; 32]) };
    let report = StateReport { digest, is_independent };
    match from {
        1 => Event::StateDigested(report),
        _ => {
            Message { from: NodeId(from), to: NodeId(1), term: Term(1), body: Body::StateDigest(report.into()) }.into()
        }
    }
}

fn appends(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Persist(_)))
}

#[test]
fn i12_a_leader_decides_once_and_only_on_its_own_state() {
    let mut node = leader();
    assert_eq!(node.step(told(2, 2, 7)), [], "it has not applied so much itself");
    assert!(appends(&node.step(told(1, 2, 7))));
    assert_eq!(node.step(told(3, 2, 7)), [], "that is decided");
    let mut node = leader();
    node.step(told(1, 2, 7));
    assert_eq!(node.step(told(2, 2, 8)), [Action::StateDiffers { peer: NodeId(2), index: LogIndex(2) }]);
    assert_eq!(node.step(told(2, 2, 7)), [], "the first word counts");
    let actions = node.step(told(3, 2, 8));
    assert!(actions.contains(&Action::Halt(Fault::StateDiverged { index: LogIndex(2) })), "{actions:?}");
    let mut node = leader();
    node.step(told(2, 2, 8));
    let differs = Action::StateDiffers { peer: NodeId(2), index: LogIndex(2) };
    assert_eq!(node.step(told(1, 2, 7)), [differs], "the other was first");
}

#[test]
fn i12_restored_states_are_no_part_of_a_majority_but_of_all_voters() {
    let mut node = leader();
    node.step(told(1, 2, 7));
    assert_eq!(node.step(echoed(2, 2, 7)), [], "one, and its echo");
    assert!(appends(&node.step(echoed(3, 2, 7))), "nobody has another");
    let mut node = leader();
    node.step(told(1, 2, 7));
    node.step(echoed(2, 2, 7));
    assert!(appends(&node.step(told(3, 2, 7))), "two that are no echo");
    let mut node = leader();
    node.step(echoed(1, 2, 7));
    node.step(told(2, 2, 7));
    assert!(appends(&node.step(told(3, 2, 7))), "the leader's need not be its own");
    // What they contradict is not wrong for that.
    let mut node = leader();
    node.step(told(1, 2, 7));
    let differs = |peer| [Action::StateDiffers { peer: NodeId(peer), index: LogIndex(2) }];
    assert_eq!(node.step(echoed(2, 2, 8)), differs(2));
    assert_eq!(node.step(told(3, 2, 8)), differs(3));
}

#[test]
fn i12_what_is_not_committed_or_said_by_no_member_counts_for_nothing() {
    let mut node = leader();
    assert_eq!(node.step(told(1, 3, 7)), []);
    assert_eq!([node.step(told(2, 3, 7)), node.step(told(9, 3, 7))], [[], []]);
    node.step(told(1, 2, 7));
    assert_eq!([node.step(told(9, 2, 7)), node.step(told(9, 2, 8))], [[], []]);
    assert_eq!(node.step(told(8, 2, 8)), []);
    assert!(appends(&node.step(told(2, 2, 7))));
}

#[test]
fn e13_nothing_is_decided_while_leadership_is_handed_over() {
    let mut node = leader();
    node.step(told(1, 2, 7));
    node.step(Event::TransferLeadership(NodeId(3)));
    assert!(!appends(&node.step(told(2, 2, 7))));
}

#[test]
fn n2_an_entry_whose_digest_is_none_is_refused() {
    let mut node =
        Node::new(Config::new(NodeId(1)), MemStorage::new(Configuration::new([1, 2, 3].map(NodeId)))).unwrap();
    let entry = |payload| raft_core::Entry { index: LogIndex(1), term: Term(1), payload };
    let append = |payload| {
        let request = raft_core::AppendEntries {
            prev_log_index: LogIndex(0),
            prev_log_term: Term(0),
            prev_log_hash: None,
            leader_commit: LogIndex(0),
            entries: [entry(payload)].into(),
        };
        Message { from: NodeId(2), to: NodeId(1), term: Term(1), body: Body::AppendEntries(request) }
    };
    let actions = node.step(append(Payload::StateDigest(Bytes::from_static(b"short"))));
    let dropped = |action: &Action| matches!(action, Action::MessageDropped { .. });
    assert!(actions.iter().any(dropped), "{actions:?}");
    let whole = StateDigest { index: LogIndex(0), state: Digest([7; 32]) };
    assert!(appends(&node.step(append(Payload::StateDigest(whole.to_bytes())))));
}
