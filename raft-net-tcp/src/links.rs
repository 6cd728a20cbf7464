//! Links broken on purpose: `failLink` and `fixLink`.
//!
//! A broken link loses everything in both directions and says so to nobody: to a server, no message leaves and none is
//! taken; of a client, no request is handled and no response leaves. The connections stay, as they do when a network
//! loses packets, and so does what only keeps those alive.

use std::collections::BTreeSet;
use std::fmt;

use raft_core::NodeId;
use serde::{Deserialize, Serialize};

/// Which links of this server are broken.
#[derive(Debug, Default)]
pub struct LinkFaults {
    cut: BTreeSet<Link>,
    /// Rises with every cut, so that what waits to be sent over a link can be thrown away once.
    generation: u64,
}

/// A link, named by its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Link {
    /// To this server.
    Server(NodeId),
    /// To every connection of the client that calls itself so.
    Client(u64),
}

/// Why a link was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It is broken already.
    #[error("the link to {0} is already broken")]
    AlreadyBroken(Link),
    /// It is whole.
    #[error("the link to {0} is not broken")]
    NotBroken(Link),
}

impl LinkFaults {
    /// Breaks a link.
    ///
    /// # Errors
    /// It is broken already.
    pub fn cut(&mut self, link: Link) -> Result<(), LinkError> {
        if !self.cut.insert(link) {
            return Err(LinkError::AlreadyBroken(link));
        }
        self.generation = self.generation.saturating_add(1);
        Ok(())
    }

    /// Mends a link.
    ///
    /// # Errors
    /// It is not broken.
    pub fn mend(&mut self, link: Link) -> Result<(), LinkError> {
        if self.cut.remove(&link) { Ok(()) } else { Err(LinkError::NotBroken(link)) }
    }

    /// Whether a link is broken.
    #[must_use]
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains(&link)
    }

    /// The broken links.
    pub fn iter(&self) -> impl Iterator<Item = Link> {
        self.cut.iter().copied()
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(id) => write!(f, "server {id}"),
            Self::Client(id) => write!(f, "client {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_breaks_once_and_mends_once() {
        let (mut faults, link) = (LinkFaults::default(), Link::Server(NodeId(2)));
        assert_eq!(faults.mend(link), Err(LinkError::NotBroken(link)));
        assert_eq!(faults.cut(link), Ok(()));
        assert!(faults.is_cut(link));
        assert!(!faults.is_cut(Link::Client(2)));
        assert_eq!(faults.cut(link), Err(LinkError::AlreadyBroken(link)));
        assert_eq!(faults.iter().collect::<Vec<_>>(), [link]);
        assert_eq!(faults.mend(link), Ok(()));
        assert!(!faults.is_cut(link));
        assert_eq!(LinkError::NotBroken(link).to_string(), "the link to server 2 is not broken");
    }
}
