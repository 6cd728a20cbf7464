//! Leases, where they are on: while one holds, nobody leads in a later term, and nobody could be elected into one.

use raft_core::{Configuration, NodeId, RoleName, StateMachine, Storage, Term};

use super::World;
use crate::report::Failure;
use crate::workload::Workload;

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// Faults R4 and R5, before a read is stale: a lease that lasts too long makes one only where somebody is elected in
    /// what it lasts too long, and somebody reads then.
    pub(super) fn leases_exclude(&self) -> Result<(), Failure> {
        if self.plan.shape.limits.lease_drift.is_none() {
            return Ok(());
        }
        let replicas = self.servers.iter().filter_map(|server| Some(&server.process.as_ref()?.replica));
        let leaders = replicas.filter(|replica| replica.node().role() == RoleName::Leader && !replica.is_halted());
        let newest = leaders.clone().map(|replica| replica.node().current_term()).max().unwrap_or(Term(0));
        for replica in leaders {
            let node = replica.node();
            let other = if node.current_term() < newest {
                format!("another leads in {newest}")
            } else if self.may_elect(node.configuration()) {
                String::from("a quorum has promised nothing and may elect another")
            } else {
                continue;
            };
            // It is rare that this is so: only then anybody is asked for more.
            let status = replica.status();
            if let Some(left) = status.lease {
                let what =
                    format!("server {} of term {} has a lease for {left} ticks, and {other}", status.id, status.term);
                return Err(Failure::new("a lease excludes other leaders", what));
            }
        }
        Ok(())
    }

    /// Whether a quorum of the disks that are meant may vote now: who runs, does not lead, and has promised nothing. Who is
    /// down promises anew when it starts. Of its promise a server's own word is taken: one that does not keep it is seen
    /// to lead.
    fn may_elect(&self, configuration: &Configuration) -> bool {
        let may_vote = |voter: NodeId| {
            let server = self.place(voter).and_then(|at| self.servers.get(at));
            let Some((server, process)) = server.and_then(|server| Some((server, server.process.as_ref()?))) else {
                return false;
            };
            let pin = configuration.incarnation(voter);
            let is_meant = if pin.is_known() { pin == server.incarnation } else { server.is_founder };
            let node = process.replica.node();
            is_meant && node.role() != RoleName::Leader && !node.is_halted() && !node.is_promised()
        };
        configuration.is_quorum(may_vote)
    }
}
