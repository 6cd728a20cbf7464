//! Replicas over an in-memory network: every request is answered once, and says what became of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::{
    Action, Config, Configuration, Digest, Limits, LogIndex, MemStorage, MembershipChange, Message, NodeId, Outcome,
    Position, ProgressState, QUERY_COST, ReadKind, Refusal, Replica, Reply, RequestId, RestoreError, RoleName,
    StateMachine, StorageError, Write,
};

/// Counts: each command is a number to add, each reply the sum.
#[derive(Default)]
pub struct Sum {
    pub sum: u64,
    asked: std::cell::Cell<u32>,
    /// It counts wrongly from now on.
    pub miscounts: std::cell::Cell<bool>,
}

impl StateMachine for Sum {
    fn apply(&mut self, _at: &Position, command: &[u8]) -> Bytes {
        self.sum += u64::from(command[0]) + u64::from(self.miscounts.get());
        Bytes::from(self.sum.to_string())
    }
    fn query(&self, _query: &[u8]) -> Bytes {
        self.asked.set(self.asked.get() + 1);
        Bytes::from(self.sum.to_string())
    }
    fn snapshot(&self) -> Vec<u8> {
        self.sum.to_le_bytes().to_vec()
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let bytes = snapshot.try_into().map_err(|_| RestoreError { what: "not eight bytes".into() })?;
        self.sum = u64::from_le_bytes(bytes);
        Ok(())
    }
    fn digest(&self) -> Digest {
        let mut digest = Digest([0; 32]);
        digest.0[..8].copy_from_slice(&self.sum.to_le_bytes());
        digest
    }
}

/// A storage that reports writes as durable only when told, and can be made to fail.
pub struct Slow {
    pub inner: MemStorage,
    pub held: bool,
    pub fail: bool,
    /// Bytes of a snapshot that find room.
    pub room: u64,
    /// There is no room for commands.
    pub is_full: bool,
    /// The sync behind an earlier write has failed.
    poisoned: bool,
    reported: raft_core::WriteId,
}

impl Slow {
    pub const fn new(inner: MemStorage) -> Self {
        let reported = raft_core::WriteId(0);
        Self { inner, held: false, fail: false, room: u64::MAX, is_full: false, poisoned: false, reported }
    }
}

impl raft_core::Storage for Slow {
    fn hard_state(&self) -> Result<raft_core::HardState, StorageError> {
        self.inner.hard_state()
    }
    fn snapshot_meta(&self) -> Result<raft_core::SnapshotMeta, StorageError> {
        self.inner.snapshot_meta()
    }
    fn first_index(&self) -> LogIndex {
        self.inner.first_index()
    }

    fn snapshot_chunk(&self, index: LogIndex, offset: u64, max_bytes: usize) -> Result<Bytes, StorageError> {
        self.inner.snapshot_chunk(index, offset, max_bytes)
    }

    fn last_index(&self) -> LogIndex {
        self.inner.last_index()
    }
    fn term(&self, index: LogIndex) -> Result<raft_core::Term, StorageError> {
        self.inner.term(index)
    }
    fn digest(&self, index: LogIndex) -> Result<Option<Digest>, StorageError> {
        self.inner.digest(index)
    }
    fn entries(&self, a: LogIndex, b: LogIndex, max: usize) -> Result<Vec<raft_core::Entry>, StorageError> {
        self.inner.entries(a, b, max)
    }
    fn has_room(&self) -> bool {
        !self.is_full
    }
    fn has_room_for_snapshot(&self, bytes: u64) -> bool {
        bytes <= self.room
    }
    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        if self.fail {
            return Err(StorageError::Io { what: "no space left".into() });
        }
        self.inner.write(write)
    }
    fn persisted(&mut self) -> Result<raft_core::WriteId, StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned { what: "fdatasync".into() });
        }
        if !self.held {
            self.reported = self.inner.persisted()?;
        }
        Ok(self.reported)
    }
}

pub type Server = Replica<Slow, Vec<Message>, Sum>;

pub struct Group {
    pub servers: Vec<Server>,
    pub cut: Option<u32>,
    pub network: VecDeque<Message>,
    pub outcomes: BTreeMap<RequestId, Outcome>,
    next: u64,
}

impl Group {
    fn new(size: u32) -> Self {
        Self::with(size, |_, _| {})
    }

