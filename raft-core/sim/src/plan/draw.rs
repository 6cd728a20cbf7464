//! Drawing a plan: each seed has its own shape, and its own kinds of faults (swarm testing: a run in which everything
//! fails at once never gets far enough to find what only one fault shows).

use rand::RngExt;

use super::stories::Story;
use super::{Disk, Fault, Limits, Network, Plan, Shape, Target, Timed};
use crate::time::{Rng, Time, between, chance, exponential, rng};

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let (mut segments, mut states) = (rng(seed, "segments"), rng(seed, "states"));
        let rng = &mut rng(seed, "plan");
        let mut shape = shape(rng);
        shape.limits.segment_bytes = pick(&mut segments, &[1 << 10, 4 << 10, 16 << 10, 64 << 10]);
        let faults = Faults::draw(&shape, rng);
        faults.stories.iter().for_each(|story| story.prepare(&mut shape.limits));
        let faults = faults.over(shape.duration, rng);
        let mut plan = Self { seed, shape, faults };
        plan.alter_states(&mut states);
        plan
    }

    /// In some runs, states change by themselves: where they are compared, something goes wrong anyhow, and no server is ever
    /// the only voter.
    fn alter_states(&mut self, rng: &mut Rng) {
        let Shape { voters, others, duration, .. } = self.shape;
        let is_lonely = |timed: &Timed| matches!(&timed.fault, Fault::Membership { voters, .. } if voters.len() < 2);
        let is_compared = self.shape.limits.state_digest_every.is_some();
        if !is_compared || voters < 3 || self.faults.is_empty() || self.faults.iter().any(is_lonely) || chance(rng, 500)
        {
            return;
        }
        for _ in 0..rng.random_range(1..=8) {
            let (at, server) = (between(rng, Time::ZERO, duration), rng.random_range(1..=voters + others));
            let target = if chance(rng, 300) { Target::Leader } else { Target::Server(server) };
            self.faults.push(Timed { at, fault: Fault::AlteredState { target } });
        }
        self.faults.sort_by_key(|timed| timed.at);
    }
}

fn shape(rng: &mut Rng) -> Shape {
    let voters = pick(rng, &[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]);
    let others = pick(rng, &[0, 0, 1, 1, 2]);
    let heartbeat_ticks = rng.random_range(1..=3);
    let election_ticks = heartbeat_ticks * rng.random_range(4..=6);
    let tick = Time::millis(pick(rng, &[10, 20, 20, 50]));
    // The slowest that elections can bear.
    let slowest = Time(tick.0.saturating_mul(u64::from(election_ticks)) / 12);
    Shape {
        voters,
        others,
        duration: between(rng, Time::secs(20), Time::secs(160)),
        tick,
        election_ticks,
        heartbeat_ticks,
        turn: Time::micros(pick(rng, &[0, 50, 500])),
        network: network(rng),
        disk: Disk {
            sync_min: Time::micros(pick(rng, &[20, 100, 100, 1_000])),
            sync_mean: pick(rng, &[Time::micros(50), Time::micros(500), Time::micros(500), Time::millis(5), slowest]),
        },
        limits: limits(rng),
        clients: rng.random_range(1..=6),
        think: Time::millis(pick(rng, &[20, 100, 100, 400])),
    }
}

fn network(rng: &mut Rng) -> Network {
    let rough = chance(rng, 600);
    let mut permille = |most: u32| if rough && chance(rng, 600) { rng.random_range(0..=most) } else { 0 };
    let (loss, duplication, late) = (permille(300), permille(500), permille(300));
    Network {
        latency_min: Time::micros(pick(rng, &[50, 200, 1_000, 5_000])),
        latency_mean: Time::micros(pick(rng, &[100, 500, 2_000, 10_000])),
        loss,
        duplication,
        late: if chance(rng, 500) { late } else { late / 6 },
        late_max: Time::millis(pick(rng, &[20, 100, 500, 3_000])),
        in_order: chance(rng, 500),
        capacity: chance(rng, 200).then(|| pick(rng, &[20, 100, 1_000])),
    }
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        max_append_bytes: pick(rng, &[1, 200, 2_000, 512 << 10]),
        max_inflight: pick(rng, &[1, 2, 8, 32]),
        max_uncommitted_bytes: pick(rng, &[2_000, 20_000, 1 << 20]),
        max_apply_bytes: pick(rng, &[1, 500, 16 << 20]),
        window_bytes: pick(rng, &[0, 500, 4 << 20]),
        max_chunk_bytes: pick(rng, &[150, 500, 256 << 10]),
        tail_entries: pick(rng, &[0, 3, 50, 4096]),
        max_batch_bytes: pick(rng, &[100, 1_000, 1 << 20]),
        snapshot_every_bytes: chance(rng, 600).then(|| pick(rng, &[2_000, 10_000, 50_000])),
        state_digest_every: pick(rng, &[Some(1), Some(4), Some(16), Some(64), None]),
        lease_drift: chance(rng, 200).then_some(1),
        segment_bytes: 0,
    }
}

