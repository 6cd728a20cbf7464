//! The simulated transport, held against the contract of a transport by the suite of `raft-core`.

use std::collections::BTreeMap;

use raft_core::suite::{TransportHarness, check_transport};
use raft_core::{Message, NodeId, Transport};
use raft_sim::{Network, Outbox, Time, plan, rng, wire_bytes};

const SERVERS: u32 = 3;

/// The outboxes of servers 1 to 3, and what is under way between them by its arrival.
struct Simulated {
    now: Time,
    network: Network,
    outboxes: Vec<Outbox>,
    under_way: BTreeMap<(Time, u64), Message>,
    carried: u64,
}

impl Simulated {
    fn new(shape: plan::Network) -> Self {
        Self {
            now: Time::ZERO,
            network: Network::new(shape, SERVERS, rng(1, "network")),
            outboxes: (1..=SERVERS).map(|id| Outbox::new(NodeId(id))).collect(),
            under_way: BTreeMap::new(),
            carried: 0,
        }
    }

    fn carry(&mut self) {
        for outbox in &mut self.outboxes {
            for message in outbox.drain() {
                let (from, to, bytes) = (message.from.0, message.to.0, wire_bytes(&message));
                for at in self.network.carry(self.now, from, to, bytes) {
                    self.carried += 1;
                    self.under_way.insert((at, self.carried), message.clone());
                }
            }
        }
    }
}

impl TransportHarness for Simulated {
    fn routes(&self) -> Vec<(NodeId, NodeId)> {
        [(1, 2), (2, 1), (1, 3), (3, 2)].map(|(from, to)| (NodeId(from), NodeId(to))).into()
    }

    fn send(&mut self, by: NodeId, message: Message) {
        self.outboxes[by.0 as usize - 1].send(message);
    }

    /// A millisecond goes by.
    fn receive(&mut self) -> Vec<(NodeId, Message)> {
        self.carry();
        self.now = self.now + Time::millis(1);
        let later = self.under_way.split_off(&(self.now + Time::micros(1), 0));
        let arrived = std::mem::replace(&mut self.under_way, later).into_values();
        arrived.map(|message| (message.to, message)).filter(|(to, _)| to.0 <= SERVERS).collect()
    }

    fn stranger(&self) -> Option<NodeId> {
        Some(NodeId(9))
    }
}

fn healthy() -> plan::Network {
    plan::Network {
        latency_min: Time::micros(100),
        latency_mean: Time::micros(500),
        loss: 0,
        duplication: 0,
        late: 0,
        late_max: Time::ZERO,
        in_order: true,
        capacity: None,
    }
}

#[test]
fn a_healthy_network_keeps_the_contract() {
    assert_eq!(check_transport(Simulated::new(healthy())), Ok(()));
    assert_eq!(check_transport(Simulated::new(plan::Network { in_order: false, ..healthy() })), Ok(()));
}

#[test]
fn a_rough_network_keeps_the_contract() {
    let rough = plan::Network {
        latency_mean: Time::millis(5),
        loss: 300,
        duplication: 500,
        late: 100,
        late_max: Time::millis(50),
        in_order: false,
        capacity: Some(100_000),
        ..healthy()
    };
    assert_eq!(check_transport(Simulated::new(rough)), Ok(()));
}
