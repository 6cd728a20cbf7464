//! Three servers of ours, etcd's three and one Redis, each durable, loaded by one generator, one after the other, again and
//! again: `benches/servers/run` builds what is needed and calls this.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;
use raft_examples::load::{Load, Round, Target, Unmeasured};
use raft_kv::ClusterId;
use raft_net_tcp::handshake::Role;
use raft_net_tcp::{ClientOptions, Connections, Identity, KvClient};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

mod etcd;
mod redis;

/// Loads our servers, etcd and Redis in turn, every server durable and on this machine, and shows them side by side: medians over the
/// repetitions, and ratios of ours to each.
#[derive(clap::Parser)]
struct Args {
    /// Our server's program
    #[arg(long, value_name = "FILE", default_value = "target/release/server")]
    server: PathBuf,
    /// Who is measured
    #[arg(long, value_delimiter = ',', default_value = "raft,shared,etcd,redis")]
    who: Vec<Who>,
    /// A round with so many clients, for each number
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,16,64,256")]
    clients: Vec<usize>,
    /// Bytes in a value
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// So many keys
    #[arg(long, default_value_t = 10_000)]
    keys: u32,
    /// The part of requests that are gets: 0 none, 1 all
    #[arg(long, default_value_t = 0.0)]
    read_ratio: f64,
    /// How long a round is measured
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often each round is repeated
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Where the servers' files are, in a directory that is removed at the end: on a disk, or nothing is durable
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Writes every round as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Who {
    /// Ours, each client with a connection of its own, as Redis's.
    Raft,
    /// Ours, clients that share connections, as etcd's.
    Shared,
    Etcd,
    Redis,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Raft => "ours, 3 servers",
            Self::Shared => "ours, 64 clients a connection",
            Self::Etcd => "etcd, 3 members",
            Self::Redis => "Redis, 1 server",
        }
    }

    /// Ports from here on are its own.
    const fn base_port(self) -> u16 {
        match self {
            Self::Raft | Self::Shared => 27_100,
            Self::Etcd => 27_200,
            Self::Redis => 27_300,
        }
    }

    fn commands(self, args: &Args, dir: &Path) -> Vec<Command> {
        match self {
            Self::Raft | Self::Shared => (1..=3_u16)
                .map(|id| {
                    let mut command = Command::new(&args.server);
                    command.arg(id.to_string()).args(["--cluster", CLUSTER, "--base-port"]);
                    command.arg(self.base_port().to_string()).arg("--data-dir").arg(dir);
                    command
                })
                .collect(),
            Self::Etcd => etcd::commands(dir, self.base_port()),
            Self::Redis => vec![redis::command(dir, self.base_port())],
        }
    }

    /// Clients of our servers.
    fn ours(self, clients: usize) -> Vec<KvClient> {
        let addresses: BTreeMap<_, _> = (1..=3_u16)
            .map(|id| (raft_core::NodeId(id.into()), ([127, 0, 0, 1], self.base_port() + id).into()))
            .collect();
        let cluster = ClusterId::from_name(CLUSTER).0;
        let identity = |number: usize| Identity { cluster, client: 1000 + number as u64, role: Role::Client };
        let shared: Vec<_> =
            (0..clients.div_ceil(CLIENTS_A_CONNECTION)).map(|number| Connections::new(identity(number))).collect();
        let client = |number: usize| {
            let client = KvClient::new(addresses.clone(), identity(number), ClientOptions::default());
            match shared.get(number / CLIENTS_A_CONNECTION) {
                Some(shared) if self == Self::Shared => client.sharing(shared.clone()),
                _ => client,
            }
        };
        (0..clients).map(client).collect()
    }

    /// Whom of us it is compared with: whoever connects as its clients do, if measured.
    fn beside(self, args: &Args) -> Option<Self> {
        match self {
            Self::Etcd => [Self::Shared, Self::Raft].into_iter().find(|ours| args.who.contains(ours)),
            Self::Redis => Some(Self::Raft),
            Self::Raft | Self::Shared => None,
        }
    }
}

const CLUSTER: &str = "beside-peers";

/// How many clients share a connection: it is how etcd's own benchmark is told to do for its best throughput.
const CLIENTS_A_CONNECTION: usize = 64;

/// Servers that run, until this is [stopped](Self::stop) or dropped.
struct Servers {
    who: Who,
    processes: Vec<Child>,
    _dir: TempDir,
}

