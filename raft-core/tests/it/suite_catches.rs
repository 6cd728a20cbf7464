//! The conformance suites, on what breaks its contract: each fault is found, and the clause that it breaks is named.

use std::time::{Duration, Instant};

use raft_core::suite::{Clause, TransportHarness, check_storage, check_transport};
use raft_core::{Message, NodeId, Term};

use crate::toy::{FAULTS, Fault, ToyHarness};

#[test]
fn every_broken_storage_is_caught_by_the_clause_that_it_breaks() {
    let mut missed = Vec::new();
    for (fault, clause) in FAULTS {
        match check_storage(ToyHarness { fault, links: true }) {
            Err(violation) if violation.clause == clause => assert!(!violation.run.is_empty(), "{violation}"),
            other => missed.push(format!("{fault:?}: {other:?}")),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn what_is_found_once_is_found_again() {
    let check = || check_storage(ToyHarness { fault: Fault::OldTermAfterTruncation, links: true });
    let violation = check().unwrap_err();
    assert_eq!(check(), Err(violation.clone()));
    let told = violation.to_string();
    assert!(told.contains("storage contract 4") && told.contains("the term at"), "{told}");
}

#[test]
#[should_panic(expected = "storage contract 2")]
fn the_one_line_panics() {
    raft_core::suite::storage(ToyHarness { fault: Fault::ReportsEarly, links: false });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Waits,
    Alters,
    Invents,
    GoesToEverybody,
    BelievesTheBytes,
    SaysAnotherSender,
    LosesLargeOnes,
    LosesOneRoute,
}

struct Wire {
    wrong: Wrong,
    under_way: Vec<Message>,
    begun: Instant,
}

impl TransportHarness for Wire {
    fn routes(&self) -> Vec<(NodeId, NodeId)> {
        [(1, 2), (2, 1), (1, 3)].map(|(from, to)| (NodeId(from), NodeId(to))).into()
    }

    fn send(&mut self, by: NodeId, message: Message) {
        let mut message = if self.wrong == Wrong::BelievesTheBytes { message } else { Message { from: by, ..message } };
        match self.wrong {
            Wrong::Waits if self.under_way.len() > 500 => std::thread::sleep(Duration::from_millis(1100)),
            Wrong::Alters if message.term == Term(5) => message.term = Term(6),
            Wrong::Invents if self.under_way.len() > 100 => message.body = self.under_way[0].body.clone(),
            Wrong::SaysAnotherSender if message.to == NodeId(3) => message.from = NodeId(2),
            Wrong::LosesLargeOnes if format!("{message:?}").len() > 1000 => return,
            Wrong::LosesOneRoute if message.to == NodeId(3) => return,
            _ => {}
        }
        self.under_way.push(message);
    }

    fn receive(&mut self) -> Vec<(NodeId, Message)> {
        let misled = self.wrong == Wrong::GoesToEverybody;
        let reached = |message: Message| (if misled { NodeId(3) } else { message.to }, message);
        self.under_way.drain(..).map(reached).collect()
    }

    fn clock(&self) -> Duration {
        self.begun.elapsed()
    }
}

#[test]
fn every_broken_transport_is_caught_by_the_clause_that_it_breaks() {
    for (wrong, clause) in [
        (Wrong::Waits, Clause::Fire),
        (Wrong::Alters, Clause::Unaltered),
        (Wrong::Invents, Clause::Unaltered),
        (Wrong::GoesToEverybody, Clause::Addressed),
        (Wrong::BelievesTheBytes, Clause::Identified),
        (Wrong::SaysAnotherSender, Clause::Identified),
        (Wrong::LosesLargeOnes, Clause::Delivery),
        (Wrong::LosesOneRoute, Clause::Delivery),
    ] {
        let found = check_transport(Wire { wrong, under_way: Vec::new(), begun: Instant::now() });
        assert_eq!(found.as_ref().map_err(|violation| violation.clause), Err(clause), "{wrong:?}: {found:?}");
    }
}
