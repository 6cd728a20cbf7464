//! A server whose directory is damaged, before it serves: it fetches what is missing from the others, or starts over
//! (faults D2, D8, M10).
//!
//! While this goes on the directory is locked, and nothing is opened: the server neither votes nor acknowledges, and answers
//! nobody. Where nobody can be reached it waits, and says so. It starts over only where the others have a leader without it,
//! so that what it has forgotten then is known to a quorum; its new log is another disk's, which counts for nothing until
//! [`rejoin`](Patient::rejoin) has had the cluster remove this member and add it again. One that has started over before
//! within a day waits first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use raft_core::{NodeId, RoleName, Term};
use raft_kv::repair::{Diagnosis, is_starting_over, start_over};
use raft_kv::{FileDisk, Genesis, LogOptions, OpenError};
use tokio::time::sleep;

use crate::client::{Client, ClientError, ClientOptions};
use crate::client_connection::Identity;
use crate::config::draw_incarnation;
use crate::handshake::Role;
use crate::protocol::{ServerStatus, Standing};

mod back_off;
mod fetch;

use back_off::{BackOff, rejoin_patience};
use fetch::Fetched;

/// What a server needs to know to mend its directory.
#[derive(Clone, Debug)]
pub struct Patient {
    /// This server.
    pub id: NodeId,
    /// Its directory, which nobody has open.
    pub dir: PathBuf,
    /// What it was started for.
    pub genesis: Genesis,
    /// How its log is kept.
    pub options: LogOptions,
    /// The other servers.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// How long a leader may lead that no quorum answers, at most: the longest
    /// [election timeout](crate::ServerConfig::election_timeout) among them.
    pub election_timeout: Duration,
}

/// What became of a damaged directory. It can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Its log is whole.
    Whole {
        /// Places that were damaged.
        places: usize,
        /// Blocks that were fetched, and from whom.
        fetched: BTreeMap<NodeId, u64>,
    },
    /// It has a new log, and is to [`rejoin`](Patient::rejoin).
    StartedOver {
        /// Why.
        why: String,
        /// Where its files are now.
        aside: PathBuf,
        /// How often it has done so within a day.
        times: usize,
    },
}

/// Why a directory was not mended. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// It cannot be read or written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no other server to ask.
    #[error("{what}, and there is no other server: put {} back from a copy that is no older", dir.display())]
    Alone {
        /// What is the matter.
        what: String,
        /// The directory.
        dir: PathBuf,
    },
}

impl Patient {
    /// Mends the directory, however long that takes. `say` is told what goes on, in a line.
    ///
    /// # Errors
    /// [`MendError`].
    pub async fn mend(&self, mut say: impl FnMut(String)) -> Result<Mended, MendError> {
        let disk = self.lock()?;
        if is_starting_over(&self.dir) {
            return Ok(self.over(disk, "a start over was cut short".into())?);
        }
        let (why, disk) = match Diagnosis::of(disk, &self.genesis)? {
            Diagnosis::Mendable(mut repair) => {
                repair.damage().iter().for_each(|finding| say(finding.to_string()));
                match self.fetch(&mut repair, &mut say).await? {
                    Fetched::All(fetched) => {
                        repair.finish()?;
                        return Ok(Mended::Whole { places: repair.damage().len(), fetched });
                    }
                    Fetched::Nobody(why) => (why, repair.into_disk()),
                }
            }
            Diagnosis::Lost { what, disk } => (what, disk),
        };
        self.over_when_led(disk, why, &mut say).await
    }

    /// Starts over for any other reason, once the others have a leader without this server.
    ///
    /// # Errors
    /// [`MendError`].
    pub async fn start_over(&self, why: String, mut say: impl FnMut(String)) -> Result<Mended, MendError> {
        let disk = self.lock()?;
        self.over_when_led(disk, why, &mut say).await
    }

    /// No other process opens the directory before this one is done with it (fault D7).
    fn lock(&self) -> Result<FileDisk, OpenError> {
        FileDisk::open(&self.dir, || ()).map_err(OpenError::Disk)
    }

    async fn over_when_led(
        &self,
        disk: FileDisk,
        why: String,
        say: &mut impl FnMut(String),
    ) -> Result<Mended, MendError> {
        if self.peers.is_empty() {
            return Err(self.alone(why));
        }
        BackOff::of(&self.dir).wait(&why, say).await;
        self.await_leader(&why, say).await;
        Ok(self.over(disk, why)?)
    }

