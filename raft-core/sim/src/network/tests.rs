use super::*;
use crate::plan::{Fault, Target};
use crate::time::rng;

const LASTS: Time = Time::secs(1);

fn calm() -> plan::Network {
    plan::Network {
        latency_min: Time::millis(1),
        latency_mean: Time::ZERO,
        loss: 0,
        duplication: 0,
        late: 0,
        late_max: Time::ZERO,
        in_order: false,
        capacity: None,
    }
}

fn network(shape: plan::Network) -> Network {
    Network::new(shape, 5, rng(1, "network"))
}

/// Ten thousand messages from 1 to 2, a millisecond apart: how long each copy of each took.
fn ten_thousand(shape: plan::Network) -> Vec<Vec<Time>> {
    let mut network = network(shape);
    let carry = |number| {
        let now = Time::millis(number);
        network.carry(now, 1, 2, 100).into_iter().map(|at| at - now).collect()
    };
    (0..10_000).map(carry).collect()
}

fn about(count: usize, expected: usize) {
    let near = expected * 9 / 10..=expected * 11 / 10;
    assert!(near.contains(&count), "{count} is not about {expected}");
}

#[test]
fn a_calm_link_delivers_each_message_once_after_its_latency() {
    assert!(ten_thousand(calm()).iter().all(|copies| *copies == [Time::millis(1)]));
}

#[test]
fn loss_is_as_often_as_it_says() {
    let lost = |loss| ten_thousand(plan::Network { loss, ..calm() }).iter().filter(|copies| copies.is_empty()).count();
    assert_eq!((lost(0), lost(1000)), (0, 10_000));
    about(lost(200), 2_000);
}

#[test]
fn duplication_is_as_often_as_it_says() {
    let with_copies = |duplication, copies| {
        let all = ten_thousand(plan::Network { duplication, ..calm() });
        all.iter().filter(|arrivals| arrivals.len() == copies).count()
    };
    assert_eq!((with_copies(0, 1), with_copies(1000, 3)), (10_000, 10_000));
    about(with_copies(400, 1), 6_000);
    about(with_copies(400, 2), 2_400);
    about(with_copies(400, 3), 1_600);
}

#[test]
fn latency_is_exponential_above_its_minimum() {
    let took: Vec<Time> = ten_thousand(plan::Network { latency_mean: Time::millis(4), ..calm() }).concat();
    assert!(took.iter().all(|took| *took >= Time::millis(1)));
    about(took.iter().map(|took| took.0 as usize).sum::<usize>() / took.len(), 5_000);
    // Of an exponential distribution, a share of 1/e is above the mean.
    about(took.iter().filter(|took| **took > Time::millis(5)).count(), 3_679);
}

#[test]
fn late_ones_are_late_by_up_to_the_maximum() {
    let took = ten_thousand(plan::Network { late: 100, late_max: Time::secs(3), ..calm() }).concat();
    let late: Vec<Time> = took.into_iter().filter(|took| *took > Time::millis(1)).collect();
    about(late.len(), 1_000);
    assert!(late.iter().all(|took| *took <= Time::millis(3_001)));
    about(late.iter().filter(|took| **took > Time::millis(1_500)).count(), late.len() / 2);
}

fn arrivals_in_a_burst(shape: plan::Network) -> Vec<Time> {
    let mut network = network(shape);
    (0..1_000).flat_map(|number| network.carry(Time::micros(number * 10), 1, 2, 100)).collect()
}

#[test]
fn order_is_kept_where_it_is_asked_for_but_for_late_ones() {
    let shape = plan::Network { latency_mean: Time::millis(5), duplication: 300, in_order: true, ..calm() };
    let ordered = |times: &[Time]| times.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(ordered(&arrivals_in_a_burst(shape.clone())));
    assert!(!ordered(&arrivals_in_a_burst(plan::Network { in_order: false, ..shape.clone() })));
    let late = plan::Network { late: 100, late_max: Time::secs(1), ..shape };
    let mut times = arrivals_in_a_burst(late);
    assert!(!ordered(&times));
    // A late one delays none of those behind it.
    times.retain(|at| *at < Time::millis(100));
    assert!(times.len() > 1_000, "{}", times.len());
}

