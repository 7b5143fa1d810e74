//! `OFFSET n` holds to the order of what it skips. The planner moves an order from above below it, so that other rows are
//! skipped, or forgets what is skipped when it counts the rows to be sorted; here it is an operator that asks for the
//! order of its input.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    Distribution, LexOrdering, OrderingRequirements, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr,
    PlanProperties, SendableRecordBatchStream,
};

use crate::error::SqlError;
use crate::physical::{Node, Rule, each, over};

/// Puts [`Skipped`] in the place of offsets. To run before any rule that moves orders.
pub(crate) fn rule() -> Rule {
    each("skipped_rows", |node, _| {
        Ok(match skipped(&node)? {
            Some(skipped) => Transformed::yes(skipped),
            None => Transformed::no(node),
        })
    })
}

/// The offset as it is to stand; none if its input has no order, or it is none.
fn skipped(node: &Node) -> DfResult<Option<Node>> {
    let Some(limit) = node.downcast_ref::<GlobalLimitExec>().filter(|of| of.skip() > 0) else {
        return Ok(None);
    };
    if let Some(order) = asked(limit.input()) {
        return Ok(Some(Arc::new(Skipped { limit: Arc::clone(node), order })));
    }
    // What is sorted by may be gone above.
    let Some(projection) = limit.input().downcast_ref::<ProjectionExec>() else { return Ok(None) };
    let below = over(Arc::clone(node), vec![Arc::clone(projection.input())])?;
    let below = skipped(&below)?;
    below.map(|below| over(Arc::clone(limit.input()), vec![below])).transpose()
}

/// The order that a sort below gives. What a plan says of its own orders may come of rows that are not sorted yet.
fn asked(plan: &Arc<dyn ExecutionPlan>) -> Option<LexOrdering> {
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        return Some(sort.expr().clone());
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let shown = |key: &PhysicalSortExpr| {
            let at = projection.expr().iter().position(|made| made.expr.eq(&key.expr))?;
            let name = projection.expr().get(at)?.alias.clone();
            Some(PhysicalSortExpr { expr: Arc::new(Column::new(&name, at)), options: key.options })
        };
        let keys: Option<Vec<_>> = asked(projection.input())?.iter().map(shown).collect();
        return LexOrdering::new(keys?);
    }
    plan.output_ordering().cloned()
}

/// An offset over rows in an order.
#[derive(Debug)]
struct Skipped {
    limit: Arc<dyn ExecutionPlan>,
    order: LexOrdering,
}

impl DisplayAs for Skipped {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.limit.fmt_as(form, f)
    }
}

impl ExecutionPlan for Skipped {
    fn name(&self) -> &str {
        self.limit.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.limit.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.limit.children()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.order.clone()))]
    }

    // It does; but whoever hears of it moves orders below.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        self.limit.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> DfResult<Node> {
        let limit = over(Arc::clone(&self.limit), children)?;
        Ok(Arc::new(Self { limit, order: self.order.clone() }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.limit.metrics()
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        if partition > 0 {
            return Err(DataFusionError::from(SqlError::internal("an offset has one partition")));
        }
        self.limit.execute(partition, context)
    }
}
