//! Replies that wait for the socket.

use std::io::ErrorKind;

use tokio::net::TcpStream;

use super::connection::Gone;

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// Where replies are added.
    pub(super) const fn room(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Bytes that wait.
    pub(super) const fn waiting(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    /// Writes as much as the socket takes now.
    pub(super) fn write(&mut self, socket: &TcpStream) -> Result<(), Gone> {
        while let Some(left) = self.bytes.get(self.written..).filter(|left| !left.is_empty()) {
            match socket.try_write(left) {
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(Gone),
            }
        }
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            self.written = 0;
        } else if self.written > KEPT_BYTES_MAX {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }
}

/// Without anything to write no more memory is kept than this, nor of what was written.
const KEPT_BYTES_MAX: usize = 256 << 10;
