//! Where the blocks of a chain are that may have gaps: 8 bytes a block.

use raft_core::{Digest, LogIndex};

/// Invariant: the runs are not empty, ascend, and do not touch where the hash before the later one is unknown.
#[derive(Debug, Default)]
pub(super) struct BlockMap {
    runs: Vec<Run>,
}

/// Blocks one after the other.
#[derive(Debug)]
struct Run {
    first: u64,
    /// The hash of the block before the first.
    before: Option<Digest>,
    positions: Vec<u64>,
}

/// What is known of the block before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Its hash, or that it is lost.
    Known(Option<Digest>),
    /// It is at this position.
    At(u64),
}

impl BlockMap {
    /// A block stands at this position; `before` is the hash of the one before it, where that is known. It takes the
    /// place of any at its height and above.
    pub(super) fn append(&mut self, height: LogIndex, position: u64, before: Option<Digest>) {
        self.truncate(height);
        match self.runs.last_mut() {
            Some(run) if run.end() == height.0 && before.is_some() => run.positions.push(position),
            _ => self.runs.push(Run { first: height.0, before, positions: vec![position] }),
        }
    }

    /// Forgets the blocks from this height on.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        while let Some(run) = self.runs.last_mut() {
            let kept = usize::try_from(from.0.saturating_sub(run.first)).unwrap_or(usize::MAX);
            run.positions.truncate(kept);
            if !run.positions.is_empty() {
                return;
            }
            self.runs.pop();
        }
    }

    /// Where this block is, and the one before it.
    pub(super) fn locate(&self, height: LogIndex) -> Option<(u64, Before)> {
        let at = self.runs.partition_point(|run| run.first <= height.0).checked_sub(1)?;
        let run = self.runs.get(at)?;
        let skip = usize::try_from(height.0.checked_sub(run.first)?).ok()?;
        let position = *run.positions.get(skip)?;
        let before = match skip.checked_sub(1).and_then(|at| run.positions.get(at)) {
            Some(position) => Before::At(*position),
            None => Before::Known(run.before),
        };
        Some((position, before))
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = (LogIndex, LogIndex)> + '_ {
        self.runs.iter().map(|run| (LogIndex(run.first), LogIndex(run.end().saturating_sub(1))))
    }

    /// The first heights above this one that are not there, up to the last of these.
    pub(super) fn missing(&self, above: LogIndex, last: LogIndex) -> Option<(LogIndex, LogIndex)> {
        let mut next = above.next();
        for (first, end) in self.ranges().filter(|(_, end)| *end > above) {
            if first > next {
                return Some((next, first.prev()));
            }
            next = end.next();
        }
        (next <= last).then_some((next, last))
    }
}

impl Run {
    /// The height after the last.
    const fn end(&self) -> u64 {
        self.first.saturating_add(self.positions.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_across_gaps_and_truncations() {
        let hash = Some(Digest([1; 32]));
        let mut map = BlockMap::default();
        (1..=5).for_each(|height| map.append(LogIndex(height), height * 10, hash));
        map.append(LogIndex(8), 80, None);
        map.append(LogIndex(9), 90, hash);
        let ranges = |map: &BlockMap| map.ranges().map(|(first, last)| (first.0, last.0)).collect::<Vec<_>>();
        assert_eq!(ranges(&map), [(1, 5), (8, 9)]);
        assert_eq!(map.locate(LogIndex(1)), Some((10, Before::Known(hash))));
        assert_eq!(map.locate(LogIndex(5)), Some((50, Before::At(40))));
        assert_eq!((map.locate(LogIndex(6)), map.locate(LogIndex(0))), (None, None));
        assert_eq!(map.locate(LogIndex(8)), Some((80, Before::Known(None))));
        let missing = |above, last| map.missing(LogIndex(above), LogIndex(last)).map(|(first, last)| (first.0, last.0));
        assert_eq!((missing(2, 9), missing(7, 9), missing(7, 11)), (Some((6, 7)), None, Some((10, 11))));
        map.append(LogIndex(4), 44, hash);
        assert_eq!((ranges(&map), map.locate(LogIndex(4))), (vec![(1, 4)], Some((44, Before::At(30)))));
        map.truncate(LogIndex(1));
        assert_eq!(ranges(&map), []);
    }
}
