//! The tree and its proofs, against the definitions of RFC 6962 taken at their word.

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::Term;

use super::*;
use crate::{block, codec};

fn sha(parts: &[&[u8]]) -> Digest {
    Digest(Sha256::digest(parts.concat()).into())
}

/// MTH, §2.1: recomputed from the leaves.
fn naive_root(hashes: &[Digest]) -> Digest {
    match hashes {
        [] => sha(&[]),
        [only] => sha(&[&[0], &only.0]),
        _ => {
            let (left, right) = hashes.split_at(split(hashes.len()));
            sha(&[&[1], &naive_root(left).0, &naive_root(right).0])
        }
    }
}

/// PATH, §2.1.1.
fn naive_path(at: usize, hashes: &[Digest]) -> Vec<Digest> {
    if hashes.len() == 1 {
        return Vec::new();
    }
    let (left, right) = hashes.split_at(split(hashes.len()));
    let (mut path, other) = match at.checked_sub(left.len()) {
        None => (naive_path(at, left), right),
        Some(at) => (naive_path(at, right), left),
    };
    path.push(naive_root(other));
    path
}

/// SUBPROOF, §2.1.2.
fn naive_subproof(size: usize, hashes: &[Digest], is_whole: bool) -> Vec<Digest> {
    if size == hashes.len() {
        return if is_whole { Vec::new() } else { vec![naive_root(hashes)] };
    }
    let (left, right) = hashes.split_at(split(hashes.len()));
    let (mut path, other) = match size.checked_sub(left.len()).filter(|rest| *rest > 0) {
        None => (naive_subproof(size, left, is_whole), right),
        Some(rest) => (naive_subproof(rest, right, false), left),
    };
    path.push(naive_root(other));
    path
}

/// The largest power of two below.
fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}

/// A chain, its tree, and the head of each of its beginnings.
fn chain(len: u64) -> (Vec<Block>, Tree, Vec<Head>) {
    let (mut tree, mut small) = (Tree::keeping_nodes(), Tree::new());
    let (mut blocks, mut heads, mut prev_hash) = (Vec::new(), Vec::new(), Digest([0; 32]));
    for height in 0..len {
        let (height, term, kind) = (LogIndex(height), Term(1 + height / 3), 1);
        let payload = Bytes::from(format!("payload {height}"));
        let hash = block::hash(&prev_hash, height, term, kind, &payload);
        tree.push(&hash);
        small.push(&hash);
        assert_eq!(small.head(), tree.head());
        heads.extend(tree.head());
        blocks.push(Block { height, term, kind, prev_hash, hash, payload });
        prev_hash = hash;
    }
    (blocks, tree, heads)
}

fn hashes(blocks: &[Block]) -> Vec<Digest> {
    blocks.iter().map(|block| block.hash).collect()
}

/// Whether the text is a proof that holds for this head.
fn holds(text: &[u8], trusted: &Digest) -> bool {
    match serde_json::from_slice(text) {
        Ok(Proof::Block(proof)) => proof.verify_for(trusted).is_ok(),
        Ok(Proof::Prefix(proof)) => proof.verify_for(trusted).is_ok(),
        Err(_) => false,
    }
}

#[test]
fn every_block_and_every_beginning_of_small_chains_is_proved_as_the_rfc_has_it() {
    let (blocks, tree, heads) = chain(33);
    for (size, head) in (1..).zip(&heads) {
        let hashes = hashes(&blocks[..size]);
        assert_eq!(head.root, naive_root(&hashes), "{size} blocks");
        for block in &blocks[..size] {
            let proof = tree.prove_block(block, head).unwrap();
            assert_eq!(proof.path, naive_path(block.height.0 as usize, &hashes));
            assert_eq!(proof.verify_for(&head.id()), Ok(()));
        }
        for older in &heads[..size] {
            let proof = tree.prove_prefix(older, head).unwrap();
            assert_eq!(proof.path, naive_subproof(older.size() as usize, &hashes, true));
            assert_eq!(proof.verify_for(&older.id()), Ok(()));
        }
    }
}

