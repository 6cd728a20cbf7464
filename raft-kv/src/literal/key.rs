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
        match self {
            Literal::Str(text) => [&[STR], text.as_bytes()].concat(),
            Literal::Bytes(bytes) => Self::key_of_bytes(bytes),
            _ => {
                let mut key = Vec::new();
                element(self, &mut key);
                key
            }
        }
    }

    /// The [`key`](Literal::key) of the literal of these bytes.
    #[must_use]
    pub fn key_of_bytes(bytes: &[u8]) -> Vec<u8> {
        [&[BYTES], bytes].concat()
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::arbitrary::{close_literals, literals};
    use super::*;

    fn key(text: &str) -> Vec<u8> {
        Literal::parse(text).unwrap().key()
    }

    #[test]
    fn keys_are_equal_where_python_says_so() {
        for (left, right, equal) in [
            ("1", "True", true),
            ("1", "1.0", true),
            ("1", "1+0j", true),
            ("0.0", "-0.0", true),
            ("0", "-0.0-0j", true),
            ("1", "1+1j", false),
            ("[1]", "(1,)", false),
            ("'a'", "b'a'", false),
            ("''", "None", false),
            ("9007199254740992", "9007199254740992.0", true),
            ("9007199254740993", "9007199254740992.0", false),
            ("{1: 'a', 2: 'b'}", "{2.0: 'b', True: 'a'}", true),
            ("{1: 'a', 2: 'b'}", "{1: 'b', 2: 'a'}", false),
            ("{1, 2}", "{2, 1.0}", true),
            ("{}", "set()", false),
            ("['a', 'b']", r"['a\x00', 'b']", false),
            ("[['a'], 'b']", "[['a', 'b']]", false),
        ] {
            assert_eq!(key(left) == key(right), equal, "{left} == {right}");
        }
        let nan = Literal::Float(f64::NAN);
        assert_eq!(nan.key(), Literal::Float(-f64::NAN).key());
    }

    #[test]
    fn the_layout_is_fixed() {
        assert_eq!(key("'ab'"), b"\x20ab");
        assert_eq!(key("['a\\x00']"), b"\x31\x20a\0\xff\0\0\0");
        assert_eq!(key("1"), b"\x10\x03\x80\0\0\0\0\0\0\0\x80\0\0");
        assert_eq!(key("-1.0"), b"\x10\x01\x7f\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff");
        assert_eq!(key("{0: ()}"), b"\x33\x10\x02\x30\0\0");
    }

    #[test]
    fn numbers_sort_by_value() {
        let ascending = [
            "-1e400",
            "-0x1_00000000_00000000",
            "-1.5",
            "-1",
            "-0.5",
            "-5e-324",
            "0",
            "5e-324",
            "1e-300",
            "0.5",
            "1",
            "1.5",
            "2",
            "255",
            "255.5",
            "256",
            "9007199254740992.0",
            "9007199254740993",
            "1e300",
            "1e400",
        ];
        assert!(ascending.map(key).is_sorted_by(|left, right| left < right));
    }

    /// The simplest possible rendering of Python's `==`, in which a NaN equals a NaN.
    fn equal(left: &Literal, right: &Literal) -> bool {
        use Literal::*;
        let all = |left: &[Literal], right: &[Literal]| {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        };
        match (left, right) {
            (None, None) | (Ellipsis, Ellipsis) => true,
            (Str(left), Str(right)) => left == right,
            (Bytes(left), Bytes(right)) => left == right,
            (Tuple(left), Tuple(right)) | (List(left), List(right)) => all(left, right),
            (Set(left), Set(right)) => {
                left.len() == right.len() && left.iter().all(|item| right.iter().any(|other| equal(item, other)))
            }
            (Dict(left), Dict(right)) => {
                let holds = |key: &Literal, value: &Literal| {
                    right.iter().any(|(other, found)| equal(key, other) && equal(value, found))
                };
                left.len() == right.len() && left.iter().all(|(key, value)| holds(key, value))
            }
            _ => match (parts(left), parts(right)) {
                (Some(left), Some(right)) => left.0 == right.0 && left.1 == right.1,
                _ => false,
            },
        }
    }

    /// A number's real and imaginary part.
    fn parts(literal: &Literal) -> Option<(Real, Real)> {
        match literal {
            Literal::Bool(value) => Some((Real::Finite(scaled(f64::from(u8::from(*value)))), real(0.0))),
            Literal::Int(value) => Some((Real::Finite(value << 1074), real(0.0))),
            Literal::Float(value) => Some((real(*value), real(0.0))),
            Literal::Complex { re, im } => Some((real(*re), real(*im))),
            _ => None,
        }
    }

    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Real {
        NegativeInfinite,
        /// In units of 2^-1074, of which every finite float is a multiple.
        Finite(BigInt),
        Infinite,
        Nan,
    }

    fn real(value: f64) -> Real {
        match value {
            f64::INFINITY => Real::Infinite,
            f64::NEG_INFINITY => Real::NegativeInfinite,
            _ if value.is_nan() => Real::Nan,
            _ => Real::Finite(scaled(value)),
        }
    }

    fn scaled(mut value: f64) -> BigInt {
        // Doubling is exact, and so is halving above 2^53, where every float is even.
        let mut doublings = 0;
        while value.fract() != 0.0 {
            value *= 2.0;
            doublings += 1;
        }
        let mut halvings = 0;
        while value.abs() > 9_007_199_254_740_992.0 {
            value /= 2.0;
            halvings += 1;
        }
        (BigInt::from(value as i64) << halvings) << (1074 - doublings)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn keys_agree_with_the_model(left in close_literals(), right in close_literals()) {
            prop_assert_eq!(left.key() == right.key(), equal(&left, &right), "{} == {}", left, right);
            prop_assert_eq!(left.key(), left.clone().key());
            prop_assert!(equal(&left, &left));
        }

        #[test]
        fn numbers_agree_with_the_model(left in any::<f64>(), bits in any::<u64>(), shift in 0_u64..1100) {
            let floats = [left, -left, f64::from_bits(bits), left.trunc(), (bits >> 11) as f64];
            let ints = [BigInt::from(bits) << shift, BigInt::from(bits >> 11), -BigInt::from(bits)];
            let ints = ints.into_iter().map(Literal::Int);
            let numbers: Vec<_> = floats.into_iter().map(Literal::Float).chain(ints).collect();
            for left in &numbers {
                for right in &numbers {
                    let expected = parts(left).unwrap().0.cmp(&parts(right).unwrap().0);
                    prop_assert_eq!(left.key().cmp(&right.key()), expected, "{} {}", left, right);
                }
            }
        }

        #[test]
        fn strings_sort_by_code_point_and_scan_by_prefix(left: String, right: String) {
            let expected = left.chars().cmp(right.chars());
            let [short, other] = [left.clone(), right.clone()].map(Literal::Str);
            prop_assert_eq!(short.key().cmp(&other.key()), expected);
            let inside = |literal: &Literal| Literal::List(vec![literal.clone()]).key();
            prop_assert_eq!(inside(&short).cmp(&inside(&other)), expected);
            prop_assert!(Literal::Str(left + &right).key().starts_with(&short.key()));
        }

        #[test]
        fn sequences_sort_element_by_element(left in vec(literals(), 0..4), right in vec(literals(), 0..4)) {
            let by_element = left.iter().map(element_key).cmp(right.iter().map(element_key));
            prop_assert_eq!(Literal::List(left).key().cmp(&Literal::List(right).key()), by_element);
        }
    }
}
