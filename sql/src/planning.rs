//! Planning ends soon after its statement does: between its rules it looks whether anybody still waits.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::error::SqlError;

/// Rules of the planner between two looks.
const RULES_BETWEEN: usize = 4;

thread_local! {
    /// Says that the statement planned on this thread is over.
    static OVER: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Runs planning work that ends with an error soon after `over` is set. It sees that only where it is polled
/// on threads that plan nothing else in between.
pub(crate) async fn until<T>(over: Arc<AtomicBool>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(move |cx| {
        let before = OVER.replace(Some(Arc::clone(&over)));
        let polled = work.as_mut().poll(cx);
        OVER.set(before);
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

fn look() -> DfResult<()> {
    let over = OVER.with_borrow(|over| over.as_ref().is_some_and(|o| o.load(Ordering::Relaxed)));
    if over { Err(SqlError::canceled().into()) } else { Ok(()) }
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
    use super::*;

    #[tokio::test]
    async fn planning_ends_with_its_statement() {
        let state = crate::state::functions().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let plan = || async {
            let plan = state.create_logical_plan("SELECT 1 + 1 AS two").await?;
            state.create_physical_plan(&plan).await
        };
        assert!(until(Arc::clone(&over), plan()).await.is_ok());
        over.store(true, Ordering::Relaxed);
        let e = SqlError::from(until(Arc::clone(&over), plan()).await.unwrap_err());
        assert_eq!(e.sqlstate, crate::error::sqlstate::CANCELED);
        // It is a matter of that statement alone.
        assert!(plan().await.is_ok());
    }

    #[test]
    fn there_is_a_look_before_each_few_rules() {
        let rules: Vec<Arc<str>> = ["a", "b", "c", "d", "e"].map(Arc::from).to_vec();
        let watched = watched(&rules, &Arc::from("?"));
        assert_eq!(watched.iter().map(|r| &**r).collect::<String>(), "?abcd?e");
    }
}
