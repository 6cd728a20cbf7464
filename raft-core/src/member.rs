//! What a configuration knows of its members beside their ids, and the bytes of a configuration.
//!
//! Invariants: only of members is anything kept, and nothing empty; a configuration has one form in bytes.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::quorum::Configuration;
use crate::types::{Incarnation, NodeId};

/// What a configuration knows of a member beside its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which disk votes and acknowledges under this id; unknown until a leader has heard it (fault M10).
    pub incarnation: Incarnation,
    /// Where it is reached, in words that the transport understands; empty where the transport knows by itself.
    pub address: String,
}

impl Configuration {
    /// What is known of this member; `None` where that is nothing.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.place(id).ok().and_then(|at| self.known.get(at)).map(|(_, member)| member)
    }

    /// The member's incarnation; unknown for a stranger.
    #[must_use]
    pub fn incarnation(&self, id: NodeId) -> Incarnation {
        self.member(id).map_or(Incarnation::UNKNOWN, |member| member.incarnation)
    }

    /// Where the member is reached, if this configuration knows.
    #[must_use]
    pub fn address(&self, id: NodeId) -> Option<&str> {
        self.member(id).map(|member| member.address.as_str()).filter(|address| !address.is_empty())
    }

    /// The same, and the member is reached there. A stranger's address is not kept.
    #[must_use]
    pub fn with_address(mut self, id: NodeId, address: impl Into<String>) -> Self {
        self.edit(id, |member| member.address = address.into());
        self
    }

    /// The same, and the member has this incarnation. A stranger's is not kept.
    #[must_use]
    pub fn with_incarnation(mut self, id: NodeId, incarnation: Incarnation) -> Self {
        self.edit(id, |member| member.incarnation = incarnation);
        self
    }

    /// The same, and what it does not know of its members itself is what `before` knew of them.
    pub(crate) fn inheriting(mut self, before: &Self) -> Self {
        for (id, known) in &before.known {
            self.edit(*id, |member| {
                if !member.incarnation.is_known() {
                    member.incarnation = known.incarnation;
                }
                if member.address.is_empty() {
                    member.address.clone_from(&known.address);
                }
            });
        }
        self
    }

    fn edit(&mut self, id: NodeId, change: impl FnOnce(&mut Member)) {
        if !self.is_member(id) {
            return;
        }
        let (at, mut member) = match self.place(id) {
            Ok(at) => (at, self.known.remove(at).1),
            Err(at) => (at, Member::default()),
        };
        change(&mut member);
        if member != Member::default() {
            self.known.insert(at, (id, member));
        }
    }

    fn place(&self, id: NodeId) -> Result<usize, usize> {
        self.known.binary_search_by_key(&id, |(known, _)| *known)
    }
}

// The bytes.
impl Configuration {
    /// Voters, outgoing voters and learners: each a count and as many ids, of 4 bytes, little-endian. Then, where
    /// anything is known of a member, a count and as many records: id 4, incarnation 8, length of the address 4, address.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // A count too large for its field would decode to another configuration, which decoding then refuses.
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::new();
        for ids in [&self.voters, &self.voters_outgoing, &self.learners] {
            bytes.extend(count(ids.len()));
            bytes.extend(ids.iter().flat_map(|id| id.0.to_le_bytes()));
        }
        if !self.known.is_empty() {
            bytes.extend(count(self.known.len()));
        }
        for (id, member) in &self.known {
            bytes.extend(id.0.to_le_bytes());
            bytes.extend(member.incarnation.0.to_le_bytes());
            bytes.extend(count(member.address.len()));
            bytes.extend(member.address.as_bytes());
        }
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes) back; `None` where these bytes are not exactly that of a configuration with
    /// a voter.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut list = || {
            let len = count(&mut rest)?.checked_mul(4)?;
            let ids = take(&mut rest, len)?;
            Some(ids.as_chunks().0.iter().map(|id| NodeId(u32::from_le_bytes(*id))).collect::<Vec<_>>())
        };
        let mut configuration = Self::joint(list()?, list()?, list()?);
        let records = if rest.is_empty() { 0 } else { count(&mut rest)? };
        for _ in 0..records {
            let id = NodeId(u32::from_le_bytes(*array(&mut rest)?));
            let incarnation = Incarnation(u64::from_le_bytes(*array(&mut rest)?));
            let len = count(&mut rest)?;
            let address = core::str::from_utf8(take(&mut rest, len)?).ok()?;
            configuration.edit(id, |member| *member = Member { incarnation, address: String::from(address) });
        }
        // Also refuses what is out of order, twice there, empty, or about a stranger: a hash would tell that apart, and
        // the configuration would not.
        (!configuration.voters.is_empty() && configuration.to_bytes() == bytes).then_some(configuration)
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn array<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

