//! Exact, compact bytes, for logs and snapshots.
//!
//! ```text
//! None 00   Ellipsis 01   False 02   True 03
//! int       04 length two's-complement     big-endian, as few bytes as hold it
//! float     05 IEEE-754                    8 bytes, big-endian
//! complex   06 real imaginary              16 bytes
//! str       07 length UTF-8
//! bytes     08 length byte*
//! tuple     09 count literal*
//! list      0A count literal*
//! set       0B count literal*              ascending by key
//! dict      0C count (literal literal)*    in the order of insertion
//! length, count: 7 bits a byte, lowest first, the high bit set on all but the last
//! ```
//!
//! Each literal has one encoding, and no other bytes decode: what decodes, encodes to the same bytes.

use std::collections::BTreeSet;

use num_bigint::BigInt;

use super::number::{MAX_DIGITS, is_too_long};
use super::{Literal, MAX_NESTING, Unhashable};

impl Literal {
    /// The exact bytes of this literal: `True` stays `True`, `1.0` stays `1.0`, a dict keeps its order,
    /// and a NaN its bits. A stricter identity than [`key`](Literal::key).
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = match self {
            Literal::Str(text) => Vec::with_capacity(delimited(text.len())),
            Literal::Bytes(bytes) => return Self::encode_bytes(bytes),
            _ => Vec::new(),
        };
        append(self, &mut bytes);
        bytes
    }

    /// What [`encode`](Literal::encode) writes for the literal of these bytes.
    #[must_use]
    pub fn encode_bytes(value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(delimited(value.len()));
        append_bytes(BYTES, value, &mut bytes);
        bytes
    }

    /// Reads all of `bytes` as what [`encode`](Literal::encode) writes.
    ///
    /// Safe on bytes from anywhere: what it allocates is in proportion to their length, and it
    /// recurses at most [`MAX_NESTING`] levels.
    ///
    /// # Errors
    ///
    /// [`LiteralDecodeError`] if `encode` does not write these bytes for any literal that keeps the
    /// invariants of [`Literal`].
    pub fn decode(bytes: &[u8]) -> Result<Literal, LiteralDecodeError> {
        let mut decoder = Decoder { rest: bytes, length: bytes.len() };
        let literal = decoder.literal(0)?;
        match decoder.rest {
            [] => Ok(literal),
            _ => Err(LiteralDecodeError::Trailing { at: decoder.at() }),
        }
    }
}

/// Bytes that [`Literal::encode`] did not write: a peer's, or a damaged file's. `at` is a byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiteralDecodeError {
    /// The bytes stop inside a literal.
    #[error("a literal's bytes end too soon, at byte {at}: fetch them again")]
    Truncated {
        /// Where more were needed.
        at: usize,
    },
    /// Bytes after the literal.
    #[error("bytes follow the literal, from byte {at}: pass one literal's alone")]
    Trailing {
        /// The first of them.
        at: usize,
    },
    /// A first byte that names no type.
    #[error("unknown type {tag:#04x} at byte {at}: written by a later version, or damaged")]
    Tag {
        /// Where it is.
        at: usize,
        /// The byte.
        tag: u8,
    },
    /// A length, count or integer in more bytes than it needs.
    #[error("a number before byte {at} is not in its shortest form: damaged, or not written by encode")]
    Overlong {
        /// The end of the number.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string before byte {at} is not UTF-8: damaged, or not written by encode")]
    Utf8 {
        /// The end of the string.
        at: usize,
    },
    /// An integer that [`Literal::parse`] would refuse.
    #[error("the integer before byte {at} has more than {MAX_DIGITS} decimal digits: write it as bytes")]
    IntTooLong {
        /// The end of the integer.
        at: usize,
    },
    /// More levels than [`MAX_NESTING`].
    #[error("more than {MAX_NESTING} levels of brackets at byte {at}: flatten the value")]
    TooDeep {
        /// The first that is too deep.
        at: usize,
    },
    /// A dict's key or a set's element that Python could not hash.
    #[error("before byte {at}: {source}")]
    Unhashable {
        /// The end of the key or element.
        at: usize,
        /// What it holds.
        source: Unhashable,
    },
    /// A set out of order, or two equal elements or keys.
    #[error("the element or key before byte {at} is repeated or out of order: not written by encode")]
    Order {
        /// The end of the element or key.
        at: usize,
    },
}

