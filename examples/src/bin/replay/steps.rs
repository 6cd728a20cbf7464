//! Steps in words: one readable line an event, a state, an action.

use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Bytes, Commands, Configuration, Entry, Event, LogIndex,
    MembershipChange, Message, Node, NodeId, Payload, ReadKind, ReadToken, SnapshotChunk, SnapshotMeta, StateDigest,
    StateReport, Storage, WriteOp,
};
use raft_kv::recording::Replayed;

use raft_examples::console;

/// The line of a step's event, and those of its actions.
pub(crate) fn step(step: &Replayed<'_>) -> (String, String) {
    let (seconds, millis) = (step.millis / 1000, step.millis % 1000);
    let head = format!("{} +{seconds}.{millis:03}s {}", step.number, event(&step.event));
    (head, step.actions.iter().map(|one| format!("    -> {}\n", action(one))).collect())
}

/// The line of a state.
pub(crate) fn state<S: Storage>(node: &Node<S>) -> String {
    let status = node.status();
    let transfer = status.transfer.map(|target| format!(", hands over to server {target}")).unwrap_or_default();
    let lease = status.lease.map(|ticks| format!(", lease for {ticks}")).unwrap_or_default();
    let promotion = status.promotion.map(|change| format!(", waits to have {}", members(&change))).unwrap_or_default();
    let fault = status.fault.map(|fault| format!(", halted: {fault}")).unwrap_or_default();
    format!(
        "    {} term {} vote {} leader {} last {} durable {} commit {} applied {} members {}{lease}{transfer}{promotion}{fault}",
        status.role,
        status.term,
        id(node.voted_for()),
        id(status.leader),
        status.last_index,
        status.persisted_index,
        status.commit_index,
        status.last_applied,
        status.configuration,
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
        Event::Campaign => "campaign".into(),
        Event::ChangeMembership(change) => format!("change to {}", members(change)),
        Event::TransferLeadership(target) => format!("hand leadership to server {target}"),
        Event::HandOver => "hand leadership over".into(),
        Event::Persisted(write) => format!("write {} is durable", write.0),
        Event::WriteFailed(error) => format!("a write failed: {error}"),
        Event::Applied(index) => format!("applied up to {index}"),
        Event::SnapshotPiece(piece) => format!("taken: {}", chunk(piece)),
        Event::Restored(index) => format!("the snapshot of entry {index} is restored"),
        Event::SnapshotOutgrows => "there is no room for the rest of the snapshot".into(),
        Event::RestoreFailed(index) => format!("the snapshot of entry {index} cannot be restored"),
        Event::Unreachable(peer) => format!("server {peer} is unreachable"),
        Event::StateDigested(report) => reports(report),
        Event::StateDiverged(index) => format!("a majority has another state after entry {index}"),
        Event::StateRotted(index) => format!("the state after entry {index} has changed by itself"),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Send(message) => format!("to {}: {}", message.to, content(message)),
        Action::Persist(write) => format!("begin write {}: {}", write.id.0, operation(&write.op)),
        Action::Apply { first, last } => format!("apply {}", span(*first, *last)),
        Action::ProposalAppended { first, last, term } => format!("appended as {} of term {term}", span(*first, *last)),
        Action::ProposalRefused(refusal) => format!("the proposal is refused: {}", refusal),
        Action::ReadReady { read, index, kind } => format!("read {} may be served at {index}, {}", read.0, by(*kind)),
        Action::ReadFailed { read, reason } => format!("read {} fails: {}", read.0, reason),
        Action::RoleChanged { role, term, leader } => format!("now {role} of term {term}, leader {}", id(*leader)),
        Action::PeerDiverged { peer, index } => format!("the log of server {peer} differs at {index}"),
        Action::StateDiffers { peer, index } => format!("server {peer} has another state after entry {index}"),
        Action::MembershipAppended { index, term } => format!("the change is entry {index} of term {term}"),
        Action::MembershipRefused(refusal) => format!("the change is refused: {}", refusal),
        Action::MembershipChanged(configuration) => format!("members are now {configuration}"),
        Action::DiskReplaced { id } => {
            format!("another disk answers as server {id}: it does not count until it is removed and added again")
        }
        Action::TransferRefused { target, reason } => {
            format!("leadership does not go to server {target}: {}", reason)
        }
        Action::TransferAborted { target } => format!("server {target} did not take leadership: it stays here"),
        Action::Restore(meta) => format!("restore: {}", snapshot(meta)),
        Action::SnapshotInstalled { index, first_index } => {
            format!("the log follows the snapshot of entry {index}, and begins at {first_index}")
        }
        Action::SnapshotRefused(refusal) => format!("the snapshot is refused: {}", refusal),
        Action::MessageDropped { from, reason } => format!("the message of server {from} is dropped: {reason}"),
        Action::Halt(fault) => format!("halt: {fault}"),
    }
}

