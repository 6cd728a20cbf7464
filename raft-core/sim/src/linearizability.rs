//! Whether what clients were told could have been the truth.
//!
//! # What it means
//!
//! Clients call a service at the same time; a call begins (*invoked*), takes a while, and ends (*returned*) with an
//! output. Such a history is **linearizable** (Herlihy and Wing, 1990) where every operation can be given one moment
//! between its beginning and its end, such that the outputs are what one machine gives that does the operations one
//! after the other, at those moments. Then nobody can tell the replicated service from one machine.
//!
//! ```text
//!  client 1   |--- put 1 ---|    |--- put 2 ---|
//!  client 2        |-- get: 1 --|
//!  client 3                          |-- get: 2 --|  |-- get: 1 --|
//! ```
//!
//! The first two reads are right: each can come after the write it saw. The third is not: it began when `put 2` was
//! over, and had been read. A stale read. Three rules follow from the definition:
//!
//! * An operation that ended before another began comes before it. All others are free: in particular those that touch
//!   at one moment, the end of one and the beginning of the other.
//! * An operation that never ended (a *pending* one: its client gave up, or the run was over) may take effect at any
//!   time after it began, or never. That a client heard nothing tells nothing.
//! * A history of many keys is linearizable exactly where that of each key is, if no operation touches two of them. So
//!   each key is checked alone, which is far cheaper.
//!
//! # How it is found
//!
//! The problem is NP-complete (Gibbons and Korach, 1997), yet fast where few operations overlap. The algorithm is that
//! of Wing and Gong (1993) with Lowe's memory (2017): a search, depth first, that places one operation after the other.
//!
//! 1. Beginnings and ends of all operations stand in a linked list, by time. What stands before the first end can come
//!    next: nothing that is left ended before it began. If the [`Model`] allows the output in the present state, the
//!    operation is placed: its two events are lifted out of the list. If the list is empty, an order is found.
//! 2. If nothing can come next, the last placed operation is unlifted, into its old place, and the next one tried.
//! 3. Two orders of the same operations that lead to the same state have the same future. So each pair of placed
//!    operations and state is kept, and entered once. The set of operations is a bit each, from the first that is not
//!    placed to the last that could be, compared bit by bit: no two sets are taken for one because of a hash.
//!
//! Four things keep the search from what cannot matter:
//!
//! * What can come next and only reads, comes next, and nothing else is tried: whatever comes after it does so as well
//!   without it.
//! * A pending operation is placed only where nothing else can be, and never where what follows it would have had the
//!   same effect without it.
//! * Of two pending operations with equal inputs, the earlier one is used first.
//! * To have used fewer pending operations is never worse: a pair as above is not entered again with more of them.
//!
//! So the time is proportional to the length of the history, unless many writes overlap. It can still explode, and is
//! therefore bounded: see [`check_within`].
//!
//! # Use
//!
//! Describe your service as a [`Model`], record [`Operation`]s, and call [`check`], or [`check_by_key`]. For the KV
//! machine all that is there: [`kv`].

mod history;
pub mod kv;
mod report;
mod search;
mod seen;

use std::fmt::{Debug, Display};
use std::hash::Hash;

pub use report::NotLinearizable;

use crate::time::Time;
use history::History;
use search::{Search, Verdict};

/// What a service does, one operation after the other.
pub trait Model {
    /// What it remembers.
    type State: Clone + Eq + Hash + Debug;
    /// What a client asks.
    type Input: PartialEq + Debug;
    /// What a client is told.
    type Output: Debug;

    /// The state before all operations.
    fn initial(&self) -> Self::State;

    /// The state after this operation; `None` where it cannot have this output in this state. Without an output any is
    /// possible, so there is always a next state: the input alone decides which.
    fn step(&self, state: &Self::State, input: &Self::Input, output: Option<&Self::Output>) -> Option<Self::State>;

    /// Whether an operation with this output changes nothing, in whichever state it is possible: a read, a swap that
    /// failed. `false` is always right; where it is `true`, the check is faster. (A write of what is there already is
    /// none of these: in another state it would change something.)
    fn only_reads(&self, input: &Self::Input, output: Option<&Self::Output>) -> bool {
        let _ = (input, output);
        false
    }
}

/// What one client asked, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// Who, for people: the checker goes by the times alone.
    pub client: u32,
    /// What it asked.
    pub input: I,
    /// When it asked first.
    pub invoked: Time,
    /// When it was told what; `None` where it never was, and the operation may have happened or may yet.
    pub returned: Option<(Time, O)>,
}

/// The operations that a model speaks of.
pub type OperationOf<M> = Operation<<M as Model>::Input, <M as Model>::Output>;

