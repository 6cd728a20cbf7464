//! CRC-32C, by which files and frames of ours show damage: by vector instructions, where the processor has them.

use crc_fast::{CrcAlgorithm, Digest};

/// Of these bytes.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Of the bytes of both, one behind the other.
pub(crate) fn crc32c_of_both(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    u32::try_from(digest.finalize()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out_however_it_is_split() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        for at in 0..=9 {
            let (first, second) = b"123456789".split_at(at);
            assert_eq!(crc32c_of_both(first, second), 0xe306_9283);
        }
    }
}
