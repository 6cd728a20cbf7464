//! Snapshots that are taken in the background, piece by piece (§7): on one node, to the action, and on whole servers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use raft_core::{
    Action, Body, Bytes, Config, Configuration, Digest, Entry, Event, Fault, Limits, LogIndex, MemStorage, Message,
    NodeId, Outcome, Payload, Position, Refusal, Replica, Reply, RequestId, RestoreError, SnapshotMeta, StateMachine,
    Storage, StorageError, Term, WriteOp,
};

use crate::cluster::{message, pieces};
use crate::compaction::{add, last_notice};
use crate::replica::{Group, Server, Slow, Sum};
use crate::snapshots::{Solo, appended, chunk, digest, install, meta, noops, write};

// On one node.

/// A follower with five entries of which four are applied, and a snapshot of those in three pieces.
fn three_pieces() -> (Solo, [Event; 3]) {
    let solo = Solo::follower(&[1, 1, 2, 2, 2], 4);
    let three = pieces(solo.describe("123456789"), 4).try_into().unwrap();
    (solo, three)
}

#[test]
fn the_log_goes_on_between_the_pieces_of_a_snapshot() {
    let (mut solo, [first, second, last]) = three_pieces();
    let meta = SnapshotMeta { state: Some(digest("123456789")), ..meta(4, 2) };
    let piece = |id, offset, data, done| write(id, WriteOp::SnapshotChunk(chunk(&meta, offset, data, done).into()));
    assert_eq!(solo.step(first), [piece(1, 0, "1234", false)]);
    let append = |prev, commit| {
        message(2, 1, 2, Body::AppendEntries(appended((prev, 2), commit, noops(prev + 1..=prev + 1, 2))))
    };
    solo.step(append(5, 6));
    assert_eq!(solo.step(second), [piece(3, 4, "5678", false)]);
    solo.step(append(6, 7));
    assert_eq!(solo.node.last_applied(), LogIndex(7));
    let installed = [
        piece(5, 8, "9", true),
        write(6, WriteOp::InstallSnapshot { index: LogIndex(4), keep_from: Some(LogIndex(5)) }),
        Action::SnapshotInstalled { index: LogIndex(4), first_index: LogIndex(5) },
    ];
    assert_eq!(solo.step(last), installed);
    assert_eq!(solo.node.storage().snapshot_meta(), Ok(meta));
}

#[test]
fn a_leaders_snapshot_is_worth_more_than_the_one_that_is_being_taken() {
    let (mut solo, [first, second, _]) = three_pieces();
    solo.step(first);
    let unneeded = solo.step(install(&meta(2, 1), 0, "old", true));
    assert!(!unneeded.iter().any(|action| matches!(action, Action::SnapshotRefused(_))), "{unneeded:?}");
    assert_eq!(solo.step(second.clone()).len(), 1, "it goes on");
    let actions = solo.step(install(&meta(9, 2), 0, "1234", false));
    assert_eq!(actions[0], Action::SnapshotRefused(Refusal::SnapshotInProgress));
    assert_eq!(solo.step(second), [Action::SnapshotRefused(Refusal::OutOfOrder)]);
    assert_eq!(solo.take_snapshot("mine"), [Action::SnapshotRefused(Refusal::SnapshotInProgress)]);
    let actions = solo.step(install(&meta(9, 2), 4, "5", true));
    assert!(actions.contains(&Action::SnapshotInstalled { index: LogIndex(9), first_index: LogIndex(10) }));
    assert_eq!(solo.node.storage().snapshot_chunk(LogIndex(9), 0, 100).unwrap(), "12345");
}

#[test]
fn a_piece_that_continues_nothing_is_refused_and_ends_nothing() {
    let refused = [Action::SnapshotRefused(Refusal::OutOfOrder)];
    let (mut solo, [first, second, last]) = three_pieces();
    assert_eq!(solo.step(second.clone()), refused, "none was begun");
    solo.step(first.clone());
    assert_eq!(solo.step(last.clone()), refused, "one is left out");
    let of_another = pieces(solo.describe("abcdefghi"), 4).swap_remove(1);
    assert_eq!(solo.step(of_another), refused, "of another state");
    solo.step(second.clone());
    assert_eq!(solo.step(second.clone()), refused, "again");
    // The first one begins again, whatever there was.
    for piece in [first, second, last.clone()] {
        solo.step(piece);
    }
    assert_eq!(solo.node.storage().snapshot_chunk(LogIndex(4), 0, 100).unwrap(), "123456789");
    assert_eq!(solo.step(last), refused, "it is installed");
}

