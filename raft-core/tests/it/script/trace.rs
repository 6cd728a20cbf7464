//! What a step shows of itself: what it sends, writes and tells, and what has changed since the node's last step.

use raft_core::{Action, Config, Entry, HardState, NodeId, Status, Write, WriteOp};

use super::notation;
use crate::cluster::Step;

/// How much is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Everything,
    /// Neither messages nor writes nor the followers' progress.
    Changes,
}

/// A line for all that a step did; `before` is the node's status before it.
pub fn lines(step: &Step, before: &Status, config: &Config, detail: Detail) -> Vec<String> {
    let id = step.id;
    let mut lines: Vec<String> = step.actions.iter().filter_map(|action| action_line(id, action, detail)).collect();
    let after = &step.after;
    if after.commit_index != before.commit_index {
        lines.push(format!("{id}: commit {}", after.commit_index));
    }
    if after.transfer != before.transfer {
        lines.push(format!("{id}: transfer {}", or_none(after.transfer)));
    }
    if after.promotion != before.promotion {
        lines.push(format!("{id}: promotion {}", promotion(after)));
    }
    if detail == Detail::Everything {
        for (follower, progress) in &after.followers {
            let now = notation::progress(progress, config);
            let known = before.followers.iter().find(|(known, _)| known == follower);
            if known.is_none_or(|(_, before)| notation::progress(before, config) != now) {
                lines.push(format!("{id}: {follower} {now}"));
            }
        }
    }
    lines
}

fn action_line(id: u32, action: &Action, detail: Detail) -> Option<String> {
    match action {
        Action::Send(_) | Action::Persist(_) | Action::Apply { .. } if detail == Detail::Changes => None,
        Action::Send(message) => Some(notation::message(message)),
        Action::Persist(write) => Some(format!("{id}: {}", self::write(write))),
        notice => Some(format!("{id}: {}", notation::notice(notice))),
    }
}

fn write(write: &Write) -> String {
    let what = match &write.op {
        WriteOp::HardState(HardState { current_term, voted_for }) => {
            format!("t{current_term} vote {}", or_none(*voted_for))
        }
        WriteOp::SnapshotChunk(chunk) => format!("chunk {}", notation::chunk(chunk)),
        WriteOp::GiveUpSnapshot => "give up the snapshot".into(),
        WriteOp::InstallSnapshot { index, keep_from: None } => format!("install {index}"),
        WriteOp::InstallSnapshot { index, keep_from: Some(first) } => format!("install {index} keep {first}.."),
        WriteOp::Truncate(from) => format!("truncate {from}.."),
        WriteOp::Append { entries, .. } => format!("append {}", notation::entries(entries)),
    };
    format!("write {} {what}", write.id.0)
}

pub fn or_none(node: Option<NodeId>) -> String {
    node.map_or_else(|| "none".to_owned(), |node| node.to_string())
}

pub fn promotion(status: &Status) -> String {
    status.promotion.as_ref().map_or_else(|| "none".to_owned(), |change| format!("{{{}}}", change.configuration()))
}

/// `[1 1 2]`; `[4.. 2]` where the log begins at 4.
pub fn terms(status: &Status, entries: &[Entry]) -> String {
    let first = status.first_index;
    let compacted = (first.0 > 1).then(|| format!("{first}.."));
    let terms = compacted.into_iter().chain(entries.iter().map(|entry| entry.term.to_string()));
    format!("[{}]", terms.collect::<Vec<_>>().join(" "))
}
