//! What is looked at after every input of a server.

use std::rc::Rc;

use raft_core::{Configuration, LogIndex, NodeId, Replica, StateMachine, Storage, Term, Transport};

use super::history::check;
use super::shadow::Mark;
use super::tap::{News, Tap};
use super::{Oracle, Seen, Watched, WatchedMachine, audit};
use crate::report::Failure;

/// The node is asked for its counts at every so-manieth input.
const AUDIT_EVERY: u64 = 64;

impl Oracle {
    /// A server has taken an input. To be said after every one: before the messages of that input
    /// are [sent](Self::sent), and its answers [replied](Self::replied).
    ///
    /// # Errors
    /// An invariant is broken.
    pub fn stepped<S: Storage, T: Transport, M: StateMachine>(
        &mut self,
        id: NodeId,
        replica: &Replica<Watched<S>, T, WatchedMachine<M>>,
    ) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        let now = Seen::of(replica.node());
        server.inputs = server.inputs.wrapping_add(1);
        let is_due = server.inputs.is_multiple_of(AUDIT_EVERY);
        let before = server.seen.replace(now).unwrap_or(now);
        let mut tap = server.tap.borrow_mut();
        if before != now || tap.news.any || tap.failure.is_some() {
            tap.executed();
            tap.lacked_room = !replica.node().storage().has_room();
            std::mem::swap(&mut tap.news, &mut self.news);
            let failure = tap.failure.take();
            drop(tap);
            let mut news = std::mem::take(&mut self.news);
            let held = failure.map_or(Ok(()), Err).and_then(|()| self.changed(id, &before, &now, &news));
            news.clear();
            self.news = news;
            held?;
        } else {
            drop(tap);
        }
        if is_due { self.audit(id, replica) } else { Ok(()) }
    }

    fn audit<S: Storage, T: Transport, M: StateMachine>(
        &self,
        id: NodeId,
        replica: &Replica<Watched<S>, T, WatchedMachine<M>>,
    ) -> Result<(), Failure> {
        let Some(server) = self.servers.get(&id) else { return Ok(()) };
        if replica.is_halted() {
            return Ok(());
        }
        let (tap, status) = (server.tap.borrow(), replica.status());
        audit::counts(&self.limits, &tap, replica, &status)?;
        self.is_matched(&tap, &status)
    }

    /// A server is not what it was.
    fn changed(&mut self, id: NodeId, before: &Seen, now: &Seen, news: &News) -> Result<(), Failure> {
        never_falls(id, before, now)?;
        let Some(server) = self.servers.get(&id) else { return Ok(()) };
        let (tap, disk) = (Rc::clone(&server.tap), server.disk);
        let term_led = (before.leads() && now.leads() && before.term == now.term).then_some(now.term);
        self.appended(&tap.borrow(), news, term_led)?;
        for (term, candidate) in &news.votes {
            self.history.votes(id, disk, *term, *candidate)?;
        }
        if now.leads() && term_led.is_none() {
            self.history.leads(id, now.term)?;
            self.is_elected(&tap.borrow(), now.term)?;
            self.is_complete(&tap.borrow(), now.term, self.history.committed_before(now.term))?;
        }
        self.committed_here(&tap.borrow(), before, now)?;
        self.applied_here(id, now, news)?;
        self.heeds_states(&tap.borrow(), before, now)?;
        self.is_ordered(&tap.borrow(), now)?;
        let mut tap = tap.borrow_mut();
        tap.commit = now.commit;
        tap.forget_configurations();
        if let Some(server) = self.servers.get_mut(&id) {
            server.configuration = tap.configurations.back().map_or(LogIndex(0), |(index, _)| *index);
        }
        Ok(())
    }

    /// Invariant 1: who leads has the votes of a quorum, each durable where it was given.
    fn is_elected(&self, tap: &Tap, term: Term) -> Result<(), Failure> {
        let Some((_, configuration)) = tap.configurations.back() else { return Ok(()) };
        let has_voted = |voter: NodeId| {
            let disks = self.servers.get(&voter).map_or(0, |server| server.disk);
            (0..=disks).any(|disk| self.history.vote(voter, disk, term) == Some(tap.server))
        };
        check(configuration.is_quorum(has_voted), "election evidence", || {
            let voters: Vec<String> =
                self.servers.keys().filter(|id| has_voted(**id)).map(ToString::to_string).collect();
            let voters = voters.join(", ");
            format!(
                "server {} leads in term {term} by the votes of [{voters}]; the members are {configuration}",
                tap.server
            )
        })?;
        self.is_up_to_date(tap, term, has_voted)
    }

    /// Invariant 7, before anything can be lost: whoever gave its vote, and is in this term still, has no later log (§5.4.1)
    /// than the one that the leader had before its no-op.
    fn is_up_to_date(&self, tap: &Tap, term: Term, has_voted: impl Fn(NodeId) -> bool) -> Result<(), Failure> {
        let end = |tap: &Tap, at: LogIndex| tap.live.log.get(at).map(|mark| (mark.term, at));
        let last = tap.live.log.last();
        let Some(mine) = end(tap, last).filter(|(newest, _)| *newest == term).and_then(|_| end(tap, last.prev()))
        else {
            return Ok(());
        };
        for (id, server) in self.servers.iter().filter(|(id, _)| **id != tap.server && has_voted(**id)) {
            let voter = server.tap.borrow();
            let theirs = end(&voter, voter.live.log.last()).filter(|_| voter.live.hard_state.current_term == term);
            check(theirs.is_none_or(|theirs| theirs <= mine), "votes go to later logs", || {
                format!(
                    "server {id} has voted for {} in term {term}, and its log ends later: {theirs:?}, {mine:?}",
                    tap.server
                )
            })?;
        }
        Ok(())
    }

    /// Invariants 4 and 5. `term_led` is the term that it led all the time.
    fn appended(&mut self, tap: &Tap, news: &News, term_led: Option<Term>) -> Result<(), Failure> {
        let id = tap.server;
        if let Some((term, from)) = term_led.zip(news.removed) {
            let what = format!("server {id} leads in term {term} and removes entries from {from} on");
            return Err(Failure::new("leader append-only", what));
        }
        news.decided.iter().for_each(|decided| self.history.decides(*decided));
        let Some(first) = news.appended else { return Ok(()) };
        let log = &tap.live.log;
        for index in first.max(log.base().next()).0..=log.last().0 {
            let index = LogIndex(index);
            let Some(mark) = log.get(index) else { continue };
            self.history.has(id, index, mark)?;
            let is_own = term_led.is_none_or(|term| term == mark.term);
            check(is_own, "leader append-only", || format!("server {id} leads and appends at {index} {mark}"))?;
        }
        Ok(())
    }

    /// Invariant 7: a leader of this term has what is committed at `index`.
    fn is_complete(&self, tap: &Tap, term: Term, index: LogIndex) -> Result<(), Failure> {
        let Some(mark) = self.history.committed(index) else { return Ok(()) };
        let log = &tap.live.log;
        check(log.holds(index, mark), "leader completeness", || {
            let held = log.get(index).map_or_else(|| format!("ends at {}", log.last()), |held| format!("has {held}"));
            format!("server {} leads in term {term}; {mark} was committed at {index}, where its log {held}", tap.server)
        })
    }

    /// Invariants 6, 7 and 8: what this server has learnt to be committed.
    fn committed_here(&mut self, tap: &Tap, before: &Seen, now: &Seen) -> Result<(), Failure> {
        if now.commit <= before.commit {
            return Ok(());
        }
        let (log, known) = (&tap.live.log, self.committed());
        let mut first_seen = None;
        for index in before.commit.next().max(log.base()).0..=now.commit.0 {
            let index = LogIndex(index);
            let Some(mark) = log.get(index).filter(|_| index.0 > 0) else { continue };
            if self.history.commits(tap.server, now.term, index, mark)? && index > known {
                first_seen = Some((index, mark));
            }
        }
        if before.leads() && now.leads() && before.term == now.term {
            let is_own = log.get(now.commit).is_none_or(|mark| mark.term == now.term);
            let what =
                || format!("server {} leads in term {} and commits {} by counting", tap.server, now.term, now.commit);
            check(is_own, "only its own term's entries", what)?;
        }
        let Some((index, mark)) = first_seen else { return Ok(()) };
        self.is_evident(tap, now, index, mark)?;
        for server in self.servers.values() {
            if let Some(seen) = server.seen.filter(|seen| seen.leads() && seen.term > now.term) {
                self.is_complete(&server.tap.borrow(), seen.term, index)?;
            }
        }
        Ok(())
    }

    /// Invariant 8: a quorum of disks has this entry, of a configuration that was active here since the last input: a step
    /// that commits may also change it. Who does not lead takes another's word, and any that it knows will do.
    fn is_evident(&self, tap: &Tap, now: &Seen, index: LogIndex, mark: Mark) -> Result<(), Failure> {
        let floor = match self.servers.get(&tap.server) {
            Some(server) if now.leads() => server.configuration,
            _ => LogIndex(0),
        };
        let known = tap.configurations.iter();
        let earlier = tap.configurations.iter().skip(1).take_while(|(next, _)| *next <= floor).count();
        let holds = |configuration: &Configuration| {
            configuration.is_quorum(|id| self.has_on_disk(configuration, id, index, mark))
        };
        check(known.skip(earlier).any(|(_, held)| holds(held)), "commit evidence", || {
            let configuration = tap.configurations.back().map(|(_, held)| held.to_string()).unwrap_or_default();
            let disks: Vec<String> = self.servers.values().map(|server| on_disk(&server.tap.borrow(), index)).collect();
            format!(
                "server {} holds {mark} at {index} for committed in term {}; its members are {configuration}, and on disk {}",
                tap.server,
                now.term,
                disks.join(", ")
            )
        })
    }

    pub(super) fn any_disk_has(&self, id: NodeId, index: LogIndex, mark: Mark) -> bool {
        let lives = self.servers.get(&id).is_some_and(|server| server.tap.borrow().durable.log.holds(index, mark));
        lives || self.lost.iter().any(|lost| lost.server == id && lost.log.holds(index, mark))
    }

    fn has_on_disk(&self, configuration: &Configuration, id: NodeId, index: LogIndex, mark: Mark) -> bool {
        let meant = configuration.incarnation(id);
        let lives = self.servers.get(&id).is_some_and(|server| {
            meant.admits(server.incarnation) && server.tap.borrow().durable.log.holds(index, mark)
        });
        let of_it = |lost: &&super::Lost| lost.server == id && meant.admits(lost.incarnation);
        lives || self.lost.iter().filter(of_it).any(|lost| lost.log.holds(index, mark))
    }

    /// Invariants 6 and 12: what this server has applied, and what its snapshots are of.
    fn applied_here(&mut self, id: NodeId, now: &Seen, news: &News) -> Result<(), Failure> {
        for (index, sum) in &news.executed {
            let what = || format!("server {id} has applied {index}, and {} is committed", now.commit);
            check(*index <= now.commit, "applied is committed", what)?;
            self.history.executes(id, *index, *sum)?;
        }
        for (stretch, state) in &news.states {
            self.history.reaches(id, *stretch, *state)?;
        }
        for (index, mark, state) in &news.snapshots {
            self.is_committed(id, *index, *mark)?;
            self.history.snapshot(id, *index, *state)?;
        }
        Ok(())
    }

    /// Invariants 9 and 10.
    fn is_ordered(&self, tap: &Tap, now: &Seen) -> Result<(), Failure> {
        let (snapshot, last) = (tap.live.log.snapshot, tap.live.log.last());
        let is_ordered = snapshot <= now.applied && now.applied <= now.commit && now.commit <= last;
        check(is_ordered, "order", || {
            let Seen { commit, applied, .. } = now;
            format!("server {}: snapshot {snapshot}, applied {applied}, commit {commit}, last {last}", tap.server)
        })?;
        let committed = self.committed();
        let open = tap.configurations.iter().rev().take_while(|(index, _)| *index > committed).count();
        check(open <= 1, "configurations", || {
            let open: Vec<String> =
                tap.configurations.iter().map(|(index, held)| format!("{held} at {index}")).collect();
            format!("server {} has more than one that is not committed: {}", tap.server, open.join(", "))
        })
    }
}

/// Invariant 3, within a life.
fn never_falls(id: NodeId, before: &Seen, now: &Seen) -> Result<(), Failure> {
    let is_other_vote = before.voted_for.is_some() && before.voted_for != now.voted_for;
    let rules = [
        ("term and vote", now.term >= before.term && !(now.term == before.term && is_other_vote)),
        ("commit never falls", now.commit >= before.commit),
        ("applied never falls", now.applied >= before.applied),
    ];
    let broken = rules.into_iter().find(|(_, holds)| !holds);
    broken.map_or(Ok(()), |(rule, _)| Err(Failure::new(rule, format!("server {id} was {before:?} and is {now:?}"))))
}

fn on_disk(tap: &Tap, index: LogIndex) -> String {
    let log = &tap.durable.log;
    let held = log
        .get(index)
        .map_or_else(|| format!("entries {} to {}", log.base().next(), log.last()), |held| held.to_string());
    format!("{}: {held}", tap.server)
}
