//! Carries out one command of a client and says what came of it, for people and for programs.

use raft_core::{Digest, NodeId};
use raft_kv::literal::Literal;
use raft_kv::{Key, Outcome, Pair, Value};
use raft_net_tcp::protocol::{MemberStatus, ServerStatus, Standing};
use raft_net_tcp::{ClientError, KvAnswer, KvClient, KvError, Members};
use serde_json::{Map, Value as Json, json};

use crate::command::{Command, CommandError};
use crate::console;

mod history;

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// For programs: one JSON object.
    pub json: Json,
    /// For people, on standard output; empty where it failed.
    pub text: String,
    /// For people, on standard error.
    pub note: Option<String>,
    /// Which server answered, and at which block.
    pub origin: Option<(NodeId, u64)>,
    /// How the process ends if this was its only command.
    pub exit: Exit,
}

/// Exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// The command failed: it did not happen.
    Failed = 1,
    /// The command makes no sense.
    Usage = 2,
    /// Nobody could be reached, or nobody leads: it did not happen.
    Unreachable = 3,
    /// Time ran out: it may have happened.
    Unknown = 4,
}

impl From<&KvError> for Exit {
    fn from(error: &KvError) -> Self {
        match error {
            error if error.is_unknown() => Self::Unknown,
            KvError::Client(
                ClientError::Refused(_)
                | ClientError::NotChanged(_)
                | ClientError::Unfinished(_)
                | ClientError::History(_),
            )
            | KvError::Malformed { .. } => Self::Failed,
            _ => Self::Unreachable,
        }
    }
}

/// What stands for a key that is not there.
pub const MISSING: &str = "KEY_DOES_NOT_EXIST";

/// Carries out `command`. `Help` and `Exit` are the caller's.
pub async fn execute(client: &mut KvClient, command: &Command) -> Response {
    let name = command.name();
    let result = match command {
        Command::Get(key) => get(client, key).await,
        Command::Put(key, value) => written(name, client.put(Key::from(key), Value::from(value)).await),
        Command::Del(key) => written(name, client.delete(Key::from(key)).await),
        Command::Cas(key, expected, new) => {
            let (expected, new) = (Value::from(expected), Value::from(new));
            written(name, client.compare_and_swap(Key::from(key), expected, new).await)
        }
        Command::Scan { prefix, limit } => scan(client, prefix.as_ref(), *limit).await,
        Command::Verify => history::verify(client).await,
        Command::Prove(key) => history::prove(client, key).await,
        Command::Status => Ok(status(client).await),
        Command::Members => members(client).await,
        Command::Add(id, address) => changed(name, client.operator().add_member(*id, address).await),
        Command::Remove(id) => changed(name, client.operator().remove_member(*id).await),
        Command::Help | Command::Exit => Ok(Response::ok(name, String::new(), [])),
    };
    result.unwrap_or_else(|error| Response::failed(name, &error))
}

impl Response {
    /// A line that is no command.
    #[must_use]
    pub fn misuse(line: &str, error: &CommandError) -> Self {
        let name = line.split_whitespace().next().unwrap_or_default();
        Self { note: Some(error.0.clone()), ..Self::error(name, &error.0, Exit::Usage) }
    }