#[test]
fn a_link_carries_what_it_can_and_loses_what_would_wait_too_long() {
    let mut network = network(plan::Network { capacity: Some(100), ..calm() });
    // Ten milliseconds each, all at once: the queue is full after a second.
    let arrivals: Vec<Time> = (0..200).flat_map(|_| network.carry(Time::ZERO, 1, 2, 1_000)).collect();
    let expected: Vec<Time> = (1..=101).map(|number| Time::millis(10 * number + 1)).collect();
    assert_eq!(arrivals, expected);
    // Each direction of each pair is a link of its own.
    for (from, to) in [(2, 1), (1, 3), (3, 2)] {
        assert_eq!(network.carry(Time::ZERO, from, to, 1_000).as_slice(), [Time::millis(11)]);
    }
    // A link that had time is free again, and the smallest message takes some of it.
    assert_eq!(network.carry(Time::secs(5), 1, 2, 1_000).as_slice(), [Time::millis(5_011)]);
    network.set_shape(plan::Network { capacity: Some(100_000), ..calm() });
    for sent in 1..100 {
        assert_eq!(network.carry(Time::secs(6), 1, 2, 1).as_slice(), [Time::micros(6_001_000 + sent)]);
    }
}

#[test]
fn who_is_no_server_has_links_without_a_queue_that_nobody_cuts() {
    let mut network = network(plan::Network { capacity: Some(1), in_order: true, ..calm() });
    network.cut(0, 1);
    network.clog(1, 6);
    assert!(!network.is_cut(0, 1) && !network.is_clogged(1, 6));
    for (from, to) in [(0, 1), (1, 0), (6, 5), (5, 6), (2, 2)] {
        for _ in 0..3 {
            assert_eq!(network.carry(Time::ZERO, from, to, 5).as_slice(), [Time::millis(6)]);
        }
    }
}

/// What everybody hears: for each server, from whom.
fn heard(network: &mut Network) -> Vec<Vec<u32>> {
    let mut from = |to: u32| {
        let arrives = |from: &u32| {
            let arrives = !network.carry(Time::ZERO, *from, to, 1).is_empty();
            assert_eq!(arrives, !network.is_cut(*from, to));
            arrives
        };
        (1..=5).filter(|from| *from != to).filter(arrives).collect()
    };
    (1..=5).map(&mut from).collect()
}

fn whole() -> Vec<Vec<u32>> {
    vec![vec![2, 3, 4, 5], vec![1, 3, 4, 5], vec![1, 2, 4, 5], vec![1, 2, 3, 5], vec![1, 2, 3, 4]]
}

#[test]
fn each_fault_cuts_what_it_says_and_lifting_it_mends_that() {
    let target = Target::Server(3);
    let cases = [
        (
            Fault::Partition { sides: vec![vec![1, 2], vec![3, 4]], lasts: LASTS },
            vec![vec![2], vec![1], vec![4], vec![3], vec![]],
        ),
        (
            // 3 is a bridge.
            Fault::Partition { sides: vec![vec![1, 2, 3], vec![3, 4, 5]], lasts: LASTS },
            vec![vec![2, 3], vec![1, 3], vec![1, 2, 4, 5], vec![3, 5], vec![3, 4]],
        ),
        (
            Fault::Isolate { target, lasts: LASTS },
            vec![vec![2, 4, 5], vec![1, 4, 5], vec![], vec![1, 2, 5], vec![1, 2, 4]],
        ),
        (
            Fault::OneWay { target, says: true, lasts: LASTS },
            vec![vec![2, 4, 5], vec![1, 4, 5], vec![1, 2, 4, 5], vec![1, 2, 5], vec![1, 2, 4]],
        ),
        (
            Fault::OneWay { target, says: false, lasts: LASTS },
            vec![vec![2, 3, 4, 5], vec![1, 3, 4, 5], vec![], vec![1, 2, 3, 5], vec![1, 2, 3, 4]],
        ),
        (Fault::Chain { lasts: LASTS }, vec![vec![2], vec![1, 3], vec![2, 4], vec![3, 5], vec![4]]),
    ];
    for (fault, expected) in cases {
        let mut network = network(calm());
        let id = network.apply(&fault).unwrap();
        assert_eq!(heard(&mut network), expected, "{fault:?}");
        network.lift(id);
        network.lift(id);
        assert_eq!(heard(&mut network), whole(), "{fault:?}");
    }
}

