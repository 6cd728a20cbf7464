//! What a crash leaves, as many times as there are ways, and what must become of each.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use raft_core::{Storage as _, Write, WriteId};
use raft_kv::{BlockLog, LogOptions, MemDisk};

use super::stage::{Spares, Stage};
use crate::plain::{self, Plain, Step, Writer};

/// A seeded generator: of each image it is known how it came about.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// One of 0 to `sides - 1`.
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// How many images are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Random choices of sectors that reached the device, for each prefix of the operations.
    pub(super) masks: usize,
    /// Places inside the last operation where it ends, for each prefix.
    pub(super) cuts: usize,
    /// Of so many images one crashes again while it recovers, and one goes on to take a snapshot.
    pub(super) every: u64,
}

/// What a log was told, and what came of it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) options: LogOptions,
    /// After each write, the first being what was there before any: what the log holds, and the operation that
    /// completes the write.
    pub(super) states: Vec<(Plain, u64)>,
    /// The last that was reported durable.
    pub(super) reported: usize,
}

/// All images so far: how many different ones were opened, by kind.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) effort: Effort,
    pub(super) dice: Dice,
    seen: HashSet<u64>,
    pub(super) whole: u64,
    pub(super) torn: u64,
    pub(super) in_doubt: u64,
    pub(super) recovering: u64,
}

/// Which sectors of a write reached the device: asked once for each sector of each write.
type Reached = dyn FnMut() -> bool;

impl Images {
    pub(super) fn new(effort: Effort, seed: u64) -> Self {
        Self { effort, dice: Dice(seed), seen: HashSet::new(), whole: 0, torn: 0, in_doubt: 0, recovering: 0 }
    }

    pub(super) const fn count(&self) -> u64 {
        self.whole + self.torn + self.in_doubt + self.recovering
    }

    /// Every crash at this moment of a life: after each prefix of the operations that are not durable, whole and torn.
    pub(super) fn take_all(&mut self, disk: &mut MemDisk, told: &Told) {
        let durable = raft_kv::Disk::durable(disk).unwrap();
        let each: Vec<u64> = disk.unsynced_each().collect();
        let mut units = 0;
        for (done, last) in (0..=each.len() as u64).zip([0].into_iter().chain(each)) {
            units += last;
            // What reached the device whole is found, reported or not.
            let complete = told.states.iter().rposition(|(_, ticket)| *ticket <= durable + done).unwrap();
            if self.is_new(&disk.crash(units, |_, _| true), told) {
                self.whole += 1;
                self.check(disk.crash(units, |_, _| true), told, complete..=complete);
            }
            for (cut, mut reached) in ways(self.effort, self.dice.clone(), last) {
                self.take_torn(disk, told, units - cut, &mut *reached);
            }
            self.dice.roll(2);
        }
    }

    fn take_torn(&mut self, disk: &MemDisk, told: &Told, units: u64, reached: &mut Reached) {
        let all = told.reported..=told.states.len() - 1;
        let crashed = disk.crash(units, |_, _| reached());
        if self.is_new(&crashed, told) {
            self.torn += 1;
            self.check(crashed, told, all.clone());
        }
        let doubtful = disk.crash_in_doubt(units, |_, _| reached());
        if self.is_new(&doubtful, told) {
            self.in_doubt += 1;
            self.check(doubtful, told, all);
        }
    }

    /// Whether no image before had these files and as much to keep.
    fn is_new(&mut self, disk: &MemDisk, told: &Told) -> bool {
        let mut hasher = DefaultHasher::new();
        (disk.contents(), disk.crash(0, |_, _| true).contents(), told.reported).hash(&mut hasher);
        self.seen.insert(hasher.finish())
    }

    /// Opens an image: it holds one of these states, and so does what a crash right after leaves, or one while it
    /// opens; and the log goes on.
    fn check(&mut self, image: MemDisk, told: &Told, states: std::ops::RangeInclusive<usize>) {
        let mut log = open(image, told);
        let found = Plain::read(&log).unwrap();
        let is_allowed = |found: &Plain| told.states[states.clone()].iter().any(|(state, _)| state == found);
        assert!(is_allowed(&found), "{found:?} is none of {:?}", &told.states[states.clone()]);
        // Opening it gave back what is not needed, and a crash takes any of that back.
        let given_back = self.dice.roll(1 + log.disk().mem.unsynced());
        for unsynced in [0, given_back] {
            let again = log.disk().mem.crash(unsynced, |_, _| true);
            assert_eq!(Plain::read(&open(again, told)).unwrap(), found, "opened twice");
        }
        if self.dice.roll(self.effort.every) == 0
            && let Some(settling) = log.disk_mut().settling.take()
        {
            self.crash_again(&settling, told, &is_allowed);
        }
        self.go_on(log, found, told);
    }

