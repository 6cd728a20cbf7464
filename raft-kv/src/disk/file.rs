//! A real directory, written and synced by a thread of its own, so that the caller's loop never waits for the device.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Change, Disk, DiskError};

mod directory;
mod queue;

use directory::{Backing as _, Directory, create_dir, parent, sync_dir};
use queue::{Prepared, Shared, Step};

/// The lock's name in the directory.
const LOCK_NAME: &str = "LOCK";

/// Ends the names of files that are being prepared.
const UNPREPARED: &str = ".new";

/// How long nothing is prepared after there was no room for it.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// A directory, held by a lock for as long as this value lives.
///
/// One write a file and one `fdatasync` cover everything that was submitted while the ones before them ran. Dropping
/// it, like [`shutdown`](Self::shutdown), waits until what was submitted is done. For Unix.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    directory: Arc<Directory>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    preparing: Option<JoinHandle<()>>,
    names: BTreeMap<String, Named>,
    /// The number of the next file.
    next: u64,
    lock: File,
}

/// A file by its number, which stays when its name changes.
#[derive(Clone, Copy, Debug)]
struct Named {
    file: u64,
    /// The operation that gives it this name.
    ticket: u64,
}

impl FileDisk {
    /// Opens this directory, making it where it does not exist yet.
    ///
    /// `notify` is called from the writer thread after every batch that became durable and after a failure.
    ///
    /// # Errors
    /// [`DiskError::InUse`] where another process, or this one, has the directory open; or the system's refusal.
    pub fn open(dir: impl AsRef<Path>, notify: impl Fn() + Send + 'static) -> Result<Self, DiskError> {
        let dir = dir.as_ref();
        create_dir(dir)?;
        // Fault D4: what is not durable in the directory above is lost whole. Done at every start, here and below,
        // since nobody can tell whether the life that made the directory and its files came as far.
        sync_dir(parent(dir))?;
        let lock = lock(dir)?;
        let names = list(dir)?;
        sync_dir(dir)?;
        let directory = Arc::new(Directory::new(dir));
        let (shared, writer) = queue::spawn(Arc::clone(&directory), dir.display().to_string(), notify)?;
        let next = names.len() as u64;
        let writer = Some(writer);
        Ok(Self { dir: dir.into(), directory, shared, writer, preparing: None, names, next, lock })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Does all that was submitted, ends the threads and releases the lock.
    ///
    /// # Errors
    /// An operation failed, now or before: some of what was submitted is not durable.
    pub fn shutdown(mut self) -> Result<(), DiskError> {
        self.close();
        self.shared.durable().map(|_| ())
    }

    fn close(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has left its failure in the queue.
            let _ = writer.join();
            self.preparing.take().map(JoinHandle::join);
            // Said outright, and not left to the closing of the file: a child process that is just being started holds
            // a copy of the file until it executes its program, and the lock with it.
            let _ = self.lock.unlock();
        }
    }

    fn named(&self, file: &str) -> Result<Named, DiskError> {
        let named = self.names.get(file).copied();
        named.ok_or_else(|| DiskError::NoFile { place: self.place_of(file) })
    }

    fn number(&mut self) -> u64 {
        self.next = self.next.saturating_add(1);
        self.next
    }

    /// Does to the names what the operation, which is to have this ticket, does to them.
    fn step(&mut self, operation: Change<'_>, ticket: u64) -> Result<Step, DiskError> {
        Ok(match operation {
            Change::Create { file } => {
                self.close_settled();
                let number = self.number();
                self.names.insert(file.into(), Named { file: number, ticket });
                Step::Create { file: number, name: file.into() }
            }
            Change::Write { file, offset, bytes } => {
                Step::Write { file: self.named(file)?.file, name: file.into(), offset, bytes: bytes.to_vec() }
            }
            Change::Rename { from, to } => {
                let Named { file, .. } = self.named(from)?;
                self.names.remove(from);
                self.names.insert(to.into(), Named { file, ticket });
                Step::Rename { from: from.into(), to: to.into() }
            }
            Change::Remove { file } => {
                let Named { file: number, .. } = self.named(file)?;
                self.names.remove(file);
                Step::Remove { file: number, name: file.into() }
            }
        })
    }

    /// Closes files, where many are open. One whose name is not durable yet stays open: on the device it may have
    /// another.
    fn close_settled(&self) {
        let durable = self.shared.durable().unwrap_or(0);
        let is_settled = |file| self.names.values().any(|named| named.file == file && named.ticket <= durable);
        self.directory.close_if_many(is_settled);
    }

