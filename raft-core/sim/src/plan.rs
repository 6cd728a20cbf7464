//! What happens in a run: its shape and its faults, as data. A plan is drawn from a seed, or read from a file; a run is
//! a function of its plan.

use serde::{Deserialize, Serialize};

use crate::time::Time;

mod calm;
mod draw;
mod stories;

/// Everything that a run depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Seeds every choice that is not in the plan: which message is lost, how long a write takes.
    pub seed: u64,
    /// What the world is like.
    pub shape: Shape,
    /// What goes wrong, by time.
    pub faults: Vec<Timed>,
}

/// One fault and when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// When.
    pub at: Time,
    /// What.
    pub fault: Fault,
}

/// What the world of a run is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Founding voters: servers 1 to so many.
    pub voters: u32,
    /// Servers after those that the operator may add: they wait from the beginning.
    pub others: u32,
    /// How long things go wrong. Then the world heals.
    pub duration: Time,
    /// One tick of a server whose clock is right.
    pub tick: Time,
    /// [`raft_core::Config::election_timeout_ticks`].
    pub election_ticks: u32,
    /// [`raft_core::Config::heartbeat_ticks`].
    pub heartbeat_ticks: u32,
    /// A server takes what arrived within so long together.
    pub turn: Time,
    /// The links.
    pub network: Network,
    /// The disks.
    pub disk: Disk,
    /// What the servers are configured with.
    pub limits: Limits,
    /// How many clients.
    pub clients: u32,
    /// How long a client thinks between two operations, on average.
    pub think: Time,
}

/// What the links are like, all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// No message is faster.
    pub latency_min: Time,
    /// What it takes more, on average.
    pub latency_mean: Time,
    /// Lost, in thousandths.
    pub loss: u32,
    /// Delivered twice, in thousandths.
    pub duplication: u32,
    /// Late, in thousandths, by up to [`late_max`](Self::late_max).
    pub late: u32,
    /// See there.
    pub late_max: Time,
    /// Messages stay in order, but for the late ones.
    pub in_order: bool,
    /// Bytes a millisecond and link; `None` is no limit.
    pub capacity: Option<u64>,
}

/// What the disks are like, all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// No write with its sync is faster.
    pub sync_min: Time,
    /// What it takes more, on average.
    pub sync_mean: Time,
}

/// What a server is configured with: see [`raft_core::Config`] and [`raft_core::Limits`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// `Config`.
    pub max_append_bytes: usize,
    /// `Config`.
    pub max_inflight: usize,
    /// `Config`.
    pub max_uncommitted_bytes: usize,
    /// `Config`.
    pub max_apply_bytes: usize,
    /// `Config`.
    pub window_bytes: usize,
    /// `Config`.
    pub max_chunk_bytes: usize,
    /// `Config`.
    pub tail_entries: u64,
    /// `Limits`.
    pub max_batch_bytes: usize,
    /// `Limits`.
    pub snapshot_every_bytes: Option<usize>,
    /// `Limits`.
    #[serde(default)]
    pub state_digest_every: Option<u64>,
    /// `Config`'s leases, with this bound in ticks: clocks keep it only where none drifts or jumps and nobody pauses.
    #[serde(default)]
    pub lease_drift: Option<u32>,
    /// `LogOptions` of the block log.
    #[serde(default = "segment_bytes")]
    pub segment_bytes: u64,
}

/// Of plans that were written before logs had segments.
const fn segment_bytes() -> u64 {
    16 << 10
}

/// Whom a fault befalls: known only when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// This server.
    Server(u32),
    /// Whoever leads in the highest term; nobody, and then the fault does not happen.
    Leader,
}

