//! Values as bytes: the one place in the crate that names bincode.
//!
//! The format is bincode 2's `legacy` configuration, which wincode reads and writes as well: little-endian integers of
//! fixed width, `u64` lengths, `u32` enum tags, a `u8` tag for options. Nothing of it depends on the platform.
//!
//! bincode is pinned to 2.0.1: it is the last release that works (3.0.0 refuses to compile, on purpose) and nobody
//! maintains it any more. Whoever replaces it replaces this file.

use std::borrow::Cow;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

pub mod digest;

/// The longest encoding of one value that [`decode`] reads: 64 MiB.
pub const ENCODED_BYTES_MAX: usize = 64 << 20;

/// The encoding of `value`.
///
/// `T` is a type of ours: derived, without sequences of unknown length. Such a value always has an encoding; another's
/// failure is a bug, caught in debug builds, and gives the empty encoding otherwise.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(encoded_len(value));
    encode_into(value, &mut buffer);
    buffer
}

/// How long the encoding of `value` is. It costs less to count it than to write into a buffer that grows; and a buffer that
/// is full becomes [`Bytes`] without another allocation.
fn encoded_len<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut counter = Counter(0);
    // What has no encoding is told where it is written.
    _ = bincode::serde::encode_into_writer(value, &mut counter, configuration::<ENCODED_BYTES_MAX>());
    counter.0
}

/// Appends the encoding of `value` to `buffer`; see [`encode`].
pub fn encode_into<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    let encoded = bincode::serde::encode_into_writer(value, Appender(buffer), configuration::<ENCODED_BYTES_MAX>());
    debug_assert!(encoded.is_ok(), "a type without an encoding: {encoded:?}");
    if encoded.is_err() {
        buffer.truncate(start);
    }
}

/// The value that the whole of `bytes` encodes.
///
/// `T` has no sequences of elements without bytes, like `Vec<()>`: nothing bounds their length.
///
/// Allocates no more than 64 KiB for a short input, whatever lengths it claims, and [`ENCODED_BYTES_MAX`] for a longer
/// one.
///
/// # Errors
/// `bytes` are no encoding of a `T`, or more than one, or longer than [`ENCODED_BYTES_MAX`].
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    if bytes.len() > ENCODED_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: bytes.len() });
    }
    let mut rest = bytes;
    let value = decode_next(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing { bytes: rest.len() }) }
}

/// The value at the front of `bytes`, which then begin behind it. For a sequence of values of any length in total.
///
/// # Errors
/// `bytes` begin with no encoding of a `T` of at most [`ENCODED_BYTES_MAX`]; they then stay as they were.
pub fn decode_next<'de, T: Deserialize<'de>>(bytes: &mut &'de [u8]) -> Result<T, CodecError> {
    let input = *bytes;
    // bincode reserves what a length claims, up to its limit, before it looks for the bytes. So short inputs have a
    // limit of their own.
    let decoded = if input.len() <= SHORT_BYTES_MAX {
        bincode::serde::borrow_decode_from_slice(input, configuration::<SHORT_BYTES_MAX>())
    } else {
        bincode::serde::borrow_decode_from_slice(input, configuration::<ENCODED_BYTES_MAX>())
    };
    let (value, used) = decoded.map_err(|error| CodecError::Malformed { what: error.to_string() })?;
    *bytes = input.get(used..).unwrap_or_default();
    Ok(value)
}

/// Appends the compact encoding of `value` to `buffer`: integers, lengths and tags take a byte where they are small.
/// For recordings, where most numbers are. See [`encode`].
pub fn encode_compact_into<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    let encoded = bincode::serde::encode_into_writer(value, Appender(buffer), compact());
    debug_assert!(encoded.is_ok(), "a type without an encoding: {encoded:?}");
    if encoded.is_err() {
        buffer.truncate(start);
    }
}

/// The value whose compact encoding stands at the front of `bytes`, which then begin behind it.
///
/// # Errors
/// `bytes` begin with no compact encoding of a `T` of at most [`ENCODED_BYTES_MAX`]; they then stay as they were.
pub fn decode_compact_next<'de, T: Deserialize<'de>>(bytes: &mut &'de [u8]) -> Result<T, CodecError> {
    let input = *bytes;
    let (value, used) = bincode::serde::borrow_decode_from_slice(input, compact())
        .map_err(|error| CodecError::Malformed { what: error.to_string() })?;
    *bytes = input.get(used..).unwrap_or_default();
    Ok(value)
}

/// What a field of bytes is read into.
pub trait Field<'de>: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// The deserializer's.
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// Reads it where it may be absent.
    ///
    /// # Errors
    /// The deserializer's.
    fn read_optional<D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error>;
}

/// With one copy. [`Bytes`] that read themselves are zeroed memory first, and are read into that.
impl<'de> Field<'de> for Bytes {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::deserialize(deserializer).map(owned)
    }

    fn read_optional<D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        serde_bytes::deserialize::<Option<_>, D>(deserializer).map(|bytes| bytes.map(owned))
    }
}

/// Where it stands.
impl<'de> Field<'de> for &'de [u8] {
    fn read<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn read_optional<D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Option::deserialize(deserializer)
    }
}

/// Reads a field of bytes, by `#[serde(deserialize_with)]`.
pub(crate) fn bytes<'de, B: Field<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<B, D::Error> {
    B::read(deserializer)
}

/// [`bytes`], where the field may be absent.
pub(crate) fn optional_bytes<'de, B: Field<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<B>, D::Error> {
    B::read_optional(deserializer)
}

