//! `count(DISTINCT a), sum(b)` as sums of sums: only where the sum of a sum has its type.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The planner's rule that puts the distinct values among the keys of an aggregate below, and sums up its sums.
const RULE: &str = "single_distinct_aggregation_to_group_by";

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// Leaves aggregates alone whose sums would get another type: sums of integers are bigints, sums of bigints numeric.
pub(crate) fn keep_types_of_sums(rules: &mut [Rule]) {
    for rule in rules.iter_mut().filter(|rule| rule.name() == RULE) {
        *rule = Arc::new(Guarded(Arc::clone(rule)));
    }
}

#[derive(Debug)]
struct Guarded(Rule);

impl OptimizerRule for Guarded {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> DfResult<Transformed<LogicalPlan>> {
        match changes_type(&plan)? {
            true => Ok(Transformed::no(plan)),
            false => self.0.rewrite(plan, config),
        }
    }
}

fn changes_type(plan: &LogicalPlan) -> DfResult<bool> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(false) };
    let mut sums = aggregate.aggr_expr.iter().filter_map(|expr| match expr {
        Expr::AggregateFunction(call) if call.func.name() == "sum" => Some(call),
        _ => None,
    });
    let schema = aggregate.input.schema().as_ref();
    sums.try_fold(false, |changes, call| {
        let types = call.params.args.iter().map(|arg| arg.get_type(schema));
        let once = call.func.return_type(&types.collect::<DfResult<Vec<_>>>()?)?;
        let twice = call.func.return_type(std::slice::from_ref(&once))?;
        Ok(changes || once != twice)
    })
}
