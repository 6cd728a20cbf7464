//! The links between servers: when what is sent on one arrives, and which are cut or clogged.
//!
//! A message waits until its link has sent those before it ([`capacity`](plan::Network::capacity)), is lost or doubled, and
//! each copy takes its time. Cuts and clogs are counted: a link that two faults have cut is whole when both have ended.
//! Servers are numbered from 1. Whoever has another number, a client, has links like all others, which queue nothing,
//! order nothing and are never cut.

use std::collections::BTreeMap;

use raft_core::{Body, Message, NodeId, Transport};

use crate::plan;
use crate::time::{Rng, Time, between, chance, exponential};

mod faults;

pub use faults::FaultId;

/// A message that would wait longer than this for those before it on its link is lost.
const QUEUE_MAX: Time = Time::secs(1);

/// Bytes of a message besides entries and chunks, about.
const MESSAGE_BYTES: u64 = 64;

/// All links: see the module.
#[derive(Debug)]
pub struct Network {
    shape: plan::Network,
    rng: Rng,
    servers: u32,
    /// Row by row, a row a sender.
    links: Vec<Link>,
    faults: BTreeMap<FaultId, faults::Effect>,
    last_fault: FaultId,
}

/// One direction between two servers.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    cuts: u32,
    clogs: u32,
    /// How much later arrives what is sent now.
    detour: Time,
    /// When it has sent all that it was given.
    busy_until: Time,
    /// The last arrival of those in order.
    last_arrival: Time,
}

impl Network {
    /// The links of so many servers, all whole.
    #[must_use]
    pub fn new(shape: plan::Network, servers: u32, rng: Rng) -> Self {
        let links = (servers as usize).saturating_mul(servers as usize);
        Self {
            shape,
            rng,
            servers,
            links: vec![Link::default(); links],
            faults: BTreeMap::new(),
            last_fault: FaultId::default(),
        }
    }

    /// What all links are like from now on; what is under way stays as it was.
    pub fn set_shape(&mut self, shape: plan::Network) {
        self.shape = shape;
    }

    /// Sends a message of so many bytes: when each copy of it arrives. Nothing arrives where the link is cut, and what was
    /// sent before a cut still does.
    ///
    /// Whoever asks holds back what is for a [clogged](Self::is_clogged) link, and carries it when it no longer is.
    pub fn carry(&mut self, now: Time, from: u32, to: u32, bytes: u64) -> Arrivals {
        let Self { shape, rng, servers, links, .. } = self;
        // Links that have no place keep no state.
        let mut elsewhere = Link::default();
        let place = place(*servers, from, to);
        let link = place.and_then(|place| links.get_mut(place)).unwrap_or(&mut elsewhere);
        let mut arrivals = Arrivals::default();
        if link.cuts > 0 {
            return arrivals;
        }
        let Some(sent) = link.send(now, bytes, shape.capacity) else { return arrivals };
        if chance(rng, shape.loss) {
            return arrivals;
        }
        loop {
            arrivals.push(link.arrival(sent, shape, rng));
            if arrivals.is_full() || !chance(rng, shape.duplication) {
                return arrivals;
            }
        }
    }

    /// Cuts one direction, once more if it is cut already.
    pub fn cut(&mut self, from: u32, to: u32) {
        self.change(from, to, |link| link.cuts = link.cuts.saturating_add(1));
    }

    /// Ends one [`cut`](Self::cut).
    pub fn mend(&mut self, from: u32, to: u32) {
        self.change(from, to, |link| link.cuts = link.cuts.saturating_sub(1));
    }

    /// Whether what is sent now is lost.
    #[must_use]
    pub fn is_cut(&self, from: u32, to: u32) -> bool {
        self.link(from, to).is_some_and(|link| link.cuts > 0)
    }

    /// Clogs one direction, once more if it is clogged already.
    pub fn clog(&mut self, from: u32, to: u32) {
        self.change(from, to, |link| link.clogs = link.clogs.saturating_add(1));
    }

    /// Ends one [`clog`](Self::clog).
    pub fn unclog(&mut self, from: u32, to: u32) {
        self.change(from, to, |link| link.clogs = link.clogs.saturating_sub(1));
    }

    /// Whether what is sent now is to be held back.
    #[must_use]
    pub fn is_clogged(&self, from: u32, to: u32) -> bool {
        self.link(from, to).is_some_and(|link| link.clogs > 0)
    }

