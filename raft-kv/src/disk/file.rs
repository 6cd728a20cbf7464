//! A real file, written and synced by a thread of its own, so that the caller's loop never waits for the device.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Disk, DiskError};

/// The log's name in its directory.
const FILE_NAME: &str = "blocks.log";

/// The lock's name in the same directory.
const LOCK_NAME: &str = "LOCK";

/// A write buffer that grew beyond this many bytes is given back after its batch.
const BUFFER_KEPT: usize = 4 << 20;

/// The file `blocks.log` of a directory, held by a lock for as long as this value lives.
///
/// One write and one `fdatasync` cover everything that was submitted while the ones before them ran. Dropping it, like
/// [`shutdown`](Self::shutdown), waits until what was submitted is written. For Unix.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    file: Arc<File>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// Bytes submitted; the writer thread's offset follows it.
    len: u64,
    lock: File,
}

/// What the caller and the writer thread share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Invariant: `durable` plus what the writer holds plus `waiting` is every byte of the file, in this order.
#[derive(Debug)]
struct Queue {
    waiting: Vec<u8>,
    durable: u64,
    failed: Option<DiskError>,
    closing: bool,
}

/// What the writer thread asks of a file; tests put a failing one in its place.
trait Backing: Send + 'static {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl FileDisk {
    /// Opens the log file of this directory, making both where they do not exist yet.
    ///
    /// `notify` is called from the writer thread after every batch that became durable and after a failure.
    ///
    /// # Errors
    /// [`DiskError::InUse`] where another process, or this one, has the directory open; or the system's refusal.
    pub fn open(dir: impl AsRef<Path>, notify: impl Fn() + Send + 'static) -> Result<Self, DiskError> {
        let dir = dir.as_ref();
        create_dir(dir)?;
        // Fault D4: what is not durable in the directory above is lost whole. Done at every start, here and below,
        // since nobody can tell whether the life that made the directory and its file came as far.
        sync_dir(parent(dir))?;
        let lock = lock(dir)?;
        let path = dir.join(FILE_NAME);
        let place = path.display().to_string();
        let failed = |operation: &'static str| {
            let place = place.clone();
            move |error: io::Error| DiskError::io(operation, &place, &error)
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open"))?;
        sync_dir(dir)?;
        let len = file.metadata().map_err(failed("read the length of"))?.len();
        let file = Arc::new(file);
        let (shared, writer) = spawn(Arc::clone(&file), place.clone(), len, notify)?;
        Ok(Self { path, file, shared, writer: Some(writer), len, lock })
    }

    /// Writes and syncs all that was submitted, ends the writer thread and releases the lock.
    ///
    /// # Errors
    /// A write failed, now or before: some of what was submitted is not durable.
    pub fn shutdown(mut self) -> Result<(), DiskError> {
        self.close();
        self.shared.health().map(|_| ())
    }

    fn close(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has left its failure in the queue.
            let _ = writer.join();
            // Said outright, and not left to the closing of the file: a child process that is just being started holds
            // a copy of the file until it executes its program, and the lock with it.
            let _ = self.lock.unlock();
        }
    }

    fn rewrite(&self, keep: u64, tail: &[u8]) -> io::Result<()> {
        self.file.write_all_at(tail, keep)?;
        self.file.set_len(keep.saturating_add(tail.len() as u64))?;
        self.file.sync_all()
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        self.close();
    }
}