    /// A file that was prepared is one like any other from this operation on. It is not needed where another has its name,
    /// or gets it now.
    fn take_prepared(&mut self, operation: Change<'_>) {
        let Some(Prepared { file, made, name }) = self.shared.take_prepared() else { return };
        let is_given = matches!(operation, Change::Create { file } | Change::Rename { to: file, .. } if file == name);
        self.shared.precede(if is_given || self.names.contains_key(&name) {
            Step::Remove { file, name: made }
        } else {
            let ticket = self.shared.submitted().saturating_add(1);
            self.names.insert(name.clone(), Named { file, ticket });
            Step::Rename { from: made, to: name }
        });
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        self.close();
    }
}

impl Disk for FileDisk {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn files(&self) -> Vec<String> {
        let listed = self.names.keys().filter(|name| !name.contains('/')).cloned();
        let files: BTreeSet<String> = listed.chain(self.shared.prepared()).collect();
        files.into_iter().collect()
    }

    fn holds(&self, file: &str) -> bool {
        self.names.contains_key(file) || self.shared.prepared().is_some_and(|name| name == file)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        let opened = self.directory.open(self.named(file)?.file, file);
        let metadata = opened.and_then(|opened| opened.metadata());
        Ok(metadata.map_err(|error| DiskError::io("read the length of", &self.place_of(file), &error))?.len())
    }

    fn read_at(&self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let named = self.named(file)?;
        self.close_settled();
        let read = self.directory.open(named.file, file).and_then(|opened| opened.read_exact_at(buffer, offset));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let end = offset.saturating_add(buffer.len() as u64);
                DiskError::PastEnd { place: self.place_of(file), end }
            }
            _ => {
                let operation = format!("read {} bytes at {offset} of", buffer.len());
                DiskError::io(&operation, &self.place_of(file), &error)
            }
        })
    }

    fn submit(&mut self, operation: Change<'_>) -> Result<u64, DiskError> {
        self.shared.durable()?;
        self.take_prepared(operation);
        if let Change::Write { file, offset, bytes } = operation {
            return self.shared.submit_write(self.named(file)?.file, file, offset, bytes);
        }
        let step = self.step(operation, self.shared.submitted().saturating_add(1))?;
        self.shared.submit(step)
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        self.shared.durable()
    }

    fn prepare(&mut self, file: &str, len: u64) {
        let is_busy = self.preparing.as_ref().is_some_and(|thread| !thread.is_finished());
        let was_full = self.shared.lacked_room().is_some_and(|since| since.elapsed() < FULL_PAUSE);
        if is_busy || was_full || self.names.contains_key(file) || self.shared.prepared().is_some() {
            return;
        }
        let number = self.number();
        self.preparing = queue::prepare(&self.directory, &self.shared, number, file, len);
    }

    fn reserve(&mut self, file: &str, len: u64) {
        let Ok(Named { file: number, .. }) = self.named(file) else { return };
        if let Err(DiskError::Full { .. }) = self.directory.reserve(number, file, len) {
            self.shared.found_no_room(Some(Instant::now()));
        }
    }

    fn lacks_room(&self) -> bool {
        self.shared.lacked_room().is_some()
    }

    /// A file system that does not say how much is free has some.
    fn has_free(&self, bytes: u64) -> bool {
        rustix::fs::statvfs(&self.dir).map_or(true, |free| free.f_bavail.saturating_mul(free.f_frsize) >= bytes)
    }

    fn settle(&mut self, operations: &[Change<'_>]) -> Result<(), DiskError> {
        let steps = operations.iter().map(|operation| self.step(*operation, 0)).collect::<Result<Vec<_>, _>>()?;
        queue::perform(&*self.directory, &steps).map_err(|error| self.shared.fail(error))
    }
}

/// The files of a directory and of those directly below. What was being prepared is removed. A directory below that may not
/// be read is another's.
fn list(dir: &Path) -> Result<BTreeMap<String, Named>, DiskError> {
    let failed = |dir: &Path, error: &io::Error| DiskError::io("list", &dir.display().to_string(), error);
    let mut names = BTreeSet::new();
    for (name, is_dir) in entries(dir).map_err(|error| failed(dir, &error))? {
        if is_dir {
            let path = dir.join(&name);
            let below = match entries(&path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                below => below.map_err(|error| failed(&path, &error))?.into_iter().filter(|(_, is_dir)| !is_dir),
            };
            names.extend(below.map(|(file, _)| format!("{name}/{file}")));
        } else if name.ends_with(UNPREPARED) {
            let path = dir.join(&name);
            std::fs::remove_file(&path)
                .map_err(|error| DiskError::io("remove", &path.display().to_string(), &error))?;
        } else if name != LOCK_NAME {
            names.insert(name);
        }
    }
    Ok(names.into_iter().zip(0..).map(|(name, file)| (name, Named { file, ticket: 0 })).collect())
}

/// The files and directories in a directory, and which of them are directories.
fn entries(dir: &Path) -> io::Result<Vec<(String, bool)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if (kind.is_file() || kind.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, kind.is_dir()));
        }
    }
    Ok(found)
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

#[cfg(test)]
mod tests;