    fn over(&self, disk: FileDisk, why: String) -> Result<Mended, OpenError> {
        let aside = start_over(disk, &self.genesis, draw_incarnation(), self.options)?;
        Ok(Mended::StartedOver { why, aside, times: BackOff::of(&self.dir).times() })
    }

    /// Waits until the others have a leader: one that is seen to lead in one term for longer than it could by what this
    /// server answered last, before it closed its files. That is an election timeout; as much again is for ticks that come
    /// late.
    async fn await_leader(&self, why: &str, say: &mut impl FnMut(String)) {
        let mut client = self.client();
        let mut told = false;
        let mut seen = None::<((NodeId, Term), Instant)>;
        loop {
            let asked = Instant::now();
            let statuses = client.statuses().await.into_iter().filter_map(|(_, status)| status.ok());
            let leading = statuses.filter(|status| status.role == RoleName::Leader);
            let leader = leading.max_by_key(|status| status.term).map(|status| (status.id, status.term));
            seen = match (leader, seen) {
                (Some(leader), Some((before, since))) if leader == before => {
                    if asked.saturating_duration_since(since) > self.election_timeout.saturating_mul(2) {
                        return;
                    }
                    seen
                }
                (leader, _) => leader.map(|leader| (leader, Instant::now())),
            };
            if !std::mem::replace(&mut told, true) {
                say(format!("it must start over ({why}), and waits until the others have a leader"));
            }
            sleep(PAUSE).await;
        }
    }

    fn alone(&self, what: String) -> MendError {
        MendError::Alone { what, dir: self.dir.clone() }
    }

    fn client(&self) -> Client {
        let identity = Identity { cluster: self.genesis.cluster.0, client: u64::from(self.id.0), role: Role::Admin };
        Client::new(self.peers.clone(), identity, ClientOptions::default())
    }

    /// Has the cluster remove this server, which runs and listens at `listen`, and add it again, and waits until it votes.
    pub async fn rejoin(&self, listen: SocketAddr, mut say: impl FnMut(String)) {
        let mut servers = self.peers.clone();
        servers.insert(self.id, listen);
        let mut client = Self { peers: servers, ..self.clone() }.client();
        let (mut removed, mut times) = (None::<Instant>, 0_u32);
        let mut told = String::new();
        let mut tell = |line: String| {
            if line != told {
                say(line.clone());
                told = line;
            }
        };
        loop {
            let own = client.status(self.id).await;
            if own.is_ok_and(|status| votes(&status, self.id)) {
                return;
            }
            let members = client.members().await;
            let standing = members.as_ref().map(|members| {
                members.members.iter().find(|member| member.id == self.id).map(|member| member.standing)
            });
            let is_late = removed.is_none_or(|since| since.elapsed() > rejoin_patience(times));
            let done = match standing {
                Ok(Some(Standing::CatchingUp | Standing::Learner)) if !is_late => Ok(()),
                Ok(Some(Standing::Voter)) if !is_late => Ok(()),
                Ok(Some(_)) => {
                    let answer = client.remove_member(self.id).await;
                    if answer.is_ok() {
                        (removed, times) = (Some(Instant::now()), times.saturating_add(1));
                    }
                    answer.map(|_| ())
                }
                Ok(None) => {
                    removed = removed.or_else(|| Some(Instant::now()));
                    client.add_member(self.id, &listen.to_string()).await.map(|_| ())
                }
                Err(error) => Err(error.clone()),
            };
            match done {
                Ok(()) | Err(ClientError::Waiting { .. }) => {}
                Err(error) => tell(format!("it waits to be a member again: {error}")),
            }
            sleep(PAUSE).await;
        }
    }
}

/// Whether a server knows that it votes: a configuration that is committed means its disk.
fn votes(status: &ServerStatus, id: NodeId) -> bool {
    status.is_settled() && status.standing(id) == Some(Standing::Voter)
}

impl Mended {
    /// Whether the server is to [rejoin](Patient::rejoin).
    #[must_use]
    pub const fn has_started_over(&self) -> bool {
        matches!(self, Self::StartedOver { .. })
    }
}

impl std::fmt::Display for Mended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole { places, fetched } => {
                write!(f, "mended: damage in {places} place")?;
                f.write_str(if *places == 1 { "" } else { "s" })?;
                let from = fetched.iter().map(|(peer, count)| format!("; {count} blocks from server {peer}"));
                f.write_str(&from.collect::<String>())
            }
            Self::StartedOver { why, aside, times } => {
                write!(f, "started over, for {why}; its files are in {}", aside.display())?;
                if *times < 2 {
                    return Ok(());
                }
                write!(f, "; {times} times within a day: it waits before each")
            }
        }
    }
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