    fn ok(name: &str, text: String, fields: impl IntoIterator<Item = (&'static str, Json)>) -> Self {
        let mut json = Map::from_iter([("command".into(), json!(name)), ("ok".into(), json!(true))]);
        json.extend(fields.into_iter().map(|(field, value)| (field.to_owned(), value)));
        Self { json: json.into(), text, note: None, origin: None, exit: Exit::Ok }
    }

    fn error(name: &str, error: &str, exit: Exit) -> Self {
        let json = json!({"command": name, "ok": false, "unknown": exit == Exit::Unknown, "error": error});
        Self { json, text: String::new(), note: Some(format!("{name}: {error}")), origin: None, exit }
    }

    fn failed(name: &str, error: &KvError) -> Self {
        Self::error(name, &error.to_string(), Exit::from(error))
    }

    fn from<T>(mut self, answer: &KvAnswer<T>) -> Self {
        self.origin = Some((answer.server, answer.height));
        self
    }
}

async fn get(client: &mut KvClient, key: &Literal) -> Result<Response, KvError> {
    let answer = client.get(key.key().into()).await?;
    let found = answer.value.is_some();
    let text = answer.value.as_ref().map_or_else(|| MISSING.into(), |value| console::literal(&value.0));
    let fields = [("found", json!(found)), ("result", json!(text))];
    Ok(Response::ok("get", text, fields).from(&answer))
}

fn written(name: &str, answer: Result<KvAnswer<Outcome>, KvError>) -> Result<Response, KvError> {
    let answer = answer?;
    let result = match &answer.value {
        Outcome::Success | Outcome::Swapped | Outcome::Deleted { existed: true } => "success".to_owned(),
        Outcome::Deleted { existed: false } => MISSING.to_owned(),
        Outcome::Transaction { committed: true, .. } => "success".to_owned(),
        Outcome::Added { sum } => sum.to_string(),
        Outcome::Transaction { committed: false, .. } | Outcome::NotAdded => {
            return Ok(Response::error(name, &answer.value.to_string(), Exit::Failed).from(&answer));
        }
        Outcome::NotSwapped { actual } => {
            let actual = actual.as_ref().map_or_else(|| MISSING.into(), |value| console::literal(&value.0));
            let error = format!("not swapped: the value is {actual}");
            return Ok(Response::error(name, &error, Exit::Failed).from(&answer));
        }
    };
    let fields = [("result", json!(result)), ("height", json!(answer.height)), ("hash", hash(answer.hash))];
    Ok(Response::ok(name, result, fields).from(&answer))
}

async fn scan(client: &mut KvClient, prefix: Option<&Literal>, limit: u32) -> Result<Response, KvError> {
    let prefix = prefix.map(|prefix| prefix.key().into());
    let answer = client.scan(prefix, None, limit).await?;
    let pairs = &answer.value.pairs;
    let text: Vec<String> = pairs.iter().map(console::pair).collect();
    let shown = |pair: &Pair| json!([console::literal(pair.key.shown()), console::literal(&pair.value.0)]);
    let result: Vec<Json> = pairs.iter().map(shown).collect();
    let fields = [("result", json!(result)), ("more", json!(answer.value.more))];
    let mut response = Response::ok("scan", text.join("\n"), fields).from(&answer);
    response.note = match (answer.value.more, pairs.len()) {
        (true, shown) => Some(format!("scan: {shown} pairs shown, there are more: give a prefix or a higher limit")),
        (false, 0) => Some("scan: no such keys".into()),
        (false, _) => None,
    };
    Ok(response)
}

async fn status(client: &mut KvClient) -> Response {
    let servers = client.status().await;
    let line = |(id, status): &(NodeId, Result<ServerStatus, ClientError>)| match status {
        Ok(status) => status_text(status),
        Err(error) => format!("server {id}: {}", unreachable(error)),
    };
    let text: Vec<String> = servers.iter().map(line).collect();
    let object = |(id, status): &(NodeId, Result<ServerStatus, ClientError>)| match status {
        Ok(status) => status_json(status),
        Err(error) => json!({"server": id.0, "error": unreachable(error)}),
    };
    if servers.iter().all(|(_, status)| status.is_err()) {
        return Response::error("status", "no server can be reached", Exit::Unreachable);
    }
    let result: Vec<Json> = servers.iter().map(object).collect();
    Response::ok("status", text.join("\n"), [("result", json!(result))])
}

/// Who takes part, as the leader has it; where there is none, as another server does, which is said.
async fn members(client: &KvClient) -> Result<Response, KvError> {
    let Members { members, server, leader } = client.operator().members().await?;
    let mark = match leader {
        Some(leader) if leader == server => None,
        Some(leader) => Some(format!("as far as server {server} knows, server {leader} leads, which does not answer")),
        None => Some(format!("as far as server {server} knows, there is no leader")),
    };
    // Who leads waits for others to vote, where anybody does, and says so itself.
    let nobody_waits = leader.is_none_or(|leader| leader == server);
    let lines = members.iter().map(|member| member_text(member, nobody_waits));
    let text: Vec<String> = mark.into_iter().chain(lines).collect();
    let result: Vec<Json> = members.iter().map(member_json).collect();
    let fields = [("result", json!(result)), ("by", json!(server.0)), ("leader", json!(leader.map(|leader| leader.0)))];
    Ok(Response::ok("members", text.join("\n"), fields))
}

/// Who takes part from now on.
fn changed(name: &str, members: Result<Vec<MemberStatus>, ClientError>) -> Result<Response, KvError> {
    let members = members?;
    let text: Vec<String> = members.iter().map(|member| member_text(member, true)).collect();
    let result: Vec<Json> = members.iter().map(member_json).collect();
    Ok(Response::ok(name, text.join("\n"), [("result", json!(result))]))
}

fn member_text(member: &MemberStatus, nobody_waits: bool) -> String {
    let MemberStatus { id, standing, address } = member;
    let address = address.as_deref().unwrap_or("address unknown");
    match standing {
        Standing::Learner if nobody_waits => {
            format!("server {id}: {address}, {standing}: add {id} again to have it vote")
        }
        standing => format!("server {id}: {address}, {standing}"),
    }
}

fn member_json(member: &MemberStatus) -> Json {
    json!({"server": member.id.0, "address": member.address, "standing": member.standing.to_string()})
}

/// Why a server says nothing of itself. That nothing was done goes without saying.
#[must_use]
pub fn unreachable(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { reason } => reason.clone(),
        error => error.to_string(),
    }
}

