//! The suite for transports: a burst that nobody receives, traffic on every route, forged senders.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Clause, Violation, ensure};
use crate::message::{AppendEntries, AppendEntriesResponse, Body, HeartbeatResponse, Message, PreVoteResponse};
use crate::types::{Entry, Incarnation, LogIndex, NodeId, Payload, Term};

/// What the suite asks of an implementor: transports of several servers, connected by healthy links.
pub trait TransportHarness {
    /// Who sends to whom. At least one route; more, and from more servers, show more.
    fn routes(&self) -> Vec<(NodeId, NodeId)>;

    /// The `number`-th message of a route, different from every other of that route.
    ///
    /// By default [`sample_message`]. A transport that can only be reached through a server says here what that server
    /// can be made to send.
    fn message(&mut self, from: NodeId, to: NodeId, number: u64) -> Message {
        sample_message(from, to, number)
    }

    /// Hands a message to the transport of the server `by`: one [`send`](crate::Transport::send). Its `from` is `by`,
    /// but where it is forged.
    fn send(&mut self, by: NodeId, message: Message);

    /// Lets the network work for a moment (about a millisecond, if it is real) and answers what has arrived since the
    /// last call: each message with the server that it has reached.
    fn receive(&mut self) -> Vec<(NodeId, Message)>;

    /// A clock, from any beginning. By default it stands still, and how long `send` takes is not checked.
    fn clock(&self) -> Duration {
        Duration::ZERO
    }

    /// A server that no transport knows, to which messages are sent in vain. By default none.
    fn stranger(&self) -> Option<NodeId> {
        None
    }

    /// Whether [`send`](Self::send) takes a message whose `from` is another than `by`. By default it does.
    fn forges(&self) -> bool {
        true
    }
}

/// Messages in a burst while nobody receives.
const BURST: u64 = 1_000;

/// What one `send` may take before it counts as waiting, on a machine that does other things as well.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Calls of `receive` without news before a message counts as lost for good, and how often it is sent until then.
const PATIENCE: u32 = 20_000;
const RESEND: u32 = 200;

/// Messages that must arrive on each route.
const DELIVERED: u64 = 48;

/// Holds a transport against the contract of [`Transport`](crate::Transport).
///
/// # Errors
/// The first clause that it breaks.
pub fn check_transport(harness: impl TransportHarness) -> Result<(), Violation> {
    let routes = harness.routes();
    ensure!(!routes.is_empty(), Delivery, "the harness names no route");
    let mut traffic = Traffic { harness, sent: Vec::new(), forged: Vec::new(), number: 0 };
    type Part<H> = fn(&mut Traffic<H>, &[(NodeId, NodeId)]) -> Result<(), Violation>;
    let parts: [(&str, Part<_>); 5] = [
        ("one message at a time on every route", Traffic::check_delivery),
        ("a burst that nobody receives", Traffic::check_burst),
        ("traffic after the burst", Traffic::check_delivery),
        ("messages with a forged sender", Traffic::check_forged),
        ("traffic after forged messages", Traffic::check_delivery),
    ];
    for (name, part) in parts {
        let checked = part(&mut traffic, &routes);
        checked.map_err(|found| found.during(|| format!("{name}, up to message {}", traffic.number)))?;
    }
    Ok(())
}

/// The `number`-th message from one server to another: answers, small ones, and appends up to 40 kB.
#[must_use]
pub fn sample_message(from: NodeId, to: NodeId, number: u64) -> Message {
    let (index, term) = (LogIndex(number), Term(number % 7 + 1));
    let body = match number % 4 {
        0 => Body::HeartbeatResponse(Incarnation(number), HeartbeatResponse { round: number }),
        1 => Body::PreVoteResponse(
            Incarnation(number),
            PreVoteResponse { next_term: Term(number), vote_granted: number % 8 == 1 },
        ),
        2 => {
            let (prev_log_index, hint_index, hint_term) = (index, LogIndex(u64::MAX), Term(3));
            Body::AppendEntriesResponse(
                Incarnation(number),
                AppendEntriesResponse::Rejected { prev_log_index, hint_index, hint_term },
            )
        }
        _ => {
            let len = usize::try_from(number.wrapping_mul(797) % 20_000).unwrap_or_default();
            let bytes: Vec<u8> = (number..).map(|byte| byte.to_le_bytes()[0]).take(len).collect();
            let entry = |index, payload| Entry { index, term, payload };
            let second = entry(index.next().next(), Payload::Command(bytes.into()));
            Body::AppendEntries(AppendEntries {
                prev_log_index: index,
                prev_log_term: term,
                prev_log_hash: None,
                leader_commit: LogIndex(number / 2),
                entries: [entry(index.next(), Payload::Noop), second].into(),
            })
        }
    };
    Message { from, to, term, body }
}

