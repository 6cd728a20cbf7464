//! `client bench`: loads a cluster and says how many requests it answers, and how fast.
//!
//! A closed loop: each client has a connection and a session of its own, and asks again as soon as it is answered. A round
//! has so many clients; those that were answered while it was measured count. A latency is the time from a client's request to its
//! answer, retries included. What is measured is the cluster and this program together: on one machine they share its cores.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use raft_kv::literal::Literal;
use raft_kv::{Key, Value};
use raft_net_tcp::handshake::Role;
use raft_net_tcp::{ClientOptions, Identity, KvClient, KvError};
use serde_json::json;
use tokio::task::JoinSet;

use crate::execute::Exit;
use crate::options::{CLIENT_MAX, ClusterArgs};
use crate::progress;
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

/// Why there are no figures.
struct Failed {
    what: String,
    exit: Exit,
}

impl From<KvError> for Failed {
    fn from(error: KvError) -> Self {
        Self { what: error.to_string(), exit: Exit::from(&error) }
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
    let mut exit = Exit::Ok;
    for (at, clients) in args.clients.iter().enumerate() {
        let round = runtime.block_on(round(args, *clients, at == 0))?;
        if let Some(error) = &round.taken.error {
            complain(&format!("client bench: {} requests failed, the first: {error}", round.taken.failed));
            exit = Exit::Failed;
        }
        if !say(&if args.json { round.json(args) } else { round.lines(args) }) {
            break;
        }
    }
    Ok(exit)
}

fn heading(args: &Args) -> String {
    let ClusterArgs { servers, base_port, cluster } = &args.cluster;
    format!(
        "cluster {cluster}, {servers} servers from port {} on; values of {} bytes under {} keys; {} s a round after {} s to warm up\n\
         each put is answered when a majority has it on disk, each get is linearizable\n\
         clients            a second   p50 us   p99 us p99.9 us   max us",
        u32::from(*base_port) + 1,
        args.size,
        args.keys,
        args.seconds,
        args.warm_up,
    )
}

/// What was measured with so many clients.
struct Round {
    clients: u16,
    taken: Taken,
    /// CPU time of each process, in microseconds an answer.
    cpu_us: Vec<f64>,
}

/// Requests that were answered while it was measured: how long each took, in microseconds.
#[derive(Default)]
struct Taken {
    puts: Vec<u64>,
    gets: Vec<u64>,
    failed: u64,
    /// The first error.
    error: Option<String>,
}

/// When requests count.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

async fn round(args: &Args, clients: u16, is_first: bool) -> Result<Round, Failed> {
    let keys_to_fill = if is_first && args.read_ratio > 0.0 { args.keys } else { u32::from(clients) };
    let bar = progress::bar("keys are filled {wide_bar} {pos}/{len}", u64::from(keys_to_fill));
    let mut opening = JoinSet::new();
    for client in 0..u32::from(clients) {
        let load = Load::new(args, client)?;
        let (keys, bar) = ((client..keys_to_fill).step_by(usize::from(clients)), bar.clone());
        opening.spawn(load.open(keys, bar));
    }
    let mut loads = Vec::with_capacity(usize::from(clients));
    while let Some(opened) = opening.join_next().await {
        loads.push(opened.map_err(|error| error.to_string())??);
    }
    bar.finish_and_clear();
    let from = Instant::now() + Duration::from_secs(args.warm_up.into());
    let window = Window { from, until: from + Duration::from_secs(args.seconds.into()) };
    let mut running: JoinSet<Taken> = loads.into_iter().map(|load| load.run(window)).collect();
    let cpu_us = watch(args, clients, window).await?;
    let mut taken = Taken::default();
    while let Some(more) = running.join_next().await {
        taken.add(more.map_err(|error| error.to_string())?);
    }
    taken.puts.sort_unstable();
    taken.gets.sort_unstable();
    let answers = (taken.puts.len() + taken.gets.len()).max(1) as f64;
    Ok(Round { clients, taken, cpu_us: cpu_us.into_iter().map(|us| us / answers).collect() })
}

/// Shows how far the round is, and gives the CPU time that each process took in its window, in microseconds.
async fn watch(args: &Args, clients: u16, window: Window) -> Result<Vec<f64>, Failed> {
    const EVERY: Duration = Duration::from_millis(100);
    let times = || args.pids.iter().map(|pid| cpu_us(*pid)).collect::<Result<Vec<f64>, String>>();
    let began = Instant::now();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bar = progress::bar("{msg} {wide_bar} {eta} left", millis(window.until - began));
    bar.set_message(format!("{clients} clients"));
    let mut before = None;
    while Instant::now() < window.until {
        bar.set_position(millis(began.elapsed()));
        if before.is_none() && Instant::now() >= window.from {
            before = Some(times()?);
        }
        tokio::time::sleep(EVERY).await;
    }
    let after = times()?;
    bar.finish_and_clear();
    Ok(after.into_iter().zip(before.unwrap_or_default()).map(|(after, before)| after - before).collect())
}

/// The CPU time of a process so far.
fn cpu_us(pid: u32) -> Result<f64, String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.map_err(|error| format!("--pids {pid}: {error}"))?;
    // Its name is in parentheses, and may have spaces; the times are the 12th and 13th behind it.
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .into_iter()
        .flat_map(|rest| rest.split_whitespace().skip(11).take(2))
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64)
}

