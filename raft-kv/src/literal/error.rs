//! What is wrong with a literal's text, and where.

use super::MAX_NESTING;
use super::number::MAX_DIGITS;

/// A text that is not a literal; the caller's to correct.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {kind}")]
pub struct LiteralError {
    /// Where in the text: a byte offset, on a character's boundary.
    pub at: usize,
    /// What is wrong there.
    pub kind: LiteralErrorKind,
}

/// What is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiteralErrorKind {
    /// Nothing but blanks and comments.
    #[error("no literal here: write one, such as 'abc' or {{'key': 1}}")]
    Empty,
    /// The text stops inside a literal.
    #[error("the text ends too soon: write {wanted} here")]
    Ended {
        /// What would continue the literal.
        wanted: &'static str,
    },
    /// A character that does not fit.
    #[error("found {found:?}: write {wanted} here")]
    Found {
        /// The character.
        found: char,
        /// What would fit.
        wanted: &'static str,
    },
    /// A NUL character, anywhere in the text.
    #[error("a NUL character cannot stand in a literal: write it as \\x00 inside quotes")]
    Nul,
    /// A bare word other than `None`, `True`, `False` and `set()`.
    #[error("names are not literals: write '{name}' with quotes")]
    Name {
        /// The word, cut short if it is long.
        name: String,
    },
    /// `f'...'`
    #[error("f-strings are not literals: write the text itself, without the f")]
    FString,
    /// Letters before a quote that are no prefix of a string.
    #[error("{prefix} is no prefix of a string: write r, b, br, u or none")]
    StringPrefix {
        /// The letters, cut short if they are many.
        prefix: String,
    },
    /// A number with a digit, an underscore or a letter out of place.
    #[error("malformed number: {rule}")]
    Number {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// An integer that Python would not print.
    #[error("an integer may have {MAX_DIGITS} decimal digits: write it as a string or as bytes")]
    IntTooLong,
    /// The integer in `int+imaginary` exceeds every float.
    #[error("the integer is too large to be the real part of a complex number: write a float")]
    RealTooLarge,
    /// A sign before something other than a plain number.
    #[error("a sign belongs before a number, once: write -1, not --1 or -True")]
    Sign,
    /// A `+` or `-` between things that do not make a complex number.
    #[error("only complex numbers such as 1+2j are sums: write the result instead")]
    Sum,
    /// A string without its closing quote.
    #[error("this string is not closed: end it with {quote}, before the line's end unless it is triple")]
    Unclosed {
        /// The quote that opened it.
        quote: &'static str,
    },
    /// A malformed escape sequence.
    #[error("malformed escape: {rule}")]
    Escape {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// `'\N{...}'`
    #[error("\\N{{...}} is not supported: write the character itself, or \\u and its number")]
    NamedEscape,
    /// `'\ud800'` to `'\udfff'`
    #[error("a lone surrogate is no character: write the character as \\U and eight digits, or use bytes")]
    Surrogate,
    /// `b'é'`
    #[error("bytes hold ASCII characters only: write others as \\x and two digits")]
    NonAsciiBytes,
    /// `'a' b'b'`
    #[error("strings and bytes do not join: write both with b, or neither")]
    MixedStrings,
    /// A dict's key or a set's element that cannot be one.
    #[error(transparent)]
    Unhashable(#[from] Unhashable),
    /// More brackets than [`MAX_NESTING`].
    #[error("more than {MAX_NESTING} levels of brackets: flatten the value")]
    TooDeep,
}

/// A list, set or dict where Python wants something hashable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {type_name} cannot be a dict's key or a set's element: write a tuple instead")]
pub struct Unhashable {
    /// Python's name of the type: `list`, `set` or `dict`.
    pub type_name: &'static str,
}

/// A word for a message: all of it if it is short, or else its beginning.
pub(super) fn excerpt(word: &str) -> String {
    const SHOWN: usize = 40;
    match word.char_indices().nth(SHOWN) {
        None => word.to_owned(),
        Some((end, _)) => word.get(..end).unwrap_or_default().to_owned() + "...",
    }
}