fn append(literal: &Literal, bytes: &mut Vec<u8>) {
    match literal {
        Literal::None => bytes.push(NONE),
        Literal::Ellipsis => bytes.push(ELLIPSIS),
        Literal::Bool(false) => bytes.push(FALSE),
        Literal::Bool(true) => bytes.push(TRUE),
        Literal::Int(value) => append_bytes(INT, &value.to_signed_bytes_be(), bytes),
        Literal::Float(value) => {
            bytes.push(FLOAT);
            bytes.extend(value.to_bits().to_be_bytes());
        }
        Literal::Complex { re, im } => {
            bytes.push(COMPLEX);
            bytes.extend(re.to_bits().to_be_bytes());
            bytes.extend(im.to_bits().to_be_bytes());
        }
        Literal::Str(text) => append_bytes(STR, text.as_bytes(), bytes),
        Literal::Bytes(value) => append_bytes(BYTES, value, bytes),
        Literal::Tuple(items) => append_items(TUPLE, items, bytes),
        Literal::List(items) => append_items(LIST, items, bytes),
        Literal::Set(items) => append_items(SET, items, bytes),
        Literal::Dict(entries) => {
            bytes.push(DICT);
            append_length(entries.len(), bytes);
            for (key, value) in entries {
                append(key, bytes);
                append(value, bytes);
            }
        }
    }
}

fn append_bytes(tag: u8, value: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(tag);
    append_length(value.len(), bytes);
    bytes.extend_from_slice(value);
}

/// The bytes that [`append_bytes`] appends of so many.
const fn delimited(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    length.saturating_add(1 + bits.div_ceil(7) as usize)
}

fn append_items(tag: u8, items: &[Literal], bytes: &mut Vec<u8>) {
    bytes.push(tag);
    append_length(items.len(), bytes);
    for item in items {
        append(item, bytes);
    }
}

fn append_length(mut length: usize, bytes: &mut Vec<u8>) {
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

type Result<T, E = LiteralDecodeError> = std::result::Result<T, E>;

struct Decoder<'a> {
    rest: &'a [u8],
    /// The length of the whole input.
    length: usize,
}

impl<'a> Decoder<'a> {
    fn at(&self) -> usize {
        self.length - self.rest.len()
    }

