//! A closed loop of requests: how many are answered, and how long each takes.
//!
//! Each client asks again as soon as it is answered. A round has so many clients; requests that were answered while it was measured
//! count. A latency is the time from a client's request to its answer, retries included. What is measured is the servers
//! and this program together: on one machine they share its cores.

use std::fmt::Display;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::progress;

/// Who is asked: one client, with a connection of its own.
pub trait Target: Send + 'static {
    /// Why there is no answer.
    type Error: Display + Send + 'static;

    /// Stores a value.
    fn put(&mut self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Reads one; whether there is any is all the same.
    fn get(&mut self, key: &[u8]) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What is asked, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Bytes in a value.
    pub value_bytes: usize,
    /// So many keys, any of which a request is about; one at least.
    pub keys: u32,
    /// The part of requests that are gets, from 0 to 1.
    pub read_ratio: f64,
    /// How long a round runs before it is measured.
    pub warm_up: Duration,
    /// How long it is measured.
    pub measured: Duration,
    /// Processes of which the CPU time is measured.
    pub pids: Vec<u32>,
}

/// What was measured with so many clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// So many.
    pub clients: usize,
    /// How long each put took that was answered, in microseconds, ascending.
    pub puts: Vec<u64>,
    /// The same of gets.
    pub gets: Vec<u64>,
    /// Requests without an answer.
    pub failed: u64,
    /// Why the first of them had none.
    pub error: Option<String>,
    /// How long it was measured, in seconds.
    pub seconds: f64,
    /// CPU time of each process, in microseconds an answer.
    pub cpu_us: Vec<f64>,
}

/// Why nothing was measured.
#[derive(Debug)]
pub enum Unmeasured<E> {
    /// A client had no answer to its first request.
    Target(E),
    /// It is this program's fault, or a process is not there.
    Own(String),
}

/// When requests count.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Load {
    /// Measures these clients, each of which puts its share of the first keys beforehand, so that it is connected: one at least, or
    /// all that there are, where `fills`.
    ///
    /// # Errors
    /// A client has no answer to such a put, or a process cannot be looked at.
    pub async fn round<T: Target>(&self, targets: Vec<T>, fills: bool) -> Result<Round, Unmeasured<T::Error>> {
        let own = |error: &dyn Display| Unmeasured::Own(error.to_string());
        let clients = targets.len();
        let keys = if fills { usize::try_from(self.keys).unwrap_or(clients).max(clients) } else { clients };
        let bar = progress::bar("keys are filled {wide_bar} {pos}/{len}", u64::try_from(keys).unwrap_or(0));
        let mut opening = JoinSet::new();
        for (number, target) in targets.into_iter().enumerate() {
            let client = Client::new(self, target, number);
            let (share, bar) = ((number..keys).step_by(clients), bar.clone());
            opening.spawn(client.open(share, move || bar.inc(1)));
        }
        let mut opened = Vec::with_capacity(clients);
        while let Some(client) = opening.join_next().await {
            opened.push(client.map_err(|error| own(&error))?.map_err(Unmeasured::Target)?);
        }
        bar.finish_and_clear();
        let from = Instant::now() + self.warm_up;
        let window = Window { from, until: from + self.measured };
        let mut running: JoinSet<Round> = opened.into_iter().map(|client| client.run(window)).collect();
        let cpu_us = self.watch(clients, window).await.map_err(|error| own(&error))?;
        let mut round = Round { clients, seconds: self.measured.as_secs_f64(), ..Round::default() };
        while let Some(one) = running.join_next().await {
            round.add(one.map_err(|error| own(&error))?);
        }
        round.puts.sort_unstable();
        round.gets.sort_unstable();
        let answers = (round.puts.len() + round.gets.len()).max(1) as f64;
        round.cpu_us = cpu_us.into_iter().map(|us| us / answers).collect();
        Ok(round)
    }

    /// Shows how far the round is, and gives the CPU time that each process took in its window, in microseconds.
    async fn watch(&self, clients: usize, window: Window) -> Result<Vec<f64>, String> {
        const EVERY: Duration = Duration::from_millis(100);
        let times = || self.pids.iter().map(|pid| cpu_us(*pid)).collect::<Result<Vec<f64>, String>>();
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
}

/// The CPU time of a process so far.
fn cpu_us(pid: u32) -> Result<f64, String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.map_err(|error| format!("process {pid}: {error}"))?;
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
struct Client<T> {
    target: T,
    keys: u64,
    value: Vec<u8>,
    read_ratio: f64,
    /// Draws keys and kinds.
    random: u64,
}

impl<T: Target> Client<T> {
    fn new(load: &Load, target: T, number: usize) -> Self {
        let (value, random) = (vec![b'x'; load.value_bytes], u64::try_from(number).unwrap_or(0) + 1);
        Self { target, keys: u64::from(load.keys.max(1)), value, read_ratio: load.read_ratio, random }
    }