/// Why a history is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// No order explains it.
    #[error(transparent)]
    NotLinearizable(Box<NotLinearizable>),
    /// It is not known: too many orders are possible.
    #[error("undecided after {configurations} configurations: too many operations overlap")]
    Undecided {
        /// Sets of placed operations with a state that were looked at.
        configurations: u64,
    },
}

/// Why the history of one key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {key}: {error}")]
pub struct KeyError {
    /// Which key.
    pub key: String,
    /// Why.
    pub error: CheckError,
}

/// Configurations that [`check`] looks at before it gives up: some seconds and some hundred megabytes.
pub const CONFIGURATIONS_MAX: u64 = 2_000_000;

/// Whether these operations, in any order, are a linearizable history of one object.
///
/// ```
/// use raft_sim::Time;
/// use raft_sim::linearizability::{CheckError, Model, Operation, check};
///
/// /// A number that can be written and read.
/// struct Register;
///
/// #[derive(Debug, PartialEq)]
/// enum Input {
///     Write(u64),
///     Read,
/// }
///
/// impl Model for Register {
///     type State = u64;
///     type Input = Input;
///     /// What a read saw; a write is told nothing.
///     type Output = Option<u64>;
///
///     fn initial(&self) -> u64 {
///         0
///     }
///
///     fn step(&self, state: &u64, input: &Input, output: Option<&Option<u64>>) -> Option<u64> {
///         match (input, output) {
///             (Input::Write(value), _) => Some(*value),
///             (Input::Read, None) => Some(*state),
///             (Input::Read, Some(seen)) => (*seen == Some(*state)).then_some(*state),
///         }
///     }
/// }
///
/// let operation = |client, input, invoked, returned, output| Operation {
///     client,
///     input,
///     invoked: Time::millis(invoked),
///     returned: Some((Time::millis(returned), output)),
/// };
/// let mut history = vec![
///     operation(1, Input::Write(7), 0, 10, None),
///     operation(2, Input::Read, 5, 8, Some(7)),
/// ];
/// assert_eq!(check(&Register, &history), Ok(()));
///
/// // A read that begins after another saw 7 cannot see what was there before.
/// history.push(operation(3, Input::Read, 9, 12, Some(0)));
/// let Err(CheckError::NotLinearizable(why)) = check(&Register, &history) else { panic!("a stale read is accepted") };
/// assert_eq!(why.stuck, 2);
/// println!("{why}");
/// ```
///
/// # Errors
/// They are not, or it is not known after [`CONFIGURATIONS_MAX`].
pub fn check<M: Model>(model: &M, operations: &[OperationOf<M>]) -> Result<(), CheckError> {
    // A configuration for each operation is needed even if nothing overlaps.
    check_within(model, operations, CONFIGURATIONS_MAX.saturating_add(operations.len() as u64))
}

/// As [`check`], looking at `configurations` at most. Each takes a model step for every operation that can come next,
/// and a few hundred bytes.
///
/// # Errors
/// They are not, or it is not known after so many.
pub fn check_within<M: Model>(model: &M, operations: &[OperationOf<M>], configurations: u64) -> Result<(), CheckError> {
    check_as(model, operations, operations, configurations)
}

/// As [`check`], for operations on many objects: each is checked alone.
///
/// # Errors
/// One of them is not accepted: the first, in the order given.
pub fn check_by_key<'a, M, K>(
    model: &M,
    histories: impl IntoIterator<Item = (K, &'a [OperationOf<M>])>,
) -> Result<(), KeyError>
where
    M: Model,
    M::Input: 'a,
    M::Output: 'a,
    K: Display,
{
    for (key, operations) in histories {
        check(model, operations).map_err(|error| KeyError { key: key.to_string(), error })?;
    }
    Ok(())
}

/// Checks `simplified`, and speaks of `operations`: the same ones, and neither is linearizable unless the other is.
fn check_as<M: Model>(
    model: &M,
    operations: &[OperationOf<M>],
    simplified: &[OperationOf<M>],
    configurations: u64,
) -> Result<(), CheckError> {
    let history = History::new(model, simplified);
    let mut search = Search::new(model, &history);
    match search.run(configurations) {
        Verdict::Linearizable => Ok(()),
        Verdict::Undecided => Err(CheckError::Undecided { configurations }),
        Verdict::NotLinearizable { furthest } => {
            // The same way again, up to where it was best: what it had placed there need not be kept all the time.
            let mut search = Search::new(model, &history);
            search.run(furthest);
            let report = NotLinearizable::new(model, operations, search.placed(), &search.candidates());
            Err(CheckError::NotLinearizable(Box::new(report)))
        }
    }
}