#[test]
fn s3_a_crash_before_the_last_piece_leaves_nothing() {
    let (mut solo, [first, second, _]) = three_pieces();
    solo.step(first);
    solo.step(second);
    let storage = solo.node.storage().clone().reopen();
    assert_eq!((storage.snapshot_meta().unwrap().last_included_index, storage.first_index().0), (LogIndex(0), 1));
}

#[test]
fn who_halts_while_it_takes_a_snapshot_says_what_becomes_of_it() {
    let (mut solo, [first, second, _]) = three_pieces();
    solo.step(first);
    let gone = StorageError::Io { what: "gone".into() };
    let expected = [Action::SnapshotRefused(Refusal::Halted), Action::Halt(Fault::Storage(gone.clone()))];
    assert_eq!(solo.step(Event::WriteFailed(gone)), expected);
    assert_eq!(solo.step(second), [Action::SnapshotRefused(Refusal::Halted)]);
}

// On a whole server.

/// One server that has counted to 3, whose state is eight pieces of a byte each.
fn alone(every: Option<usize>) -> Group {
    let mut group = Group::with(1, |config, limits| {
        (config.tail_entries, config.max_chunk_bytes) = (0, 1);
        limits.snapshot_every_bytes = every;
    });
    add(&mut group, 1, 3);
    while group.servers[0].next_notice().is_some() {}
    group
}

fn installed(index: u64) -> Action {
    Action::SnapshotInstalled { index: LogIndex(index), first_index: LogIndex(index + 1) }
}

#[test]
fn commands_are_answered_while_a_snapshot_is_taken_which_is_of_the_state_at_its_beginning() {
    let mut group = alone(None);
    group.servers[0].take_snapshot();
    for tick in 0..7 {
        assert_eq!(last_notice(&mut group.servers[0]), None, "{tick}");
        assert_eq!(add(&mut group, 1, 1), 4 + tick);
        group.ticks(&[1], 1);
    }
    assert_eq!(last_notice(&mut group.servers[0]), Some(installed(4)));
    let (storage, limits) = (group.servers[0].storage_mut().inner.clone().reopen(), Limits::default());
    assert_eq!(storage.snapshot_chunk(LogIndex(4), 0, 100).unwrap(), 3_u64.to_le_bytes().as_slice());
    let again: Server =
        Replica::new(Config::new(NodeId(1)), limits, Slow::new(storage), vec![], Sum::default()).unwrap();
    assert_eq!((again.machine().sum, again.status().last_index), (3, LogIndex(11)), "and what follows it is there");
}

#[test]
fn one_snapshot_at_a_time_is_taken() {
    let mut group = alone(None);
    group.servers[0].take_snapshot();
    group.ticks(&[1], 2);
    add(&mut group, 1, 1);
    group.servers[0].take_snapshot();
    assert_eq!(last_notice(&mut group.servers[0]), Some(Action::SnapshotRefused(Refusal::SnapshotInProgress)));
    group.ticks(&[1], 5);
    assert_eq!(last_notice(&mut group.servers[0]), Some(installed(4)), "the first one went on");
    group.servers[0].take_snapshot();
    group.ticks(&[1], 7);
    assert_eq!(last_notice(&mut group.servers[0]), Some(installed(5)));
}

#[test]
fn a_piece_waits_until_the_one_before_is_durable_and_a_tick_has_passed() {
    let mut group = alone(None);
    let begun = |group: &mut Group| group.servers[0].storage_mut().inner.persisted().unwrap().0;
    let before = begun(&mut group);
    group.servers[0].storage_mut().held = true;
    group.servers[0].take_snapshot();
    group.ticks(&[1], 5);
    assert_eq!(begun(&mut group), before + 1, "it is not durable");
    group.servers[0].storage_mut().held = false;
    group.settle();
    group.settle();
    assert_eq!(begun(&mut group), before + 2, "one for all the ticks that have passed");
    group.ticks(&[1], 1);
    assert_eq!(begun(&mut group), before + 3);
}

