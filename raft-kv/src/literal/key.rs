//! Canonical bytes: equal exactly when Python says `==`, and in a useful order.
//!
//! ```text
//! None        01
//! Ellipsis    02
//! number      10 real                 a bool, int or float, or a complex without an imaginary part
//! complex     11 real real            real part, imaginary part
//! str         20 UTF-8                at the top level: the rest of the key
//!             20 terminated(UTF-8)    inside a container
//! bytes       21 likewise
//! tuple       30 element* 00
//! list        31 element* 00
//! set         32 element* 00          ascending
//! dict        33 (key value)* 00      ascending by key
//!
//! real        00                                      -inf
//!             01 complement(exponent mantissa)        below zero
//!             02                                      zero, both 0.0 and -0.0
//!             03 exponent mantissa                    above zero
//!             04                                      inf
//!             05                                      nan
//! exponent    i64, offset by 2^63, big-endian: the power of two of the highest bit that is set
//! mantissa    terminated(the bits from the highest that is set, without trailing zero bytes)
//! terminated  each 00 becomes 00 FF, and 00 00 ends it
//! ```
//!
//! Every element delimits itself, so two different sequences never share their bytes; and a bracket's
//! 00 is below every tag, so shorter sequences come first.

use num_bigint::{BigInt, Sign};

use super::Literal;

impl Literal {
    /// Bytes that are equal for two literals exactly when Python says that they are `==`, so that `1`,
    /// `1.0`, `True` and `1+0j` are one key, as are dicts and sets in any order.
    ///
    /// * A NaN equals itself and every other NaN: Python's dict finds a NaN again by its identity, which
    ///   a text does not have.
    /// * Keys sort by type, then numbers by value, strings by code point, and lists and tuples
    ///   element by element.
    /// * The key of a prefix of a string is a prefix of the string's key (and likewise for bytes), so
    ///   that a range of keys serves a scan by prefix.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        match self {
            Literal::Str(text) => {
                key.push(STR);
                key.extend_from_slice(text.as_bytes());
            }
            Literal::Bytes(bytes) => {
                key.push(BYTES);
                key.extend_from_slice(bytes);
            }
            _ => element(self, &mut key),
        }
        key
    }
}

/// Appends the key of a literal, in the form that delimits itself.
fn element(literal: &Literal, key: &mut Vec<u8>) {
    match literal {
        Literal::None => key.push(NONE),
        Literal::Ellipsis => key.push(ELLIPSIS),
        Literal::Bool(value) => {
            key.push(NUMBER);
            integer(&BigInt::from(*value), key);
        }
        Literal::Int(value) => {
            key.push(NUMBER);
            integer(value, key);
        }
        Literal::Float(value) => {
            key.push(NUMBER);
            float(*value, key);
        }
        Literal::Complex { re, im } => {
            key.push(if *im == 0.0 { NUMBER } else { COMPLEX });
            float(*re, key);
            if *im != 0.0 {
                float(*im, key);
            }
        }
        Literal::Str(text) => {
            key.push(STR);
            terminated(text.as_bytes(), key);
        }
        Literal::Bytes(bytes) => {
            key.push(BYTES);
            terminated(bytes, key);
        }
        Literal::Tuple(items) => elements(TUPLE, items, key),
        Literal::List(items) => elements(LIST, items, key),
        Literal::Set(items) => set(items, key),
        Literal::Dict(entries) => dict(entries, key),
    }
}

fn elements(tag: u8, items: &[Literal], key: &mut Vec<u8>) {
    key.push(tag);
    for item in items {
        element(item, key);
    }
    key.push(END);
}

fn set(items: &[Literal], key: &mut Vec<u8>) {
    let mut elements: Vec<Vec<u8>> = items.iter().map(element_key).collect();
    elements.sort_unstable();
    elements.dedup();
    key.push(SET);
    key.extend(elements.into_iter().flatten());
    key.push(END);
}

fn dict(entries: &[(Literal, Literal)], key: &mut Vec<u8>) {
    let mut pairs: Vec<_> = entries.iter().map(|(key, value)| (element_key(key), value)).collect();
    pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
    key.push(DICT);
    for (entry_key, value) in pairs {
        key.extend(entry_key);
        element(value, key);
    }
    key.push(END);
}

fn element_key(literal: &Literal) -> Vec<u8> {
    let mut key = Vec::new();
    element(literal, &mut key);
    key
}

fn integer(value: &BigInt, key: &mut Vec<u8>) {
    let bits = value.bits();
    let Some(highest) = bits.checked_sub(1) else {
        return key.push(ZERO);
    };
    // Shifted so that the highest bit that is set is the first byte's.
    let aligned = value.magnitude() << ((8 - bits % 8) % 8);
    finite(value.sign() == Sign::Minus, highest as i64, &aligned.to_bytes_be(), key);
}

fn float(value: f64, key: &mut Vec<u8>) {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const BIAS: i64 = f64::MAX_EXP as i64 - 1;
    if value.is_nan() {
        return key.push(NAN);
    }
    if value.is_infinite() {
        return key.push(if value > 0.0 { INFINITE } else { NEGATIVE_INFINITE });
    }
    if value == 0.0 {
        return key.push(ZERO);
    }
    let exponent_field = (value.abs().to_bits() >> FRACTION_BITS) as i64;
    let fraction = value.to_bits() & ((1 << FRACTION_BITS) - 1);
    // The value is `mantissa * 2^lowest`; a subnormal number has no implied leading bit.
    let (mantissa, lowest) = match exponent_field {
        0 => (fraction, 1 - BIAS - i64::from(FRACTION_BITS)),
        _ => (fraction | 1 << FRACTION_BITS, exponent_field - BIAS - i64::from(FRACTION_BITS)),
    };
    let unused = mantissa.leading_zeros();
    let highest = lowest + 63 - i64::from(unused);
    finite(value < 0.0, highest, &(mantissa << unused).to_be_bytes(), key);
}

/// Appends a finite number other than zero: its highest bit stands for `2^highest`, and `bits` holds it
/// and those below, from the first bit of the first byte.
fn finite(is_negative: bool, highest: i64, bits: &[u8], key: &mut Vec<u8>) {
    key.push(if is_negative { NEGATIVE } else { POSITIVE });
    let start = key.len();
    key.extend((highest as u64 ^ 1 << 63).to_be_bytes());
    let length = bits.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    terminated(bits.get(..length).unwrap_or_default(), key);
    if is_negative {
        key.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
}

/// Appends `bytes` so that their end shows and their order stays.
fn terminated(bytes: &[u8], key: &mut Vec<u8>) {
    for &byte in bytes {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 0]);
}

const END: u8 = 0x00;
const NONE: u8 = 0x01;
const ELLIPSIS: u8 = 0x02;
const NUMBER: u8 = 0x10;
const COMPLEX: u8 = 0x11;
const STR: u8 = 0x20;
const BYTES: u8 = 0x21;
const TUPLE: u8 = 0x30;
const LIST: u8 = 0x31;
const SET: u8 = 0x32;
const DICT: u8 = 0x33;

const NEGATIVE_INFINITE: u8 = 0;
const NEGATIVE: u8 = 1;
const ZERO: u8 = 2;
const POSITIVE: u8 = 3;
const INFINITE: u8 = 4;
const NAN: u8 = 5;
