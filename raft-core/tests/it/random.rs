//! Random event sequences into a group of nodes, with the safety properties held after every step: messages lost,
//! repeated and reordered, links cut, writes that become durable late, crashes that lose what was not durable, logs that are
//! compacted and snapshots that are sent in small chunks.
//!
//! A sequence is a script. One that fails is shortened and printed as such: paste it into a file of `tests/scripts`.

use std::fmt;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use crate::script::dsl::{Command, Which};
use crate::script::world::World;

/// A group and what happens to it; it recovers in the end.
#[derive(Clone)]
struct Story(Vec<Command>);

impl Story {
    fn new(start: Vec<Command>, mut events: Vec<Command>) -> Self {
        for (event, number) in events.iter_mut().zip(0..) {
            match event {
                Command::Read { read, .. } => *read = number,
                Command::Propose { payloads, .. } => {
                    for (payload, place) in payloads.iter_mut().zip(0..) {
                        *payload = Bytes::from(format!("{number}.{place}"));
                    }
                }
                _ => {}
            }
        }
        let end = Command::Expect { not: false, fact: "recovery".to_owned() };
        Self(start.into_iter().chain(events).chain([end]).collect())
    }

    fn play(&self) {
        let mut world = World::new(false);
        for command in &self.0 {
            world.perform(command).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }
}

impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "a script:\n")?;
        self.0.iter().try_for_each(|command| writeln!(f, "{command}"))
    }
}

/// A new group, of whom the first lead or nobody, whose disks are slow from then on.
fn start(nodes: u32, voters: u32, seed: u64, led: bool) -> Vec<Command> {
    let mut start = vec![Command::Nodes { nodes, voters }, Command::Seed(seed), limits([("chunk", 8), ("tail", 1)])];
    if led {
        start.push(Command::Elect(1));
    }
    start.push(Command::Sync { on: false, nodes: Vec::new() });
    start
}