/// A log that grows faster than a piece a tick is written would grow for ever.
#[test]
fn a_snapshot_is_hurried_where_the_next_one_is_due() {
    let mut group = alone(Some(300));
    // An entry costs 29 bytes here: the eleventh begins a snapshot, and the twenty-second asks for the next one.
    add(&mut group, 1, 15);
    assert_eq!(group.servers[0].status().snapshot_index, LogIndex(0), "no tick has passed");
    add(&mut group, 1, 7);
    let index = group.servers[0].status().snapshot_index;
    assert!((10..13).contains(&index.0), "{index}");
}

#[test]
fn who_fails_while_it_takes_a_snapshot_says_so() {
    let mut group = alone(None);
    group.servers[0].take_snapshot();
    group.servers[0].storage_mut().fail = true;
    group.ticks(&[1], 1);
    let notices: Vec<Action> = std::iter::from_fn(|| group.servers[0].next_notice()).collect();
    assert!(matches!(notices[..], [Action::SnapshotRefused(Refusal::Halted), Action::Halt(_), ..]), "{notices:?}");
}

/// Bytes that wait for room would keep others from finding it.
#[test]
fn d6_a_snapshot_that_outgrows_its_room_leaves_nothing_and_begins_again() {
    let mut group = alone(None);
    group.servers[0].take_snapshot();
    group.ticks(&[1], 3);
    assert_eq!(part(&mut group, 4).unwrap().len(), 4);
    group.servers[0].storage_mut().room = 0;
    group.ticks(&[1], 1);
    assert_eq!(last_notice(&mut group.servers[0]), Some(Action::SnapshotRefused(Refusal::DiskFull)));
    assert!(matches!(part(&mut group, 4), Err(StorageError::NoSnapshot { .. })), "{:?}", part(&mut group, 4));
    group.servers[0].storage_mut().room = 1;
    group.servers[0].take_snapshot();
    group.ticks(&[1], 7);
    assert_eq!(last_notice(&mut group.servers[0]), Some(installed(4)));
}

/// The same of a leader's: and it is not begun again for every chunk that finds room, to be given up as often.
#[test]
fn d6_a_leaders_snapshot_that_outgrows_its_room_leaves_nothing_and_begins_again() {
    let mut group = alone(None);
    let mut state = Digest([0; 32]);
    state.0[0] = 7;
    let meta = SnapshotMeta { state: Some(state), ..meta(9, 2) };
    let send = |group: &mut Group, offset, data: &'static str, done, room| {
        group.servers[0].storage_mut().room = room;
        let sent = chunk(&meta, offset, data, done);
        group.servers[0].receive(message(2, 1, 2, Body::InstallSnapshot(sent.into())));
        group.servers[0].poll();
        let sent = group.servers[0].transport_mut().drain(..).next_back();
        let Some(Body::InstallSnapshotResponse(_, answer)) = sent.map(|message| message.body) else { return None };
        Some(answer.next_offset)
    };
    assert_eq!(send(&mut group, 0, "\u{7}\0\0\0", false, 8), Some(4));
    assert_eq!(send(&mut group, 4, "\0\0\0\0", true, 3), None);
    assert_eq!(last_notice(&mut group.servers[0]), Some(Action::SnapshotRefused(Refusal::DiskFull)));
    assert!(matches!(part(&mut group, 9), Err(StorageError::NoSnapshot { .. })), "{:?}", part(&mut group, 9));
    assert_eq!(send(&mut group, 4, "\0\0\0\0", true, 4), Some(0), "it is to begin again");
    assert_eq!(send(&mut group, 0, "\u{7}\0\0\0", false, 7), None, "for which there is too little room");
    assert_eq!(send(&mut group, 0, "\u{7}\0\0\0", false, 8), Some(4));
    send(&mut group, 4, "\0\0\0\0", true, 8);
    assert_eq!((group.servers[0].machine().sum, group.servers[0].status().snapshot_index), (7, LogIndex(9)));
}