    /// Crashes within recovery, which come to no other end than those without it.
    fn crash_again(&mut self, settling: &MemDisk, told: &Told, is_allowed: &dyn Fn(&Plain) -> bool) {
        let mut units = 0;
        for each in [0].into_iter().chain(settling.unsynced_each()) {
            units += each;
            let dice = Dice(self.dice.roll(u64::MAX));
            let fewer = Effort { masks: 1, cuts: 1, ..self.effort };
            let all: (u64, Box<Reached>) = (0, Box::new(|| true));
            for (cut, mut reached) in ways(fewer, dice, each).into_iter().chain([all]) {
                let crashed = settling.crash(units - cut, |_, _| reached());
                if self.is_new(&crashed, told) {
                    self.recovering += 1;
                    let found = Plain::read(&open(crashed, told)).unwrap();
                    assert!(is_allowed(&found), "{found:?} after a crash of recovery");
                }
            }
        }
    }

    /// Appends, votes and now and then takes a snapshot on top of what was found, reopens, and crashes once more.
    fn go_on(&mut self, mut log: BlockLog<Stage>, found: Plain, told: &Told) {
        let mut steps = vec![Step::Append(vec![(1, 20), (0, 700)]), Step::HardState(99, 3)];
        if self.dice.roll(self.effort.every) == 0 {
            let snapshot = Step::Snapshot { back: 1, len: 500, chunks: 2, tail: 1 };
            steps.extend([snapshot, Step::Append(vec![(0, 700)])]);
        }
        let mut writer = Writer::of(found);
        let mut states = vec![writer.plain.clone()];
        for step in &steps {
            for op in writer.plain.writes(step) {
                writer.apply(&op);
                log.write(Write { id: WriteId(states.len() as u64), op }).unwrap();
                states.push(writer.plain.clone());
            }
        }
        let mem = &log.disk().mem;
        let mut dice = self.dice.clone();
        let torn = mem.crash(self.dice.roll(mem.unsynced()), |_, _| dice.roll(2) == 0);
        let found = Plain::read(&open(torn, told)).unwrap();
        assert!(states.contains(&found), "{found:?} is none of {states:?}");
        log.disk_mut().mem.sync();
        assert_eq!(log.persisted().unwrap(), WriteId(states.len() as u64 - 1));
        let after = log.disk().mem.crash(0, |_, _| true);
        assert_eq!(Plain::read(&open(after, told)).unwrap(), writer.plain);
    }
}

fn open(image: MemDisk, told: &Told) -> BlockLog<Stage> {
    plain::open(Stage::new(image, Spares::AtOnce), told.options).unwrap_or_else(|error| panic!("{error}"))
}

/// In which ways an operation of so many units does not reach the device as it should: how much of its end is missing,
/// and which sectors of all that stands since the last barrier. No way of what is not a write.
fn ways(effort: Effort, mut dice: Dice, units: u64) -> Vec<(u64, Box<Reached>)> {
    if units < 2 {
        return Vec::new();
    }
    let nothing: Box<Reached> = Box::new(|| false);
    let mut ways = vec![(0, nothing)];
    // Each sector of the first four lost alone, and each of them alone written.
    for (place, alone) in (0..4).flat_map(|place| [(place, true), (place, false)]) {
        let mut at = 0;
        let reached: Box<Reached> = Box::new(move || {
            at += 1;
            (at - 1 == place) == alone
        });
        ways.push((0, reached));
    }
    for _ in 0..effort.masks {
        let mut dice = Dice(dice.roll(u64::MAX));
        ways.push((0, Box::new(move || dice.roll(2) == 0)));
    }
    for _ in 0..effort.cuts {
        let cut = 1 + dice.roll(units - 1);
        ways.push((cut, Box::new(|| true)));
        let mut dice = Dice(dice.roll(u64::MAX));
        ways.push((cut, Box::new(move || dice.roll(2) == 0)));
    }
    ways
}
