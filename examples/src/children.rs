//! The demo's servers: child processes that are told to fail in every way, and that never outlive their parent.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;
use raft_core::NodeId;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::options::ClusterArgs;
use crate::server;

/// Every server of the cluster, running or not.
pub struct Children {
    cluster: ClusterArgs,
    data_dir: PathBuf,
    /// Server N serves Redis clients on this port plus N.
    resp_base_port: Option<u16>,
    /// Server N at N - 1.
    servers: Vec<Option<Server>>,
    /// Links cut, the lower id first.
    cut: BTreeSet<(u16, u16)>,
}

struct Server {
    child: Child,
    paused: bool,
}

/// The demo's first argument when it is to be a server: the same file serves both, so that there is nothing to find.
pub const SERVE: &str = "serve";

/// Runs this process as a server that dies with its parent, whatever the parent dies of.
#[must_use]
pub fn serve(words: impl Iterator<Item = String>) -> ExitCode {
    let mut words = words.peekable();
    let parent = words.next().and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
    // The parent may have died before the signal was asked for: then nobody is to be served.
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() || getppid() != parent {
        return ExitCode::FAILURE;
    }
    server::main(&server::Args::parse_from(std::iter::once("server".into()).chain(words)))
}

impl Children {
    /// Starts every server.
    ///
    /// # Errors
    /// A process cannot be started, or its log cannot be written.
    pub fn start(cluster: &ClusterArgs, data_dir: &Path, resp_base_port: Option<u16>) -> Result<Self, String> {
        let servers = (0..cluster.servers).map(|_| None).collect();
        if resp_base_port.is_some_and(|base| base.checked_add(cluster.servers).is_none()) {
            return Err("--resp-base-port is too high: ports end at 65535".into());
        }
        let (cluster, data_dir, cut) = (cluster.clone(), data_dir.into(), BTreeSet::new());
        let mut children = Self { cluster, data_dir, resp_base_port, servers, cut };
        for id in 1..=children.cluster.servers {
            children.start_one(id)?;
        }
        Ok(children)
    }

    /// Starts a server that does not run.
    ///
    /// # Errors
    /// It runs, or cannot be started.
    pub fn start_one(&mut self, id: u16) -> Result<(), String> {
        if self.running(id).is_ok() {
            return Err(format!("server {id} runs already"));
        }
        let child = self.spawn(id).map_err(|error| format!("server {id} cannot be started: {error}"))?;
        if let Some(place) = self.place(id) {
            *place = Some(Server { child, paused: false });
        }
        // A new process knows nothing of the links that were cut.
        let cut: Vec<(u16, u16)> = self.cut.iter().copied().filter(|(a, b)| *a == id || *b == id).collect();
        for (a, b) in cut {
            self.tell(id, "failLink", if a == id { b } else { a });
        }
        Ok(())
    }

    /// Ends a server by SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, id: u16) -> Result<(), String> {
        let server = self.running(id)?;
        let ended = server.child.kill().and_then(|()| server.child.wait());
        ended.map_err(|error| format!("server {id} cannot be killed: {error}"))?;
        if let Some(place) = self.place(id) {
            *place = None;
        }
        Ok(())
    }

    /// Stops a server's process.
    ///
    /// # Errors
    /// It does not run, or is paused already.
    pub fn pause(&mut self, id: u16) -> Result<(), String> {
        let server = self.running(id)?;
        if server.paused {
            return Err(format!("server {id} is paused already"));
        }
        server.paused = true;
        server.signal(Signal::STOP);
        Ok(())
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// It does not run, or is not paused.
    pub fn resume(&mut self, id: u16) -> Result<(), String> {
        let server = self.running(id)?;
        if !server.paused {
            return Err(format!("server {id} is not paused"));
        }
        server.paused = false;
        server.signal(Signal::CONT);
        Ok(())
    }

    /// Breaks the link between two servers.
    ///
    /// # Errors
    /// It is broken already, or the two are one.
    pub fn cut(&mut self, a: u16, b: u16) -> Result<(), String> {
        if a == b {
            return Err("a link has two ends: name two servers".into());
        }
        if !self.cut.insert((a.min(b), a.max(b))) {
            return Err(format!("link {a}-{b} is already broken"));
        }
        self.tell(a, "failLink", b);
        self.tell(b, "failLink", a);
        Ok(())
    }

    /// Mends the link between two servers.
    ///
    /// # Errors
    /// It is not broken.
    pub fn mend(&mut self, a: u16, b: u16) -> Result<(), String> {
        if !self.cut.remove(&(a.min(b), a.max(b))) {
            return Err(format!("link {a}-{b} is not broken"));
        }
        self.tell(a, "fixLink", b);
        self.tell(b, "fixLink", a);
        Ok(())
    }

    /// What keeps a server from answering; `None` for one that should answer.
    pub fn state(&mut self, id: NodeId) -> Option<&'static str> {
        let id = u16::try_from(id.0).unwrap_or(u16::MAX);
        match self.running(id) {
            Ok(server) if server.paused => Some("paused"),
            Ok(_) => None,
            Err(_) => Some("not running"),
        }
    }

    /// # Errors
    /// A server has ended by itself: the last line of its log says why.
    pub fn check(&mut self) -> Result<(), String> {
        for id in 1..=self.cluster.servers {
            if self.running(id).is_err() {
                let log = std::fs::read_to_string(self.log(id)).unwrap_or_default();
                let why = log.lines().last().unwrap_or("it left no word");
                return Err(format!("server {id} has ended: {why}"));
            }
        }
        Ok(())
    }

    /// The server, if it runs.
    fn running(&mut self, id: u16) -> Result<&mut Server, String> {
        if let Some(place) = self.place(id)
            && place.as_mut().is_some_and(|server| !matches!(server.child.try_wait(), Ok(None)))
        {
            *place = None;
        }
        self.place(id).and_then(Option::as_mut).ok_or_else(|| format!("server {id} does not run: start {id}"))
    }

    fn place(&mut self, id: u16) -> Option<&mut Option<Server>> {
        self.servers.get_mut(usize::from(id).checked_sub(1)?)
    }

    /// Types a command about another server's port; a server that does not run needs none.
    fn tell(&mut self, id: u16, command: &str, other: u16) {
        let port = self.cluster.base_port.saturating_add(other);
        if let Ok(server) = self.running(id)
            && let Some(stdin) = &mut server.child.stdin
        {
            // It may be dying: then it has no links either.
            let _ = writeln!(stdin, "{command} {port}");
        }
    }

    fn log(&self, id: u16) -> PathBuf {
        self.data_dir.join(format!("server-{id}.log"))
    }

    fn spawn(&self, id: u16) -> std::io::Result<Child> {
        std::fs::create_dir_all(&self.data_dir)?;
        let log: File = OpenOptions::new().create(true).append(true).open(self.log(id))?;
        Command::new(std::env::current_exe()?)
            .args([SERVE, &std::process::id().to_string(), &id.to_string()])
            .args(["--servers", &self.cluster.servers.to_string()])
            .args(["--base-port", &self.cluster.base_port.to_string()])
            .args(["--cluster", &self.cluster.cluster])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(self.resp_base_port.map(|base| format!("--resp-port={}", base.saturating_add(id))))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }
}

impl Server {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Asks every server to stop, and ends those that do not.
impl Drop for Children {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(3);
        for server in self.servers.iter().flatten() {
            server.signal(Signal::TERM);
            server.signal(Signal::CONT);
        }
        let start = Instant::now();
        for server in self.servers.iter_mut().flatten() {
            while matches!(server.child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}
