//! What waits to be sent on one connection: encoded once, straight into the bytes that the socket takes.
//!
//! ```text
//!   0          written        released               bytes.len()
//!   | sent     | may be sent  | waits for its delay  |
//! ```
//!
//! Invariant: position 0 is the beginning of a frame, so that whole frames can be thrown away.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use raft_core::Message;
use serde::Serialize;
use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;

use crate::frame::{self, Kind};

/// A socket's sending half and what waits for it.
#[derive(Debug)]
pub(crate) struct Output {
    socket: OwnedWriteHalf,
    queue: Queue,
    /// Since when the socket has taken nothing, though something was there for it.
    stalled_since: Option<Instant>,
}

/// How a flush ended.
#[derive(Debug)]
pub(crate) enum Flushed {
    /// Everything was sent.
    Empty,
    /// The rest waits for the socket, or until the instant.
    Waits(Option<Instant>),
    /// The connection is broken.
    Failed(io::Error),
}

/// Bytes to send, in order, each held back for the delay.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    written: usize,
    released: usize,
    /// When everything up to a position may be sent. Empty without a delay.
    held: VecDeque<(Instant, usize)>,
    delay: Duration,
    frame_bytes_max: usize,
    budget_bytes: usize,
}

impl Output {
    pub(crate) const fn new(socket: OwnedWriteHalf, queue: Queue) -> Self {
        Self { socket, queue, stalled_since: None }
    }

    pub(crate) const fn queue_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// How long the socket has taken nothing of what was there for it.
    pub(crate) fn stalled(&self, now: Instant) -> Duration {
        self.stalled_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Sends what may be sent: one write, as a rule. Where the socket takes no more, the task of `context` is woken
    /// once it does.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>, now: Instant) -> Flushed {
        loop {
            let ready = self.queue.ready(now);
            if ready.is_empty() {
                self.stalled_since = None;
                return self.queue.next_due().map_or(Flushed::Empty, |due| Flushed::Waits(Some(due)));
            }
            match Pin::new(&mut self.socket).poll_write(context, ready) {
                Poll::Ready(Ok(0)) => return Flushed::Failed(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.queue.wrote(count);
                    self.stalled_since = None;
                }
                Poll::Ready(Err(error)) => return Flushed::Failed(error),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Flushed::Waits(self.queue.next_due());
                }
            }
        }
    }
}

impl Queue {
    pub(crate) const fn new(delay: Duration, frame_bytes_max: usize, budget_bytes: usize) -> Self {
        Self { bytes: Vec::new(), written: 0, released: 0, held: VecDeque::new(), delay, frame_bytes_max, budget_bytes }
    }

    /// Adds a frame. `false`, and nothing added, where it is larger than a frame may be or does not fit the budget.
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, kind: Kind, value: &T) -> bool {
        self.push_frame(|cap, bytes| frame::encode_into(kind, value, cap, bytes))
    }

    /// The same for what servers say to each other.
    pub(crate) fn push_message(&mut self, message: &Message) -> bool {
        self.push_frame(|cap, bytes| frame::encode_message_into(message, cap, bytes))
    }

    fn push_frame(&mut self, encode: impl FnOnce(usize, &mut Vec<u8>) -> bool) -> bool {
        let before = self.bytes.len();
        if self.waiting() >= self.budget_bytes || !encode(self.frame_bytes_max, &mut self.bytes) {
            return false;
        }
        if self.waiting() > self.budget_bytes {
            self.bytes.truncate(before);
            return false;
        }
        if self.delay.is_zero() {
            self.released = self.bytes.len();
        } else {
            self.held.push_back((after(Instant::now(), self.delay), self.bytes.len()));
        }
        true
    }

    /// Bytes that wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    /// Throws away every frame of which nothing was sent.
    pub(crate) fn discard(&mut self) {
        let keep = if self.written == 0 { 0 } else { self.frame_boundary(|end| end < self.written) };
        self.bytes.truncate(keep);
        // A frame of which a part was sent was released as a whole: `keep` is not beyond `released`.
        self.released = keep;
        self.held.clear();
        self.tidy();
    }

    /// What may be sent now.
    fn ready(&mut self, now: Instant) -> &[u8] {
        while let Some((_, end)) = self.held.pop_front_if(|(due, _)| *due <= now) {
            self.released = end;
        }
        self.bytes.get(self.written..self.released).unwrap_or_default()
    }

    /// When more may be sent.
    fn next_due(&self) -> Option<Instant> {
        self.held.front().map(|(due, _)| *due)
    }

    fn wrote(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.released);
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            (self.written, self.released) = (0, 0);
        } else if self.written > COMPACTED_BYTES_MIN && self.written > self.bytes.len() / 2 {
            // The last boundary at or below what was written.
            let mut done = 0;
            self.frame_boundary(|end| {
                if end <= self.written {
                    done = end;
                }
                end <= self.written
            });
            self.bytes.drain(..done);
            self.written = self.written.saturating_sub(done);
            self.released = self.released.saturating_sub(done);
            for (_, end) in &mut self.held {
                *end = end.saturating_sub(done);
            }
        }
    }

    /// The first end of a frame for which `goes_on` is false; the end of everything where there is none.
    fn frame_boundary(&self, mut goes_on: impl FnMut(usize) -> bool) -> usize {
        let mut end = 0_usize;
        while let Some(bytes) = self.bytes.get(end..).and_then(frame::front_bytes) {
            end = end.saturating_add(bytes);
            if !goes_on(end) {
                return end.min(self.bytes.len());
            }
        }
        self.bytes.len()
    }
}