/// What may go wrong in a run: kinds with their weights.
struct Faults {
    servers: u32,
    voters: u32,
    kinds: Vec<(u32, Kind)>,
    /// Those that are told in this run, and how long an election takes in it.
    stories: Vec<Story>,
    election: Time,
    /// Between two faults, on average.
    every: Time,
    /// So many, in thousandths, follow the one before at once: much breaks only where two things go wrong together.
    together: u32,
}

type Kind = fn(&Faults, &mut Rng) -> Fault;

/// Those after which clocks do not agree.
const CLOCKS: [(u32, Kind); 3] = [
    (3, |faults, rng| Fault::Pause { target: faults.target(rng), lasts: lasts(rng) }),
    (2, |faults, rng| Fault::Drift {
        target: faults.target(rng),
        permille: pick(rng, &[300, 800, 950, 1_050, 1_300, 3_000]),
        lasts: lasts(rng).times(3),
    }),
    (2, |faults, rng| Fault::Jump { target: faults.target(rng), ticks: pick(rng, &[2, 10, 30, 100]) }),
];

/// Every other kind, with how often it comes beside the others.
const KINDS: [(u32, Kind); 18] = [
    (6, |faults, rng| Fault::Crash { target: faults.target(rng), down: down(rng) }),
    (4, |faults, rng| Fault::CrashAtWrite {
        target: faults.target(rng),
        writes: rng.random_range(1..=5),
        durable: chance(rng, 500),
        down: down(rng),
    }),
    (4, |faults, rng| Fault::Partition { sides: faults.sides(rng), lasts: lasts(rng) }),
    (3, |faults, rng| Fault::Isolate { target: faults.target(rng), lasts: lasts(rng) }),
    (3, |faults, rng| Fault::OneWay { target: faults.target(rng), says: chance(rng, 500), lasts: lasts(rng) }),
    (1, |_, rng| Fault::Chain { lasts: lasts(rng) }),
    (3, |faults, rng| Fault::Clog { from: faults.server(rng), to: faults.server(rng), lasts: lasts(rng) }),
    (2, |faults, rng| Fault::SlowDisk {
        target: faults.target(rng),
        factor: pick(rng, &[3, 20, 100]),
        lasts: lasts(rng),
    }),
    (2, |faults, rng| Fault::StuckDisk { target: faults.target(rng), lasts: lasts(rng) }),
    (2, |faults, rng| Fault::FailedWrite { target: faults.target(rng), down: down(rng) }),
    (2, |faults, rng| Fault::FailedReads { target: faults.target(rng), lasts: lasts(rng) }),
    (1, |faults, rng| Fault::FullDisk { target: faults.target(rng), lasts: lasts(rng) }),
    (2, |faults, rng| Fault::BitRot { target: faults.target(rng), down: down(rng) }),
    (2, |faults, rng| Fault::LostFiles { target: faults.target(rng), down: down(rng), torn: chance(rng, 500) }),
    (4, Faults::membership),
    (3, |faults, rng| Fault::Transfer { to: faults.server(rng) }),
    (1, |_, _| Fault::HandOver),
    (3, |faults, rng| Fault::Snapshot { target: faults.target(rng) }),
];

impl Faults {
    /// About half of the kinds; now and then none at all.
    fn draw(shape: &Shape, rng: &mut Rng) -> Self {
        let calm = chance(rng, 50);
        let has_leases = shape.limits.lease_drift.is_some();
        let clocks = CLOCKS.into_iter().filter(|_| !has_leases);
        let kinds = KINDS.into_iter().chain(clocks).filter(|_| chance(rng, 500) && !calm).collect();
        let stories = if calm { Vec::new() } else { Story::draw(rng) };
        let every = Time::millis(pick(rng, &[300, 1_000, 1_000, 3_000, 8_000]));
        let together = pick(rng, &[0, 0, 200, 500]);
        let election = Time(shape.tick.0.saturating_mul(u64::from(shape.election_ticks)));
        let (servers, voters) = (shape.voters + shape.others, shape.voters);
        Self { servers, voters, kinds, stories, election, every, together }
    }

    fn over(&self, duration: Time, rng: &mut Rng) -> Vec<Timed> {
        let mut faults = Vec::new();
        let mut at = Time::ZERO;
        while at < duration && !self.kinds.is_empty() {
            let every = if chance(rng, self.together) { TOGETHER } else { self.every };
            at = exponential(rng, at + Time::millis(1), every);
            if chance(rng, STORY) && !self.stories.is_empty() {
                let story = (pick(rng, &self.stories).tell)(self.voters, self.election, rng);
                let end = story.last().map_or(Time::ZERO, |(after, _)| *after);
                faults.extend(story.into_iter().map(|(after, fault)| Timed { at: at + after, fault }));
                at = at + end;
                continue;
            }
            let Some(fault) = self.one(rng) else { break };
            let next = if chance(rng, self.together) { self.at_once_after(&fault, rng) } else { Vec::new() };
            faults.push(Timed { at, fault });
            for fault in next {
                at = exponential(rng, at + Time::micros(200), Time::millis(2));
                faults.push(Timed { at, fault });
            }
        }
        faults.retain(|timed| timed.at < duration);
        faults.sort_by_key(|timed| timed.at);
        faults
    }