struct Traffic<H> {
    harness: H,
    /// Everything handed to a transport under its sender's own name: a message may be late as long as it likes.
    sent: Vec<Message>,
    /// Everything handed to a transport under another name, as it may arrive: with the true sender's.
    forged: Vec<Message>,
    number: u64,
}

impl<H: TransportHarness> Traffic<H> {
    fn next_message(&mut self, from: NodeId, to: NodeId) -> Message {
        self.number = self.number.saturating_add(1);
        self.harness.message(from, to, self.number)
    }

    fn send(&mut self, by: NodeId, message: Message) -> Result<(), Violation> {
        let before = self.harness.clock();
        self.harness.send(by, message);
        let took = self.harness.clock().saturating_sub(before);
        ensure!(took <= SEND_MAX, Fire, "a send took {took:?}");
        Ok(())
    }

    /// Takes what has arrived, and holds each against what was sent.
    fn receive(&mut self) -> Result<Vec<Message>, Violation> {
        let mut arrived = Vec::new();
        for (at, message) in self.harness.receive() {
            // The newest first: most arrivals are of those.
            if !self.sent.iter().rev().any(|sent| *sent == message) && !self.forged.contains(&message) {
                return Err(self.explain(at, &message));
            }
            ensure!(at == message.to, Addressed, "a message for {} reached {at}", message.to);
            arrived.push(message);
        }
        Ok(arrived)
    }

    /// Why a message that was never sent has arrived.
    fn explain(&self, at: NodeId, message: &Message) -> Violation {
        let alike = |sent: &&Message| sent.body == message.body && sent.term == message.term;
        let near = |sent: &&Message| alike(sent) && sent.to == message.to;
        match self.sent.iter().chain(&self.forged).find(near).or(self.sent.iter().find(alike)) {
            Some(sent) if sent.to != message.to => {
                Violation::new(Clause::Unaltered, format!("sent to {}, it says {} at {at}", sent.to, message.to))
            }
            Some(sent) => {
                let what = format!("sent by {}, it says at {at} that it is from {}", sent.from, message.from);
                Violation::new(Clause::Identified, what)
            }
            None => Violation::new(Clause::Unaltered, format!("{at} received what nobody sent: {message:?}")),
        }
    }

    /// Every message arrives in the end, if it is sent again and again as Raft does it.
    fn check_delivery(&mut self, routes: &[(NodeId, NodeId)]) -> Result<(), Violation> {
        for _ in 0..DELIVERED {
            for (from, to) in routes {
                let message = self.next_message(*from, *to);
                self.sent.push(message.clone());
                self.deliver(&message)?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self, message: &Message) -> Result<(), Violation> {
        for attempt in 0..PATIENCE {
            if attempt % RESEND == 0 {
                self.send(message.from, message.clone())?;
            }
            if self.receive()?.contains(message) {
                return Ok(());
            }
        }
        let (from, to, times) = (message.from, message.to, PATIENCE / RESEND);
        Err(Violation::new(Clause::Delivery, format!("{from} sent {to} a message {times} times, and it never arrived")))
    }

    /// Contract 1: nobody receives, and some messages are for nobody.
    fn check_burst(&mut self, routes: &[(NodeId, NodeId)]) -> Result<(), Violation> {
        for _ in 0..BURST {
            for (from, to) in routes {
                let message = self.next_message(*from, *to);
                self.sent.push(message.clone());
                self.send(*from, message)?;
            }
            if let (Some(stranger), Some((from, _))) = (self.harness.stranger(), routes.first()) {
                let message = self.next_message(*from, stranger);
                self.send(*from, message)?;
            }
        }
        self.drain()
    }

    /// Receives until nothing has come for a while. What comes later still is held against what was sent, too.
    fn drain(&mut self) -> Result<(), Violation> {
        let mut quiet = 0_u32;
        while quiet < QUIET {
            quiet = if self.receive()?.is_empty() { quiet.saturating_add(1) } else { 0 };
        }
        Ok(())
    }

    /// Contract 3. That a forged message is lost is right as well: no more is asked than that it does not deceive.
    fn check_forged(&mut self, routes: &[(NodeId, NodeId)]) -> Result<(), Violation> {
        if !self.harness.forges() {
            return Ok(());
        }
        for (from, to) in routes {
            let others = routes.iter().flat_map(|(from, to)| [*from, *to]).filter(|other| other != from && other != to);
            for pretended in others {
                let honest = self.next_message(*from, *to);
                self.forged.push(honest.clone());
                self.send(*from, Message { from: pretended, ..honest })?;
            }
        }
        self.drain()
    }
}

/// Calls of `receive` without an arrival after which nothing more is awaited.
const QUIET: u32 = 20;
