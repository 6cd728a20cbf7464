//! Which bytes of a block log may rot without being taken for a torn tail.

use std::collections::VecDeque;

/// Follows what the frames of a [`BlockLog`](raft_kv::BlockLog) say of the bytes before them.
///
/// A frame notes how much of the file its writer knew to be durable. Where a frame is bad, one behind it that notes more
/// than where the bad one begins tells damage from a torn tail. So what a durable frame notes may rot, as long as that
/// frame does not. Writers of other formats, and those who submit anything but whole frames, are not understood.
///
/// Invariant: both numbers of the vouchers ascend, from `best` over `pending`.
#[derive(Debug, Default)]
pub(super) struct Vouching {
    /// How much the writer knows to be durable: the end of a frame.
    told: usize,
    /// The frames that are not durable yet.
    pending: VecDeque<Voucher>,
    /// The last durable frame.
    best: Voucher,
}

/// What a frame vouches for.
#[derive(Clone, Copy, Debug, Default)]
struct Voucher {
    /// Where the frame ends.
    end: usize,
    /// The bytes before this were durable when it was formed. Never more than where it begins.
    covers: usize,
}

impl Vouching {
    /// Bytes from the beginning for which a durable frame behind them vouches.
    pub(super) const fn covered(&self) -> usize {
        self.best.covers
    }

    /// The writer learns that so many bytes are durable.
    pub(super) const fn told(&mut self, durable: usize) {
        self.told = durable;
    }

    /// A frame was submitted that ends here.
    pub(super) fn submitted(&mut self, end: usize) {
        self.pending.push_back(Voucher { end, covers: self.told });
    }

    /// The frames up to here are durable.
    pub(super) fn durable(&mut self, end: usize) {
        while let Some(voucher) = self.pending.pop_front_if(|voucher| voucher.end <= end) {
            self.best = voucher;
        }
    }

    /// A file was opened and found good up to here; `as_it_was` unless its last bytes are others than before.
    pub(super) fn settled(&mut self, end: usize, as_it_was: bool) {
        self.durable(end);
        self.pending.clear();
        if !as_it_was || end < self.best.end {
            self.best = Voucher::default();
        }
        self.told = end;
    }
}
