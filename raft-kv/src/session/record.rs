//! A session, as snapshots carry it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::{Place, Session, SessionLimits, reply_bytes_max};
use crate::command::OUTSTANDING_MAX;

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    session: u64,
    client: u64,
    used: Place,
    acknowledged: u64,
    replies: Vec<(u64, Option<Bytes>)>,
}

impl SessionRecord {
    pub(super) const fn name(&self) -> u64 {
        self.session
    }

    pub(crate) fn of(name: u64, session: &Session) -> Self {
        Self {
            session: name,
            client: session.client,
            used: session.used,
            acknowledged: session.acknowledged,
            replies: session
                .replies
                .iter()
                .filter(|_| !raft_core::bug!(RepliesNotInSnapshot))
                .map(|(number, reply)| (*number, reply.as_ref().map(Kept::to_bytes)))
                .collect(),
        }
    }
}

impl Session {
    /// The session that has this record, under these limits.
    pub(super) fn from_record(limits: SessionLimits, record: SessionRecord) -> Result<Self, String> {
        let SessionRecord { session: name, client, used, acknowledged, replies } = record;
        let mut session = Self::new(client, used, acknowledged);
        for (number, reply) in replies {
            let above = session.replies.back().map_or(acknowledged, |(number, _)| *number);
            if number <= above || number.saturating_sub(acknowledged) > OUTSTANDING_MAX {
                return Err(format!("reply {number} of session {name} is out of place"));
            }
            session.reply_bytes = session.reply_bytes.saturating_add(reply.as_ref().map_or(0, Bytes::len));
            session.replies.push_back((number, reply.as_ref().map(Kept::from)));
        }
        let kept = session.replies.iter().filter(|(_, reply)| reply.is_some()).count();
        if session.reply_bytes > reply_bytes_max(limits) && kept > 1 {
            return Err(format!("the replies of session {name} are too large"));
        }
        Ok(session)
    }
}
