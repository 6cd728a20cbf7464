//! How a client goes about it, as far as its user says.

use std::time::Duration;

/// How long a client waits, and whom it trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// For a request as a whole, whatever happens.
    pub deadline: Duration,
    /// For the first answer of one server, before another is asked; twice as long for the next, and so on.
    pub attempt_max: Duration,
    /// For connecting to one server, and for [checking](Self::check_history) its history then, each.
    pub connect_max: Duration,
    /// The first pause after all was in vain; it doubles up to `pause_max`.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// Whether every new connection begins with the proof that the server's history goes on from the head that the client
    /// remembers. A server that has none is not asked anything: for clusters whose servers keep every block.
    pub check_history: bool,
}

impl Default for ClientOptions {
    /// 5 s for a request, of which 1 s for one server's answer and 500 ms for connecting to it; pauses of 10 to 200 ms.
    /// Histories are not checked.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            attempt_max: Duration::from_secs(1),
            connect_max: Duration::from_millis(500),
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_millis(200),
            check_history: false,
        }
    }
}
