//! Reading a log back: what it holds, where it ends, and whether what is bad in it is a torn tail or damage.

use raft_core::{Digest, Entry, Incarnation, LogIndex, StorageError};

use super::contents::Contents;
use super::error::OpenError;
use super::frame::{
    BLOCK_HEADER_LEN, BlockHeader, Body, Chunk, FILE_HEADER_LEN, FRAME_HEADER_LEN, FRAME_MAGIC, FileHeader,
    FrameHeader, INCARNATION_LEN, VERSION, encode_frame, encode_genesis, encode_incarnation, file_header,
    parse_file_header,
};
use super::snapshot::Piece;
use crate::block::{Genesis, link};
use crate::disk::Disk;

/// Bytes that recovery reads at once.
const WINDOW_LEN: usize = 1 << 18;

/// What a damaged log's owner is told to do.
const ADVICE: &str = "nothing was changed: put this file back from a copy that is no older, or remove this server \
                      from the cluster and add it anew with an empty directory";

/// What a file holds.
#[derive(Debug)]
pub(super) struct Recovered {
    pub incarnation: Incarnation,
    pub contents: Contents,
    /// Where its last good frame ends.
    pub end: u64,
    /// How much of that some frame vouches for: all before was durable in an earlier life.
    pub vouched: u64,
}

/// What a new file holds: its header, a frame with the genesis, and one with the incarnation, which is no part of the
/// chain: block 0 is the same on every server.
pub(super) fn founding_bytes(genesis: &Genesis, incarnation: Incarnation) -> Option<Vec<u8>> {
    let mut bytes = genesis_bytes(genesis)?;
    encode_frame(bytes.len() as u64, 0, &mut bytes, |out| encode_incarnation(incarnation, out))?;
    Some(bytes)
}

fn genesis_bytes(genesis: &Genesis) -> Option<Vec<u8>> {
    let mut bytes = file_header();
    encode_frame(FILE_HEADER_LEN as u64, 0, &mut bytes, |out| encode_genesis(genesis, out))?;
    Some(bytes)
}

/// Whether the file is what a crash leaves of founding this log: a part of its founding bytes, with zeros for those
/// that never reached the device. Which incarnation was drawn is not known where its frame is torn, so anything may
/// stand there. Founding is durable before anything else is written, so nothing is lost in it, and nobody can rely on an
/// incarnation that no server has run with.
pub(super) fn is_torn_founding(disk: &impl Disk, genesis: &Genesis) -> Result<bool, OpenError> {
    let expected = genesis_bytes(genesis).unwrap_or_default();
    let whole = expected.len().saturating_add(INCARNATION_LEN);
    let Some(len) = usize::try_from(disk.len()).ok().filter(|len| (1..=whole).contains(len)) else {
        return Ok(false);
    };
    let mut found = vec![0; len];
    disk.read_at(0, &mut found)?;
    let torn = found.iter().zip(&expected).all(|(found, expected)| found == expected || *found == 0);
    let is_whole = found.starts_with(&expected) && {
        let mut window = Window { disk, start: 0, bytes: found };
        read_incarnation(&mut window, expected.len() as u64)?.is_some()
    };
    Ok(torn && !is_whole)
}

/// Reads the whole file; `None` where it is empty.
pub(super) fn recover(disk: &impl Disk, asked: &Genesis) -> Result<Option<Recovered>, OpenError> {
    let mut window = Window { disk, start: 0, bytes: Vec::new() };
    if disk.len() == 0 {
        return Ok(None);
    }
    let genesis_end = read_genesis(&mut window, asked)?;
    let incarnation = read_incarnation(&mut window, genesis_end)?
        .ok_or_else(|| damaged(disk, genesis_end, "which disk this is, is not as it was written"))?;
    let mut at = genesis_end.saturating_add(INCARNATION_LEN as u64);
    let mut replay = Replay { disk, contents: Contents::new(asked), last_hash: asked.block().hash };
    let mut vouched = at;
    while at < disk.len() {
        let Some((header, body)) = window.frame(at)? else {
            let evidence = find_evidence(&mut window, at)?.filter(|_| !raft_core::bug!(DamageTakenForTornTail));
            let evidence = evidence.or_else(|| raft_core::bug!(TornTailRefused).then(|| String::from("it is torn")));
            if let Some(evidence) = evidence {
                raft_core::mark!(DamageFound);
                return Err(damaged(disk, at, &evidence).into());
            }
            raft_core::mark!(TornTailCut);
            break;
        };
        let body_at = at.saturating_add(FRAME_HEADER_LEN as u64);
        replay.apply(body_at, body).map_err(|fault| match fault {
            ReplayFault::Content(what) => damaged(disk, at, what),
            ReplayFault::Storage(error) => error,
        })?;
        vouched = vouched.max(header.synced);
        at = body_at.saturating_add(header.len as u64);
    }
    let Replay { mut contents, .. } = replay;
    contents.snapshots.forget_received();
    if raft_core::bug!(TornTailKept) {
        at = disk.len();
    }
    Ok(Some(Recovered { incarnation, contents, end: at, vouched }))
}

