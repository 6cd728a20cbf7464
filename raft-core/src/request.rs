//! What clients give a [`Replica`](crate::Replica), what they get back, and the queue in which commands gather.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::ReadKind;
use crate::batch::Batch;
use crate::error::Refusal;
use crate::state_machine::Position;
use crate::types::LogIndex;

/// What a replica holds for its clients at most, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One command.
    pub max_command_bytes: usize,
    /// One entry's payload, unless a single command is larger.
    pub max_batch_bytes: usize,
    /// Commands that wait for the disk.
    pub max_queued_bytes: usize,
    /// Queries that wait, for a leader's word or for their reply to be taken: their bytes, and [`QUERY_COST`] for each. One
    /// query always fits.
    pub max_query_bytes: usize,
    /// Entries applied since the last snapshot before another one is taken; `None` takes none by itself.
    pub snapshot_every_bytes: Option<usize>,
    /// The digest of the state is taken after each entry whose index is a multiple of this, and compared with the other
    /// replicas' (`None`, or 0: never). Give every server the same: only what is taken at the same entries is compared.
    pub state_digest_every: Option<u64>,
}

/// What a query that waits costs beside its bytes, about.
pub const QUERY_COST: usize = 128;

/// The shell's name for a request, echoed in its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The one answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which request.
    pub request: RequestId,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command was committed and applied here.
    Applied {
        /// Where it stands in the log.
        position: Position,
        /// The state machine's answer.
        reply: Bytes,
    },
    /// The query was answered by a state that held everything committed when it arrived.
    Answered {
        /// The last entry applied to that state.
        index: LogIndex,
        /// The state machine's answer.
        reply: Bytes,
        /// How it was confirmed that the state held it.
        kind: ReadKind,
    },
    /// It did not happen and will not.
    Refused(Refusal),
    /// It may have happened, or may happen yet: leadership was lost, or the server halted, before it committed here.
    Unknown,
}

/// Commands not proposed yet, oldest first; every batch but the last is full.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) batches: VecDeque<(Batch, Vec<RequestId>)>,
    pub(crate) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_command_bytes: 3 << 20,
            max_batch_bytes: 1 << 20,
            max_queued_bytes: 64 << 20,
            max_query_bytes: 16 << 20,
            snapshot_every_bytes: None,
            state_digest_every: Some(1024),
        }
    }
}

impl Queue {
    pub(crate) fn push(&mut self, request: RequestId, command: &[u8], max_batch_bytes: usize) {
        let cost = Batch::cost(command);
        let has_room =
            self.batches.back().is_some_and(|(batch, _)| batch.len().saturating_add(cost) <= max_batch_bytes);
        if !has_room {
            self.batches.push_back((Batch::default(), Vec::new()));
        }
        if let Some((batch, requests)) = self.batches.back_mut() {
            batch.push(command);
            requests.push(request);
            self.bytes = self.bytes.saturating_add(cost);
        }
    }

    pub(crate) fn take(&mut self) -> VecDeque<(Batch, Vec<RequestId>)> {
        self.bytes = 0;
        core::mem::take(&mut self.batches)
    }
}
