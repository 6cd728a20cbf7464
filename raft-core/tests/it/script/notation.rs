//! How messages, entries and notices are written: the same words in a script and in its trace.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Action, AppendEntries, AppendEntriesResponse, Body, Config, Configuration, Digest, Entry, Heartbeat,
    HeartbeatResponse, Incarnation, InstallSnapshotResponse, LogIndex, Message, NodeId, Payload, PreVote,
    PreVoteResponse, Progress, ProgressState, ReadIndex, ReadIndexResponse, ReadToken, RequestVote,
    RequestVoteResponse, SnapshotChunk, SnapshotMeta, StateDigest, StateReport, Term,
};

use crate::cluster::state_digest;

/// `1->2 t3 Heartbeat commit=1 round=0`.
pub fn message(message: &Message) -> String {
    format!("{}->{} t{} {}", message.from, message.to, message.term, body(&message.body))
}

pub fn parse_message(text: &str) -> Result<Message, String> {
    let usage = || format!("\"{text}\" is no message: write 1->2 t3 Heartbeat commit=1 round=0");
    let (link, rest) = text.split_once(' ').ok_or_else(usage)?;
    let (term, rest) = rest.split_once(' ').ok_or_else(usage)?;
    let (from, to) = parse_link(link)?;
    let term = Term(number(term.strip_prefix('t').ok_or_else(usage)?)?);
    Ok(Message { from: NodeId(from), to: NodeId(to), term, body: parse_body(rest)? })
}

/// `1->2`.
pub fn parse_link(text: &str) -> Result<(u32, u32), String> {
    let (from, to) = text.split_once("->").ok_or_else(|| format!("\"{text}\" is no link: write 1->2"))?;
    Ok((number(from)?, number(to)?))
}

/// The first word of a body.
pub fn kind(body: &Body) -> String {
    let text = self::body(body);
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// An answer ends with its sender's incarnation, where that is known: `as=30`.
pub fn body(body: &Body) -> String {
    match body.incarnation() {
        Some(incarnation) if incarnation.is_known() => format!("{} as={}", content(body), incarnation.0),
        _ => content(body),
    }
}

fn content(body: &Body) -> String {
    let granted = |granted: bool| if granted { "granted" } else { "refused" };
    match body {
        Body::PreVote(request) => {
            let PreVote { next_term, last_log_index, last_log_term, voter } = request;
            format!("PreVote next={next_term} last={last_log_index}@{last_log_term}{}", meant(*voter))
        }
        Body::PreVoteResponse(_, response) => {
            format!("PreVoteResponse next={} {}", response.next_term, granted(response.vote_granted))
        }
        Body::RequestVote(request) => {
            let transfer = if request.leadership_transfer { " transfer" } else { "" };
            let RequestVote { last_log_index, last_log_term, voter, .. } = request;
            format!("RequestVote last={last_log_index}@{last_log_term}{transfer}{}", meant(*voter))
        }
        Body::RequestVoteResponse(_, response) => format!("RequestVoteResponse {}", granted(response.vote_granted)),
        Body::AppendEntries(request) => {
            let (index, term) = (request.prev_log_index, request.prev_log_term);
            let entries = self::entries(&request.entries);
            format!("AppendEntries prev={index}@{term} commit={} {entries}", request.leader_commit)
        }
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Accepted { match_index }) => {
            format!("Accepted {match_index}")
        }
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term }) => {
            format!("Rejected prev={prev_log_index} hint={hint_index}@{hint_term}")
        }
        Body::AppendEntriesResponse(_, AppendEntriesResponse::Diverged { prev_log_index }) => {
            format!("Diverged {prev_log_index}")
        }
        Body::Heartbeat(request) => format!("Heartbeat commit={} round={}", request.leader_commit, request.round),
        Body::HeartbeatResponse(_, response) => format!("HeartbeatResponse round={}", response.round),
        Body::TimeoutNow => "TimeoutNow".to_owned(),
        Body::ReadIndex(ReadIndex { token }) => format!("ReadIndex {}", self::token(*token)),
        Body::ReadIndexResponse(ReadIndexResponse { token, index, lease }) => {
            let index = index.map_or_else(|| "none".to_owned(), |index| index.to_string());
            let lease = if *lease { " lease" } else { "" };
            format!("ReadIndexResponse {} index={index}{lease}", self::token(*token))
        }
        Body::StateDigest(report) => {
            let of = if report.is_independent { "" } else { " restored" };
            format!("StateDigest {}{of}", digest(&report.digest))
        }
        Body::InstallSnapshot(chunk) => format!("InstallSnapshot {}", self::chunk(chunk)),
        Body::InstallSnapshotResponse(_, InstallSnapshotResponse { last_included_index, offset, next_offset }) => {
            format!("InstallSnapshotResponse {last_included_index} offset={offset} next={next_offset}")
        }
    }
}

