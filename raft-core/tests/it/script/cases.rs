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
    conformance_12_one_change_at_a_time
    conformance_13_adding_under_check_quorum
    conformance_14_window_pause
    conformance_15_probe_recovery
    conformance_17_a_read_on_a_new_leader
    random_01_a_change_whose_leader_is_gone
    random_02_a_promotion_without_the_old_voter
}

#[test]
fn every_script_of_the_folder_is_listed_and_every_listed_one_is_there() {
    let names = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = names.filter_map(|name| name.strip_suffix(".script").map(str::to_owned)).collect();
    let listed: BTreeSet<String> = LISTED.iter().copied().map(str::to_owned).collect();
    assert_eq!(listed, there, "tests/it/script/cases.rs lists those on the left; tests/scripts has those on the right");
}
