//! Sessions: a retried write is applied once and answered alike (dissertation, §6.3).
//!
//! A session remembers the reply to every write above the number that its client has acknowledged. All that decides
//! comes from the log: which sessions there are, which of them expires, which replies are forgotten. So do all servers
//! decide alike, and so does one that starts from a snapshot.
//!
//! * Writes of one session may be outstanding together, and are applied in the order of the log, not of their numbers.
//!   A client that wants one before the other waits for its reply.
//! * Gaps are allowed: a number that never came is given up by acknowledging it, and is not applied if it comes then.
//! * A number that was applied is remembered until it is acknowledged, even if its reply was too large to keep.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::Position;
use serde::{Deserialize, Serialize};

use crate::command::RequestId;

mod kept;
mod record;
mod sum;

use kept::Kept;
pub(crate) use record::SessionRecord;
pub(crate) use sum::SessionSum;
use sum::Summed;

/// How much the sessions may take. It decides who expires, so it is part of the replicated state: the same on every
/// server, carried by snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Open sessions; one is open in any case. Opening one more expires the one that was used least recently.
    pub sessions_max: u32,
    /// Bytes of the kept replies of one session; more than 16 MiB counts as that. The newest is kept in any case; of the others the lowest numbers are
    /// forgotten first.
    pub reply_bytes_max: u32,
}

impl Default for SessionLimits {
    /// 4096 sessions, 1 MiB of replies each.
    fn default() -> Self {
        Self { sessions_max: 4096, reply_bytes_max: 1 << 20 }
    }
}

/// One client's run of writes.
#[derive(Clone, Debug)]
pub struct Session {
    client: u64,
    used: Place,
    acknowledged: u64,
    /// How much of it the sum has. This is no part of the state.
    summed: Summed,
    /// One for every applied number above `acknowledged`; `None` where the reply was forgotten.
    /// Invariant: ascending, and every number is within [`OUTSTANDING_MAX`](crate::OUTSTANDING_MAX) of `acknowledged`.
    replies: VecDeque<(u64, Option<Kept>)>,
    /// Invariant: the length of all kept replies; above the limit only where a single one is kept.
    reply_bytes: usize,
}

/// Where a command stands in the log: the index of its entry, and its place among the commands of that entry.
pub(crate) type Place = (u64, u32);

/// All open sessions.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    limits: SessionLimits,
    /// Names are handed out from 1 and never again.
    opened: u64,
    /// Shared with a snapshot that is being taken, until they change.
    open: BTreeMap<u64, Arc<Session>>,
    /// Invariant: the sum of what of `open` is [`Summed`].
    sum: SessionSum,
    /// Invariant: names every open session of which something is not in `sum`, once. May name some that expired.
    unsettled: Vec<u64>,
    /// Changes since the sum was last given what it lacked; a reply counts for as many as it has [`HASHED_BYTES`].
    changes: usize,
    /// Writes since this life began: what no server may decide by, and a seeded bug does.
    #[cfg(feature = "seeded-bugs")]
    seen: u64,
}

/// What to do with a write.
#[derive(Debug)]
pub(crate) enum Admission<'a> {
    /// Apply it, and [`record`](Fresh::record) the reply.
    Fresh(Fresh<'a>),
    /// It was applied: answer this.
    Answered(Bytes),
    /// It is acknowledged, or its reply was forgotten: do not apply it.
    Stale,
    /// There is no such session.
    Expired,
}

/// A write that was never applied, and its session.
#[derive(Debug)]
pub(crate) struct Fresh<'a> {
    name: u64,
    session: &'a mut Session,
    sum: &'a mut SessionSum,
    changes: &'a mut usize,
    number: u64,
    /// Where the reply will be.
    place: usize,
    reply_bytes_max: usize,
}

impl Session {
    fn new(client: u64, used: Place, acknowledged: u64) -> Self {
        let (replies, summed) = (VecDeque::new(), Summed::default());
        Self { client, used, acknowledged, summed, replies, reply_bytes: 0 }
    }

    /// Who opened it.
    #[must_use]
    pub fn client(&self) -> u64 {
        self.client
    }

