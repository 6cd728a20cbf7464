//! What is done to a real directory: one call of the system for each.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::DiskError;

/// More files than this are not kept open.
const OPEN_MAX: usize = 64;

/// What the writer thread asks of a directory; tests put a failing one in its place.
pub(super) trait Backing: Send + Sync + 'static {
    fn create(&self, file: u64, name: &str) -> Result<(), DiskError>;
    fn write(&self, file: u64, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// The file is at least so long, and its bytes have their room on the device, where the file system can say so.
    fn reserve(&self, file: u64, name: &str, len: u64) -> Result<(), DiskError>;
    /// The file's bytes, and what is needed to find them, are durable.
    fn sync(&self, file: u64, name: &str) -> Result<(), DiskError>;
    /// The new name is durable.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    fn remove(&self, file: u64, name: &str) -> Result<(), DiskError>;
}

/// A directory with its open files, by number.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    open: Mutex<BTreeMap<u64, Arc<File>>>,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), open: Mutex::new(BTreeMap::new()) }
    }

    /// The open file of this number, which has this name if it is not open yet.
    pub(super) fn open(&self, file: u64, name: &str) -> io::Result<Arc<File>> {
        if let Some(open) = self.files().get(&file) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?);
        self.files().insert(file, Arc::clone(&opened));
        Ok(opened)
    }

    pub(super) fn close_if_many(&self, may_close: impl Fn(u64) -> bool) {
        let mut files = self.files();
        if files.len() > OPEN_MAX {
            files.retain(|file, _| !may_close(*file));
        }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<File>>> {
        // No code panics while it holds this lock; were one to, the map would still be whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: &str, name: &str, error: &io::Error) -> DiskError {
        DiskError::io(operation, &self.path.join(name).display().to_string(), error)
    }

    fn sync_parent_of(&self, name: &str) -> Result<(), DiskError> {
        sync_dir(parent(&self.path.join(name)))
    }
}

impl Backing for Directory {
    /// In place of one that a failed preparation may have left.
    fn create(&self, file: u64, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        let created = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let created = created.map_err(|error| self.failed("create", name, &error))?;
        self.files().insert(file, Arc::new(created));
        self.sync_parent_of(name)
    }

    fn write(&self, file: u64, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.open(file, name).and_then(|file| file.write_all_at(bytes, offset));
        written.map_err(|error| self.failed("write", name, &error))
    }

    fn reserve(&self, file: u64, name: &str, len: u64) -> Result<(), DiskError> {
        let reserved = self.open(file, name).and_then(|file| match fallocate(&file, FallocateFlags::empty(), 0, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            answer => Ok(answer?),
        });
        reserved.map_err(|error| self.failed("reserve", name, &error))
    }

    fn sync(&self, file: u64, name: &str) -> Result<(), DiskError> {
        let synced = self.open(file, name).and_then(|file| file.sync_data());
        synced.map_err(|error| self.failed("sync", name, &error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let path = self.path.join(to);
        create_dir(parent(&path))?;
        std::fs::rename(self.path.join(from), path).map_err(|error| self.failed("rename", from, &error))?;
        if parent(Path::new(to)) != Path::new(".") {
            self.sync_parent_of(to)?;
        }
        self.sync_parent_of(from)
    }

    fn remove(&self, file: u64, name: &str) -> Result<(), DiskError> {
        self.files().remove(&file);
        std::fs::remove_file(self.path.join(name)).map_err(|error| self.failed("remove", name, &error))?;
        self.sync_parent_of(name)
    }
}

/// Makes the directory, each of those above it durably (fault D4).
pub(super) fn create_dir(dir: &Path) -> Result<(), DiskError> {
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

pub(super) fn parent(dir: &Path) -> &Path {
    let parent = dir.parent().unwrap_or(dir);
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| DiskError::io("sync", &dir.display().to_string(), &error))
}
