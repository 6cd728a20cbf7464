//! `Display`: exactly what Python's `repr` prints.

use std::fmt::{self, Display, Formatter, Write};

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::Literal;

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::None => f.write_str("None"),
            Literal::Ellipsis => f.write_str("Ellipsis"),
            Literal::Bool(true) => f.write_str("True"),
            Literal::Bool(false) => f.write_str("False"),
            Literal::Int(value) => write!(f, "{value}"),
            Literal::Float(value) => f.write_str(&float(*value, ".0")),
            Literal::Complex { re, im } => complex(f, *re, *im),
            Literal::Str(text) => string(f, text),
            Literal::Bytes(value) => bytes(f, value),
            Literal::Tuple(items) => {
                let close = if items.len() == 1 { ",)" } else { ")" };
                sequence(f, "(", items, close)
            }
            Literal::List(items) => sequence(f, "[", items, "]"),
            Literal::Set(items) if items.is_empty() => f.write_str("set()"),
            Literal::Set(items) => sequence(f, "{", items, "}"),
            Literal::Dict(entries) => dict(f, entries),
        }
    }
}

fn sequence(f: &mut Formatter<'_>, open: &str, items: &[Literal], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    f.write_str(close)
}

fn dict(f: &mut Formatter<'_>, entries: &[(Literal, Literal)]) -> fmt::Result {
    f.write_str("{")?;
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{key}: {value}")?;
    }
    f.write_str("}")
}

/// A complex number: `2j` where the real part is 0.0 (but not -0.0), or else `(1+2j)`.
fn complex(f: &mut Formatter<'_>, re: f64, im: f64) -> fmt::Result {
    let imaginary = float(im, "");
    if re == 0.0 && re.is_sign_positive() {
        return write!(f, "{imaginary}j");
    }
    let sign = if imaginary.starts_with('-') { "" } else { "+" };
    write!(f, "({}{sign}{imaginary}j)", float(re, ""))
}

/// The shortest digits that read back to `value`; `whole_suffix` ends a number that has neither a
/// fraction nor an exponent.
fn float(value: f64, whole_suffix: &str) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    let scientific = shortest(value);
    // An infinity has no exponent, and prints as `inf`.
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..16) => fixed(mantissa, exponent, whole_suffix),
        Ok(exponent) if exponent < 0 => format!("{mantissa}e-{:02}", exponent.unsigned_abs()),
        _ => format!("{mantissa}e+{exponent:0>2}"),
    }
}

/// The shortest digits that read back to `value`, as `1.5e-7`.
///
/// Where two are equally near, Rust takes the greater and Python the even one, which is what rounding
/// to that many digits gives. Rounding may miss `value` beside a power of two, whose neighbours are not
/// equally far; there the shortest is not a tie.
fn shortest(value: f64) -> String {
    let shortest = format!("{value:e}");
    let digits = shortest.bytes().take_while(|&byte| byte != b'e').filter(u8::is_ascii_digit).count();
    let rounded = format!("{value:.*e}", digits.saturating_sub(1));
    if rounded.parse() == Ok(value) { rounded } else { shortest }
}

/// The number `mantissa * 10^exponent` without an exponent.
fn fixed(mantissa: &str, exponent: i32, whole_suffix: &str) -> String {
    let (sign, unsigned) = mantissa.strip_prefix('-').map_or(("", mantissa), |unsigned| ("-", unsigned));
    let digits = unsigned.replace('.', "");
    let Ok(exponent) = usize::try_from(exponent) else {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    };
    match digits.split_at_checked(exponent + 1) {
        Some((whole, fraction)) if !fraction.is_empty() => format!("{sign}{whole}.{fraction}"),
        _ => format!("{sign}{digits:0<width$}{whole_suffix}", width = exponent + 1),
    }
}

fn string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let quote = quote_for(text.contains('\''), text.contains('"'));
    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            _ if c.is_ascii() => ascii(f, c, quote)?,
            _ if is_printable(c) => f.write_char(c)?,
            '\0'..='\u{ff}' => write!(f, "\\x{:02x}", u32::from(c))?,
            '\u{100}'..='\u{ffff}' => write!(f, "\\u{:04x}", u32::from(c))?,
            _ => write!(f, "\\U{:08x}", u32::from(c))?,
        }
    }
    f.write_char(quote)
}

fn bytes(f: &mut Formatter<'_>, value: &[u8]) -> fmt::Result {
    let quote = quote_for(value.contains(&b'\''), value.contains(&b'"'));
    write!(f, "b{quote}")?;
    for &byte in value {
        if byte.is_ascii() {
            ascii(f, char::from(byte), quote)?;
        } else {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    f.write_char(quote)
}

/// Python prefers single quotes, and takes double ones where that saves escaping.
fn quote_for(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

fn ascii(f: &mut Formatter<'_>, c: char, quote: char) -> fmt::Result {
    match c {
        '\\' => f.write_str("\\\\"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        ' '..='~' if c == quote => write!(f, "\\{c}"),
        ' '..='~' => f.write_char(c),
        _ => write!(f, "\\x{:02x}", u32::from(c)),
    }
}

/// `str.isprintable` for a character beyond ASCII: all but the Unicode groups Other and Separator.
fn is_printable(c: char) -> bool {
    !matches!(c.general_category_group(), GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_python_prints_them() {
        for (value, printed) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e100, "1.5e+100"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (5e-324, "5e-324"),
            (-120.0, "-120.0"),
            (-0.00123, "-0.00123"),
            // Ties between 16 digits or 17: exactly 2.98023223876953125e-8 and 1125899906842624.25.
            (2_f64.powi(-25), "2.9802322387695312e-08"),
            (2_f64.powi(50) + 0.25, "1125899906842624.2"),
            (f64::INFINITY, "inf"),
            (-f64::INFINITY, "-inf"),
            (-f64::NAN, "nan"),
        ] {
            assert_eq!(Literal::Float(value).to_string(), printed);
        }
    }

    #[test]
    fn complex_numbers_print_as_python_prints_them() {
        for (re, im, printed) in [
            (1.0, 2.0, "(1+2j)"),
            (0.0, 1.0, "1j"),
            (0.0, -0.0, "-0j"),
            (-0.0, -2.0, "(-0-2j)"),
            (1.5, 1e16, "(1.5+1e+16j)"),
            (f64::INFINITY, f64::NAN, "(inf+nanj)"),
        ] {
            assert_eq!(Literal::Complex { re, im }.to_string(), printed);
        }
    }

    #[test]
    fn strings_print_as_python_prints_them() {
        for (text, printed) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("it's \"", "'it\\'s \"'"),
            ("\0\t\n\r\x7f\\", "'\\x00\\t\\n\\r\\x7f\\\\'"),
            ("é\u{a0}\u{ad}", "'é\\xa0\\xad'"),
            ("\u{200b}\u{e000}\u{2028}", "'\\u200b\\ue000\\u2028'"),
            ("\u{1f980}\u{e0001}", "'\u{1f980}\\U000e0001'"),
        ] {
            assert_eq!(Literal::Str(text.to_owned()).to_string(), printed);
        }
        assert_eq!(Literal::Bytes(b"it's\x00\xff\n".to_vec()).to_string(), "b\"it's\\x00\\xff\\n\"");
    }
}
