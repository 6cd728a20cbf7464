//! Fetching what is missing, a gap at a time.
//!
//! All of a gap comes from one peer, because only the block behind it shows whether what was fetched is right: where it is
//! not, one knows whose it was. The next peer begins at the gap's beginning. Peers give what is not committed as well: a
//! block that fits on both sides is the right one, whoever has it.
//!
//! Where every peer answers and none has the blocks, nobody will: a peer gets them from another, and this server may have
//! been the only one. So that is the end of waiting, once it has been so for long enough that no answer crossed a block
//! under way; at once, where all of them have lost the blocks for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

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
    /// Nothing now: it has not come as far, or has others that are not committed.
    Lacks(String),
    /// It does not say what it has.
    Silent(String),
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
        let mut tell = |line: String| {
            if told.insert(line.clone()) {
                say(line);
            }
        };
        let mut heard = Instant::now();
        loop {
            let mut waits = None;
            for peer in self.peers.keys() {
                if never.contains(peer) {
                    continue;
                }
                match ask(client, repair, *peer).await? {
                    Given::All(count) => return Ok(Some((*peer, count))),
                    Given::Never(why) => {
                        never.insert(*peer);
                        tell(format!("server {peer}: {why}"));
                    }
                    Given::Lacks(why) => waits = Some(format!("server {peer}: {why}")),
                    Given::Silent(why) => {
                        waits = Some(format!("server {peer}: {why}"));
                        heard = Instant::now();
                    }
                }
                repair.forget()?;
            }
            let is_nowhere = heard.elapsed() > self.election_timeout.saturating_mul(LACKED_TIMEOUTS);
            let Some(reason) = waits.filter(|_| !is_nowhere) else { return Ok(None) };
            tell(format!("blocks {first} to {last} are damaged here, and wait for a server that has them: {reason}"));
            sleep(PAUSE).await;
        }
    }
}

/// Asks one peer for a gap, part by part.
async fn ask(client: &mut Client, repair: &mut Repair, peer: NodeId) -> Result<Given, MendError> {
    let (mut count, mut is_committed) = (0_u64, true);
    while let Some((first, last)) = repair.missing() {
        let (entries, commit_index) = match client.blocks(peer, first, last).await {
            Ok(Blocks::Held { entries, commit_index }) if !entries.is_empty() => (entries, commit_index),
            Ok(Blocks::Compacted { first: held }) => {
                return Ok(Given::Never(format!("its log begins with block {held}")));
            }
            Ok(Blocks::Behind { .. }) => return Ok(Given::Lacks("its log does not reach them yet".into())),
            Ok(Blocks::Held { .. } | Blocks::Unable) => {
                return Ok(Given::Silent("it cannot read them, or has halted".into()));
            }
            Err(error) => return Ok(Given::Silent(error.to_string())),
        };
        let end = entries.last().map_or(first, |entry| entry.index);
        is_committed &= end <= commit_index;
        match repair.take(&entries) {
            Ok(()) => count = count.saturating_add(entries.len() as u64),
            Err(TakeError::Misfit(misfit)) if is_committed => return Ok(Given::Never(misfit.to_string())),
            // They may give way to the right ones yet.
            Err(TakeError::Misfit(misfit)) => return Ok(Given::Lacks(misfit.to_string())),
            Err(TakeError::Open(error)) => return Err(error.into()),
        }
        if repair.is_anchored() {
            break;
        }
    }
    Ok(Given::All(count))
}

/// For so many election timeouts every peer must answer, and lack the blocks, before nobody has them: half a minute.
const LACKED_TIMEOUTS: u32 = 100;