/// Checks the file's header and that its first frame is this genesis. Answers where that frame ends.
fn read_genesis(window: &mut Window<'_, impl Disk>, asked: &Genesis) -> Result<u64, OpenError> {
    let (disk, place) = (window.disk, window.disk.place());
    let header = window.bytes(0, FILE_HEADER_LEN)?.and_then(|bytes| bytes.first_chunk());
    match header.map_or(FileHeader::Wrong, parse_file_header) {
        FileHeader::Known => {}
        FileHeader::OtherVersion(found) => return Err(OpenError::Version { place, found, known: VERSION }),
        FileHeader::Wrong => return Err(damaged(disk, 0, "no log begins with these bytes").into()),
    }
    let at = FILE_HEADER_LEN as u64;
    let Some((header, body)) = window.frame(at)? else {
        return Err(damaged(disk, at, "block 0 is not as it was written").into());
    };
    let Some(Body::Genesis(found)) = Body::parse(body) else {
        return Err(damaged(disk, at, "the first frame is not block 0").into());
    };
    if found != *asked {
        return Err(OpenError::OtherGenesis { place, found: Box::new(found), asked: Box::new(asked.clone()) });
    }
    Ok(at.saturating_add(FRAME_HEADER_LEN as u64).saturating_add(header.len as u64))
}

/// The incarnation whose frame is at `at`; `None` where none is.
fn read_incarnation(window: &mut Window<'_, impl Disk>, at: u64) -> Result<Option<Incarnation>, StorageError> {
    Ok(window.frame(at)?.and_then(|(_, body)| match Body::parse(body) {
        Some(Body::Incarnation(incarnation)) => Some(incarnation),
        _ => None,
    }))
}

/// Looks behind a bad frame at `bad` for a frame that was formed when the file was durable beyond `bad`.
///
/// A header alone is evidence, whatever became of its body: its checksum says that it was formed for that place, and
/// what it says was true then. So this takes time linear in the file's rest, whatever lengths its bytes claim.
fn find_evidence(window: &mut Window<'_, impl Disk>, bad: u64) -> Result<Option<String>, StorageError> {
    let mut at = bad.saturating_add(1);
    loop {
        let rest = window.disk.len().saturating_sub(at);
        let len = usize::try_from(rest).unwrap_or(usize::MAX).min(WINDOW_LEN);
        let bytes = window.bytes(at, len)?.unwrap_or_default();
        for (candidate, place) in bytes.windows(FRAME_HEADER_LEN).zip(at..) {
            let header = candidate.first_chunk().filter(|_| candidate.starts_with(&FRAME_MAGIC));
            if let Some(header) = header.and_then(|bytes| FrameHeader::parse(place, bytes))
                && header.synced > bad
            {
                let synced = header.synced;
                return Ok(Some(format!("a frame at byte {place} says that all before byte {synced} was durable")));
            }
        }
        if len < WINDOW_LEN {
            return Ok(None);
        }
        // The next window begins with the last bytes of this one that no whole header fitted in.
        at = at.saturating_add((WINDOW_LEN.saturating_sub(FRAME_HEADER_LEN - 1)) as u64);
    }
}

fn damaged(disk: &impl Disk, at: u64, what: &str) -> StorageError {
    StorageError::Damaged { place: format!("{} at byte {at}", disk.place()), what: format!("{what}; {ADVICE}") }
}

/// The log as far as it is read.
struct Replay<'a, D> {
    disk: &'a D,
    contents: Contents,
    last_hash: Digest,
}

enum ReplayFault {
    /// The frame does not follow from those before it.
    Content(&'static str),
    Storage(StorageError),
}

impl<D: Disk> Replay<'_, D> {
    /// Takes in the frame body that begins at `body_at`.
    fn apply(&mut self, body_at: u64, body: &[u8]) -> Result<(), ReplayFault> {
        match Body::parse(body).ok_or(ReplayFault::Content("a frame is of an unknown kind"))? {
            Body::Genesis(_) => Err(ReplayFault::Content("a second block 0")),
            Body::Incarnation(_) => Err(ReplayFault::Content("a second incarnation")),
            Body::HardState(hard_state) => {
                self.contents.hard_state = hard_state;
                Ok(())
            }
            Body::Truncate(from) => self.truncate(from),
            Body::Append(blocks) => {
                for block in blocks {
                    let (place, entry, hash) = block.ok_or(ReplayFault::Content("a block is not readable"))?;
                    self.append(body_at.saturating_add(place as u64), &entry, hash).map_err(ReplayFault::Content)?;
                }
                Ok(())
            }
            Body::Chunk(chunk) => {
                let len = body.len().saturating_sub(chunk.data.len());
                self.receive(chunk, body_at.saturating_add(len as u64)).map_err(ReplayFault::Content)
            }
            Body::Install { index, keep_from } => self.install(index, keep_from),
        }
    }

