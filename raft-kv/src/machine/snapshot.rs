//! The bytes of a snapshot of the key-value machine.

use raft_core::{Digest, LogIndex};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::canonical::Canonical;
use super::store::{Store, Stored};
use super::sum::PairSum;
use crate::codec;
use crate::session::{SessionLimits, SessionRecord, SessionSum, Sessions};

/// The first piece of a snapshot. The sessions follow by name, then by canonical key the pairs, each with the height of
/// the block that wrote it last.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// [`FORMAT`].
    pub(super) format: u64,
    pub(super) shape: Shape,
}

/// What a state is but for its sessions and pairs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) limits: SessionLimits,
    pub(super) opened: u64,
    /// How many follow.
    pub(super) sessions: u64,
    /// How many follow.
    pub(super) pairs: u64,
}

impl Shape {
    /// The digest of the state that has this shape and sessions and pairs of these sums: SHA-256 of the three. The snapshot's
    /// format is no part of it, so that a log is replayed alike by programs that write snapshots differently.
    pub(super) fn digest(&self, sessions: &SessionSum, pairs: &PairSum) -> Digest {
        let hasher = Sha256::new().chain_update(codec::encode(self));
        let sessions = if raft_core::bug!(SessionsNotInSnapshot) { [0; 16] } else { sessions.to_bytes() };
        Digest(hasher.chain_update(sessions).chain_update(pairs.to_bytes()).finalize().into())
    }
}

/// A [`Pair`](crate::Pair), in its parts, and the height that wrote it.
type PairRecord<'a> = (((&'a Bytes, Option<&'a Bytes>), &'a Bytes), LogIndex);

/// Appends what [`parse`] reads of a pair.
pub(super) fn encode_pair(canonical: &Canonical, stored: &Stored, out: &mut Vec<u8>) {
    let key = (Bytes::new(canonical), stored.literal().map(Bytes::new));
    let record: PairRecord<'_> = ((key, Bytes::new(stored.value())), stored.written);
    codec::encode_into(&record, out);
}

/// "kvstate" and the version of the snapshot's format.
pub(super) const FORMAT: u64 = u64::from_le_bytes(*b"kvstate\x03");

/// The state that a snapshot is of. Only what [`StateMachine::snapshot`] can give is taken.
pub(super) fn parse(snapshot: &[u8]) -> Result<(Store, Sessions), String> {
    let mut rest = snapshot;
    let Header { format, shape } = next(&mut rest)?;
    if format != FORMAT {
        return Err(other_format(format));
    }
    // Not a capacity: nobody has vouched for these numbers.
    let records = (0..shape.sessions).map(|_| next::<SessionRecord>(&mut rest));
    let sessions = Sessions::from_records(shape.limits, shape.opened, records)?;
    let mut store = Store::default();
    for _ in 0..shape.pairs {
        let (((canonical, literal), value), written): PairRecord<'_> = next(&mut rest)?;
        if store.pairs.last_key_value().is_some_and(|(last, _)| last[..] >= canonical[..]) {
            return Err("the keys are not in order".into());
        }
        store.insert(canonical[..].into(), Stored::new(literal.map(|literal| &literal[..]), value, written));
    }
    if rest.is_empty() { Ok((store, sessions)) } else { Err(format!("{} bytes left behind it", rest.len())) }
}

/// The version is the highest byte.
fn other_format(found: u64) -> String {
    let [name @ .., version] = found.to_le_bytes();
    let [known_name @ .., known] = FORMAT.to_le_bytes();
    if name == known_name {
        format!("its format has version {version}, and this program reads version {known}")
    } else {
        "it is the state of another machine".into()
    }
}

fn next<'de, T: Deserialize<'de>>(rest: &mut &'de [u8]) -> Result<T, String> {
    codec::decode_next(rest).map_err(|error| error.to_string())
}