/// One client and what it asks.
struct Load {
    client: KvClient,
    keys: u32,
    value: Value,
    read_ratio: f64,
    /// Draws keys and kinds.
    random: u64,
}

impl Load {
    fn new(args: &Args, number: u32) -> Result<Self, String> {
        // Beyond the ids of clients that people start.
        let client = u64::from(CLIENT_MAX) + 1 + u64::from(number);
        let identity = Identity { cluster: args.cluster.cluster_id().0, client, role: Role::Client };
        let client = KvClient::new(args.cluster.addresses()?, identity, ClientOptions::default());
        let value = Value::from(&Literal::Bytes(vec![b'x'; usize::try_from(args.size).unwrap_or(usize::MAX)]));
        Ok(Self { client, keys: args.keys, value, read_ratio: args.read_ratio, random: u64::from(number) + 1 })
    }

    /// Opens its session, and puts what is to be found under these keys.
    async fn open(mut self, keys: impl Iterator<Item = u32>, bar: indicatif::ProgressBar) -> Result<Self, KvError> {
        for key in keys {
            self.client.put(key_of(key % self.keys), self.value.clone()).await?;
            bar.inc(1);
        }
        Ok(self)
    }

    async fn run(mut self, window: Window) -> Taken {
        let mut taken = Taken::default();
        loop {
            let began = Instant::now();
            if began >= window.until {
                return taken;
            }
            let key = key_of(u32::try_from(self.draw() % u64::from(self.keys)).unwrap_or(0));
            let is_get = (self.draw() % 1_000_000) as f64 / 1e6 < self.read_ratio;
            let answer = if is_get {
                self.client.get(key.canonical).await.map(drop)
            } else {
                self.client.put(key, self.value.clone()).await.map(drop)
            };
            let ended = Instant::now();
            match answer {
                Ok(()) if ended >= window.from && ended < window.until => {
                    let took = u64::try_from((ended - began).as_micros()).unwrap_or(u64::MAX);
                    if is_get { taken.gets.push(took) } else { taken.puts.push(took) }
                }
                Ok(()) => {}
                Err(error) => {
                    taken.failed += 1;
                    taken.error.get_or_insert_with(|| error.to_string());
                }
            }
        }
    }

    /// Some number: of a linear congruence, whose high bits are used.
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }
}

fn key_of(number: u32) -> Key {
    Key::from(&Literal::Bytes(format!("bench-{number:010}").into_bytes()))
}

impl Taken {
    fn add(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.gets.extend(other.gets);
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, &Vec<u64>)> {
        [("puts", &self.puts), ("gets", &self.gets)].into_iter().filter(|(_, times)| !times.is_empty())
    }
}

impl Round {
    fn lines(&self, args: &Args) -> String {
        let line = |(kind, times): (&str, &Vec<u64>)| {
            let a_second = times.len() as f64 / f64::from(args.seconds);
            let [p50, p99, p999, max] = QUANTILES.map(|part| quantile(times, part));
            format!("{:>7} {kind} {a_second:>14.0} {p50:>8} {p99:>8} {p999:>8} {max:>8}", self.clients)
        };
        let mut lines: Vec<String> = self.taken.kinds().map(line).collect();
        if !self.cpu_us.is_empty() {
            let each: Vec<String> = self.cpu_us.iter().map(|us| format!("{us:.1}")).collect();
            lines.push(format!("        CPU us an answer, each server: {}", each.join(" ")));
        }
        lines.join("\n")
    }

    fn json(&self, args: &Args) -> String {
        let kinds: serde_json::Map<_, _> = self
            .taken
            .kinds()
            .map(|(kind, times)| {
                let [p50, p99, p999, max] = QUANTILES.map(|part| quantile(times, part));
                let a_second = times.len() as f64 / f64::from(args.seconds);
                let figures =
                    json!({"per_second": a_second, "p50_us": p50, "p99_us": p99, "p99_9_us": p999, "max_us": max});
                (kind.to_owned(), figures)
            })
            .collect();
        let (clients, failed, cpu_us) = (self.clients, self.taken.failed, &self.cpu_us);
        json!({
            "clients": clients, "size": args.size, "keys": args.keys, "read_ratio": args.read_ratio,
            "seconds": args.seconds, "answered": kinds, "failed": failed, "cpu_us_an_answer": cpu_us,
        })
        .to_string()
    }
}

/// In thousandths; the last is the longest.
const QUANTILES: [usize; 4] = [500, 990, 999, 1000];

/// The time below which this part of them are, in thousandths, of times in order.
fn quantile(times: &[u64], part: usize) -> u64 {
    let at = (times.len().saturating_mul(part) / 1000).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times: Vec<u64> = (1..=1000).collect();
        assert_eq!(QUANTILES.map(|part| quantile(&times, part)), [501, 991, 1000, 1000]);
        assert_eq!(QUANTILES.map(|part| quantile(&[7], part)), [7; 4]);
        assert_eq!(quantile(&[], 500), 0);
    }

    #[test]
    fn the_cpu_time_of_a_process_is_read() {
        let own = std::process::id();
        let before = cpu_us(own).unwrap();
        while cpu_us(own).unwrap() - before < 20_000.0 {
            std::hint::spin_loop();
        }
        assert!(cpu_us(u32::MAX).unwrap_err().contains("--pids"));
    }
}
