//! The TCP shell around `raft-core`: sockets, clock and entropy for a server, and clients that find their leader.
//!
//! A [`Server`] runs one `Replica` on one thread. A reading task a connection parses straight into it; one woken task
//! drains it and flushes every socket that has something to say: no channel between them, one read a readiness, one
//! write a socket. The storage writes on a thread of its own and wakes the loop through a [`Waker`].
//!
//! | module | one concept |
//! |---|---|
//! | [`frame`] | frames: header, cap, checksum, and how they are taken out of a stream |
//! | [`handshake`] | who speaks, to whom, in which cluster, as what |
//! | [`protocol`] | what clients and servers say to each other afterwards |
//! | `links.rs` | [`LinkFaults`]: links broken on purpose |
//! | `output.rs` | what waits to be sent on one connection: budget and delay |
//! | `connection.rs` `peers.rs` `clients.rs` | the connections, as the loop sees them |
//! | `hub.rs` | what a server's tasks share, and the turn of its loop |
//! | `hub/members.rs` | who takes part: whom to dial, whom to admit, what an operator changes |
//! | `hub/proofs.rs` `client/history.rs` | the chain, proved to clients; and that it goes on from what a client saw |
//! | `connecting.rs` | how connections come about, and the task that reads each |
//! | `server.rs` `control.rs` `waker.rs` `config.rs` `notice.rs` | [`Server`], its tasks, and how the world speaks with it |
//! | `client_connection.rs` `client.rs` `kv_client.rs` | one connection; any machine's client; the key-value machine's |
//! | `line.rs` | [`Connections`] that many clients share |
//! | `writing.rs` | the session that a client's writes are in |
//! | `resp.rs` | Redis's protocol, for Redis's clients |
//! | `mend.rs` `mend/fetch.rs` `mend/back_off.rs` | a damaged server mends its log from the others, or starts over |
//! | `words.rs` | refusals as operators and users read them |
//! | `codec.rs` `message.rs` | the only place that names the serialization format; messages out of it without copies |
//!
//! Everything that waits has a deadline, and everything that grows has a budget: [`ConnectionLimits`].

mod client;
mod client_connection;
mod clients;
mod codec;
mod config;
mod connecting;
mod connection;
mod control;
pub mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod handshake;
mod hub;
mod kv_client;
mod line;
mod links;
pub mod mend;
mod message;
mod notice;
mod output;
mod peers;
pub mod protocol;
mod resp;
mod server;
mod waker;
mod writing;

pub use client::{Answer, Client, ClientError, ClientOptions, HistoryError, Members, Rewritten, Unfinished, Verified};
pub use client_connection::{ClientConnection, ConnectionError, Identity};
pub use codec::CodecError;
pub use config::{ConnectionLimits, ServerConfig, draw_incarnation};
pub use control::{Control, ServerHandle, Stopped};
pub use kv_client::{KvAnswer, KvClient, KvError, Page};
pub use line::Connections;
pub use links::{Link, LinkError, LinkFaults};
pub use notice::{Notice, NoticeSink};
pub use peers::Peers;
pub use server::{BindError, Server};
pub use waker::Waker;