    /// Connects, and puts what is to be found under these keys.
    async fn open(mut self, keys: impl Iterator<Item = usize>, done: impl Fn()) -> Result<Self, T::Error> {
        for key in keys {
            let key = u64::try_from(key).unwrap_or(0) % self.keys;
            self.target.put(&key_of(key), &self.value).await?;
            done();
        }
        Ok(self)
    }

    async fn run(mut self, window: Window) -> Round {
        let mut round = Round::default();
        let mut began = Instant::now();
        while began < window.until {
            let key = key_of(self.draw() % self.keys);
            let is_get = (self.draw() % 1_000_000) as f64 / 1e6 < self.read_ratio;
            let answer = if is_get { self.target.get(&key).await } else { self.target.put(&key, &self.value).await };
            let ended = Instant::now();
            match answer {
                Ok(()) if ended >= window.from && ended < window.until => {
                    let took = u64::try_from((ended - began).as_micros()).unwrap_or(u64::MAX);
                    if is_get { round.gets.push(took) } else { round.puts.push(took) }
                }
                Ok(()) => {}
                Err(error) => {
                    round.failed += 1;
                    round.error.get_or_insert_with(|| error.to_string());
                }
            }
            began = ended;
        }
        round
    }

    /// Some number: of a linear congruence, whose high bits are used.
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }
}

/// Sixteen bytes.
fn key_of(mut number: u64) -> [u8; 16] {
    let mut key = *b"bench-0000000000";
    for digit in key.iter_mut().skip(6).rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

impl Round {
    fn add(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.gets.extend(other.gets);
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }

    /// What was answered, of each kind of request that was.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, Figures)> {
        let kinds = [("puts", &self.puts), ("gets", &self.gets)].into_iter();
        kinds.filter(|(_, times)| !times.is_empty()).map(|(kind, times)| (kind, Figures::of(times, self.seconds)))
    }

    /// It as lines under [`HEADING`].
    #[must_use]
    pub fn lines(&self) -> String {
        let line = |(kind, figures): (&str, Figures)| {
            let Figures { a_second, p50_us, p99_us, p99_9_us, max_us } = figures;
            format!("{:>7} {kind} {a_second:>14.0} {p50_us:>8} {p99_us:>8} {p99_9_us:>8} {max_us:>8}", self.clients)
        };
        let mut lines: Vec<String> = self.kinds().map(line).collect();
        if !self.cpu_us.is_empty() {
            let each: Vec<String> = self.cpu_us.iter().map(|us| format!("{us:.1}")).collect();
            lines.push(format!("        CPU us an answer, each server: {}", each.join(" ")));
        }
        lines.join("\n")
    }

    /// It as an object.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let kinds: serde_json::Map<_, _> =
            self.kinds().map(|(kind, figures)| (kind.to_owned(), json!(figures))).collect();
        let (clients, seconds, failed, cpu_us) = (self.clients, self.seconds, self.failed, &self.cpu_us);
        json!({"clients": clients, "seconds": seconds, "answered": kinds, "failed": failed, "cpu_us_an_answer": cpu_us})
    }
}

/// What stands over [`Round::lines`].
pub const HEADING: &str = "clients            a second   p50 us   p99 us p99.9 us   max us";

/// Of requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Answers a second.
    pub a_second: f64,
    /// The median, in microseconds.
    pub p50_us: u64,
    /// 99 of a hundred took no longer.
    pub p99_us: u64,
    /// 999 of a thousand.
    pub p99_9_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Figures {
    /// Of times in ascending order.
    fn of(times: &[u64], seconds: f64) -> Self {
        let quantile = |thousandths: usize| {
            let rank = times.len().saturating_mul(thousandths).div_ceil(1000).max(1);
            times.get(rank - 1).copied().unwrap_or(0)
        };
        let a_second = times.len() as f64 / seconds;
        let [p50_us, p99_us, p99_9_us, max_us] = [500, 990, 999, 1000].map(quantile);
        Self { a_second, p50_us, p99_us, p99_9_us, max_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times: Vec<u64> = (1..=1000).collect();
        let figures = |times: &[u64]| {
            let Figures { p50_us, p99_us, p99_9_us, max_us, .. } = Figures::of(times, 1.0);
            [p50_us, p99_us, p99_9_us, max_us]
        };
        assert_eq!(figures(&times), [500, 990, 999, 1000]);
        assert_eq!(figures(&[7]), [7; 4]);
        assert_eq!(figures(&[]), [0; 4]);
        assert_eq!(Figures::of(&times, 4.0).a_second.to_bits(), 250.0_f64.to_bits());
    }

    #[test]
    fn a_key_is_sixteen_bytes() {
        assert_eq!(&key_of(0), b"bench-0000000000");
        assert_eq!(&key_of(4_294_967_295), b"bench-4294967295");
    }

    #[test]
    fn the_cpu_time_of_a_process_is_read() {
        let own = std::process::id();
        let before = cpu_us(own).unwrap();
        while cpu_us(own).unwrap() - before < 20_000.0 {
            std::hint::spin_loop();
        }
        assert!(cpu_us(u32::MAX).unwrap_err().contains("process"));
    }
}
