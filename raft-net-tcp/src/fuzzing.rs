//! Ways in for a fuzzer (feature `fuzzing`): what this crate does with the bytes of somebody who may send anything.
//! Nothing here is of use to a program; benchmarks read what travels by it.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use raft_core::{Message, NodeId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::codec;
use crate::frame::{Frame, FrameReader, HANDSHAKE_FRAME_BYTES_MAX, Kind};
use crate::handshake::{self, Doorkeeper, HandshakeError, HandshakeRefusal, Hello};
use crate::message;
use crate::protocol::{CloseReason, Request, Response};
use crate::resp::parser::Parser;

/// A frame's body, read as its kind tells.
#[derive(Debug)]
pub enum Body<'a> {
    /// Of a server.
    Message(Message),
    /// Of a client.
    Request(Request<'a>),
    /// To a client.
    Response(Box<Response>),
    /// Before a connection closes.
    Goodbye(CloseReason),
    /// In a handshake, which has a way in of its own; or nothing.
    Other,
}

/// Reads a frame's body as a connection does.
///
/// # Errors
/// The bytes are no value of this kind.
pub fn read_body(frame: Frame<'_>) -> Result<Body<'_>, crate::CodecError> {
    let body = frame.body;
    Ok(match frame.kind {
        Kind::Message => Body::Message(message::read(frame)?),
        Kind::Request => Body::Request(codec::decode(body)?),
        Kind::Response => Body::Response(Box::new(codec::decode(body)?)),
        Kind::Goodbye => Body::Goodbye(codec::decode(body)?),
        Kind::Hello | Kind::Refusal | Kind::Ping => Body::Other,
    })
}

/// The commands of Redis's protocol in a stream that comes in these pieces, and why it does not go on, if so.
pub fn read_resp<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<Bytes>>, Option<String>) {
    let (mut parser, mut commands) = (Parser::default(), Vec::new());
    for piece in pieces {
        parser.room().extend_from_slice(piece);
        loop {
            match parser.next() {
                Ok(Some(words)) => commands.push(words),
                Ok(None) => break,
                Err(error) => return (commands, Some(error.to_string())),
            }
        }
    }
    (commands, None)
}

/// The bytes of a body.
pub fn write_body<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_into(value, &mut bytes);
    bytes
}

/// Reads one value from bytes that [`write_body`] may have written.
///
/// # Errors
/// It has not.
pub fn read_value<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, crate::CodecError> {
    codec::decode(bytes)
}

/// A server's part of a handshake whose other side sends this and closes: what it took, or why not, and what it
/// answered.
///
/// # Errors
/// As for any handshake.
pub fn admit(sent: &[u8], cluster: [u8; 16], this: NodeId) -> Result<Hello, HandshakeError> {
    let (mut line, mut frames) = (Line(sent), FrameReader::new(HANDSHAKE_FRAME_BYTES_MAX));
    let hello = at_once(handshake::hear(&mut line, &mut frames))?;
    let known = |id: NodeId| id.0 < 4;
    Doorkeeper { cluster, this }.admit(&hello, known).map_err(HandshakeError::Refusing)?;
    Ok(hello)
}

/// A dialer's part of a handshake whose other side sends this and closes.
///
/// # Errors
/// As for any handshake.
pub fn dial(sent: &[u8], hello: &Hello) -> Result<u64, HandshakeError> {
    let (mut line, mut frames) = (Line(sent), FrameReader::new(HANDSHAKE_FRAME_BYTES_MAX));
    at_once(handshake::dial(&mut line, &mut frames, hello))
}

/// What the other side sent; it hears nothing.
struct Line<'a>(&'a [u8]);

impl AsyncRead for Line<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs what never waits.
fn at_once<T>(future: impl Future<Output = Result<T, HandshakeError>>) -> Result<T, HandshakeError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => Err(HandshakeError::Refusing(HandshakeRefusal::NoHello)),
    }
}
