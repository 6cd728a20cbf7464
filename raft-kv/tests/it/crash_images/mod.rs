//! Crash images: whatever a crash leaves of what was not durable, the log opens, holds a prefix of the writes with all
//! that was reported, and goes on (faults D1, D3, D5, P2).
//!
//! Lives of a log are recorded on a disk in memory. At every moment of each, every prefix of the operations that are
//! not durable makes images: whole; torn, where any sectors of the writes since the last barrier are missing; and in
//! doubt, where the kernel shows what the device does not hold. Recovery itself is crashed in the same ways.
//!
//! ```text
//! cargo test --release -p raft-kv --test it crash_images -- --ignored --nocapture    # all of them
//! ```

use raft_core::{Storage as _, Write, WriteId};
use raft_kv::{BlockLog, Disk as _, LogOptions, MemDisk};

use crate::plain::{self, Plain, Step, Writer};

mod image;
mod stage;

use image::{Dice, Effort, Images, Told};
use stage::{Spares, Stage};

/// A life, on segments of this length.
struct Workload {
    name: &'static str,
    segment_bytes: u64,
    archive: bool,
    steps: Vec<Step>,
}

fn appends(lens: &[usize]) -> Vec<Step> {
    lens.iter().map(|len| Step::Append(vec![(0, *len)])).collect()
}

const fn snapshot(back: u64, len: usize, chunks: usize, tail: u64) -> Step {
    Step::Snapshot { back, len, chunks, tail }
}

fn workloads() -> Vec<Workload> {
    let sizes = [0, 1, 40, 300, 1_400, 9, 2_600, 511, 60];
    let turns = vec![
        Step::HardState(1, 1),
        Step::Append(vec![(1, 30), (0, 600), (0, 0)]),
        Step::HardState(2, 0),
        Step::Truncate(2),
        Step::Append(vec![(2, 5), (0, 900)]),
        Step::Truncate(9),
        Step::HardState(4, 3),
        Step::Append(vec![(1, 40), (0, 40), (0, 40), (0, 40)]),
        Step::Truncate(1),
    ];
    let kept = [appends(&[60; 8]), vec![snapshot(2, 900, 3, 2)], appends(&[200; 3]), vec![snapshot(0, 0, 1, 0)]];
    let anew = [
        appends(&[60; 3]),
        vec![Step::GivenUp, Step::Beyond { len: 1_300, chunks: 2 }],
        appends(&[100; 3]),
        vec![Step::Truncate(1), Step::Beyond { len: 20, chunks: 1 }],
        appends(&[9]),
    ];
    let again: Vec<Step> = (0..4).flat_map(|_| [appends(&[250; 5]), vec![snapshot(1, 300, 1, 1)]].concat()).collect();
    let workload = |name, segment_bytes, archive, steps| Workload { name, segment_bytes, archive, steps };
    vec![
        workload("appends of many sizes, in one segment", 1 << 16, false, appends(&sizes)),
        workload("appends of many sizes, a segment for some", 1_500, false, appends(&sizes)),
        workload("truncations and votes", 1_200, false, turns),
        workload("snapshots with blocks kept", 700, false, kept.concat()),
        workload("snapshots with none kept", 700, false, anew.concat()),
        workload("segments that are written again", 1_600, false, again.clone()),
        workload("segments that are archived", 900, true, again),
    ]
}

fn random(dice: &mut Dice) -> Workload {
    let step = |dice: &mut Dice| match dice.roll(12) {
        0 => Step::Truncate(1 + dice.roll(4)),
        1 => Step::HardState(dice.roll(99), dice.roll(4) as u32),
        2 => snapshot(dice.roll(4), dice.roll(1_500) as usize, 1 + dice.roll(3) as usize, dice.roll(5)),
        3 if dice.roll(3) == 0 => Step::Beyond { len: dice.roll(900) as usize, chunks: 1 + dice.roll(3) as usize },
        4 if dice.roll(2) == 0 => Step::GivenUp,
        roll => {
            let most = if roll == 11 { 2_000 } else { 150 };
            Step::Append((0..1 + dice.roll(3)).map(|_| (dice.roll(2), dice.roll(most) as usize)).collect())
        }
    };
    let steps = (0..20).map(|_| step(dice)).collect();
    Workload { name: "a random life", segment_bytes: dice.roll(4_000), archive: dice.roll(4) == 0, steps }
}

/// When a log is synced, and when it asks what is durable.
struct Life {
    log: BlockLog<Stage>,
    writer: Writer,
    told: Told,
}

impl Life {
    /// Founds a log; a crash while that is done is one more image.
    fn found(options: LogOptions, spares: Spares, images: &mut Images) -> Self {
        let mut log = plain::create(Stage::new(MemDisk::new().reserving(), spares), options);
        let told = Told { options, states: vec![(Plain::new(), 0)], reported: 0 };
        let mut founding = log.disk_mut().settling.take().unwrap();
        images.take_all(&mut founding, &told);
        Self { log, writer: Writer::of(Plain::new()), told }
    }

