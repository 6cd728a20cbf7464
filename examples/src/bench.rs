//! `client bench`: loads a cluster and says how many requests it answers, and how fast. See [`load`](crate::load).

use std::process::ExitCode;
use std::time::Duration;

use raft_kv::literal::Literal;
use raft_kv::{Key, Value};
use raft_net_tcp::handshake::Role;
use raft_net_tcp::{ClientOptions, Connections, Identity, KvClient, KvError};

use crate::execute::Exit;
use crate::load::{HEADING, Load, Target, Unmeasured};
use crate::options::{CLIENT_MAX, ClusterArgs};
use crate::prompt::{complain, say};

/// Loads a cluster that runs: each client asks again as soon as it is answered. Every put is answered once a majority of the
/// servers has it on disk, every get is linearizable. It writes under keys of its own, the bytes b'bench-...'
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "client bench", version, args_override_self = true)]
pub struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// A round with so many clients, for each number
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,16,64,256",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: Vec<u16>,
    /// So many clients share a connection, as the tasks of one program do that uses the library so
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    share: u16,
    /// Bytes in a value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    size: u32,
    /// So many keys, any of which a request is about
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// The part of requests that are gets: 0 none, 1 all
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = ratio)]
    read_ratio: f64,
    /// How long a round is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// How long a round runs before that
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=3600))]
    warm_up: u16,
    /// The servers' processes on this machine: the CPU time that each needs for a request is shown
    #[arg(long, value_name = "PID,PID", value_delimiter = ',')]
    pids: Vec<u32>,
    /// Prints a JSON object a round
    #[arg(long)]
    json: bool,
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| String::from("a number from 0 to 1"))?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(String::from("it is from 0 to 1")) }
}

impl Target for KvClient {
    type Error = KvError;

    async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), KvError> {
        Self::put(self, Key::of_bytes(key), Value::of_bytes(value)).await.map(drop)
    }

    async fn get(&mut self, key: &[u8]) -> Result<(), KvError> {
        Self::get(self, Literal::key_of_bytes(key).into()).await.map(drop)
    }
}

/// Why there are no figures.
struct Failed {
    what: String,
    exit: Exit,
}

impl From<Unmeasured<KvError>> for Failed {
    fn from(error: Unmeasured<KvError>) -> Self {
        match error {
            Unmeasured::Target(error) => Self { what: error.to_string(), exit: Exit::from(&error) },
            Unmeasured::Own(what) => what.into(),
        }
    }
}

impl From<String> for Failed {
    fn from(what: String) -> Self {
        Self { what, exit: Exit::Usage }
    }
}

/// Runs every round; exit codes are those of a client, and 1 where a request failed.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    let exit = run(args).unwrap_or_else(|Failed { what, exit }| {
        complain(&format!("client bench: {what}"));
        exit
    });
    ExitCode::from(exit as u8)
}

fn run(args: &Args) -> Result<Exit, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot run: {error}"))?;
    if !args.json && !say(&heading(args)) {
        return Ok(Exit::Ok);
    }
    let load = Load {
        value_bytes: usize::try_from(args.size).unwrap_or(usize::MAX),
        keys: args.keys,
        read_ratio: args.read_ratio,
        warm_up: Duration::from_secs(args.warm_up.into()),
        measured: Duration::from_secs(args.seconds.into()),
        pids: args.pids.clone(),
    };
    let mut exit = Exit::Ok;
    for (at, clients) in args.clients.iter().enumerate() {
        let clients = clients_of(args, *clients)?;
        let round = runtime.block_on(load.round(clients, at == 0 && args.read_ratio > 0.0))?;
        if let Some(error) = &round.error {
            complain(&format!("client bench: {} requests failed, the first: {error}", round.failed));
            exit = Exit::Failed;
        }
        if !say(&if args.json { round.json().to_string() } else { round.lines() }) {
            break;
        }
    }
    Ok(exit)
}

/// So many, with ids beyond those of clients that people start.
fn clients_of(args: &Args, count: u16) -> Result<Vec<KvClient>, String> {
    let identity = |number: u16| {
        let client = u64::from(CLIENT_MAX) + 1 + u64::from(number);
        Identity { cluster: args.cluster.cluster_id().0, client, role: Role::Client }
    };
    let addresses = args.cluster.addresses()?;
    let client = |number| KvClient::new(addresses.clone(), identity(number), ClientOptions::default());
    if args.share == 1 {
        return Ok((0..count).map(client).collect());
    }
    let shared: Vec<Connections> = (0..count.div_ceil(args.share)).map(identity).map(Connections::new).collect();
    let connections = shared.iter().flat_map(|one| std::iter::repeat_n(one, args.share.into()));
    Ok((0..count).zip(connections).map(|(number, shared)| client(number).sharing(shared.clone())).collect())
}

fn heading(args: &Args) -> String {
    let ClusterArgs { servers, base_port, cluster } = &args.cluster;
    let Args { size, keys, seconds, warm_up, share, .. } = args;
    let share = if *share == 1 { String::new() } else { format!("; {share} clients a connection") };
    let first = u32::from(*base_port) + 1;
    format!(
        "cluster {cluster}, {servers} servers from port {first} on; values of {size} bytes under {keys} keys; {seconds} s a \
         round after {warm_up} s to warm up{share}\neach put is answered when a majority has it on disk, each get is \
         linearizable\n{HEADING}"
    )
}
