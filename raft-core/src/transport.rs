//! How messages leave: one method.

use crate::message::Message;

/// Sends messages to other servers: fire and forget.
///
/// # Contract
///
/// 1. `send` never waits and never fails: what cannot be sent is lost, and Raft sends again.
/// 2. A message may be lost, delayed, repeated and reordered. It is never altered, and reaches only the server that
///    its `to` names.
/// 3. On the receiving side `from` is the peer that the transport has identified, whatever the bytes say.
pub trait Transport {
    /// Sends `message` to `message.to`, or loses it.
    fn send(&mut self, message: Message);
}

/// Collects the messages: for tests, and for loops that carry them by hand.
impl Transport for alloc::vec::Vec<Message> {
    fn send(&mut self, message: Message) {
        self.push(message);
    }
}
