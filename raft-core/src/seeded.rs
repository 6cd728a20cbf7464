//! Bugs that stand in this crate and in `raft-kv` on purpose (feature `seeded-bugs`): a simulator that does not find
//! them finds no others.
//!
//! At most one is selected, for the whole process, with [`select`]; none is until then. Each is one line at its place,
//! `bug!(Name)`, which is `false` in a build without the feature. What a bug is called, which fault it makes again and how
//! it shows stands in one table here, [`Bug::ALL`].
//!
//! Invariant: with none selected, a build with the feature behaves as one without.

use core::sync::atomic::{AtomicU32, Ordering};

/// 0 for none, otherwise the bug's number and one.
static SELECTED: AtomicU32 = AtomicU32::new(0);

/// From now on this bug is there, and no other; with `None` none is.
pub fn select(bug: Option<Bug>) {
    SELECTED.store(bug.map_or(0, Bug::code), Ordering::Relaxed);
}

/// The bug that is there.
#[must_use]
pub fn selected() -> Option<Bug> {
    let code = SELECTED.load(Ordering::Relaxed);
    Bug::ALL.iter().copied().find(|bug| bug.code() == code)
}

/// Whether this bug is there.
#[must_use]
pub fn is(bug: Bug) -> bool {
    SELECTED.load(Ordering::Relaxed) == bug.code()
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }

    /// The family of its fault: E elections, L replication, M membership, S snapshots, R reads, C sessions, D storage, N
    /// network, I an invariant alone; `canary` for the canary.
    #[must_use]
    pub fn family(self) -> &'static str {
        self.fault().trim_end_matches(|c: char| c.is_ascii_digit())
    }

    const fn code(self) -> u32 {
        (self as u32).saturating_add(1)
    }
}

