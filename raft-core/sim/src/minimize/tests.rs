//! Plans shrink against made-up ways of failing.

use super::*;
use crate::plan::Disk;
use crate::story::tests::shape;

const BUDGET: usize = 2_000;

/// Thirty faults, a tenth of a second apart, of a world in which everything goes wrong.
fn plan() -> Plan {
    let fault = |number: u32| {
        let (target, lasts) = (Target::Server(number % 5 + 1), Time::millis(800));
        match number % 3 {
            0 => Fault::Pause { target, lasts },
            1 => Fault::CrashAtWrite { target, writes: number, durable: true, down: lasts },
            _ => Fault::OneWay { target, says: true, lasts },
        }
    };
    let faults = (0..30).map(|number| Timed { at: Time::millis(100 * u64::from(number)), fault: fault(number) });
    let mut shape = Shape { voters: 5, others: 2, clients: 8, duration: Time::secs(60), ..shape() };
    (shape.network.loss, shape.network.duplication, shape.network.capacity) = (300, 200, Some(10));
    shape.disk = Disk { sync_min: Time::millis(5), sync_mean: Time::millis(20) };
    Plan { seed: 1, shape, faults: faults.collect() }
}

fn shrink(fails: impl Fn(&Plan) -> bool) -> (Plan, usize) {
    let mut runs = 0;
    let small = minimize(plan(), &fails, BUDGET, |progress| runs = progress.runs);
    assert!(fails(&small), "what is returned fails");
    assert!(runs < BUDGET, "{runs}");
    for left_out in 0..small.faults.len() {
        let mut smaller = small.clone();
        smaller.faults.remove(left_out);
        assert!(!fails(&smaller), "{left_out} is not needed in {small:?}");
    }
    (small, runs)
}

fn pauses(plan: &Plan, server: u32) -> usize {
    let is_it = |timed: &&Timed| matches!(timed.fault, Fault::Pause { target, .. } if target == Target::Server(server));
    plan.faults.iter().filter(is_it).count()
}

#[test]
fn the_two_of_thirty_faults_that_matter_are_left() {
    let (small, runs) = shrink(|plan| pauses(plan, 1) > 0 && pauses(plan, 4) > 0);
    assert_eq!(small.faults.len(), 2, "{small:?}");
    assert!(runs < 150, "{runs}");
    assert_eq!(small.faults.iter().filter_map(|timed| timed.fault.lasts()).max(), Some(Time::ZERO), "as short");
    assert_eq!(small.faults.last().map(|timed| timed.at), Some(Time::ZERO), "as early");
}

#[test]
fn a_fault_is_as_long_as_it_must_be_and_no_longer() {
    let lasts = |plan: &Plan| plan.faults.iter().filter_map(|timed| timed.fault.lasts()).max().unwrap_or_default();
    let (small, _) = shrink(|plan| lasts(plan) >= Time::millis(300));
    assert_eq!(small.faults.len(), 1);
    assert!(lasts(&small) <= Time::millis(345), "{small:?}");
}

#[test]
fn what_matters_of_the_world_stays_and_the_rest_becomes_plain() {
    let (small, _) = shrink(|plan| plan.shape.network.loss > 0 && plan.shape.clients >= 3 && plan.shape.voters >= 3);
    let Shape { voters, others, clients, duration, network, .. } = &small.shape;
    assert_eq!((*voters, *others, *clients, *duration), (3, 0, 3, Time::ZERO));
    assert_eq!((network.loss, network.duplication, network.capacity), (300, 0, None));
    assert_eq!(small.shape.limits, Limits::default());
    assert!(small.faults.is_empty(), "{small:?}");
}

#[test]
fn no_server_that_a_fault_names_goes() {
    let (small, _) = shrink(|plan| pauses(plan, 4) > 0);
    assert_eq!((small.shape.voters, small.shape.others), (4, 0));
}

#[test]
fn no_server_whose_state_is_altered_is_left_as_the_only_voter() {
    let mut whole = plan();
    whole.faults.push(Timed { at: Time::secs(4), fault: Fault::AlteredState { target: Target::Leader } });
    let alters = |plan: &Plan| plan.faults.iter().any(|timed| timed.fault.kind() == "altered state");
    let small = minimize(whole, alters, BUDGET, |_| ());
    assert_eq!((small.shape.voters, small.faults.len()), (2, 1), "{small:?}");
}

#[test]
fn faults_become_plainer_where_that_suffices() {
    let (small, _) = shrink(|plan| {
        let any = |is: fn(&Fault) -> bool| plan.faults.iter().any(|timed| is(&timed.fault));
        any(|fault| matches!(fault, Fault::Crash { .. } | Fault::CrashAtWrite { .. }))
            && any(|fault| matches!(fault, Fault::OneWay { .. }))
    });
    let kinds: Vec<_> = small.faults.iter().map(|timed| timed.fault.kind()).collect();
    assert!(kinds == ["crash", "one-way cut"] || kinds == ["one-way cut", "crash"], "{kinds:?}");
}

#[test]
fn ways_of_failing_that_are_not_monotone_shrink_too() {
    // An odd number of faults, and one of server 2: leaving out one fault alone never helps.
    let (small, _) = shrink(|plan| plan.faults.len() % 2 == 1 && pauses(plan, 2) == 1);
    assert!(small.faults.len() <= 3, "{small:?}");
}

#[test]
fn a_budget_is_not_overspent_and_what_is_returned_still_fails() {
    for budget in [0, 1, 7, 40] {
        let mut runs = 0;
        let fails = |plan: &Plan| pauses(plan, 1) > 0 && pauses(plan, 4) > 0;
        let small = minimize(
            plan(),
            |plan| {
                runs += 1;
                fails(plan)
            },
            budget,
            |_| (),
        );
        assert!(runs <= budget && fails(&small), "{runs} runs of {budget}");
    }
}

#[test]
fn a_plan_that_does_not_fail_comes_back_as_it_is() {
    assert_eq!(minimize(plan(), |_| false, BUDGET, |_| ()), plan());
}
