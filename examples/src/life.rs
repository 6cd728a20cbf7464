//! A server's lives: it opens its files, serves, and where they are damaged closes, has them mended, and serves again. Where
//! its state is not what a majority has, it closes, and makes it anew from its files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use raft_core::{Action, Fault, LogIndex, NodeId, StartError, Storage, StorageError};
use raft_kv::recording::Recorder;
use raft_kv::{BlockLog, FileDisk, Genesis, KvMachine, OpenError, repair};
use raft_net_tcp::mend::{Mended, Patient};
use raft_net_tcp::{BindError, Notice, Server, ServerConfig, ServerHandle, Waker, draw_incarnation};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::notices;
use crate::remedy::Ended;
use crate::scrub::Scrubber;
use crate::server::{Args, say};

pub(crate) type Log = Recorder<BlockLog<FileDisk>>;
pub(crate) type Handle = ServerHandle<Log, KvMachine>;

/// How much longer a tick is for a delay: an election timeout of 15 ticks is 6 delays longer, and an election takes 4 of
/// them (a message and its answer, for the pre-vote and for the vote).
const TICK_PER_DELAY: f32 = 0.4;

/// Who has found that a life is to end says it here.
type Ends = watch::Sender<Option<Ended>>;

/// The server that runs, for the prompt.
pub(crate) type Prompt = Arc<Mutex<Option<Handle>>>;

/// Mends the files, or starts over where there is a reason to trust nothing of them. What was done; `None` where the server is
/// told to stop meanwhile.
pub(crate) fn mend(patient: &Patient, distrust: Option<String>) -> Result<Option<Mended>, String> {
    let id = patient.id;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot mend its files: {error}"))?;
    let tell = |line| say(&format!("server {id}: {line}"));
    let mend = async {
        match distrust {
            None => patient.mend(tell).await,
            Some(why) => patient.start_over(why, tell).await,
        }
    };
    let mended = runtime.block_on(async {
        tokio::select! {
            mended = mend => Some(mended),
            () = asked_to_stop() => None,
        }
    });
    let mended = mended.transpose().map_err(|error| error.to_string())?;
    if let Some(mended) = &mended {
        say(&format!("server {id}: {mended}"));
    }
    Ok(mended)
}

/// Serves until it is told to stop, or finds that its files are damaged or its state is wrong.
pub(crate) fn serve(
    args: &Args,
    patient: &Patient,
    listen: SocketAddr,
    addresses: BTreeMap<NodeId, SocketAddr>,
    remarks: Vec<String>,
    prompt: &Prompt,
) -> Result<Ended, String> {
    let (id, directory, waker) = (patient.id, &patient.dir, Waker::new());
    let log = match open(patient, &waker)? {
        Ok(log) => log,
        Err(place) => return Ok(Ended::Damaged(place)),
    };
    let (last, held) = (log.last_index(), held(&log));
    let is_rejoining = repair::is_rejoining(directory);
    let mut config = ServerConfig { remarks, ..config(args, patient.genesis.cluster.0, listen, addresses) };
    config.raft.is_founder = !args.join && !is_rejoining;
    config.requests.snapshot_every_bytes = usize::try_from(u64::from(args.snapshot_mib) << 20).ok();
    let (notices, printer) = notices::printer(format!("server {id}"));
    let log = match &args.record {
        Some(directory) => {
            let max_bytes = args.record_max_mib.saturating_mul(1 << 20);
            Recorder::start(log, &config.raft, directory, max_bytes, printer.one_line())
                .map_err(|error| error.to_string())?
        }
        None => Recorder::off(log),
    };
    let recording = log.path().map(|path| format!(", it is recorded in {}", path.display())).unwrap_or_default();
    let (ends, ended) = watch::channel(None);
    // By then the state that the files make has been compared, or nobody knew better.
    let compared = last.0.saturating_add(config.requests.state_digest_every.unwrap_or(0));
    let watched = watched(notices, ends.clone(), LogIndex(compared));
    let server = match Server::bind(config, log, KvMachine::default(), waker, watched) {
        Ok(server) => server,
        Err(BindError::Start(StartError::Storage(error))) => return damaged(id, error).map(Ended::Damaged),
        Err(error) => return Err(error.to_string()),
    };
    let server = server.proving(|log| log.inner_mut());
    let (server, redis) = serving_redis(args, server, listen)?;
    say(&format!(
        "server {id} listens on {listen}{redis}, its files are in {} ({held}){recording}",
        directory.display()
    ));
    if last == LogIndex(0) && args.join {
        say(&format!("it waits until a client adds it: add {id} {listen}"));
    }
    if let Ok(mut slot) = prompt.lock() {
        *slot = Some(server.handle());
    }
    if is_rejoining {
        rejoin(patient.clone(), listen);
    }
    let scrubber = scrubber(args, patient, server.handle(), ends);
    let ran = run_until(server, ended);
    drop(scrubber);
    printer.finish();
    ran
}

/// What a server is configured with, whatever its files hold.
pub(crate) fn config(
    args: &Args,
    cluster: [u8; 16],
    listen: SocketAddr,
    addresses: BTreeMap<NodeId, SocketAddr>,
) -> ServerConfig {
    let mut config = ServerConfig::new(NodeId(u32::from(args.id)), cluster, listen, addresses);
    config.delay = Duration::from_millis(args.delay_ms);
    config.tick = config.tick.saturating_add(config.delay.mul_f32(TICK_PER_DELAY));
    config
}

