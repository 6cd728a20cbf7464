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
