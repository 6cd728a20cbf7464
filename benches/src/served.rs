//! One server on a real disk, without sockets: a `Replica` over a `BlockLog` on files, which leads alone.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use raft_core::{Bytes, Config, Configuration, Incarnation, Limits, Message, NodeId, Outcome, Replica, RequestId};
use raft_kv::{BlockLog, ClusterId, Command, FileDisk, KvMachine, LogOptions, OpenError, Reply};

/// A tick of the server's clock.
pub const TICK: Duration = Duration::from_millis(20);

/// What wakes who waits for the disk: its writer thread rings after each batch.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    /// What the writer thread calls.
    ///
    /// # Panics
    /// Somebody panicked who held the bell.
    pub fn ringer(&self) -> impl Fn() + Send + 'static {
        let bell = Arc::clone(&self.0);
        move || {
            *bell.0.lock().unwrap() = true;
            bell.1.notify_one();
        }
    }

    /// Until it has rung since the last time, or for so long.
    ///
    /// # Panics
    /// Somebody panicked who held the bell.
    pub fn wait(&self, at_most: Duration) {
        let (rung, condition) = &*self.0;
        let mut rung = condition.wait_timeout_while(rung.lock().unwrap(), at_most, |rung| !*rung).unwrap().0;
        *rung = false;
    }
}

/// Founds a log in an empty directory, for a server that is alone.
///
/// # Errors
/// The directory cannot be used.
pub fn found(dir: &Path, bell: &Bell) -> Result<BlockLog<FileDisk>, OpenError> {
    let disk = FileDisk::open(dir, bell.ringer())?;
    BlockLog::create(disk, CLUSTER, members(), Incarnation(1), LogOptions::default())
}

/// Opens the log that was [founded](found) there.
///
/// # Errors
/// The directory holds no such log, or a damaged one.
pub fn reopen(dir: &Path, bell: &Bell) -> Result<BlockLog<FileDisk>, OpenError> {
    let disk = FileDisk::open(dir, bell.ringer())?;
    BlockLog::open(disk, CLUSTER, members(), LogOptions::default())
}

const CLUSTER: ClusterId = ClusterId([1; 16]);

fn members() -> Configuration {
    Configuration::new([NodeId(1)])
}

/// The server, and what wakes it.
#[derive(Debug)]
pub struct Served {
    /// The server itself.
    pub replica: Replica<BlockLog<FileDisk>, Vec<Message>, KvMachine>,
    bell: Bell,
    next_tick: Instant,
}

impl Served {
    /// Founds one in an empty directory; it leads once something was [committed](Self::commit).
    ///
    /// # Errors
    /// The directory cannot be used.
    ///
    /// # Panics
    /// The configuration cannot work.
    pub fn new(dir: &Path, config: Config, limits: Limits) -> Result<Self, OpenError> {
        let bell = Bell::default();
        let log = found(dir, &bell)?;
        let replica = Replica::new(config, limits, log, Vec::new(), KvMachine::default()).unwrap();
        let mut served = Self { replica, bell, next_tick: Instant::now() + TICK };
        served.replica.campaign();
        Ok(served)
    }

    /// Commits one command, and gives the machine's reply.
    ///
    /// # Panics
    /// The disk has failed.
    pub fn commit(&mut self, command: &Command) -> Bytes {
        self.replica.submit(RequestId(0), &command.encode());
        loop {
            self.turn();
            match self.replica.next_reply().map(|reply| reply.outcome) {
                Some(Outcome::Applied { reply, .. }) => return reply,
                // It does not lead yet.
                Some(_) => {
                    assert!(!self.replica.is_halted(), "the disk has failed");
                    self.replica.submit(RequestId(0), &command.encode());
                }
                None => self.wait(),
            }
        }
    }

    /// Opens a session of this client.
    ///
    /// # Panics
    /// The disk has failed.
    pub fn open_session(&mut self, client: u64) -> u64 {
        let opened = self.commit(&Command::OpenSession { client });
        let Reply::SessionOpened { session } = Reply::decode(&opened).unwrap() else { panic!("{opened:?}") };
        session
    }

    /// Does what is to be done now.
    pub fn turn(&mut self) {
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + TICK;
            self.replica.tick();
        }
        self.replica.poll();
    }

    /// Until the disk has done something, or the next tick.
    pub fn wait(&self) {
        self.bell.wait(self.next_tick.saturating_duration_since(Instant::now()));
    }
}
