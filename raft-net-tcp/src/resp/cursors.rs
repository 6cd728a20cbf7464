//! Where scans have got to. A cursor of Redis's protocol is a number, and a place in the order of the keys is a key: so
//! the server keeps the key, and hands out a number for it.

use std::collections::VecDeque;

use bytes::Bytes;

/// The newest places of scans, of all connections of one server. A cursor is of one life of one server: another, or one
/// too many scans later the same, knows it no more, and says so.
#[derive(Debug)]
pub(super) struct Cursors {
    /// The number of the first of `places`.
    first: u64,
    places: VecDeque<Bytes>,
    bytes: usize,
}

impl Cursors {
    /// `life` keeps the numbers apart from another life's.
    pub(super) fn new(life: u32) -> Self {
        // Below 2^53, which every client's numbers reach; and 0 is the beginning of a scan.
        let first = (u64::from(life >> 12) << 32).saturating_add(1);
        Self { first, places: VecDeque::new(), bytes: 0 }
    }

    /// The number by which to go on behind this canonical key.
    pub(super) fn keep(&mut self, canonical: Bytes) -> u64 {
        self.bytes = self.bytes.saturating_add(canonical.len());
        self.places.push_back(canonical);
        while self.places.len() > PLACES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.places.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.len());
            self.first = self.first.saturating_add(1);
        }
        let newest = u64::try_from(self.places.len().saturating_sub(1)).unwrap_or(0);
        self.first.saturating_add(newest)
    }

    /// The canonical key behind which to go on.
    pub(super) fn place(&self, cursor: u64) -> Option<Bytes> {
        self.places.get(usize::try_from(cursor.checked_sub(self.first)?).ok()?).cloned()
    }
}

/// Places that are remembered, and their bytes: one of the longest there are, in any case.
const PLACES_MAX: usize = 4096;
const BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n5_the_oldest_places_are_forgotten() {
        let mut cursors = Cursors::new(u32::MAX);
        let first = cursors.keep(Bytes::from("a"));
        assert_eq!(cursors.place(first), Some(Bytes::from("a")));
        assert_eq!([0, first - 1, first + 1].map(|cursor| cursors.place(cursor)), [None, None, None]);
        let mut last = first;
        for _ in 0..PLACES_MAX {
            last = cursors.keep(Bytes::from("b"));
        }
        assert_eq!((cursors.place(first), cursors.place(last)), (None, Some(Bytes::from("b"))));
        assert!(last < 1 << 53);
        let large = cursors.keep(Bytes::from(vec![0; BYTES_MAX]));
        assert_eq!((cursors.place(last), cursors.place(large).map(|key| key.len())), (None, Some(BYTES_MAX)));
    }

    #[test]
    fn another_life_does_not_know_them() {
        let cursor = Cursors::new(1 << 12).keep(Bytes::from("a"));
        let mut other = Cursors::new(2 << 12);
        other.keep(Bytes::from("b"));
        assert_eq!(other.place(cursor), None);
    }
}