/// Which disk a candidate means by whom it asks.
fn meant(voter: Incarnation) -> String {
    if voter.is_known() { format!(" voter={}", voter.0) } else { String::new() }
}

pub fn parse_body(text: &str) -> Result<Body, String> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let fields = Fields(rest);
    let incarnation = fields.value("as").map_or(Ok(0), number).map(Incarnation)?;
    Ok(match kind {
        "PreVote" => {
            let (last_log_index, last_log_term) = fields.position("last")?;
            let next_term = Term(fields.number("next")?);
            Body::PreVote(PreVote { next_term, last_log_index, last_log_term, voter: fields.meant()? })
        }
        "PreVoteResponse" => {
            let next_term = Term(fields.number("next")?);
            Body::PreVoteResponse(incarnation, PreVoteResponse { next_term, vote_granted: fields.granted()? })
        }
        "RequestVote" => {
            let (last_log_index, last_log_term) = fields.position("last")?;
            let (leadership_transfer, voter) = (fields.has("transfer"), fields.meant()?);
            Body::RequestVote(RequestVote { last_log_index, last_log_term, leadership_transfer, voter })
        }
        "RequestVoteResponse" => {
            Body::RequestVoteResponse(incarnation, RequestVoteResponse { vote_granted: fields.granted()? })
        }
        "AppendEntries" => {
            let (prev_log_index, prev_log_term) = fields.position("prev")?;
            Body::AppendEntries(AppendEntries {
                prev_log_index,
                prev_log_term,
                // A digest that no log has, where the script wants the logs to differ.
                prev_log_hash: fields.has("hash=other").then(|| Arc::new(Digest([7; 32]))),
                leader_commit: LogIndex(fields.number("commit")?),
                entries: parse_entries(rest)?.into(),
            })
        }
        "Accepted" => {
            let match_index = LogIndex(fields.first()?);
            Body::AppendEntriesResponse(incarnation, AppendEntriesResponse::Accepted { match_index })
        }
        "Rejected" => {
            let prev_log_index = LogIndex(fields.number("prev")?);
            let (hint_index, hint_term) = fields.position("hint")?;
            Body::AppendEntriesResponse(
                incarnation,
                AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term },
            )
        }
        "Diverged" => {
            let prev_log_index = LogIndex(fields.first()?);
            Body::AppendEntriesResponse(incarnation, AppendEntriesResponse::Diverged { prev_log_index })
        }
        "Heartbeat" => {
            let leader_commit = LogIndex(fields.number("commit")?);
            Body::Heartbeat(Heartbeat { leader_commit, round: fields.number("round")? })
        }
        "HeartbeatResponse" => {
            Body::HeartbeatResponse(incarnation, HeartbeatResponse { round: fields.number("round")? })
        }
        "TimeoutNow" => Body::TimeoutNow,
        "ReadIndex" => Body::ReadIndex(ReadIndex { token: fields.token()? }),
        "ReadIndexResponse" => Body::ReadIndexResponse(parse_read_answer(&fields)?),
        "StateDigest" => Body::StateDigest(parse_report(rest)?.into()),
        "InstallSnapshot" => Body::InstallSnapshot(parse_chunk(rest)?.into()),
        "InstallSnapshotResponse" => {
            let last_included_index = LogIndex(fields.first()?);
            let (offset, next_offset) = (fields.number("offset")?, fields.number("next")?);
            let response = InstallSnapshotResponse { last_included_index, offset, next_offset };
            Body::InstallSnapshotResponse(incarnation, response)
        }
        _ => return Err(format!("\"{kind}\" is no message")),
    })
}

