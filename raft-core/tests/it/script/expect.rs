//! What a script expects: each fact is a name, mostly a node, and what it must be.

use raft_core::{Action, Message, Node, RoleName};

use super::notation::{self, number, parse_link};
use super::trace;
use super::world::World;
use crate::cluster::all_entries;

/// Holds the group against a fact.
pub fn check(world: &mut World, not: bool, fact: &str) -> Result<(), String> {
    let (name, rest) = fact.split_once(' ').unwrap_or((fact, ""));
    let (holds, found) = match name {
        "sent" => sent(world, rest)?,
        "notice" => notices(world, rest)?,
        "silence" => {
            let sent: Vec<String> = messages(world).map(notation::message).collect();
            (sent.is_empty(), sent.join("\n    "))
        }
        "progress" => progress(world, rest)?,
        "recovery" => return recover(world),
        _ => {
            let (found, wanted) = value(world, name, rest)?;
            (is_so(&found, &wanted)?, found)
        }
    };
    if holds == not {
        Err(format!("expected {}{fact}, found:\n    {found}", if not { "not " } else { "" }))
    } else {
        Ok(())
    }
}

/// A fact about the group or about one node: what is, and what is wanted.
fn value(world: &mut World, name: &str, rest: &str) -> Result<(String, String), String> {
    let of_group = match name {
        "leader" => Some(none_if_empty(&world.cluster()?.leaders())),
        "reads" => Some(world.cluster()?.safety.unanswered_reads().to_string()),
        "terms-led" => Some(world.cluster()?.safety.terms_led().len().to_string()),
        "under-way" => Some(world.cluster()?.network.len().to_string()),
        _ => None,
    };
    if let Some(found) = of_group {
        return Ok((found, rest.to_owned()));
    }
    let (node, wanted) = rest.split_once(' ').unwrap_or((rest, ""));
    let id: u32 = number(node)?;
    let status = world.status(id)?;
    let cluster = world.node(id)?;
    let node = cluster.node(id);
    let found = match name {
        "role" => status.role.to_string(),
        "term" => status.term.to_string(),
        "vote" => trace::or_none(node.voted_for()),
        "follows" => trace::or_none(status.leader),
        "last" => status.last_index.to_string(),
        "commit" => status.commit_index.to_string(),
        "applied" => status.last_applied.to_string(),
        "durable" => status.persisted_index.to_string(),
        "pending" => node.storage().pending().to_string(),
        "log" => trace::terms(&status, &all_entries(node)),
        "entries" => notation::entries(&all_entries(node)),
        "same-log" => {
            let other: u32 = number(wanted)?;
            let (mine, others) = (all_entries(node), all_entries(world.node(other)?.node(other)));
            return Ok((notation::entries(&mine), notation::entries(&others)));
        }
        "commands" => {
            let commands: Vec<String> = cluster.applied[id as usize - 1].iter().map(notation::payload).collect();
            if commands.is_empty() { "none".to_owned() } else { commands.join(" ") }
        }
        "members" => format!("{{{}}}", status.configuration),
        "snapshot" => status.snapshot_index.to_string(),
        "first" => status.first_index.to_string(),
        "receiving" => {
            let received = |(index, bytes)| format!("{index}+{bytes}");
            status.receiving.map_or_else(|| "none".to_owned(), received)
        }
        "lease" => status.lease.map_or_else(|| "none".to_owned(), |ticks| ticks.to_string()),
        "uncommitted" => status.uncommitted_bytes.to_string(),
        "transfer" => trace::or_none(status.transfer),
        "promotion" => trace::promotion(&status),
        "halted" => status.fault.as_ref().map_or_else(|| "no".to_owned(), notation::terse),
        _ => return Err(format!("\"{name}\" is no fact: see README.md beside the scripts")),
    };
    Ok((found, wanted.to_owned()))
}

/// Equal, or a number that is `>4`, `>=4`, `<4` or `<=4`.
fn is_so(found: &str, wanted: &str) -> Result<bool, String> {
    let compare = |bound: &str, holds: fn(u64, u64) -> bool| Ok(holds(number(found)?, number(bound)?));
    if let Some(bound) = wanted.strip_prefix(">=") {
        return compare(bound, |found, bound| found >= bound);
    }
    if let Some(bound) = wanted.strip_prefix("<=") {
        return compare(bound, |found, bound| found <= bound);
    }
    match wanted.split_at_checked(1) {
        Some((">", bound)) => compare(bound, |found, bound| found > bound),
        Some(("<", bound)) => compare(bound, |found, bound| found < bound),
        _ if wanted.is_empty() => Err("what should it be?".to_owned()),
        _ => Ok(found == wanted),
    }
}