    /// No number up to this one is remembered.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The numbers that were applied and are not yet acknowledged, in order, each with its encoded
    /// [`Reply`](crate::Reply); `None` where that was forgotten.
    pub fn replies(&self) -> impl Iterator<Item = (u64, Option<&[u8]>)> {
        self.replies.iter().map(|(number, reply)| (*number, reply.as_deref()))
    }

    /// Its client uses it here, and needs no reply up to this number; `sum` is one that it is part of, by this name.
    fn used(&mut self, name: u64, at: Place, acknowledged: u64, sum: &mut SessionSum) {
        sum.take_head(name, self);
        self.summed = self.summed.without_head();
        self.used = at;
        self.acknowledged = self.acknowledged.max(acknowledged);
        while let Some((number, reply)) = self.replies.pop_front_if(|(number, _)| *number <= self.acknowledged) {
            if self.summed.has_reply(number) {
                sum.take_reply(name, number, reply.as_deref());
            }
            self.reply_bytes = self.reply_bytes.saturating_sub(reply.map_or(0, |reply| reply.len()));
        }
    }
}

impl Sessions {
    pub(crate) fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            opened: 0,
            open: BTreeMap::new(),
            sum: SessionSum::default(),
            unsettled: Vec::new(),
            changes: 0,
            #[cfg(feature = "seeded-bugs")]
            seen: 0,
        }
    }

    /// Opens a session and returns its name. Expires others as the limit wants it.
    pub(crate) fn open(&mut self, at: &Position, client: u64) -> u64 {
        while self.open.len() >= sessions_max(self.limits) {
            let Some(oldest) = self.open.iter().min_by_key(|(_, session)| session.used).map(|(name, _)| *name) else {
                break;
            };
            raft_core::mark!(SessionEvicted);
            self.remove(oldest);
        }
        self.opened = self.opened.saturating_add(1);
        self.insert(self.opened, Session::new(client, place(at), 0));
        self.changed();
        self.opened
    }

    /// One of which nothing is summed.
    fn insert(&mut self, name: u64, session: Session) {
        self.unsettled.push(name);
        self.open.insert(name, Arc::new(session));
    }

    /// A session was changed. Once in so many times, the sum is given what it lacks: so it never lacks much when it is asked
    /// for, and a session that is used often costs it little.
    fn changed(&mut self) {
        /// About a millisecond's work, at most, is left to do.
        const UNSETTLED_MAX: usize = 4096;
        self.changes = self.changes.saturating_add(1);
        if self.changes >= UNSETTLED_MAX {
            self.settle();
        }
    }

    /// A session that a snapshot shares is left for later: to note that it is summed would copy it.
    fn settle(&mut self) {
        let Self { open, sum, unsettled, .. } = self;
        unsettled.retain(|name| match open.get_mut(name).map(Arc::get_mut) {
            Some(Some(session)) => {
                sum.add_rest(*name, session);
                session.summed = Summed::all(session);
                false
            }
            Some(None) => true,
            None => false,
        });
        self.changes = 0;
    }

    fn remove(&mut self, name: u64) {
        if let Some(session) = self.open.remove(&name) {
            self.sum.take(name, &session);
        }
    }

    /// Decides about a write, and takes note of what it acknowledges. Its number is above `acknowledged`, by
    /// [`OUTSTANDING_MAX`](crate::OUTSTANDING_MAX) at most.
    pub(crate) fn admit(&mut self, at: &Position, request: &RequestId, acknowledged: u64) -> Admission<'_> {
        #[cfg(feature = "seeded-bugs")]
        self.expire_locally();
        self.changed();
        let session = self.open.get_mut(&request.session).filter(|session| session.client == request.client);
        let Some(session) = session else {
            raft_core::mark!(SessionExpired);
            return Admission::Expired;
        };
        let session = Arc::make_mut(session);
        if session.summed.has_head() {
            self.unsettled.push(request.session);
        }
        session.used(request.session, place(at), acknowledged, &mut self.sum);
        if request.number <= session.acknowledged && !raft_core::bug!(AcknowledgedAppliedAgain) {
            raft_core::mark!(StaleWrite);
            return Admission::Stale;
        }
        let (Ok(place) | Err(place)) = session.replies.binary_search_by_key(&request.number, |(number, _)| *number);
        let reply = session.replies.get(place).filter(|(number, _)| *number == request.number);
        match reply.filter(|_| !raft_core::bug!(RetryAppliedAgain)) {
            Some((_, Some(reply))) => {
                raft_core::mark!(DuplicateAnswered);
                Admission::Answered(reply.to_bytes())
            }
            Some((_, None)) => {
                raft_core::mark!(StaleWrite);
                Admission::Stale
            }
            None => Admission::Fresh(Fresh {
                name: request.session,
                session,
                sum: &mut self.sum,
                changes: &mut self.changes,
                number: request.number,
                place,
                reply_bytes_max: reply_bytes_max(self.limits),
            }),
        }
    }

    /// A seeded bug: every fiftieth write of this life expires the oldest session.
    #[cfg(feature = "seeded-bugs")]
    fn expire_locally(&mut self) {
        if raft_core::bug!(SessionsExpireLocally) {
            self.seen = self.seen.saturating_add(1);
            if self.seen.is_multiple_of(50)
                && let Some(first) = self.open.keys().next().copied()
            {
                self.remove(first);
            }
        }
    }

    pub(crate) fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// How many were ever opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// By name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.open.iter().map(|(name, session)| (*name, &**session))
    }

    /// By name, as they are now.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (u64, Arc<Session>)> {
        self.open.iter().map(|(name, session)| (*name, Arc::clone(session)))
    }

    /// Of all of them.
    pub(crate) fn sum(&self) -> SessionSum {
        let mut sum = self.sum.clone();
        for name in &self.unsettled {
            if let Some(session) = self.open.get(name) {
                sum.add_rest(*name, session);
            }
        }
        sum
    }

    /// The sessions that gave these limits, `opened` and `records`.
    ///
    /// # Errors
    /// No sessions give them; says why.
    pub(crate) fn from_records(
        limits: SessionLimits,
        opened: u64,
        records: impl Iterator<Item = Result<SessionRecord, String>>,
    ) -> Result<Self, String> {
        let mut sessions = Self { opened, ..Self::new(limits) };
        for record in records {
            let record = record?;
            let above = sessions.open.last_key_value().map_or(0, |(name, _)| *name);
            if record.name() <= above || record.name() > opened {
                return Err(format!("session {} is out of place", record.name()));
            }
            sessions.insert(record.name(), Session::from_record(limits, record)?);
        }
        if sessions.open.len() > sessions_max(limits) {
            return Err("more sessions than may be open".into());
        }
        sessions.settle();
        Ok(sessions)
    }
}

