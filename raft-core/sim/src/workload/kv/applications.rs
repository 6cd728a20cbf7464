//! Each write is applied once (invariant 13).

use std::collections::HashMap;

use raft_core::{NodeId, Position};
use raft_kv::{Reply, RequestId, codec};
use serde::Deserialize;

/// Where each write was applied, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Applications {
    /// Only looked up: its order matters nowhere.
    first: HashMap<RequestId, Application>,
}

/// The first copy of a write that was applied, by the first server that did.
#[derive(Debug)]
struct Application {
    server: NodeId,
    place: Place,
    reply: Box<[u8]>,
}

/// An entry, and the place among its commands.
type Place = (u64, u32);

/// How a [`raft_kv::Command`] begins: all that is asked here.
#[derive(Deserialize)]
enum Head {
    OpenSession,
    Write { request: RequestId },
}

impl Applications {
    /// Takes note of what a server did, and says what is wrong about it.
    ///
    /// A machine that answers a copy from its memory gives the reply to the first one, which names that one's block. So
    /// two replies to one request differ only where it was applied twice. Two copies in one block are told apart by
    /// what came of them, if by anything.
    pub(super) fn applied(
        &mut self,
        server: NodeId,
        at: &Position,
        command: &[u8],
        reply: &[u8],
    ) -> Result<(), String> {
        let mut rest = command;
        let Ok(Head::Write { request }) = codec::decode_next(&mut rest) else {
            return Ok(());
        };
        let place = (at.index.0, at.number);
        if let Some(first) = self.first.get(&request) {
            return first.compare(&request, server, place, reply);
        }
        let Ok(Reply::Done { height, .. }) = Reply::decode(reply) else {
            return Ok(());
        };
        if height != at.index.0 {
            return Err(format!(
                "server {server} answered {request} at {} from block {height}, where nobody applied it",
                shown(place)
            ));
        }
        self.first.insert(request, Application { server, place, reply: reply.into() });
        Ok(())
    }

    /// Says what is wrong with this reply, that a client was given.
    pub(super) fn told(&self, request: &RequestId, reply: &[u8]) -> Result<(), String> {
        // Nobody tells of applications here.
        if self.first.is_empty() {
            return Ok(());
        }
        match self.first.get(request) {
            Some(first) if *first.reply == *reply => Ok(()),
            Some(first) => Err(format!(
                "{request} was answered: {}; but server {} applied it at {}: {}",
                read(reply),
                first.server,
                shown(first.place),
                read(&first.reply)
            )),
            None => Err(format!("{request} was answered: {}; but nobody applied it", read(reply))),
        }
    }
}

impl Application {
    fn compare(&self, request: &RequestId, server: NodeId, place: Place, reply: &[u8]) -> Result<(), String> {
        if *self.reply == *reply {
            if place >= self.place {
                return Ok(());
            }
        } else if !matches!(Reply::decode(reply), Ok(Reply::Done { .. })) {
            // Not applied: expired or stale, as may come of a later copy, but not of the first.
            if place != self.place {
                return Ok(());
            }
        }
        Err(format!(
            "{request} was applied at {} by server {}: {}; and at {} by server {server}: {}",
            shown(self.place),
            self.server,
            read(&self.reply),
            shown(place),
            read(reply)
        ))
    }
}

fn shown((index, number): Place) -> String {
    format!("entry {index}, command {number}")
}

fn read(reply: &[u8]) -> String {
    Reply::decode(reply).map_or_else(|error| error.to_string(), |reply| reply.to_string())
}