/// What an append brings is there already only where it is the same: what takes the place of others is written.
#[test]
fn d6_a_full_disk_takes_no_commands_in_place_of_others() {
    let mut group = Group::with(3, |_, _| ());
    let last = group.servers[1].status().last_index.0;
    let prev = (last, 1);
    let send = |group: &mut Group, term: u64| {
        let payload = Payload::Command(Bytes::from_static(b"one"));
        let entry = Entry { index: LogIndex(last + 1), term: Term(term), payload };
        let body = Body::AppendEntries(appended(prev, last, vec![entry]));
        group.servers[1].receive(message(if term == 1 { 1 } else { 3 }, 2, term, body));
        group.servers[1].poll();
        let status = group.servers[1].status();
        let answers = group.servers[1].transport_mut().drain(..).count();
        (status.last_index.0, group.servers[1].node().storage().term(status.last_index).unwrap().0, answers)
    };
    assert_eq!(send(&mut group, 1), (last + 1, 1, 1));
    group.servers[1].storage_mut().is_full = true;
    assert_eq!(send(&mut group, 1), (last + 1, 1, 1), "what is there is acknowledged again");
    assert_eq!(send(&mut group, 2), (last + 1, 1, 0), "there is no room for another");
    group.servers[1].storage_mut().is_full = false;
    assert_eq!(send(&mut group, 2), (last + 1, 2, 1));
}

/// What the storage has of a snapshot.
fn part(group: &mut Group, index: u64) -> Result<Bytes, StorageError> {
    group.servers[0].storage_mut().snapshot_chunk(LogIndex(index), 0, 100)
}

/// Its state is what it was given, letter by letter; of a snapshot it gives two at a time, and keeps a list of what it is
/// asked.
#[derive(Default)]
struct Letters {
    state: Vec<u8>,
    frozen: Option<Vec<u8>>,
    /// What was given of it.
    given: Vec<u8>,
    /// So many times before it gives a piece, it gives none yet.
    rests: Cell<u32>,
    /// The first letter of a snapshot is another than it was.
    rots: Cell<bool>,
    asked: Asked,
}

impl Letters {
    fn is_asked(&self, what: &str) {
        self.asked.borrow_mut().push(what.into());
    }
}