/// Computed apart from this crate (Python's hashlib): these are formats, and must never change.
#[test]
fn roots_and_ids_are_the_documented_bytes() {
    let mut tree = Tree::new();
    assert_eq!((tree.head(), tree.size()), (None, 0));
    (0..3).for_each(|byte| tree.push(&Digest([byte; 32])));
    let head = tree.head().unwrap();
    assert_eq!(head.root.to_string(), ROOT);
    assert_eq!(head.id().to_string(), ID);
    let text = serde_json::to_string(&head).unwrap();
    assert_eq!(text, format!(r#"{{"height":2,"hash":"{}","root":"{ROOT}","id":"{ID}"}}"#, "02".repeat(32)));
}

const ROOT: &str = "ba8d94b7fbcecae7b81c4c80574fe24734a6917bf9c1ecd66ff3e0c34ead4620";
const ID: &str = "6e18e4b113de92d568b63b7831cd9b70c0b8253af0d097fe6d999cd68c11afe3";

/// An RFC 6962 path alone would hold for trees of several sizes.
#[test]
fn a_head_of_another_height_is_another_head() {
    let (blocks, tree, heads) = chain(7);
    let mut proof = tree.prove_block(&blocks[0], &heads[6]).unwrap();
    proof.head.height = LogIndex(7);
    assert_eq!(proof.verify(), Ok(()), "the tree cannot tell, so the id does");
    assert!(matches!(proof.verify_for(&heads[6].id()), Err(ProofError::OtherHead { .. })));
}

/// All proofs of a few sizes around runs of 256; the same as of the whole tree, from two runs' hashes at most.
#[test]
fn runs_prove_what_the_whole_tree_proves_and_read_two_runs() {
    let (blocks, tree, heads) = chain(1100);
    let mut runs = Runs::default();
    assert_eq!(runs.head(), None);
    let mut reads = 0_usize;
    for (block, head) in blocks.iter().zip(&heads) {
        assert_eq!(runs.next(), block.height);
        runs.push(&block.hash);
        assert_eq!(runs.head(), Some(*head));
    }
    let at = [0, 1, 7, 254, 255, 256, 257, 511, 512, 767, 768, 900, 1023, 1024, 1098, 1099];
    for (older, newer) in at.iter().flat_map(|older| at.iter().map(move |newer| (*older, *newer))) {
        let mut read = |height: LogIndex| {
            reads += 1;
            Ok::<_, ProofError>(blocks[height.0 as usize].hash)
        };
        let (first, last) = (LogIndex(older), LogIndex(newer));
        let block = runs.prove_block(&blocks[older as usize], last, &mut read);
        let prefix = runs.prove_prefix(first, last, &mut read);
        assert!(reads <= 4 * 256, "{reads} reads for two proofs");
        reads = 0;
        if older > newer {
            assert_eq!(block, Err(ProofError::NotInChain { height: first, head: last }));
            assert_eq!(prefix, Err(ProofError::NotOlder { older: first, newer: last }));
            continue;
        }
        let (older, newer) = (&heads[older as usize], &heads[newer as usize]);
        assert_eq!(block, tree.prove_block(&blocks[older.height.0 as usize], newer));
        assert_eq!(prefix, tree.prove_prefix(older, newer));
    }
}

#[test]
fn runs_prove_nothing_beyond_their_end_and_nothing_of_changed_hashes() {
    let (blocks, _, _) = chain(300);
    let mut runs = Runs::default();
    blocks.iter().for_each(|block| runs.push(&block.hash));
    let read = |height: LogIndex| Ok::<_, ProofError>(blocks[height.0 as usize].hash);
    for height in [300, 301, u64::MAX].map(LogIndex) {
        assert_eq!(runs.prove_prefix(LogIndex(1), height, read), Err(ProofError::OtherChain { height }));
        assert_eq!(runs.prove_block(&blocks[1], height, read), Err(ProofError::OtherChain { height }));
    }
    let wrong = |height: LogIndex| Ok::<_, ProofError>(blocks[height.0 as usize % 299].hash);
    let proof = runs.prove_prefix(LogIndex(3), LogIndex(299), wrong).unwrap();
    assert_ne!(Some(proof.newer), runs.head(), "what is read counts: a disk that changed shows as another head");
    let gone = ProofError::NoNodes;
    assert_eq!(runs.prove_prefix(LogIndex(3), LogIndex(299), |_| Err::<Digest, _>(gone)), Err(gone));
}

#[test]
fn proofs_travel_as_bytes_that_are_no_text() {
    let (blocks, tree, heads) = chain(9);
    let block = tree.prove_block(&blocks[3], &heads[8]).unwrap();
    let prefix = tree.prove_prefix(&heads[4], &heads[8]).unwrap();
    let bytes = codec::encode(&block);
    assert_eq!(codec::decode::<BlockProof>(&bytes), Ok(block.clone()));
    assert_eq!(codec::decode::<PrefixProof>(&codec::encode(&prefix)), Ok(prefix));
    assert!(bytes.len() < 500, "{} bytes: the text has {}", bytes.len(), serde_json::to_vec(&block).unwrap().len());
    let mut changed = bytes;
    changed[0] ^= 1;
    assert!(codec::decode::<BlockProof>(&changed).is_err(), "the head's id is not that of the rest");
}

#[test]
fn what_cannot_be_proved_is_said() {
    let (blocks, tree, heads) = chain(6);
    let mut other = Tree::keeping_nodes();
    (0..9).for_each(|byte| other.push(&Digest([byte; 32])));
    let others = other.head().unwrap();
    assert_eq!(Tree::new().prove_block(&blocks[0], &heads[0]), Err(ProofError::NoNodes));
    assert_eq!(tree.prove_prefix(&heads[2], &others), Err(ProofError::OtherChain { height: LogIndex(8) }));
    assert_eq!(other.prove_prefix(&heads[2], &others), Err(ProofError::OtherChain { height: LogIndex(2) }));
    let (height, head) = (LogIndex(4), LogIndex(3));
    assert_eq!(tree.prove_block(&blocks[4], &heads[3]), Err(ProofError::NotInChain { height, head }));
    let wrong_way = ProofError::NotOlder { older: LogIndex(5), newer: LogIndex(1) };
    assert_eq!(tree.prove_prefix(&heads[5], &heads[1]), Err(wrong_way));
    let stranger = Block { payload: Bytes::from_static(b"another"), hash: Digest([9; 32]), ..blocks[2].clone() };
    let (height, head) = (LogIndex(2), LogIndex(5));
    assert_eq!(tree.prove_block(&stranger, &heads[5]), Err(ProofError::NotInChain { height, head }));
}

#[test]
fn a_forked_history_has_no_proof() {
    let (_, tree, heads) = chain(12);
    let (mut fork, mut forked) = (Tree::keeping_nodes(), Vec::new());
    for height in 0..12_u8 {
        fork.push(&if height == 4 { Digest([9; 32]) } else { heads[usize::from(height)].hash });
        forked.extend(fork.head());
    }
    for (older, newer) in [(5, 11), (7, 11), (4, 5), (3, 4)] {
        let honest = tree.prove_prefix(&heads[older], &heads[newer]).unwrap();
        let mut lie = PrefixProof { newer: forked[newer], ..honest };
        assert!(lie.verify_for(&heads[older].id()).is_err() || older == 3);
        lie.path = fork.prove_prefix(&forked[older], &forked[newer]).unwrap().path;
        assert_eq!(lie.verify_for(&heads[older].id()).is_ok(), older == 3, "they fork behind block 3");
    }
}

/// Every byte of the files, in every way that changes one bit, and in some that change more.
#[test]
fn every_changed_byte_of_a_proof_is_refused() {
    let (blocks, tree, heads) = chain(7);
    let block = Proof::Block(tree.prove_block(&blocks[2], &heads[6]).unwrap());
    let prefix = Proof::Prefix(tree.prove_prefix(&heads[2], &heads[6]).unwrap());
    for (proof, trusted) in [(block, heads[6].id()), (prefix, heads[2].id())] {
        let text = serde_json::to_vec(&proof).unwrap();
        assert!(holds(&text, &trusted));
        for at in 0..text.len() {
            for other in (0..8).map(|bit| text[at] ^ 1 << bit).chain([b'0', b'9', b'f', b'F', b' ', b'"']) {
                let mut changed = text.clone();
                changed[at] = other;
                assert!(other == text[at] || !holds(&changed, &trusted), "byte {at} as {}", other as char);
            }
        }
    }
}

#[test]
fn the_longest_chain_that_is_claimed_panics_nowhere() {
    let (blocks, tree, heads) = chain(3);
    for height in [u64::MAX, 1 << 63, (1 << 63) - 1, HEIGHT_END, HEIGHT_END - 1] {
        let head = Head { height: LogIndex(height), ..heads[2] };
        let path = vec![Digest([1; 32]); 62];
        let block = Block { height: LogIndex(height), ..blocks[2].clone() };
        for block in [block, blocks[2].clone()] {
            assert!(BlockProof { head, block, path: path.clone() }.verify().is_err());
        }
        assert!(PrefixProof { older: heads[1], newer: head, path: path.clone() }.verify().is_err());
        assert!(PrefixProof { older: head, newer: Head { root: head.hash, ..head }, path }.verify().is_err());
        assert!(tree.prove_prefix(&heads[1], &head).is_err() && tree.prove_block(&blocks[0], &head).is_err());
    }
}

proptest! {
    #[test]
    fn longer_chains_are_proved_as_the_rfc_has_it(
        len in 1_u64..400, at in any::<prop::sample::Index>(), older in any::<prop::sample::Index>(),
    ) {
        let (blocks, tree, heads) = chain(len);
        let (head, hashes) = (*heads.last().unwrap(), hashes(&blocks));
        prop_assert_eq!(head.root, naive_root(&hashes));
        let at = at.index(blocks.len());
        let proof = tree.prove_block(&blocks[at], &head).unwrap();
        prop_assert_eq!(&proof.path, &naive_path(at, &hashes));
        prop_assert_eq!(proof.verify_for(&head.id()), Ok(()));
        let older = heads[older.index(heads.len())];
        let proof = tree.prove_prefix(&older, &head).unwrap();
        prop_assert_eq!(&proof.path, &naive_subproof(older.size() as usize, &hashes, true));
        prop_assert_eq!(proof.verify_for(&older.id()), Ok(()));
    }

    #[test]
    fn a_proof_reads_back_and_any_change_of_it_is_refused(
        len in 1_u64..40, at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(),
        other in 0x21_u8..0x7f,
    ) {
        let (blocks, tree, heads) = chain(len);
        let (older, head) = (at.get(&heads), *heads.last().unwrap());
        let block = Proof::Block(tree.prove_block(at.get(&blocks), &head).unwrap());
        let prefix = Proof::Prefix(tree.prove_prefix(older, &head).unwrap());
        for (proof, trusted) in [(block, head.id()), (prefix, older.id())] {
            let mut text = serde_json::to_vec(&proof).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Proof>(&text).unwrap(), proof);
            let byte = byte.index(text.len());
            let is_same = text[byte] == other;
            text[byte] = other;
            prop_assert_eq!(holds(&text, &trusted), is_same);
        }
    }

    #[test]
    fn no_text_panics(
        text in ".{0,60}", path in prop::collection::vec(any::<[u8; 32]>(), 0..9), height in any::<u64>(),
    ) {
        let _ = holds(text.as_bytes(), &Digest([0; 32]));
        let (_, _, heads) = chain(2);
        let (path, newer) = (path.into_iter().map(Digest).collect(), Head { height: LogIndex(height), ..heads[1] });
        let proof = PrefixProof { older: heads[0], newer, path };
        prop_assert!(proof.verify().is_err() || height == 1);
    }
}
