//! A simulator of nothing, for the command's tests: seeds that end in 7 break a rule, seed 13 panics, and
//! so does the drawing of seed 1013.

use std::collections::BTreeMap;
use std::time::Duration;

use super::engine::Bug;
use raft_core::{NodeId, RoleName, Term};
use raft_sim::plan::{Disk, Fault, Limits, Network, Plan, Shape, Target, Timed};
use raft_sim::{Failure, Happening, Report, Rng, Time, What, between, chance, rng};

/// The two faults that together break a rule.
const GUILTY: [Fault; 2] = [Fault::HandOver, Fault::Transfer { to: 2 }];

pub(crate) fn draw(seed: u64) -> Plan {
    if seed == 1013 {
        let _ = [0].split_at(2);
    }
    let rng = &mut rng(seed, "toy");
    let mut faults: Vec<Timed> = (0..20)
        .map(|_| {
            let (target, lasts) = (Target::Server(number(rng, 5)), between(rng, Time::millis(10), Time::millis(900)));
            let fault = match number(rng, 4) {
                1 => Fault::Crash { target, down: lasts },
                2 => Fault::Pause { target, lasts },
                3 => Fault::Partition { sides: vec![vec![1, 2], vec![3, 4, 5]], lasts },
                _ => Fault::SlowDisk { target, factor: 10, lasts },
            };
            Timed { at: between(rng, Time::ZERO, Time::secs(5)), fault }
        })
        .collect();
    if seed % 10 == 7 {
        let guilty = GUILTY.into_iter().map(|fault| Timed { at: Time::secs(5), fault });
        faults.extend(guilty);
    }
    faults.sort_by_key(|timed| timed.at);
    Plan { seed, shape: shape(), faults }
}

pub(crate) fn run(plan: Plan, with_story: bool) -> Report {
    if plan.seed == 13 && !plan.faults.is_empty() {
        // A panic that no lint sees.
        let _ = [0].split_at(2);
    }
    let mut faults = BTreeMap::new();
    for timed in &plan.faults {
        *faults.entry(timed.fault.kind()).or_default() += 1;
    }
    let breaks = GUILTY.iter().all(|guilty| plan.faults.iter().any(|timed| timed.fault == *guilty));
    let at = Time::secs(6);
    let failure = breaks.then(|| Failure { at, rule: "Election safety", what: "servers 1 and 2 lead term 3".into() });
    let mut story = if with_story { tell(&plan) } else { Vec::new() };
    if let Some(failure) = failure.as_ref().filter(|_| with_story) {
        story.push(Happening { at, what: What::Violation { words: failure.what.clone() } });
    }
    let fingerprint = plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Report { plan, simulated: at, faults, steps: 100, operations: 10, committed: 5, fingerprint, failure, story }
}

/// The bugs that this simulator can have.
pub(crate) fn bugs() -> Vec<Bug> {
    let bug = |name, fault| Bug { name, family: "T", fault, what: "a bug of a toy." };
    vec![bug("Sevens", "T1"), bug("Panics", "T2"), bug("Harmless", "T3")]
}

/// Without a bug nothing breaks.
pub(crate) fn run_with(bug: Option<&str>) -> fn(Plan, bool) -> Report {
    let clean: fn(Plan, bool) -> Report = |plan, with_story| {
        let report = run(Plan { faults: Vec::new(), ..plan.clone() }, with_story);
        Report { plan, ..report }
    };
    match bug {
        Some("Sevens") => |plan, with_story| {
            // The later seeds end first.
            std::thread::sleep(Duration::from_millis(20_u64.saturating_sub(plan.seed % 20)));
            run(plan, with_story)
        },
        Some("Panics") => |plan, _| {
            let _ = [0].split_at(usize::try_from(plan.seed).unwrap_or(0));
            run(Plan { faults: Vec::new(), ..plan }, false)
        },
        _ => clean,
    }
}

pub(crate) fn marks() -> Vec<(&'static str, u64)> {
    vec![("Often", 500), ("Seldom", 3), ("Never", 0)]
}