    fn take(&mut self, step: &Step, images: &mut Images) {
        for op in self.writer.plain.writes(step) {
            self.writer.apply(&op);
            let id = WriteId(self.told.states.len() as u64);
            self.log.write(Write { id, op }).unwrap();
            self.told.states.push((self.writer.plain.clone(), self.log.disk().submitted));
            images.take_all(&mut self.log.disk_mut().mem, &self.told);
        }
    }

    /// Makes so many quarters of what waits durable; perhaps the log asks for it.
    fn sync(&mut self, quarters: u64, asks: bool, images: &mut Images) {
        let disk = self.log.disk_mut();
        disk.make_spare();
        let durable = disk.durable().unwrap();
        disk.mem.sync_to(durable + (disk.mem.submitted() - durable) * quarters / 4);
        if asks {
            self.told.reported = self.log.persisted().unwrap().0 as usize;
        }
        images.take_all(&mut self.log.disk_mut().mem, &self.told);
    }
}

/// Lives through a workload, syncing now and then as the dice fall.
fn live(workload: &Workload, seed: u64, images: &mut Images) {
    let mut dice = Dice(seed);
    let options = LogOptions { segment_bytes: workload.segment_bytes, archive: workload.archive };
    let spares = [Spares::AtOnce, Spares::Later, Spares::Never][dice.roll(3) as usize];
    let mut life = Life::found(options, spares, images);
    let patience = 1 + dice.roll(4);
    for step in &workload.steps {
        life.take(step, images);
        if dice.roll(patience) == 0 {
            life.sync(1 + dice.roll(4), dice.roll(3) > 0, images);
        }
    }
    life.sync(4, true, images);
    let (last, _) = life.told.states.last().unwrap();
    assert_eq!(Plain::read(&life.log).as_ref(), Ok(last));
    assert_eq!(life.told.reported, life.told.states.len() - 1, "everything is reported in the end");
}

fn run(effort: Effort, seeds: u64, random_lives: u64) -> Images {
    let mut images = Images::new(effort, 1);
    for workload in workloads() {
        let before = images.count();
        (0..seeds).for_each(|seed| live(&workload, seed, &mut images));
        println!("{:>7} images of {}", images.count() - before, workload.name);
    }
    let before = images.count();
    let mut dice = Dice(2);
    (0..random_lives).for_each(|seed| live(&random(&mut dice), seed, &mut images));
    println!("{:>7} images of {random_lives} random lives", images.count() - before);
    let Images { whole, torn, in_doubt, recovering, .. } = images;
    let count = images.count();
    println!("{count} images: {whole} whole, {torn} torn, {in_doubt} in doubt, {recovering} of a crash in recovery");
    images
}

/// The kernel shows an install frame whose sync failed in an earlier life, and the snapshot before it is not needed
/// then. It may go only when that frame is durable: else a crash in between leaves a log without its snapshot.
#[test]
fn d3_a_snapshot_is_not_removed_on_the_word_of_a_frame_that_may_be_lost() {
    let options = LogOptions { segment_bytes: 1 << 16, archive: false };
    let mut images = Images::new(Effort { masks: 0, cuts: 0, every: 1 }, 1);
    let mut life = Life::found(options, Spares::Never, &mut images);
    let steps = [appends(&[60; 5]), vec![snapshot(1, 300, 1, 1)], appends(&[60; 5]), vec![snapshot(1, 200, 1, 1)]];
    steps.concat().iter().for_each(|step| {
        life.sync(4, true, &mut images);
        life.take(step, &mut images);
    });
    // All is durable but the frame of the second install.
    let disk = &mut life.log.disk_mut().mem;
    disk.sync_to(disk.submitted() - 1);
    let doubtful = disk.crash_in_doubt(0, |_, _| false);
    let mut found = plain::open(Stage::new(doubtful, Spares::Never), options).unwrap();
    let [.., (before, _), (after, _)] = &life.told.states[..] else { panic!("there are more writes") };
    assert_eq!(Plain::read(&found).as_ref(), Ok(after), "the frame is shown");
    let settling = found.disk_mut().settling.take().unwrap();
    for units in 0..=settling.unsynced() {
        let found = plain::open(settling.crash(units, |_, _| true), options).map(|log| Plain::read(&log).unwrap());
        assert!([before, after].contains(&&found.clone().unwrap()), "after {units} of recovery: {found:?}");
    }
}

#[test]
fn each_crash_image_recovers() {
    let images = run(Effort { masks: 1, cuts: 1, every: 8 }, 1, 4);
    assert!(images.count() > 3_000 && images.whole.min(images.torn).min(images.in_doubt).min(images.recovering) > 100);
}

#[test]
#[ignore = "minutes: see above"]
fn each_of_a_hundred_thousand_crash_images_recovers() {
    let images = run(Effort { masks: 4, cuts: 4, every: 4 }, 6, 100);
    assert!(images.count() >= 100_000);
}
