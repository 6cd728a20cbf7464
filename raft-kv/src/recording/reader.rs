//! Reads a recording: its start, then step by step.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::format::{
    ENDING, FILE_HEADER_LEN, FRAME_HEADER_LEN, FileHeader, FrameHeader, START, STEPS, VERSION, parse_file_header,
};
use super::{Ending, Start, Step};
use crate::codec::{CodecError, decode_compact_next};

/// A recording that is being read.
#[derive(Debug)]
pub struct Recording<R> {
    input: R,
    /// Bytes read.
    at: u64,
    start: Start,
    /// The body of a frame of steps, and how much of it is behind.
    body: Vec<u8>,
    done: usize,
    millis: u64,
    steps: u64,
    tail: Option<Tail>,
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With the reason.
    Ended(Ending),
    /// Between two frames: the process was killed.
    Killed,
    /// Inside a frame, or with a bad one: the process or the machine died as it was written.
    Torn {
        /// Bytes that are not replayed.
        bytes: u64,
    },
}

/// Why a recording cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It does not begin as a recording does.
    #[error("this is no recording")]
    NotARecording,
    /// Another release wrote it: replay it with that one.
    #[error("a recording of version {found}, and this program reads version {VERSION}: replay it with its own release")]
    OtherVersion {
        /// The file's.
        found: u32,
    },
    /// The server died before its first step.
    #[error("the recording is empty: the server died before its first step")]
    Empty,
    /// Its bytes are not what was written.
    #[error("damaged at byte {at}, after step {steps}: {what}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// Steps before it.
        steps: u64,
        /// What is wrong.
        what: String,
    },
}

impl Recording<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::new(BufReader::with_capacity(1 << 20, File::open(path)?))
    }
}

impl<R: Read> Recording<R> {
    /// Reads the start.
    ///
    /// # Errors
    /// It cannot be read, is no recording, of another version, damaged, or has no start.
    pub fn new(mut input: R) -> Result<Self, RecordingError> {
        let mut header = [0; FILE_HEADER_LEN];
        if fill(&mut input, &mut header)? < FILE_HEADER_LEN {
            return Err(RecordingError::NotARecording);
        }
        match parse_file_header(&header) {
            FileHeader::Known => {}
            FileHeader::OtherVersion(found) => return Err(RecordingError::OtherVersion { found }),
            FileHeader::Wrong => return Err(RecordingError::NotARecording),
        }
        let mut at = FILE_HEADER_LEN as u64;
        let frame = at;
        let damaged = |what: String| RecordingError::Damaged { at: frame, steps: 0, what };
        let body = match next_frame(&mut input, &mut at)? {
            Frame::Body(body) => body,
            Frame::Nothing | Frame::Torn { .. } => return Err(RecordingError::Empty),
            Frame::Damaged => return Err(damaged("the start is not as it was written".into())),
        };
        let start = match body.split_first() {
            Some((&START, mut rest)) => decode_compact_next(&mut rest).map_err(|error| damaged(error.to_string()))?,
            Some((&ENDING, _)) => return Err(RecordingError::Empty),
            _ => return Err(damaged("it does not begin with a start".into())),
        };
        Ok(Self { input, at, start, body: Vec::new(), done: 0, millis: 0, steps: 0, tail: None })
    }

    /// What it begins with.
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// Bytes read so far.
    pub const fn bytes_read(&self) -> u64 {
        self.at
    }

    /// How it ends; `None` before all of it is read.
    pub const fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// The next step; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged here.
    pub fn next_step(&mut self) -> Result<Option<Step>, RecordingError> {
        while self.done >= self.body.len() {
            if self.tail.is_some() || !self.next_body()? {
                return Ok(None);
            }
        }
        let at = self.at;
        let mut rest = self.body.get(self.done..).unwrap_or_default();
        let decoded = decode_compact_next(&mut rest)
            .and_then(|event| decode_compact_next(&mut rest).map(|(answers, actions)| (event, answers, actions)));
        let (event, answers, actions) = decoded.map_err(|error| self.damaged(at, &error))?;
        self.done = self.body.len().saturating_sub(rest.len());
        self.steps = self.steps.saturating_add(1);
        Ok(Some(Step { number: self.steps, millis: self.millis, event, answers, actions }))
    }

