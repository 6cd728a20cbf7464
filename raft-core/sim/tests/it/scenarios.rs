//! Faults that have broken real systems, each in a world made for it. A test is named by the fault's id; what it is about
//! must be seen to happen in its story, so that it cannot pass without.

mod disks;
mod processes;
mod sessions;
mod snapshots;
mod states;
mod watching;

use raft_core::{NodeId, RoleName, Term};
use raft_kv::KvMachine;
use raft_sim::plan::{Plan, Target};
use raft_sim::{Builder, Happening, KvWorkload, Report, SimDisk, Simulation, Time, What};

/// A small world in which elections take 0.2 to 0.4 s, links and disks a millisecond, and clients are busy for ten seconds.
fn world(voters: u32) -> Plan {
    let mut plan = Plan::calm(17, voters);
    plan.shape.think = Time::millis(40);
    plan
}

/// Snapshots after every few commands, in small chunks, and nothing of the log behind them: who was away needs one.
fn compacting(mut plan: Plan) -> Plan {
    let limits = &mut plan.shape.limits;
    (limits.snapshot_every_bytes, limits.tail_entries, limits.max_chunk_bytes) = (Some(2_000), 0, 64);
    plan
}

fn kv() -> Builder<KvMachine, raft_kv::BlockLog<SimDisk>, KvWorkload> {
    Simulation::builder()
}

/// Runs it: no rule is broken, each of its faults happened, and clients were served.
fn run(plan: Plan) -> Told {
    run_in(&Simulation::kv(), plan)
}

fn run_in<W: raft_sim::Workload>(
    simulation: &Simulation<KvMachine, raft_kv::BlockLog<SimDisk>, W>,
    plan: Plan,
) -> Told {
    let faults = plan.faults.len() as u64;
    let told = run_whatever_happens(simulation, plan);
    assert_eq!(told.report.faults.values().sum::<u64>(), faults, "not every fault happened: {:?}", told.report.faults);
    told
}

/// As [`run`], where some faults may find nobody whom they could befall.
fn run_whatever_happens<W: raft_sim::Workload>(
    simulation: &Simulation<KvMachine, raft_kv::BlockLog<SimDisk>, W>,
    plan: Plan,
) -> Told {
    #[cfg(feature = "seeded-bugs")]
    super::seeded::select();
    let report = simulation.run_plan(plan, true);
    if let Some(failure) = &report.failure {
        let from = failure.at - Time::millis(500);
        panic!("{failure}\n{}", raft_sim::story::timeline(&report).from(from));
    }
    assert!(report.operations > 0, "nobody was served");
    Told { report }
}

/// A run and its story.
struct Told {
    report: Report,
}

impl Told {
    /// When this happened.
    fn when(&self, what: impl Fn(&What) -> bool) -> Vec<Time> {
        self.report.story.iter().filter(|happening| what(&happening.what)).map(|happening| happening.at).collect()
    }

    fn between(&self, from: Time, until: Time) -> impl Iterator<Item = &Happening> {
        self.report.story.iter().filter(move |happening| happening.at >= from && happening.at <= until)
    }

    /// Who begins to lead, when, and in which term.
    fn leaders(&self) -> Vec<(Time, NodeId, Term)> {
        let leads = |happening: &Happening| match happening.what {
            What::Role { server, role: RoleName::Leader, term } => Some((happening.at, server, term)),
            _ => None,
        };
        self.report.story.iter().filter_map(leads).collect()
    }

    /// Who led last at this time.
    fn leader_at(&self, time: Time) -> NodeId {
        self.leaders().into_iter().take_while(|(at, ..)| *at <= time).last().expect("somebody led").1
    }

    /// When another than this server began to lead, first after this time.
    fn succeeded(&self, server: NodeId, after: Time) -> Time {
        let next = self.leaders().into_iter().find(|(at, id, _)| *at > after && *id != server);
        next.unwrap_or_else(|| panic!("nobody succeeded server {server}")).0
    }

    /// What a server's notices of this name say, and when.
    fn notices(&self, server: NodeId, name: &str) -> Vec<(Time, &str)> {
        let notice = |happening: &Happening| match &happening.what {
            What::Server { server: id, words } => *id == server && words.starts_with(name),
            _ => false,
        };
        self.report.story.iter().filter(|happening| notice(happening)).filter_map(in_words).collect()
    }

    /// When this server's commit index rose after this time, first.
    fn commits_after(&self, server: NodeId, time: Time) -> Option<Time> {
        let commits = |what: &What| matches!(what, What::Committed { server: id, .. } if *id == server);
        self.when(commits).into_iter().find(|at| *at > time)
    }

    /// How often this server's commit index rose between these times.
    fn commits_between(&self, server: NodeId, from: Time, to: Time) -> usize {
        let commits = |what: &What| matches!(what, What::Committed { server: id, .. } if *id == server);
        self.when(commits).into_iter().filter(|at| (from..to).contains(at)).count()
    }

    /// How often a client said or was told something with these words in it.
    fn clients_said(&self, said: &str) -> usize {
        self.when(|what| matches!(what, What::Client { words, .. } if words.contains(said))).len()
    }

    /// Messages to this server of which the words are such, when they were sent and what they said.
    fn sent_to(&self, server: NodeId, is_such: impl Fn(&str) -> bool) -> Vec<(Time, &str)> {
        let sent = |happening: &Happening| match &happening.what {
            What::Sent { to, words, .. } => *to == server && is_such(words),
            _ => false,
        };
        self.report.story.iter().filter(|happening| sent(happening)).filter_map(in_words).collect()
    }
}

fn in_words(happening: &Happening) -> Option<(Time, &str)> {
    match &happening.what {
        What::Sent { words, .. } | What::Server { words, .. } => Some((happening.at, words.as_str())),
        _ => None,
    }
}

fn started(server: NodeId) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Started { server: id, .. } if *id == server)
}

fn halted(server: NodeId) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Halted { server: id, .. } if *id == server)
}

const fn server(id: u32) -> Target {
    Target::Server(id)
}
