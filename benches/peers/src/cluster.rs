//! What every peer is driven through, and what counts as work done.

use bytes::Bytes;
use serde::Serialize;

/// One cell of the table: what all peers are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    pub(crate) replicas: usize,
    /// Entries that are handed to the leader at once.
    pub(crate) batch: usize,
    /// Bytes of an entry's payload; at least 16.
    pub(crate) payload: usize,
    /// Whether messages travel as bytes.
    pub(crate) encoded: bool,
}

/// Some replicas in one thread, all in memory, of which one leads. A new one has its leader, and nothing under way.
pub(crate) trait Cluster {
    /// Hands a batch to the leader.
    fn propose(&mut self, batch: Vec<Bytes>);

    /// Every replica takes all that was sent in the round before, writes what it must, and applies what it may.
    fn round(&mut self);

    /// Time passes at the leader. Never while the clock runs.
    fn tick(&mut self);

    /// Entries that every replica has applied.
    fn applied(&self) -> u64;

    /// Messages sent so far.
    fn messages(&self) -> u64;
}

/// Entries between two compactions of a replica's log, and entries that stay behind one: openraft's defaults, for all.
pub(crate) const COMPACT_EVERY: u64 = 5000;
pub(crate) const KEPT: u64 = 1000;

/// Payload `number` of a cell: it says its place, and ends with it too.
pub(crate) fn payload(number: u64, bytes: usize) -> Bytes {
    let mut payload = vec![low_byte(number); bytes];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload.into()
}

/// One replica's state machine: holds that every payload comes, once, whole and in its place.
#[derive(Debug)]
pub(crate) struct Applied {
    next: u64,
    bytes: usize,
}

impl Applied {
    pub(crate) const fn new(cell: Cell) -> Self {
        Self { next: 0, bytes: cell.payload }
    }

    pub(crate) fn apply(&mut self, payload: &[u8]) {
        let number = payload.first_chunk().map(|number| u64::from_le_bytes(*number));
        let is_whole = payload.len() == self.bytes && payload.last() == Some(&low_byte(self.next));
        assert!(number == Some(self.next) && is_whole, "entry {number:?} where {} belongs", self.next);
        self.next += 1;
    }

    pub(crate) const fn count(&self) -> u64 {
        self.next
    }
}

/// The least of what the replicas have applied.
pub(crate) fn least<'a>(replicas: impl Iterator<Item = &'a Applied>) -> u64 {
    replicas.map(Applied::count).min().unwrap_or_default()
}

const fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell { replicas: 3, batch: 1, payload: 16, encoded: false };

    #[test]
    fn entries_in_order_are_counted() {
        let mut applied = Applied::new(CELL);
        (0..300).for_each(|number| applied.apply(&payload(number, 16)));
        assert_eq!(applied.count(), 300);
    }

    #[test]
    #[should_panic(expected = "where 1 belongs")]
    fn a_lost_entry_is_noticed() {
        let mut applied = Applied::new(CELL);
        [0, 2].into_iter().for_each(|number| applied.apply(&payload(number, 16)));
    }

    #[test]
    #[should_panic(expected = "where 1 belongs")]
    fn a_repeated_entry_is_noticed() {
        let mut applied = Applied::new(CELL);
        [0, 0].into_iter().for_each(|number| applied.apply(&payload(number, 16)));
    }

    #[test]
    #[should_panic(expected = "where 0 belongs")]
    fn a_short_entry_is_noticed() {
        Applied::new(CELL).apply(&payload(0, 15));
    }
}
