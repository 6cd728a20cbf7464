//! What is done between two lives of a server, by how the last ones ended.

use std::collections::VecDeque;

use raft_core::LogIndex;
use raft_net_tcp::mend::Mended;

/// How a server's life ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    AskedTo,
    /// Its files are damaged, in this place: they are to be mended before the next one.
    Damaged(String),
    /// Its state after this entry was another than a majority's (invariant 12), or not what it had been.
    Diverged {
        index: LogIndex,
        /// Nothing shows that the state that its files make was right once: it has not been compared since.
        is_first: bool,
    },
}

/// What is to be done before the next life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// To mend the files.
    Mend,
    /// Nothing: the state is made anew from the files. In words.
    Anew(String),
    /// To trust nothing of the files, for this reason.
    StartOver(String),
}

/// What was done last, and what a status says of all that was.
#[derive(Debug, Default)]
pub(crate) struct History {
    last: Last,
    remarks: VecDeque<String>,
}

#[derive(Debug, Default)]
enum Last {
    #[default]
    Other,
    /// The state was made anew.
    Anew,
    /// Damage in this place was to be mended, and none was found.
    NotFound(String),
}

impl History {
    /// So many remarks are kept.
    const KEPT: usize = 16;

    /// The remedy for a life that has ended so. What helped nothing is not done twice.
    pub(crate) fn remedy(&mut self, ended: &Ended) -> Option<Remedy> {
        let last = std::mem::take(&mut self.last);
        match (ended, last) {
            (Ended::AskedTo, _) => None,
            (Ended::Damaged(place), Last::NotFound(before)) if *place == before => {
                Some(Remedy::StartOver(format!("{place} was found damaged again, and no file is")))
            }
            (Ended::Damaged(_), _) => Some(Remedy::Mend),
            (Ended::Diverged { index, is_first: true }, Last::Anew) => {
                let why = format!("the state that its files make differed as well, after block {index}");
                Some(Remedy::StartOver(why))
            }
            (Ended::Diverged { index, .. }, _) => {
                self.last = Last::Anew;
                Some(Remedy::Anew(format!("its state differed after block {index}: it is made anew from its files")))
            }
        }
    }

    /// What came of a life that has ended so.
    pub(crate) fn mended(&mut self, ended: Ended, mended: &Mended) {
        if let (Ended::Damaged(place), Mended::Whole { places: 0, .. }) = (ended, mended) {
            self.last = Last::NotFound(place);
        }
    }

    /// Every status says so from now on, until so many newer ones are there.
    pub(crate) fn remark(&mut self, words: String) {
        if self.remarks.len() >= Self::KEPT {
            self.remarks.pop_front();
        }
        self.remarks.push_back(words);
    }

    /// Oldest first.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.remarks.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn damaged(place: &str) -> Ended {
        Ended::Damaged(place.into())
    }

    fn diverged(index: u64, is_first: bool) -> Ended {
        Ended::Diverged { index: LogIndex(index), is_first }
    }

    /// The remedy, and that nothing was found where it is to mend.
    fn in_vain(history: &mut History, ended: Ended) -> Option<Remedy> {
        let remedy = history.remedy(&ended);
        if remedy == Some(Remedy::Mend) {
            history.mended(ended, &Mended::Whole { places: 0, fetched: BTreeMap::new() });
        }
        remedy
    }

    fn starts_over(remedy: Option<Remedy>) -> bool {
        matches!(remedy, Some(Remedy::StartOver(_)))
    }

    #[test]
    fn d2_damage_that_is_not_found_twice_in_one_place_is_started_over_for() {
        let mut history = History::default();
        assert_eq!(in_vain(&mut history, damaged("the snapshot of entry 9")), Some(Remedy::Mend));
        assert_eq!(in_vain(&mut history, damaged("segment 3 at byte 7")), Some(Remedy::Mend), "another place");
        assert!(starts_over(in_vain(&mut history, damaged("segment 3 at byte 7"))));
        assert_eq!(in_vain(&mut history, damaged("segment 3 at byte 7")), Some(Remedy::Mend), "of other files");
        // What was mended may be damaged again.
        let mut history = History::default();
        for _ in 0..3 {
            assert_eq!(history.remedy(&damaged("segment 3 at byte 7")), Some(Remedy::Mend));
            history.mended(damaged("segment 3 at byte 7"), &Mended::Whole { places: 1, fetched: BTreeMap::new() });
        }
    }

    #[test]
    fn i12_a_state_that_differs_is_made_anew_in_each_life_whose_files_made_a_right_one() {
        let mut history = History::default();
        let is_anew = |remedy| matches!(remedy, Some(Remedy::Anew(_)));
        assert!(is_anew(history.remedy(&diverged(1024, true))));
        assert!(starts_over(history.remedy(&diverged(1024, true))), "its files make a wrong one");
        assert!(is_anew(history.remedy(&diverged(4096, true))), "these are others");
        assert!(is_anew(history.remedy(&diverged(9216, false))), "months later");
        assert_eq!(history.remedy(&damaged("segment 3 at byte 7")), Some(Remedy::Mend));
        assert!(is_anew(history.remedy(&diverged(9216, true))), "its files were mended since");
        assert_eq!(history.remedy(&Ended::AskedTo), None);
    }

    #[test]
    fn the_newest_remarks_are_kept() {
        let mut history = History::default();
        (0..100).for_each(|number| history.remark(number.to_string()));
        assert_eq!(history.remarks(), (84..100).map(|number: u32| number.to_string()).collect::<Vec<_>>());
    }
}