    /// A fault of one of the kinds, by their weights.
    fn one(&self, rng: &mut Rng) -> Option<Fault> {
        let total: u32 = self.kinds.iter().map(|(weight, _)| weight).sum();
        let mut left = if total > 0 { rng.random_range(0..total) } else { return None };
        for (weight, kind) in &self.kinds {
            if left < *weight {
                return Some(kind(self, rng));
            }
            left = left.saturating_sub(*weight);
        }
        None
    }

    /// What makes a fault worse if it comes with it: what was begun meets nobody, or somebody who is not the same any more.
    fn at_once_after(&self, fault: &Fault, rng: &mut Rng) -> Vec<Fault> {
        let lasts = lasts(rng);
        match fault {
            Fault::Transfer { to } => {
                let target = if chance(rng, 500) { Target::Leader } else { Target::Server(*to) };
                vec![Fault::Isolate { target, lasts }]
            }
            // It comes back while what it wrote meanwhile is still under way.
            Fault::StuckDisk { target: Target::Leader, lasts }
            | Fault::SlowDisk { target: Target::Leader, lasts, .. } => {
                vec![Fault::Isolate { target: Target::Leader, lasts: Time(lasts.0 / 2) }]
            }
            Fault::FailedReads { target, .. } => {
                vec![Fault::Crash { target: *target, down: between(rng, Time::millis(10), Time::millis(30)) }]
            }
            Fault::CrashAtWrite { target: Target::Leader, down, .. } => {
                vec![Fault::CrashAtWrite { target: Target::Leader, writes: 1, durable: chance(rng, 500), down: *down }]
            }
            Fault::Membership { voters, .. } => {
                let outsider = (1..=self.servers).find(|id| !voters.contains(id));
                let transfer = |to| vec![Fault::Isolate { target: Target::Server(to), lasts }, Fault::Transfer { to }];
                let mut next =
                    outsider.map_or_else(|| vec![Fault::Isolate { target: Target::Leader, lasts }], transfer);
                if chance(rng, 400) {
                    // Another change while that one is under way.
                    next.insert(0, self.membership(rng));
                }
                next
            }
            _ => Vec::new(),
        }
    }

    fn server(&self, rng: &mut Rng) -> u32 {
        rng.random_range(1..=self.servers)
    }

    fn target(&self, rng: &mut Rng) -> Target {
        if chance(rng, 400) { Target::Leader } else { Target::Server(self.server(rng)) }
    }

    /// Two halves, or a few sides, or two halves with a server in both: a bridge.
    fn sides(&self, rng: &mut Rng) -> Vec<Vec<u32>> {
        let count = pick(rng, &[2, 2, 2, 3]);
        let mut sides = vec![Vec::new(); count];
        for server in 1..=self.servers {
            if let Some(side) = sides.get_mut(rng.random_range(0..count)) {
                side.push(server);
            }
        }
        if chance(rng, 250) {
            let bridge = self.server(rng);
            for side in sides.iter_mut().filter(|side| !side.contains(&bridge)) {
                side.push(bridge);
            }
        }
        sides
    }

    fn membership(&self, rng: &mut Rng) -> Fault {
        let keep = pick(rng, &[500, 700, 900]);
        let mut voters: Vec<u32> = (1..=self.servers).filter(|_| chance(rng, keep)).collect();
        if voters.is_empty() {
            voters = (1..=self.voters).collect();
        }
        let learners = (1..=self.servers).filter(|id| !voters.contains(id) && chance(rng, 500)).collect();
        Fault::Membership { voters, learners, catch_up: chance(rng, 500) }
    }
}

/// So many of the times at which something goes wrong, in thousandths, begin a story, where any is told.
const STORY: u32 = 145;

/// Between two faults that come together, on average.
const TOGETHER: Time = Time::millis(10);

/// Back at once, as a supervisor starts it, or later.
fn down(rng: &mut Rng) -> Time {
    if chance(rng, 600) {
        between(rng, Time::millis(10), Time::millis(30))
    } else {
        exponential(rng, Time::millis(30), Time::secs(2))
    }
}

fn lasts(rng: &mut Rng) -> Time {
    let mean = Time::millis(pick(rng, &[100, 1_000, 3_000]));
    exponential(rng, Time::millis(10), mean)
}

pub(super) fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    let at = rng.random_range(0..of.len());
    #[allow(clippy::indexing_slicing, reason = "drawn below its length")]
    of[at]
}
