//! A connection as a client keeps it from one request to the next.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use raft_core::NodeId;
use tokio::time::{Sleep, sleep};

use crate::client_connection::{ClientConnection, ConnectionError};
use crate::line::{Line, TooLarge};
use crate::protocol::{RequestBody, ResponseBody};

/// See the module.
#[derive(Debug)]
pub(super) struct Open {
    way: Way,
    timer: Timer,
    /// When the last answer came.
    answered: Instant,
}

#[derive(Debug)]
pub(super) enum Way {
    /// This client's alone.
    Own(ClientConnection),
    Shared(Line),
}

/// A timer for one wait after the other. The runtime is told of the first; a later time it only finds once the earlier one
/// has come.
#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl Open {
    pub(super) fn new(way: Way) -> Self {
        Self { way, timer: Timer(Box::pin(sleep(Duration::ZERO))), answered: Instant::now() }
    }

    /// Who is at the other end.
    pub(super) fn server(&self) -> NodeId {
        match &self.way {
            Way::Own(connection) => connection.server(),
            Way::Shared(line) => line.server(),
        }
    }

    /// Whether the other side has not closed it, as far as one knows without asking. Who has just answered is not looked
    /// at.
    pub(super) async fn is_open(&mut self, now: Instant) -> bool {
        match &mut self.way {
            Way::Own(connection) => now.saturating_duration_since(self.answered) < JUST || connection.is_open().await,
            Way::Shared(line) => line.is_open(),
        }
    }

    /// Sends a request at `now`, and waits for its response until the deadline. Where there is none, the connection is of no
    /// more use.
    pub(super) async fn ask(
        &mut self,
        body: RequestBody<'_>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Option<ResponseBody>, TooLarge> {
        let response = match &mut self.way {
            Way::Own(connection) => {
                let number = connection.enqueue(body).ok_or(TooLarge)?;
                self.timer.wait_until(deadline, exchange(connection, number)).await.and_then(Result::ok)
            }
            Way::Shared(line) => match self.timer.wait_until(deadline, line.ask(body)).await {
                Some(response) => response?,
                None => {
                    line.doubt(now);
                    None
                }
            },
        };
        if response.is_some() {
            self.answered = Instant::now();
        }
        Ok(response)
    }
}

/// Sends what was enqueued, and waits for the response to this request.
async fn exchange(connection: &mut ClientConnection, number: u64) -> Result<ResponseBody, ConnectionError> {
    connection.flush().await?;
    loop {
        let response = connection.receive().await?;
        if response.number == number {
            return Ok(response.body);
        }
    }
}

impl Timer {
    /// What comes of it; `None` where nothing has until the deadline.
    async fn wait_until<F: Future>(&mut self, deadline: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        self.0.as_mut().reset(deadline.into());
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.0.as_mut().poll(context).map(|()| None),
        })
        .await
    }
}

/// To look whether a connection is open takes a turn of the runtime, which would find nothing so soon after an answer.
const JUST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn a_timer_waits_for_one_after_the_other() {
        let mut timer = Timer(Box::pin(sleep(Duration::ZERO)));
        let after = |millis| Instant::now() + Duration::from_millis(millis);
        assert_eq!(timer.wait_until(after(60_000), ready(1)).await, Some(1));
        let soon = after(20);
        assert_eq!(timer.wait_until(soon, pending::<()>()).await, None);
        assert!(Instant::now() >= soon);
        assert_eq!(timer.wait_until(after(60_000), yield_now()).await, Some(()));
        let past = timer.wait_until(soon, pending::<()>()).await;
        assert_eq!(past, None);
    }
}
