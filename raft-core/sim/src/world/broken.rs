//! How a server is broken that stays so when the world heals: it must not hold the others back.

use raft_core::{NodeId, StateMachine, Storage};
use rand::RngExt;

use super::World;
use crate::plan::{Fault, Target};
use crate::report::Failure;
use crate::story::What;
use crate::time::{Time, chance};
use crate::workload::Workload;

/// More than all faults that end later can take away.
const FOR_EVER: u32 = u32::MAX / 2;

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// From now on it is down, or heard by nobody, or deaf, or its disk stands still, or its clock is wrong. It is no
    /// part of what has to come to a good end.
    pub(super) fn stays_broken(&mut self, id: NodeId) {
        let way = self.chances.random_range(0..6);
        let Some(at) = self.place(id) else { return };
        let is_leased = self.plan.shape.limits.lease_drift.is_some();
        let Some(server) = self.servers.get_mut(at) else { return };
        server.is_broken = true;
        let words = match way {
            0 | 1 if server.process.is_some() => {
                let (target, says) = (Target::Server(id.0), way == 0);
                let _ = self.network.apply(&Fault::OneWay { target, says, lasts: Time::ZERO });
                if says { "stays unheard" } else { "stays deaf" }
            }
            2 if server.process.is_some() => {
                server.stuck = FOR_EVER;
                "has a disk that stays stuck"
            }
            // A lease counts on right clocks.
            3 if server.process.is_some() && !is_leased => {
                server.clock = if id.0.is_multiple_of(2) { 200 } else { 3000 };
                "has a clock that stays wrong"
            }
            _ => {
                server.is_retired = true;
                self.crash(at);
                "stays down"
            }
        };
        self.tell(|| What::Fault { words: format!("server {id} {words}") });
    }

    /// The operator asks for something that cannot be: leadership is to go to who is broken.
    pub(super) fn hand_to_broken(&mut self) -> Result<(), Failure> {
        let broken = self.servers.iter().find(|server| server.is_broken).map(|server| server.id);
        let leader = self.leader().filter(|leader| Some(*leader) != broken);
        let Some((to, at)) = broken.zip(leader.and_then(|leader| self.place(leader))) else { return Ok(()) };
        let Some(process) = self.servers.get_mut(at).and_then(|server| server.process.as_mut()) else { return Ok(()) };
        if process.held.is_some() || !chance(&mut self.chances, 500) {
            return Ok(());
        }
        process.replica.transfer_leadership(to);
        self.tell(|| What::Fault { words: format!("leadership is to go to server {to}, which is broken") });
        self.after(at)
    }
}
