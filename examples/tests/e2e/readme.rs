//! What the README says of the tests is true of them.

use std::path::Path;

/// The last column of the table that compares features: each name in it is a test function, or a scenario script.
#[test]
fn the_readme_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let section = readme.split("## How it compares").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ") && !line.contains("shown by")).collect();
    let mut sources = String::new();
    for folder in ["raft-core", "raft-core/sim", "raft-kv", "raft-net-tcp"] {
        gather(&root.join(folder).join("src"), &mut sources);
        gather(&root.join(folder).join("tests"), &mut sources);
    }
    let mut named = 0;
    for row in &rows {
        let shown_by = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let name = shown_by.trim().trim_matches('`');
        if name.contains(' ') {
            assert!(name.starts_with(".ci/run"), "neither a test nor the checks: {row}");
            continue;
        }
        let script = root.join("raft-core/tests/scripts").join(format!("{name}.script"));
        assert!(sources.contains(&format!("fn {name}(")) || script.exists(), "there is no test {name}");
        named += 1;
    }
    assert!(named >= 15, "{named} rows");
}

/// The documentation of raft-core leads from each section of the paper to a file.
#[test]
fn the_paper_leads_to_files_that_exist() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("raft-core");
    let documentation = std::fs::read_to_string(core.join("src/lib.rs")).unwrap();
    let rows: Vec<&str> = documentation.lines().filter(|line| line.starts_with("//! | ")).collect();
    for section in ["§5.1", "§5.2", "§5.3", "§5.4.1", "§5.4.2", "§5.5", "§5.6", "§6", "§7", "§8"] {
        assert!(rows.iter().any(|row| row.contains(section)), "{section} leads nowhere");
    }
    let files = rows.iter().flat_map(|row| row.split('`')).filter(|word| word.ends_with(".rs"));
    let missing: Vec<&str> =
        files.filter(|file| !core.join("src").join(file).exists() && !core.join(file).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn gather(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
