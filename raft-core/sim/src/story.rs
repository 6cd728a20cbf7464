//! What happened in a run, for people: collected only where it is asked for.

use raft_core::{NodeId, RoleName, Term};

use crate::time::Time;

mod faults;
mod html;
mod messages;
mod timeline;
mod words;

pub use html::{Page, html};
pub use timeline::{Timeline, timeline};
pub use words::words;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Time,
    /// What.
    pub what: What,
}

/// See [`Happening`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A server starts, for the `life`-th time.
    Started {
        /// Who.
        server: NodeId,
        /// From 1.
        life: u64,
    },
    /// A server dies.
    Crashed {
        /// Who.
        server: NodeId,
    },
    /// A server does nothing any more, for this reason: its disk failed, or it does not start.
    Halted {
        /// Who.
        server: NodeId,
        /// Why.
        why: String,
    },
    /// A server stands still.
    Paused {
        /// Who.
        server: NodeId,
    },
    /// A server goes on.
    Resumed {
        /// Who.
        server: NodeId,
    },
    /// A server's role or term is another.
    Role {
        /// Who.
        server: NodeId,
        /// Its role.
        role: RoleName,
        /// Its term.
        term: Term,
    },
    /// A server sends a message.
    Sent {
        /// Names the message in this run.
        message: u64,
        /// Who.
        from: NodeId,
        /// To whom.
        to: NodeId,
        /// The sender's term.
        term: Term,
        /// What, in a few words.
        words: String,
    },
    /// That message arrives.
    Delivered {
        /// Which.
        message: u64,
    },
    /// That message, or one copy of it, never will.
    Lost {
        /// Which.
        message: u64,
    },
    /// Everything up to `index` is committed, as this server knows.
    Committed {
        /// Who.
        server: NodeId,
        /// Up to where.
        index: u64,
    },
    /// Anything else about one server: a snapshot, a configuration, a notice.
    Server {
        /// Who.
        server: NodeId,
        /// What.
        words: String,
    },
    /// A fault begins or ends, or the operator does something.
    Fault {
        /// What.
        words: String,
    },
    /// A client begins an operation or is told something.
    Client {
        /// Who.
        client: u32,
        /// What.
        words: String,
    },
    /// The world is whole again.
    Healed,
    /// What must never happen.
    Violation {
        /// What.
        words: String,
    },
}

#[cfg(test)]
pub(crate) mod tests;
