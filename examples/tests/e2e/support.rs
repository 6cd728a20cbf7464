//! A cluster of real processes on free ports and a directory of its own, one at a time; and waiting on conditions.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Servers 1 to N, some of them running.
pub struct Cluster {
    servers: Vec<Option<Server>>,
    /// Servers above are added later.
    founders: u16,
    pub base_port: u16,
    pub dir: tempfile::TempDir,
    /// Whether servers started from now on are recorded, in [`record_dir`](Self::record_dir).
    pub record: bool,
    /// Whether servers started from now on serve Redis clients, on [`redis_port`](Self::redis_port).
    pub redis: bool,
    /// More options of every server.
    pub options: Vec<&'static str>,
    _alone: MutexGuard<'static, ()>,
}

struct Server {
    child: Child,
    printed: Lines,
    told: Lines,
}

/// The lines that a process has printed so far.
type Lines = Arc<Mutex<Vec<String>>>;

/// What a client printed, and how it ended.
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Cluster {
    /// Starts `count` servers and waits for a leader.
    pub fn start(count: u16) -> Self {
        let mut cluster = Self::new(count);
        for id in 1..=count {
            cluster.start_server(id);
        }
        cluster.leader();
        cluster
    }

    /// A cluster whose servers do not run yet.
    pub fn new(count: u16) -> Self {
        Self::with_room(count, count)
    }

    /// The same, with ports for servers that are added later.
    pub fn with_room(founders: u16, count: u16) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = (0..count).map(|_| None).collect();
        Self {
            servers,
            founders,
            // As many again for Redis clients.
            base_port: free_ports(2 * count),
            dir: tempfile::tempdir().unwrap(),
            record: false,
            redis: false,
            options: Vec::new(),
            _alone: alone,
        }
    }

    pub fn server_command(&self, id: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args([
            id.to_string(),
            format!("--servers={}", self.founders),
            format!("--base-port={}", self.base_port),
        ]);
        command.arg("--data-dir").arg(self.data_dir()).args(&self.options);
        if (self.founders + 1..=self.servers.len() as u16).contains(&id) {
            command.arg("--join");
        }
        if self.redis {
            command.arg(format!("--resp-port={}", self.redis_port(id)));
        }
        if self.record {
            command.arg("--record").arg(self.record_dir());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Where a server serves Redis clients.
    pub fn redis_port(&self, id: u16) -> u16 {
        self.base_port + self.servers.len() as u16 + id
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Removes the files of a server that does not run.
    pub fn lose_disk(&self, id: u16) {
        std::fs::remove_dir_all(self.data_dir().join(format!("server-{id}"))).unwrap();
    }

    pub fn record_dir(&self) -> PathBuf {
        self.dir.path().join("recordings")
    }

    pub fn start_server(&mut self, id: u16) {
        let mut child = self.server_command(id).spawn().unwrap();
        let printed = collect(child.stdout.take().unwrap());
        let told = collect(child.stderr.take().unwrap());
        wait_for(&format!("server {id} to listen"), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("server {id} ended with {status}: {:?}", told.lock().unwrap());
            }
            printed.lock().unwrap().iter().any(|line| line.contains("listens")).then_some(())
        });
        self.servers[usize::from(id) - 1] = Some(Server { child, printed, told });
    }

    /// Ends a server by SIGKILL.
    pub fn kill(&mut self, id: u16) {
        let mut server = self.servers[usize::from(id) - 1].take().unwrap_or_else(|| panic!("server {id} runs"));
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }

    /// Waits until a server tells its operator something in which these words stand.
    pub fn told(&self, id: u16, words: &str) {
        let server = self.servers[usize::from(id) - 1].as_ref().unwrap();
        wait_for(&format!("server {id} to say: {words}"), || {
            server.told.lock().unwrap().iter().any(|line| line.contains(words)).then_some(())
        });
    }

    /// How many of the lines that a server has told its operator have these words in them.
    pub fn times_told(&self, id: u16, words: &str) -> usize {
        let server = self.servers[usize::from(id) - 1].as_ref().unwrap();
        server.told.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    /// The process id of a running server.
    pub fn pid(&self, id: u16) -> u32 {
        self.servers[usize::from(id) - 1].as_ref().unwrap().child.id()
    }

    /// Waits until a server that was told to stop has ended.
    pub fn ended(&mut self, id: u16) -> ExitStatus {
        let mut server = self.servers[usize::from(id) - 1].take().unwrap();
        wait_for(&format!("server {id} to end"), || server.child.try_wait().unwrap())
    }

    /// Types a command at a server's prompt and returns what it prints up to a line that `last` accepts.
    pub fn console(&mut self, id: u16, command: &str, last: impl Fn(&str) -> bool) -> Vec<String> {
        self.console_bytes(id, command.as_bytes(), last)
    }

    /// The same, of bytes that need not be text.
    pub fn console_bytes(&mut self, id: u16, command: &[u8], last: impl Fn(&str) -> bool) -> Vec<String> {
        let server = self.servers[usize::from(id) - 1].as_mut().unwrap();
        let before = server.printed.lock().unwrap().len();
        server.child.stdin.as_mut().unwrap().write_all(&[command, b"\n"].concat()).unwrap();
        wait_for(&format!("server {id} to answer {}", String::from_utf8_lossy(command)), || {
            let lines = server.printed.lock().unwrap()[before..].to_vec();
            lines.last().is_some_and(|line| last(line)).then_some(lines)
        })
    }

    /// Closes a server's standard input.
    pub fn hang_up(&mut self, id: u16) {
        drop(self.servers[usize::from(id) - 1].as_mut().unwrap().child.stdin.take());
    }

    pub fn client_command(&self, id: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
        command.args([
            id.to_string(),
            format!("--servers={}", self.founders),
            format!("--base-port={}", self.base_port),
        ]);
        command.args(["-o", "json"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs one command of a client.
    pub fn client(&self, id: u16, words: &[&str]) -> Ran {
        finish(self.client_command(id).args(words), "")
    }

    /// Runs a client's script.
    pub fn script(&self, id: u16, options: &[&str], script: &str) -> Ran {
        finish(self.client_command(id).args(options), script)
    }

    /// What each server says of itself; none of those that cannot be asked.
    pub fn statuses(&self) -> Vec<Value> {
        let ran = self.client(998, &["--timeout=5s", "status"]);
        let line: Value = serde_json::from_str(ran.stdout.trim()).unwrap_or_default();
        let servers = line["result"].as_array().cloned().unwrap_or_default();
        servers.into_iter().filter(|server| server["role"].is_string()).collect()
    }

    /// Waits until one server leads and a majority follows it.
    pub fn leader(&self) -> u16 {
        wait_for("a leader", || {
            let statuses = self.statuses();
            let leader = statuses.iter().find(|status| status["role"] == "leader")?["server"].clone();
            let following = statuses.iter().filter(|status| status["leader"] == leader).count();
            (following * 2 > usize::from(self.founders)).then(|| leader.as_u64().unwrap() as u16)
        })
    }

    /// Waits until every running server has applied the same block as its last, and all heads are equal.
    pub fn converged(&self) -> Value {
        let running = self.servers.iter().flatten().count();
        wait_for("equal chains", || {
            let statuses = self.statuses();
            let first = statuses.first()?;
            let equal = |status: &Value| {
                ["last", "commit", "applied", "head"].iter().all(|field| status[*field] == first[*field])
                    && status["last"] == status["applied"]
            };
            (statuses.len() == running && statuses.iter().all(equal)).then(|| first.clone())
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().flatten() {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

impl Ran {
    /// The lines of JSON on standard output.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The only line, which says that all is well.
    pub fn ok(&self) -> Value {
        let lines = self.lines();
        assert!(
            lines.len() == 1 && lines[0]["ok"] == true && self.status.success(),
            "{}: {}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        lines[0].clone()
    }
}

/// Runs a command to its end with this on its standard input.
pub fn finish(command: &mut Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A client that has stopped reads no more.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Waits until `condition` gives something.
pub fn wait_for<R>(what: &str, mut condition: impl FnMut() -> Option<R>) -> R {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A base port behind which `count` ports are free, below those that the system hands out by itself.
fn free_ports(count: u16) -> u16 {
    let start = 10_000 + (std::process::id() % 2_000) as u16 * 10;
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..1_000)
        .map(|step| 10_000 + (start - 10_000 + step * 10) % 20_000)
        .find(|base| (1..=count).all(|id| free(base + id)))
        .expect("a thousand places, and none of them free")
}

fn collect(stream: impl std::io::Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let collected = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            collected.lock().unwrap().push(line);
        }
    });
    lines
}
