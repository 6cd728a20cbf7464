//! A server whose directory is damaged, before it serves: it fetches what is missing from the others, or starts over
//! (faults D2, D8, M10).
//!
//! While this goes on nothing is opened: the server neither votes nor acknowledges, and answers nobody. Where nobody can
//! be reached it waits, and says so. It starts over only where the others have a leader without it, so that what it has
//! forgotten then is known to a quorum; its new log is another disk's, which counts for nothing until [`rejoin`](Patient::rejoin) has had
//! the cluster remove this member and add it again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raft_core::{LogIndex, NodeId};
use raft_kv::repair::{Diagnosis, Repair, is_starting_over, start_over};
use raft_kv::{Genesis, LogOptions, OpenError};
use tokio::time::sleep;

use crate::client::{Client, ClientError, ClientOptions};
use crate::client_connection::Identity;
use crate::config::draw_incarnation;
use crate::handshake::Role;
use crate::protocol::{ServerStatus, Standing};

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
    },
}

/// Why a directory was not mended. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// It cannot be read or written.
    #[error("{0}")]
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

/// What was fetched, and what nobody has.
enum Fetched {
    All(BTreeMap<NodeId, u64>),
    /// Everybody was asked, and nobody holds these.
    Nobody(LogIndex, LogIndex),
}

impl Patient {
    /// Mends the directory, however long that takes. `say` is told what goes on, in a line.
    ///
    /// # Errors
    /// [`MendError`].
    pub async fn mend(&self, mut say: impl FnMut(String)) -> Result<Mended, MendError> {
        if is_starting_over(&self.dir) {
            return Ok(self.over("a start over was cut short".into())?);
        }
        let why = match Diagnosis::of(&self.dir, &self.genesis)? {
            Diagnosis::Mendable(mut repair) => {
                repair.damage().iter().for_each(|finding| say(finding.to_string()));
                match self.fetch(&mut repair, &mut say).await? {
                    Fetched::All(fetched) => {
                        repair.finish(&self.dir)?;
                        return Ok(Mended::Whole { places: repair.damage().len(), fetched });
                    }
                    Fetched::Nobody(first, last) => format!("no other server holds blocks {first} to {last} any more"),
                }
            }
            Diagnosis::Lost { what } => what,
        };
        self.await_leader(&why, &mut say).await?;
        Ok(self.over(why)?)
    }

    /// Starts over for any other reason, once the others have a leader without this server.
    ///
    /// # Errors
    /// [`MendError`].
    pub async fn start_over(&self, why: String, mut say: impl FnMut(String)) -> Result<Mended, MendError> {
        self.await_leader(&why, &mut say).await?;
        Ok(self.over(why)?)
    }

    fn over(&self, why: String) -> Result<Mended, OpenError> {
        let aside = start_over(&self.dir, &self.genesis, draw_incarnation(), self.options)?;
        Ok(Mended::StartedOver { why, aside })
    }

    async fn fetch(&self, repair: &mut Repair, say: &mut impl FnMut(String)) -> Result<Fetched, MendError> {
        let mut client = self.client();
        let (mut fetched, mut told) = (BTreeMap::new(), None);
        while let Some((first, last)) = repair.missing() {
            if self.peers.is_empty() {
                return Err(self.alone(format!("blocks {first} to {last} are damaged")));
            }
            let (mut took, mut silent) = (0_u64, None);
            for peer in self.peers.keys() {
                match client.blocks(*peer, first, last).await {
                    Ok(entries) if entries.is_empty() => {}
                    Ok(entries) => {
                        let count = entries.len() as u64;
                        match repair.take(entries) {
                            Ok(()) => took = count,
                            Err(misfit) => say(format!("server {peer}: {misfit}")),
                        }
                    }
                    Err(error) => silent = Some(format!("server {peer}: {error}")),
                }
                if took > 0 {
                    let of = fetched.entry(*peer).or_insert(0_u64);
                    *of = of.saturating_add(took);
                    break;
                }
            }
            match silent {
                _ if took > 0 => told = None,
                None => return Ok(Fetched::Nobody(first, last)),
                Some(reason) => {
                    let line = format!(
                        "blocks {first} to {last} are damaged here, and wait for a server that has them: {reason}"
                    );
                    if told.as_ref() != Some(&line) {
                        say(line.clone());
                        told = Some(line);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
        Ok(Fetched::All(fetched))
    }

    /// Waits until the others have a leader.
    async fn await_leader(&self, why: &str, say: &mut impl FnMut(String)) -> Result<(), MendError> {
        if self.peers.is_empty() {
            return Err(self.alone(why.into()));
        }
        let mut client = self.client();
        let mut told = false;
        loop {
            match client.members().await {
                Ok(members) if members.leader.is_some_and(|leader| leader == members.server) => return Ok(()),
                _ => {}
            }
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
        let mut removed = None::<Instant>;
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
            let is_late = removed.is_none_or(|since| since.elapsed() > PATIENCE);
            let done = match standing {
                Ok(Some(Standing::CatchingUp | Standing::Learner)) if !is_late => Ok(()),
                Ok(Some(Standing::Voter)) if !is_late => Ok(()),
                Ok(Some(_)) => {
                    let answer = client.remove_member(self.id).await;
                    removed = answer.is_ok().then(Instant::now).or(removed);
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
            Self::StartedOver { why, aside } => {
                write!(f, "started over, for {why}; its files are in {}", shown(aside))
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a member that was added again may take to catch up before that is done anew.
const PATIENCE: Duration = Duration::from_secs(60);
