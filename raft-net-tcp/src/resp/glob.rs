//! Patterns of keys, as Redis has them: `*`, `?`, `[abc]`, `[^a-c]`, and `\` before what is meant as it is.

/// Whether the whole of `text` fits `pattern`. Takes a time in proportion to the product of their lengths at most.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on if what follows the last star does not fit: the star takes one byte more.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', behind @ ..] = pattern {
            star = Some((behind, text));
            pattern = behind;
            continue;
        }
        match (one(pattern, text.first().copied()), text) {
            (Some(behind), [_, rest @ ..]) => (pattern, text) = (behind, rest),
            (_, []) if pattern.is_empty() => return true,
            _ => {
                let Some((behind, [_, rest @ ..])) = star else { return false };
                star = Some((behind, rest));
                (pattern, text) = (behind, rest);
            }
        }
    }
}

/// The bytes with which everything begins that fits.
pub(super) fn prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    pattern.get(..end.unwrap_or(pattern.len())).unwrap_or_default()
}

/// What is behind the first element of the pattern, where that is no star and fits this byte.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<&[u8]> {
    let byte = byte?;
    match pattern {
        [b'?', behind @ ..] => Some(behind),
        [b'[', set @ ..] => {
            let (fits, behind) = class(set, byte);
            fits.then_some(behind)
        }
        [b'\\', escaped, behind @ ..] => (*escaped == byte).then_some(behind),
        [plain, behind @ ..] => (*plain == byte).then_some(behind),
        [] => None,
    }
}

/// Whether the byte is in the set, and what is behind that. A set that does not end is one up to the pattern's end.
fn class(set: &[u8], byte: u8) -> (bool, &[u8]) {
    let (is_negated, mut rest) = match set {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => return (found != is_negated, rest),
            [b']', behind @ ..] => return (found != is_negated, behind),
            [b'\\', one, behind @ ..] => {
                found |= *one == byte;
                behind
            }
            [from, b'-', to, behind @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                behind
            }
            [one, behind @ ..] => {
                found |= *one == byte;
                behind
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_they_fit_in_redis() {
        for (pattern, fits, fits_not) in [
            ("*", vec!["", "a", "ab"], vec![]),
            ("", vec![""], vec!["a"]),
            ("a*c", vec!["ac", "abc", "acc"], vec!["a", "abcd", "bac"]),
            ("a*b*c", vec!["abc", "axbxbc"], vec!["acb"]),
            ("h?llo", vec!["hello"], vec!["hllo", "heello"]),
            ("h[ae]llo", vec!["hello", "hallo"], vec!["hillo"]),
            ("h[^e]llo", vec!["hallo"], vec!["hello"]),
            ("h[a-c]llo", vec!["hbllo"], vec!["hdllo"]),
            ("h[c-a]llo", vec!["hbllo"], vec!["hdllo"]),
            ("\\*", vec!["*"], vec!["a"]),
            ("[\\]]", vec!["]"], vec!["\\"]),
            ("[a", vec!["a"], vec!["b"]),
        ] {
            fits.iter().for_each(|text| assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}"));
            fits_not.iter().for_each(|text| assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}"));
        }
        assert_eq!(prefix(b"user:*"), b"user:");
        assert_eq!(prefix(b"user"), b"user");
        assert_eq!(prefix(b"[a]"), b"");
    }

    #[test]
    fn n5_many_stars_do_not_take_for_ever() {
        let pattern = b"*a".repeat(500);
        assert!(!matches(&pattern, &[b'a'; 499]));
        assert!(!matches(&[pattern, b"b".to_vec()].concat(), &[b'a'; 60_000]));
    }
}
