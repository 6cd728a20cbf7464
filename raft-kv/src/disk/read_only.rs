//! A directory that is looked at and left as it is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Change, Disk, DiskError};

/// The lock's name, as [`FileDisk`](super::FileDisk) has it.
const LOCK_NAME: &str = "LOCK";

/// The files of a directory and, by the same names, those of a directory below it that it has no files of that name
/// for.
///
/// It holds the directory's lock together with others that only look. Where there is no lock file, which a copy may
/// lack, it makes none: [`recheck`](Self::recheck) says afterwards whether a server has come.
#[derive(Debug)]
pub(crate) struct ReadOnlyDisk {
    dir: PathBuf,
    below: Option<PathBuf>,
    files: BTreeMap<String, PathBuf>,
    lock: Option<File>,
    /// The file that was read last: they are read one after the other.
    open: RefCell<Option<(String, File)>>,
    /// The first refusal of the system to read a file that is there.
    refused: RefCell<Option<DiskError>>,
}

impl ReadOnlyDisk {
    /// Looks at this directory, and at the one of this name below it, where one is given.
    ///
    /// # Errors
    /// [`DiskError::InUse`] where a server has it open; or the system's refusal.
    pub(crate) fn open(dir: &Path, below: Option<&str>) -> Result<Self, DiskError> {
        let lock = lock(dir)?;
        let below = below.map(|below| dir.join(below)).filter(|below| below.is_dir());
        let mut files = below.as_deref().map_or_else(|| Ok(BTreeMap::new()), list)?;
        files.extend(list(dir)?);
        Ok(Self { below, files, lock, ..Self::empty(dir) })
    }

    /// Looks at a directory whose server may run, so that its files change meanwhile; or one that the caller has locked.
    ///
    /// # Errors
    /// The system's refusal.
    pub(crate) fn unlocked(dir: &Path) -> Result<Self, DiskError> {
        Ok(Self { files: list(dir)?, ..Self::empty(dir) })
    }

    fn empty(dir: &Path) -> Self {
        let (open, refused) = (RefCell::new(None), RefCell::new(None));
        Self { dir: dir.into(), below: None, files: BTreeMap::new(), lock: None, open, refused }
    }

    /// Why the system did not give a file's bytes, the first time that it did not: whoever went on without them cannot tell
    /// whether they are right.
    pub(crate) fn refused(&self) -> Option<DiskError> {
        self.refused.borrow().clone()
    }

    fn refuse(&self, operation: &str, file: &str, error: &io::Error) -> DiskError {
        let refusal = DiskError::io(operation, &self.place_of(file), error);
        if error.kind() != io::ErrorKind::NotFound {
            self.refused.borrow_mut().get_or_insert_with(|| refusal.clone());
        }
        refusal
    }

    /// Whether this file is in the directory below.
    pub(crate) fn is_below(&self, file: &str) -> bool {
        let holder = self.files.get(file).and_then(|path| path.parent());
        self.below.as_deref().is_some_and(|below| holder == Some(below))
    }

    /// That no server has come in the meantime.
    ///
    /// # Errors
    /// One has, or may have: what was read may be the half of something.
    pub(crate) fn recheck(&self) -> Result<(), DiskError> {
        if self.lock.is_none() && self.dir.join(LOCK_NAME).exists() {
            return Err(DiskError::InUse { dir: self.place() });
        }
        Ok(())
    }

    fn path(&self, file: &str) -> Result<&Path, DiskError> {
        let path = self.files.get(file).map(PathBuf::as_path);
        path.ok_or_else(|| DiskError::NoFile { place: self.place_of(file) })
    }
}

impl Disk for ReadOnlyDisk {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn files(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn holds(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        let metadata = std::fs::metadata(self.path(file)?);
        Ok(metadata.map_err(|error| self.refuse("read the length of", file, &error))?.len())
    }

    fn read_at(&self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let path = self.path(file)?;
        let mut held = self.open.borrow_mut();
        let read = match &*held {
            Some((name, open)) if name == file => open.read_exact_at(buffer, offset),
            _ => File::open(path).and_then(|open| {
                let read = open.read_exact_at(buffer, offset);
                *held = Some((file.into(), open));
                read
            }),
        };
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let end = offset.saturating_add(buffer.len() as u64);
                DiskError::PastEnd { place: self.place_of(file), end }
            }
            _ => {
                let operation = format!("read {} bytes at {offset} of", buffer.len());
                self.refuse(&operation, file, &error)
            }
        })
    }

    fn submit(&mut self, _change: Change<'_>) -> Result<u64, DiskError> {
        Err(self.refusal())
    }

    fn durable(&mut self) -> Result<u64, DiskError> {
        Ok(0)
    }

    fn prepare(&mut self, _file: &str, _len: u64) {}

    fn settle(&mut self, _changes: &[Change<'_>]) -> Result<(), DiskError> {
        Err(self.refusal())
    }

    fn place_of(&self, file: &str) -> String {
        self.files.get(file).map_or_else(|| self.dir.join(file), PathBuf::clone).display().to_string()
    }
}

impl ReadOnlyDisk {
    fn refusal(&self) -> DiskError {
        DiskError::Io { what: format!("{} is only read", self.place()) }
    }
}

fn list(dir: &Path) -> Result<BTreeMap<String, PathBuf>, DiskError> {
    let failed = |error: io::Error| DiskError::io("list", &dir.display().to_string(), &error);
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str().filter(|name| *name != LOCK_NAME).map(String::from);
        if let Some(name) = name
            && entry.file_type().map_err(failed)?.is_file()
        {
            files.insert(name, entry.path());
        }
    }
    Ok(files)
}

/// Shared with others that look; a server wants it for itself alone.
fn lock(dir: &Path) -> Result<Option<File>, DiskError> {
    let path = dir.join(LOCK_NAME);
    let failed = |operation, error: &io::Error| DiskError::io(operation, &path.display().to_string(), error);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(DiskError::InUse { dir: dir.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &error)),
    }
}