impl StateMachine for Letters {
    fn apply(&mut self, _: &Position, command: &[u8]) -> Bytes {
        self.state.extend(command);
        Bytes::new()
    }
    fn query(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Vec<u8> {
        self.state.clone()
    }
    fn begin_snapshot(&mut self) -> Bytes {
        self.is_asked("begin");
        (self.frozen, self.given) = (Some(self.state.clone()), Vec::new());
        Bytes::new()
    }
    fn snapshot_piece(&mut self, bytes: usize) -> Option<Bytes> {
        self.is_asked(&bytes.to_string());
        let frozen = self.frozen.as_mut()?;
        if let Some(rests) = self.rests.get().checked_sub(1) {
            self.rests.set(rests);
            return Some(Bytes::new());
        }
        if self.rots.take() {
            frozen[0] = b'A';
        }
        let piece: Vec<u8> = frozen.drain(..frozen.len().min(2)).collect();
        self.given.extend(&piece);
        (!piece.is_empty()).then(|| piece.into())
    }
    fn snapshot_digest(&self) -> Option<Digest> {
        Some(digest_of(&self.given))
    }
    fn end_snapshot(&mut self) {
        self.is_asked("end");
        self.frozen = None;
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.is_asked("restore");
        self.state = snapshot.into();
        Ok(())
    }
    fn digest(&self) -> Digest {
        digest_of(&self.state)
    }
}

fn digest_of(letters: &[u8]) -> Digest {
    let mut digest = Digest([0; 32]);
    digest.0[..letters.len()].copy_from_slice(letters);
    digest
}

type Asked = Rc<RefCell<Vec<String>>>;

/// A server alone that has been given this much.
fn lettered(letters: &[u8], chunk: usize) -> (Replica<MemStorage, Vec<Message>, Letters>, Asked) {
    let mut config = Config::new(NodeId(1));
    (config.max_chunk_bytes, config.tail_entries) = (chunk, 0);
    let storage = MemStorage::new(Configuration::new([NodeId(1)]));
    let mut server =
        Replica::new(config, Limits::default(), storage, Vec::<Message>::new(), Letters::default()).unwrap();
    server.campaign();
    server.poll();
    server.submit(RequestId(1), letters);
    server.poll();
    assert!(matches!(server.next_reply(), Some(Reply { outcome: Outcome::Applied { .. }, .. })));
    let asked = Rc::clone(&server.machine().asked);
    (server, asked)
}

#[test]
fn a_machines_pieces_are_put_together_to_chunks() {
    // The chunk's length, and how many there are of seven bytes.
    for (chunk, count) in [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (100, 1)] {
        let (mut server, asked) = lettered(b"abcdefg", chunk);
        let before = server.storage_mut().persisted().unwrap().0;
        server.take_snapshot();
        let mut ticks = 0;
        while server.status().snapshot_index == LogIndex(0) {
            assert_eq!(server.storage_mut().persisted().unwrap().0, before + 1 + ticks, "one a tick");
            server.tick();
            server.poll();
            ticks += 1;
        }
        assert_eq!(ticks + 1, count, "{chunk}");
        assert_eq!(server.node().storage().snapshot_chunk(LogIndex(2), 0, 100).unwrap(), "abcdefg");
        let asked = asked.borrow();
        assert_eq!((asked[0].as_str(), asked.last().unwrap().as_str()), ("begin", "end"));
        assert!(asked[1..asked.len() - 1].iter().all(|asked| *asked == chunk.to_string()), "{asked:?}");
    }
}

/// A bit flips in what is being written down: the log says what it was, and nobody is sent what it is now.
#[test]
fn i12_a_state_that_changed_by_itself_is_not_handed_on() {
    for chunk in [2, 100] {
        let (mut server, asked) = lettered(b"abcdefg", chunk);
        server.machine().rots.set(true);
        server.take_snapshot();
        for _ in 0..10 {
            server.tick();
            server.poll();
        }
        assert_eq!(server.status().snapshot_index, LogIndex(0), "{chunk}");
        assert_eq!(server.status().fault, Some(Fault::StateRotted { index: LogIndex(2) }));
        assert_eq!(asked.borrow().last().map(String::as_str), Some("end"));
    }
}

/// What a machine looks through in vain holds the loop up as much as what it writes.
#[test]
fn a_machine_that_gives_nothing_yet_is_asked_again_with_the_next_tick() {
    for chunk in [2, 100] {
        let (mut server, asked) = lettered(b"abcdefg", chunk);
        server.machine().rests.set(5);
        server.take_snapshot();
        server.poll();
        assert_eq!((server.machine().rests.get(), asked.borrow().len()), (4, 2), "once");
        for rests in (0..4).rev() {
            server.tick();
            server.poll();
            assert_eq!(server.machine().rests.get(), rests);
        }
        for _ in 0..5 {
            server.tick();
            server.poll();
        }
        assert_eq!(server.node().storage().snapshot_chunk(LogIndex(2), 0, 100).unwrap(), "abcdefg");
    }
}

#[test]
fn a_machine_is_told_when_its_snapshot_is_not_needed() {
    let (mut server, asked) = lettered(b"abcdefg", 3);
    server.take_snapshot();
    // Another server leads a later term, and has a snapshot of more.
    let state = Letters { state: b"xyz".to_vec(), ..Letters::default() };
    let meta = SnapshotMeta { state: Some(state.digest()), ..meta(9, 2) };
    let sent = chunk(&meta, 0, "xyz", true);
    server.receive(message(2, 1, 2, Body::InstallSnapshot(sent.into())));
    server.poll();
    assert_eq!((server.machine().state.as_slice(), server.status().snapshot_index), (&b"xyz"[..], LogIndex(9)));
    let asked = asked.borrow();
    let words: Vec<&str> = asked.iter().map(String::as_str).filter(|word| word.parse::<u8>().is_err()).collect();
    assert_eq!(words, ["begin", "end", "restore"]);
}
