//! Scenarios can fail: each notices bugs that make its fault again, and every scenario has one (feature `seeded-bugs`).
//!
//! A bug is there for a whole process. So a scenario that is to notice one runs in a process of its own, which is this
//! program again, told by its environment which bug that is.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use raft_core::seeded::{self, Bug};

/// Names the bug of a process.
const BUG: &str = "RAFT_SIM_BUG";

/// Each scenario, and what it must notice. That it passes without is a test of its own.
const NOTICED: &[(&str, &[Bug])] = &[
    (
        "disks::d1_a_torn_tail_is_cut_and_nothing_else_is",
        &[Bug::TornTailRefused, Bug::TornTailKept, Bug::TruncationForgotten],
    ),
    ("disks::d2_rot_is_not_taken_for_the_end", &[Bug::DamageTakenForTornTail]),
    ("disks::d3_a_failed_sync_is_never_tried_again", &[Bug::FailedSyncCounts]),
    ("disks::d3_a_leader_whose_sync_fails_leads_no_more", &[Bug::FailedSyncCounts]),
    (
        "disks::d5_nothing_is_acknowledged_that_no_disk_has",
        &[Bug::AcknowledgedBeforeDurable, Bug::ReportedBeforeSync, Bug::OwnUnflushedCounts],
    ),
    ("disks::d6_a_follower_with_a_full_disk_waits_for_room", &[Bug::FullDiskTakesCommands]),
    ("disks::d6_a_leader_with_a_full_disk_gives_way", &[Bug::FullDiskTakesCommands]),
    ("disks::d6_a_cluster_of_full_disks_waits_for_room", &[Bug::FullDiskTakesCommands]),
    ("disks::d6_a_write_that_finds_no_room_halts_and_ends_with_room", &[Bug::FullDiskCounts]),
    ("disks::d8_lost_files_make_another_server_of_it", &[Bug::WipedVoteCounts, Bug::WipedAcknowledgementCounts]),
    ("disks::d9_a_read_that_fails_is_no_empty_answer", &[Bug::ReadErrorEndsLog]),
    ("disks::e14_a_leader_whose_disk_hangs_gives_way", &[Bug::DiskStallIgnored]),
    (
        "processes::d5_a_server_alone_keeps_what_it_acknowledged_wherever_it_dies",
        &[Bug::ReportedBeforeSync, Bug::VoteNotWritten, Bug::TornTailKept],
    ),
    ("processes::a_server_that_lags_far_is_waited_for", &[Bug::ProbeNeverRetried]),
    ("processes::p1_a_leader_that_is_stopped_and_goes_on_serves_nothing_stale", &[Bug::ReadUnconfirmed]),
    (
        "processes::p2_a_server_that_dies_at_every_write_recovers",
        &[Bug::VoteNotWritten, Bug::MessageBeforeHardState, Bug::TornTailRefused, Bug::TruncationForgotten],
    ),
    ("processes::p3_a_clock_that_jumps_changes_nothing", &[Bug::LeaderNotProtected]),
    ("processes::p3_a_clock_that_is_too_fast_or_too_slow_changes_nothing", &[Bug::LeaderNotProtected]),
    ("processes::p3_a_leader_whose_clock_jumps_is_soon_followed_by_one", &[Bug::NoCheckQuorum]),
    (
        "sessions::c1_a_retry_is_answered_and_not_applied_again",
        &[Bug::RetryAppliedAgain, Bug::AcknowledgedAppliedAgain],
    ),
    ("sessions::c2_no_session_expires_by_a_clock", &[Bug::SessionsExpireLocally]),
    ("sessions::c2_sessions_expire_by_the_log_alone", &[Bug::SessionsExpireLocally]),
    ("sessions::c3_sessions_survive_a_snapshot", &[Bug::SessionsNotInSnapshot, Bug::RepliesNotInSnapshot]),
    ("snapshots::s1_a_snapshot_that_comes_twice_or_late_takes_nothing_back", &[Bug::OlderSnapshotInstalled]),
    ("snapshots::s2_what_conflicts_with_a_snapshot_is_discarded", &[Bug::ConflictKept]),
    ("snapshots::s3_a_crash_in_the_middle_of_taking_one_leaves_nothing", &[Bug::ReportedBeforeSync]),
    ("snapshots::s3_a_restart_in_the_middle_of_a_transfer_begins_again", &[Bug::MidTransferAccepted]),
    ("snapshots::s3_a_snapshot_gets_through_a_narrow_and_lossy_link", &[Bug::ProbeNeverRetried]),
    ("snapshots::s4_a_leaders_snapshot_ends_the_one_that_is_being_taken", &[Bug::OlderSnapshotInstalled]),
    ("snapshots::s4_chunks_of_two_snapshots_are_not_mixed", &[Bug::ChunksMixed]),
    ("snapshots::s5_a_snapshot_is_not_sent_before_the_disk_has_it", &[Bug::SnapshotReadTooSoon]),
    ("snapshots::s5_a_snapshot_is_of_what_is_applied", &[Bug::SnapshotMislabelled]),
    ("snapshots::s6_what_was_deleted_does_not_return_with_a_snapshot", &[Bug::RestoreMerges]),
    ("states::i12_a_follower_whose_state_differs_fences_itself_and_comes_back", &[Bug::StateDigestIgnored]),
    ("states::i12_a_leader_whose_state_differs_fences_itself_and_no_follower", &[Bug::StateDigestIgnored]),
    ("snapshots::s7_who_waits_when_a_snapshot_is_installed_is_answered", &[Bug::WaitersStranded]),
];

/// From now on this process has the bug that its environment names; none, where it names none.
pub fn select() {
    let named = |name: String| Bug::named(&name).unwrap_or_else(|| panic!("'{name}' is no bug"));
    seeded::select(std::env::var(BUG).ok().map(named));
}

#[test]
fn each_scenario_notices_its_bugs() {
    let cases: Vec<_> =
        NOTICED.iter().flat_map(|(scenario, bugs)| bugs.iter().map(move |bug| (*scenario, *bug))).collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((scenario, bug)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(told) = notices(scenario, *bug) {
                missed.lock().unwrap().push(format!("{scenario} with {bug:?}: {told}"));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "these scenarios do not fail by their bug:\n{}", missed.join("\n"));
}

#[test]
fn every_scenario_has_a_bug() {
    let list = itself().arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let there = list.lines().filter_map(|line| line.strip_prefix("scenarios::")?.strip_suffix(": test"));
    let listed: Vec<_> = NOTICED.iter().filter(|(_, bugs)| !bugs.is_empty()).map(|(scenario, _)| *scenario).collect();
    assert_eq!(there.collect::<BTreeSet<_>>(), listed.iter().copied().collect::<BTreeSet<_>>());
}

/// Whether this one scenario runs with the bug, and fails; what it says otherwise.
fn notices(scenario: &str, bug: Bug) -> Result<(), String> {
    let mut run = itself();
    run.arg("--exact").arg(format!("scenarios::{scenario}")).env(BUG, bug.name()).env("RUST_BACKTRACE", "0");
    let told = String::from_utf8_lossy(&run.output().unwrap().stdout).into_owned();
    let is_noticed = told.contains("test result: FAILED. 0 passed; 1 failed;");
    if is_noticed { Ok(()) } else { Err(told) }
}

fn itself() -> Command {
    Command::new(std::env::current_exe().unwrap())
}
