//! The sum over all sessions, of which the replies are parts by themselves: a write costs a hash of its reply, and not of
//! all that its session keeps.
//!
//! Most replies are acknowledged soon, and most sessions used again, before anybody asks for the sum: so what has changed is
//! hashed later, and what is gone by then is not hashed at all.

use super::Session;
use crate::sum::Sum;

/// The [`Sum`] of some sessions, or of parts of them. Empty for none.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionSum(Sum);

/// How much of a session a sum has.
///
/// Invariant: where it has the head, it has all replies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summed {
    head: bool,
    /// The replies up to this number.
    replies_to: u64,
}

impl Summed {
    pub(super) fn all(session: &Session) -> Self {
        let replies_to = session.replies.back().map_or(session.summed.replies_to, |(number, _)| *number);
        Self { head: true, replies_to }
    }

    pub(super) const fn has_head(self) -> bool {
        self.head
    }

    /// The head was taken.
    pub(super) const fn without_head(self) -> Self {
        Self { head: false, ..self }
    }

    /// Whether the reply of this number is part of the sum, or would be.
    pub(super) const fn has_reply(self, number: u64) -> bool {
        number <= self.replies_to
    }
}

impl SessionSum {
    /// All of the session, whatever another sum has.
    pub(crate) fn add(&mut self, name: u64, session: &Session) {
        self.add_head(name, session);
        session.replies.iter().for_each(|(number, reply)| self.add_reply(name, *number, reply.as_deref()));
    }

    /// What of the session is not summed yet.
    pub(super) fn add_rest(&mut self, name: u64, session: &Session) {
        if !session.summed.head {
            self.add_head(name, session);
        }
        for (number, reply) in session.replies.iter().rev().take_while(|(number, _)| !session.summed.has_reply(*number))
        {
            self.add_reply(name, *number, reply.as_deref());
        }
    }

    /// What of the session is summed.
    pub(super) fn take(&mut self, name: u64, session: &Session) {
        self.take_head(name, session);
        for (number, reply) in session.replies.iter().take_while(|(number, _)| session.summed.has_reply(*number)) {
            self.take_reply(name, *number, reply.as_deref());
        }
    }

    /// All of a session but its replies.
    fn add_head(&mut self, name: u64, session: &Session) {
        let hash = self.0.hash(|out| frame_head(name, session, out));
        self.0.add(hash);
    }

    /// Where it is summed.
    pub(super) fn take_head(&mut self, name: u64, session: &Session) {
        if session.summed.head {
            let hash = self.0.hash(|out| frame_head(name, session, out));
            self.0.take(hash);
        }
    }

    /// A number that was applied: `None` where its reply was forgotten.
    pub(super) fn add_reply(&mut self, name: u64, number: u64, reply: Option<&[u8]>) {
        if !raft_core::bug!(RepliesNotInSnapshot) {
            let hash = self.0.hash(|out| frame_reply(name, number, reply, out));
            self.0.add(hash);
        }
    }

    pub(super) fn take_reply(&mut self, name: u64, number: u64, reply: Option<&[u8]>) {
        if !raft_core::bug!(RepliesNotInSnapshot) {
            let hash = self.0.hash(|out| frame_reply(name, number, reply, out));
            self.0.take(hash);
        }
    }