    /// Reads one literal that is inside `depth` others.
    fn literal(&mut self, depth: usize) -> Result<Literal> {
        let at = self.at();
        let [tag] = self.array()?;
        if (TUPLE..=DICT).contains(&tag) && depth >= MAX_NESTING {
            return Err(LiteralDecodeError::TooDeep { at });
        }
        Ok(match tag {
            NONE => Literal::None,
            ELLIPSIS => Literal::Ellipsis,
            FALSE => Literal::Bool(false),
            TRUE => Literal::Bool(true),
            INT => Literal::Int(self.integer()?),
            FLOAT => Literal::Float(self.float()?),
            COMPLEX => Literal::Complex { re: self.float()?, im: self.float()? },
            STR => Literal::Str(self.text()?),
            BYTES => Literal::Bytes(self.bytes()?.to_vec()),
            TUPLE => Literal::Tuple(self.items(depth)?),
            LIST => Literal::List(self.items(depth)?),
            SET => Literal::Set(self.set(depth)?),
            DICT => Literal::Dict(self.dict(depth)?),
            tag => return Err(LiteralDecodeError::Tag { at, tag }),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(LiteralDecodeError::Truncated { at: self.length })?;
        self.rest = rest;
        Ok(*array)
    }

    /// A length or count. Each of what it counts takes a byte at least, so more than remain is an error.
    fn length(&mut self) -> Result<usize> {
        let mut length = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = usize::from(byte & 0x7f);
            let shifted = bits << shift;
            if shifted >> shift != bits || (byte == 0 && shift > 0) {
                return Err(LiteralDecodeError::Overlong { at: self.at() });
            }
            length |= shifted;
            if byte & 0x80 == 0 {
                return match length <= self.rest.len() {
                    true => Ok(length),
                    false => Err(LiteralDecodeError::Truncated { at: self.length }),
                };
            }
        }
        Err(LiteralDecodeError::Overlong { at: self.at() })
    }

    /// A length and as many bytes.
    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or(LiteralDecodeError::Truncated { at: self.length })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn integer(&mut self) -> Result<BigInt> {
        // A first byte that only repeats the sign of the second is one too many.
        match self.bytes()? {
            [] | [0x00, 0x00..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => {
                Err(LiteralDecodeError::Overlong { at: self.at() })
            }
            bytes => match BigInt::from_signed_bytes_be(bytes) {
                value if is_too_long(&value) => Err(LiteralDecodeError::IntTooLong { at: self.at() }),
                value => Ok(value),
            },
        }
    }

    fn float(&mut self) -> Result<f64> {
        Ok(f64::from_bits(u64::from_be_bytes(self.array()?)))
    }

    fn text(&mut self) -> Result<String> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|_| LiteralDecodeError::Utf8 { at: self.at() })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Literal>> {
        // Grown as items arrive: room for a claimed count would cost many times the input's length.
        let mut items = Vec::new();
        for _ in 0..self.length()? {
            items.push(self.literal(depth + 1)?);
        }
        Ok(items)
    }

    fn set(&mut self, depth: usize) -> Result<Vec<Literal>> {
        let mut items = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        for _ in 0..self.length()? {
            let (item, key) = self.hashable(depth)?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(LiteralDecodeError::Order { at: self.at() });
            }
            last = Some(key);
            items.push(item);
        }
        Ok(items)
    }

    fn dict(&mut self, depth: usize) -> Result<Vec<(Literal, Literal)>> {
        let mut entries = Vec::new();
        let mut seen = BTreeSet::new();
        for _ in 0..self.length()? {
            let (key, key_bytes) = self.hashable(depth)?;
            if !seen.insert(key_bytes) {
                return Err(LiteralDecodeError::Order { at: self.at() });
            }
            entries.push((key, self.literal(depth + 1)?));
        }
        Ok(entries)
    }

    /// A dict's key or a set's element, with its [`Literal::key`].
    fn hashable(&mut self, depth: usize) -> Result<(Literal, Vec<u8>)> {
        let item = self.literal(depth + 1)?;
        item.check_hashable().map_err(|source| LiteralDecodeError::Unhashable { at: self.at(), source })?;
        let key = item.key();
        Ok((item, key))
    }
}

