//! What a node says of itself at length: now and then, and at the end of a run.

use std::rc::Rc;

use raft_core::{Batch, Digest, NodeId, Replica, StateMachine, Status, Storage, Transport};

use super::history::check;
use super::tap::Tap;
use super::{Oracle, Watched, WatchedMachine};
use crate::plan::Limits;
use crate::report::Failure;

/// Invariants 9 and 15, and that the node is what its writes make it.
pub(super) fn counts<S: Storage, T: Transport, M: StateMachine>(
    limits: &Limits,
    tap: &Tap,
    replica: &Replica<Watched<S>, T, WatchedMachine<M>>,
    status: &Status,
) -> Result<(), Failure> {
    is_what_was_written(tap, status)?;
    progress(limits, status)?;
    let (id, bytes) = (status.id, status.uncommitted_bytes);
    let most = limits.max_uncommitted_bytes.max(tap.largest_append);
    check(bytes <= most, "budgets", || format!("server {id} has {bytes} bytes uncommitted, and {most} are allowed"))?;
    let is_idle = status.commit_index == status.last_index;
    let what = || format!("server {id} has committed all of its log and counts {bytes} uncommitted bytes");
    check(!is_idle || bytes == 0, "budgets", what)?;
    let queued = replica.queued().map(Batch::cost).fold(0, usize::saturating_add);
    let most = raft_core::Limits::default().max_queued_bytes;
    check(queued <= most, "budgets", || format!("server {id} has {queued} bytes waiting, and {most} are allowed"))
}

fn is_what_was_written(tap: &Tap, status: &Status) -> Result<(), Failure> {
    let (log, id) = (&tap.live.log, status.id);
    let said = (status.snapshot_index, status.first_index, status.last_index);
    let written = (log.snapshot, log.base().next(), log.last());
    check(said == written, "the log is what was written", || {
        format!("server {id} has (snapshot, first, last) {said:?}, and has written {written:?}")
    })?;
    let (durable, persisted) = (tap.durable.log.last(), status.persisted_index);
    let what = || format!("server {id} takes {persisted} for durable, and {durable} is");
    check(persisted <= durable, "nothing unflushed is revealed", what)?;
    let held = tap.configurations.back().map(|(_, held)| held);
    check(held.is_none_or(|held| **held == status.configuration), "configurations", || {
        let held = held.map(|held| held.to_string()).unwrap_or_default();
        format!("server {id} goes by {}, and its log says {held}", status.configuration)
    })
}

fn progress(limits: &Limits, status: &Status) -> Result<(), Failure> {
    let (id, end) = (status.id, status.last_index.next());
    for (follower, progress) in &status.followers {
        let (matched, next, in_flight) = (progress.match_index(), progress.next_index(), progress.in_flight());
        let what = || format!("server {id} of {follower}: match {matched}, next {next}, and its log ends before {end}");
        check(matched < next && next <= end, "order", what)?;
        let most = limits.max_inflight;
        let what = || format!("server {id} has {in_flight} appends in flight to {follower}, and {most} are allowed");
        check(in_flight <= most, "budgets", what)?;
    }
    Ok(())
}

impl Oracle {
    /// Invariant 11: what a leader takes for matched is on that disk, as long as its follower knows of no later term.
    pub(super) fn is_matched(&self, tap: &Tap, status: &Status) -> Result<(), Failure> {
        for (follower, progress) in &status.followers {
            let (matched, term) = (progress.match_index(), status.term);
            let Some(mark) = tap.live.log.get(matched) else { continue };
            let follows = |server: &super::Server| server.tap.borrow().live.hard_state.current_term <= term;
            if self.servers.get(follower).is_some_and(follows) {
                // Which of its disks is meant, the progress says: one in another's place is sent the log as well.
                let is_held = self.any_disk_has(*follower, matched, mark);
                let what = || {
                    format!(
                        "server {} takes {matched} for matched by {follower}, whose disk has not {mark}",
                        tap.server
                    )
                };
                check(is_held, "matched is durable", what)?;
            }
        }
        Ok(())
    }

    /// The run has ended and all is quiet: these servers, whole and members, are equal and have nothing left to do.
    ///
    /// # Errors
    /// They are not, or have.
    pub fn settled<'a, S, T, M>(
        &mut self,
        replicas: impl IntoIterator<Item = (&'a NodeId, &'a Replica<Watched<S>, T, WatchedMachine<M>>)>,
    ) -> Result<(), Failure>
    where
        S: Storage + 'a,
        T: Transport + 'a,
        M: StateMachine + 'a,
    {
        let mut first: Option<(NodeId, Digest, Vec<u8>)> = None;
        for (id, replica) in replicas {
            self.is_quiet(*id, replica)?;
            let (state, bytes) = (replica.machine().digest(), replica.machine().snapshot());
            let (other, expected, equal) = first.get_or_insert_with(|| (*id, state, bytes.clone()));
            check(state == *expected, "equal states", || {
                format!("at the end server {id} has the state {state:.8}, and {other} has {expected:.8}")
            })?;
            // A digest that is kept while the state changes may be right where the state is not.
            check(bytes == *equal, "equal states", || {
                format!("at the end server {id} and {other} have states that differ under one digest, {state:.8}")
            })?;
        }
        Ok(())
    }

    fn is_quiet<S: Storage, T: Transport, M: StateMachine>(
        &self,
        id: NodeId,
        replica: &Replica<Watched<S>, T, WatchedMachine<M>>,
    ) -> Result<(), Failure> {
        let Some(server) = self.servers.get(&id) else { return Ok(()) };
        let tap = Rc::clone(&server.tap);
        let (tap, node, committed) = (tap.borrow(), replica.node(), self.committed());
        if !replica.is_halted() {
            counts(&self.limits, &tap, replica, &replica.status())?;
        }
        let log = &tap.live.log;
        let reached = (node.commit_index(), node.last_applied(), log.last());
        check(reached == (committed, committed, committed), "settled", || {
            format!("server {id} has (commit, applied, last) {reached:?} at the end, and {committed} is committed")
        })?;
        let is_equal = self.history.committed(committed).is_none_or(|mark| log.holds(committed, mark));
        check(is_equal, "equal logs", || format!("server {id} has another entry at {committed} than is committed"))?;
        let (is_durable, queued) = (tap.durable.log.last() == log.last(), replica.queued().count());
        let what = || format!("server {id} has {queued} commands waiting, or writes that are not durable, at the end");
        check(is_durable && queued == 0 && replica.is_settled(), "settled", what)
    }
}
