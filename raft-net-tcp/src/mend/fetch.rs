//! Fetching what is missing, a gap at a time.
//!
//! All of a gap comes from one peer, because only the block behind it shows whether what was fetched is right: where it is
//! not, one knows whose it was. The next peer begins at the gap's beginning. Peers give what is not committed as well: a
//! block that fits on both sides is the right one, whoever has it.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::{LogIndex, NodeId};
use raft_kv::repair::{Repair, TakeError};
use tokio::time::sleep;

use super::{MendError, PAUSE, Patient};
use crate::client::Client;
use crate::protocol::Blocks;

/// What was fetched, and from whom; or why nobody is to be waited for.
pub(super) enum Fetched {
    All(BTreeMap<NodeId, u64>),
    Nobody(String),
}

/// What one peer gave of a gap.
enum Given {
    /// All of it, so many blocks.
    All(u64),
    /// Nothing, now or ever.
    Never(String),
    /// Nothing now.
    Later(String),
}

impl Patient {
    pub(super) async fn fetch(&self, repair: &mut Repair, say: &mut impl FnMut(String)) -> Result<Fetched, MendError> {
        let mut client = self.client();
        let mut fetched = BTreeMap::new();
        while let Some(gap) = repair.missing() {
            if self.peers.is_empty() {
                return Err(self.alone(format!("blocks {} to {} are damaged", gap.0, gap.1)));
            }
            let Some((peer, count)) = self.fill(&mut client, repair, gap, say).await? else {
                return Ok(Fetched::Nobody(format!("no other server holds blocks {} to {} any more", gap.0, gap.1)));
            };
            let of = fetched.entry(peer).or_insert(0_u64);
            *of = of.saturating_add(count);
        }
        Ok(Fetched::All(fetched))
    }

    /// Asks one peer after the other, until one has given all of this gap; `None` where none ever will.
    async fn fill(
        &self,
        client: &mut Client,
        repair: &mut Repair,
        (first, last): (LogIndex, LogIndex),
        say: &mut impl FnMut(String),
    ) -> Result<Option<(NodeId, u64)>, MendError> {
        let (mut never, mut told) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let mut waits = None;
            for peer in self.peers.keys() {
                if never.contains(peer) {
                    continue;
                }
                let why = match ask(client, repair, *peer).await? {
                    Given::All(count) => return Ok(Some((*peer, count))),
                    Given::Never(why) => {
                        never.insert(*peer);
                        why
                    }
                    Given::Later(why) => {
                        waits = Some(format!("server {peer}: {why}"));
                        why
                    }
                };
                repair.forget()?;
                let line = format!("server {peer}: {why}");
                if waits.as_ref() != Some(&line) && told.insert(line.clone()) {
                    say(line);
                }
            }
            let Some(reason) = waits else { return Ok(None) };
            let line =
                format!("blocks {first} to {last} are damaged here, and wait for a server that has them: {reason}");
            if told.insert(line.clone()) {
                say(line);
            }
            sleep(PAUSE).await;
        }
    }
}

/// Asks one peer for a gap, part by part.
async fn ask(client: &mut Client, repair: &mut Repair, peer: NodeId) -> Result<Given, MendError> {
    let mut count = 0_u64;
    while let Some((first, last)) = repair.missing() {
        let (entries, commit_index) = match client.blocks(peer, first, last).await {
            Ok(Blocks::Held { entries, commit_index }) if !entries.is_empty() => (entries, commit_index),
            Ok(Blocks::Compacted { first: held }) => {
                return Ok(Given::Never(format!("its log begins with block {held}")));
            }
            Ok(Blocks::Behind { .. }) => return Ok(Given::Later("its log does not reach them yet".into())),
            Ok(Blocks::Held { .. } | Blocks::Unable) => {
                return Ok(Given::Later("it cannot read them, or has halted".into()));
            }
            Err(error) => return Ok(Given::Later(error.to_string())),
        };
        let end = entries.last().map_or(first, |entry| entry.index);
        match repair.take(&entries) {
            Ok(()) => count = count.saturating_add(entries.len() as u64),
            // What is not committed there may give way to the right ones yet.
            Err(TakeError::Misfit(misfit)) if commit_index < end => return Ok(Given::Later(misfit.to_string())),
            Err(TakeError::Misfit(misfit)) => return Ok(Given::Never(misfit.to_string())),
            Err(TakeError::Open(error)) => return Err(error.into()),
        }
        if repair.is_anchored() {
            break;
        }
    }
    Ok(Given::All(count))
}
