//! One number without its sign.

use num_bigint::{BigInt, BigUint};

use super::Literal;
use super::cursor::{Cursor, is_word};
use super::error::{LiteralError, LiteralErrorKind};

/// The most decimal digits of an integer: CPython's `sys.int_info.default_max_str_digits`, which bounds
/// the quadratic work of reading and printing one.
pub(super) const MAX_DIGITS: u32 = 4300;

type Result<T> = std::result::Result<T, LiteralError>;

/// Reads an `Int`, a `Float`, or a `Complex` without a real part. A digit or a point comes next.
pub(super) fn unsigned(cursor: &mut Cursor<'_>) -> Result<Literal> {
    let start = cursor.at();
    let number = match radix(cursor) {
        Some(radix) => radix_integer(cursor, radix)?,
        None => decimal(cursor)?,
    };
    // Without this, `1abc` at the front of a command line would be a 1 and a name.
    if cursor.peek().is_some_and(|c| c == '.' || is_word(c)) {
        return Err(malformed(start, "a blank, a comma or a bracket follows a number"));
    }
    Ok(number)
}

/// The float nearest to `value`, or `None` where Python raises an `OverflowError`.
pub(super) fn to_float(value: &BigInt) -> Option<f64> {
    value.to_string().parse::<f64>().ok().filter(|float| float.is_finite())
}

/// Whether `value` has more than [`MAX_DIGITS`] decimal digits.
pub(super) fn is_too_long(value: &BigInt) -> bool {
    // 10^4300 has 14285 bits, so fewer need no exact comparison.
    value.bits() >= 14_285 && *value.magnitude() >= BigUint::from(10_u32).pow(MAX_DIGITS)
}

/// Passes `0x`, `0o` or `0b`.
fn radix(cursor: &mut Cursor<'_>) -> Option<u32> {
    const PREFIXES: [(&str, u32); 6] = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    PREFIXES.iter().find(|(prefix, _)| cursor.eat(prefix)).map(|(_, radix)| *radix)
}

fn radix_integer(cursor: &mut Cursor<'_>, radix: u32) -> Result<Literal> {
    let start = cursor.at();
    cursor.eat("_");
    let digits = digits(cursor, radix)?;
    if digits.is_empty() {
        return Err(malformed(start, "digits follow 0x, 0o and 0b"));
    }
    let value =
        BigInt::parse_bytes(digits.as_bytes(), radix).ok_or_else(|| malformed(start, "digits follow 0x, 0o and 0b"))?;
    if is_too_long(&value) {
        return Err(LiteralError { at: start, kind: LiteralErrorKind::IntTooLong });
    }
    Ok(Literal::Int(value))
}

fn decimal(cursor: &mut Cursor<'_>) -> Result<Literal> {
    let start = cursor.at();
    let mut text = digits(cursor, 10)?;
    let mut is_integer = true;
    if cursor.eat(".") {
        is_integer = false;
        text.push('.');
        let fraction = digits(cursor, 10)?;
        if text.len() == 1 && fraction.is_empty() {
            return Err(malformed(start, "a point needs a digit beside it"));
        }
        text.push_str(&fraction);
    }
    if cursor.eat("e") || cursor.eat("E") {
        is_integer = false;
        text.push('e');
        if cursor.eat("-") {
            text.push('-');
        } else {
            cursor.eat("+");
        }
        let exponent = digits(cursor, 10)?;
        if exponent.is_empty() {
            return Err(malformed(start, "digits follow an exponent's e"));
        }
        text.push_str(&exponent);
    }
    let is_imaginary = cursor.eat("j") || cursor.eat("J");
    if is_integer && !is_imaginary {
        return decimal_integer(start, &text);
    }
    let value = text.parse().map_err(|_| malformed(start, "a float is digits, a point and an exponent"))?;
    Ok(if is_imaginary { Literal::Complex { re: 0.0, im: value } } else { Literal::Float(value) })
}

/// The integer of `digits`, which began at `start`.
fn decimal_integer(start: usize, digits: &str) -> Result<Literal> {
    let significant = digits.trim_start_matches('0');
    if significant.len() < digits.len() && !significant.is_empty() {
        return Err(malformed(start, "an integer has no leading zeros: write 0o17 for an octal one"));
    }
    if significant.len() > MAX_DIGITS as usize {
        return Err(LiteralError { at: start, kind: LiteralErrorKind::IntTooLong });
    }
    let value = BigInt::parse_bytes(digits.as_bytes(), 10);
    value.map(Literal::Int).ok_or_else(|| malformed(start, "an integer is digits"))
}

/// Passes digits, perhaps none, and returns them without the underscores between them.
fn digits(cursor: &mut Cursor<'_>, radix: u32) -> Result<String> {
    let start = cursor.at();
    let run = cursor.take_while(|c| c == '_' || c.is_digit(radix));
    if run.starts_with('_') || run.ends_with('_') || run.contains("__") {
        return Err(malformed(start, "an underscore stands between two digits"));
    }
    Ok(run.replace('_', ""))
}

fn malformed(at: usize, rule: &'static str) -> LiteralError {
    LiteralError { at, kind: LiteralErrorKind::Number { rule } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<String, LiteralErrorKind> {
        Literal::parse(text).map(|literal| literal.to_string()).map_err(|error| error.kind)
    }

    #[test]
    fn numbers_of_every_form_are_read() {
        for (text, printed) in [
            ("0", "0"),
            ("0_0", "0"),
            ("1_000", "1000"),
            ("0x_fF", "255"),
            ("0O17", "15"),
            ("0b1_1", "3"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("09.5", "9.5"),
            ("1_0.0_1E+1_0", "100100000000.0"),
            ("1e400", "inf"),
            ("09j", "9j"),
            ("1e3J", "1000j"),
            ("9007199254740993.0", "9007199254740992.0"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(printed), "{text}");
        }
    }

    #[test]
    fn malformed_numbers_are_refused() {
        for text in [
            "01", "0_7", "1_", "1__0", "0x", "0x_", "0x1_", "0b2", "0o8", "1e", "1e+", "1e_5", "1._5", "1_.5", ".",
            "1.2.3", "0xfj", "1abc", "1jj", "..5", "0x__1", "_1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_end_where_python_stops_printing_them() {
        let longest = "9".repeat(MAX_DIGITS as usize);
        assert_eq!(read(&longest), Ok(longest.clone()));
        assert_eq!(read(&(longest.clone() + "9")), Err(LiteralErrorKind::IntTooLong));
        let largest: BigInt = longest.parse().unwrap();
        assert_eq!(read(&format!("{largest:#x}")), Ok(longest));
        assert_eq!(read(&format!("{:#x}", largest + 1)), Err(LiteralErrorKind::IntTooLong));
        assert_eq!(read(&("1".repeat(400) + "+1j")), Err(LiteralErrorKind::RealTooLarge));
    }
}