fn owned(bytes: Cow<'_, [u8]>) -> Bytes {
    match bytes {
        Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

/// Why bytes are not the encoding of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// They end early, claim impossible lengths or name a variant that there is not.
    #[error("malformed: {what}")]
    Malformed {
        /// What is wrong. The words are the decoder's: for people, and never part of a replicated state.
        what: String,
    },
    /// There are bytes left behind the value.
    #[error("{bytes} bytes left behind the value")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// They are more than [`ENCODED_BYTES_MAX`].
    #[error("{bytes} bytes, more than the {ENCODED_BYTES_MAX} allowed")]
    TooLong {
        /// How many.
        bytes: usize,
    },
}

/// Up to this length an input may make the decoder allocate only as much: 64 KiB.
const SHORT_BYTES_MAX: usize = 64 << 10;

const fn configuration<const BYTES_MAX: usize>() -> Configuration<LittleEndian, Fixint, Limit<BYTES_MAX>> {
    bincode::config::legacy().with_limit::<BYTES_MAX>()
}

const fn compact() -> Configuration<LittleEndian, Varint, Limit<ENCODED_BYTES_MAX>> {
    bincode::config::standard().with_limit::<ENCODED_BYTES_MAX>()
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

struct Counter(usize);

impl Writer for &mut Counter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Pair(u8, bool),
        Named { bytes: Bytes, list: Vec<(u64, Option<Bytes>)>, text: String },
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let list = proptest::collection::vec((any::<u64>(), proptest::option::of(bytes())), 0..5);
        prop_oneof![
            Just(Shape::Unit),
            any::<(u8, bool)>().prop_map(|(a, b)| Shape::Pair(a, b)),
            (bytes(), list, ".{0,9}").prop_map(|(bytes, list, text)| Shape::Named { bytes, list, text }),
        ]
    }

    #[test]
    fn the_format_is_fixed() {
        assert_eq!(encode(&Shape::Unit), [0, 0, 0, 0]);
        assert_eq!(encode(&Shape::Pair(7, true)), [1, 0, 0, 0, 7, 1]);
        assert_eq!(encode(&Bytes::from_static(b"ab")), [2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
        assert_eq!(encode(&Some(0x0102_u16)), [1, 2, 1]);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert_eq!(decode::<u8>(&[1, 2, 3]), Err(CodecError::Trailing { bytes: 2 }));
    }

    #[test]
    fn values_are_read_one_after_the_other() {
        let mut buffer = Vec::new();
        encode_into(&Shape::Pair(1, false), &mut buffer);
        encode_into(&9_u32, &mut buffer);
        let mut rest = buffer.as_slice();
        assert_eq!(decode_next(&mut rest), Ok(Shape::Pair(1, false)));
        assert_eq!(decode_next(&mut rest), Ok(9_u32));
        assert!(rest.is_empty());
        assert!(decode_next::<u8>(&mut rest).is_err());
    }

    #[test]
    fn the_compact_format_is_fixed() {
        let mut buffer = Vec::new();
        encode_compact_into(&Shape::Pair(7, true), &mut buffer);
        encode_compact_into(&(3_u64, 300_u64), &mut buffer);
        assert_eq!(buffer, [1, 7, 1, 3, 251, 44, 1]);
        let mut rest = buffer.as_slice();
        assert_eq!(decode_compact_next(&mut rest), Ok(Shape::Pair(7, true)));
        assert_eq!(decode_compact_next(&mut rest), Ok((3_u64, 300_u64)));
        assert!(decode_compact_next::<u8>(&mut rest).is_err());
    }

    #[test]
    fn n1_a_claimed_length_is_refused_before_it_is_allocated() {
        for claimed in [SHORT_BYTES_MAX as u64, 0xFFFF_FFFF, u64::MAX] {
            let error = decode::<Bytes>(&encode(&claimed)).unwrap_err();
            assert_eq!(error, CodecError::Malformed { what: "LimitExceeded".into() }, "{claimed}");
            assert!(decode::<String>(&encode(&claimed)).is_err());
            assert!(decode::<Vec<u64>>(&encode(&claimed)).is_err());
        }
    }

    #[test]
    fn lengths_at_both_limits_are_read() {
        for len in [SHORT_BYTES_MAX - 8, SHORT_BYTES_MAX - 7, SHORT_BYTES_MAX, ENCODED_BYTES_MAX - 8] {
            let bytes = Bytes::from(vec![7; len]);
            assert_eq!(decode(&encode(&bytes)).as_ref(), Ok(&bytes), "{len}");
        }
        let long = encode(&Bytes::from(vec![7; ENCODED_BYTES_MAX - 7]));
        assert_eq!(decode::<Bytes>(&long), Err(CodecError::TooLong { bytes: ENCODED_BYTES_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(value in shape()) {
            prop_assert_eq!(decode::<Shape>(&encode(&value)).unwrap(), value);
        }

        #[test]
        fn n2_garbage_is_refused_or_is_the_one_encoding_of_something(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            if let Ok(value) = decode::<Shape>(&bytes) {
                prop_assert_eq!(encode(&value), bytes);
            }
        }

        #[test]
        fn n2_a_damaged_encoding_is_refused_or_is_another_value(value in shape(), at in any::<prop::sample::Index>(), bits in 1_u8..) {
            let good = encode(&value);
            let mut bytes = good.clone();
            bytes[at.index(good.len())] ^= bits;
            if let Ok(other) = decode::<Shape>(&bytes) {
                prop_assert_eq!(encode(&other), bytes);
                prop_assert_ne!(other, value);
            }
            prop_assert!(decode::<Shape>(&good[..at.index(good.len())]).is_err());
        }
    }
}
