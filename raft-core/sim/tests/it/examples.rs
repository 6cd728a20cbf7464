//! The example that fails does, and the documentation shows what it says.

use std::path::Path;

use raft_sim::story;

#[allow(dead_code, unused_imports, reason = "it is a program too")]
#[path = "../../examples/broken.rs"]
mod broken;

const SAYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/broken.txt");

#[test]
fn a_machine_whose_reads_change_it_is_found() {
    let report = broken::report();
    let failure = report.failure.as_ref().expect("it is wrong");
    assert_eq!(failure.rule, "equal states");
    super::golden(Path::new(SAYS), &story::timeline(&report).to_string());
}