    /// The sum, little-endian.
    pub(crate) fn to_bytes(&self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

/// 0, the name, the client, the index and the place of the last use, and the number that is acknowledged.
fn frame_head(name: u64, session: &Session, out: &mut Vec<u8>) {
    let (index, place) = session.used;
    let mut head = [0; 37];
    head[1..9].copy_from_slice(&name.to_le_bytes());
    head[9..17].copy_from_slice(&session.client.to_le_bytes());
    head[17..25].copy_from_slice(&index.to_le_bytes());
    head[25..29].copy_from_slice(&place.to_le_bytes());
    head[29..37].copy_from_slice(&session.acknowledged.to_le_bytes());
    out.extend_from_slice(&head);
}

/// 1, the session's name, the number, whether there is a reply, and the reply.
fn frame_reply(name: u64, number: u64, reply: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut head = [1; 18];
    head[1..9].copy_from_slice(&name.to_le_bytes());
    head[9..17].copy_from_slice(&number.to_le_bytes());
    head[17] = u8::from(reply.is_some());
    out.extend_from_slice(&head);
    out.extend_from_slice(reply.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft_core::{LogIndex, Position, Term};

    use super::*;
    use crate::command::RequestId;
    use crate::session::kept::Kept;
    use crate::session::{Admission, SessionLimits, Sessions};

    fn kept(reply: &'static [u8]) -> Option<Kept> {
        Some(Kept::from(&Bytes::from_static(reply)))
    }

    fn session() -> Session {
        let replies = [(6, kept(b"r")), (9, None)].into();
        Session { client: 7001, used: (3, 1), acknowledged: 5, summed: Summed::default(), replies, reply_bytes: 1 }
    }

    fn sum(name: u64, session: &Session) -> [u8; 16] {
        let mut sum = SessionSum::default();
        sum.add(name, session);
        sum.to_bytes()
    }

    #[test]
    fn sessions_that_differ_anywhere_count_differently() {
        let of = |change: fn(&mut Session)| {
            let mut session = session();
            change(&mut session);
            sum(1, &session)
        };
        let sums = [
            of(|_| {}),
            sum(2, &session()),
            of(|session| session.client = 7002),
            of(|session| session.used = (4, 1)),
            of(|session| session.used = (3, 2)),
            of(|session| session.acknowledged = 4),
            of(|session| session.replies[0].1 = None),
            of(|session| session.replies[0].1 = kept(b"s")),
            of(|session| session.replies[1].1 = kept(b"")),
            of(|session| _ = session.replies.pop_back()),
        ];
        for (at, one) in sums.iter().enumerate() {
            assert!(sums.iter().skip(at + 1).all(|other| one != other), "{at}");
        }
    }

    #[test]
    fn a_session_that_is_taken_leaves_no_trace() {
        let mut sum = SessionSum::default();
        let mut session = session();
        sum.add_rest(1, &session);
        session.summed = Summed::all(&session);
        sum.take(1, &session);
        assert_eq!(sum.to_bytes(), [0; 16]);
    }

    #[test]
    fn what_is_summed_is_neither_added_nor_left_behind() {
        for replies_to in [0, 5, 6, 9, 10] {
            for head in [false, true].into_iter().take(1 + usize::from(replies_to >= 9)) {
                let mut session = session();
                session.summed = Summed { head, replies_to };
                let mut parts = SessionSum::default();
                parts.add_rest(1, &session);
                session.summed = Summed::all(&session);
                parts.add_rest(1, &session);
                session.summed = Summed { head, replies_to };
                let whole = u128::from_le_bytes(sum(1, &session)).wrapping_sub(u128::from_le_bytes(parts.to_bytes()));
                let mut summed = SessionSum::default();
                summed.take(1, &session);
                assert_eq!(u128::from_le_bytes(summed.to_bytes()).wrapping_neg(), whole, "{replies_to} {head}");
            }
        }
    }

    #[test]
    fn the_sum_is_that_of_all_sessions_whichever_are_settled() {
        let mut sessions = Sessions::new(SessionLimits { sessions_max: 5, reply_bytes_max: 40 });
        let (mut shared, mut settled) = (Vec::new(), 0);
        for index in 0..20_000_u64 {
            let at = Position { index: LogIndex(index), term: Term(1), number: 0, digest: None };
            match index % 3000 {
                0 => _ = sessions.open(&at, 1),
                // As a snapshot has them, for a while.
                1000 => shared = sessions.shared().collect(),
                2000 => shared.clear(),
                _ => {}
            }
            // Some of them are open no more, and some numbers come late.
            let session = sessions.opened().saturating_sub(index % 7);
            let request = RequestId { client: 1, session, number: index + 1 - index % 3 };
            let acknowledged = index.saturating_sub(3 + index % 40);
            if let Admission::Fresh(fresh) = sessions.admit(&at, &request, acknowledged.min(request.number - 1)) {
                fresh.record(&Bytes::from(vec![7; usize::try_from(index % 19).unwrap()]));
            }
            settled += u32::from(sessions.changes == 0);
            if index % 97 == 0 || sessions.changes < 2 {
                let mut anew = SessionSum::default();
                sessions.iter().for_each(|(name, session)| anew.add(name, session));
                assert_eq!(sessions.sum().to_bytes(), anew.to_bytes(), "{index}");
            }
        }
        assert_eq!(settled, 4);
    }

    #[test]
    fn large_replies_are_not_left_to_be_summed_together() {
        let mut sessions = Sessions::new(SessionLimits { sessions_max: 100, reply_bytes_max: 1 << 20 });
        let reply = Bytes::from(vec![7; 1 << 20]);
        for index in 0..100 {
            let at = Position { index: LogIndex(index), term: Term(1), number: 0, digest: None };
            let request = RequestId { client: 1, session: sessions.open(&at, 1), number: 1 };
            let Admission::Fresh(fresh) = sessions.admit(&at, &request, 0) else { panic!("it was applied before") };
            fresh.record(&reply);
            let is_left =
                |session: &Session| session.replies.iter().any(|(number, _)| !session.summed.has_reply(*number));
            let left = sessions.iter().filter(|(_, session)| is_left(session)).count();
            assert!(left <= 5, "{left} MiB are left to be summed");
        }
    }

    #[test]
    fn a_sessions_parts_stay_what_they_are() {
        let mut bytes = Vec::new();
        frame_head(1, &session(), &mut bytes);
        assert_eq!(
            bytes,
            [&[0, 1][..], &[0; 7], &[0x59, 0x1b], &[0; 6], &[3], &[0; 7], &[1, 0, 0, 0, 5], &[0; 7]].concat()
        );
        bytes.clear();
        frame_reply(1, 6, Some(b"r"), &mut bytes);
        assert_eq!(bytes, [&[1, 1][..], &[0; 7], &[6], &[0; 7], &[1, b'r']].concat());
    }
}