/// `life=1 request=2`.
fn token(token: ReadToken) -> String {
    format!("life={} request={}", token.life, token.sequence)
}

fn parse_read_answer(fields: &Fields<'_>) -> Result<ReadIndexResponse, String> {
    let index = match fields.value("index")? {
        "none" => None,
        text => Some(LogIndex(number(text)?)),
    };
    Ok(ReadIndexResponse { token: fields.token()?, index, lease: fields.has("lease") })
}

/// `9@2 {1,2,3} offset=4 data=c,d done`.
pub fn chunk(chunk: &SnapshotChunk) -> String {
    let SnapshotMeta { last_included_index: index, last_included_term: term, configuration, .. } = &chunk.meta;
    let done = if chunk.done { " done" } else { "" };
    format!("{index}@{term} {{{configuration}}} offset={} data={}{done}", chunk.offset, payload(&chunk.data))
}

/// The whole state is `of=a,b,c,d`, where the data is only a part of it.
fn parse_chunk(text: &str) -> Result<SnapshotChunk, String> {
    let fields = Fields(text);
    let (last_included_index, last_included_term) = parse_position(text.split(' ').next().unwrap_or_default())?;
    let members = text.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let (members, _) = members.ok_or_else(|| format!("no members in \"{text}\": write {{1,2,3}}"))?;
    let data = parse_payload(fields.value("data")?)?;
    let state = fields.value("of").map_or(Ok(data.clone()), parse_payload)?;
    let meta = SnapshotMeta {
        last_included_index,
        last_included_term,
        digest: Some(Digest([7; 32])),
        configuration: parse_configuration(members)?,
        state: Some(state_digest(&state)),
    };
    Ok(SnapshotChunk { meta, offset: fields.number("offset")?, data, done: fields.has("done") })
}

/// `name=value` and bare words.
struct Fields<'a>(&'a str);

impl Fields<'_> {
    fn value(&self, name: &str) -> Result<&str, String> {
        let value = self.0.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.ok_or_else(|| format!("{name}= is missing in \"{}\"", self.0))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        number(self.value(name)?)
    }

    fn position(&self, name: &str) -> Result<(LogIndex, Term), String> {
        parse_position(self.value(name)?)
    }

    fn token(&self) -> Result<ReadToken, String> {
        Ok(ReadToken { life: self.number("life")?, sequence: self.number("request")? })
    }

    /// The number that it begins with.
    fn first(&self) -> Result<u64, String> {
        number(self.0.split(' ').next().unwrap_or_default())
    }

    fn has(&self, word: &str) -> bool {
        self.0.split(' ').any(|found| found == word)
    }

    fn meant(&self) -> Result<Incarnation, String> {
        self.value("voter").map_or(Ok(Incarnation::UNKNOWN), |value| number(value).map(Incarnation))
    }

    fn granted(&self) -> Result<bool, String> {
        match (self.has("granted"), self.has("refused")) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => Err("a vote is granted or refused".to_owned()),
        }
    }
}

/// `7@3`: index 7, of term 3.
fn parse_position(text: &str) -> Result<(LogIndex, Term), String> {
    let (index, term) = text.split_once('@').ok_or_else(|| format!("\"{text}\" is no position: write 7@3"))?;
    Ok((LogIndex(number(index)?), Term(number(term)?)))
}

/// `8=7`: after entry 8 a state whose digest is 32 bytes of 7.
fn digest(digest: &StateDigest) -> String {
    format!("{}={}", digest.index, digest.state.0[0])
}

/// Behind it ` restored`, where the state came in a peer's snapshot.
fn parse_report(text: &str) -> Result<StateReport, String> {
    let (digest, is_independent) = text.strip_suffix(" restored").map_or((text, true), |digest| (digest, false));
    Ok(StateReport { digest: parse_digest(digest)?, is_independent })
}

fn parse_digest(text: &str) -> Result<StateDigest, String> {
    let (index, byte) = text.split_once('=').ok_or_else(|| format!("\"{text}\" is no state's digest: write 8=7"))?;
    let byte: u64 = number(byte)?;
    let byte = u8::try_from(byte).map_err(|error| error.to_string())?;
    Ok(StateDigest { index: LogIndex(number(index)?), state: Digest([byte; 32]) })
}

