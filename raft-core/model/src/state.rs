//! What the exploration is in: three servers, the network, what is left of the bounds, and the past.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use raft_core::{Config, Entry, Message, Node, NodeId};

use crate::SERVERS;
use crate::disk::Disk;
use crate::past::Past;

/// Three servers, the network, and what was promised so far.
#[derive(Clone)]
pub struct State {
    pub(crate) servers: [Arc<Server>; SERVERS as usize],
    /// In the order of their digests: a state is the same whatever the order in which they were sent.
    pub(crate) network: Vec<Letter>,
    pub(crate) left: Left,
    pub(crate) past: Past,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) node: Node<Disk>,
    pub(crate) digest: u64,
}

#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) message: Arc<Message>,
    pub(crate) digest: u64,
}

/// What is left of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) campaigns: u8,
    pub(crate) proposals: u8,
    pub(crate) changes: u8,
    pub(crate) crashes: u8,
    pub(crate) repeats: u8,
    pub(crate) ticks: u8,
}

impl Server {
    pub(crate) fn new(node: Node<Disk>) -> Self {
        Self { digest: digest(&node), node }
    }

    pub(crate) fn log(&self) -> Vec<Entry> {
        self.node.storage().log()
    }
}

impl Letter {
    pub(crate) fn new(message: Message) -> Self {
        Self { digest: digest(&message), message: Arc::new(message) }
    }
}

/// A server of this id over its disk. Timeouts of two ticks leave nothing to chance.
pub(crate) fn start(id: u32, disk: Disk) -> Node<Disk> {
    let config = Config { election_timeout_ticks: 2, heartbeat_ticks: 1, max_inflight: 2, ..Config::new(NodeId(id)) };
    Node::new(config, disk).unwrap()
}

/// A digest of everything that a `Debug` output shows. A node's shows all of it but the random generator, which decides
/// nothing here.
pub(crate) fn digest(of: &impl fmt::Debug) -> u64 {
    struct Text(DefaultHasher);
    impl fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut text = Text(DefaultHasher::new());
    write!(text, "{of:?}").unwrap();
    text.0.finish()
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for server in &self.servers {
            server.digest.hash(hasher);
        }
        for letter in &self.network {
            letter.digest.hash(hasher);
        }
        self.left.hash(hasher);
        self.past.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let servers = |state: &Self| state.servers.each_ref().map(|server| server.digest);
        servers(self) == servers(other)
            && self.network.iter().map(|letter| letter.digest).eq(other.network.iter().map(|letter| letter.digest))
            && self.left == other.left
            && self.past == other.past
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            let status = server.node.status();
            let log: Vec<u64> = server.log().iter().map(|entry| entry.term.0).collect();
            let (id, term, commit) = (status.id, status.term, status.commit_index);
            let pending = server.node.storage().pending();
            writeln!(f, "{id}: {} of term {term}, log {log:?}, commit {commit}, writes {pending}", status.role)?;
        }
        for Letter { message, .. } in &self.network {
            writeln!(f, "   {} -> {} in term {}: {:?}", message.from, message.to, message.term, message.body)?;
        }
        write!(f, "{:?}", self.past)
    }
}
