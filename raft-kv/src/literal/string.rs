//! One quoted string and its escapes.

use super::Literal;
use super::cursor::Cursor;
use super::error::{LiteralError, LiteralErrorKind};

type Result<T> = std::result::Result<T, LiteralError>;

/// Whether a string, perhaps with a prefix, comes next.
pub(super) fn starts(mut cursor: Cursor<'_>) -> bool {
    let prefix = cursor.take_while(|c| c.is_ascii_alphabetic());
    Style::of(prefix).is_some() && matches!(cursor.peek(), Some('\'' | '"'))
}

/// Reads a `Str` or `Bytes`. A string comes next: see [`starts`].
pub(super) fn quoted(cursor: &mut Cursor<'_>) -> Result<Literal> {
    let start = cursor.at();
    let prefix = cursor.take_while(|c| c.is_ascii_alphabetic());
    let style = Style::of(prefix).unwrap_or(Style { bytes: false, raw: false });
    let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| cursor.eat(quote)).unwrap_or("'");
    let mut body = if style.bytes { Body::Bytes(Vec::new()) } else { Body::Text(String::new()) };
    while !cursor.eat(quote) {
        let at = cursor.at();
        if cursor.eat_line_end() {
            if quote.len() == 1 {
                return Err(LiteralError { at: start, kind: LiteralErrorKind::Unclosed { quote } });
            }
            body.push('\n', at)?;
            continue;
        }
        match cursor.bump() {
            None => return Err(LiteralError { at: start, kind: LiteralErrorKind::Unclosed { quote } }),
            Some('\\') if style.raw => raw_backslash(cursor, &mut body)?,
            Some('\\') => escape(cursor, at, &mut body)?,
            Some(c) => body.push(c, at)?,
        }
    }
    Ok(match body {
        Body::Text(text) => Literal::Str(text),
        Body::Bytes(bytes) => Literal::Bytes(bytes),
    })
}

/// What a string's prefix says of it.
#[derive(Clone, Copy)]
struct Style {
    bytes: bool,
    raw: bool,
}

impl Style {
    fn of(prefix: &str) -> Option<Self> {
        let (bytes, raw) = match prefix.to_ascii_lowercase().as_str() {
            "" | "u" => (false, false),
            "r" => (false, true),
            "b" => (true, false),
            "br" | "rb" => (true, true),
            _ => return None,
        };
        Some(Style { bytes, raw })
    }
}

enum Body {
    Text(String),
    Bytes(Vec<u8>),
}

impl Body {
    /// Adds a character that stands at `at` as itself.
    fn push(&mut self, c: char, at: usize) -> Result<()> {
        match self {
            Body::Text(text) => text.push(c),
            Body::Bytes(bytes) => match u8::try_from(c) {
                Ok(byte) if byte.is_ascii() => bytes.push(byte),
                _ => return Err(LiteralError { at, kind: LiteralErrorKind::NonAsciiBytes }),
            },
        }
        Ok(())
    }

    /// Adds the character or byte that the escape at `at` gives by number.
    fn push_code(&mut self, code: u32, at: usize) -> Result<()> {
        match self {
            Body::Text(text) => match char::from_u32(code) {
                Some(c) => text.push(c),
                None if code <= 0xffff => {
                    return Err(LiteralError { at, kind: LiteralErrorKind::Surrogate });
                }
                None => return Err(malformed(at, "the last character is \\U0010ffff")),
            },
            // As in CPython, a byte keeps the low eight bits: b'\777' is b'\xff'.
            Body::Bytes(bytes) => bytes.push(code.to_le_bytes()[0]),
        }
        Ok(())
    }
}

/// In a raw string, a backslash stays, and so does the quote that it keeps from closing the string.
fn raw_backslash(cursor: &mut Cursor<'_>, body: &mut Body) -> Result<()> {
    body.push('\\', cursor.at())?;
    let at = cursor.at();
    if cursor.eat_line_end() {
        return body.push('\n', at);
    }
    match cursor.bump() {
        Some(c) => body.push(c, at),
        None => Ok(()),
    }
}

/// Reads what follows the backslash at `at`. At the text's end this adds nothing: the caller reports it.
fn escape(cursor: &mut Cursor<'_>, at: usize, body: &mut Body) -> Result<()> {
    if cursor.eat_line_end() {
        return Ok(());
    }
    let is_text = matches!(body, Body::Text(_));
    match cursor.peek() {
        Some(c @ '0'..='7') => return octal(cursor, at, c, body),
        Some('x') => return hexadecimal(cursor, at, body, 2, "two hexadecimal digits follow \\x"),
        Some('u') if is_text => {
            return hexadecimal(cursor, at, body, 4, "four hexadecimal digits follow \\u");
        }
        Some('U') if is_text => {
            return hexadecimal(cursor, at, body, 8, "eight hexadecimal digits follow \\U");
        }
        Some('N') if is_text => return Err(LiteralError { at, kind: LiteralErrorKind::NamedEscape }),
        _ => {}
    }
    let plain = match cursor.bump() {
        None => return Ok(()),
        Some(c @ ('\\' | '\'' | '"')) => c,
        Some('a') => '\x07',
        Some('b') => '\x08',
        Some('f') => '\x0c',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('v') => '\x0b',
        Some(c) => {
            // Python keeps both characters of an escape that it does not know.
            body.push('\\', at)?;
            c
        }
    };
    body.push(plain, at)
}