    /// `false` at the end.
    fn next_body(&mut self) -> Result<bool, RecordingError> {
        let at = self.at;
        let body = match next_frame(&mut self.input, &mut self.at)? {
            Frame::Body(body) => body,
            Frame::Nothing => return Ok(self.end(Tail::Killed)),
            Frame::Torn { bytes } => return Ok(self.end(Tail::Torn { bytes })),
            Frame::Damaged => return Err(self.damaged(at, &"it is not as it was written")),
        };
        match body.split_first() {
            Some((&STEPS, mut rest)) => {
                self.millis = decode_compact_next(&mut rest).map_err(|error| self.damaged(at, &error))?;
                self.done = body.len().saturating_sub(rest.len());
                self.body = body;
                Ok(true)
            }
            Some((&ENDING, mut rest)) => {
                let ending = decode_compact_next(&mut rest).map_err(|error: CodecError| self.damaged(at, &error))?;
                Ok(self.end(Tail::Ended(ending)))
            }
            _ => Err(self.damaged(at, &"a frame of no known kind")),
        }
    }

    fn end(&mut self, tail: Tail) -> bool {
        self.tail = Some(tail);
        false
    }

    fn damaged(&self, at: u64, what: &impl ToString) -> RecordingError {
        RecordingError::Damaged { at, steps: self.steps, what: what.to_string() }
    }
}

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(ending) => ending.fmt(f),
            Self::Killed => write!(f, "the server was killed"),
            Self::Torn { bytes } => write!(f, "the server died as it wrote the last {bytes} bytes: they are left out"),
        }
    }
}

enum Frame {
    Body(Vec<u8>),
    Nothing,
    Torn { bytes: u64 },
    Damaged,
}

/// Reads one frame at offset `at`, which then is behind it.
fn next_frame(input: &mut impl Read, at: &mut u64) -> std::io::Result<Frame> {
    let mut header = [0; FRAME_HEADER_LEN];
    let read = fill(input, &mut header)?;
    let frame_at = *at;
    *at = at.saturating_add(len(read));
    if read == 0 {
        return Ok(Frame::Nothing);
    }
    if read < FRAME_HEADER_LEN {
        return Ok(Frame::Torn { bytes: len(read) });
    }
    let Some(parsed) = FrameHeader::parse(frame_at, &header) else {
        // A power cut may leave zeros where the file had grown already.
        let is_zeros = header == [0; FRAME_HEADER_LEN];
        return torn_if_last(input, len(read), is_zeros);
    };
    let mut body = Vec::new();
    let read = input.by_ref().take(len(parsed.len)).read_to_end(&mut body)?;
    *at = at.saturating_add(len(read));
    if read < parsed.len {
        return Ok(Frame::Torn { bytes: at.saturating_sub(frame_at) });
    }
    if parsed.matches(&body) {
        return Ok(Frame::Body(body));
    }
    torn_if_last(input, at.saturating_sub(frame_at), true)
}

/// A bad frame of so many bytes: torn where it may be and nothing but zeros follows.
fn torn_if_last(input: &mut impl Read, mut bytes: u64, may_be: bool) -> std::io::Result<Frame> {
    let mut part = [0; 4096];
    let mut is_last = may_be;
    while is_last {
        let read = fill(input, &mut part)?;
        bytes = bytes.saturating_add(len(read));
        is_last = part.iter().take(read).all(|byte| *byte == 0);
        if read < part.len() {
            break;
        }
    }
    Ok(if is_last { Frame::Torn { bytes } } else { Frame::Damaged })
}

/// Reads until `bytes` is full or the input ends; how many were read.
fn fill(input: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
