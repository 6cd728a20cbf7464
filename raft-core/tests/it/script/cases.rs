//! A test a script, so that a failing one is named, and one that holds the list against the folder.

use std::collections::BTreeSet;
use std::fs;

use super::{folder, run};

macro_rules! scripts {
    ($($name:ident)*) => {
        const LISTED: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*
    };
}

scripts! {
    a_lagging_follower_is_sent_a_window
    conformance_01_vote_check
    conformance_02_figure_8
    conformance_03_conflict_hints
    conformance_04_pre_vote_behind
    conformance_05_pre_vote_with_check_quorum
    conformance_06_stuck_candidate
    conformance_07_learners_vote
    conformance_08_shrinking_quorum
    conformance_09_the_leader_removes_itself
    conformance_10_one_automatic_leave
    conformance_11_replace_the_leader
    conformance_12_one_change_at_a_time
    conformance_13_adding_under_check_quorum
    conformance_14_window_pause
    conformance_15_probe_recovery
    conformance_16_a_snapshot_acknowledged_otherwise
    conformance_17_a_read_on_a_new_leader
    d3_a_failed_write_halts
    diverged_logs
    e10_a_one_way_link
    e11_a_removed_server_campaigns
    e12_a_leader_does_not_campaign
    e13_transfers
    e14_the_leaders_disk_hangs
    e1_the_vote_survives_stepping_down
    e2_a_crash_between_vote_and_reply
    e3_old_and_foreign_votes
    e4_pre_vote_with_a_lagging_node
    e5_a_long_log_against_a_high_term_in_joint
    e6_a_stale_leader_is_forgotten
    e7_late_pre_votes
    e8_a_partial_mesh
    e9_a_leader_that_reaches_one_bridge
    l10_disk_completions
    l11_an_unknown_follower_of_a_compacted_leader
    l12_uncommitted_bytes
    l13_a_leader_does_not_count_what_it_has_not_flushed
    l1_figure_8
    l2_a_stale_append_truncates_nothing
    l3_commit_stays_within_what_was_verified
    l4_an_acknowledgement_is_of_what_was_verified
    l5_acknowledgements_of_an_earlier_term
    l6_a_stale_conflict_hint
    l7_a_compacted_index_has_no_term
    l8_an_append_from_before_the_log
    m10_a_lost_disk
    m1_no_change_before_a_commit_in_the_term
    m2_active_on_append_and_rolled_back
    m3_one_automatic_leave
    m4_one_change_at_a_time
    m5_a_promoted_learner_votes
    m6_a_learner_never_campaigns
    m7_a_removed_leader
    m8_the_snapshots_configuration
    m9_a_cached_configuration
    m_any_set_becomes_any_other
    m_a_joint_leader_hands_over_to_who_stays
    m_needed_until_committed
    m_new_voters_catch_up
    m_reads_and_progress_through_a_change
    malformed_messages
    r1_a_read_before_the_first_commit
    r2_answers_of_an_earlier_round
    r3_confirm_apply_serve
    r4_a_lease
    r5_a_lease_and_a_transfer
    random_01_a_change_whose_leader_is_gone
    random_02_a_promotion_without_the_old_voter
    refusals_say_why
    s1_an_older_snapshot
    s2_a_conflicting_entry_at_the_snapshots_index
    s3_a_restart_in_the_middle
    s4_chunks_of_two_snapshots
    s5_a_snapshot_of_other_data
    s6_installing_replaces
    s_install_snapshot
    random_03_a_read_of_a_removed_server
}

#[test]
fn every_script_of_the_folder_is_listed_and_every_listed_one_is_there() {
    let names = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = names.filter_map(|name| name.strip_suffix(".script").map(str::to_owned)).collect();
    let listed: BTreeSet<String> = LISTED.iter().copied().map(str::to_owned).collect();
    assert_eq!(listed, there, "tests/it/script/cases.rs lists those on the left; tests/scripts has those on the right");
}