fn messages(world: &World) -> impl Iterator<Item = &Message> {
    world.last.iter().flat_map(|step| &step.actions).filter_map(|action| match action {
        Action::Send(message) => Some(message),
        _ => None,
    })
}

/// `1->2 Heartbeat commit=1`, with or without the term: of the last command, a message that begins so.
fn sent(world: &World, wanted: &str) -> Result<(bool, String), String> {
    let (link, wanted) = wanted.split_once(' ').unwrap_or((wanted, ""));
    let (from, to) = parse_link(link)?;
    let of_link = messages(world).filter(|message| (message.from.0, message.to.0) == (from, to));
    let sent: Vec<String> =
        of_link.map(|message| format!("t{} {}", message.term, notation::body(&message.body))).collect();
    let begins_so = |text: &&String| {
        let without_term = text.split_once(' ').map_or("", |(_, body)| body);
        begins(text, wanted) || begins(without_term, wanted)
    };
    Ok((sent.iter().any(|text| begins_so(&text)), sent.join("\n    ")))
}

/// `1 ReadReady read=7`: of the last command, what node 1 told its caller begins so.
fn notices(world: &World, wanted: &str) -> Result<(bool, String), String> {
    let (node, wanted) = wanted.split_once(' ').unwrap_or((wanted, ""));
    let node: u32 = number(node)?;
    let is_notice = |action: &&Action| !matches!(action, Action::Send(_) | Action::Persist(_));
    let steps = world.last.iter().filter(|step| step.id == node);
    let told: Vec<String> = steps.flat_map(|step| &step.actions).filter(is_notice).map(notation::notice).collect();
    Ok((told.iter().any(|text| begins(text, wanted)), told.join("\n    ")))
}

/// Whether a text begins with these words, the last of them whole.
fn begins(text: &str, words: &str) -> bool {
    text.strip_prefix(words)
        .is_some_and(|rest| words.is_empty() || rest.is_empty() || !rest.starts_with(|c: char| c.is_alphanumeric()))
}

/// `1 2 match=4 probe`: of what node 1 knows of node 2, these words.
fn progress(world: &mut World, wanted: &str) -> Result<(bool, String), String> {
    let words: Vec<&str> = wanted.split(' ').collect();
    let [node, follower, words @ ..] = &words[..] else {
        return Err("progress of whom, and on which node?".to_owned());
    };
    let (node, follower): (u32, u32) = (number(node)?, number(follower)?);
    let config = world.config().clone();
    let status = world.status(node)?;
    let known = status.followers.iter().find(|(id, _)| id.0 == follower);
    let found = known.map_or_else(|| "unknown".to_owned(), |(_, progress)| notation::progress(progress, &config));
    Ok((words.iter().all(|word| found.split(' ').any(|found| found == *word)), found))
}

/// All faults end: within ten election timeouts a leader commits a new entry, every member of its configuration has
/// applied the same commands up to it, every read is answered, and no server has found fault with another.
fn recover(world: &mut World) -> Result<(), String> {
    world.cluster()?.mend();
    world.cluster()?.down.clear();
    world.set_sync(true, &[])?;
    world.settle()?;
    let cluster = world.cluster()?;
    for _ in 0..10 * 15 / 6 {
        let newest = cluster.leaders().into_iter().max_by_key(|leader| cluster.term(*leader));
        if let Some(leader) = newest {
            cluster.propose(leader, "after");
        }
        cluster.run(6);
        // A server that was removed learns of nothing more: its reads fail after an election timeout.
        let is_over = |leader| is_whole(cluster, leader) && cluster.safety.unanswered_reads() == 0;
        if !newest.is_some_and(is_over) {
            continue;
        }
        let blames = |notice: &Action| matches!(notice, Action::PeerDiverged { .. } | Action::MessageDropped { .. });
        return match cluster.notices.iter().find(|(_, notice)| blames(notice)) {
            Some((id, notice)) => Err(format!("node {id} blames a correct server: {}", notation::notice(notice))),
            None => Ok(()),
        };
    }
    let states: Vec<_> = cluster.nodes.iter().map(Node::status).collect();
    let reads = cluster.safety.unanswered_reads();
    Err(format!("no recovery within ten election timeouts, {reads} reads not answered: {states:#?}"))
}

/// Every member of the leader's configuration has applied the same commands, up to the last.
fn is_whole(cluster: &crate::cluster::Cluster, leader: u32) -> bool {
    let status = cluster.node(leader).status();
    let first = &cluster.applied[leader as usize - 1];
    let members = status.configuration.members();
    status.role == RoleName::Leader
        && !status.configuration.is_joint()
        && first.last().is_some_and(|last| last == "after")
        && members.iter().all(|id| cluster.applied[id.0 as usize - 1] == *first)
}

fn none_if_empty(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(" ") }
}
