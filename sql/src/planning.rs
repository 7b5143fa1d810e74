//! Planning ends soon after its statement does: between its rules it looks whether anybody still waits. The values
//! that it builds of constants count as memory of the statement.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::error::{SqlError, SqlResult, sqlstate};

/// Rules of the planner between two looks.
const RULES_BETWEEN: usize = 1;
/// Bytes that a plan takes for each node of its syntax tree, about.
const NODE_BYTES: u64 = 1 << 10;
/// Nodes that are not counted: a small statement is planned however full the memory is.
const FREE_NODES: u64 = 1_000;

thread_local! {
    /// The statement planned on this thread: what says that it is over, and what it may take.
    static PLANNED: RefCell<Option<(Arc<AtomicBool>, Arc<Taken>)>> = const { RefCell::new(None) };
    /// When the text that is read on this thread must have been read.
    static READ_BY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Memory that the planning of a statement takes, given back with its plan.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Of the memory of all queries; none = not counted.
    reservation: Option<MemoryReservation>,
    /// Most bytes.
    most: usize,
    /// Whether more was asked for: a call that fails when it is folded would be left to run later.
    refused: AtomicBool,
}

impl Taken {
    /// At most so many bytes.
    pub(crate) fn new(reservation: MemoryReservation, most: usize) -> Self {
        Self { reservation: Some(reservation), most, refused: AtomicBool::new(false) }
    }

    /// Counts so many bytes more.
    pub(crate) fn take(&self, bytes: u64) -> DfResult<()> {
        let Some(reservation) = self.reservation.as_ref().filter(|_| bytes > 0) else {
            return Ok(());
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let fits = reservation.size().saturating_add(bytes) <= self.most;
        if fits && reservation.try_grow(bytes).is_ok() {
            return Ok(());
        }
        self.refused.store(true, Ordering::Relaxed);
        Err(self.refusal().into())
    }

    fn refusal(&self) -> SqlError {
        let message = "out of memory for the statement's constants";
        let detail = format!("they would take more than {} MiB", self.most >> 20);
        let e = SqlError::new(sqlstate::OUT_OF_MEMORY, message).with_detail(detail);
        e.with_hint("write fewer or shorter constants")
    }

    /// Fails once more was asked for than there is.
    fn check(&self) -> DfResult<()> {
        match self.refused.load(Ordering::Relaxed) {
            true => Err(self.refusal().into()),
            false => Ok(()),
        }
    }
}

/// Counts what a call builds of constants alone, if that happens while its statement is planned.
pub(crate) fn take(bytes: u64) -> DfResult<()> {
    let taken = PLANNED.with_borrow(|planned| planned.as_ref().map(|(_, taken)| Arc::clone(taken)));
    taken.map_or(Ok(()), |taken| taken.take(bytes))
}

/// Whether a statement is planned on this thread, and nothing runs yet.
pub(crate) fn is_under_way() -> bool {
    PLANNED.with_borrow(Option::is_some)
}

/// Counts the plan of a syntax tree of so many nodes.
pub(crate) fn take_nodes(nodes: u64) -> SqlResult<()> {
    take(nodes.saturating_sub(FREE_NODES).saturating_mul(NODE_BYTES)).map_err(SqlError::from)
}

/// Reads a text, which [`in_time`] refuses to go on with after `by`.
pub(crate) fn read_by<T>(by: Option<Instant>, read: impl FnOnce() -> T) -> T {
    let before = READ_BY.replace(by);
    let done = read();
    READ_BY.set(before);
    done
}

/// Fails once the text that is read has taken its time.
pub(crate) fn in_time() -> SqlResult<()> {
    match READ_BY.get() {
        Some(by) if Instant::now() >= by => Err(SqlError::timed_out()),
        _ => Ok(()),
    }
}

/// Runs planning work that ends with an error soon after `over` is set. It sees that only where it is polled
/// on threads that plan nothing else in between.
pub(crate) async fn until<T>(
    over: Arc<AtomicBool>,
    taken: Arc<Taken>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(move |cx| {
        let before = PLANNED.replace(Some((Arc::clone(&over), Arc::clone(&taken))));
        let polled = work.as_mut().poll(cx);
        PLANNED.set(before);
        polled
    })
    .await
}

/// The rules with looks between them.
pub(crate) fn watched<R: ?Sized>(rules: &[Arc<R>], look: &Arc<R>) -> Vec<Arc<R>> {
    let chunks = rules.chunks(RULES_BETWEEN);
    chunks.flat_map(|some| std::iter::once(look).chain(some).cloned()).collect()
}

/// A rule that changes nothing and fails once nobody waits.
#[derive(Debug)]
pub(crate) struct StillWanted;

/// Fails once nobody waits for the statement that is planned on this thread.
pub(crate) fn look() -> DfResult<()> {
    PLANNED.with_borrow(|planned| match planned {
        Some((over, _)) if over.load(Ordering::Relaxed) => Err(SqlError::canceled().into()),
        Some((_, taken)) => taken.check(),
        None => Ok(()),
    })
}

impl AnalyzerRule for StillWanted {
    fn name(&self) -> &str {
        "still_wanted"
    }
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        look().map(|()| plan)
    }
}

impl OptimizerRule for StillWanted {
    fn name(&self) -> &str {
        "still_wanted"
    }
    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        look().map(|()| Transformed::no(plan))
    }
}

impl PhysicalOptimizerRule for StillWanted {
    fn name(&self) -> &str {
        "still_wanted"
    }
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        look().map(|()| plan)
    }
    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};

    use super::*;

    #[tokio::test]
    async fn planning_ends_with_its_statement() {
        let state = crate::state::functions().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let plan = || async {
            let plan = state.create_logical_plan("SELECT 1 + 1 AS two").await?;
            state.create_physical_plan(&plan).await
        };
        assert!(until(Arc::clone(&over), Arc::default(), plan()).await.is_ok());
        over.store(true, Ordering::Relaxed);
        let e = until(Arc::clone(&over), Arc::default(), plan()).await.map_err(SqlError::from);
        let e = e.unwrap_err();
        assert_eq!(e.sqlstate, sqlstate::CANCELED);
        // It is a matter of that statement alone.
        assert!(plan().await.is_ok());
    }

    #[tokio::test]
    async fn what_planning_builds_counts_up_to_its_bound() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
        let taken = || Arc::new(Taken::new(MemoryConsumer::new("t").register(&pool), 1_000));
        let (one, other) = (taken(), taken());
        let over = || Arc::new(AtomicBool::new(false));
        assert!(until(over(), Arc::clone(&one), async { take(900) }).await.is_ok());
        let e = SqlError::from(until(over(), one, async { take(200) }).await.unwrap_err());
        assert_eq!(e.sqlstate, sqlstate::OUT_OF_MEMORY);
        assert!(until(over(), other, async { take(200) }).await.is_ok());
        assert_eq!(pool.reserved(), 0);
        assert!(take(u64::MAX).is_ok());
    }

    #[test]
    fn a_text_is_read_within_its_time() {
        assert!(in_time().is_ok());
        assert!(read_by(Some(Instant::now()), in_time).is_err());
        assert!(read_by(None, in_time).is_ok());
    }

    #[test]
    fn there_is_a_look_before_each_rule() {
        let rules: Vec<Arc<str>> = ["a", "b", "c", "d", "e"].map(Arc::from).to_vec();
        let watched = watched(&rules, &Arc::from("?"));
        assert_eq!(watched.iter().map(|r| &**r).collect::<String>(), "?a?b?c?d?e");
    }
}
