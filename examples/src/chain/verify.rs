//! `chain verify`: everything that is wrong with a directory.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use raft_core::LogIndex;
use raft_kv::inspect::{Counts, Finding, Inspection, Severity};
use serde_json::json;

use super::{Answer, Ended, Output, inspect};

pub(super) fn run(dir: &Path, output: Output) -> Answer {
    let found = inspect(dir)?;
    let text = match output {
        Output::Text => text(dir, &found),
        Output::Json => json(&found),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|_| Ended::Unread)?;
    if found.is_sound() {
        return Ok(());
    }
    let count = found.findings().iter().filter(|finding| finding.severity == Severity::Damage).count();
    Err(Ended::Bad(format!("{} is damaged in {count} place{}", dir.display(), plural(count as u64))))
}

/// What there is, what was found, and the verdict or what to do.
fn text(dir: &Path, found: &Inspection) -> String {
    let genesis = found.genesis().map_or_else(|| "a chain without a readable genesis".into(), ToString::to_string);
    let mut lines = vec![format!("{}: {genesis}", dir.display()), held(found)];
    lines.extend(found.findings().iter().map(Finding::to_string));
    let advice: BTreeSet<&str> = found.findings().iter().filter_map(Finding::advice).collect();
    lines.extend(advice.into_iter().map(|advice| format!("what to do: {advice}")));
    if found.is_sound() {
        lines.push("sound: every checksum, every hash and every checkpoint is right".into());
    }
    lines.join("\n")
}

/// `blocks 1 to 70 in 2 segments and 3 archived ones, 189 bytes, with a snapshot of block 60`.
fn held(found: &Inspection) -> String {
    let range = |(first, last): (LogIndex, LogIndex)| format!("{first} to {last}");
    let ranges: Vec<String> = found.ranges().map(range).collect();
    let blocks = if ranges.is_empty() { String::from("no blocks") } else { format!("blocks {}", ranges.join(", ")) };
    let Counts { segments, archived, bytes, .. } = found.counts();
    let kept = if archived > 0 { format!(" and {archived} in the archive") } else { String::new() };
    let snapshot = found.snapshot().map(|meta| format!(", with a snapshot of block {}", meta.last_included_index));
    format!("{blocks} in {segments} segment{}{kept}, {bytes} bytes{}", plural(segments), snapshot.unwrap_or_default())
}

/// A line for each finding, and the last for all.
fn json(found: &Inspection) -> String {
    let object = |finding: &Finding| {
        json!({
            "severity": finding.severity.to_string(), "file": finding.file, "byte": finding.byte,
            "what": finding.what, "advice": finding.advice(),
        })
    };
    let Counts { segments, archived, snapshots, bytes } = found.counts();
    let ranges: Vec<[u64; 2]> = found.ranges().map(|(first, last)| [first.0, last.0]).collect();
    let verdict = json!({
        "sound": found.is_sound(), "blocks": ranges, "segments": segments, "archived": archived,
        "snapshots": snapshots, "bytes": bytes,
        "snapshot": found.snapshot().map(|meta| meta.last_included_index.0),
    });
    let lines = found.findings().iter().map(object).chain([verdict]);
    lines.map(|line| line.to_string()).collect::<Vec<_>>().join("\n")
}

const fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
