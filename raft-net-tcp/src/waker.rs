//! Wakes a server's loop from any thread.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes a server's loop, so that it asks its storage what has become durable. Clones wake the same loop.
///
/// Make it first, give a clone to the storage's writer thread, then give it to the server.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// A waker that no server waits on yet: what it is told before is not lost.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the loop. From any thread, and cheap when it is awake.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Returns once [`wake`](Self::wake) was called since it last returned.
    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}
