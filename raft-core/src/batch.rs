//! Many commands in one entry: each as its length (four bytes, little-endian) and its bytes.
//!
//! Everything that is paid per entry (link, message, disk record, progress) is paid once a batch.

use alloc::vec::Vec;

use bytes::Bytes;

/// Commands packed one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(Vec<u8>);

/// The commands of a batch, in order. Ends at the first length that the bytes do not hold.
#[derive(Clone, Debug)]
pub struct Commands<'a>(&'a [u8]);

impl Batch {
    /// Adds a command. `false`, and nothing added, where its length does not fit four bytes.
    pub fn push(&mut self, command: &[u8]) -> bool {
        let Ok(length) = u32::try_from(command.len()) else { return false };
        self.0.reserve(Self::cost(command));
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(command);
        true
    }

    /// Bytes that a command takes in a batch.
    #[must_use]
    pub const fn cost(command: &[u8]) -> usize {
        command.len().saturating_add(size_of::<u32>())
    }

    /// Bytes so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no command.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its commands.
    #[must_use]
    pub fn commands(&self) -> Commands<'_> {
        Commands(&self.0)
    }

    /// The payload of an entry.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.0.into()
    }
}

impl<'a> Commands<'a> {
    /// The commands that an entry's payload holds.
    #[must_use]
    pub const fn of(payload: &'a [u8]) -> Self {
        Self(payload)
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (command, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(commands in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..10)) {
            let mut batch = Batch::default();
            let mut cost = 0;
            for command in &commands {
                prop_assert!(batch.push(command));
                cost += Batch::cost(command);
            }
            prop_assert_eq!((batch.len(), batch.is_empty()), (cost, commands.is_empty()));
            prop_assert!(batch.commands().eq(&commands));
            prop_assert!(Commands::of(&batch.into_payload()).eq(&commands));
        }

        #[test]
        fn garbage_ends_and_invents_nothing(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let total: usize = Commands::of(&bytes).take(bytes.len() + 1).map(Batch::cost).sum();
            prop_assert!(total <= bytes.len());
        }
    }

    #[test]
    fn a_batch_is_empty_until_a_command_is_in_it() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        assert!(batch.push(b""));
        assert!(!batch.is_empty());
    }
}
