//! How answers and the names of requests read.

use std::fmt;

use super::{Outcome, Reply, RequestId};

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {} of session {} of client {}", self.number, self.session, self.client)
    }
}

/// Without the values in it: showing those takes their meaning.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Success => "success",
            Self::Deleted { existed: true } => "deleted",
            Self::Deleted { existed: false } => "not there, nothing to delete",
            Self::Swapped => "swapped",
            Self::NotSwapped { actual: Some(_) } => "not swapped: the value is another",
            Self::NotSwapped { actual: None } => "not swapped: the key is not there",
            Self::Transaction { committed: true, outcomes } => {
                return write!(f, "committed: {} operations", outcomes.len());
            }
            Self::Transaction { committed: false, outcomes } => {
                return write!(f, "nothing done: operation {} did not swap", outcomes.len());
            }
            Self::Added { sum } => return write!(f, "added: {sum}"),
            Self::NotAdded => "not added: the value is no number of 64 bits, or the sum would be none",
        };
        f.write_str(text)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionOpened { session } => write!(f, "session {session} is open"),
            Self::Done { outcome, height, hash: Some(hash) } => write!(f, "{outcome} (block {height}, {hash:.8})"),
            Self::Done { outcome, height, hash: None } => write!(f, "{outcome} (block {height})"),
            Self::SessionExpired => f.write_str("the session has expired: open another"),
            Self::Stale => f.write_str("not applied now; whether it was before is no longer known"),
            Self::Malformed { what } => write!(f, "malformed: {what}"),
        }
    }
}