/// `duration` after `now`; no delay at all where the clock does not reach so far.
fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).unwrap_or(now)
}

/// An empty queue keeps no more memory than this.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What was sent is moved out of the way once it is more than this and more than half.
const COMPACTED_BYTES_MIN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::FrameReader;

    const FRAME: usize = 8 + 5 + 8;

    fn queue(delay_ms: u64, budget_bytes: usize) -> Queue {
        Queue::new(Duration::from_millis(delay_ms), 1 << 20, budget_bytes)
    }

    fn body(byte: u8, len: usize) -> Bytes {
        Bytes::from(vec![byte; len])
    }

    #[test]
    fn n5_what_does_not_fit_the_budget_is_refused() {
        let mut queue = queue(0, 100);
        assert!(queue.push(Kind::Message, &body(1, 50)));
        assert!(!queue.push(Kind::Message, &body(2, 50)));
        assert_eq!(queue.waiting(), FRAME + 50);
        let sent = queue.ready(Instant::now()).len();
        queue.wrote(sent);
        assert!(queue.push(Kind::Message, &body(2, 50)));
    }

    #[test]
    fn a_delay_holds_back_and_keeps_the_order() {
        let mut queue = queue(1000, 1 << 20);
        let before = Instant::now();
        assert!(queue.push(Kind::Message, &body(1, 1)));
        assert!(queue.push(Kind::Message, &body(2, 1)));
        assert!(queue.ready(before).is_empty());
        let due = queue.next_due().unwrap();
        assert!(due >= before + Duration::from_secs(1));
        assert_eq!(queue.ready(due + Duration::from_secs(1)).len(), 2 * (FRAME + 1));
        assert_eq!(queue.next_due(), None);
    }

    proptest! {
        /// Whatever was sent in whatever pieces, and whatever was thrown away: the other side reads whole frames.
        #[test]
        fn only_whole_frames_are_thrown_away(
            steps in prop::collection::vec((0_u8..3, 1_usize..90_000), 1..60),
        ) {
            let mut queue = queue(0, 1 << 20);
            let mut frames = FrameReader::new(1 << 20);
            for (step, size) in steps {
                match step {
                    0 => drop(queue.push(Kind::Message, &body(7, size))),
                    1 => queue.discard(),
                    _ => {
                        let ready = queue.ready(Instant::now());
                        let count = size.min(ready.len());
                        frames.room().extend_from_slice(&ready[..count]);
                        queue.wrote(count);
                    }
                }
            }
            frames.room().extend_from_slice(queue.ready(Instant::now()));
            while frames.next_frame().unwrap().is_some() {}
            prop_assert!(frames.room().is_empty());
        }
    }
}
