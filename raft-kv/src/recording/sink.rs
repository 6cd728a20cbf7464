//! The thread that writes a recording, so that a slow disk never holds up the server.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use raft_core::NodeId;

use super::Ending;
use super::format::{ENDING, FILE_HEADER_LEN, file_header, frame_header};
use crate::codec;

/// Told once, in words for an operator, where a recording ends before its server does.
pub(super) type Complaint = Box<dyn FnOnce(String) + Send>;

/// Takes frames' bodies and writes them in order.
pub(super) struct Sink {
    bodies: Option<Sender<Vec<u8>>>,
    /// Bytes handed over and not written.
    queued: Arc<AtomicUsize>,
    ending: Arc<OnceLock<Ending>>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    pub(super) fn new(file: File, max_bytes: u64, complaint: Complaint) -> std::io::Result<Self> {
        let (bodies, receiver) = channel();
        let (queued, ending) = (Arc::new(AtomicUsize::new(0)), Arc::new(OnceLock::new()));
        let writer = Writer { file, at: FILE_HEADER_LEN as u64, queued: queued.clone(), ending: ending.clone() };
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run(&receiver, max_bytes, complaint))?;
        Ok(Self { bodies: Some(bodies), queued, ending, thread: Some(thread) })
    }

    /// Hands over one frame's body. `false` where nothing is recorded any more.
    pub(super) fn push(&mut self, body: Vec<u8>) -> bool {
        let cost = cost(&body);
        let queued = self.queued.fetch_add(cost, Ordering::Relaxed);
        if queued.saturating_add(cost) > QUEUED_BYTES_MAX {
            self.end(Ending::Overrun);
            return false;
        }
        self.bodies.as_ref().is_some_and(|bodies| bodies.send(body).is_ok())
    }

    /// Takes no more. The first reason counts.
    pub(super) fn end(&mut self, ending: Ending) {
        let _ = self.ending.set(ending);
        self.bodies = None;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.end(Ending::Stopped);
        // A disk that hangs would hold up a server that goes on without its recording.
        if let Some(thread) = self.thread.take()
            && self.ending.get() != Some(&Ending::Overrun)
        {
            let _ = thread.join();
        }
    }
}

struct Writer {
    file: File,
    at: u64,
    queued: Arc<AtomicUsize>,
    ending: Arc<OnceLock<Ending>>,
}

impl Writer {
    fn run(mut self, bodies: &Receiver<Vec<u8>>, max_bytes: u64, complaint: Complaint) {
        match self.write_all(bodies, max_bytes) {
            Ok(Ending::Stopped) => {}
            Ok(ending) => complaint(format!("recording ends: {ending}")),
            Err(error) => complaint(format!("recording ends: it cannot be written: {error}")),
        }
    }

    fn write_all(&mut self, bodies: &Receiver<Vec<u8>>, max_bytes: u64) -> std::io::Result<Ending> {
        for body in bodies {
            let end = self.at.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
            if end > max_bytes {
                let _ = self.ending.set(Ending::Full { max_bytes });
                break;
            }
            self.write(&body)?;
            self.queued.fetch_sub(cost(&body), Ordering::Relaxed);
        }
        let ending = self.ending.get().cloned().unwrap_or(Ending::Stopped);
        let mut body = vec![ENDING];
        codec::encode_compact_into(&ending, &mut body);
        self.write(&body)?;
        Ok(ending)
    }

    fn write(&mut self, body: &[u8]) -> std::io::Result<()> {
        let mut frame = frame_header(self.at, body);
        frame.extend_from_slice(body);
        self.file.write_all(&frame)?;
        self.at = self.at.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

/// A new file `node-<id>-<n>.rec`, `n` above every other's, with its header. It holds clients' data: its owner alone
/// may read it.
pub(super) fn create(directory: &Path, id: NodeId) -> std::io::Result<(PathBuf, File)> {
    std::fs::create_dir_all(directory)?;
    let (start, end) = (format!("node-{id}-"), ".rec");
    let mut last = 0_u64;
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&start)?.strip_suffix(end)?.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    loop {
        last = last.saturating_add(1);
        let path = directory.join(format!("{start}{last}{end}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(&file_header())?;
                return Ok((path, file));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && last < u64::MAX => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a body counts for in memory.
const fn cost(body: &[u8]) -> usize {
    body.len().saturating_add(64)
}

/// Bytes that may wait for the disk before the recording is given up.
const QUEUED_BYTES_MAX: usize = 64 << 20;
