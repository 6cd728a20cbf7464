//! How every peer is driven: the same payloads, the same window, the same clock.

use std::time::Duration;

use alloc_tracker::Session;
use rustix::time::{ClockId, clock_gettime};

use crate::cluster::{Cell, Cluster, payload};

/// A cluster that is measured pass by pass.
pub(crate) struct Driven {
    cell: Cell,
    cluster: Box<dyn Cluster>,
    proposed: u64,
}

/// What a pass has shown of an entry, all replicas together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) nanoseconds: f64,
    pub(crate) messages: f64,
}

impl Driven {
    pub(crate) fn new(cell: Cell, cluster: Box<dyn Cluster>) -> Self {
        Self { cell, cluster, proposed: 0 }
    }

    /// Runs for so long, of this thread's own time, with the pipeline full at both ends.
    pub(crate) fn pass(&mut self, duration: Duration) -> Pass {
        self.warm_up();
        let (applied, messages, start) = (self.cluster.applied(), self.cluster.messages(), thread_time());
        let mut elapsed = Duration::ZERO;
        while elapsed < duration {
            self.turns(self.entries_between_looks());
            elapsed = thread_time() - start;
        }
        let entries = (self.cluster.applied() - applied) as f64;
        let messages = (self.cluster.messages() - messages) as f64;
        self.drain();
        Pass { nanoseconds: elapsed.as_nanos() as f64 / entries, messages: messages / entries }
    }

    /// Allocations an entry, over so many entries.
    pub(crate) fn count_allocations(&mut self, entries: u64) -> f64 {
        self.warm_up();
        let session = Session::new().no_stdout().no_file();
        let applied = self.cluster.applied();
        let span = session.operation("pass").measure_thread();
        self.turns(entries);
        drop(span.iterations(1));
        let entries = (self.cluster.applied() - applied) as f64;
        self.drain();
        session.to_report().operations().map(|(_, pass)| pass.total_allocations_count()).sum::<u64>() as f64 / entries
    }

    fn warm_up(&mut self) {
        self.turns(4 * self.entries_between_looks());
    }

    /// The clock costs a system call, so it is looked at only every so often.
    const fn entries_between_looks(&self) -> u64 {
        if self.cell.batch > 256 { self.cell.batch as u64 } else { 256 }
    }

    /// Until at least so many entries more are applied everywhere.
    fn turns(&mut self, entries: u64) {
        let mut applied = self.cluster.applied();
        let goal = applied + entries;
        let mut idle_rounds = 0;
        while applied < goal {
            if self.proposed - applied < WINDOW * self.cell.batch as u64 {
                self.propose();
            }
            self.cluster.round();
            let before = std::mem::replace(&mut applied, self.cluster.applied());
            idle_rounds = if applied > before { 0 } else { idle_rounds + 1 };
            assert!(idle_rounds < IDLE_ROUNDS_MAX, "{applied} of {} are applied", self.proposed);
        }
    }

    fn propose(&mut self) {
        let numbers = self.proposed..self.proposed + self.cell.batch as u64;
        self.proposed = numbers.end;
        self.cluster.propose(numbers.map(|number| payload(number, self.cell.payload)).collect());
    }

    /// Until every replica has applied all that was proposed: a replica that lost one would never get there.
    fn drain(&mut self) {
        let mut ticks = 0;
        while self.cluster.applied() < self.proposed {
            self.cluster.tick();
            (0..20).for_each(|_| self.cluster.round());
            ticks += 1;
            assert!(ticks < IDLE_ROUNDS_MAX, "{} of {} are applied", self.cluster.applied(), self.proposed);
        }
        assert_eq!(self.cluster.applied(), self.proposed, "more was applied than proposed");
    }
}

/// Batches that are proposed and not applied everywhere.
const WINDOW: u64 = 8;

/// Rounds without progress after which a cluster is taken to be stuck.
const IDLE_ROUNDS_MAX: u32 = 100_000;

/// What this thread has run: what else the machine does costs none of it.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::floor::Floor;

    const CELL: Cell = Cell { replicas: 3, batch: 16, payload: 16, encoded: false };

    /// Does to a batch what nobody should.
    struct Faulty(Floor, fn(&mut Vec<Bytes>));

    impl Cluster for Faulty {
        fn propose(&mut self, mut batch: Vec<Bytes>) {
            self.1(&mut batch);
            self.0.propose(batch);
        }
        fn round(&mut self) {
            self.0.round();
        }
        fn tick(&mut self) {
            self.0.tick();
        }
        fn applied(&self) -> u64 {
            self.0.applied()
        }
        fn messages(&self) -> u64 {
            self.0.messages()
        }
    }

    fn drive(fault: fn(&mut Vec<Bytes>)) {
        Driven::new(CELL, Box::new(Faulty(Floor::new(CELL), fault))).pass(Duration::from_millis(1));
    }

    #[test]
    fn what_does_all_its_work_is_measured() {
        drive(|_| {});
    }

    #[test]
    #[should_panic(expected = "belongs")]
    fn a_peer_that_loses_an_entry_is_not_measured() {
        drive(|batch| drop(batch.pop()));
    }

    #[test]
    #[should_panic(expected = "belongs")]
    fn a_peer_that_changes_the_order_is_not_measured() {
        drive(|batch| batch.swap(3, 5));
    }

    #[test]
    #[should_panic(expected = "are applied")]
    fn a_peer_that_stands_still_is_not_measured() {
        drive(Vec::clear);
    }
}