fn count(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*array(rest)?)).ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const ADA: NodeId = NodeId(1);
    const BOB: NodeId = NodeId(2);
    const EVE: NodeId = NodeId(3);

    fn any_configuration() -> impl Strategy<Value = Configuration> {
        let ids = |count| prop::collection::vec((0_u32..9).prop_map(NodeId), count);
        let known = prop::collection::vec((0_u32..9, 0_u64..3, "[a-zé:]{0,3}"), 0..6);
        (ids(1..5), ids(0..3), ids(0..3), known).prop_map(|(voters, outgoing, learners, known)| {
            known.into_iter().fold(
                Configuration::joint(voters, outgoing, learners),
                |made, (id, incarnation, address)| {
                    made.with_incarnation(NodeId(id), Incarnation(incarnation)).with_address(NodeId(id), address)
                },
            )
        })
    }

    proptest! {
        #[test]
        fn a_configuration_reads_back(configuration in any_configuration()) {
            prop_assert_eq!(Configuration::from_bytes(&configuration.to_bytes()), Some(configuration));
        }

        /// Whatever is read has one form in bytes: no two entries that differ hold the same configuration.
        #[test]
        fn other_bytes_are_another_configuration_or_none(
            configuration in any_configuration(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut bytes = configuration.to_bytes();
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] = byte;
            }
            if let Some(read) = Configuration::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![3 => 0_u8..3, 1 => any::<u8>()], 0..60)) {
            if let Some(read) = Configuration::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_is_not_in_the_one_form_is_refused() {
        let lists = Configuration::new([ADA]).to_bytes();
        let record = |id: u32, incarnation: u64, address: &[u8]| {
            let mut bytes = id.to_le_bytes().to_vec();
            bytes.extend(incarnation.to_le_bytes());
            bytes.extend((address.len() as u32).to_le_bytes());
            bytes.extend(address);
            bytes
        };
        let read = |count: u32, records: &[Vec<u8>]| {
            Configuration::from_bytes(&[&lists[..], &count.to_le_bytes(), &records.concat()].concat())
        };
        assert_eq!(read(1, &[record(1, 7, b"a")]).unwrap().address(ADA), Some("a"));
        assert_eq!(read(0, &[]), None, "no records are not counted");
        assert_eq!(read(1, &[record(1, 0, b"")]), None, "a record of nothing");
        assert_eq!(read(1, &[record(2, 7, b"a")]), None, "a stranger");
        assert_eq!(read(2, &[record(1, 7, b"a"), record(1, 7, b"a")]), None, "twice");
        assert_eq!(read(1, &[record(1, 7, b"\xff")]), None, "no text");
        assert_eq!(read(1, &[record(1, 7, b"a"), vec![0]]), None, "something follows");
    }

    #[test]
    fn nothing_known_takes_no_bytes() {
        assert_eq!(Configuration::new([ADA]).to_bytes(), [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn only_of_members_is_anything_kept() {
        let configuration = Configuration::new([ADA]).with_address(BOB, "b").with_incarnation(BOB, Incarnation(2));
        assert_eq!(configuration, Configuration::new([ADA]));
    }

    #[test]
    fn what_is_known_already_is_not_inherited() {
        let before = Configuration::new([ADA, BOB, EVE])
            .with_incarnation(ADA, Incarnation(1))
            .with_address(ADA, "old")
            .with_address(EVE, "gone");
        let after = Configuration::joint([ADA], [], [BOB]).with_address(ADA, "new").inheriting(&before);
        assert_eq!(after.member(ADA), Some(&Member { incarnation: Incarnation(1), address: String::from("new") }));
        assert_eq!((after.member(BOB), after.member(EVE)), (None, None));
    }
}