impl Disk for FileDisk {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                DiskError::PastEnd { place: self.place(), end: offset.saturating_add(buffer.len() as u64) }
            }
            _ => DiskError::io(&format!("read {} bytes at {offset} of", buffer.len()), &self.place(), &error),
        })
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<u64, DiskError> {
        let mut queue = self.shared.lock();
        if let Some(error) = &queue.failed {
            return Err(error.clone());
        }
        queue.waiting.extend_from_slice(bytes);
        drop(queue);
        self.shared.wake.notify_one();
        self.len = self.len.saturating_add(bytes.len() as u64);
        Ok(self.len)
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        self.shared.health()
    }

    fn settle(&mut self, keep: u64, tail: &[u8]) -> Result<(), DiskError> {
        let written = self.rewrite(keep, tail).map_err(|error| DiskError::io("settle", &self.place(), &error));
        let mut queue = self.shared.lock();
        if let Err(error) = written {
            return Err(queue.failed.get_or_insert(error).clone());
        }
        self.len = keep.saturating_add(tail.len() as u64);
        queue.durable = self.len;
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds this lock; were one to, the queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> Result<u64, DiskError> {
        let queue = self.lock();
        queue.failed.clone().map_or(Ok(queue.durable), Err)
    }

    /// Takes the next batch and where it goes; `None` once closing and nothing waits, or after a failure.
    fn next_batch(&self, buffer: &mut Vec<u8>) -> Option<u64> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() && !queue.closing && queue.failed.is_none() {
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.waiting.is_empty() || queue.failed.is_some() {
            return None;
        }
        std::mem::swap(&mut queue.waiting, buffer);
        Some(queue.durable)
    }
}

impl Backing for Arc<File> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

fn spawn(
    backing: impl Backing,
    place: String,
    len: u64,
    notify: impl Fn() + Send + 'static,
) -> Result<(Arc<Shared>, JoinHandle<()>), DiskError> {
    let queue = Queue { waiting: Vec::new(), durable: len, failed: None, closing: false };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), wake: Condvar::new() });
    let guard = Ended { shared: Arc::clone(&shared) };
    let failed = format!("start a writer thread for {place}");
    let thread = std::thread::Builder::new().name(String::from("block-log-writer"));
    let writer = thread
        .spawn(move || write_batches(&guard.shared, backing, &place, notify))
        .map_err(|error| DiskError::Io { what: format!("{failed}: {error}") })?;
    Ok((shared, writer))
}

/// The writer thread: one write and one sync a batch, until closed or failed.
fn write_batches(shared: &Shared, mut backing: impl Backing, place: &str, notify: impl Fn()) {
    let mut buffer = Vec::new();
    while let Some(offset) = shared.next_batch(&mut buffer) {
        let written = backing.write_at(&buffer, offset).map_err(|error| DiskError::io("write", place, &error));
        let synced = written.and_then(|()| backing.sync().map_err(|error| DiskError::io("sync", place, &error)));
        let mut queue = shared.lock();
        match synced {
            Ok(()) => queue.durable = offset.saturating_add(buffer.len() as u64),
            // Faults D3 and D5: whether any of this batch reached the device is unknown, and asking again would not
            // tell. Nothing is acknowledged any more.
            Err(error) => {
                queue.failed.get_or_insert(error);
            }
        }
        drop(queue);
        notify();
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT);
    }
}

/// Leaves a failure behind where the writer ends otherwise than by closing, so that nobody waits for it for ever.
struct Ended {
    shared: Arc<Shared>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if !queue.closing || !queue.waiting.is_empty() {
            queue.failed.get_or_insert_with(|| DiskError::Io { what: String::from("the writer thread has ended") });
        }
    }
}

/// Fault D7: two processes in one directory would write over each other.
fn lock(dir: &Path) -> Result<File, DiskError> {
    let path = dir.join(LOCK_NAME);
    let failed = |operation, error: &io::Error| DiskError::io(operation, &path.display().to_string(), error);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed("open", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DiskError::InUse { dir: dir.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &error)),
    }
}

/// Makes the directory, each of those above it durably (fault D4).
fn create_dir(dir: &Path) -> Result<(), DiskError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent(dir);
    create_dir(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(DiskError::io("create", &dir.display().to_string(), &error))
        }
        _ => sync_dir(parent),
    }
}

fn parent(dir: &Path) -> &Path {
    let parent = dir.parent().unwrap_or(dir);
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| DiskError::io("sync", &dir.display().to_string(), &error))
}

#[cfg(test)]
mod tests;
