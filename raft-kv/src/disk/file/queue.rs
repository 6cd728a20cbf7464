//! What waits to be done to a directory, and the threads that do it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::directory::{Backing, Directory};
use super::{DiskError, UNPREPARED};

/// A write buffer that grew beyond this many bytes is given back after its batch.
const BUFFER_KEPT: usize = 4 << 20;

/// Zeros that are written at once. The page cache of Linux keeps in one folio what came with one write, and goes through all
/// of the folio's blocks with each write into it and each sync: in folios of 1 MiB, a small write takes half as long again.
const ZEROS: usize = 64 << 10;

/// Zeros that are synced at once: a file that is being prepared must not hold up the syncs of the log.
const ZEROS_SYNCED: u64 = 1 << 20;

/// An operation on files by number.
#[derive(Debug)]
pub(super) enum Step {
    Create { file: u64, name: String },
    Write { file: u64, name: String, offset: u64, bytes: Vec<u8> },
    Rename { from: String, to: String },
    Remove { file: u64, name: String },
}

/// What the caller and the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Step>,
    /// The last ticket given out, and the last whose operation is durable with all before it.
    submitted: u64,
    durable: u64,
    failed: Option<DiskError>,
    closing: bool,
    /// A file that was prepared, and is not known to the caller yet.
    prepared: Option<Prepared>,
    /// When no room was found last, where none was found since.
    lacked_room: Option<Instant>,
    /// A buffer kept for its room.
    room: Vec<u8>,
}

/// A file that was prepared.
#[derive(Debug)]
pub(super) struct Prepared {
    pub file: u64,
    /// The name that it has.
    pub made: String,
    /// The name that it is to have.
    pub name: String,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds this lock; were one to, the queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn durable(&self) -> Result<u64, DiskError> {
        let queue = self.lock();
        queue.failed.clone().map_or(Ok(queue.durable), Err)
    }

    /// What was reserved or prepared found no room, at this time; or some.
    pub(super) fn found_no_room(&self, when: Option<Instant>) {
        self.lock().lacked_room = when;
    }

    pub(super) fn lacked_room(&self) -> Option<Instant> {
        self.lock().lacked_room
    }