fn number(rng: &mut Rng, below: u64) -> u32 {
    u32::try_from(between(rng, Time(1), Time(below)).0).unwrap_or(1)
}

/// A leader says its heartbeats; who crashes, crashes.
fn tell(plan: &Plan) -> Vec<Happening> {
    let mut rng = rng(plan.seed, "story");
    let mut story: Vec<Happening> = Vec::new();
    let mut tell = |at, what| story.push(Happening { at, what });
    for id in 1..=5 {
        tell(Time::ZERO, What::Started { server: NodeId(id), life: 1 });
    }
    for Timed { at, fault } in &plan.faults {
        tell(*at, What::Fault { words: fault.to_string() });
        let lasts = fault.lasts().unwrap_or_default();
        match fault {
            Fault::Crash { target: Target::Server(id), .. } => {
                tell(*at, What::Crashed { server: NodeId(*id) });
                tell(*at + lasts, What::Started { server: NodeId(*id), life: 2 });
            }
            Fault::Pause { target: Target::Server(id), .. } => {
                tell(*at, What::Paused { server: NodeId(*id) });
                tell(*at + lasts, What::Resumed { server: NodeId(*id) });
            }
            _ => {}
        }
    }
    let mut message = 0;
    for round in 0..200_u64 {
        let at = Time::millis(150 + round * 30);
        let (leader, term) = (NodeId(1 + u32::try_from(round / 80).unwrap_or(0)), Term(1 + round / 80));
        let elects = round % 80 == 0;
        let words =
            if elects { "RequestVote last 9/1".to_owned() } else { format!("Heartbeat {round}, commit {round}") };
        if elects {
            tell(at, What::Role { server: leader, role: RoleName::Candidate, term });
        }
        for to in (1..=5).map(NodeId).filter(|to| *to != leader) {
            message += 2;
            tell(at, What::Sent { message, from: leader, to, term, words: words.clone() });
            let arrives = at + between(&mut rng, Time::millis(1), Time::millis(9));
            if chance(&mut rng, 100) {
                tell(arrives, What::Lost { message });
                continue;
            }
            tell(arrives, What::Delivered { message });
            if elects {
                tell(arrives, What::Role { server: to, role: RoleName::Follower, term });
            }
            let (answer, words) =
                (message + 1, format!("{}Response {round}", if elects { "RequestVote" } else { "Heartbeat" }));
            tell(arrives, What::Sent { message: answer, from: to, to: leader, term, words });
            tell(arrives + Time::millis(3), What::Delivered { message: answer });
        }
        if elects {
            tell(at + Time::millis(12), What::Role { server: leader, role: RoleName::Leader, term });
        }
        tell(at + Time::millis(12), What::Committed { server: leader, index: round });
        tell(at + Time::millis(14), What::Client { client: number(&mut rng, 3), words: "put \"x\" <- 1".into() });
    }
    story.sort_by_key(|happening| happening.at);
    story
}

fn shape() -> Shape {
    let ms = Time::millis(1);
    let (latency_min, latency_mean, late_max) = (ms, ms, Time::ZERO);
    let network = Network {
        latency_min,
        latency_mean,
        loss: 100,
        duplication: 0,
        late: 0,
        late_max,
        in_order: true,
        capacity: None,
    };
    let limits = Limits {
        max_append_bytes: 1,
        max_inflight: 1,
        max_uncommitted_bytes: 1,
        max_apply_bytes: 1,
        window_bytes: 1,
        max_chunk_bytes: 1,
        tail_entries: 1,
        max_batch_bytes: 1,
        snapshot_every_bytes: None,
        state_digest_every: None,
        lease_drift: None,
        segment_bytes: 16 << 10,
    };
    Shape {
        voters: 5,
        others: 0,
        duration: Time::secs(6),
        tick: Time::millis(10),
        election_ticks: 10,
        heartbeat_ticks: 3,
        turn: Time::ZERO,
        network,
        disk: Disk { sync_min: ms, sync_mean: ms },
        limits,
        clients: 3,
        think: ms,
    }
}
