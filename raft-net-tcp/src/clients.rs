//! The clients: their connections, and which of them waits for which request.

use std::task::Context;
use std::time::Instant;

use raft_core::{Refusal, RequestId};

use crate::config::ConnectionLimits;
use crate::connection::{Connection, ConnectionId, Next};
use crate::frame::Kind;
use crate::handshake::{HandshakeRefusal, Role};
use crate::links::{Link, LinkFaults};
use crate::protocol::{CloseReason, Response, ResponseBody};

mod open;

use open::Open;

/// Every client's connection.
#[derive(Debug)]
pub(crate) struct Clients {
    open: Open,
    requests: Requests,
    /// Connections that have something to send.
    talking: Vec<ConnectionId>,
    limits: ConnectionLimits,
}

#[derive(Debug)]
struct Client {
    name: u64,
    role: Role,
    connection: Connection,
    waiting: usize,
    is_talking: bool,
}

/// Who waits for which request: a slot a request, found by its id, free again once it is answered.
#[derive(Debug, Default)]
struct Requests {
    slots: Vec<(ConnectionId, u64)>,
    free: Vec<usize>,
}

impl Clients {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { open: Open::default(), requests: Requests::default(), talking: Vec::new(), limits }
    }

    /// Whether one more of this role is taken.
    pub(crate) fn has_room(&self, role: Role) -> Result<(), HandshakeRefusal> {
        let max = match role {
            Role::Client => self.limits.clients_max,
            Role::Admin => self.limits.admins_max,
            Role::Server => 0,
        };
        if max == 0 {
            Err(HandshakeRefusal::RoleNotAllowed)
        } else if self.open.iter().filter(|client| client.role == role).count() >= max {
            Err(HandshakeRefusal::TooManyConnections)
        } else {
            Ok(())
        }
    }

    /// What the next connection's name must tell.
    pub(crate) fn next_slot(&self) -> usize {
        self.open.next_slot()
    }

    pub(crate) fn connect(&mut self, name: u64, role: Role, connection: Connection) {
        self.open.insert(Client { name, role, connection, waiting: 0, is_talking: false });
    }

    pub(crate) fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.open.get_mut(id).map(|client| &mut client.connection)
    }

    /// Forgets a connection. What it waits for is answered to nobody.
    pub(crate) fn disconnect(&mut self, id: ConnectionId) {
        self.open.remove(id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.iter().next().is_none()
    }

    /// The link of this connection.
    pub(crate) fn link(&self, id: ConnectionId) -> Option<Link> {
        self.open.get(id).map(|client| Link::Client(client.name))
    }

    /// Names a request of this connection for the replica; `None` where too many wait already.
    pub(crate) fn begin(&mut self, id: ConnectionId, number: u64) -> Option<RequestId> {
        let client = self.open.get_mut(id).filter(|client| client.waiting < self.limits.requests_max)?;
        client.waiting = client.waiting.saturating_add(1);
        Some(self.requests.begin(id, number))
    }

    /// Whether who began this request is still there.
    pub(crate) fn awaits(&self, request: RequestId) -> bool {
        self.requests.of(request).is_some_and(|(id, _)| self.open.get(id).is_some())
    }

    /// Responds to a request that was begun.
    pub(crate) fn finish(&mut self, request: RequestId, body: ResponseBody, links: &LinkFaults) -> Option<Closed> {
        let (id, number) = self.requests.finish(request)?;
        let client = self.open.get_mut(id)?;
        client.waiting = client.waiting.saturating_sub(1);
        self.respond(id, number, body, links)
    }

    /// Sends a response, unless the link is cut. An answer to a query that does not fit is refused: it can be asked for
    /// again, and those who share the connection keep theirs. A client that does not read what it asked for is closed
    /// (fault N5).
    pub(crate) fn respond(
        &mut self,
        id: ConnectionId,
        number: u64,
        body: ResponseBody,
        links: &LinkFaults,
    ) -> Option<Closed> {
        let client = self.open.get_mut(id).filter(|client| !links.is_cut(Link::Client(client.name)))?;
        let is_read = matches!(body, ResponseBody::Answered { .. });
        let busy = || Response { number, body: ResponseBody::Refused(Refusal::Busy) };
        if client.connection.push(Kind::Response, &Response { number, body })
            || is_read && client.connection.push(Kind::Response, &busy())
        {
            client.talk(&mut self.talking);
            return None;
        }
        let name = client.name;
        self.open.remove(id);
        Some((name, CloseReason::TooSlow))
    }

    /// Says goodbye and closes.
    pub(crate) fn close(&mut self, id: ConnectionId, reason: &CloseReason) -> Option<Closed> {
        let client = self.open.get_mut(id)?;
        client.connection.close(reason);
        client.talk(&mut self.talking);
        Some((client.name, reason.clone()))
    }

    /// Says goodbye to everybody.
    pub(crate) fn close_all(&mut self, reason: &CloseReason) {
        for client in self.open.iter_mut() {
            client.connection.close(reason);
            client.talk(&mut self.talking);
        }
    }

    /// Throws away what waits for those whose links are cut.
    pub(crate) fn discard_for_cut_links(&mut self, links: &LinkFaults) {
        for client in self.open.iter_mut().filter(|client| links.is_cut(Link::Client(client.name))) {
            client.connection.discard();
        }
    }

    /// Sends what waits. Returns when the earliest of what is held back is due.
    pub(crate) fn flush(&mut self, context: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let mut due = None;
        let open = &mut self.open;
        self.talking.retain(|id| {
            let Some(client) = open.get_mut(*id) else { return false };
            match client.connection.flush(context, now) {
                Next::Rest => client.is_talking = false,
                Next::Again(then) => {
                    due = [due, then].into_iter().flatten().min();
                }
                Next::Drop(_) => {
                    open.remove(*id);
                    return false;
                }
            }
            client.is_talking
        });
        due
    }

    /// Gives up whoever takes nothing or says nothing for too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Closed> {
        let limits = self.limits;
        let overdue = |client: &Client| client.connection.overdue(now, limits.client_idle_max, limits.stall_max);
        let gone: Vec<_> = self
            .open
            .iter()
            .filter_map(|client| overdue(client).map(|reason| (client.connection.id, (client.name, reason))))
            .collect();
        gone.into_iter()
            .map(|(id, closed)| {
                self.open.remove(id);
                closed
            })
            .collect()
    }
}

