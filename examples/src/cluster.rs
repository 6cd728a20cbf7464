//! `cluster`: the demo. Starts servers as child processes and gives a prompt to use them and to break them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use raft_core::{NodeId, RoleName};
use raft_net_tcp::handshake::Role;
use raft_net_tcp::{ClientOptions, Identity, KvClient};
use tokio::runtime::Runtime;

use crate::children::Children;
use crate::command::{self, Command};
use crate::execute::{Response, execute, status_text, unreachable};
use crate::options::{CLIENT_MAX, ClusterArgs};
use crate::prompt::{Prompt, complain, say};

/// Starts the servers of a cluster as child processes, and prompts: use it, break it, watch it go on.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "cluster", version, args_override_self = true)]
pub struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The servers' files and logs are under DIR
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Server N serves Redis's clients on this port plus N
    #[arg(long, value_name = "PORT")]
    resp_base_port: Option<u16>,
}

/// One line of the demo's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(u16),
    Start(u16),
    Pause(u16),
    Resume(u16),
    Cut(u16, u16),
    Mend(u16, u16),
    Servers,
}

const HELP: &str = "\
kill <id>                   ends a server at once, as by kill -9
start <id>                  starts it again
pause <id>, resume <id>     stops a server's process (SIGSTOP), and lets it go on
cut <a> <b>, mend <a> <b>   breaks the link between two servers, and mends it
servers                     every server: its role, its term, its log";

/// How long a leader may take to be found.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the demo until its input ends.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cluster: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let addresses = args.cluster.addresses()?;
    let identity = Identity { cluster: args.cluster.cluster_id().0, client: u64::from(CLIENT_MAX), role: Role::Client };
    let mut client = KvClient::new(addresses, identity, ClientOptions::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot run: {error}"))?;
    let mut children = Children::start(&args.cluster, &args.data_dir, args.resp_base_port)?;
    let last_port = args.cluster.base_port.saturating_add(args.cluster.servers);
    say(&format!(
        "{} servers start on ports {} to {last_port}; their files and logs are in {}",
        args.cluster.servers,
        args.cluster.base_port.saturating_add(1),
        args.data_dir.display()
    ));
    let leader = wait_for_leader(&runtime, &mut client, &mut children)?;
    say(&leader);
    let mut prompt = Prompt::open("cluster> ", names())?;
    if prompt.is_terminal() {
        say("Try: put 'greeting' 'hello', get 'greeting', kill 1, servers, help");
    }
    while let Some(line) = prompt.next_line()? {
        if !run_line(&String::from_utf8_lossy(&line), args.cluster.servers, &runtime, &mut client, &mut children) {
            break;
        }
    }
    Ok(())
}

/// `false` where the line is the last.
fn run_line(line: &str, servers: u16, runtime: &Runtime, client: &mut KvClient, children: &mut Children) -> bool {
    let done = match Fault::parse(line, servers) {
        Ok(Some(Fault::Servers)) => Ok(list(runtime, client, children)),
        Ok(Some(fault)) => fault.inflict(children),
        Ok(None) => return run_command(line, runtime, client),
        Err(error) => Err(error),
    };
    match done {
        Ok(text) => say(&text),
        Err(error) => {
            complain(&error);
            true
        }
    }
}

/// A client's command; the answer says which server gave it, and at which block.
fn run_command(line: &str, runtime: &Runtime, client: &mut KvClient) -> bool {
    let response = match Command::parse(line) {
        Ok(None) => return true,
        Ok(Some(Command::Exit)) => return false,
        Ok(Some(Command::Help)) => return say(&format!("{}\n{HELP}", command::HELP)),
        Ok(Some(command)) => runtime.block_on(execute(client, &command)),
        Err(error) => Response::misuse(line, &error),
    };
    let origin = response.origin.map_or_else(String::new, |(server, height)| {
        // Behind several lines it would look like part of the last.
        let place = if response.text.contains('\n') { "\n" } else { "  " };
        format!("{place}(server {server}, block {height})")
    });
    match &response.note {
        Some(note) if response.text.is_empty() => complain(&format!("{note}{origin}")),
        Some(note) => complain(note),
        None => {}
    }
    response.text.is_empty() || say(&format!("{}{origin}", response.text))
}

impl Fault {
    /// `None` where the line is none of these.
    fn parse(line: &str, servers: u16) -> Result<Option<Self>, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let id = |word: &str| {
            let known = word.parse().ok().filter(|id| (1..=servers).contains(id));
            known.ok_or_else(|| format!("no such server: {word} (1 to {servers})"))
        };
        Ok(Some(match words[..] {
            ["kill", a] => Self::Kill(id(a)?),
            ["start", a] => Self::Start(id(a)?),
            ["pause", a] => Self::Pause(id(a)?),
            ["resume", a] => Self::Resume(id(a)?),
            ["cut", a, b] => Self::Cut(id(a)?, id(b)?),
            ["mend", a, b] => Self::Mend(id(a)?, id(b)?),
            ["servers"] => Self::Servers,
            [name @ ("kill" | "start" | "pause" | "resume"), ..] => return Err(format!("usage: {name} <server>")),
            [name @ ("cut" | "mend"), ..] => return Err(format!("usage: {name} <server> <server>")),
            _ => return Ok(None),
        }))
    }

    fn inflict(self, children: &mut Children) -> Result<String, String> {
        match self {
            Self::Kill(id) => children.kill(id).map(|()| format!("server {id}: killed")),
            Self::Start(id) => children.start_one(id).map(|()| format!("server {id}: started")),
            Self::Pause(id) => children.pause(id).map(|()| format!("server {id}: paused")),
            Self::Resume(id) => children.resume(id).map(|()| format!("server {id}: goes on")),
            Self::Cut(a, b) => children.cut(a, b).map(|()| format!("link {a}-{b}: cut")),
            Self::Mend(a, b) => children.mend(a, b).map(|()| format!("link {a}-{b}: mended")),
            Self::Servers => Ok(String::new()),
        }
    }
}

/// Every server in a line; a server that does not run is not asked.
fn list(runtime: &Runtime, client: &mut KvClient, children: &mut Children) -> String {
    let statuses = runtime.block_on(client.status());
    let line = |(id, status): &(NodeId, Result<_, _>)| match (children.state(*id), status) {
        (Some(state), _) => format!("server {id}: {state}"),
        (None, Ok(status)) => status_text(status),
        (None, Err(error)) => format!("server {id}: {}", unreachable(error)),
    };
    statuses.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn wait_for_leader(runtime: &Runtime, client: &mut KvClient, children: &mut Children) -> Result<String, String> {
    let start = Instant::now();
    loop {
        children.check()?;
        for (_, status) in runtime.block_on(client.status()) {
            if let Ok(status) = status
                && status.role == RoleName::Leader
            {
                return Ok(format!("server {} leads in term {}", status.id, status.term));
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("no leader within {PATIENCE:?}: look into the servers' logs"));
        }
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }
}

fn names() -> Vec<&'static str> {
    let faults = ["kill", "start", "pause", "resume", "cut", "mend", "servers"];
    command::NAMES.into_iter().chain(faults).collect()
}