impl Servers {
    fn start(who: Who, args: &Args) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("beside-peers-").tempdir_in(&args.dir);
        let dir = dir.map_err(|error| format!("{}: {error}", args.dir.display()))?;
        let start = |mut command: Command| {
            let program = command.as_std().get_program().to_string_lossy().into_owned();
            // Our servers end with their input.
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            command.spawn().map_err(|error| format!("{program} does not start: {error}"))
        };
        let processes = who.commands(args, dir.path()).into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { who, processes, _dir: dir })
    }

    async fn round(&self, args: &Args, clients: usize, fills: bool) -> Result<Round, String> {
        let load = Load {
            value_bytes: args.size,
            keys: args.keys,
            read_ratio: args.read_ratio,
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(args.seconds),
            pids: self.processes.iter().filter_map(Child::id).collect(),
        };
        let port = self.who.base_port();
        match self.who {
            Who::Raft | Who::Shared => measured(&load, self.who.ours(clients), fills).await,
            Who::Etcd => measured(&load, etcd::targets(port, clients).await?, fills).await,
            Who::Redis => measured(&load, redis::targets(port, clients).await?, fills).await,
        }
    }

    /// Kills them, and removes their files when they have ended.
    async fn stop(mut self) {
        for process in &mut self.processes {
            // One that has ended is what is wanted.
            drop(process.kill().await);
        }
    }

    /// Waits until they answer.
    async fn ready(&mut self, args: &Args) -> Result<(), String> {
        let once = Load {
            value_bytes: 1,
            keys: 1,
            read_ratio: 0.0,
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(100),
            pids: Vec::new(),
        };
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let port = self.who.base_port();
            let answered = match self.who {
                Who::Raft | Who::Shared => measured(&once, self.who.ours(1), false).await,
                Who::Etcd => match etcd::targets(port, 1).await {
                    Ok(targets) => measured(&once, targets, false).await,
                    Err(error) => Err(error),
                },
                Who::Redis => match redis::targets(port, 1).await {
                    Ok(targets) => measured(&once, targets, false).await,
                    Err(error) => Err(error),
                },
            };
            let Err(error) = answered else { return Ok(()) };
            if let Some(ended) = self.processes.iter_mut().find_map(|process| process.try_wait().ok().flatten()) {
                return Err(format!("{} ended: {ended}; is it installed, and its port free?", self.who.name()));
            }
            if Instant::now() > until {
                return Err(format!("{} does not answer under {}: {error}", self.who.name(), args.dir.display()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn measured<T: Target<Error: std::fmt::Display>>(
    load: &Load,
    targets: Vec<T>,
    fills: bool,
) -> Result<Round, String> {
    let round = load.round(targets, fills).await.map_err(|error| match error {
        Unmeasured::Target(error) => error.to_string(),
        Unmeasured::Own(what) => what,
    })?;
    match &round.error {
        Some(error) => Err(format!("{} requests failed, the first: {error}", round.failed)),
        None => Ok(round),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(&args)));
    if let Err(error) = ended {
        eprintln!("servers: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(args: &Args) -> Result<(), String> {
    let mut rounds: Vec<(Who, Round)> = Vec::new();
    for repetition in 1..=args.repeat {
        for who in &args.who {
            let mut servers = Servers::start(*who, args)?;
            servers.ready(args).await?;
            for (at, clients) in args.clients.iter().enumerate() {
                let round = servers.round(args, *clients, at == 0 && args.read_ratio > 0.0).await?;
                eprintln!("{}, repetition {repetition} of {}\n{}", who.name(), args.repeat, round.lines());
                rounds.push((*who, round));
            }
            servers.stop().await;
        }
    }
    if let Some(file) = &args.json {
        let all: Vec<_> = rounds.iter().map(|(who, round)| json!({"who": who.name(), "round": round.json()})).collect();
        let text = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?;
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    print!("{}", table(args, &rounds));
    Ok(())
}

/// The medians of each, a line for each number of clients and kind of request, and how ours compare.
fn table(args: &Args, rounds: &[(Who, Round)]) -> String {
    let mut out = format!("medians of {} rounds of {} s, values of {} bytes\n\n", args.repeat, args.seconds, args.size);
    out += "| clients | | a second | p50 us | p99 us | CPU us an answer, all servers | ours are |\n|---|---|---|---|---|---|---|\n";
    for (clients, kind) in args.clients.iter().flat_map(|clients| ["puts", "gets"].map(|kind| (*clients, kind))) {
        let of = |who: Who| {
            let all: Vec<_> = rounds
                .iter()
                .filter(|(one, round)| *one == who && round.clients == clients)
                .filter_map(|(_, round)| {
                    Some((round.kinds().find(|(name, _)| *name == kind)?.1, round.cpu_us.iter().sum()))
                })
                .collect();
            let median_of =
                |figure: fn(&(raft_examples::load::Figures, f64)) -> f64| median(all.iter().map(figure).collect());
            Some([
                median_of(|(figures, _)| figures.a_second)?,
                median_of(|(figures, _)| figures.p50_us as f64)?,
                median_of(|(figures, _)| figures.p99_us as f64)?,
                median_of(|(_, cpu)| *cpu)?,
            ])
        };
        for who in &args.who {
            let Some([a_second, p50, p99, cpu]) = of(*who) else { continue };
            let ours = who.beside(args).and_then(of);
            let ratio = ours.map(|ours| format!("{:.2}x", ours[0] / a_second));
            let ratio = ratio.unwrap_or_default();
            let _ = writeln!(
                out,
                "| {clients} {kind} | {} | {a_second:.0} | {p50:.0} | {p99:.0} | {cpu:.1} | {ratio} |",
                who.name()
            );
        }
    }
    out
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