/// Up to three octal digits.
fn octal(cursor: &mut Cursor<'_>, at: usize, first: char, body: &mut Body) -> Result<()> {
    let mut code = 0;
    let mut next = Some(first);
    for _ in 0..3 {
        let Some(digit) = next.and_then(|c| c.to_digit(8)) else { break };
        code = code * 8 + digit;
        cursor.bump();
        next = cursor.peek();
    }
    body.push_code(code, at)
}

/// Exactly `count` hexadecimal digits, after the letter that comes next.
fn hexadecimal(cursor: &mut Cursor<'_>, at: usize, body: &mut Body, count: usize, rule: &'static str) -> Result<()> {
    cursor.bump();
    let mut code = 0;
    for _ in 0..count {
        let digit = cursor.peek().and_then(|c| c.to_digit(16)).ok_or_else(|| malformed(at, rule))?;
        code = code << 4 | digit;
        cursor.bump();
    }
    body.push_code(code, at)
}

fn malformed(at: usize, rule: &'static str) -> LiteralError {
    LiteralError { at, kind: LiteralErrorKind::Escape { rule } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> std::result::Result<Literal, LiteralErrorKind> {
        Ok(Literal::Str(value.to_owned()))
    }

    fn bytes(value: &[u8]) -> std::result::Result<Literal, LiteralErrorKind> {
        Ok(Literal::Bytes(value.to_owned()))
    }

    fn read(text: &str) -> std::result::Result<Literal, LiteralErrorKind> {
        Literal::parse(text).map_err(|error| error.kind)
    }

    #[test]
    fn prefixes_and_quotes() {
        assert_eq!(read(r#"'it "is"'"#), text(r#"it "is""#));
        assert_eq!(read(r#"U"it's""#), text("it's"));
        assert_eq!(read(r"r'\n\''"), text(r"\n\'"));
        assert_eq!(read(r"Rb'\x00'"), bytes(br"\x00"));
        assert_eq!(read("''"), text(""));
        assert_eq!(read("''''a'''"), text("'a"));
        assert_eq!(read("'''a\r\nb\rc'''"), text("a\nb\nc"));
        assert_eq!(read("ur'a'"), Err(LiteralErrorKind::StringPrefix { prefix: "ur".to_owned() }));
        assert_eq!(read("'a"), Err(LiteralErrorKind::Unclosed { quote: "'" }));
        assert_eq!(read("'a\n'"), Err(LiteralErrorKind::Unclosed { quote: "'" }));
        assert_eq!(read("'''a''"), Err(LiteralErrorKind::Unclosed { quote: "'''" }));
        assert_eq!(read(r"r'\'"), Err(LiteralErrorKind::Unclosed { quote: "'" }));
    }

    #[test]
    fn escapes() {
        assert_eq!(read(r#"'\\\'\"\a\b\f\n\r\t\v'"#), text("\\'\"\x07\x08\x0c\n\r\t\x0b"));
        assert_eq!(read(r"'\0\18\101\777\x41\u00e9\U0001f980'"), text("\0\u{1}8A\u{1ff}A\u{e9}\u{1f980}"));
        assert_eq!(read(r"b'\777\xff\u00e9\N'"), bytes(b"\xff\xff\\u00e9\\N"));
        assert_eq!(read(r"'\q\é\8'"), text(r"\q\é\8"));
        assert_eq!(read("'a\\\r\nb'"), text("ab"));
        for malformed in [r"'\x4'", r"'\u123'", r"'\U0001f98'", r"'\U00110000'", r"b'\xg0'"] {
            assert!(matches!(read(malformed), Err(LiteralErrorKind::Escape { .. })), "{malformed}");
        }
        assert_eq!(read(r"'\N{DIGIT ONE}'"), Err(LiteralErrorKind::NamedEscape));
        assert_eq!(read(r"'\ud83d\ude00'"), Err(LiteralErrorKind::Surrogate));
        assert_eq!(read(r"'\U0000dfff'"), Err(LiteralErrorKind::Surrogate));
        assert_eq!(read("b'é'"), Err(LiteralErrorKind::NonAsciiBytes));
        assert_eq!(read("b'\\é'"), Err(LiteralErrorKind::NonAsciiBytes));
    }
}
