//! The handshake: the first frame each way, and nothing else is taken before both agree (faults N3, N6).
//!
//! ```text
//!   dialer                         acceptor
//!     | -- Hello ------------------> |   admits it, or answers with a refusal and closes
//!     | <------------------ Hello -- |
//!     |   checks it, or refuses and closes
//! ```
//!
//! Both sides have a deadline for the whole of it, and take no frame above
//! [`HANDSHAKE_FRAME_BYTES_MAX`] meanwhile.

use std::io;

use raft_core::NodeId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::codec;
use crate::frame::{self, FrameError, FrameReader, HANDSHAKE_FRAME_BYTES_MAX, Kind};

/// The version of everything that travels. It is the first field of a [`Hello`] in every version.
pub const PROTOCOL_VERSION: u32 = 8;

/// Says who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The cluster that it belongs to.
    pub cluster: [u8; 16],
    /// Its id: a server's or a client's.
    pub sender: u64,
    /// The server it means to reach; a client may leave it open. In an answer: the dialer's id.
    pub receiver: Option<u64>,
    /// As what it speaks.
    pub role: Role,
}

/// As what somebody speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A server of the cluster: sends messages.
    Server,
    /// A client: sends requests.
    Client,
    /// An operator's tool: sends requests, and has connections of its own that clients cannot take.
    Admin,
}

/// Why a handshake was refused. Sent to the other side before the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HandshakeRefusal {
    /// Another version of the protocol.
    #[error("protocol version {ours} is spoken here, not {yours}")]
    WrongVersion {
        /// The refuser's.
        ours: u32,
        /// The other's.
        yours: u32,
    },
    /// Another cluster (fault N3).
    #[error("this server belongs to another cluster: check the cluster id and the address")]
    WrongCluster,
    /// Another server was meant.
    #[error("this is server {this}, not the one that was meant: check the addresses")]
    NotForMe {
        /// Who refuses.
        this: u64,
    },
    /// No server of this id is known here (fault N6).
    #[error("no server {id} is known here: it was not added, or it was removed")]
    UnknownServer {
        /// As claimed.
        id: u64,
    },
    /// Nobody is taken in this role.
    #[error("nobody is taken in this role here")]
    RoleNotAllowed,
    /// There are as many connections of this role as are taken (fault N7).
    #[error("too many connections: close one, or ask another server")]
    TooManyConnections,
    /// The first frame was no hello.
    #[error("the first frame was no hello")]
    NoHello,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(HandshakeRefusal),
    /// We refused the other side.
    #[error("the other side was refused: {0}")]
    Refusing(HandshakeRefusal),
    /// Its bytes are no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// It took too long (fault N4).
    #[error("no answer within the deadline")]
    Deadline,
    /// The connection failed.
    #[error("{}", in_words(.0))]
    Io(#[from] io::Error),
}

/// What a user can do something about, without the system's number for it.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there: is it running?".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => "it has closed the connection".into(),
        _ => error.to_string(),
    }
}

/// Who answers here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doorkeeper {
    pub(crate) cluster: [u8; 16],
    pub(crate) this: NodeId,
}

/// Somebody admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    Server(NodeId),
    Client(u64),
    Admin(u64),
}

impl Doorkeeper {
    /// Whether this hello is welcome, where servers are those that `knows` knows.
    pub(crate) fn admit(self, hello: &Hello, knows: impl Fn(NodeId) -> bool) -> Result<Guest, HandshakeRefusal> {
        let this = u64::from(self.this.0);
        if hello.cluster != self.cluster {
            return Err(HandshakeRefusal::WrongCluster);
        }
        let is_meant = match hello.role {
            Role::Server => hello.receiver == Some(this),
            Role::Client | Role::Admin => hello.receiver.is_none_or(|receiver| receiver == this),
        };
        if !is_meant {
            return Err(HandshakeRefusal::NotForMe { this });
        }
        match hello.role {
            Role::Client => Ok(Guest::Client(hello.sender)),
            Role::Admin => Ok(Guest::Admin(hello.sender)),
            Role::Server => u32::try_from(hello.sender)
                .ok()
                .map(NodeId)
                .filter(|id| knows(*id))
                .map(Guest::Server)
                .ok_or(HandshakeRefusal::UnknownServer { id: hello.sender }),
        }
    }
}

impl Hello {
    /// The acceptor's answer.
    pub(crate) fn answer(&self, this: NodeId) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            cluster: self.cluster,
            sender: u64::from(this.0),
            receiver: Some(self.sender),
            role: Role::Server,
        }
    }

    /// Whether `answer` comes from the server that this hello was for.
    fn check(&self, answer: &Self) -> Result<(), HandshakeRefusal> {
        if answer.cluster != self.cluster {
            return Err(HandshakeRefusal::WrongCluster);
        }
        if answer.receiver != Some(self.sender) {
            return Err(HandshakeRefusal::NotForMe { this: self.sender });
        }
        if answer.role != Role::Server {
            return Err(HandshakeRefusal::RoleNotAllowed);
        }
        match self.receiver {
            Some(meant) if meant != answer.sender => Err(HandshakeRefusal::UnknownServer { id: answer.sender }),
            _ => Ok(()),
        }
    }
}

/// The dialer's side. Returns the id of the server that answered; what it sent behind its hello stays in `frames`.
///
/// # Errors
/// Either side refused, or the connection failed.
pub(crate) async fn dial<T>(socket: &mut T, frames: &mut FrameReader, hello: &Hello) -> Result<u64, HandshakeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    send(socket, Kind::Hello, hello).await?;
    let answer = match receive(socket, frames).await? {
        Ok(answer) => hello.check(&answer).map(|()| answer.sender),
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok(server) => Ok(server),
        Err(refusal) => refuse(socket, refusal).await,
    }
}