fn limits<const N: usize>(limits: [(&str, u64); N]) -> Command {
    Command::Limits(limits.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

fn event(nodes: u32) -> impl Strategy<Value = Command> {
    let node = move || 1..=nodes;
    let at = || (0_usize..100).prop_map(Which::At);
    prop_oneof![
        6 => (node(), 1_u32..8).prop_map(|(node, times)| Command::Tick { node, times }),
        24 => at().prop_map(Command::Deliver),
        2 => at().prop_map(Command::Drop),
        2 => at().prop_map(Command::Repeat),
        4 => (node(), 1_usize..4)
            .prop_map(|(node, payloads)| Command::Propose { node, payloads: vec![Bytes::new(); payloads] }),
        2 => node().prop_map(|node| Command::Read { node, read: 0 }),
        10 => (node(), 1_usize..6).prop_map(|(node, writes)| Command::Persist { node, writes: Some(writes) }),
        1 => (node(), 0_u64..40).prop_map(|(node, write)| Command::Report { node, write }),
        2 => node().prop_map(Command::Campaign),
        1 => (node(), node()).prop_map(|(node, to)| Command::Transfer { node, to }),
        1 => (node(), node()).prop_map(|(node, peer)| Command::Unreachable { node, peer }),
        1 => (node(), 0_usize..3).prop_map(|(node, also)| Command::Restart { node, also }),
        1 => (node(), 0_usize..3).prop_map(|(node, also)| Command::Crash { node, also }),
        1 => (node(), node()).prop_map(|(from, to)| Command::Cut(vec![(from, to)])),
        2 => node().prop_map(Command::Snapshot),
        1 => Just(Command::Heal),
        1 => Just(Command::Settle),
    ]
}

/// As [`event`], and membership changes among them.
fn event_or_change(nodes: u32) -> impl Strategy<Value = Command> {
    let ids = move |count| prop::collection::vec(1..=nodes, count);
    let change = (1..=nodes, ids(0..5), ids(0..3), any::<bool>())
        .prop_map(|(node, voters, learners, catch_up)| Command::Change { node, voters, learners, catch_up });
    prop_oneof![60 => event(nodes), 4 => change, 1 => (1..=nodes).prop_map(Command::HandOver)]
}

fn events<E: Strategy<Value = Command>>(event: E) -> impl Strategy<Value = Vec<Command>> {
    prop::collection::vec(event, 1..250)
}

fn three_nodes() -> impl Strategy<Value = Story> {
    (any::<u64>(), events(event(3))).prop_map(|(seed, events)| Story::new(start(3, 3, seed, false), events))
}

fn an_established_leader() -> impl Strategy<Value = Story> {
    let group = (1_u32..=5).prop_flat_map(|nodes| (Just(nodes), events(event(nodes))));
    (any::<u64>(), group).prop_map(|(seed, (nodes, events))| Story::new(start(nodes, nodes, seed, true), events))
}

/// Entries leave memory as soon as they may, so that followers are served from the storage; appends are gathered and cut.
fn tiny_limits() -> impl Strategy<Value = Story> {
    let drawn = (0_u64..120, 1_u64..120, 1_u64..4);
    (any::<u64>(), drawn, events(event(3))).prop_map(|(seed, (window, append, inflight), events)| {
        let mut start = start(3, 3, seed, true);
        start[2] = limits([("window", window), ("append", append), ("inflight", inflight), ("chunk", 3), ("tail", 0)]);
        Story::new(start, events)
    })
}

/// Node 3 lags behind a log that is compacted again and again, so that it needs snapshots, of chunks of three bytes.
fn compaction() -> impl Strategy<Value = Story> {
    let often = prop_oneof![
        20 => event(3),
        3 => (1_u32..=3).prop_map(Command::Snapshot),
        2 => (1_u32..=3).prop_map(|node| Command::Propose { node, payloads: vec![Bytes::new(); 2] }),
        2 => Just(Command::Settle),
    ];
    (any::<u64>(), 0_u64..3, events(often)).prop_map(|(seed, tail, events)| {
        let mut start = start(3, 3, seed, true);
        start[2] = limits([("chunk", 3), ("tail", tail)]);
        start.push(Command::Isolate(3));
        Story::new(start, events)
    })
}

/// From three voters and three servers that know nothing, to whatever the changes make of them.
fn membership_changes() -> impl Strategy<Value = Story> {
    (any::<u64>(), events(event_or_change(6))).prop_map(|(seed, events)| Story::new(start(6, 3, seed, true), events))
}

/// So many reports until nothing is left to apply: of what was handed out, then what is in the storage, then what is in
/// memory.
const ALL_APPLIED: usize = 3;

/// Machines are slow: they restore a snapshot, and say what they have applied, long after they were told to. Meanwhile
/// leaders, members and logs change.
fn slow_machines() -> impl Strategy<Value = Story> {
    let applied = |node| Command::Applied { node, index: u64::MAX };
    let restored = |node| Command::Restored { node, index: 0 };
    let some = |commands: Vec<Command>| commands;
    let often = prop_oneof![
        30 => event_or_change(4).prop_filter("its state is taken below", |event| !matches!(event, Command::Snapshot(_)))
            .prop_map(move |event| some(vec![event])),
        2 => (1_u32..=4).prop_map(move |node| some(vec![applied(node)])),
        1 => (1_u32..=4).prop_map(move |node| some(vec![restored(node)])),
        // Once all that is committed is applied.
        2 => (1_u32..=4).prop_map(move |node| some([vec![applied(node); ALL_APPLIED], vec![Command::Snapshot(node)]].concat())),
        1 => Just(some(vec![Command::Settle])),
    ];
    (any::<u64>(), 0_u64..3, prop::collection::vec(often, 1..250)).prop_map(move |(seed, tail, events)| {
        let mut start = start(4, 3, seed, true);
        start[2] = limits([("chunk", 3), ("tail", tail)]);
        start.extend([Command::Apply(false), Command::Isolate(3)]);
        let prompt = (1..=4).flat_map(|node| [vec![restored(node)], vec![applied(node); ALL_APPLIED]].concat());
        let end = std::iter::once(Command::Apply(true)).chain(prompt);
        Story::new(start, events.into_iter().flatten().chain(end).collect())
    })
}

proptest! {
    #[test]
    fn the_five_safety_properties_hold_with_slow_machines(story in slow_machines()) {
        story.play();
    }

    #[test]
    fn the_five_safety_properties_hold_through_compaction(story in compaction()) {
        story.play();
    }

    #[test]
    fn the_five_safety_properties_hold_over_three_nodes(story in three_nodes()) {
        story.play();
    }

    #[test]
    fn the_five_safety_properties_hold_from_an_established_leader(story in an_established_leader()) {
        story.play();
    }

    #[test]
    fn the_five_safety_properties_hold_with_tiny_limits(story in tiny_limits()) {
        story.play();
    }

    #[test]
    fn the_five_safety_properties_hold_through_membership_changes(story in membership_changes()) {
        story.play();
    }
}

#[test]
fn a_failing_sequence_is_shortened_and_printed_as_a_script() {
    // Whatever the environment says of the other tests.
    let config = ProptestConfig { cases: 256, max_shrink_iters: 1_024, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..config });
    let hands_over = |command: &Command| matches!(command, Command::HandOver(_));
    let result = runner.run(&membership_changes(), |story| {
        prop_assert!(!story.0.iter().any(hands_over));
        Ok(())
    });
    let Err(TestError::Fail(_, shortest)) = result else { panic!("no sequence hands over: {result:?}") };
    let printed = format!("{shortest:?}");
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        [
            "a script:",
            "",
            "nodes 6 voters 3",
            "seed 0",
            "limits chunk=8 tail=1",
            "elect 1",
            "sync off",
            "hand-over 1",
            "expect recovery"
        ]
    );
    let read_back: Vec<Command> = printed.lines().skip(2).map(|line| Command::parse(line).unwrap()).collect();
    assert!(read_back == shortest.0, "it can be pasted");
}