/// `[1@1 -; 2@1 x; 3@1 {1,2,3}; 4@1 #3=7]`: a no-op, a command, a configuration, a state's digest.
pub fn entries(entries: &[Entry]) -> String {
    let all: Vec<String> = entries.iter().map(entry).collect();
    format!("[{}]", all.join("; "))
}

fn entry(entry: &Entry) -> String {
    let payload = match &entry.payload {
        Payload::Noop => "-".to_owned(),
        Payload::Command(bytes) => payload(bytes),
        Payload::Configuration(bytes) => {
            Configuration::from_bytes(bytes).map_or_else(|| "{?}".to_owned(), |held| format!("{{{held}}}"))
        }
        Payload::StateDigest(bytes) => {
            StateDigest::from_bytes(bytes).map_or_else(|| "#?".to_owned(), |held| format!("#{}", digest(&held)))
        }
    };
    format!("{}@{} {payload}", entry.index, entry.term)
}

/// The entries between the brackets of a text.
fn parse_entries(text: &str) -> Result<Vec<Entry>, String> {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    let inner = inner.ok_or_else(|| format!("\"{text}\" does not end with entries: write [1@1 -; 2@1 x]"))?;
    inner.split(';').map(str::trim).filter(|text| !text.is_empty()).map(parse_entry).collect()
}

fn parse_entry(text: &str) -> Result<Entry, String> {
    let (position, rest) = text.split_once(' ').ok_or_else(|| format!("\"{text}\" is no entry: write 2@1 x"))?;
    let (index, term) = parse_position(position)?;
    let payload = match rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        _ if rest == "-" => Payload::Noop,
        // What no digest encodes to.
        _ if rest == "#?" => Payload::StateDigest(Bytes::new()),
        _ if rest.starts_with('#') => Payload::StateDigest(parse_digest(&rest[1..])?.to_bytes()),
        // What no configuration encodes to.
        Some("?") => Payload::Configuration(Bytes::from_static(&[0xff; 12])),
        Some(members) => Payload::Configuration(parse_configuration(members)?.to_bytes().into()),
        None => Payload::Command(parse_payload(rest)?),
    };
    Ok(Entry { index, term, payload })
}

/// `1,2,3, outgoing 1,2, learners 4`.
fn parse_configuration(text: &str) -> Result<Configuration, String> {
    let (mut voters, mut outgoing, mut learners) = (Vec::new(), Vec::new(), Vec::new());
    for part in text.split(", ") {
        let (list, ids) = match part.split_once(' ') {
            Some(("outgoing", ids)) => (&mut outgoing, ids),
            Some(("learners", ids)) => (&mut learners, ids),
            _ => (&mut voters, part),
        };
        *list = numbers(ids)?.into_iter().map(NodeId).collect();
    }
    Ok(Configuration::joint(voters, outgoing, learners))
}

/// A word; `x*2000` is as many bytes of it.
pub fn parse_payload(word: &str) -> Result<Bytes, String> {
    match word.split_once('*') {
        Some((byte, times)) => Ok(byte.repeat(number(times)?).into()),
        None => Ok(Bytes::copy_from_slice(word.as_bytes())),
    }
}

