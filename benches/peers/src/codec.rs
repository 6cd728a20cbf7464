//! The codec of those that speak serde: bincode, configured as ours is. The one place here that names it.

use bincode::config::{Configuration, Fixint, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CONFIGURATION: Configuration<LittleEndian, Fixint> = bincode::config::legacy();

/// Appends the encoding of `value`.
pub(crate) fn write<T: Serialize>(value: &T, stream: &mut Vec<u8>) {
    bincode::serde::encode_into_writer(value, Appender(stream), CONFIGURATION).unwrap();
}

/// Copies `stream` into `received`, as a socket does, and reads all values that it holds.
pub(crate) fn read<T: DeserializeOwned>(received: &mut Vec<u8>, stream: &[u8], values: &mut Vec<T>) {
    received.clear();
    received.extend_from_slice(stream);
    let mut left = received.as_slice();
    while !left.is_empty() {
        let (value, used) = bincode::serde::decode_from_slice(left, CONFIGURATION).unwrap();
        values.push(value);
        left = &left[used..];
    }
}

/// `value` as it arrives on the other side.
pub(crate) fn sent<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let mut stream = Vec::new();
    write(value, &mut stream);
    let received = stream.clone();
    bincode::serde::decode_from_slice(&received, CONFIGURATION).unwrap().0
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
