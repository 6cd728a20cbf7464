//! The faults of a plan that befall links: what each cuts or clogs, until it is lifted.

use super::{Link, Network};
use crate::plan::{Fault, Target};
use crate::time::Time;

/// Names a fault that has befallen links and was not lifted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

/// What a fault does to links.
#[derive(Debug)]
pub(super) enum Effect {
    Cuts(Vec<(u32, u32)>),
    Clogs(Vec<(u32, u32)>),
    Detour(u32, u32, Time),
}

impl Network {
    /// Begins a fault, if it is one of links: what it cuts or clogs stays so until it is [lifted](Self::lift).
    ///
    /// `None` for every other fault, and for one whose target is not known by its number.
    pub fn apply(&mut self, fault: &Fault) -> Option<FaultId> {
        let effect = match fault {
            Fault::Partition { sides, .. } => {
                let together = |from, to| sides.iter().any(|side| side.contains(&from) && side.contains(&to));
                Effect::Cuts(self.links_where(|from, to| !together(from, to)))
            }
            Fault::Isolate { target: Target::Server(id), .. } => {
                Effect::Cuts(self.links_where(|from, to| from == *id || to == *id))
            }
            Fault::OneWay { target: Target::Server(id), says, .. } => {
                Effect::Cuts(self.links_where(|from, to| *id == if *says { from } else { to }))
            }
            Fault::Chain { .. } => Effect::Cuts(self.links_where(|from, to| from.abs_diff(to) != 1)),
            Fault::Clog { from, to, .. } => Effect::Clogs(vec![(*from, *to)]),
            Fault::Detour { from, to, longer, .. } => Effect::Detour(*from, *to, *longer),
            _ => return None,
        };
        match &effect {
            Effect::Cuts(links) => links.iter().for_each(|(from, to)| self.cut(*from, *to)),
            Effect::Clogs(links) => links.iter().for_each(|(from, to)| self.clog(*from, *to)),
            Effect::Detour(from, to, longer) => self.change(*from, *to, |link| link.detour = link.detour + *longer),
        }
        self.last_fault = FaultId(self.last_fault.0.saturating_add(1));
        self.faults.insert(self.last_fault, effect);
        Some(self.last_fault)
    }

    /// Ends a fault; nothing where it was lifted or healed already. Of what is held back for a clogged link, what is for one
    /// that no longer is can be carried now.
    pub fn lift(&mut self, fault: FaultId) {
        match self.faults.remove(&fault) {
            Some(Effect::Cuts(links)) => links.into_iter().for_each(|(from, to)| self.mend(from, to)),
            Some(Effect::Clogs(links)) => links.into_iter().for_each(|(from, to)| self.unclog(from, to)),
            Some(Effect::Detour(from, to, longer)) => self.change(from, to, |link| link.detour = link.detour - longer),
            None => {}
        }
    }

    /// Ends every fault, every cut and every clog, and lets new messages overtake those that a slow link still carries.
    pub fn heal(&mut self) {
        self.faults.clear();
        self.links.fill(Link::default());
    }

    fn links_where(&self, falls: impl Fn(u32, u32) -> bool) -> Vec<(u32, u32)> {
        let servers = 1..=self.servers;
        let all = servers.clone().flat_map(|from| servers.clone().map(move |to| (from, to)));
        all.filter(|(from, to)| from != to && falls(*from, *to)).collect()
    }
}
