//! Which bytes of a block log may rot without being taken for a torn tail.

use std::collections::{BTreeMap, VecDeque};

use raft_kv::Change;

/// Follows what the frames of a [`BlockLog`](raft_kv::BlockLog) say of the bytes before them.
///
/// A frame notes how much of the log its writer knew to be durable. Where a frame is bad, one behind it that notes more
/// than where the bad one begins tells damage from a torn tail; so does a segment that has begun behind it. So what a
/// durable frame notes may rot, as long as that frame does not, and so may an installed snapshot. Writers of other
/// formats, and those who submit anything but whole frames, are not understood.
#[derive(Debug, Default)]
pub(super) struct Vouching {
    /// How long each segment is, by number, once everything submitted is done.
    segments: BTreeMap<u64, u64>,
    /// How much the writer knows to be durable: the end of a frame.
    told: Place,
    /// The frames that the writer does not know to be durable: their tickets and ends.
    ends: VecDeque<(u64, Place)>,
    /// The frames that are not durable yet.
    pending: VecDeque<Voucher>,
    /// The last durable frame.
    best: Voucher,
    /// The last snapshot that was given its name, and the ticket of that; 0 once it is durable.
    snapshot: Option<(String, u64)>,
}

/// A segment's number and an offset in its file.
type Place = (u64, u64);

/// What a frame vouches for.
#[derive(Clone, Copy, Debug, Default)]
struct Voucher {
    ticket: u64,
    /// Where the frame ends.
    end: Place,
    /// The bytes before this were durable when it was formed, or else its segment would not have begun. Never more than
    /// where it begins.
    covers: Place,
}

impl Vouching {
    /// The files with how many bytes from their beginning a durable frame behind them vouches for.
    pub(super) fn covered(&self) -> Vec<(String, u64)> {
        let (last, offset) = self.best.covers;
        let covered = |(number, len): (&u64, &u64)| (name(*number), if *number < last { *len } else { offset });
        self.segments.range(..=last).map(covered).collect()
    }

    /// The installed snapshot, where it is durable.
    pub(super) fn snapshot(&self) -> Option<String> {
        self.snapshot.as_ref().filter(|(_, ticket)| *ticket == 0).map(|(file, _)| file.clone())
    }

    /// The last segment, and how long it is.
    pub(super) fn last_segment(&self) -> Option<(String, u64)> {
        self.segments.last_key_value().map(|(number, len)| (name(*number), *len))
    }

    /// The writer learns that everything up to this ticket is durable.
    pub(super) fn told(&mut self, durable: u64) {
        while let Some((_, end)) = self.ends.pop_front_if(|(ticket, _)| *ticket <= durable) {
            self.told = end;
        }
    }

    pub(super) fn submitted(&mut self, change: Change<'_>, ticket: u64) {
        self.change(change);
        match change {
            Change::Write { file, offset, bytes } => {
                let Some(segment) = number(file) else { return };
                let end = (segment, offset.saturating_add(bytes.len() as u64));
                let covers = if offset == 0 { (segment, 0) } else { self.told };
                self.ends.push_back((ticket, end));
                self.pending.push_back(Voucher { ticket, end, covers });
            }
            Change::Rename { to, .. } if to.starts_with("snapshot-") => {
                self.snapshot = Some((String::from(to), ticket));
            }
            _ => {}
        }
    }

    /// Everything up to this ticket is durable.
    pub(super) fn durable(&mut self, ticket: u64) {
        while let Some(voucher) = self.pending.pop_front_if(|voucher| voucher.ticket <= ticket) {
            self.best = voucher;
        }
        if let Some((_, named)) = &mut self.snapshot
            && *named <= ticket
        {
            *named = 0;
        }
    }

    /// Which snapshot is installed is not known where it may have got its name or not.
    pub(super) fn crashed(&mut self) {
        self.ends.clear();
        self.snapshot.take_if(|(_, ticket)| *ticket > 0);
    }

    /// A log was opened, or founded, with these changes: what it holds ends where the last of its segments does.
    pub(super) fn settled(&mut self, changes: &[Change<'_>]) {
        changes.iter().for_each(|change| self.change(*change));
        let end = changes.iter().rev().find_map(|change| match change {
            Change::Write { file, offset, bytes } if !clears(bytes) => {
                Some((number(file)?, offset.saturating_add(bytes.len() as u64)))
            }
            _ => None,
        });
        self.told = end.unwrap_or_default();
        self.segments.retain(|number, _| *number <= self.told.0);
        self.segments.entry(self.told.0).and_modify(|len| *len = self.told.1);
        while let Some(voucher) = self.pending.pop_front_if(|voucher| voucher.end <= self.told) {
            self.best = voucher;
        }
        self.pending.clear();
        if self.told < self.best.end {
            self.best = Voucher::default();
        }
        // Tickets begin anew.
        self.best.ticket = 0;
    }

    fn change(&mut self, change: Change<'_>) {
        match change {
            Change::Write { file, offset, bytes } => {
                if let Some(number) = number(file).filter(|_| !clears(bytes)) {
                    self.segments.insert(number, offset.saturating_add(bytes.len() as u64));
                }
            }
            Change::Rename { from: file, .. } | Change::Remove { file } => {
                if let Some(number) = number(file) {
                    self.segments.remove(&number);
                }
            }
            Change::Create { .. } => {}
        }
    }
}

/// Whether these bytes take the place of what stood behind the end of a log.
fn clears(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0)
}

fn number(file: &str) -> Option<u64> {
    file.strip_prefix("segment-")?.parse().ok()
}

fn name(number: u64) -> String {
    format!("segment-{number:016}")
}
