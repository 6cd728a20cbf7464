//! Values that are numbers: what [`Operation::Add`](super::Operation::Add) adds to.

use num_bigint::BigInt;

use super::Value;
use crate::literal::Literal;

impl Value {
    /// The sum of the number that `value` is and of `amount`, and the value that it is stored as; `None` where there is no
    /// number, or none of 64 bits. What is not there is 0, and becomes bytes.
    pub(crate) fn plus(value: Option<&[u8]>, amount: i64) -> Option<(i64, Self)> {
        let literal = match value {
            Some(value) => Literal::decode(value).ok()?,
            None => Literal::Bytes(b"0".to_vec()),
        };
        let (sum, literal) = match literal {
            Literal::Int(number) => {
                let sum = i64::try_from(&number).ok()?.checked_add(amount)?;
                (sum, Literal::Int(BigInt::from(sum)))
            }
            Literal::Str(text) => {
                let sum = spelled(&text)?.checked_add(amount)?;
                (sum, Literal::Str(sum.to_string()))
            }
            Literal::Bytes(bytes) => {
                let sum = spelled(std::str::from_utf8(&bytes).ok()?)?.checked_add(amount)?;
                (sum, Literal::Bytes(sum.to_string().into_bytes()))
            }
            _ => return None,
        };
        Some((sum, Self::from(&literal)))
    }
}

/// The number that prints as this text.
fn spelled(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str, amount: i64) -> Option<(i64, String)> {
        let value = Value::from(&Literal::parse(text).unwrap());
        let (sum, value) = Value::plus(Some(&value.0), amount)?;
        Some((sum, Literal::decode(&value.0).unwrap().to_string()))
    }

    #[test]
    fn a_number_stays_what_it_is() {
        for (before, after) in [("41", "42"), ("'41'", "'42'"), ("b'41'", "b'42'")] {
            assert_eq!(added(before, 1), Some((42, after.into())));
        }
        assert_eq!(added("b'-1'", 1), Some((0, "b'0'".into())));
        assert_eq!(Value::plus(None, -7), Some((-7, Value::from(&Literal::Bytes(b"-7".to_vec())))));
    }

    #[test]
    fn what_is_no_number_of_64_bits_is_not_added_to() {
        let largest = i64::MAX.to_string();
        for text in ["1.0", "True", "None", "[1]", "''", "b''", "' 1'", "'01'", "b'+1'", "'-0'", "b'\\xff'"] {
            assert_eq!(added(text, 1), None, "{text}");
        }
        for text in [largest.clone(), format!("b'{largest}'"), format!("{largest}0"), format!("'{largest}0'")] {
            assert_eq!(added(&text, 1), None, "{text}");
        }
        assert_eq!(Value::plus(Some(b"no literal"), 1), None);
    }
}
