//! Reading again what lies still, while its server runs, so that rot is found while the others have what is needed to mend
//! it (fault D2).
//!
//! Only what is durable is judged: a segment that another follows, as far as that; the last one up to where a frame behind
//! says so; and the installed snapshot. Files change meanwhile: they are written, given back, and written again under other
//! names. So whatever looks wrong is looked at a second time, by its name, from its beginning.

use std::path::Path;

use raft_core::{Digest, StorageError};

use super::frame::{Body, FRAME_HEADER_LEN, SegmentHeader};
use super::inspect::snapshots;
use super::segments::{is_snapshot, segment_name, segment_number};
use super::window::Window;
use crate::block::link;
use crate::disk::{Disk, DiskError, ReadOnlyDisk};

/// What a pass over a directory came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// All of it is as it was written, so many bytes.
    Sound(u64),
    /// A file is not.
    Damaged {
        /// The file.
        file: String,
        /// Where, and what is wrong.
        what: String,
    },
    /// The system does not give a file: whether it is damaged is not known.
    Unread {
        /// The file.
        file: String,
        /// Why not.
        error: DiskError,
    },
    /// It was told to stop.
    Stopped,
}

/// Reads all of a log's directory that is durable, whose server may run. `may_go_on` is told of every few bytes that were
/// read: it waits, so that this keeps to a rate, and answers whether to go on.
///
/// # Errors
/// The directory cannot be listed.
pub fn scrub(dir: &Path, mut may_go_on: impl FnMut(u64) -> bool) -> Result<Scrubbed, DiskError> {
    let disk = ReadOnlyDisk::unlocked(dir)?;
    let files = disk.files();
    let mut read = 0_u64;
    for file in files.iter().filter(|file| is_snapshot(file) || segment_number(file).is_some()) {
        let mut is_told = |bytes: u64| {
            read = read.saturating_add(bytes);
            may_go_on(bytes)
        };
        let mut wrong = None;
        // Twice: the file may have become another while it was read.
        for _ in 0..2 {
            match look(dir, file, &mut is_told) {
                Look::Sound => {
                    wrong = None;
                    break;
                }
                Look::Wrong(what) => wrong = Some(what),
                Look::Unread(error) => return Ok(Scrubbed::Unread { file: disk.place_of(file), error }),
                Look::Stopped => return Ok(Scrubbed::Stopped),
            }
        }
        if let Some(what) = wrong
            && dir.join(file).exists()
        {
            return Ok(Scrubbed::Damaged { file: disk.place_of(file), what });
        }
    }
    Ok(Scrubbed::Sound(read))
}

enum Look {
    Sound,
    Wrong(String),
    Unread(DiskError),
    Stopped,
}

fn look(dir: &Path, file: &str, is_told: &mut impl FnMut(u64) -> bool) -> Look {
    let disk = match ReadOnlyDisk::unlocked(dir) {
        Ok(disk) => disk,
        Err(error) => return Look::Unread(error),
    };
    // What is not read is not judged, whatever was made of it. A file that is not there any more is not needed.
    match judge(&disk, file, is_told) {
        Look::Wrong(what) => disk.refused().filter(|_| dir.join(file).exists()).map_or(Look::Wrong(what), Look::Unread),
        look => look,
    }
}

fn judge(disk: &ReadOnlyDisk, file: &str, is_told: &mut impl FnMut(u64) -> bool) -> Look {
    let len = match disk.len(file) {
        Ok(len) => len,
        Err(DiskError::NoFile { .. }) => return Look::Sound,
        Err(error) => return Look::Wrong(error.to_string()),
    };
    let Some(number) = segment_number(file) else {
        return match snapshots::intact(disk, file) {
            _ if !is_told(len) => Look::Stopped,
            Some(_) => Look::Sound,
            None => Look::Wrong("the snapshot is not as it was written".into()),
        };
    };
    match segment(disk, number, is_told) {
        Ok(look) => look,
        Err(error) => Look::Wrong(error.to_string()),
    }
}

/// Reads a segment as far as it is known to be durable.
fn segment(disk: &ReadOnlyDisk, number: u64, is_told: &mut impl FnMut(u64) -> bool) -> Result<Look, StorageError> {
    let mut window = Window::open(disk, number)?;
    let next = next_start(disk, number)?;
    let SegmentHeader::Known { number: found, start } = window.header()? else {
        return Ok(unless_new(next, "no segment begins with these bytes"));
    };
    let Some((checkpoint, first)) = window.checkpoint(start)?.filter(|_| found == number) else {
        return Ok(unless_new(next, "what it begins with is not as it was written"));
    };
    let (mut at, mut last) = (first, Some(checkpoint.last.hash));
    while next != Some(at) {
        let Some((header, body)) = window.frame(start, at)? else {
            let proof = match next {
                Some(_) => Some(format!("the frame at byte {at} of the log is not as it was written")),
                None => match window.evidence(start, at, at)?.proof {
                    // Both may have been written since that place was read: what vouches for it is only right of what is there.
                    Some(_) if Window::open(disk, number)?.frame(start, at)?.is_some() => {
                        window = Window::open(disk, number)?;
                        continue;
                    }
                    proof => proof,
                },
            };
            return Ok(proof.map_or(Look::Sound, Look::Wrong));
        };
        let len = (FRAME_HEADER_LEN as u64).saturating_add(header.len as u64);
        let Some(hash) = follow(last, body) else {
            return Ok(Look::Wrong(format!("a block at byte {at} of the log is not linked to the one before it")));
        };
        (at, last) = (at.saturating_add(len), hash);
        if !is_told(len) {
            return Ok(Look::Stopped);
        }
    }
    Ok(Look::Sound)
}

/// The hash of the last block after a frame, where that is known; `None` where the frame's blocks do not follow.
fn follow(last: Option<Digest>, body: &[u8]) -> Option<Option<Digest>> {
    match Body::parse(body)? {
        Body::Append(blocks) => {
            let mut prev = last;
            for block in blocks {
                let (_, entry, hash) = block?;
                if prev.is_some_and(|prev| link(&prev, &entry) != hash) {
                    return None;
                }
                prev = Some(hash);
            }
            Some(prev)
        }
        Body::Truncate(before) => Some(Some(before.hash)),
        Body::Install { meta, keep_from: None } => Some(meta.digest),
        Body::Install { .. } | Body::HardState(_) | Body::Checkpoint(_) => Some(last),
    }
}

/// Where the next segment starts, where there is one that has begun.
fn next_start(disk: &ReadOnlyDisk, number: u64) -> Result<Option<u64>, StorageError> {
    let next = number.saturating_add(1);
    if !disk.holds(&segment_name(next)) {
        return Ok(None);
    }
    Ok(match Window::open(disk, next)?.header()? {
        SegmentHeader::Known { number, start } if number == next => Some(start),
        _ => None,
    })
}

/// The last segment may be beginning just now.
fn unless_new(next: Option<u64>, what: &str) -> Look {
    if next.is_some() { Look::Wrong(what.into()) } else { Look::Sound }
}

#[cfg(test)]
mod tests;
