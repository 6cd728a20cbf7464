//! What a server's memory holds: when it has nothing to do, and with a million keys.
//!
//! `cargo build --release --bin server && cargo run --release -p raft-benches --example memory`
//!
//! Real servers on loopback, one alone and three in a cluster, are looked at when they have just started, and again when clients
//! have filled them and all have applied everything. Keys are ascending, bytes literals of 16 bytes as the client prints
//! them: `b'key-000000000001'`. What is stored is the bytes of keys and values that the clients gave, and nothing else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::ProgressBar;
use raft_benches::figures::{bar, end, write};
use raft_core::NodeId;
use raft_kv::literal::Literal;
use raft_kv::{ClusterId, Key, Operation, Outcome, Value};
use raft_net_tcp::handshake::Role;
use raft_net_tcp::{ClientOptions, Identity, KvClient};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Measures the memory of servers that are idle, and of servers that are full.
#[derive(Parser)]
#[command(name = "memory", version)]
struct Args {
    /// The server's program
    #[arg(long, value_name = "FILE", default_value = "target/release/server")]
    server: PathBuf,
    /// A cluster of so many servers, for each number
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,3",
          value_parser = clap::value_parser!(u16).range(1..=9))]
    servers: Vec<u16>,
    /// Keys that are put
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Bytes in a value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1 << 14))]
    size: u32,
    /// Puts in a transaction
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=64))]
    transaction: u64,
    /// Clients that fill, each with one transaction under way
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    clients: u64,
    /// How long servers are left alone before they are looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    idle: u64,
    /// Gives up filling after so long
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    at_most: u64,
    /// Server N listens on this port plus N
    #[arg(long, value_name = "PORT", default_value_t = 27_400, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    base_port: u16,
    /// Where the servers' files are, in a directory that is removed at the end
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Writes every figure there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const CLUSTER: &str = "memory";
const KEY_BYTES: u64 = 16;
const MIB: f64 = 1_048_576.0;

/// What a process holds, in MiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// All of it that is resident.
    rss: f64,
    /// Without what is a file's: heap and stacks.
    anonymous: f64,
    /// The most that was ever resident.
    peak: f64,
}

impl Memory {
    fn of(process: u32) -> Result<Self, String> {
        let file = format!("/proc/{process}/status");
        let status = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}; this is for Linux"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.map(|kib| kib * 1024.0 / MIB).ok_or_else(|| format!("{file} has no {name}: has the server ended?"))
        };
        Ok(Self { rss: field("VmRSS")?, anonymous: field("RssAnon")?, peak: field("VmHWM")? })
    }

    fn json(self) -> serde_json::Value {
        let Self { rss, anonymous, peak } = self;
        json!({"rss_mib": rss, "anonymous_mib": anonymous, "peak_mib": peak})
    }
}

/// The servers of one cluster: killed when this is dropped, and their files removed.
struct Servers {
    processes: Vec<Child>,
    base_port: u16,
    _dir: TempDir,
}

