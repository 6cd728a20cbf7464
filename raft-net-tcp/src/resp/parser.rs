//! Commands out of a stream of bytes: arrays of bulk strings, and lines that a person has typed.
//!
//! ```text
//! *2\r\n $3\r\nGET\r\n $1\r\nk\r\n      a command of two words, of any bytes (without the blanks)
//! GET "k\x00" 'it\'s'\r\n               the same kind of command, as a line
//! ```
//!
//! Nothing is allocated by what a length claims, nothing nests, and nothing is looked at twice, however the bytes come in
//! pieces.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use raft_kv::{TRANSACTION_BYTES_MAX, VALUE_BYTES_MAX};

use super::inline;

/// Takes commands out of the bytes that were read into its [`room`](Self::room).
#[derive(Debug, Default)]
pub(crate) struct Parser {
    bytes: BytesMut,
    /// What lies before this was looked at.
    at: usize,
    /// The array that has begun at the front of `bytes`.
    array: Option<Array>,
    /// What was found wrong: it stays so.
    error: Option<ProtocolError>,
}

/// An array of bulk strings, as far as it has come.
#[derive(Debug)]
struct Array {
    /// Words that are missing, the one of `length` included.
    missing: usize,
    /// Of the word whose bytes come next, if that was read.
    length: Option<usize>,
    words: Vec<Range<usize>>,
}

/// What was sent is no command. Nothing that follows it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("Protocol error: too big inline request")]
    LongLine,
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    #[error("Protocol error: expected '$', got '{}'", .got.escape_ascii())]
    NoBulk { got: u8 },
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    #[error("Protocol error: a bulk string ends with CRLF")]
    BulkEnd,
    #[error("Protocol error: the command is too long: it may have {COMMAND_BYTES_MAX} bytes")]
    LongCommand,
}

impl Parser {
    /// Where to put bytes that were read. What is there already stays.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = BytesMut::new();
        }
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    /// The next command, if all of it is there: at least one word.
    ///
    /// # Errors
    /// What is there is none. Nothing more is to be read.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let found = self.find();
        self.error = found.as_ref().err().copied();
        found
    }

    fn find(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            let found = match (&self.array, self.bytes.first()) {
                (Some(_), _) => self.next_of_array()?,
                (None, Some(b'*')) => {
                    let Some(length) = self.length(ProtocolError::ArrayLength)? else { return Ok(None) };
                    match usize::try_from(length) {
                        Ok(missing) if missing > WORDS_MAX => return Err(ProtocolError::ArrayLength),
                        Ok(missing) if missing > 0 => {
                            self.array = Some(Array { missing, length: None, words: Vec::new() });
                        }
                        // No command, and no mistake either.
                        _ => drop(self.take()),
                    }
                    continue;
                }
                (None, Some(_)) => self.next_line()?,
                (None, None) => None,
            };
            match found {
                Some(words) if words.is_empty() => {}
                found => return Ok(found),
            }
        }
    }

    fn next_of_array(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            let Some(array) = &mut self.array else { return Ok(None) };
            if array.missing == 0 {
                let words = core::mem::take(&mut array.words);
                self.array = None;
                let command = self.take();
                return Ok(Some(words.into_iter().map(|word| command.slice(word)).collect()));
            }
            let Some(length) = array.length else {
                if !self.begin_word()? {
                    return Ok(None);
                }
                continue;
            };
            let end = self.at.saturating_add(length);
            let Some(rest) = self.bytes.get(end..end.saturating_add(2)) else { return Ok(None) };
            if rest != b"\r\n" {
                return Err(ProtocolError::BulkEnd);
            }
            array.words.push(self.at..end);
            array.missing = array.missing.saturating_sub(1);
            array.length = None;
            self.at = end.saturating_add(2);
        }
    }

    /// Reads the length of the next word; `false` where it is not there yet.
    fn begin_word(&mut self) -> Result<bool, ProtocolError> {
        match self.bytes.get(self.at) {
            None => return Ok(false),
            Some(b'$') => {}
            Some(got) => return Err(ProtocolError::NoBulk { got: *got }),
        }
        let Some(length) = self.length(ProtocolError::BulkLength)? else { return Ok(false) };
        let length = usize::try_from(length).map_err(|_| ProtocolError::BulkLength)?;
        if length > WORD_BYTES_MAX {
            return Err(ProtocolError::BulkLength);
        }
        if self.at.saturating_add(length) > COMMAND_BYTES_MAX {
            return Err(ProtocolError::LongCommand);
        }
        if let Some(array) = &mut self.array {
            array.length = Some(length);
        }
        Ok(true)
    }

    /// The number between the byte at `at` and the end of its line, which is passed; `None` where the end is not there.
    fn length(&mut self, error: ProtocolError) -> Result<Option<i64>, ProtocolError> {
        let rest = self.bytes.get(self.at.saturating_add(1)..).unwrap_or_default();
        let Some(digits) = rest.iter().take(LENGTH_BYTES_MAX).position(|byte| *byte == b'\r') else {
            return if rest.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(error) };
        };
        let Some(end) = rest.get(digits.saturating_add(1)) else { return Ok(None) };
        let digits_there = rest.get(..digits).unwrap_or_default();
        let number = std::str::from_utf8(digits_there).ok().and_then(|digits| digits.parse().ok());
        let number = number.filter(|_| *end == b'\n' && digits_there.first() != Some(&b'+')).ok_or(error)?;
        self.at = self.at.saturating_add(digits).saturating_add(3);
        Ok(Some(number))
    }

    /// A line that a person has typed; no words where it is empty.
    fn next_line(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').map(|end| self.at.saturating_add(end));
        if end.unwrap_or(self.bytes.len()) > LINE_BYTES_MAX {
            return Err(ProtocolError::LongLine);
        }
        let Some(end) = end else {
            self.at = self.bytes.len();
            return Ok(None);
        };
        self.at = end.saturating_add(1);
        let line = self.take();
        inline::words(&line).filter(|words| words.len() <= WORDS_MAX).ok_or(ProtocolError::Quotes).map(Some)
    }

    /// Takes what was looked at.
    fn take(&mut self) -> Bytes {
        let taken = self.bytes.split_to(self.at.min(self.bytes.len())).freeze();
        self.at = 0;
        taken
    }
}

