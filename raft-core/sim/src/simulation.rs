//! What is simulated: a state machine, the storage under it, and the clients that use it. Yours, or the key-value store's.

use raft_core::{Configuration, Incarnation, NodeId, StateMachine, Storage};
use raft_kv::{BlockLog, ClusterId, KvMachine, LogOptions, SessionLimits, Value};

use crate::disk::SimDisk;
use crate::plan::Plan;
use crate::report::Report;
use crate::workload::Workload;
use crate::workload::kv::KvWorkload;
use crate::world::World;

/// Whole servers in a simulated world, ready to be run from a seed.
///
/// The default is the key-value store as it is in production. To simulate a machine of your own, say how it is made, and
/// what its clients do and expect; see [`Workload`].
///
/// ```
/// let report = raft_sim::Simulation::kv().run(7);
/// assert_eq!(report.failure, None);
/// ```
pub struct Simulation<M, S, W> {
    pub(crate) machine: Box<dyn Fn() -> M + Send + Sync>,
    pub(crate) storage: Box<OpenStorage<S>>,
    pub(crate) workload: Box<dyn Fn(&Plan) -> W + Send + Sync>,
    faults: bool,
}

/// Opens the storage of a server on its disk, or makes it where the disk is empty.
pub type OpenStorage<S> = dyn Fn(SimDisk, &Founding) -> Result<S, String> + Send + Sync;

/// What a storage is founded with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// Whose it is.
    pub server: NodeId,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which founding members.
    pub configuration: Configuration,
    /// Which disk it is.
    pub incarnation: Incarnation,
    /// How long its segments are.
    pub segment_bytes: u64,
}

/// Puts a [`Simulation`] together.
pub struct Builder<M, S, W> {
    simulation: Simulation<M, S, W>,
}

impl Simulation<KvMachine, BlockLog<SimDisk>, KvWorkload> {
    /// The key-value store on its block log.
    #[must_use]
    pub fn kv() -> Self {
        Self::builder().build()
    }

    /// A simulation of the key-value store, to be changed.
    #[must_use]
    pub fn builder() -> Builder<KvMachine, BlockLog<SimDisk>, KvWorkload> {
        let simulation = Self {
            machine: Box::new(|| KvMachine::new(SESSIONS, Value::same_literal)),
            storage: Box::new(open_block_log),
            workload: Box::new(|plan| KvWorkload::new(plan.seed, plan.shape.clients)),
            faults: true,
        };
        Builder { simulation }
    }
}

impl<M: StateMachine, S: Storage, W: Workload> Simulation<M, S, W> {
    /// Runs the plan of this seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Report {
        self.run_plan(self.plan(seed), false)
    }

    /// The plan of this seed.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::draw(seed);
        if !self.faults {
            plan.faults.clear();
        }
        plan
    }

    /// Runs a plan; tells its story where that is asked for.
    #[must_use]
    pub fn run_plan(&self, plan: Plan, with_story: bool) -> Report {
        World::new(self, plan, with_story).run()
    }
}

impl<M, S, W> Builder<M, S, W> {
    /// Another state machine: each server begins with one of these.
    #[must_use]
    pub fn state_machine<N: StateMachine>(self, machine: impl Fn() -> N + Send + Sync + 'static) -> Builder<N, S, W> {
        let Simulation { storage, workload, faults, .. } = self.simulation;
        Builder { simulation: Simulation { machine: Box::new(machine), storage, workload, faults } }
    }

    /// Another storage: opened, or made, on a server's disk at each of its starts.
    #[must_use]
    pub fn storage<T: Storage>(
        self,
        open: impl Fn(SimDisk, &Founding) -> Result<T, String> + Send + Sync + 'static,
    ) -> Builder<M, T, W> {
        let Simulation { machine, workload, faults, .. } = self.simulation;
        Builder { simulation: Simulation { machine, storage: Box::new(open), workload, faults } }
    }

    /// Other clients.
    #[must_use]
    pub fn workload<V: Workload>(self, clients: impl Fn(&Plan) -> V + Send + Sync + 'static) -> Builder<M, S, V> {
        let Simulation { machine, storage, faults, .. } = self.simulation;
        Builder { simulation: Simulation { machine, storage, workload: Box::new(clients), faults } }
    }

    /// Whether anything fails besides what the links and disks of the seed's shape do by themselves.
    #[must_use]
    pub fn faults(mut self, faults: bool) -> Self {
        self.simulation.faults = faults;
        self
    }

    /// That is all.
    #[must_use]
    pub fn build(self) -> Simulation<M, S, W> {
        self.simulation
    }
}

/// Few, so that sessions expire; replies of several writes find room in one.
const SESSIONS: SessionLimits = SessionLimits { sessions_max: 5, reply_bytes_max: 1_000 };

fn open_block_log(disk: SimDisk, founding: &Founding) -> Result<BlockLog<SimDisk>, String> {
    let Founding { cluster, configuration, incarnation, segment_bytes, .. } = founding;
    let options = LogOptions { segment_bytes: *segment_bytes, archive: false };
    BlockLog::open_or_create(disk, *cluster, configuration.clone(), *incarnation, options)
        .map_err(|error| error.to_string())
}
