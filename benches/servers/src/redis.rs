//! Redis, one server that syncs its append-only file before it answers; and whoever else speaks its protocol.

use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use raft_examples::load::Target;

/// A client with a connection of its own.
pub(crate) struct Redis {
    stream: BufReader<TcpStream>,
    /// What is sent and received is formed in it.
    buffer: Vec<u8>,
}

impl Redis {
    async fn connect(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|error| format!("Redis at port {port}: {error}"))?;
        Ok(Self { stream: BufReader::new(stream), buffer: Vec::new() })
    }

    async fn ask(&mut self, words: &[&[u8]]) -> Result<(), String> {
        self.exchange(words).await.map_err(|error| error.to_string())?
    }

    /// Simple strings and bulk strings are answers here; all else is an error.
    async fn exchange(&mut self, words: &[&[u8]]) -> std::io::Result<Result<(), String>> {
        let Self { stream, buffer } = self;
        buffer.clear();
        buffer.extend(format!("*{}\r\n", words.len()).into_bytes());
        for word in words {
            buffer.extend(format!("${}\r\n", word.len()).into_bytes());
            buffer.extend_from_slice(word);
            buffer.extend_from_slice(b"\r\n");
        }
        stream.get_mut().write_all(buffer).await?;
        buffer.clear();
        stream.read_until(b'\n', buffer).await?;
        let line = String::from_utf8_lossy(buffer).trim_end().to_owned();
        match line.split_at_checked(1) {
            Some(("+", _)) | Some(("$", "-1")) => Ok(Ok(())),
            Some(("$", length)) => {
                let Ok(length) = length.parse::<usize>() else { return Ok(Err(line)) };
                buffer.resize(length + 2, 0);
                stream.read_exact(buffer).await?;
                Ok(Ok(()))
            }
            _ => Ok(Err(line)),
        }
    }
}

impl Target for Redis {
    type Error = String;

    async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.ask(&[b"SET", key, value]).await
    }

    async fn get(&mut self, key: &[u8]) -> Result<(), String> {
        self.ask(&[b"GET", key]).await
    }
}

/// How it is started.
pub(crate) fn command(dir: &Path, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.arg("--port").arg(port.to_string()).arg("--dir").arg(dir);
    command.args(["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    command
}

/// So many clients.
pub(crate) async fn targets(port: u16, clients: usize) -> Result<Vec<Redis>, String> {
    let mut targets = Vec::with_capacity(clients);
    for _ in 0..clients {
        targets.push(Redis::connect(port).await?);
    }
    Ok(targets)
}
