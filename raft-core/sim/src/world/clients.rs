//! Clients: the world wakes them when they want, and carries what they send and are told.

use raft_core::{StateMachine, Storage};

use super::server::Caller;
use super::{CLIENTS, Due, World};
use crate::story::What;
use crate::time::{Rng, Time};
use crate::workload::{Io, Workload};

/// When each client wants to be woken.
pub(super) struct Clients {
    pub(super) rng: Rng,
    pub(super) wakes: Vec<Option<Time>>,
}

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    pub(super) fn wake_at(&mut self, client: u32, at: Time) {
        if let Some(wake) = (client as usize).checked_sub(1).and_then(|place| self.clients.wakes.get_mut(place)) {
            *wake = Some(at);
            self.queue.push(at, Due::Wake(client));
        }
    }

    pub(super) fn wake(&mut self, client: u32) {
        let now = self.now;
        let wake = (client as usize).checked_sub(1).and_then(|place| self.clients.wakes.get_mut(place));
        // It may have wanted another time since.
        if wake.is_some_and(|wake| wake.take_if(|at| *at == now).is_some()) {
            self.with_client(client, |workload, io| workload.wake(client, io));
        }
    }

    pub(super) fn with_client(&mut self, client: u32, act: impl FnOnce(&mut W, &mut Io<'_>)) {
        let mut io = Io {
            now: self.now,
            rng: &mut self.clients.rng,
            servers: u32::try_from(self.servers.len()).unwrap_or(u32::MAX),
            think: self.plan.shape.think,
            calls: Vec::new(),
            wake_at: None,
            words: self.story.is_some().then(Vec::new),
        };
        act(&mut self.workload, &mut io);
        let Io { calls, wake_at, words, .. } = io;
        for words in words.unwrap_or_default() {
            self.tell(|| What::Client { client, words });
        }
        for (server, number, call) in calls {
            let caller = Caller { client, call: number };
            for at in self.network.carry(self.now, CLIENTS.saturating_add(client), server.0, 100) {
                self.queue.push(at, Due::Call(server, caller, call.clone()));
            }
        }
        if let Some(at) = wake_at {
            self.wake_at(client, at.max(self.now));
        }
    }
}
