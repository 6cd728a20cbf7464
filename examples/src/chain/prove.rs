//! `chain prove` and `chain check`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use raft_core::{Digest, LogIndex};
use raft_kv::inspect::{FoundBlock, Inspection};
use raft_kv::proof::{BlockProof, Head, PrefixProof, Proof, ProofError, Tree};

use super::{Answer, Ended, inspect, missing_text, note, progress, text};

/// What to prove.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ProveArgs {
    /// A server's directory, or a copy of one
    dir: PathBuf,
    /// The block
    #[arg(required_unless_present = "since")]
    height: Option<u64>,
    /// In the chain up to this height: a decided block, for the last ones of a log may be replaced yet [default: the
    /// last]
    #[arg(long, value_name = "HEIGHT")]
    at: Option<u64>,
    /// Proves that the chain goes on from this older head: a file that holds a head, or a proof for one
    #[arg(long, value_name = "FILE", conflicts_with = "height")]
    since: Option<PathBuf>,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What to check.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The proof
    proof: PathBuf,
    /// The head that you trust, and kept: its id, or a file that holds it or a proof for it. Of a proof that a chain
    /// goes on, the older one
    #[arg(long, value_name = "ID-OR-FILE")]
    head: Option<String>,
}

pub(super) fn prove(args: &ProveArgs) -> Answer {
    let since = args.since.as_deref().map(read_head).transpose()?;
    let found = inspect(&args.dir)?;
    let tree = tree(args, &found)?;
    let head = tree.head().ok_or_else(|| Ended::Bad("the genesis cannot be read: see chain verify".into()))?;
    let proof = match (since, args.height) {
        (Some(older), _) => Proof::Prefix(tree.prove_prefix(&older, &head).map_err(refused)?),
        (None, height) => {
            let block = block(&found, LogIndex(height.unwrap_or_default()))?;
            let block =
                block.whole().ok_or_else(|| Ended::Bad("the block before is damaged: see chain verify".into()))?;
            Proof::Block(tree.prove_block(&block, &head).map_err(refused)?)
        }
    };
    let json = serde_json::to_string_pretty(&proof).map_err(|error| Ended::Bad(error.to_string()))?;
    let Some(out) = &args.out else {
        return writeln!(std::io::stdout(), "{json}").map_err(|_| Ended::Unread);
    };
    let written = std::fs::write(out, format!("{json}\n"));
    written.map_err(|error| Ended::Unusable(format!("cannot write {}: {error}", out.display())))?;
    note(&format!("{} proves that {}", out.display(), said(&proof)));
    Ok(())
}

pub(super) fn check(args: &CheckArgs) -> Answer {
    let bytes = read(&args.proof)?;
    let bad = |what: String| Ended::Bad(format!("{}: {what}", args.proof.display()));
    let proof: Proof =
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("no proof, or a changed one: {error}")))?;
    let trusted = args.head.as_deref().map(trusted).transpose()?;
    let (head, verified) = match (&proof, trusted) {
        (Proof::Block(proof), Some(id)) => (proof.head, proof.verify_for(&id)),
        (Proof::Block(proof), None) => (proof.head, proof.verify()),
        (Proof::Prefix(proof), Some(id)) => (proof.older, proof.verify_for(&id)),
        (Proof::Prefix(proof), None) => (proof.older, proof.verify()),
    };
    verified.map_err(|error| bad(error.to_string()))?;
    let mut lines = vec![said(&proof)];
    if let Proof::Block(BlockProof { block, .. }) = &proof {
        lines.push(text::block(&FoundBlock::from(block.clone())));
    }
    writeln!(std::io::stdout(), "{}", lines.join("\n")).map_err(|_| Ended::Unread)?;
    if trusted.is_none() {
        let id = head.id();
        note(&format!(
            "the proof agrees with itself; whether its head is right only one that you kept tells: --head {id}"
        ));
    }
    Ok(())
}

