//! Coverage marks (feature `marks`): how often each subtle branch was taken, in this crate and in `raft-kv`.
//!
//! A mark is one line at its place, `mark!(Name)`, which is nothing in a build without the feature. The counts are of the
//! whole process and only ever rise, until [`reset`]: a run that reaches a branch no more shows as a count of 0.

use core::sync::atomic::{AtomicU64, Ordering};

static COUNTS: [AtomicU64; Mark::ALL.len()] = [const { AtomicU64::new(0) }; Mark::ALL.len()];

/// The branch was taken.
pub fn hit(mark: Mark) {
    if let Some(count) = COUNTS.get(mark as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every mark's name, and how often it was hit since the last [`reset`].
pub fn all() -> impl Iterator<Item = (&'static str, u64)> {
    Mark::ALL.iter().map(|mark| (mark.name(), mark.hits()))
}

/// Every count is 0 again.
pub fn reset() {
    COUNTS.iter().for_each(|count| count.store(0, Ordering::Relaxed));
}

impl Mark {
    /// How often it was hit since the last [`reset`].
    #[must_use]
    pub fn hits(self) -> u64 {
        COUNTS.get(self as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// A table of marks: name, and which branch it is.
macro_rules! marks {
    ($($name:ident $what:literal)*) => {
        /// One subtle branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mark {
            $(#[doc = $what] $name,)*
        }

        impl Mark {
            /// Every mark, by the files that they stand in.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name, as `mark!` takes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Which branch it is.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

marks! {
    OldTermAnswered "A message of an older term is answered with the newer one."
    LeaderProtected "A request for a vote at a higher term is ignored, for a leader is heard (E11)."
    TimeoutNowStale "A `TimeoutNow` of an older term is dropped (E13)."

    PreVoteRefusedByTerm "A pre-vote is refused: its term is not above this server's (E4)."
    PreVoteRefusedByLeader "A pre-vote is refused within an election timeout of a leader's message."
    PreVoteRefusedByPromise "A pre-vote is refused while a lease may count on it, though no leader is known (R4)."
    PreVoteRefusedByLog "A pre-vote is refused: the log is behind."
    PreVoteLate "An answer to a pre-vote comes after its round has ended (E7)."
    VoteGranted "A vote is granted."
    VoteRefusedByVote "A vote is refused: it was given to another (E1)."
    VoteRefusedByLog "A vote is refused: the log is behind (§5.4.1)."
    ElectionLost "No quorum can grant any more."

    CheckQuorumStepDown "A leader that no quorum answers steps down (E9)."
    DiskStallStepDown "A leader whose disk hangs steps down (E14)."
    HeartbeatCommitsNothing "A heartbeat's commit index is not taken: the log does not end with an entry of its term (L3)."

    UncommittedLimit "A proposal is refused: too much is uncommitted."
    ProposalDuringTransfer "A proposal is refused: leadership is being handed over (E13)."
    WindowFull "A follower's window is full."
    AcknowledgementStale "An acknowledgement is no news."
    RejectionRewinds "A rejection rewinds a follower's progress to where its hint says."
    RejectionStale "A stale rejection is ignored (L6)."
    CommitWaitsForOwnTerm "A quorum holds an entry of an older term, which does not commit by counting (Figure 8, L1)."
    ConflictTruncated "Entries that conflict with the leader's are removed."
    AppendHeldAlready "Every entry of an append is held already (L2)."
    AppendOverlapsCompacted "An append begins below what was compacted (L8)."
    GapRefused "An append is refused: there is no such entry before it."

    TruncatedWhileWriting "Entries are removed while their write is under way: its report will not count (L5)."
    ApplyLimit "What is handed out for application is cut at its limit."
    ApplyWaitsForDisk "An entry is committed and not durable here yet."

    MessageHeld "A message waits for a write (E2, D5)."
    MessageReplaced "A message that waits for a write gives way to a newer one of its kind."
    MessagesForgotten "Messages that wait for writes are forgotten, for the term has risen."
    AcceptancesMerged "Of acceptances that leave together the furthest leaves alone."

    JointEntered "A joint configuration is in force."
    JointLeft "A joint configuration is left."
    JointLeaveResumed "It is left by another leader than the one that entered it (M3)."
    ChangeRolledBack "A configuration's entry is removed, and the one before is in force again (M2)."
    ChangeInProgress "A change is refused: another is under way (M4)."
    ChangeBeforeCommit "A change is refused: nothing of the leader's term is committed (M1)."
    LearnerPromoted "New voters have caught up, and are made voters."
    CatchUpRound "New voters have caught up too slowly: another round begins."
    RemovedLeaderLeaves "A leader that is no voter any more hands leadership over (M7)."

    TimeoutNowSent "The target of a transfer has everything, and is told to campaign."
    TimeoutNowTaken "A server campaigns because its leader says so."
    TransferDone "A leader that was handing leadership over leads no more."
    TransferAborted "A transfer has taken an election timeout, and is given up (E13)."
    TransferTargetRemoved "A transfer is given up, for its target is no voter any more."

    ReadsShareRound "Several reads share a round."
    ReadWaitsForFirstCommit "A read waits for the first commit of its leader's term (R1)."
    ReadByLease "A read is served by lease."
    ReadForwarded "A follower's request takes part in a round of its leader."
    ReadWaitsForApply "A read is confirmed and waits until its index is applied (R3)."
    ReadsLostLeadership "Reads fail, for leadership is lost."
    ForwardedResent "A follower asks its leader once more."
    ForwardedTimedOut "A follower's request is given up."
    ForwardedElsewhere "A follower's request fails, for it follows another leader or term."
    ForwardedAnswerStale "An answer is to none of a follower's requests (R2)."
    ForwardedLags "A follower's read fails, for its log is too far behind."

    SnapshotSent "A follower needs a snapshot: its first chunk is due."
    SnapshotWaitsForDisk "A snapshot is not sent yet, for it is not durable."
    SnapshotContinued "A follower has a chunk: the next one is sent."
    SnapshotRewound "A follower has less of a snapshot than was thought: its sending goes on from there (S3)."
    SnapshotUnneeded "A snapshot is not taken: its receiver has that entry, or is beyond it (S1)."
    ChunkMismatch "A chunk is not the one that is due: its sender is told which is (S4)."
    ReceivingRestarted "A chunk of another snapshot, or of another leader's, comes while one is being received (S4)."
    SnapshotOvertaken "A received snapshot is dropped: the log got there by itself."
    SnapshotInstalledOver "A received snapshot is of an entry that the log holds by now, and that is not known to be committed."
    TakingGivenUp "A snapshot that is being taken is given up: a leader's arrives, of what is missing here."
    SnapshotReplacesLog "A received snapshot takes the place of the log (S2)."

    OtherDiskVotes "A vote of a disk that took another's place is dropped (M10)."
    DiskReplaced "Another disk answers under a member's id: its progress begins anew (M10)."
    IncarnationsPinned "A leader pins the incarnations that it has heard (M10)."

    StateDecided "A majority has told of one state at an entry: its leader says so in the log (I12)."
    TakingHurried "A piece of a snapshot is written before the next tick, for the log has grown long."
    UnknownOutcome "Who waits for an entry is told that its outcome is not known."

    SessionExpired "A write of a session that is not open."
    SessionEvicted "A session gives way to a new one (C2)."
    DuplicateAnswered "A retried write is answered from the session (C1)."
    StaleWrite "A write that was acknowledged, or whose reply was forgotten."
    SwapRefused "A compare-and-swap finds another value."
    StateRestored "A machine's state is restored from a snapshot (C3, S6)."

    TornTailCut "A torn tail gives way to zeros at opening (D1)."
    TornFoundingCut "A log is founded anew, for a crash tore its founding (D1)."
    DamageFound "Damage is found at opening (D2)."
    TruncationRead "A truncation is read back at opening."
    InstallRead "An installed snapshot is read back at opening."
    ReceivedForgotten "A snapshot that was being received is forgotten at opening (S3)."
    SegmentBegun "A log goes on in its next segment."
    SpareTaken "The next segment's file was there already: zeros, or a segment that was given back."
    SegmentNotBegun "A segment's file is there and what it begins with is not: a crash came in between, or damage (D2)."
    TruncatedUnsynced "Blocks are removed that are not known to be durable."
    FullDiskLoses "A message is lost, for it brings what there is no room for (D6)."
    LogPoisoned "A log's write or sync has failed (D3)."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let unique = |mark: &Mark| Mark::ALL.iter().filter(|other| other.name() == mark.name()).count() == 1;
        assert!(Mark::ALL.iter().all(unique));
        assert_eq!(all().count(), COUNTS.len());
    }
}
