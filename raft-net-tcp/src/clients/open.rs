//! The connections of clients, each at the place that its name tells.

use super::Client;
use crate::connection::ConnectionId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Open {
    slots: Vec<Option<Client>>,
    free: Vec<usize>,
}

impl Open {
    /// The place of the one that is inserted next.
    pub(super) fn next_slot(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// Takes one whose name tells [`next_slot`](Self::next_slot).
    pub(super) fn insert(&mut self, client: Client) {
        let id = client.connection.id;
        debug_assert_eq!(id.slot, self.next_slot(), "the place is another's");
        match self.free.pop().and_then(|slot| self.slots.get_mut(slot)) {
            Some(free) => *free = Some(client),
            None => self.slots.push(Some(client)),
        }
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Client> {
        self.slots.get(id.slot)?.as_ref().filter(|client| client.connection.id == id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Client> {
        self.slots.get_mut(id.slot)?.as_mut().filter(|client| client.connection.id == id)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        let slot = self.slots.get_mut(id.slot);
        if slot.and_then(|slot| slot.take_if(|client| client.connection.id == id)).is_some() {
            self.free.push(id.slot);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::connection::Connection;
    use crate::frame::CLIENT_FRAME_BYTES_MAX;
    use crate::handshake::Role;
    use crate::output::{Output, Queue};

    async fn client(id: ConnectionId) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_, writing) = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap().into_split();
        let output = Output::new(writing, Queue::new(Duration::ZERO, CLIENT_FRAME_BYTES_MAX, 1 << 20));
        let connection = Connection::new(id, output, Instant::now());
        Client { name: id.number, role: Role::Client, connection, waiting: 0, is_talking: false }
    }

    #[tokio::test]
    async fn a_place_is_used_again_and_an_old_name_finds_nobody_there() {
        let mut open = Open::default();
        let mut ids = Vec::new();
        for number in 0..3 {
            ids.push(ConnectionId { number, slot: open.next_slot() });
            open.insert(client(ids[ids.len() - 1]).await);
        }
        open.remove(ids[1]);
        let again = ConnectionId { number: 3, slot: open.next_slot() };
        assert_eq!(again.slot, ids[1].slot);
        open.insert(client(again).await);
        open.remove(ids[1]);
        assert!(open.get(ids[1]).is_none() && open.get_mut(ids[1]).is_none());
        assert_eq!(open.iter().map(|client| client.name).collect::<Vec<_>>(), [0, 3, 2]);
        assert_eq!(open.next_slot(), 3);
    }
}