/// A table of bugs: name, the fault that it makes again, and what it does and how that shows.
macro_rules! bugs {
    ($($name:ident $fault:literal $what:literal)*) => {
        /// One bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(#[doc = $what] $name,)*
        }

        impl Bug {
            /// Every bug, in the order of the faults.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name, as `bug!` takes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The fault that it makes again, E1 to P3; I and a number for an invariant that no fault of the list breaks.
            #[must_use]
            pub const fn fault(self) -> &'static str {
                match self {
                    $(Self::$name => $fault,)*
                }
            }

            /// What it does, and how that shows.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

bugs! {
    Canary "canary" "A leader counts as committed what it has appended: the first no-op is committed without a quorum."

    VoteErasedByStepDown "E1" "Following in the same term erases the vote: a second vote in a term, two leaders."
    VoteGivenTwice "E1" "Whoever asks gets the vote, given or not: two leaders in a term."
    MessageBeforeHardState "E2" "Messages do not wait for the term and the vote: a grant is out before it is durable, and a crash between gives the vote twice."
    VoteNotWritten "E2" "The vote is not written with the term: a crash forgets it, and the next life votes again in that term."
    OldVotesCount "E3" "A grant of an older term counts for the candidate of now: a leader without a quorum."
    RefusalTermIgnored "E4" "The term that a refused pre-vote names is not adopted: a longer log at a low term and a shorter one at a high term refuse each other for ever, and nobody leads."
    LongerLogWins "E5" "Votes go to the longer log, whatever its last term: a leader that lacks committed entries."
    AnyLogWins "E5" "Votes go to any log: a leader that lacks committed entries."
    LeaderRemembered "E6" "Who asks for pre-votes grants none, as if it heard a leader: two that are left of three refuse each other for ever."
    PreVoteCountsAsVote "E7" "A pre-vote that comes after its round was won counts as a vote: two leaders in a term."
    TimeoutsNotRandomized "E8" "Every election timeout is the shortest: where messages take longer than clocks differ, votes split again and again."
    NoCheckQuorum "E9" "A leader that no quorum answers leads on: one that is heard and hears nothing holds the others back, and nothing commits."
    LeaderNotProtected "E11" "Who hears a leader votes against it: a server that was cut off, or whose clock is wrong, deposes it."
    TransferNeverAborted "E13" "A transfer is never given up: to a target that is down, it refuses every write for ever."
    DiskStallIgnored "E14" "A leader whose disk hangs leads on: its heartbeats flow, and nobody is answered."

    OlderTermCommits "L1" "Entries of earlier terms commit by counting (Figure 8): a later leader overwrites them."
    ShortAppendTruncates "L2" "What follows an append's entries is removed without a conflict: a late, shorter one takes acknowledged entries back."
    CommitPastVerified "L3" "A follower commits up to the leader's index though it refuses the append: entries of a dead leader are applied."
    HeartbeatCommitsBlindly "L3" "A heartbeat commits whatever its receiver holds: entries of a dead leader are applied."
    OwnTailAcknowledged "L4" "A follower acknowledges the last entry that it had before the append: what the append removed counts for what the leader has there."
    OldAcknowledgementsCount "L5" "An acknowledgement of an older term counts, though the log went back since: a commit without a quorum."
    TruncatedWriteCounts "L5" "A write that ends after its entries were removed counts for those that took their place: they are acknowledged before they are durable."
    StaleRejectionRewinds "L6" "A late rejection rewinds to below what is matched: the next index falls behind it, and small appends never catch up."
    PrevTermNotCompared "L7" "Any entry at prev_log_index will do: logs that differ are continued, and an equal index and term has two hashes."
    CompactedPrefixCompared "L8" "A late append is compared with what was compacted since: a follower halts without a fault of its disk."
    TwoOfFiveCommit "L9" "The first voter's acknowledgement is taken for granted, so 2 of 5 commit: a commit without a quorum."
    HalfIsQuorum "L9" "Half of an even number is a quorum: two leaders in a term, or two histories."
    CumulativeReportLost "L10" "A report counts for the write that it names, not for those before: their entries stay undurable for ever, and are never applied."
    SnapshotNeverSent "L11" "Who lacks what was compacted is sent nothing: its log never equals the others'."
    UncommittedLeaks "L12" "What has committed stays in the count of uncommitted bytes: a leader that lives long refuses every write."
    OwnUnflushedCounts "L13" "A leader counts its own entry before it is durable: a commit without a durable quorum."

    JointSkipped "M1" "A change takes effect in one step, without the joint configuration: quorums that share nobody."
    ConfigurationNotRolledBack "M2" "A configuration whose entry was removed stays in force: elections and commits are counted by what never was."
    LeaveLostWithLeader "M3" "Only the leader that began a joint configuration ends it: one that it did not live to end stays, and refuses every change."
    ChangeDuringChange "M4" "A change may begin while another is under way: the outgoing half is forgotten, and two configurations are uncommitted."
    NewVoterRefuses "M5" "Who does not know that it is a voter refuses its vote: where most voters are new and the leader dies, nobody leads."
    LearnersCount "M6" "A learner's acknowledgement and its word count for the voters' majority: a commit without a quorum."
    SnapshotOldConfiguration "M8" "A snapshot names the configuration of the one before it: who starts or lags behind it counts by the wrong voters."
    CachedConfigurationSurvives "M9" "A received snapshot leaves the configuration that was there: its receiver counts by the wrong voters."
    WipedVoteCounts "M10" "The vote of a disk that took another's place counts: a leader that lacks what the lost disk had acknowledged."
    WipedAcknowledgementCounts "M10" "What a lost disk had acknowledged counts for the one in its place: its log never equals the others'."

    OlderSnapshotInstalled "S1" "A snapshot is taken whatever is committed: a late one takes the state back, or halts its receiver."
    ConflictKept "S2" "A received snapshot leaves the log that was there, though it differs at the snapshot's last entry: its receiver halts without a fault of its disk."
    MidTransferAccepted "S3" "Who has no beginning of a snapshot takes its middle: after a restart the receiver halts without a fault of its disk."
    ChunksMixed "S4" "Chunks are not told apart by their snapshot: its receiver halts without a fault of its disk."
    SnapshotMislabelled "S5" "A snapshot is labelled with what is committed, though its state has only what is applied: who restores it lacks the rest, and states differ at one index."
    SnapshotReadTooSoon "S5" "A snapshot is sent before it is durable: the leader reads what is not there, and halts."
    RestoreMerges "S6" "A restored state keeps the keys that were there: deleted keys return, and the digest is not the snapshot's."
    WaitersStranded "S7" "Who waits for an entry when leadership ends is never answered."

    ReadBeforeFirstCommit "R1" "A new leader serves reads before it has committed in its term: a stale read."
    AnyAnswerConfirms "R2" "Any answer confirms the newest round of reads: late ones let a deposed leader serve a stale read."
    OtherAnswerServes "R2" "A follower takes the answer to an earlier request for that to its last: a stale read."
    ReadUnconfirmed "R3" "A leader serves reads without asking anybody: a deposed one serves a stale read."
    ReadUnapplied "R3" "A read does not wait until its index is applied: a stale read."
    LeaseFromAnswer "R4" "A lease counts from a heartbeat's answer, not from its sending: it holds when another may lead already, a stale read. Needs leases."
    LeaseDuringTransfer "R5" "A lease holds while leadership is handed over: the old leader serves a stale read. Needs leases."

    RetryAppliedAgain "C1" "A write that was applied and answered is applied again when it is retried."
    AcknowledgedAppliedAgain "C1" "A late copy of a write whose answer was acknowledged is applied again."
    SessionsExpireLocally "C2" "A session expires by what one server has counted since it started: states differ at one index."
    SessionsNotInSnapshot "C3" "Snapshots carry no sessions: who starts from one refuses the writes that others apply, and states differ."
    RepliesNotInSnapshot "C3" "Snapshots carry sessions without their replies: who starts from one applies a retried write again."

    TornTailRefused "D1" "A torn tail is taken for damage: a server that crashed in a write never starts again."
    TornTailKept "D1" "A torn tail is not cut off: what is written after it reads as damage at the next start."
    TruncationForgotten "D1" "A truncation is not read back: the log does not open, though nothing is wrong with it."
    DamageTakenForTornTail "D2" "Damage is cut off like a torn tail: votes and acknowledged entries are lost in silence."
    FailedSyncCounts "D3" "A sync that failed counts as done: what was lost is reported durable."
    ReportedBeforeSync "D5" "A write is reported durable as soon as it was submitted: a crash loses what was acknowledged."
    AcknowledgedBeforeDurable "D5" "A follower acknowledges entries before they are durable: a crash loses what was committed."
    FullDiskCounts "D6" "A write that finds no room counts as done: what was never written is reported durable."
    FullDiskTakesCommands "D6" "A server whose disk is full takes commands all the same, until a write fails and it halts."
    ReadErrorEndsLog "D9" "A read that fails while a log is opened is taken for its end: durable entries are cut off, or the log does not open."

    ProbeNeverRetried "N4" "A lost append is waited for for ever: its follower is sent nothing any more."
    WindowUnbounded "N5" "Appends in flight are not limited: a follower that does not answer takes more than its budget."
    UncommittedUnbounded "N5" "Uncommitted entries are not limited: a leader without a quorum takes more than its budget."

    StateDigestIgnored "I12" "A replica whose state is another than a majority's goes on: it answers from it."
    AnswersCrossed "I14" "The commands of one entry get each other's answers: no order explains them."
    SwapIgnoresExpected "I14" "Compare-and-swap swaps whatever is there: no order explains the answers."
    DeleteKeepsKey "I14" "A deleted key is still there: no order explains what is read."
    CommitNotAnnounced "I17" "Nobody is told a commit but by the next append: where nothing follows, followers never apply the last entries."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for bug in Bug::ALL {
            assert_eq!(Bug::named(bug.name()), Some(*bug));
        }
        assert!(Bug::ALL.len() >= 45);
        assert_eq!(Bug::named("NoSuchBug"), None);
    }

    #[test]
    fn every_family_has_a_bug() {
        let has = |family| Bug::ALL.iter().any(|bug| bug.family() == family);
        assert_eq!(["canary", "E", "L", "M", "S", "R", "C", "D", "N"].map(has), [true; 9]);
        assert_eq!(Bug::OldVotesCount.fault(), "E3");
    }
}
