//! `client <id>`: one command, a script from a pipe, or a prompt.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use raft_kv::proof::Head;
use raft_net_tcp::handshake::Role;
use raft_net_tcp::{ClientOptions, Identity, KvClient};
use tokio::runtime::Runtime;

use crate::command::{self, Command};
use crate::execute::{Exit, Response, execute};
use crate::options::{CLIENT_MAX, ClusterArgs};
use crate::prompt::{Prompt, complain, say};

/// A client of the cluster. With a command it runs that; at a terminal it prompts; from a pipe it reads a script, a
/// command a line. client bench --help tells how to load the cluster and measure it.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "client", version, args_override_self = true, after_help = AFTER_HELP)]
pub struct Args {
    /// This client: 1 to 999. Each start is a session of its own
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(CLIENT_MAX)))]
    id: u16,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How results are printed: Python's repr, or one line of JSON a command
    #[arg(short, long, value_enum, default_value_t = Format::Repr)]
    output: Format,
    /// How long a command may take: 10s, 500ms; a plain number is seconds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    timeout: Duration,
    /// Remembers the newest head of the chain that was verified in FILE, across starts, and checks with every connection
    /// that the server's history goes on from there. The servers must keep every block for that
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// A script goes on after a command that fails
    #[arg(long)]
    keep_going: bool,
    /// The command and its literals: put "'key'" "[1, 2]"
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Repr,
    Json,
}

const AFTER_HELP: &str = "\
Commands: get <key>, put <key> <value>, del <key>, cas <key> <expected> <new>, scan [prefix] [limit], verify,
  prove <key>, status, members, add <id> <host:port>, remove <id>, help, exit
Keys and values are Python literals; the shell takes one level of quotes away: client 1 put \"'key'\" 5
Exit codes: 0 ok, 1 the command failed, 2 usage, 3 nobody reachable or no leader, 4 timed out, outcome unknown";

fn time(text: &str) -> Result<Duration, humantime::DurationError> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    }
}

/// Runs a client; the exit code is that of the first command that failed.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            complain(&format!("client {}: {error}", args.id));
            ExitCode::from(Exit::Usage as u8)
        }
    }
}

fn run(args: &Args) -> Result<Exit, String> {
    let identity = Identity { cluster: args.cluster.cluster_id().0, client: u64::from(args.id), role: Role::Client };
    let check_history = args.head.is_some();
    let options = ClientOptions { deadline: args.timeout, check_history, ..ClientOptions::default() };
    let mut client = KvClient::new(args.cluster.addresses()?, identity, options);
    if let Some(head) = args.head.as_deref().map(remembered).transpose()?.flatten() {
        client.remember(head);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot run: {error}"))?;
    if !args.command.is_empty() {
        return Ok(run_line(args, &runtime, &mut client, args.command.join(" ").as_bytes())?.unwrap_or(Exit::Ok));
    }
    let mut prompt = Prompt::open(&format!("client {}> ", args.id), command::NAMES.to_vec())?;
    let mut first_failure = Exit::Ok;
    while let Some(line) = prompt.next_line()? {
        let Some(exit) = run_line(args, &runtime, &mut client, &line)? else { break };
        if exit != Exit::Ok && !prompt.is_terminal() {
            first_failure = if first_failure == Exit::Ok { exit } else { first_failure };
            if !args.keep_going {
                break;
            }
        }
    }
    Ok(first_failure)
}

/// Runs one line; `None` where it is the last.
fn run_line(args: &Args, runtime: &Runtime, client: &mut KvClient, line: &[u8]) -> Result<Option<Exit>, String> {
    let before = client.remembered();
    let response = match Command::parse_bytes(line) {
        Ok(None) => return Ok(Some(Exit::Ok)),
        Ok(Some(Command::Exit)) => return Ok(None),
        Ok(Some(Command::Help)) if args.output == Format::Repr => {
            return Ok(say(command::HELP).then_some(Exit::Ok));
        }
        Ok(Some(command)) => runtime.block_on(execute(client, &command)),
        Err(error) => Response::misuse(&String::from_utf8_lossy(line), &error),
    };
    if let (Some(note), Format::Repr) = (&response.note, args.output) {
        complain(note);
    }
    let heard = match args.output {
        Format::Json => say(&response.json.to_string()),
        Format::Repr => response.text.is_empty() || say(&response.text),
    };
    if let (Some(path), Some(head)) = (&args.head, client.remembered().filter(|head| before != Some(*head))) {
        keep(path, &head)?;
    }
    Ok(heard.then_some(response.exit))
}

/// The head in a file, as `chain` reads it as well; none where there is no file yet.
fn remembered(path: &Path) -> Result<Option<Head>, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("--head {}: {error}", path.display());
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unusable(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&error)),
    }
}

/// Keeps a head in a file: the old one or the new one is there, whatever happens.
fn keep(path: &Path, head: &Head) -> Result<(), String> {
    let unusable = |error: &dyn std::fmt::Display| format!("--head {}: {error}", path.display());
    let json = serde_json::to_string_pretty(head).map_err(|error| unusable(&error))?;
    let new = path.with_added_extension("new");
    let written = std::fs::write(&new, format!("{json}\n")).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| unusable(&error))
}
