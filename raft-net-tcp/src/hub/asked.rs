//! What tasks of this process ask the replica: each is answered where it waits, not on a connection.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{RequestId, StateMachine, Storage};
use tokio::sync::oneshot;

use super::Hub;
use crate::protocol::ResponseBody;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Replicate and apply this command.
    Submit(Bytes),
    /// Answer this question, linearizably.
    Query(Bytes),
}

/// Who waits for which request.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: BTreeMap<RequestId, oneshot::Sender<ResponseBody>>,
    last: u64,
}

impl Asked {
    fn begin(&mut self) -> (RequestId, oneshot::Receiver<ResponseBody>) {
        let (sender, answer) = oneshot::channel();
        self.last = self.last.wrapping_add(1);
        let request = RequestId(self.last | OWN);
        self.waiting.insert(request, sender);
        (request, answer)
    }

    /// Whether who asked this still waits.
    pub(crate) fn awaits(&self, request: RequestId) -> bool {
        self.waiting.get(&request).is_some_and(|sender| !sender.is_closed())
    }

    /// Answers who asked this; gives the answer back where that is a client.
    pub(crate) fn answer(&mut self, request: RequestId, body: ResponseBody) -> Option<ResponseBody> {
        if request.0 & OWN == 0 {
            return Some(body);
        }
        if let Some(sender) = self.waiting.remove(&request) {
            // Who asked may have given up meanwhile.
            let _ = sender.send(body);
        }
        None
    }
}

impl<S: Storage, M: StateMachine> Hub<S, M> {
    /// Asks the replica. An answer that does not come is unknown.
    pub(crate) fn ask(&mut self, ask: &Ask) -> oneshot::Receiver<ResponseBody> {
        let (request, answer) = self.asked.begin();
        match ask {
            Ask::Submit(command) => self.replica.submit(request, command),
            Ask::Query(query) => self.replica.query(request, query.clone()),
        }
        self.waker.wake();
        answer
    }
}

/// In the names of these requests, and in none of a client's, which count slots.
const OWN: u64 = 1 << 63;