    pub(super) fn submitted(&self) -> u64 {
        self.lock().submitted
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Notes the first failure and answers with it.
    pub(super) fn fail(&self, error: DiskError) -> DiskError {
        self.lock().failed.get_or_insert(error).clone()
    }

    /// The name of a file that was prepared, and that nobody has taken yet.
    pub(super) fn prepared(&self) -> Option<String> {
        self.lock().prepared.as_ref().map(|prepared| prepared.name.clone())
    }

    pub(super) fn take_prepared(&self) -> Option<Prepared> {
        self.lock().prepared.take()
    }

    /// Does this before whatever is submitted next. It has no ticket of its own.
    pub(super) fn precede(&self, step: Step) {
        self.lock().waiting.push(step);
    }

    pub(super) fn submit(&self, step: Step) -> Result<u64, DiskError> {
        self.add(|queue| queue.waiting.push(step))
    }

    /// What continues the write that was submitted last becomes a part of it.
    pub(super) fn submit_write(&self, file: u64, name: &str, offset: u64, bytes: &[u8]) -> Result<u64, DiskError> {
        self.add(|queue| match queue.waiting.last_mut() {
            Some(Step::Write { file: last, offset: start, bytes: before, .. })
                if *last == file && start.saturating_add(before.len() as u64) == offset =>
            {
                before.extend_from_slice(bytes);
            }
            _ => {
                let mut buffer = std::mem::take(&mut queue.room);
                buffer.extend_from_slice(bytes);
                queue.waiting.push(Step::Write { file, name: name.into(), offset, bytes: buffer });
            }
        })
    }

    fn add(&self, add: impl FnOnce(&mut Queue)) -> Result<u64, DiskError> {
        let mut queue = self.lock();
        if let Some(error) = &queue.failed {
            return Err(error.clone());
        }
        add(&mut queue);
        queue.submitted = queue.submitted.saturating_add(1);
        let ticket = queue.submitted;
        drop(queue);
        self.wake.notify_one();
        Ok(ticket)
    }

    /// Takes all that waits, and its last ticket; `None` once closing and nothing waits, or after a failure.
    fn next_batch(&self) -> Option<(Vec<Step>, u64)> {
        let mut queue = self.lock();
        while queue.waiting.is_empty() && !queue.closing && queue.failed.is_none() {
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.waiting.is_empty() || queue.failed.is_some() {
            return None;
        }
        Some((std::mem::take(&mut queue.waiting), queue.submitted))
    }

    /// A batch has ended. Its last write's buffer is kept for its room.
    fn done(&self, batch: Vec<Step>, ticket: u64, result: Result<(), DiskError>) {
        let mut queue = self.lock();
        match result {
            Ok(()) => queue.durable = ticket,
            // Faults D3 and D5: whether any of this batch reached the device is unknown, and asking again would not
            // tell. Nothing is acknowledged any more.
            Err(error) => {
                queue.failed.get_or_insert(error);
            }
        }
        if let Some(Step::Write { mut bytes, .. }) = batch.into_iter().next_back() {
            bytes.clear();
            bytes.shrink_to(BUFFER_KEPT);
            queue.room = bytes;
        }
    }
}

/// Does these steps in their order, all of them durable on return: writes are synced together, file by file, and
/// everything else stands alone (contract 3).
pub(super) fn perform(backing: &impl Backing, steps: &[Step]) -> Result<(), DiskError> {
    let mut written = BTreeMap::new();
    for step in steps {
        if let Step::Write { file, name, offset, bytes } = step {
            backing.write(*file, name, *offset, bytes)?;
            written.insert(*file, name);
            continue;
        }
        sync_all(backing, &mut written)?;
        match step {
            Step::Create { file, name } => backing.create(*file, name)?,
            Step::Rename { from, to } => backing.rename(from, to)?,
            Step::Remove { file, name } => backing.remove(*file, name)?,
            Step::Write { .. } => {}
        }
    }
    sync_all(backing, &mut written)
}

fn sync_all(backing: &impl Backing, written: &mut BTreeMap<u64, &String>) -> Result<(), DiskError> {
    std::mem::take(written).into_iter().try_for_each(|(file, name)| backing.sync(file, name))
}

pub(super) fn spawn(
    backing: Arc<impl Backing>,
    place: String,
    notify: impl Fn() + Send + 'static,
) -> Result<(Arc<Shared>, JoinHandle<()>), DiskError> {
    let shared = Arc::new(Shared { queue: Mutex::new(Queue::default()), wake: Condvar::new() });
    let guard = Ended { shared: Arc::clone(&shared) };
    let thread = std::thread::Builder::new().name(String::from("block-log-writer"));
    let writer = thread
        .spawn(move || {
            while let Some((batch, ticket)) = guard.shared.next_batch() {
                let result = perform(&*backing, &batch);
                guard.shared.done(batch, ticket, result);
                notify();
            }
        })
        .map_err(|error| DiskError::Io { what: format!("start a writer thread for {place}: {error}") })?;
    Ok((shared, writer))
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

/// Makes a file of zeros on a thread of its own. It gets its name with the next operation: which names there are, only who
/// submits these knows. One that cannot be made, for
/// lack of room, is done without.
pub(super) fn prepare(
    directory: &Arc<Directory>,
    shared: &Arc<Shared>,
    file: u64,
    name: &str,
    len: u64,
) -> Option<JoinHandle<()>> {
    let (directory, shared, name) = (Arc::clone(directory), Arc::clone(shared), String::from(name));
    let thread = std::thread::Builder::new().name(String::from("block-log-spare"));
    let started = thread.spawn(move || {
        let unprepared = format!("{name}-{file}{UNPREPARED}");
        let written = write_zeros(&*directory, &shared, file, &unprepared, len);
        if written.is_ok() || matches!(written, Err(DiskError::Full { .. })) {
            shared.found_no_room(written.is_err().then(Instant::now));
        }
        if written.is_err() || !shared.publish(Prepared { file, made: unprepared.clone(), name }) {
            // One that is left is removed at the next start.
            let _ = directory.remove(file, &unprepared);
        }
    });
    started.ok()
}

fn write_zeros(backing: &impl Backing, shared: &Shared, file: u64, name: &str, len: u64) -> Result<(), DiskError> {
    backing.create(file, name)?;
    // First of all, so that nothing is taken from a device that has not all of it.
    backing.reserve(file, name, len)?;
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < len {
        if shared.lock().closing {
            return Err(DiskError::Io { what: format!("prepare {name}: it is not needed any more") });
        }
        let part = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX).min(ZEROS);
        backing.write(file, name, at, zeros.get(..part).unwrap_or(&zeros))?;
        at = at.saturating_add(part as u64);
        if at.is_multiple_of(ZEROS_SYNCED) || at >= len {
            backing.sync(file, name)?;
        }
    }
    Ok(())
}

impl Shared {
    /// A file is prepared. Unless nothing is going to be done any more.
    fn publish(&self, prepared: Prepared) -> bool {
        let mut queue = self.lock();
        let is_wanted = queue.failed.is_none() && !queue.closing;
        if is_wanted {
            queue.prepared = Some(prepared);
        }
        is_wanted
    }
}
