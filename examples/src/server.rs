//! `server <id>`: one server of a cluster, with a prompt on its standard input for breaking things and looking inside.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use raft_core::{Configuration, LogIndex, NodeId, Replica, StateMachine, Storage, Transport};
use raft_kv::{Genesis, KvMachine, LogOptions};
use raft_net_tcp::mend::Patient;
use raft_net_tcp::protocol::MemberStatus;
use raft_net_tcp::{Control, Link, Stopped};
use rustix::process::{Signal, getpid, kill_process};

use crate::console::{self, Console, Print};
use crate::life::{Handle, Log, Prompt, config, mend, serve};
use crate::options::{CLIENT_MAX, ClusterArgs};
use crate::remedy::{History, Remedy};

/// One server of a cluster. Its commands are read from standard input: try help.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "server", version, args_override_self = true)]
pub struct Args {
    /// This server: 1 to N, or above with --join
    pub(crate) id: u16,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// This server is no founder, or one that has lost its files: it waits until a client adds it (add ID
    /// 127.0.0.1:PORT). To be given at every start
    #[arg(long)]
    pub(crate) join: bool,
    /// Its files are under DIR/server-ID
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,
    /// Client N is known as this port plus N to failLink and fixLink
    #[arg(long, value_name = "PORT", default_value_t = 7000)]
    pub(crate) client_base_port: u16,
    /// Serves Redis's clients on this port: redis-cli, redis-benchmark, libraries. Keys and values are bytes: SET k v is
    /// put b'k' b'v'
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) resp_port: Option<u16>,
    /// Delays every message by so much, for watching: 0 to 500, the same on every server. Elections take longer then
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=DELAY_MS_MAX))]
    pub(crate) delay_ms: u64,
    /// Takes a snapshot after so much of the log, which is then given back
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) snapshot_mib: u32,
    /// Keeps what snapshots make needless of the log, in the directory archive beside it
    #[arg(long)]
    pub(crate) archive: bool,
    /// Reads its files again, so many MiB a second, and mends them where they are damaged; 0 does not
    #[arg(long, value_name = "MIB", default_value_t = 4)]
    pub(crate) scrub_mib_s: u32,
    /// Records every step into a new file of DIR, for `replay`; the file holds clients' data
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// The recording ends at this size
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) record_max_mib: u64,
}

/// The longest delay, in milliseconds. With a longer one clients would give every answer up.
const DELAY_MS_MAX: u64 = 500;

/// Runs a server until it is told to stop; reports on standard error why it could not.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server {}: {error}", args.id);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    check_id(args)?;
    let addresses = args.cluster.addresses()?;
    let id = NodeId(u32::from(args.id));
    let listen = args.cluster.address(args.id)?;
    let directory = args.data_dir.join(format!("server-{id}"));

    let genesis =
        Genesis { cluster: args.cluster.cluster_id(), configuration: Configuration::new(addresses.keys().copied()) };
    let options = LogOptions { archive: args.archive, ..LogOptions::default() };
    let peers = addresses.iter().filter(|(peer, _)| **peer != id).map(|(peer, at)| (*peer, *at)).collect();
    let election_timeout = config(args, genesis.cluster.0, listen, addresses.clone()).election_timeout();
    let patient = Patient { id, dir: directory.clone(), genesis, options, peers, election_timeout };
    let (prompt, mut history) = (Prompt::default(), History::default());
    let (commands, slot) = (args.clone(), prompt.clone());
    std::thread::spawn(move || read_commands(&commands, &slot));
    loop {
        let ended = serve(args, &patient, listen, addresses.clone(), history.remarks(), &prompt)?;
        let distrust = match history.remedy(&ended) {
            None => return Ok(()),
            Some(Remedy::Anew(words)) => {
                say(&format!("server {id}: {words}"));
                history.remark(words);
                continue;
            }
            Some(Remedy::Mend) => None,
            Some(Remedy::StartOver(why)) => Some(why),
        };
        let Some(mended) = mend(&patient, distrust)? else { return Ok(()) };
        history.mended(ended, &mended);
        history.remark(mended.to_string());
    }
}

fn check_id(args: &Args) -> Result<(), String> {
    let Args { id, join, cluster: ClusterArgs { servers, .. }, .. } = args;
    if *id > 0 && (id <= servers || *join) {
        return Ok(());
    }
    Err(format!(
        "no such server: ids are 1 to {servers} (--servers says how many there are; one that is added later has another \
         id and --join)"
    ))
}

/// Until standard input ends, which ends nothing else: a server without a terminal lives on.
fn read_commands(args: &Args, prompt: &Prompt) {
    for line in std::io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { return };
        let answered = match Console::parse(&String::from_utf8_lossy(&line)) {
            Ok(None) => continue,
            Ok(Some(command)) => match prompt.lock().ok().and_then(|handle| handle.clone()) {
                Some(handle) => answer(args, &handle, command),
                None => Err(Stopped),
            },
            Err(error) => Ok(error),
        };
        match answered {
            Ok(text) if text.is_empty() => {}
            Ok(text) => say(&text),
            Err(Stopped) => say("the server does not run: its files are being mended"),
        }
    }
}

fn answer(args: &Args, handle: &Handle, command: Console) -> Result<String, Stopped> {
    Ok(match command {
        Console::FailProcess => {
            // No flush and no goodbye: what a power cut would do to this process.
            let _ = kill_process(getpid(), Signal::KILL);
            String::new()
        }
        Console::FailLink(port) => change_link(args, handle, port, true)?,
        Console::FixLink(port) => change_link(args, handle, port, false)?,
        Console::Print(what) => print(handle, what)?,
        Console::Status => handle.with_blocking(|control| console::status(&control.replica().status()))?,
        Console::Help => console::HELP.into(),
    })
}