/// A client whose connection this server has closed, and why.
pub(crate) type Closed = (u64, CloseReason);

impl Client {
    fn talk(&mut self, talking: &mut Vec<ConnectionId>) {
        if !core::mem::replace(&mut self.is_talking, true) {
            talking.push(self.connection.id);
        }
    }
}

impl Requests {
    fn begin(&mut self, id: ConnectionId, number: u64) -> RequestId {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = (id, number),
            None => self.slots.push((id, number)),
        }
        RequestId(u64::try_from(slot).unwrap_or(u64::MAX))
    }

    fn of(&self, request: RequestId) -> Option<(ConnectionId, u64)> {
        self.slots.get(usize::try_from(request.0).ok()?).copied()
    }

    /// The replica answers each request exactly once: so a slot is freed exactly once.
    fn finish(&mut self, request: RequestId) -> Option<(ConnectionId, u64)> {
        let waiting = self.of(request)?;
        self.free.push(usize::try_from(request.0).ok()?);
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_once_its_request_is_answered() {
        let mut requests = Requests::default();
        let id = |number| ConnectionId { number, slot: 0 };
        let (a, b) = (requests.begin(id(1), 10), requests.begin(id(2), 20));
        assert_ne!(a, b);
        assert_eq!(requests.finish(a), Some((id(1), 10)));
        assert_eq!(requests.begin(id(3), 30), a);
        assert_eq!(requests.finish(b), Some((id(2), 20)));
        assert_eq!(requests.finish(a), Some((id(3), 30)));
        assert_eq!(requests.finish(RequestId(9)), None);
    }
}