    fn link(&self, from: u32, to: u32) -> Option<&Link> {
        self.links.get(place(self.servers, from, to)?)
    }

    fn change(&mut self, from: u32, to: u32, change: impl FnOnce(&mut Link)) {
        if let Some(link) = place(self.servers, from, to).and_then(|place| self.links.get_mut(place)) {
            change(link);
        }
    }
}

/// Where this link stands; `None` unless it is between two servers.
fn place(servers: u32, from: u32, to: u32) -> Option<usize> {
    let index = |server: u32| server.checked_sub(1).filter(|index| *index < servers).map(|index| index as usize);
    let (row, column) = (index(from)?, index(to)?);
    (row != column).then(|| row.saturating_mul(servers as usize).saturating_add(column))
}

impl Link {
    /// When the last byte of a message has left; `None` where too much waits before it.
    fn send(&mut self, now: Time, bytes: u64, capacity: Option<u64>) -> Option<Time> {
        let Some(bytes_per_milli) = capacity else { return Some(now) };
        let begins = now.max(self.busy_until);
        if begins - now > QUEUE_MAX {
            return None;
        }
        self.busy_until = begins + Time::micros(bytes.saturating_mul(1_000).div_ceil(bytes_per_milli.max(1)));
        Some(self.busy_until)
    }

    /// When one copy of a message arrives that has left.
    fn arrival(&mut self, sent: Time, shape: &plan::Network, rng: &mut Rng) -> Time {
        if self.detour > Time::ZERO {
            return sent + shape.latency_min + self.detour;
        }
        let arrival = exponential(rng, sent + shape.latency_min, shape.latency_mean);
        if chance(rng, shape.late) {
            return arrival + between(rng, Time::ZERO, shape.late_max);
        }
        if !shape.in_order {
            return arrival;
        }
        // Not at once: whatever sorts arrivals by their time alone has them in order.
        self.last_arrival = arrival.max(self.last_arrival + Time::micros(1));
        self.last_arrival
    }
}

/// When the copies of a message arrive: none of a lost one, three of one doubled twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    times: [Time; Self::MAX],
    count: usize,
}

impl Arrivals {
    /// Copies of one message, at most.
    pub const MAX: usize = 3;

    /// In no order.
    #[must_use]
    pub fn as_slice(&self) -> &[Time] {
        self.times.get(..self.count).unwrap_or_default()
    }

    /// Whether it is lost.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    const fn is_full(&self) -> bool {
        self.count == Self::MAX
    }

    fn push(&mut self, time: Time) {
        if let Some(free) = self.times.get_mut(self.count) {
            *free = time;
            self.count = self.count.saturating_add(1);
        }
    }
}

impl IntoIterator for Arrivals {
    type Item = Time;
    type IntoIter = std::iter::Take<std::array::IntoIter<Time, { Self::MAX }>>;

    fn into_iter(self) -> Self::IntoIter {
        self.times.into_iter().take(self.count)
    }
}

/// The transport of one server: what it has sent and nobody has carried yet.
///
/// It is the sender that a transport identifies: whatever a message says, it is from here.
#[derive(Debug)]
pub struct Outbox {
    by: NodeId,
    messages: Vec<Message>,
}

impl Outbox {
    /// Of this server.
    #[must_use]
    pub const fn new(by: NodeId) -> Self {
        Self { by, messages: Vec::new() }
    }

    /// Takes out what was sent, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Message> + '_ {
        self.messages.drain(..)
    }

    /// What was sent, in order: for whoever takes it all and gives the room back.
    pub(crate) const fn messages_mut(&mut self) -> &mut Vec<Message> {
        &mut self.messages
    }

    /// Whether there is nothing to carry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

impl Transport for Outbox {
    fn send(&mut self, message: Message) {
        self.messages.push(Message { from: self.by, ..message });
    }
}

/// About how many bytes a message is on a wire.
#[must_use]
pub fn wire_bytes(message: &Message) -> u64 {
    let carried = match &message.body {
        Body::AppendEntries(append) => append.entries.iter().map(|entry| entry.cost() as u64).sum(),
        Body::InstallSnapshot(chunk) => chunk.data.len() as u64,
        _ => 0,
    };
    carried.saturating_add(MESSAGE_BYTES)
}

#[cfg(test)]
mod tests;
