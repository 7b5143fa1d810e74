//! How much the statements of a user may take: memory of one, rows of an answer, how many run at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, TaskContext};
use parking_lot::Mutex;

use super::{Identity, RoleLimits};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::state::context;

impl Identity {
    /// The bounds of its statements: of each the widest that a role sets; none where no role sets one.
    pub fn limits(&self) -> RoleLimits {
        let of = |role: &Arc<super::RoleDef>| role.limits.clone();
        self.roles.iter().map(of).reduce(wider).unwrap_or_default()
    }
}

fn wider(a: RoleLimits, b: RoleLimits) -> RoleLimits {
    RoleLimits {
        timeout: a.timeout.max(b.timeout),
        memory_bytes: a.memory_bytes.max(b.memory_bytes),
        rows: a.rows.max(b.rows),
        concurrency: a.concurrency.max(b.concurrency),
        connections: a.connections.max(b.connections),
    }
}

/// How many statements of each user run now.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<HashMap<String, usize>>);

impl Running {
    /// What a statement of a user may take; none without a bound. It counts as running as long as this is held.
    pub(crate) fn begin(self: &Arc<Self>, identity: &Identity) -> SqlResult<Option<Allowance>> {
        let limits = identity.limits();
        let place = limits.concurrency.map(|most| self.enter(&identity.user, most)).transpose()?;
        let memory = limits.memory_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let none = limits.rows.is_none() && memory.is_none() && place.is_none();
        Ok((!none).then(|| Allowance { rows: limits.rows, memory, _place: place.map(Arc::new) }))
    }

    fn enter(self: &Arc<Self>, user: &str, most: usize) -> SqlResult<Place> {
        let mut running = self.0.lock();
        let count = running.entry(user.to_owned()).or_default();
        if *count >= most {
            let message = format!("user \"{user}\" runs {count} statements, the most at a time");
            return Err(SqlError::new(sqlstate::TOO_MANY, message)
                .with_hint("wait until one has ended; open cursors count too"));
        }
        *count += 1;
        Ok(Place { running: Arc::clone(self), user: user.to_owned() })
    }
}

/// One of the statements of a user that run at a time.
#[derive(Debug)]
struct Place {
    running: Arc<Running>,
    user: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.0.lock();
        let left = running.get(&self.user).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => running.remove(&self.user),
            left => running.insert(self.user.clone(), left),
        };
    }
}

/// What one statement may take.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    rows: Option<u64>,
    /// Bytes.
    memory: Option<usize>,
    _place: Option<Arc<Place>>,
}

impl Allowance {
    /// Bytes that the statement may hold; none = no bound of its own.
    pub(crate) fn memory(&self) -> Option<usize> {
        self.memory
    }

    /// Refuses an answer that has become too long.
    pub(crate) fn check_rows(&self, rows: u64) -> SqlResult<()> {
        match self.rows {
            Some(most) if rows > most => {
                let message =
                    format!("the answer has more than {most} rows, the most for this role");
                Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, message)
                    .with_hint("add LIMIT, a condition, or aggregate"))
            }
            _ => Ok(()),
        }
    }

    /// The context of a plan, with the statement's own share of the memory.
    pub(crate) fn context(&self, state: &SessionState) -> DfResult<Arc<TaskContext>> {
        let Some(most) = self.memory else { return Ok(Arc::new(context(state))) };
        let shared = state.runtime_env();
        let pool = Share { all: Arc::clone(&shared.memory_pool), most, held: AtomicUsize::new(0) };
        let runtime = RuntimeEnvBuilder::from_runtime_env(shared).with_memory_pool(Arc::new(pool));
        Ok(Arc::new(context(state).with_runtime(Arc::new(runtime.build()?))))
    }
}

/// The part of all memory that one statement may hold.
#[derive(Debug)]
struct Share {
    all: Arc<dyn MemoryPool>,
    /// Bytes.
    most: usize,
    held: AtomicUsize,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share of {} bytes", self.most)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &'static str {
        "share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.held.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.all.shrink(reservation, shrink);
        self.held.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        let more = |held: usize| held.checked_add(additional).filter(|held| *held <= self.most);
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if taken.is_err() {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "the statement needs more than {} bytes of memory, the most for this role",
                self.most
            )));
        }
        self.all.try_grow(reservation, additional).inspect_err(|_| {
            self.held.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.most)
    }
}
