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
    let scientific = format!("{value:e}");
    // An infinity has no exponent, and prints as `inf`.
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(-4..16) => {
            let fixed = format!("{value}");
            if fixed.contains('.') { fixed } else { fixed + whole_suffix }
        }
        Ok(exponent) if exponent < 0 => format!("{mantissa}e-{:02}", exponent.unsigned_abs()),
        _ => format!("{mantissa}e+{exponent:0>2}"),
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