#[test]
fn a_link_is_whole_when_every_fault_on_it_has_ended() {
    let mut network = network(calm());
    let chain = network.apply(&Fault::Chain { lasts: LASTS }).unwrap();
    let isolated = network.apply(&Fault::Isolate { target: Target::Server(1), lasts: LASTS }).unwrap();
    network.cut(1, 5);
    network.lift(chain);
    assert!(network.is_cut(1, 2) && network.is_cut(1, 3) && !network.is_cut(2, 4));
    network.lift(isolated);
    assert!(!network.is_cut(1, 2) && !network.is_cut(5, 1) && network.is_cut(1, 5));
    network.mend(1, 5);
    network.mend(1, 5);
    assert_eq!(heard(&mut network), whole());
    network.cut(1, 5);
    assert!(network.is_cut(1, 5), "a mend of nothing counts for nothing");
}

#[test]
fn a_clog_is_told_and_counted() {
    let mut network = network(calm());
    let clog = Fault::Clog { from: 1, to: 2, lasts: LASTS };
    let (first, second) = (network.apply(&clog).unwrap(), network.apply(&clog).unwrap());
    assert!(network.is_clogged(1, 2) && !network.is_clogged(2, 1) && !network.is_cut(1, 2));
    network.lift(second);
    assert!(network.is_clogged(1, 2));
    network.lift(first);
    assert!(!network.is_clogged(1, 2));
}

#[test]
fn a_detour_takes_longer_and_what_is_sent_after_it_overtakes() {
    let mut network = network(plan::Network { in_order: true, ..calm() });
    let longer = Time::millis(100);
    let detour = network.apply(&Fault::Detour { from: 1, to: 2, lasts: LASTS, longer }).unwrap();
    assert_eq!(network.carry(Time::ZERO, 1, 2, 1).as_slice(), [Time::millis(101)]);
    assert_eq!(network.carry(Time::ZERO, 2, 1, 1).as_slice(), [Time::millis(1)]);
    network.lift(detour);
    assert_eq!(network.carry(Time::ZERO, 1, 2, 1).as_slice(), [Time::millis(1)]);
    network.apply(&Fault::Detour { from: 1, to: 2, lasts: LASTS, longer }).unwrap();
    network.heal();
    assert_eq!(network.carry(Time::millis(9), 1, 2, 1).as_slice(), [Time::millis(10)]);
}

#[test]
fn healing_ends_all_and_what_is_lifted_after_it_changes_nothing() {
    let mut network = network(calm());
    let clog = network.apply(&Fault::Clog { from: 1, to: 2, lasts: LASTS }).unwrap();
    let chain = network.apply(&Fault::Chain { lasts: LASTS }).unwrap();
    network.cut(4, 5);
    network.heal();
    assert!(!network.is_clogged(1, 2));
    assert_eq!(heard(&mut network), whole());
    // Another fault since, on the same links, stays.
    network.cut(1, 3);
    network.clog(1, 2);
    network.lift(chain);
    network.lift(clog);
    assert!(network.is_cut(1, 3) && network.is_clogged(1, 2));
}

#[test]
fn other_faults_and_unknown_targets_are_not_for_links() {
    let mut network = network(calm());
    assert_eq!(network.apply(&Fault::HandOver), None);
    assert_eq!(network.apply(&Fault::Isolate { target: Target::Leader, lasts: LASTS }), None);
    assert_eq!(heard(&mut network), whole());
}

#[test]
fn equal_seeds_carry_alike() {
    let shape = plan::Network {
        latency_mean: Time::millis(3),
        loss: 100,
        duplication: 200,
        late: 50,
        late_max: Time::secs(1),
        in_order: true,
        capacity: Some(200),
        ..calm()
    };
    let run = |seed| {
        let mut network = Network::new(shape.clone(), 3, rng(seed, "network"));
        let carry = |number: u64| {
            let (from, to) = (number % 3 + 1, number % 2 + number % 3 + 2);
            network.carry(Time::micros(number * 50), from as u32, to as u32 % 4, number % 900)
        };
        (0..5_000).map(carry).collect::<Vec<Arrivals>>()
    };
    assert!(run(1) == run(1) && run(1) != run(2));
}

#[test]
fn an_outbox_says_who_sends() {
    let mut outbox = Outbox::new(NodeId(4));
    let message = Message { from: NodeId(1), to: NodeId(2), term: raft_core::Term(3), body: Body::TimeoutNow };
    assert!(outbox.is_empty());
    outbox.send(message.clone());
    assert!(!outbox.is_empty());
    assert_eq!(outbox.drain().collect::<Vec<_>>(), [Message { from: NodeId(4), ..message }]);
    assert!(outbox.is_empty());
}
