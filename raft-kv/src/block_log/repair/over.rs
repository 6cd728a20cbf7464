//! Starting over: the directory's files are moved aside, and a log is founded that is another disk's.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use raft_core::Incarnation;

use super::super::segments::ARCHIVE;
use super::super::{BlockLog, LogOptions, OpenError};
use super::DAMAGED;
use crate::block::Genesis;
use crate::disk::{Change, Disk as _, DiskError, FileDisk};

/// Marks a directory whose files are being moved aside: what is there counts for nothing.
const STARTING_OVER: &str = "starting-over";

/// Marks a directory whose log is founded anew, and whose server the cluster does not know yet by it.
const REJOINING: &str = "rejoining";

/// Begins the name of the directory below to which the files go.
const ASIDE: &str = "aside-";

/// Whether a crash came as this directory started over: that must be done again before it is opened.
#[must_use]
pub fn is_starting_over(dir: &Path) -> bool {
    dir.join(STARTING_OVER).exists()
}

/// Whether its log was founded anew, and its server is to be removed and added again.
#[must_use]
pub fn is_rejoining(dir: &Path) -> bool {
    dir.join(REJOINING).exists()
}

/// The cluster knows the server by its new log.
///
/// # Errors
/// The system's refusal.
pub fn rejoined(dir: &Path) -> Result<(), DiskError> {
    let path = dir.join(REJOINING);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DiskError::io("remove", &path.display().to_string(), &error))
        }
        _ => Ok(()),
    }
}

/// When this directory started over, as far as what it moved aside is there still and the system's clock is right.
#[must_use]
pub fn started_over(dir: &Path) -> Vec<SystemTime> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let aside = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(ASIDE));
    aside.filter_map(|entry| entry.metadata().ok()?.modified().ok()).collect()
}

/// Moves all files of this directory, the archive's included, to another below it, which is answered, and founds a log
/// there with this new incarnation. For any reason that a server has not to trust its files.
///
/// # Errors
/// A file cannot be moved or written. It [is starting over](is_starting_over) still then.
pub fn start_over(
    mut disk: FileDisk,
    genesis: &Genesis,
    new: Incarnation,
    options: LogOptions,
) -> Result<PathBuf, OpenError> {
    let dir = disk.dir().to_owned();
    for mark in [STARTING_OVER, REJOINING] {
        if !disk.holds(mark) {
            disk.settle(&[Change::Create { file: mark }])?;
        }
    }
    let free = (1_u64..).map(|number| format!("{ASIDE}{number}")).find(|name| !dir.join(name).exists());
    let aside = free.unwrap_or_default();
    let files = disk.files();
    let moved: Vec<(&String, String)> = files
        .iter()
        .filter(|name| ![STARTING_OVER, REJOINING].contains(&name.as_str()))
        .map(|name| (name, format!("{aside}/{name}")))
        .collect();
    let moves: Vec<Change<'_>> = moved.iter().map(|(from, to)| Change::Rename { from, to }).collect();
    disk.settle(&moves)?;
    // The new log numbers its segments from 1 on, too. That it is founded makes this durable.
    let to = dir.join(&aside);
    std::fs::create_dir_all(&to)
        .map_err(|error| OpenError::Disk(DiskError::io("create", &to.display().to_string(), &error)))?;
    for below in [ARCHIVE, DAMAGED].into_iter().filter(|below| dir.join(below).is_dir()) {
        let from = dir.join(below);
        let moved = std::fs::rename(&from, to.join(below));
        moved.map_err(|error| OpenError::Disk(DiskError::io("rename", &from.display().to_string(), &error)))?;
    }
    let (cluster, configuration) = (genesis.cluster, genesis.configuration.clone());
    let log = BlockLog::create(disk, cluster, configuration, new, options)?;
    // The lock is held until the mark is gone.
    let mut disk = log.into_disk();
    disk.settle(&[Change::Remove { file: STARTING_OVER }])?;
    disk.shutdown().map_err(OpenError::Disk)?;
    Ok(to)
}