/// What a proof says.
fn said(proof: &Proof) -> String {
    match proof {
        Proof::Block(BlockProof { head, block, .. }) => {
            format!("block {} is in the chain up to block {}, head {}", block.height, head.height, head.id())
        }
        Proof::Prefix(PrefixProof { older, newer, .. }) => {
            let heads = format!("head {}, goes on from head {}", newer.id(), older.id());
            format!("the chain up to block {}, {heads} at block {}", newer.height, older.height)
        }
    }
}

/// The tree over the blocks that the head is to be over.
fn tree(args: &ProveArgs, found: &Inspection) -> Result<Tree, Ended> {
    let dir = args.dir.display();
    if !found.is_sound() {
        return Err(Ended::Bad(format!(
            "{dir} is damaged: see chain verify, and prove from another server's directory"
        )));
    }
    let last = found.ranges().last().map_or(LogIndex(0), |(_, last)| last);
    let end = args.at.map_or(last, LogIndex);
    if end > last {
        return Err(Ended::Bad(format!("block {end} is not there: the last is block {last}")));
    }
    let first_missing = match found.ranges().next() {
        Some((first, _)) if first > LogIndex(1) => Some((LogIndex(1), first.prev())),
        Some((_, last)) if last < end => Some((last.next(), last.next())),
        _ => None,
    };
    if let Some((first, last)) = first_missing {
        let missing = missing_text(found, first, last);
        return Err(Ended::Bad(format!(
            "a proof needs every block from 0 on, and {missing}. Prove from the directory of a server that has had \
             --archive from its beginning on"
        )));
    }
    let bar = progress::bar("{wide_bar} {pos}/{len} blocks, {eta} left", 0);
    bar.set_length(end.0);
    let mut tree = Tree::keeping_nodes();
    for block in found.blocks(LogIndex(0), end) {
        let block = block.map_err(|error| Ended::Bad(error.to_string()))?;
        tree.push(&block.hash);
        if block.height.0.is_multiple_of(PROGRESS_BLOCKS) {
            bar.set_position(block.height.0);
        }
    }
    bar.finish_and_clear();
    Ok(tree)
}

fn block(found: &Inspection, height: LogIndex) -> Result<FoundBlock, Ended> {
    let block = found.block(height).map_err(|error| Ended::Bad(error.to_string()))?;
    let last = found.ranges().last().map_or(LogIndex(0), |(_, last)| last);
    block.ok_or_else(|| Ended::Bad(format!("block {height} is not there: the last is block {last}")))
}

fn refused(error: ProofError) -> Ended {
    Ended::Bad(error.to_string())
}

/// The id of the head that is trusted.
fn trusted(text: &str) -> Result<Digest, Ended> {
    let path = Path::new(text);
    match from_hex(text) {
        Some(id) => Ok(id),
        None if path.exists() => read_head(path).map(|head| head.id()),
        None => {
            let what = "neither a head's id, which is 64 hexadecimal digits, nor a file";
            Err(Ended::Unusable(format!("--head {text}: {what}")))
        }
    }
}

/// The head in a file, or the one that a proof in it is for: the newest that it shows.
fn read_head(path: &Path) -> Result<Head, Ended> {
    let bytes = read(path)?;
    let unusable = |error: &dyn std::fmt::Display| Ended::Unusable(format!("{}: {error}", path.display()));
    if let Ok(head) = serde_json::from_slice(&bytes) {
        return Ok(head);
    }
    let proof = serde_json::from_slice(&bytes)
        .map_err(|error| unusable(&format!("neither a head nor a proof, or a changed one: {error}")))?;
    let (head, verified) = match &proof {
        Proof::Block(proof) => (proof.head, proof.verify()),
        Proof::Prefix(proof) => (proof.newer, proof.verify()),
    };
    verified.map(|()| head).map_err(|error| unusable(&error))
}

fn read(path: &Path) -> Result<Vec<u8>, Ended> {
    std::fs::read(path).map_err(|error| Ended::Unusable(format!("cannot read {}: {error}", path.display())))
}

fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(Digest(digest))
}

/// The bar moves this often.
const PROGRESS_BLOCKS: u64 = 1024;
