//! What a leader knows of one follower (`nextIndex[]`, `matchIndex[]` of Figure 2), and when it may send it more.
//!
//! ```text
//!             accepted: the logs agree at match_index
//!   Probe ─────────────────────────────────────────────> Replicate
//!     ^  one append a round trip                            │  up to `max_inflight` appends at once
//!     └─────────────────────────────────────────────────────┘
//!             rejected, or reported unreachable
//!
//!   either ── what it lacks is compacted ──> Snapshot ── an acceptance from which the log goes on ──> Replicate
//!                                            one chunk a round trip
//! ```
//!
//! Invariants: `match_index < next_index`; `match_index` never falls while the leader leads and the follower's disk is the
//! same; what is in flight ends below `next_index`, and its bytes are counted exactly.

use alloc::collections::VecDeque;

use crate::config::Config;
use crate::read_index::Asked;
use crate::types::{Incarnation, LogIndex};

/// One follower's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    match_index: LogIndex,
    next_index: LogIndex,
    state: ProgressState,
    /// Sending waits for an answer: after a probe, or after the follower's log was found to differ.
    paused: bool,
    /// Last index and cost of each append in flight, ascending.
    in_flight: VecDeque<(LogIndex, usize)>,
    in_flight_bytes: usize,
    /// Of the snapshot that is being sent: the bytes that it has, and when the chunk after them left.
    offset: u64,
    chunk_sent: u64,
    /// Tick at which it was last known to have more of it, or at which the sending began.
    chunk_received: u64,
    /// Tick of the last answer; the leader's own election counts as one.
    pub(crate) last_ack: u64,
    /// Tick of the last answer that there was in truth, unless messages were lost since.
    heard: Option<u64>,
    /// Highest read round that it has confirmed.
    pub(crate) confirmed_round: u64,
    /// Tick at which the newest heartbeat that it is known to have answered was sent: what a lease counts from.
    pub(crate) answered_from: Option<u64>,
    /// The request for its own reads that waits here: the newest that came.
    pub(crate) asked: Option<Asked>,
    /// Its log differs from ours at an entry that both hold.
    pub(crate) diverged: bool,
    /// The first incarnation that this leader has heard, where the configuration pins none; no answer, nothing.
    first_heard: Option<Incarnation>,
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
    /// What it lacks was compacted: it gets the snapshot of the entry at `index`, one chunk at a time (§7).
    Snapshot {
        /// The snapshot's last entry.
        index: LogIndex,
    },
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
            in_flight_bytes: 0,
            offset: 0,
            chunk_sent: 0,
            chunk_received: 0,
            last_ack: now,
            heard: None,
            confirmed_round: 0,
            answered_from: None,
            asked: None,
            diverged: false,
            first_heard: None,
            replaced_by: None,
        }
    }

    /// Whether this is the progress of the disk that the configuration means, and not of one that took its place.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.replaced_by.is_none()
    }

    /// The first incarnation heard, where the configuration pins none.
    pub(crate) const fn first_heard(&self) -> Option<Incarnation> {
        self.first_heard
    }

    /// An answer came from this incarnation of a member that is pinned so. What one disk has acknowledged says nothing of
    /// another, so the progress of one that takes over starts at `next`, as a new follower's.
    pub(crate) fn answered(&mut self, incarnation: Incarnation, pinned: Incarnation, next: LogIndex, now: u64) {
        if !pinned.is_known() && !self.first_heard.is_some_and(Incarnation::is_known) {
            self.first_heard = Some(incarnation);
        }
        let meant = self.first_heard.filter(|_| !pinned.is_known()).unwrap_or(pinned);
        let is_meant = meant.admits(incarnation) || bug!(WipedAcknowledgementCounts);
        let replaced_by = if is_meant { None } else { Some(incarnation) };
        if replaced_by != self.replaced_by {
            mark!(DiskReplaced, replaced_by.is_some());
            *self = Self { first_heard: self.first_heard, replaced_by, ..Self::new(next, now) };
        }
        self.last_ack = now;
        self.heard = Some(now);
    }

    /// Whether it has answered within the last `patience` ticks.
    pub(crate) fn is_heard(&self, now: u64, patience: u32) -> bool {
        self.heard.is_some_and(|at| now.saturating_sub(at) < u64::from(patience))
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

    /// The cost of the entries of these appends, in bytes.
    #[must_use]
    pub const fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Whether sending waits for an answer.
    #[must_use]
    pub fn is_paused(&self, config: &Config) -> bool {
        self.paused || self.window_is_full(config)
    }

    /// An append of entries that cost so many `bytes` and end at `last` was sent; `last` is `next_index - 1` for an empty
    /// one.
    pub(crate) fn sent(&mut self, last: LogIndex, bytes: usize) {
        match self.state {
            ProgressState::Probe => self.paused = true,
            ProgressState::Replicate if last >= self.next_index => {
                self.in_flight.push_back((last, bytes));
                self.in_flight_bytes = self.in_flight_bytes.saturating_add(bytes);
                self.next_index = last.next();
            }
            ProgressState::Replicate | ProgressState::Snapshot { .. } => {}
        }
    }

    /// The follower verified everything up to `index`, and the log here goes on after `start`. `false` where that is no
    /// news.
    pub(crate) fn accepted(&mut self, index: LogIndex, start: LogIndex) -> bool {
        let news = index > self.match_index;
        // Whichever way it got so far: from there on the log serves it.
        let recovers = match self.state {
            ProgressState::Probe => index >= self.match_index,
            ProgressState::Replicate => false,
            ProgressState::Snapshot { .. } => index >= self.match_index && index >= start,
        };
        if !news && !recovers {
            return false;
        }
        self.match_index = index;
        self.next_index = self.next_index.max(index.next());
        self.diverged = false;
        if recovers {
            self.state = ProgressState::Replicate;
            self.next_index = index.next();
        }
        self.paused &= matches!(self.state, ProgressState::Snapshot { .. });
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(last, _)| *last <= index) {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        }
        true
    }

    /// The follower has no entry like ours at `prev_log_index`; ours and its logs may agree up to `agree`. `false`
    /// where the rejection is stale: it must not rewind what is known since (fault L6).
    pub(crate) fn rejected(&mut self, prev_log_index: LogIndex, agree: LogIndex) -> bool {
        let next = match self.state {
            _ if bug!(StaleRejectionRewinds) && prev_log_index <= self.match_index => prev_log_index.min(agree.next()),
            _ if prev_log_index <= self.match_index => return false,
            ProgressState::Replicate => self.match_index.next(),
            ProgressState::Probe if prev_log_index == self.next_index.prev() => prev_log_index.min(agree.next()),
            ProgressState::Probe | ProgressState::Snapshot { .. } => return false,
        };
        self.probe_from(next);
        true
    }

    /// It lacks what was compacted: the snapshot of the entry at `index` goes out, from its beginning, unless it is on
    /// its way already.
    pub(crate) fn needs_snapshot(&mut self, index: LogIndex, now: u64) {
        if self.state != (ProgressState::Snapshot { index }) {
            mark!(SnapshotSent);
            self.state = ProgressState::Snapshot { index };
            self.paused = false;
            self.forget_in_flight();
            self.offset = 0;
            self.chunk_received = now;
        }
    }

    /// Bytes of the snapshot that it is known to have.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The chunk at [`offset`](Self::offset) was sent: its answer is waited for.
    pub(crate) const fn sent_chunk(&mut self, now: u64) {
        self.paused = true;
        self.chunk_sent = now;
    }

    /// It answers the chunk at `offset` of the snapshot at `index`, and has the first `next_offset` bytes of that. `false`
    /// where another chunk was sent last, or where that is no news: answers that come twice must not ask for more chunks
    /// than they answer, or there is no end of them.
    pub(crate) fn received(&mut self, index: LogIndex, offset: u64, next_offset: u64, now: u64) -> bool {
        let is_awaited = self.state == (ProgressState::Snapshot { index }) && offset == self.offset;
        let news = is_awaited && next_offset != offset;
        if news {
            mark!(SnapshotRewound, next_offset < self.offset);
            self.offset = next_offset;
            self.chunk_received = now;
            self.paused = false;
        }
        news
    }

    /// Whether it is sent a snapshot, and got more of it, or the first of it, within the last `patience` ticks.
    pub(crate) fn is_receiving(&self, now: u64, patience: u32) -> bool {
        matches!(self.state, ProgressState::Snapshot { .. })
            && now.saturating_sub(self.chunk_received) < u64::from(patience)
    }

    /// Messages to it were lost: find out where it stands before sending more.
    pub(crate) fn unreachable(&mut self) {
        self.heard = None;
        if self.state == ProgressState::Replicate {
            self.probe_from(self.match_index.next());
        }
    }

    /// It answered a heartbeat, so it is there: one more append may go out, even into a full window; and the chunk of a
    /// snapshot once more, unless it has left within the last `patience` ticks.
    pub(crate) fn heard(&mut self, now: u64, patience: u32) {
        let is_sending = matches!(self.state, ProgressState::Snapshot { .. }) || bug!(ProbeNeverRetried);
        let patience = if bug!(ProbeNeverRetried) { u32::MAX } else { patience };
        self.paused &= is_sending && now.saturating_sub(self.chunk_sent) < u64::from(patience);
    }

    /// Nothing is sent until the next heartbeat's answer.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether an append sent now could only be an empty one, because the window is full.
    pub(crate) fn window_is_full(&self, config: &Config) -> bool {
        self.state == ProgressState::Replicate
            && !bug!(WindowUnbounded)
            && (self.in_flight.len() >= config.max_inflight || self.in_flight_bytes >= config.max_inflight_bytes)
    }

    /// Whether what is in flight lies after `match_index` and below `next_index`, and its bytes are counted exactly.
    #[cfg(debug_assertions)]
    pub(crate) fn counts_what_is_in_flight(&self) -> bool {
        let ends = self.in_flight.iter().map(|(last, _)| *last);
        let is_between = ends.clone().all(|last| self.match_index < last && last < self.next_index);
        let bytes = self.in_flight.iter().map(|(_, bytes)| *bytes).fold(0, usize::saturating_add);
        is_between && ends.is_sorted() && bytes == self.in_flight_bytes
    }

    fn probe_from(&mut self, next: LogIndex) {
        self.state = ProgressState::Probe;
        self.next_index = if bug!(StaleRejectionRewinds) { next } else { next.max(self.match_index.next()) };
        self.paused = false;
        self.forget_in_flight();
    }

    fn forget_in_flight(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two appends at once, of at most 300 bytes or little more.
    fn window() -> Config {
        Config { max_inflight: 2, max_inflight_bytes: 300, ..Config::new(crate::types::NodeId(1)) }
    }

    fn replicating(match_index: u64) -> Progress {
        let mut progress = Progress::new(LogIndex(match_index + 1), 0);
        assert!(progress.accepted(LogIndex(match_index), LogIndex(0)));
        progress
    }

    #[test]
    fn a_probe_waits_for_its_answer() {
        let mut progress = Progress::new(LogIndex(5), 0);
        assert!(!progress.is_paused(&window()));
        progress.sent(LogIndex(9), 100);
        assert!(progress.is_paused(&window()));
        assert_eq!(progress.next_index(), LogIndex(5));
        assert!(progress.accepted(LogIndex(9), LogIndex(0)));
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Replicate, LogIndex(10)));
        assert!(!progress.is_paused(&window()));
    }

    #[test]
    fn appends_are_pipelined_up_to_the_window() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(5), 100);
        progress.sent(LogIndex(7), 100);
        assert!(progress.is_paused(&window()));
        assert_eq!(progress.next_index(), LogIndex(8));
        assert!(progress.accepted(LogIndex(5), LogIndex(0)));
        assert_eq!(progress.in_flight(), 1);
        assert!(!progress.is_paused(&window()));
    }

    #[test]
    fn the_window_counts_bytes_as_well() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(5), 299);
        assert_eq!((progress.in_flight_bytes(), progress.is_paused(&window())), (299, false));
        assert!(progress.accepted(LogIndex(5), LogIndex(0)));
        progress.sent(LogIndex(9), 300);
        assert_eq!((progress.in_flight(), progress.in_flight_bytes(), progress.is_paused(&window())), (1, 300, true));
        assert!(progress.accepted(LogIndex(8), LogIndex(0)), "a part of it");
        assert_eq!(progress.in_flight_bytes(), 300);
        assert!(progress.accepted(LogIndex(9), LogIndex(0)));
        assert_eq!((progress.in_flight_bytes(), progress.is_paused(&window())), (0, false));
        progress.sent(LogIndex(10), 7);
        progress.unreachable();
        assert_eq!(progress.in_flight_bytes(), 0);
    }

    #[test]
    fn l6_a_stale_rejection_rewinds_nothing() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(6), 100);
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
        assert!(!progress.accepted(LogIndex(3), LogIndex(0)));
        assert!(!progress.accepted(LogIndex(4), LogIndex(0)));
        assert_eq!(progress.match_index(), LogIndex(4));
    }

    #[test]
    fn what_is_known_to_match_ends_a_probe_and_less_does_not() {
        let mut progress = replicating(4);
        progress.unreachable();
        progress.sent(LogIndex(4), 100);
        assert!(!progress.accepted(LogIndex(3), LogIndex(0)));
        assert!(progress.is_paused(&window()));
        assert!(progress.accepted(LogIndex(4), LogIndex(0)));
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Replicate, LogIndex(5)));
        assert!(!progress.is_paused(&window()));
    }

    #[test]
    fn an_acceptance_moves_the_next_entry_only_forward() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(9), 100);
        progress.pause();
        progress.diverged = true;
        assert!(progress.accepted(LogIndex(6), LogIndex(0)));
        assert_eq!((progress.match_index(), progress.next_index()), (LogIndex(6), LogIndex(10)));
        assert_eq!(progress.in_flight(), 1, "9 is still under way");
        assert!(!progress.is_paused(&window()) && !progress.diverged);
        assert!(progress.accepted(LogIndex(12), LogIndex(0)), "what an earlier leader sent may be accepted too");
        assert_eq!((progress.next_index(), progress.in_flight()), (LogIndex(13), 0));
    }

    #[test]
    fn an_empty_append_takes_no_place_in_the_window() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(4), 100);
        assert_eq!((progress.next_index(), progress.in_flight()), (LogIndex(5), 0));
    }

    #[test]
    fn a_full_window_is_one_of_appends_in_flight() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(5), 100);
        assert!(!progress.window_is_full(&window()));
        progress.sent(LogIndex(6), 100);
        assert!(progress.window_is_full(&window()));
        progress.unreachable();
        assert!(!progress.window_is_full(&window()));
        let none = Config { max_inflight: 0, ..window() };
        assert!(!progress.window_is_full(&none) && !progress.is_paused(&none), "a probe has no window");
    }

    #[test]
    fn who_is_paused_is_sent_to_again_once_it_is_heard() {
        let mut progress = replicating(4);
        progress.pause();
        assert!(progress.is_paused(&window()));
        progress.heard(9, 6);
        assert!(!progress.is_paused(&window()));
    }

    #[test]
    fn a_probe_under_way_goes_on_where_messages_are_lost() {
        let mut progress = Progress::new(LogIndex(5), 0);
        progress.sent(LogIndex(4), 100);
        progress.unreachable();
        assert!(progress.is_paused(&window()));
        assert_eq!(progress.next_index(), LogIndex(5));
    }

    #[test]
    fn a_rejected_probe_goes_back_to_where_the_logs_may_agree() {
        let mut progress = Progress::new(LogIndex(9), 0);
        progress.sent(LogIndex(8), 100);
        assert!(!progress.rejected(LogIndex(7), LogIndex(3)), "8 was asked about");
        assert!(progress.is_paused(&window()));
        assert!(progress.rejected(LogIndex(8), LogIndex(3)));
        assert_eq!(progress.next_index(), LogIndex(4));
        assert!(!progress.is_paused(&window()));
        assert!(progress.rejected(LogIndex(3), LogIndex(7)), "never further than what was refused");
        assert_eq!(progress.next_index(), LogIndex(3));
    }

    #[test]
    fn a_rejection_while_replicating_empties_the_window() {
        let mut progress = replicating(4);
        progress.sent(LogIndex(6), 100);
        progress.sent(LogIndex(8), 100);
        assert!(progress.rejected(LogIndex(6), LogIndex(5)));
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Probe, LogIndex(5)));
        assert_eq!(progress.in_flight(), 0);
    }

    /// A follower that is matched up to 4 and gets the snapshot of entry 9: its first chunk left at tick 20.
    fn taking_a_snapshot() -> Progress {
        let mut progress = replicating(4);
        progress.sent(LogIndex(6), 100);
        progress.needs_snapshot(LogIndex(9), 20);
        assert_eq!((progress.state(), progress.offset()), (ProgressState::Snapshot { index: LogIndex(9) }, 0));
        assert_eq!((progress.in_flight(), progress.in_flight_bytes()), (0, 0));
        assert!(!progress.is_paused(&window()));
        progress.sent_chunk(20);
        assert!(progress.is_paused(&window()));
        progress
    }

    #[test]
    fn a_chunk_is_answered_before_the_next_leaves() {
        let mut progress = taking_a_snapshot();
        assert!(!progress.received(LogIndex(8), 0, 64, 20), "of another snapshot");
        assert!(!progress.received(LogIndex(9), 0, 0, 20), "nothing new");
        assert!(!progress.received(LogIndex(9), 32, 64, 20), "of a chunk that was not sent last");
        assert_eq!((progress.offset(), progress.is_paused(&window())), (0, true));
        assert!(progress.is_receiving(29, 10));
        assert!(!progress.is_receiving(30, 10), "ten ticks without news");
        assert!(progress.received(LogIndex(9), 0, 64, 25));
        assert!(progress.is_receiving(34, 10));
        assert!(!progress.is_receiving(35, 10));
        assert_eq!((progress.offset(), progress.is_paused(&window())), (64, false));
        progress.sent_chunk(25);
        progress.needs_snapshot(LogIndex(9), 20);
        assert_eq!((progress.offset(), progress.is_paused(&window())), (64, true), "it is on its way already");
        progress.needs_snapshot(LogIndex(12), 30);
        assert_eq!((progress.offset(), progress.is_paused(&window())), (0, false));
        assert!(progress.is_receiving(39, 10), "anew");
        assert!(progress.accepted(LogIndex(12), LogIndex(12)));
        assert!(!progress.is_receiving(39, 10), "it has it");
    }

    #[test]
    fn another_disk_that_goes_on_answering_still_does_not_count() {
        let (unpinned, first, other) = (Incarnation::UNKNOWN, Incarnation(1), Incarnation(2));
        let mut progress = replicating(4);
        progress.answered(first, unpinned, LogIndex(9), 20);
        assert!(progress.counts());
        for now in 21..24 {
            progress.answered(other, unpinned, LogIndex(9), now);
            assert!(!progress.counts(), "{progress:?}");
        }
        progress.answered(first, unpinned, LogIndex(9), 24);
        assert!(progress.counts());
    }

    #[cfg(debug_assertions)]
    #[test]
    fn what_is_in_flight_is_told_to_be_wrong_where_it_is() {
        let mut right = replicating(4);
        right.sent(LogIndex(5), 100);
        right.sent(LogIndex(7), 50);
        assert!(right.counts_what_is_in_flight());
        let wrong: [fn(&mut Progress); 4] = [
            |progress| progress.match_index = LogIndex(5),
            |progress| progress.next_index = LogIndex(7),
            |progress| progress.in_flight.swap(0, 1),
            |progress| progress.in_flight_bytes = 149,
        ];
        for change in wrong {
            let mut progress = right.clone();
            change(&mut progress);
            assert!(!progress.counts_what_is_in_flight(), "{progress:?}");
        }
    }

    #[test]
    fn a_chunk_leaves_again_only_after_a_while() {
        let mut progress = taking_a_snapshot();
        progress.heard(25, 6);
        assert!(progress.is_paused(&window()));
        progress.heard(26, 6);
        assert!(!progress.is_paused(&window()));
        progress.heard(21, 6);
        assert!(!progress.is_paused(&window()), "it was not waiting");
    }

    #[test]
    fn a_snapshot_ends_where_the_log_goes_on() {
        let mut progress = taking_a_snapshot();
        assert!(progress.accepted(LogIndex(6), LogIndex(7)), "news, but of what is compacted");
        assert_eq!(progress.state(), ProgressState::Snapshot { index: LogIndex(9) });
        assert!(progress.is_paused(&window()));
        assert!(!progress.accepted(LogIndex(5), LogIndex(0)));
        assert!(progress.accepted(LogIndex(7), LogIndex(7)), "7 follows what was compacted");
        assert_eq!((progress.state(), progress.next_index()), (ProgressState::Replicate, LogIndex(8)));
        assert!(!progress.is_paused(&window()));
    }

    #[test]
    fn a_snapshot_is_not_ended_by_a_rejection_or_a_loss() {
        let mut progress = taking_a_snapshot();
        assert!(!progress.rejected(LogIndex(6), LogIndex(5)));
        progress.sent(LogIndex(6), 100);
        progress.unreachable();
        assert_eq!((progress.state(), progress.in_flight()), (ProgressState::Snapshot { index: LogIndex(9) }, 0));
        assert!(progress.is_paused(&window()));
    }
}