/// With a port for Redis clients where one is asked for, and what to say of it.
fn serving_redis(
    args: &Args,
    server: Server<Log, KvMachine>,
    listen: SocketAddr,
) -> Result<(Server<Log, KvMachine>, String), String> {
    let Some(port) = args.resp_port else { return Ok((server, String::new())) };
    let address = SocketAddr::new(listen.ip(), port);
    let server = server.serving_redis(address).map_err(|error| error.to_string())?;
    Ok((server, format!(", and on {address} for Redis clients")))
}

/// Opens the log, or founds it; or gives the place where it is damaged, which is said.
fn open(patient: &Patient, waker: &Waker) -> Result<Result<BlockLog<FileDisk>, String>, String> {
    let notify = waker.clone();
    let disk = FileDisk::open(&patient.dir, move || notify.wake()).map_err(|error| error.to_string())?;
    // Asked under the lock: whoever started over before may have had it until now.
    if repair::is_starting_over(&patient.dir) {
        return Ok(Err(patient.dir.display().to_string()));
    }
    let Genesis { cluster, configuration } = patient.genesis.clone();
    match BlockLog::open_or_create(disk, cluster, configuration, draw_incarnation(), patient.options) {
        Ok(log) => Ok(Ok(log)),
        Err(OpenError::Storage(error)) => damaged(patient.id, error).map(Err),
        Err(error) => Err(error.to_string()),
    }
}

/// Says that the files are damaged, and gives the place.
///
/// # Errors
/// Another error.
fn damaged(id: NodeId, error: StorageError) -> Result<String, String> {
    match error {
        // What is wrong, and all of it, is said when it is mended.
        StorageError::Damaged { place, .. } => {
            say(&format!("server {id}: its files are damaged at {place}: they are to be mended"));
            Ok(place)
        }
        error => Err(error.to_string()),
    }
}

/// Hands notices on; a halt because the files are not what was written, or the state not what they make, ends this life.
/// Up to `compared`, no state that the files make is known to have been right.
fn watched(mut notices: impl FnMut(Notice) + Send, ends: Ends, compared: LogIndex) -> impl FnMut(Notice) + Send {
    move |notice| {
        match &notice {
            Notice::Raft(Action::Halt(Fault::Storage(StorageError::Damaged { place, .. }))) => {
                ends.send_replace(Some(Ended::Damaged(place.clone())));
            }
            Notice::Raft(Action::Halt(Fault::StateDiverged { index } | Fault::StateRotted { index })) => {
                ends.send_replace(Some(Ended::Diverged { index: *index, is_first: *index <= compared }));
            }
            _ => {}
        }
        notices(notice);
    }
}

fn scrubber(args: &Args, patient: &Patient, handle: Handle, ends: Ends) -> Scrubber {
    let id = patient.id;
    Scrubber::start(patient.dir.clone(), args.scrub_mib_s, move |words, is_damage| {
        if is_damage {
            say(&format!("server {id}: scrub: {words}"));
            ends.send_replace(Some(Ended::Damaged(words.clone())));
        }
        // It may have stopped meanwhile.
        let _ = handle.with_blocking(move |control| control.remark("scrub", &words));
    })
}

fn run_until(server: Server<Log, KvMachine>, mut ended: watch::Receiver<Option<Ended>>) -> Result<Ended, String> {
    let found = Arc::new(OnceLock::new());
    let slot = found.clone();
    let ran = server.run_blocking(async move {
        tokio::select! {
            () = asked_to_stop() => {}
            Ok(why) = ended.wait_for(Option::is_some) => {
                slot.get_or_init(|| why.clone());
            }
        }
    });
    ran.map_err(|error| format!("cannot run: {error}"))?;
    Ok(found.get().cloned().flatten().unwrap_or(Ended::AskedTo))
}

/// Has the cluster take this server's new log for its own, while it runs.
fn rejoin(patient: Patient, listen: SocketAddr) {
    // One asks through all lives of this process.
    static ASKS: AtomicBool = AtomicBool::new(false);
    if ASKS.swap(true, Ordering::Relaxed) {
        return;
    }
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let id = patient.id;
        runtime.block_on(patient.rejoin(listen, |line| say(&format!("server {id}: {line}"))));
        match repair::rejoined(&patient.dir) {
            Ok(()) => say(&format!("server {id}: it is a member again, and votes")),
            Err(error) => say(&format!("server {id}: it is a member again, and will ask to be one anew: {error}")),
        }
        ASKS.store(false, Ordering::Relaxed);
    });
}

/// `blocks 1 to 70 in 2 segments`, with the snapshot that they follow.
fn held(log: &BlockLog<FileDisk>) -> String {
    let (first, last, segments) = (log.first_index(), log.last_index(), log.segment_count());
    let blocks = if first > last { String::from("no blocks") } else { format!("blocks {first} to {last}") };
    let snapshot = log.snapshot_meta().map(|meta| meta.last_included_index).unwrap_or_default();
    let of = if snapshot > LogIndex(0) { format!(", a snapshot of block {snapshot}") } else { String::new() };
    format!("{blocks} in {segments} segment{}{of}", if segments == 1 { "" } else { "s" })
}

/// SIGINT or SIGTERM.
async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
