//! `verify` and `prove <key>`: the history that the cluster tells, and a block of it to show to others.

use raft_core::Commands;
use raft_kv::literal::Literal;
use raft_kv::proof::{Head, Proof};
use raft_kv::{Block, Command, Operation};
use raft_net_tcp::{KvClient, KvError, Verified};
use serde_json::json;

use super::{Exit, MISSING, Response, hash};

pub(super) async fn verify(client: &mut KvClient) -> Result<Response, KvError> {
    let Verified { server, head, since } = client.verify().await?;
    let checked = match since {
        Some(since) => format!(
            "it goes on from block {}, head {}, which was seen before: nothing up to there was changed or taken away",
            since.height,
            since.id()
        ),
        None => "it is taken on trust: no head was seen before (client --head FILE keeps them)".into(),
    };
    let text = format!("the chain of server {server} up to block {}, head {}\n{checked}", head.height, head.id());
    let short = |head: Head| json!({"height": head.height.0, "head": head.id().to_string()});
    let fields = [
        ("height", json!(head.height.0)),
        ("hash", hash(Some(head.hash))),
        ("head", json!(head.id().to_string())),
        ("since", json!(since.map(short))),
    ];
    Ok(Response::ok("verify", text, fields))
}

/// Proves the block that the servers name as the one that wrote the key last. That one did write it anybody can see in
/// the proof; that none did later only they say.
pub(super) async fn prove(client: &mut KvClient, key: &Literal) -> Result<Response, KvError> {
    let written = client.written(key.key().into()).await?;
    let Some(height) = written.value else {
        return Ok(Response::error("prove", &format!("{MISSING}: no block to prove"), Exit::Failed).from(&written));
    };
    let proof = client.prove_block(height).await?;
    let head = proof.head;
    if !writes(&proof.block, &key.key()) {
        let error = format!("server {} named block {height}, which does not write the key", written.server);
        return Ok(Response::error("prove", &error, Exit::Failed).from(&written));
    }
    let proof = Proof::Block(proof);
    let text = serde_json::to_string_pretty(&proof).unwrap_or_default();
    let fields = [("height", json!(height.0)), ("head", json!(head.id().to_string())), ("proof", json!(proof))];
    let note = format!(
        "prove: block {height} wrote the key, and is in the chain up to block {}; for chain check --head {}. That no \
         later block writes it, only the servers say",
        head.height,
        head.id()
    );
    Ok(Response { note: Some(note), ..Response::ok("prove", text, fields) })
}

/// Whether a command in the block writes the key with these canonical bytes.
fn writes(block: &Block, canonical: &[u8]) -> bool {
    let is_it = |operation: &Operation| operation.key().is_some_and(|key| key.canonical == canonical);
    Commands::of(&block.payload).any(|command| match Command::decode(command) {
        Ok(Command::Write { operation: Operation::Transaction { operations }, .. }) => operations.iter().any(is_it),
        Ok(Command::Write { operation, .. }) => is_it(&operation),
        _ => false,
    })
}