fn content(message: &Message) -> String {
    let body = match &message.body {
        Body::PreVote(request) => format!(
            "pre-vote for term {}? last entry {} of term {}",
            request.next_term, request.last_log_index, request.last_log_term
        ),
        Body::PreVoteResponse(_, answer) => {
            format!("pre-vote for term {}: {}", answer.next_term, yes_or_no(answer.vote_granted))
        }
        Body::RequestVote(request) => {
            let asked = if request.leadership_transfer { "vote, as the leader asks?" } else { "vote?" };
            format!("{asked} last entry {} of term {}", request.last_log_index, request.last_log_term)
        }
        Body::RequestVoteResponse(_, answer) => format!("vote: {}", yes_or_no(answer.vote_granted)),
        Body::AppendEntries(request) => append(request),
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }) => {
            format!("accepted up to {match_index}")
        }
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term }) => {
            format!("rejected after {prev_log_index}, try {hint_index} of term {hint_term}")
        }
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Diverged { prev_log_index }) => {
            format!("the logs differ at {prev_log_index}")
        }
        Body::Heartbeat(request) => format!("heartbeat {}, commit {}", request.round, request.leader_commit),
        Body::HeartbeatResponse(_, answer) => format!("heard heartbeat {}", answer.round),
        Body::InstallSnapshot(part) => format!("install {}", chunk(part)),
        Body::InstallSnapshotResponse(_, answer) => {
            format!("has {} bytes of the snapshot of entry {}", answer.next_offset, answer.last_included_index)
        }
        Body::TimeoutNow => "campaign now".into(),
        Body::ReadIndex(request) => format!("may I read? {}", request_of(request.token)),
        Body::ReadIndexResponse(answer) => {
            let lease = if answer.lease { ", by lease" } else { "" };
            let index = answer.index.map_or_else(|| "no".into(), |index| format!("once {index} is applied{lease}"));
            format!("{}: {index}", request_of(answer.token))
        }
        Body::StateDigest(report) => reports(report),
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
        WriteOp::SnapshotChunk(part) => chunk(part),
        WriteOp::GiveUpSnapshot => "remove what there is of a snapshot".into(),
        WriteOp::InstallSnapshot { index, keep_from: Some(first) } => {
            format!("install the snapshot of entry {index}, keep from {first} on")
        }
        WriteOp::InstallSnapshot { index, keep_from: None } => {
            format!("install the snapshot of entry {index} in place of the log")
        }
        WriteOp::Append { entries, .. } => several(entries),
    }
}

fn snapshot(meta: &SnapshotMeta) -> String {
    let SnapshotMeta { last_included_index, last_included_term, configuration, .. } = meta;
    format!("the snapshot of entry {last_included_index} of term {last_included_term}, members {configuration}")
}

fn chunk(chunk: &SnapshotChunk) -> String {
    let last = if chunk.done { ", the last" } else { "" };
    format!("{} bytes from {} on{last}: {}", chunk.data.len(), chunk.offset, snapshot(&chunk.meta))
}

fn several(entries: &[Entry]) -> String {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return "nothing".into() };
    let bytes: usize = entries.iter().map(|entry| entry.payload.bytes().len()).sum();
    let mut parts: Vec<String> = entries.iter().filter_map(of_no_command).collect();
    let mut payloads = entries.iter().filter_map(command).peekable();
    if parts.is_empty() || payloads.peek().is_some() {
        parts.push(commands(payloads));
    }
    format!("{} ({bytes} bytes): {}", span(first.index, last.index), parts.join("; "))
}

fn of_no_command(entry: &Entry) -> Option<String> {
    match &entry.payload {
        Payload::Configuration(bytes) => Some(
            Configuration::from_bytes(bytes)
                .map_or_else(|| "no configuration".into(), |held| format!("members {held}")),
        ),
        Payload::StateDigest(bytes) => {
            Some(StateDigest::from_bytes(bytes).map_or_else(|| "no state's digest".into(), |digest| has_state(&digest)))
        }
        Payload::Noop | Payload::Command(_) => None,
    }
}

fn reports(report: &StateReport) -> String {
    let of = if report.is_independent { "" } else { ", as it was restored" };
    format!("{}{of}", has_state(&report.digest))
}