/// The most words in a command.
pub(super) const WORDS_MAX: usize = 1025;

/// The most bytes in a word.
pub(super) const WORD_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// The most bytes in a command, with what stands around its words.
const COMMAND_BYTES_MAX: usize = TRANSACTION_BYTES_MAX + (64 << 10);

/// The most bytes in a line that a person has typed.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The most bytes in a length and the end of its line.
const LENGTH_BYTES_MAX: usize = 24;

/// Read at once.
const READ_BYTES: usize = 16 << 10;

/// Without a command there, no more memory is kept than this.
const KEPT_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reply;
    use super::*;

    /// What comes out of these pieces, and how it ends.
    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
        let (mut parser, mut commands) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.room().extend_from_slice(piece);
            loop {
                match parser.next() {
                    Ok(Some(words)) => commands.push(words),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(parser.next(), Err(error));
                        return (commands, Some(error));
                    }
                }
            }
        }
        (commands, None)
    }

    fn error(bytes: &[u8]) -> Option<ProtocolError> {
        parse([bytes]).1
    }

    fn words(words: &[&str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn commands_come_as_arrays_and_as_lines() {
        let stream =
            b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*0\r\n*-1\r\n\r\n  \nPING\r\nset k \"a\\x00\"\n*1\r\n$4\r\nQUIT\r\n*1\r\n";
        let (commands, error) = parse([&stream[..]]);
        assert_eq!(error, None);
        assert_eq!(commands, [words(&["GET", ""]), words(&["PING"]), words(&["set", "k", "a\0"]), words(&["QUIT"])]);
    }

    #[test]
    fn n2_what_is_no_command_is_named() {
        for bytes in ["*x\r\n", "*+1\r\n", "*1 \r\n", "*1026\r\n", "*1\rx", "*99999999999999999999\r\n", "*\r\n"] {
            assert_eq!(error(bytes.as_bytes()), Some(ProtocolError::ArrayLength), "{bytes}");
        }
        for bytes in ["*1\r\n$-1\r\n", "*1\r\n$x\r\n", "*1\r\n$1048577\r\n", "*1\r\n$1111111111111111111111111"] {
            assert_eq!(error(bytes.as_bytes()), Some(ProtocolError::BulkLength), "{bytes}");
        }
        // What nests: an array in an array.
        assert_eq!(error(b"*1\r\n*1\r\n$1\r\na\r\n"), Some(ProtocolError::NoBulk { got: b'*' }));
        assert_eq!(error(b"*1\r\n$1\r\nab\r\n"), Some(ProtocolError::BulkEnd));
        assert_eq!(error(b"get 'a\r\n"), Some(ProtocolError::Quotes));
        assert_eq!(error(&[b'a'; LINE_BYTES_MAX]), None);
        assert_eq!(error(&[b'a'; LINE_BYTES_MAX + 1]), Some(ProtocolError::LongLine));
    }

    #[test]
    fn n5_a_command_has_a_cap_whatever_its_words_have() {
        let mut stream = b"*5\r\n".to_vec();
        let word = vec![b'x'; WORD_BYTES_MAX];
        for _ in 0..2 {
            reply::bulk(&mut stream, &word);
        }
        assert_eq!(error(&stream), None);
        stream.extend_from_slice(b"$1048576\r\n");
        assert_eq!(error(&stream), Some(ProtocolError::LongCommand));
    }

    fn commands() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let word = prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..9),
            1 => proptest::collection::vec(any::<u8>(), 0..9000),
            1 => "[\r\n*$0-9]{0,9}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(proptest::collection::vec(word, 1..6), 0..6)
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_are_the_commands_are_the_same(
            commands in commands(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..9)
        ) {
            let mut stream = Vec::new();
            for words in &commands {
                reply::array(&mut stream, words.len());
                words.iter().for_each(|word| reply::bulk(&mut stream, word));
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let (found, error) = parse(cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]));
            prop_assert_eq!(error, None);
            prop_assert_eq!(found, commands);
        }

        #[test]
        fn n2_garbage_is_read_alike_in_whatever_pieces(
            stream in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "([*$]-?[0-9]{0,2}(\r\n)?|[a-c'\" \\\\]{0,4}|\r?\n){0,30}".prop_map(String::into_bytes),
            ],
            piece in 1..20_usize,
        ) {
            prop_assert_eq!(parse(stream.chunks(piece)), parse([&stream[..]]));
        }
    }
}