/// The acceptor's first half: the dialer's hello, which is still to be admitted.
///
/// # Errors
/// It was no hello of this version and was refused, or the connection failed.
pub(crate) async fn hear<T>(socket: &mut T, frames: &mut FrameReader) -> Result<Hello, HandshakeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match receive(socket, frames).await? {
        Ok(hello) => Ok(hello),
        Err(refusal) => refuse(socket, refusal).await,
    }
}

/// Tells the other side why, and fails.
///
/// # Errors
/// Always.
pub(crate) async fn refuse<T, R>(socket: &mut T, refusal: HandshakeRefusal) -> Result<R, HandshakeError>
where
    T: AsyncWrite + Unpin,
{
    send(socket, Kind::Refusal, &refusal).await?;
    socket.shutdown().await?;
    Err(HandshakeError::Refusing(refusal))
}

pub(crate) async fn send<T, V>(socket: &mut T, kind: Kind, value: &V) -> io::Result<()>
where
    T: AsyncWrite + Unpin,
    V: Serialize,
{
    let mut buffer = Vec::new();
    if !frame::encode_into(kind, value, HANDSHAKE_FRAME_BYTES_MAX, &mut buffer) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    socket.write_all(&buffer).await
}

/// The other side's hello, or why it cannot be taken.
async fn receive<T>(socket: &mut T, frames: &mut FrameReader) -> Result<Result<Hello, HandshakeRefusal>, HandshakeError>
where
    T: AsyncRead + Unpin,
{
    loop {
        if let Some(frame) = frames.next_frame()? {
            if frame.kind == Kind::Refusal
                && let Ok(refusal) = codec::decode(frame.body)
            {
                return Err(HandshakeError::Refused(refusal));
            }
            return Ok(if frame.kind == Kind::Hello { parse(frame.body) } else { Err(HandshakeRefusal::NoHello) });
        }
        if socket.read_buf(frames.room()).await? == 0 {
            return Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The version is read first: the rest may look otherwise in another one.
fn parse(body: &[u8]) -> Result<Hello, HandshakeRefusal> {
    match codec::decode_front::<u32>(body) {
        Ok((PROTOCOL_VERSION, _)) => codec::decode(body).map_err(|_| HandshakeRefusal::NoHello),
        Ok((yours, _)) => Err(HandshakeRefusal::WrongVersion { ours: PROTOCOL_VERSION, yours }),
        Err(_) => Err(HandshakeRefusal::NoHello),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(role: Role) -> Hello {
        Hello { version: PROTOCOL_VERSION, cluster: [7; 16], sender: 2, receiver: Some(1), role }
    }

    fn admit(hello: &Hello) -> Result<Guest, HandshakeRefusal> {
        Doorkeeper { cluster: [7; 16], this: NodeId(1) }.admit(hello, |id| id == NodeId(2))
    }

    #[test]
    fn who_agrees_is_admitted() {
        assert_eq!(admit(&hello(Role::Server)), Ok(Guest::Server(NodeId(2))));
        assert_eq!(admit(&Hello { sender: 7001, ..hello(Role::Client) }), Ok(Guest::Client(7001)));
        assert_eq!(admit(&Hello { receiver: None, ..hello(Role::Admin) }), Ok(Guest::Admin(2)));
    }

    #[test]
    fn n3_n6_who_does_not_is_told_why() {
        let server = hello(Role::Server);
        assert_eq!(admit(&Hello { cluster: [8; 16], ..server }), Err(HandshakeRefusal::WrongCluster));
        assert_eq!(admit(&Hello { receiver: Some(3), ..server }), Err(HandshakeRefusal::NotForMe { this: 1 }));
        assert_eq!(admit(&Hello { receiver: None, ..server }), Err(HandshakeRefusal::NotForMe { this: 1 }));
        assert_eq!(admit(&Hello { sender: 9, ..server }), Err(HandshakeRefusal::UnknownServer { id: 9 }));
        let wide = u64::from(u32::MAX) + 3;
        assert_eq!(admit(&Hello { sender: wide, ..server }), Err(HandshakeRefusal::UnknownServer { id: wide }));
    }

    #[tokio::test]
    async fn another_version_is_refused_before_the_rest_is_read() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        send(&mut near, Kind::Hello, &(9_u32, "whatever version 9 says")).await.unwrap();
        let mut frames = FrameReader::new(HANDSHAKE_FRAME_BYTES_MAX);
        let refusal = HandshakeRefusal::WrongVersion { ours: PROTOCOL_VERSION, yours: 9 };
        let error = hear(&mut far, &mut frames).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Refusing(reason) if reason == refusal));
        let error = dial(&mut near, &mut frames, &hello(Role::Server)).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Refused(reason) if reason == refusal), "{error}");
    }

    #[tokio::test]
    async fn another_server_at_the_address_is_refused_by_the_dialer() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let said = hello(Role::Client);
        send(&mut far, Kind::Hello, &said.answer(NodeId(3))).await.unwrap();
        let mut frames = FrameReader::new(HANDSHAKE_FRAME_BYTES_MAX);
        let error = dial(&mut near, &mut frames, &said).await.unwrap_err();
        let expected = HandshakeRefusal::UnknownServer { id: 3 };
        assert!(matches!(error, HandshakeError::Refusing(reason) if reason == expected), "{error}");
    }
}
