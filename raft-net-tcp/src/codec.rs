//! Values as bytes: the one place in the crate that names bincode.
//!
//! The format is bincode 2's `legacy` configuration, which wincode reads and writes as well: little-endian integers of
//! fixed width, `u64` lengths, `u32` enum tags. bincode is pinned to 2.0.1, the last release that works: whoever
//! replaces it replaces this file.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::{Deserialize, Serialize};

/// Why bytes are not the encoding of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// They end early, claim impossible lengths or name a variant that there is not.
    #[error("malformed: {what}")]
    Malformed {
        /// The decoder's words, for people.
        what: String,
    },
    /// There are bytes left behind the value.
    #[error("{bytes} bytes left behind the value")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// Appends the encoding of `value`. A type without an encoding leaves the buffer as it was: `false`.
pub(crate) fn encode_into<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> bool {
    let start = buffer.len();
    let encoded = bincode::serde::encode_into_writer(value, Appender(buffer), configuration::<LONG_BYTES_MAX>());
    debug_assert!(encoded.is_ok(), "a type without an encoding: {encoded:?}");
    if encoded.is_err() {
        buffer.truncate(start);
    }
    encoded.is_ok()
}

/// The value that the whole of `bytes` encodes. Allocates in proportion to `bytes`, whatever lengths those claim.
///
/// # Errors
/// `bytes` are no encoding of a `T`, or more than one.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    let (value, used) = decode_front(bytes)?;
    let left = bytes.len().saturating_sub(used);
    if left == 0 { Ok(value) } else { Err(CodecError::Trailing { bytes: left }) }
}

/// The value at the front of `bytes`, and how many of them it takes.
///
/// # Errors
/// `bytes` begin with no encoding of a `T`.
pub(crate) fn decode_front<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, usize), CodecError> {
    // bincode reserves what a length claims, up to its limit, before it looks for the bytes: so the limit follows the
    // input's size.
    let decoded = if bytes.len() <= SHORT_BYTES_MAX {
        bincode::serde::borrow_decode_from_slice(bytes, configuration::<SHORT_BYTES_MAX>())
    } else if bytes.len() <= MIDDLE_BYTES_MAX {
        bincode::serde::borrow_decode_from_slice(bytes, configuration::<MIDDLE_BYTES_MAX>())
    } else {
        bincode::serde::borrow_decode_from_slice(bytes, configuration::<LONG_BYTES_MAX>())
    };
    decoded.map_err(|error| CodecError::Malformed { what: error.to_string() })
}

const SHORT_BYTES_MAX: usize = 4 << 10;
const MIDDLE_BYTES_MAX: usize = 128 << 10;
/// Above every frame's cap.
const LONG_BYTES_MAX: usize = 16 << 20;

const fn configuration<const BYTES_MAX: usize>() -> Configuration<LittleEndian, Fixint, Limit<BYTES_MAX>> {
    bincode::config::legacy().with_limit::<BYTES_MAX>()
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn encode<T: Serialize>(value: &T) -> Vec<u8> {
        let mut buffer = Vec::new();
        assert!(encode_into(value, &mut buffer));
        buffer
    }

    #[test]
    fn the_format_is_fixed() {
        assert_eq!(encode(&(1_u32, Some(2_u16))), [1, 0, 0, 0, 1, 2, 0]);
        assert_eq!(encode(&Bytes::from_static(b"ab")), [2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
    }

    #[test]
    fn n1_a_claimed_length_is_refused_before_it_is_allocated() {
        for claimed in [SHORT_BYTES_MAX as u64 + 1, 0xFFFF_FFFF, u64::MAX] {
            assert!(decode::<Bytes>(&encode(&claimed)).is_err());
        }
    }

    #[test]
    fn lengths_at_every_limit_are_read() {
        for limit in [SHORT_BYTES_MAX, MIDDLE_BYTES_MAX] {
            for len in [limit - 9, limit - 8, limit - 7, limit, limit + 1] {
                let bytes = Bytes::from(vec![7; len]);
                assert_eq!(decode(&encode(&bytes)).as_ref(), Ok(&bytes), "{len}");
            }
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert_eq!(decode::<u8>(&[1, 2, 3]), Err(CodecError::Trailing { bytes: 2 }));
    }
}
