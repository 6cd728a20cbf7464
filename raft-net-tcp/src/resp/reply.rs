//! Replies as bytes: RESP version 2.

use std::io::Write as _;

/// `+OK`.
pub(super) fn simple(out: &mut Vec<u8>, text: &str) {
    line(out, '+', text);
}

/// `-ERR what is wrong`. Whatever would end the line becomes a blank.
pub(super) fn error(out: &mut Vec<u8>, text: &str) {
    line(out, '-', text.replace(['\r', '\n'], " "));
}

/// `:1`.
pub(super) fn integer(out: &mut Vec<u8>, number: i64) {
    line(out, ':', number);
}

/// Any bytes.
pub(super) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, '$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// What stands for nothing.
pub(super) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"$-1\r\n");
}

/// An array of so many replies, which follow.
pub(super) fn array(out: &mut Vec<u8>, len: usize) {
    line(out, '*', len);
}

fn line(out: &mut Vec<u8>, kind: char, text: impl std::fmt::Display) {
    // A vector takes all that is written to it.
    let _ = write!(out, "{kind}{text}\r\n");
}