fn change_link(args: &Args, handle: &Handle, port: u16, cut: bool) -> Result<String, Stopped> {
    let members = members(handle)?;
    let Some(link) = link_of(args, &members, port) else {
        let ports = |base: u16, count: u16| format!("{}-{}", base.saturating_add(1), base.saturating_add(count));
        let servers = ports(args.cluster.base_port, args.cluster.servers);
        let clients = ports(args.client_base_port, CLIENT_MAX);
        return Ok(format!("no such port: {port} (servers {servers} but this one, clients {clients})"));
    };
    handle.with_blocking(move |control| {
        let changed = if cut { control.links().cut(link) } else { control.links().mend(link) };
        match changed {
            Ok(()) if cut => format!("the link to {link} is broken"),
            Ok(()) => format!("the link to {link} is mended"),
            Err(error) => error.to_string(),
        }
    })
}

fn link_of(args: &Args, members: &[MemberStatus], port: u16) -> Option<Link> {
    let is_server = |id: u16| {
        let is_member = members.iter().any(|member| member.id.0 == u32::from(id));
        is_member || (1..=args.cluster.servers).contains(&id) || id == args.id
    };
    match port.checked_sub(args.cluster.base_port).filter(|id| is_server(*id)) {
        Some(id) if id != args.id => Some(Link::Server(NodeId(u32::from(id)))),
        Some(_) => None,
        None => {
            let client = port.checked_sub(args.client_base_port).filter(|id| (1..=CLIENT_MAX).contains(id));
            client.map(|id| Link::Client(u64::from(id)))
        }
    }
}

fn members(handle: &Handle) -> Result<Vec<MemberStatus>, Stopped> {
    handle.with_blocking(|control| control.status().members)
}

fn print(handle: &Handle, what: Print) -> Result<String, Stopped> {
    match what {
        Print::Blockchain => print_blocks(handle),
        Print::KvStore => handle.with_blocking(|control| {
            let pairs: Vec<String> = control.replica().machine().pairs().map(|pair| console::pair(&pair)).collect();
            if pairs.is_empty() { "the store is empty".into() } else { pairs.join("\n") }
        }),
        Print::Depth => handle.with_blocking(|control| control.replica().status().last_index.to_string()),
        Print::RequestQueue => handle.with_blocking(request_queue),
        Print::BrokenLinks => handle.with_blocking(|control| {
            let links: Vec<String> = control.links().iter().map(|link| link.to_string()).collect();
            if links.is_empty() { "no link is broken".into() } else { links.join("\n") }
        }),
        Print::ServerList => {
            let line = |member: &MemberStatus| {
                let address = member.address.as_deref().unwrap_or("address unknown");
                format!("server {}: {address}", member.id)
            };
            Ok(members(handle)?.iter().map(line).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// A part at a time, so that a long chain does not hold up the server.
fn print_blocks(handle: &Handle) -> Result<String, Stopped> {
    const PART: u64 = 200;
    say(&handle.with_blocking(|control| {
        let genesis = control.storage().inner().genesis();
        format!("block 0 term 0 decided\n  {genesis}\n  hash {}", genesis.block().hash)
    })?);
    let mut next = LogIndex(1);
    loop {
        let (text, last) = handle.with_blocking(move |control| blocks(control.replica(), next, PART))?;
        match last {
            Some(last) => {
                say(&text);
                next = last.next();
            }
            None => return Ok(text),
        }
    }
}

/// At most `count` blocks from `first` on, and the last of them; none and a remark at the end or where reading fails.
fn blocks<S: Storage, T: Transport, M: StateMachine>(
    replica: &Replica<S, T, M>,
    first: LogIndex,
    count: u64,
) -> (String, Option<LogIndex>) {
    let (node, status) = (replica.node(), replica.status());
    if first > status.last_index {
        return (String::new(), None);
    }
    let last = status.last_index.min(LogIndex(first.0.saturating_add(count.saturating_sub(1))));
    let entries = match node.entries(first, last) {
        Ok(entries) => entries,
        Err(error) => return (format!("block {first} cannot be read: {error}"), None),
    };
    let hash = |index| node.digest(index).ok().flatten();
    let text: Vec<String> = entries
        .iter()
        .map(|entry| console::block(entry, hash(entry.index.prev()), hash(entry.index), status.commit_index))
        .collect();
    (text.join("\n"), entries.last().map(|entry| entry.index))
}

/// Requests in blocks that are not applied yet, then those that wait for a block.
fn request_queue(control: &mut Control<'_, Log, KvMachine>) -> String {
    let replica = control.replica();
    let status = replica.status();
    let mut lines = Vec::new();
    let mut next = status.last_applied.next();
    while let Ok(entries) = replica.node().entries(next, status.last_index) {
        let Some(last) = entries.last() else { break };
        for entry in entries.iter() {
            let commands = raft_core::Commands::of(entry.payload.bytes());
            lines.extend(commands.map(|command| format!("{} (block {})", console::request(command), entry.index)));
        }
        next = last.index.next();
    }
    lines.extend(replica.queued().map(|command| format!("{} (waits for a block)", console::request(command))));
    if lines.is_empty() { "no request waits".into() } else { lines.join("\n") }
}

/// Prints to standard output; nobody may be listening there any more.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
