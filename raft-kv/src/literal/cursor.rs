//! A place in a literal's text.

use super::error::{LiteralError, LiteralErrorKind};

/// Invariant: `at` is on a character's boundary of `text`, at most its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Cursor { text, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Passes `expected` if it comes next, and says whether it did.
    pub(super) fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// Passes one line end: `\n`, `\r\n` or `\r`, which Python's reader makes one.
    pub(super) fn eat_line_end(&mut self) -> bool {
        self.eat("\r\n") || self.eat("\n") || self.eat("\r")
    }

    /// Passes spaces, tabs, form feeds, and line ends that a backslash hides.
    ///
    /// Errors: a backslash that hides no line end, or the last one.
    pub(super) fn skip_blanks(&mut self) -> Result<(), LiteralError> {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\x0c'));
            let backslash = self.at;
            if !self.eat("\\") {
                return Ok(());
            }
            if !self.eat_line_end() || self.rest().is_empty() {
                return Err(LiteralError {
                    at: backslash,
                    kind: LiteralErrorKind::Found { found: '\\', wanted: "a literal or nothing" },
                });
            }
        }
    }

    /// Passes blanks, comments and line ends.
    pub(super) fn skip_lines(&mut self) -> Result<(), LiteralError> {
        loop {
            self.skip_blanks()?;
            if self.peek() == Some('#') {
                self.take_while(|c| !matches!(c, '\r' | '\n'));
            }
            if !self.eat_line_end() {
                return Ok(());
            }
        }
    }

    /// An error of this kind, here.
    pub(super) fn error(&self, kind: LiteralErrorKind) -> LiteralError {
        LiteralError { at: self.at, kind }
    }

    /// The error that something other than `wanted` comes next.
    pub(super) fn unexpected(&self, wanted: &'static str) -> LiteralError {
        self.error(match self.peek() {
            None => LiteralErrorKind::Ended { wanted },
            Some(found) => LiteralErrorKind::Found { found, wanted },
        })
    }
}

/// Whether `c` could belong to a Python name (a superset, which only chooses the error's text).
pub(super) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
