//! What a leader knows of one follower (`nextIndex[]`, `matchIndex[]` of Figure 2), and when it may send it more.
//!
//! ```text
//!             accepted: the logs agree at match_index
//!   Probe ─────────────────────────────────────────────> Replicate
//!     ^  one append a round trip                            │  up to `max_inflight` appends at once
//!     └─────────────────────────────────────────────────────┘
//!             rejected, or reported unreachable
//! ```
//!
//! Invariants: `match_index < next_index`; `match_index` never falls while the leader leads and the follower's disk is the
//! same; what is in flight ends below `next_index`.

use alloc::collections::VecDeque;

use crate::types::{Incarnation, LogIndex};

/// One follower's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    match_index: LogIndex,
    next_index: LogIndex,
    state: ProgressState,
    /// Sending waits for an answer: after a probe, or after the follower's log was found to differ.
    paused: bool,
    /// Last index of each append in flight, ascending.
    in_flight: VecDeque<LogIndex>,
    /// Tick of the last answer; the leader's own election counts as one.
    pub(crate) last_ack: u64,
    /// Highest read round that it has confirmed.
    pub(crate) confirmed_round: u64,
    /// Its log differs from ours at an entry that both hold.
    pub(crate) diverged: bool,
    /// The first incarnation that this leader has heard, where the configuration pins none.
    incarnation: Incarnation,
    /// Another one that answers now: the progress is its own, and counts for nothing (fault M10).
    replaced_by: Option<Incarnation>,
}

/// How entries are sent to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Where the logs agree is not known: one append at a time.
    Probe,
    /// The logs agree: appends are pipelined.
    Replicate,
}

impl Progress {
    /// A follower of which nothing is known yet: the first append probes at the leader's last entry (Figure 2:
    /// "initialized to leader last log index + 1").
    pub(crate) const fn new(next_index: LogIndex, now: u64) -> Self {
        Self {
            match_index: LogIndex(0),
            next_index,
            state: ProgressState::Probe,
            paused: false,
            in_flight: VecDeque::new(),
            last_ack: now,
            confirmed_round: 0,
            diverged: false,
            incarnation: Incarnation::UNKNOWN,
            replaced_by: None,
        }
    }