fn has_state(digest: &StateDigest) -> String {
    format!("the state after entry {} is {:.8}", digest.index, digest.state)
}

const fn command(entry: &Entry) -> Option<&Bytes> {
    match &entry.payload {
        Payload::Command(payload) => Some(payload),
        Payload::Noop | Payload::Configuration(_) | Payload::StateDigest(_) => None,
    }
}

fn members(change: &MembershipChange) -> String {
    let catch_up = if change.catch_up { ", once they have caught up" } else { "" };
    let at = change.addresses.iter().map(|(id, address)| format!(", {id} at {address}"));
    format!("members {}{catch_up}{}", change.configuration(), at.collect::<String>())
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

fn request_of(token: ReadToken) -> String {
    format!("request {} of life {:x}", token.sequence, token.life)
}

const fn by(kind: ReadKind) -> &'static str {
    match kind {
        ReadKind::Quorum => "by a quorum",
        ReadKind::Lease => "by lease",
        ReadKind::ForwardedQuorum => "by the leader's quorum",
        ReadKind::ForwardedLease => "by the leader's lease",
    }
}

const fn yes_or_no(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
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

#[cfg(test)]
mod tests {
    use raft_core::{
        Config, Digest, InstallSnapshotResponse, MemStorage, PeerFault, ReadId, ReadIndex, ReadIndexResponse, Refusal,
        RequestVote, Term, Write, WriteId,
    };

    use super::*;

    fn change() -> MembershipChange {
        let (voters, learners) = (vec![NodeId(1), NodeId(4)], vec![NodeId(5)]);
        MembershipChange { voters, learners, catch_up: true, addresses: vec![(NodeId(4), "127.0.0.1:8004".into())] }
    }

    #[test]
    fn what_changes_members_and_leaders_is_told_in_words() {
        let target = NodeId(3);
        assert_eq!(
            event(&Event::ChangeMembership(change())),
            "change to members 1,4, learners 5, once they have caught up, 4 at 127.0.0.1:8004"
        );
        assert_eq!(event(&Event::TransferLeadership(target)), "hand leadership to server 3");
        assert_eq!(event(&Event::HandOver), "hand leadership over");
        for (said, words) in [
            (Action::MembershipAppended { index: LogIndex(7), term: Term(2) }, "the change is entry 7 of term 2"),
            (
                Action::MembershipRefused(Refusal::ChangeInProgress),
                "the change is refused: a membership change is under way: ask again once it is committed",
            ),
            (Action::MembershipChanged(Box::new(change().configuration())), "members are now 1,4, learners 5"),
            (
                Action::TransferRefused { target, reason: Refusal::NotVoter { id: target } },
                "leadership does not go to server 3: server 3 is no voter",
            ),
            (
                Action::DiskReplaced { id: target },
                "another disk answers as server 3: it does not count until it is removed and added again",
            ),
            (Action::TransferAborted { target }, "server 3 did not take leadership: it stays here"),
        ] {
            assert_eq!(action(&said), words);
        }
        let message = |body| Message { from: NodeId(1), to: NodeId(2), term: Term(4), body };
        assert_eq!(content(&message(Body::TimeoutNow)), "[term 4] campaign now");
        let (last_log_index, last_log_term) = (LogIndex(9), Term(3));
        let vote = Body::RequestVote(RequestVote {
            last_log_index,
            last_log_term,
            leadership_transfer: true,
            voter: raft_core::Incarnation::UNKNOWN,
        });
        assert_eq!(content(&message(vote)), "[term 4] vote, as the leader asks? last entry 9 of term 3");
    }

    #[test]
    fn reads_are_told_in_words() {
        let (token, life) = (ReadToken { life: 0xbeef, sequence: 7 }, "request 7 of life beef");
        let message = |body| Message { from: NodeId(1), to: NodeId(2), term: Term(4), body };
        let said = |body| content(&message(body));
        assert_eq!(said(Body::ReadIndex(ReadIndex { token })), format!("[term 4] may I read? {life}"));
        for (index, lease, words) in
            [(None, false, "no"), (Some(9), false, "once 9 is applied"), (Some(9), true, "once 9 is applied, by lease")]
        {
            let answer = ReadIndexResponse { token, index: index.map(LogIndex), lease };
            assert_eq!(said(Body::ReadIndexResponse(answer)), format!("[term 4] {life}: {words}"));
        }
        for (kind, words) in [
            (ReadKind::Quorum, "by a quorum"),
            (ReadKind::Lease, "by lease"),
            (ReadKind::ForwardedQuorum, "by the leader's quorum"),
            (ReadKind::ForwardedLease, "by the leader's lease"),
        ] {
            let ready = Action::ReadReady { read: ReadId(3), index: LogIndex(9), kind };
            assert_eq!(action(&ready), format!("read 3 may be served at 9, {words}"));
        }
    }

    #[test]
    fn snapshots_are_told_in_words() {
        let meta = SnapshotMeta {
            last_included_index: LogIndex(9),
            last_included_term: Term(3),
            digest: None,
            configuration: change().configuration(),
            state: None,
        };
        let named = "the snapshot of entry 9 of term 3, members 1,4, learners 5";
        assert_eq!(event(&Event::Restored(LogIndex(9))), "the snapshot of entry 9 is restored");
        assert_eq!(event(&Event::RestoreFailed(LogIndex(9))), "the snapshot of entry 9 cannot be restored");
        assert_eq!(action(&Action::Restore(Box::new(meta.clone()))), format!("restore: {named}"));
        let installed = Action::SnapshotInstalled { index: LogIndex(9), first_index: LogIndex(7) };
        assert_eq!(action(&installed), "the log follows the snapshot of entry 9, and begins at 7");
        assert_eq!(
            action(&Action::SnapshotRefused(Refusal::SnapshotInProgress)),
            "the snapshot is refused: another snapshot is under way: take one once it is installed"
        );
        let dropped = Action::MessageDropped { from: NodeId(2), reason: PeerFault::BadSnapshot };
        assert!(action(&dropped).ends_with("the snapshot is none of this state machine"), "{}", action(&dropped));
        let part = |done| SnapshotChunk { meta: meta.clone(), offset: 4, data: Bytes::from_static(b"e"), done };
        let message = |body| content(&Message { from: NodeId(1), to: NodeId(2), term: Term(4), body });
        let (first, last) = (format!("1 bytes from 4 on: {named}"), format!("1 bytes from 4 on, the last: {named}"));
        assert_eq!(event(&Event::SnapshotPiece(part(true).into())), format!("taken: {last}"));
        assert_eq!(message(Body::InstallSnapshot(Box::new(part(false)))), format!("[term 4] install {first}"));
        let heard = InstallSnapshotResponse { last_included_index: LogIndex(9), offset: 0, next_offset: 5 };
        assert_eq!(
            message(Body::InstallSnapshotResponse(raft_core::Incarnation::UNKNOWN, heard)),
            "[term 4] has 5 bytes of the snapshot of entry 9"
        );
        let install = |keep_from| WriteOp::InstallSnapshot { index: LogIndex(9), keep_from };
        for (op, words) in [
            (WriteOp::SnapshotChunk(Box::new(part(true))), last.as_str()),
            (install(Some(LogIndex(7))), "install the snapshot of entry 9, keep from 7 on"),
            (install(None), "install the snapshot of entry 9 in place of the log"),
        ] {
            assert_eq!(action(&Action::Persist(Write { id: WriteId(2), op })), format!("begin write 2: {words}"));
        }
    }

    #[test]
    fn entries_are_told_by_what_they_hold() {
        let entry = |index, payload| Entry { index: LogIndex(index), term: Term(1), payload };
        let joint = Configuration::joint([NodeId(1), NodeId(4)], [NodeId(1)], []);
        let held = entry(2, Payload::Configuration(joint.to_bytes().into()));
        assert_eq!(several(std::slice::from_ref(&held)), "entry 2 (24 bytes): members 1,4, outgoing 1");
        let digest = StateDigest { index: LogIndex(8), state: Digest([0x9f; 32]) };
        let told = entry(9, Payload::StateDigest(digest.to_bytes()));
        assert_eq!(several(&[told]), "entry 9 (40 bytes): the state after entry 8 is 9f9f9f9f");
        let damaged = entry(3, Payload::Configuration(Bytes::from_static(b"x")));
        assert_eq!(several(&[damaged]), "entry 3 (1 bytes): no configuration");
        assert_eq!(several(&[entry(1, Payload::Noop)]), "entry 1 (0 bytes): no command");
        let both = several(&[held, entry(3, Payload::Command(Bytes::new()))]);
        assert!(both.starts_with("entries 2-3 (24 bytes): members 1,4, outgoing 1; "), "{both}");
    }

    #[test]
    fn a_state_tells_its_members() {
        let node = Node::new(Config::new(NodeId(1)), MemStorage::new(change().configuration())).unwrap();
        assert_eq!(
            state(&node),
            "    follower term 0 vote none leader none last 0 durable 0 commit 0 applied 0 members 1,4, learners 5"
        );
    }
}