/// One server's status in a line or, for a leader, a line more a follower.
#[must_use]
pub fn status_text(status: &ServerStatus) -> String {
    let leader = status.leader.map_or_else(|| "none".into(), |leader| leader.to_string());
    let head = status.head.map_or_else(|| "none".into(), |head| format!("{head:.16}"));
    let mut text = format!(
        "server {}: {}, term {}, leader {leader}, last {}, commit {}, applied {}, head {head}",
        status.id, status.role, status.term, status.last_index, status.commit_index, status.last_applied,
    );
    for (id, match_index) in &status.followers {
        let lag = status.last_index.0.saturating_sub(match_index.0);
        text.push_str(&format!("\n  follower {id}: match {match_index}, lag {lag}"));
    }
    for id in disks_lost(status) {
        text.push_str(&format!("\n  server {id} has lost its disk: remove it, then add it again"));
    }
    for remark in &status.remarks {
        text.push_str(&format!("\n  {remark}"));
    }
    if !status.has_room {
        text.push_str("\n  its disk is full: no writes until there is room");
    }
    if let Some(fault) = &status.fault {
        text.push_str(&format!("\n  halted: {fault}"));
    }
    text
}

/// The members that have lost their disks, as far as this server knows: a leader of all, another of itself.
fn disks_lost(status: &ServerStatus) -> impl Iterator<Item = NodeId> {
    status.members.iter().filter(|member| member.standing == Standing::Replaced).map(|member| member.id)
}

fn status_json(status: &ServerStatus) -> Json {
    let follower = |(id, match_index): &(NodeId, raft_core::LogIndex)| json!({"server": id.0, "match": match_index.0});
    json!({
        "server": status.id.0,
        "role": status.role.to_string(),
        "term": status.term.0,
        "leader": status.leader.map(|leader| leader.0),
        "last": status.last_index.0,
        "durable": status.persisted_index.0,
        "commit": status.commit_index.0,
        "applied": status.last_applied.0,
        "head": hash(status.head),
        "followers": status.followers.iter().map(follower).collect::<Vec<Json>>(),
        "remarks": status.remarks,
        "disk_full": !status.has_room,
        "disks_lost": disks_lost(status).map(|id| id.0).collect::<Vec<u32>>(),
        "fault": status.fault.as_ref().map(ToString::to_string),
    })
}

fn hash(digest: Option<Digest>) -> Json {
    json!(digest.map(|digest| digest.to_string()))
}