    /// Whether this is the progress of the disk that the configuration means, and not of one that took its place.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.replaced_by.is_none()
    }

    /// The first incarnation heard, where the configuration pins none.
    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// An answer came from this incarnation of a member that is pinned so. What one disk has acknowledged says nothing of
    /// another, so the progress of one that takes over starts at `next`, as a new follower's.
    pub(crate) fn answered(&mut self, incarnation: Incarnation, pinned: Incarnation, next: LogIndex, now: u64) {
        if !pinned.is_known() && !self.incarnation.is_known() {
            self.incarnation = incarnation;
        }
        let meant = if pinned.is_known() { pinned } else { self.incarnation };
        let replaced_by = if meant.admits(incarnation) { None } else { Some(incarnation) };
        if replaced_by != self.replaced_by {
            *self = Self { incarnation: self.incarnation, replaced_by, ..Self::new(next, now) };
        }
        self.last_ack = now;
    }

    /// Highest entry known to be replicated and durable there.
    #[must_use]
    pub const fn match_index(&self) -> LogIndex {
        self.match_index
    }

    /// Next entry to send.
    #[must_use]
    pub const fn next_index(&self) -> LogIndex {
        self.next_index
    }

    /// How entries are sent.
    #[must_use]
    pub const fn state(&self) -> ProgressState {
        self.state
    }

    /// Appends in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether sending waits for an answer.
    #[must_use]
    pub fn is_paused(&self, max_inflight: usize) -> bool {
        self.paused || (self.state == ProgressState::Replicate && self.in_flight.len() >= max_inflight)
    }

    /// An append that ends at `last` was sent; `last` is `next_index - 1` for an empty one.
    pub(crate) fn sent(&mut self, last: LogIndex) {
        match self.state {
            ProgressState::Probe => self.paused = true,
            ProgressState::Replicate if last >= self.next_index => {
                self.in_flight.push_back(last);
                self.next_index = last.next();
            }
            ProgressState::Replicate => {}
        }
    }

    /// The follower verified everything up to `index`. `false` where that is no news.
    pub(crate) fn accepted(&mut self, index: LogIndex) -> bool {
        let news = index > self.match_index;
        let recovers = index == self.match_index && self.state == ProgressState::Probe;
        if !news && !recovers {
            return false;
        }
        self.match_index = index;
        self.next_index = self.next_index.max(index.next());
        self.paused = false;
        self.diverged = false;
        if self.state == ProgressState::Probe {
            self.state = ProgressState::Replicate;
            self.next_index = index.next();
        }
        while self.in_flight.pop_front_if(|last| *last <= index).is_some() {}
        true
    }

    /// The follower has no entry like ours at `prev_log_index`; ours and its logs may agree up to `agree`. `false`
    /// where the rejection is stale: it must not rewind what is known since (fault L6).
    pub(crate) fn rejected(&mut self, prev_log_index: LogIndex, agree: LogIndex) -> bool {
        let is_asked = self.state == ProgressState::Replicate || prev_log_index == self.next_index.prev();
        if prev_log_index <= self.match_index || !is_asked {
            return false;
        }
        let next = match self.state {
            ProgressState::Replicate => self.match_index.next(),
            ProgressState::Probe => prev_log_index.min(agree.next()),
        };
        self.probe_from(next);
        true
    }

    /// Messages to it were lost: find out where it stands before sending more.
    pub(crate) fn unreachable(&mut self) {
        if self.state == ProgressState::Replicate {
            self.probe_from(self.match_index.next());
        }
    }

    /// It answered a heartbeat, so it is there: one more append may go out, even into a full window.
    pub(crate) fn heard(&mut self) {
        self.paused = false;
    }

    /// Nothing is sent until the next heartbeat's answer.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether an append sent now could only be an empty one, because the window is full.
    pub(crate) fn window_is_full(&self, max_inflight: usize) -> bool {
        self.state == ProgressState::Replicate && self.in_flight.len() >= max_inflight
    }

    fn probe_from(&mut self, next: LogIndex) {
        self.state = ProgressState::Probe;
        self.next_index = next.max(self.match_index.next());
        self.paused = false;
        self.in_flight.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicating(match_index: u64) -> Progress {
        let mut progress = Progress::new(LogIndex(match_index + 1), 0);
        assert!(progress.accepted(LogIndex(match_index)));
        progress
    }

    #[test]
    fn a_probe_waits_for_its_answer() {
        let mut progress = Progress::new(LogIndex(5), 0);
        assert!(!progress.is_paused(2));
        progress.sent(LogIndex(9));
        assert!(progress.is_paused(2));
        assert_eq!(progress.next_index(), LogIndex(5));
        assert!(progress.accepted(LogIndex(9)));
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Replicate, LogIndex(10)));
        assert!(!progress.is_paused(2));
    }

    #[test]
    fn appends_are_pipelined_up_to_the_window() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(5));
        progress.sent(LogIndex(7));
        assert!(progress.is_paused(2));
        assert_eq!(progress.next_index(), LogIndex(8));
        assert!(progress.accepted(LogIndex(5)));
        assert_eq!(progress.in_flight(), 1);
        assert!(!progress.is_paused(2));
    }

    #[test]
    fn l6_a_stale_rejection_rewinds_nothing() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(6));
        assert!(!progress.rejected(LogIndex(4), LogIndex(1)), "4 is matched: the rejection is older");
        assert_eq!(progress.next_index(), LogIndex(7));
        assert!(progress.rejected(LogIndex(6), LogIndex(1)));
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Probe, LogIndex(5)));
        assert!(!progress.rejected(LogIndex(6), LogIndex(0)), "answers a request from before");
        assert_eq!(progress.next_index(), LogIndex(5));
    }

    #[test]
    fn a_probe_never_goes_below_what_is_matched() {
        let mut progress = replicating(4);
        progress.unreachable();
        assert!(!progress.rejected(LogIndex(4), LogIndex(0)));
        assert_eq!(progress.next_index(), LogIndex(5));
    }

    #[test]
    fn an_old_acknowledgement_is_no_news() {
        let mut progress = replicating(4);
        assert!(!progress.accepted(LogIndex(3)));
        assert!(!progress.accepted(LogIndex(4)));
        assert_eq!(progress.match_index(), LogIndex(4));
    }
}
