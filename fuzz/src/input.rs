//! An input, taken apart from its front: bytes that are missing are zeros.

pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    pub(crate) fn number(&mut self, width: usize) -> u64 {
        self.bytes(width).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Bytes behind their length.
    pub(crate) fn sized(&mut self) -> &'a [u8] {
        let len = self.number(2) as usize;
        self.bytes(len)
    }
}

/// What [`Input::sized`] reads.
pub(crate) fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u16).to_le_bytes());
    out.extend(bytes);
}