    /// A group whose configurations and limits are changed so, and whose first server leads.
    pub fn with(size: u32, change: impl Fn(&mut Config, &mut Limits)) -> Self {
        let voters = Configuration::new((1..=size).map(NodeId));
        let server = |id| {
            let mut limits =
                Limits { max_command_bytes: 100, max_batch_bytes: 64, max_queued_bytes: 500, ..Limits::default() };
            let mut config = Config::new(NodeId(id));
            change(&mut config, &mut limits);
            Replica::new(config, limits, Slow::new(MemStorage::new(voters.clone())), Vec::new(), Sum::default())
                .unwrap()
        };
        let servers = (1..=size).map(server).collect();
        let mut group = Self { servers, cut: None, network: VecDeque::new(), outcomes: BTreeMap::new(), next: 0 };
        group.servers[0].campaign();
        group.settle();
        assert_eq!(group.servers[0].status().role, RoleName::Leader);
        group
    }

    pub fn submit(&mut self, id: u32, command: &[u8]) -> RequestId {
        self.next += 1;
        self.servers[id as usize - 1].submit(RequestId(self.next), command);
        RequestId(self.next)
    }

    pub fn query(&mut self, id: u32) -> RequestId {
        self.next += 1;
        self.servers[id as usize - 1].query(RequestId(self.next), Bytes::new());
        RequestId(self.next)
    }

    pub fn settle(&mut self) {
        loop {
            for server in &mut self.servers {
                server.poll();
                self.network.extend(server.transport_mut().drain(..));
                while let Some(reply) = server.next_reply() {
                    let twice = self.outcomes.insert(reply.request, reply.outcome);
                    assert_eq!(twice, None, "{:?} is answered twice", reply.request);
                }
            }
            let Some(message) = self.network.pop_front() else { return };
            if self.cut.is_none_or(|cut| message.from.0 != cut && message.to.0 != cut) {
                self.servers[message.to.0 as usize - 1].receive(message);
            }
        }
    }

    pub fn ticks(&mut self, ids: &[u32], times: u32) {
        for _ in 0..times {
            for id in ids {
                self.servers[*id as usize - 1].tick();
            }
            self.settle();
        }
    }

    pub fn reply(&self, request: RequestId) -> String {
        match self.outcomes.get(&request) {
            Some(Outcome::Applied { reply, .. } | Outcome::Answered { reply, .. }) => {
                String::from_utf8(reply.to_vec()).unwrap()
            }
            other => format!("{other:?}"),
        }
    }
}