    fn append(&mut self, offset: u64, entry: &Entry, hash: Digest) -> Result<(), &'static str> {
        if self.contents.check_append([entry]).is_err() {
            return Err("a block's height or term does not follow the block before it");
        }
        if link(&self.last_hash, entry) != hash {
            return Err("a block's hash does not link it to the block before it");
        }
        self.contents.append(offset, entry);
        self.last_hash = hash;
        Ok(())
    }

    fn truncate(&mut self, from: LogIndex) -> Result<(), ReplayFault> {
        raft_core::mark!(TruncationRead);
        if raft_core::bug!(TruncationForgotten) {
            return Ok(());
        }
        if self.contents.check_truncate(from).is_err() {
            return Err(ReplayFault::Content("a truncation of blocks that are not there"));
        }
        self.contents.truncate(from);
        self.last_hash = self.hash_at(from.prev())?;
        Ok(())
    }

    fn receive(&mut self, chunk: Chunk<'_>, at: u64) -> Result<(), &'static str> {
        let Chunk { meta, offset, done, crc, data } = chunk;
        if self.contents.snapshots.check_chunk(&meta, offset).is_err() {
            return Err("a snapshot's chunk does not follow the one before it");
        }
        self.contents.snapshots.receive(meta, Piece { offset, at, len: data.len(), crc }, done);
        Ok(())
    }

    fn install(&mut self, index: LogIndex, keep_from: Option<LogIndex>) -> Result<(), ReplayFault> {
        raft_core::mark!(InstallRead);
        let meta = self.contents.check_install(index, keep_from);
        let anchor = meta.map_err(|_| ReplayFault::Content("a snapshot is installed that was not received"))?.digest;
        let Some(first) = keep_from else {
            self.contents.install(None, None);
            self.last_hash = self.contents.before_hash;
            return Ok(());
        };
        if Some(self.hash_at(index)?) != anchor {
            return Err(ReplayFault::Content("a snapshot is not of the block at its height"));
        }
        let before_hash = self.hash_at(first.prev())?;
        self.contents.install(keep_from, Some(before_hash));
        Ok(())
    }

    /// Of a block that was read already, or of the one before the first.
    fn hash_at(&self, height: LogIndex) -> Result<Digest, ReplayFault> {
        let Some((offset, _)) = self.contents.index.locate(height) else { return Ok(self.contents.before_hash) };
        let mut bytes = [0; BLOCK_HEADER_LEN];
        self.disk.read_at(offset, &mut bytes).map_err(|error| ReplayFault::Storage(error.into()))?;
        let header = BlockHeader::parse(&bytes).filter(|header| header.height == height);
        Ok(header.ok_or(ReplayFault::Content("a block has changed while it was read"))?.hash)
    }
}

/// A part of the file in memory, moved along as it is read.
struct Window<'a, D> {
    disk: &'a D,
    start: u64,
    bytes: Vec<u8>,
}

impl<D: Disk> Window<'_, D> {
    /// The `len` bytes from `at` on; `None` where the file ends before.
    fn bytes(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>, StorageError> {
        let rest = usize::try_from(self.disk.len().saturating_sub(at)).unwrap_or(usize::MAX);
        if len > rest {
            return Ok(None);
        }
        let skip = |start: u64| at.checked_sub(start).and_then(|skip| usize::try_from(skip).ok());
        let held = skip(self.start).is_some_and(|skip| skip.saturating_add(len) <= self.bytes.len());
        if !held {
            self.start = at;
            self.bytes.resize(len.max(WINDOW_LEN.min(rest)), 0);
            match self.disk.read_at(at, &mut self.bytes) {
                Err(_) if raft_core::bug!(ReadErrorEndsLog) => return Ok(None),
                answer => answer?,
            }
        }
        Ok(skip(self.start).and_then(|skip| self.bytes.get(skip..)?.get(..len)))
    }

    /// The whole frame at `at`; `None` where none is.
    fn frame(&mut self, at: u64) -> Result<Option<(FrameHeader, &[u8])>, StorageError> {
        let header = self.bytes(at, FRAME_HEADER_LEN)?.and_then(|bytes| bytes.first_chunk());
        let Some(header) = header.and_then(|bytes| FrameHeader::parse(at, bytes)) else {
            return Ok(None);
        };
        let body = self.bytes(at.saturating_add(FRAME_HEADER_LEN as u64), header.len)?;
        Ok(body.filter(|body| header.matches(body)).map(|body| (header, body)))
    }
}