impl Servers {
    fn start(args: &Args, count: u16) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("memory-").tempdir_in(&args.dir);
        let dir = dir.map_err(|error| format!("{}: {error}; --dir names another", args.dir.display()))?;
        let mut servers = Self { processes: Vec::new(), base_port: args.base_port, _dir: dir };
        for id in 1..=count {
            let process = servers.spawn(&args.server, id, count).map_err(|error| {
                format!("{}: {error}; cargo build --release --bin server makes it", args.server.display())
            })?;
            servers.processes.push(process);
        }
        Ok(servers)
    }

    fn spawn(&self, program: &Path, id: u16, count: u16) -> std::io::Result<Child> {
        let mut command = Command::new(program);
        command.arg(id.to_string()).args(["--cluster", CLUSTER, "--servers", &count.to_string()]);
        command.args(["--base-port", &self.base_port.to_string()]).arg("--data-dir").arg(self._dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    fn client(&self, number: u64) -> KvClient {
        let address = |id: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + id));
        let ids = 1..=u16::try_from(self.processes.len()).unwrap();
        let addresses: BTreeMap<_, _> = ids.map(|id| (NodeId(id.into()), address(id))).collect();
        let identity = Identity { cluster: ClusterId::from_name(CLUSTER).0, client: 1000 + number, role: Role::Client };
        let options = ClientOptions { deadline: Duration::from_secs(30), ..ClientOptions::default() };
        KvClient::new(addresses, identity, options)
    }

    /// Until all of them have applied as much as the furthest, and one leads.
    async fn settled(&mut self) -> Result<(), String> {
        let (mut client, until) = (self.client(0), Instant::now() + Duration::from_secs(60));
        loop {
            let answers = client.status().await;
            let up: Vec<_> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
            let last = up.iter().map(|status| status.last_index).max();
            let leads = up.iter().any(|status| status.leader.is_some());
            let is_even = up.iter().all(|status| Some(status.last_applied) == last);
            if leads && is_even && up.len() == self.processes.len() {
                return Ok(());
            }
            if let Some(ended) = self.processes.iter_mut().find_map(|process| process.try_wait().ok().flatten()) {
                return Err(format!("a server ended: {ended}; are ports {} and on free?", self.base_port + 1));
            }
            if Instant::now() > until {
                return Err(format!("the servers do not settle: {answers:?}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What each holds, once nothing has been asked of them for so long.
    async fn memory(&mut self, idle: Duration) -> Result<Vec<Memory>, String> {
        self.settled().await?;
        tokio::time::sleep(idle).await;
        self.processes.iter().map(|process| Memory::of(process.id())).collect()
    }

    /// Puts all keys, each client its part of them.
    async fn fill(&self, args: &Args) -> Result<(), String> {
        let bar = bar("keys are put", args.keys);
        let mut clients = JoinSet::new();
        for number in 0..args.clients {
            clients.spawn(put_part(self.client(1 + number), number, Part::of(args), bar.clone()));
        }
        let all = async {
            while let Some(ended) = clients.join_next().await {
                ended.map_err(|error| error.to_string())??;
            }
            Ok(())
        };
        let at_most = Duration::from_secs(args.at_most);
        let filled = tokio::time::timeout(at_most, all).await;
        bar.finish_and_clear();
        filled.unwrap_or_else(|_| Err(format!("not filled in {} s: --at-most is more, --keys fewer", args.at_most)))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that has ended is what is wanted.
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// What clients put together.
struct Part {
    keys: u64,
    transaction: u64,
    clients: u64,
    value: Value,
}

impl Part {
    fn of(args: &Args) -> Self {
        let value = Value::from(&Literal::Bytes(vec![b'x'; usize::try_from(args.size).unwrap()]));
        Self { keys: args.keys, transaction: args.transaction, clients: args.clients, value }
    }
}

async fn put_part(mut client: KvClient, number: u64, part: Part, bar: ProgressBar) -> Result<(), String> {
    let put = |key: u64| {
        let key = Key::from(&Literal::Bytes(format!("key-{key:012}").into_bytes()));
        Operation::Put { key, value: part.value.clone() }
    };
    let mut first = number * part.transaction;
    while first < part.keys {
        let end = part.keys.min(first + part.transaction);
        let operations = (first..end).map(put).collect();
        let answer = client.write(Operation::Transaction { operations }).await.map_err(|error| error.to_string())?;
        if !matches!(answer.value, Outcome::Transaction { committed: true, .. }) {
            return Err(format!("a transaction was not done: {}", answer.value));
        }
        bar.inc(end - first);
        first += part.transaction * part.clients;
    }
    Ok(())
}

fn main() -> ExitCode {
    end("memory", run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot run: {error}"))?;
    let stored = args.keys * (KEY_BYTES + u64::from(args.size));
    println!(
        "{} keys of {KEY_BYTES} B with values of {} B: {:.1} MiB are stored; idle, at most 20 MiB are wanted, full at most 2.5x\n\n\
         | servers | server | idle MiB | full MiB | of these anonymous | at the peak | full / stored | full less idle / stored |\n\
         |---|---|---|---|---|---|---|---|",
        args.keys,
        args.size,
        stored as f64 / MIB
    );
    let mut figures = Vec::new();
    for count in &args.servers {
        let (idle, full) = runtime.block_on(measure(args, *count))?;
        for (number, (idle, full)) in idle.iter().zip(&full).enumerate() {
            let ratio = |mib: f64| mib * MIB / stored as f64;
            println!(
                "| {count} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2}x | {:.2}x |",
                number + 1,
                idle.rss,
                full.rss,
                full.anonymous,
                full.peak,
                ratio(full.rss),
                ratio(full.rss - idle.rss)
            );
            figures.push(json!({"servers": count, "server": number + 1, "stored_bytes": stored,
                                "idle": idle.json(), "full": full.json(), "ratio": ratio(full.rss)}));
        }
    }
    write(args.json.as_deref(), &json!(figures).to_string())
}

async fn measure(args: &Args, count: u16) -> Result<(Vec<Memory>, Vec<Memory>), String> {
    let mut servers = Servers::start(args, count)?;
    let time = Duration::from_secs(args.idle);
    let idle = servers.memory(time).await?;
    servers.fill(args).await?;
    Ok((idle, servers.memory(time).await?))
}