/// What goes wrong, or is done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The process dies, and what its disk had not synced is lost in part. It starts again after `down`.
    Crash {
        /// Who.
        target: Target,
        /// How long it is down.
        down: Time,
    },
    /// The same at the moment at which it next begins a write, or ends one: the `writes`-th from now.
    CrashAtWrite {
        /// Who.
        target: Target,
        /// Counts from 1.
        writes: u32,
        /// Whether that write has become durable and was not reported yet.
        durable: bool,
        /// How long it is down.
        down: Time,
    },
    /// SIGSTOP, and after `lasts` SIGCONT: what arrived meanwhile is taken then.
    Pause {
        /// Who.
        target: Target,
        /// How long.
        lasts: Time,
    },
    /// Its clock runs at this speed, in thousandths.
    Drift {
        /// Who.
        target: Target,
        /// 1000 is right.
        permille: u32,
        /// How long.
        lasts: Time,
    },
    /// Its clock jumps: so many ticks at once.
    Jump {
        /// Who.
        target: Target,
        /// How many.
        ticks: u32,
    },
    /// Its state is another from now on, as its digest tells, and no other server's: a bit of its memory has flipped. So until
    /// it starts anew or restores a snapshot. What it answers stays right, so that everything else is still held to be. For
    /// worlds in which no server is ever the only voter: its state would be the majority's.
    AlteredState {
        /// Who.
        target: Target,
    },
    /// Only servers of one side hear each other. Who is on no side hears nobody.
    Partition {
        /// The sides; a server may be on several: a bridge.
        sides: Vec<Vec<u32>>,
        /// How long.
        lasts: Time,
    },
    /// Nobody hears it and it hears nobody.
    Isolate {
        /// Who.
        target: Target,
        /// How long.
        lasts: Time,
    },
    /// What it says is lost; it hears. Or the other way round.
    OneWay {
        /// Who.
        target: Target,
        /// Whether it is what it says, rather than what it hears.
        says: bool,
        /// How long.
        lasts: Time,
    },
    /// Each server hears only the two beside it.
    Chain {
        /// How long.
        lasts: Time,
    },
    /// What this link carries is held back, and arrives in one burst.
    Clog {
        /// From.
        from: u32,
        /// To.
        to: u32,
        /// How long.
        lasts: Time,
    },
    /// What this link carries takes another way, and arrives so much later, in order: what is sent afterwards overtakes it.
    Detour {
        /// From.
        from: u32,
        /// To.
        to: u32,
        /// How long.
        lasts: Time,
        /// How much later.
        longer: Time,
    },
    /// Its writes take so many times as long.
    SlowDisk {
        /// Who.
        target: Target,
        /// 2 and more.
        factor: u32,
        /// How long.
        lasts: Time,
    },
    /// Its writes do not end.
    StuckDisk {
        /// Who.
        target: Target,
        /// How long.
        lasts: Time,
    },
    /// Its next write, or the sync of it, fails. The process then stands still until somebody starts it again.
    FailedWrite {
        /// Who.
        target: Target,
        /// How long that takes.
        down: Time,
    },
    /// Its reads fail.
    FailedReads {
        /// Who.
        target: Target,
        /// How long.
        lasts: Time,
    },
    /// Its disk is full.
    FullDisk {
        /// Who.
        target: Target,
        /// How long.
        lasts: Time,
    },
    /// Bits of its file flip, of what later writes vouch for. It crashes and does not start: the operator replaces it.
    BitRot {
        /// Who.
        target: Target,
        /// How long it is down.
        down: Time,
    },
    /// It loses its files and starts with an empty disk: the operator removes it and adds it again.
    LostFiles {
        /// Who.
        target: Target,
        /// How long it is down.
        down: Time,
        /// Whether it crashes once more while it founds the new file, and leaves that torn.
        #[serde(default)]
        torn: bool,
    },
    /// The operator asks for these members.
    Membership {
        /// Who votes.
        voters: Vec<u32>,
        /// Who only learns.
        learners: Vec<u32>,
        /// Whether new voters catch up first.
        catch_up: bool,
    },
    /// The operator asks whoever leads to hand leadership to this server.
    Transfer {
        /// To whom.
        to: u32,
    },
    /// Whoever leads is told to stop soon, and hands over to whom it likes.
    HandOver,
    /// The operator asks for a snapshot.
    Snapshot {
        /// Of whom.
        target: Target,
    },
    /// The operator asks for a snapshot as soon as there is something new in it.
    NextSnapshot {
        /// Of whom.
        target: Target,
    },
}

impl Fault {
    /// Its kind in a word or two, for tables.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::CrashAtWrite { .. } => "crash at a write",
            Self::Pause { .. } => "pause",
            Self::Drift { .. } => "clock drift",
            Self::Jump { .. } => "clock jump",
            Self::AlteredState { .. } => "altered state",
            Self::Partition { .. } => "partition",
            Self::Isolate { .. } => "isolation",
            Self::OneWay { .. } => "one-way cut",
            Self::Chain { .. } => "chain of servers",
            Self::Clog { .. } => "clog",
            Self::Detour { .. } => "detour",
            Self::SlowDisk { .. } => "slow disk",
            Self::StuckDisk { .. } => "stuck disk",
            Self::FailedWrite { .. } => "failed write",
            Self::FailedReads { .. } => "failed reads",
            Self::FullDisk { .. } => "full disk",
            Self::BitRot { .. } => "bit rot",
            Self::LostFiles { .. } => "lost files",
            Self::Membership { .. } => "membership change",
            Self::Transfer { .. } => "leadership transfer",
            Self::HandOver => "handover",
            Self::Snapshot { .. } | Self::NextSnapshot { .. } => "snapshot",
        }
    }
}
