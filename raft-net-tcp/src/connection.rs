//! One open connection, as the loop sees it: what waits to be sent, and when it was last heard.

use std::task::Context;
use std::time::{Duration, Instant};

use raft_core::Message;
use serde::Serialize;
use tokio::task::AbortHandle;

use crate::frame::Kind;
use crate::output::{Flushed, Output, Queue};
use crate::protocol::CloseReason;

/// Names a connection of this process's life; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    pub(crate) number: u64,
    /// Of a client's connection: its place among those that are open.
    pub(crate) slot: usize,
}

/// The loop's side of a connection. Its reading task has the other half of the socket, and ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    output: Output,
    reader: Option<AbortHandle>,
    heard: Instant,
    said: Instant,
    /// Something was added since `said`.
    has_more_to_say: bool,
    /// A goodbye waits to be sent, for this reason; nothing follows it, and nothing more is taken.
    closing: Option<CloseReason>,
}

/// What the loop must do with a connection after a flush.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing until more is to be sent.
    Rest,
    /// Flush again when the socket takes more, or at the instant.
    Again(Option<Instant>),
    /// Forget it.
    Drop(CloseReason),
}

impl Connection {
    pub(crate) const fn new(id: ConnectionId, output: Output, now: Instant) -> Self {
        Self { id, output, reader: None, heard: now, said: now, has_more_to_say: false, closing: None }
    }

    /// Names the task that reads this connection.
    pub(crate) fn set_reader(&mut self, reader: AbortHandle) {
        self.reader = Some(reader);
    }

    /// Something arrived.
    pub(crate) const fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Adds a frame. `false` where it does not fit.
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, kind: Kind, value: &T) -> bool {
        self.push_with(|queue| queue.push(kind, value))
    }

    /// The same for what servers say to each other.
    pub(crate) fn push_message(&mut self, message: &Message) -> bool {
        self.push_with(|queue| queue.push_message(message))
    }

    fn push_with(&mut self, push: impl FnOnce(&mut Queue) -> bool) -> bool {
        let is_taken = self.closing.is_none() && push(self.output.queue_mut());
        self.has_more_to_say |= is_taken;
        is_taken
    }

    /// Throws away what waits to be sent.
    pub(crate) fn discard(&mut self) {
        self.output.queue_mut().discard();
    }

    /// Tells the other side why, and closes once that is sent.
    pub(crate) fn close(&mut self, reason: &CloseReason) {
        self.push(Kind::Goodbye, reason);
        self.closing.get_or_insert_with(|| reason.clone());
        // What the other side has sent is still read, and thrown away: or the system would take our goodbye back.
        self.reader = None;
    }

    pub(crate) fn flush(&mut self, context: &mut Context<'_>, now: Instant) -> Next {
        match self.output.poll_flush(context, now) {
            Flushed::Failed(error) => Next::Drop(CloseReason::Closed { what: error.to_string() }),
            Flushed::Empty => {
                if core::mem::take(&mut self.has_more_to_say) {
                    self.said = now;
                }
                self.closing.take().map_or(Next::Rest, Next::Drop)
            }
            Flushed::Waits(due) => Next::Again(due),
        }
    }

    /// Bytes that wait to be sent.
    #[cfg(test)]
    pub(crate) const fn waiting_bytes(&mut self) -> usize {
        self.output.queue_mut().waiting()
    }

    /// Whether it can be given up: nothing taken or nothing said for too long.
    pub(crate) fn overdue(&self, now: Instant, idle_max: Duration, stall_max: Duration) -> Option<CloseReason> {
        if self.output.stalled(now) > stall_max {
            Some(CloseReason::TooSlow)
        } else if now.saturating_duration_since(self.heard) > idle_max {
            Some(CloseReason::Idle)
        } else {
            None
        }
    }

    /// Whether nothing was sent for so long.
    pub(crate) fn is_silent(&self, now: Instant, interval: Duration) -> bool {
        now.saturating_duration_since(self.said) >= interval
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}
