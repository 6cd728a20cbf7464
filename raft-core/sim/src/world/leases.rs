//! Leases, where they are on: while one holds, nobody leads in a later term.

use raft_core::{RoleName, StateMachine, Storage, Term};

use super::World;
use crate::report::Failure;
use crate::workload::Workload;

impl<M: StateMachine, S: Storage, W: Workload> World<'_, M, S, W> {
    /// Faults R4 and R5, before a read is stale.
    pub(super) fn leases_exclude(&self) -> Result<(), Failure> {
        if self.plan.shape.limits.lease_drift.is_none() {
            return Ok(());
        }
        let replicas = self.servers.iter().filter_map(|server| Some(&server.process.as_ref()?.replica));
        let leaders = replicas.filter(|replica| replica.node().role() == RoleName::Leader && !replica.is_halted());
        let newest = leaders.clone().map(|replica| replica.node().current_term()).max().unwrap_or(Term(0));
        // It is rare that two lead: only then anybody is asked for more.
        for replica in leaders.filter(|replica| replica.node().current_term() < newest) {
            let status = replica.status();
            if let Some(left) = status.lease {
                let (id, term) = (status.id, status.term);
                let what =
                    format!("server {id} of term {term} has a lease for {left} ticks, and another leads in {newest}");
                return Err(Failure::new("a lease excludes other leaders", what));
            }
        }
        Ok(())
    }
}
