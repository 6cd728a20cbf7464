//! Steps in words: one readable line an event, a state, an action.

use std::fmt::Debug;

use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Bytes, Commands, Entry, Event, LogIndex, Message, Node, NodeId,
    Payload, Storage, WriteOp,
};
use raft_kv::recording::Replayed;

use crate::console;

/// The line of a step's event, and those of its actions.
pub(crate) fn step(step: &Replayed<'_>) -> (String, String) {
    let (seconds, millis) = (step.millis / 1000, step.millis % 1000);
    let head = format!("{} +{seconds}.{millis:03}s {}", step.number, event(&step.event));
    (head, step.actions.iter().map(|one| format!("    -> {}\n", action(one))).collect())
}

/// The line of a state.
pub(crate) fn state<S: Storage>(node: &Node<S>) -> String {
    let status = node.status();
    let fault = status.fault.map(|fault| format!(", halted: {fault}")).unwrap_or_default();
    format!(
        "    {} term {} vote {} leader {} last {} durable {} commit {} applied {}{fault}",
        status.role,
        status.term,
        id(node.voted_for()),
        id(status.leader),
        status.last_index,
        status.persisted_index,
        status.commit_index,
        status.last_applied,
    )
}

fn event(event: &Event) -> String {
    match event {
        Event::Tick => "tick".into(),
        Event::Message(message) => format!("from {}: {}", message.from, content(message)),
        Event::Propose(payloads) => {
            let bytes: usize = payloads.iter().map(Bytes::len).sum();
            format!("propose {} ({bytes} bytes): {}", payloads.len(), commands(payloads.iter()))
        }
        Event::Read(read) => format!("read {}", read.0),
        Event::Persisted(write) => format!("write {} is durable", write.0),
        Event::WriteFailed(error) => format!("a write failed: {error}"),
        Event::Applied(index) => format!("applied up to {index}"),
        Event::Unreachable(peer) => format!("server {peer} is unreachable"),
        other => shortened(other),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Send(message) => format!("to {}: {}", message.to, content(message)),
        Action::Persist(write) => format!("begin write {}: {}", write.id.0, operation(&write.op)),
        Action::Apply { first, last } => format!("apply {}", span(*first, *last)),
        Action::ProposalAppended { first, last, term } => format!("appended as {} of term {term}", span(*first, *last)),
        Action::ProposalRefused(refusal) => format!("the proposal is refused: {refusal}"),
        Action::ReadReady { read, index } => format!("read {} may be served at {index}", read.0),
        Action::ReadFailed { read, reason } => format!("read {} fails: {reason}", read.0),
        Action::RoleChanged { role, term, leader } => format!("now {role} of term {term}, leader {}", id(*leader)),
        Action::PeerDiverged { peer, index } => format!("the log of server {peer} differs at {index}"),
        Action::MessageDropped { from, reason } => format!("the message of server {from} is dropped: {reason}"),
        Action::Halt(fault) => format!("halt: {fault}"),
        #[allow(unreachable_patterns, reason = "an action to come is shown as it is")]
        other => shortened(other),
    }
}

fn content(message: &Message) -> String {
    let body = match &message.body {
        Body::PreVote(request) => format!(
            "pre-vote for term {}? last entry {} of term {}",
            request.next_term, request.last_log_index, request.last_log_term
        ),
        Body::PreVoteResponse(answer) => {
            format!("pre-vote for term {}: {}", answer.next_term, yes_or_no(answer.vote_granted))
        }
        Body::RequestVote(request) => {
            format!("vote? last entry {} of term {}", request.last_log_index, request.last_log_term)
        }
        Body::RequestVoteResponse(answer) => format!("vote: {}", yes_or_no(answer.vote_granted)),
        Body::AppendEntries(request) => append(request),
        Body::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }) => {
            format!("accepted up to {match_index}")
        }
        Body::AppendEntriesResponse(AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term }) => {
            format!("rejected after {prev_log_index}, try {hint_index} of term {hint_term}")
        }
        Body::Heartbeat(request) => format!("heartbeat {}, commit {}", request.round, request.leader_commit),
        Body::HeartbeatResponse(answer) => format!("heard heartbeat {}", answer.round),
        other => shortened(other),
    };
    format!("[term {}] {body}", message.term)
}

fn append(request: &AppendEntries) -> String {
    let AppendEntries { prev_log_index, prev_log_term, leader_commit, entries, .. } = request;
    format!("append after {prev_log_index} of term {prev_log_term}: {}; commit {leader_commit}", several(entries))
}

fn operation(op: &WriteOp) -> String {
    match op {
        WriteOp::HardState(hard_state) => {
            format!("term {} and vote {}", hard_state.current_term, id(hard_state.voted_for))
        }
        WriteOp::Truncate(from) => format!("remove from {from} on"),
        WriteOp::Append { entries, .. } => several(entries),
        #[allow(unreachable_patterns, reason = "a write to come is shown as it is")]
        other => shortened(other),
    }
}

fn several(entries: &[Entry]) -> String {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return "nothing".into() };
    let bytes: usize = entries.iter().map(|entry| entry.payload.bytes().len()).sum();
    let payloads = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Command(payload) => Some(payload),
        _ => None,
    });
    format!("{} ({bytes} bytes): {}", span(first.index, last.index), commands(payloads))
}

/// The first command, and how many more there are.
fn commands<'a>(payloads: impl Iterator<Item = &'a Bytes>) -> String {
    let mut commands = payloads.flat_map(|payload| Commands::of(payload));
    let Some(first) = commands.next() else { return "no command".into() };
    let first = cut(console::request(first));
    match commands.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn span(first: LogIndex, last: LogIndex) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first}-{last}") }
}

fn id(id: Option<NodeId>) -> String {
    id.map_or_else(|| "none".into(), |id| id.to_string())
}

const fn yes_or_no(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

fn shortened(value: &impl Debug) -> String {
    cut(format!("{value:?}"))
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Longer texts are cut.
const TEXT_CHARS_MAX: usize = 160;
