//! A line that a person has typed, in words: quoted as Redis has it.

use bytes::Bytes;

/// The words of a line; `None` where a quote does not end, or is not followed by a blank.
///
/// In `"`, `\n \r \t \b \a` and `\xHH` are what they are in C, and any other byte behind `\` is itself. In `'`, only `\'`
/// is special. Elsewhere, nothing is.
pub(super) fn words(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (word, behind) = word(rest)?;
        words.push(word);
        rest = behind.trim_ascii_start();
    }
    Some(words)
}

/// One word, and what is behind it.
fn word(line: &[u8]) -> Option<(Bytes, &[u8])> {
    let (mut word, mut rest) = (Vec::new(), line);
    loop {
        match rest {
            [] => return Some((word.into(), rest)),
            [blank, ..] if blank.is_ascii_whitespace() => return Some((word.into(), rest)),
            [quote @ (b'"' | b'\''), quoted @ ..] => {
                rest = if *quote == b'"' { double(quoted, &mut word) } else { single(quoted, &mut word) }?;
                if rest.first().is_some_and(|behind| !behind.is_ascii_whitespace()) {
                    return None;
                }
            }
            [byte, behind @ ..] => {
                word.push(*byte);
                rest = behind;
            }
        }
    }
}

fn double<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', b'x', high, low, behind @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
                word.push(digit(*high)? << 4 | digit(*low)?);
                behind
            }
            [b'\\', escaped, behind @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                behind
            }
            [byte, behind @ ..] => {
                word.push(*byte);
                behind
            }
        }
    }
}

fn single<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', behind @ ..] => return Some(behind),
            [b'\\', b'\'', behind @ ..] => {
                word.push(b'\'');
                behind
            }
            [byte, behind @ ..] => {
                word.push(*byte);
                behind
            }
        }
    }
}

/// Of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_are_those_of_redis() {
        for (line, expected) in [
            ("", Some(vec![])),
            (" \t\r", Some(vec![])),
            ("get  k\r", Some(vec!["get", "k"])),
            (r#"set k "a b" 'c d'"#, Some(vec!["set", "k", "a b", "c d"])),
            (r#""\n\x41\q\"" '\n\''"#, Some(vec!["\nAq\"", "\\n'"])),
            (r#""\x4" "" ''"#, Some(vec!["x4", "", ""])),
            (r#"a"b c""#, Some(vec!["ab c"])),
            (r#""a"b"#, None),
            (r#""a"#, None),
            ("'a", None),
            (r#""a\"#, None),
        ] {
            let expected = expected.map(|words| words.into_iter().map(Bytes::from).collect());
            assert_eq!(words(line.as_bytes()), expected, "{line}");
        }
    }
}
