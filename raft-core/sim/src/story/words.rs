//! Messages in a few words.

use raft_core::{AppendEntries, AppendEntriesResponse, Body};

/// A message in a few words, the name of its kind first.
#[must_use]
pub fn words(body: &Body) -> String {
    match body {
        Body::PreVote(request) => {
            format!("PreVote for term {}, last {}/{}", request.next_term, request.last_log_index, request.last_log_term)
        }
        Body::PreVoteResponse(_, answer) => {
            format!("PreVoteResponse for term {}: {}", answer.next_term, yes_or_no(answer.vote_granted))
        }
        Body::RequestVote(request) => {
            let asked = if request.leadership_transfer { ", as the leader asks" } else { "" };
            format!("RequestVote last {}/{}{asked}", request.last_log_index, request.last_log_term)
        }
        Body::RequestVoteResponse(_, answer) => format!("RequestVoteResponse {}", yes_or_no(answer.vote_granted)),
        Body::AppendEntries(request) => append(request),
        Body::AppendEntriesResponse(_, answer) => format!("AppendEntriesResponse {}", appended(answer)),
        Body::Heartbeat(request) => format!("Heartbeat {}, commit {}", request.round, request.leader_commit),
        Body::HeartbeatResponse(_, answer) => format!("HeartbeatResponse {}", answer.round),
        Body::InstallSnapshot(chunk) => format!(
            "InstallSnapshot {}/{}, {} bytes from {} on{}",
            chunk.meta.last_included_index,
            chunk.meta.last_included_term,
            chunk.data.len(),
            chunk.offset,
            if chunk.done { ", the last" } else { "" }
        ),
        Body::InstallSnapshotResponse(_, answer) => {
            format!("InstallSnapshotResponse {}, {} bytes so far", answer.last_included_index, answer.next_offset)
        }
        Body::TimeoutNow => "TimeoutNow".into(),
        Body::ReadIndex(request) => format!("ReadIndex request {}", request.token.sequence),
        Body::ReadIndexResponse(answer) => {
            let index = answer.index.map_or_else(|| "no".into(), |index| format!("once {index} is applied"));
            format!("ReadIndexResponse request {}: {index}", answer.token.sequence)
        }
        Body::StateDigest(report) => {
            let of = if report.is_independent { "" } else { ", as restored" };
            format!("StateDigest {:.8} after {}{of}", report.digest.state, report.digest.index)
        }
    }
}

/// The first word: the kind of a message.
pub(crate) fn kind(words: &str) -> &str {
    words.split([' ', ':', ',', '(']).next().unwrap_or(words)
}

/// Whether messages of this kind flow all the time, so that a reader wants their sum.
pub(crate) fn is_routine(kind: &str) -> bool {
    ["AppendEntries", "Heartbeat", "InstallSnapshot", "ReadIndex"].iter().any(|routine| kind.starts_with(routine))
}

fn append(request: &AppendEntries) -> String {
    let AppendEntries { prev_log_index, prev_log_term, leader_commit, entries, .. } = request;
    let carried = match (entries.first(), entries.last()) {
        (Some(first), Some(last)) if first.index == last.index => format!("entry {}", first.index),
        (Some(first), Some(last)) => format!("entries {}-{}", first.index, last.index),
        _ => "nothing".into(),
    };
    format!("AppendEntries after {prev_log_index}/{prev_log_term}: {carried}, commit {leader_commit}")
}

fn appended(answer: &AppendEntriesResponse) -> String {
    match answer {
        AppendEntriesResponse::Accepted { match_index } => format!("accepted up to {match_index}"),
        AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term } => {
            format!("rejected after {prev_log_index}, try {hint_index}/{hint_term}")
        }
        AppendEntriesResponse::Diverged { prev_log_index } => format!("the logs differ at {prev_log_index}"),
    }
}

const fn yes_or_no(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::{Incarnation, LogIndex, RequestVote, Term};

    #[test]
    fn a_message_is_told_with_its_kind_first() {
        let (last_log_index, last_log_term) = (LogIndex(9), Term(3));
        let vote = Body::RequestVote(RequestVote {
            last_log_index,
            last_log_term,
            leadership_transfer: true,
            voter: Incarnation::UNKNOWN,
        });
        assert_eq!(words(&vote), "RequestVote last 9/3, as the leader asks");
        assert_eq!(kind(&words(&vote)), "RequestVote");
        assert!(!is_routine(kind(&words(&vote))));
        let heartbeat = Body::Heartbeat(raft_core::Heartbeat { leader_commit: LogIndex(4), round: 7 });
        assert_eq!(words(&heartbeat), "Heartbeat 7, commit 4");
        assert!(is_routine(kind(&words(&heartbeat))));
        assert_eq!(kind(&words(&Body::TimeoutNow)), "TimeoutNow");
        assert_eq!(kind(&format!("{vote:?}")), "RequestVote");
    }
}
