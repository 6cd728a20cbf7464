//! The bytes of a snapshot of the key-value machine.

use serde::{Deserialize, Serialize};

use super::{Store, Stored};
use crate::codec;
use crate::command::{Key, Pair};
use crate::session::{SessionLimits, SessionRecord, Sessions};

/// The first piece of a snapshot. The sessions follow by name, then by canonical key the pairs, each with the height of
/// the block that wrote it last.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// [`FORMAT`].
    pub(super) format: u64,
    pub(super) limits: SessionLimits,
    pub(super) opened: u64,
    /// How many follow.
    pub(super) sessions: u64,
    /// How many follow.
    pub(super) pairs: u64,
}

/// "kvstate" and the version of the snapshot's format.
pub(super) const FORMAT: u64 = u64::from_le_bytes(*b"kvstate\x02");

/// The state that a snapshot is of. Only what [`StateMachine::snapshot`] can give is taken.
pub(super) fn parse(snapshot: &[u8]) -> Result<(Store, Sessions), String> {
    let mut rest = snapshot;
    let header: Header = next(&mut rest)?;
    if header.format != FORMAT {
        return Err(other_format(header.format));
    }
    // Not a capacity: nobody has vouched for these numbers.
    let records = (0..header.sessions).map(|_| next::<SessionRecord>(&mut rest));
    let sessions = Sessions::from_records(header.limits, header.opened, records)?;
    let mut store = Store::default();
    for _ in 0..header.pairs {
        let (Pair { key: Key { canonical, literal }, value }, written) = next(&mut rest)?;
        if store.pairs.last_key_value().is_some_and(|(last, _)| *last >= canonical) {
            return Err("the keys are not in order".into());
        }
        store.insert(canonical, Stored { literal, value, written });
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