impl Fresh<'_> {
    /// Remembers the reply to the write.
    pub(crate) fn record(self, reply: &Bytes) {
        let Self { name, session, sum, changes, number, place, reply_bytes_max } = self;
        *changes = changes.saturating_add(reply.len() / HASHED_BYTES);
        if session.summed.has_reply(number) {
            sum.add_reply(name, number, Some(reply));
        }
        session.reply_bytes = session.reply_bytes.saturating_add(reply.len());
        session.replies.insert(place, (number, Some(Kept::from(reply))));
        if session.reply_bytes <= reply_bytes_max {
            return;
        }
        for (at, reply) in &mut session.replies {
            if session.reply_bytes <= reply_bytes_max {
                break;
            }
            if *at != number
                && let Some(forgotten) = reply.take()
            {
                if session.summed.has_reply(*at) {
                    sum.take_reply(name, *at, Some(&forgotten));
                    sum.add_reply(name, *at, None);
                }
                session.reply_bytes = session.reply_bytes.saturating_sub(forgotten.len());
            }
        }
    }
}

/// What is hashed in about the time that any change takes besides.
const HASHED_BYTES: usize = 1 << 10;

fn sessions_max(limits: SessionLimits) -> usize {
    usize::try_from(limits.sessions_max.max(1)).unwrap_or(usize::MAX)
}

/// Keeps a session's record in a snapshot well below what the codec reads.
const REPLY_BYTES_LIMIT_MAX: u32 = 16 << 20;

fn reply_bytes_max(limits: SessionLimits) -> usize {
    usize::try_from(limits.reply_bytes_max.min(REPLY_BYTES_LIMIT_MAX)).unwrap_or(usize::MAX)
}

fn place(at: &Position) -> Place {
    (at.index.0, at.number)
}
