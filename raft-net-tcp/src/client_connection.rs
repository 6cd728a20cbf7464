//! One connection to one server, as a client has it: requests go out, responses come in, many at a time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use raft_core::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::codec::{self, CodecError};
use crate::frame::{self, CLIENT_FRAME_BYTES_MAX, FrameError, FrameReader, HANDSHAKE_FRAME_BYTES_MAX, Kind};
use crate::handshake::{self, HandshakeError, Hello, PROTOCOL_VERSION, Role};
use crate::protocol::{CloseReason, Request, RequestBody, Response};

/// A connection whose handshake has agreed.
///
/// [`enqueue`](Self::enqueue) as many requests as you like, [`flush`](Self::flush), and [`receive`](Self::receive) the
/// responses, which come in any order. All three can be given up and called again: nothing is lost or sent twice.
#[derive(Debug)]
pub struct ClientConnection {
    socket: TcpStream,
    frames: FrameReader,
    server: NodeId,
    requests: Requests,
    /// How much of what is unsent has been sent.
    sent: usize,
}

/// Requests that wait to be sent, numbered one after the other.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last_number: u64,
    unsent: Vec<u8>,
}

/// Who connects, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the server must belong to.
    pub cluster: [u8; 16],
    /// The client's id.
    pub client: u64,
    /// [`Role::Client`] or [`Role::Admin`].
    pub role: Role,
}

/// Why a connection cannot be used any more. What was sent may have happened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The server closed it.
    #[error("{0}")]
    Closed(CloseReason),
    /// The server sent what is no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The server sent what is no response.
    #[error("{0}")]
    Codec(#[from] CodecError),
    /// The network failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ClientConnection {
    /// Connects to the server at `address`, which must be `server` where that is given.
    ///
    /// # Errors
    /// There was no connection, or no agreement, within the deadline.
    pub async fn connect(
        address: SocketAddr,
        server: Option<NodeId>,
        identity: Identity,
        deadline: Duration,
    ) -> Result<Self, HandshakeError> {
        let hello = Hello {
            version: PROTOCOL_VERSION,
            cluster: identity.cluster,
            sender: identity.client,
            receiver: server.map(|id| u64::from(id.0)),
            role: identity.role,
        };
        timeout(deadline, Self::shake_hands(address, &hello)).await.unwrap_or(Err(HandshakeError::Deadline))
    }

    async fn shake_hands(address: SocketAddr, hello: &Hello) -> Result<Self, HandshakeError> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut frames = FrameReader::new(HANDSHAKE_FRAME_BYTES_MAX);
        let server = handshake::dial(&mut socket, &mut frames, hello).await?;
        frames.set_cap(CLIENT_FRAME_BYTES_MAX);
        let server = NodeId(u32::try_from(server).unwrap_or(u32::MAX));
        Ok(Self { socket, frames, server, requests: Requests::default(), sent: 0 })
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn server(&self) -> NodeId {
        self.server
    }

    /// Adds a request to what the next flush sends. Returns its number; `None`, and nothing added, where it is larger
    /// than a frame may be.
    pub fn enqueue(&mut self, body: RequestBody<'_>) -> Option<u64> {
        self.requests.add(body)
    }

    /// Takes over requests that somebody else has numbered: all of this connection's, for its own would have the same
    /// numbers.
    pub(crate) fn take_over(&mut self, requests: &mut Requests) {
        if self.requests.unsent.is_empty() {
            std::mem::swap(&mut self.requests.unsent, &mut requests.unsent);
        } else {
            self.requests.unsent.append(&mut requests.unsent);
        }
    }

    /// Sends what was enqueued.
    ///
    /// # Errors
    /// The network failed; some of it may have been sent.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        while let Some(left) = self.requests.unsent.get(self.sent..).filter(|left| !left.is_empty()) {
            let count = self.socket.write(left).await?;
            self.sent = self.sent.saturating_add(count);
        }
        self.requests.unsent.clear();
        self.sent = 0;
        Ok(())
    }

    /// The next response.
    ///
    /// # Errors
    /// The connection cannot be used any more.
    pub async fn receive(&mut self) -> Result<Response, ConnectionError> {
        loop {
            if let Some(response) = self.received()? {
                return Ok(response);
            }
            if self.socket.read_buf(self.frames.room()).await? == 0 {
                return Err(ConnectionError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The next response, if it has been read already.
    ///
    /// # Errors
    /// The connection cannot be used any more.
    pub fn received(&mut self) -> Result<Option<Response>, ConnectionError> {
        while let Some(frame) = self.frames.next_frame()? {
            match frame.kind {
                Kind::Response => return Ok(Some(codec::decode(frame.body)?)),
                Kind::Goodbye => return Err(ConnectionError::Closed(codec::decode(frame.body)?)),
                Kind::Hello | Kind::Refusal | Kind::Message | Kind::Request | Kind::Ping => {}
            }
        }
        Ok(None)
    }

    /// Whether the other side has not closed it, as far as one knows without asking.
    pub async fn is_open(&mut self) -> bool {
        // The runtime looks at its sockets when its tasks pause.
        yield_now().await;
        loop {
            match self.socket.try_read_buf(self.frames.room()) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

impl Requests {
    /// Adds one; returns its number. `None`, and nothing added, where it is larger than a frame may be.
    pub(crate) fn add(&mut self, body: RequestBody<'_>) -> Option<u64> {
        let number = self.last_number.wrapping_add(1);
        let request = Request { number, body };
        if !frame::encode_into(Kind::Request, &request, CLIENT_FRAME_BYTES_MAX, &mut self.unsent) {
            return None;
        }
        self.last_number = number;
        Some(number)
    }
}
