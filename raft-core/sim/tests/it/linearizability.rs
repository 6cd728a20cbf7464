//! The checker against histories whose verdict is known: by hand, by the definition, by another checker.

mod by_hand;
mod histories;
mod large;
mod oracles;

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_sim::Time;
use raft_sim::linearizability::kv::{KvInput, KvModel, KvOperation, KvOutput, check_keys};
use raft_sim::linearizability::{CheckError, NotLinearizable, check};

/// From the first moment to the second, both included.
fn did(client: u32, input: KvInput, from: u64, to: u64, output: KvOutput) -> KvOperation {
    KvOperation { client, input, invoked: Time(from), returned: Some((Time(to), output)) }
}

/// From that moment on, and never answered.
fn pending(client: u32, input: KvInput, from: u64) -> KvOperation {
    KvOperation { client, input, invoked: Time(from), returned: None }
}

fn bytes(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

/// As the model alone, and as the histories of keys: the verdict is the same.
fn verdict(history: &[KvOperation]) -> Result<(), Box<NotLinearizable>> {
    let alone = check(&KvModel, history);
    let keyed = check_keys(&BTreeMap::from([("key", history.to_vec())])).map_err(|error| error.error);
    let of = |error| match error {
        CheckError::NotLinearizable(why) => why,
        undecided => panic!("{undecided}"),
    };
    assert_eq!(alone.is_ok(), keyed.is_ok(), "{alone:?} and {keyed:?}: {history:#?}");
    keyed.map_err(of)?;
    alone.map_err(of)
}

fn is_linearizable(history: &[KvOperation]) -> bool {
    verdict(history).is_ok()
}