pub fn payload(bytes: &Bytes) -> String {
    match bytes.first() {
        Some(first) if bytes.len() > 8 && bytes.iter().all(|byte| byte == first) => {
            format!("{}*{}", char::from(*first), bytes.len())
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

pub fn progress(progress: &Progress, config: &Config) -> String {
    let state = match progress.state() {
        ProgressState::Probe => "probe".to_owned(),
        ProgressState::Replicate => "replicate".to_owned(),
        ProgressState::Snapshot { index } => format!("snapshot={index}"),
    };
    let mut text = format!("match={} next={} {state}", progress.match_index(), progress.next_index());
    if progress.in_flight() > 0 {
        text += &format!(" flight={}", progress.in_flight());
    }
    if progress.is_paused(config) {
        text += " paused";
    }
    text
}

/// What a node tells its caller, besides messages and writes.
pub fn notice(action: &Action) -> String {
    match action {
        Action::MembershipChanged(configuration) => format!("members {{{configuration}}}"),
        Action::RoleChanged { role, term, leader } => match leader {
            Some(leader) if role.to_string() == "follower" => format!("{role} t{term} of {leader}"),
            _ => format!("{role} t{term}"),
        },
        Action::Apply { first, last } => format!("apply {first}..{last}"),
        Action::Restore(meta) => format!("restore {}@{}", meta.last_included_index, meta.last_included_term),
        other => terse(other),
    }
}

/// Rust's own notation without its newtypes and braces: `TransferRefused target=9 reason=NotVoter id=9`.
pub fn terse(value: &impl Debug) -> String {
    let mut text = format!("{value:?}");
    for wrapper in ["NodeId(", "LogIndex(", "Term(", "ReadId(", "WriteId(", "Some("] {
        while let Some(at) = text.find(wrapper) {
            let inside = at + wrapper.len();
            let mut depth = 1;
            let end = text[inside..].find(|c| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                depth == 0
            });
            let end = inside + end.expect("Debug closes what it opens");
            text = format!("{}{}{}", &text[..at], &text[inside..end], &text[end + 1..]);
        }
    }
    text.replace(" { ", " ").replace(" }", "").replace(": ", "=").replace(", ", " ").replace("=None", "=none")
}

/// `1,2,3`, and `none`.
pub fn numbers(text: &str) -> Result<Vec<u32>, String> {
    if text == "none" { Ok(Vec::new()) } else { text.split(',').map(number).collect() }
}

pub fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no number"))
}

#[test]
fn every_message_is_read_back_as_it_is_written() {
    let lines = [
        "1->2 t0 PreVote next=1 last=3@2",
        "1->2 t0 PreVoteResponse next=1 granted",
        "1->2 t0 PreVoteResponse next=1 refused",
        "3->1 t4 RequestVote last=3@2",
        "3->1 t4 RequestVote last=3@2 transfer",
        "3->1 t4 RequestVoteResponse granted",
        "1->2 t5 AppendEntries prev=1@1 commit=1 [2@1 -; 3@1 x; 4@2 {1,2, outgoing 2,3, learners 4}; 5@2 y*20; 6@2 #3=7; 7@2 #?]",
        "1->2 t5 AppendEntries prev=1@1 commit=1 []",
        "2->1 t5 Accepted 4",
        "2->1 t5 Rejected prev=7 hint=6@3",
        "2->1 t5 Diverged 2",
        "2->1 t5 HeartbeatResponse round=2 as=20",
        "1->2 t5 Heartbeat commit=1 round=2",
        "2->1 t5 HeartbeatResponse round=2",
        "1->2 t5 TimeoutNow",
        "2->1 t5 ReadIndex life=1 request=2",
        "1->2 t5 ReadIndexResponse life=1 request=2 index=9",
        "1->2 t5 ReadIndexResponse life=1 request=2 index=none",
        "1->2 t5 ReadIndexResponse life=1 request=2 index=9 lease",
        "1->2 t5 InstallSnapshot 9@2 {1,2, learners 4} offset=4 data=c,d done",
        "1->2 t5 InstallSnapshot 9@2 {1} offset=0 data=",
        "2->1 t5 InstallSnapshotResponse 9 offset=0 next=4",
        "2->1 t5 StateDigest 8=7",
        "2->1 t5 StateDigest 8=7 restored",
    ];
    for line in lines {
        assert_eq!(message(&parse_message(line).unwrap()), line);
    }
    for wrong in ["", "1->2", "1-2 t1 TimeoutNow", "1->2 t1 Vote", "1->2 1 TimeoutNow", "1->2 t1 Heartbeat commit=1"] {
        assert!(parse_message(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn notices_are_written_without_newtypes() {
    let reason = raft_core::Refusal::NotLeader { leader: Some(NodeId(1)) };
    assert_eq!(notice(&Action::ProposalRefused(reason)), "ProposalRefused(NotLeader leader=1)");
    let refused = Action::TransferRefused { target: NodeId(9), reason: raft_core::Refusal::NotVoter { id: NodeId(9) } };
    assert_eq!(notice(&refused), "TransferRefused target=9 reason=NotVoter id=9");
}