const NONE: u8 = 0x00;
const ELLIPSIS: u8 = 0x01;
const FALSE: u8 = 0x02;
const TRUE: u8 = 0x03;
const INT: u8 = 0x04;
const FLOAT: u8 = 0x05;
const COMPLEX: u8 = 0x06;
const STR: u8 = 0x07;
const BYTES: u8 = 0x08;
const TUPLE: u8 = 0x09;
const LIST: u8 = 0x0a;
const SET: u8 = 0x0b;
const DICT: u8 = 0x0c;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::arbitrary::literals;
    use super::*;

    fn encoded(text: &str) -> Vec<u8> {
        Literal::parse(text).unwrap().encode()
    }

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!(encoded("[None, ..., False, True]"), [0x0a, 4, 0, 1, 2, 3]);
        assert_eq!(encoded("(0, -1, 128, -128)"), [0x09, 4, 4, 1, 0, 4, 1, 0xff, 4, 2, 0, 0x80, 4, 1, 0x80]);
        assert_eq!(encoded("1.0"), [0x05, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encoded("1j")[..3], [0x06, 0, 0]);
        assert_eq!(encoded("{'é': {2, 1}}"), [0x0c, 1, 7, 2, 0xc3, 0xa9, 0x0b, 2, 4, 1, 1, 4, 1, 2]);
        assert_eq!(encoded(&format!("b'{}'", "a".repeat(200)))[..4], [0x08, 0xc8, 0x01, b'a']);
    }

    #[test]
    fn room_is_made_for_a_string_and_no_more() {
        for length in [0, 1, 127, 128, 16_383, 16_384] {
            let bytes = Literal::Bytes(vec![7; length]).encode();
            assert_eq!(bytes.len(), delimited(length));
            assert_eq!(bytes.capacity(), bytes.len());
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        use LiteralDecodeError::*;
        let unhashable = |type_name, at| Unhashable { at, source: super::Unhashable { type_name } };
        let ones = |count| [vec![0x81; count], vec![0x01]].concat();
        for (bytes, error) in [
            (vec![], Truncated { at: 0 }),
            (vec![0x05, 0], Truncated { at: 2 }),
            (vec![0x00, 0x00], Trailing { at: 1 }),
            (vec![0x0a, 1, 0x0d], Tag { at: 2, tag: 0x0d }),
            (vec![0x07, 5, b'a'], Truncated { at: 3 }),
            (vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], Truncated { at: 6 }),
            (vec![0x07, 0x80, 0x00], Overlong { at: 3 }),
            ([vec![0x07], ones(20)].concat(), Overlong { at: 11 }),
            (vec![0x07, 1, 0xff], Utf8 { at: 3 }),
            (vec![0x04, 0], Overlong { at: 2 }),
            (vec![0x04, 2, 0, 1], Overlong { at: 4 }),
            (vec![0x04, 2, 0xff, 0x80], Overlong { at: 4 }),
            ([vec![0x04, 0x80, 0x10], vec![0x40; 2048]].concat(), IntTooLong { at: 2051 }),
            (vec![0x0b, 1, 0x0a, 0], unhashable("list", 4)),
            (vec![0x0c, 1, 0x09, 1, 0x0c, 0, 0], unhashable("dict", 6)),
            (vec![0x0b, 2, 0x03, 0x02], Order { at: 4 }),
            (vec![0x0b, 2, 0x03, 0x04, 1, 1], Order { at: 6 }),
            (vec![0x0c, 2, 0x03, 0x00, 0x04, 1, 1, 0x00], Order { at: 7 }),
            ([0x0a, 1].repeat(MAX_NESTING + 1), TooDeep { at: 2 * MAX_NESTING }),
        ] {
            assert_eq!(Literal::decode(&bytes), Err(error), "{bytes:02x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn encoded_literals_decode(literal in literals()) {
            let bytes = literal.encode();
            let decoded = Literal::decode(&bytes).unwrap();
            // Not `==`, which a NaN fails; equal bytes are the stricter test.
            prop_assert_eq!(decoded.encode(), bytes);
            prop_assert_eq!(format!("{decoded:?}"), format!("{literal:?}"));
            prop_assert_eq!(decoded.key(), literal.key());
        }

        #[test]
        fn damaged_bytes_never_panic(literal in literals(), at: Index, byte: u8, cut: Index) {
            let mut bytes = literal.encode();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            if let Ok(decoded) = Literal::decode(&bytes) {
                prop_assert_eq!(decoded.encode(), bytes);
            }
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(prop_oneof![0_u8..0x0d, any::<u8>()], 0..60)) {
            if let Ok(decoded) = Literal::decode(&bytes) {
                prop_assert_eq!(decoded.encode(), bytes);
            }
        }
    }
}