#[test]
fn commands_that_arrive_together_share_an_entry() {
    let mut group = Group::new(3);
    let requests: Vec<RequestId> = (1..=5).map(|n| group.submit(1, &[n])).collect();
    group.settle();
    let replies: Vec<String> = requests.iter().map(|request| group.reply(*request)).collect();
    assert_eq!(replies, ["1", "3", "6", "10", "15"]);
    let positions: Vec<(u64, u32)> = requests
        .iter()
        .map(|request| match &group.outcomes[request] {
            Outcome::Applied { position, .. } => (position.index.0, position.number),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(positions, [(2, 0), (2, 1), (2, 2), (2, 3), (2, 4)]);
    assert_eq!(group.servers[0].status().last_index, LogIndex(2), "the no-op and one batch");
}

#[test]
fn a_batch_gathers_while_the_disk_is_busy() {
    let mut group = Group::new(1);
    group.servers[0].storage_mut().held = true;
    let first = group.submit(1, &[1]);
    group.settle();
    let rest: Vec<RequestId> = (0..3).map(|_| group.submit(1, &[1])).collect();
    group.settle();
    assert_eq!(group.servers[0].queued().count(), 3, "the disk is busy with the first");
    assert!(group.outcomes.is_empty());
    group.servers[0].storage_mut().held = false;
    group.settle();
    assert_eq!(group.reply(first), "1");
    assert_eq!(group.reply(rest[2]), "4");
    assert_eq!(group.servers[0].status().last_index, LogIndex(3));
}

#[test]
fn a_query_sees_every_write_answered_before_it() {
    let mut group = Group::new(3);
    let write = group.submit(1, &[7]);
    group.settle();
    assert_eq!(group.reply(write), "7");
    let read = group.query(1);
    group.settle();
    assert_eq!(group.reply(read), "7");
}

#[test]
fn a_query_is_put_to_the_machine_when_its_reply_is_taken() {
    let mut group = Group::new(1);
    group.submit(1, &[1]);
    group.settle();
    for request in 100..103 {
        group.servers[0].query(RequestId(request), Bytes::new());
    }
    let server = &mut group.servers[0];
    let first = server.next_reply().unwrap();
    assert_eq!(first.outcome, Outcome::Answered { index: LogIndex(2), reply: "1".into(), kind: ReadKind::Quorum });
    assert_eq!(server.machine().asked.get(), 1, "the others wait");
    let nobody = server.next_reply_if(|_| false).unwrap();
    assert_eq!((nobody.outcome, server.machine().asked.get()), (Outcome::Unknown, 1), "nobody awaits it");
    assert!(server.next_reply().is_some());
    assert_eq!(server.machine().asked.get(), 2);
}

#[test]
fn a_follower_refuses_and_names_the_leader() {
    let mut group = Group::new(3);
    let (write, read) = (group.submit(2, &[1]), group.query(2));
    group.settle();
    let refused = Outcome::Refused(Refusal::NotLeader { leader: Some(NodeId(1)) });
    assert_eq!(group.outcomes[&write], refused);
    assert_eq!(group.outcomes[&read], refused);
}

#[test]
fn too_much_is_refused_with_a_reason() {
    let mut group = Group::new(3);
    let large = group.submit(1, &[0; 101]);
    group.servers[0].storage_mut().held = true;
    let many: Vec<RequestId> = (0..8).map(|_| group.submit(1, &[1; 60])).collect();
    group.settle();
    assert_eq!(group.outcomes[&large], Outcome::Refused(Refusal::TooLarge { limit: 100 }));
    assert_eq!(group.outcomes[&many[7]], Outcome::Refused(Refusal::Busy));
    group.servers[0].storage_mut().held = false;
    group.settle();
    assert_eq!(group.reply(many[6]), "7");
    assert_eq!(group.servers[0].status().last_index, LogIndex(8), "batches of at most 64 bytes");
}

#[test]
fn what_a_limit_allows_exactly_is_taken() {
    let mut group = Group::new(1);
    group.servers[0].storage_mut().held = true;
    // A command costs its bytes and four more; the queue holds 500.
    let largest = group.submit(1, &[1; 100]);
    let four: Vec<RequestId> = (0..4).map(|_| group.submit(1, &[1; 95])).collect();
    let over = group.submit(1, &[]);
    assert_eq!(group.servers[0].queued().map(|command| command.len() + 4).sum::<usize>(), 500);
    group.settle();
    assert_eq!(group.outcomes.get(&over), Some(&Outcome::Refused(Refusal::Busy)));
    group.servers[0].storage_mut().held = false;
    group.settle();
    assert_eq!((group.reply(largest), group.reply(four[3])), ("1".to_owned(), "5".to_owned()));
}

#[test]
fn what_an_operator_asks_for_reaches_the_node() {
    let mut group = Group::new(3);
    group.ticks(&[1, 2, 3], 5);
    let state = |group: &Group, peer: u32| {
        let followers = group.servers[0].status().followers;
        followers.into_iter().find(|(id, _)| *id == NodeId(peer)).map(|(_, progress)| progress.state())
    };
    assert_eq!(state(&group, 2), Some(ProgressState::Replicate));
    group.servers[0].unreachable(NodeId(2));
    assert_eq!(state(&group, 2), Some(ProgressState::Probe));
    group.settle();
    group.servers[0].transfer_leadership(NodeId(2));
    group.settle();
    let roles = |group: &Group| group.servers.iter().map(|server| server.status().role).collect::<Vec<_>>();
    assert_eq!(roles(&group), [RoleName::Follower, RoleName::Leader, RoleName::Follower]);
    group.servers[1].hand_over();
    group.settle();
    assert_eq!(roles(&group)[1], RoleName::Follower);
    let leader = roles(&group).iter().position(|role| *role == RoleName::Leader).unwrap();
    let voters = vec![NodeId(leader as u32 + 1), NodeId(2)];
    let change = MembershipChange { voters, learners: vec![], catch_up: false, addresses: vec![] };
    group.servers[leader].change_membership(change.clone());
    group.settle();
    assert_eq!(group.servers[leader].status().configuration.voters(), change.configuration().voters());
}

#[test]
fn a_server_is_settled_once_everything_is_durable() {
    let mut group = Group::new(1);
    assert!(group.servers[0].is_settled());
    group.submit(1, &[1]);
    assert!(!group.servers[0].is_settled(), "it is queued");
    group.servers[0].storage_mut().held = true;
    group.settle();
    assert_eq!(group.servers[0].queued().count(), 0);
    assert!(!group.servers[0].is_settled(), "it is being written");
    group.servers[0].storage_mut().held = false;
    group.settle();
    assert!(group.servers[0].is_settled());
}

#[test]
fn the_last_hundred_notices_are_kept() {
    let mut group = Group::new(1);
    while group.servers[0].next_notice().is_some() {}
    for target in 2..200 {
        group.servers[0].transfer_leadership(NodeId(target));
    }
    let notices: Vec<Action> = std::iter::from_fn(|| group.servers[0].next_notice()).collect();
    assert_eq!(notices.len(), 100);
    assert!(matches!(notices.first(), Some(Action::TransferRefused { target: NodeId(100), .. })), "{notices:?}");
}

#[test]
fn queries_that_wait_are_bounded() {
    let mut group = Group::with(3, |_, limits| limits.max_query_bytes = 3 * QUERY_COST);
    // No quorum answers, so they wait for one.
    group.cut = Some(1);
    let many: Vec<RequestId> = (0..4).map(|_| group.query(1)).collect();
    group.settle();
    let answered: Vec<_> = many.iter().filter_map(|request| group.outcomes.get(request)).collect();
    assert_eq!(answered, [&Outcome::Refused(Refusal::Busy)]);
    assert_eq!(group.outcomes[&many[3]], Outcome::Refused(Refusal::Busy));
    // Those that fail make room, and those that are answered.
    group.ticks(&[1], 15);
    assert!(matches!(group.outcomes[&many[0]], Outcome::Refused(Refusal::LeadershipLost)));
    let last = group.query(1);
    group.settle();
    assert_eq!(group.outcomes[&last], Outcome::Refused(Refusal::NotLeader { leader: None }));
    let mut group = Group::with(1, |_, limits| limits.max_query_bytes = 3 * QUERY_COST);
    for request in 100..104 {
        group.servers[0].query(RequestId(request), Bytes::new());
    }
    let server = &mut group.servers[0];
    assert_eq!(server.next_reply().map(|reply| reply.outcome), Some(Outcome::Refused(Refusal::Busy)), "none was taken");
    while server.next_reply().is_some() {}
    for request in 104..107 {
        server.query(RequestId(request), Bytes::new());
    }
    assert!(matches!(server.next_reply(), Some(Reply { outcome: Outcome::Answered { .. }, .. })));
    // One always fits.
    while server.next_reply().is_some() {}
    server.query(RequestId(107), vec![0; 4 * QUERY_COST].into());
    assert!(matches!(server.next_reply(), Some(Reply { outcome: Outcome::Answered { .. }, .. })));
}

#[test]
fn a_deposed_leader_says_unknown_and_what_was_replaced_is_never_applied() {
    let mut group = Group::new(3);
    group.cut = Some(1);
    let lost = group.submit(1, &[100]);
    group.settle();
    group.ticks(&[2, 3], 60);
    let leader = (2..=3).find(|id| group.servers[*id as usize - 1].status().role == RoleName::Leader).unwrap();
    let kept = group.submit(leader, &[5]);
    group.settle();
    assert_eq!(group.reply(kept), "5");
    assert!(!group.outcomes.contains_key(&lost));
    group.cut = None;
    group.ticks(&[1, 2, 3], 10);
    assert_eq!(group.outcomes[&lost], Outcome::Unknown);
    assert_eq!(group.servers[0].machine().sum, 5);
    assert_eq!(group.servers[0].machine().digest(), group.servers[1].machine().digest());
}

#[test]
fn a_failing_disk_halts_the_server_and_answers_everybody() {
    let mut group = Group::new(3);
    group.servers[0].storage_mut().fail = true;
    let (write, read) = (group.submit(1, &[1]), group.query(1));
    group.settle();
    assert!(group.servers[0].is_halted());
    assert_eq!(group.outcomes[&write], Outcome::Unknown);
    assert!(group.outcomes.contains_key(&read));
    let late = group.submit(1, &[1]);
    group.settle();
    assert_eq!(group.outcomes[&late], Outcome::Refused(Refusal::Halted));
    group.ticks(&[2, 3], 60);
    assert!((1..3).any(|at| group.servers[at].status().role == RoleName::Leader), "the others go on");
}

/// Fault D3: a write that was begun and whose sync fails later.
#[test]
fn a_failed_sync_halts_the_server_and_answers_everybody() {
    let mut group = Group::new(3);
    group.servers[0].storage_mut().held = true;
    let write = group.submit(1, &[1]);
    group.servers[0].poll();
    let behind = group.submit(1, &[1]);
    group.servers[0].storage_mut().poisoned = true;
    group.settle();
    assert!(group.servers[0].is_halted());
    assert_eq!(group.outcomes[&write], Outcome::Unknown);
    assert_eq!(group.outcomes[&behind], Outcome::Refused(Refusal::Halted));
}

#[test]
fn a_restarted_server_applies_its_log_again() {
    let mut group = Group::new(1);
    group.submit(1, &[3]);
    group.submit(1, &[4]);
    group.settle();
    let inner = group.servers[0].storage_mut().inner.clone().reopen();
    let slow = Slow::new(inner);
    let limits = Limits::default();
    group.servers[0] = Replica::new(Config::new(NodeId(1)), limits, slow, Vec::new(), Sum::default()).unwrap();
    group.servers[0].campaign();
    let read = group.query(1);
    group.settle();
    assert!(matches!(group.outcomes[&read], Outcome::Refused(_)), "it does not lead yet");
    let read = group.query(1);
    group.settle();
    assert_eq!(group.reply(read), "7");
}

#[derive(Clone, Debug)]
enum Op {
    Submit { server: u32, command: u8 },
    Query { server: u32 },
    Tick { server: u32, times: u32 },
    Deliver { at: usize },
    Lose { at: usize },
    Hold { server: u32, held: bool },
    Fail { server: u32 },
    Campaign { server: u32 },
    Poll { server: u32 },
}

fn op() -> impl Strategy<Value = Op> {
    let server = || 1_u32..=3;
    prop_oneof![
        8 => (server(), 1_u8..4).prop_map(|(server, command)| Op::Submit { server, command }),
        4 => server().prop_map(|server| Op::Query { server }),
        8 => (server(), 1_u32..8).prop_map(|(server, times)| Op::Tick { server, times }),
        30 => any::<usize>().prop_map(|at| Op::Deliver { at }),
        2 => any::<usize>().prop_map(|at| Op::Lose { at }),
        4 => (server(), any::<bool>()).prop_map(|(server, held)| Op::Hold { server, held }),
        1 => Just(Op::Fail { server: 3 }),
        2 => server().prop_map(|server| Op::Campaign { server }),
        12 => server().prop_map(|server| Op::Poll { server }),
    ]
}

impl Group {
    /// Takes what a server has to say.
    fn collect(&mut self, id: u32) {
        let server = &mut self.servers[id as usize - 1];
        self.network.extend(server.transport_mut().drain(..));
        while let Some(reply) = server.next_reply() {
            let twice = self.outcomes.insert(reply.request, reply.outcome);
            assert_eq!(twice, None, "{:?} is answered twice", reply.request);
        }
    }

    fn carry_out(&mut self, op: &Op) {
        let under_way = self.network.len();
        match *op {
            Op::Submit { server, command } => drop(self.submit(server, &[command])),
            Op::Query { server } => drop(self.query(server)),
            Op::Tick { server, times } => (0..times).for_each(|_| self.servers[server as usize - 1].tick()),
            Op::Deliver { at } if under_way > 0 => {
                let message = self.network.remove(at % under_way).unwrap();
                self.servers[message.to.0 as usize - 1].receive(message);
            }
            Op::Lose { at } if under_way > 0 => drop(self.network.remove(at % under_way)),
            Op::Hold { server, held } => self.servers[server as usize - 1].storage_mut().held = held,
            Op::Fail { server } => self.servers[server as usize - 1].storage_mut().fail = true,
            Op::Campaign { server } => self.servers[server as usize - 1].campaign(),
            Op::Poll { server } => self.servers[server as usize - 1].poll(),
            Op::Deliver { .. } | Op::Lose { .. } => {}
        }
        (1..=3).for_each(|id| self.collect(id));
    }
}

proptest! {
    /// Every request is answered exactly once; what was applied is in the sum once, what was refused is not in it.
    #[test]
    fn every_request_is_answered_once_and_truly(ops in prop::collection::vec(op(), 1..250)) {
        let mut group = Group::new(3);
        let mut commands = BTreeMap::new();
        for op in &ops {
            group.carry_out(op);
            if let Op::Submit { command, .. } = op {
                commands.insert(RequestId(group.next), u64::from(*command));
            }
        }
        for server in &mut group.servers {
            server.storage_mut().held = false;
        }
        group.settle();
        group.ticks(&[1, 2, 3], 90);
        let requests: Vec<RequestId> = (1..=group.next).map(RequestId).collect();
        prop_assert!(requests.iter().all(|request| group.outcomes.contains_key(request)), "{:?}", group.outcomes);
        let (mut applied, mut unknown) = (0, 0);
        for (request, command) in &commands {
            match &group.outcomes[request] {
                Outcome::Applied { .. } => applied += command,
                Outcome::Unknown => unknown += command,
                _ => {}
            }
        }
        let sum = group.servers[0].machine().sum;
        prop_assert_eq!(sum, group.servers[1].machine().sum);
        prop_assert!((applied..=applied + unknown).contains(&sum), "{} of {}..{}", sum, applied, applied + unknown);
    }
}
