//! Commands from other threads, run on the server's loop: what an operator's prompt needs.

use std::sync::Arc;

use raft_core::{LogIndex, MembershipChange, Refusal, Replica, StateMachine, Storage};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::hub::Hub;
use crate::links::LinkFaults;
use crate::peers::Peers;
use crate::protocol::ServerStatus;

/// Runs commands on a server's loop, from any thread. Clones speak to the same server.
pub struct ServerHandle<S, M> {
    jobs: mpsc::Sender<Job<S, M>>,
    stop: Arc<Notify>,
}

/// What a command may do on the loop. Nothing else happens meanwhile: it must be quick.
pub struct Control<'a, S, M> {
    hub: &'a mut Hub<S, M>,
}

/// The server does not run any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server does not run any more")]
pub struct Stopped;

pub(crate) type Job<S, M> = Box<dyn FnOnce(&mut Control<'_, S, M>) + Send>;

impl<S, M> ServerHandle<S, M> {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Job<S, M>>) {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        (Self { jobs, stop: Arc::default() }, receiver)
    }

    /// Runs `command` on the loop and returns what it returns.
    ///
    /// # Errors
    /// The server does not run any more.
    pub async fn with<R: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Control<'_, S, M>) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (job, answer) = job(command);
        self.jobs.send(job).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// As [`with`](Self::with), for a thread outside of any runtime.
    ///
    /// # Errors
    /// The server does not run any more.
    pub fn with_blocking<R: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Control<'_, S, M>) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (job, answer) = job(command);
        self.jobs.blocking_send(job).map_err(|_| Stopped)?;
        answer.blocking_recv().map_err(|_| Stopped)
    }

    /// Tells the server to stop; returns at once.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) async fn stopped(&self) {
        self.stop.notified().await;
    }
}

impl<S, M> Clone for ServerHandle<S, M> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), stop: self.stop.clone() }
    }
}

impl<'a, S: Storage, M: StateMachine> Control<'a, S, M> {
    pub(crate) const fn new(hub: &'a mut Hub<S, M>) -> Self {
        Self { hub }
    }

    /// The replica, to look at: its node, its machine, what is queued.
    #[must_use]
    pub const fn replica(&self) -> &Replica<S, Peers, M> {
        &self.hub.replica
    }

    /// The storage, to look at and for its own care.
    pub const fn storage(&mut self) -> &mut S {
        self.hub.replica.storage_mut()
    }

    /// The links to break and to mend.
    pub const fn links(&mut self) -> &mut LinkFaults {
        self.hub.replica.transport_mut().links_mut()
    }

    /// Stands for election now.
    pub fn campaign(&mut self) {
        self.hub.replica.campaign();
    }

    /// Begins a change of the members; the index of its first entry. [`ServerStatus::is_changing`] tells when it is
    /// done.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn change_members(&mut self, change: MembershipChange) -> Result<LogIndex, Refusal> {
        self.hub.change_members(change).map(|(index, _)| index)
    }

    /// What every status says from now on, in place of what it said about the same.
    pub fn remark(&mut self, about: &str, words: &str) {
        self.hub.config.remarks.retain(|remark| !remark.starts_with(about));
        self.hub.config.remarks.push(format!("{about}: {words}"));
    }

    /// How the server is.
    pub fn status(&mut self) -> ServerStatus {
        self.hub.status()
    }
}

fn job<S, M, R: Send + 'static>(
    command: impl FnOnce(&mut Control<'_, S, M>) -> R + Send + 'static,
) -> (Job<S, M>, oneshot::Receiver<R>) {
    let (sender, answer) = oneshot::channel();
    // Who asked may have gone meanwhile.
    (Box::new(move |control| drop(sender.send(command(control)))), answer)
}

/// Commands that wait; one more waits to be sent.
const JOBS_MAX: usize = 16;
