//! The TCP shell around raft-core.

mod clients;
mod codec;
mod config;
mod connection;
mod control;
pub mod frame;
pub mod handshake;
mod hub;
mod links;
mod notice;
mod output;
mod peers;
pub mod protocol;
mod server;
mod waker;

pub use codec::CodecError;
pub use config::{ConnectionLimits, ServerConfig};
pub use control::{Control, ServerHandle, Stopped};
pub use links::{Link, LinkError, LinkFaults};
pub use notice::{Notice, NoticeSink};
pub use peers::Peers;
pub use server::{BindError, Server};
pub use waker::Waker;
